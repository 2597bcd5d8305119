//! `self-test`: one webhook that really goes through the running gateway, as the installer's last look.

use std::process::{Command, Output};

use serde_json::Value;

use crate::vocabulary::{Gateway, Place, skipped, text};

/// The test's own name, for running it again in a network of its own.
const NAME: &str = "selftest::belvos_own_address_is_taken_for_one_connection_and_given_back";
const INSIDE: &str = "BELVO_GATEWAY_TEST_INSIDE";

fn self_test(gateway: &Gateway<'_>, place: &Place) -> Output {
    let to = gateway.address.to_string();
    place.orders("self-test", &["--json", "--to", &to])
}

fn passed(output: &Output) -> Value {
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn a_webhook_to_itself_goes_through_tls_and_authorization_and_leads_to_nothing() {
    let place = Place::new().with_tls().with_authorization();
    let gateway = place.start();
    let shown = passed(&self_test(&gateway, &place));
    assert_eq!(shown["status"], 200);
    assert_eq!(shown["tls"], true);
    assert_eq!(shown["state"], "nothing-to-do");
    let said: String = place.value("SELECT external_id FROM events WHERE seq = 1");
    assert_eq!(said, "belvo-gateway-install");
    assert_eq!(place.value::<i64>("SELECT count(*) FROM work"), 0);
}

#[test]
fn behind_a_proxy_it_comes_as_from_the_proxy_and_is_judged_by_whom_it_names() {
    for told in ["x-forwarded-for", "forwarded", "proxy-protocol"] {
        let place = Place::new().allowing("3.130.254.46").listening(&format!(
            "trusted-proxies = [\"127.0.0.1\"]\nproxy = {told:?}"
        ));
        let gateway = place.start();
        let shown = passed(&self_test(&gateway, &place));
        assert_eq!(shown["peer"], "3.130.254.46", "{told}");
    }
}

#[test]
fn a_gateway_that_has_another_authorization_than_its_file_is_found_out() {
    let place = Place::new().with_authorization();
    let gateway = place.start();
    place.secret("authorization", "Bearer another-one-that-is-not-read-yet");
    let output = self_test(&gateway, &place);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(
        said.contains("answered 401") && said.contains("systemctl restart"),
        "{said}"
    );
    assert!(!said.contains("Bearer"), "{said}");
}

#[test]
fn a_gateway_that_does_not_run_is_found_out() {
    let place = Place::new();
    let to = place.start().address.to_string();
    let output = place.orders("self-test", &["--to", &to]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.contains("takes no connection"), "{said}");
}

#[test]
fn belvos_own_address_is_taken_for_one_connection_and_given_back() {
    if std::env::var_os(INSIDE).is_some() {
        assert!(
            Command::new("ip")
                .args(["link", "set", "lo", "up"])
                .status()
                .expect("ip")
                .success()
        );
        let rules = || text(&Command::new("ip").arg("rule").output().expect("ip").stdout);
        let before = rules();
        for listener in ["0.0.0.0:0", "[::]:0"] {
            let place = Place::new()
                .with_tls()
                .allowing_by_default()
                .listening_on(listener);
            let gateway = place.start();
            let shown = passed(&self_test(&gateway, &place));
            assert_eq!(shown["peer"], "3.130.254.46");
        }
        assert_eq!(rules(), before);
        return;
    }
    let able = Command::new("unshare")
        .args(["--net", "ip", "link", "set", "lo", "up"])
        .output();
    if !able.is_ok_and(|output| output.status.success()) {
        return skipped("no network namespaces, or no `ip`");
    }
    let output = Command::new("unshare")
        .arg("--net")
        .arg(std::env::current_exe().expect("a running test"))
        .args(["--exact", NAME, "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .expect("unshare runs");
    let said = text(&output.stdout) + &text(&output.stderr);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}"
    );
}

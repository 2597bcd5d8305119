//! The examination of a whole box, as an operator or the installer has it made.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::Output;
use std::time::{Duration, Instant, SystemTime};

use belvo_gateway::standin::payloads::{Resource, historical_update};
use serde_json::Value;

use crate::vocabulary::{KEYS, LINK, Place, belvo, text};

/// What was found, by the names of the checks.
struct Found(Vec<Value>, Option<i32>);

impl Found {
    fn on(place: &Place, more: &[&str]) -> Self {
        Self::of(&place.orders("doctor", &[&["--json"], more].concat()))
    }

    fn of(output: &Output) -> Self {
        let found: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", text(&output.stderr)));
        let found = found.as_array().expect("an array").clone();
        let worst = |how: &str| found.iter().any(|finding| finding["how"] == how);
        let expected = match (worst("broken"), worst("warning")) {
            (true, _) => 2,
            (false, true) => 1,
            _ => 0,
        };
        assert_eq!(output.status.code(), Some(expected), "{found:#?}");
        for finding in &found {
            let is_fine = finding["how"] == "ok";
            assert_eq!(finding["next_step"].is_null(), is_fine, "{finding}");
        }
        Self(found, output.status.code())
    }

    fn the(&self, check: &str) -> (&str, &str) {
        let finding = self.0.iter().find(|finding| finding["check"] == check);
        let finding = finding.unwrap_or_else(|| panic!("no {check} in {:#?}", self.0));
        let text = |key: &str| finding[key].as_str().expect("a text");
        (text("how"), text("what"))
    }

    fn is(&self, check: &str, how: &str, words: &str) {
        let (found, what) = self.the(check);
        assert!(
            found == how && what.contains(words),
            "{check} is {found}: {what}"
        );
    }
}

/// A port of loopback that nobody has.
fn free_port() -> u16 {
    let socket = TcpListener::bind("127.0.0.1:0").expect("a socket");
    socket.local_addr().expect("an address").port()
}

/// With TLS that this machine trusts, listening on this port, and Belvo alone let in.
fn good(belvo: &belvo_gateway::standin::StandIn, port: u16) -> Place {
    let place = Place::new()
        .with_tls_until(SystemTime::now() + Duration::from_secs(90 * 86_400))
        .with_authorization()
        .allowing_by_default()
        .listening_on(&format!("127.0.0.1:{port}"))
        .fetching_from(belvo);
    fs::set_permissions(place.state(), fs::Permissions::from_mode(0o750)).expect("a mode");
    let ca = place.certificates().ca_file();
    place.with_environment("SSL_CERT_FILE", ca.to_str().expect("UTF-8"))
}

#[test]
fn a_box_where_all_is_well_is_told_so() {
    let belvo = belvo();
    let port = free_port();
    let place = good(&belvo, port);
    let _gateway = place.start();
    let begun = Instant::now();
    let found = Found::on(&place, &["--name", "localhost"]);
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "{:?}",
        begun.elapsed()
    );
    for (check, words) in [
        ("configuration", "serves sandbox"),
        ("listen", &port.to_string()),
        ("source-belvo", "3.130.254.46"),
        ("source-strangers", "refused"),
        ("certificate", "is trusted for localhost"),
        ("certificate-end", "days"),
        ("clock", "shows"),
        ("api-keys", "takes the keys"),
        ("secrets", "4 files"),
        ("state-mode", "closed to others"),
        ("gateway", "runs as process"),
        ("version", env!("CARGO_PKG_VERSION")),
        ("file", "nothing is damaged"),
        ("problems", "none"),
    ] {
        found.is(check, "ok", words);
    }
    assert_eq!(belvo.requests().len(), 1, "one harmless question");
    assert_eq!(belvo.requests()[0].path, "/api/links/");
    // Nobody was counted as a stranger, and nothing was left behind.
    assert_eq!(place.value::<i64>("SELECT count(*) FROM refusals"), 0);
    let left = fs::read_dir(place.state()).expect("a directory");
    let names: Vec<_> = left
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    assert!(
        names
            .iter()
            .all(|name| !name.to_string_lossy().starts_with(".doctor")),
        "{names:?}"
    );
}

#[test]
fn people_get_one_line_for_each_finding_with_its_next_step() {
    let belvo = belvo();
    let place = good(&belvo, free_port());
    let output = place.orders("doctor", &["--offline"]);
    let said = text(&output.stdout);
    let line = |words: &str| said.lines().any(|line| line.contains(words));
    assert!(
        line("warning  listen") && line("; next: start the gateway"),
        "{said}"
    );
    assert!(line("no gateway runs on this state directory"), "{said}");
    assert!(
        said.lines().all(|line| line.split_whitespace().count() > 2),
        "{said}"
    );
    assert_eq!(belvo.requests().len(), 0, "it was to stay offline");
}

#[test]
fn what_a_client_would_not_trust_is_told_apart() {
    let belvo = belvo();
    let place = good(&belvo, free_port());
    let look = |more: &[&str]| Found::on(&place, &[&["--offline"], more].concat());
    look(&["--name", "gateway.example.com"]).is("certificate", "broken", "not for the name");
    let pem = place.path("tls/localhost.pem");
    let chain = fs::read_to_string(&pem).expect("a chain");
    let unknown = place.orders("doctor", &["--offline", "--json"]);
    Found::of(&unknown).is("certificate", "ok", "2 certificates");
    let own = chain.split_inclusive("-----END CERTIFICATE-----\n").next();
    fs::write(&pem, own.expect("a certificate")).expect("a file");
    look(&[]).is("certificate", "ok", "1 certificates");
    fs::write(&pem, chain.replacen("MII", "XXX", 1)).expect("a file");
    assert_eq!(look(&[]).the("certificate").0, "broken");
    fs::write(&pem, &chain).expect("a file");
    let soon = SystemTime::now() + Duration::from_secs(3 * 86_400);
    place
        .certificates()
        .issue_until("localhost", soon)
        .expect("a certificate");
    look(&[]).is("certificate-end", "warning", "2 days");
}

#[test]
fn without_its_authority_a_certificate_is_nobodys() {
    let belvo = belvo();
    let place = Place::new().with_tls().fetching_from(&belvo);
    let found = Found::on(&place, &["--offline"]);
    found.is("certificate", "broken", "does not know");
    // The tests' own configuration lets loopback in and nobody else.
    found.is("source-belvo", "broken", "none of Belvo's addresses");
    assert_eq!(found.the("authorization").0, "warning");
    assert_eq!(found.1, Some(2));
}

#[test]
fn why_belvo_does_not_take_the_keys_is_told_apart() {
    let belvo = belvo();
    let none = Place::new();
    Found::on(&none, &[]).is("api-keys", "warning", "no API keys are configured");
    let place = Place::new().fetching_from(&belvo);
    Found::on(&place, &[]).is("api-keys", "ok", "takes the keys");
    place.secret("password", "another");
    Found::on(&place, &[]).is("api-keys", "broken", "refuses the keys");
    place.secret("password", KEYS.1);
    belvo.stop();
    Found::on(&place, &[]).is("api-keys", "broken", "cannot be reached");
    let key = place.path("id");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("a mode");
    let found = Found::on(&place, &[]);
    found.is("api-keys", "broken", "may be read by everybody");
    found.is("secrets", "broken", "may be read by everybody");
}

#[test]
fn a_wrong_configuration_and_a_missing_directory_are_findings_like_others() {
    let place = Place::new();
    let configuration = place.configured();
    let output = place.reads("doctor", &["--json"]);
    let found = Found::of(&output);
    found.is("file", "warning", "there is no");
    assert!(
        found.0.iter().all(|finding| finding["check"] != "listen"),
        "no configuration was named"
    );
    fs::write(&configuration, "environment = \"sandbox\"\nstat = 1\n").expect("a file");
    let output = std::process::Command::new(crate::vocabulary::PROGRAM)
        .args(["doctor", "--json", "--config"])
        .arg(&configuration)
        .output()
        .expect("a run");
    Found::of(&output).is("configuration", "broken", "stat");
    let output = std::process::Command::new(crate::vocabulary::PROGRAM)
        .args(["doctor", "--json", "--state"])
        .arg(place.path("nowhere"))
        .output()
        .expect("a run");
    let found = Found::of(&output);
    assert_eq!((found.the("disk").0, found.1), ("broken", Some(2)));
}

#[test]
fn what_is_wrong_with_the_file_and_what_is_open_is_said() {
    let place = Place::new();
    let gateway = place.start();
    assert_eq!(gateway.answers("not json"), 400);
    assert_eq!(
        gateway.answers(historical_update(Resource::Accounts, LINK, 0)),
        200
    );
    place.until(
        "SELECT count(*) FROM problems WHERE kind = 'unreadable-body'",
        1,
    );
    let look = || Found::of(&place.reads("doctor", &["--json"]));
    look().is("problems", "warning", "open");
    assert!(gateway.stop().0.success());
    look().is("gateway", "warning", "no gateway runs");
    let file = place.state().join("gateway.db");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("a mode");
    look().is("state-mode", "warning", "everybody may");
    let mut bytes = fs::read(&file).expect("a file");
    let middle = bytes.len() / 2;
    for byte in &mut bytes[middle..] {
        *byte = 0xff;
    }
    fs::write(&file, bytes).expect("a file");
    assert_eq!(look().the("file").0, "broken");
}

#[test]
fn a_slow_card_is_told() {
    let place = Place::new().on_a_bad_disk();
    let slow = place.with_environment("FAULTS_SYNC_DELAY_US", "80000");
    let found = Found::of(&slow.reads("doctor", &["--json"]));
    found.is("sync", "warning", "each webhook waits for one");
}

#[test]
fn a_full_disk_and_one_that_cannot_be_written_are_broken() {
    let place = Place::new().on_a_bad_disk();
    let look = || Found::of(&place.reads("doctor", &["--json"]));
    place.say_free(100);
    look().is("room", "warning", "100 MiB");
    place.say_free(10);
    look().is("room", "broken", "answered 503");
    place.break_disk("read-only");
    look().is("sync", "broken", "cannot be written");
}

//! SIGHUP: what is changed in the files holds from then on, without a restart and without losing a webhook; what is wrong
//! changes nothing.

use std::fs;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::time::Duration;

use belvo_gateway::standin::payloads::{Resource, historical_update};
use belvo_gateway::standin::{Fault, When};

use crate::certificates::{in_the_file, presented};
use crate::vocabulary::{AUTHORIZATION, Gateway, KEYS, LINK, PATH, Place, belvo, rest, text};

fn webhook() -> String {
    historical_update(Resource::Accounts, LINK, 2)
}

/// The status of the answer, or nothing when there was none.
fn answer(gateway: &Gateway<'_>, source: [u8; 4], authorization: &str) -> Option<u16> {
    let sender = gateway
        .sender()
        .from(IpAddr::V4(Ipv4Addr::from(source)))
        .authorization(authorization);
    sender
        .send(webhook().as_bytes())
        .ok()
        .map(|reply| reply.status)
}

const HERE: [u8; 4] = [127, 0, 0, 1];
const THERE: [u8; 4] = [127, 0, 0, 2];

/// Whether it is known that the configuration is wrong.
const IS_REFUSED: &str =
    "SELECT count(*) FROM problems WHERE kind = 'configuration-refused' AND closed_at IS NULL";

#[test]
fn the_service_manager_is_told_that_it_reloads_and_then_that_it_is_ready() {
    let place = Place::new();
    let gateway = place.start();
    let told = gateway.reload();
    let [reloading, ready] = &told[..] else {
        panic!("{told:?}");
    };
    let mut lines = reloading.lines();
    assert_eq!(lines.next(), Some("RELOADING=1"));
    let since_boot = lines
        .next()
        .and_then(|line| line.strip_prefix("MONOTONIC_USEC="));
    assert!(
        since_boot.is_some_and(|text| text.parse::<u64>().is_ok()),
        "{reloading}"
    );
    assert_eq!(ready, "READY=1\n");
    place.until_logged(&["the configuration was read again and is in force"]);
}

#[test]
fn another_allow_list_holds_for_the_next_connection() {
    let place = Place::new().with_tls().allowing("127.0.0.1");
    let gateway = place.start();
    assert_eq!(answer(&gateway, HERE, "x"), Some(200));
    assert_eq!(answer(&gateway, THERE, "x"), None);
    place.reconfigure(|text| text.replace("[\"127.0.0.1\"]", "[\"127.0.0.2\"]"));
    assert_eq!(answer(&gateway, THERE, "x"), None);
    gateway.reload();
    assert_eq!(answer(&gateway, HERE, "x"), None);
    assert_eq!(answer(&gateway, THERE, "x"), Some(200));
}

#[test]
fn a_source_that_is_allowed_no_more_is_refused_also_on_an_open_connection() {
    let place = Place::new().with_tls().allowing("127.0.0.1");
    let gateway = place.start();
    let sender = gateway.sender();
    let mut open = sender.connect().expect("a connection");
    let mut answer = || open.send(webhook().as_bytes()).expect("an answer").status;
    assert_eq!(answer(), 200);
    place.reconfigure(|text| text.replace("[\"127.0.0.1\"]", "[\"127.0.0.2\"]"));
    gateway.reload();
    assert_eq!(answer(), 403);
}

#[test]
fn the_drift_alarm_may_be_turned_on() {
    let place = Place::new()
        .with_authorization()
        .allowing("127.0.0.1")
        .listening("drift-alarm = false");
    let gateway = place.start();
    assert_eq!(answer(&gateway, THERE, AUTHORIZATION), None);
    place.reconfigure(|text| text.replace("drift-alarm = false", "drift-alarm = true"));
    gateway.reload();
    assert_eq!(answer(&gateway, THERE, AUTHORIZATION), Some(403));
}

#[test]
fn proxies_may_come_and_go() {
    let place = Place::new().allowing("203.0.113.7");
    let gateway = place.start();
    let asked = || {
        let mut stream = TcpStream::connect(gateway.address).expect("a connection");
        let (webhook, length) = (webhook(), webhook().len());
        let head = format!(
            "POST {PATH} HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 203.0.113.7\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
        );
        // Who is hung up on may see it while writing.
        drop(stream.write_all((head + &webhook).as_bytes()));
        text(&rest(stream)).get(..12).map(str::to_owned)
    };
    assert_eq!(asked(), None);
    place.reconfigure(|text| {
        let line = "trusted-proxies = [\"127.0.0.1\"]\nproxy = \"x-forwarded-for\"\n[tls]";
        text.replace("[tls]", line)
    });
    gateway.reload();
    assert_eq!(asked().as_deref(), Some("HTTP/1.1 200"));
    place.reconfigure(|text| text.replace("[\"127.0.0.1\"]\n", "[\"127.0.0.2\"]\n"));
    gateway.reload();
    assert_eq!(asked(), None);
}

#[test]
fn another_authorization_value_holds_for_the_next_request_also_on_an_open_connection() {
    let place = Place::new().with_tls().with_authorization();
    let gateway = place.start();
    let sender = gateway.sender();
    let mut open = sender.connect().expect("a connection");
    let mut on_open = || open.send(webhook().as_bytes()).expect("an answer").status;
    assert_eq!(on_open(), 200);

    place.secret("authorization", &format!("{AUTHORIZATION}\nBearer new"));
    assert_eq!(answer(&gateway, HERE, "Bearer new"), Some(401));
    gateway.reload();
    assert_eq!(answer(&gateway, HERE, "Bearer new"), Some(200));
    assert_eq!(on_open(), 200);

    place.secret("authorization", "Bearer new");
    gateway.reload();
    assert_eq!(on_open(), 401);
    assert_eq!(answer(&gateway, HERE, "Bearer new"), Some(200));
}

#[test]
fn another_certificate_is_served_at_once_also_from_other_files() {
    let place = Place::new().with_tls();
    let gateway = place.start();
    let before = presented(&place, &gateway);
    let sender = gateway.sender();
    let mut open = sender.connect().expect("a connection");

    place
        .certificates()
        .issue("localhost")
        .expect("a certificate");
    assert_eq!(presented(&place, &gateway), before);
    gateway.reload();
    let renewed = presented(&place, &gateway);
    assert_eq!(renewed, in_the_file(&place));
    assert_ne!(renewed, before);

    place
        .certificates()
        .issue("elsewhere")
        .expect("a certificate");
    place.reconfigure(|text| text.replace("localhost.", "elsewhere."));
    gateway.reload();
    assert_ne!(presented(&place, &gateway), renewed);
    assert_eq!(
        open.send(webhook().as_bytes()).expect("an answer").status,
        200
    );
}

#[test]
fn keys_that_are_given_are_used_and_keys_that_are_taken_away_are_not() {
    let belvo = belvo();
    belvo.fail(
        When::path("/api/accounts/"),
        Fault::error(503, "service_unavailable"),
    );
    let place = Place::new().fetching_from(&belvo);
    let without_keys = |text: String| {
        let lines = text.lines().filter(|line| !line.starts_with("secret-"));
        lines.collect::<Vec<_>>().join("\n")
    };
    let gateway = place.start();
    let with_keys = fs::read_to_string(place.path("config.toml")).expect("a configuration");
    assert_eq!(gateway.answers(webhook()), 200);
    place.until("SELECT state FROM freshness", "retrying".to_owned());
    place.reconfigure(without_keys);
    gateway.reload();
    place.until("SELECT kind FROM attention", "api-keys-missing".to_owned());

    // What is due and cannot be asked for is not looked at over and over.
    place.until("SELECT due_at < 1000 * unixepoch('subsec') FROM work", true);
    let before = gateway.computed();
    std::thread::sleep(Duration::from_millis(500));
    let computed = gateway.computed() - before;
    assert!(computed < Duration::from_millis(200), "{computed:?}");

    place.reconfigure(|_| with_keys);
    gateway.reload();
    place.until("SELECT state FROM freshness", "fresh".to_owned());
    place.until("SELECT count(*) FROM attention", 0);
}

#[test]
fn another_request_budget_holds_for_what_waits_already() {
    let belvo = belvo();
    let place = Place::new().fetching_from(&belvo).at_most(0.01, 1);
    let gateway = place.start();
    assert_eq!(gateway.answers(webhook()), 200);
    place.until("SELECT count(*) FROM work", 1);
    place.reconfigure(|text| {
        text.replace("requests-per-second = 0.01", "requests-per-second = 1000")
    });
    gateway.reload();
    place.until_fetched();
}

/// A change of the configuration or of what it names.
type Mistake<'a> = Box<dyn Fn(String) -> String + 'a>;

/// What makes a configuration unusable, and what is said then.
fn mistakes(place: &Place) -> Vec<(Mistake<'_>, &'static str)> {
    let with =
        |line: &'static str| move |text: String| text.replace("[tls]", &format!("{line}\n[tls]"));
    vec![
        (
            Box::new(with("alow = []")),
            "config.toml:10: listen.alow: unknown key; did you mean allow?",
        ),
        (
            Box::new(|text| text + "\nburst = 0\n"),
            "api.burst: 0 is not between 1 and 10000",
        ),
        (Box::new(|_| String::new()), "environment: is missing"),
        (Box::new(|text| text + "\n[api"), "config.toml:"),
        (
            Box::new(|text| {
                place.secret("authorization", "");
                text + "\n"
            }),
            "authorization is empty; put the value in it",
        ),
        (
            Box::new(|text| {
                place.secret("tls/other.key", "no key");
                text.replace("localhost.key", "other.key")
            }),
            "other.key holds no private key",
        ),
    ]
}

#[test]
fn a_configuration_that_is_wrong_changes_nothing_says_why_and_is_forgotten_when_it_is_right() {
    let place = Place::new()
        .with_tls()
        .with_authorization()
        .allowing("127.0.0.1")
        .listening("drift-alarm = false");
    let gateway = place.start();
    let good = fs::read_to_string(place.path("config.toml")).expect("a configuration");
    let certificate = presented(&place, &gateway);
    for (mistake, expected) in mistakes(&place) {
        // Something that is right comes with it, and must not hold either.
        place.secret("authorization", "Bearer new");
        place
            .certificates()
            .issue("localhost")
            .expect("a certificate");
        place.reconfigure(|text| mistake(text.replace("[\"127.0.0.1\"]", "[\"127.0.0.2\"]")));
        assert_eq!(gateway.reload().len(), 2);
        place.until(&format!("{IS_REFUSED} AND instr(text, '{expected}')"), 1);
        place.until_logged(&[
            "the one before stays in force",
            expected,
            "belvo-gateway check",
        ]);

        assert_eq!(
            answer(&gateway, HERE, AUTHORIZATION),
            Some(200),
            "{expected}"
        );
        assert_eq!(
            answer(&gateway, HERE, "Bearer new"),
            Some(401),
            "{expected}"
        );
        assert_eq!(answer(&gateway, THERE, AUTHORIZATION), None, "{expected}");
        assert_eq!(presented(&place, &gateway), certificate, "{expected}");

        place.secret("authorization", AUTHORIZATION);
        fs::write(place.path("config.toml"), &good).expect("a configuration");
        place
            .certificates()
            .issue("localhost")
            .expect("a certificate");
    }
    gateway.reload();
    place.until(IS_REFUSED, 0);
    assert_eq!(presented(&place, &gateway), in_the_file(&place));
    assert_eq!(answer(&gateway, HERE, AUTHORIZATION), Some(200));
}

#[test]
fn what_takes_a_restart_is_named_and_the_rest_holds() {
    let place = Place::new().with_tls().allowing("127.0.0.1");
    let gateway = place.start();
    place.reconfigure(|text| {
        text.replace("sandbox", "production")
            .replace("[\"127.0.0.1\"]", "[\"127.0.0.2\"]\npath = \"/hook\"")
            .replace("127.0.0.1:0", "127.0.0.1:1")
    });
    gateway.reload();
    let named = "only after a restart: environment, listen.address, listen.path, api.base-url";
    place.until_logged(&[named, "systemctl restart belvo-gateway"]);
    // The sender posts to the path before.
    assert_eq!(PATH, "/belvo/webhooks");
    assert_eq!(answer(&gateway, THERE, "x"), Some(200));
    assert_eq!(answer(&gateway, HERE, "x"), None);
}

#[test]
fn the_keys_of_one_api_are_never_sent_to_another() {
    let (belvo, other) = (belvo(), belvo());
    let place = Place::new().fetching_from(&belvo);
    let gateway = place.start();
    place.secret("id", "of-another-api");
    place.reconfigure(|text| text.replace(belvo.base_url(), other.base_url()));
    gateway.reload();
    place.until_logged(&["only after a restart: api.base-url, and with it the API keys"]);
    place.secret("id", KEYS.0);
    assert_eq!(gateway.answers(webhook()), 200);
    place.until_fetched();
    let refused = "SELECT count(*) FROM problems WHERE kind = 'api-keys-refused'";
    assert_eq!(place.value::<i64>(refused), 0);
}

#[test]
fn webhooks_are_answered_while_reload_follows_reload() {
    let place = Place::new().with_tls().with_authorization();
    let gateway = place.start();
    let sender = gateway.sender();
    let mut connection = sender.connect().expect("a connection");
    for round in 0..50 {
        gateway.signal("HUP");
        let reply = connection.send(webhook().as_bytes()).expect("an answer");
        assert_eq!(reply.status, 200, "{round}");
        assert_eq!(gateway.answers(webhook()), 200, "{round}");
    }
    assert_eq!(place.value::<i64>("SELECT count(*) FROM journal"), 100);
}

#[test]
fn the_shipped_unit_reloads_by_the_signal_that_this_program_takes() {
    let unit = include_str!("../systemd/belvo-gateway.service");
    let line = |key: &str| unit.lines().find_map(|line| line.strip_prefix(key));
    assert_eq!(line("Type="), Some("notify"));
    assert_eq!(line("ExecReload="), Some("/bin/kill -HUP $MAINPID"));
}

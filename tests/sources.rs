//! Whom a request is taken to be from, and that nobody else gets in: over loopback, where each address of 127.0.0.0/8 is
//! a source of its own, and in a network of its own with Belvo's real addresses.

mod network;

use std::net::IpAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use belvo_gateway::standin::payloads::{Resource, historical_update};
use belvo_gateway::standin::sender::{Sender, Step};

use crate::vocabulary::{AUTHORIZATION, Gateway, LINK, PATH, PROGRAM, Place, text};

/// One of Belvo's addresses, which nothing on this machine has: only a proxy can name it.
const BELVO: &str = "3.130.254.46";
/// A trusted proxy.
const PROXY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 9));
/// Neither a proxy nor allowed.
const STRANGER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 66));

fn webhook() -> String {
    historical_update(Resource::Accounts, LINK, 2)
}

/// Only Belvo may speak, and two proxies tell for whom they do.
fn behind_proxies(told: &str) -> Place {
    Place::new().allowing(BELVO).listening(&format!(
        "trusted-proxies = [\"127.0.0.9\", \"10.0.0.0/8\"]\nproxy = {told:?}"
    ))
}

/// What a request with these header lines is answered, or nothing when the connection ends without an answer.
fn answer(gateway: &Gateway<'_>, from: IpAddr, headers: &[&str]) -> Option<u16> {
    let sender = headers
        .iter()
        .fold(gateway.sender().from(from), |sender, line| {
            sender.header(line)
        });
    let reply = sender.send(webhook().as_bytes());
    reply.ok().map(|reply| reply.status)
}

/// Everything that comes back when these bytes are written.
fn told(gateway: &Gateway<'_>, from: IpAddr, bytes: &[u8]) -> Vec<u8> {
    let sender = Sender::plain(gateway.address, PATH).from(from);
    let Ok(mut connection) = sender.connect() else {
        return Vec::new();
    };
    // Who is closed on at once may be unable to write.
    drop(connection.write(bytes));
    connection.rest()
}

fn kept(place: &Place) -> i64 {
    place.value("SELECT count(*) FROM journal")
}

/// What was counted when the gateway has ended: strangers are written down now and then only, and at the end.
fn ends_having_refused(gateway: Gateway<'_>, place: &Place, reason: &str, count: i64) {
    gateway.stop();
    let counted = format!("SELECT value FROM meta WHERE key = 'refused.{reason}'");
    assert_eq!(place.value::<i64>(&counted), count, "{reason}");
}

fn until_problem(place: &Place, kind: &str, subject: &str) -> String {
    let open = format!("FROM attention WHERE kind = '{kind}' AND subject = '{subject}'");
    place.until(&format!("SELECT count(*) {open}"), 1);
    place.value(&format!("SELECT text || ' / ' || next_step {open}"))
}

#[test]
fn behind_x_forwarded_for_the_right_most_hop_that_is_no_trusted_proxy_is_judged() {
    let place = behind_proxies("x-forwarded-for");
    let gateway = place.start();
    for headers in [
        &["X-Forwarded-For: 3.130.254.46"][..],
        &["X-Forwarded-For: junk, 1.2.3.4, ::ffff:3.130.254.46, 10.0.0.2"],
        &[
            "x-forwarded-for: 1.2.3.4",
            "X-FORWARDED-FOR: 3.130.254.46:5555",
            "X-Forwarded-For: [::ffff:10.0.0.2]:1",
        ],
    ] {
        assert_eq!(answer(&gateway, PROXY, headers), Some(200), "{headers:?}");
    }
    assert_eq!(
        place.column::<String>("SELECT DISTINCT peer FROM journal"),
        [BELVO]
    );
    for headers in [
        &["X-Forwarded-For: 3.130.254.46, 1.2.3.4"][..],
        &[
            "X-Forwarded-For: 3.130.254.46",
            "X-Forwarded-For: 1.2.3.4, 10.0.0.2",
        ],
        &["X-Forwarded-For: 10.0.0.2"],
    ] {
        assert_eq!(answer(&gateway, PROXY, headers), Some(403), "{headers:?}");
    }
    assert_eq!(kept(&place), 3);
    ends_having_refused(gateway, &place, "source", 3);
    assert_eq!(
        place.column::<String>("SELECT DISTINCT peer FROM refusals ORDER BY peer"),
        ["1.2.3.4", "10.0.0.2"]
    );
    assert_eq!(
        place.value::<i64>("SELECT count(*) FROM attention WHERE kind LIKE 'proxy%'"),
        0
    );
    assert!(!place.log().contains("was refused"), "{}", place.log());
}

#[test]
fn behind_forwarded_it_is_judged_by_its_for() {
    let place = behind_proxies("forwarded").with_tls();
    let gateway = place.start();
    let header = "Forwarded: for=1.2.3.4, for=\"[::ffff:3.130.254.46]:5555\";proto=https;by=_x, for=10.0.0.2";
    assert_eq!(answer(&gateway, PROXY, &[header]), Some(200));
    assert_eq!(place.value::<String>("SELECT peer FROM journal"), BELVO);
    for header in [
        "Forwarded: for=3.130.254.46, for=1.2.3.4",
        "X-Forwarded-For: 3.130.254.46",
    ] {
        assert_eq!(answer(&gateway, PROXY, &[header]), Some(403), "{header}");
    }
    assert_eq!(kept(&place), 1);
}

#[test]
fn a_trusted_proxy_that_does_not_say_whom_it_speaks_for_is_refused_with_the_next_step() {
    let place = behind_proxies("x-forwarded-for");
    let gateway = place.start();
    for (header, why) in [
        (
            "Forwarded: for=3.130.254.46",
            "has no header x-forwarded-for",
        ),
        ("X-Forwarded-For: 3.130.254.46, unknown", "\"unknown\""),
        ("X-Forwarded-For: 3.130.254.46, _hidden", "made-up name"),
        ("X-Forwarded-For: 3.130.254.46,", "no address"),
        ("X-Forwarded-For: 3.130.254.46, 1.2.3", "no address"),
    ] {
        assert_eq!(answer(&gateway, PROXY, &[header]), Some(403), "{header}");
        let like = format!(
            "SELECT count(*) FROM attention WHERE kind = 'proxy-unclear' AND subject = '127.0.0.9' AND text LIKE '%{why}%'"
        );
        place.until(&like, 1);
    }
    assert!(until_problem(&place, "proxy-unclear", "127.0.0.9").contains("as listen.proxy says"));
    ends_having_refused(gateway, &place, "unclear", 5);
    assert_eq!(kept(&place), 0);
}

#[test]
fn a_refused_request_behind_a_proxy_is_answered_before_its_body() {
    let place = behind_proxies("x-forwarded-for");
    let gateway = place.start();
    let head = format!(
        "POST {PATH} HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 1.2.3.4\r\nContent-Length: 100\r\n\r\n"
    );
    let begun = Instant::now();
    let answered = text(&told(&gateway, PROXY, head.as_bytes()));
    assert!(
        answered.starts_with("HTTP/1.1 403 ") && answered.contains("connection: close"),
        "{answered}"
    );
    assert!(
        begun.elapsed() < Duration::from_secs(3),
        "{:?}",
        begun.elapsed()
    );
}

/// Version 2, for a client with an IPv4 address.
fn second_version(command: u8, client: [u8; 4]) -> Vec<u8> {
    let head = [&b"\r\n\r\n\0\r\nQUIT\n"[..], &[command, 0x11, 0, 12]].concat();
    [&head[..], &client, &[127, 0, 0, 1, 0x9c, 0x40, 0x20, 0xfb]].concat()
}

#[test]
fn behind_the_proxy_protocol_the_named_client_is_judged_with_tls_and_without() {
    for place in [
        behind_proxies("proxy-protocol"),
        behind_proxies("proxy-protocol").with_tls(),
    ] {
        let gateway = place.start();
        for line in [
            b"PROXY TCP4 3.130.254.46 127.0.0.1 40000 443\r\n".to_vec(),
            b"PROXY TCP6 ::ffff:3.130.254.46 ::1 40000 443\r\n".to_vec(),
            second_version(0x21, [3, 130, 254, 46]),
        ] {
            let sender = gateway.sender().from(PROXY).writing_first(&line);
            assert_eq!(
                sender.send(webhook().as_bytes()).expect("an answer").status,
                200
            );
        }
        assert_eq!(
            place.column::<String>("SELECT DISTINCT peer FROM journal"),
            [BELVO]
        );
        for line in [
            b"PROXY TCP4 1.2.3.4 127.0.0.1 40000 443\r\n".to_vec(),
            second_version(0x21, [1, 2, 3, 4]),
        ] {
            let sender = gateway.sender().from(PROXY).writing_first(&line);
            // A header counts for nothing here, whoever sent it.
            let sender = sender.header("X-Forwarded-For: 3.130.254.46");
            sender.send(webhook().as_bytes()).expect_err("no answer");
            assert_eq!(
                told(
                    &gateway,
                    PROXY,
                    &[&line[..], b"GET / HTTP/1.1\r\n\r\n"].concat()
                ),
                b""
            );
        }
        assert_eq!(kept(&place), 3);
        ends_having_refused(gateway, &place, "source", 4);
    }
}

#[test]
fn a_proxy_line_may_come_in_pieces_and_together_with_what_follows() {
    let place = behind_proxies("proxy-protocol");
    let gateway = place.start();
    let body = webhook();
    let request = format!(
        "PROXY TCP4 3.130.254.46 127.0.0.1 40000 443\r\nPOST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let sender = Sender::plain(gateway.address, PATH).from(PROXY);
    let mut connection = sender.connect().expect("a connection");
    let (first, second) = request.as_bytes().split_at(20);
    for byte in first {
        connection.write(&[*byte]).expect("a written byte");
    }
    connection.write(second).expect("the rest");
    assert_eq!(connection.read().expect("an answer").status, 200);
}

#[test]
fn a_health_check_of_the_proxy_itself_is_closed_and_counts_for_nothing() {
    let place = behind_proxies("proxy-protocol");
    let gateway = place.start();
    assert_eq!(
        told(&gateway, PROXY, &second_version(0x20, [3, 130, 254, 46])),
        b""
    );
    let itself = b"PROXY TCP4 127.0.0.9 127.0.0.1 40000 443\r\n";
    assert_eq!(told(&gateway, PROXY, itself), b"");
    drop(
        Sender::plain(gateway.address, PATH)
            .from(PROXY)
            .connect()
            .expect("a connection"),
    );
    // What is said of the next one comes after what would be said of these.
    assert_eq!(told(&gateway, PROXY, b"PROXY UNKNOWN\r\n"), b"");
    ends_having_refused(gateway, &place, "unclear", 1);
    assert_eq!(
        place.value::<i64>("SELECT sum(value) FROM meta WHERE key LIKE 'refused.%'"),
        1
    );
}

#[test]
fn a_trusted_proxy_without_a_readable_proxy_line_is_closed_with_the_next_step() {
    let place = behind_proxies("proxy-protocol");
    let gateway = place.start();
    let endless = [b"PROXY TCP4 ".to_vec(), vec![b'1'; 5000]].concat();
    for (bytes, why) in [
        (
            &b"POST / HTTP/1.1\r\nHost: x\r\n\r\n"[..],
            "does not begin with a line",
        ),
        (b"\x16\x03\x01\x02\x00\x01", "does not begin with a line"),
        (b"PROXY TCP4 nobody nowhere 1 2\r\n", "cannot be read"),
        (b"PROXY UNKNOWN\r\n", "names no address"),
        (&endless, "cannot be read"),
    ] {
        assert_eq!(told(&gateway, PROXY, bytes), b"");
        let like = format!(
            "SELECT count(*) FROM attention WHERE kind = 'proxy-unclear' AND text LIKE '%{why}%'"
        );
        place.until(&like, 1);
    }
    let begun = Instant::now();
    assert_eq!(told(&gateway, PROXY, b"PROXY TCP4 3.130."), b"");
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
    ends_having_refused(gateway, &place, "unclear", 6);
}

#[test]
fn a_proxy_line_from_an_address_that_is_no_trusted_proxy_ends_the_connection_and_is_counted() {
    for place in [Place::new(), Place::new().with_tls()] {
        let gateway = place.start();
        let first = b"PROXY TCP4 3.130.254.46 127.0.0.1 40000 443\r\n".to_vec();
        for line in [first, second_version(0x21, [3, 130, 254, 46])] {
            let request = [
                &line[..],
                b"GET /belvo/webhooks HTTP/1.1\r\nHost: x\r\n\r\n",
            ]
            .concat();
            assert_eq!(told(&gateway, STRANGER, &request), b"");
        }
        assert_eq!(answer(&gateway, STRANGER, &[]), Some(200));
        ends_having_refused(gateway, &place, "proxy-line", 2);
        assert!(
            until_problem(&place, "proxy-in-front", "127.0.0.66").contains("take it out of allow")
        );
        assert_eq!(
            place.value::<i64>(
                "SELECT count(*) FROM meta WHERE key IN ('refused.head', 'refused.handshake')"
            ),
            0
        );
    }
}

#[test]
fn a_proxy_line_where_a_header_was_agreed_on_is_a_problem_of_the_proxy() {
    let place = behind_proxies("forwarded");
    let gateway = place.start();
    assert_eq!(
        told(
            &gateway,
            PROXY,
            b"PROXY TCP4 3.130.254.46 127.0.0.1 40000 443\r\n"
        ),
        b""
    );
    let problem = until_problem(&place, "proxy-unclear", "127.0.0.9");
    assert!(
        problem.contains("begins with a line of the PROXY protocol"),
        "{problem}"
    );
}

#[test]
fn a_header_of_an_allowed_address_that_is_no_proxy_counts_for_nothing_and_its_webhook_is_served() {
    let place = Place::new().with_tls();
    let gateway = place.start();
    for header in [
        "X-Forwarded-For: 1.2.3.4",
        "Forwarded: for=1.2.3.4",
        "X-Real-IP: 1.2.3.4",
    ] {
        assert_eq!(answer(&gateway, STRANGER, &[header]), Some(200), "{header}");
    }
    assert_eq!(
        place.column::<String>("SELECT DISTINCT peer FROM journal"),
        ["127.0.0.66"]
    );
    ends_having_refused(gateway, &place, "forwarded", 3);
    assert_eq!(
        place.value::<i64>(
            "SELECT sum(count) FROM refusals WHERE reason = 'forwarded' AND peer = '127.0.0.66'"
        ),
        3
    );
    let problem = until_problem(&place, "proxy-in-front", "127.0.0.66");
    assert!(
        problem.contains("trusted-proxies") && problem.contains("can be ignored"),
        "{problem}"
    );
    assert!(!place.log().contains("was refused"), "{}", place.log());
}

#[test]
fn no_header_and_no_line_brings_a_stranger_in() {
    let place = behind_proxies("x-forwarded-for");
    let gateway = place.start();
    for header in [
        "X-Forwarded-For: 3.130.254.46",
        "Forwarded: for=3.130.254.46",
        "X-Real-IP: 3.130.254.46",
    ] {
        assert_eq!(answer(&gateway, STRANGER, &[header]), None, "{header}");
    }
    assert_eq!(
        told(
            &gateway,
            STRANGER,
            b"PROXY TCP4 3.130.254.46 127.0.0.1 1 2\r\nGET / HTTP/1.1\r\n\r\n"
        ),
        b""
    );
    assert_eq!(kept(&place), 0);
    ends_having_refused(gateway, &place, "source", 4);
}

#[test]
fn the_authorization_value_from_another_address_behind_a_proxy_raises_the_drift_alarm_and_is_answered_403()
 {
    let place = behind_proxies("x-forwarded-for").with_authorization();
    let gateway = place.start();
    assert_eq!(
        answer(&gateway, PROXY, &["X-Forwarded-For: 203.0.113.7"]),
        Some(403)
    );
    let problem = until_problem(&place, "source-drift", "203.0.113.7");
    assert!(
        problem.contains("Belvo now seems to send from 203.0.113.7"),
        "{problem}"
    );
    assert!(
        problem.contains(r#"allow = ["3.130.254.46", "203.0.113.7"]"#),
        "{problem}"
    );
    assert_eq!(kept(&place), 0);
    assert!(!place.log().contains(AUTHORIZATION), "{}", place.log());
}

#[test]
fn the_drift_alarm_looks_at_few_connections_and_lets_none_in() {
    for place in [Place::new(), Place::new().with_tls()] {
        let place = place.allowing(BELVO).with_authorization();
        let gateway = place.start();
        assert_eq!(answer(&gateway, STRANGER, &[]), Some(403));
        for other in 67..80 {
            let other = IpAddr::from([127, 0, 0, other]);
            assert_eq!(answer(&gateway, other, &[]), None, "{other}");
            assert_eq!(
                told(&gateway, other, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
                b""
            );
        }
        // It is the address of a machine nearby, so it is no new address of Belvo's, and must not be let in.
        let problem = until_problem(&place, "proxy-in-front", "127.0.0.66");
        assert!(problem.contains("do not add it to allow"), "{problem}");
        ends_having_refused(gateway, &place, "source", 27);
        assert_eq!(kept(&place), 0);
    }
}

#[test]
fn a_stranger_who_is_looked_at_takes_no_seat_from_those_who_are_served() {
    let place = Place::new()
        .allowing("127.0.0.0/26")
        .listening("connections-max = 16")
        .with_authorization();
    let gateway = place.start();
    let sources = [1, 2].map(|last| gateway.sender().from(IpAddr::from([127, 0, 0, last])));
    let all = sources.iter().cycle().take(16);
    let mut served: Vec<_> = all
        .map(|source| source.connect().expect("a connection"))
        .collect();
    let mut bring = || {
        for connection in &mut served {
            let reply = connection.send(webhook().as_bytes()).expect("an answer");
            assert_eq!(reply.status, 200);
        }
    };
    bring();
    assert_eq!(answer(&gateway, STRANGER, &[]), Some(403));
    bring();
}

#[test]
fn a_look_without_the_authorization_value_says_nothing_and_ends_by_itself() {
    let place = Place::new().allowing(BELVO).with_authorization();
    let gateway = place.start();
    let sender = Sender::plain(gateway.address, PATH).from(STRANGER);
    let begun = Instant::now();
    assert_eq!(sender.connect().expect("a connection").rest(), b"");
    assert!(
        begun.elapsed() < Duration::from_secs(8),
        "{:?}",
        begun.elapsed()
    );
    ends_having_refused(gateway, &place, "source", 1);
    assert_eq!(
        place.value::<i64>(
            "SELECT count(*) FROM attention WHERE kind IN ('source-drift', 'proxy-in-front')"
        ),
        0
    );
}

#[test]
fn without_a_value_or_when_turned_off_no_stranger_is_looked_at() {
    let without = Place::new().allowing(BELVO);
    let off = Place::new()
        .allowing(BELVO)
        .with_authorization()
        .listening("drift-alarm = false");
    for place in [without, off] {
        let gateway = place.start();
        let refused = gateway.sender().from(STRANGER).send(webhook().as_bytes());
        assert!(matches!(
            refused.expect_err("no answer").step,
            Step::Connect | Step::Request | Step::Answer
        ));
        assert_eq!(
            told(&gateway, STRANGER, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
            b""
        );
        ends_having_refused(gateway, &place, "source", 2);
    }
}

#[test]
fn check_explains_whom_the_gateway_would_judge() {
    let place = behind_proxies("x-forwarded-for");
    let explain = |place: &Place, arguments: &[&str]| {
        let output = Command::new(PROGRAM)
            .args(["check", "--config"])
            .arg(place.configured())
            .args(arguments)
            .output()
            .expect("the program runs");
        (
            output.status.code(),
            text(&output.stdout) + &text(&output.stderr),
        )
    };
    for (arguments, code, words) in [
        (
            &["--explain", "3.130.254.46"][..],
            0,
            &["is in allow", "judged: 3.130.254.46", "let in"][..],
        ),
        (
            &["--explain", "::ffff:3.130.254.46"],
            0,
            &["judged: 3.130.254.46"],
        ),
        (
            &[
                "--explain",
                "203.0.113.7",
                "--header",
                "x-real-ip: 3.130.254.46",
            ],
            1,
            &[
                "x-real-ip counts for nothing",
                "judged: 203.0.113.7",
                "closed before TLS",
            ],
        ),
        (
            &[
                "--explain",
                "127.0.0.9",
                "--header",
                "X-Forwarded-For: 3.130.254.46, 10.0.0.2",
            ],
            0,
            &["is a trusted proxy", "judged: 3.130.254.46", "let in"],
        ),
        (
            &[
                "--explain",
                "127.0.0.9",
                "--header",
                "X-Forwarded-For: 3.130.254.46",
                "--header",
                "X-Forwarded-For: 1.2.3.4",
            ],
            1,
            &["judged: 1.2.3.4", "answered 403"],
        ),
        (
            &["--explain", "127.0.0.9"],
            1,
            &["has no header x-forwarded-for: answered 403"],
        ),
        (
            &["--explain", "127.0.0.9", "--header", "X-Forwarded-For"],
            1,
            &["has no colon"],
        ),
    ] {
        let (found, said) = explain(&place, arguments);
        assert_eq!(found, Some(code), "{arguments:?}: {said}");
        assert!(
            words.iter().all(|word| said.contains(word)),
            "{arguments:?}: {said}"
        );
    }
    let place = behind_proxies("proxy-protocol");
    for (line, code, word) in [
        (
            "PROXY TCP4 3.130.254.46 10.0.0.2 40000 443",
            0,
            "judged: 3.130.254.46",
        ),
        (
            "PROXY TCP4 1.2.3.4 10.0.0.2 40000 443",
            1,
            "1.2.3.4 is not in allow: the connection is closed before TLS",
        ),
        ("PROXY UNKNOWN", 1, "names no address"),
        ("HELLO", 1, "does not begin with a line"),
    ] {
        let (found, said) = explain(&place, &["--explain", "10.0.0.1", "--proxy-line", line]);
        assert_eq!(found, Some(code), "{line}: {said}");
        assert!(said.contains(word), "{line}: {said}");
    }
}

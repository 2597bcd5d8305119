//! Bad input: what it is answered, the log line it gets, and that the next request is served all the same.

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use belvo_gateway::standin::payloads::{Resource, historical_update};

use crate::vocabulary::{Gateway, LINK, PATH, Place, rest, text};

/// Writes bytes as they are, and says what comes back until the connection ends.
fn says(gateway: &Gateway<'_>, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(gateway.address).expect("a connection");
    stream
        .set_read_timeout(Some(Duration::from_secs(15)))
        .expect("a timeout");
    // Who is answered before everything was written may be unable to write the rest.
    drop(stream.write_all(request));
    text(&rest(stream))
}

fn post(headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("POST {PATH} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n");
    [head.as_bytes(), body].concat()
}

fn whole(body: &[u8]) -> Vec<u8> {
    post(&format!("Content-Length: {}\r\n", body.len()), body)
}

/// After whatever happened, a webhook is served and is the only thing in the journal.
fn serves_on(place: &Place, gateway: &Gateway<'_>) {
    assert_eq!(
        gateway.answers(historical_update(Resource::Accounts, LINK, 2)),
        200
    );
    assert_eq!(place.value::<i64>("SELECT count(*) FROM journal"), 1);
}

#[test]
fn a_body_that_is_not_json_is_400_with_its_request_id_and_its_bytes_are_a_problem() {
    let place = Place::new();
    let gateway = place.start();
    let body = br#"{"webhook_type":"ACCOUNTS","request_id":"4363b08b-51eb","data":{"#;
    let answer = says(&gateway, &whole(body));
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(
        answer.ends_with(r#"{"request_id":"4363b08b-51eb"}"#),
        "{answer}"
    );
    place.until_logged(&[
        "WARN",
        "reason=\"unreadable-body\"",
        "status=400",
        "request_id 4363b08b-51eb",
    ]);
    place.until(
        "SELECT count(*) FROM problems WHERE kind = 'unreadable-body'",
        1,
    );
    assert_eq!(
        place.value::<Vec<u8>>("SELECT evidence FROM problems WHERE kind = 'unreadable-body'"),
        body
    );
    serves_on(&place, &gateway);
}

#[test]
fn the_kept_bytes_of_an_unreadable_body_are_capped() {
    let place = Place::new();
    let gateway = place.start();
    assert!(says(&gateway, &whole(&[b'x'; 500_000])).starts_with("HTTP/1.1 400 "));
    place.until(
        "SELECT length(evidence) FROM problems WHERE kind = 'unreadable-body'",
        2048,
    );
}

#[test]
fn invalid_utf_8_is_400() {
    let place = Place::new();
    let gateway = place.start();
    assert!(says(&gateway, &whole(b"{\"a\":\"\xff\xfe\"}")).starts_with("HTTP/1.1 400 "));
    place.until_logged(&["the body is not UTF-8, 10 bytes"]);
    serves_on(&place, &gateway);
}

#[test]
fn json_that_is_no_object_is_400() {
    let place = Place::new();
    let gateway = place.start();
    for body in ["[]", "null", "7", "\"text\"", "   "] {
        assert!(
            says(&gateway, &whole(body.as_bytes())).starts_with("HTTP/1.1 400 "),
            "{body}"
        );
    }
    serves_on(&place, &gateway);
}

#[test]
fn a_body_nested_half_a_million_deep_is_kept_and_planned_as_unknown() {
    let place = Place::new();
    let gateway = place.start();
    let body = format!(
        "{{\"data\":{}{}}}",
        "[".repeat(500_000),
        "]".repeat(500_000)
    );
    assert!(says(&gateway, &whole(body.as_bytes())).starts_with("HTTP/1.1 200 "));
    place.until("SELECT state FROM inbox", "unknown".to_owned());
    place.until_logged(&["webhook planned", "seq=1", "action=\"unknown\""]);
    assert_eq!(place.value::<String>("SELECT body FROM journal"), body);
}

#[test]
fn two_mebibytes_are_413_whether_announced_or_not_and_the_sender_sees_it() {
    let place = Place::new();
    let gateway = place.start();
    let body = vec![b' '; 2 * 1024 * 1024];
    assert!(says(&gateway, &whole(&body)).starts_with("HTTP/1.1 413 "));
    let chunk = [
        format!("{:x}\r\n", body.len()).as_bytes(),
        &body,
        b"\r\n0\r\n\r\n",
    ]
    .concat();
    assert!(
        says(&gateway, &post("Transfer-Encoding: chunked\r\n", &chunk))
            .starts_with("HTTP/1.1 413 ")
    );
    place.until_logged(&["reason=\"too-large\"", "status=413"]);
    serves_on(&place, &gateway);
}

#[test]
fn a_body_in_chunks_is_a_body() {
    let place = Place::new();
    let gateway = place.start();
    assert!(
        says(
            &gateway,
            &post(
                "Transfer-Encoding: chunked\r\n",
                b"2\r\n{\"\r\n5\r\na\":1}\r\n0\r\n\r\n"
            )
        )
        .starts_with("HTTP/1.1 200 ")
    );
    assert_eq!(
        place.value::<String>("SELECT body FROM journal"),
        "{\"a\":1}"
    );
}

#[test]
fn a_request_with_no_length_has_no_body_and_what_follows_it_is_not_read() {
    let place = Place::new();
    let gateway = place.start();
    let request =
        format!("POST {PATH} HTTP/1.1\r\nHost: x\r\n\r\n{{\"webhook_type\":\"ACCOUNTS\"}}");
    let answer = says(&gateway, request.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(
        answer.to_lowercase().contains("connection: close"),
        "{answer}"
    );
    assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
    assert_eq!(place.value::<String>("SELECT body FROM journal"), "");
    place.until_logged(&["webhook planned", "seq=1", "action=\"probe\""]);
}

#[test]
fn a_head_of_a_hundred_kilobytes_or_a_thousand_lines_is_431() {
    let place = Place::new();
    let gateway = place.start();
    let long = format!("X: {}\r\n", "a".repeat(100_000));
    assert!(says(&gateway, &post(&long, b"")).starts_with("HTTP/1.1 431 "));
    let many = "X: a\r\n".repeat(1_000);
    assert!(says(&gateway, &post(&many, b"")).starts_with("HTTP/1.1 431 "));
    place.until_logged(&["reason=\"head\"", "status=431"]);
    serves_on(&place, &gateway);
}

#[test]
fn what_is_not_http_is_400() {
    let place = Place::new();
    let gateway = place.start();
    for request in [
        &b"\x16\x03\x01\x02\x00\x01\x00"[..],
        b"HELLO\r\n\r\n",
        b"GET / HTTP/1.1\r\nA\0: b\r\n\r\n",
    ] {
        let answer = says(&gateway, &[request, b"\r\n\r\n"].concat());
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 400 "),
            "{answer}"
        );
    }
    serves_on(&place, &gateway);
}

#[test]
fn a_body_that_comes_too_slowly_is_408_within_five_seconds_and_the_connection_ends() {
    let place = Place::new();
    let gateway = place.start();
    let begun = Instant::now();
    let answer = says(
        &gateway,
        &post("Content-Length: 100\r\n", b"{\"webhook_type\":"),
    );
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(begun.elapsed() < Duration::from_millis(5_500));
    place.until_logged(&["reason=\"slow\"", "status=408"]);
    serves_on(&place, &gateway);
}

#[test]
fn a_head_that_does_not_come_ends_the_connection_within_ten_seconds() {
    let place = Place::new();
    let gateway = place.start();
    let begun = Instant::now();
    assert_eq!(says(&gateway, format!("POST {PATH} HTT").as_bytes()), "");
    assert!(begun.elapsed() < Duration::from_secs(10));
    place.until_logged(&["reason=\"head\""]);
    serves_on(&place, &gateway);
}

#[test]
fn a_handshake_that_does_not_come_ends_the_connection() {
    let place = Place::new().with_tls();
    let gateway = place.start();
    assert_eq!(says(&gateway, b""), "");
    place.until_logged(&["reason=\"handshake\"", "it took too long"]);
    serves_on(&place, &gateway);
}

#[test]
fn a_sender_that_hangs_up_halfway_leaves_nothing() {
    let place = Place::new();
    let gateway = place.start();
    let mut stream = TcpStream::connect(gateway.address).expect("a connection");
    stream
        .write_all(&post("Content-Length: 100\r\n", b"{\"webhook_type\":"))
        .expect("a half request");
    drop(stream);
    serves_on(&place, &gateway);
}

#[test]
fn hundreds_of_idle_connections_do_not_keep_a_webhook_out() {
    let place = Place::new();
    let gateway = place.start();
    let idle: Vec<_> = (0..200)
        .map(|_| TcpStream::connect(gateway.address).expect("a connection"))
        .collect();
    serves_on(&place, &gateway);
    assert_eq!(idle.len(), 200);
}

#[test]
fn more_large_bodies_at_once_than_there_is_room_for_are_503_and_the_rest_is_served() {
    let place = Place::new();
    let gateway = place.start();
    let half = post("Content-Length: 1000000\r\n", b"{\"webhook_type\":");
    let held: Vec<_> = (0..8)
        .map(|_| {
            let mut stream = TcpStream::connect(gateway.address).expect("a connection");
            stream.write_all(&half).expect("a half request");
            stream
        })
        .collect();
    // Whoever comes while the eight are being read finds no room for as much again.
    let begun = Instant::now();
    while !says(&gateway, &whole(&vec![b' '; 1_000_000])).starts_with("HTTP/1.1 503 ") {
        assert!(begun.elapsed() < Duration::from_secs(2), "never refused");
    }
    drop(held);
    assert_eq!(
        gateway.answers(historical_update(Resource::Accounts, LINK, 2)),
        200
    );
}

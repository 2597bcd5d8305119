//! What the listener answers, and what it has done by then.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream};
use std::time::{Duration, Instant};

use belvo_gateway::standin::payloads::{Resource, historical_update};
use belvo_gateway::standin::sender::{Sender, Step};

use crate::vocabulary::{AUTHORIZATION, LINK, PATH, Place, rest, text};

fn webhook() -> String {
    historical_update(Resource::Accounts, LINK, 2)
}

fn raw(gateway: &crate::vocabulary::Gateway<'_>, request: &str) -> String {
    let mut stream = TcpStream::connect(gateway.address).expect("a connection");
    stream.write_all(request.as_bytes()).expect("a request");
    text(&rest(stream))
}

#[test]
fn a_webhook_is_in_the_file_byte_for_byte_when_its_200_comes() {
    let place = Place::new().with_tls().with_authorization();
    let gateway = place.start();
    let body = format!(" {}\n", webhook());
    let reply = gateway.sender().send(body.as_bytes()).expect("an answer");
    assert_eq!((reply.status, reply.body.len()), (200, 0));
    assert_eq!(place.value::<String>("SELECT body FROM journal"), body);
    assert_eq!(
        place.value::<String>("SELECT peer FROM journal"),
        "127.0.0.1"
    );
}

#[test]
fn several_webhooks_on_one_connection_get_rising_places() {
    let place = Place::new();
    let gateway = place.start();
    let sender = gateway.sender();
    let mut connection = sender.connect().expect("a connection");
    for _ in 0..5 {
        let reply = connection.send(webhook().as_bytes()).expect("an answer");
        assert_eq!(reply.status, 200);
    }
    assert_eq!(
        place.column::<i64>("SELECT seq FROM journal"),
        [1, 2, 3, 4, 5]
    );
}

#[test]
fn get_and_head_on_the_hook_answer_200_and_keep_nothing() {
    let place = Place::new().with_authorization();
    let gateway = place.start();
    for method in ["GET", "HEAD"] {
        let request = format!("{method} {PATH} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        assert!(
            raw(&gateway, &request).starts_with("HTTP/1.1 200 "),
            "{method}"
        );
    }
    assert_eq!(place.value::<i64>("SELECT count(*) FROM journal"), 0);
}

#[test]
fn a_post_without_a_body_is_journalled_as_a_probe() {
    let place = Place::new();
    let gateway = place.start();
    assert_eq!(gateway.answers(""), 200);
    place.until(
        "SELECT count(*) FROM inbox WHERE state = 'nothing-to-do' AND body = ''",
        1,
    );
    place.until_logged(&["webhook planned", "seq=1", "action=\"probe\""]);
}

#[test]
fn belvos_try_of_the_url_may_come_without_the_header_but_not_with_a_wrong_one() {
    let place = Place::new().with_authorization();
    let gateway = place.start();
    let sender = Sender::plain(gateway.address, PATH);
    assert_eq!(sender.send(b"").expect("an answer").status, 200);
    let wrong = sender.authorization("Bearer wrong");
    assert_eq!(wrong.send(b"").expect("an answer").status, 401);
}

#[test]
fn an_unknown_webhook_is_answered_200_kept_and_shown() {
    let place = Place::new();
    let gateway = place.start();
    let newer = r#"{"webhook_id":"3b9a69f7-0f0a-455b-832d-49ad6fd4905c","webhook_type":"WEATHER","webhook_code":"SUNNY"}"#;
    for body in [newer, "{}", r#"{"webhook_type":7,"webhook_code":null}"#] {
        assert_eq!(gateway.answers(body), 200, "{body}");
    }
    place.until("SELECT count(*) FROM inbox WHERE state = 'unknown'", 3);
    assert!(text(&place.reads("events list", &[]).stdout).contains("SUNNY"));
    assert!(text(&place.reads("status", &[]).stdout).contains("unknown          3"));
}

#[test]
fn another_path_is_404_and_another_method_405_with_allow() {
    let place = Place::new();
    let gateway = place.start();
    let elsewhere = Sender::plain(gateway.address, "/belvo/webhooks/");
    assert_eq!(
        elsewhere
            .send(webhook().as_bytes())
            .expect("an answer")
            .status,
        404
    );
    let answer = raw(
        &gateway,
        &format!("DELETE {PATH} HTTP/1.1\r\nHost: x\r\n\r\n"),
    );
    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
    assert!(
        answer.to_lowercase().contains("allow: get, head, post"),
        "{answer}"
    );
}

#[test]
fn a_wrong_or_missing_authorization_is_401_counted_and_a_problem() {
    let place = Place::new().with_tls().with_authorization();
    let gateway = place.start();
    let wrong = gateway.sender().authorization("Bearer 3c2b0e5g");
    assert_eq!(
        wrong.send(webhook().as_bytes()).expect("an answer").status,
        401
    );
    place.until("SELECT count(*) FROM attention WHERE kind = 'authorization-mismatch' AND subject = '127.0.0.1'", 1);
    place.until(
        "SELECT value FROM meta WHERE key = 'refused.authorization'",
        1,
    );
    assert_eq!(place.value::<i64>("SELECT count(*) FROM journal"), 0);
    assert!(!place.log().contains(AUTHORIZATION) && !place.log().contains("3c2b0e5g"));
}

#[test]
fn a_stranger_is_turned_away_before_a_byte_is_read_and_without_a_log_line() {
    let place = Place::new().with_tls().allowing("127.0.0.2");
    let gateway = place.start();
    let stranger = gateway.sender().from(IpAddr::from([127, 0, 0, 66]));
    let refused = stranger.send(webhook().as_bytes()).expect_err("no answer");
    assert!(
        matches!(refused.step, Step::Connect | Step::Handshake),
        "{refused}"
    );
    // Silent strangers are turned away as well: nothing has to be sent first.
    let mut silent = TcpStream::connect(gateway.address).expect("a connection");
    silent
        .set_read_timeout(Some(Duration::from_secs(10)))
        .expect("a timeout");
    assert!(matches!(silent.read(&mut [0; 1]), Ok(0) | Err(_)));
    place.until("SELECT value FROM meta WHERE key = 'refused.source'", 2);
    place.until(
        "SELECT count(*) FROM refusals WHERE peer = '127.0.0.66' AND status IS NULL",
        1,
    );
    assert!(!place.log().contains("127.0.0.66"), "{}", place.log());
    let belvo = gateway.sender().from(IpAddr::from([127, 0, 0, 2]));
    assert_eq!(
        belvo.send(webhook().as_bytes()).expect("an answer").status,
        200
    );
}

#[test]
fn only_http_1_1_is_spoken_over_tls() {
    let place = Place::new().with_tls();
    let gateway = place.start();
    let sender = gateway.sender();
    let mut connection = sender.connect().expect("a connection");
    let answer = connection.send_raw(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    assert!(answer.map_or(true, |reply| reply.status == 400));
}

#[test]
fn while_the_disk_fails_the_answer_is_503_and_afterwards_200_again() {
    let place = Place::new().on_a_bad_disk();
    let gateway = place.start();
    assert_eq!(gateway.answers(webhook()), 200);
    for fault in ["fail-sync", "fail-write"] {
        place.break_disk(fault);
        let reply = gateway
            .sender()
            .send(webhook().as_bytes())
            .expect("an answer");
        assert_eq!(reply.status, 503, "{fault}");
        assert!(
            reply.head.to_lowercase().contains("retry-after: "),
            "{}",
            reply.head
        );
        place.mend_disk(fault);
        let begun = Instant::now();
        while gateway.answers(webhook()) != 200 {
            assert!(begun.elapsed() < Duration::from_secs(10), "{}", place.log());
        }
    }
    assert_eq!(place.value::<String>("PRAGMA integrity_check"), "ok");
}

#[test]
fn a_commit_that_takes_longer_than_four_seconds_is_answered_503_before_belvo_gives_up() {
    let place = Place::new().on_a_bad_disk();
    let gateway = place.start();
    assert_eq!(gateway.answers(webhook()), 200);
    place.break_disk("hold-sync");
    let reply = gateway
        .sender()
        .send(webhook().as_bytes())
        .expect("an answer");
    assert_eq!(reply.status, 503);
    assert!(reply.answered >= Duration::from_secs(3) && reply.answered < Duration::from_secs(5));
    place.mend_disk("hold-sync");
    assert_eq!(gateway.answers(webhook()), 200);
    place.until_logged(&["unavailable", "503", "took too long"]);
}

#[test]
fn a_delivery_whose_503_was_sent_is_planned_when_it_is_journalled_after_all() {
    let place = Place::new().on_a_bad_disk();
    let gateway = place.start();
    place.break_disk("hold-sync");
    assert_eq!(gateway.answers(webhook()), 503);
    place.mend_disk("hold-sync");
    place.until("SELECT count(*) FROM events WHERE action = 'fetch'", 1);
}

#[test]
fn an_authorization_problem_is_over_when_the_same_source_sends_the_right_value() {
    let place = Place::new().with_authorization();
    let gateway = place.start();
    let wrong = gateway.sender().authorization("Bearer wrong");
    assert_eq!(
        wrong.send(webhook().as_bytes()).expect("an answer").status,
        401
    );
    place.until(
        "SELECT count(*) FROM attention WHERE kind = 'authorization-mismatch'",
        1,
    );
    assert_eq!(gateway.answers(webhook()), 200);
    place.until(
        "SELECT count(*) FROM attention WHERE kind = 'authorization-mismatch'",
        0,
    );
}

#[test]
fn a_kept_connection_that_falls_silent_is_closed_and_is_no_refusal() {
    let place = Place::new();
    let gateway = place.start();
    let sender = gateway.sender();
    let mut connection = sender.connect().expect("a connection");
    assert_eq!(
        connection
            .send(webhook().as_bytes())
            .expect("an answer")
            .status,
        200
    );
    // The next answer never comes: the connection is closed.
    connection.read().expect_err("an end");
    gateway.stop();
    assert_eq!(place.value::<i64>("SELECT count(*) FROM refusals"), 0);
    assert!(
        !place.log().contains("a request was refused"),
        "{}",
        place.log()
    );
}

#[test]
fn strangers_are_all_counted_and_some_of_them_are_listed() {
    const STRANGERS: u8 = 200;
    let place = Place::new().allowing("127.0.0.1");
    let gateway = place.start();
    for last in 2..2 + STRANGERS {
        let stranger = gateway.sender().from(IpAddr::from([127, 0, 1, last]));
        stranger.send(b"").expect_err("no answer");
    }
    gateway.stop();
    assert_eq!(
        place.value::<i64>("SELECT value FROM meta WHERE key = 'refused.source'"),
        i64::from(STRANGERS)
    );
    assert!(place.value::<i64>("SELECT count(*) FROM refusals") <= 130);
}

#[test]
fn a_log_that_is_stuck_holds_up_neither_an_answer_nor_the_end() {
    let place = Place::new();
    let (gateway, _stuck) = place.start_with_a_stuck_log();
    for _ in 0..10 {
        assert_eq!(gateway.answers(webhook()), 200);
        assert_eq!(gateway.answers("not json"), 400);
    }
    let (status, after) = gateway.stop();
    assert!(
        status.success() && after < Duration::from_secs(8),
        "{status} after {after:?}"
    );
    assert_eq!(place.value::<i64>("SELECT count(*) FROM journal"), 10);
}

#[test]
fn what_could_not_be_written_down_about_a_refusal_is_written_when_the_disk_is_well_again() {
    let place = Place::new().on_a_bad_disk();
    let gateway = place.start();
    place.break_disk("fail-write");
    assert_eq!(gateway.answers("not json"), 400);
    place.until_logged(&["could not be written down"]);
    place.mend_disk("fail-write");
    place.until(
        "SELECT evidence FROM problems WHERE kind = 'unreadable-body'",
        b"not json".to_vec(),
    );
    place.until(
        "SELECT value FROM meta WHERE key = 'refused.unreadable-body'",
        1,
    );
}

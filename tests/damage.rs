//! A card that forgets and flips bits: what is found, what is kept, and what is brought back.

use belvo_gateway::standin::payloads::{Resource, historical_update};
use rusqlite::Connection;
use serde_json::Value;

use crate::vocabulary::{LINK, Place, text};

/// A place that has received so many webhooks and is stopped.
fn used(count: usize) -> Place {
    let place = Place::new();
    let gateway = place.start();
    for _ in 0..count {
        let webhook = historical_update(Resource::Accounts, LINK, 2);
        assert_eq!(gateway.answers(webhook), 200);
    }
    place.until("SELECT count(*) FROM events", count as i64);
    assert!(gateway.stop().0.success());
    place
}

/// The file, open to do what nobody should.
fn opened(place: &Place) -> Connection {
    let file = Connection::open(place.state().join("gateway.db")).expect("a file");
    file.execute_batch("DROP TRIGGER journal_is_never_updated")
        .expect("no trigger");
    file
}

/// What `verify` finds, and its exit code.
fn verify(place: &Place) -> (Vec<String>, Option<i32>) {
    let output = place.reads("verify", &["--json"]);
    let said: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", text(&output.stderr)));
    let findings = said["findings"].as_array().expect("findings");
    assert_eq!(said["sound"], Value::Bool(findings.is_empty()));
    let what = findings.iter().map(|finding| {
        assert_ne!(finding["next_step"], "");
        finding["what"].as_str().expect("a sentence").to_owned()
    });
    (what.collect(), output.status.code())
}

#[test]
fn verify_finds_nothing_in_a_file_that_is_in_use() {
    let place = used(3);
    assert_eq!(verify(&place), (vec![], Some(0)));
    let gateway = place.start();
    assert_eq!(
        gateway.answers(historical_update(Resource::Owners, LINK, 2)),
        200
    );
    let output = place.reads("verify", &[]);
    assert_eq!(output.status.code(), Some(0));
    let said = text(&output.stdout);
    assert!(
        said.contains("4 webhooks were compared\neverything is as it should be"),
        "{said}"
    );
    assert!(output.stderr.is_empty(), "{}", text(&output.stderr));
}

#[test]
fn a_flipped_bit_in_any_column_of_a_stored_webhook_is_found() {
    for flip in [
        "received_at = received_at + 1",
        "clock_trusted = 1 - clock_trusted",
        "peer = '127.0.0.3'",
        "checksum = checksum + 1",
        "body = replace(body, '2', '3')",
        "body = CAST(x'ff' || body AS TEXT)",
    ] {
        let place = used(2);
        opened(&place)
            .execute_batch(&format!("UPDATE journal SET {flip} WHERE seq = 1"))
            .expect("a flip");
        let found = vec!["webhook 1 differs from its checksum".to_owned()];
        assert_eq!(verify(&place), (found, Some(1)), "{flip}");
    }
}

#[test]
fn verify_names_what_breaks_an_invariant_with_the_next_step() {
    for (broken, found) in [
        (
            "DELETE FROM events WHERE seq = 1",
            "webhook 1 was passed over by planning",
        ),
        (
            "UPDATE work SET wanted = 9",
            "work number 1 was asked for by a webhook that never came",
        ),
        (
            "INSERT INTO events (seq, action) VALUES (9, 'probe')",
            "webhook 9 was planned and never came",
        ),
        (
            "INSERT INTO objects VALUES ('weather', 'a', 'l', 'no json', 0, 0, 1, NULL, NULL)",
            "object in row 1 is unreadable",
        ),
        (
            "CREATE VIEW mine AS SELECT * FROM yours",
            "the view mine cannot be read: no such table: main.yours",
        ),
    ] {
        let place = used(2);
        opened(&place).execute_batch(broken).expect("a breach");
        assert_eq!(verify(&place), (vec![found.to_owned()], Some(1)));
    }
}

#[test]
fn an_emptied_webhook_has_the_checksum_of_an_emptied_one_and_no_other_is_taken() {
    let place = used(2);
    let done = place.reads("erase", &["--link", LINK, "--yes"]);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    assert_eq!(
        place.column::<String>("SELECT DISTINCT body FROM journal"),
        [""]
    );
    assert_eq!(verify(&place), (vec![], Some(0)));
    let file = Connection::open(place.state().join("gateway.db")).expect("a file");
    for change in [
        "body = 'x'",
        "checksum = 0",
        "received_at = 0",
        "peer = 'x'",
    ] {
        let refused = file.execute_batch(&format!("UPDATE journal SET {change}"));
        let refused = refused.expect_err(change).to_string();
        assert!(
            refused.contains("a journal row is never updated"),
            "{refused}"
        );
    }
}

//! The copy of the file that an operator makes, and the gateway that goes on from it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use belvo_gateway::standin::objects::{Household, LinkRecord};
use belvo_gateway::standin::payloads::{Resource, historical_update};
use rusqlite::Connection;

use crate::vocabulary::{Gateway, LINK, Place, belvo, text};

const ACCOUNTS: &str = "/api/accounts/";

/// Makes a copy named `name` beside the state directory.
fn snapshot(place: &Place, name: &str, more: &[&str]) -> (PathBuf, Output) {
    let file = place.path(name);
    let mut arguments = vec![file.to_str().expect("UTF-8")];
    arguments.extend(more);
    let output = place.reads("snapshot", &arguments);
    (file, output)
}

fn made(place: &Place, name: &str) -> PathBuf {
    let (file, output) = snapshot(place, name, &[]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    file
}

fn refused(output: &Output, words: &str) {
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stdout));
    let said = text(&output.stderr);
    assert!(said.contains(words), "no {words:?} in {said}");
}

fn receives(gateway: &Gateway<'_>, count: usize) {
    gateway.takes_in(count, |_| historical_update(Resource::Accounts, LINK, 2));
}

fn webhooks(file: &Path) -> i64 {
    Connection::open(file)
        .and_then(|file| file.query_row("SELECT count(*) FROM journal", [], |row| row.get(0)))
        .expect("a copy with a journal")
}

/// Everything in the directory of the place whose name begins like that.
fn named_like(place: &Place, name: &str) -> Vec<String> {
    let mut found: Vec<_> = fs::read_dir(place.path(""))
        .expect("a directory")
        .map(|entry| entry.expect("an entry").file_name())
        .map(|name| name.to_string_lossy().into_owned())
        .filter(|found| found.starts_with(name))
        .collect();
    found.sort();
    found
}

#[test]
fn a_snapshot_is_one_clean_file_with_every_webhook_that_was_answered_before() {
    let place = Place::new();
    let gateway = place.start();
    receives(&gateway, 200);
    let file = made(&place, "copy.db");
    assert_eq!(named_like(&place, "copy.db"), ["copy.db"]);
    let mode = fs::metadata(&file).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    assert_eq!(webhooks(&file), 200);
    // It is in no WAL mode: looking at it leaves nothing beside it, also where nothing can be written.
    assert_eq!(named_like(&place, "copy.db"), ["copy.db"]);
    let copy = Connection::open(&file).expect("a copy");
    let mode: String = copy
        .pragma_query_value(None, "journal_mode", |row| row.get(0))
        .expect("a mode");
    assert_eq!(mode, "delete");
    assert!(gateway.stop().0.success());
}

#[test]
fn webhooks_are_answered_while_a_snapshot_is_made_and_it_is_one_moment_of_the_file() {
    const IN_TIME: Duration = Duration::from_secs(4);
    let place = Place::new();
    let gateway = place.start();
    // Some megabytes, so that there is more than one step; one after the other, since bodies in flight have a bound.
    let text = "x".repeat(200_000);
    let large = format!(r#"{{"webhook_type":"WEATHER","webhook_code":"large","data":"{text}"}}"#);
    let sender = gateway.sender();
    let mut belvo = sender.connect().expect("a connection");
    for _ in 0..64 {
        let answer = belvo.send(large.as_bytes()).expect("an answer");
        assert_eq!(answer.status, 200);
    }
    drop(belvo);
    let done = AtomicBool::new(false);
    let copies = thread::scope(|scope| {
        let sending = scope.spawn(|| {
            let (mut slowest, mut sent) = (Duration::ZERO, 0);
            let sender = gateway.sender();
            let mut belvo = sender.connect().expect("a connection");
            while !done.load(Ordering::Relaxed) {
                let begun = Instant::now();
                let webhook = historical_update(Resource::Accounts, LINK, 2);
                let answer = belvo.send(webhook.as_bytes()).expect("an answer");
                assert_eq!(answer.status, 200);
                slowest = slowest.max(begun.elapsed());
                sent += 1;
            }
            (slowest, sent)
        });
        let copies = [1, 2, 3].map(|number| made(&place, &format!("copy-{number}.db")));
        done.store(true, Ordering::Relaxed);
        let (slowest, sent) = sending.join().expect("a sender");
        assert!(slowest < IN_TIME && sent > 0, "{slowest:?} of {sent}");
        copies
    });
    let counts = copies.map(|copy| {
        let copy = Connection::open(copy).expect("a copy");
        let pair = "SELECT count(*), max(seq) FROM journal";
        let (count, newest): (i64, i64) = copy
            .query_row(pair, [], |row| Ok((row.get(0)?, row.get(1)?)))
            .expect("a journal");
        assert_eq!(count, newest, "a webhook is missing in the middle");
        count
    });
    assert!(counts[0] >= 64 && counts.is_sorted(), "{counts:?}");
}

#[test]
fn a_snapshot_overwrites_nothing_unless_it_is_told_to() {
    let place = Place::new();
    let gateway = place.start();
    receives(&gateway, 3);
    let file = made(&place, "copy.db");
    receives(&gateway, 2);
    refused(&snapshot(&place, "copy.db", &[]).1, "--force");
    assert_eq!(webhooks(&file), 3);
    let (_, again) = snapshot(&place, "copy.db", &["--force"]);
    assert!(again.status.success(), "{}", text(&again.stderr));
    assert_eq!(webhooks(&file), 5);
    assert_eq!(named_like(&place, "copy.db"), ["copy.db"]);
}

#[test]
fn a_snapshot_refuses_names_that_would_cost_the_file_or_the_copy() {
    let place = Place::new();
    let gateway = place.start();
    receives(&gateway, 1);
    for name in ["state/gateway.db", "state/copy.db"] {
        let (_, output) = snapshot(&place, name, &["--force"]);
        refused(&output, "lies in the state directory");
    }
    // A WAL of another database would be read into the copy.
    fs::write(place.path("other.db-wal"), "x").expect("a file");
    let (_, output) = snapshot(&place, "other.db", &["--force"]);
    refused(&output, "belongs to another database");
    refused(
        &snapshot(&place, "nowhere/copy.db", &[]).1,
        "see that its directory is there",
    );
    assert_eq!(gateway.answers("{}"), 200);
    assert_eq!(place.value::<i64>("SELECT count(*) FROM journal"), 2);
}

#[test]
fn what_an_interrupted_snapshot_has_left_is_in_nobodys_way() {
    let place = Place::new();
    let gateway = place.start();
    receives(&gateway, 1);
    fs::write(place.path("copy.db.part"), "half a copy").expect("a file");
    fs::write(place.path("copy.db.part-wal"), "half a WAL").expect("a file");
    assert_eq!(webhooks(&made(&place, "copy.db")), 1);
    assert_eq!(named_like(&place, "copy.db"), ["copy.db"]);
    // One that is being made is another matter.
    let held = fs::File::create(place.path("second.db.part")).expect("a file");
    held.lock().expect("a lock");
    refused(&snapshot(&place, "second.db", &[]).1, "under way");
}

#[test]
fn a_snapshot_leaves_the_room_that_webhooks_need() {
    let place = Place::new().on_a_bad_disk();
    let gateway = place.start();
    receives(&gateway, 1);
    // More than the copy takes, and less than twice the floor on top of it.
    place.say_free(100);
    refused(&snapshot(&place, "copy.db", &[]).1, "there is room for 100");
    place.say_free(200);
    assert_eq!(webhooks(&made(&place, "copy.db")), 1);
}

#[test]
fn a_snapshot_of_a_stopped_gateway_is_as_good() {
    let place = Place::new();
    let gateway = place.start();
    receives(&gateway, 4);
    gateway.kill();
    let file = made(&place, "copy.db");
    assert_eq!(webhooks(&file), 4);
}

#[test]
fn a_gateway_goes_on_from_a_restored_snapshot_and_reconcile_finds_what_came_after_it() {
    let belvo = belvo();
    let old = Place::new().fetching_from(&belvo);
    let gateway = old.start();
    belvo.put(ACCOUNTS, LINK, accounts(2));
    receives(&gateway, 1);
    old.until_fetched();
    let copy = made(&old, "copy.db");
    // What the copy does not know: more webhooks, and more accounts, before the card is lost.
    belvo.put(ACCOUNTS, LINK, accounts(5));
    receives(&gateway, 3);
    old.until_fetched();
    drop(gateway);

    let new = Place::new().fetching_from(&belvo);
    fs::copy(&copy, new.state().join("gateway.db")).expect("a restored file");
    // The copy was made long before.
    let file = Connection::open(new.state().join("gateway.db")).expect("a file");
    file.execute(
        "UPDATE meta SET value = value - 5 * 3600000 WHERE key = 'alive_at'",
        [],
    )
    .expect("an older note");
    drop(file);
    let gateway = new.start();
    new.until(
        "SELECT count(*) FROM problems WHERE kind = 'away' AND closed_at IS NULL",
        1,
    );
    assert_eq!(new.value::<i64>("SELECT count(*) FROM accounts"), 2);
    receives(&gateway, 1);
    assert_eq!(
        new.column::<i64>("SELECT seq FROM journal ORDER BY seq"),
        [1, 2]
    );
    new.until_fetched();
    belvo.put(ACCOUNTS, LINK, accounts(7));
    belvo.put_link(&LinkRecord {
        id: LINK.to_owned(),
        last_accessed_at: Some("2099-01-01T00:00:00Z".to_owned()),
        fetch_resources: vec!["ACCOUNTS"],
        ..Household::new(1, 1).link_record()
    });
    let output = new.reads("reconcile", &[]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(new.value::<i64>("SELECT count(*) FROM accounts"), 7);
    assert_eq!(
        new.value::<i64>("SELECT count(*) FROM problems WHERE kind = 'away' AND closed_at IS NULL"),
        0
    );
    let verified = new.reads("verify", &[]);
    assert!(verified.status.success(), "{}", text(&verified.stdout));
}

fn accounts(count: usize) -> Vec<String> {
    (0..count)
        .map(|number| format!(r#"{{"id":"account-{number}","name":"{number}"}}"#))
        .collect()
}

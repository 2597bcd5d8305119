//! What an operator does to a gateway, running and stopped: retry, reconcile, erase; and what it notices by itself.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use belvo_gateway::standin::objects::{Household, LinkRecord};
use belvo_gateway::standin::payloads::{
    Resource, consent_event, historical_update, link_event, new_available, transactions_deleted,
};
use belvo_gateway::standin::{Fault, StandIn, When};
use rusqlite::Connection;
use serde_json::Value;

use crate::vocabulary::{Gateway, LINK, Place, belvo, rest, skipped, text};

const ACCOUNTS: &str = "/api/accounts/";
const TRANSACTIONS: &str = "/api/transactions/";
const PATIENCE: Duration = Duration::from_secs(20);

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!("{error}: {} {}", text(&output.stdout), text(&output.stderr))
    })
}

/// What a command said, when it went well.
fn said(output: &Output) -> String {
    assert!(
        output.status.success(),
        "{} {}",
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

/// What a command complained about, when it ended with 1.
fn complaint(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stdout));
    text(&output.stderr)
}

fn requests_for(belvo: &StandIn, path: &str) -> usize {
    let requests = belvo.requests();
    requests
        .iter()
        .filter(|request| request.path == path)
        .count()
}

/// The record of [`LINK`], accessed at this time.
fn record(accessed: &str) -> LinkRecord {
    LinkRecord {
        id: LINK.to_owned(),
        last_accessed_at: Some(accessed.to_owned()),
        fetch_resources: vec!["ACCOUNTS", "TRANSACTIONS"],
        ..Household::new(1, 1).link_record()
    }
}

/// Objects that all hold this word, in their ids too, in no order and of many sizes.
fn objects(word: &str, count: usize) -> Vec<String> {
    sized(word, count, 700)
}

fn sized(word: &str, count: usize, bytes_max: usize) -> Vec<String> {
    let object = |number: usize| {
        let place = number * 7_919 % 10_007;
        let text = format!("{word} ").repeat(place % bytes_max / (word.len() + 1));
        format!(r#"{{"id":"{place:05}-{word}-{number}","description":"{word} {text}"}}"#)
    };
    (0..count).map(object).collect()
}

/// A gateway where the accounts of [`LINK`] have failed for good.
fn with_a_failure<'a>(place: &'a Place, belvo: &StandIn) -> Gateway<'a> {
    belvo.put(ACCOUNTS, LINK, objects("account", 3));
    belvo.fail(When::path(ACCOUNTS), Fault::error(400, "invalid"));
    let gateway = place.start();
    assert_eq!(
        gateway.answers(historical_update(Resource::Accounts, LINK, 3)),
        200
    );
    place.until("SELECT count(*) FROM work WHERE blocked_by = 'failed'", 1);
    gateway
}

#[test]
fn retry_shows_what_has_failed_and_with_yes_the_running_gateway_fetches_it() {
    let belvo = belvo();
    let place = Place::new().fetching_from(&belvo);
    let _gateway = with_a_failure(&place, &belvo);
    let asked = requests_for(&belvo, ACCOUNTS);
    let shown = said(&place.reads("retry", &["--all"]));
    for words in ["accounts", "failed", "400 invalid", "--yes"] {
        assert!(shown.contains(words), "no {words:?} in {shown}");
    }
    assert_eq!(requests_for(&belvo, ACCOUNTS), asked);
    let done = said(&place.reads("retry", &["--event", "1", "--yes"]));
    assert!(done.contains("fetched now"), "{done}");
    place.until_fetched();
    assert_eq!(place.value::<i64>("SELECT count(*) FROM accounts"), 3);
    let nothing = said(&place.reads("retry", &["--all", "--yes"]));
    assert!(nothing.starts_with("nothing to take up"), "{nothing}");
}

#[test]
fn retry_of_a_stopped_gateway_is_fetched_after_its_start() {
    let belvo = belvo();
    let place = Place::new().fetching_from(&belvo);
    assert!(with_a_failure(&place, &belvo).stop().0.success());
    let done = said(&place.reads(
        "retry",
        &["--class", "permanent", "--resource", "accounts", "--yes"],
    ));
    assert!(done.contains("when the gateway is started"), "{done}");
    let _gateway = place.start();
    place.until_fetched();
    assert_eq!(place.value::<i64>("SELECT count(*) FROM accounts"), 3);
}

#[test]
fn retry_with_fetched_asks_again_for_what_is_fresh() {
    let belvo = belvo();
    belvo.put(ACCOUNTS, LINK, objects("account", 3));
    let place = Place::new().fetching_from(&belvo);
    let gateway = place.start();
    assert_eq!(
        gateway.answers(historical_update(Resource::Accounts, LINK, 3)),
        200
    );
    place.until_fetched();
    belvo.put(ACCOUNTS, LINK, objects("account", 5));
    let report = json(&place.reads("retry", &["--link", LINK, "--fetched", "--yes", "--json"]));
    assert_eq!(report["work"][0]["state"], "fresh", "{report}");
    place.until("SELECT count(*) FROM accounts", 5);
}

#[test]
fn retry_says_what_is_held_up_by_its_link_and_what_it_does_not_know() {
    let belvo = belvo();
    belvo.fail(
        When::path(ACCOUNTS).always(),
        Fault::error(400, "invalid_link"),
    );
    let place = Place::new().fetching_from(&belvo);
    let gateway = place.start();
    assert_eq!(
        gateway.answers(historical_update(Resource::Accounts, LINK, 3)),
        200
    );
    place.until("SELECT count(*) FROM links WHERE status = 'invalid'", 1);
    let shown = said(&place.reads("retry", &["--link", LINK, "--yes"]));
    assert!(
        shown.contains("(link invalid)") && shown.contains("wait for their link"),
        "{shown}"
    );
    assert_eq!(place.value::<String>("SELECT status FROM links"), "invalid");
    assert!(complaint(&place.reads("retry", &["--event", "9"])).contains("there is no webhook 9"));
    assert!(
        complaint(&place.reads("retry", &["--resource", "weather"])).contains("known are accounts")
    );
    assert!(complaint(&place.reads("retry", &["--class", "bad"])).contains("known are temporary"));
    assert_eq!(place.reads("retry", &[]).status.code(), Some(2));
}

#[test]
fn reconcile_finds_what_moved_without_a_webhook_and_waits_until_it_is_fetched() {
    let belvo = belvo();
    let place = Place::new().fetching_from(&belvo);
    let gateway = place.start();
    belvo.put(ACCOUNTS, LINK, objects("account", 4));
    belvo.put(TRANSACTIONS, LINK, objects("transaction", 7));
    belvo.put_link(&record("2026-11-20T10:28:40.123456Z"));
    let dry = said(&place.reads("reconcile", &["--dry-run"]));
    assert!(
        dry.contains("would be fetched again") && dry.contains("no webhook"),
        "{dry}"
    );
    assert_eq!(place.value::<i64>("SELECT count(*) FROM work"), 0);
    assert_eq!(place.value::<i64>("SELECT count(*) FROM links"), 0);
    let none = said(&place.reads("reconcile", &["--since", "2026-11-21"]));
    assert!(
        none.contains("nothing has moved") && none.contains("not accessed since then"),
        "{none}"
    );
    let done = said(&place.reads("reconcile", &["--since", "2026-11-20"]));
    assert!(done.contains("2 of 2 lists were fetched"), "{done}");
    assert_eq!(place.value::<i64>("SELECT count(*) FROM objects"), 11);
    assert_eq!(
        place.value::<String>("SELECT status || ' ' || reason FROM links"),
        "valid record"
    );
    // A webhook that came since tells about one of them; the other was fetched long after Belvo's access.
    assert_eq!(
        gateway.answers(new_available(Resource::Accounts, LINK, 1)),
        200
    );
    place.until_fetched();
    let again = json(&place.reads("reconcile", &["--json"]));
    assert_eq!(again["marked"].as_array().map(Vec::len), Some(0), "{again}");
    assert_eq!(again["left"]["a webhook told"], 1, "{again}");
    assert_eq!(again["left"]["fetched since"], 1, "{again}");
}

#[test]
fn reconcile_on_a_terminal_shows_how_far_it_is() {
    let belvo = belvo();
    let place = Place::new().fetching_from(&belvo);
    let _gateway = place.start();
    belvo.put(ACCOUNTS, LINK, objects("account", 4));
    belvo.put(TRANSACTIONS, LINK, objects("transaction", 7));
    belvo.put_link(&record("2026-11-20T10:28:40.123456Z"));
    let held = belvo.hold(When::path(ACCOUNTS));
    let command = format!(
        "{} reconcile --since 2026-11-20 --state {}",
        env!("CARGO_BIN_EXE_belvo-gateway"),
        place.state().display()
    );
    // Gives the command a terminal and prints what it shows there.
    let script = Command::new("script")
        .args([
            "--quiet",
            "--return",
            "--flush",
            "--command",
            &command,
            "/dev/null",
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut script) = script else {
        return skipped("script is not installed, so there is no terminal");
    };
    assert!(held.wait_reached(PATIENCE));
    let mut terminal = BufReader::new(script.stdout.take().expect("a pipe"));
    let mut shown = Vec::new();
    while !text(&shown).contains("\rfetched 0 of 2") {
        let more = terminal.fill_buf().expect("what is shown");
        assert!(!more.is_empty(), "{}", text(&shown));
        shown.extend_from_slice(more);
        let length = more.len();
        terminal.consume(length);
    }
    held.release();
    let last = text(&rest(terminal));
    assert!(last.contains("\rfetched 2 of 2"), "{last:?}");
    assert!(last.contains("2 of 2 lists were fetched"), "{last:?}");
    assert!(script.wait().expect("an end").success());
}

#[test]
fn reconcile_counts_what_is_missing_and_marks_it_only_when_told_to() {
    let belvo = belvo();
    let place = Place::new().fetching_from(&belvo);
    let gateway = place.start();
    belvo.put(TRANSACTIONS, LINK, objects("transaction", 7));
    assert_eq!(
        gateway.answers(historical_update(Resource::Transactions, LINK, 7)),
        200
    );
    place.until_fetched();
    belvo.put(TRANSACTIONS, LINK, objects("transaction", 5));
    // Later than the webhook, and than the fetch.
    let later = "2099-01-01T00:00:00.000000+00:00";
    belvo.put_link(&LinkRecord {
        fetch_resources: vec!["TRANSACTIONS"],
        ..record(later)
    });
    let done = said(&place.reads("reconcile", &[]));
    assert!(
        done.contains("2 objects of the file are not in Belvo's complete list"),
        "{done}"
    );
    let deleted = "SELECT count(*) FROM objects WHERE deleted_at IS NOT NULL";
    assert_eq!(place.value::<i64>(deleted), 0);
    // A list that cannot be complete says nothing about what is missing, and marks nothing.
    belvo.fail(When::path(TRANSACTIONS).always(), Fault::Count(99));
    let done = said(&place.reads("reconcile", &["--tombstone-missing"]));
    assert!(
        done.contains("1 of 1 lists were fetched")
            && done.contains("never agreed with its own count, so it is not known what is missing"),
        "{done}"
    );
    assert!(!done.contains("objects of the file"), "{done}");
    assert_eq!(place.value::<i64>(deleted), 0);
    belvo.clear_script();
    said(&place.reads("reconcile", &["--tombstone-missing"]));
    assert_eq!(place.value::<i64>(deleted), 2);
}

#[test]
fn reconcile_does_not_take_a_deletion_for_news_of_what_was_collected() {
    let belvo = belvo();
    let place = Place::new().fetching_from(&belvo);
    let gateway = place.start();
    belvo.put(TRANSACTIONS, LINK, objects("transaction", 7));
    belvo.put_link(&LinkRecord {
        fetch_resources: vec!["TRANSACTIONS"],
        ..record("2026-11-20T10:28:40Z")
    });
    assert_eq!(gateway.answers(transactions_deleted(LINK, &[GONE])), 200);
    place.until("SELECT count(*) FROM events", 1);
    let done = said(&place.reads("reconcile", &[]));
    assert!(done.contains("1 of 1 lists were fetched"), "{done}");
    assert_eq!(
        place.value::<i64>("SELECT count(*) FROM transactions WHERE NOT deleted"),
        7
    );
}

#[test]
fn reconcile_reads_the_record_of_a_link_that_belvo_lists_no_more() {
    let belvo = belvo();
    let place = Place::new().fetching_from(&belvo);
    let gateway = place.start();
    belvo.put(ACCOUNTS, LINK, objects("account", 1));
    belvo.put_link(&record("2026-11-20T10:28:40Z"));
    assert_eq!(
        gateway.answers(historical_update(Resource::Accounts, LINK, 1)),
        200
    );
    place.until_fetched();
    place.until("SELECT count(*) FROM links WHERE status = 'valid'", 1);
    belvo.delete_link(LINK);
    let done = said(&place.reads("reconcile", &[]));
    assert!(done.contains("is not in Belvo's list"), "{done}");
    place.until("SELECT count(*) FROM links WHERE status = 'deleted'", 1);
}

#[test]
fn reconcile_of_a_stopped_gateway_marks_and_says_that_it_cannot_wait() {
    let belvo = belvo();
    let place = Place::new().fetching_from(&belvo);
    assert!(place.start().stop().0.success());
    belvo.put(ACCOUNTS, LINK, objects("account", 4));
    belvo.put_link(&LinkRecord {
        fetch_resources: vec!["ACCOUNTS"],
        ..record("2026-11-20T10:28:40Z")
    });
    let refused = complaint(&place.reads("reconcile", &[]));
    assert!(refused.contains("--config"), "{refused}");
    let done = said(&place.orders("reconcile", &[]));
    assert!(done.contains("no gateway runs"), "{done}");
    assert_eq!(
        place.value::<i64>("SELECT count(*) FROM work WHERE wanted > fetched"),
        1
    );
    let _gateway = place.start();
    place.until("SELECT count(*) FROM accounts", 4);
}

#[test]
fn reconcile_says_in_one_sentence_why_belvo_could_not_be_asked() {
    let belvo = belvo();
    let place = Place::new().fetching_from(&belvo);
    let _gateway = place.start();
    belvo.fail(
        When::path("/api/links/"),
        Fault::error(500, "unexpected_error"),
    );
    let error = complaint(&place.reads("reconcile", &[]));
    assert!(
        error.contains("list of links could not be read") && error.contains("500 unexpected_error"),
        "{error}"
    );
    assert_eq!(error.lines().count(), 1, "{error}");
    let keyless = Place::new();
    let _gateway = keyless.start();
    assert!(complaint(&keyless.reads("reconcile", &[])).contains("no API keys"));
}

/// Every byte of the file and of those beside it.
fn bytes_hold(place: &Place, word: &str) -> Vec<String> {
    let mut found = Vec::new();
    for name in ["gateway.db", "gateway.db-wal", "gateway.db-shm"] {
        let bytes = std::fs::read(place.state().join(name)).unwrap_or_default();
        let at = bytes
            .windows(word.len())
            .position(|window| window == word.as_bytes());
        if let Some(at) = at {
            let around = &bytes[at.saturating_sub(40)..(at + 60).min(bytes.len())];
            found.push(format!("{name} at {at}: {}", text(around)));
        }
    }
    found
}

const MARK: &str = "Joaquina-Marker";
const GONE: &str = "0f68f516-bcbc-4cf7-b815-c500d4204e28";
const OTHER: &str = "a3b92311-1888-449f-acaa-49ae28d68fbd";

/// A gateway that keeps much about a person, and something about somebody else in between.
fn with_a_person<'a>(place: &'a Place, belvo: &StandIn) -> Gateway<'a> {
    belvo.put(ACCOUNTS, LINK, objects(MARK, 400));
    belvo.put(TRANSACTIONS, LINK, objects(MARK, 900));
    belvo.put(TRANSACTIONS, OTHER, objects("somebody-else", 900));
    belvo.put_link(&LinkRecord {
        id: OTHER.to_owned(),
        ..record("2026-11-20T10:28:40Z")
    });
    belvo.put_link(&LinkRecord {
        institution: format!("{MARK}_br_retail"),
        ..record("2026-11-20T10:28:40Z")
    });
    let gateway = place.start();
    let marked = |webhook: String| {
        webhook.replace("\"data\":{", &format!("\"data\":{{\"note\":\"{MARK}\","))
    };
    for webhook in [
        marked(historical_update(Resource::Accounts, LINK, 400)),
        historical_update(Resource::Transactions, OTHER, 900),
        marked(historical_update(Resource::Transactions, LINK, 900)),
        marked(transactions_deleted(LINK, &[GONE])),
        marked(consent_event(
            LINK,
            &format!("consent-{MARK}"),
            "openfinance_consent_expired",
            Some("2026-11-20T00:00:00Z"),
        )),
        format!(
            r#"{{"webhook_id":"{MARK}","webhook_type":"WEATHER","webhook_code":"sunny","link_id":"{LINK}","data":{{}}}}"#
        ),
        // The last about its link: a record that is being read when another one comes does not decide.
        marked(link_event(LINK, "token_required")),
    ] {
        assert_eq!(gateway.answers(webhook), 200);
    }
    let unread = format!("not json {} {MARK}", LINK.to_uppercase());
    assert_eq!(gateway.answers(unread), 400);
    place.until(
        "SELECT count(*) FROM problems WHERE kind = 'unreadable-body'",
        1,
    );
    place.until("SELECT count(*) FROM events", 7);
    place.until_fetched();
    // Bodies that shrink and grow move others from page to page.
    belvo.put(TRANSACTIONS, LINK, sized(MARK, 900, 3_000));
    belvo.put(ACCOUNTS, LINK, sized(MARK, 400, 60));
    belvo.put(TRANSACTIONS, OTHER, sized("somebody-else", 900, 2_000));
    for webhook in [
        historical_update(Resource::Transactions, LINK, 900),
        historical_update(Resource::Accounts, LINK, 400),
        historical_update(Resource::Transactions, OTHER, 900),
    ] {
        assert_eq!(gateway.answers(webhook), 200);
    }
    place.until("SELECT count(*) FROM events", 10);
    place.until_fetched();
    // One of them was deleted before it was seen.
    let kept = format!("SELECT count(*) FROM objects WHERE link_id = '{LINK}'");
    assert_eq!(place.value::<i64>(&kept), 1_301);
    assert!(!bytes_hold(place, MARK).is_empty());
    gateway
}

fn nothing_is_left(place: &Place) {
    assert_eq!(bytes_hold(place, MARK), Vec::<String>::new());
    let left = format!("SELECT count(*) FROM objects WHERE link_id = '{LINK}'");
    assert_eq!(place.value::<i64>(&left), 0);
    let link: (String, Option<String>, Option<String>) = place
        .file()
        .query_row(
            "SELECT status, institution, body FROM links WHERE link_id = ?1",
            [LINK],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )
        .expect("a row");
    assert_eq!(link, ("erased".to_owned(), None, None));
    assert_eq!(
        place.value::<i64>("SELECT count(*) FROM erasures WHERE objects > 0"),
        1
    );
    assert_eq!(place.value::<i64>("SELECT count(*) FROM transactions"), 900);
}

#[test]
fn erase_shows_first_and_leaves_no_byte_of_a_link_in_a_running_gateways_file() {
    let belvo = belvo();
    let place = Place::new().fetching_from(&belvo);
    let gateway = with_a_person(&place, &belvo);
    let shown = said(&place.reads("erase", &["--link", LINK]));
    for words in ["would be removed", "accounts", "consents", "--yes"] {
        assert!(shown.contains(words), "no {words:?} in {shown}");
    }
    assert!(!bytes_hold(&place, MARK).is_empty());
    let done = said(&place.reads("erase", &["--link", &LINK.to_uppercase(), "--yes"]));
    assert!(done.contains("removed for good"), "{done}");
    nothing_is_left(&place);
    // Nobody brings the person back: not a late webhook, not a reconcile, not a restart.
    let late = format!(
        r#"{{"webhook_id":"{MARK}","webhook_type":"ACCOUNTS","webhook_code":"historical_update","link_id":"{LINK}","data":{{}}}}"#
    );
    assert_eq!(gateway.answers(&late), 200);
    place.until(
        "SELECT count(*) FROM inbox WHERE seq = 11 AND state = 'erased'",
        1,
    );
    assert_eq!(
        place.value::<String>("SELECT body FROM journal WHERE seq = 11"),
        ""
    );
    assert_eq!(gateway.answers(format!("not json {LINK} {MARK}")), 400);
    place.until(
        "SELECT max(count) FROM problems WHERE kind = 'unreadable-body'",
        2,
    );
    said(&place.reads("reconcile", &[]));
    said(&place.reads("retry", &["--all", "--fetched", "--yes"]));
    place.until_fetched();
    assert!(gateway.stop().0.success());
    assert!(place.start().stop().0.success());
    nothing_is_left(&place);
    assert_eq!(
        place.value::<i64>(&format!(
            "SELECT count(*) FROM work WHERE link_id = '{LINK}'"
        )),
        0
    );
    let again = said(&place.reads("erase", &["--link", LINK]));
    assert!(again.contains("was erased before"), "{again}");
}

#[test]
fn erase_leaves_no_byte_in_a_stopped_gateways_file_nor_of_what_was_not_planned() {
    let belvo = belvo();
    let place = Place::new().fetching_from(&belvo);
    let gateway = with_a_person(&place, &belvo);
    assert!(gateway.stop().0.success());
    // As if it had been stopped before planning.
    let file = Connection::open(place.state().join("gateway.db")).expect("a file");
    file.execute(
        "INSERT INTO journal (received_at, clock_trusted, boot, since_boot, peer, checksum, body) VALUES (0, 0, 1, 0, 'x', 0, ?1)",
        [format!(
            r#"{{"webhook_type":"ACCOUNTS","webhook_code":"{MARK}","link_id":"{LINK}"}}"#
        )],
    )
    .expect("a row");
    drop(file);
    let done = said(&place.reads("erase", &["--link", LINK, "--yes"]));
    assert!(done.contains("removed for good"), "{done}");
    nothing_is_left(&place);
    let _gateway = place.start();
    place.until(
        "SELECT count(*) FROM inbox WHERE seq = 11 AND state = 'erased'",
        1,
    );
    nothing_is_left(&place);
}

#[test]
fn a_fetch_that_is_under_way_brings_nothing_back() {
    let belvo = belvo();
    let place = Place::new().fetching_from(&belvo);
    belvo.put(TRANSACTIONS, LINK, objects(MARK, 50));
    belvo.put(TRANSACTIONS, OTHER, objects("somebody-else", 900));
    let hold = belvo.hold(When::path(TRANSACTIONS).link(LINK));
    let gateway = place.start();
    assert_eq!(
        gateway.answers(historical_update(Resource::Transactions, LINK, 50)),
        200
    );
    assert!(hold.wait_reached(PATIENCE));
    said(&place.reads("erase", &["--link", LINK, "--yes"]));
    hold.release();
    // One link's fetches are done one at a time, and this one's first page opens the way for the other's.
    assert_eq!(
        gateway.answers(historical_update(Resource::Transactions, OTHER, 900)),
        200
    );
    place.until("SELECT count(*) FROM transactions", 900);
    assert!(gateway.stop().0.success());
    assert_eq!(bytes_hold(&place, MARK), Vec::<String>::new());
    assert_eq!(place.value::<i64>("SELECT count(*) FROM work"), 1);
}

#[test]
fn erase_says_when_a_reader_keeps_old_pages_and_finishes_when_done_again() {
    let belvo = belvo();
    let place = Place::new().fetching_from(&belvo);
    let _gateway = with_a_person(&place, &belvo);
    let reader = place.file();
    reader
        .execute_batch("BEGIN; SELECT count(*) FROM objects")
        .expect("a look");
    let output = place.reads("erase", &["--link", LINK, "--yes"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stdout).contains("gateway.db-wal"),
        "{}",
        text(&output.stdout)
    );
    let unfinished = said(&place.reads("erase", &["--link", LINK]));
    assert!(unfinished.contains("is not finished"), "{unfinished}");
    drop(reader);
    said(&place.reads("erase", &["--link", LINK, "--yes"]));
    nothing_is_left(&place);
}

/// Waits until the gateway has finished what was begun.
fn until_erased(place: &Place) {
    place.until("SELECT count(*) FROM erasures WHERE finished_at IS NULL", 0);
}

#[test]
fn an_erasure_that_was_interrupted_is_finished_after_the_next_start() {
    let belvo = belvo();
    let place = Place::new().fetching_from(&belvo);
    assert!(with_a_person(&place, &belvo).stop().0.success());
    // As if it had been killed after the first transaction.
    let file = Connection::open(place.state().join("gateway.db")).expect("a file");
    file.execute_batch(&format!(
        "INSERT INTO erasures (at, link_id) VALUES (0, '{LINK}');
         UPDATE links SET status = 'erased', institution = NULL, body = NULL WHERE link_id = '{LINK}'"
    ))
    .expect("rows");
    drop(file);
    let _gateway = place.start();
    until_erased(&place);
    nothing_is_left(&place);
    place.until_logged(&["finished the erasure", LINK]);
    let gone: (i64, i64) = place
        .file()
        .query_row("SELECT objects, deliveries FROM erasures", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .expect("a row");
    assert_eq!(gone, (1_301, 8));
}

#[test]
fn a_gateway_that_is_killed_while_it_erases_goes_on_after_its_start() {
    let belvo = belvo();
    let place = Place::new().fetching_from(&belvo);
    let mut gateway = with_a_person(&place, &belvo);
    let erased =
        format!("SELECT count(*) FROM links WHERE link_id = '{LINK}' AND status = 'erased'");
    thread::scope(|scope| {
        // It may have ended before the kill, or not.
        scope.spawn(|| place.reads("erase", &["--link", LINK, "--yes"]));
        place.until(&erased, 1);
        gateway.signal("KILL");
        assert!(!gateway.ended().success());
    });
    let _gateway = place.start();
    until_erased(&place);
    nothing_is_left(&place);
}

#[test]
fn erase_of_a_link_that_nothing_is_known_of_says_so() {
    let place = Place::new();
    let _gateway = place.start();
    let error = complaint(&place.reads("erase", &["--link", LINK]));
    assert!(error.contains("nothing is kept of link"), "{error}");
}

#[test]
fn the_control_socket_is_its_owners_and_is_replaced_after_a_crash() {
    let place = Place::new();
    let gateway = place.start();
    let socket = place.state().join("control");
    place.until("SELECT count(*) FROM meta WHERE key = 'alive_at'", 1);
    let retry = || said(&place.reads("retry", &["--all", "--yes"]));
    retry();
    let mode = std::fs::metadata(&socket)
        .expect("a socket")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    gateway.kill();
    assert!(socket.exists());
    // Nobody is behind it: the command takes the gateway's place.
    retry();
    let gateway = place.start();
    retry();
    assert!(gateway.stop().0.success());
    assert!(!socket.exists());
}

#[test]
fn a_gateway_of_another_version_and_its_command_say_so_and_guess_nothing() {
    let place = Place::new();
    let gateway = place.start();
    let socket = place.state().join("control");
    place.until("SELECT count(*) FROM meta WHERE key = 'alive_at'", 1);
    let mut stream = UnixStream::connect(&socket).expect("a gateway");
    // Of a newer command, which narrows the order in a way that this gateway does not know.
    stream
        .write_all(b"{\"retry\":{\"fetched\":true,\"institution\":\"x\"}}\n")
        .expect("an order");
    let answer = text(&rest(stream));
    assert!(answer.contains("another version"), "{answer}");
    assert!(gateway.stop().0.success());
    let listener = UnixListener::bind(&socket).expect("a socket");
    for answered in [
        r#"{"done":{"prune":{}}}"#,
        r#"{"done":{"erase":{"done":true}}}"#,
        r#"{"done":{"reconcile":{"done":true,"links":0,"agreed":true,"marked":[],"marked_more":0,"changed":[],"gone":[],"left":{}}}}"#,
    ] {
        let error = thread::scope(|scope| {
            scope.spawn(|| {
                let (stream, _) = listener.accept().expect("a command");
                let mut order = String::new();
                BufReader::new(&stream)
                    .read_line(&mut order)
                    .expect("an order");
                writeln!(&stream, "{answered}").expect("an answer");
            });
            complaint(&place.reads("retry", &["--all", "--yes"]))
        });
        assert!(error.contains("another version"), "{error}");
    }
}

/// Makes the last note of a stopped gateway older.
fn away(place: &Place, hours: i64) {
    let file = Connection::open(place.state().join("gateway.db")).expect("a file");
    let changed = file
        .execute(
            "UPDATE meta SET value = value - ?1 WHERE key = 'alive_at'",
            [hours * 3_600_000],
        )
        .expect("a note");
    assert_eq!(changed, 1);
}

const AWAY: &str = "SELECT count(*) FROM problems WHERE kind = 'away' AND closed_at IS NULL";

#[test]
fn a_long_absence_is_a_problem_with_a_command_and_a_short_one_is_none() {
    let belvo = belvo();
    let place = Place::new().fetching_from(&belvo);
    assert!(place.start().stop().0.success());
    let gateway = place.start();
    assert_eq!(
        gateway.answers(historical_update(Resource::Accounts, LINK, 0)),
        200
    );
    place.until_fetched();
    assert!(gateway.stop().0.success());
    assert_eq!(place.value::<i64>(AWAY), 0);
    away(&place, 5);
    let gateway = place.start();
    place.until(AWAY, 1);
    let next_step: String = place.value("SELECT next_step FROM attention WHERE kind = 'away'");
    let since = next_step
        .split("--since ")
        .nth(1)
        .expect("a time")
        .to_owned();
    said(&place.reads("reconcile", &["--since", "1h"]));
    assert_eq!(place.value::<i64>(AWAY), 1, "an hour is not all of it");
    said(&place.reads("reconcile", &["--dry-run", "--since", &since]));
    assert_eq!(place.value::<i64>(AWAY), 1, "a dry run changes nothing");
    belvo.fail(When::path("/api/links/").times(3), Fault::Count(7));
    let doubtful = said(&place.reads("reconcile", &["--since", &since]));
    assert!(doubtful.contains("do this again later"), "{doubtful}");
    assert_eq!(place.value::<i64>(AWAY), 1, "some links were not seen");
    said(&place.reads("reconcile", &["--since", &since]));
    assert_eq!(place.value::<i64>(AWAY), 0);
    assert!(gateway.stop().0.success());
}

#[test]
fn with_reconcile_auto_the_gateway_makes_up_for_an_absence_by_itself() {
    let belvo = belvo();
    let place = Place::new().fetching_from(&belvo).reconciling_by_itself();
    assert!(place.start().stop().0.success());
    away(&place, 5);
    belvo.put(ACCOUNTS, LINK, objects("account", 4));
    belvo.put_link(&LinkRecord {
        fetch_resources: vec!["ACCOUNTS"],
        ..record("2099-01-01T00:00:00Z")
    });
    let _gateway = place.start();
    place.until("SELECT count(*) FROM accounts", 4);
    place.until(
        "SELECT count(*) FROM problems WHERE kind = 'away' AND closed_at IS NOT NULL",
        1,
    );
    place.until_logged(&["compared with Belvo after an absence"]);
}

#[test]
fn with_reconcile_auto_an_absence_is_made_up_for_whatever_comes_between() {
    let belvo = belvo();
    let place = Place::new().fetching_from(&belvo);
    assert!(place.start().stop().0.success());
    // Nobody makes up for the first one.
    away(&place, 50);
    let gateway = place.start();
    place.until(AWAY, 1);
    place.until("SELECT count(*) FROM meta WHERE key = 'alive_at' AND value > (SELECT value FROM meta WHERE key = 'away_from') + 3600000", 1);
    assert!(gateway.stop().0.success());
    away(&place, 5);
    let place = place.reconciling_by_itself();
    belvo.stop();
    let gateway = place.start();
    place.until_logged(&["after an absence failed"]);
    gateway.kill();
    belvo.restart().expect("a stand-in");
    let _gateway = place.start();
    place.until(AWAY, 0);
}

#[test]
fn events_are_narrowed_by_time_kind_link_and_state() {
    let place = Place::new();
    let gateway = place.start();
    assert_eq!(
        gateway.answers(historical_update(Resource::Accounts, LINK, 2)),
        200
    );
    assert_eq!(gateway.answers(link_event(OTHER, "token_required")), 200);
    assert_eq!(
        gateway.answers(r#"{"webhook_type":"WEATHER","webhook_code":"sunny"}"#),
        200
    );
    place.until("SELECT count(*) FROM events", 3);
    let seqs = |arguments: &[&str]| {
        let listed = json(&place.reads("events list", &[arguments, &["--json"]].concat()));
        let seqs = listed.as_array().expect("a list").iter();
        seqs.map(|event| event["seq"].as_i64().expect("a number"))
            .collect::<Vec<_>>()
    };
    assert_eq!(seqs(&["--since", "24h"]), [3, 2, 1]);
    assert_eq!(seqs(&["--until", "1d ago"]), [0i64; 0]);
    assert_eq!(seqs(&["--until", "2099-01-01", "--limit", "1"]), [3]);
    assert_eq!(seqs(&["--type", "accounts"]), [1]);
    assert_eq!(seqs(&["--code", "token_required", "--link", OTHER]), [2]);
    assert_eq!(seqs(&["--in-state", "unknown"]), [3]);
    assert!(
        complaint(&place.reads("events list", &["--in-state", "good"]))
            .contains("known are waiting")
    );
    assert!(complaint(&place.reads("events list", &["--since", "soon"])).contains("is no time"));
}

#[test]
fn a_webhook_is_shown_with_what_became_of_it() {
    let belvo = belvo();
    let place = Place::new().fetching_from(&belvo);
    belvo.put_link(&LinkRecord {
        status: "token_required",
        ..record("2026-11-20T10:28:40Z")
    });
    let gateway = with_a_failure(&place, &belvo);
    let shown = said(&place.reads("events show", &["1"]));
    for words in ["fetches", "failed", "400 invalid", "\"webhook_type\""] {
        assert!(shown.contains(words), "no {words:?} in {shown}");
    }
    assert_eq!(
        gateway.answers(transactions_deleted(LINK, &[GONE, OTHER])),
        200
    );
    assert_eq!(gateway.answers(link_event(LINK, "token_required")), 200);
    place.until("SELECT count(*) FROM links WHERE seq = 3", 1);
    let shown = said(&place.reads("events show", &["2"]));
    assert!(
        shown.contains("2 objects marked as deleted") && shown.contains(GONE),
        "{shown}"
    );
    let shown = json(&place.reads("events show", &["3", "--json"]));
    assert_eq!(
        shown["became"]["link"]["status"], "token_required",
        "{shown}"
    );
}

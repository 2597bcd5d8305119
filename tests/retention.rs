//! What leaves the file, seen from outside: the journal stays within its limit, what is still needed stays, what has left
//! is still known, and the room that it leaves is used again.

use std::thread;
use std::time::{Duration, Instant};

use crate::vocabulary::{Gateway, LINK, Place, text};

/// A payment, which is kept and never followed.
fn finished(id: usize, bytes: usize) -> String {
    format!(
        r#"{{"webhook_id":"{id}","webhook_type":"PAYMENT_INTENTS","webhook_code":"STATUS_UPDATE","object_id":"o","data":{{"pad":"{}"}}}}"#,
        "x".repeat(bytes)
    )
}

/// A webhook that asks for a list, which nobody can fetch without keys.
fn waiting(id: usize, bytes: usize) -> String {
    format!(
        r#"{{"webhook_id":"{id}","webhook_type":"ACCOUNTS","webhook_code":"historical_update","link_id":"{LINK}","data":{{"pad":"{}"}}}}"#,
        "x".repeat(bytes)
    )
}

fn until_planned(place: &Place, count: i64) {
    place.until("SELECT count(*) FROM events", count);
}

fn until_answered(gateway: &Gateway<'_>, status: u16) {
    let begun = Instant::now();
    while gateway.answers(finished(0, 1)) != status {
        assert!(begun.elapsed() < Duration::from_secs(20), "never {status}");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_journal_that_is_too_large_loses_its_oldest_finished_webhooks_and_what_they_were_is_still_known()
 {
    let place = Place::new().storing("journal-max-mib = 1");
    let gateway = place.start();
    gateway.takes_in(16, |id| waiting(id, 500));
    gateway.takes_in(1_600, |id| finished(id, 1_000));
    until_planned(&place, 1_616);
    drop(gateway);
    let _gateway = place.start();
    let mib = "SELECT sum(length(body)) < 1024 * 1024 FROM journal";
    place.until(mib, true);
    place.until(
        "SELECT count(*) FROM events WHERE received_at IS NOT NULL AND action = 'fetch'",
        0,
    );
    assert_eq!(
        place.value::<i64>(
            "SELECT count(*) FROM journal JOIN events USING (seq) WHERE action = 'fetch'"
        ),
        16
    );
    let kept: i64 = place.value("SELECT count(*) FROM journal");
    assert!((500..1_200).contains(&kept), "{kept}");
    assert_eq!(place.value::<i64>("SELECT count(*) FROM inbox"), 1_616);
    let gone: i64 = place.value("SELECT max(seq) FROM events WHERE received_at IS NOT NULL");
    let show = place.reads("events show", &[&gone.to_string()]);
    let shown = text(&show.stdout);
    assert!(show.status.success(), "{}", text(&show.stderr));
    assert!(
        shown.contains("nothing-to-do") && shown.contains("its body has gone"),
        "{shown}"
    );
    let list = text(
        &place
            .reads("events list", &["--limit", "2000", "--json"])
            .stdout,
    );
    assert!(list.contains("PAYMENT_INTENTS"), "{list}");
    let status = text(&place.reads("status", &[]).stdout);
    assert!(status.contains("1616"), "{status}");
    assert_eq!(place.value::<String>("PRAGMA integrity_check"), "ok");
}

#[test]
fn what_is_still_to_be_fetched_stays_however_large_it_is_and_a_problem_says_so() {
    let place = Place::new().storing("journal-max-mib = 1");
    let gateway = place.start();
    gateway.takes_in(1_600, |id| waiting(id, 1_000));
    until_planned(&place, 1_600);
    drop(gateway);
    let gateway = place.start();
    place.until(
        "SELECT count(*) FROM attention WHERE kind = 'journal-large' AND next_step LIKE '%journal-max-mib%'",
        1,
    );
    assert_eq!(place.value::<i64>("SELECT count(*) FROM journal"), 1_600);
    assert_eq!(gateway.answers(waiting(1, 1)), 200);
}

#[test]
fn where_the_disk_is_full_finished_webhooks_make_room_for_new_ones() {
    let place = Place::new().on_a_bad_disk().storing("disk-floor-mib = 8");
    let gateway = place.start();
    gateway.takes_in(300, |id| finished(id, 50_000));
    until_planned(&place, 300);
    place.say_free(1);
    until_answered(&gateway, 503);
    until_answered(&gateway, 200);
    let kept: i64 = place.value("SELECT count(*) FROM journal WHERE length(body) > 1000");
    assert!((80..=140).contains(&kept), "as much as is needed: {kept}");
    place.until(
        "SELECT count(*) FROM problems WHERE kind = 'disk-low' AND closed_at IS NOT NULL",
        1,
    );
    assert_eq!(place.value::<String>("PRAGMA integrity_check"), "ok");
}

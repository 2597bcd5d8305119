//! Kill -9 at random moments: nothing that was answered 200 is lost, nothing is there twice, no repair is needed.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use belvo_gateway::standin::objects::Household;

use crate::vocabulary::{Gateway, LINK, Place, belvo};

/// Moments at which the gateway is killed. Nothing here waits for a disk, so they are cheap.
const KILLS: u32 = 200;
/// Connections that send at once.
const SENDERS: u32 = 4;

fn webhook(id: &str, link: &str) -> String {
    format!(
        r#"{{"webhook_id":"{id}","webhook_type":"TRANSACTIONS","webhook_code":"historical_update","link_id":"{link}","data":{{"pad":"{}"}}}}"#,
        "x".repeat(200)
    )
}

/// Sends on one connection until it breaks; the ids that were answered 200.
fn send_until_killed(
    gateway: &Gateway<'_>,
    round: u32,
    sender: u32,
    link: &str,
    killed: &AtomicBool,
) -> Vec<String> {
    let belvo = gateway.sender();
    let mut acknowledged = Vec::new();
    let Ok(mut connection) = belvo.connect() else {
        return acknowledged;
    };
    for count in 0.. {
        let id = format!("{round}-{sender}-{count}");
        match connection.send(webhook(&id, link).as_bytes()) {
            Ok(reply) if reply.status == 200 => acknowledged.push(id),
            _ => break,
        }
        if killed.load(Ordering::Relaxed) {
            break;
        }
    }
    acknowledged
}

#[test]
fn what_was_answered_200_survives_two_hundred_kills_and_every_object_is_there_once() {
    let belvo = belvo();
    let mut house = Household::new(7, 2);
    let transactions = house.transactions(2_300);
    belvo.put("/api/transactions/", house.link(), transactions.clone());
    let place = Place::new().fetching_from(&belvo);
    let mut acknowledged = Vec::new();
    for round in 0..KILLS {
        let gateway = place.start();
        let killed = AtomicBool::new(false);
        acknowledged.extend(thread::scope(|scope| {
            let senders: Vec<_> = (0..SENDERS)
                .map(|sender| {
                    let (gateway, killed, link) = (&gateway, &killed, house.link());
                    scope.spawn(move || send_until_killed(gateway, round, sender, link, killed))
                })
                .collect();
            // The moment of the kill, from before the first commit to the middle of a fetch.
            thread::sleep(Duration::from_micros(fastrand::u64(0..40_000)));
            gateway.signal("KILL");
            killed.store(true, Ordering::Relaxed);
            senders
                .into_iter()
                .flat_map(|sender| sender.join().expect("a sender"))
                .collect::<Vec<_>>()
        }));
    }
    let _gateway = place.start();
    place.until_fetched();

    let kept: Vec<String> = place.column("SELECT body ->> '$.webhook_id' FROM journal");
    let distinct: HashSet<&String> = kept.iter().collect();
    assert_eq!(
        distinct.len(),
        kept.len(),
        "a webhook is in the journal twice"
    );
    let lost: Vec<_> = acknowledged
        .iter()
        .filter(|id| !distinct.contains(id))
        .collect();
    assert!(
        lost.is_empty(),
        "{} of {} lost: {lost:?}",
        lost.len(),
        acknowledged.len()
    );
    assert!(
        acknowledged.len() > KILLS as usize,
        "only {} were answered",
        acknowledged.len()
    );
    let whole = format!(
        "SELECT count(*) FROM journal WHERE body <> '{}'",
        webhook("ID", house.link())
    );
    let whole = whole.replace(
        "body <> '",
        "replace(body, body ->> '$.webhook_id', 'ID') <> '",
    );
    assert_eq!(place.value::<i64>(&whole), 0, "a body is not whole");

    let mut objects: Vec<String> =
        place.column("SELECT body FROM objects WHERE resource = 'transactions'");
    let mut wanted = transactions;
    objects.sort();
    wanted.sort();
    assert!(
        objects == wanted,
        "{} objects and not {}",
        objects.len(),
        wanted.len()
    );
    assert_eq!(place.value::<String>("PRAGMA integrity_check"), "ok");
}

#[test]
fn a_fetch_that_was_killed_between_two_pages_runs_again_and_ends_complete() {
    use belvo_gateway::standin::When;
    let belvo = belvo();
    let mut house = Household::new(8, 2);
    let transactions = house.transactions(2_500);
    belvo.put("/api/transactions/", house.link(), transactions);
    let place = Place::new().fetching_from(&belvo);
    let gateway = place.start();
    let held = belvo.hold(When::path("/api/transactions/").page(3));
    assert_eq!(gateway.answers(webhook("one", house.link())), 200);
    assert!(held.wait_reached(Duration::from_secs(20)));
    let halfway: i64 = place.value("SELECT count(*) FROM objects");
    assert!((1_000..2_500).contains(&halfway), "{halfway}");
    gateway.kill();
    held.release();
    let _gateway = place.start();
    place.until_fetched();
    assert_eq!(place.value::<i64>("SELECT count(*) FROM objects"), 2_500);
    assert_eq!(
        place.value::<i64>("SELECT count(*) FROM objects WHERE link_id = ''"),
        0
    );
}

#[test]
fn what_was_journalled_and_not_planned_is_planned_after_the_next_start() {
    let place = Place::new();
    for round in 0..20 {
        let gateway = place.start();
        assert_eq!(gateway.answers(webhook(&round.to_string(), LINK)), 200);
        gateway.kill();
    }
    let _gateway = place.start();
    place.until("SELECT count(*) FROM events WHERE action = 'fetch'", 20);
    place.until("SELECT wanted FROM work", 20);
}

//! A box without a battery clock: switched on in 1970, set by the network when it comes, and set again when that was wrong.

use std::time::Duration;

use belvo_gateway::standin::objects::Household;
use belvo_gateway::standin::payloads::{Resource, historical_update};
use belvo_gateway::standin::{Fault, StandIn, When};

use crate::vocabulary::{Place, belvo, belvo_over_tls};

const ACCOUNTS: &str = "/api/accounts/";

fn furnish(belvo: &StandIn, seed: u64) -> String {
    let house = Household::new(seed, 2);
    let link = house.link().to_owned();
    belvo.put(ACCOUNTS, &link, house.accounts());
    link
}

fn asked_for(belvo: &StandIn, link: &str) -> usize {
    let of_link = format!("link={link}");
    let requests = belvo.requests();
    let asked = requests
        .iter()
        .filter(|request| request.query.contains(&of_link));
    asked.count()
}

#[test]
fn what_comes_before_the_clock_is_set_is_kept_at_once_and_fetched_within_a_minute_of_its_being_set()
{
    let place = Place::new()
        .with_tls()
        .on_a_bad_disk()
        .trusting_its_own_authority();
    let belvo = belvo_over_tls(&place);
    let link = furnish(&belvo, 1);
    let place = place.fetching_from(&belvo).trusting_its_own_authority();
    place.break_disk("clock-not-set");
    let gateway = place.start();
    assert_eq!(
        gateway.answers(historical_update(Resource::Accounts, &link, 2)),
        200
    );
    place.until("SELECT count(*) FROM events", 1);
    let in_1970 =
        "SELECT count(*) FROM inbox WHERE received_at < '1970-01-02' AND clock_trusted = 0";
    assert_eq!(place.value::<i64>(in_1970), 1);
    assert_eq!(place.value::<i64>("SELECT count(*) FROM boots"), 0);

    place.mend_disk("clock-not-set");
    place.until_within(
        "SELECT state FROM inbox",
        "done".to_owned(),
        Duration::from_secs(60),
    );
    assert_eq!(asked_for(&belvo, &link), 1);
    assert!(!place.log().contains("a fetch failed"), "{}", place.log());
    // When it was received is known afterwards.
    place.until(
        "SELECT count(*) FROM inbox WHERE abs(strftime('%s', received_at) - strftime('%s', 'now')) < 300",
        1,
    );
    let in_1970 = "SELECT count(*) FROM journal WHERE received_at < 1000000 AND clock_trusted = 0";
    assert_eq!(place.value::<i64>(in_1970), 1);
}

#[test]
fn webhooks_of_one_run_of_the_machine_are_as_far_apart_as_they_were_whatever_the_clock_shows() {
    let place = Place::new().on_a_bad_disk();
    let gateway = place.start();
    gateway.takes_in(1, |id| format!("{{\"webhook_id\":\"{id}\"}}"));
    place.set_clock_ahead(3_000);
    gateway.takes_in(1, |id| format!("{{\"webhook_id\":\"{id}\"}}"));
    place.set_clock_ahead(-1);
    gateway.stop();
    let gateway = place.start();
    gateway.takes_in(1, |id| format!("{{\"webhook_id\":\"{id}\"}}"));
    assert_eq!(
        place.value::<i64>("SELECT count(DISTINCT boot) FROM journal"),
        1
    );
    let apart = "SELECT (max(since_boot) - min(since_boot)) / 1000 FROM journal";
    let apart: i64 = place.value(apart);
    assert!((0..120).contains(&apart), "{apart} s");
    let shown = "SELECT (max(received_at) - min(received_at)) / 86400000 FROM journal";
    assert!(place.value::<i64>(shown) >= 3_000);
}

/// A gateway that will ask Belvo for `link` again in half an hour, and whose clock is set while it runs and waits.
fn set_while_it_waits(days_before: i64, days_after: i64) {
    let belvo = belvo();
    let (waiting, other) = (furnish(&belvo, 1), furnish(&belvo, 2));
    belvo.fail(
        When::path(ACCOUNTS).link(&waiting),
        Fault::error(400, "institution_down"),
    );
    let place = Place::new().on_a_bad_disk().fetching_from(&belvo);
    place.set_clock_ahead(days_before);
    let gateway = place.start();
    let ask = |link: &str| historical_update(Resource::Accounts, link, 2);
    assert_eq!(gateway.answers(ask(&waiting)), 200);
    place.until("SELECT count(*) FROM work WHERE attempts = 1", 1);
    place.set_clock_ahead(days_after);
    assert_eq!(gateway.answers(ask(&other)), 200);
    place.until("SELECT count(*) FROM work WHERE fetched >= wanted", 1);
    assert_eq!(asked_for(&belvo, &waiting), 1, "not all retries at once");
    gateway.stop();
    let gateway = place.start();
    assert_eq!(gateway.answers(ask(&other)), 200);
    place.until("SELECT count(*) FROM work WHERE fetched = 3", 1);
    assert_eq!(asked_for(&belvo, &waiting), 1, "not after a restart either");
    let shows = format!("strftime('%s', 'now') + {days_after} * 86400");
    let minutes: i64 = place.value(&format!(
        "SELECT (due_at / 1000 - ({shows})) / 60 FROM work WHERE attempts = 1"
    ));
    assert!((20..=33).contains(&minutes), "due in {minutes} minutes");
}

#[test]
fn a_clock_that_is_set_back_by_years_while_retries_wait_neither_fires_nor_parks_them() {
    set_while_it_waits(4_000, 0);
}

#[test]
fn a_clock_that_is_set_ahead_by_years_while_retries_wait_neither_fires_nor_parks_them() {
    set_while_it_waits(0, 4_000);
}

#[test]
fn a_clock_that_was_ahead_until_the_box_was_off_parks_no_retry() {
    let belvo = belvo();
    let link = furnish(&belvo, 1);
    belvo.fail(
        When::path(ACCOUNTS).link(&link),
        Fault::error(400, "institution_down"),
    );
    let place = Place::new().on_a_bad_disk().fetching_from(&belvo);
    place.set_clock_ahead(20);
    let gateway = place.start();
    gateway.answers(historical_update(Resource::Accounts, &link, 2));
    place.until("SELECT count(*) FROM work WHERE attempts = 1", 1);
    gateway.stop();
    place.set_clock_ahead(0);
    let _gateway = place.start();
    place.until(
        "SELECT due_at / 1000 - strftime('%s', 'now') BETWEEN 1200 AND 2000 FROM work WHERE attempts = 1",
        true,
    );
}

//! From a webhook to its objects: what is asked of Belvo, what is kept, and what becomes of errors.

use std::collections::HashSet;
use std::time::Duration;

use belvo_gateway::catalog::{RESOURCES, Shape, WEBHOOKS, resource_named};
use belvo_gateway::standin::objects::Household;
use belvo_gateway::standin::payloads::{Resource, historical_update, new_available};
use belvo_gateway::standin::{Fault, Lists, StandIn, When};

use crate::vocabulary::{LINK, Place, belvo, belvo_over_tls};

const TRANSACTIONS: &str = "/api/transactions/";
const ACCOUNTS: &str = "/api/accounts/";
const PATIENCE: Duration = Duration::from_secs(20);

/// Everything that Belvo has for one link.
fn furnish(belvo: &StandIn, seed: u64) -> Household {
    let mut house = Household::new(seed, 3);
    let link = house.link().to_owned();
    for resource in Resource::ALL {
        let count = match resource {
            Resource::Transactions => 150,
            Resource::InvestmentTransactions => 20,
            _ => 4,
        };
        belvo.put(resource.path(), &link, house.objects(resource, count));
    }
    belvo.put_link(&house.link_record());
    house
}

/// The bodies of a resource in the file are Belvo's, byte for byte, each once.
fn assert_kept(place: &Place, belvo: &StandIn, path: &str, link: &str) {
    let resource = RESOURCES
        .iter()
        .find(|resource| resource.path == path)
        .expect("a resource")
        .name;
    let sql =
        format!("SELECT body FROM objects WHERE resource = '{resource}' AND link_id = '{link}'");
    let (mut kept, mut wanted) = (place.column::<String>(&sql), belvo.objects(path, link));
    kept.sort();
    wanted.sort();
    assert!(
        kept == wanted,
        "{} {resource} and not {}",
        kept.len(),
        wanted.len()
    );
}

fn requests_for(belvo: &StandIn, path: &str) -> usize {
    belvo
        .requests()
        .iter()
        .filter(|request| request.path == path)
        .count()
}

#[test]
fn every_published_webhook_is_followed_to_its_rows() {
    let belvo = belvo();
    let place = Place::new()
        .with_tls()
        .with_authorization()
        .fetching_from(&belvo);
    let gateway = place.start();
    let payloads = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/payloads"))
        .expect("payloads");
    let mut seq = 0;
    for (seed, file) in payloads
        .flatten()
        .filter(|file| file.path().extension().is_some_and(|end| end == "json"))
        .enumerate()
    {
        let name = file.path();
        let house = furnish(&belvo, seed as u64 + 100);
        let payload = std::fs::read_to_string(file.path()).expect("a payload");
        let parsed = serde_json::from_str::<serde_json::Value>(&payload).expect("JSON");
        let payload = match parsed["link_id"].as_str() {
            Some(link) => payload.replace(link, house.link()),
            None => payload,
        };
        assert_eq!(gateway.answers(&payload), 200, "{name:?}");
        seq += 1;
        assert_eq!(
            place.value::<String>(&format!("SELECT body FROM journal WHERE seq = {seq}")),
            payload
        );
        let state = if parsed["link_id"].is_string() {
            "done"
        } else {
            "nothing-to-do"
        };
        place.until(
            &format!("SELECT state FROM inbox WHERE seq = {seq}"),
            state.to_owned(),
        );
        place.until_fetched();
        let action: String = place.value(&format!("SELECT action FROM events WHERE seq = {seq}"));
        let listed: Vec<String> = place.column(&format!(
            "SELECT resource FROM work WHERE link_id = '{}'",
            house.link()
        ));
        for resource in listed.iter().filter_map(|name| resource_named(name)) {
            if RESOURCES.contains(resource) && resource.shape == Shape::List && action == "fetch" {
                assert_kept(&place, &belvo, resource.path, house.link());
            }
        }
    }
    assert_eq!(seq, WEBHOOKS.len() as i64);
    for resource in Resource::ALL {
        assert!(
            place.value::<i64>(&format!("SELECT count(*) FROM {}", resource.name())) > 0,
            "{resource:?}"
        );
    }
    assert_eq!(
        place.column::<String>(
            "SELECT kind FROM attention WHERE kind NOT IN ('link-blocked', 'consent-expiring', 'consent-ended', 'consent-limited')"
        ),
        [""; 0]
    );
}

#[test]
fn amounts_come_out_of_the_file_as_belvo_sent_them() {
    let belvo = belvo();
    let objects = ["0.10", "12345678901234.560", "1e-7", "-0.0", "100"];
    let object = |amount: &&str| {
        format!(
            r#"{{"id":"id-{amount}","amount":{amount},"currency":"BRL","account":{{"id":"a","link":"{LINK}"}}}}"#
        )
    };
    belvo.put(TRANSACTIONS, LINK, objects.iter().map(object).collect());
    let place = Place::new().fetching_from(&belvo);
    let gateway = place.start();
    gateway.answers(historical_update(Resource::Transactions, LINK, 5));
    place.until_fetched();
    let mut amounts: Vec<String> = place.column("SELECT amount FROM transactions");
    let mut wanted = objects.map(str::to_owned);
    amounts.sort();
    wanted.sort();
    assert_eq!(amounts, wanted);
}

#[test]
fn a_listing_is_asked_for_page_by_page_with_declared_parameters_only() {
    let belvo = belvo();
    let mut house = Household::new(1, 1);
    let transactions = house.transactions(2_001);
    belvo.put(TRANSACTIONS, house.link(), transactions);
    let place = Place::new().fetching_from(&belvo);
    let gateway = place.start();
    gateway.answers(new_available(Resource::Transactions, house.link(), 1));
    place.until_fetched();
    let queries: Vec<_> = belvo
        .requests()
        .into_iter()
        .map(|request| request.query)
        .collect();
    let query = |page| format!("link={}&page={page}&page_size=1000", house.link());
    assert_eq!(queries, [query(1), query(2), query(3)]);
    assert_kept(&place, &belvo, TRANSACTIONS, house.link());
}

#[test]
fn many_webhooks_about_the_same_list_during_a_fetch_lead_to_one_more_fetch() {
    let belvo = belvo();
    let house = furnish(&belvo, 2);
    let place = Place::new().fetching_from(&belvo);
    let gateway = place.start();
    let held = belvo.hold(When::path(ACCOUNTS));
    gateway.answers(historical_update(Resource::Accounts, house.link(), 3));
    assert!(held.wait_reached(PATIENCE));
    for _ in 0..10 {
        gateway.answers(new_available(Resource::Accounts, house.link(), 1));
    }
    place.until("SELECT wanted FROM work", 11);
    held.release();
    place.until_fetched();
    assert_eq!(requests_for(&belvo, ACCOUNTS), 2);
}

#[test]
fn an_object_whose_bytes_did_not_change_is_not_written_again() {
    let belvo = belvo();
    let house = furnish(&belvo, 3);
    let place = Place::new().fetching_from(&belvo);
    let gateway = place.start();
    gateway.answers(historical_update(Resource::Accounts, house.link(), 3));
    place.until_fetched();
    let mut accounts = house.accounts();
    accounts[0] = accounts[0].replacen('{', "{ ", 1);
    belvo.put(ACCOUNTS, house.link(), accounts);
    gateway.answers(new_available(Resource::Accounts, house.link(), 1));
    place.until("SELECT fetched FROM work", 2);
    assert_eq!(
        place.value::<i64>("SELECT count(*) FROM objects WHERE seq = 1"),
        2
    );
    assert_eq!(
        place.value::<i64>("SELECT count(*) FROM objects WHERE seq = 2"),
        1
    );
    assert_eq!(place.value::<i64>("SELECT objects_changed FROM work"), 1);
    assert_kept(&place, &belvo, ACCOUNTS, house.link());
}

/// Lists a link's transactions while `change` happens between the first page and the second.
fn listed_while(change: impl FnOnce(&mut Lists, &str, Household) + Send + 'static) {
    let belvo = belvo();
    let mut house = Household::new(4, 1);
    let (transactions, link) = (house.transactions(2_100), house.link().to_owned());
    belvo.put(TRANSACTIONS, &link, transactions.clone());
    let first = serde_json::from_str::<serde_json::Value>(&transactions[0]).expect("JSON");
    let mut once = Some((
        change,
        first["id"].as_str().expect("an id").to_owned(),
        house,
    ));
    belvo.change_after(When::path(TRANSACTIONS).page(1), move |lists| {
        if let Some((change, first, house)) = once.take() {
            change(lists, &first, house);
        }
    });
    let place = Place::new().fetching_from(&belvo);
    let gateway = place.start();
    gateway.answers(historical_update(Resource::Transactions, &link, 2_100));
    place.until_fetched();
    let kept: HashSet<String> = place
        .column("SELECT body FROM objects")
        .into_iter()
        .collect();
    for object in belvo.objects(TRANSACTIONS, &link) {
        assert!(kept.contains(&object), "{object} is missing");
    }
    assert_eq!(place.value::<i64>("SELECT count(*) FROM attention"), 0);
}

#[test]
fn a_listing_that_loses_an_object_between_its_pages_ends_complete() {
    listed_while(|lists, first, _| assert!(lists.remove(TRANSACTIONS, first)));
}

#[test]
fn a_listing_that_gains_an_object_between_its_pages_ends_complete() {
    listed_while(|lists, _, mut house| {
        let link = house.link().to_owned();
        let late = house.transactions(1);
        lists.add(TRANSACTIONS, &link, late);
    });
}

#[test]
fn a_listing_that_never_agrees_with_its_count_is_said_to_be_so_and_ends() {
    let belvo = belvo();
    let mut house = Household::new(5, 1);
    let transactions = house.transactions(1_500);
    belvo.put(TRANSACTIONS, house.link(), transactions);
    let link = house.link().to_owned();
    let mut more = house.transactions(10).into_iter();
    belvo.change_after(When::path(TRANSACTIONS).page(1).always(), move |lists| {
        lists.add(TRANSACTIONS, &link, more.next().into_iter().collect());
    });
    let place = Place::new().fetching_from(&belvo);
    let gateway = place.start();
    gateway.answers(historical_update(
        Resource::Transactions,
        house.link(),
        1_500,
    ));
    place.until_fetched();
    assert_eq!(
        place.value::<String>("SELECT kind FROM attention"),
        "listing-unstable"
    );
    assert_eq!(requests_for(&belvo, TRANSACTIONS), 6);
}

#[test]
fn a_temporary_error_is_tried_again_on_belvos_schedule() {
    let belvo = belvo();
    let house = furnish(&belvo, 6);
    belvo.fail(
        When::path(ACCOUNTS),
        Fault::error(503, "service_unavailable"),
    );
    let place = Place::new().fetching_from(&belvo);
    let gateway = place.start();
    gateway.answers(historical_update(Resource::Accounts, house.link(), 3));
    place.until("SELECT attempts FROM work", 1);
    assert_eq!(
        place.value::<String>("SELECT error_class FROM work"),
        "temporary"
    );
    assert!(
        place
            .value::<String>("SELECT last_error FROM work")
            .contains("503 service_unavailable (request_id ")
    );
    assert_eq!(place.value::<String>("SELECT state FROM inbox"), "waiting");
    place.until_fetched();
    let came: Vec<_> = belvo
        .requests()
        .iter()
        .map(|request| request.came)
        .collect();
    let waited = came[1] - came[0];
    assert!(
        waited >= Duration::from_millis(2_900) && waited < Duration::from_secs(8),
        "{waited:?}"
    );
    assert_eq!(place.value::<i64>("SELECT count(*) FROM problems"), 0);
}

#[test]
fn broken_answers_are_temporary_and_never_store_half_a_listing_as_complete() {
    for fault in [Fault::Truncated, Fault::NotJson, Fault::Closed] {
        let belvo = belvo();
        let house = furnish(&belvo, 7);
        belvo.fail(When::path(ACCOUNTS), fault.clone());
        let place = Place::new().fetching_from(&belvo);
        let gateway = place.start();
        gateway.answers(historical_update(Resource::Accounts, house.link(), 3));
        place.until_logged(&["a fetch failed", "error_class=\"temporary\""]);
        assert_eq!(
            place.value::<i64>("SELECT fetched FROM work"),
            0,
            "{fault:?}"
        );
        place.until_fetched();
        assert_kept(&place, &belvo, ACCOUNTS, house.link());
    }
}

#[test]
fn an_answer_without_end_costs_bounded_memory_and_blocks_nothing_else() {
    let belvo = belvo();
    let house = furnish(&belvo, 8);
    belvo.fail(When::path(TRANSACTIONS).always(), Fault::Endless);
    let place = Place::new().fetching_from(&belvo);
    let gateway = place.start();
    gateway.answers(historical_update(Resource::Transactions, house.link(), 3));
    gateway.answers(historical_update(Resource::Accounts, house.link(), 3));
    place.until(
        "SELECT count(*) FROM attention WHERE kind = 'fetch-failed'",
        1,
    );
    place.until(
        "SELECT count(*) FROM work WHERE resource = 'accounts' AND fetched >= wanted",
        1,
    );
    let kib = gateway.peak_kib();
    assert!(kib < 64 * 1024, "{kib} KiB");
}

#[test]
fn wrong_keys_stop_all_fetching_after_one_request_and_are_one_problem() {
    let belvo = belvo();
    let house = furnish(&belvo, 9);
    let place = Place::new().fetching_from(&belvo);
    place.secret("password", "not it");
    let gateway = place.start();
    for resource in Resource::BANKING {
        gateway.answers(historical_update(resource, house.link(), 3));
    }
    place.until("SELECT kind FROM attention", "api-keys-refused".to_owned());
    place.until("SELECT count(*) FROM events", 7);
    assert_eq!(belvo.requests().len(), 1);
    assert!(!place.log().contains("not it"));
}

#[test]
fn a_permanent_error_is_a_problem_with_its_next_step_and_a_newer_webhook_tries_again() {
    let belvo = belvo();
    let house = furnish(&belvo, 10);
    belvo.fail(
        When::path(ACCOUNTS),
        Fault::error(403, "access_to_resource_denied"),
    );
    let place = Place::new().fetching_from(&belvo);
    let gateway = place.start();
    gateway.answers(historical_update(Resource::Accounts, house.link(), 3));
    place.until("SELECT state FROM inbox WHERE seq = 1", "failed".to_owned());
    assert!(
        place
            .value::<String>("SELECT text FROM attention")
            .contains("403 access_to_resource_denied")
    );
    assert!(
        place
            .value::<String>("SELECT next_step FROM attention")
            .contains("request_id")
    );
    gateway.answers(new_available(Resource::Accounts, house.link(), 1));
    place.until_fetched();
    assert_eq!(place.value::<i64>("SELECT count(*) FROM attention"), 0);
}

#[test]
fn a_redirect_is_not_followed() {
    let (belvo, elsewhere) = (belvo(), belvo());
    let house = furnish(&belvo, 13);
    belvo.fail(
        When::path(ACCOUNTS),
        Fault::Redirect(format!("{}{ACCOUNTS}", elsewhere.base_url())),
    );
    let place = Place::new().fetching_from(&belvo);
    let gateway = place.start();
    gateway.answers(historical_update(Resource::Accounts, house.link(), 3));
    place.until_logged(&["a fetch failed", "error_class=\"temporary\"", "302"]);
    place.until_fetched();
    assert_kept(&place, &belvo, ACCOUNTS, house.link());
    assert_eq!(elsewhere.requests().len(), 0);
}

#[test]
fn an_object_without_an_id_is_a_problem_and_not_an_invented_key() {
    let belvo = belvo();
    let house = furnish(&belvo, 14);
    let mut accounts = house.accounts();
    accounts.push(r#"{"name":"nameless"}"#.to_owned());
    belvo.put(ACCOUNTS, house.link(), accounts);
    let place = Place::new().fetching_from(&belvo);
    let gateway = place.start();
    gateway.answers(historical_update(Resource::Accounts, house.link(), 4));
    place.until_fetched();
    assert_eq!(place.value::<i64>("SELECT count(*) FROM objects"), 3);
    assert_eq!(
        place.value::<String>("SELECT kind FROM attention"),
        "object-without-id"
    );
}

#[test]
fn pages_too_large_to_take_are_asked_for_with_fewer_objects() {
    let belvo = belvo();
    let blob = "x".repeat(300_000);
    let objects = (0..60)
        .map(|id| format!(r#"{{"id":"{id}","link":"{LINK}","pdf":"{blob}"}}"#))
        .collect();
    belvo.put("/api/owners/", LINK, objects);
    let place = Place::new().fetching_from(&belvo);
    let gateway = place.start();
    gateway.answers(historical_update(Resource::Owners, LINK, 60));
    place.until_fetched();
    assert_kept(&place, &belvo, "/api/owners/", LINK);
}

#[test]
fn two_thousand_webhooks_sent_while_the_api_is_away_are_answered_kept_and_fetched_when_it_is_back()
{
    let belvo = belvo();
    let houses: Vec<_> = (0..40).map(|seed| furnish(&belvo, 1_000 + seed)).collect();
    belvo.stop();
    let place = Place::new().fetching_from(&belvo);
    let gateway = place.start();
    gateway.takes_in(2_000, |number| {
        let resource = Resource::BANKING[number % Resource::BANKING.len()];
        historical_update(resource, houses[number % houses.len()].link(), 1)
    });
    assert_eq!(place.value::<i64>("SELECT count(*) FROM journal"), 2_000);
    place.until("SELECT count(*) FROM events WHERE action = 'fetch'", 2_000);
    belvo.restart().expect("the same port");
    // It is asked once a minute whether it is back.
    place.until_within(
        "SELECT count(*) FROM work WHERE wanted > fetched",
        0,
        Duration::from_secs(120),
    );
    for house in &houses {
        for resource in Resource::BANKING {
            assert_kept(&place, &belvo, resource.path(), house.link());
        }
    }
}

#[test]
fn while_the_file_cannot_be_written_belvo_is_not_asked_again_and_again() {
    let belvo = belvo();
    let house = furnish(&belvo, 20);
    let place = Place::new().fetching_from(&belvo).on_a_bad_disk();
    let gateway = place.start();
    let held = belvo.hold(When::path(ACCOUNTS));
    gateway.answers(historical_update(Resource::Accounts, house.link(), 3));
    assert!(held.wait_reached(PATIENCE));
    place.break_disk("fail-write");
    held.release();
    place.until_logged(&["could not be read or written", "seconds=4"]);
    assert!(belvo.requests().len() <= 4, "{}", belvo.requests().len());
    place.mend_disk("fail-write");
    place.until_fetched();
    assert_kept(&place, &belvo, ACCOUNTS, house.link());
}

#[test]
fn what_was_unknown_is_planned_again_by_a_program_that_knows_it() {
    let belvo = belvo();
    let house = furnish(&belvo, 21);
    let place = Place::new().fetching_from(&belvo);
    let gateway = place.start();
    gateway.answers(historical_update(Resource::Accounts, house.link(), 3));
    gateway.answers(r#"{"webhook_type":"WEATHER","webhook_code":"sunny"}"#);
    place.until_fetched();
    assert!(gateway.stop().0.success());
    // As a program would have left it that did not know the first of the two.
    let file = rusqlite::Connection::open(place.state().join("gateway.db")).expect("a file");
    file.execute_batch(
        "UPDATE events SET action = 'unknown', resource = NULL; DELETE FROM work; DELETE FROM objects;
         UPDATE meta SET value = 'fewer' WHERE key = 'catalog'",
    )
    .expect("an older file");
    drop(file);
    let _gateway = place.start();
    place.until(
        "SELECT group_concat(state, ' ') FROM (SELECT state FROM inbox ORDER BY seq)",
        "done unknown".to_owned(),
    );
    assert_kept(&place, &belvo, ACCOUNTS, house.link());
}

#[test]
fn the_api_is_trusted_by_its_certificate_and_by_nothing_else() {
    let place = Place::new().with_tls();
    let belvo = belvo_over_tls(&place);
    let house = furnish(&belvo, 22);
    let place = place.fetching_from(&belvo);
    let gateway = place.start();
    gateway.answers(historical_update(Resource::Accounts, house.link(), 3));
    place.until_logged(&[
        "a fetch failed",
        "error_class=\"temporary\"",
        "invalid peer certificate",
    ]);
    assert!(gateway.stop().0.success());
    assert_eq!(belvo.requests().len(), 0);
    let place = place.trusting_its_own_authority();
    let _gateway = place.start();
    place.until_fetched();
    assert_kept(&place, &belvo, ACCOUNTS, house.link());
}

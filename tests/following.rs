//! What webhooks say besides "there is data": links and consents that need their user, deletions, updates by id, what is
//! new, countries, histories, and everything that must not mislead a fetch.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use belvo_gateway::catalog::RESOURCES;
use belvo_gateway::fetch::{CODES, Class};
use belvo_gateway::limits::{EDGE_REQUESTS_MAX, EDGE_WINDOW};
use belvo_gateway::standin::objects::{Household, institutions};
use belvo_gateway::standin::payloads::{
    Resource, consent_event, historical_update, link_event, new_available, transactions_deleted,
    transactions_updated,
};
use belvo_gateway::standin::{ERRORS, Fault, StandIn, When};
use serde_json::Value;

use crate::vocabulary::{LINK, Place, belvo};

const TRANSACTIONS: &str = "/api/transactions/";
const ACCOUNTS: &str = "/api/accounts/";
const OWNERS: &str = "/api/owners/";
const LINKS: &str = "/api/links/";
const CONSENT: &str = "9e763d19-15a4-410c-a106-18c0f60ca5eb";
const PATIENCE: Duration = Duration::from_secs(20);

/// A link with accounts, owners, transactions and its record.
fn furnish(belvo: &StandIn, seed: u64, transactions: usize) -> Household {
    let mut house = Household::new(seed, 2);
    let link = house.link().to_owned();
    belvo.put(ACCOUNTS, &link, house.accounts());
    belvo.put(OWNERS, &link, house.owners());
    belvo.put(TRANSACTIONS, &link, house.transactions(transactions));
    belvo.put_link(&house.link_record());
    house
}

fn ids(objects: &[String]) -> Vec<String> {
    let id = |text: &String| {
        let object: Value = serde_json::from_str(text).expect("JSON");
        object["id"].as_str().expect("an id").to_owned()
    };
    objects.iter().map(id).collect()
}

/// Paths and queries asked for so far.
fn asked(belvo: &StandIn) -> Vec<String> {
    let requests = belvo.requests().into_iter();
    requests
        .map(|request| match request.query.as_str() {
            "" => request.path,
            query => format!("{}?{query}", request.path),
        })
        .collect()
}

fn asked_for(belvo: &StandIn, path: &str) -> usize {
    let requests = belvo.requests();
    requests
        .iter()
        .filter(|request| request.path == path)
        .count()
}

fn state_of(place: &Place, seq: i64, state: &str) {
    place.until(
        &format!("SELECT state FROM inbox WHERE seq = {seq}"),
        state.to_owned(),
    );
}

// Links.

#[test]
fn a_link_that_needs_its_user_stops_only_its_own_fetches_until_an_event_says_that_it_works() {
    let belvo = belvo();
    let (broken, whole) = (furnish(&belvo, 1, 5), furnish(&belvo, 2, 5));
    belvo.fail(
        When::path(ACCOUNTS).link(broken.link()),
        Fault::TokenRequired {
            link: broken.link().to_owned(),
        },
    );
    let place = Place::new().fetching_from(&belvo);
    let gateway = place.start();
    gateway.answers(historical_update(Resource::Accounts, broken.link(), 2));
    state_of(&place, 1, "blocked");
    gateway.answers(transactions_updated(broken.link(), &[LINK]));
    gateway.answers(historical_update(Resource::Accounts, whole.link(), 2));
    state_of(&place, 3, "done");
    assert_eq!(
        place.column::<String>("SELECT kind || ': ' || subject FROM attention"),
        [format!("link-blocked: link {}", broken.link())]
    );
    gateway.answers(new_available(Resource::Owners, broken.link(), 1));
    place.until_fetched();
    for seq in 1..=4 {
        state_of(&place, seq, "done");
    }
    assert_eq!(place.value::<i64>("SELECT count(*) FROM attention"), 0);
}

#[test]
fn while_a_link_is_blocked_nothing_of_it_is_asked_for_but_its_record() {
    let belvo = belvo();
    let house = furnish(&belvo, 3, 5);
    let mut record = house.link_record();
    record.status = "invalid";
    belvo.put_link(&record);
    let place = Place::new().fetching_from(&belvo);
    let gateway = place.start();
    gateway.answers(link_event(house.link(), "invalid_credentials"));
    state_of(&place, 1, "done");
    let link = format!("WHERE link_id = '{}'", house.link());
    place.until(
        &format!(
            "SELECT status || ' ' || institution FROM links {link} AND institution IS NOT NULL"
        ),
        format!("invalid {}", record.institution),
    );
    assert_eq!(
        place.value::<String>(&format!("SELECT body FROM links {link}")),
        record.text()
    );
    assert!(
        place
            .value::<String>("SELECT next_step FROM attention WHERE kind = 'link-blocked'")
            .contains("update the credentials")
    );
    assert_eq!(asked(&belvo), [format!("{LINKS}{}/", house.link())]);
}

#[test]
fn a_record_that_a_webhook_outran_is_read_once_more() {
    let belvo = belvo();
    let house = furnish(&belvo, 4, 5);
    let place = Place::new().fetching_from(&belvo);
    let gateway = place.start();
    let held = belvo.hold(When::path(&format!("{LINKS}{}/", house.link())));
    gateway.answers(link_event(house.link(), "token_required"));
    assert!(held.wait_reached(PATIENCE));
    // It says nothing about whether the link works, and yet the answer may be older than it.
    let unknown = format!(
        r#"{{"webhook_type":"WEATHER","webhook_code":"sunny","link_id":"{}"}}"#,
        house.link()
    );
    gateway.answers(unknown);
    place.until("SELECT count(*) FROM events", 2);
    held.release();
    let status = format!(
        "SELECT status FROM links WHERE link_id = '{}'",
        house.link()
    );
    place.until(&status, "valid".to_owned());
    assert_eq!(asked(&belvo).len(), 2);
}

#[test]
fn a_deleted_link_has_its_work_cancelled_and_keeps_its_rows() {
    let belvo = belvo();
    let house = furnish(&belvo, 4, 5);
    let place = Place::new().fetching_from(&belvo);
    let gateway = place.start();
    gateway.answers(historical_update(Resource::Accounts, house.link(), 2));
    place.until_fetched();
    belvo.fail(
        When::path(OWNERS).always(),
        Fault::error(503, "service_unavailable"),
    );
    gateway.answers(historical_update(Resource::Owners, house.link(), 1));
    place.until(
        "SELECT attempts > 0 FROM work WHERE resource = 'owners'",
        true,
    );
    gateway.answers(link_event(house.link(), "link_deleted"));
    state_of(&place, 2, "cancelled");
    state_of(&place, 3, "done");
    assert_eq!(place.value::<String>("SELECT status FROM links"), "deleted");
    assert_eq!(
        place.value::<i64>("SELECT count(*) FROM accounts WHERE link_deleted"),
        2
    );
    assert_eq!(place.value::<i64>("SELECT count(*) FROM attention"), 0);
}

#[test]
fn a_list_that_is_gone_with_its_link_leads_to_the_links_end() {
    let belvo = belvo();
    let house = furnish(&belvo, 5, 5);
    belvo.delete_link(house.link());
    belvo.fail(When::path(ACCOUNTS), Fault::error(404, "not_found"));
    let place = Place::new().fetching_from(&belvo);
    let gateway = place.start();
    gateway.answers(historical_update(Resource::Accounts, house.link(), 2));
    place.until(
        "SELECT status FROM links WHERE status = 'deleted'",
        "deleted".to_owned(),
    );
    assert_eq!(asked(&belvo)[1..], [format!("{LINKS}{}/", house.link())]);
}

#[test]
fn a_deleted_link_that_speaks_is_looked_at_before_anything_else() {
    let belvo = belvo();
    let house = furnish(&belvo, 6, 5);
    let place = Place::new().fetching_from(&belvo);
    let gateway = place.start();
    gateway.answers(link_event(house.link(), "link_deleted"));
    state_of(&place, 1, "done");
    gateway.answers(historical_update(Resource::Accounts, house.link(), 2));
    place.until_fetched();
    let asked = asked(&belvo);
    assert_eq!(asked[0], format!("{LINKS}{}/", house.link()));
    assert!(asked[1].starts_with(ACCOUNTS));
    assert_eq!(place.value::<String>("SELECT status FROM links"), "valid");
}

#[test]
fn when_all_of_a_link_is_said_to_be_ready_what_was_never_fetched_is_fetched() {
    let belvo = belvo();
    let house = furnish(&belvo, 7, 5);
    let mut record = house.link_record();
    record.fetch_resources = vec!["ACCOUNTS", "OWNERS", "TRANSACTIONS", "SOMETHING_NEW"];
    belvo.put_link(&record);
    let place = Place::new().fetching_from(&belvo);
    let gateway = place.start();
    gateway.answers(historical_update(Resource::Accounts, house.link(), 2));
    place.until_fetched();
    gateway.answers(link_event(
        house.link(),
        "historical_update_progress_complete",
    ));
    place.until("SELECT count(*) FROM work WHERE wanted <= fetched", 4);
    assert_eq!(
        [ACCOUNTS, OWNERS, TRANSACTIONS].map(|path| asked_for(&belvo, path)),
        [1, 1, 1]
    );
}

// Consents.

#[test]
fn a_consent_that_ends_soon_says_what_its_user_has_to_do_until_it_is_renewed() {
    let belvo = belvo();
    let house = furnish(&belvo, 8, 5);
    let mut record = house.consent_record();
    let due = "2027-01-26T10:45:58.000Z";
    record.expired_at = Some("2027-01-26T10:45:58Z".to_owned());
    belvo.put_consent(&record);
    let place = Place::new().fetching_from(&belvo);
    let gateway = place.start();
    let event = consent_event(
        house.link(),
        &record.id,
        "openfinance_consent_about_to_expire",
        Some(due),
    );
    gateway.answers(&event);
    state_of(&place, 1, "done");
    place.until("SELECT count(*) FROM consents WHERE body IS NOT NULL", 1);
    assert_eq!(
        place.value::<String>("SELECT status FROM consents"),
        "expiring"
    );
    assert_eq!(
        place.value::<String>("SELECT body FROM consents"),
        record.text()
    );
    let next_step: String = place.value("SELECT next_step FROM attention");
    assert!(
        next_step.contains(&format!("consent_id={}", record.id)),
        "{next_step}"
    );
    assert!(event.contains(&place.value::<String>("SELECT renewal FROM consents")));
    record.expired_at = Some("2028-01-26T10:45:58Z".to_owned());
    belvo.put_consent(&record);
    gateway.answers(consent_event(
        house.link(),
        &record.id,
        "openfinance_consent_expiration_changed",
        None,
    ));
    place.until("SELECT status FROM consents", "authorised".to_owned());
    assert_eq!(place.value::<i64>("SELECT count(*) FROM attention"), 0);
}

#[test]
fn an_expired_consent_is_looked_at_again_when_data_comes_for_its_link() {
    let belvo = belvo();
    let house = furnish(&belvo, 9, 5);
    let mut record = house.consent_record();
    record.status = "EXPIRED";
    belvo.put_consent(&record);
    let place = Place::new().fetching_from(&belvo);
    let gateway = place.start();
    gateway.answers(consent_event(
        house.link(),
        &record.id,
        "consent_expired",
        None,
    ));
    state_of(&place, 1, "done");
    assert_eq!(
        place.value::<String>("SELECT kind FROM attention"),
        "consent-ended"
    );
    record.status = "AUTHORISED";
    belvo.put_consent(&record);
    gateway.answers(new_available(Resource::Owners, house.link(), 1));
    place.until("SELECT status FROM consents", "authorised".to_owned());
    assert_eq!(place.value::<i64>("SELECT count(*) FROM attention"), 0);
}

#[test]
fn a_consent_that_belvo_does_not_know_is_noted_all_the_same() {
    let belvo = belvo();
    let house = furnish(&belvo, 10, 5);
    let place = Place::new().fetching_from(&belvo);
    let gateway = place.start();
    gateway.answers(consent_event(
        house.link(),
        CONSENT,
        "consent_revoked",
        None,
    ));
    state_of(&place, 1, "done");
    assert_eq!(
        place.value::<String>("SELECT status FROM consents"),
        "revoked"
    );
}

// Deletions and updates.

#[test]
fn a_deletion_holds_against_a_fetch_that_is_already_running() {
    let belvo = belvo();
    let house = furnish(&belvo, 11, 1_500);
    let transactions = belvo.objects(TRANSACTIONS, house.link());
    let all = ids(&transactions);
    let place = Place::new().fetching_from(&belvo);
    let gateway = place.start();
    let held = belvo.hold(When::path(TRANSACTIONS).page(2));
    gateway.answers(historical_update(
        Resource::Transactions,
        house.link(),
        1_500,
    ));
    assert!(held.wait_reached(PATIENCE));
    // One that is stored already, one that the fetch is about to bring, and one that nobody has seen.
    let gone = [all[0].as_str(), all[1_499].as_str(), LINK];
    gateway.answers(transactions_deleted(house.link(), &gone));
    place.until(
        "SELECT count(*) FROM objects WHERE deleted_by = 2 AND deleted_at IS NOT NULL",
        3,
    );
    held.release();
    place.until_fetched();
    assert_eq!(
        place.value::<i64>("SELECT count(*) FROM transactions WHERE deleted"),
        3
    );
    assert_eq!(
        place.value::<i64>("SELECT count(*) FROM transactions WHERE NOT deleted"),
        1_498
    );
}

#[test]
fn only_a_later_complete_list_brings_a_deleted_object_back_and_says_so() {
    let belvo = belvo();
    let house = furnish(&belvo, 12, 3);
    let all = ids(&belvo.objects(TRANSACTIONS, house.link()));
    let place = Place::new().fetching_from(&belvo);
    let gateway = place.start();
    gateway.answers(historical_update(Resource::Transactions, house.link(), 3));
    place.until_fetched();
    gateway.answers(transactions_deleted(house.link(), &all[..1]));
    state_of(&place, 2, "done");
    let deleted = "SELECT count(*) FROM transactions WHERE deleted";
    gateway.answers(transactions_updated(house.link(), &all[..1]));
    gateway.answers(new_available(Resource::Transactions, house.link(), 1));
    state_of(&place, 4, "done");
    place.until_fetched();
    assert_eq!(
        place.value::<i64>(deleted),
        1,
        "neither by id nor by what is new"
    );
    belvo.fail(When::path(TRANSACTIONS).times(3), Fault::Count(7));
    gateway.answers(historical_update(Resource::Transactions, house.link(), 3));
    state_of(&place, 5, "done");
    place.until_fetched();
    assert_eq!(
        place.value::<i64>(deleted),
        1,
        "not by a list that is not complete"
    );
    gateway.answers(historical_update(Resource::Transactions, house.link(), 3));
    place.until(deleted, 0);
    assert_eq!(
        place.value::<String>("SELECT kind FROM attention WHERE kind = 'deleted-returned'"),
        "deleted-returned"
    );
}

#[test]
fn few_updated_transactions_are_fetched_by_id_and_many_by_their_list() {
    let belvo = belvo();
    let house = furnish(&belvo, 13, 60);
    let mut transactions = belvo.objects(TRANSACTIONS, house.link());
    let all = ids(&transactions);
    let place = Place::new().fetching_from(&belvo);
    let gateway = place.start();
    gateway.answers(historical_update(Resource::Transactions, house.link(), 60));
    place.until_fetched();
    for transaction in &mut transactions {
        *transaction = transaction.replacen('{', "{ ", 1);
    }
    belvo.put(TRANSACTIONS, house.link(), transactions);
    belvo.forget_requests();
    gateway.answers(transactions_updated(
        house.link(),
        &[&all[0], &all[1], &LINK.to_owned()],
    ));
    state_of(&place, 2, "done");
    place.until_fetched();
    assert_eq!(
        asked_for(&belvo, TRANSACTIONS),
        0,
        "the list is not asked for"
    );
    assert_eq!(
        place.value::<i64>("SELECT count(*) FROM objects WHERE body LIKE '{ %'"),
        2
    );
    assert_eq!(
        place.value::<i64>("SELECT count(*) FROM work WHERE object_id <> ''"),
        0,
        "what is done for good is forgotten"
    );
    gateway.answers(transactions_updated(house.link(), &all));
    place.until("SELECT count(*) FROM objects WHERE body LIKE '{ %'", 60);
    assert_eq!(asked_for(&belvo, TRANSACTIONS), 1);
}

#[test]
fn a_deletion_of_ten_thousand_objects_is_marked_whole() {
    let belvo = belvo();
    let place = Place::new().fetching_from(&belvo);
    let gateway = place.start();
    let gone: Vec<String> = (0..10_000)
        .map(|number| format!("0a5d7f9e-6f0c-4c25-9d3a-{number:012}"))
        .collect();
    gateway.answers(transactions_deleted(LINK, &gone));
    state_of(&place, 1, "done");
    assert_eq!(
        place.value::<i64>("SELECT count(*) FROM transactions WHERE deleted AND body IS NULL"),
        10_000
    );
}

#[test]
fn what_belvo_could_not_collect_is_a_problem_beside_the_fetch_until_it_can() {
    let belvo = belvo();
    let house = furnish(&belvo, 14, 3);
    let place = Place::new().fetching_from(&belvo);
    let gateway = place.start();
    let with_errors = historical_update(Resource::Owners, house.link(), 1).replacen(
        "\"data\":{",
        "\"data\":{\"errors\":[{\"code\":\"institution_down\",\"message\":\"Maria\"}],",
        1,
    );
    gateway.answers(&with_errors);
    place.until_fetched();
    assert_eq!(place.value::<i64>("SELECT count(*) FROM owners"), 1);
    let text: String = place.value("SELECT text FROM attention WHERE kind = 'retrieval-failed'");
    assert!(
        text.contains("institution_down") && !text.contains("Maria"),
        "{text}"
    );
    gateway.answers(new_available(Resource::Owners, house.link(), 1));
    place.until("SELECT count(*) FROM attention", 0);
}

// What is new.

/// The same object, created at another time. Its account, which is inside it, has a time of its own.
fn created_at(object: &str, time: &str) -> String {
    let mut parsed: Value = serde_json::from_str(object).expect("JSON");
    parsed["created_at"] = time.into();
    parsed.to_string()
}

#[test]
fn twenty_thousand_transactions_cost_few_requests_and_what_is_new_costs_two_at_most() {
    let belvo = belvo();
    let house = furnish(&belvo, 15, 20_000);
    let place = Place::new().fetching_from(&belvo);
    let gateway = place.start();
    gateway.answers(historical_update(
        Resource::Transactions,
        house.link(),
        20_000,
    ));
    place.until_fetched();
    let history = belvo.requests().len();
    assert!(history <= 22, "{history} requests");
    let late = Household::new(16, 1)
        .transactions(700)
        .iter()
        .map(|text| created_at(text, "2099-01-01T00:00:00.000Z"))
        .collect();
    belvo.change(|lists| lists.add(TRANSACTIONS, house.link(), late));
    for seq in 2..5 {
        belvo.forget_requests();
        gateway.answers(new_available(Resource::Transactions, house.link(), 700));
        state_of(&place, seq, "done");
        place.until_fetched();
        let asked = asked(&belvo);
        assert!(asked.len() <= 2, "{asked:?}");
        assert!(asked[0].contains("created_at__gte="), "{asked:?}");
    }
    assert_eq!(
        place.value::<i64>("SELECT count(*) FROM transactions"),
        20_700
    );
}

#[test]
fn the_whole_list_is_read_again_after_one_that_never_agreed_with_its_count() {
    let belvo = belvo();
    let house = furnish(&belvo, 17, 5);
    belvo.fail(When::path(TRANSACTIONS).times(3), Fault::Count(7));
    let place = Place::new().fetching_from(&belvo);
    let gateway = place.start();
    gateway.answers(historical_update(Resource::Transactions, house.link(), 5));
    place.until_fetched();
    belvo.forget_requests();
    for (seq, filtered) in [(2, false), (3, true)] {
        gateway.answers(new_available(Resource::Transactions, house.link(), 1));
        state_of(&place, seq, "done");
        place.until_fetched();
        let last = asked(&belvo).pop().expect("a request");
        assert_eq!(last.contains("created_at__gte="), filtered, "{last}");
    }
}

#[test]
fn accounts_are_read_whole_because_news_of_them_stand_for_changes_too() {
    let belvo = belvo();
    let house = furnish(&belvo, 18, 1);
    let place = Place::new().fetching_from(&belvo);
    let gateway = place.start();
    for seq in 1..3 {
        gateway.answers(new_available(Resource::Accounts, house.link(), 1));
        state_of(&place, seq, "done");
        place.until_fetched();
    }
    assert!(!asked(&belvo).concat().contains("created_at"));
}

#[test]
fn five_hundred_webhooks_for_one_list_are_three_listings_at_most_and_end_right() {
    let belvo = belvo();
    let house = furnish(&belvo, 19, 10);
    let place = Place::new().fetching_from(&belvo);
    let gateway = place.start();
    let begun = Instant::now();
    let sender = gateway.sender();
    let mut connection = sender.connect().expect("a connection");
    for number in 0..500 {
        if number == 400 {
            let mut transactions = belvo.objects(TRANSACTIONS, house.link());
            transactions[0] = transactions[0].replacen('{', "{ ", 1);
            belvo.put(TRANSACTIONS, house.link(), transactions);
        }
        let body = historical_update(Resource::Transactions, house.link(), 10);
        let answer = connection.send(body.as_bytes()).expect("an answer");
        assert_eq!(answer.status, 200);
    }
    // On a slow machine it takes them more than a second, and each second more is worth one more listing.
    let seconds = begun.elapsed().as_secs() as usize;
    place.until("SELECT fetched FROM work", 500);
    let listings = asked_for(&belvo, TRANSACTIONS);
    assert!(
        listings <= 3 + seconds,
        "{listings} listings, sent in {seconds} seconds"
    );
    let mut kept: Vec<String> = place.column("SELECT body FROM transactions");
    let mut wanted = belvo.objects(TRANSACTIONS, house.link());
    kept.sort();
    wanted.sort();
    assert_eq!(kept, wanted);
}

#[test]
fn two_thousand_mixed_webhooks_of_two_hundred_links_are_answered_in_time_and_followed_in_turn() {
    let belvo = belvo();
    let houses: Vec<_> = (0..200)
        .map(|seed| furnish(&belvo, 2_000 + seed, 3))
        .collect();
    let place = Place::new().fetching_from(&belvo).at_most(2.0, 20);
    let gateway = place.start();
    gateway.takes_in(2_000, |number| {
        mixed(number / 200, houses[number % 200].link())
    });
    let all_said = Instant::now();
    assert_eq!(place.value::<i64>("SELECT count(*) FROM journal"), 2_000);
    // At two requests a second these take longer than the window of Belvo's edge.
    assert!(belvo.wait_for(3 * PATIENCE, |requests| requests.len() >= 70));
    let requests = belvo.requests();
    for (first, request) in requests.iter().enumerate() {
        let later = requests[first..].iter();
        let within = later.take_while(|other| other.came - request.came < EDGE_WINDOW);
        let count = within.count();
        assert!(count as f64 <= EDGE_REQUESTS_MAX, "{count} requests");
    }
    // All two hundred wait for more than was asked for so far, so none has had a second turn.
    let late = requests.iter().filter(|request| request.came > all_said);
    let mut served = HashSet::new();
    for link in late.filter_map(|request| request.link.as_ref()) {
        assert!(served.insert(link), "{link} twice while others wait");
    }
    assert!(served.len() > 40, "{} links", served.len());
}

/// One of ten kinds of webhooks about a link, seven of which lead to requests.
fn mixed(kind: usize, link: &str) -> String {
    match kind {
        0 => historical_update(Resource::Accounts, link, 2),
        1 => historical_update(Resource::Owners, link, 1),
        2 => historical_update(Resource::Transactions, link, 3),
        3 => new_available(Resource::Transactions, link, 1),
        4 => transactions_deleted(link, &[CONSENT]),
        5 => transactions_updated(link, &[CONSENT]),
        6 => consent_event(link, CONSENT, "consent_expired", None),
        7 => "{\"webhook_type\":\"WEATHER\",\"webhook_code\":\"sunny\"}".to_owned(),
        8 => historical_update(Resource::Balances, link, 1),
        _ => historical_update(Resource::Bills, link, 1),
    }
}

// Countries, histories, retired paths.

#[test]
fn the_path_follows_the_country_of_the_link_whose_record_is_read_once() {
    let belvo = belvo();
    let mut house = Household::at(institutions::FISCAL_CHILE, 20, 1);
    let link = house.link().to_owned();
    belvo.put_link(&house.link_record());
    belvo.put("/api/cl/invoices/", &link, house.invoices_chile(3));
    belvo.put("/api/cl/tax-status/", &link, house.tax_status_chile(1));
    let place = Place::new().fetching_from(&belvo);
    let gateway = place.start();
    gateway.answers(historical_update(Resource::InvoicesChile, &link, 3));
    gateway.answers(historical_update(Resource::TaxStatusChile, &link, 1));
    place.until_fetched();
    let paths: Vec<_> = belvo
        .requests()
        .into_iter()
        .map(|request| request.path)
        .collect();
    assert_eq!(
        paths,
        [
            format!("{LINKS}{link}/").as_str(),
            "/api/cl/invoices/",
            "/api/cl/tax-status/"
        ]
    );
    assert_eq!(place.value::<i64>("SELECT count(*) FROM invoices"), 3);
    assert_eq!(
        place.value::<String>("SELECT institution FROM links"),
        institutions::FISCAL_CHILE
    );
}

#[test]
fn each_exchange_has_its_history_fetched() {
    let belvo = belvo();
    let mut house = Household::new(21, 1);
    let link = house.link().to_owned();
    let exchanges = house.exchanges(3);
    for id in ids(&exchanges) {
        belvo.put(
            &format!("/api/br/exchanges/{id}/history/"),
            &link,
            house.exchange_history(&id, 2),
        );
    }
    belvo.put("/api/br/exchanges/", &link, exchanges);
    let place = Place::new().fetching_from(&belvo);
    let gateway = place.start();
    gateway.answers(historical_update(Resource::Exchanges, &link, 3));
    place.until("SELECT count(*) FROM exchange_history", 6);
    place.until_fetched();
    assert_eq!(place.value::<i64>("SELECT count(*) FROM attention"), 0);
}

#[test]
fn a_retired_list_that_is_not_there_is_nothing_to_fetch() {
    let belvo = belvo();
    let place = Place::new().fetching_from(&belvo);
    let gateway = place.start();
    gateway.answers(include_str!(
        "payloads/TAX_DECLARATIONS.historical_update.json"
    ));
    state_of(&place, 1, "done");
    assert_eq!(asked_for(&belvo, "/api/tax-declarations/"), 1);
    assert_eq!(place.value::<i64>("SELECT count(*) FROM attention"), 0);
}

// What must not mislead.

#[test]
fn the_address_of_the_next_page_is_never_followed() {
    let [belvo, elsewhere] = [belvo(), belvo()];
    let house = furnish(&belvo, 22, 1_500);
    belvo.fail(
        When::path(TRANSACTIONS).page(1),
        Fault::NextElsewhere(elsewhere.base_url().to_owned()),
    );
    let place = Place::new().fetching_from(&belvo);
    let gateway = place.start();
    gateway.answers(historical_update(
        Resource::Transactions,
        house.link(),
        1_500,
    ));
    place.until_fetched();
    assert_eq!(elsewhere.requests().len(), 0);
    assert_eq!(
        place.value::<i64>("SELECT count(*) FROM transactions"),
        1_500
    );
}

#[test]
fn an_object_that_names_another_link_is_a_problem_and_does_not_touch_what_that_link_has() {
    let belvo = belvo();
    let (mine, other) = (furnish(&belvo, 23, 1), furnish(&belvo, 24, 1));
    let place = Place::new().fetching_from(&belvo);
    let gateway = place.start();
    gateway.answers(historical_update(Resource::Accounts, other.link(), 2));
    place.until_fetched();
    let mut mixed = mine.accounts();
    mixed.extend(
        other
            .accounts()
            .iter()
            .map(|text| text.replacen('{', "{ ", 1)),
    );
    belvo.put(ACCOUNTS, mine.link(), mixed);
    gateway.answers(historical_update(Resource::Accounts, mine.link(), 2));
    place.until_fetched();
    assert_eq!(
        place.value::<String>("SELECT kind FROM attention"),
        "link-mismatch"
    );
    let of = |link: &str| {
        let mut bodies: Vec<String> = place.column(&format!(
            "SELECT body FROM accounts WHERE link_id = '{link}'"
        ));
        bodies.sort();
        bodies
    };
    let mut wanted = other.accounts();
    wanted.sort();
    assert_eq!(of(other.link()), wanted);
    assert_eq!(of(mine.link()).len(), 2);
}

#[test]
fn objects_that_a_complete_list_does_not_have_any_more_are_counted_and_kept() {
    let belvo = belvo();
    let house = furnish(&belvo, 25, 5);
    let place = Place::new().fetching_from(&belvo);
    let gateway = place.start();
    gateway.answers(historical_update(Resource::Transactions, house.link(), 5));
    place.until_fetched();
    let fewer = belvo.objects(TRANSACTIONS, house.link())[..3].to_vec();
    belvo.put(TRANSACTIONS, house.link(), fewer);
    gateway.answers(historical_update(Resource::Transactions, house.link(), 3));
    place.until("SELECT missing FROM work", 2);
    assert_eq!(
        place.value::<i64>("SELECT count(*) FROM transactions WHERE NOT deleted"),
        5
    );
}

#[test]
fn a_thousand_objects_of_three_hundred_kilobytes_pass_in_little_memory() {
    let belvo = belvo();
    let blob = "x".repeat(300_000);
    let objects = (0..1_000)
        .map(|id| {
            format!(r#"{{"id":"{id}","link":"{LINK}","amount":12345678901234.56,"pdf":"{blob}"}}"#)
        })
        .collect();
    belvo.put("/api/tax-returns/", LINK, objects);
    let place = Place::new().fetching_from(&belvo);
    let gateway = place.start();
    let idle = gateway.peak_kib();
    gateway.answers(historical_update(Resource::TaxReturns, LINK, 1_000));
    place.until_within(
        "SELECT count(*) FROM work WHERE wanted <= fetched",
        1,
        Duration::from_secs(120),
    );
    assert_eq!(
        place.value::<i64>("SELECT count(*) FROM tax_returns"),
        1_000
    );
    // What the program takes before it has anything to do is the size of its code, without optimisation.
    let kib = gateway.peak_kib() - idle;
    assert!(kib <= 16 * 1024, "{kib} KiB more than {idle}");
    assert!(
        place.value::<i64>("SELECT page_size FROM work") < 100,
        "the next listing begins with pages that fit"
    );
}

#[test]
fn payments_are_kept_and_never_asked_for() {
    let belvo = belvo();
    let place = Place::new().fetching_from(&belvo);
    let gateway = place.start();
    gateway.answers(include_str!("payloads/TRANSACTIONS.STATUS_UPDATE.json"));
    gateway.answers(include_str!("payloads/payment_request_update.json"));
    place.until("SELECT count(*) FROM events", 2);
    assert_eq!(
        place.column::<String>("SELECT action || ' ' || state FROM inbox ORDER BY seq"),
        ["payments-br nothing-to-do", "payments-mx nothing-to-do"]
    );
    assert_eq!(place.value::<i64>("SELECT count(*) FROM work"), 0);
    assert_eq!(belvo.requests().len(), 0);
}

// The edge and the keys.

#[test]
fn a_429_pauses_everything_for_as_long_as_it_asks() {
    let fault = Fault::Throttled {
        retry_after: Some("31".to_owned()),
    };
    everything_pauses(fault, "throttled");
}

#[test]
fn the_edges_403_pauses_everything_for_half_a_minute() {
    everything_pauses(Fault::Forbidden, "forbidden");
}

fn everything_pauses(fault: Fault, class: &str) {
    let belvo = belvo();
    let (one, two) = (furnish(&belvo, 26, 1), furnish(&belvo, 27, 1));
    belvo.fail(When::path(ACCOUNTS), fault);
    let place = Place::new().fetching_from(&belvo);
    let gateway = place.start();
    gateway.answers(historical_update(Resource::Accounts, one.link(), 2));
    place.until_logged(&["a fetch failed", &format!("error_class=\"{class}\"")]);
    gateway.answers(historical_update(Resource::Accounts, two.link(), 2));
    place.until_within(
        "SELECT count(*) FROM work WHERE wanted <= fetched",
        2,
        Duration::from_secs(60),
    );
    let came: Vec<_> = belvo
        .requests()
        .iter()
        .map(|request| request.came)
        .collect();
    let paused = came[1] - came[0];
    assert!(paused >= Duration::from_millis(29_900), "{paused:?}");
}

#[test]
fn every_error_belvo_documents_has_its_class_and_its_sentence() {
    let belvo = belvo();
    let place = Place::new().fetching_from(&belvo);
    let gateway = place.start();
    let (keys, others): (Vec<_>, Vec<_>) = ERRORS.iter().copied().partition(|(_, code)| {
        let known = CODES.iter().find(|known| known.code == *code);
        known.is_some_and(|known| known.class == Class::Credentials)
    });
    // Those about the keys last: they stop everything.
    for (seed, (status, code)) in (600..).zip(others.into_iter().chain(keys.into_iter().take(1))) {
        let known = CODES
            .iter()
            .find(|known| known.code == code)
            .unwrap_or_else(|| panic!("{code} is in no row of fetch::CODES"));
        assert_eq!(known.status, status, "{code}");
        let link = Household::new(seed, 1).link().to_owned();
        belvo.fail(
            When::path(OWNERS).link(&link).always(),
            Fault::error(status, code),
        );
        gateway.answers(historical_update(Resource::Owners, &link, 1));
        let work = format!("FROM work WHERE resource = 'owners' AND link_id = '{link}'");
        place.until(
            &format!("SELECT coalesce(error_class, '') {work}"),
            known.class.name().to_owned(),
        );
        let error: String = place.value(&format!("SELECT last_error {work}"));
        assert!(
            error.contains(&format!("{status} {code}")) && error.ends_with(known.meaning),
            "{error}"
        );
        let next_step = format!(
            "SELECT next_step FROM attention WHERE subject = '{}'",
            match known.class {
                Class::Credentials => String::new(),
                Class::Link => format!("link {link}"),
                _ => format!("owners of link {link}"),
            }
        );
        match known.class {
            Class::Link => assert_ne!(place.value::<String>(&next_step), ""),
            Class::Permanent | Class::Unsupported | Class::Parked | Class::Credentials => {
                assert_eq!(place.value::<String>(&next_step), known.next_step);
            }
            // The others are tried again first; a simulation waits for their problems.
            _ => assert_eq!(place.column::<String>(&next_step), [""; 0]),
        }
    }
}

#[test]
fn refused_keys_that_are_corrected_in_their_files_are_used_at_once() {
    let belvo = belvo();
    let house = furnish(&belvo, 28, 1);
    let place = Place::new().fetching_from(&belvo);
    let right = std::fs::read_to_string(place.path("password")).expect("a password");
    place.secret("password", "not it");
    let gateway = place.start();
    gateway.answers(historical_update(Resource::Accounts, house.link(), 2));
    gateway.answers(historical_update(Resource::Owners, house.link(), 1));
    place.until("SELECT kind FROM attention", "api-keys-refused".to_owned());
    assert_eq!(belvo.requests().len(), 1);
    place.secret("password", right.trim());
    place.until_fetched();
    assert_eq!(place.value::<i64>("SELECT count(*) FROM attention"), 0);
}

#[test]
fn every_list_of_the_catalog_is_fetched_from_belvo_as_it_describes_itself() {
    let belvo = belvo();
    let place = Place::new().fetching_from(&belvo);
    let gateway = place.start();
    for (seed, resource) in (500..).zip(Resource::ALL) {
        let institution = match resource {
            Resource::InvoicesChile | Resource::TaxStatusChile | Resource::DebtReports => {
                institutions::FISCAL_CHILE
            }
            Resource::Invoices | Resource::TaxStatus => institutions::FISCAL_MEXICO,
            _ => institutions::BANK_BRAZIL,
        };
        let mut house = Household::at(institution, seed, 2);
        belvo.put_link(&house.link_record());
        let (link, objects) = (house.link().to_owned(), house.objects(resource, 4));
        belvo.put(resource.path(), &link, objects);
        gateway.answers(historical_update(resource, house.link(), 4));
        place.until_fetched();
        let kept: Vec<String> = place.column(&format!(
            "SELECT body FROM {} WHERE link_id = '{}'",
            resource.name(),
            house.link()
        ));
        let (mut kept, mut wanted) = (kept, belvo.objects(resource.path(), house.link()));
        kept.sort();
        wanted.sort();
        assert!(!kept.is_empty() && kept == wanted, "{resource:?}");
    }
    assert_eq!(
        place.column::<String>("SELECT kind || ' ' || text FROM attention"),
        [""; 0]
    );
    let names: Vec<_> = RESOURCES.iter().map(|row| row.name).collect();
    assert!(
        Resource::ALL
            .iter()
            .all(|resource| names.contains(&resource.name()))
    );
}

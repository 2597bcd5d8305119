//! The stand-in and the sender against each other over real connections, plain and TLS.

use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use serde_json::value::RawValue;

use super::objects::Household;
use super::objects::institutions::FISCAL_CHILE;
use super::sender::{Connection, Reply, Sender, Step, Unanswered};
use super::{Certificates, Fault, Options, Outcome, StandIn, When};

const LONG: Duration = Duration::from_secs(10);
const TRANSACTIONS: &str = "/api/transactions/";
const BASIC: &str = "Authorization: Basic aWQ6cGFzc3dvcmQ=\r\n";

#[derive(serde::Deserialize)]
struct Page<'a> {
    count: usize,
    next: Option<String>,
    #[serde(borrow)]
    results: Vec<&'a RawValue>,
}

fn options() -> Options {
    Options {
        keys: ("id".into(), "password".into()),
        ..Options::default()
    }
}

fn plain() -> StandIn {
    StandIn::start(options()).expect("a stand-in starts on loopback")
}

/// A stand-in with this many transactions, and the link they belong to.
fn with_transactions(count: usize) -> (StandIn, String) {
    let (standin, mut house) = (plain(), Household::new(1, 2));
    let objects = house.transactions(count);
    standin.put(TRANSACTIONS, house.link(), objects);
    let link = house.link().to_owned();
    (standin, link)
}

fn ask(connection: &mut Connection<'_>, target: &str, headers: &str) -> Result<Reply, Unanswered> {
    let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
    connection.send_raw(request.as_bytes())
}

fn get(standin: &StandIn, target: &str) -> Result<Reply, Unanswered> {
    ask(
        &mut Sender::plain(standin.address(), "/").connect()?,
        target,
        BASIC,
    )
}

fn status_and_code(standin: &StandIn, target: &str) -> (u16, String) {
    let reply = get(standin, target).expect("the stand-in answers");
    let body: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    (
        reply.status,
        body[0]["code"]
            .as_str()
            .unwrap_or("not an error of Belvo's")
            .to_owned(),
    )
}

#[test]
fn pages_are_followed_to_the_end_over_tls_and_every_object_is_as_it_was_put_in() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let certificates = Certificates::create(directory.path()).expect("an authority can be made");
    let identity = certificates
        .issue("api")
        .expect("a certificate can be made");
    let options = Options {
        tls: Some(identity),
        ..options()
    };
    let (standin, mut house) = (
        StandIn::start(options).expect("it starts"),
        Household::new(1, 2),
    );
    let objects = house.transactions(250);
    standin.put(TRANSACTIONS, house.link(), objects.clone());
    let sender = Sender::tls(standin.address(), "/", &certificates.ca_file())
        .expect("the authority is a file");
    let mut connection = sender.connect().expect("TLS comes up");
    let mut target = Some(format!(
        "{TRANSACTIONS}?link={}&page_size=100",
        house.link()
    ));
    let mut got = Vec::new();
    while let Some(wanted) = target {
        let reply = ask(&mut connection, &wanted, BASIC).expect("a page is answered");
        let page: Page<'_> = serde_json::from_slice(&reply.body).expect("a page is an envelope");
        assert_eq!(page.count, 250);
        got.extend(page.results.iter().map(|object| object.get().to_owned()));
        target = page.next.map(|next| next.replace(standin.base_url(), ""));
    }
    assert_eq!(got, objects);
    let pages: Vec<_> = standin
        .requests()
        .iter()
        .map(|request| request.page)
        .collect();
    assert_eq!(pages, [1, 2, 3]);
}

#[test]
fn an_error_has_the_status_and_code_that_belvo_gives_it() {
    let (standin, link) = with_transactions(3);
    let list = format!("{TRANSACTIONS}?link={link}");
    assert_eq!(
        status_and_code(&standin, TRANSACTIONS),
        (400, "required".into())
    );
    assert_eq!(
        status_and_code(&standin, &format!("{list}&page=2")),
        (404, "not_found".into())
    );
    assert_eq!(
        status_and_code(&standin, &list.replace("/?", "?")),
        (404, "not_found".into())
    );
    assert_eq!(
        status_and_code(&standin, "/api/unknown/"),
        (404, "not_found".into())
    );
    assert_eq!(
        status_and_code(&standin, &format!("{list}&ordering=id")).0,
        403
    );
    let sender = Sender::plain(standin.address(), "/api/accounts/");
    let mut connection = sender.connect().expect("it listens");
    assert_eq!(
        ask(&mut connection, "/api/accounts/", "")
            .expect("it answers")
            .status,
        401
    );
    let posted = sender.authorization("Basic aWQ6cGFzc3dvcmQ=").send(b"{}");
    assert_eq!(posted.expect("it answers").status, 405);
}

#[test]
fn one_object_is_found_by_its_id() {
    let (standin, link) = with_transactions(3);
    let object = standin.objects(TRANSACTIONS, &link).remove(1);
    let id = serde_json::from_str::<Value>(&object).expect("it is JSON")["id"]
        .as_str()
        .map(str::to_owned);
    let target = format!("{TRANSACTIONS}{}/", id.expect("it has an id"));
    let reply = get(&standin, &target).expect("it answers");
    assert_eq!((reply.status, reply.body), (200, object.into_bytes()));
}

#[test]
fn a_link_and_its_consent_are_known_until_the_link_is_deleted() {
    let (standin, house) = (plain(), Household::at(FISCAL_CHILE, 1, 1));
    standin.put_link(&house.link_record());
    standin.put_consent(&house.consent_record());
    standin.put("/api/cl/invoices/", house.link(), vec!["{}".into()]);
    let status = |target: &str| get(&standin, target).expect("it answers").status;
    let link = format!("/api/links/{}/", house.link());
    let consent = format!("/api/consents/{}/", house.consent_record().id);
    let invoices = format!("/api/cl/invoices/?link={}", house.link());
    assert_eq!((status(&link), status(&consent)), (200, 200));
    let listed = get(&standin, "/api/links/?page_size=1").expect("it answers");
    assert!(listed.body.starts_with(br#"{"count":1,"#));
    standin.delete_link(house.link());
    assert_eq!(status_and_code(&standin, &link), (404, "not_found".into()));
    assert_eq!(status(&consent), 404);
    let left = get(&standin, &invoices).expect("it answers");
    assert!(left.body.starts_with(br#"{"count":0,"#));
}

#[test]
fn consents_are_listed_only_by_the_document_of_their_user() {
    let standin = plain();
    let required = (400, "required".into());
    assert_eq!(status_and_code(&standin, "/api/consents/"), required);
    let listed = get(&standin, "/api/consents/?user_document=00000000191");
    assert_eq!(listed.expect("it answers").status, 200);
}

#[test]
fn an_exchange_has_a_history_in_pages() {
    let (standin, mut house) = (plain(), Household::new(1, 1));
    let exchanges = house.exchanges(1);
    let exchange: Value = serde_json::from_str(&exchanges[0]).expect("it is JSON");
    let id = exchange["id"].as_str().expect("it has an id");
    let history = format!("/api/br/exchanges/{id}/history/");
    assert_eq!(
        status_and_code(&standin, &history),
        (404, "not_found".into())
    );
    let events = house.exchange_history(id, 3);
    standin.put("/api/br/exchanges/", house.link(), exchanges.clone());
    standin.put(&history, house.link(), events.clone());
    let second = get(&standin, &format!("{history}?page_size=2&page=2")).expect("it answers");
    let page: Page<'_> = serde_json::from_slice(&second.body).expect("a page is an envelope");
    assert_eq!((page.count, page.results[0].get()), (3, events[2].as_str()));
}

#[test]
fn the_firewall_stops_what_a_path_does_not_declare() {
    let standin = plain();
    let status = |target: &str| get(&standin, target).expect("it answers").status;
    assert_eq!(status("/api/owners/?created_at__gte=2026-11-20"), 200);
    assert_eq!(status("/api/incomes/?created_at__gte=2026-11-20"), 403);
    assert_eq!(status("/api/owners/?link=1"), 403);
    assert_eq!(status("/api/links/?fields=id"), 200);
    assert_eq!(status("/api/links/a/?fields=id"), 403);
    let filtered = status_and_code(&standin, "/api/owners/?email=a@example.com");
    assert_eq!(filtered, (501, "not_played".into()));
}

#[test]
fn a_page_lies_when_it_is_told_to() {
    let (standin, link) = with_transactions(3);
    let list = format!("{TRANSACTIONS}?link={link}&page_size=2");
    let next = |fault| {
        standin.fail(When::path(TRANSACTIONS), fault);
        let reply = get(&standin, &list).expect("it answers");
        String::from_utf8(reply.body).expect("JSON is UTF-8")
    };
    assert!(next(Fault::Count(2)).starts_with(r#"{"count":2,"next":"http://localhost"#));
    let elsewhere = next(Fault::NextElsewhere("https://elsewhere.example".into()));
    assert!(elsewhere.contains(r#""next":"https://elsewhere.example/api/transactions/?link="#));
    let token = next(Fault::TokenRequired { link: link.clone() });
    assert!(token.contains(&format!(r#""link":"{link}""#)) && token.contains(r#""expiry":"#));
}

#[test]
fn each_fault_looks_as_it_should_on_the_wire_and_then_all_is_well() {
    let (standin, link) = with_transactions(3);
    let list = format!("{TRANSACTIONS}?link={link}");
    let next = |fault| {
        standin.fail(When::path(TRANSACTIONS), fault);
        get(&standin, &list)
    };
    let busy = next(Fault::error_with_wait(503, "service_unavailable", "7")).expect("it answers");
    assert_eq!(busy.status, 503);
    assert!(busy.head.contains("retry-after: 7\r\n"), "{}", busy.head);
    assert_eq!(
        next(Fault::Throttled { retry_after: None })
            .expect("it answers")
            .status,
        429
    );
    assert!(
        next(Fault::Forbidden)
            .expect("it answers")
            .body
            .starts_with(b"<html>")
    );
    assert_eq!(next(Fault::NotJson).expect("it answers").status, 200);
    let moved = next(Fault::Redirect("https://example.com/".into())).expect("it answers");
    assert!(
        moved.head.contains("location: https://example.com/\r\n"),
        "{}",
        moved.head
    );
    assert_eq!(
        next(Fault::Closed).map_err(|error| error.step).err(),
        Some(Step::Answer)
    );
    assert_eq!(
        next(Fault::Truncated).map_err(|error| error.step).err(),
        Some(Step::Answer)
    );
    assert_eq!(get(&standin, &list).expect("it answers").status, 200);
}

#[test]
fn a_truncated_answer_is_cut_in_its_body_and_an_endless_one_goes_on() {
    use std::io::{Read, Write};
    let (standin, link) = with_transactions(3);
    let bytes = |fault, at_most: u64| {
        standin.fail(When::path(TRANSACTIONS), fault);
        let mut stream = std::net::TcpStream::connect(standin.address()).expect("it listens");
        let request =
            format!("GET {TRANSACTIONS}?link={link} HTTP/1.1\r\nHost: localhost\r\n{BASIC}\r\n");
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut all = String::new();
        stream
            .take(at_most)
            .read_to_string(&mut all)
            .expect("the text is ASCII or ends between characters");
        all
    };
    let cut = bytes(Fault::Truncated, 1 << 20);
    assert!(
        cut.contains(r#"{"count":3,"#) && !cut.contains("]}"),
        "{cut}"
    );
    assert_eq!(bytes(Fault::Endless, 1 << 24).len(), 1 << 24);
}

#[test]
fn a_held_request_is_answered_when_it_is_let_go() {
    let (standin, link) = with_transactions(3);
    let hold = standin.hold(When::path(TRANSACTIONS).page(1));
    let target = format!("{TRANSACTIONS}?link={link}");
    thread::scope(|scope| {
        let asked = scope.spawn(|| get(&standin, &target));
        assert!(hold.wait_reached(LONG));
        assert_eq!(standin.requests()[0].outcome, Outcome::Held);
        hold.release();
        let reply = asked
            .join()
            .expect("asking does not panic")
            .expect("it answers");
        assert_eq!(reply.status, 200);
    });
}

#[test]
fn a_client_that_goes_away_while_held_has_abandoned_its_request() {
    let (standin, link) = with_transactions(3);
    let hold = standin.hold(When::path(TRANSACTIONS));
    let mut stream = std::net::TcpStream::connect(standin.address()).expect("it listens");
    let request = format!("GET {TRANSACTIONS}?link={link} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    std::io::Write::write_all(&mut stream, request.as_bytes()).expect("it reads");
    assert!(hold.wait_reached(LONG));
    drop(stream);
    assert!(standin.wait_for(LONG, |requests| requests[0].outcome == Outcome::Abandoned));
}

#[test]
fn a_listing_changes_after_the_page_it_was_told_to() {
    let (standin, link) = with_transactions(3);
    let owner = link.clone();
    standin.change_after(When::path(TRANSACTIONS).page(1), move |lists| {
        lists.put(TRANSACTIONS, &owner, vec![r#"{"id":"0"}"#.into()]);
    });
    let target = format!("{TRANSACTIONS}?link={link}&page_size=2");
    let first = get(&standin, &target).expect("it answers");
    assert!(first.body.starts_with(br#"{"count":3,"#));
    assert_eq!(
        status_and_code(&standin, &format!("{target}&page=2")).0,
        404
    );
}

#[test]
fn it_goes_down_and_comes_back_at_the_same_address() {
    let (standin, link) = with_transactions(3);
    let target = format!("{TRANSACTIONS}?link={link}");
    standin.stop();
    assert_eq!(
        get(&standin, &target).map_err(|error| error.step).err(),
        Some(Step::Connect)
    );
    standin.restart().expect("the port is still free");
    assert_eq!(get(&standin, &target).expect("it answers").status, 200);
}

#[test]
fn the_burst_that_the_edge_does_not_bear_is_stopped_only_when_asked_for() {
    let standin = StandIn::start(Options {
        edge_limit: true,
        ..options()
    })
    .expect("it starts");
    let sender = Sender::plain(standin.address(), "/");
    let mut connection = sender.connect().expect("it listens");
    let mut status = || {
        ask(&mut connection, "/api/accounts/", BASIC)
            .expect("it answers")
            .status
    };
    let statuses: Vec<_> = (0..81).map(|_| status()).collect();
    assert!(statuses[..80].iter().all(|status| *status == 200));
    assert_eq!(statuses[80], 403);
}

#[test]
fn a_webhook_comes_from_the_chosen_address_and_a_closed_door_is_told_apart() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    let to = listener
        .local_addr()
        .expect("a bound socket has an address");
    let door = thread::spawn(move || listener.accept().expect("the sender connects").1.ip());
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let certificates = Certificates::create(directory.path()).expect("an authority can be made");
    let source = IpAddr::from([127, 0, 0, 66]);
    let sender = Sender::tls(to, "/hook", &certificates.ca_file())
        .expect("the authority is a file")
        .from(source);
    assert_eq!(
        sender.send(b"{}").map_err(|error| error.step).err(),
        Some(Step::Handshake)
    );
    assert_eq!(door.join().expect("the door does not panic"), source);
}

//! The stand-in against Belvo's API description, so that what it plays is what Belvo says: every object it makes up, every
//! page, detail and error it answers, what its firewall lets through, and the shape of its webhooks. Knows nothing of
//! the gateway.

mod schema;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use belvo_gateway::standin::objects::{ConsentRecord, Household, LinkRecord};
use belvo_gateway::standin::payloads::{self, Resource};
use belvo_gateway::standin::sender::{Connection, Reply, Sender};
use belvo_gateway::standin::{ERRORS, Fault, Options, StandIn, When};
use serde::Deserialize;
use serde_json::Value;

use schema::Named;

const LINKS: &str = "/api/links/";
const CONSENTS: &str = "/api/consents/";
const EXCHANGES: &str = "/api/br/exchanges/";
const HISTORY: &str = "/api/br/exchanges/{id}/history/";

/// Any UUID.
const ID: &str = "16f68516-bcbc-4cf7-b815-c500d4204e28";

/// Enough that every alternative and every way to write a time occurs.
const OBJECTS: usize = 12;

/// Where what the stand-in makes is not as described.
struct Deviation {
    path: &'static str,
    place: &'static str,
    what: &'static str,
    why: &'static str,
}

/// All of them; one that is not needed any more is a failure.
const DEVIATIONS: &[Deviation] = &[
    Deviation {
        path: CONSENTS,
        place: "expired_at",
        what: "not a string",
        why: "the prose of the description says that it is null when no end is defined",
    },
    Deviation {
        path: "/api/br/investment-transactions/",
        place: "subtype_additional_info",
        what: "not a string",
        why: "null is how Belvo says that there is nothing to add; who stores objects must bear one that is not announced",
    },
    Deviation {
        path: "/api/risk-insights/",
        place: "assets_metrics.num_accounts",
        what: "missing",
        why: "the description requires it there but declares it for cards and loans only",
    },
];

/// Paths of older material that the description does not have any more.
const RETIRED: &[&str] = &[
    "/api/balances/",
    "/api/co/employments/",
    "/api/investments/",
    "/api/investment-transactions/",
    "/api/statements/",
    "/api/tax-declarations/",
];

// What the description says.

/// `tests/openapi-schemas.json`.
#[derive(Deserialize)]
struct Answers {
    version: String,
    schemas: Named,
    page: Value,
    objects: BTreeMap<String, Value>,
    details: BTreeMap<String, Value>,
    errors: BTreeMap<String, Value>,
}

/// `tests/openapi-lists.json`.
#[derive(Deserialize)]
struct Requests {
    version: String,
    lists: BTreeMap<String, Operation>,
    others: BTreeMap<String, Operation>,
}

#[derive(Deserialize)]
struct Operation {
    page_size_max: Option<usize>,
    required: BTreeSet<String>,
    query: BTreeSet<String>,
}

fn answers() -> Answers {
    read("tests/openapi-schemas.json")
}

/// Every GET by its path.
fn requests() -> BTreeMap<String, Operation> {
    let Requests { lists, others, .. } = read("tests/openapi-lists.json");
    lists.into_iter().chain(others).collect()
}

fn read<T: for<'a> Deserialize<'a>>(name: &str) -> T {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{name}: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn is_list(path: &str) -> bool {
    !path.ends_with("{id}/")
}

// What the stand-in has.

/// One household with everything in a stand-in.
struct Belvo {
    standin: StandIn,
    link: String,
    /// By the path of their list, as the description writes it.
    objects: BTreeMap<String, Vec<String>>,
}

fn belvo() -> Belvo {
    let keys = ("id".to_owned(), "password".to_owned());
    let options = Options {
        keys,
        ..Options::default()
    };
    let standin = StandIn::start(options).expect("a stand-in starts on loopback");
    let mut house = Household::new(1, 2);
    let link = house.link().to_owned();
    let made = Resource::ALL
        .map(|resource| (resource.path().to_owned(), house.objects(resource, OBJECTS)));
    let mut objects = BTreeMap::from(made);
    let exchange = id(&objects[EXCHANGES][0]);
    objects.insert(
        HISTORY.to_owned(),
        house.exchange_history(&exchange, OBJECTS),
    );
    objects.insert(LINKS.to_owned(), vec![house.link_record().text()]);
    let unusual = [
        ("/api/owners/", house.other_owners()),
        ("/api/transactions/", house.transactions_without_account(1)),
    ];
    for (path, more) in unusual {
        objects.entry(path.to_owned()).or_default().extend(more);
    }
    let consent = house.consent_record();
    let endless = ConsentRecord {
        id: "9e763d19-15a4-410c-a106-18c0f60ca5eb".to_owned(),
        expired_at: None,
        ..consent.clone()
    };
    objects.insert(CONSENTS.to_owned(), vec![consent.text(), endless.text()]);
    for (path, objects) in &objects {
        standin.put(&path.replace("{id}", &exchange), &link, objects.clone());
    }
    Belvo {
        standin,
        link,
        objects,
    }
}

impl Belvo {
    /// A path of the description with the id of an object that is there.
    fn real(&self, path: &str) -> String {
        let (list, _) = path.split_once("{id}").unwrap_or((path, ""));
        path.replace("{id}", &id(&self.objects[list][0]))
    }

    fn sender(&self) -> Sender {
        Sender::plain(self.standin.address(), "/")
    }

    fn get(&self, target: &str) -> Reply {
        let sender = self.sender();
        let mut connection = sender.connect().expect("the stand-in listens");
        get(&mut connection, target)
    }

    fn json(&self, target: &str) -> (u16, Value) {
        let reply = self.get(target);
        let body = serde_json::from_slice(&reply.body);
        (
            reply.status,
            body.unwrap_or_else(|error| panic!("{target}: {error}")),
        )
    }
}

fn get(connection: &mut Connection<'_>, target: &str) -> Reply {
    let request = format!(
        "GET {target} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic aWQ6cGFzc3dvcmQ=\r\n\r\n"
    );
    connection
        .send_raw(request.as_bytes())
        .unwrap_or_else(|error| panic!("{target}: {error}"))
}

fn id(object: &str) -> String {
    let object: Value = serde_json::from_str(object).expect("an object is JSON");
    object["id"].as_str().expect("it has an id").to_owned()
}

/// The query without which the path has no answer.
fn needed(operation: &Operation, link: &str) -> String {
    let value = |name: &String| match name.as_str() {
        "link" => format!("link={link}&"),
        "user_document" => "user_document=00000000191&".to_owned(),
        other => panic!("what is {other}?"),
    };
    operation.required.iter().map(value).collect()
}

// Objects.

#[test]
fn every_object_is_as_described_but_for_the_listed_deviations() {
    let answers = answers();
    let mut found = BTreeSet::new();
    for (path, objects) in belvo().objects {
        let schema = answers
            .objects
            .get(&path)
            .unwrap_or_else(|| panic!("{path} is not described"));
        for object in objects {
            let value = serde_json::from_str(&object).expect("an object is JSON");
            let faults = schema::faults(&answers.schemas, schema, &value);
            found.extend(
                faults
                    .into_iter()
                    .map(|fault| (path.clone(), fault.place, fault.what)),
            );
        }
    }
    let listed = DEVIATIONS.iter().map(|deviation| {
        let Deviation {
            path,
            place,
            what,
            why,
        } = deviation;
        assert!(!why.is_empty(), "{path} {place}: a deviation has a reason");
        ((*path).to_owned(), (*place).to_owned(), (*what).to_owned())
    });
    let listed: BTreeSet<_> = listed.collect();
    let new: Vec<_> = found.difference(&listed).collect();
    let old: Vec<_> = listed.difference(&found).collect();
    assert!(
        new.is_empty() && old.is_empty(),
        "not as described: {new:#?}\nnot needed any more: {old:#?}"
    );
}

#[test]
fn every_described_list_has_objects_to_check() {
    let described: BTreeSet<_> = answers().objects.into_keys().collect();
    let made: BTreeSet<_> = belvo().objects.into_keys().collect();
    assert_eq!(
        made, described,
        "made up (left), in tests/openapi-schemas.json (right)"
    );
}

#[test]
fn the_record_of_a_link_is_as_described_in_every_state() {
    let (answers, house) = (answers(), Household::new(1, 1));
    for status in ["valid", "invalid", "unconfirmed", "token_required"] {
        for access_mode in ["single", "recurrent"] {
            let record = LinkRecord {
                status,
                access_mode,
                last_accessed_at: None,
                ..house.link_record()
            };
            let value = serde_json::from_str(&record.text()).expect("a record is JSON");
            let faults = schema::faults(&answers.schemas, &answers.objects[LINKS], &value);
            assert_eq!(faults, [], "{status} {access_mode}");
        }
    }
}

// Answers.

#[test]
fn every_page_of_every_list_is_as_described() {
    let (answers, belvo) = (answers(), belvo());
    for (path, operation) in requests().iter().filter(|(path, _)| is_list(path)) {
        let query = needed(operation, &belvo.link);
        let objects = &belvo.objects[path];
        let mut results = Vec::new();
        let mut next = Some(format!("{}?{query}page_size=5", belvo.real(path)));
        while let Some(target) = next {
            let (status, mut page) = belvo.json(&target);
            assert_eq!(status, 200, "{target}");
            let members = page.as_object_mut().expect("a page is an object");
            let here = members.remove("results").expect("a page has results");
            results.extend(here.as_array().expect("results are an array").clone());
            assert_eq!(
                schema::faults(&answers.schemas, &answers.page, &page),
                [],
                "{target}"
            );
            assert_eq!(page["count"], objects.len(), "{target}");
            let after = page["next"].as_str();
            next = after.map(|url| url.replace(belvo.standin.base_url(), ""));
        }
        let put_in: Vec<Value> = objects
            .iter()
            .map(|object| serde_json::from_str(object).expect("an object is JSON"))
            .collect();
        assert_eq!(results, put_in, "{path}");
    }
}

#[test]
fn every_detail_is_as_described() {
    let (answers, belvo) = (answers(), belvo());
    for path in requests().keys().filter(|path| !is_list(path)) {
        let list = path.replace("{id}/", "");
        let schema = answers
            .details
            .get(path)
            .unwrap_or_else(|| &answers.objects[&list]);
        let (status, detail) = belvo.json(&belvo.real(path));
        assert_eq!(status, 200, "{path}");
        let known = |fault: &schema::Fault| {
            let place = fault.place.trim_start_matches("[]").trim_start_matches('.');
            DEVIATIONS
                .iter()
                .any(|known| known.path == list && known.place == place)
        };
        let mut faults = schema::faults(&answers.schemas, schema, &detail);
        faults.retain(|fault| !known(fault));
        assert_eq!(faults, [], "{path}");
        let (status, error) = belvo.json(&path.replace("{id}", ID));
        assert_eq!(
            (status, &error[0]["code"]),
            (404, &"not_found".into()),
            "{path}"
        );
    }
}

#[test]
fn a_retired_path_is_neither_described_nor_answered() {
    let (belvo, requests) = (belvo(), requests());
    for path in RETIRED {
        assert!(!requests.contains_key(*path), "{path} is described again");
        assert_eq!(belvo.json(path).0, 404, "{path}");
    }
}

#[test]
fn every_error_is_as_described() {
    let (answers, belvo) = (answers(), belvo());
    let owners = "/api/owners/";
    let mut played: Vec<_> = ERRORS
        .iter()
        .map(|(status, code)| (*status, Fault::error(*status, code)))
        .collect();
    played.push((
        428,
        Fault::TokenRequired {
            link: ID.to_owned(),
        },
    ));
    for (status, fault) in played {
        belvo.standin.fail(When::path(owners), fault.clone());
        let (answered, body) = belvo.json(owners);
        assert_eq!(answered, status, "{fault:?}");
        // Statuses that the description does not have, Belvo's articles describe with the same body.
        let schema = answers
            .errors
            .get(&status.to_string())
            .unwrap_or_else(|| &answers.errors["500"]);
        assert_eq!(
            schema::faults(&answers.schemas, schema, &body),
            [],
            "{fault:?}"
        );
        for member in ["code", "message", "request_id"] {
            assert!(body[0][member].is_string(), "{fault:?} has no {member}");
        }
    }
}

#[test]
fn a_list_without_what_it_requires_is_a_400_as_described() {
    let (answers, belvo) = (answers(), belvo());
    for (path, operation) in &requests() {
        let (status, body) = belvo.json(&belvo.real(path));
        let Some(required) = operation.required.first() else {
            assert_eq!(status, 200, "{path}");
            continue;
        };
        assert_eq!(status, 400, "{path}");
        assert_eq!(
            schema::faults(&answers.schemas, &answers.errors["400"], &body),
            [],
            "{path}"
        );
        assert_eq!(
            (&body[0]["code"], &body[0]["field"]),
            (&"required".into(), &required.as_str().into())
        );
    }
}

// Requests.

#[test]
fn the_firewall_lets_through_what_a_path_declares_and_nothing_else() {
    let (belvo, requests) = (belvo(), requests());
    let sender = belvo.sender();
    let mut connection = sender.connect().expect("the stand-in listens");
    let all: BTreeSet<&String> = requests
        .values()
        .flat_map(|operation| &operation.query)
        .collect();
    for (path, operation) in &requests {
        for name in &all {
            let target = format!("{}?{name}={}", belvo.real(path), example(name));
            let stopped = get(&mut connection, &target).status == 403;
            assert_eq!(!stopped, operation.query.contains(*name), "{target}");
        }
    }
}

/// A value in the form that the parameter is declared with, where the firewall looks at it.
fn example(name: &str) -> &'static str {
    match name {
        "link" => ID,
        "created_at__gte" => "2026-11-20",
        "user_document" => "00000000191",
        _ => "1",
    }
}

#[test]
fn a_page_is_as_large_as_described_and_no_larger() {
    let belvo = belvo();
    let requests = requests();
    let sizes: BTreeSet<_> = requests
        .values()
        .filter_map(|operation| operation.page_size_max)
        .collect();
    assert_eq!(
        Vec::from_iter(sizes),
        [1000],
        "one largest page for all lists"
    );
    let many = (0..1001)
        .map(|number| format!(r#"{{"id":"{number}"}}"#))
        .collect();
    belvo.standin.put("/api/owners/", &belvo.link, many);
    let (_, page) = belvo.json("/api/owners/?page_size=5000");
    assert_eq!(page["results"].as_array().map(Vec::len), Some(1000));
}

#[test]
fn requests_and_answers_are_of_the_same_description() {
    let Requests { version, .. } = read("tests/openapi-lists.json");
    assert_eq!(version, answers().version);
}

// Webhooks.

#[test]
fn what_the_stand_in_sends_has_the_members_of_the_published_payloads() {
    let mut compared = 0;
    for (name, sent) in sent() {
        let file = format!("tests/payloads/{name}.json");
        // Belvo documents no news of some resources.
        if !Path::new(env!("CARGO_MANIFEST_DIR")).join(&file).exists() {
            assert!(name.contains(".new_"), "{file} is missing");
            continue;
        }
        let sent: Value = serde_json::from_str(&sent).expect("a payload is JSON");
        let published: Value = read(&file);
        let shape = |payload: &Value| {
            let kind = payload["webhook_type"].clone();
            (kind, members(payload), members(&payload["data"]))
        };
        assert_eq!(
            shape(&sent),
            shape(&published),
            "sent (left), {file} (right)"
        );
        compared += 1;
    }
    assert!(compared > 40, "only {compared} payloads were compared");
}

/// What the stand-in can send, by the name of the payload.
fn sent() -> Vec<(String, String)> {
    let mut all = vec![
        (
            "TRANSACTIONS.transactions_deleted".to_owned(),
            payloads::transactions_deleted(ID, &[ID]),
        ),
        (
            "TRANSACTIONS.transactions_updated".to_owned(),
            payloads::transactions_updated(ID, &[ID]),
        ),
        (
            "EMPLOYMENT_RECORDS.employment_changes".to_owned(),
            payloads::employment_changes(ID, &["EMPLOYED"]),
        ),
    ];
    for resource in Resource::ALL {
        let (kind, name) = (resource.name().to_uppercase(), resource.name());
        let historical = payloads::historical_update(resource, ID, 1);
        all.push((format!("{kind}.historical_update"), historical));
        let new = payloads::new_available(resource, ID, 1);
        all.push((format!("{kind}.new_{name}_available"), new));
    }
    for code in [
        "invalid_credentials",
        "token_required",
        "link_deleted",
        "historical_update_progress_complete",
    ] {
        all.push((format!("LINK.{code}"), payloads::link_event(ID, code)));
    }
    let due = Some("2026-12-26T10:45:58.000Z");
    for (code, due) in [
        ("openfinance_consent_about_to_expire", due),
        ("openfinance_consent_expired", None),
        ("consent_expired", None),
        ("openfinance_consent_with_unrecoverable_resources", None),
        (
            "openfinance_consent_with_temporarily_unavailable_resources",
            None,
        ),
        ("openfinance_consent_expiration_changed", due),
        ("consent_revoked", None),
    ] {
        let sent = payloads::consent_event(ID, ID, code, due);
        all.push((format!("CONSENT.{code}"), sent));
    }
    all
}

fn members(value: &Value) -> BTreeSet<String> {
    let members = value.as_object().expect("an object");
    members.keys().cloned().collect()
}

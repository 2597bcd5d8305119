//! The catalog against everything that must agree with it: the payloads as Belvo publishes them, what is planned for
//! them, the list in README.md, the views, and Belvo's API description. Knows nothing of the running program.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use belvo_gateway::catalog::{self, Action as Row, RESOURCES, Resource, WEBHOOKS};
use belvo_gateway::database::{StateDirectory, open_writer};
use belvo_gateway::drain::plan::{Action, Planned, plan};
use belvo_gateway::fetch::{Api, Client, Keys, Query, Target};
use belvo_gateway::store::VIEWS;
use belvo_gateway::system::secret::Secret;
use belvo_gateway::webhook::{Envelope, Seq};
use rustls::RootCertStore;
use serde::Deserialize;

const LINK: &str = "16f68516-bcbc-4cf7-b815-c500d4204e28";

/// Kinds with a payload that have no row yet. Who adds the row takes the kind off this list.
const NOT_IN_THE_CATALOG_YET: &[&str] = &[
    "BANK_ACCOUNTS.OBJECT_CREATED",
    "BANK_ACCOUNTS.STATUS_UPDATE",
    "CHARGES.OBJECT_CREATED",
    "CHARGES.STATUS_UPDATE",
    "CONSENT.consent_expired",
    "CONSENT.consent_revoked",
    "CONSENT.openfinance_consent_about_to_expire",
    "CONSENT.openfinance_consent_expiration_changed",
    "CONSENT.openfinance_consent_expired",
    "CONSENT.openfinance_consent_with_temporarily_unavailable_resources",
    "CONSENT.openfinance_consent_with_unrecoverable_resources",
    "CURRENT_EMPLOYMENTS.historical_update",
    "CUSTOMERS.OBJECT_CREATED",
    "CUSTOMERS.STATUS_UPDATE",
    "DEBT_REPORTS.historical_update",
    "EMPLOYMENTS.historical_update",
    "EMPLOYMENTS.new_employments_available",
    "EMPLOYMENT_METRICS.historical_update",
    "EMPLOYMENT_RECORDS.employment_changes",
    "EMPLOYMENT_RECORDS.historical_update",
    "EMPLOYMENT_SCORES.historical_update",
    "ENROLLMENTS.OBJECT_CREATED",
    "ENROLLMENTS.STATUS_UPDATE",
    "EXCHANGES.historical_update",
    "EXCHANGES.new_exchanges_available",
    "FINANCIAL_STATEMENTS.historical_update",
    "INCOMES.historical_update",
    "INVOICES.historical_inflow_update",
    "INVOICES.historical_outflow_update",
    "INVOICES.historical_update",
    "INVOICES.initial_inflow_update",
    "INVOICES.initial_outflow_update",
    "INVOICES.new_invoices_available",
    "LINK.historical_update_progress_complete",
    "LINK.invalid_credentials",
    "LINK.link_deleted",
    "LINK.token_required",
    "PAYMENT_AUTHORIZATIONS.OBJECT_CREATED",
    "PAYMENT_AUTHORIZATIONS.STATUS_UPDATE",
    "PAYMENT_INTENTS.OBJECT_CREATED",
    "PAYMENT_INTENTS.STATUS_UPDATE",
    "RECURRING_EXPENSES.historical_update",
    "RISK_INSIGHTS.historical_update",
    "TAX_COMPLIANCE_STATUS.historical_update",
    "TAX_DECLARATIONS.historical_update",
    "TAX_RETENTIONS.historical_update",
    "TAX_RETURNS.historical_update",
    "TAX_RETURNS.new_tax_returns_available",
    "TAX_STATUS.historical_update",
    "TRANSACTIONS.OBJECT_CREATED",
    "TRANSACTIONS.STATUS_UPDATE",
    "TRANSACTIONS.transactions_deleted",
    "TRANSACTIONS.transactions_updated",
    "consent_update",
    "customer_update",
    "payment_method_update",
    "payment_request_update",
];

/// Views that are not about a resource.
const OTHER_VIEWS: &[&str] = &["attention", "freshness", "inbox"];

// Payloads.

#[test]
fn every_row_of_the_catalog_has_a_payload() {
    let payloads = payloads();
    for row in WEBHOOKS {
        let name = format!("{}.{}", row.kind, row.code);
        assert!(
            payloads.contains_key(&name),
            "tests/payloads/{name}.json is missing: every row of catalog::WEBHOOKS has the payload that Belvo publishes"
        );
    }
}

#[test]
fn every_payload_has_a_row_or_is_known_to_have_none_yet() {
    let rows: BTreeSet<_> = WEBHOOKS
        .iter()
        .map(|row| format!("{}.{}", row.kind, row.code))
        .collect();
    for name in payloads().keys() {
        assert!(
            rows.contains(name) != NOT_IN_THE_CATALOG_YET.contains(&name.as_str()),
            "tests/payloads/{name}.json is of a kind that has either a row in catalog::WEBHOOKS or a line in \
             NOT_IN_THE_CATALOG_YET"
        );
    }
}

#[test]
fn every_payload_of_a_row_is_planned_as_that_row_says() {
    let payloads = payloads();
    for row in WEBHOOKS {
        let name = format!("{}.{}", row.kind, row.code);
        let planned = planned(&payloads, &name);
        let Row::Fetch(resource) = row.action;
        assert_eq!(planned.action, Action::Fetch, "{name}");
        let wish = planned.wish.expect("a fetch has a wish");
        assert_eq!(
            (
                wish.resource.as_str(),
                Some(&wish.link_id),
                wish.object_id.as_str()
            ),
            (resource, planned.envelope.link_id.as_ref(), ""),
            "{name}"
        );
    }
}

#[test]
fn a_payload_without_a_row_is_kept_as_unknown_and_asks_for_nothing() {
    let payloads = payloads();
    for name in NOT_IN_THE_CATALOG_YET {
        let planned = planned(&payloads, name);
        assert_eq!(
            (planned.action, planned.wish),
            (Action::Unknown, None),
            "{name}"
        );
    }
}

#[test]
fn every_payload_has_an_envelope_that_says_what_it_is_about() {
    for (name, body) in payloads() {
        let envelope =
            Envelope::parse(&body).unwrap_or_else(|error| panic!("{name} cannot be read: {error}"));
        assert!(envelope.webhook_id.is_some(), "{name} has no webhook_id");
        assert!(
            envelope.link_id.is_some() != envelope.object_id.is_some(),
            "{name} names either a link or an object"
        );
        let kind = envelope
            .kind
            .unwrap_or_else(|| panic!("{name} has no webhook_type"));
        let code = envelope
            .code
            .unwrap_or_else(|| panic!("{name} has no webhook_code"));
        // Belvo's page shows this one under ACCOUNTS.
        let expected = match format!("{kind}.{code}").as_str() {
            "ACCOUNTS.new_investments_available" => {
                "INVESTMENTS.new_investments_available".to_owned()
            }
            other => other.to_owned(),
        };
        assert_eq!(
            name, expected,
            "a payload is named after its type and its code"
        );
    }
}

#[test]
fn a_row_leads_to_the_resource_of_its_type() {
    for row in WEBHOOKS {
        let Row::Fetch(name) = row.action;
        let resource = catalog::resource_named(name).expect("a row leads to a resource");
        assert_eq!(resource.kind, row.kind, "{} {}", row.kind, row.code);
    }
}

// README.md.

#[test]
fn readme_lists_the_webhooks_of_the_catalog() {
    const BEGIN: &str = "<!-- webhooks:begin -->\n";
    const END: &str = "<!-- webhooks:end -->";
    let readme = read(&root().join("README.md"));
    let (_, rest) = readme
        .split_once(BEGIN)
        .expect("README.md has a line <!-- webhooks:begin -->");
    let (listed, _) = rest
        .split_once(END)
        .expect("README.md has a line <!-- webhooks:end --> after it");
    let expected = webhooks_as_markdown();
    assert!(
        listed == expected,
        "README.md does not list what the catalog holds; put this between its marks:\n\n{BEGIN}{expected}{END}\n"
    );
}

fn webhooks_as_markdown() -> String {
    let mut text = "| type | code | leads to | path |\n|---|---|---|---|\n".to_owned();
    for row in WEBHOOKS {
        let Row::Fetch(name) = row.action;
        let path = catalog::resource_named(name)
            .expect("a row leads to a resource")
            .path;
        text += &format!("| `{}` | `{}` | {name} | `{path}` |\n", row.kind, row.code);
    }
    text
}

// Views.

#[test]
fn every_resource_has_its_view_and_every_view_its_resource() {
    let (_directory, file) = empty_file();
    let views: BTreeSet<String> = file
        .prepare("SELECT name FROM sqlite_schema WHERE type = 'view'")
        .and_then(|mut found| found.query_map([], |row| row.get(0))?.collect())
        .expect("the names of the views");
    let expected = RESOURCES
        .iter()
        .map(|row| row.name)
        .chain(OTHER_VIEWS.iter().copied());
    assert_eq!(
        views,
        expected.map(str::to_owned).collect(),
        "views in the file (left), resources and other views (right)"
    );
}

#[test]
fn the_view_of_a_resource_shows_its_objects_and_no_others() {
    let (_directory, file) = empty_file();
    for row in RESOURCES {
        file.execute(
            "INSERT INTO objects (resource, id, link_id, body, first_seen_at, last_changed_at, seq)
             VALUES (?1, 'id of ' || ?1, ?2, '{}', 0, 0, 1)",
            [row.name, LINK],
        )
        .expect("an object");
    }
    for row in RESOURCES {
        // These four columns every view of a resource has, whatever the objects hold.
        let shown: Vec<(String, String, bool, String)> = file
            .prepare(&format!(
                "SELECT id, link_id, deleted, body FROM {}",
                row.name
            ))
            .and_then(|mut found| {
                found
                    .query_map([], |row| row.try_into())?
                    .collect::<rusqlite::Result<_>>()
            })
            .unwrap_or_else(|error| panic!("view {}: {error}", row.name));
        let own = (
            format!("id of {}", row.name),
            LINK.to_owned(),
            false,
            "{}".to_owned(),
        );
        assert_eq!(shown, [own], "view {}", row.name);
    }
}

fn empty_file() -> (tempfile::TempDir, rusqlite::Connection) {
    let directory = tempfile::tempdir().expect("a directory");
    let locked = StateDirectory::lock(directory.path()).expect("the lock");
    let file = open_writer(&locked, VIEWS).expect("a file");
    (directory, file)
}

// Belvo's API description. Belvo's firewall refuses what is not in it.

/// `tests/openapi-lists.json`.
#[derive(Deserialize)]
struct Description {
    version: String,
    lists: BTreeMap<String, List>,
}

/// What the description says about the GET of one list.
#[derive(Deserialize)]
struct List {
    page_size_max: u32,
    required: BTreeSet<String>,
    query: BTreeSet<String>,
}

#[test]
fn every_resource_is_a_list_of_the_api_description() {
    let description = description();
    assert_eq!(description.version, "1.223.0");
    let described: BTreeSet<_> = description.lists.keys().map(String::as_str).collect();
    let used: BTreeSet<_> = RESOURCES.iter().map(|row| row.path).collect();
    assert_eq!(
        used, described,
        "paths of the catalog (left) and of tests/openapi-lists.json (right)"
    );
    for row in RESOURCES {
        let allowed = description.lists[row.path].page_size_max;
        assert!(row.page_size <= allowed, "{}: at most {allowed}", row.path);
    }
}

#[tokio::test]
async fn a_request_has_the_declared_parameters_and_no_others() {
    let description = description();
    for row in RESOURCES {
        let target = requested(row).await;
        let (path, query) = target.split_once('?').expect("a query");
        assert_eq!(path, row.path);
        let sent: BTreeSet<String> = form_urlencoded::parse(query.as_bytes())
            .map(|(name, _)| name.into_owned())
            .collect();
        let list = description
            .lists
            .get(row.path)
            .unwrap_or_else(|| panic!("tests/openapi-lists.json has no {path}"));
        assert!(
            sent.is_subset(&list.query),
            "{path} declares no {:?}",
            &sent - &list.query
        );
        assert!(
            sent.is_superset(&list.required),
            "{path} requires {:?}",
            &list.required - &sent
        );
        assert_eq!(
            Vec::from_iter(&sent),
            ["link", "page", "page_size"],
            "{path}"
        );
    }
}

/// The target of the request that our client makes for a page of this resource.
async fn requested(resource: &Resource) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    let server = thread::spawn(move || {
        let (stream, _) = listener.accept().expect("a connection");
        let mut lines = BufReader::new(&stream)
            .lines()
            .map(|line| line.expect("a line"));
        let first = lines.next().expect("a request line");
        lines
            .find(String::is_empty)
            .expect("the end of the request's head");
        let page = r#"{"count":0,"next":null,"previous":null,"results":[]}"#;
        let length = page.len();
        write!(
            &stream,
            "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{page}"
        )
        .expect("the answer is taken");
        first
    });
    let target = Target {
        base_url: format!("http://{address}").parse().expect("an address"),
        roots: Some(Arc::new(RootCertStore::empty())),
    };
    let keys = Keys {
        id: Secret::new("id".to_owned()),
        password: Secret::new("password".to_owned()),
    };
    let query = Query {
        path: resource.path,
        link_id: LINK.to_owned(),
    };
    Client::new(&target, &keys)
        .expect("a client")
        .page(&query, 1, resource.page_size)
        .await
        .expect("an empty page");
    let line = server.join().expect("a request");
    line.strip_prefix("GET ")
        .and_then(|rest| rest.strip_suffix(" HTTP/1.1"))
        .unwrap_or_else(|| panic!("{line} is no GET"))
        .to_owned()
}

fn description() -> Description {
    let text = read(&root().join("tests/openapi-lists.json"));
    serde_json::from_str(&text).expect("tests/openapi-lists.json is readable")
}

// Files.

/// The payloads by name: the file's, without `.json`.
fn payloads() -> BTreeMap<String, String> {
    let directory = fs::read_dir(root().join("tests/payloads")).expect("tests/payloads");
    directory
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|end| end == "json"))
        .map(|path| {
            let name = path
                .file_stem()
                .and_then(|name| name.to_str())
                .expect("a plain name");
            (name.to_owned(), read(&path))
        })
        .collect()
}

fn planned(payloads: &BTreeMap<String, String>, name: &str) -> Planned {
    let body = payloads
        .get(name)
        .unwrap_or_else(|| panic!("tests/payloads/{name}.json is missing"));
    plan(Seq(1), "3.130.254.46", body)
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn root() -> PathBuf {
    env!("CARGO_MANIFEST_DIR").into()
}

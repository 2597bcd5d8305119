//! The catalog against everything that must agree with it: the payloads as Belvo publishes them, what is planned for
//! them, the list in README.md, the views, and Belvo's API description. Knows nothing of the running program.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;

use belvo_gateway::catalog::{
    self, Action as Row, CONSENTS, LINKS, News, Payments, RESOURCES, Resource, Shape, WEBHOOKS,
    Webhook,
};
use belvo_gateway::database::{StateDirectory, open_writer};
use belvo_gateway::drain::plan::{Action, Planned, plan};
use belvo_gateway::fetch::{self, Api, CODES, Client, Keys, List, Request, Target};
use belvo_gateway::standin::ERRORS;
use belvo_gateway::store::VIEWS;
use belvo_gateway::system::secret::Secret;
use belvo_gateway::webhook::{Envelope, Seq};
use rustls::RootCertStore;
use serde::Deserialize;
use serde_json::Value;

const LINK: &str = "16f68516-bcbc-4cf7-b815-c500d4204e28";

/// Views that are not about a resource.
const OTHER_VIEWS: &[&str] = &[
    "arrivals",
    "attention",
    "consent_status",
    "freshness",
    "inbox",
    "link_status",
];

// Payloads.

/// The name of the payload of a row: a direct debit has no code that is documented in full.
fn file_of(row: &Webhook) -> String {
    match row.code {
        "" => row.kind.to_owned(),
        code => format!("{}.{code}", row.kind),
    }
}

#[test]
fn every_row_has_a_payload_and_every_payload_a_row() {
    let rows: BTreeSet<_> = WEBHOOKS.iter().map(file_of).collect();
    let files: BTreeSet<_> = payloads().into_keys().collect();
    assert_eq!(
        rows, files,
        "rows of catalog::WEBHOOKS (left) and files in tests/payloads (right)"
    );
}

#[test]
fn every_payload_of_a_row_is_planned_as_that_row_says() {
    let payloads = payloads();
    for row in WEBHOOKS {
        let name = file_of(row);
        let planned = planned(&payloads, &name);
        assert_eq!(
            catalog::action_for(&planned.envelope),
            Some(row.action),
            "{name}"
        );
        let expected = match row.action {
            Row::List(_) | Row::New(_) | Row::Objects(_) | Row::Ready => Action::Fetch,
            Row::Delete(_) => Action::Delete,
            Row::Link(_) => Action::Link,
            Row::Consent(_) => Action::Consent,
            Row::Payment(Payments::Brazil) => Action::PaymentsBrazil,
            Row::Payment(Payments::Mexico) => Action::PaymentsMexico,
        };
        assert_eq!(planned.action, expected, "{name}");
        let of_link = planned
            .wishes
            .iter()
            .all(|wish| Some(&wish.key.link_id) == planned.envelope.link_id.as_ref());
        assert!(of_link, "{name} asks for another link");
        if let Some(resource) = row.action.resource() {
            assert_eq!(planned.resource, Some(resource), "{name}");
        }
    }
}

#[test]
fn every_payload_has_an_envelope_that_says_what_it_is_about() {
    for (name, body) in payloads() {
        let envelope =
            Envelope::parse(&body).unwrap_or_else(|error| panic!("{name} cannot be read: {error}"));
        if let Some(event_type) = envelope.event_type {
            assert_eq!(name, event_type, "a direct debit is named after its type");
            continue;
        }
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
        let Some(name) = row.action.resource() else {
            continue;
        };
        let resource = catalog::resource_named(name).expect("a row leads to a resource");
        // Scores are inside the records of employment.
        let kind = match row.kind {
            "EMPLOYMENT_SCORES" => "EMPLOYMENT_RECORDS",
            other => other,
        };
        assert_eq!(resource.kind, kind, "{} {}", row.kind, row.code);
    }
}

#[test]
fn every_error_code_that_belvo_documents_has_a_row() {
    let rows: BTreeSet<_> = CODES
        .iter()
        .map(|known| (known.status, known.code))
        .collect();
    let documented: BTreeSet<_> = ERRORS
        .iter()
        .copied()
        .filter(|(_, code)| !code.is_empty())
        .collect();
    assert_eq!(
        rows, documented,
        "fetch::CODES (left), the stand-in's (right)"
    );
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

/// One line for all codes of a type that lead to the same; one for all payments of a form.
fn webhooks_as_markdown() -> String {
    let mut lines: Vec<(String, Vec<&str>, Vec<&str>)> = Vec::new();
    for row in WEBHOOKS {
        let leads_to = leads_to(row.action);
        let payment = matches!(row.action, Row::Payment(_));
        match lines.last_mut() {
            Some((last, kinds, codes))
                if *last == leads_to && (payment || *kinds == [row.kind]) =>
            {
                kinds.push(row.kind);
                kinds.dedup();
                codes.push(row.code);
            }
            _ => lines.push((leads_to, vec![row.kind], vec![row.code])),
        }
    }
    let quoted = |mut words: Vec<&str>| {
        let mut seen = BTreeSet::new();
        words.retain(|word| !word.is_empty() && seen.insert(*word));
        let quoted: Vec<_> = words.iter().map(|word| format!("`{word}`")).collect();
        match quoted.is_empty() {
            true => "any".to_owned(),
            false => quoted.join(", "),
        }
    };
    let mut text = "| type | code | leads to |\n|---|---|---|\n".to_owned();
    for (leads_to, kinds, codes) in lines {
        text += &format!("| {} | {} | {leads_to} |\n", quoted(kinds), quoted(codes));
    }
    text
}

fn leads_to(action: Row) -> String {
    let path = |name: &str| {
        let resource = catalog::resource_named(name).expect("a row leads to a resource");
        let elsewhere = resource.elsewhere.iter();
        let elsewhere: Vec<_> = elsewhere
            .map(|(country, path)| format!(", {country}: `{path}`"))
            .collect();
        format!("`{}`{}", resource.path, elsewhere.concat())
    };
    match action {
        Row::List(name) | Row::New(name) => path(name),
        Row::Objects(name) => format!("{name} by id"),
        Row::Delete(name) => format!("{name} marked as deleted"),
        Row::Link(_) => "the link's state and its record".to_owned(),
        Row::Ready => "every resource of the link, once".to_owned(),
        Row::Consent(_) => "the consent's state and its record".to_owned(),
        Row::Payment(Payments::Brazil) => "kept (Brazil, Colombia)".to_owned(),
        Row::Payment(Payments::Mexico) => "kept (direct debit in Mexico)".to_owned(),
    }
}

// Views.

#[test]
fn every_resource_has_its_view_and_every_view_its_resource() {
    let (_directory, file) = empty_file();
    let expected = RESOURCES
        .iter()
        .map(|row| row.name)
        .chain(OTHER_VIEWS.iter().copied());
    assert_eq!(
        views(&file),
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
        let own = (format!("id of {}", row.name), false, Some("{}".to_owned()));
        assert_eq!(shown(&file, row.name), [own], "view {}", row.name);
    }
}

#[test]
fn the_view_of_a_resource_shows_what_was_deleted_before_it_was_seen() {
    let (_directory, file) = empty_file();
    for row in RESOURCES {
        file.execute(
            "INSERT INTO objects (resource, id, link_id, first_seen_at, last_changed_at, seq, deleted_at, deleted_by)
             VALUES (?1, 'gone', ?2, 0, 0, 1, 0, 1)",
            [row.name, LINK],
        )
        .expect("a tombstone");
    }
    for row in RESOURCES {
        let own = ("gone".to_owned(), true, None);
        assert_eq!(shown(&file, row.name), [own], "view {}", row.name);
    }
}

/// Id, `deleted` and body of what a view shows of the link. These columns every view of a resource has.
fn shown(file: &rusqlite::Connection, view: &str) -> Vec<(String, bool, Option<String>)> {
    let sql = format!("SELECT id, deleted, body FROM {view} WHERE link_id = '{LINK}'");
    file.prepare(&sql)
        .and_then(|mut found| {
            found
                .query_map([], |row| row.try_into())?
                .collect::<rusqlite::Result<_>>()
        })
        .unwrap_or_else(|error| panic!("view {view}: {error}"))
}

#[test]
fn the_views_have_the_columns_that_the_documentation_lists_in_its_order() {
    const FIRST: &[&str] = &["id", "link_id"];
    const LAST: &[&str] = &["deleted", "body", "link_deleted"];
    let (_directory, file) = empty_file();
    let documented = documented_columns();
    for (view, own) in &documented {
        let own = own.iter().map(String::as_str);
        let expected: Vec<_> = match RESOURCES.iter().any(|row| row.name == view) {
            true => FIRST
                .iter()
                .copied()
                .chain(own)
                .chain(LAST.iter().copied())
                .collect(),
            false => own.collect(),
        };
        let statement = file
            .prepare(&format!("SELECT * FROM {view}"))
            .unwrap_or_else(|error| panic!("view {view} of docs/database.md: {error}"));
        let found: Vec<_> = statement.column_names().collect();
        assert_eq!(found, expected, "view {view}");
    }
    let names: BTreeSet<_> = documented.keys().cloned().collect();
    assert_eq!(names, views(&file), "docs/database.md lists every view");
}

/// The views in the tables of docs/database.md, each with the columns in its row.
fn documented_columns() -> BTreeMap<String, Vec<String>> {
    let text = read(&root().join("docs/database.md"));
    let (_, rest) = text.split_once("\n## Views\n").expect("a part on views");
    let (rows, _) = rest.split_once("\n## ").expect("a part after it");
    let quoted = |cell: &str| -> Vec<String> {
        let parts = cell.split('`').skip(1).step_by(2);
        parts.map(str::to_owned).collect()
    };
    rows.lines()
        .filter(|line| line.starts_with("| `"))
        .filter_map(|line| {
            let cells: Vec<_> = line.split('|').collect();
            let name = quoted(cells[1]).pop()?;
            (cells.len() == 5).then(|| (name, quoted(cells[3])))
        })
        .collect()
}

fn views(file: &rusqlite::Connection) -> BTreeSet<String> {
    file.prepare("SELECT name FROM sqlite_schema WHERE type = 'view'")
        .and_then(|mut found| found.query_map([], |row| row.get(0))?.collect())
        .expect("the names of the views")
}

#[test]
fn the_newest_webhooks_are_found_without_reading_all_of_them() {
    let (_directory, file) = empty_file();
    let plan: Vec<String> = file
        .prepare("EXPLAIN QUERY PLAN SELECT * FROM inbox ORDER BY seq DESC LIMIT 20")
        .and_then(|mut found| found.query_map([], |row| row.get(3))?.collect())
        .expect("a plan");
    let sorted = |step: &String| step.contains("TEMP B-TREE");
    let outer = plan.iter().take_while(|step| !step.contains("SUBQUERY"));
    assert!(!outer.clone().any(sorted), "{plan:#?}");
    // Both are read in the order of seq, and no further than the newest few: of the journal, and of what has left it.
    assert_eq!(plan[0], "MERGE (UNION ALL)", "{plan:#?}");
    let scans = plan.iter().filter(|step| step.starts_with("SCAN"));
    assert_eq!(
        scans.collect::<Vec<_>>(),
        ["SCAN journal", "SCAN events USING INDEX events_alone"],
        "{plan:#?}"
    );
    let lookups = plan.iter().filter(|step| step.starts_with("SEARCH work"));
    let mut seen = 0;
    for step in lookups {
        assert!(step.ends_with("(link_id=? AND resource=?)"), "{plan:#?}");
        seen += 1;
    }
    assert_eq!(seen, 2, "{plan:#?}");
}

fn empty_file() -> (tempfile::TempDir, rusqlite::Connection) {
    let directory = tempfile::tempdir().expect("a directory");
    let locked = StateDirectory::lock(directory.path()).expect("the lock");
    let file = open_writer(&locked, VIEWS).expect("a file");
    (directory, file)
}

// Belvo's API description. Belvo's firewall refuses what is not in it.

/// `tests/openapi-lists.json`: what may be asked for.
#[derive(Deserialize)]
struct Description {
    version: String,
    lists: BTreeMap<String, Operation>,
    others: BTreeMap<String, Operation>,
}

/// What the description says about one GET.
#[derive(Deserialize)]
struct Operation {
    page_size_max: Option<u32>,
    required: BTreeSet<String>,
    query: BTreeSet<String>,
}

/// `tests/openapi-schemas.json`: what is answered.
#[derive(Deserialize)]
struct Answers {
    schemas: BTreeMap<String, Value>,
    page: Value,
    objects: BTreeMap<String, Value>,
}

/// Where the catalog is not as described, and why. One that is not needed any more is a failure.
const DEVIATIONS: &[(&str, &str)] = &[
    (
        "/api/tax-declarations/",
        "retired: webhooks of older links may still name it, so it is tried, and a 404 means that there is nothing",
    ),
    (
        "/api/co/employments/",
        "in older material for Colombia only; likewise",
    ),
];

/// Lists whose description declares a `created_at` filter that `new_...` does not use, and why.
const WHOLE_ALTHOUGH_FILTERED: &[(&str, &str)] = &[
    (
        "/api/accounts/",
        "Belvo says that the event stands for changed accounts, too",
    ),
    (
        "/api/br/investments/",
        "an investment's value changes in place, and its schema has no created_at",
    ),
];

impl Description {
    fn operation(&self, path: &str) -> Option<&Operation> {
        self.lists.get(path).or_else(|| self.others.get(path))
    }
}

/// Every path that the catalog can lead to, in every country, as the description writes it.
fn paths_of(resource: &Resource) -> Vec<String> {
    let countries = resource.elsewhere.iter().map(|(country, _)| Some(*country));
    let object_id = match resource.shape {
        Shape::List => "",
        Shape::Beneath(_) | Shape::Record => "{id}",
    };
    countries
        .chain([None])
        .map(|country| resource.path_in(country, object_id))
        .collect()
}

fn everything() -> impl Iterator<Item = &'static Resource> {
    RESOURCES.iter().chain([&LINKS, &CONSENTS])
}

fn deviates(path: &str) -> bool {
    DEVIATIONS.iter().any(|(deviating, _)| *deviating == path)
}

#[test]
fn every_path_is_in_the_api_description_or_a_known_deviation() {
    let description = description();
    assert_eq!(description.version, "1.223.0");
    let used: BTreeSet<String> = everything().flat_map(paths_of).collect();
    for path in &used {
        assert!(
            description.operation(path).is_some() != deviates(path),
            "{path} is in the description, or it has a line in DEVIATIONS"
        );
    }
    for (path, _) in DEVIATIONS {
        assert!(
            used.contains(*path),
            "{path} is not used: change DEVIATIONS"
        );
    }
    for row in RESOURCES.iter().filter(|row| row.shape == Shape::List) {
        let by_id = row.path_in(None, "{id}");
        let known = description.operation(&by_id).is_some();
        assert!(known || deviates(row.path), "{by_id}");
    }
}

#[test]
fn what_is_new_is_asked_for_by_a_filter_wherever_one_is_declared() {
    let description = description();
    for row in RESOURCES.iter().filter(|row| row.shape == Shape::List) {
        for path in paths_of(row) {
            let Some(operation) = description.operation(&path) else {
                continue;
            };
            let excepted = WHOLE_ALTHOUGH_FILTERED
                .iter()
                .any(|(whole, _)| *whole == path);
            let declared = operation.query.contains("created_at__gte");
            let expected = match declared && !excepted {
                true => News::Created,
                false => News::Whole,
            };
            assert_eq!(row.news, expected, "{path}");
            assert!(
                declared || !excepted,
                "{path}: change WHOLE_ALTHOUGH_FILTERED"
            );
        }
    }
}

#[test]
fn every_field_that_is_read_is_in_the_api_description() {
    let answers: Answers =
        serde_json::from_str(&read(&root().join("tests/openapi-schemas.json"))).expect("JSON");
    let has = |path: &str, fields: &[&str]| {
        let schema = answers.objects.get(path).expect("a described list");
        for field in fields {
            assert!(
                has_field(&answers.schemas, schema, field),
                "{path} has no {field}"
            );
        }
    };
    for member in ["count", "next"] {
        assert!(
            has_field(&answers.schemas, &answers.page, member),
            "{member}"
        );
    }
    for row in RESOURCES {
        for path in paths_of(row).iter().filter(|path| !deviates(path)) {
            has(path, &["id"]);
        }
    }
    has(
        LINKS.path,
        &[
            "id",
            "status",
            "institution",
            "last_accessed_at",
            "fetch_resources",
        ],
    );
    has(CONSENTS.path, &["id", "status", "expired_at"]);
    has("/api/transactions/", &["account"]);
    has("/api/accounts/", &["link"]);
}

/// Whether an object of this schema, or of one of its alternatives, may have the field.
fn has_field(named: &BTreeMap<String, Value>, schema: &Value, field: &str) -> bool {
    !fields(named, schema, field).is_empty()
}

/// What this schema and its alternatives say about a field.
fn fields<'a>(
    named: &'a BTreeMap<String, Value>,
    schema: &'a Value,
    field: &str,
) -> Vec<&'a Value> {
    let schema = resolved(named, schema);
    let own = schema.get("properties").and_then(|all| all.get(field));
    let alternatives = ["oneOf", "anyOf", "allOf"]
        .into_iter()
        .filter_map(|keyword| schema.get(keyword)?.as_array())
        .flatten();
    own.into_iter()
        .chain(alternatives.flat_map(|schema| fields(named, schema, field)))
        .map(|schema| resolved(named, schema))
        .collect()
}

fn resolved<'a>(named: &'a BTreeMap<String, Value>, schema: &'a Value) -> &'a Value {
    let name = schema.get("$ref").and_then(Value::as_str);
    name.and_then(|name| named.get(name)).unwrap_or(schema)
}

#[test]
fn what_a_view_shows_is_in_the_api_description_and_no_amount_becomes_a_float() {
    let answers: Answers =
        serde_json::from_str(&read(&root().join("tests/openapi-schemas.json"))).expect("JSON");
    for row in RESOURCES {
        let paths = paths_of(row);
        let schemas: Vec<_> = paths
            .iter()
            .filter_map(|path| answers.objects.get(path))
            .collect();
        if schemas.is_empty() {
            assert!(paths.iter().all(|path| deviates(path)), "{paths:?}");
            continue;
        }
        for (operator, path) in looked_up(row.name) {
            if UNDESCRIBED.iter().any(|inside| path.starts_with(inside)) {
                continue;
            }
            let described = at(&answers.schemas, &schemas, &path);
            assert!(!described.is_empty(), "{}: {path}", row.name);
            let is_number = |schema: &&Value| schema.get("type") == Some(&"number".into());
            assert!(
                operator == "->" || !described.iter().any(is_number),
                "{}: {path} is a number, which only -> leaves as it is",
                row.name
            );
        }
    }
}

/// Objects of which the description does not say what is in them; their fields have the names of the list's filters.
const UNDESCRIBED: &[&str] = &["$.informacion_general."];

/// What the view of a resource takes out of the body: how, and where.
fn looked_up(view: &str) -> Vec<(&'static str, String)> {
    let (_, rest) = VIEWS
        .0
        .split_once(&format!("CREATE VIEW {view} AS\n"))
        .unwrap_or_else(|| panic!("no view {view}"));
    let body = rest.split(';').next().expect("an end");
    body.split('\'')
        .zip(body.split('\'').skip(1))
        .filter(|(_, path)| path.starts_with("$."))
        .map(|(before, path)| {
            let operator = match before.trim_end().ends_with("->") {
                true => "->",
                false => "->>",
            };
            (operator, path.to_owned())
        })
        .collect()
}

/// What the schemas say about a path such as `$.accounts[0].name`.
fn at<'a>(named: &'a BTreeMap<String, Value>, schemas: &[&'a Value], path: &str) -> Vec<&'a Value> {
    let steps = path.split('.').skip(1);
    steps.fold(schemas.to_vec(), |found, step| {
        let field = step.trim_end_matches("[0]");
        let inside = found
            .into_iter()
            .flat_map(|schema| fields(named, schema, field));
        match field == step {
            true => inside.collect(),
            false => inside.filter_map(|array| array.get("items")).collect(),
        }
    })
}

/// Writes down what is asked for, and answers an empty page, or an object.
#[derive(Default)]
struct Asked(Mutex<Vec<Request>>);

impl Api for Asked {
    async fn get(&self, request: &Request) -> Result<Vec<u8>, fetch::Error> {
        self.0.lock().expect("no panic").push(request.clone());
        Ok(match request.page {
            0 => br#"{"id":"7"}"#.to_vec(),
            _ => br#"{"count":0,"next":null,"previous":null,"results":[]}"#.to_vec(),
        })
    }
}

#[tokio::test]
async fn a_request_has_the_declared_parameters_and_no_others() {
    let (description, asked) = (description(), Asked::default());
    for row in everything() {
        for path in paths_of(row) {
            for day in [None, Some("2026-11-21")] {
                if day.is_some() && row.news == News::Whole {
                    continue;
                }
                let list = List {
                    path: path.clone(),
                    link_id: (row.shape == Shape::List).then(|| LINK.to_owned()),
                    created_from: day.map(str::to_owned),
                };
                match row.shape {
                    Shape::Record => drop(fetch::object(&asked, &path).await),
                    _ => drop(fetch::page(&asked, &list, 1, row.page_size).await),
                }
            }
        }
    }
    let asked = asked.0.into_inner().expect("no panic");
    assert!(asked.len() > RESOURCES.len());
    for Request { path, query, .. } in asked {
        let Some(operation) = description.operation(&path) else {
            assert!(deviates(&path), "{path}");
            continue;
        };
        let sent: BTreeSet<String> = query.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert!(
            sent.is_subset(&operation.query),
            "{path} declares no {:?}",
            &sent - &operation.query
        );
        assert!(
            sent.is_superset(&operation.required),
            "{path} requires {:?}",
            &operation.required - &sent
        );
        let page_size = query.iter().find(|(name, _)| *name == "page_size");
        let page_size = page_size.and_then(|(_, size)| size.parse().ok());
        assert!(page_size <= operation.page_size_max, "{path}");
    }
}

/// The target of the request that our client makes.
async fn requested(list: &List) -> String {
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
    let client = Client::new(&target, &keys).expect("a client");
    fetch::page(&client, list, 1, 1_000)
        .await
        .expect("an empty page");
    let line = server.join().expect("a request");
    line.strip_prefix("GET ")
        .and_then(|rest| rest.strip_suffix(" HTTP/1.1"))
        .unwrap_or_else(|| panic!("{line} is no GET"))
        .to_owned()
}

#[tokio::test]
async fn on_the_wire_a_list_has_its_path_and_its_query() {
    let list = List {
        path: "/api/owners/".to_owned(),
        link_id: Some(LINK.to_owned()),
        created_from: Some("2026-11-21".to_owned()),
    };
    assert_eq!(
        requested(&list).await,
        format!("/api/owners/?link={LINK}&created_at__gte=2026-11-21&page=1&page_size=1000")
    );
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

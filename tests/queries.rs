//! The questions that docs/database.md, README.md and deploy/datasette.yaml answer with SQL, put to a file that the gateway
//! filled from the stand-in: with objects of every resource, a tombstone, a deleted link, a link and a consent that need
//! their user, a fetch that was given up.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use belvo_gateway::catalog::RESOURCES;
use belvo_gateway::standin::objects::{Household, institutions};
use belvo_gateway::standin::payloads::{
    Resource, consent_event, historical_update, link_event, transactions_deleted,
};
use belvo_gateway::standin::{Fault, StandIn, When};
use rusqlite::Connection;
use rusqlite::types::Value;
use serde_json::Value as Json;

use crate::vocabulary::{Place, belvo, skipped, text};

const CONSENT: &str = "9e763d19-15a4-410c-a106-18c0f60ca5eb";
const ANOTHER_CONSENT: &str = "0f7a9b52-6a0e-4d0a-8a53-3c1d8f2b6a11";
const NEVER_SEEN: &str = "0a5d7f9e-6f0c-4c25-9d3a-111111111111";
/// Of these one is taken back.
const TRANSACTIONS: usize = 60;
/// Belvo's lists of it are retired, and so the stand-in has none.
const RETIRED: &str = "tax_declarations";

/// A file with something to say to every question, and the gateway gone from it.
struct Kept {
    place: Place,
    /// A link with everything; its owners cannot be fetched.
    link: String,
    /// An account of it.
    account: String,
    /// Belvo has deleted it.
    gone: String,
    /// It needs a token, and its consent ends soon; the consent of the first holds.
    locked: String,
}

type Row = BTreeMap<String, Value>;

impl Kept {
    fn new() -> Self {
        let belvo = belvo();
        let mut house = Household::new(41, 2);
        let mut chile = Household::at(institutions::FISCAL_CHILE, 42, 1);
        let (gone, locked) = (Household::new(43, 1), Household::new(44, 1));
        let mut announced = furnish(&belvo, &mut house);
        announced.extend(furnish_chile(&belvo, &mut chile));
        for house in [&gone, &locked] {
            belvo.put("/api/accounts/", house.link(), house.accounts());
            announced.push(historical_update(Resource::Accounts, house.link(), 1));
        }
        belvo.put_link(&gone.link_record());
        let mut record = locked.link_record();
        record.status = "token_required";
        belvo.put_link(&record);
        let owners = When::path("/api/owners/").link(house.link()).always();
        belvo.fail(owners, Fault::error(403, "access_to_resource_denied"));
        let accounts = When::path("/api/accounts/").link(locked.link()).always();
        belvo.fail(accounts, Fault::error(428, "token_required"));
        let deleted = id_of(&belvo.objects(Resource::Transactions.path(), house.link())[0]);

        let place = Place::new().fetching_from(&belvo);
        let gateway = place.start();
        for webhook in &announced {
            assert_eq!(gateway.answers(webhook), 200, "{webhook}");
        }
        settled(&place, announced.len());
        belvo.delete_link(gone.link());
        belvo.change(|lists| assert!(lists.remove(Resource::Transactions.path(), &deleted)));
        let consent = |house: &Household, id, code, days| {
            let mut record = house.consent_record();
            (record.id, record.expired_at) = (String::from(id), Some(in_days(days)));
            record.link = house.link().to_owned();
            belvo.put_consent(&record);
            consent_event(house.link(), id, code, record.expired_at.as_deref())
        };
        let said = [
            transactions_deleted(house.link(), &[deleted.as_str(), NEVER_SEEN]),
            link_event(gone.link(), "link_deleted"),
            link_event(locked.link(), "token_required"),
            consent(
                &house,
                ANOTHER_CONSENT,
                "openfinance_consent_expiration_changed",
                200,
            ),
            consent(&locked, CONSENT, "openfinance_consent_about_to_expire", 10),
            r#"{"webhook_type":"WEATHER","webhook_code":"sunny"}"#.to_owned(),
        ];
        for webhook in &said {
            assert_eq!(gateway.answers(webhook), 200, "{webhook}");
        }
        assert_eq!(gateway.answers("not json"), 400);
        settled(&place, announced.len() + said.len());
        place.until("SELECT count(*) > 0 FROM refusals", true);
        assert!(gateway.stop().0.success());
        let account = id_of(&house.accounts()[0]);
        Self {
            place,
            link: house.link().to_owned(),
            account,
            gone: gone.link().to_owned(),
            locked: locked.link().to_owned(),
        }
    }

    /// The rows of a query; its parameters are the link and the account.
    fn rows(&self, sql: &str) -> Vec<Row> {
        let file = self.place.file();
        let read = || -> rusqlite::Result<Vec<Row>> {
            let mut statement = file.prepare(sql)?;
            let names: Vec<String> = statement.column_names().map(str::to_owned).collect();
            for (parameter, value) in [(":link_id", &self.link), (":account_id", &self.account)] {
                if let Some(index) = statement.parameter_index(parameter)? {
                    statement.raw_bind_parameter(index, value)?;
                }
            }
            let (mut rows, mut found) = (statement.raw_query(), Vec::new());
            while let Some(row) = rows.next()? {
                let values = (0..names.len()).map(|index| row.get(index));
                let values: Vec<Value> = values.collect::<rusqlite::Result<_>>()?;
                found.push(names.iter().cloned().zip(values).collect());
            }
            Ok(found)
        };
        read().unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// The rows of the question of docs/database.md with this title.
    fn answer(&self, title: &str) -> Vec<Row> {
        let questions = questions();
        let question = questions.iter().find(|question| question.title == title);
        self.rows(
            &question
                .unwrap_or_else(|| panic!("docs/database.md does not ask {title:?}"))
                .sql,
        )
    }

    /// One column of it, sorted.
    fn answers(&self, title: &str, column: &str) -> Vec<String> {
        let mut found: Vec<_> = self
            .answer(title)
            .iter()
            .map(|row| text_of(row, column))
            .collect();
        found.sort();
        found
    }
}

/// Everything that a household has, put and announced.
fn furnish(belvo: &StandIn, house: &mut Household) -> Vec<String> {
    let link = house.link().to_owned();
    let of_chile = [
        Resource::InvoicesChile,
        Resource::TaxStatusChile,
        Resource::DebtReports,
    ];
    let mut announced = Vec::new();
    for resource in Resource::ALL
        .into_iter()
        .filter(|one| !of_chile.contains(one))
    {
        let count = match resource {
            Resource::Transactions => TRANSACTIONS,
            _ => 4,
        };
        let objects = house.objects(resource, count);
        if resource == Resource::Exchanges {
            for id in objects.iter().map(|text| id_of(text)) {
                let history = house.exchange_history(&id, 2);
                belvo.put(&format!("{}{id}/history/", resource.path()), &link, history);
            }
        }
        belvo.put(resource.path(), &link, objects);
        announced.push(historical_update(resource, &link, count));
    }
    belvo.put_link(&house.link_record());
    announced
}

/// The same in Chile.
fn furnish_chile(belvo: &StandIn, house: &mut Household) -> Vec<String> {
    let link = house.link().to_owned();
    belvo.put_link(&house.link_record());
    let resources = [
        Resource::InvoicesChile,
        Resource::TaxStatusChile,
        Resource::DebtReports,
    ];
    let announce = |resource: Resource| {
        belvo.put(resource.path(), &link, house.objects(resource, 3));
        historical_update(resource, &link, 3)
    };
    resources.map(announce).into()
}

/// Waits until `webhooks` are planned and what they led to is fetched, given up, or waits for a user.
fn settled(place: &Place, webhooks: usize) {
    place.until("SELECT count(*) FROM events", webhooks as i64);
    place.until(
        "SELECT count(*) FROM freshness WHERE state IN ('waiting', 'retrying')",
        0,
    );
}

/// So many days from now, as Belvo writes it.
fn in_days(days: i32) -> String {
    Connection::open_in_memory()
        .and_then(|clock| {
            let sql = "SELECT strftime('%Y-%m-%dT%H:%M:%S.000Z', 'now', ?1 || ' days')";
            clock.query_row(sql, [days], |row| row.get(0))
        })
        .expect("a time")
}

fn id_of(object: &str) -> String {
    let object: Json = serde_json::from_str(object).expect("JSON");
    object["id"].as_str().expect("an id").to_owned()
}

fn text_of(row: &Row, column: &str) -> String {
    match row.get(column) {
        Some(Value::Text(text)) => text.clone(),
        Some(Value::Integer(number)) => number.to_string(),
        other => panic!("{column} is {other:?}"),
    }
}

// The texts.

/// A question of docs/database.md.
struct Question {
    title: String,
    sql: String,
}

fn questions() -> Vec<Question> {
    let document = read("docs/database.md");
    let blocks = document.split("```sql\n").skip(1);
    blocks
        .filter_map(|rest| rest.split("```").next())
        .flat_map(|block| block.split(";\n"))
        .filter(|statement| !statement.trim().is_empty())
        .map(|statement| {
            let titled = statement.trim().strip_prefix("-- ");
            let (title, sql) = titled
                .and_then(|rest| rest.split_once('\n'))
                .unwrap_or_else(|| {
                    panic!("a query of docs/database.md without a title: {statement}")
                });
            Question {
                title: title.to_owned(),
                sql: sql.to_owned(),
            }
        })
        .collect()
}

/// The SQL of the `sqlite3` commands in a document.
fn commands(document: &str) -> Vec<String> {
    let lines = document.lines().filter(|line| line.starts_with("sqlite3 "));
    lines
        .filter_map(|line| line.split(['"', '\'']).nth(1))
        .filter(|sql| sql.starts_with("SELECT"))
        .map(str::to_owned)
        .collect()
}

/// The canned queries of deploy/datasette.yaml by title: all that is read of YAML are its `title: "..."` lines and the
/// blocks after `sql: |-`, which are as deep as their first line.
fn canned() -> BTreeMap<String, String> {
    let document = read("deploy/datasette.yaml");
    let mut found = BTreeMap::new();
    let mut title = None;
    let mut lines = document.lines().peekable();
    while let Some(line) = lines.next() {
        let quoted = line.trim().strip_prefix("title: \"");
        if let Some(text) = quoted.and_then(|rest| rest.strip_suffix('"')) {
            title = Some(text.to_owned());
        }
        if line.trim() != "sql: |-" {
            continue;
        }
        let depth = lines.peek().map_or(0, |first| indented(first));
        let mut sql = Vec::new();
        while let Some(line) = lines.next_if(|line| depth > 0 && indented(line) >= depth) {
            sql.push(&line[depth..]);
        }
        let title = title.take().expect("a title before each query");
        assert!(found.insert(title, sql.join("\n")).is_none());
    }
    found
}

fn indented(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

// The questions.

#[test]
fn every_question_of_the_documentation_has_an_answer() {
    let kept = Kept::new();
    let questions = questions();
    assert!(questions.len() >= 12, "only {}", questions.len());
    for Question { title, sql } in &questions {
        assert!(title.ends_with('?'), "{title}");
        assert!(!kept.rows(sql).is_empty(), "{title}");
    }
}

#[test]
fn every_sqlite3_command_of_the_readme_has_an_answer() {
    let kept = Kept::new();
    let commands = commands(&read("README.md"));
    assert!(commands.len() >= 5, "only {}", commands.len());
    for sql in commands {
        assert!(!kept.rows(&sql).is_empty(), "{sql}");
    }
}

#[test]
fn what_came_in_today_is_every_webhook_newest_first() {
    let kept = Kept::new();
    let rows = kept.answer("What came in today?");
    let received: i64 = kept.place.value("SELECT count(*) FROM journal");
    assert_eq!(rows.len() as i64, received);
    assert_eq!(rows[0]["seq"], Value::Integer(received));
    assert_eq!(text_of(&rows[0], "state"), "unknown");
    assert_eq!(
        text_of(&rows[1], "code"),
        "openfinance_consent_about_to_expire"
    );
}

#[test]
fn the_accounts_of_a_link_are_its_own() {
    let kept = Kept::new();
    let listed = kept.answers("Which accounts belong to a link?", "id");
    assert_eq!(listed.len(), 2);
    assert!(listed.contains(&kept.account));
}

#[test]
fn what_is_stuck_says_why_and_what_to_do() {
    let kept = Kept::new();
    let rows = kept.answer("What is stuck, and why?");
    let stuck = |link: &String| {
        let of_link = rows.iter().find(|row| text_of(row, "link_id") == *link);
        of_link.unwrap_or_else(|| panic!("{link} is not stuck: {rows:?}"))
    };
    assert_eq!(rows.len(), 2, "{rows:?}");
    let failed = stuck(&kept.link);
    assert_eq!(text_of(failed, "resource"), "owners");
    assert_eq!(text_of(failed, "state"), "failed");
    assert!(text_of(failed, "why").contains("403 access_to_resource_denied"));
    assert_eq!(failed["todo"], Value::Null);
    let blocked = stuck(&kept.locked);
    assert_eq!(text_of(blocked, "state"), "blocked");
    assert!(text_of(blocked, "why").contains("asks for a new token"));
    assert!(text_of(blocked, "todo").contains("give the token"));
}

#[test]
fn transactions_are_counted_and_added_by_month_without_a_float() {
    let kept = Kept::new();
    let months = kept.answer("How many transactions has an account by month?");
    let cents = kept.answer("How much moved on an account by month, in cents?");
    let account = &kept.account;
    let amounts: Vec<(String, String)> = kept
        .rows(
            "SELECT substr(value_date, 1, 7) || ' ' || type AS at, amount FROM transactions
                WHERE account_id = :account_id AND NOT deleted",
        )
        .iter()
        .map(|row| (text_of(row, "at"), text_of(row, "amount")))
        .collect();
    assert!(amounts.len() > 10, "{account} has {}", amounts.len());
    let mut wanted: BTreeMap<String, (i64, i64, i64)> = BTreeMap::new();
    for (at, amount) in amounts {
        let (count, sum, left_out) = wanted.entry(at).or_default();
        *count += 1;
        match cents_of(&amount) {
            Some(cents) => *sum += cents,
            None => *left_out += 1,
        }
    }
    let key = |row: &Row| format!("{} {}", text_of(row, "month"), text_of(row, "type"));
    let number = |row: &Row, column: &str| match row[column] {
        Value::Integer(number) => number,
        Value::Null => 0,
        ref other => panic!("{column} is {other:?}"),
    };
    let counted: BTreeMap<_, _> = months
        .iter()
        .map(|row| (key(row), number(row, "transactions")))
        .collect();
    let counts = wanted.iter().map(|(at, (count, ..))| (at.clone(), *count));
    assert_eq!(counted, counts.collect());
    let added: BTreeMap<_, _> = cents
        .iter()
        .map(|row| {
            let of = |column| number(row, column);
            (key(row), (of("transactions"), of("cents"), of("left_out")))
        })
        .collect();
    assert_eq!(added, wanted);
    assert!(wanted.values().any(|(.., left_out)| *left_out > 0));
}

/// The cents of an amount as the stand-in makes them up; none where it has an exponent.
fn cents_of(amount: &str) -> Option<i64> {
    let (whole, decimals) = amount.split_once('.').unwrap_or((amount, ""));
    let digits = format!("{whole}{decimals:0<2}");
    (decimals.len() <= 2).then(|| digits.parse().ok()).flatten()
}

#[test]
fn any_amounts_can_be_added_in_the_sqlite3_program() {
    let kept = Kept::new();
    let document = read("docs/database.md");
    let found = commands(&document);
    let sql = found
        .iter()
        .find(|sql| sql.contains("decimal_sum"))
        .expect("a sum in docs/database.md");
    let output = Command::new("sqlite3")
        .args(["-readonly", "-separator", " "])
        .arg(kept.place.state().join("gateway.db"))
        .arg(sql)
        .output();
    let Ok(output) = output else {
        return skipped("no sqlite3 program to add amounts with");
    };
    let said = text(&output.stderr);
    if said.contains("no such function") || said.contains("syntax error") {
        return skipped("the sqlite3 program is older than 3.38");
    }
    let said = text(&output.stdout);
    assert_eq!(said.lines().count(), 2, "{said}");
    // 1e-7 is among the amounts, and is not lost beside 9007199254740993.
    for line in said.lines() {
        let decimals = line.split_once('.').expect("decimals").1;
        assert!(decimals.len() >= 7, "{line}");
    }
}

#[test]
fn links_that_need_their_user_say_what_the_problem_says() {
    let kept = Kept::new();
    let rows = kept.answer("Which links need their user?");
    assert_eq!(rows.len(), 1, "{rows:?}");
    let row = &rows[0];
    assert_eq!(text_of(row, "link_id"), kept.locked);
    assert_eq!(text_of(row, "status"), "token_required");
    let problem = kept.rows("SELECT text, next_step FROM attention WHERE kind = 'link-blocked'");
    assert_eq!(problem.len(), 1);
    assert!(text_of(&problem[0], "text").starts_with(&text_of(row, "meaning")));
    assert_eq!(text_of(&problem[0], "next_step"), text_of(row, "todo"));
}

#[test]
fn consents_that_end_soon_say_what_the_problem_says_and_those_that_hold_are_left_out() {
    let kept = Kept::new();
    let rows = kept.answer("Which consents end soon?");
    assert_eq!(rows.len(), 1, "{rows:?}");
    let row = &rows[0];
    assert_eq!(text_of(row, "consent_id"), CONSENT);
    assert_eq!(text_of(row, "institution_display_name"), "OF Mockbank");
    assert!(text_of(row, "due_date") > in_days(9));
    let problem =
        kept.rows("SELECT text, next_step FROM attention WHERE kind = 'consent-expiring'");
    assert_eq!(text_of(&problem[0], "text"), text_of(row, "meaning"));
    assert_eq!(text_of(&problem[0], "next_step"), text_of(row, "todo"));
    let kept_consents = kept.rows("SELECT status FROM consent_status ORDER BY status");
    let statuses: Vec<_> = kept_consents
        .iter()
        .map(|row| text_of(row, "status"))
        .collect();
    assert_eq!(statuses, ["authorised", "expiring"]);
}

#[test]
fn what_belvo_took_back_is_listed_also_when_it_was_never_seen() {
    let kept = Kept::new();
    let taken = kept.answers("Which transactions did Belvo take back?", "id");
    assert_eq!(taken.len(), 2);
    assert!(taken.contains(&NEVER_SEEN.to_owned()));
}

#[test]
fn links_show_their_record_and_what_is_kept_of_them() {
    let kept = Kept::new();
    let rows = kept.rows(
        "SELECT status, meaning, todo, institution, country, access_mode, refresh_rate, external_id, last_accessed_at,
                last_webhook IS NOT NULL AS heard, objects FROM link_status WHERE link_id = :link_id",
    );
    let wanted = [
        ("status", "valid"),
        ("meaning", "the link works"),
        ("institution", institutions::BANK_BRAZIL),
        ("country", "br"),
        ("access_mode", "recurrent"),
        ("refresh_rate", "7d"),
        ("external_id", "your_external_id"),
        ("heard", "1"),
    ];
    for (column, value) in wanted {
        assert_eq!(text_of(&rows[0], column), value, "{column}");
    }
    assert_eq!(rows[0]["todo"], Value::Null);
    let kept_objects = "SELECT count(*) FROM objects WHERE deleted_at IS NULL AND link_id = ";
    let count: i64 = kept.place.value(&format!("{kept_objects}'{}'", kept.link));
    assert_eq!(rows[0]["objects"], Value::Integer(count));
}

// The views.

#[test]
fn every_view_shows_what_was_fetched_and_whether_its_link_is_gone() {
    let kept = Kept::new();
    let resources = RESOURCES.iter().map(|row| row.name);
    for view in resources.filter(|name| *name != RETIRED) {
        let objects = format!("SELECT count(*) FROM objects WHERE resource = '{view}'");
        let shown = kept.rows(&format!("SELECT * FROM {view}"));
        let count: i64 = kept.place.value(&objects);
        assert_eq!(shown.len() as i64, count, "{view}");
        assert!(count > 0 || view == "owners", "{view} is empty");
        for row in shown {
            let gone = text_of(&row, "link_id") == kept.gone;
            assert_eq!(row["link_deleted"], Value::Integer(gone.into()), "{view}");
        }
    }
    let of_gone = "SELECT count(*) FROM accounts WHERE link_deleted AND NOT deleted";
    assert_eq!(kept.place.value::<i64>(of_gone), 1);
}

#[test]
fn a_deletion_is_done_while_a_fetch_of_the_same_list_waits() {
    let belvo = belvo();
    let mut house = Household::new(45, 1);
    let (link, path) = (house.link().to_owned(), Resource::Transactions.path());
    belvo.put_link(&house.link_record());
    belvo.put(path, &link, house.transactions(2));
    let held = belvo.hold(When::path(path));
    let place = Place::new().fetching_from(&belvo);
    let gateway = place.start();
    gateway.answers(historical_update(Resource::Transactions, &link, 2));
    gateway.answers(transactions_deleted(&link, &[NEVER_SEEN]));
    gateway.answers(historical_update(Resource::Transactions, &link, 2));
    place.until("SELECT count(*) FROM events", 3);
    let states: Vec<String> = place.column("SELECT state FROM inbox ORDER BY seq");
    assert_eq!(states, ["waiting", "done", "waiting"]);
    held.release();
    place.until_fetched();
}

// Datasette.

#[test]
fn the_canned_queries_of_datasette_are_the_questions_of_the_documentation() {
    let questions = questions().into_iter();
    let asked: BTreeMap<_, _> = questions
        .map(|question| (question.title, question.sql))
        .collect();
    assert_eq!(canned(), asked);
}

#[test]
fn the_canned_queries_of_datasette_fit_the_schema() {
    let kept = Kept::new();
    for (title, sql) in canned() {
        assert!(!kept.rows(&sql).is_empty(), "{title}");
    }
}

#[test]
fn datasette_is_told_about_every_view_and_every_table() {
    let kept = Kept::new();
    let document = read("deploy/datasette.yaml");
    let (_, tables) = document
        .split_once("\n    tables:\n")
        .expect("a part on tables");
    let mut name = String::new();
    let mut told: BTreeMap<String, &str> = BTreeMap::new();
    for line in tables.lines() {
        match indented(line) {
            6 => name = line.trim().trim_end_matches(':').to_owned(),
            _ if line.trim() == "hidden: true" => drop(told.insert(name.clone(), "table")),
            _ => drop(told.insert(name.clone(), "view")),
        }
    }
    let names = kept.rows("SELECT name, type FROM sqlite_schema WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite_%'");
    let wanted: Vec<_> = names
        .iter()
        .map(|row| (text_of(row, "name"), text_of(row, "type")))
        .collect();
    for (name, kind) in &wanted {
        assert_eq!(told.get(name), Some(&kind.as_str()), "{name}");
    }
    assert_eq!(told.len(), wanted.len());
}

//! Two days without the API, in simulated time: how often it is asked meanwhile, how what waited is worked off, and who
//! waits for whom.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use belvo_gateway::database::{StateDirectory, Writer, open_reader, open_writer};
use belvo_gateway::drain::budget::Budget;
use belvo_gateway::drain::{Drain, Parts};
use belvo_gateway::fetch::{Api, CODES, Cause, Class, Error, Request};
use belvo_gateway::journal::Journal;
use belvo_gateway::store::{Store, VIEWS};
use belvo_gateway::system::clock::{Clock, UnixMs};
use belvo_gateway::system::stop;
use belvo_gateway::webhook::{Body, Delivery};
use tokio::sync::watch;

const BEGIN: UnixMs = UnixMs(1_796_083_200_000);
const EDGE_WINDOW: Duration = Duration::from_secs(30);
const HOUR: Duration = Duration::from_secs(3600);

/// An API that is away until a time, and then has one empty page for everything.
struct Belvo {
    clock: Clock,
    back_at: UnixMs,
    refusal: Option<&'static str>,
    asked: Arc<Mutex<Vec<(UnixMs, String, String)>>>,
}

impl Api for Belvo {
    async fn get(&self, request: &Request) -> Result<Vec<u8>, Error> {
        let link = request.query.iter().find(|(name, _)| *name == "link");
        let link = link.map_or_else(String::new, |(_, link)| link.clone());
        let now = self.clock.now();
        self.asked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push((now, link, request.path.clone()));
        tokio::time::sleep(Duration::from_millis(300)).await;
        let error = |cause| Err(Error::new(&request.path, request.page, cause));
        if self.clock.now() < self.back_at {
            return error(Cause::Network("connection refused".to_owned()));
        }
        if let Some(code) = self.refusal {
            let status = CODES.iter().find(|known| known.code == code);
            let status = status.expect("a known code").status;
            let code = Some(code.to_owned());
            return error(Cause::Status { status, code });
        }
        let id = request.path.trim_end_matches('/').rsplit('/').next();
        Ok(match request.page {
            0 => format!(r#"{{"id":"{}","status":"valid"}}"#, id.unwrap_or_default()),
            _ => r#"{"count":0,"next":null,"previous":null,"results":[]}"#.to_owned(),
        }
        .into_bytes())
    }
}

/// What was asked for when: time, link, path.
type Asked = Vec<(UnixMs, String, String)>;

/// Runs the gateway's second half over a file of its own while `during` goes on, with the default budget.
fn run<T, F: Future<Output = T>>(
    away: Duration,
    refusal: Option<&'static str>,
    during: impl FnOnce(Journal, Clock, std::path::PathBuf) -> F,
) -> (T, Asked) {
    let place = super::place();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let outcome = runtime.block_on(async {
        let clock = Clock::simulated(BEGIN);
        let locked = StateDirectory::lock(place.path()).expect("the lock");
        let connection = open_writer(&locked, VIEWS).expect("a file");
        let writer = Writer::without_thread(locked, connection, VIEWS);
        let journal = Journal::new(writer.clone());
        let belvo = Belvo {
            clock: clock.clone(),
            back_at: BEGIN.plus(away),
            refusal,
            asked: Arc::clone(&asked),
        };
        let (_clients, api) = watch::channel(Some(Arc::new(belvo)));
        let drain = Drain::new(Parts {
            state_directory: place.path().to_owned(),
            store: Store::new(writer),
            appended: journal.watch(),
            api,
            budget: Arc::new(Budget::new(2.0, 20)),
            ordered: Arc::default(),
            clock: clock.clone(),
        });
        let (_stop, stopped) = stop::pair();
        tokio::select! {
            biased;
            ended = drain.run(stopped) => panic!("the drain ended: {ended:?}"),
            outcome = during(journal, clock, place.path().to_owned()) => outcome,
        }
    });
    let asked = std::mem::take(&mut *asked.lock().unwrap_or_else(PoisonError::into_inner));
    (outcome, asked)
}

async fn deliver(journal: &Journal, clock: &Clock, kind: &str, link: usize) {
    let body = format!(
        r#"{{"webhook_type":"{kind}","webhook_code":"historical_update","link_id":"{}","data":{{}}}}"#,
        link_id(link)
    );
    let delivery = Delivery {
        received: clock.stamp(),
        peer: std::net::Ipv4Addr::LOCALHOST.into(),
        body: Body::parse(body.into_bytes()).expect("a webhook"),
    };
    journal.append(delivery, ()).await.expect("a row");
}

fn link_id(link: usize) -> String {
    format!("16f68516-bcbc-4cf7-b815-{link:012}")
}

fn value<T: rusqlite::types::FromSql>(place: &Path, sql: &str) -> T {
    let file = open_reader(place).expect("a file");
    file.query_row(sql, [], |row| row.get(0))
        .unwrap_or_else(|error| panic!("{sql}: {error}"))
}

/// Waits, in simulated time, until nothing is left to fetch.
async fn until_fetched(place: &Path) {
    let pending = "SELECT (SELECT count(*) FROM work WHERE wanted > fetched)
                        + (SELECT max(seq) FROM journal) - (SELECT value FROM meta WHERE key = 'planned_to')";
    while value::<i64>(place, pending) > 0 {
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
}

/// The most requests in any window of the edge's.
fn densest(asked: &Asked) -> usize {
    let mut first = 0;
    let mut densest = 0;
    for (last, (at, _, _)) in asked.iter().enumerate() {
        while at.since(asked[first].0) >= EDGE_WINDOW {
            first += 1;
        }
        densest = densest.max(last - first + 1);
    }
    densest
}

const KINDS: [&str; 7] = [
    "ACCOUNTS",
    "OWNERS",
    "TRANSACTIONS",
    "BILLS",
    "INVESTMENTS",
    "INVESTMENT_TRANSACTIONS",
    "BALANCES",
];

#[test]
fn two_days_without_the_api_cost_a_try_a_minute_and_are_worked_off_without_a_burst() {
    const LINKS: usize = 40;
    let away = 48 * HOUR;
    let (drained, asked) = run(away, None, |journal, clock, place| async move {
        for hour in 0..48 {
            for link in 0..LINKS {
                deliver(&journal, &clock, KINDS[(hour + link) % KINDS.len()], link).await;
            }
            tokio::time::sleep(HOUR).await;
        }
        assert_eq!(
            value::<String>(&place, "SELECT kind FROM attention"),
            "api-unreachable"
        );
        until_fetched(&place).await;
        assert_eq!(value::<i64>(&place, "SELECT count(*) FROM attention"), 0);
        clock.now()
    });
    let back = BEGIN.plus(away);
    let (during, after): (Asked, Asked) = asked.into_iter().partition(|(at, _, _)| *at < back);
    let mut last: BTreeMap<&str, UnixMs> = BTreeMap::new();
    // The first three tries, within seconds, find out that nobody is there.
    for (at, link, _) in &during[3..] {
        let before = last.insert(link, *at);
        if let Some(before) = before {
            assert!(at.since(before) >= Duration::from_secs(60), "link {link}");
        }
    }
    assert!(during.len() <= 48 * 60 + 3, "{} tries", during.len());
    assert!(densest(&after) <= 80, "{}", densest(&after));
    assert_eq!(after.len(), LINKS * KINDS.len());
    let took = drained.since(back);
    assert!(took < Duration::from_secs(5 * 60), "{took:?}");
}

#[test]
fn of_two_hundred_links_none_is_served_twice_while_another_waits() {
    const LINKS: usize = 200;
    let (planned, asked) = run(Duration::ZERO, None, |journal, clock, place| async move {
        for number in 0..2_000 {
            deliver(&journal, &clock, KINDS[number % KINDS.len()], number / 10).await;
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        let planned = clock.now();
        until_fetched(&place).await;
        planned
    });
    assert!(densest(&asked) <= 80, "{}", densest(&asked));
    let of_links: BTreeSet<_> = asked.iter().map(|(_, link, _)| link).collect();
    assert_eq!(of_links.len(), LINKS);
    // Once all of them wait, turns go round: between two turns of a link every other that still waits has had its own.
    let late: Vec<_> = asked.iter().filter(|(at, _, _)| *at > planned).collect();
    let mut waiting: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, link, _) in &late {
        *waiting.entry(link).or_default() += 1;
    }
    let mut served: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, link, _) in &late {
        let turn = served.entry(link).or_default();
        *turn += 1;
        let turn = *turn;
        let behind = waiting
            .iter()
            .filter(|(other, wanted)| {
                let had = served.get(*other).copied().unwrap_or_default();
                // Two are served at once, so one turn of difference is in the nature of it.
                had < **wanted && had + 2 < turn
            })
            .count();
        assert_eq!(
            behind, 0,
            "link {link} has its turn {turn} while others wait"
        );
    }
}

#[test]
fn a_resource_that_always_fails_delays_no_other_link() {
    let (_, asked) = run(
        Duration::ZERO,
        Some("unexpected_error"),
        |journal, clock, _| async move {
            deliver(&journal, &clock, "ACCOUNTS", 1).await;
            tokio::time::sleep(Duration::from_secs(600)).await;
            deliver(&journal, &clock, "ACCOUNTS", 2).await;
            tokio::time::sleep(Duration::from_secs(30)).await;
        },
    );
    let second = asked.iter().find(|(_, link, _)| *link == link_id(2));
    let (at, _, _) = second.expect("the second link was asked for");
    assert!(at.since(BEGIN.plus(Duration::from_secs(600))) < Duration::from_secs(2));
}

#[test]
fn every_error_code_ends_as_a_problem_with_its_sentence_and_its_next_step_or_needs_none() {
    for known in CODES {
        let (seen, asked) = run(
            Duration::ZERO,
            Some(known.code),
            |journal, clock, place| async move {
                deliver(&journal, &clock, "ACCOUNTS", 1).await;
                tokio::time::sleep(4 * HOUR).await;
                let one = |sql: &str| value::<String>(&place, sql);
                (
                    one("SELECT error_class FROM work WHERE resource = 'accounts'"),
                    one("SELECT last_error FROM work WHERE resource = 'accounts'"),
                    one(
                        "SELECT group_concat(kind || ': ' || text || ' -> ' || next_step, '; ') FROM attention",
                    ),
                )
            },
        );
        let (class, error, attention) = seen;
        assert_eq!(class, known.class.name(), "{}", known.code);
        assert!(
            error.contains(&format!("{} {}", known.status, known.code))
                && error.ends_with(known.meaning),
            "{error}"
        );
        let kind = match known.class {
            Class::Credentials => "api-keys-refused",
            Class::Link => "link-blocked",
            Class::Unsupported => "resource-unsupported",
            Class::Permanent | Class::Parked | Class::Unavailable => "fetch-failed",
            _ => "fetch-delayed",
        };
        assert!(
            attention.starts_with(&format!("{kind}: ")),
            "{}: {attention}",
            known.code
        );
        // What a link needs is said of the link and not of the resource.
        if known.class != Class::Link {
            assert!(attention.contains(known.meaning), "{attention}");
            assert!(attention.contains(known.next_step), "{attention}");
        } else {
            assert!(attention.contains(known.code), "{attention}");
        }
        let most = match known.class {
            Class::Permanent | Class::Unsupported | Class::Parked | Class::Link => 2,
            Class::Credentials => 17,
            _ => 20,
        };
        assert!(
            asked.len() <= most,
            "{}: {} requests",
            known.code,
            asked.len()
        );
    }
}

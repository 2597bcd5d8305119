//! One seed: a world, several lives of the gateway's second half over one real SQLite file, each ended by a kill, and
//! what must be true at the end. Time is simulated, so days pass in milliseconds; everything runs on one thread, so a
//! seed always gives the same run.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use belvo_gateway::database::{StateDirectory, Writer, open_reader, open_writer};
use belvo_gateway::drain::budget::Budget;
use belvo_gateway::drain::{Drain, Parts};
use belvo_gateway::fetch::{Api, Error, Request};
use belvo_gateway::journal::Journal;
use belvo_gateway::store::Store;
use belvo_gateway::system::clock::{Clock, UnixMs};
use belvo_gateway::system::stop;
use belvo_gateway::webhook::{Body, Delivery};
use rusqlite::Connection;
use tokio::runtime::Builder;
use tokio::sync::{Notify, watch};

use crate::world::{Faults, LISTS, Object, Status, World};

/// 2026-12-01, a time that a right clock can show.
const BEGIN: UnixMs = UnixMs(1_796_083_200_000);
/// Until everything that waits for something must have come: a monthly limit takes longest.
const PATIENCE: Duration = Duration::from_secs(45 * 24 * 3600);
const LOOK_EVERY: Duration = Duration::from_secs(600);

type Shared = Arc<Mutex<World>>;

fn lock(world: &Shared) -> MutexGuard<'_, World> {
    world.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The world's API, as the gateway's own trait.
struct Belvo {
    world: Shared,
    clock: Clock,
    /// Told when the gateway is about to be killed, in the middle of what it does with an answer.
    dying: Arc<Notify>,
}

/// Tells the world when a request is answered, or given up by a kill.
struct InFlight<'a>(&'a Belvo, &'a Request);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        lock(&self.0.world).left(self.1);
    }
}

impl Belvo {
    fn world(&self) -> MutexGuard<'_, World> {
        let mut world = lock(&self.world);
        world.now = self.clock.now();
        world
    }
}

impl Api for Belvo {
    async fn get(&self, request: &Request) -> Result<Vec<u8>, Error> {
        let wait = self.world().asked(request);
        let _in_flight = InFlight(self, request);
        tokio::time::sleep(wait).await;
        let mut world = self.world();
        world.answered += 1;
        if world.answered == world.dies_at {
            self.dying.notify_one();
        }
        let answer = world.answer(request);
        world.tell(|| format!("{request:?} -> {}", told(&answer)));
        answer
    }
}

fn told(answer: &Result<Vec<u8>, Error>) -> String {
    match answer {
        Ok(body) => String::from_utf8_lossy(body).into_owned(),
        Err(error) => error.to_string(),
    }
}

/// How the budget of this seed is; some are faster than the default, all are within what the edge bears.
fn budget(seed: u64) -> Budget {
    match seed % 3 {
        0 => Budget::new(2.0, 20),
        1 => Budget::new(1.0, 50),
        _ => Budget::new(2.6, 2),
    }
}

/// Runs one seed in `directory`, which holds an empty file, and says what was wrong.
pub(crate) fn run(seed: u64, directory: &Path) -> Vec<String> {
    fastrand::seed(seed);
    let world = Arc::new(Mutex::new(World::new(seed, BEGIN)));
    let lives = lock(&world).rng.usize(1..=3);
    let mut versions = BTreeMap::new();
    for life in 0..lives {
        {
            let mut world = lock(&world);
            let much = world.rng.u32(0..4) == 0;
            world.faults = Faults {
                temporary: if much { 400 } else { 60 },
                edge: 15,
                keys: 4,
                permanent: 6,
                busy: 15,
                moves: 150,
            };
            world.down = !much && world.rng.u32(0..6) == 0;
        }
        live(seed, directory, &world, life + 1 == lives);
        let mut world = lock(&world);
        world.tell(|| "the gateway is killed".to_owned());
        world.killed();
        let found = no_older_content(directory, &mut versions);
        world.wrong.extend(found);
    }
    let mut wrong = lock(&world).wrong.clone();
    wrong.extend(judge(directory, &lock(&world)));
    wrong
}

/// From start to kill. The last life goes on until nothing is left to do.
fn live(seed: u64, directory: &Path, world: &Shared, last: bool) {
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let began = lock(world).now;
        let clock = Clock::simulated(began);
        let locked = StateDirectory::lock(directory).expect("the lock of a dead process is free");
        let connection = open_writer(&locked, super::views()).expect("a file");
        let writer = Writer::without_thread(locked, connection, super::views());
        let journal = Journal::new(writer.clone());
        let dying = Arc::new(Notify::new());
        let belvo = Belvo {
            world: Arc::clone(world),
            clock: clock.clone(),
            dying: Arc::clone(&dying),
        };
        let (_clients, api) = watch::channel(Some(Arc::new(belvo)));
        let drain = Drain::new(Parts {
            state_directory: directory.to_owned(),
            store: Store::new(writer),
            appended: journal.watch(),
            api,
            budget: Arc::new(budget(seed)),
            ordered: Arc::default(),
            clock: clock.clone(),
        });
        let (_stop, stopped) = stop::pair();
        tokio::select! {
            biased;
            ended = drain.run(stopped) => panic!("the drain ended: {ended:?}"),
            () = killed(world, &dying), if !last => {}
            () = happen(world, &journal, &clock, last) => {}
            () = quiet(directory, world, &clock), if last => {}
        }
    });
}

/// Returns a few steps after an answer that was chosen beforehand: between two writes, as often as not.
async fn killed(world: &Shared, dying: &Notify) {
    let steps = {
        let mut world = lock(world);
        world.dies_at = world.answered + world.rng.u64(1..120);
        world.rng.u32(0..8)
    };
    dying.notified().await;
    for _ in 0..steps {
        tokio::task::yield_now().await;
    }
}

/// Things happen at Belvo, and webhooks arrive.
async fn happen(world: &Shared, journal: &Journal, clock: &Clock, last: bool) {
    let events = lock(world).rng.usize(5..25);
    for _ in 0..events {
        let wait = {
            let mut world = lock(world);
            let longest = if world.rng.u32(0..4) == 0 { 40_000 } else { 40 };
            Duration::from_millis(world.rng.u64(0..longest * 100))
        };
        pass(world, journal, clock, wait).await;
        lock(world).happen();
    }
    if last {
        pass(world, journal, clock, Duration::from_secs(300)).await;
        lock(world).all_is_well();
        pass(world, journal, clock, Duration::from_secs(300)).await;
        // What is left is the gateway's to do.
        std::future::pending::<()>().await;
    }
}

/// Time passes, and what arrives meanwhile is answered 200.
async fn pass(world: &Shared, journal: &Journal, clock: &Clock, wait: Duration) {
    let until = clock.now().plus(wait);
    loop {
        let (arrived, next) = {
            let mut world = lock(world);
            world.now = clock.now();
            (world.arrived(), world.outbox.front().map(|(at, _)| *at))
        };
        for body in arrived {
            let delivery = Delivery {
                received: clock.stamp(),
                peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
                body: Body::parse(body.clone().into_bytes()).expect("a webhook"),
            };
            journal.append(delivery, ()).await.expect("a row");
            let mut world = lock(world);
            world.tell(|| format!("is answered 200: {body}"));
            world.acknowledged.push(body);
        }
        let now = clock.now();
        let next = next.filter(|at| *at < until).unwrap_or(until);
        if next <= now {
            if now >= until {
                return;
            }
            continue;
        }
        tokio::time::sleep(next.since(now)).await;
    }
}

/// Returns when the gateway has nothing left to do, or will never have.
async fn quiet(directory: &Path, world: &Shared, clock: &Clock) {
    let reader = open_reader(directory).expect("a file");
    let mut since = None;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let settled = {
            let world = lock(world);
            world.faults.temporary == 0 && world.outbox.is_empty()
        };
        if !settled {
            continue;
        }
        let since = *since.get_or_insert_with(|| clock.now());
        let open: i64 = reader
            .query_row(
                "SELECT (SELECT count(*) FROM freshness WHERE state IN ('waiting', 'retrying'))
                      + (SELECT coalesce(max(seq), 0) FROM journal) - (SELECT value FROM meta WHERE key = 'planned_to')",
                [],
                |row| row.get(0),
            )
            .expect("a count");
        if open == 0 || clock.now().since(since) > PATIENCE {
            return;
        }
    }
}

// What must be true.

fn rows<T>(
    file: &Connection,
    sql: &str,
    row: impl Fn(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
) -> Vec<T> {
    let mut statement = file.prepare_cached(sql).expect("a statement");
    let rows = statement.query_map([], |found| row(found)).expect("rows");
    rows.collect::<Result<_, _>>().expect("values")
}

/// The version of no object goes back from one life to the next.
fn no_older_content(directory: &Path, versions: &mut BTreeMap<String, i64>) -> Vec<String> {
    let file = open_reader(directory).expect("a file");
    let found = rows(
        &file,
        "SELECT id, body ->> '$.version' FROM objects WHERE body IS NOT NULL",
        |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)),
    );
    let mut wrong = Vec::new();
    for (id, version) in found {
        let before = versions.insert(id.clone(), version).unwrap_or_default();
        if version < before {
            wrong.push(format!(
                "object {id} went back from version {before} to {version}"
            ));
        }
    }
    wrong
}

fn judge(directory: &Path, world: &World) -> Vec<String> {
    let file = open_reader(directory).expect("a file");
    let mut wrong = all_planned(&file, world);
    wrong.extend(all_ended(&file, world));
    for link in world
        .links
        .iter()
        .filter(|link| link.status != Status::Deleted)
    {
        for (list, _, _) in LISTS {
            wrong.extend(content(&file, &link.id, list, &link.lists[list]));
        }
        for id in link.gone.keys() {
            let sql = format!(
                "SELECT deleted_at FROM objects WHERE resource = 'transactions' AND id = '{id}'"
            );
            if rows(&file, &sql, |row| row.get::<_, Option<i64>>(0)) != [None; 0] {
                let deleted = rows(&file, &sql, |row| row.get::<_, Option<i64>>(0));
                if deleted.iter().any(Option::is_none) {
                    wrong.push(format!("object {id} is back although Belvo deleted it"));
                }
            } else {
                wrong.push(format!("the deletion of {id} left no mark"));
            }
        }
    }
    wrong
}

/// Every webhook that was answered 200 is in the journal, byte for byte, and was planned.
fn all_planned(file: &Connection, world: &World) -> Vec<String> {
    let bodies = rows(file, "SELECT body FROM journal ORDER BY seq", |row| {
        row.get::<_, String>(0)
    });
    let unplanned = rows(
        file,
        "SELECT seq FROM journal WHERE seq NOT IN (SELECT seq FROM events)",
        |row| row.get::<_, i64>(0),
    );
    let mut wrong: Vec<_> = unplanned
        .iter()
        .map(|seq| format!("webhook {seq} was never planned"))
        .collect();
    if bodies != world.acknowledged {
        wrong.push("the journal does not hold what was answered 200".to_owned());
    }
    wrong
}

/// Everything wanted is fetched, or it is plain to see why not; and that is true of it.
fn all_ended(file: &Connection, world: &World) -> Vec<String> {
    let open = rows(
        file,
        "SELECT link_id, resource, state, coalesce(last_error, '') FROM freshness WHERE state <> 'fresh'",
        |row| {
            Ok((
                row.get::<_, String>(0)?,
                row.get::<_, String>(1)?,
                row.get::<_, String>(2)?,
                row.get::<_, String>(3)?,
            ))
        },
    );
    let mut wrong = Vec::new();
    for (link, resource, state, error) in open {
        let gone = world
            .links
            .iter()
            .any(|known| known.id == link && known.status == Status::Deleted);
        let refused =
            error.contains("access_to_resource_denied") || (gone && error.contains("not_found"));
        let known_why = match state.as_str() {
            "cancelled" => gone,
            "failed" => refused,
            _ => false,
        };
        if !known_why {
            wrong.push(format!("{resource} of link {link} ended {state}: {error}"));
        }
    }
    wrong
}

/// What is kept of a list is what Belvo has, unless it was refused for good.
fn content(file: &Connection, link: &str, list: &str, objects: &[Object]) -> Vec<String> {
    let failed = rows(
        file,
        &format!(
            "SELECT 1 FROM work WHERE link_id = '{link}' AND resource = '{list}' AND blocked_by = 'failed'"
        ),
        |_| Ok(()),
    );
    if !failed.is_empty() {
        return Vec::new();
    }
    let kept: BTreeMap<String, String> = rows(
        file,
        &format!("SELECT id, body FROM objects WHERE link_id = '{link}' AND resource = '{list}' AND deleted_at IS NULL"),
        |row| Ok((row.get(0)?, row.get(1)?)),
    )
    .into_iter()
    .collect();
    let wanted: BTreeMap<String, String> = objects
        .iter()
        .map(|object| (object.id.clone(), object.body(link)))
        .collect();
    let mut wrong = Vec::new();
    for (id, body) in &wanted {
        match kept.get(id) {
            None => wrong.push(format!("{list} {id} of link {link} is missing")),
            Some(found) if found != body => {
                wrong.push(format!("{list} {id} is {found} and not {body}"))
            }
            Some(_) => {}
        }
    }
    let more = kept.keys().filter(|id| !wanted.contains_key(*id));
    wrong.extend(more.map(|id| format!("{list} {id} of link {link} is kept as if Belvo had it")));
    wrong
}

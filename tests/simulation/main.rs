//! Random webhooks, API faults, kills and restarts on simulated time, over the real planning, work and retry code and a
//! real SQLite file. What must hold for every seed is in `life.rs`, what happens in `world.rs`.
//!
//! `SIMULATION_SEEDS=10000 cargo test --profile simulation --locked --test simulation` runs that many;
//! `SIMULATION_SEED=1234 cargo test --locked --test simulation` runs the one that failed; with
//! `SIMULATION_TOLD=1` before it and `-- --nocapture` behind, everything that happens is printed.

mod life;
mod outage;
mod world;

use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use belvo_gateway::database::{StateDirectory, Views, open_writer};
use belvo_gateway::store::VIEWS;
use tempfile::TempDir;

const SEEDS: u64 = 300;

/// In memory where the machine has room for that: a seed writes thousands of times and proves nothing about a disk.
fn place() -> TempDir {
    let memory = Path::new("/dev/shm");
    let made = match memory.is_dir() {
        true => TempDir::new_in(memory).or_else(|_| TempDir::new()),
        false => TempDir::new(),
    };
    made.expect("a temporary directory")
}

/// The only view that is asked here, and what it is made of. A new process reads all of them before its first statement, and here one starts for
/// every few simulated hours.
fn views() -> Views {
    static ASKED: LazyLock<String> = LazyLock::new(|| {
        let view = |name: &&str| {
            let begin = VIEWS.0.find(&format!("CREATE VIEW {name}"));
            let view = &VIEWS.0[begin.expect("a view")..];
            view.split_inclusive(';').next().unwrap_or_default()
        };
        ["arrivals", "freshness"].iter().map(view).collect()
    });
    Views(ASKED.as_str())
}

/// An empty file of the present schema, to be copied for each seed.
fn template(place: &Path) -> PathBuf {
    let path = place.join("template");
    std::fs::create_dir(&path).expect("a directory");
    let locked = StateDirectory::lock(&path).expect("the lock");
    drop(open_writer(&locked, views()).expect("a file"));
    path.join("gateway.db")
}

fn number(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(
        value
            .parse()
            .unwrap_or_else(|_| panic!("{name} is {value:?} and no number")),
    )
}

#[test]
fn whatever_happens_every_webhook_is_followed_to_its_end() {
    let (first, count) = match number("SIMULATION_SEED") {
        Some(seed) => (seed, 1),
        None => (0, number("SIMULATION_SEEDS").unwrap_or(SEEDS)),
    };
    let place = place();
    let template = template(place.path());
    let (next, failed) = (AtomicU64::new(first), AtomicBool::new(false));
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count || failed.load(Ordering::Relaxed) {
                        return;
                    }
                    let wrong = one(seed, place.path(), &template);
                    if !wrong.is_empty() {
                        failed.store(true, Ordering::Relaxed);
                        panic!(
                            "seed {seed}; run it again with SIMULATION_SEED={seed} cargo test --locked --test simulation\n{}",
                            wrong.join("\n")
                        );
                    }
                }
            });
        }
    });
}

fn one(seed: u64, place: &Path, template: &Path) -> Vec<String> {
    let directory = place.join(seed.to_string());
    std::fs::create_dir(&directory).expect("a directory");
    std::fs::copy(template, directory.join("gateway.db")).expect("a copy");
    let wrong = life::run(seed, &directory);
    std::fs::remove_dir_all(&directory).expect("a directory to remove");
    wrong
}

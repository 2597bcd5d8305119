//! The drain: plans what is new in the journal and fetches what is due, at its own pace, on its own thread. Holds no
//! HTTP; never heard of a listener.
//!
//! ```text
//!   journal (seq, bytes) --plan: one transaction, no network, moves the cursor--> events, work (wanted = seq)
//!   work, wanted > fetched and due --fetch notes w = wanted, in memory only-->
//!       all pages stored   fetched = w, in the transaction of the last page
//!       temporary error    due later, attempts + 1
//!       link trouble       blocked until an event lifts it
//!       permanent error    blocked for this w; a newer wish makes it due again
//! ```
//!
//! 1. Every step after the append may run twice with the same end. A crash needs no repair.
//! 2. The last page and `fetched = w` are one transaction; earlier pages come before it, never after.
//! 3. The work of one link is done one at a time, oldest wish first, so two fetches of a link cannot overtake each
//!    other in the store.

pub mod budget;
pub mod listing;
pub mod plan;
pub mod planner;
pub mod repeats;
pub mod retry;
pub mod trouble;
pub mod work;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};
use tracing::{error, info, warn};

use crate::catalog::{self, RESOURCES};
use crate::database::{Reader, WriteError, open_reader};
use crate::fetch::{Api, Cause, Class, Error};
use crate::limits::{
    DUE_ROWS_MAX, FETCHES_AT_ONCE, FILE_FAILED_WAIT, FILE_FAILED_WAIT_MAX, LONGEST_WAIT,
};
use crate::store::problems::{Change, Kind};
use crate::store::{self, Store};
use crate::system::clock::{Clock, UnixMs};
use crate::system::stop::Stop;
use crate::webhook::Seq;

use budget::Budget;
use listing::{Done, Failed, Listing};
use planner::Planner;
use work::{Failure, Key, Work};

/// What the drain is made of.
#[derive(Debug)]
pub struct Parts<A> {
    /// The state directory; the drain opens the file in it to read.
    pub state_directory: PathBuf,
    /// Where it writes.
    pub store: Store,
    /// Told when the journal has grown.
    pub appended: watch::Receiver<()>,
    /// Belvo's API, when there are keys for it.
    pub api: Option<A>,
    /// The request budget.
    pub budget: Budget,
    /// The time.
    pub clock: Clock,
}

/// The running drain.
#[derive(Debug)]
pub struct Drain<A> {
    state_directory: PathBuf,
    reader: Option<Reader>,
    store: Store,
    clock: Clock,
    planner: Planner,
    api: Option<Arc<A>>,
    budget: Arc<Budget>,
    running: JoinSet<Result<Done, Failed>>,
    under_way: HashMap<Id, (Key, Seq)>,
    /// When to look for due work again; `None` while nothing can be started.
    look_at: Option<Instant>,
    /// Whether it is written down that there are keys, or none.
    keys_said: bool,
    /// Until an answer proves them right, one request at a time goes out with our keys.
    keys_proven: bool,
    /// Times in a row that the file could not be read or written.
    file_failed: u32,
}

impl<A: Api> Drain<A> {
    /// A drain that has not begun.
    pub fn new(parts: Parts<A>) -> Self {
        let Parts {
            state_directory,
            store,
            appended,
            api,
            budget,
            clock,
        } = parts;
        Self {
            state_directory,
            reader: None,
            planner: Planner::new(appended, store.clone(), clock),
            store,
            clock,
            look_at: api.is_some().then(Instant::now),
            api: api.map(Arc::new),
            budget: Arc::new(budget),
            running: JoinSet::new(),
            under_way: HashMap::new(),
            keys_said: false,
            keys_proven: false,
            file_failed: 0,
        }
    }

    /// Runs until told to stop. Fetches under way are dropped: they run again after the next start.
    ///
    /// # Errors
    /// When the writer has ended.
    pub async fn run(mut self, mut stop: Stop) -> Result<(), WriteError> {
        loop {
            let turned = self.turn().await;
            self.survive(turned)?;
            let look_at = self
                .look_at
                .unwrap_or_else(|| Instant::now() + LONGEST_WAIT);
            tokio::select! {
                () = stop.told() => return Ok(()),
                () = self.planner.ready() => self.planner.look(),
                Some(ended) = self.running.join_next_with_id() => {
                    let ended = self.ended(ended).await;
                    self.survive(ended)?;
                }
                () = sleep_until(look_at) => {}
            }
        }
    }

    /// Plans what is new and starts what is due.
    async fn turn(&mut self) -> Result<(), WriteError> {
        if !self.keys_said && self.planner.is_due() {
            self.say_whether_there_are_keys().await?;
            self.keys_said = true;
        }
        if self.planner.is_due() {
            let reader = self.reader()?;
            let planned = self.planner.plan(&reader).await;
            self.reader = Some(reader);
            planned?;
            // A small plan may fit where a fetch's objects do not, so with a fetch to come it proves nothing.
            if self.api.is_none() {
                self.file_failed = 0;
            }
            self.look_now();
        }
        if self.look_at.is_some_and(|at| at <= Instant::now()) {
            self.start_due()?;
        }
        Ok(())
    }

    /// Goes on after a failure of the file, after a pause that grows: a full disk must not make us ask Belvo for the same
    /// objects every second. Only the writer's end is the end.
    fn survive(&mut self, outcome: Result<(), WriteError>) -> Result<(), WriteError> {
        match outcome {
            Ok(()) => {}
            Err(WriteError::Ended) => return Err(WriteError::Ended),
            Err(error) => {
                let wait = FILE_FAILED_WAIT
                    .saturating_mul(1 << self.file_failed.min(16))
                    .min(FILE_FAILED_WAIT_MAX);
                self.file_failed = self.file_failed.saturating_add(1);
                self.reader = None;
                self.rest(wait);
                error!(
                    seconds = wait.as_secs(),
                    "the file could not be read or written, the drain tries again: {error}"
                );
            }
        }
        Ok(())
    }

    /// Does nothing for a while.
    fn rest(&mut self, wait: Duration) {
        self.planner.rest(wait);
        self.budget.pause(wait);
        self.look_at = self.look_at.map(|at| at.max(Instant::now() + wait));
    }

    fn look_now(&mut self) {
        if self.api.is_some() && self.slots() > 0 {
            self.look_at = Some(Instant::now().max(self.budget.paused_until()));
        }
    }

    /// The read connection, taken out so that it can be used beside the rest; whoever takes it puts it back.
    fn reader(&mut self) -> Result<Reader, WriteError> {
        match self.reader.take() {
            Some(reader) => Ok(reader),
            None => open_reader(&self.state_directory)
                .map_err(|error| WriteError::Database(error.to_string())),
        }
    }

    /// Starts what is due, oldest wish first, one fetch a link, and decides when to look again.
    fn start_due(&mut self) -> Result<(), WriteError> {
        let reader = self.reader()?;
        let now = self.clock.now();
        let names: Vec<_> = RESOURCES.iter().map(|resource| resource.name).collect();
        for work in store::work::due(&reader, now, &names, DUE_ROWS_MAX)? {
            if self.slots() > 0
                && !self
                    .under_way
                    .values()
                    .any(|(key, _)| key.link_id == work.key.link_id)
            {
                self.start(work);
            }
        }
        // What is due and was not started waits for a fetch to end, which looks again.
        let next = store::work::next_due_at(&reader, now, &names)?;
        let at = |due: UnixMs| Instant::now() + due.since(now);
        self.look_at = next.map(at).filter(|_| self.slots() > 0);
        self.reader = Some(reader);
        Ok(())
    }

    fn slots(&self) -> usize {
        let at_once = if self.keys_proven { FETCHES_AT_ONCE } else { 1 };
        at_once.saturating_sub(self.under_way.len())
    }

    fn start(&mut self, work: Work) {
        let resource = catalog::resource_named(&work.key.resource);
        let (Some(api), Some(resource)) = (self.api.clone(), resource) else {
            return;
        };
        let listing = Listing {
            api,
            store: self.store.clone(),
            budget: Arc::clone(&self.budget),
            clock: self.clock,
            resource,
            key: work.key.clone(),
            wanted: work.wanted,
        };
        let task = self.running.spawn(async move { listing.run().await });
        self.under_way.insert(task.id(), (work.key, work.wanted));
    }

    async fn ended(
        &mut self,
        ended: Result<(Id, Result<Done, Failed>), JoinError>,
    ) -> Result<(), WriteError> {
        let (id, outcome) = match ended {
            Ok(ended) => ended,
            Err(panicked) => (
                panicked.id(),
                Err(WriteError::Database("the fetch panicked".to_owned()).into()),
            ),
        };
        let Some((key, wanted)) = self.under_way.remove(&id) else {
            return Ok(());
        };
        self.look_now();
        match outcome {
            Ok(done) => {
                self.keys_proven = true;
                self.file_failed = 0;
                log_fetched(&key, wanted, done);
                Ok(())
            }
            Err(Failed::Api(error)) => self.failed(key, wanted, error).await,
            // One listing that cannot be kept must not hold up the others.
            Err(Failed::Store(WriteError::Refused(text))) => {
                let error = Error::new(&key.resource, 0, Cause::Unstorable(text));
                self.failed(key, wanted, error).await
            }
            Err(Failed::Store(error)) => Err(error),
        }
    }

    async fn failed(&mut self, key: Key, wanted: Seq, error: Error) -> Result<(), WriteError> {
        let class = error.class();
        let request_id = error.request_id.clone();
        warn!(
            link_id = key.link_id,
            resource = key.resource,
            class = class.name(),
            request_id,
            "a fetch failed: {error}"
        );
        if let Some(pause) = trouble::pause(&error) {
            self.budget.pause(pause);
            self.look_now();
        }
        self.keys_proven =
            (self.keys_proven || trouble::proves_the_keys(&error)) && class != Class::Credentials;
        let failure = Failure {
            text: error.to_string(),
            class: class.name().to_owned(),
            request_id,
        };
        let (now, after, spread) = (self.clock.now(), error.retry_after, fastrand::f64());
        let settle = move |work: Work| {
            let work = work.failed(wanted, failure, class, after, now, spread);
            let problem = trouble::problem(&work.key, &error, work.attempts);
            let mut changes = trouble::over(&error);
            changes.extend(problem.map(Change::Open));
            (work, changes)
        };
        self.store.settle(key, self.clock.wall(), settle).await
    }

    /// Says whether there are keys, where an admin looks.
    async fn say_whether_there_are_keys(&self) -> Result<(), WriteError> {
        let change = match self.api {
            Some(_) => Change::Close(Kind::ApiKeysMissing, String::new()),
            None => Change::Open(trouble::keys_missing()),
        };
        self.store.problems(vec![change], self.clock.wall()).await
    }
}

fn log_fetched(key: &Key, wanted: Seq, done: Done) {
    info!(
        link_id = key.link_id,
        resource = key.resource,
        seq = wanted.0,
        pages = done.pages,
        objects = done.found,
        new = done.tally.new,
        changed = done.tally.changed,
        agreed = done.agreed,
        "fetched {} {}, {} new, {} changed",
        done.found,
        key.resource,
        done.tally.new,
        done.tally.changed
    );
}

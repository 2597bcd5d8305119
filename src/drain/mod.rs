//! The drain: plans what is new in the journal and fetches what is due, at its own pace, on its own thread. Holds no
//! HTTP; never heard of a listener.
//!
//! ```text
//!   journal (seq, bytes) --plan: one transaction, no network, moves the cursor--> events, work (wanted = seq)
//!   work, wanted > fetched and due --fetch notes w = wanted, in memory only-->
//!       all pages stored   fetched = w, in the transaction of the last page
//!       temporary error    due later, attempts + 1
//!       link trouble       the link's state holds up all its work, until an event or the record lifts it
//!       permanent error    blocked for this w; a newer wish makes it due again
//! ```
//!
//! 1. Every step after the append may run twice with the same end. A crash needs no repair.
//! 2. The last page and `fetched = w` are one transaction; earlier pages come before it, never after.
//! 3. The work of one link is done one at a time, oldest wish first, so two fetches of a link cannot overtake each
//!    other in the store.

pub mod budget;
pub mod consents;
pub mod job;
pub mod links;
mod listing;
mod outage;
pub mod plan;
pub mod planner;
pub mod repeats;
pub mod retention;
pub mod retry;
pub mod salvage;
pub mod trouble;
mod turns;
pub mod work;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};
use tracing::{error, info, warn};

use crate::catalog::{self, LINKS, Shape};
use crate::database::{Reader, WriteError, damage, open_reader};
use crate::fetch::{Api, Cause, Class, Error};
use crate::limits::{
    FETCHES_AT_ONCE, FILE_FAILED_WAIT, FILE_FAILED_WAIT_MAX, LONGEST_WAIT, OUTAGE_WAIT,
};
use crate::store::problems::{Change, Kind};
use crate::store::{self, Current, Settled, Store, Times};
use crate::system::clock::{Clock, UnixMs};
use crate::system::stop::Stop;
use crate::webhook::Seq;

use budget::Budget;
use job::{Done, Failed, Job};
use outage::Outage;
use planner::Planner;
use retry::Pace;
use turns::Turns;
use work::{Failure, Key, Wish, Work};

/// What the drain is made of.
#[derive(Debug)]
pub struct Parts<A> {
    /// The state directory; the drain opens the file in it to read.
    pub state_directory: PathBuf,
    /// Where it writes.
    pub store: Store,
    /// Told when the journal has grown.
    pub appended: watch::Receiver<()>,
    /// Belvo's API, when there are keys for it; told again when there are other keys.
    pub api: watch::Receiver<Option<Arc<A>>>,
    /// The request budget.
    pub budget: Arc<Budget>,
    /// Told when an operator has made something due.
    pub ordered: Arc<Notify>,
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
    api: watch::Receiver<Option<Arc<A>>>,
    budget: Arc<Budget>,
    ordered: Arc<Notify>,
    running: JoinSet<Result<Done, Failed>>,
    under_way: HashMap<Id, UnderWay>,
    turns: Turns,
    /// When to look for due work again; `None` while nothing can be started.
    look_at: Option<Instant>,
    /// How the edge has treated us lately.
    edge: Edge,
    /// Whether the API is there at all.
    outage: Outage,
    /// Whether it is written down that there are keys, or none.
    keys_said: bool,
    /// Until an answer proves them right, one request at a time goes out with our keys.
    keys_proven: bool,
    /// Times in a row that the file could not be read or written.
    file_failed: u32,
}

/// A piece of work that is being fetched.
#[derive(Clone, Debug)]
struct UnderWay {
    key: Key,
    wanted: Seq,
    page_size: u32,
    /// The newest webhook about its link when it began.
    known: Seq,
}

/// Whether requests get through the edge in front of the API.
#[derive(Debug, Default)]
struct Edge {
    /// Pauses in a row without an answer in between.
    pauses: u32,
    /// Whether anything got through since the last pause.
    others_pass: bool,
}

impl Edge {
    /// Something got through.
    const PASSED: Self = Self {
        pauses: 0,
        others_pass: true,
    };
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
            ordered,
            clock,
        } = parts;
        let look_at = api.borrow().is_some().then(Instant::now);
        Self {
            state_directory,
            reader: None,
            planner: Planner::new(appended, store.clone(), clock.clone()),
            store,
            clock,
            look_at,
            api,
            budget,
            ordered,
            running: JoinSet::new(),
            under_way: HashMap::new(),
            turns: Turns::default(),
            edge: Edge::default(),
            outage: Outage::default(),
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
                biased;
                () = stop.told() => return Ok(()),
                Some(ended) = self.running.join_next_with_id() => {
                    let ended = self.ended(ended).await;
                    self.survive(ended)?;
                }
                () = self.planner.ready() => self.planner.look(),
                Ok(()) = self.api.changed() => self.take_new_keys(),
                () = self.ordered.notified() => self.look_now(),
                () = sleep_until(look_at) => {}
            }
        }
    }

    /// Plans what is new and starts what is due.
    async fn turn(&mut self) -> Result<(), WriteError> {
        if !self.keys_said {
            self.say_whether_there_are_keys().await?;
            self.keys_said = true;
        }
        if self.planner.is_due() {
            let reader = self.reader()?;
            let planned = self.planner.plan(&reader).await;
            self.reader = Some(reader);
            planned?;
            // A small plan may fit where a fetch's objects do not, so with a fetch to come it proves nothing.
            if self.api.borrow().is_none() {
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
    /// objects every second. Only the writer's end is the end, and damage, which a start sees to.
    fn survive(&mut self, outcome: Result<(), WriteError>) -> Result<(), WriteError> {
        match outcome {
            Ok(()) => {}
            Err(WriteError::Ended) => return Err(WriteError::Ended),
            // The next start mends it. Where that cannot be noted, it is met again.
            Err(WriteError::Damaged(why))
                if damage::note_in_use(&self.state_directory, &why).is_ok() =>
            {
                return Err(WriteError::Damaged(why));
            }
            Err(error) => {
                let wait = FILE_FAILED_WAIT
                    .saturating_mul(1 << self.file_failed.min(16))
                    .min(FILE_FAILED_WAIT_MAX);
                self.file_failed = self.file_failed.saturating_add(1);
                self.reader = None;
                self.rest(wait);
                warn!(
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
        if self.api.borrow().is_some() && self.slots() > 0 {
            self.look_at = Some(Instant::now().max(self.budget.paused_until()));
        }
    }

    /// Other keys may be right where the old ones were not.
    fn take_new_keys(&mut self) {
        self.keys_said = false;
        self.keys_proven = false;
        self.budget.resume();
        self.look_now();
    }

    /// The read connection, taken out so that it can be used beside the rest; whoever takes it puts it back.
    fn reader(&mut self) -> Result<Reader, WriteError> {
        match self.reader.take() {
            Some(reader) => Ok(reader),
            None => Ok(open_reader(&self.state_directory)?),
        }
    }

    /// Starts what is due: one fetch a link, first the links that waited longest for their turn, of each its oldest wish;
    /// and decides when to look again.
    fn start_due(&mut self) -> Result<(), WriteError> {
        let reader = self.reader()?;
        let now = self.clock.now();
        let names: Vec<_> = catalog::everything()
            .map(|resource| resource.name)
            .collect();
        let mut due = store::work::due(&reader, now, &names)?;
        due.retain(|work| !self.is_under_way(&work.key.link_id));
        due.sort_by_key(|work| self.turns.last(&work.key.link_id));
        for work in due {
            if self.slots() == 0 {
                break;
            }
            self.start(&reader, work)?;
        }
        // What is due and was not started waits for a fetch to end, which looks again.
        let next = store::work::next_due_at(&reader, now, &names)?;
        let at = |due: UnixMs| Instant::now() + due.since(now);
        self.look_at = next.map(at).filter(|_| self.slots() > 0);
        self.reader = Some(reader);
        Ok(())
    }

    fn is_under_way(&self, link_id: &str) -> bool {
        self.under_way
            .values()
            .any(|under_way| under_way.key.link_id == link_id)
    }

    fn slots(&self) -> usize {
        let sure = self.keys_proven && !self.outage.is_on();
        let at_once = if sure { FETCHES_AT_ONCE } else { 1 };
        at_once.saturating_sub(self.under_way.len())
    }

    fn start(&mut self, reader: &Reader, work: Work) -> Result<(), WriteError> {
        let api = self.api.borrow().clone();
        let resource = catalog::resource_named(&work.key.resource);
        let (Some(api), Some(resource)) = (api, resource) else {
            return Ok(());
        };
        let link = store::links::load(reader, &work.key.link_id)?;
        let known = store::links::newest_event(reader, &work.key.link_id)?;
        let under_way = UnderWay {
            key: work.key.clone(),
            wanted: work.wanted,
            page_size: work.page_size.unwrap_or(resource.page_size),
            known,
        };
        self.turns.take(&work.key.link_id);
        let job = Job {
            api,
            store: self.store.clone(),
            state_directory: self.state_directory.clone(),
            budget: Arc::clone(&self.budget),
            clock: self.clock.clone(),
            resource,
            institution: link.and_then(|link| link.institution),
            known,
            work,
        };
        let task = self.running.spawn(job.run());
        self.under_way.insert(task.id(), under_way);
        Ok(())
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
        let Some(under_way) = self.under_way.remove(&id) else {
            return Ok(());
        };
        self.look_now();
        match outcome {
            Ok(done) => {
                self.keys_proven = true;
                self.file_failed = 0;
                self.outage.over();
                self.edge = Edge::PASSED;
                log_fetched(&under_way, &done);
                Ok(())
            }
            Err(Failed::Api(error)) => self.failed(under_way, error).await,
            Err(Failed::LinkGone(error)) => self.link_gone(under_way, error).await,
            // One listing that cannot be kept must not hold up the others.
            Err(Failed::Store(WriteError::Refused(text))) => {
                let error = Error::new(&under_way.key.resource, 0, Cause::Unstorable(text));
                self.failed(under_way, error).await
            }
            Err(Failed::Store(error)) => Err(error),
        }
    }

    async fn failed(&mut self, under_way: UnderWay, error: Error) -> Result<(), WriteError> {
        let UnderWay {
            key,
            wanted,
            page_size,
            known,
        } = under_way;
        let class = error.class();
        log_failed(&key, wanted, &error);
        self.outage.failed(&key.link_id, &error);
        if self.outage.is_on() {
            self.budget.pause(OUTAGE_WAIT);
            self.look_now();
        }
        let lasting_outage = self.outage.lasts();
        let pace = Pace {
            outage: self.outage.is_on(),
            after: error.retry_after,
            now: self.clock.now(),
            spread: fastrand::f64(),
            page_size,
            others_pass: self.edge.others_pass,
        };
        self.mind_the_edge(&error);
        self.keys_proven =
            (self.keys_proven || trouble::proves_the_keys(&error)) && class != Class::Credentials;
        let now = Times::of(&self.clock);
        let settle = move |current: Current| {
            let failure = Failure {
                text: error.to_string(),
                class: class.name().to_owned(),
                request_id: error.request_id.clone(),
            };
            let work = current.work.clone().failed(wanted, failure, class, pace);
            let link = match (class, error.code()) {
                (Class::Link, Some(code)) => {
                    let asked = links::Asked {
                        then: known,
                        now: current.newest,
                    };
                    links::refused(current.link.clone(), code, asked, now.wall)
                }
                _ => current.link.clone(),
            };
            let mut problems = trouble::over(&error);
            problems.extend(trouble::problem(&work, &error, lasting_outage).map(Change::Open));
            Settled {
                link,
                problems,
                wishes: after_not_found(&work.key, &error),
                ..Settled::work(current, work)
            }
        };
        self.store.settle(key, now, settle).await
    }

    /// Belvo has no record of the link: its work is cancelled by the state of the link, its rows stay.
    async fn link_gone(&mut self, under_way: UnderWay, error: Error) -> Result<(), WriteError> {
        let UnderWay {
            key, wanted, known, ..
        } = under_way;
        log_failed(&key, wanted, &error);
        self.keys_proven |= trouble::proves_the_keys(&error);
        let now = Times::of(&self.clock);
        let settle = move |current: Current| {
            let asked = links::Asked {
                then: known,
                now: current.newest,
            };
            let link = links::read(current.link.clone(), None, asked, now.wall);
            let work = current.work.clone();
            let work = match work.key.resource == LINKS.name {
                true => work.fetched(wanted, work::Fetch::of(0, now.wall, now.wall), now.due),
                false => work,
            };
            Settled {
                link,
                problems: trouble::over(&error),
                ..Settled::work(current, work)
            }
        };
        self.store.settle(key, now, settle).await
    }

    /// Pauses everything when the edge says so, longer each time until something gets through.
    fn mind_the_edge(&mut self, error: &Error) {
        match trouble::pause(error, self.edge.pauses) {
            Some(pause) => {
                self.budget.pause(pause);
                self.look_now();
                if error.class() != Class::Credentials {
                    self.edge.pauses = self.edge.pauses.saturating_add(1);
                    self.edge.others_pass = false;
                }
            }
            None if error.code().is_some() => self.edge = Edge::PASSED,
            None => {}
        }
    }

    /// Says whether there are keys, where an admin looks.
    async fn say_whether_there_are_keys(&self) -> Result<(), WriteError> {
        let change = match self.api.borrow().is_some() {
            true => Change::Close(Kind::ApiKeysMissing, String::new()),
            false => Change::Open(trouble::keys_missing()),
        };
        self.store.problems(vec![change], self.clock.wall()).await
    }
}

/// A list that is not found may belong to a link that is gone: its record tells.
fn after_not_found(key: &Key, error: &Error) -> Vec<Wish> {
    let resource = catalog::resource_named(&key.resource);
    let is_list = resource.is_some_and(|resource| resource.shape == Shape::List);
    let record = || Wish {
        key: Key {
            link_id: key.link_id.clone(),
            resource: LINKS.name.to_owned(),
            object_id: key.link_id.clone(),
        },
        whole: false,
    };
    (is_list && error.is_not_found())
        .then(record)
        .into_iter()
        .collect()
}

fn log_failed(key: &Key, wanted: Seq, error: &Error) {
    let class = error.class();
    warn!(
        link_id = key.link_id,
        resource = key.resource,
        seq = wanted.0,
        error_class = class.name(),
        error_code = error.code(),
        request_id = error.request_id,
        "a fetch failed: {error}"
    );
    if class == Class::Credentials {
        error!(
            problem = Kind::ApiKeysRefused.name(),
            next_step = error.next_step(),
            "Belvo refuses the API keys, nothing is fetched until others are there"
        );
    }
}

fn log_fetched(under_way: &UnderWay, done: &Done) {
    let key = &under_way.key;
    info!(
        link_id = key.link_id,
        resource = key.resource,
        seq = under_way.wanted.0,
        pages = done.pages,
        objects = done.found,
        new = done.tally.new,
        changed = done.tally.changed,
        agreed = done.agreed,
        "fetched {} {}, {}",
        done.found,
        key.resource,
        done.tally.words()
    );
}

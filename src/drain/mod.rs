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
pub mod repeats;
pub mod retry;
pub mod work;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};
use tracing::{debug, error, info, warn};

use crate::catalog;
use crate::database::{WriteError, open_reader};
use crate::fetch::{Api, Class, Error};
use crate::journal;
use crate::limits::{
    CREDENTIALS_WAIT, DELIVERIES_REMEMBERED, DUE_ROWS_MAX, FETCHES_AT_ONCE, LONGEST_WAIT,
    PLAN_BYTES_MAX, PLAN_QUIET, PLAN_ROWS_MAX, PLAN_WAIT, READ_FAILED_WAIT, RETRY_AFTER_MAX,
    THROTTLED_WAIT,
};
use crate::store::problems::{Change, Kind, Problem};
use crate::store::{self, Store};
use crate::system::clock::Clock;
use crate::system::stop::Stop;
use crate::webhook::Seq;

use budget::Budget;
use listing::{Done, Failed, Listing, subject};
use plan::Planned;
use repeats::Repeats;
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
pub struct Drain<A> {
    parts: Parts<Arc<A>>,
    budget: Arc<Budget>,
    reader: Option<Connection>,
    repeats: Repeats,
    pace: Pace,
    running: JoinSet<Result<Done, Failed>>,
    under_way: HashMap<Id, (Key, Seq)>,
    paused_until: Option<Instant>,
    /// Until a first answer proves them right, one request at a time goes out with our keys.
    keys_proven: bool,
}

/// Why the drain's loop gave up on one turn: the file could not be read.
type ReadFailed = Box<dyn std::error::Error + Send + Sync>;

/// When to plan: at once when it is quiet, at most once a second while webhooks stream in.
#[derive(Debug)]
struct Pace {
    news: bool,
    last_news: Instant,
    last_planned: Option<Instant>,
}

impl Pace {
    fn new() -> Self {
        // What was journalled before the start is news.
        Self {
            news: true,
            last_news: Instant::now(),
            last_planned: None,
        }
    }

    fn plan_at(&self) -> Option<Instant> {
        let earliest = self
            .last_planned
            .map_or(self.last_news, |planned| planned + PLAN_WAIT);
        self.news.then(|| earliest.min(self.last_news + PLAN_QUIET))
    }

    fn heard(&mut self, now: Instant) {
        self.news = true;
        self.last_news = now;
    }
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
        let parts = Parts {
            state_directory,
            store,
            appended,
            api: api.map(Arc::new),
            budget: Budget::new(1.0, 1),
            clock,
        };
        Self {
            parts,
            budget: Arc::new(budget),
            reader: None,
            repeats: Repeats::default(),
            pace: Pace::new(),
            running: JoinSet::new(),
            under_way: HashMap::new(),
            paused_until: None,
            keys_proven: false,
        }
    }

    /// Runs until told to stop. Fetches under way are dropped: they run again after the next start.
    ///
    /// # Errors
    /// When the writer has ended.
    pub async fn run(mut self, mut stop: Stop) -> Result<(), WriteError> {
        self.report_keys().await?;
        loop {
            if let Err(error) = self.turn().await? {
                warn!(%error, "the file could not be read; trying again");
                self.reader = None;
                tokio::time::sleep(READ_FAILED_WAIT).await;
            }
            let wake = self.wake_at();
            tokio::select! {
                () = stop.told() => return Ok(()),
                changed = self.parts.appended.changed(), if !self.pace.news => match changed {
                    Ok(()) => self.pace.heard(Instant::now()),
                    Err(_) => return Ok(()),
                },
                Some(ended) = self.running.join_next_with_id() => self.ended(ended).await?,
                () = sleep_until(wake) => self.listen(),
            }
        }
    }

    /// While news wait to be planned they are not listened to one by one: a look every now and then tells whether it is quiet.
    fn listen(&mut self) {
        if self.pace.news && self.parts.appended.has_changed().unwrap_or_default() {
            self.parts.appended.mark_unchanged();
            self.pace.heard(Instant::now());
        }
    }

    /// Plans and starts what is due. The inner error is the file's, to be tried again; the outer one is the writer's end.
    async fn turn(&mut self) -> Result<Result<(), ReadFailed>, WriteError> {
        if self.pace.plan_at().is_some_and(|at| at <= Instant::now()) {
            match self.plan().await {
                Ok(()) => {
                    self.pace = Pace {
                        news: false,
                        last_planned: Some(Instant::now()),
                        ..Pace::new()
                    }
                }
                Err(Failed::Store(WriteError::Ended)) => return Err(WriteError::Ended),
                Err(failed) => return Ok(Err(failed.into())),
            }
        }
        Ok(self.start_due().map_err(Into::into))
    }

    fn reader(&mut self) -> Result<&Connection, Failed> {
        match &mut self.reader {
            Some(reader) => Ok(reader),
            none => {
                let unreadable =
                    |error: crate::database::OpenError| WriteError::Database(error.to_string());
                Ok(none.insert(open_reader(&self.parts.state_directory).map_err(unreadable)?))
            }
        }
    }

    async fn plan(&mut self) -> Result<(), Failed> {
        let mut cursor = store::planned_to(self.reader()?).map_err(WriteError::from)?;
        if self.pace.last_planned.is_none() {
            self.remember_before(cursor)?;
        }
        loop {
            let rows = journal::after(self.reader()?, cursor, PLAN_ROWS_MAX, PLAN_BYTES_MAX)
                .map_err(WriteError::from)?;
            let Some(newest) = rows.last().map(|row| row.seq) else {
                return Ok(());
            };
            let planned: Vec<_> = rows.iter().map(|row| self.planned(row)).collect();
            self.parts
                .store
                .plan(planned.clone(), self.parts.clock.now())
                .await?;
            planned.iter().for_each(log_planned);
            cursor = newest;
        }
    }

    fn planned(&mut self, row: &journal::Entry) -> Planned {
        let planned = plan::plan(row.seq, &row.body);
        let duplicate_of =
            self.repeats
                .remember(row.seq, planned.envelope.webhook_id.as_deref(), &row.body);
        Planned {
            duplicate_of,
            ..planned
        }
    }

    /// After a start: the deliveries that a repeated one may repeat.
    fn remember_before(&mut self, cursor: Seq) -> Result<(), Failed> {
        let from = cursor.0 - DELIVERIES_REMEMBERED as i64;
        for seq in from.max(0) + 1..=cursor.0 {
            if let Some(row) = journal::at(self.reader()?, Seq(seq)).map_err(WriteError::from)? {
                self.planned(&row);
            }
        }
        Ok(())
    }

    fn start_due(&mut self) -> Result<(), Failed> {
        let Some(api) = self.parts.api.clone() else {
            return Ok(());
        };
        if self
            .paused_until
            .is_some_and(|until| until > Instant::now())
            || self.slots() == 0
        {
            return Ok(());
        }
        self.paused_until = None;
        let now = self.parts.clock.now();
        for work in store::work::due(self.reader()?, now, DUE_ROWS_MAX).map_err(WriteError::from)? {
            if self.slots() > 0
                && !self
                    .under_way
                    .values()
                    .any(|(key, _)| key.link_id == work.key.link_id)
            {
                self.start(&api, work);
            }
        }
        Ok(())
    }

    fn slots(&self) -> usize {
        let at_once = if self.keys_proven { FETCHES_AT_ONCE } else { 1 };
        at_once.saturating_sub(self.under_way.len())
    }

    fn start(&mut self, api: &Arc<A>, work: Work) {
        let Some(resource) = catalog::resource_named(&work.key.resource) else {
            debug!(
                resource = work.key.resource,
                "work for a resource that this version does not know is left alone"
            );
            return;
        };
        let listing = Listing {
            api: Arc::clone(api),
            store: self.parts.store.clone(),
            budget: Arc::clone(&self.budget),
            clock: self.parts.clock,
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
            Ok((id, outcome)) => (id, outcome),
            Err(panicked) => (
                panicked.id(),
                Err(Failed::Store(WriteError::Database(
                    "the fetch panicked".to_owned(),
                ))),
            ),
        };
        let Some((key, wanted)) = self.under_way.remove(&id) else {
            return Ok(());
        };
        match outcome {
            Ok(done) => {
                self.keys_proven = true;
                log_fetched(&key, wanted, done);
                Ok(())
            }
            Err(Failed::Api(error)) => self.failed(key, wanted, error).await,
            Err(Failed::Store(WriteError::Ended)) => Err(WriteError::Ended),
            Err(Failed::Store(error)) => {
                error!(link_id = key.link_id, resource = key.resource, %error, "objects could not be stored; the fetch runs again");
                self.pause(READ_FAILED_WAIT);
                Ok(())
            }
        }
    }

    async fn failed(&mut self, key: Key, wanted: Seq, error: Error) -> Result<(), WriteError> {
        let class = error.class();
        let request_id = error.request_id.clone();
        warn!(link_id = key.link_id, resource = key.resource, class = class.name(), request_id, %error, "a fetch failed");
        match class {
            Class::Throttled => self.pause(
                THROTTLED_WAIT.max(error.retry_after.unwrap_or_default().min(RETRY_AFTER_MAX)),
            ),
            Class::Credentials => {
                self.keys_proven = false;
                self.pause(CREDENTIALS_WAIT);
            }
            _ => {}
        }
        let failure = Failure {
            text: error.to_string(),
            class: class.name().to_owned(),
            request_id,
        };
        let (now, after, spread) = (self.parts.clock.now(), error.retry_after, fastrand::f64());
        let problems = problem(&key, &error)
            .map(Change::Open)
            .into_iter()
            .collect();
        let settle = move |work: Work| work.failed(wanted, failure, class, after, now, spread);
        match self.parts.store.settle(key, now, settle, problems).await {
            Err(WriteError::Ended) => Err(WriteError::Ended),
            Err(error) => {
                warn!(%error, "a failed fetch could not be written down; it runs again");
                self.pause(READ_FAILED_WAIT);
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    fn pause(&mut self, wait: Duration) {
        let until = Instant::now() + wait;
        self.paused_until = Some(
            self.paused_until
                .map_or(until, |earlier| earlier.max(until)),
        );
    }

    /// When something will be due: planning, the end of a pause, or the next piece of work.
    fn wake_at(&mut self) -> Instant {
        let now = Instant::now();
        let plan_at = self.pace.plan_at().map(|at| at.min(now + PLAN_QUIET));
        let fetch_at = match (self.paused_until, self.slots()) {
            _ if self.parts.api.is_none() => None,
            (Some(until), _) => Some(until),
            (None, 0) => None,
            (None, _) => self.next_due_at(),
        };
        [plan_at, fetch_at]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(now + LONGEST_WAIT)
    }

    fn next_due_at(&mut self) -> Option<Instant> {
        let now = self.parts.clock.now();
        let due_at = store::work::next_due_at(self.reader().ok()?, now).ok()??;
        Some(Instant::now() + due_at.since(now))
    }

    /// Says whether there are keys, where an admin looks.
    async fn report_keys(&mut self) -> Result<(), WriteError> {
        let change = if self.parts.api.is_some() {
            Change::Close(Kind::ApiKeysMissing, String::new())
        } else {
            Change::Open(keys_missing())
        };
        let nothing = Key {
            link_id: String::new(),
            resource: String::new(),
            object_id: String::new(),
        };
        match self
            .parts
            .store
            .settle(nothing, self.parts.clock.now(), |work| work, vec![change])
            .await
        {
            Err(WriteError::Ended) => Err(WriteError::Ended),
            Err(error) => {
                warn!(%error, "the state of the API keys could not be written down");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }
}

fn keys_missing() -> Problem {
    Problem {
        kind: Kind::ApiKeysMissing,
        subject: String::new(),
        text: "no API keys are configured: webhooks are kept, nothing is fetched".to_owned(),
        next_step: "give belvo-secret-id and belvo-secret-password as credentials (or [api] secret-id-file and secret-password-file) and restart the gateway".to_owned(),
        evidence: None,
    }
}

/// What a person should know about a failed fetch; nothing when it is tried again by itself.
fn problem(key: &Key, error: &Error) -> Option<Problem> {
    let (kind, subject) = match error.class() {
        Class::Credentials => (Kind::ApiKeysRefused, String::new()),
        Class::Link => (Kind::LinkBlocked, subject(key)),
        Class::Permanent | Class::Parked => (Kind::FetchFailed, subject(key)),
        Class::Temporary | Class::Busy | Class::Slow | Class::Throttled => return None,
    };
    Some(Problem {
        kind,
        subject,
        text: error.to_string(),
        next_step: error.next_step().to_owned(),
        evidence: None,
    })
}

fn log_planned(planned: &Planned) {
    let envelope = &planned.envelope;
    info!(
        seq = planned.seq.0,
        r#type = envelope.kind,
        code = envelope.code,
        link_id = envelope.link_id,
        request_id = envelope.request_id,
        action = planned.action.name(),
        "webhook planned"
    );
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
        "fetched"
    );
}

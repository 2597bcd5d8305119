//! The one thread that owns the write connection. It takes two kinds of work: *appends*, of which all that wait go into
//! one commit (many requests, one sync), and *changes*, one short transaction each. After each commit of appends at most
//! one change runs, so neither starves the other and an append waits for one change at most. A long change asks
//! [`Writer::is_awaited`] and makes room in the middle; all changes wait, for a while, where the copying of the WAL beside
//! the commits falls behind. Knows no table.
//!
//! An append is answered only after its commit was synced. A change can be redone from the journal, so it is committed
//! without a sync of its own (`synchronous=NORMAL`); the next append's sync, or a checkpoint, covers it, and a power cut
//! can only take a whole suffix of them: the WAL is one sequence.
//!
//! A failure is answered to whoever waits. When nothing could be written for long the thread ends, and the process with
//! it; but not for want of room, which only `room` sees to, nor while the file system is read-only.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, Transaction};
use thiserror::Error;
use tokio::sync::{Notify, oneshot, watch};

use super::answers::Answers;
use super::checkpoint::Checkpointer;
use super::connection::{Durability, Ended, Ran, WriteConnection};
use super::copying::{Copying, Due};
use super::room::{self, Floor, Keeper, Level, Room};
use super::{OpenError, StateDirectory, Views, damage, next_step};
use crate::limits::{
    APPENDS_COME, APPENDS_PER_COMMIT_MAX, APPENDS_QUEUED_MAX, CHANGES_QUEUED_MAX, GATHER_WAIT_MAX,
    QUIET_WAIT, THREAD_STACK_BYTES, TRUNCATE_PAUSE, TRUNCATE_TRIES_MAX, WAL_BYTES,
    WRITER_FAILING_GAP, WRITER_FAILING_MAX,
};
use crate::system::clock::UnixMs;

/// A value that came out of a transaction whose commit has returned.
#[derive(Debug)]
pub struct Committed<T> {
    /// What the work returned.
    pub value: T,
    /// When the commit had returned.
    pub at: Instant,
}

/// Why something was not written. It may still be found in the file when the answer was not waited for.
#[derive(Clone, Debug, Error)]
pub enum WriteError {
    /// Too much waits already.
    #[error("the writer's queue is full")]
    QueueFull,
    /// The writer has ended.
    #[error("the writer has ended")]
    Ended,
    /// What was to be written breaks a rule of the schema; the storage is well.
    #[error("{0}")]
    Refused(String),
    /// There is no room on the file system.
    #[error("{0}")]
    Full(String),
    /// The file system, or the file, is there to be read only.
    #[error("{0}")]
    NotWritable(String),
    /// The storage said no.
    #[error("{0}")]
    Database(String),
    /// The file is damaged.
    #[error("the file is damaged: {0}")]
    Damaged(String),
}

impl WriteError {
    /// What SQLite said, with the next step where there is one.
    pub(super) fn storage(error: &rusqlite::Error) -> Self {
        if damage::is_damage(error) {
            return Self::Damaged(error.to_string());
        }
        let text = format!("{error}{}", next_step(error));
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full(text),
            Some(ErrorCode::ReadOnly) => Self::NotWritable(text),
            _ => Self::Database(text),
        }
    }

    /// Whether a start afresh has nothing to gain: the file is opened anew all the time as it is.
    pub fn is_for_others_to_mend(&self) -> bool {
        matches!(self, Self::Full(_) | Self::NotWritable(_))
    }
}

impl From<rusqlite::Error> for WriteError {
    fn from(error: rusqlite::Error) -> Self {
        Self::storage(&error)
    }
}

impl From<OpenError> for WriteError {
    fn from(error: OpenError) -> Self {
        let text = error.to_string();
        match error {
            OpenError::NotADatabase { source, .. } => Self::storage(&source),
            OpenError::NotWritable { .. } => Self::NotWritable(text),
            OpenError::Sqlite { source, .. }
                if source.sqlite_error_code() == Some(ErrorCode::DiskFull) =>
            {
                Self::Full(text)
            }
            _ => Self::Database(text),
        }
    }
}

/// The storage fails or has failed, and not for want of room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failing {
    /// Since when.
    pub since: UnixMs,
    /// What it said first; or that it is not writable, which says more.
    pub why: String,
    is_writable: bool,
    /// Whether something could be written since.
    pub is_over: bool,
}

/// Why the writer thread gave up.
#[derive(Debug, Error)]
pub enum WriterFailed {
    /// Nothing could be written for a long time.
    #[error("nothing could be written for {} seconds: {last}; ending, so that the service manager starts the gateway afresh", WRITER_FAILING_MAX.as_secs())]
    Persistent {
        /// What it said last.
        last: String,
    },
    /// The file is damaged, which only a start can mend.
    #[error(
        "the file is damaged: {why}; ending, so that the service manager starts the gateway afresh, which keeps the file under another name and serves from a fresh one"
    )]
    Damaged {
        /// What SQLite said.
        why: String,
    },
    /// A piece of work panicked inside its transaction, which was rolled back.
    #[error(
        "the writer's thread panicked; ending, so that the service manager starts the gateway afresh"
    )]
    Panicked,
    /// The thread could not be started.
    #[error("cannot start the writer's thread: {0}")]
    Spawn(io::Error),
}

/// A handle to the writer thread. Clones share it; the thread ends after [`Writer::close`].
#[derive(Clone, Debug)]
pub struct Writer {
    shared: Arc<Shared>,
    /// What the thread would do, when there is none.
    here: Option<Arc<Mutex<Thread>>>,
}

#[derive(Debug)]
struct Shared {
    queues: Mutex<Queues>,
    work: Condvar,
    room: Notify,
    appended: watch::Sender<()>,
    disk: Arc<watch::Sender<Room>>,
    failing: watch::Sender<Option<Failing>>,
}

#[derive(Default)]
struct Queues {
    appends: VecDeque<Box<dyn Job>>,
    last_append: Option<tokio::time::Instant>,
    changes: VecDeque<Box<dyn Job>>,
    truncations: VecDeque<oneshot::Sender<Result<bool, WriteError>>>,
    floor: Option<Floor>,
    /// With how many appends the thread is to be woken; none while it does something, or is being woken already.
    wake_with: Option<usize>,
    closed: bool,
    ended: bool,
}

impl Queues {
    /// Whether nothing waits.
    fn is_quiet(&self) -> bool {
        self.appends.is_empty() && self.changes.is_empty() && self.truncations.is_empty()
    }

    /// Whether the thread has to be woken for an append, which it then is.
    fn is_to_be_woken(&mut self) -> bool {
        let waiting = self.appends.len();
        self.wake_with.take_if(|count| waiting >= *count).is_some()
    }
}

impl std::fmt::Debug for Queues {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Queues({} appends, {} changes)",
            self.appends.len(),
            self.changes.len()
        )
    }
}

/// One piece of work, in two steps: run inside a transaction, then told how the commit went.
pub(super) trait Job: Send {
    fn durability(&self) -> Durability;
    fn run(&mut self, transaction: &Transaction<'_>) -> Ran;
    fn finish(self: Box<Self>, committed: &Result<Ended, WriteError>);
}

struct Task<F, T> {
    durability: Durability,
    work: Option<F>,
    value: Option<rusqlite::Result<T>>,
    reply: oneshot::Sender<Result<Committed<T>, WriteError>>,
}

impl<F, T> Job for Task<F, T>
where
    F: FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send,
    T: Send,
{
    fn durability(&self) -> Durability {
        self.durability
    }

    fn run(&mut self, transaction: &Transaction<'_>) -> Ran {
        let Some(work) = self.work.take() else {
            return Ran::Well;
        };
        let value = work(transaction);
        let ran = value.as_ref().err().map_or(Ran::Well, Ran::from_error);
        self.value = Some(value);
        ran
    }

    fn finish(self: Box<Self>, committed: &Result<Ended, WriteError>) {
        let answer = match (committed, self.value) {
            (_, Some(Err(error))) => Err(match Ran::from_error(&error) {
                Ran::Broken(error) => error,
                Ran::Refused | Ran::Well => WriteError::Refused(error.to_string()),
            }),
            (Ok(Ended { at, .. }), Some(Ok(value))) => Ok(Committed { value, at: *at }),
            (Err(error), _) => Err(error.clone()),
            (Ok(_), None) => Err(WriteError::Ended),
        };
        // Nobody waits any more when its 503 was sent already; the row stays, and Belvo repeats the delivery.
        drop(self.reply.send(answer));
    }
}

impl Writer {
    /// Starts the thread on an open connection; in the runtime that appends. The receiver is told when the thread has ended,
    /// for whatever reason.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(
        directory: StateDirectory,
        connection: Connection,
        views: Views,
    ) -> Result<(Self, oneshot::Receiver<Result<(), WriterFailed>>), WriterFailed> {
        let (ended, end) = oneshot::channel();
        let mut thread = Thread::new(directory, connection, views, Answers::here());
        thread.copy_beside().map_err(WriterFailed::Spawn)?;
        let shared = Arc::clone(&thread.shared);
        thread::Builder::new()
            .name("writer".to_owned())
            .stack_size(THREAD_STACK_BYTES)
            .spawn(move || {
                let guard = EndGuard(Arc::clone(&thread.shared));
                let outcome =
                    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| thread.run()));
                drop(guard);
                drop(ended.send(outcome.unwrap_or(Err(WriterFailed::Panicked))));
            })
            .map_err(WriterFailed::Spawn)?;
        Ok((Self { shared, here: None }, end))
    }

    /// A writer that does everything at once on the thread of whoever asks, with the same queues and transactions: for
    /// simulations, in which the same seed must always give the same order of events.
    pub fn without_thread(directory: StateDirectory, connection: Connection, views: Views) -> Self {
        let thread = Thread::new(directory, connection, views, Answers::directly());
        let shared = Arc::clone(&thread.shared);
        Self {
            shared,
            here: Some(Arc::new(Mutex::new(thread))),
        }
    }

    /// Wakes the thread if need be; or does its work, and lets others run then as they would meanwhile.
    async fn go(&self, is_to_be_woken: bool) {
        let Some(thread) = &self.here else {
            if is_to_be_woken {
                self.shared.work.notify_one();
            }
            return;
        };
        thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .run_what_waits();
        tokio::task::yield_now().await;
    }

    /// Runs `work` in the next commit of appends and waits until that was synced.
    ///
    /// # Errors
    /// At once when the queue is full; later when the commit failed.
    pub async fn append<F, T>(&self, work: F) -> Result<Committed<T>, WriteError>
    where
        F: FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
        T: Send + 'static,
    {
        let (job, answer) = task(work, Durability::Synced);
        let is_to_be_woken = self.shared.queue_append(job)?;
        self.go(is_to_be_woken).await;
        answer.await.unwrap_or(Err(WriteError::Ended))
    }

    /// Runs `work` in a transaction of its own, after the appends that wait, and waits until it is committed. It is not
    /// synced: use it only for what can be redone from the journal.
    ///
    /// # Errors
    /// When the transaction failed, or the writer has ended.
    pub async fn change<F, T>(&self, work: F) -> Result<T, WriteError>
    where
        F: FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
        T: Send + 'static,
    {
        self.queue(work, Durability::Relaxed).await
    }

    /// The same, and waits until it was synced: for what an operator was told is done.
    ///
    /// # Errors
    /// When the transaction failed, or the writer has ended.
    pub async fn change_synced<F, T>(&self, work: F) -> Result<T, WriteError>
    where
        F: FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
        T: Send + 'static,
    {
        self.queue(work, Durability::Synced).await
    }

    async fn queue<F, T>(&self, work: F, durability: Durability) -> Result<T, WriteError>
    where
        F: FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
        T: Send + 'static,
    {
        let (job, answer) = task(work, durability);
        self.shared.queue_change(job).await?;
        self.go(true).await;
        answer
            .await
            .unwrap_or(Err(WriteError::Ended))
            .map(|committed| committed.value)
    }

    /// Copies the whole WAL into the file and empties it, so that no older version of a page is left in it. Says whether
    /// it could: a reader that looks at an older state, or another program that copies, keeps it from that for as long as it does.
    ///
    /// # Errors
    /// When the storage failed, or the writer has ended.
    pub async fn truncate_wal(&self) -> Result<bool, WriteError> {
        for _ in 0..TRUNCATE_TRIES_MAX {
            let (reply, answer) = oneshot::channel();
            {
                let mut queues = self.shared.lock();
                if queues.ended {
                    return Err(WriteError::Ended);
                }
                queues.truncations.push_back(reply);
            }
            self.go(true).await;
            if answer.await.unwrap_or(Err(WriteError::Ended))? {
                return Ok(true);
            }
            tokio::time::sleep(TRUNCATE_PAUSE).await;
        }
        Ok(false)
    }

    /// Whether appends come: one was asked for within [`APPENDS_COME`].
    pub fn do_appends_come(&self) -> bool {
        let last = self.shared.lock().last_append;
        last.is_some_and(|last| last.elapsed() < APPENDS_COME)
    }

    /// Whether an append waits: a change that can be cut short should be then, and go on in the next one.
    pub fn is_awaited(&self) -> bool {
        !self.shared.lock().appends.is_empty()
    }

    /// Passes through the thread without writing anything: proof that it is alive.
    ///
    /// # Errors
    /// When the writer has ended or its connection is gone.
    pub async fn pulse(&self) -> Result<(), WriteError> {
        self.change(|_| Ok(())).await
    }

    /// From now on the disk is to keep this much free, and already has or has not when this returns.
    pub fn keep_free(&self, directory: &Path, floor: Floor) {
        if let Some(room) = room::first_look(directory, floor) {
            self.shared.disk.send_replace(room);
        }
        self.shared.lock().floor = Some(floor);
        self.shared.work.notify_one();
    }

    /// Whether the disk has enough room for appends.
    pub fn has_room(&self) -> bool {
        self.shared.disk.borrow().level == Level::Enough
    }

    /// Tells when the room on the disk has become too little or enough.
    pub fn watch_room(&self) -> watch::Receiver<Room> {
        self.shared.disk.subscribe()
    }

    /// Tells when the storage fails, and when something could be written again; of what came and went, the last.
    pub fn watch_failing(&self) -> watch::Receiver<Option<Failing>> {
        self.shared.failing.subscribe()
    }

    /// Takes no more appends; the thread ends when everything that waits is written.
    pub fn close(&self) {
        self.shared.lock().closed = true;
        self.shared.work.notify_one();
    }

    /// Tells, from now on, when appends were committed, also those that nobody waits for any more.
    pub fn watch_appends(&self) -> watch::Receiver<()> {
        self.shared.appended.subscribe()
    }
}

type Reply<T> = oneshot::Receiver<Result<Committed<T>, WriteError>>;

fn task<F, T>(work: F, durability: Durability) -> (Box<dyn Job>, Reply<T>)
where
    F: FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    T: Send + 'static,
{
    let (reply, answer) = oneshot::channel();
    (
        Box::new(Task {
            durability,
            work: Some(work),
            value: None,
            reply,
        }),
        answer,
    )
}

impl Shared {
    /// The queues are whole between any two lines that could panic, so a poisoned lock is still good.
    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the thread look at what it may do. It looks while it holds the lock, so it is not just about to wait.
    fn wake(&self) {
        drop(self.lock());
        self.work.notify_one();
    }

    /// Says whether the thread has to be woken for it.
    fn queue_append(&self, job: Box<dyn Job>) -> Result<bool, WriteError> {
        let mut queues = self.lock();
        if queues.closed || queues.ended {
            return Err(WriteError::Ended);
        }
        if queues.appends.len() >= APPENDS_QUEUED_MAX {
            return Err(WriteError::QueueFull);
        }
        queues.appends.push_back(job);
        queues.last_append = Some(tokio::time::Instant::now());
        Ok(queues.is_to_be_woken())
    }

    /// Waits until there is room for it.
    async fn queue_change(&self, job: Box<dyn Job>) -> Result<(), WriteError> {
        let mut job = Some(job);
        loop {
            let room = self.room.notified();
            {
                let mut queues = self.lock();
                if queues.ended {
                    return Err(WriteError::Ended);
                }
                if queues.changes.len() < CHANGES_QUEUED_MAX {
                    queues.changes.extend(job.take());
                    return Ok(());
                }
            }
            room.await;
        }
    }
}

/// Answers everybody who still waits when the thread ends, also by a panic.
struct EndGuard(Arc<Shared>);

impl Drop for EndGuard {
    fn drop(&mut self) {
        let mut queues = self.0.lock();
        queues.ended = true;
        queues.appends.clear();
        queues.changes.clear();
        queues.truncations.clear();
        drop(queues);
        self.0.room.notify_waiters();
    }
}

/// How long a commit may be held back for appends that are about to come: those that were answered together will, on
/// kept connections, ask again together. A lone request waits once after a burst, and never otherwise.
#[derive(Debug, Default)]
struct Pace {
    expected: usize,
    last_commit: Duration,
}

impl Pace {
    fn gather(&self) -> Duration {
        if self.expected > 1 {
            (self.last_commit / 8).min(GATHER_WAIT_MAX)
        } else {
            Duration::ZERO
        }
    }
}

struct Thread {
    shared: Arc<Shared>,
    /// Dropped before the connection: whose connection is closed last makes an end of the WAL.
    copying: Copying,
    connection: WriteConnection,
    answers: Answers,
    keeper: Keeper,
    pace: Pace,
    /// The first and the last failure in a row, of those that a start afresh may mend.
    failing: Option<(Instant, Instant)>,
}

impl std::fmt::Debug for Thread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Thread").finish_non_exhaustive()
    }
}

/// What the queues hold for the next turn.
enum Turn {
    Appends(Vec<Box<dyn Job>>),
    Change(Box<dyn Job>),
    Truncate(oneshot::Sender<Result<bool, WriteError>>),
    Checkpoint,
    CopyFailed(WriteError),
    GrowWal,
    Keep(Floor),
    Look,
    Closed,
}

impl Thread {
    fn new(
        directory: StateDirectory,
        connection: Connection,
        views: Views,
        answers: Answers,
    ) -> Self {
        let disk: Arc<watch::Sender<Room>> = Arc::default();
        Self {
            keeper: Keeper::new(directory.path(), Arc::clone(&disk)),
            shared: Arc::new(Shared {
                queues: Mutex::default(),
                work: Condvar::new(),
                room: Notify::new(),
                appended: watch::Sender::new(()),
                disk,
                failing: watch::Sender::new(None),
            }),
            copying: Copying::default(),
            connection: WriteConnection::new(directory, views, connection),
            answers,
            pace: Pace::default(),
            failing: None,
        }
    }

    /// From now on the WAL is copied by a thread of its own.
    fn copy_beside(&mut self) -> io::Result<()> {
        let shared = Arc::downgrade(&self.shared);
        let copied = move || {
            if let Some(shared) = shared.upgrade() {
                shared.wake();
            }
        };
        let path = self.connection.file();
        // Without it the writer waits longer, and that is all.
        let file = File::open(&path).ok();
        self.copying
            .beside(Checkpointer::start(path, file, copied)?);
        Ok(())
    }

    fn run(mut self) -> Result<(), WriterFailed> {
        let mut change_next = false;
        loop {
            let outcome = match self.next(change_next) {
                Turn::Closed => return Ok(()),
                // What the WAL takes on a disk that has too little room is given back.
                Turn::Checkpoint if self.keeper.is_short() => {
                    self.connection.truncate().map(|_| true)
                }
                Turn::Checkpoint => self.connection.checkpoint().map(|()| true),
                Turn::CopyFailed(error) => self.connection.fail(error).map(|()| false),
                Turn::GrowWal => {
                    self.connection.grow_wal();
                    Ok(false)
                }
                Turn::Look => Ok(false),
                Turn::Keep(floor) => {
                    self.keeper.keep(floor);
                    Ok(false)
                }
                Turn::Appends(jobs) => {
                    change_next = true;
                    self.appends(jobs)
                }
                Turn::Change(job) => {
                    change_next = false;
                    self.shared.room.notify_waiters();
                    let durability = job.durability();
                    self.commit(vec![job], durability)
                }
                Turn::Truncate(reply) => {
                    change_next = false;
                    let outcome = self.truncate();
                    // Nobody waits any more when the act was given up.
                    drop(reply.send(outcome.clone()));
                    outcome
                }
            };
            if let Err(WriteError::Full(_)) = &outcome {
                self.keeper.ran_out();
            } else if self.keeper.is_due(self.connection.wal_pages()) {
                let (keeper, connection) = (&mut self.keeper, &self.connection);
                keeper.look(connection.wal_pages(), || connection.inside());
                if self.keeper.is_short() && self.connection.is_wal_large() {
                    // Room that it was given beforehand is room that others lack.
                    let given_back = self.truncate();
                    self.take_in(given_back)?;
                }
            }
            self.take_in(outcome)?;
        }
    }

    fn truncate(&mut self) -> Result<bool, WriteError> {
        match self.connection.truncate() {
            Err(WriteError::Full(_)) if self.keeper.ran_out() => self.connection.truncate(),
            outcome => outcome,
        }
    }

    /// Tells whether the storage fails, and gives up when it has for long and a start afresh may help.
    fn take_in(&mut self, outcome: Result<bool, WriteError>) -> Result<(), WriterFailed> {
        let error = match outcome {
            Ok(false) => return Ok(()),
            Ok(true) => {
                self.failing = None;
                self.say_failing(None);
                return Ok(());
            }
            Err(WriteError::Damaged(why)) if self.connection.note_damage(&why) => {
                return Err(WriterFailed::Damaged { why });
            }
            Err(error) => error,
        };
        if !matches!(error, WriteError::Full(_)) {
            self.say_failing(Some(&error));
        }
        if error.is_for_others_to_mend() {
            self.failing = None;
            return Ok(());
        }
        let now = Instant::now();
        let recent = self
            .failing
            .filter(|(_, last)| now - *last < WRITER_FAILING_GAP);
        let since = recent.map_or(now, |(first, _)| first);
        self.failing = Some((since, now));
        match now - since >= WRITER_FAILING_MAX {
            true => Err(WriterFailed::Persistent {
                last: error.to_string(),
            }),
            false => Ok(()),
        }
    }

    /// Tells what is news in it.
    fn say_failing(&self, error: Option<&WriteError>) {
        self.shared.failing.send_if_modified(|told| {
            let failing = told.as_mut().filter(|told| !told.is_over);
            let Some(error) = error else {
                return failing.map(|failing| failing.is_over = true).is_some();
            };
            let is_writable = !matches!(error, WriteError::NotWritable(_));
            if failing
                .as_ref()
                .is_some_and(|failing| is_writable || !failing.is_writable)
            {
                return false;
            }
            *told = Some(Failing {
                since: failing.map_or_else(UnixMs::now, |failing| failing.since),
                why: error.to_string(),
                is_writable,
                is_over: false,
            });
            true
        });
    }

    /// Does what waits, without waiting for more. Whoever asked is told how it went.
    fn run_what_waits(&mut self) {
        loop {
            let mut queues = self.shared.lock();
            let appends: Vec<_> = queues.appends.drain(..).collect();
            let change = queues.changes.pop_front();
            let truncation = queues.truncations.pop_front();
            drop(queues);
            if appends.is_empty() && change.is_none() && truncation.is_none() {
                return;
            }
            if !appends.is_empty() {
                drop(self.appends(appends));
            }
            if let Some(job) = change {
                let durability = job.durability();
                drop(self.commit(vec![job], durability));
            }
            if let Some(reply) = truncation {
                drop(reply.send(self.connection.truncate()));
            }
        }
    }

    /// What the WAL asks for first of all.
    fn copying_turn(&mut self) -> Option<Turn> {
        let (pages, is_short) = (self.connection.wal_pages(), self.keeper.is_short());
        self.copying.due(pages, is_short).map(|due| match due {
            Due::Copy => Turn::Checkpoint,
            Due::Failed(error) => Turn::CopyFailed(error),
        })
    }

    /// Waits for work. Appends first, unless it is a change's turn; the WAL is made larger, or copied, when nobody waits. It is
    /// looked at with the lock held, as whoever wakes the thread holds it: nothing comes between the look and the wait.
    fn next(&mut self, change_next: bool) -> Turn {
        let shared = Arc::clone(&self.shared);
        let mut queues = shared.lock();
        if self.connection.is_lost() && self.copying.is_under_way() {
            // To open the file takes locks that whoever copies holds.
            self.copying.hurry();
            drop(self.waited(queues, None));
            return Turn::Look;
        }
        if let Some(turn) = self.copying_turn() {
            return turn;
        }
        if let Some(floor) = queues.floor.take() {
            return Turn::Keep(floor);
        }
        let pages = self.connection.wal_pages();
        let held_until = self.copying.holds_changes(pages);
        let may_change = held_until.is_none();
        if may_change
            && change_next
            && let Some(turn) = self.next_change(&mut queues)
        {
            return turn;
        }
        if !queues.appends.is_empty() {
            return Turn::Appends(self.gathered(queues));
        }
        if may_change && let Some(turn) = self.next_change(&mut queues) {
            return turn;
        }
        if queues.closed && queues.changes.is_empty() && queues.truncations.is_empty() {
            return Turn::Closed;
        }
        let has_room = !self.keeper.is_short() && self.keeper.can_spare(WAL_BYTES);
        if may_change && self.connection.is_wal_small() && has_room {
            return Turn::GrowWal;
        }
        let quiet_at = self
            .copying
            .is_worth_it_when_quiet(pages)
            .then(|| Instant::now() + QUIET_WAIT);
        let until = [self.keeper.look_at(), held_until, quiet_at];
        let queues = self.waited(queues, until.into_iter().flatten().min());
        if queues.is_quiet() && quiet_at.is_some_and(|at| at <= Instant::now()) {
            self.copying.begin(1, pages);
        }
        Turn::Look
    }

    /// A change, or else a truncation, which has nothing to gain while the thread copies.
    fn next_change(&self, queues: &mut Queues) -> Option<Turn> {
        if let Some(job) = queues.changes.pop_front() {
            return Some(Turn::Change(job));
        }
        if !queues.truncations.is_empty() && self.copying.is_under_way() {
            self.copying.hurry();
            return None;
        }
        queues.truncations.pop_front().map(Turn::Truncate)
    }

    /// Waits for work, of which one append is enough, or until then.
    fn waited<'a>(
        &self,
        mut queues: MutexGuard<'a, Queues>,
        until: Option<Instant>,
    ) -> MutexGuard<'a, Queues> {
        queues.wake_with = Some(1);
        let work = &self.shared.work;
        match until {
            None => work.wait(queues).unwrap_or_else(PoisonError::into_inner),
            Some(until) => {
                let left = until.saturating_duration_since(Instant::now());
                let woken = work.wait_timeout(queues, left);
                woken.unwrap_or_else(PoisonError::into_inner).0
            }
        }
    }

    fn gathered(&self, mut queues: MutexGuard<'_, Queues>) -> Vec<Box<dyn Job>> {
        let until = Instant::now() + self.pace.gather();
        while queues.appends.len() < self.pace.expected && !queues.closed {
            let Some(left) = until
                .checked_duration_since(Instant::now())
                .filter(|left| !left.is_zero())
            else {
                break;
            };
            queues.wake_with = Some(self.pace.expected);
            queues = self
                .shared
                .work
                .wait_timeout(queues, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        queues.wake_with = None;
        let count = queues.appends.len().min(APPENDS_PER_COMMIT_MAX);
        queues.appends.drain(..count).collect()
    }

    fn appends(&mut self, jobs: Vec<Box<dyn Job>>) -> Result<bool, WriteError> {
        let count = jobs.len();
        let began = Instant::now();
        let outcome = self.commit(jobs, Durability::Synced);
        self.pace.last_commit = began.elapsed();
        self.pace.expected = count + self.shared.lock().appends.len();
        if outcome.is_ok() {
            self.shared.appended.send_replace(());
        }
        outcome
    }

    /// Runs the jobs in one transaction and answers each; says whether anything was written. A job that was refused alone
    /// does not fail the others: each is one statement then, which SQLite has undone.
    fn commit(
        &mut self,
        mut jobs: Vec<Box<dyn Job>>,
        durability: Durability,
    ) -> Result<bool, WriteError> {
        let outcome = self.connection.transact(durability, |transaction| {
            let alone = jobs.len() == 1;
            for job in &mut jobs {
                match job.run(transaction) {
                    Ran::Refused if alone => return Ran::Refused,
                    Ran::Refused | Ran::Well => {}
                    // The transaction may be gone already, so nobody in it may be told that it was kept.
                    broken @ Ran::Broken(_) => return broken,
                }
            }
            Ran::Well
        });
        let wrote = outcome.clone().map(|ended| ended.wrote);
        self.answers.tell(jobs, outcome);
        wrote
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{PAGE_BYTES, WAL_PAGES_MAX, WAL_PAGES_SHORT_MAX, WAL_PASSES_MAX};
    use crate::store::VIEWS;
    use std::future::Future;
    use tempfile::TempDir;

    /// A writer on a file of its own, with one more table.
    fn writer() -> (TempDir, Writer, oneshot::Receiver<Result<(), WriterFailed>>) {
        let place = tempfile::tempdir().expect("a temporary directory");
        let directory = StateDirectory::lock(place.path()).expect("a state directory");
        let connection = super::super::open_writer(&directory, VIEWS).expect("a file");
        connection
            .execute_batch("CREATE TABLE t (x INTEGER PRIMARY KEY) STRICT")
            .expect("a table");
        let (writer, end) = Writer::start(directory, connection, VIEWS).expect("a thread");
        (place, writer, end)
    }

    fn insert(x: i64) -> impl FnOnce(&Transaction<'_>) -> rusqlite::Result<usize> + Send + 'static {
        move |transaction| transaction.execute("INSERT INTO t VALUES (?1)", [x])
    }

    async fn count(writer: &Writer) -> i64 {
        let count = |transaction: &Transaction<'_>| {
            transaction.query_row("SELECT count(*) FROM t", [], |row| row.get(0))
        };
        writer.change(count).await.expect("a count")
    }

    #[tokio::test]
    async fn an_append_that_is_refused_fails_alone() {
        let (_place, writer, _end) = writer();
        writer.append(insert(1)).await.expect("a row");
        let (good, bad) = tokio::join!(writer.append(insert(2)), writer.append(insert(1)));
        assert!(good.is_ok() && matches!(bad, Err(WriteError::Refused(_))));
        assert_eq!(count(&writer).await, 2);
    }

    #[tokio::test]
    async fn a_change_that_is_refused_halfway_leaves_nothing() {
        let (_place, writer, _end) = writer();
        let half = |transaction: &Transaction<'_>| {
            insert(1)(transaction)?;
            insert(1)(transaction)
        };
        assert!(matches!(
            writer.change(half).await,
            Err(WriteError::Refused(_))
        ));
        assert_eq!(count(&writer).await, 0);
    }

    #[tokio::test]
    async fn the_wal_is_emptied_unless_a_reader_needs_it() {
        let (place, writer, _end) = writer();
        writer.append(insert(1)).await.expect("a row");
        let wal = place.path().join("gateway.db-wal");
        // It may have been made larger again already, with zeros.
        let is_empty = || {
            std::fs::read(&wal)
                .expect("a WAL")
                .iter()
                .all(|byte| *byte == 0)
        };
        assert!(!is_empty());
        assert!(writer.truncate_wal().await.expect("a checkpoint"));
        assert!(is_empty());
        let reader = Connection::open(place.path().join(super::super::FILE_NAME)).expect("a file");
        reader
            .execute_batch("BEGIN; SELECT count(*) FROM t")
            .expect("a look");
        writer.append(insert(2)).await.expect("a row");
        assert!(!writer.truncate_wal().await.expect("a checkpoint"));
        drop(reader);
        assert!(writer.truncate_wal().await.expect("a checkpoint"));
        assert!(is_empty());
    }

    /// Waits until a file in the state directory has these bytes at least.
    fn until_large(place: &TempDir, name: &str, bytes: u64) {
        let begun = Instant::now();
        let size = || std::fs::metadata(place.path().join(name)).map_or(0, |file| file.len());
        while size() < bytes {
            assert!(
                begun.elapsed() < Duration::from_secs(30),
                "{name} has {}",
                size()
            );
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Appends so many rows of 100 kB, each in a commit of its own.
    async fn append_large(writer: &Writer, rows: i64) {
        let table = |transaction: &Transaction<'_>| {
            transaction
                .execute_batch("CREATE TABLE large (x INTEGER PRIMARY KEY, bytes BLOB) STRICT")
        };
        writer.change(table).await.expect("a table");
        for x in 0..rows {
            let insert = move |transaction: &Transaction<'_>| {
                transaction.execute("INSERT INTO large VALUES (?1, zeroblob(100000))", [x])
            };
            writer.append(insert).await.expect("a row");
        }
    }

    #[tokio::test]
    async fn the_wal_has_its_size_before_it_is_needed_and_keeps_it() {
        let (place, writer, _end) = writer();
        until_large(&place, "gateway.db-wal", WAL_BYTES);
        for x in 0..100 {
            writer.append(insert(x)).await.expect("a row");
        }
        let wal = std::fs::metadata(place.path().join("gateway.db-wal")).expect("a WAL");
        assert_eq!(wal.len(), WAL_BYTES);
        assert_eq!(count(&writer).await, 100);
    }

    #[tokio::test]
    async fn what_was_committed_is_copied_into_the_file_while_the_writer_is_idle() {
        let (place, writer, _end) = writer();
        append_large(&writer, 170).await;
        until_large(&place, super::super::FILE_NAME, 15_000_000);
    }

    #[tokio::test]
    async fn less_than_that_is_copied_when_the_writer_is_quiet() {
        let (place, writer, _end) = writer();
        append_large(&writer, 60).await;
        until_large(&place, super::super::FILE_NAME, 5_000_000);
    }

    #[tokio::test]
    async fn the_wal_stays_bounded_while_commits_never_pause() {
        let (place, writer, _end) = writer();
        append_large(&writer, 700).await;
        let wal = std::fs::metadata(place.path().join("gateway.db-wal")).expect("a WAL");
        let pages = wal.len() / (PAGE_BYTES as u64 + 24);
        assert!(pages < 3 * WAL_PAGES_MAX as u64, "{pages} pages");
    }

    /// A thread that does nothing by itself, on a file of its own with a table for large rows.
    fn resting_thread() -> (TempDir, Thread) {
        let place = tempfile::tempdir().expect("a temporary directory");
        let directory = StateDirectory::lock(place.path()).expect("a state directory");
        let connection = super::super::open_writer(&directory, VIEWS).expect("a file");
        connection
            .execute_batch("CREATE TABLE large (bytes BLOB) STRICT")
            .expect("a table");
        let mut thread = Thread::new(directory, connection, VIEWS, Answers::directly());
        thread.copy_beside().expect("a thread");
        (place, thread)
    }

    /// Commits so many rows of some fifty pages each, and says how often commits waited for the WAL to be copied. The
    /// copying beside them is always done before the next.
    fn waited_for_copies(thread: &mut Thread, commits: u32) -> u32 {
        let mut waited = 0;
        for _ in 0..commits {
            let insert = |transaction: &Transaction<'_>| {
                transaction.execute("INSERT INTO large VALUES (zeroblob(100000))", [])
            };
            let (job, _answer) = task(insert, Durability::Relaxed);
            thread
                .commit(vec![job], Durability::Relaxed)
                .expect("a commit");
            let mut tries = 0;
            while let Some(Turn::Checkpoint) = thread.copying_turn() {
                thread.connection.checkpoint().expect("a checkpoint");
                tries += 1;
                assert!(tries < 3, "it goes on and on");
            }
            waited += tries;
            while thread.copying.is_under_way() {
                thread::yield_now();
            }
        }
        waited
    }

    #[test]
    fn while_an_older_state_is_read_commits_seldom_wait_for_copies_that_can_copy_nothing() {
        let (place, mut thread) = resting_thread();
        assert!(waited_for_copies(&mut thread, 400) <= 400 * 50 / WAL_PAGES_MAX as u32 + 1);
        let reader = Connection::open(place.path().join(super::super::FILE_NAME)).expect("a file");
        reader
            .execute_batch("BEGIN; SELECT count(*) FROM large")
            .expect("a look");
        let waited = waited_for_copies(&mut thread, 400);
        let most = 400 * 50 / WAL_PAGES_MAX as u32 + 1;
        assert!(waited <= most, "{waited} times, and not {most}");
        // Each commit may be the last for long, so some room on the disk is worth more tries.
        let floor = Floor {
            bytes: u64::MAX,
            ballast_bytes: 0,
        };
        thread.keeper.keep(floor);
        thread.keeper.ran_out();
        assert!(thread.keeper.is_short());
        let waited = waited_for_copies(&mut thread, 60);
        assert!((15..=25).contains(&waited), "{waited} times");
        drop(reader);
        waited_for_copies(&mut thread, 10);
        let pages = thread.connection.wal_pages();
        assert!(pages <= 2 * WAL_PAGES_SHORT_MAX, "{pages} pages");
    }

    #[test]
    fn a_change_is_taken_when_it_has_waited_for_the_copying_for_long_enough() {
        let (_place, mut thread) = resting_thread();
        let pages = thread.connection.wal_pages();
        thread.copying.beside(Checkpointer::endless());
        thread.copying.begin(WAL_PASSES_MAX, pages);
        let (job, _answer) = task(|_| Ok(()), Durability::Relaxed);
        thread.shared.lock().changes.push_back(job);
        assert!(thread.copying.holds_changes(pages).is_some());
        thread.copying.hold_no_longer();
        assert!(matches!(thread.next(true), Turn::Change(_)));
    }

    #[test]
    fn while_the_wal_is_copied_appends_are_taken_and_truncations_wait() {
        let (_place, mut thread) = resting_thread();
        thread.copying.beside(Checkpointer::endless());
        thread.copying.begin(1, 0);
        let (reply, _answer) = oneshot::channel();
        thread.shared.lock().truncations.push_back(reply);
        let (job, _answer) = task(|_| Ok(()), Durability::Synced);
        thread.shared.queue_append(job).expect("room for one");
        assert!(matches!(thread.next(true), Turn::Appends(_)));
        thread.copying = Copying::default();
        assert!(matches!(thread.next(true), Turn::Truncate(_)));
    }

    #[test]
    fn what_the_disk_refuses_of_the_copied_wal_is_copied_again() {
        use std::os::unix::fs::OpenOptionsExt;
        let (place, mut thread) = resting_thread();
        // Of which nothing can be written, and every call says so.
        let path_only = File::options()
            .read(true)
            .custom_flags(libc::O_PATH)
            .open(thread.connection.file());
        let (end, ended) = std::sync::mpsc::channel();
        let started = Checkpointer::start(thread.connection.file(), path_only.ok(), move || {
            end.send(()).ok();
        });
        thread.copying.beside(started.expect("a thread"));
        waited_for_copies(&mut thread, 3);
        thread.copying.begin(1, thread.connection.wal_pages());
        ended.recv().expect("a pass");
        let Turn::CopyFailed(error) = thread.next(false) else {
            panic!("nobody was told");
        };
        assert!(error.to_string().contains("gateway.db: "), "{error}");
        let failed = thread.connection.fail(error).map(|()| false);
        thread.take_in(failed).expect("a failure of a moment");
        assert!(thread.shared.failing.borrow().is_some());
        assert!(place.path().join("gateway.db-wal").exists());
        waited_for_copies(&mut thread, 1);
        let pages = thread.connection.wal_pages();
        assert!(pages < 100, "the WAL starts over, and has {pages} pages");
    }

    #[tokio::test]
    async fn a_queue_that_is_full_says_so_at_once() {
        let (_place, writer, _end) = writer();
        let (hold, held) = std::sync::mpsc::channel::<()>();
        let (begun, begins) = oneshot::channel();
        let busy = writer.clone();
        let busy = tokio::spawn(async move {
            let wait = move |_: &Transaction<'_>| {
                let _ = begun.send(());
                let _ = held.recv();
                Ok(())
            };
            busy.append(wait).await
        });
        begins.await.expect("a busy writer");
        let mut waiting = tokio::task::JoinSet::new();
        for x in 0..APPENDS_QUEUED_MAX as i64 {
            let writer = writer.clone();
            waiting.spawn(async move { writer.append(insert(x)).await });
        }
        while writer.shared.lock().appends.len() < APPENDS_QUEUED_MAX {
            tokio::task::yield_now().await;
        }
        assert!(matches!(
            writer.append(insert(-1)).await,
            Err(WriteError::QueueFull)
        ));
        drop(hold);
        assert!(busy.await.expect("a task").is_ok());
        while let Some(appended) = waiting.join_next().await {
            assert!(appended.expect("a task").is_ok());
        }
        assert_eq!(count(&writer).await, APPENDS_QUEUED_MAX as i64);
    }

    #[tokio::test]
    async fn what_waits_when_the_writer_is_closed_is_written_and_nothing_after_it() {
        let (place, writer, end) = writer();
        let waiting = tokio::spawn({
            let writer = writer.clone();
            async move { writer.append(insert(1)).await }
        });
        while writer.shared.lock().appends.is_empty() && !waiting.is_finished() {
            tokio::task::yield_now().await;
        }
        writer.close();
        assert!(matches!(
            writer.append(insert(2)).await,
            Err(WriteError::Ended)
        ));
        assert!(waiting.await.expect("a task").is_ok());
        assert!(matches!(end.await, Ok(Ok(()))));
        let file = Connection::open(place.path().join(super::super::FILE_NAME)).expect("a file");
        assert_eq!(
            file.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0))
                .expect("a count"),
            1
        );
    }

    #[tokio::test]
    async fn a_panic_in_the_writer_ends_it_and_everybody_is_told() {
        let (_place, writer, end) = writer();
        let panics = |_: &Transaction<'_>| -> rusqlite::Result<()> { panic!("on purpose") };
        assert!(matches!(
            writer.change(panics).await,
            Err(WriteError::Ended)
        ));
        assert!(matches!(end.await, Ok(Err(WriterFailed::Panicked))));
        assert!(matches!(
            writer.append(insert(1)).await,
            Err(WriteError::Ended)
        ));
    }

    #[tokio::test]
    async fn appends_tell_that_they_were_committed_even_when_nobody_waits_for_them() {
        let (_place, writer, _end) = writer();
        let mut appended = writer.watch_appends();
        let mut given_up = Box::pin(writer.append(insert(1)));
        assert!(
            std::future::poll_fn(|context| std::task::Poll::Ready(given_up.as_mut().poll(context)))
                .await
                .is_pending()
        );
        drop(given_up);
        appended.changed().await.expect("news");
        assert_eq!(count(&writer).await, 1);
    }
}

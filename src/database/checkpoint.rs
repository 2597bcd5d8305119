//! Checkpoints beside the commits: a thread of its own copies the WAL into the file, through a connection of its own, so
//! that no append waits while a slow card writes scattered pages. Knows the file and no queues.
//!
//! SQLite lets one connection copy what is committed while another commits. It never catches up with a writer that does not
//! pause; what it left over is for the writer, and little. It syncs the file only when all was copied, so what it has
//! copied is brought to the disk here: else the writer would wait for all of that. Where the disk refuses it, the writer has to
//! know: SQLite counts those pages as copied, and the kernel tells nobody a second time.

use std::fs::File;
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;
use std::{io, mem};

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::{WriteError, keep_wal_on_close};
use crate::limits::{
    CHECKPOINT_REST_MAX, CHECKPOINT_STEP_BYTES_MAX, CHECKPOINT_STEP_BYTES_MIN,
    CHECKPOINT_STEP_WAIT, THREAD_STACK_BYTES,
};
use crate::system::writeback;

/// A handle to the thread, which ends with it.
#[derive(Debug)]
pub(super) struct Checkpointer {
    ask: Option<SyncSender<()>>,
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct State {
    /// Whether one is under way.
    is_busy: AtomicBool,
    /// Whether somebody waits for its end.
    is_urgent: AtomicBool,
    /// Whether the writer ends, which brings all to the disk by itself.
    is_ending: AtomicBool,
    /// Whether one has ended that nobody has taken note of.
    has_copied: AtomicBool,
    /// What the disk said to one.
    failure: Mutex<Option<WriteError>>,
}

impl Checkpointer {
    /// Starts the thread for the file at `path`, which is open as `file` if it could be; it calls `ended` after each
    /// checkpoint. The file is never closed: whoever closes one lets go of all locks that the process has on it (fcntl(2)),
    /// and others may have connections for longer.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(super) fn start(
        path: PathBuf,
        file: Option<File>,
        ended: impl Fn() + Send + 'static,
    ) -> io::Result<Self> {
        let (ask, asked) = sync_channel(1);
        let state = Arc::<State>::default();
        let shared = AtWork(Arc::clone(&state));
        let file = file.map(ManuallyDrop::new);
        let thread = thread::Builder::new()
            .name("checkpoint".to_owned())
            .stack_size(THREAD_STACK_BYTES)
            .spawn(move || {
                while asked.recv().is_ok() {
                    match pass(&path, file.as_deref(), &shared.0) {
                        Ok(()) => shared.0.has_copied.store(true, Ordering::Release),
                        Err(error) => *shared.0.failure() = Some(error),
                    }
                    // Last, so that whoever sees it sees the rest.
                    shared.0.is_busy.store(false, Ordering::Release);
                    ended();
                }
            })?;
        Ok(Self {
            ask: Some(ask),
            state,
            thread: Some(thread),
        })
    }

    /// One that never ends when it is asked.
    #[cfg(test)]
    pub(super) fn endless() -> Self {
        let (ask, asked) = sync_channel(1);
        mem::forget(asked);
        Self {
            ask: Some(ask),
            state: Arc::default(),
            thread: None,
        }
    }

    /// Whether one is under way.
    pub(super) fn is_busy(&self) -> bool {
        self.state.is_busy.load(Ordering::Acquire)
    }

    /// Whether one has ended well since the last that was asked for; true once.
    pub(super) fn has_just_copied(&self) -> bool {
        self.state.has_copied.swap(false, Ordering::AcqRel)
    }

    /// What the disk said to one that has ended, once: what SQLite counts as copied may not be on it, until a
    /// [`WriteConnection`](super::connection::WriteConnection) is opened anew.
    pub(super) fn failure(&self) -> Option<WriteError> {
        self.state.failure().take()
    }

    /// Has the one that is under way end sooner, since somebody waits for it.
    pub(super) fn hurry(&self) {
        self.state.is_urgent.store(true, Ordering::Release);
    }

    /// Has one made, unless one is under way; says whether there is a thread for it.
    pub(super) fn ask(&self) -> bool {
        if self.state.is_busy.swap(true, Ordering::AcqRel) {
            return true;
        }
        self.state.has_copied.store(false, Ordering::Release);
        self.state.is_urgent.store(false, Ordering::Release);
        self.ask
            .as_ref()
            .is_some_and(|ask| ask.try_send(()).is_ok())
    }
}

/// The thread's; when it is gone, also by a panic, it does nothing any more.
struct AtWork(Arc<State>);

impl Drop for AtWork {
    fn drop(&mut self) {
        self.0.is_busy.store(false, Ordering::Release);
    }
}

impl State {
    fn failure(&self) -> MutexGuard<'_, Option<WriteError>> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The last connection to be closed is the writer's.
impl Drop for Checkpointer {
    fn drop(&mut self) {
        drop(self.ask.take());
        self.state.is_ending.store(true, Ordering::Release);
        if let Some(thread) = mem::take(&mut self.thread) {
            drop(thread.join());
        }
    }
}

/// Copies, and brings to the disk what was copied. That somebody else copies, or that there is no room or no connection, is
/// for the next one: nothing was counted as copied then.
fn pass(path: &Path, file: Option<&File>, state: &State) -> Result<(), WriteError> {
    if let Err(error) = copy(path)
        && error.sqlite_error_code() == Some(ErrorCode::SystemIoFailure)
    {
        return Err(WriteError::storage(&error));
    }
    let written = file.map_or(Ok(()), |file| write(file, state));
    written.map_err(|error| {
        let text = format!("{}: {error}", path.display());
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => WriteError::Full(text),
            _ => WriteError::Database(text),
        }
    })
}

/// Brings what was copied to the disk, in parts that the disk takes in about a millisecond, with a rest after each: a commit
/// that is synced meanwhile waits for one of them. Where it is urgent there is no rest.
fn write(file: &File, state: &State) -> io::Result<()> {
    let bytes = file.metadata()?.len();
    let (mut start, mut step) = (0, CHECKPOINT_STEP_BYTES_MIN);
    while start < bytes && !state.is_ending.load(Ordering::Acquire) {
        let began = Instant::now();
        match writeback::finish(file, start..start + step) {
            // Not on this file system; then a sync does all of it.
            Err(error) if is_not_offered(&error) => return Ok(()),
            written => written?,
        }
        let took = began.elapsed();
        start += step;
        step = match took > CHECKPOINT_STEP_WAIT {
            true => (step / 2).max(CHECKPOINT_STEP_BYTES_MIN),
            false => (step * 2).min(CHECKPOINT_STEP_BYTES_MAX),
        };
        if took > CHECKPOINT_STEP_WAIT / 4 && !state.is_urgent.load(Ordering::Acquire) {
            thread::sleep(took.min(CHECKPOINT_REST_MAX));
        }
    }
    Ok(())
}

fn is_not_offered(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidInput, PermissionDenied, Unsupported};
    matches!(error.kind(), InvalidInput | PermissionDenied | Unsupported)
}

/// Copies what is committed into the file, as far as readers allow. Its connection lasts no longer: it would hold a third of
/// a mebibyte, and opening it takes a millisecond or some, once in thousands of pages.
fn copy(path: &Path) -> rusqlite::Result<()> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    // The writer may have lost its own just now.
    keep_wal_on_close(&connection, true)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
}

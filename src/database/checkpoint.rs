//! Checkpoints beside the commits: a thread of its own copies the WAL into the file, through a connection of its own, so
//! that no append waits while a slow card writes scattered pages. Knows the file and no queues.
//!
//! SQLite lets one connection copy what is committed while another commits. It never catches up with a writer that does not
//! pause; what it left over is for the writer, and little. It syncs the file only when all was copied, so what it has
//! copied is brought to the disk here: else the writer would wait for all of that. A failure is not reported: nothing is
//! lost by it, and the writer meets the same storage.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Instant;
use std::{io, mem};

use rusqlite::{Connection, OpenFlags};

use crate::limits::{
    CHECKPOINT_REST_MAX, CHECKPOINT_STEP_BYTES_MAX, CHECKPOINT_STEP_BYTES_MIN,
    CHECKPOINT_STEP_WAIT, THREAD_STACK_BYTES,
};
use crate::system::writeback;

/// A handle to the thread, which ends with it.
#[derive(Debug)]
pub(super) struct Checkpointer {
    ask: Option<SyncSender<()>>,
    is_busy: Arc<AtomicBool>,
    /// Whether one has ended that nobody has taken note of.
    has_copied: Arc<AtomicBool>,
    /// Whether somebody waits for its end.
    is_urgent: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    file: Option<Arc<File>>,
}

impl Checkpointer {
    /// Starts the thread for the file at `path`; it calls `ended` after each checkpoint.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(super) fn start(path: PathBuf, ended: impl Fn() + Send + 'static) -> io::Result<Self> {
        let (ask, asked) = sync_channel(1);
        let is_busy = Arc::new(AtomicBool::new(false));
        let has_copied = Arc::new(AtomicBool::new(false));
        let is_urgent = Arc::new(AtomicBool::new(false));
        let (busy, copied) = (Arc::clone(&is_busy), Arc::clone(&has_copied));
        let urgent = Arc::clone(&is_urgent);
        // Without it the writer waits longer, and that is all.
        let file = File::open(&path).map(Arc::new).ok();
        let written = file.clone();
        let thread = thread::Builder::new()
            .name("checkpoint".to_owned())
            .stack_size(THREAD_STACK_BYTES)
            .spawn(move || {
                while asked.recv().is_ok() {
                    copy(&path).ok();
                    written
                        .as_deref()
                        .map(|file| write(file, &urgent))
                        .transpose()
                        .ok();
                    copied.store(true, Ordering::Release);
                    busy.store(false, Ordering::Release);
                    ended();
                }
            })?;
        Ok(Self {
            ask: Some(ask),
            is_busy,
            has_copied,
            is_urgent,
            thread: Some(thread),
            file,
        })
    }

    /// A descriptor of the file, to be closed after every connection of this process to it: whoever closes one lets go of
    /// all locks that the process has on the file (fcntl(2)).
    pub(super) fn file(&self) -> Option<Arc<File>> {
        self.file.clone()
    }

    /// Whether one is under way.
    pub(super) fn is_busy(&self) -> bool {
        self.is_busy.load(Ordering::Acquire)
    }

    /// Whether one has ended since the last that was asked for; true once.
    pub(super) fn has_just_copied(&self) -> bool {
        self.has_copied.swap(false, Ordering::AcqRel)
    }

    /// Has the one that is under way end sooner, since somebody waits for it.
    pub(super) fn hurry(&self) {
        self.is_urgent.store(true, Ordering::Release);
    }

    /// Has one made, unless one is under way.
    pub(super) fn ask(&self) {
        if let Some(ask) = &self.ask
            && !self.is_busy.swap(true, Ordering::AcqRel)
        {
            self.has_copied.store(false, Ordering::Release);
            self.is_urgent.store(false, Ordering::Release);
            // Nobody takes it when the thread is gone; then it stays under way, and the writer makes its own.
            ask.try_send(()).ok();
        }
    }
}

/// The last connection to be closed is the writer's.
impl Drop for Checkpointer {
    fn drop(&mut self) {
        drop(self.ask.take());
        if let Some(thread) = mem::take(&mut self.thread) {
            drop(thread.join());
        }
    }
}

/// Brings what was copied to the disk, in parts that the disk takes in about a millisecond, with a rest after each: a commit
/// that is synced meanwhile waits for one of them. Where it is urgent there is no rest.
fn write(file: &File, is_urgent: &AtomicBool) -> io::Result<()> {
    let bytes = file.metadata()?.len();
    let (mut start, mut step) = (0, CHECKPOINT_STEP_BYTES_MIN);
    while start < bytes {
        let began = Instant::now();
        writeback::finish(file, start..start + step)?;
        let took = began.elapsed();
        start += step;
        step = match took > CHECKPOINT_STEP_WAIT {
            true => (step / 2).max(CHECKPOINT_STEP_BYTES_MIN),
            false => (step * 2).min(CHECKPOINT_STEP_BYTES_MAX),
        };
        if took > CHECKPOINT_STEP_WAIT / 4 && !is_urgent.load(Ordering::Acquire) {
            thread::sleep(took.min(CHECKPOINT_REST_MAX));
        }
    }
    Ok(())
}

/// Copies what is committed into the file, as far as readers allow. Its connection lasts no longer: it would hold a third of
/// a mebibyte, and opening it takes a millisecond or some, once in thousands of pages.
fn copy(path: &Path) -> rusqlite::Result<()> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
}

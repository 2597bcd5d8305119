//! Checkpoints beside the commits: a thread of its own copies the WAL into the file, through a connection of its own, so
//! that no append waits while a slow card writes scattered pages. Knows the file and no queues.
//!
//! SQLite lets one connection copy what is committed while another commits. It never catches up with a writer that does not
//! pause; what it left over is for the writer, and little. A failure is not reported: nothing is lost by it, and the
//! writer meets the same storage.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::{io, mem};

use rusqlite::{Connection, OpenFlags};

use crate::limits::THREAD_STACK_BYTES;

/// A handle to the thread, which ends with it.
#[derive(Debug)]
pub(super) struct Checkpointer {
    ask: Option<SyncSender<()>>,
    is_busy: Arc<AtomicBool>,
    /// Whether one has ended that nobody has taken note of.
    has_copied: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpointer {
    /// Starts the thread for the file at `path`.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(super) fn start(path: PathBuf) -> io::Result<Self> {
        let (ask, asked) = sync_channel(1);
        let is_busy = Arc::new(AtomicBool::new(false));
        let has_copied = Arc::new(AtomicBool::new(false));
        let (busy, copied) = (Arc::clone(&is_busy), Arc::clone(&has_copied));
        let thread = thread::Builder::new()
            .name("checkpoint".to_owned())
            .stack_size(THREAD_STACK_BYTES)
            .spawn(move || run(&path, &asked, &busy, &copied))?;
        Ok(Self {
            ask: Some(ask),
            is_busy,
            has_copied,
            thread: Some(thread),
        })
    }

    /// Whether one is under way.
    pub(super) fn is_busy(&self) -> bool {
        self.is_busy.load(Ordering::Acquire)
    }

    /// Whether one has ended since the last that was asked for; true once.
    pub(super) fn has_just_copied(&self) -> bool {
        self.has_copied.swap(false, Ordering::AcqRel)
    }

    /// Has one made, unless one is under way.
    pub(super) fn ask(&self) {
        if let Some(ask) = &self.ask
            && !self.is_busy.swap(true, Ordering::AcqRel)
        {
            self.has_copied.store(false, Ordering::Release);
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

fn run(path: &Path, asked: &Receiver<()>, is_busy: &AtomicBool, has_copied: &AtomicBool) {
    while asked.recv().is_ok() {
        copy(path).ok();
        has_copied.store(true, Ordering::Release);
        is_busy.store(false, Ordering::Release);
    }
}

/// Copies what is committed into the file, as far as readers allow. Its connection lasts no longer: it would hold a third of
/// a mebibyte, and opening it takes a millisecond or some, once in thousands of pages.
fn copy(path: &Path) -> rusqlite::Result<()> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
}

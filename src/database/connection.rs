//! The write connection: one transaction at a time, durable or not as asked, dropped at its first failure and opened
//! afresh. Knows no queues and no tables.
//!
//! One that was opened while the file system was read-only stays read-only for ever, so none is used on after a failure;
//! [`open_writer`] sees to what a failed sync may have left behind.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior};

use super::room::Inside;
use super::{
    StateDirectory, Views, WriteError, damage, keep_wal_on_close, open_writer, pragma_text,
};
use crate::limits::{
    REOPEN_PAUSE, WAL_BYTES, WAL_HEAD_BYTES, WAL_PAGE_BYTES, WAL_PAGES_BEGIN, WAL_PAGES_SHORT_MAX,
    WAL_STEP_BYTES, WRITER_BUSY_WAIT,
};
use crate::system::writeback;

/// Whether a commit waits for the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Durability {
    Synced,
    Relaxed,
}

impl Durability {
    /// The value of `PRAGMA synchronous`, and as it is read back.
    fn pragma(self) -> (&'static str, &'static str) {
        match self {
            Self::Synced => ("FULL", "2"),
            Self::Relaxed => ("NORMAL", "1"),
        }
    }
}

/// How the work in a transaction went.
pub(super) enum Ran {
    Well,
    /// The work itself was wrong, for example against a constraint. The connection is as good as before.
    Refused,
    /// The storage failed under it.
    Broken(WriteError),
}

impl Ran {
    pub(super) fn from_error(error: &rusqlite::Error) -> Self {
        let storage = matches!(
            error.sqlite_error_code(),
            Some(
                ErrorCode::SystemIoFailure
                    | ErrorCode::DiskFull
                    | ErrorCode::CannotOpen
                    | ErrorCode::ReadOnly
                    | ErrorCode::DatabaseCorrupt
                    | ErrorCode::NotADatabase
                    | ErrorCode::OutOfMemory
                    | ErrorCode::DatabaseBusy
                    | ErrorCode::DatabaseLocked
                    | ErrorCode::FileLockingProtocolFailed
            )
        );
        if storage {
            Self::Broken(WriteError::storage(error))
        } else {
            Self::Refused
        }
    }
}

/// A transaction that has ended well.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    /// When its commit had returned.
    pub(super) at: Instant,
    /// Whether anything was written; an empty commit says nothing about the disk.
    pub(super) wrote: bool,
}

/// The write connection, or none while it could not be opened again.
pub(super) struct WriteConnection {
    views: Views,
    connection: Option<Connection>,
    /// Why it could not be opened again, and when that was tried last.
    trouble: Option<(WriteError, Instant)>,
    durability: Durability,
    wal_pages: Arc<AtomicI32>,
    /// The WAL as a file, where the kernel is told to begin to write ...
    wal: Option<File>,
    /// ... and how many of its pages it was told of, or were synced.
    begun_to: i32,
    /// Whether the WAL may still be smaller than it should be.
    is_wal_small: bool,
    /// Its lock is let go of when the connection is closed, and not before.
    directory: StateDirectory,
}

impl WriteConnection {
    pub(super) fn new(directory: StateDirectory, views: Views, connection: Connection) -> Self {
        let mut new = Self {
            views,
            connection: None,
            trouble: None,
            durability: Durability::Synced,
            wal_pages: Arc::default(),
            wal: None,
            begun_to: 0,
            is_wal_small: true,
            directory,
        };
        new.take(connection);
        new
    }

    fn take(&mut self, mut connection: Connection) {
        let pages = Arc::clone(&self.wal_pages);
        // Replaces SQLite's automatic checkpoint, which would run on the commit path.
        let hooked = connection.wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, count| {
            pages.store(count, Ordering::Relaxed);
            Ok(())
        }));
        self.durability = Durability::Synced;
        self.wal_pages.store(0, Ordering::Relaxed);
        self.wal = File::open(self.wal_path()).ok();
        self.begun_to = 0;
        self.is_wal_small = true;
        self.connection = hooked.is_ok().then_some(connection);
    }

    /// The file.
    pub(super) fn file(&self) -> PathBuf {
        self.directory.file()
    }

    fn wal_path(&self) -> PathBuf {
        self.file().with_extension("db-wal")
    }

    /// Pages in the WAL after the last commit, copied or not; it starts over with the first commit after all were.
    pub(super) fn wal_pages(&self) -> i32 {
        self.wal_pages.load(Ordering::Relaxed)
    }

    /// Has the next start look at all of the file; says whether that could be noted.
    pub(super) fn note_damage(&self, why: &str) -> bool {
        damage::note_in_use(self.directory.path(), why).is_ok()
    }

    /// Runs `work` in one transaction. What it refuses alone is rolled back and no failure.
    ///
    /// # Errors
    /// When the storage failed; then nothing of it may be taken for kept.
    pub(super) fn transact(
        &mut self,
        durability: Durability,
        work: impl FnOnce(&Transaction<'_>) -> Ran,
    ) -> Result<Ended, WriteError> {
        self.open()?;
        let outcome = self.try_transact(durability, work);
        match durability {
            Durability::Synced => self.begun_to = self.wal_pages(),
            Durability::Relaxed => self.begin_writing(),
        }
        self.drop_after(outcome)
    }

    /// Where much was committed without a sync, it is on its way to the disk when the next append syncs the WAL, which would
    /// have to wait for all of it otherwise. Little of it is not: the last block of it would be written twice.
    fn begin_writing(&mut self) {
        let pages = self.wal_pages();
        // It may have started over.
        let from = if self.begun_to <= pages {
            self.begun_to
        } else {
            0
        };
        if pages - from < WAL_PAGES_BEGIN {
            return;
        }
        if let Some(wal) = &self.wal {
            // Where it is refused, the sync does it.
            writeback::begin(wal, wal_bytes(from)..wal_bytes(pages)).ok();
        }
        self.begun_to = pages;
    }

    fn try_transact(
        &mut self,
        durability: Durability,
        work: impl FnOnce(&Transaction<'_>) -> Ran,
    ) -> Result<Ended, WriteError> {
        self.set_durability(durability)?;
        let connection = self.connection.as_mut().ok_or(WriteError::Ended)?;
        let before = connection.total_changes();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        match work(&transaction) {
            Ran::Well => transaction.commit()?,
            Ran::Refused => transaction.rollback()?,
            Ran::Broken(error) => return Err(error),
        }
        let at = Instant::now();
        Ok(Ended {
            at,
            wrote: connection.total_changes() > before,
        })
    }

    /// Whether the WAL takes more of the disk than it may where that has too little room.
    pub(super) fn is_wal_large(&self) -> bool {
        let size = fs::metadata(self.wal_path()).map_or(0, |wal| wal.len());
        size > wal_bytes(WAL_PAGES_SHORT_MAX)
    }

    /// Whether [`Self::grow_wal`] has something to do.
    pub(super) fn is_wal_small(&self) -> bool {
        self.is_wal_small
    }

    /// Makes the WAL larger by a step, with zeros, which are no pages to SQLite: a commit that changes the size of a file
    /// writes to the file system's journal as well. What hinders it is no failure: the WAL grows all the same.
    pub(super) fn grow_wal(&mut self) {
        let path = self.wal_path();
        let grown = self.connection.as_mut().map(|connection| {
            // Nobody else may append meanwhile.
            let _alone = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            Ok::<_, rusqlite::Error>(add_zeros(&path))
        });
        self.is_wal_small = matches!(grown, Some(Ok(Ok(true))));
    }

    /// Copies the WAL into the file as far as readers allow, so that it can start over.
    ///
    /// # Errors
    /// When the storage failed.
    pub(super) fn checkpoint(&mut self) -> Result<(), WriteError> {
        self.open()?;
        let copied = self.connection.as_ref().map_or(Ok(()), |connection| {
            connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
        });
        self.drop_after(copied.map_err(WriteError::from))
    }

    /// Copies the whole WAL into the file and empties it, and says whether readers allowed it. It does not wait for them:
    /// appends would wait with it.
    ///
    /// # Errors
    /// When the storage failed.
    pub(super) fn truncate(&mut self) -> Result<bool, WriteError> {
        self.open()?;
        let truncated =
            self.connection
                .as_ref()
                .map_or(Ok(false), |connection| -> rusqlite::Result<bool> {
                    connection.busy_timeout(Duration::ZERO)?;
                    let truncated =
                        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| {
                            Ok(row.get::<_, i64>(0)? == 0)
                        });
                    connection.busy_timeout(WRITER_BUSY_WAIT)?;
                    truncated
                });
        if let Ok(true) = truncated {
            self.wal_pages.store(0, Ordering::Relaxed);
            self.is_wal_small = true;
        }
        self.drop_after(truncated.map_err(WriteError::from))
    }

    /// What the file itself says about room.
    pub(super) fn inside(&self) -> Inside {
        let Some(connection) = &self.connection else {
            return Inside::default();
        };
        let bytes = |pragma| -> rusqlite::Result<u64> {
            let number =
                |pragma| connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
            Ok((number(pragma)? * number("page_size")?).unsigned_abs())
        };
        let file = fs::metadata(self.directory.file()).map_or(u64::MAX, |file| file.len());
        Inside {
            reusable: bytes("freelist_count").unwrap_or_default(),
            owed: bytes("page_count").unwrap_or_default().saturating_sub(file),
        }
    }

    /// Whether it is to be opened again.
    pub(super) fn is_lost(&self) -> bool {
        self.connection.is_none()
    }

    /// Does as if it had failed with this error, since another connection has.
    pub(super) fn fail(&mut self, error: WriteError) -> Result<(), WriteError> {
        self.drop_after(Err(error))
    }

    /// A connection that failed once is not used again. Were it the last one, it would count the WAL as copied and delete it,
    /// whatever became of that.
    fn drop_after<T>(&mut self, outcome: Result<T, WriteError>) -> Result<T, WriteError> {
        if outcome.is_err() {
            if let Some(connection) = self.connection.take() {
                // Only a number is kept, so it does not fail.
                keep_wal_on_close(&connection, true).ok();
            }
            self.wal_pages.store(0, Ordering::Relaxed);
        }
        outcome
    }

    /// Opens the file again after a failure, now and then.
    fn open(&mut self) -> Result<(), WriteError> {
        if self.connection.is_some() {
            return Ok(());
        }
        if let Some((trouble, tried)) = &self.trouble
            && tried.elapsed() < REOPEN_PAUSE
        {
            return Err(trouble.clone());
        }
        match open_writer(&self.directory, self.views) {
            Ok(connection) => {
                self.trouble = None;
                self.take(connection);
                Ok(())
            }
            Err(error) => {
                let error = WriteError::from(error);
                self.trouble = Some((error.clone(), Instant::now()));
                Err(error)
            }
        }
    }

    /// Makes the next commit wait for the disk, or not, and reads back that it will.
    fn set_durability(&mut self, durability: Durability) -> Result<(), WriteError> {
        let Some(connection) = self
            .connection
            .as_ref()
            .filter(|_| self.durability != durability)
        else {
            return Ok(());
        };
        let (value, expected) = durability.pragma();
        connection.pragma_update(None, "synchronous", value)?;
        let found = pragma_text(connection, "synchronous")?;
        if found != expected {
            return Err(WriteError::Database(format!(
                "synchronous is {found} after it was set to {value}"
            )));
        }
        self.durability = durability;
        Ok(())
    }
}

/// How many bytes a WAL of so many pages has, of the size that a new file gets.
fn wal_bytes(pages: i32) -> u64 {
    WAL_HEAD_BYTES + u64::from(pages.unsigned_abs()) * WAL_PAGE_BYTES
}

/// Says whether the file is still smaller than it should be.
fn add_zeros(path: &Path) -> io::Result<bool> {
    const PAGE: [u8; 4096] = [0; 4096];
    let wal = OpenOptions::new().write(true).open(path)?;
    let size = wal.metadata()?.len();
    let more = WAL_BYTES.saturating_sub(size).min(WAL_STEP_BYTES);
    // Page by page: what is written at once the kernel may keep as one large page, and write as one ever after.
    let mut offset = size;
    while offset < size + more {
        let count = (size + more - offset).min(PAGE.len() as u64);
        wal.write_all_at(&PAGE[..count as usize], offset)?;
        offset += count;
    }
    wal.sync_data()?;
    Ok(size + more < WAL_BYTES)
}

//! The one file: opened under a lock, with the pragmas that make a commit durable and a version that fits this program.
//! Knows files and SQLite, and no table but `meta`.
//!
//! What must hold, and where it is kept:
//!
//! 1. One process writes: [`StateDirectory::lock`] holds a lock on the directory for as long as it lives.
//! 2. An append that was committed is on the disk: WAL with `synchronous=FULL`, set and read back in [`open_writer`], and
//!    by `connection` each time it was relaxed for a change that can be redone. In WAL mode `NORMAL` can lose a
//!    committed row in a power cut.
//! 3. A file is never half migrated: one immediate transaction a migration, the version in the same one.

mod answers;
mod backfill;
pub mod check;
mod checkpoint;
mod connection;
mod copying;
pub mod damage;
mod migrations;
pub mod pages;
pub mod remains;
pub mod room;
pub mod snapshot;
mod wal;
mod writer;

use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::Deref;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use rustix::fs::Access;
use thiserror::Error;

use crate::limits::{BUSY_PAUSE, CACHE_KIB, PAGE_BYTES, READER_BUSY_WAIT, WRITER_BUSY_WAIT};

pub use migrations::{LATEST, Views, example};
pub use writer::{Committed, Failing, WriteError, Writer, WriterFailed};

/// The name of the file in the state directory.
pub const FILE_NAME: &str = "gateway.db";
const LOCK_NAME: &str = "lock";

/// Why the file cannot be used, with what to do.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The state directory is not there.
    #[error("the state directory {} does not exist; create it for the gateway's user: install -d -m 0750 -o USER {}", .0.display(), .0.display())]
    NoDirectory(PathBuf),
    /// The state directory cannot be written to.
    #[error("cannot write to the state directory {}: {source}; {}", path.display(), how_to_write(source))]
    NotWritable {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process holds the lock.
    #[error("the state directory {} is in use by another gateway; stop it first (systemctl stop belvo-gateway.socket belvo-gateway), or give this one a state-directory of its own", .0.display())]
    Locked(PathBuf),
    /// The file cannot be read by this user, or not now.
    #[error(
        "cannot read {}: {source}; while the gateway is stopped only root can (SQLite has to make files beside it), and otherwise its group", path.display()
    )]
    NotReadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is no file yet.
    #[error("there is no {}; the gateway makes it when it first serves: give its state directory with --state, or start it", .0.display())]
    NoFile(PathBuf),
    /// The file is something else, or damaged.
    #[error("{} is damaged, or no database of the gateway: {source}; belvo-gateway verify says more. When the gateway is started it keeps the file under another name, serves from a fresh one, and copies into that what can be read", path.display())]
    NotADatabase {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// The file was made by a newer program.
    #[error("{} was written by a newer version of the gateway (schema {found}, this one knows {LATEST}); install that version again", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema version.
        found: i64,
    },
    /// A pragma that durability rests on does not hold.
    #[error("{} cannot be made durable: {pragma} is {found} after it was set to {wanted}; is it on a local file system?", path.display())]
    Pragma {
        /// The file.
        path: PathBuf,
        /// The pragma.
        pragma: &'static str,
        /// What it should be.
        wanted: &'static str,
        /// What it is.
        found: String,
    },
    /// Anything else SQLite says.
    #[error("cannot open {}: {source}{}", path.display(), next_step(source))]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
}

impl OpenError {
    pub(crate) fn from_sqlite(path: &Path, source: rusqlite::Error) -> Self {
        let path = path.to_owned();
        match source.sqlite_error_code() {
            _ if damage::is_damage(&source) => Self::NotADatabase { path, source },
            Some(ErrorCode::ReadOnly) => Self::NotWritable {
                source: why_not_writable(&path, &source),
                path,
            },
            _ => Self::Sqlite { path, source },
        }
    }
}

impl OpenError {
    /// Whether the file itself is damaged.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::NotADatabase { .. })
    }

    /// What keeps a writer from writing keeps a reader from reading.
    fn for_a_reader(self) -> Self {
        match self {
            Self::NotWritable { path, source } => Self::NotReadable { path, source },
            Self::Sqlite { path, source }
                if source.sqlite_error_code() == Some(ErrorCode::CannotOpen) =>
            {
                Self::NotReadable {
                    path,
                    source: io::Error::other(source),
                }
            }
            other => other,
        }
    }
}

/// What the system says where SQLite only says that it cannot write: it opens to read what it may not write.
fn why_not_writable(path: &Path, error: &rusqlite::Error) -> io::Error {
    // Not by opening it: to close it would let go of the locks that this process has on it (fcntl(2)).
    match rustix::fs::access(path, Access::WRITE_OK) {
        Err(why) => why.into(),
        Ok(()) => io::Error::other(error.to_string()),
    }
}

/// What a person should do where nothing can be written.
fn how_to_write(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::ReadOnlyFilesystem => {
            "the file system is read-only, most often because its card has failed: see dmesg, start the machine again, which checks and mounts it anew, and replace the card when it comes back"
        }
        _ => "it must be on a writable file system and belong to the gateway's user",
    }
}

/// What a person should do about a failure of the storage, if there is anything to say.
fn next_step(error: &rusqlite::Error) -> &'static str {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => "; make room on the file system of the state directory",
        Some(ErrorCode::ReadOnly) => "; the file system may have become read-only: see dmesg",
        Some(ErrorCode::SystemIoFailure) => "; the card may be failing: see dmesg",
        Some(ErrorCode::DatabaseBusy) => "; another program holds the file: close it",
        _ => "",
    }
}

/// The state directory, locked against every other gateway while this value lives.
#[derive(Debug)]
pub struct StateDirectory {
    path: PathBuf,
    /// Holds a byte once the file beside it was in use: one that is empty then has lost everything.
    lock: File,
}

impl StateDirectory {
    /// Takes the lock.
    ///
    /// # Errors
    /// When the directory is missing, cannot be written to, or is locked.
    pub fn lock(path: &Path) -> Result<Self, OpenError> {
        if !path.is_dir() {
            return Err(OpenError::NoDirectory(path.to_owned()));
        }
        let not_writable = |source| OpenError::NotWritable {
            path: path.to_owned(),
            source,
        };
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path.join(LOCK_NAME))
            .map_err(not_writable)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                path: path.to_owned(),
                lock,
            }),
            Err(fs::TryLockError::WouldBlock) => Err(OpenError::Locked(path.to_owned())),
            Err(fs::TryLockError::Error(source)) => Err(not_writable(source)),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file in it.
    pub fn file(&self) -> PathBuf {
        self.path.join(FILE_NAME)
    }

    /// Whether there is a WAL with anything in it, as after a crash.
    pub fn has_wal(&self) -> bool {
        let wal = fs::metadata(self.path.join(format!("{FILE_NAME}-wal")));
        wal.is_ok_and(|wal| wal.len() > 0)
    }

    /// Whether the file was ever in use.
    fn was_used(&self) -> bool {
        self.lock.metadata().is_ok_and(|lock| lock.len() > 0)
    }

    /// Notes it. Where that fails, an empty file is taken for a new one, which it most likely is.
    fn note_use(&self, used: bool) {
        if used != self.was_used() {
            drop(self.lock.set_len(used.into()));
        }
    }
}

/// Opens the file to write, makes or migrates it when needed, and checks that its commits are durable. Where that takes
/// more room than there is, the ballast makes some.
///
/// # Errors
/// When the file is not ours, is newer than this program, or cannot be made durable.
pub fn open_writer(directory: &StateDirectory, views: Views) -> Result<Connection, OpenError> {
    match try_open_writer(directory, views) {
        Err(_) if room::give_up_ballast(directory.path()) => try_open_writer(directory, views),
        outcome => outcome,
    }
}

fn try_open_writer(directory: &StateDirectory, views: Views) -> Result<Connection, OpenError> {
    let path = directory.file();
    let sqlite = |source| OpenError::from_sqlite(&path, source);
    make(&path).map_err(|source| OpenError::NotWritable {
        path: path.clone(),
        source,
    })?;
    let mut connection = Connection::open_with_flags(
        &path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )
    .map_err(sqlite)?;
    connection.busy_timeout(WRITER_BUSY_WAIT).map_err(sqlite)?;
    // Not before the WAL is known to be whole.
    keep_wal_on_close(&connection, true).map_err(sqlite)?;
    connection
        .pragma_update(None, "cache_size", -CACHE_KIB)
        .map_err(sqlite)?;
    // Of a new file; an older one keeps its own.
    connection
        .pragma_update(None, "page_size", PAGE_BYTES)
        .map_err(sqlite)?;
    for (pragma, value, wanted) in [
        ("journal_mode", "WAL", "wal"),
        ("synchronous", "FULL", "2"),
        ("foreign_keys", "ON", "1"),
        // What is deleted is overwritten with zeros at once: what `erase` removes must not be readable in free space. What
        // it leaves behind all the same, `pages` cleans.
        ("secure_delete", "ON", "1"),
    ] {
        connection
            .pragma_update(None, pragma, value)
            .map_err(sqlite)?;
        let found = pragma_text(&connection, pragma).map_err(sqlite)?;
        if found != wanted {
            return Err(OpenError::Pragma {
                path,
                pragma,
                wanted,
                found,
            });
        }
    }
    migrations::run(&mut connection, &path, views)?;
    heal_wal(&connection, &path)?;
    keep_wal_on_close(&connection, false).map_err(sqlite)?;
    Ok(connection)
}

/// Whether the WAL stays as it is when this connection is closed last. Otherwise SQLite copies what it does not count as
/// copied, and deletes it.
fn keep_wal_on_close(connection: &Connection, keep: bool) -> rusqlite::Result<()> {
    let config = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
    connection.set_db_config(config, keep).map(drop)
}

/// After a failed sync the kernel may hold pages of the WAL or of the file as written that never reached the disk, and
/// nobody who opens the file later is told: a commit behind such a hole would be lost in a power cut. Whoever was here
/// before may have seen such a failure. So the whole WAL is copied into the file, also what was copied before, and started
/// over; where a reader, a full disk or a place in the file that cannot be written keeps it from that, it is written over
/// itself and synced, and copied later.
fn heal_wal(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let sqlite = |source| OpenError::from_sqlite(path, source);
    forget_backfill(connection).map_err(sqlite)?;
    let started_over = |row: &rusqlite::Row<'_>| Ok(row.get::<_, i64>(0)? == 0);
    let written_again = || {
        write_again(&path.with_extension("db-wal")).map_err(|source| OpenError::NotWritable {
            path: path.to_owned(),
            source,
        })
    };
    match connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], started_over) {
        Ok(true) => Ok(()),
        Ok(false) => written_again(),
        // There is no room for the copy, or its place is bad; written over itself the WAL needs neither.
        Err(source) => match source.sqlite_error_code() {
            Some(ErrorCode::DiskFull | ErrorCode::SystemIoFailure) => written_again(),
            _ => Err(sqlite(source)),
        },
    }
}

/// Waits for whoever copies the WAL just now, as for any of SQLite's locks.
fn forget_backfill(connection: &Connection) -> rusqlite::Result<()> {
    let began = Instant::now();
    loop {
        match backfill::forget(connection) {
            Err(error)
                if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
                    && began.elapsed() < WRITER_BUSY_WAIT =>
            {
                thread::sleep(BUSY_PAUSE);
            }
            outcome => return outcome,
        }
    }
}

/// Writes a file's bytes over themselves and syncs it. Only the owner of the write connection may do this to a WAL.
fn write_again(path: &Path) -> io::Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let mut bytes = [0; 64 * 1024];
    let mut offset = 0;
    loop {
        match file.read_at(&mut bytes, offset)? {
            0 => return file.sync_data(),
            count => {
                file.write_all_at(&bytes[..count], offset)?;
                offset += count as u64;
            }
        }
    }
}

/// Makes the file where there is none, for its owner to write and its group to read whatever the umask; SQLite gives
/// the files beside it the same mode.
fn make(path: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(file) => file.set_permissions(fs::Permissions::from_mode(0o640)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

fn pragma_text(connection: &Connection, pragma: &str) -> rusqlite::Result<String> {
    connection.pragma_query_value(None, pragma, |row| {
        Ok(match row.get_ref(0)? {
            rusqlite::types::ValueRef::Integer(number) => number.to_string(),
            other => other.as_str()?.to_owned(),
        })
    })
}

/// The process that holds the lock on a state directory, if one does, by the kernel's list of locks: nothing is locked to
/// find out. 0 where it is in another container.
///
/// # Errors
/// When that list or the lock cannot be looked at.
pub fn holder(state_directory: &Path) -> io::Result<Option<u32>> {
    use std::os::unix::fs::MetadataExt;
    let inode = match fs::metadata(state_directory.join(LOCK_NAME)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        found => found?.ino().to_string(),
    };
    let locks = fs::read_to_string("/proc/locks")?;
    let process = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        let is_whole = words.next()? == "FLOCK";
        let process = words.nth(2)?.parse().ok()?;
        let (_, locked) = words.next()?.rsplit_once(':')?;
        (is_whole && locked == inode).then_some(process)
    };
    Ok(locks.lines().find_map(process))
}

/// The versions that a file names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    /// Of its schema.
    pub schema: i64,
    /// The least that a program must know to use it.
    pub oldest_reader: i64,
}

/// A connection that reads the file and cannot change it.
#[derive(Debug)]
pub struct Reader(Connection);

impl Deref for Reader {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.0
    }
}

impl Reader {
    /// The versions that the file names.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn versions(&self) -> rusqlite::Result<Versions> {
        let oldest = "SELECT value FROM meta WHERE key = 'oldest_reader'";
        Ok(Versions {
            schema: self.pragma_query_value(None, "user_version", |row| row.get(0))?,
            oldest_reader: self.query_row(oldest, [], |row| row.get(0))?,
        })
    }

    /// SQLite's own check, for this long at most, and what it finds.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn check(&mut self, wait: Duration) -> rusqlite::Result<Option<String>> {
        Ok(match check::within(&mut self.0, false, wait)? {
            check::Found::Damaged(what) => Some(what),
            check::Found::Whole | check::Found::TimeUp => None,
        })
    }
}

/// Opens the file to read, beside a running gateway or without one.
///
/// # Errors
/// When there is no file, it is not ours, or it is newer than this program.
pub fn open_reader(state_directory: &Path) -> Result<Reader, OpenError> {
    let path = state_directory.join(FILE_NAME);
    match path.try_exists() {
        Ok(true) => {}
        Ok(false) => return Err(OpenError::NoFile(path)),
        Err(source) => return Err(OpenError::NotReadable { path, source }),
    }
    let sqlite = |source| OpenError::from_sqlite(&path, source).for_a_reader();
    let connection = Connection::open_with_flags(
        &path,
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )
    .map_err(sqlite)?;
    connection.busy_timeout(READER_BUSY_WAIT).map_err(sqlite)?;
    connection
        .pragma_update(None, "cache_size", -CACHE_KIB)
        .map_err(sqlite)?;
    migrations::check_version(&connection, &path).map_err(OpenError::for_a_reader)?;
    Ok(Reader(connection))
}

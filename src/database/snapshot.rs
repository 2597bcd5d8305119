//! A copy of the file as one clean file, while the service runs. SQLite's backup copies page by page inside one read
//! transaction, so the copy is one moment of the file, and no commit waits for it: a reader only keeps the WAL from
//! starting over. Knows pages, and no table.
//!
//! `VACUUM INTO` would give a smaller file; it is one statement that sorts every index anew and writes as fast as it can.
//! Here the copy is synced every [`SNAPSHOT_STEP_BYTES`] and pauses as long as that took, so that a commit on the same
//! card waits for little, and between two steps it is seen whether there is still room.
//!
//! 1. Everything is written to `FILE.part`, locked, and the copy leaves WAL mode: no file beside it belongs to it.
//! 2. The copy is checked: SQLite's own check, and as many webhooks as in the moment that was copied.
//! 3. It is synced, renamed to `FILE`, and the directory is synced. Whatever ends it earlier leaves no `FILE`.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, ErrorCode, OpenFlags};
use thiserror::Error;

use super::check::{self, Found};
use super::room::Floor;
use super::{FILE_NAME, OpenError, Reader, open_reader};
use crate::limits::{
    CACHE_KIB, SNAPSHOT_PAUSE_MAX, SNAPSHOT_STEP_BYTES, SNAPSHOT_WAL_BYTES_MAX, WAL_BYTES,
};
use crate::system::medium::{Medium, Worth};

/// No file on FAT is larger.
const FAT_FILE_BYTES_MAX: u64 = u32::MAX as u64;

/// What is to be copied where.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The directory with the file.
    pub state_directory: &'a Path,
    /// The file to make.
    pub to: &'a Path,
    /// Whether one that is there already is replaced.
    pub replace: bool,
    /// What stays free on the disk of the state directory.
    pub floor: Floor,
    /// How many webhooks a connection sees.
    pub count: fn(&Connection) -> rusqlite::Result<i64>,
}

/// A copy that was made and checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Made {
    /// Its bytes.
    pub bytes: u64,
    /// The webhooks in it.
    pub webhooks: i64,
}

/// Why there is no copy, with what to do.
#[derive(Debug, Error)]
pub enum SnapshotError {
    /// The file that is copied cannot be read.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// There is a file of that name.
    #[error("{} is there already; name another file, or replace it with --force", .0.display())]
    Exists(PathBuf),
    /// There is a file of another database beside it, which SQLite would take for a part of the copy.
    #[error("{} is there and belongs to another database; SQLite would read it into the copy: name another file, or remove it", .0.display())]
    Beside(PathBuf),
    /// It would lie in the state directory.
    #[error("{} lies in the state directory, where it takes room from webhooks and is lost with the card; name a file on another medium", .0.display())]
    InState(PathBuf),
    /// Another one is being made there.
    #[error("another snapshot to {} is under way; wait for it, or name another file", .0.display())]
    UnderWay(PathBuf),
    /// There is too little room for it.
    #[error("{} needs {} MiB and there is room for {}; make room, or name a file on another medium", path.display(), needed.div_ceil(MIB), free / MIB)]
    NoRoom {
        /// Where it would lie.
        path: PathBuf,
        /// Bytes that it takes, and that are to stay free.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// FAT cannot hold it.
    #[error("{} lies on FAT, which holds no file of 4 GiB, and the copy has {} MiB; name a file on another medium, or format this one as ext4 or exFAT", path.display(), bytes / MIB)]
    TooLargeForFat {
        /// Where it would lie.
        path: PathBuf,
        /// Its bytes.
        bytes: u64,
    },
    /// So much was written meanwhile that the WAL has grown too large.
    #[error("so many webhooks or objects came meanwhile that the WAL has grown by {} MiB, so the copy was given up; make it when less comes in, or to a faster medium", SNAPSHOT_WAL_BYTES_MAX / MIB)]
    TooMuchCame,
    /// It cannot be written.
    #[error("cannot write {}: {source}; see that its directory is there, is writable and has room", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// SQLite cannot copy.
    #[error("cannot copy to {}: {source}{}", path.display(), super::next_step(source))]
    Copy {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// The copy is not what it should be.
    #[error(
        "the copy was not kept, {0}; try again, to another medium if it is the same again, and run belvo-gateway verify"
    )]
    Wrong(String),
}

const MIB: u64 = 1024 * 1024;

/// Makes the copy; `at` is told how many bytes of how many are copied.
///
/// # Errors
/// When there is none then. What was there under that name before is still there.
pub fn take(wanted: &Wanted<'_>, at: impl FnMut(u64, u64)) -> Result<Made, SnapshotError> {
    may_be_made(wanted)?;
    let reader = open_reader(wanted.state_directory)?;
    let part = Part::new(wanted.to)?;
    let made = fill(wanted, reader, &part, at)?;
    // Once more: it may have come meanwhile.
    if !wanted.replace && wanted.to.exists() {
        return Err(SnapshotError::Exists(wanted.to.to_owned()));
    }
    part.rename(wanted.to)?;
    Ok(made)
}

/// Whether a file may come to lie there.
fn may_be_made(wanted: &Wanted<'_>) -> Result<(), SnapshotError> {
    let to = wanted.to;
    let directory = directory_of(to);
    let same = |one: &Path, other: &Path| match (fs::metadata(one), fs::metadata(other)) {
        (Ok(one), Ok(other)) => (one.dev(), one.ino()) == (other.dev(), other.ino()),
        _ => false,
    };
    let file = wanted.state_directory.join(FILE_NAME);
    if same(directory, wanted.state_directory) || same(to, &file) {
        return Err(SnapshotError::InState(to.to_owned()));
    }
    for end in ["-wal", "-shm", "-journal"] {
        let beside = with_end(to, end);
        if beside.exists() {
            return Err(SnapshotError::Beside(beside));
        }
    }
    if to.is_dir() || (!wanted.replace && to.exists()) {
        return Err(SnapshotError::Exists(to.to_owned()));
    }
    Ok(())
}

fn directory_of(path: &Path) -> &Path {
    let parent = path.parent().filter(|path| !path.as_os_str().is_empty());
    parent.unwrap_or_else(|| Path::new("."))
}

fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

/// The copy while it is made; removed with this value, unless it has its name by then.
struct Part {
    path: PathBuf,
    /// Locked as long as it is open. SQLite has the file open as well; its locks are of another kind.
    file: File,
}

impl Part {
    fn new(to: &Path) -> Result<Self, SnapshotError> {
        let path = with_end(to, ".part");
        let write = |source| SnapshotError::Write {
            path: path.clone(),
            source,
        };
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(write)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                return Err(SnapshotError::UnderWay(to.to_owned()));
            }
            Err(fs::TryLockError::Error(source)) => return Err(write(source)),
        }
        // What one that was interrupted has left behind.
        file.set_len(0).map_err(write)?;
        remove_beside(&path);
        Ok(Self { path, file })
    }

    fn rename(self, to: &Path) -> Result<(), SnapshotError> {
        let rename = || {
            // FAT has no modes to set.
            match self.file.set_permissions(fs::Permissions::from_mode(0o640)) {
                Err(error) if error.kind() != io::ErrorKind::PermissionDenied => Err(error),
                _ => Ok(()),
            }?;
            self.file.sync_all()?;
            fs::rename(&self.path, to)?;
            File::open(directory_of(to))?.sync_all()
        };
        rename().map_err(|source| SnapshotError::Write {
            path: to.to_owned(),
            source,
        })
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // It is not there any more when it has its name.
        drop(fs::remove_file(&self.path));
        remove_beside(&self.path);
    }
}

fn remove_beside(path: &Path) {
    for end in ["-wal", "-shm", "-journal"] {
        drop(fs::remove_file(with_end(path, end)));
    }
}

/// Fills and checks it.
fn fill(
    wanted: &Wanted<'_>,
    reader: Reader,
    part: &Part,
    at: impl FnMut(u64, u64),
) -> Result<Made, SnapshotError> {
    let from = wanted.state_directory.join(FILE_NAME);
    let reading = |source| SnapshotError::Open(OpenError::from_sqlite(&from, source));
    let writing = |source| SnapshotError::Copy {
        path: part.path.clone(),
        source,
    };
    // The transaction makes the copy one moment, and is why the backup never begins anew.
    reader.execute_batch("BEGIN").map_err(reading)?;
    let webhooks = (wanted.count)(&reader).map_err(reading)?;
    has_room(wanted, size(&reader).map_err(reading)?)?;
    let mut copy = open(&part.path).map_err(writing)?;
    copy_pages(wanted, &reader, &mut copy, part, at)?;
    // From here on the WAL may start over.
    drop(reader);
    // Out of WAL mode: the copy is one file, also on a medium that cannot be written.
    copy.pragma_update(None, "journal_mode", "DELETE")
        .map_err(writing)?;
    match check::within(&mut copy, false, Duration::MAX).map_err(writing)? {
        Found::Whole => {}
        Found::Damaged(what) => return Err(SnapshotError::Wrong(format!("it is damaged: {what}"))),
        Found::TimeUp => return Err(SnapshotError::Wrong("it could not be checked".to_owned())),
    }
    let copied = (wanted.count)(&copy).map_err(writing)?;
    if copied != webhooks {
        let lacking = format!("it has {copied} webhooks and not {webhooks}");
        return Err(SnapshotError::Wrong(lacking));
    }
    let bytes = size(&copy).map_err(writing)?;
    Ok(Made { bytes, webhooks })
}

fn size(connection: &Connection) -> rusqlite::Result<u64> {
    let number = |pragma| connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    Ok((number("page_count")? * number("page_size")?).unsigned_abs())
}

/// A new, empty file that nobody else knows: nothing needs to be undone in it, and [`Part`] syncs it.
fn open(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let copy = Connection::open_with_flags(path, flags)?;
    copy.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    copy.pragma_update(None, "journal_mode", "OFF")?;
    copy.pragma_update(None, "synchronous", "OFF")?;
    copy.pragma_update(None, "cache_size", -CACHE_KIB)?;
    Ok(copy)
}

fn copy_pages(
    wanted: &Wanted<'_>,
    reader: &Reader,
    copy: &mut Connection,
    part: &Part,
    mut at: impl FnMut(u64, u64),
) -> Result<(), SnapshotError> {
    let failed = |source: rusqlite::Error| match source.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            let from = wanted.state_directory.join(FILE_NAME);
            SnapshotError::Open(OpenError::from_sqlite(&from, source))
        }
        _ => SnapshotError::Copy {
            path: part.path.clone(),
            source,
        },
    };
    let page = reader
        .pragma_query_value(None, "page_size", |row| row.get::<_, i64>(0))
        .map_err(failed)?;
    let page = page.unsigned_abs().max(1);
    let step = i32::try_from(SNAPSHOT_STEP_BYTES / page)
        .unwrap_or(1)
        .max(1);
    let wal_before = wal_bytes(wanted).max(WAL_BYTES);
    let backup = Backup::new(reader, copy).map_err(failed)?;
    loop {
        let begun = Instant::now();
        let stepped = backup.step(step).map_err(failed)?;
        part.file
            .sync_data()
            .map_err(|source| SnapshotError::Write {
                path: part.path.clone(),
                source,
            })?;
        let bytes = |pages: i32| u64::from(pages.unsigned_abs()) * page;
        let progress = backup.progress();
        let (all, left) = (bytes(progress.pagecount), bytes(progress.remaining));
        at(all - left.min(all), all);
        if stepped == StepResult::Done {
            return Ok(());
        }
        has_room(wanted, left)?;
        if wal_bytes(wanted) > wal_before + SNAPSHOT_WAL_BYTES_MAX {
            return Err(SnapshotError::TooMuchCame);
        }
        thread::sleep(begun.elapsed().min(SNAPSHOT_PAUSE_MAX));
    }
}

fn wal_bytes(wanted: &Wanted<'_>) -> u64 {
    let wal = wanted.state_directory.join(format!("{FILE_NAME}-wal"));
    fs::metadata(wal).map_or(0, |wal| wal.len())
}

/// Whether so many more bytes fit: on the disk of the state directory without coming near its floor, below which no
/// webhook is taken.
fn has_room(wanted: &Wanted<'_>, bytes: u64) -> Result<(), SnapshotError> {
    let directory = directory_of(wanted.to);
    // A file system that does not say is asked by writing.
    let (Ok(medium), Ok(there), Ok(here)) = (
        Medium::of(directory),
        fs::metadata(directory),
        fs::metadata(wanted.state_directory),
    ) else {
        return Ok(());
    };
    let path = || wanted.to.to_owned();
    if medium.name == "FAT" && medium.worth == Worth::Fat && bytes > FAT_FILE_BYTES_MAX {
        let path = path();
        return Err(SnapshotError::TooLargeForFat { path, bytes });
    }
    let kept = match there.dev() == here.dev() {
        true => wanted.floor.kept_on(medium.total),
        false => 0,
    };
    let (needed, free) = (bytes.saturating_add(kept), medium.free);
    match free < needed {
        true => Err(SnapshotError::NoRoom {
            path: path(),
            needed,
            free,
        }),
        false => Ok(()),
    }
}

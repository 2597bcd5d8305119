//! A damaged file: how it is told from one that only cannot be used now, and how it is set aside. Nothing of it is deleted,
//! overwritten or changed. Knows files and SQLite, and no table.
//!
//! Damaged is what SQLite itself calls so, what it does not recognise, and a file that lacks tables of ours. A card that
//! answers with an error, a full or read-only file system, a lock, and a file of a newer program are not damage.
//!
//! 1. A start looks at the file for a moment only, so that serving begins at once; with a note of damage it looks at all
//!    of it, and takes its time being up for damage.
//! 2. A file is set aside by renaming: first the file, then its WAL. A power cut between the two leaves a WAL without a
//!    file, which is set aside at the next start; SQLite must never see one, for it would delete it.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension};

use super::check::{self, Found};
use super::remains::MAGIC;
use super::{
    FILE_NAME, LATEST, OpenError, StateDirectory, Views, keep_wal_on_close, migrations, open_writer,
};
use crate::limits::{NOTED_LOOK_MAX, START_LOOK_MAX, WRITER_BUSY_WAIT};
use crate::system::clock::UnixMs;

/// Where it is noted that the file is damaged, for the next start to act on.
const NOTE_NAME: &str = "damaged";
/// What the note says when all of the file was looked at and nothing was found.
const WAS_WHOLE: &str = "was found whole, after: ";
/// What stands between the name of the file and the time in the name of one that was set aside.
const MARK: &str = ".damaged-";
/// The files that SQLite keeps beside one.
const BESIDE: [&str; 2] = ["-wal", "-shm"];

/// A file that was set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetAside {
    /// Its name in the state directory.
    pub name: String,
    /// What was wrong with it.
    pub why: String,
}

/// Whether this error says that the file is damaged.
pub fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
    )
}

/// What to say to whoever was kept from reading by damage; nothing for any other error.
pub fn advice(error: &(dyn std::error::Error + 'static)) -> Option<&'static str> {
    let chain = std::iter::successors(Some(error), |error| error.source());
    let mut damaged = chain.filter_map(|error| error.downcast_ref().filter(|it| is_damage(it)));
    damaged.next().map(|_| "the file is damaged; belvo-gateway verify says more. With belvo-gateway verify --set-aside and a restart the gateway keeps it under another name, serves from a fresh one, and copies into that what can be read")
}

/// Opens the file to write at a start. One that is damaged is set aside, and a fresh one is made.
///
/// # Errors
/// When the file cannot be used, and not because it is damaged.
pub fn open(
    directory: &StateDirectory,
    views: Views,
) -> Result<(Connection, Option<SetAside>), OpenError> {
    let note = noted(directory);
    let looked = look(directory, note.as_deref());
    let why = match looked.damaged {
        Some(why) => why,
        None => match open_writer(directory, views) {
            Err(OpenError::NotADatabase { source, .. }) => source.to_string(),
            Err(other) => return Err(other),
            Ok(connection) => {
                directory.note_use(true);
                if let Some(why) = note.filter(|why| !why.starts_with(WAS_WHOLE)) {
                    // When it cannot be written, all of the file is looked at once more.
                    drop(self::note(directory.path(), &format!("{WAS_WHOLE}{why}")));
                }
                return Ok((connection, None));
            }
        },
    };
    drop(looked.held);
    let not_writable = |source| OpenError::NotWritable {
        path: directory.path().to_owned(),
        source,
    };
    let name = set_aside(directory.path(), UnixMs::now()).map_err(not_writable)?;
    // A fresh file that cannot be filled yet is empty, and no damaged one.
    directory.note_use(false);
    let connection = open_writer(directory, views)?;
    directory.note_use(true);
    Ok((connection, Some(SetAside { name, why })))
}

/// Notes that the file is damaged: all of it is looked at at the next start. Once that has found nothing, a second note
/// is believed without a look, or a damage that only shows in use would never end.
///
/// # Errors
/// When nothing can be written.
pub fn note(state_directory: &Path, why: &str) -> io::Result<()> {
    let mut file = File::create(state_directory.join(NOTE_NAME))?;
    file.write_all(why.as_bytes())?;
    file.sync_all()?;
    File::open(state_directory)?.sync_all()
}

/// The same for damage that showed in use.
///
/// # Errors
/// When nothing can be written.
pub fn note_in_use(state_directory: &Path, why: &str) -> io::Result<()> {
    let before = fs::read_to_string(state_directory.join(NOTE_NAME)).unwrap_or_default();
    match before.starts_with(WAS_WHOLE) || before.starts_with(AGAIN) {
        true => note(state_directory, &format!("{AGAIN}{why}")),
        false => note(state_directory, why),
    }
}

/// What the note says when it is to be believed.
const AGAIN: &str = "again: ";

fn noted(directory: &StateDirectory) -> Option<String> {
    let text = fs::read_to_string(directory.path().join(NOTE_NAME)).ok()?;
    Some(text.trim().to_owned())
}

/// What a look at the file has shown.
struct Looked {
    damaged: Option<String>,
    /// Held until the file is open to write, so that the WAL is read once.
    held: Option<Connection>,
}

/// Looks at the file for a moment. What cannot be looked at is left to whoever opens it.
fn look(directory: &StateDirectory, note: Option<&str>) -> Looked {
    let damaged = |why: &str| Looked {
        damaged: Some(why.to_owned()),
        held: None,
    };
    let path = directory.file();
    let bytes = |name: &str| fs::metadata(directory.path().join(name)).map(|file| file.len());
    let wal = bytes(&format!("{FILE_NAME}-wal")).unwrap_or(0);
    match fs::metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && wal > 0 => {
            return damaged("there is a WAL, and the file that it belongs to is gone");
        }
        Ok(file) if file.is_dir() => return damaged("it is a directory"),
        Ok(file) if file.len() == 0 && (wal > 0 || directory.was_used()) => {
            return damaged("it is empty");
        }
        Ok(file) if file.len() > 0 => {}
        _ => {
            return Looked {
                damaged: None,
                held: None,
            };
        }
    }
    if let Some(why) = note.and_then(|note| note.strip_prefix(AGAIN)) {
        return damaged(why);
    }
    if let Some(why) = header(&path) {
        return damaged(&why);
    }
    let wait = match note {
        Some(note) if !note.starts_with(WAS_WHOLE) => Some(note),
        _ => None,
    };
    match look_inside(&path, wait) {
        Ok(looked) => looked,
        Err(error) if is_damage(&error) => damaged(&error.to_string()),
        Err(_) => Looked {
            damaged: None,
            held: None,
        },
    }
}

/// What in the first bytes is not as in any file that SQLite writes. It takes some of that for a file that it must not
/// write, or for one of a later SQLite, which this is not.
fn header(path: &Path) -> Option<String> {
    let mut head = [0; 100];
    File::open(path).ok()?.read_exact(&mut head).ok()?;
    let word = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let is_well = matches!((head[18], head[19]), (1, 1) | (2, 2))
        && head[20..24] == [0, 64, 32, 32]
        && word(44) <= 4
        && word(56) <= 3;
    (head.starts_with(MAGIC) && !is_well).then(|| "its header makes no sense".to_owned())
}

fn look_inside(path: &Path, note: Option<&str>) -> rusqlite::Result<Looked> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(WRITER_BUSY_WAIT)?;
    // What is in the WAL of a damaged file stays there.
    keep_wal_on_close(&connection, true)?;
    let mut damaged = is_foreign(&connection)?;
    if damaged.is_none() {
        damaged = match (
            check::within(&mut connection, note.is_some(), wait(note))?,
            note,
        ) {
            (Found::Damaged(what), _) => Some(what),
            (Found::TimeUp, Some(note)) => Some(note.to_owned()),
            (Found::TimeUp, None) => {
                ends(&connection)?;
                None
            }
            (Found::Whole, _) => None,
        };
    }
    Ok(Looked {
        damaged,
        held: Some(connection),
    })
}

fn wait(note: Option<&str>) -> Duration {
    match note {
        Some(_) => NOTED_LOOK_MAX,
        None => START_LOOK_MAX,
    }
}

/// Why this is no file of ours, if it is none: each table must be there with at least its columns. Of a newer program's
/// only the table is asked for that says who may use it.
fn is_foreign(connection: &Connection) -> rusqlite::Result<Option<String>> {
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let any: Option<String> = connection
        .query_row("SELECT name FROM sqlite_schema LIMIT 1", [], |row| {
            row.get(0)
        })
        .optional()?;
    if any.is_none() && version == 0 {
        return Ok(None);
    }
    let wanted = match version {
        ..=0 => return Ok(Some("it is a database of something else".to_owned())),
        1..=LATEST => migrations::columns(version)?,
        _ => vec![(
            "meta".to_owned(),
            vec!["key".to_owned(), "value".to_owned()],
        )],
    };
    for (table, columns) in wanted {
        let sql = format!(
            "SELECT \"{}\" FROM \"{table}\" LIMIT 0",
            columns.join("\", \"")
        );
        match connection.prepare(&sql) {
            Err(error) if is_about_sql(&error) => {
                let sentence = error.to_string();
                let what = sentence.split(" in SELECT").next().unwrap_or_default();
                return Ok(Some(format!("it lacks what the gateway needs: {what}")));
            }
            other => drop(other?),
        }
    }
    Ok(None)
}

/// Whether SQLite did not understand the question, and nothing is wrong with the storage.
fn is_about_sql(error: &rusqlite::Error) -> bool {
    match error {
        rusqlite::Error::SqlInputError { error, .. } => error.code == ErrorCode::Unknown,
        other => other.sqlite_error_code() == Some(ErrorCode::Unknown),
    }
}

/// Reads the first and the last row of each table, and so each b-tree along both of its edges.
fn ends(connection: &Connection) -> rusqlite::Result<()> {
    for (table, _) in migrations::columns(LATEST)? {
        for order in ["", "ORDER BY rowid DESC"] {
            let sql = format!("SELECT * FROM \"{table}\" {order} LIMIT 1");
            // A table without row numbers has no such order.
            if let Ok(mut statement) = connection.prepare(&sql) {
                statement.query([])?.next()?;
            }
        }
    }
    Ok(())
}

/// Renames the file and what is beside it, to a name that nothing has yet, and says to which.
fn set_aside(state_directory: &Path, now: UnixMs) -> io::Result<String> {
    let name = free_name(state_directory, now)?;
    for suffix in std::iter::once("").chain(BESIDE) {
        let from = state_directory.join(format!("{FILE_NAME}{suffix}"));
        match fs::rename(from, state_directory.join(format!("{name}{suffix}"))) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => other?,
        }
    }
    match fs::remove_file(state_directory.join(NOTE_NAME)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        other => other?,
    }
    File::open(state_directory)?.sync_all()?;
    Ok(name)
}

/// Copies the WAL to a name that nothing has yet, and says for which file.
///
/// # Errors
/// When it cannot be copied.
pub fn copy_wal(directory: &StateDirectory, now: UnixMs) -> Result<String, OpenError> {
    let copy = || {
        let name = free_name(directory.path(), now)?;
        let path = directory.path().join(format!("{name}-wal"));
        fs::copy(directory.path().join(format!("{FILE_NAME}-wal")), &path)?;
        File::open(path)?.sync_all()?;
        Ok(name)
    };
    copy().map_err(|source| OpenError::NotWritable {
        path: directory.path().to_owned(),
        source,
    })
}

/// Takes such a copy back, which nobody needs.
pub fn forget_wal(directory: &StateDirectory, name: &str) {
    // What is left of it is salvaged once more, which changes nothing.
    drop(fs::remove_file(
        directory.path().join(format!("{name}-wal")),
    ));
}

/// By the time, and a number where that is taken or the clock cannot be right.
fn free_name(state_directory: &Path, now: UnixMs) -> io::Result<String> {
    let time: String = now.to_string().split('.').take(1).collect();
    let time = match now.is_plausible() {
        true => format!("{}Z", time.replace(['-', ':'], "")),
        false => String::new(),
    };
    for number in 1u32.. {
        let name = match (time.as_str(), number) {
            ("", number) => format!("{FILE_NAME}{MARK}{number}"),
            (time, 1) => format!("{FILE_NAME}{MARK}{time}"),
            (time, number) => format!("{FILE_NAME}{MARK}{time}.{number}"),
        };
        let mut taken = false;
        for suffix in std::iter::once("").chain(BESIDE) {
            taken |= state_directory
                .join(format!("{name}{suffix}"))
                .try_exists()?;
        }
        if !taken {
            return Ok(name);
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// The files that were set aside and are still there, the newest first.
///
/// # Errors
/// When the directory cannot be read.
pub fn files_set_aside(state_directory: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(state_directory)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let name = BESIDE
            .iter()
            .find_map(|suffix| name.strip_suffix(suffix))
            .unwrap_or(&name);
        if name.starts_with(&format!("{FILE_NAME}{MARK}")) && !names.iter().any(|it| it == name) {
            names.push(name.to_owned());
        }
    }
    names.sort();
    names.reverse();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::ffi;

    #[test]
    fn only_what_sqlite_calls_damaged_is() {
        let is = |code| is_damage(&rusqlite::Error::SqliteFailure(ffi::Error::new(code), None));
        for code in [
            ffi::SQLITE_CORRUPT,
            ffi::SQLITE_NOTADB,
            ffi::SQLITE_CORRUPT_INDEX,
        ] {
            assert!(is(code), "{code}");
        }
        for code in [
            ffi::SQLITE_IOERR,
            ffi::SQLITE_IOERR_READ,
            ffi::SQLITE_FULL,
            ffi::SQLITE_READONLY,
            ffi::SQLITE_CANTOPEN,
            ffi::SQLITE_BUSY,
            ffi::SQLITE_NOMEM,
            ffi::SQLITE_INTERRUPT,
            ffi::SQLITE_ERROR,
        ] {
            assert!(!is(code), "{code}");
        }
    }

    const NO_VIEWS: Views = Views("");

    #[test]
    fn whatever_byte_of_the_header_flips_the_file_is_opened_or_set_aside() {
        for at in 0..100 {
            let place = tempfile::tempdir().expect("a temporary directory");
            let directory = StateDirectory::lock(place.path()).expect("a state directory");
            drop(open(&directory, NO_VIEWS).expect("a file"));
            let mut bytes = fs::read(directory.file()).expect("bytes");
            bytes[at] ^= 1 << (at % 8);
            fs::write(directory.file(), &bytes).expect("a flip");
            let opened = open(&directory, NO_VIEWS);
            let (connection, set_aside) = opened.unwrap_or_else(|error| panic!("{at}: {error}"));
            connection
                .execute("INSERT INTO meta VALUES ('x', 1)", [])
                .unwrap_or_else(|error| panic!("{at}: {error}"));
            if let Some(SetAside { name, .. }) = set_aside {
                assert!(fs::read(place.path().join(name)).expect("bytes") == bytes);
            }
        }
    }

    #[test]
    fn nothing_that_was_set_aside_is_ever_overwritten() {
        let place = tempfile::tempdir().expect("a temporary directory");
        let day = UnixMs(1_793_491_200_007);
        let mut names = Vec::new();
        for (number, now) in [day, day, UnixMs(0), day, UnixMs(0)]
            .into_iter()
            .enumerate()
        {
            for suffix in ["", "-wal"] {
                let path = place.path().join(format!("{FILE_NAME}{suffix}"));
                fs::write(path, format!("{number}{suffix}")).expect("a file");
            }
            names.push(set_aside(place.path(), now).expect("a rename"));
        }
        assert_eq!(
            names,
            [
                "gateway.db.damaged-20261101T000000Z",
                "gateway.db.damaged-20261101T000000Z.2",
                "gateway.db.damaged-1",
                "gateway.db.damaged-20261101T000000Z.3",
                "gateway.db.damaged-2",
            ]
        );
        for (number, name) in names.iter().enumerate() {
            for suffix in ["", "-wal"] {
                let text = fs::read_to_string(place.path().join(format!("{name}{suffix}")));
                assert_eq!(text.expect("a file"), format!("{number}{suffix}"));
            }
        }
        assert_eq!(files_set_aside(place.path()).expect("names").len(), 5);
    }
}

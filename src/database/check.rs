//! SQLite's own check of the file: a table at a time by whoever has time, or as much of it as fits into a moment. Knows no
//! table.

use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode};

use super::Reader;
use crate::limits::{CHECK_CACHE_PAGES, CHECK_STEPS};

/// What stands for the list of tables itself, with which the pages that are free are checked.
const SCHEMA: &str = "sqlite_schema";
/// What SQLite writes before what it says about pages.
const HEADING: &str = "*** in database main ***\n";

/// What a check within a time has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// All was looked at, and it is whole.
    Whole,
    /// This is wrong.
    Damaged(String),
    /// The time was up before the end; nothing was wrong until then.
    TimeUp,
}

/// All tables, and the list of them first.
///
/// # Errors
/// When SQLite cannot read.
pub fn tables(reader: &Reader) -> rusqlite::Result<Vec<String>> {
    let mut tables = vec![SCHEMA.to_owned()];
    let mut statement =
        reader.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY rootpage")?;
    for name in statement.query_map([], |row| row.get(0))? {
        tables.push(name?);
    }
    Ok(tables)
}

/// Checks a table and its indexes, and says what is wrong with them. Each is a reading of its own, so that the WAL can be
/// copied into the file between two of them.
///
/// # Errors
/// When SQLite cannot read.
pub fn table(reader: &Reader, name: &str) -> rusqlite::Result<Vec<String>> {
    let mut statement = reader.prepare("SELECT integrity_check FROM pragma_integrity_check(?1)")?;
    let lines = statement.query_map([name], |row| row.get::<_, String>(0))?;
    let wrong = lines.filter(|line| line.as_deref() != Ok("ok"));
    let wrong: Vec<_> = wrong.collect::<rusqlite::Result<_>>()?;
    let sentence = |line: String| line.replace(HEADING, "");
    Ok(wrong.into_iter().map(sentence).collect())
}

/// Runs a check for this long at most: with `full` also whether each index agrees with its table. What breaks a constraint
/// is not looked for: it is readable, and not the card's doing.
pub(super) fn within(
    connection: &mut Connection,
    full: bool,
    wait: Duration,
) -> rusqlite::Result<Found> {
    let pragma = match full {
        true => "integrity_check",
        false => "quick_check",
    };
    let begun = Instant::now();
    // Each page is looked at once: to keep many would only take memory.
    connection.pragma_update(None, "cache_size", CHECK_CACHE_PAGES)?;
    connection.progress_handler(CHECK_STEPS, Some(move || begun.elapsed() > wait))?;
    connection.pragma_update(None, "ignore_check_constraints", "ON")?;
    let said = connection.query_row(&format!("PRAGMA {pragma}(1)"), [], |row| {
        row.get::<_, String>(0)
    });
    connection.pragma_update(None, "ignore_check_constraints", "OFF")?;
    connection.progress_handler(0, None::<fn() -> bool>)?;
    match said {
        Ok(said) if said == "ok" => Ok(Found::Whole),
        Ok(said) => Ok(Found::Damaged(said.replace(HEADING, ""))),
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) => {
            Ok(Found::TimeUp)
        }
        Err(error) => Err(error),
    }
}

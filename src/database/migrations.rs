//! Numbered SQL files, each run once in a transaction of its own, and the views, put in place anew when their text
//! changed. Knows the order of the files and none of their tables but `meta`.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior};

use super::OpenError;

/// The text of the views, which the store owns.
#[derive(Clone, Copy, Debug)]
pub struct Views(pub &'static str);

const MIGRATIONS: &[&str] = &[include_str!("migrations/0001_initial.sql")];

/// The schema version this program writes: `PRAGMA user_version`.
pub const LATEST: i64 = MIGRATIONS.len() as i64;

/// An empty file in memory with the tables of this version, for whoever asks what they are like.
///
/// # Errors
/// When there is no memory for it.
pub fn example(version: i64) -> rusqlite::Result<Connection> {
    let example = Connection::open_in_memory()?;
    for (migration, _) in MIGRATIONS.iter().zip(0..version) {
        example.execute_batch(migration)?;
    }
    Ok(example)
}

/// The tables of this version, each with its columns.
pub(super) fn columns(version: i64) -> rusqlite::Result<Vec<(String, Vec<String>)>> {
    let example = example(version)?;
    let mut statement = example.prepare(
        "SELECT tables.name, columns.name FROM pragma_table_list AS tables, pragma_table_info(tables.name) AS columns
          WHERE tables.type = 'table' AND tables.name NOT LIKE 'sqlite_%' ORDER BY tables.name, columns.cid",
    )?;
    let mut tables: Vec<(String, Vec<String>)> = Vec::new();
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (table, column): (String, String) = (row.get(0)?, row.get(1)?);
        match tables.last_mut() {
            Some((last, columns)) if *last == table => columns.push(column),
            _ => tables.push((table, vec![column])),
        }
    }
    Ok(tables)
}

/// Brings the file to [`LATEST`]. A file from a newer program is left as it is, if it says that this one may use it.
pub(super) fn run(connection: &mut Connection, path: &Path, views: Views) -> Result<(), OpenError> {
    let version = check_version(connection, path)?;
    let sqlite = |source| OpenError::from_sqlite(path, source);
    for (migration, number) in MIGRATIONS
        .iter()
        .zip(1i64..)
        .skip_while(|(_, number)| *number <= version)
    {
        let transaction = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(sqlite)?;
        transaction.execute_batch(migration).map_err(sqlite)?;
        transaction
            .pragma_update(None, "user_version", number)
            .map_err(sqlite)?;
        transaction.commit().map_err(sqlite)?;
    }
    let transaction = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(sqlite)?;
    put_views(&transaction, views).map_err(sqlite)?;
    transaction.commit().map_err(sqlite)
}

/// The version of the file, when this program may use it.
pub(super) fn check_version(connection: &Connection, path: &Path) -> Result<i64, OpenError> {
    let sqlite = |source| OpenError::from_sqlite(path, source);
    let found: i64 = connection
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(sqlite)?;
    if found <= LATEST {
        return Ok(found);
    }
    let oldest_reader: i64 = connection
        .query_row(
            "SELECT value FROM meta WHERE key = 'oldest_reader'",
            [],
            |row| row.get(0),
        )
        .map_err(sqlite)?;
    if oldest_reader > LATEST {
        Err(OpenError::Newer {
            path: path.to_owned(),
            found,
        })
    } else {
        Ok(found)
    }
}

fn put_views(transaction: &Transaction<'_>, views: Views) -> rusqlite::Result<()> {
    // The hash may differ between compilers; then the views are put in place once more, which does no harm.
    let mut hasher = DefaultHasher::new();
    views.0.hash(&mut hasher);
    let wanted = format!("{:016x}", hasher.finish());
    let found: Option<String> = transaction
        .query_row("SELECT value FROM meta WHERE key = 'views'", [], |row| {
            row.get(0)
        })
        .optional()?;
    if found.as_ref() == Some(&wanted) {
        return Ok(());
    }
    // Only ours: an admin may have made views of their own.
    for name in views
        .0
        .lines()
        .filter_map(|line| line.strip_prefix("CREATE VIEW ")?.split(' ').next())
    {
        transaction.execute_batch(&format!("DROP VIEW IF EXISTS {name}"))?;
    }
    transaction.execute_batch(views.0)?;
    transaction.execute("INSERT OR REPLACE INTO meta VALUES ('views', ?1)", [wanted])?;
    Ok(())
}

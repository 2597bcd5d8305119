//! SQLite's own check of the file: a table at a time by whoever has time, or as much of it as fits into a moment. Knows no
//! table.

use super::Reader;

/// What stands for the list of tables itself, with which the pages that are free are checked.
const SCHEMA: &str = "sqlite_schema";

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
    // SQLite writes a heading of its own before what it says about pages.
    let sentence = |line: String| line.replace("*** in database main ***\n", "");
    Ok(wrong.into_iter().map(sentence).collect())
}

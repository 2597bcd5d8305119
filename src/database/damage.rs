//! A damaged file: how it is told from one that only cannot be used now, and how it is set aside. Nothing of it is deleted,
//! overwritten or changed. Knows files and SQLite, and no table.
//!
//! Damaged is what SQLite itself calls so, what it does not recognise, and a file that lacks tables of ours. A card that
//! answers with an error, a full or read-only file system, a lock, and a file of a newer program are not damage.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use rusqlite::ErrorCode;

/// Where it is noted that the file is damaged, for the next start to act on.
const NOTE_NAME: &str = "damaged";

/// Whether this error says that the file is damaged.
pub fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
    )
}

/// Notes that the file is damaged: it is looked at in full at the next start, or set aside when that takes too long.
///
/// # Errors
/// When nothing can be written.
pub fn note(state_directory: &Path, why: &str) -> io::Result<()> {
    let mut file = File::create(state_directory.join(NOTE_NAME))?;
    file.write_all(why.as_bytes())?;
    file.sync_all()?;
    File::open(state_directory)?.sync_all()
}

//! Reading a small text file with an error that names it, and seeing whether it has changed. Does not know what is in the file.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::limits::SMALL_FILE_BYTES_MAX;

/// Why a file could not be read.
#[derive(Debug, Error)]
#[error("cannot read {}: {source}{}", path.display(), hint(source))]
pub struct ReadError {
    path: PathBuf,
    source: io::Error,
}

impl ReadError {
    /// An error about `path`.
    pub fn new(path: &Path, source: io::Error) -> Self {
        Self {
            path: path.to_owned(),
            source,
        }
    }
}

fn hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::NotFound => "; create it or correct the path",
        io::ErrorKind::PermissionDenied => "; let the gateway's user read it",
        io::ErrorKind::InvalidData => "; it must be UTF-8 text",
        _ => "",
    }
}

/// What tells whether a file was changed or replaced; nothing while it cannot be looked at.
pub type Mark = Option<(u64, i64, i64, u64)>;

/// The mark of the file at `path`.
pub fn mark(path: &Path) -> Mark {
    let found = fs::metadata(path).ok()?;
    Some((found.ino(), found.mtime(), found.mtime_nsec(), found.len()))
}

/// The text of `path`, one mebibyte at most.
///
/// # Errors
/// When the file cannot be read, is too large, or is not UTF-8.
pub fn read_small(path: &Path) -> Result<String, ReadError> {
    let read = || {
        let mut text = String::new();
        File::open(path)?
            .take(SMALL_FILE_BYTES_MAX + 1)
            .read_to_string(&mut text)?;
        if text.len() as u64 > SMALL_FILE_BYTES_MAX {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                "larger than one mebibyte",
            ));
        }
        Ok(text)
    };
    read().map_err(|source| ReadError::new(path, source))
}

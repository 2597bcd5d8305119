//! Secrets: strings without `Debug` and `Display`, read from a file whose mode is checked, with one visible way out.
//! Does not know what they open.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;
use thiserror::Error;

use super::files::{self, ReadError};

/// A value that must not be seen: no `Display`, a redacted `Debug`, wiped when dropped.
#[derive(Clone, Debug)]
pub struct Secret(SecretString);

/// Why a secret could not be read. Never holds the content.
#[derive(Debug, Error)]
pub enum Error {
    /// The file could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Others than its owner and group may read the file.
    #[error("{} may be read by everybody (mode {mode:04o}); close it with: chmod o-rwx {}", path.display(), path.display())]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file has no value in it.
    #[error("{} is empty; put the value in it, alone on its line", .0.display())]
    Empty(PathBuf),
}

impl Secret {
    /// Takes a value as a secret.
    pub fn new(value: String) -> Self {
        Self(value.into())
    }

    /// The value itself. For the one place that sends it.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// Whether `offered` is this value, in a time that depends on the lengths alone.
    pub fn is(&self, offered: &[u8]) -> bool {
        self.expose().as_bytes().ct_eq(offered).into()
    }
}

/// The text of `path`, which only its owner and group may read.
///
/// # Errors
/// When the file cannot be read or is open to everybody.
pub fn read_text(path: &Path) -> Result<String, Error> {
    let text = files::read_small(path)?;
    let mode = mode(path).map_err(|source| ReadError::new(path, source))?;
    if mode & 0o007 != 0 {
        Err(Error::Mode {
            path: path.to_owned(),
            mode,
        })
    } else {
        Ok(text)
    }
}

/// The values in `path`, one a line; empty lines do not count.
///
/// # Errors
/// When the file cannot be read, is open to everybody, or holds no value.
pub fn read_lines(path: &Path) -> Result<Vec<Secret>, Error> {
    let text = read_text(path)?;
    let values: Vec<_> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    if values.is_empty() {
        return Err(Error::Empty(path.to_owned()));
    }
    Ok(values
        .into_iter()
        .map(|value| Secret::new(value.to_owned()))
        .collect())
}

fn mode(path: &Path) -> io::Result<u32> {
    Ok(File::open(path)?.metadata()?.mode() & 0o7777)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_secret_does_not_show_in_debug_output() {
        assert!(!format!("{:?}", Secret::new("hunter2".to_owned())).contains("hunter2"));
    }

    #[test]
    fn a_file_that_everybody_may_read_is_refused() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("key");
        fs::write(&path, "hunter2\n").expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("a mode");
        let error = read_lines(&path).expect_err("an open file").to_string();
        assert!(
            error.contains("chmod o-rwx") && !error.contains("hunter2"),
            "{error}"
        );
    }

    #[test]
    fn each_line_is_a_value_and_its_surroundings_are_not() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("key");
        fs::write(&path, "Bearer one\r\n\n Basic two \n").expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("a mode");
        let values = read_lines(&path).expect("two values");
        assert!(values.len() == 2 && values[0].is(b"Bearer one") && values[1].is(b"Basic two"));
        assert!(!values[0].is(b"Bearer on") && !values[0].is(b"bearer one"));
    }
}

//! Until when the listener's certificate is valid, for those who look at the file, and what is wrong with it.

use rusqlite::Connection;

use super::Store;
use super::alive::{put, read};
use super::problems::{self, Change};
use crate::database::WriteError;
use crate::system::clock::UnixMs;

const UNTIL: &str = "certificate_until";

impl Store {
    /// Notes until when the served certificate is valid, if there is one, and opens and closes problems.
    ///
    /// # Errors
    /// When nothing was written.
    pub async fn note_certificate(
        &self,
        until: Option<UnixMs>,
        changes: Vec<Change>,
        now: UnixMs,
    ) -> Result<(), WriteError> {
        self.writer
            .change(move |transaction| {
                match until {
                    Some(until) => put(transaction, UNTIL, until),
                    None => transaction
                        .execute("DELETE FROM meta WHERE key = ?1", [UNTIL])
                        .map(drop),
                }?;
                problems::apply(transaction, &changes, now)
            })
            .await
    }
}

/// Until when the certificate that was served last is valid.
///
/// # Errors
/// When SQLite cannot read.
pub fn certificate_until(connection: &Connection) -> rusqlite::Result<Option<UnixMs>> {
    read(connection, UNTIL)
}

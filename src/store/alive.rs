//! When the gateway last noted that it runs, and since when webhooks may be missing. A clock that cannot be right writes
//! nothing here.

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::Store;
use super::problems::{self, Change, Kind, Problem};
use crate::database::WriteError;
use crate::system::clock::UnixMs;

const ALIVE: &str = "alive_at";
const AWAY: &str = "away_from";

impl Store {
    /// Notes that the gateway runs.
    ///
    /// # Errors
    /// When nothing was written.
    pub async fn note_alive(&self, now: UnixMs) -> Result<(), WriteError> {
        self.writer
            .change(move |transaction| note(transaction, now))
            .await
    }

    /// Opens the problem that webhooks from `from` on may be missing. An older absence that nobody has made up for yet
    /// keeps its beginning; `problem` is told where it begins, and so is whoever asks.
    ///
    /// # Errors
    /// When nothing was written.
    pub async fn note_away(
        &self,
        from: UnixMs,
        now: UnixMs,
        problem: impl FnOnce(UnixMs) -> Problem + Send + 'static,
    ) -> Result<UnixMs, WriteError> {
        let note = move |transaction: &Transaction<'_>| {
            let from = away_from(transaction)?.map_or(from, |before| before.min(from));
            put(transaction, AWAY, from)?;
            problems::apply(transaction, &[Change::Open(problem(from))], now)?;
            Ok(from)
        };
        self.writer.change(note).await
    }

    /// Everything that moved since `since` (or ever) was compared with Belvo: an absence that began later is over.
    ///
    /// # Errors
    /// When nothing was written.
    pub async fn made_up(&self, since: Option<UnixMs>, now: UnixMs) -> Result<(), WriteError> {
        let over = move |transaction: &Transaction<'_>| {
            let from = away_from(transaction)?;
            if since.is_some_and(|since| from.is_some_and(|from| from < since)) {
                return Ok(());
            }
            transaction.execute("DELETE FROM meta WHERE key = ?1", [AWAY])?;
            let over = Change::Close(Kind::Away, String::new());
            problems::apply(transaction, &[over], now)
        };
        self.writer.change_synced(over).await
    }
}

pub(super) fn note(transaction: &Transaction<'_>, now: UnixMs) -> rusqlite::Result<()> {
    match now.is_plausible() {
        true => put(transaction, ALIVE, now),
        false => Ok(()),
    }
}

pub(super) fn put(transaction: &Transaction<'_>, key: &str, at: UnixMs) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("INSERT OR REPLACE INTO meta VALUES (?1, ?2)")?
        .execute(params![key, at.0])
        .map(drop)
}

/// When the gateway last noted that it runs.
///
/// # Errors
/// When SQLite cannot read.
pub fn alive_at(connection: &Connection) -> rusqlite::Result<Option<UnixMs>> {
    read(connection, ALIVE)
}

/// Since when webhooks may be missing that nobody has made up for.
///
/// # Errors
/// When SQLite cannot read.
pub fn away_from(connection: &Connection) -> rusqlite::Result<Option<UnixMs>> {
    read(connection, AWAY)
}

pub(super) fn read(connection: &Connection, key: &str) -> rusqlite::Result<Option<UnixMs>> {
    connection
        .prepare_cached("SELECT value FROM meta WHERE key = ?1")?
        .query_row([key], |row| row.get(0).map(UnixMs))
        .optional()
}

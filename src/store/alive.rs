//! When the gateway last noted that it runs, and since when webhooks may be missing. A clock that cannot be right writes
//! nothing here.

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::problems::{self, Change, Kind, Problem};
use super::{Store, work};
use crate::database::WriteError;
use crate::limits::CLOCK_STEP_MAX;
use crate::system::clock::{Stamp, UnixMs};

const ALIVE: &str = "alive_at";
const AWAY: &str = "away_from";

impl Store {
    /// Notes that the gateway runs, and when the machine was switched on, by a clock that can be right. Such a clock
    /// is no problem any more. All due times are moved by `step` milliseconds, the step of the clock that they are counted
    /// by.
    ///
    /// # Errors
    /// When nothing was written.
    pub async fn note_alive(&self, now: Stamp, step: i64) -> Result<(), WriteError> {
        let note = move |transaction: &Transaction<'_>| {
            if step != 0 {
                work::put_off(transaction, step)?;
            }
            note_boot(transaction, now)?;
            let over = Change::Close(Kind::ClockNotSet, String::new());
            problems::apply(transaction, &[over], now.wall)?;
            note(transaction, now.wall)
        };
        self.writer.change(note).await
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

/// Notes when the machine was switched on; again only when the clock has been set since.
fn note_boot(transaction: &Transaction<'_>, now: Stamp) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO boots VALUES (?1, ?2)
             ON CONFLICT DO UPDATE SET began_at = excluded.began_at WHERE abs(began_at - excluded.began_at) > ?3",
        )?
        .execute(params![
            now.boot.0,
            now.boot_began_at().0,
            CLOCK_STEP_MAX.as_millis() as i64
        ])
        .map(drop)
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

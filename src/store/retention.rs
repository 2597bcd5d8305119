//! What may leave the file, and its leaving: journal rows whose webhook is finished, and much later what is left of them in
//! `events`. Never what is not planned, still to be fetched, or of a link with an open problem; never the newest row of the
//! journal, nor the newest event of a link. Decides nothing about when.

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::alive::{put, read};
use super::erasing::PROBLEMS;
use super::{Store, problems};
use crate::database::{Reader, WriteError};
use crate::system::clock::UnixMs;
use crate::webhook::Seq;

const BELIEVED: &str = "believed_at";

/// Whether a journal row may leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It may not: something is still to come of it.
    Needed,
    /// There is no rule for it, and an upgrade may bring one.
    Unknown,
    /// It has been worked off.
    Finished,
}

/// A journal row, or what is left of it in `events`, without its content.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Its place.
    pub seq: Seq,
    /// When it was received, as far as that is known.
    pub received_at: UnixMs,
    /// Whether it is known.
    pub is_sure: bool,
    /// Bytes of its body.
    pub bytes: u64,
    /// Whether it may leave.
    pub standing: Standing,
}

/// The standing of a row of `journal LEFT JOIN events USING (seq)`.
fn standing() -> String {
    let problems = PROBLEMS.replace("?1", "events.link_id");
    format!(
        "CASE
             WHEN action IS NULL OR seq > (SELECT value FROM meta WHERE key = 'planned_to')
               OR seq = (SELECT max(seq) FROM journal) THEN 0
             WHEN EXISTS (SELECT 1 FROM work WHERE work.link_id = events.link_id AND work.wanted > work.fetched
                             AND seq BETWEEN work.asked AND work.wanted) THEN 0
             WHEN EXISTS (SELECT 1 FROM problems WHERE closed_at IS NULL AND ({problems})) THEN 0
             WHEN action = 'unknown' THEN 1
             ELSE 2
         END"
    )
}

fn named(standing: i64) -> Standing {
    match standing {
        2 => Standing::Finished,
        1 => Standing::Unknown,
        _ => Standing::Needed,
    }
}

/// The journal rows after `cursor`, oldest first.
///
/// # Errors
/// When SQLite cannot read.
pub fn rows_after(reader: &Reader, cursor: Seq, limit: u32) -> rusqlite::Result<Vec<Row>> {
    let sql = format!(
        "SELECT seq, arrivals.received_at, is_sure, octet_length(body), {}
           FROM arrivals LEFT JOIN events USING (seq) WHERE seq > ?1 ORDER BY seq LIMIT ?2",
        standing()
    );
    reader
        .prepare_cached(&sql)?
        .query_map(params![cursor.0, limit], |row| {
            Ok(Row {
                seq: Seq(row.get(0)?),
                received_at: UnixMs(row.get(1)?),
                is_sure: row.get(2)?,
                bytes: row.get::<_, i64>(3)?.unsigned_abs(),
                standing: named(row.get(4)?),
            })
        })?
        .collect()
}

/// The events after `cursor` whose journal row has gone, oldest first.
///
/// # Errors
/// When SQLite cannot read.
pub fn events_after(reader: &Reader, cursor: Seq, limit: u32) -> rusqlite::Result<Vec<Row>> {
    reader
        .prepare_cached(
            "SELECT seq, received_at,
                    coalesce(seq < (SELECT max(seq) FROM (
                        SELECT max(wanted) AS seq FROM work WHERE work.link_id = events.link_id
                         UNION ALL
                        SELECT max(newer.seq) FROM events AS newer
                         WHERE newer.link_id = events.link_id AND newer.action <> 'fetch')), 1)
               FROM events WHERE received_at IS NOT NULL AND seq > ?1 ORDER BY seq LIMIT ?2",
        )?
        .query_map(params![cursor.0, limit], |row| {
            let received_at = UnixMs(row.get(1)?);
            Ok(Row {
                seq: Seq(row.get(0)?),
                received_at,
                is_sure: received_at.is_plausible(),
                bytes: 0,
                standing: match row.get(2)? {
                    true => Standing::Finished,
                    false => Standing::Needed,
                },
            })
        })?
        .collect()
}

/// Bytes of the bodies after `cursor`, of so many rows at most, how many those are, and the last of them; none when there are none.
///
/// # Errors
/// When SQLite cannot read.
pub fn bytes_after(
    reader: &Reader,
    cursor: Seq,
    limit: u32,
) -> rusqlite::Result<Option<(u64, u64, Seq)>> {
    reader
        .prepare_cached(
            "SELECT sum(octet_length(body)), count(*), max(seq)
               FROM (SELECT seq, body FROM journal WHERE seq > ?1 ORDER BY seq LIMIT ?2)
             HAVING count(*) > 0",
        )?
        .query_row(params![cursor.0, limit], |row| {
            let number = |at| Ok::<_, rusqlite::Error>(row.get::<_, i64>(at)?.unsigned_abs());
            Ok((number(0)?, number(1)?, Seq(row.get(2)?)))
        })
        .optional()
}

/// Bytes of the file, and those of them in free pages.
///
/// # Errors
/// When SQLite cannot read.
pub fn file_bytes(reader: &Reader) -> rusqlite::Result<(u64, u64)> {
    let number = |pragma| reader.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let page = number("page_size")?;
    let bytes = |pages: i64| (pages * page).unsigned_abs();
    Ok((
        bytes(number("page_count")?),
        bytes(number("freelist_count")?),
    ))
}

/// What the clock showed when something was last called old by it.
///
/// # Errors
/// When SQLite cannot read.
pub fn believed_at(connection: &Connection) -> rusqlite::Result<Option<UnixMs>> {
    read(connection, BELIEVED)
}

impl Store {
    /// Removes these journal rows, those of them that may still leave, and says how many. Their events keep when they were
    /// received.
    ///
    /// # Errors
    /// When nothing was written.
    pub async fn remove_rows(&self, seqs: Vec<Seq>) -> Result<usize, WriteError> {
        let remove = move |transaction: &Transaction<'_>| {
            seqs.iter().try_fold(0, |removed, seq| {
                Ok(removed + usize::from(remove_row(transaction, *seq)?))
            })
        };
        self.writer.change(remove).await
    }

    /// Removes these events, whose journal rows have gone.
    ///
    /// # Errors
    /// When nothing was written.
    pub async fn remove_events(&self, seqs: Vec<Seq>) -> Result<usize, WriteError> {
        let remove = move |transaction: &Transaction<'_>| {
            let mut remove = transaction
                .prepare_cached("DELETE FROM events WHERE seq = ?1 AND received_at IS NOT NULL")?;
            seqs.iter()
                .try_fold(0, |removed, seq| Ok(removed + remove.execute([seq.0])?))
        };
        self.writer.change(remove).await
    }

    /// Removes some problems that were over before this time, and says how many.
    ///
    /// # Errors
    /// When nothing was written.
    pub async fn remove_problems(&self, before: UnixMs, limit: usize) -> Result<usize, WriteError> {
        let remove = move |transaction: &Transaction<'_>| {
            transaction.execute(
                "DELETE FROM problems WHERE problem IN
                     (SELECT problem FROM problems WHERE closed_at BETWEEN ?1 AND ?2 LIMIT ?3)",
                params![UnixMs::EARLIEST_PLAUSIBLE.0, before.0, limit as i64],
            )
        };
        self.writer.change(remove).await
    }

    /// Notes what a clock shows that was believed, and opens or closes a problem.
    ///
    /// # Errors
    /// When nothing was written.
    pub async fn retained(
        &self,
        believed: Option<UnixMs>,
        change: problems::Change,
        now: UnixMs,
    ) -> Result<(), WriteError> {
        self.writer
            .change(move |transaction| {
                if let Some(at) = believed {
                    put(transaction, BELIEVED, at)?;
                }
                problems::apply(transaction, &[change], now)
            })
            .await
    }
}

fn remove_row(transaction: &Transaction<'_>, seq: Seq) -> rusqlite::Result<bool> {
    let sql = format!(
        "SELECT {} FROM journal LEFT JOIN events USING (seq) WHERE seq = ?1",
        standing()
    );
    let found = transaction
        .prepare_cached(&sql)?
        .query_row([seq.0], |row| row.get(0))
        .optional()?;
    if found.is_none_or(|found| named(found) == Standing::Needed) {
        return Ok(false);
    }
    transaction
        .prepare_cached("UPDATE events SET received_at = (SELECT received_at FROM arrivals WHERE seq = ?1) WHERE seq = ?1")?
        .execute([seq.0])?;
    transaction
        .prepare_cached("DELETE FROM journal WHERE seq = ?1")?
        .execute([seq.0])?;
    Ok(true)
}

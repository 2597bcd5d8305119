//! What an operator orders about work: which rows are meant, and the rows after their move; and what the file knows that
//! Belvo's list of links is compared with. The legal moves are `drain::work`'s; this only stores the result.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, Row, Transaction};

use super::links::newest_event;
use super::{Store, Times, work};
use crate::catalog::LINKS;
use crate::database::{Reader, WriteError};
use crate::drain::links::Status;
use crate::drain::work::{Key, Work};
use crate::system::clock::UnixMs;
use crate::webhook::Seq;

/// A webhook as far as an order is about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// There is no such webhook.
    Never,
    /// It was not planned yet.
    Unplanned,
    /// It was.
    Planned,
}

/// How far a webhook has come.
///
/// # Errors
/// When SQLite cannot read.
pub fn asked(reader: &Reader, seq: Seq) -> rusqlite::Result<Asked> {
    let exists = |table: &str| {
        let sql = format!("SELECT EXISTS (SELECT 1 FROM {table} WHERE seq = ?1)");
        reader.query_row(&sql, [seq.0], |row| row.get::<_, bool>(0))
    };
    Ok(match (exists("journal")?, exists("events")?) {
        (_, true) => Asked::Planned,
        (true, false) => Asked::Unplanned,
        (false, false) => Asked::Never,
    })
}

/// What the file knows of the links, to be compared with Belvo's list.
#[derive(Debug, Default)]
pub struct Known {
    /// The status of each link that has a row, and the newest webhook about it.
    pub links: BTreeMap<String, (Option<Status>, Seq)>,
    /// When the newest webhook arrived that says there is something to fetch of a list; a deletion does not.
    pub told: BTreeMap<(String, String), UnixMs>,
    /// The lists that have work: when their last complete fetch began.
    pub fetched: BTreeMap<(String, String), Option<UnixMs>>,
}

/// Reads that.
///
/// # Errors
/// When SQLite cannot read.
pub fn known(reader: &Reader) -> rusqlite::Result<Known> {
    let links = reader
        .prepare(
            "SELECT heard.link_id, links.status, max(heard.seq) FROM (
                 SELECT link_id, 0 AS seq FROM links
                  UNION ALL
                 SELECT link_id, wanted FROM work
                  UNION ALL
                 SELECT link_id, seq FROM events WHERE link_id IS NOT NULL AND action <> 'fetch') AS heard
               LEFT JOIN links USING (link_id) GROUP BY heard.link_id",
        )?
        .query_map([], |row| {
            let status: Option<String> = row.get(1)?;
            let status = status.as_deref().and_then(Status::named);
            Ok((row.get(0)?, (status, Seq(row.get(2)?))))
        })?
        .collect::<rusqlite::Result<_>>()?;
    let told = reader
        .prepare(
            "SELECT link_id, resource, max(coalesce(events.received_at, arrivals.received_at))
               FROM events LEFT JOIN arrivals USING (seq)
              WHERE coalesce(events.received_at, arrivals.received_at) IS NOT NULL AND link_id IS NOT NULL AND resource IS NOT NULL AND action = 'fetch' GROUP BY link_id, resource",
        )?
        .query_map([], |row| Ok((pair(row)?, UnixMs(row.get(2)?))))?
        .collect::<rusqlite::Result<_>>()?;
    let fetched = reader
        .prepare("SELECT link_id, resource, fetch_started_at FROM work WHERE object_id = ''")?
        .query_map([], |row| {
            Ok((pair(row)?, row.get::<_, Option<i64>>(2)?.map(UnixMs)))
        })?
        .collect::<rusqlite::Result<_>>()?;
    Ok(Known {
        links,
        told,
        fetched,
    })
}

fn pair(row: &Row<'_>) -> rusqlite::Result<(String, String)> {
    Ok((row.get(0)?, row.get(1)?))
}

/// How a piece of work stands that an operator has ordered.
///
/// # Errors
/// When SQLite cannot read.
pub fn stands(reader: &Reader, key: &Key) -> rusqlite::Result<Option<(Work, Option<Status>)>> {
    let Some(work) = work::load(reader, key)? else {
        return Ok(None);
    };
    Ok(Some((work, status(reader, &key.link_id)?)))
}

fn status(connection: &Connection, link_id: &str) -> rusqlite::Result<Option<Status>> {
    let found: Option<String> = connection
        .prepare_cached("SELECT status FROM links WHERE link_id = ?1")?
        .query_row([link_id], |row| row.get(0))
        .optional()?;
    Ok(found.as_deref().and_then(Status::named))
}

impl Store {
    /// Takes up these pieces of work at once; with `again` also those that are not pending.
    ///
    /// # Errors
    /// When nothing was written.
    pub async fn retry(&self, keys: Vec<Key>, again: bool, now: Times) -> Result<(), WriteError> {
        let retry = move |transaction: &Transaction<'_>| {
            for key in &keys {
                let Some(before) = work::load(transaction, key)? else {
                    continue;
                };
                let after = match again {
                    true if key.resource != LINKS.name => before.reordered(false, now.due),
                    true => record_again(before, now.due),
                    false => before.retried(now.due),
                };
                work::save(transaction, &after)?;
            }
            Ok(())
        };
        self.writer.change_synced(retry).await
    }

    /// Marks these lists, or records of links, as wanted, whole; says which of them. What was erased is left alone.
    ///
    /// # Errors
    /// When nothing was written.
    pub async fn order(
        &self,
        keys: Vec<Key>,
        sweep: bool,
        now: Times,
    ) -> Result<Vec<Key>, WriteError> {
        let order = move |transaction: &Transaction<'_>| {
            let mut ordered = Vec::new();
            for key in keys {
                if status(transaction, &key.link_id)? == Some(Status::Erased) {
                    continue;
                }
                let record = key.resource == LINKS.name;
                // Of those that were planned: what a later one asks for must not count as asked for already.
                let newest = newest_event(transaction, &key.link_id)?;
                let after = match work::load(transaction, &key)? {
                    Some(before) if record => record_again(before, now.due),
                    Some(before) => before.reordered(sweep, now.due),
                    None => Work {
                        sweep,
                        whole: if record { Seq(0) } else { newest },
                        ..Work::ordered(key.clone(), newest, now.due)
                    },
                };
                work::save(transaction, &after)?;
                ordered.push(key);
            }
            Ok(ordered)
        };
        self.writer.change_synced(order).await
    }
}

/// The record of a link once more, and not what it says is to be fetched.
fn record_again(before: Work, now: UnixMs) -> Work {
    let whole = before.whole;
    Work {
        whole,
        ..before.reordered(false, now)
    }
}

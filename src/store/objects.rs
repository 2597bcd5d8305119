//! Belvo's objects by resource and id, as the bytes Belvo sent, and the tombstones of those it deleted. Knows no JSON and
//! no API.

use std::collections::BTreeSet;

use rusqlite::{OptionalExtension, Transaction, params};

use super::erasing::is_erased;
use crate::database::Reader;
use crate::system::clock::UnixMs;
use crate::webhook::Seq;

/// One object to be kept.
#[derive(Clone, Debug)]
pub struct Record {
    /// A name in the catalog.
    pub resource: &'static str,
    /// Its id, unique within the resource.
    pub id: String,
    /// The link it was asked for.
    pub link_id: String,
    /// Whether it names another link itself.
    pub foreign: bool,
    /// Its bytes.
    pub body: String,
    /// The webhook that led to them.
    pub seq: Seq,
}

/// How many objects a put found new, changed, and as they were; and the deleted ones among them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Never seen before.
    pub new: u64,
    /// Seen before with other bytes.
    pub changed: u64,
    /// Not written.
    pub unchanged: u64,
    /// Not taken: deleted by a webhook that the fetch did not know of, or kept for another link.
    pub withheld: u64,
    /// Deleted by an earlier webhook and yet there: they stay deleted unless the listing turns out to be complete.
    pub returned: BTreeSet<String>,
}

impl Tally {
    /// Both together.
    #[must_use]
    pub fn plus(mut self, other: Self) -> Self {
        self.returned.extend(other.returned);
        Self {
            new: self.new + other.new,
            changed: self.changed + other.changed,
            unchanged: self.unchanged + other.unchanged,
            withheld: self.withheld + other.withheld,
            returned: self.returned,
        }
    }

    /// How many were written.
    pub fn written(&self) -> u64 {
        self.new + self.changed
    }
}

/// What is kept of an object.
struct Kept {
    same: bool,
    link_id: String,
    deleted_by: Option<i64>,
}

/// Puts all of the records.
pub(super) fn put(
    transaction: &Transaction<'_>,
    records: &[Record],
    now: UnixMs,
) -> rusqlite::Result<Tally> {
    put_until(transaction, records, now, || false).map(|(tally, _)| tally)
}

/// Puts the records, at least one, until it is to end, and says how many it has put. One whose bytes and link are as they
/// were costs a read and no write. Of an erased link nothing is kept.
pub(super) fn put_until(
    transaction: &Transaction<'_>,
    records: &[Record],
    now: UnixMs,
    is_to_end: impl Fn() -> bool,
) -> rusqlite::Result<(Tally, usize)> {
    let mut tally = Tally::default();
    let Some(first) = records.first() else {
        return Ok((tally, 0));
    };
    if is_erased(transaction, &first.link_id)? {
        return Ok((tally, records.len()));
    }
    for (before, record) in records.iter().enumerate() {
        if before > 0 && is_to_end() {
            return Ok((tally, before));
        }
        match kept(transaction, record)? {
            Some(kept) if kept.deleted_by.is_some_and(|by| by >= record.seq.0) => {
                tally.withheld += 1
            }
            Some(kept) if record.foreign && kept.link_id != record.link_id => tally.withheld += 1,
            Some(kept) => {
                if kept.deleted_by.is_some() {
                    tally.returned.insert(record.id.clone());
                }
                if kept.same {
                    tally.unchanged += 1;
                } else {
                    tally.changed += 1;
                    change(transaction, record, now)?;
                }
            }
            None => {
                tally.new += 1;
                add(transaction, record, now)?;
            }
        }
    }
    Ok((tally, records.len()))
}

fn kept(transaction: &Transaction<'_>, record: &Record) -> rusqlite::Result<Option<Kept>> {
    transaction
        .prepare_cached(
            "SELECT body IS ?3 AND link_id = ?4, link_id, deleted_by FROM objects WHERE resource = ?1 AND id = ?2",
        )?
        .query_row(
            params![record.resource, record.id, record.body, record.link_id],
            |row| {
                Ok(Kept {
                    same: row.get(0)?,
                    link_id: row.get(1)?,
                    deleted_by: row.get(2)?,
                })
            },
        )
        .optional()
}

/// Two statements where one could do both: one that may insert or update keeps a journal of its own.
fn add(transaction: &Transaction<'_>, record: &Record, now: UnixMs) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO objects (resource, id, link_id, body, first_seen_at, last_changed_at, seq)
             VALUES (?1, ?2, ?3, ?4, ?5, ?5, ?6)",
        )?
        .execute(params![
            record.resource,
            record.id,
            record.link_id,
            record.body,
            now.0,
            record.seq.0
        ])
        .map(drop)
}

fn change(transaction: &Transaction<'_>, record: &Record, now: UnixMs) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "UPDATE objects SET link_id = ?3, body = ?4, last_changed_at = ?5, seq = ?6 WHERE resource = ?1 AND id = ?2",
        )?
        .execute(params![
            record.resource,
            record.id,
            record.link_id,
            record.body,
            now.0,
            record.seq.0
        ])
        .map(drop)
}

/// Marks objects as deleted by the webhook `seq`, also those that were never seen. Doing it twice changes nothing. Of an
/// erased link nothing is kept.
pub(super) fn bury<'a>(
    transaction: &Transaction<'_>,
    resource: &str,
    link_id: &str,
    ids: impl IntoIterator<Item = &'a String>,
    seq: Seq,
    now: UnixMs,
) -> rusqlite::Result<()> {
    if is_erased(transaction, link_id)? {
        return Ok(());
    }
    let mut bury = transaction.prepare_cached(
        "INSERT INTO objects (resource, id, link_id, first_seen_at, last_changed_at, seq, deleted_at, deleted_by)
         VALUES (?1, ?2, ?3, ?4, ?4, ?5, ?4, ?5)
         ON CONFLICT (resource, id) DO UPDATE
         SET deleted_at = coalesce(deleted_at, excluded.deleted_at), deleted_by = excluded.deleted_by
         WHERE coalesce(deleted_by, -1) < excluded.deleted_by",
    )?;
    ids.into_iter().try_for_each(|id| {
        bury.execute(params![resource, id, link_id, now.0, seq.0])
            .map(drop)
    })
}

/// Takes back the tombstones of objects that a complete listing for the webhook `seq` holds. One that was never seen when
/// it was deleted has its bytes by now.
pub(super) fn unbury(
    transaction: &Transaction<'_>,
    resource: &str,
    ids: &BTreeSet<String>,
    seq: Seq,
    now: UnixMs,
) -> rusqlite::Result<()> {
    let mut unbury = transaction.prepare_cached(
        "UPDATE objects SET deleted_at = NULL, deleted_by = NULL, last_changed_at = ?4
          WHERE resource = ?1 AND id = ?2 AND deleted_by < ?3 AND body IS NOT NULL",
    )?;
    ids.iter().try_for_each(|id| {
        unbury
            .execute(params![resource, id, seq.0, now.0])
            .map(drop)
    })
}

/// The ids of the live objects of a link for which `is_listed` is false.
///
/// # Errors
/// When SQLite cannot read.
pub fn missing(
    reader: &Reader,
    link_id: &str,
    resource: &str,
    is_listed: impl Fn(&str) -> bool,
) -> rusqlite::Result<Vec<String>> {
    let mut live = reader.prepare_cached(
        "SELECT id FROM objects WHERE link_id = ?1 AND resource = ?2 AND deleted_at IS NULL",
    )?;
    let mut rows = live.query([link_id, resource])?;
    let mut missing = Vec::new();
    while let Some(row) = rows.next()? {
        let id: String = row.get(0)?;
        if !is_listed(&id) {
            missing.push(id);
        }
    }
    Ok(missing)
}

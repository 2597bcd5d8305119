//! Belvo's objects by resource and id, as the bytes Belvo sent. Knows no JSON and no API.

use rusqlite::{Transaction, params};

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
    /// Its bytes.
    pub body: String,
    /// The webhook that led to them.
    pub seq: Seq,
}

/// How many objects a put found new, changed, and as they were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Never seen before.
    pub new: u64,
    /// Seen before with other bytes.
    pub changed: u64,
    /// Not written.
    pub unchanged: u64,
}

impl Tally {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            new: self.new + other.new,
            changed: self.changed + other.changed,
            unchanged: self.unchanged + other.unchanged,
        }
    }

    /// How many were written.
    pub fn written(self) -> u64 {
        self.new + self.changed
    }
}

/// Puts the records. One whose bytes and link are as they were costs a read and no write.
pub(super) fn put(
    transaction: &Transaction<'_>,
    records: &[Record],
    now: UnixMs,
) -> rusqlite::Result<Tally> {
    let mut same = transaction.prepare_cached(
        "SELECT body = ?3 AND link_id = ?4 FROM objects WHERE resource = ?1 AND id = ?2",
    )?;
    let mut put = transaction.prepare_cached(
        "INSERT INTO objects (resource, id, link_id, body, first_seen_at, last_changed_at, seq)
         VALUES (?1, ?2, ?4, ?3, ?5, ?5, ?6)
         ON CONFLICT (resource, id) DO UPDATE
         SET link_id = excluded.link_id, body = excluded.body, last_changed_at = excluded.last_changed_at, seq = excluded.seq",
    )?;
    let mut tally = Tally::default();
    for Record {
        resource,
        id,
        link_id,
        body,
        seq,
    } in records
    {
        let found = same
            .query_map(params![resource, id, body, link_id], |row| {
                row.get::<_, bool>(0)
            })?
            .next()
            .transpose()?;
        match found {
            Some(true) => tally.unchanged += 1,
            Some(false) => tally.changed += 1,
            None => tally.new += 1,
        }
        if found != Some(true) {
            put.execute(params![resource, id, body, link_id, now.0, seq.0])?;
        }
    }
    Ok(tally)
}

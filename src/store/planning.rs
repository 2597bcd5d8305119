//! The result of planning: events, wishes and the cursor, in one transaction. The decisions were made before.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{OptionalExtension, Transaction, params};

use super::{problems, work};
use crate::database::Reader;
use crate::drain::plan::Planned;
use crate::drain::work::{Key, Work};
use crate::system::clock::UnixMs;
use crate::webhook::Seq;

/// Keeps the events, marks the work, moves the cursor to the newest of them; whoever was let in has no authorization
/// problem any more. Doing it twice changes nothing.
pub(super) fn apply(
    transaction: &Transaction<'_>,
    planned: &[Planned],
    now: UnixMs,
) -> rusqlite::Result<()> {
    let mut wished: BTreeMap<&Key, Vec<Seq>> = BTreeMap::new();
    for event in planned {
        put_event(transaction, event)?;
        if let Some(key) = &event.wish {
            wished.entry(key).or_default().push(event.seq);
        }
    }
    for (key, seqs) in wished {
        wish(transaction, key, &seqs, now)?;
    }
    let peers: BTreeSet<&String> = planned
        .iter()
        .filter_map(|event| event.authorized.as_ref())
        .collect();
    for peer in peers {
        let over = problems::Change::Close(problems::Kind::AuthorizationMismatch, peer.clone());
        problems::apply(transaction, &[over], now)?;
    }
    problems::expire(transaction, now)?;
    let newest = planned
        .iter()
        .map(|event| event.seq)
        .max()
        .unwrap_or_default();
    transaction
        .prepare_cached("UPDATE meta SET value = max(value, ?1) WHERE key = 'planned_to'")?
        .execute([newest.0])
        .map(drop)
}

/// Notes by which catalog everything up to the cursor was planned.
pub(super) fn planned_by(transaction: &Transaction<'_>, catalog: &str) -> rusqlite::Result<()> {
    transaction
        .execute(
            "INSERT OR REPLACE INTO meta VALUES ('catalog', ?1)",
            [catalog],
        )
        .map(drop)
}

/// The catalog that was noted last.
///
/// # Errors
/// When SQLite cannot read.
pub fn catalog(reader: &Reader) -> rusqlite::Result<Option<String>> {
    reader
        .query_row("SELECT value FROM meta WHERE key = 'catalog'", [], |row| {
            row.get(0)
        })
        .optional()
}

/// Webhooks after `from` that were unknown when they were planned, oldest first, `limit` at most.
///
/// # Errors
/// When SQLite cannot read.
pub fn unknown_after(reader: &Reader, from: Seq, limit: u32) -> rusqlite::Result<Vec<Seq>> {
    reader
        .prepare_cached(
            "SELECT seq FROM events WHERE action = 'unknown' AND seq > ?1 ORDER BY seq LIMIT ?2",
        )?
        .query_map(params![from.0, limit], |row| row.get(0).map(Seq))?
        .collect()
}

fn wish(
    transaction: &Transaction<'_>,
    key: &Key,
    seqs: &[Seq],
    now: UnixMs,
) -> rusqlite::Result<()> {
    let found = work::load(transaction, key)?;
    let wished = seqs.iter().fold(found.clone(), |work, seq| {
        Some(match work {
            Some(work) => work.wished(*seq, now),
            None => Work::new(key.clone(), *seq, now),
        })
    });
    match wished {
        Some(work) if found.as_ref() != Some(&work) => work::save(transaction, &work),
        _ => Ok(()),
    }
}

fn put_event(transaction: &Transaction<'_>, event: &Planned) -> rusqlite::Result<()> {
    let envelope = &event.envelope;
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO events (seq, webhook_id, type, code, process_type, link_id, external_id, request_id,
                                            action, resource, duplicate_of)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        )?
        .execute(params![
            event.seq.0,
            envelope.webhook_id,
            envelope.kind,
            envelope.code,
            envelope.process_type,
            envelope.link_id,
            envelope.external_id,
            envelope.request_id,
            event.action.name(),
            event.wish.as_ref().map(|key| &key.resource),
            event.duplicate_of.map(|seq| seq.0),
        ])
        .map(drop)
}

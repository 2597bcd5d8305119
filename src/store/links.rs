//! The rows of `links`: read, moved, written back. The legal moves are `drain::links`'s; this only stores the result, and
//! what follows for the link's work and problems.

use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use super::{problems, work};
use crate::drain::links::{self, Link, Status};
use crate::system::clock::UnixMs;
use crate::webhook::Seq;

/// The state of one link.
///
/// # Errors
/// When SQLite cannot read.
pub fn load(connection: &Connection, link_id: &str) -> rusqlite::Result<Option<Link>> {
    connection
        .prepare_cached(
            "SELECT status, since_at, reason, seq, institution FROM links WHERE link_id = ?1",
        )?
        .query_row([link_id], link)
        .optional()
}

fn link(row: &Row<'_>) -> rusqlite::Result<Link> {
    let status: String = row.get(0)?;
    Ok(Link {
        // A word of a newer program: nothing is fetched until that is there again.
        status: Status::named(&status).unwrap_or(Status::Unconfirmed),
        since: UnixMs(row.get(1)?),
        reason: row.get(2)?,
        seq: Seq(row.get(3)?),
        institution: row.get(4)?,
    })
}

/// The newest webhook about a link, or nothing older than any when there is none. What asks for a fetch is known by what it
/// asked for.
///
/// # Errors
/// When SQLite cannot read.
pub fn newest_event(connection: &Connection, link_id: &str) -> rusqlite::Result<Seq> {
    connection
        .prepare_cached(
            "SELECT coalesce(max(seq), 0) FROM (
                 SELECT max(wanted) AS seq FROM work WHERE link_id = ?1
                  UNION ALL
                 SELECT max(seq) FROM events WHERE link_id = ?1 AND action <> 'fetch')",
        )?
        .query_row([link_id], |row| row.get(0).map(Seq))
}

/// Keeps the state after a move. A link that works again has its work taken up at `due`.
pub(super) fn save(
    transaction: &Transaction<'_>,
    link_id: &str,
    before: Option<&Link>,
    after: &Link,
    now: UnixMs,
    due: UnixMs,
) -> rusqlite::Result<()> {
    if before == Some(after) {
        return Ok(());
    }
    transaction
        .prepare_cached(
            "INSERT INTO links (link_id, status, since_at, reason, seq, institution) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (link_id) DO UPDATE
             SET status = excluded.status, since_at = excluded.since_at, reason = excluded.reason, seq = excluded.seq",
        )?
        .execute(params![
            link_id,
            after.status.name(),
            after.since.0,
            after.reason,
            after.seq.0,
            after.institution
        ])?;
    let works = |link: Option<&Link>| link.is_none_or(|link| link.status == Status::Valid);
    if !works(before) && works(Some(after)) {
        work::lift(transaction, link_id, due)?;
    }
    if before.map(|link| link.status) != Some(after.status) {
        problems::apply(transaction, &[links::problem(link_id, after)], now)?;
    }
    Ok(())
}

/// Keeps Belvo's record of a link whose state is kept.
pub(super) fn put_record(
    transaction: &Transaction<'_>,
    link_id: &str,
    institution: Option<&str>,
    last_accessed_at: Option<&str>,
    body: &str,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "UPDATE links SET institution = coalesce(?2, institution), last_accessed_at = ?3, body = ?4
              WHERE link_id = ?1 AND status <> 'erased'
                AND (institution IS NOT coalesce(?2, institution) OR last_accessed_at IS NOT ?3 OR body IS NOT ?4)",
        )?
        .execute(params![link_id, institution, last_accessed_at, body])
        .map(drop)
}

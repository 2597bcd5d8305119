//! The rows of `consents`: read, moved, written back. The legal moves are `drain::consents`'s; this only stores the result
//! and the problems that it is.

use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use super::problems;
use crate::drain::consents::{self, Consent, Limited, Status};
use crate::system::clock::UnixMs;
use crate::webhook::Seq;

/// The state of one consent.
///
/// # Errors
/// When SQLite cannot read.
pub fn load(connection: &Connection, consent_id: &str) -> rusqlite::Result<Option<Consent>> {
    connection
        .prepare_cached(
            "SELECT status, since_at, reason, seq, coalesce(link_id, ''), due_date, limited, renewal, renewal_url
               FROM consents WHERE consent_id = ?1",
        )?
        .query_row([consent_id], consent)
        .optional()
}

fn consent(row: &Row<'_>) -> rusqlite::Result<Consent> {
    let status: String = row.get(0)?;
    let limited: Option<String> = row.get(6)?;
    Ok(Consent {
        status: Status::named(&status).unwrap_or(Status::Unknown),
        since: UnixMs(row.get(1)?),
        reason: row.get(2)?,
        seq: Seq(row.get(3)?),
        link_id: row.get(4)?,
        due_date: row.get(5)?,
        limited: limited.as_deref().and_then(Limited::named),
        renewal: row.get(7)?,
        renewal_url: row.get(8)?,
    })
}

/// The consents of a link whose record may say more than the last webhook did.
pub(super) fn in_doubt(
    transaction: &Transaction<'_>,
    link_id: &str,
) -> rusqlite::Result<Vec<String>> {
    transaction
        .prepare_cached(
            "SELECT consent_id FROM consents WHERE link_id = ?1 AND status IN ('expiring', 'expired', 'revoked')",
        )?
        .query_map([link_id], |row| row.get(0))?
        .collect()
}

/// Keeps the state after a move, and opens and closes the problems that go with it.
pub(super) fn save(
    transaction: &Transaction<'_>,
    consent_id: &str,
    before: Option<&Consent>,
    after: &Consent,
    now: UnixMs,
) -> rusqlite::Result<()> {
    if before == Some(after) {
        return Ok(());
    }
    transaction
        .prepare_cached(
            "INSERT INTO consents (consent_id, link_id, status, since_at, reason, seq, due_date, limited, renewal, renewal_url)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
             ON CONFLICT (consent_id) DO UPDATE
             SET link_id = excluded.link_id, status = excluded.status, since_at = excluded.since_at,
                 reason = excluded.reason, seq = excluded.seq, due_date = excluded.due_date, limited = excluded.limited,
                 renewal = excluded.renewal, renewal_url = excluded.renewal_url",
        )?
        .execute(params![
            consent_id,
            after.link_id,
            after.status.name(),
            after.since.0,
            after.reason,
            after.seq.0,
            after.due_date,
            after.limited.map(Limited::name),
            after.renewal,
            after.renewal_url
        ])?;
    problems::apply(transaction, &consents::problems(consent_id, after), now)
}

/// Keeps Belvo's record of a consent whose state is kept.
pub(super) fn put_record(
    transaction: &Transaction<'_>,
    consent_id: &str,
    body: &str,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("UPDATE consents SET body = ?2 WHERE consent_id = ?1 AND body IS NOT ?2")?
        .execute([consent_id, body])
        .map(drop)
}

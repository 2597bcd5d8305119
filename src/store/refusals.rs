//! The last refused requests: a ring in the file, without bodies.

use rusqlite::{Transaction, params};

use crate::limits::REFUSALS_KEPT;
use crate::notices::Reason;
use crate::system::clock::UnixMs;

/// One or several alike refused requests.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// When the last of them came.
    pub at: UnixMs,
    /// Who was refused.
    pub peer: String,
    /// Why.
    pub reason: Reason,
    /// The HTTP status, if there was an answer.
    pub status: Option<u16>,
    /// How many.
    pub count: u64,
}

pub(super) fn add(transaction: &Transaction<'_>, refusals: &[Refusal]) -> rusqlite::Result<()> {
    let mut insert = transaction.prepare_cached(
        "INSERT INTO refusals (at, peer, reason, status, count) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    let mut newest = None;
    for refusal in refusals {
        let count = i64::try_from(refusal.count).unwrap_or(i64::MAX);
        newest = Some(insert.insert(params![
            refusal.at.0,
            refusal.peer,
            refusal.reason.name(),
            refusal.status,
            count
        ])?);
    }
    match newest {
        Some(newest) => transaction
            .prepare_cached("DELETE FROM refusals WHERE refusal <= ?1")?
            .execute([newest - REFUSALS_KEPT])
            .map(drop),
        None => Ok(()),
    }
}

//! The received webhooks with what became of them, as the view `inbox` has them. Only reads.

use rusqlite::{OptionalExtension, Row, params};
use serde::Serialize;

use crate::database::Reader;

/// A received webhook and what became of it: a row of the view.
#[derive(Debug, Serialize)]
pub struct Event {
    /// Its place in the journal.
    pub seq: i64,
    /// When it was received, RFC 3339 in UTC.
    pub received_at: String,
    /// `webhook_type`.
    pub r#type: Option<String>,
    /// `webhook_code`.
    pub code: Option<String>,
    /// The link it is about.
    pub link_id: Option<String>,
    /// Belvo's id of the request that caused it.
    pub request_id: Option<String>,
    /// What it leads to, a name in the catalog.
    pub resource: Option<String>,
    /// waiting, done, blocked, failed, nothing-to-do or unknown.
    pub state: String,
    /// What the last failure of its fetch said.
    pub error: Option<String>,
    /// An earlier one with the same id and bytes.
    pub duplicate_of: Option<i64>,
    /// Who sent it.
    pub peer: String,
    /// Its bytes, when it is shown alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
}

const COLUMNS: &str =
    "seq, received_at, type, code, link_id, request_id, resource, state, error, duplicate_of, peer";

/// The newest webhooks, newest first.
///
/// # Errors
/// When SQLite cannot read.
pub fn list(connection: &Reader, limit: u32) -> rusqlite::Result<Vec<Event>> {
    connection
        .prepare(&format!(
            "SELECT {COLUMNS} FROM inbox ORDER BY seq DESC LIMIT ?1"
        ))?
        .query_map(params![limit], event)?
        .collect()
}

/// One webhook, with its body.
///
/// # Errors
/// When SQLite cannot read.
pub fn show(connection: &Reader, seq: i64) -> rusqlite::Result<Option<Event>> {
    connection
        .prepare(&format!("SELECT {COLUMNS}, body FROM inbox WHERE seq = ?1"))?
        .query_row(params![seq], |row| {
            Ok(Event {
                body: row.get(11)?,
                ..event(row)?
            })
        })
        .optional()
}

fn event(row: &Row<'_>) -> rusqlite::Result<Event> {
    Ok(Event {
        seq: row.get(0)?,
        received_at: row.get(1)?,
        r#type: row.get(2)?,
        code: row.get(3)?,
        link_id: row.get(4)?,
        request_id: row.get(5)?,
        resource: row.get(6)?,
        state: row.get(7)?,
        error: row.get(8)?,
        duplicate_of: row.get(9)?,
        peer: row.get(10)?,
        body: None,
    })
}

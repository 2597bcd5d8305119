//! The received webhooks with what became of them, as the view `inbox` has them. Only reads.

use rusqlite::{OptionalExtension, Row, params};
use serde::Serialize;

use crate::database::Reader;
use crate::system::clock::UnixMs;

/// A received webhook and what became of it: a row of the view.
#[derive(Debug, Serialize)]
pub struct Event {
    /// Its place in the journal.
    pub seq: i64,
    /// When it was received, RFC 3339 in UTC.
    pub received_at: Option<String>,
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
    /// Who sent it; nobody knows any more when its journal row has gone by retention.
    pub peer: Option<String>,
    /// Its bytes, when it is shown alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
}

const COLUMNS: &str =
    "seq, received_at, type, code, link_id, request_id, resource, state, error, duplicate_of, peer";

/// Which webhooks are listed; what is not given does not narrow it.
#[derive(Clone, Debug, Default)]
pub struct Narrowed {
    /// Received at this time or later.
    pub since: Option<UnixMs>,
    /// Received before this time.
    pub until: Option<UnixMs>,
    /// `webhook_type`, upper and lower case being the same.
    pub r#type: Option<String>,
    /// `webhook_code`, likewise.
    pub code: Option<String>,
    /// The link.
    pub link_id: Option<String>,
    /// One of the view's states.
    pub state: Option<String>,
}

/// The states of the view.
pub const STATES: [&str; 8] = [
    "waiting",
    "done",
    "blocked",
    "failed",
    "cancelled",
    "nothing-to-do",
    "unknown",
    "erased",
];

/// The newest webhooks of these, newest first.
///
/// # Errors
/// When SQLite cannot read.
pub fn list(connection: &Reader, narrowed: &Narrowed, limit: u32) -> rusqlite::Result<Vec<Event>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM inbox
          WHERE (?2 IS NULL OR received_at >= ?2) AND (?3 IS NULL OR received_at < ?3)
            AND (?4 IS NULL OR type = ?4 COLLATE NOCASE) AND (?5 IS NULL OR code = ?5 COLLATE NOCASE)
            AND (?6 IS NULL OR link_id = ?6) AND (?7 IS NULL OR state = ?7)
          ORDER BY seq DESC LIMIT ?1"
    );
    // The view writes times as we do, so that their texts compare like the times.
    let text = |at: Option<UnixMs>| at.map(|at| at.to_string());
    connection
        .prepare(&sql)?
        .query_map(
            params![
                limit,
                text(narrowed.since),
                text(narrowed.until),
                narrowed.r#type,
                narrowed.code,
                narrowed.link_id,
                narrowed.state
            ],
            event,
        )?
        .collect()
}

/// What became of one webhook, besides its state.
#[derive(Debug, Default, Serialize)]
pub struct Became {
    /// The work that it asked for, as it stands now.
    pub work: Vec<Asked>,
    /// Whether there is more work than that.
    pub more_work: bool,
    /// The objects that it marked as deleted and that are deleted still.
    pub deleted: Vec<Deleted>,
    /// How many those are.
    pub deleted_count: i64,
    /// The state of its link, when no later webhook had a say.
    pub link: Option<Stands>,
    /// The states of consents, likewise.
    pub consents: Vec<Stands>,
}

/// A piece of work: a row of the view `freshness`.
#[derive(Debug, Serialize)]
pub struct Asked {
    /// A name in the catalog.
    pub resource: String,
    /// Empty for the list of the link.
    pub object_id: String,
    /// fresh, waiting, retrying, failed, blocked or cancelled.
    pub state: String,
    /// Failures in a row.
    pub attempts: i64,
    /// What the last one said.
    pub last_error: Option<String>,
    /// When it is tried next.
    pub next_try: Option<String>,
    /// When it was last fetched whole.
    pub last_fetched: Option<String>,
}

/// An object that was marked as deleted.
#[derive(Debug, Serialize)]
pub struct Deleted {
    /// A name in the catalog.
    pub resource: String,
    /// Its id.
    pub id: String,
}

/// How a link or consent stands.
#[derive(Debug, Serialize)]
pub struct Stands {
    /// Its id.
    pub id: String,
    /// Its state.
    pub status: String,
    /// What said so.
    pub reason: String,
}

/// Rows that are shown of each kind; more are counted.
const SHOWN_MAX: usize = 100;

/// What became of a webhook.
///
/// # Errors
/// When SQLite cannot read.
pub fn became(connection: &Reader, event: &Event) -> rusqlite::Result<Became> {
    let Some(link_id) = &event.link_id else {
        return Ok(Became::default());
    };
    let mut work: Vec<_> = connection
        .prepare(
            "SELECT resource, object_id, state, freshness.attempts, freshness.last_error, next_try, last_fetched
               FROM freshness JOIN work USING (link_id, resource, object_id)
              WHERE link_id = ?1 AND work.wanted >= ?3 AND (resource = ?2 OR ?2 IS NULL AND resource IN ('links', 'consents'))
              ORDER BY state = 'fresh', resource, object_id LIMIT ?4",
        )?
        .query_map(
            params![link_id, event.resource, event.seq, SHOWN_MAX as i64 + 1],
            |row| {
                Ok(Asked {
                    resource: row.get(0)?,
                    object_id: row.get(1)?,
                    state: row.get(2)?,
                    attempts: row.get(3)?,
                    last_error: row.get(4)?,
                    next_try: row.get(5)?,
                    last_fetched: row.get(6)?,
                })
            },
        )?
        .collect::<rusqlite::Result<_>>()?;
    let more_work = work.len() > SHOWN_MAX;
    work.truncate(SHOWN_MAX);
    let of_it = params![link_id, event.seq];
    let deleted = connection
        .prepare(&format!(
            "SELECT resource, id FROM objects WHERE link_id = ?1 AND deleted_by = ?2 LIMIT {SHOWN_MAX}"
        ))?
        .query_map(of_it, |row| {
            Ok(Deleted {
                resource: row.get(0)?,
                id: row.get(1)?,
            })
        })?
        .collect::<rusqlite::Result<_>>()?;
    let deleted_count = connection.query_row(
        "SELECT count(*) FROM objects WHERE link_id = ?1 AND deleted_by = ?2",
        of_it,
        |row| row.get(0),
    )?;
    let stands = |row: &Row<'_>| {
        Ok(Stands {
            id: row.get(0)?,
            status: row.get(1)?,
            reason: row.get(2)?,
        })
    };
    let link = connection
        .prepare("SELECT link_id, status, reason FROM links WHERE link_id = ?1 AND seq = ?2")?
        .query_row(of_it, stands)
        .optional()?;
    let consents = connection
        .prepare("SELECT consent_id, status, reason FROM consents WHERE link_id = ?1 AND seq = ?2 ORDER BY consent_id")?
        .query_map(of_it, stands)?
        .collect::<rusqlite::Result<_>>()?;
    Ok(Became {
        work,
        more_work,
        deleted,
        deleted_count,
        link,
        consents,
    })
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

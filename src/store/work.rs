//! The rows of `work`: read, moved, written back. The legal moves are `drain::work`'s; this only stores the result.

use rusqlite::{Connection, OptionalExtension, Row, ToSql, Transaction, params};

use crate::drain::work::{Block, Failure, Fetch, Key, Proof, Work};
use crate::limits::LONGEST_WAIT;
use crate::system::clock::UnixMs;
use crate::webhook::Seq;

const COLUMNS: &str = "link_id, resource, object_id, wanted, fetched, asked, attempts, due_at, blocked_by, last_error, \
                       error_class, request_id, fetch_started_at, fetched_at, objects_found, objects_changed, whole, \
                       listed_at, whole_listed_at, missing, sweep, page_size";

/// Pending, and not held up by itself or by its link: of a link that needs its user, or is gone, only records are read.
const READY: &str = "wanted > fetched AND blocked_by IS NULL AND NOT EXISTS (
    SELECT 1 FROM links WHERE links.link_id = work.link_id
       AND (status = 'erased' OR (status <> 'valid' AND resource NOT IN ('links', 'consents'))))";

/// One piece of work.
///
/// # Errors
/// When SQLite cannot read.
pub fn load(connection: &Connection, key: &Key) -> rusqlite::Result<Option<Work>> {
    connection
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM work WHERE link_id = ?1 AND resource = ?2 AND object_id = ?3"
        ))?
        .query_row(params![key.link_id, key.resource, key.object_id], work)
        .optional()
}

/// Which work an operator means; what is not given does not narrow it.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// What this webhook asked for.
    pub event: Option<Seq>,
    /// Of this link.
    pub link_id: Option<String>,
    /// Of this resource.
    pub resource: Option<String>,
    /// Whose last failure is of this class.
    pub class: Option<String>,
    /// Also what is not pending.
    pub fetched: bool,
}

/// The work that is meant, oldest wish first, `limit` at most, each with the status of its link; nothing of an erased one,
/// and of a deleted one, which has nothing new, only what is pending.
///
/// # Errors
/// When SQLite cannot read.
pub fn selected(
    connection: &Connection,
    selection: &Selection,
    limit: usize,
) -> rusqlite::Result<Vec<(Work, Option<String>)>> {
    let sql = format!(
        "SELECT {COLUMNS}, (SELECT status FROM links WHERE links.link_id = work.link_id) AS link_status FROM work
          WHERE (?1 OR wanted > fetched)
            AND (?2 IS NULL OR link_id = ?2)
            AND (?3 IS NULL OR resource = ?3)
            AND (?4 IS NULL OR error_class = ?4)
            AND (?5 IS NULL OR EXISTS (
                SELECT 1 FROM events
                 WHERE events.seq = ?5 AND events.link_id = work.link_id
                   AND (events.resource = work.resource OR events.resource IS NULL AND work.resource IN ('links', 'consents'))
                   AND (wanted > fetched AND ?5 BETWEEN asked AND wanted OR ?1 AND wanted >= ?5)))
            AND link_status IS NOT 'erased' AND (wanted > fetched OR link_status IS NOT 'deleted')
          ORDER BY asked, link_id, resource, object_id LIMIT ?6"
    );
    connection
        .prepare_cached(&sql)?
        .query_map(
            params![
                selection.fetched,
                selection.link_id,
                selection.resource,
                selection.class,
                selection.event.map(|seq| seq.0),
                limit as i64
            ],
            |row| Ok((work(row)?, row.get(22)?)),
        )?
        .collect()
}

/// The oldest wish of each link on these resources that is due at `now`, oldest first. A link's record comes before what
/// was wished with it.
///
/// # Errors
/// When SQLite cannot read.
pub fn due(
    connection: &Connection,
    now: UnixMs,
    resources: &[&str],
) -> rusqlite::Result<Vec<Work>> {
    let marks = marks(resources);
    let sql = format!(
        "SELECT {COLUMNS}, min(asked * 2 + (resource <> 'links')) AS oldest FROM work
          WHERE {READY} AND (due_at <= ? OR due_at > ?) AND resource IN ({marks})
          GROUP BY link_id ORDER BY oldest"
    );
    let (now, far) = (now.0, now.plus(LONGEST_WAIT).0);
    let mut values: Vec<&dyn ToSql> = vec![&now, &far];
    values.extend(resources.iter().map(|name| name as &dyn ToSql));
    connection
        .prepare_cached(&sql)?
        .query_map(&values[..], work)?
        .collect()
}

/// When the next piece of work on these resources will be due that is not due at `now`.
///
/// # Errors
/// When SQLite cannot read.
pub fn next_due_at(
    connection: &Connection,
    now: UnixMs,
    resources: &[&str],
) -> rusqlite::Result<Option<UnixMs>> {
    let marks = marks(resources);
    let sql = format!(
        "SELECT min(due_at) FROM work WHERE {READY} AND due_at > ? AND resource IN ({marks})"
    );
    let mut values: Vec<&dyn ToSql> = vec![&now.0];
    values.extend(resources.iter().map(|name| name as &dyn ToSql));
    let at: Option<i64> = connection
        .prepare_cached(&sql)?
        .query_row(&values[..], |row| row.get(0))?;
    Ok(at.map(UnixMs))
}

/// Takes the pending work of a link up at once, but for what failed for reasons of its own.
pub(super) fn lift(
    transaction: &Transaction<'_>,
    link_id: &str,
    due: UnixMs,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "UPDATE work SET due_at = ?2, attempts = 0
              WHERE link_id = ?1 AND wanted > fetched AND blocked_by IS NULL AND error_class = 'link'",
        )?
        .execute(params![link_id, due.0])
        .map(drop)
}

/// Moves all due times by so many milliseconds, since the clock that they are counted by was set.
pub(super) fn put_off(transaction: &Transaction<'_>, step: i64) -> rusqlite::Result<()> {
    transaction
        .execute(
            "UPDATE work SET due_at = due_at + ?1 WHERE due_at IS NOT NULL",
            [step],
        )
        .map(drop)
}

/// Forgets work that was done for good.
pub(super) fn forget(transaction: &Transaction<'_>, key: &Key) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("DELETE FROM work WHERE link_id = ?1 AND resource = ?2 AND object_id = ?3")?
        .execute(params![key.link_id, key.resource, key.object_id])
        .map(drop)
}

/// Forgets all work of a link.
pub(super) fn forget_link(transaction: &Transaction<'_>, link_id: &str) -> rusqlite::Result<usize> {
    transaction
        .prepare_cached("DELETE FROM work WHERE link_id = ?1")?
        .execute([link_id])
}

fn marks(values: &[&str]) -> String {
    vec!["?"; values.len()].join(", ")
}

pub(super) fn save(transaction: &Transaction<'_>, work: &Work) -> rusqlite::Result<()> {
    let failure = work.last_failure.as_ref();
    transaction
        .prepare_cached(&format!("INSERT OR REPLACE INTO work ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22)"))?
        .execute(params![
            work.key.link_id,
            work.key.resource,
            work.key.object_id,
            work.wanted.0,
            work.fetched.0,
            work.asked.0,
            work.attempts,
            work.due_at.map(|at| at.0),
            work.blocked_by.map(Block::name),
            failure.map(|failure| &failure.text),
            failure.map(|failure| &failure.class),
            failure.and_then(|failure| failure.request_id.as_ref()),
            work.last_fetch.map(|fetch| fetch.started_at.0),
            work.last_fetch.map(|fetch| fetch.finished_at.0),
            work.last_fetch.map(|fetch| fetch.found as i64),
            work.last_fetch.map(|fetch| fetch.changed as i64),
            work.whole.0,
            work.listed_at.map(|at| at.0),
            work.whole_listed_at.map(|at| at.0),
            work.missing.map(|missing| missing as i64),
            work.sweep,
            work.page_size,
        ])
        .map(drop)
}

fn work(row: &Row<'_>) -> rusqlite::Result<Work> {
    let failure = |text: String, class: Option<String>, request_id| Failure {
        text,
        class: class.unwrap_or_default(),
        request_id,
    };
    let text: Option<String> = row.get(9)?;
    let (class, request_id) = (row.get(10)?, row.get(11)?);
    let fetch: Option<(i64, i64, i64, i64)> = match row.get(12)? {
        Some(started_at) => Some((started_at, row.get(13)?, row.get(14)?, row.get(15)?)),
        None => None,
    };
    Ok(Work {
        key: Key {
            link_id: row.get(0)?,
            resource: row.get(1)?,
            object_id: row.get(2)?,
        },
        wanted: Seq(row.get(3)?),
        fetched: Seq(row.get(4)?),
        asked: Seq(row.get(5)?),
        attempts: row.get(6)?,
        due_at: row.get::<_, Option<i64>>(7)?.map(UnixMs),
        blocked_by: row
            .get::<_, Option<String>>(8)?
            .as_deref()
            .and_then(Block::named),
        last_failure: text.map(|text| failure(text, class, request_id)),
        last_fetch: fetch.map(|(started_at, finished_at, found, changed)| Fetch {
            started_at: UnixMs(started_at),
            finished_at: UnixMs(finished_at),
            found: found.unsigned_abs(),
            changed: changed.unsigned_abs(),
            // What it proved is in the columns below.
            proves: Proof::Nothing,
        }),
        whole: Seq(row.get(16)?),
        listed_at: row.get::<_, Option<i64>>(17)?.map(UnixMs),
        whole_listed_at: row.get::<_, Option<i64>>(18)?.map(UnixMs),
        missing: row.get::<_, Option<i64>>(19)?.map(i64::unsigned_abs),
        sweep: row.get(20)?,
        page_size: row.get(21)?,
    })
}

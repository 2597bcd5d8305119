//! The tables beside the journal: what was planned, what is to be fetched, the objects by resource and id, problems and
//! refusals. Each change is one short transaction on the writer's thread. Never knows why it was called.

pub mod inbox;
pub mod objects;
pub mod planning;
pub mod problems;
pub mod refusals;
pub mod summary;
pub mod work;

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use crate::database::{Views, WriteError, Writer};
use crate::drain::plan::Planned;
use crate::drain::work::{Key, Work};
use crate::system::clock::UnixMs;
use crate::webhook::Seq;

use objects::{Record, Tally};
use problems::Problem;
use refusals::Refusal;

/// The views that admins read.
pub const VIEWS: Views = Views(include_str!("views.sql"));

/// Work after its move, and the problems that come or go with it.
pub type Settled = (Work, Vec<problems::Change>);

/// The handle to everything that is kept beside the journal. Clones share it.
#[derive(Clone, Debug)]
pub struct Store {
    writer: Writer,
}

impl Store {
    /// A store in the writer's file.
    pub fn new(writer: Writer) -> Self {
        Self { writer }
    }

    /// Keeps what was planned, marks the work it asks for as due at `now`, and moves the cursor, all or nothing.
    ///
    /// # Errors
    /// When nothing was written.
    pub async fn plan(&self, planned: Vec<Planned>, now: UnixMs) -> Result<(), WriteError> {
        self.writer
            .change(move |transaction| planning::apply(transaction, &planned, now))
            .await
    }

    /// Notes by which catalog the journal was planned.
    ///
    /// # Errors
    /// When nothing was written.
    pub async fn planned_by(&self, catalog: String) -> Result<(), WriteError> {
        self.writer
            .change(move |transaction| planning::planned_by(transaction, &catalog))
            .await
    }

    /// Puts objects; those whose bytes did not change are not written again.
    ///
    /// # Errors
    /// When nothing was written.
    pub async fn put(&self, records: Vec<Record>, now: UnixMs) -> Result<Tally, WriteError> {
        self.writer
            .change(move |transaction| objects::put(transaction, &records, now))
            .await
    }

    /// Puts the last objects of a fetch, moves its work, and opens or closes problems, all in one transaction. The move
    /// sees how many objects were new or changed.
    ///
    /// # Errors
    /// When nothing was written.
    pub async fn finish(
        &self,
        records: Vec<Record>,
        key: Key,
        now: UnixMs,
        settle: impl FnOnce(Work, Tally) -> Settled + Send + 'static,
    ) -> Result<Tally, WriteError> {
        let finish = move |transaction: &Transaction<'_>| {
            let tally = objects::put(transaction, &records, now)?;
            if let Some(work) = work::load(transaction, &key)? {
                let (work, problems) = settle(work, tally);
                work::save(transaction, &work)?;
                problems::apply(transaction, &problems, now)?;
            }
            Ok(tally)
        };
        self.writer.change(finish).await
    }

    /// Moves one piece of work, and opens or closes problems with it.
    ///
    /// # Errors
    /// When nothing was written.
    pub async fn settle(
        &self,
        key: Key,
        now: UnixMs,
        settle: impl FnOnce(Work) -> Settled + Send + 'static,
    ) -> Result<(), WriteError> {
        self.finish(Vec::new(), key, now, |work, _| settle(work))
            .await
            .map(drop)
    }

    /// Opens and closes problems.
    ///
    /// # Errors
    /// When nothing was written.
    pub async fn problems(
        &self,
        changes: Vec<problems::Change>,
        now: UnixMs,
    ) -> Result<(), WriteError> {
        self.writer
            .change(move |transaction| problems::apply(transaction, &changes, now))
            .await
    }

    /// Writes down what the intake said.
    ///
    /// # Errors
    /// When nothing was written.
    pub async fn note(
        &self,
        refusals: Vec<Refusal>,
        problems: Vec<Problem>,
        counters: BTreeMap<String, u64>,
        now: UnixMs,
    ) -> Result<(), WriteError> {
        let note = move |transaction: &Transaction<'_>| {
            refusals::add(transaction, &refusals)?;
            let opened: Vec<_> = problems.into_iter().map(problems::Change::Open).collect();
            problems::apply(transaction, &opened, now)?;
            counters
                .iter()
                .try_for_each(|(counter, more)| count(transaction, counter, *more))
        };
        self.writer.change(note).await
    }
}

/// Adds to a counter that outlives a restart.
fn count(connection: &Connection, counter: &str, more: u64) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO meta VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = value + excluded.value",
        )?
        .execute(params![counter, i64::try_from(more).unwrap_or(i64::MAX)])
        .map(drop)
}

/// The counters whose name begins with `prefix`, without it.
///
/// # Errors
/// When SQLite cannot read.
pub fn counters(connection: &Connection, prefix: &str) -> rusqlite::Result<Vec<(String, i64)>> {
    connection
        .prepare_cached(
            "SELECT substr(key, length(?1) + 1), value FROM meta WHERE substr(key, 1, length(?1)) = ?1 ORDER BY key",
        )?
        .query_map([prefix], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}

/// The newest journal row that was planned.
///
/// # Errors
/// When SQLite cannot read.
pub fn planned_to(connection: &Connection) -> rusqlite::Result<Seq> {
    let found = connection
        .prepare_cached("SELECT value FROM meta WHERE key = 'planned_to'")?
        .query_row([], |row| row.get(0))
        .optional()?;
    Ok(Seq(found.unwrap_or_default()))
}

//! The gateway's SQLite file as an admin's program would read it: its own read-only connection, plain queries. It never
//! writes and shares no code with the gateway's database, so that what it sees is what is there.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _};

/// An open file.
#[derive(Debug)]
pub(super) struct StateFile {
    connection: Connection,
}

/// The work of one link: how many things are to be kept fetched, and how many of them wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wishes {
    pub(super) all: usize,
    pub(super) waiting: usize,
}

impl StateFile {
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)
            .with_context(|| format!("cannot open {} for reading", path.display()))?;
        Ok(Self { connection })
    }

    /// The number of the journal row that holds exactly this body.
    pub(super) fn journal_row(&self, body: &str) -> anyhow::Result<Option<i64>> {
        let sql = "SELECT seq FROM journal WHERE CAST(body AS TEXT) = ?1";
        let row = self
            .connection
            .query_row(sql, [body], |row| row.get(0))
            .optional();
        row.context("cannot read the journal")
    }

    /// Every body in the journal, in order.
    pub(super) fn journal(&self) -> anyhow::Result<Vec<String>> {
        let sql = "SELECT CAST(body AS TEXT) FROM journal ORDER BY seq";
        let mut statement = self
            .connection
            .prepare(sql)
            .context("cannot read the journal")?;
        let bodies = statement
            .query_map([], |row| row.get(0))
            .and_then(Iterator::collect);
        bodies.context("cannot read the journal")
    }

    pub(super) fn wishes(&self, link: &str) -> anyhow::Result<Wishes> {
        let sql = "SELECT count(*), count(*) FILTER (WHERE wanted > coalesce(fetched, 0)) FROM work WHERE link_id = ?1";
        let read = |row: &rusqlite::Row<'_>| {
            let (all, waiting): (u32, u32) = (row.get(0)?, row.get(1)?);
            Ok(Wishes {
                all: all as usize,
                waiting: waiting as usize,
            })
        };
        self.connection
            .query_row(sql, [link], read)
            .context("cannot read the work")
    }

    /// The objects of a link by id; a second row with the same id would be an error of the file.
    pub(super) fn objects(
        &self,
        resource: &str,
        link: &str,
    ) -> anyhow::Result<BTreeMap<String, String>> {
        let sql = "SELECT id, CAST(body AS TEXT) FROM objects WHERE resource = ?1 AND link_id = ?2";
        let mut statement = self
            .connection
            .prepare(sql)
            .context("cannot read the objects")?;
        let rows = statement.query_map([resource, link], |row| Ok((row.get(0)?, row.get(1)?)));
        let pairs: Vec<(String, String)> = rows
            .and_then(Iterator::collect)
            .context("cannot read the objects")?;
        let count = pairs.len();
        let objects: BTreeMap<_, _> = pairs.into_iter().collect();
        anyhow::ensure!(objects.len() == count, "an object is in the file twice");
        Ok(objects)
    }

    /// The number of rows that a query gives.
    pub(super) fn rows(&self, sql: &str) -> anyhow::Result<usize> {
        let mut statement = self
            .connection
            .prepare(sql)
            .with_context(|| format!("cannot run {sql}"))?;
        let rows = statement
            .query_map([], |_| Ok(()))
            .and_then(Iterator::collect::<Result<Vec<()>, _>>);
        Ok(rows.with_context(|| format!("cannot run {sql}"))?.len())
    }
}

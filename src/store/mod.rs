//! The tables beside the journal: what was planned, what is to be fetched, the objects by resource and id, links and
//! consents, problems and refusals. Each change is one short transaction on the writer's thread. Never knows why it was called.

pub mod alive;
pub mod certificate;
pub mod consents;
pub mod erasing;
pub mod inbox;
pub mod links;
pub mod objects;
pub mod orders;
pub mod planning;
pub mod problems;
pub mod refusals;
pub mod retention;
pub mod salvage;
pub mod summary;
pub mod verify;
pub mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Transaction, params};
use tokio::time::{Instant, sleep};

use crate::catalog::CONSENTS;
use crate::database::{Views, WriteError, Writer};
use crate::drain::consents::Consent;
use crate::drain::links::Link;
use crate::drain::plan::Planned;
use crate::drain::work::{Key, Wish, Work};
use crate::limits::STORE_REST_MAX;
use crate::system::clock::{Clock, UnixMs};
use crate::webhook::Seq;

use objects::{Record, Tally};
use problems::Problem;
use refusals::Refusal;

/// The views that admins read.
pub const VIEWS: Views = Views(include_str!("views.sql"));

/// What is kept about a piece of work when a fetch of it ends.
#[derive(Debug)]
pub struct Current {
    /// The work.
    pub work: Work,
    /// What became of the objects that were put with it.
    pub tally: Tally,
    /// The state of its link, as far as it is known.
    pub link: Option<Link>,
    /// The state of its consent, when it is about one.
    pub consent: Option<Consent>,
    /// The newest webhook about its link.
    pub newest: Seq,
}

/// What is to be kept about it afterwards.
#[derive(Debug)]
pub struct Settled {
    /// The work after its move.
    pub work: Work,
    /// Whether the work was done for good and is forgotten.
    pub forget: bool,
    /// The link after its move.
    pub link: Option<Link>,
    /// The consent after its move.
    pub consent: Option<Consent>,
    /// Belvo's record of the link or consent.
    pub record: Option<Kept>,
    /// Problems that come or go.
    pub problems: Vec<problems::Change>,
    /// What else is to be fetched for the same webhooks.
    pub wishes: Vec<Wish>,
    /// What else is to be fetched if it never was.
    pub wishes_if_new: Vec<Wish>,
    /// Deleted objects that a complete listing holds.
    pub returned: BTreeSet<String>,
}

/// A record of Belvo's, and what is kept of it in columns.
#[derive(Clone, Debug)]
pub struct Kept {
    /// The institution of a link, by name.
    pub institution: Option<String>,
    /// When Belvo last got through to the institution of a link.
    pub last_accessed_at: Option<String>,
    /// As Belvo sent it.
    pub body: String,
}

impl Settled {
    /// The work moved, everything else as it is.
    pub fn work(current: Current, work: Work) -> Self {
        Self {
            work,
            forget: false,
            link: current.link,
            consent: current.consent,
            record: None,
            problems: Vec::new(),
            wishes: Vec::new(),
            wishes_if_new: Vec::new(),
            returned: BTreeSet::new(),
        }
    }
}

/// The two times of a change: the one to write down, and the one by which waits are counted.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// To write down.
    pub wall: UnixMs,
    /// For `due_at`.
    pub due: UnixMs,
}

impl Times {
    /// Both times of this clock, now.
    pub fn of(clock: &Clock) -> Self {
        Self {
            wall: clock.wall(),
            due: clock.now(),
        }
    }
}

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

    /// Keeps what was planned, marks the work it asks for as due, and moves the cursor, all or nothing.
    ///
    /// # Errors
    /// When nothing was written.
    pub async fn plan(&self, planned: Arc<[Planned]>, now: Times) -> Result<(), WriteError> {
        self.writer
            .change(move |transaction| planning::apply(transaction, &planned, now.wall, now.due))
            .await
    }

    /// Marks objects of a link as deleted by the webhook `seq`.
    ///
    /// # Errors
    /// When nothing was written.
    pub async fn bury(
        &self,
        resource: &'static str,
        link_id: String,
        ids: Vec<String>,
        seq: Seq,
        now: UnixMs,
    ) -> Result<(), WriteError> {
        self.writer
            .change(move |transaction| {
                objects::bury(transaction, resource, &link_id, &ids, seq, now)
            })
            .await
    }

    /// Keeps the record of a link that was read on the way to something else.
    ///
    /// # Errors
    /// When nothing was written.
    pub async fn put_link(
        &self,
        link_id: String,
        kept: Kept,
        now: Times,
        read: impl FnOnce(Option<Link>, Seq) -> Option<Link> + Send + 'static,
    ) -> Result<(), WriteError> {
        let put = move |transaction: &Transaction<'_>| {
            let before = links::load(transaction, &link_id)?;
            let newest = links::newest_event(transaction, &link_id)?;
            if let Some(after) = read(before.clone(), newest) {
                links::save(
                    transaction,
                    &link_id,
                    before.as_ref(),
                    &after,
                    now.wall,
                    now.due,
                )?;
            }
            put_link_record(transaction, &link_id, &kept)
        };
        self.writer.change(put).await
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

    /// Puts objects; those whose bytes did not change are not written again. While webhooks come they are put in several
    /// transactions, with a rest after each: none goes on when an append waits.
    ///
    /// # Errors
    /// When not all of them were written.
    pub async fn put(&self, records: Vec<Record>, now: UnixMs) -> Result<Tally, WriteError> {
        let (records, mut from, mut tally) = (Arc::<[Record]>::from(records), 0, Tally::default());
        while from < records.len() {
            let (writer, these) = (self.writer.clone(), Arc::clone(&records));
            let put = move |transaction: &Transaction<'_>| {
                objects::put_until(transaction, &these[from..], now, || writer.is_awaited())
            };
            let began = Instant::now();
            let (part, count) = self.writer.change(put).await?;
            from += count;
            tally = tally.plus(part);
            if self.writer.do_appends_come() {
                sleep(began.elapsed().min(STORE_REST_MAX)).await;
            }
        }
        Ok(tally)
    }

    /// Puts the last objects of a fetch and settles its work, with all that follows, in one transaction. `settle` sees how
    /// many objects were new or changed. Work that is gone meanwhile is left alone.
    ///
    /// # Errors
    /// When nothing was written.
    pub async fn finish(
        &self,
        records: Vec<Record>,
        key: Key,
        now: Times,
        settle: impl FnOnce(Current) -> Settled + Send + 'static,
    ) -> Result<Tally, WriteError> {
        let finish = move |transaction: &Transaction<'_>| {
            let tally = objects::put(transaction, &records, now.wall)?;
            if let Some(work) = work::load(transaction, &key)? {
                let current = current(transaction, work, tally.clone())?;
                let before = (current.link.clone(), current.consent.clone());
                keep(transaction, before, settle(current), now)?;
            }
            Ok(tally)
        };
        self.writer.change(finish).await
    }

    /// Settles one piece of work, with all that follows.
    ///
    /// # Errors
    /// When nothing was written.
    pub async fn settle(
        &self,
        key: Key,
        now: Times,
        settle: impl FnOnce(Current) -> Settled + Send + 'static,
    ) -> Result<(), WriteError> {
        self.finish(Vec::new(), key, now, settle).await.map(drop)
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

fn current(transaction: &Transaction<'_>, work: Work, tally: Tally) -> rusqlite::Result<Current> {
    let link = links::load(transaction, &work.key.link_id)?;
    let newest = links::newest_event(transaction, &work.key.link_id)?;
    let consent = match work.key.resource == CONSENTS.name {
        true => consents::load(transaction, &work.key.object_id)?,
        false => None,
    };
    Ok(Current {
        work,
        tally,
        link,
        consent,
        newest,
    })
}

fn keep(
    transaction: &Transaction<'_>,
    (link, consent): (Option<Link>, Option<Consent>),
    settled: Settled,
    now: Times,
) -> rusqlite::Result<()> {
    let Settled {
        work,
        forget,
        record,
        ..
    } = settled;
    let key = &work.key;
    if let Some(after) = &settled.link {
        links::save(
            transaction,
            &key.link_id,
            link.as_ref(),
            after,
            now.wall,
            now.due,
        )?;
    }
    if let Some(after) = &settled.consent {
        consents::save(
            transaction,
            &key.object_id,
            consent.as_ref(),
            after,
            now.wall,
        )?;
    }
    match record {
        Some(kept) if key.resource == CONSENTS.name => {
            consents::put_record(transaction, &key.object_id, &kept.body)?;
        }
        Some(kept) => put_link_record(transaction, &key.link_id, &kept)?,
        None => {}
    }
    match forget {
        true => work::forget(transaction, key)?,
        false => work::save(transaction, &work)?,
    }
    for wish in settled.wishes {
        planning::wish(transaction, wish, work.wanted, now.due, false)?;
    }
    for wish in settled.wishes_if_new {
        planning::wish(transaction, wish, work.wanted, now.due, true)?;
    }
    objects::unbury(
        transaction,
        &key.resource,
        &settled.returned,
        work.fetched,
        now.wall,
    )?;
    problems::apply(transaction, &settled.problems, now.wall)
}

fn put_link_record(
    transaction: &Transaction<'_>,
    link_id: &str,
    kept: &Kept,
) -> rusqlite::Result<()> {
    links::put_record(
        transaction,
        link_id,
        kept.institution.as_deref(),
        kept.last_accessed_at.as_deref(),
        &kept.body,
    )
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

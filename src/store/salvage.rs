//! What is copied into this file from a damaged one that was set aside: which rows of which tables, in which order, and how
//! far it has come. A row that is here already stays as it is. Never knows how the damaged file is read.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use rusqlite::types::Value;
use rusqlite::{Connection, Transaction, params, params_from_iter};

use super::problems::{self, Change, Kind, Problem};
use super::{Store, VIEWS, erasing};
use crate::database::damage::{self, SetAside};
use crate::database::remains::{Remains, Row};
use crate::database::{LATEST, OpenError, Reader, StateDirectory, WriteError, example};
use crate::journal;
use crate::limits::{SALVAGE_SEQ_LOOK_MAX, SEQ_LEAP, WEBHOOK_BYTES_MIN};
use crate::system::clock::UnixMs;
use crate::webhook::{Envelope, Seq};

/// What is copied at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The state of links and consents, and erasures: before anything is planned or fetched, so that nothing is fetched of
    /// a link that was erased.
    State,
    /// Webhooks, objects and all else.
    Content,
    /// Webhooks that were not planned when the file was damaged are planned.
    Plans,
    /// Nothing is left to do.
    Over,
}

impl Step {
    fn name(self) -> &'static str {
        match self {
            Self::State => "state",
            Self::Content => "content",
            Self::Plans => "plans",
            Self::Over => "over",
        }
    }

    fn tables(self) -> &'static [&'static str] {
        match self {
            Self::State => &["links", "consents", "erasures", "salvages"],
            Self::Content => &[
                "journal", "boots", "events", "work", "objects", "problems", "meta",
            ],
            Self::Plans | Self::Over => &[],
        }
    }

    fn next(self) -> Self {
        match self {
            Self::State => Self::Content,
            Self::Content => Self::Plans,
            Self::Plans | Self::Over => Self::Over,
        }
    }
}

/// How far the salvage of a file has come.
#[derive(Clone, Debug)]
pub struct Salvage {
    /// Its name in the state directory.
    pub file: String,
    /// No webhook in it has a larger one.
    pub newest_seq: Seq,
    /// What is copied.
    pub step: Step,
    /// Where that goes on: a page, or a seq.
    pub next: i64,
}

/// A table, as far as its rows are to be recognised.
#[derive(Debug)]
struct Shape {
    name: String,
    columns: Vec<Column>,
    names: Arc<[String]>,
    has_rowid: bool,
    insert: String,
}

#[derive(Debug)]
struct Column {
    name: String,
    kind: String,
    may_be_null: bool,
    is_rowid: bool,
}

/// The tables, for telling which of them a row is from.
#[derive(Debug)]
pub struct Shapes(Vec<Shape>);

/// A row that is copied: of which table, and its columns.
#[derive(Clone, Debug)]
pub struct Copied {
    table: String,
    columns: Arc<[String]>,
    insert: String,
    values: Vec<Value>,
}

impl Copied {
    /// What stands in this column.
    fn value(&mut self, column: &str) -> Option<&mut Value> {
        let at = self.columns.iter().position(|name| name == column)?;
        self.values.get_mut(at)
    }

    fn text(&mut self, column: &str) -> Option<String> {
        match self.value(column) {
            Some(Value::Text(text)) => Some(text.clone()),
            _ => None,
        }
    }

    /// About how much memory it takes.
    pub fn bytes(&self) -> usize {
        let bytes = |value: &Value| match value {
            Value::Text(text) => text.len(),
            Value::Blob(bytes) => bytes.len(),
            _ => 0,
        };
        self.values.iter().map(bytes).sum()
    }
}

impl Shapes {
    /// Of the tables of this program.
    ///
    /// # Errors
    /// When there is no memory for them.
    pub fn new() -> rusqlite::Result<Self> {
        let example = example(LATEST)?;
        let tables: Vec<(String, bool)> = example
            .prepare("SELECT name, wr FROM pragma_table_list WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")?
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<rusqlite::Result<_>>()?;
        let shape = |(name, without): (String, bool)| Shape::of(&example, name, !without);
        tables
            .into_iter()
            .map(shape)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// The table that a row is from, when it is one of those that are copied in this step. Of a page that is doubtful only
    /// webhooks are taken, which prove themselves. An error is a webhook that is damaged.
    pub fn recognise(
        &self,
        row: Row,
        step: Step,
        is_doubtful: bool,
    ) -> Result<Option<Copied>, Damaged> {
        let Some(shape) = self.0.iter().find(|shape| shape.fits(&row)) else {
            return Ok(None);
        };
        let is_webhook = shape.name == "journal";
        if !step.tables().contains(&shape.name.as_str()) || (is_doubtful && !is_webhook) {
            return Ok(None);
        }
        let (rowid, mut values) = (row.rowid, row.values);
        for (column, value) in shape.columns.iter().zip(&mut values) {
            if column.is_rowid {
                *value = rowid.map_or(Value::Null, Value::Integer);
            }
        }
        if is_webhook && !journal::is_whole(&values) {
            return Err(Damaged);
        }
        Ok(Some(Copied {
            table: shape.name.clone(),
            columns: Arc::clone(&shape.names),
            insert: shape.insert.clone(),
            values,
        }))
    }
}

/// A webhook whose bytes are not what was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damaged;

impl Shape {
    fn of(example: &Connection, name: String, has_rowid: bool) -> rusqlite::Result<Self> {
        let mut columns: Vec<(i64, Column)> = example
            .prepare("SELECT name, type, \"notnull\", pk FROM pragma_table_info(?1)")?
            .query_map([&name], |row| {
                let (kind, pk): (String, i64) = (row.get(1)?, row.get(3)?);
                let column = Column {
                    name: row.get(0)?,
                    may_be_null: !row.get::<_, bool>(2)? && pk == 0,
                    is_rowid: has_rowid && pk == 1 && kind == "INTEGER",
                    kind,
                };
                Ok((pk, column))
            })?
            .collect::<rusqlite::Result<_>>()?;
        if !has_rowid {
            // Such a table is stored by its key.
            columns.sort_by_key(|(pk, _)| if *pk == 0 { i64::MAX } else { *pk });
        }
        let columns: Vec<_> = columns.into_iter().map(|(_, column)| column).collect();
        let quoted: Vec<_> = columns
            .iter()
            .map(|column| format!("\"{}\"", column.name))
            .collect();
        let marks: Vec<_> = (1..=columns.len())
            .map(|number| format!("?{number}"))
            .collect();
        Ok(Self {
            insert: format!(
                "INSERT OR IGNORE INTO \"{name}\" ({}) VALUES ({})",
                quoted.join(", "),
                marks.join(", ")
            ),
            name,
            names: columns.iter().map(|column| column.name.clone()).collect(),
            columns,
            has_rowid,
        })
    }

    fn fits(&self, row: &Row) -> bool {
        row.rowid.is_some() == self.has_rowid
            && row.values.len() == self.columns.len()
            && self
                .columns
                .iter()
                .zip(&row.values)
                .all(|(column, value)| match value {
                    Value::Null => column.may_be_null || column.is_rowid,
                    Value::Integer(_) => {
                        matches!(column.kind.as_str(), "INTEGER" | "ANY") && !column.is_rowid
                    }
                    Value::Text(_) => matches!(column.kind.as_str(), "TEXT" | "ANY"),
                    Value::Blob(_) => matches!(column.kind.as_str(), "BLOB" | "ANY"),
                    Value::Real(_) => false,
                })
    }
}

/// Opens the file to write at a start. One that is damaged is set aside, and a fresh one is made, which knows of it.
///
/// # Errors
/// When the file cannot be used, and not because it is damaged.
pub fn start(
    directory: &StateDirectory,
    now: UnixMs,
) -> Result<(Connection, Option<SetAside>), OpenError> {
    // SQLite takes what comes after a damaged copy of a page for never written, and writes over it.
    let hidden = match directory.has_wal() {
        true => hidden_webhooks(&directory.file()),
        false => BTreeMap::new(),
    };
    let copied = match hidden.is_empty() {
        true => None,
        false => Some(damage::copy_wal(directory, now)?),
    };
    let (mut connection, mut set_aside) = damage::open(directory, VIEWS)?;
    if let Some(name) = copied {
        let sqlite = |source| OpenError::from_sqlite(&directory.file(), source);
        if set_aside.is_none() && are_lost(&connection, &hidden).map_err(sqlite)? {
            let why = "a part of its WAL is, and webhooks after it".to_owned();
            set_aside = Some(SetAside { name, why });
        } else {
            damage::forget_wal(directory, &name);
        }
    }
    begin(&mut connection, directory.path(), set_aside.as_ref(), now)
        .map_err(|source| OpenError::from_sqlite(&directory.file(), source))?;
    Ok((connection, set_aside))
}

/// The webhooks in the WAL that SQLite will not see, each with the number of the commit that brought it.
fn hidden_webhooks(path: &Path) -> BTreeMap<i64, usize> {
    let mut found = BTreeMap::new();
    if let (Ok(remains), Ok(shapes)) = (Remains::open(path), Shapes::new()) {
        for (commit, rows) in remains.hidden().enumerate() {
            for row in rows {
                let seq = row.rowid;
                let row = shapes.recognise(row, Step::Content, true);
                if let (Some(seq), Ok(Some(_))) = (seq, row) {
                    found.entry(seq).or_insert(commit);
                }
            }
        }
    }
    found
}

/// Whether webhooks that were answered 200 are not in the file. One commit that is not may be what a power cut left of the
/// last one, before its sync; but a second one with webhooks only begins when the first was synced.
fn are_lost(connection: &Connection, hidden: &BTreeMap<i64, usize>) -> rusqlite::Result<bool> {
    let mut commits = BTreeSet::new();
    for (seq, commit) in hidden {
        if journal::at(connection, Seq(*seq))?.is_none() {
            commits.insert(commit);
        }
    }
    Ok(commits.len() > 1)
}

/// Takes up each file that was set aside and is not known here yet, before anything is received: what is received from
/// now on comes after all that it may hold.
fn begin(
    connection: &mut Connection,
    state_directory: &Path,
    set_aside: Option<&SetAside>,
    now: UnixMs,
) -> rusqlite::Result<()> {
    // A directory that cannot be read now can be at the next start.
    let names = damage::files_set_aside(state_directory).unwrap_or_default();
    for name in names {
        let is_known: bool = connection.query_row(
            "SELECT EXISTS (SELECT 1 FROM salvages WHERE file = ?1)",
            [&name],
            |row| row.get(0),
        )?;
        if is_known {
            continue;
        }
        let why = set_aside.filter(|set_aside| set_aside.name == name);
        let why = why.map_or("a damaged file was found", |set_aside| &set_aside.why);
        let newest = Remains::open(&state_directory.join(&name))
            .map_or(SEQ_LEAP, |remains| newest_seq(&remains));
        let transaction = connection.transaction()?;
        transaction.execute(
            "INSERT INTO salvages (file, at, why, newest_seq) VALUES (?1, ?2, ?3, ?4)",
            params![name, now.0, why, newest],
        )?;
        leap(&transaction, Seq(newest))?;
        let opened = Change::Open(under_way(&name, why));
        problems::apply(&transaction, &[opened], now)?;
        transaction.commit()?;
    }
    Ok(())
}

/// Has the journal count on from above `newest`: by a row that holds nothing and leads to nothing.
fn leap(transaction: &Transaction<'_>, newest: Seq) -> rusqlite::Result<()> {
    if journal::newest(transaction)? >= newest {
        return Ok(());
    }
    journal::leap(transaction, newest)?;
    transaction.execute(
        "INSERT INTO events (seq, action) VALUES (?1, 'probe')",
        [newest.0],
    )?;
    transaction
        .execute(
            "UPDATE meta SET value = max(value, ?1) WHERE key = 'planned_to'",
            [newest.0],
        )
        .map(drop)
}

/// A seq that no webhook of the file can be above. Those that are looked at for as long as a start may take say where they
/// are; as they are numbered one after the other, the others are not further off than as many as find room in the file.
fn newest_seq(remains: &Remains) -> i64 {
    let mut newest = 0;
    let begun = Instant::now();
    if let Ok(shapes) = Shapes::new() {
        for page in (1..=remains.pages()).rev() {
            for row in remains.found(page).rows {
                let shape = shapes.0.iter().find(|shape| shape.fits(&row));
                if shape.is_some_and(|shape| matches!(shape.name.as_str(), "journal" | "events")) {
                    newest = newest.max(row.rowid.unwrap_or(0));
                }
            }
            if begun.elapsed() > SALVAGE_SEQ_LOOK_MAX {
                break;
            }
        }
    }
    let room = (remains.bytes() / WEBHOOK_BYTES_MIN) as i64;
    // A number that is no number of ours must not use up all that there are.
    let newest = if newest < i64::MAX / 2 { newest } else { 0 };
    ((newest + room) / SEQ_LEAP + 1) * SEQ_LEAP
}

fn under_way(name: &str, why: &str) -> Problem {
    problem(
        name,
        format!("the file was damaged at the start: {why}. What was damaged is kept as {name}, and what can be read is copied into the file in use"),
        "webhooks are received as before; wait until the copying is over, which this will say then. The card may be failing: have another one at hand".to_owned(),
    )
}

fn problem(name: &str, text: String, next_step: String) -> Problem {
    Problem {
        kind: Kind::FileDamaged,
        subject: name.to_owned(),
        text,
        next_step,
        evidence: None,
    }
}

/// The salvages that are not over, the newest first.
///
/// # Errors
/// When SQLite cannot read.
pub fn open(reader: &Reader) -> rusqlite::Result<Vec<Salvage>> {
    let mut statement = reader.prepare(
        "SELECT file, newest_seq, step, next FROM salvages WHERE step <> 'over' ORDER BY at DESC, file DESC",
    )?;
    let rows = statement.query_map([], |row| {
        Ok(Salvage {
            file: row.get(0)?,
            newest_seq: Seq(row.get(1)?),
            step: match row.get_ref(2)?.as_str()? {
                "state" => Step::State,
                "content" => Step::Content,
                _ => Step::Plans,
            },
            next: row.get(3)?,
        })
    })?;
    rows.collect()
}

/// The files that a person still has to see to.
///
/// # Errors
/// When SQLite cannot read.
pub fn kept(reader: &Reader) -> rusqlite::Result<Vec<String>> {
    reader
        .prepare("SELECT subject FROM problems WHERE kind = ?1 AND closed_at IS NULL")?
        .query_map([Kind::FileDamaged.name()], |row| row.get(0))?
        .collect()
}

/// Webhooks in a range that lead to nothing so far: those without an event, and those about links of whose work nothing is
/// known. The first so many.
///
/// # Errors
/// When SQLite cannot read.
pub fn unplanned(reader: &Reader, from: Seq, until: Seq, limit: u32) -> rusqlite::Result<Vec<Seq>> {
    reader
        .prepare_cached(
            "SELECT journal.seq FROM journal LEFT JOIN events ON events.seq = journal.seq
              WHERE journal.seq > ?1 AND journal.seq <= ?2 AND journal.body <> ''
                AND (events.seq IS NULL
                     OR events.action IN ('fetch', 'link', 'consent')
                        AND NOT EXISTS (SELECT 1 FROM work WHERE work.link_id = events.link_id)
                        AND NOT EXISTS (SELECT 1 FROM links WHERE links.link_id = events.link_id))
              ORDER BY journal.seq LIMIT ?3",
        )?
        .query_map(params![from.0, until.0, limit], |row| row.get(0).map(Seq))?
        .collect()
}

/// Webhooks after that place that were copied and have no event yet, which may still be to come, while a salvage is under
/// way; the first so many.
///
/// # Errors
/// When SQLite cannot read.
pub fn without_event(reader: &Reader, after: Seq, limit: u32) -> rusqlite::Result<Vec<Seq>> {
    reader
        .prepare_cached(
            "SELECT journal.seq FROM journal LEFT JOIN events ON events.seq = journal.seq
              WHERE journal.seq > ?1 AND events.seq IS NULL AND journal.body <> ''
                AND journal.seq <= (SELECT max(newest_seq) FROM salvages WHERE step <> 'over')
              ORDER BY journal.seq LIMIT ?2",
        )?
        .query_map(params![after.0, limit], |row| row.get(0).map(Seq))?
        .collect()
}

impl Store {
    /// Copies rows of a damaged file, and notes that its salvage goes on with `next`.
    ///
    /// # Errors
    /// When nothing was written.
    pub async fn salvage(
        &self,
        file: String,
        rows: Vec<Copied>,
        unreadable: u64,
        next: Option<i64>,
    ) -> Result<(), WriteError> {
        let copy = move |transaction: &Transaction<'_>| {
            let (mut copied, mut webhooks) = (0, 0);
            for mut row in rows {
                let is_new = copy(transaction, &mut row)?;
                copied += i64::from(is_new);
                webhooks += i64::from(is_new && row.table == "journal");
            }
            transaction
                .execute(
                    "UPDATE salvages SET copied = copied + ?2, webhooks = webhooks + ?3, unreadable = unreadable + ?4,
                                         next = coalesce(?5, next)
                      WHERE file = ?1",
                    params![file, copied, webhooks, unreadable as i64, next],
                )
                .map(drop)
        };
        self.writer.change(copy).await
    }

    /// Notes that a step of a salvage is over, and with the last one what came of it.
    ///
    /// # Errors
    /// When nothing was written.
    pub async fn salvaged(
        &self,
        file: String,
        step: Step,
        now: UnixMs,
    ) -> Result<Step, WriteError> {
        let over = move |transaction: &Transaction<'_>| {
            let next = step.next();
            // Cells that cannot be read are met in each step.
            transaction.execute(
                "UPDATE salvages SET step = ?2, next = 1, unreadable = iif(?2 = 'content', 0, unreadable) WHERE file = ?1",
                params![file, next.name()],
            )?;
            if next == Step::Over {
                let outcome = outcome(transaction, &file)?;
                problems::apply(transaction, &[Change::Open(outcome)], now)?;
            }
            Ok(next)
        };
        self.writer.change_synced(over).await
    }

    /// Notes that a damaged file is gone: nothing more can come of it, and nobody has to see to it.
    ///
    /// # Errors
    /// When nothing was written.
    pub async fn removed(&self, file: String, now: UnixMs) -> Result<(), WriteError> {
        let removed = move |transaction: &Transaction<'_>| {
            transaction.execute("UPDATE salvages SET step = 'over' WHERE file = ?1", [&file])?;
            problems::apply(transaction, &[Change::Close(Kind::FileDamaged, file)], now)
        };
        self.writer.change_synced(removed).await
    }
}

fn outcome(transaction: &Transaction<'_>, file: &str) -> rusqlite::Result<Problem> {
    let (copied, webhooks, unreadable, why): (i64, i64, i64, String) = transaction.query_row(
        "SELECT copied, webhooks, unreadable, why FROM salvages WHERE file = ?1",
        [file],
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
    )?;
    let lost = match unreadable {
        0 => "nothing in it was unreadable".to_owned(),
        1 => "one place in it could not be read".to_owned(),
        count => format!("{count} places in it could not be read"),
    };
    Ok(problem(
        file,
        format!(
            "the file was damaged at a start ({why}) and is kept as {file}; {copied} rows of it were copied into the one in use, {webhooks} of them webhooks, and {lost}"
        ),
        format!(
            "belvo-gateway reconcile fetches what may be missing. Replace the card if this was not a one-off (dmesg). When nobody needs {file} any more, remove it with its -wal: it holds people's data, and erase does not reach it. This is over then"
        ),
    ))
}

/// Puts a row, if it is not there, and says whether it was put. Nothing of a link that was erased is.
fn copy(transaction: &Transaction<'_>, row: &mut Copied) -> rusqlite::Result<bool> {
    let link = row.text("link_id");
    if let Some(link) = &link
        && !matches!(row.table.as_str(), "links" | "erasures")
        && erasing::is_erased(transaction, link)?
    {
        return Ok(false);
    }
    match row.table.as_str() {
        "journal" => return copy_webhook(transaction, row),
        "meta" => return copy_counter(transaction, row),
        "salvages" => return copy_salvage(transaction, row),
        "problems" => return copy_problem(transaction, row),
        _ => {}
    }
    let is_new = put(transaction, row, &row.values)?;
    if let ("erasures", Some(link)) = (row.table.as_str(), link) {
        erasing::erased_before(transaction, &link)?;
    }
    Ok(is_new)
}

fn put(transaction: &Transaction<'_>, row: &Copied, values: &[Value]) -> rusqlite::Result<bool> {
    let mut statement = transaction.prepare_cached(&row.insert)?;
    Ok(statement.execute(params_from_iter(values))? > 0)
}

/// Keeps its seq. Where another has it, it gets a new one, and is planned like any that comes.
fn copy_webhook(transaction: &Transaction<'_>, row: &Copied) -> rusqlite::Result<bool> {
    let mut values = row.values.clone();
    let mut is_new = put(transaction, row, &values)?;
    if !is_new && !journal::has_like(transaction, &values)? {
        if let Some(seq) = values.first_mut() {
            *seq = Value::Null;
        }
        is_new = put(transaction, row, &values)?;
    }
    let seq = match values.first() {
        Some(Value::Integer(seq)) => Seq(*seq),
        _ => Seq(transaction.last_insert_rowid()),
    };
    if let (true, Some(Value::Text(body))) = (is_new, values.last()) {
        let link = Envelope::parse(body)
            .ok()
            .and_then(|envelope| envelope.link_id);
        if let Some(link) = link
            && erasing::is_erased(transaction, &link)?
        {
            erasing::erase_webhooks(transaction, &[seq])?;
        }
    }
    Ok(is_new)
}

/// Of the facts about the file only what was counted is worth anything in another.
fn copy_counter(transaction: &Transaction<'_>, row: &Copied) -> rusqlite::Result<bool> {
    match row.values.as_slice() {
        [Value::Text(name), Value::Integer(count)]
            if name.starts_with("refused.") && *count > 0 =>
        {
            super::count(transaction, name, count.unsigned_abs()).map(|()| true)
        }
        _ => Ok(false),
    }
}

/// What was salvaged before need not be salvaged again.
fn copy_salvage(transaction: &Transaction<'_>, row: &Copied) -> rusqlite::Result<bool> {
    let is_new = put(transaction, row, &row.values)?;
    if let Some(Value::Text(file)) = row.values.first()
        && row.values.contains(&Value::Text("over".to_owned()))
    {
        transaction.execute("UPDATE salvages SET step = 'over' WHERE file = ?1", [file])?;
    }
    Ok(is_new)
}

/// Under another number where its own is taken. It may be about an erased link, or name one, as in
/// [`erasing`].
fn copy_problem(transaction: &Transaction<'_>, row: &mut Copied) -> rusqlite::Result<bool> {
    if let Some(subject) = row.text("subject")
        && erasing::is_about_erased(transaction, &subject)?
    {
        return Ok(false);
    }
    if let Some(Value::Text(text)) = row.value("text") {
        erasing::forget_paths(transaction, text)?;
    }
    if let Some(evidence) = row.value("evidence")
        && let Value::Blob(bytes) = &*evidence
        && erasing::names_erased(transaction, bytes)?
    {
        *evidence = Value::Null;
    }
    if put(transaction, row, &row.values)? {
        return Ok(true);
    }
    let mut values = row.values.clone();
    if let Some(problem) = values.first_mut() {
        *problem = Value::Null;
    }
    put(transaction, row, &values)
}

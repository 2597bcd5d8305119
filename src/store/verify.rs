//! Whether the file keeps what it promises, beyond what SQLite can check: the invariants of the tables, in pieces, so that
//! nobody waits for it. Only reads.

use std::path::Path;

use rusqlite::params_from_iter;
use serde::Serialize;

use super::planned_to;
use super::problems::{Change, Kind, Problem};
use crate::database::{Reader, WriteError, check, open_reader};
use crate::journal;
use crate::limits::{AFTER_START_LOOK_MAX, VERIFY_BYTES_MAX, VERIFY_FINDINGS_MAX, VERIFY_ROWS_MAX};
use crate::webhook::Seq;

const DAMAGED: &str = "belvo-gateway verify --set-aside, and then systemctl restart belvo-gateway: it keeps the file under another name, serves from a fresh one, and copies into that what can be read";
const DIFFERS_WHAT: &str = "differs from its checksum: webhook";
const DIFFERS: &str = "what is in this row is not what was received: compare it with what it led to (belvo-gateway events show SEQ), and fetch that again (belvo-gateway retry --event SEQ --fetched --yes); the card may be failing: copy the state directory to another one";
const OURS: &str =
    "nothing of what was received is lost by it; send this to whoever supports the gateway";

/// Something that is wrong, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What, as a sentence.
    pub what: String,
    /// What to do.
    pub next_step: String,
    /// Whether the file itself is damaged, and not only something in it.
    pub damage: bool,
}

impl Finding {
    /// The file itself is damaged.
    pub fn damage(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            next_step: DAMAGED.to_owned(),
            damage: true,
        }
    }

    fn other(what: String, next_step: &str) -> Self {
        Self {
            what,
            next_step: next_step.to_owned(),
            damage: false,
        }
    }
}

/// What was verified.
#[derive(Debug, Default, Serialize)]
pub struct Verified {
    /// Journal rows that were compared with their checksums.
    pub webhooks: u64,
    /// What is wrong; of one kind, [`VERIFY_FINDINGS_MAX`] at most are named.
    pub findings: Vec<Finding>,
}

/// Looks at everything, and says now and then what it is at.
///
/// # Errors
/// When the file cannot be read for another reason than its damage.
pub fn verify(reader: &Reader, mut at: impl FnMut(&str)) -> rusqlite::Result<Verified> {
    let mut verified = Verified::default();
    for table in check::tables(reader)? {
        at(&format!("the table {table}"));
        let wrong = check::table(reader, &table)?;
        let named = wrong.into_iter().take(VERIFY_FINDINGS_MAX);
        verified.findings.extend(named.map(Finding::damage));
    }
    // What follows is about content, which a damaged table does not have.
    if verified.findings.is_empty() {
        journal_rows(reader, &mut verified, &mut at)?;
        objects(reader, &mut verified, &mut at)?;
        at("the rest");
        for (what, sql) in BROKEN {
            let found = numbers(reader, sql, [])?;
            verified.findings.extend(about(&found, what, OURS));
        }
        views(reader, &mut verified)?;
    }
    Ok(verified)
}

/// What a look has shown that does not go to the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Glance {
    /// SQLite calls it damaged.
    Damaged(String),
    /// It does not, as far as was looked; these of the newest webhooks differ from their checksums.
    Well {
        /// Their places.
        differ: Vec<Seq>,
    },
}

/// Looks at the newest webhooks, and at as much of the file as a moment allows.
///
/// # Errors
/// When the file cannot be read.
pub fn glance(state_directory: &Path) -> Result<Glance, WriteError> {
    let mut reader = open_reader(state_directory)?;
    let newest = journal::newest(&reader)?;
    let from = Seq(newest.0.saturating_sub(i64::from(VERIFY_ROWS_MAX)));
    let looked = journal::look(&reader, from, VERIFY_ROWS_MAX, VERIFY_BYTES_MAX)?;
    Ok(match reader.check(AFTER_START_LOOK_MAX)? {
        Some(what) => Glance::Damaged(what),
        None => Glance::Well {
            differ: looked.differ,
        },
    })
}

/// What a person should know about webhooks that differ.
pub fn problem(differ: &[Seq]) -> Change {
    let numbers: Vec<_> = differ.iter().map(|seq| seq.0).collect();
    match about(&numbers, DIFFERS_WHAT, DIFFERS) {
        None => Change::Close(Kind::WebhookDamaged, String::new()),
        Some(Finding {
            what, next_step, ..
        }) => Change::Open(Problem {
            kind: Kind::WebhookDamaged,
            subject: String::new(),
            text: what,
            next_step,
            evidence: None,
        }),
    }
}

/// What must not be there, as a question for numbers of rows.
const BROKEN: &[(&str, &str)] = &[
    (
        "was asked for by a webhook that never came: work number",
        "SELECT row_number() OVER () FROM work
          WHERE max(wanted, fetched, whole, asked) > (SELECT max(seq) FROM journal) LIMIT ?1",
    ),
    (
        "was planned and never came: webhook",
        "SELECT seq FROM events WHERE seq > (SELECT max(seq) FROM journal) LIMIT ?1",
    ),
    (
        "was brought by a webhook that never came: object in row",
        "SELECT objects.rowid FROM objects
          WHERE max(objects.seq, coalesce(deleted_by, 0)) > (SELECT max(journal.seq) FROM journal) LIMIT ?1",
    ),
    (
        "belongs to a link that was erased: object in row",
        "SELECT objects.rowid FROM links JOIN objects USING (link_id) WHERE links.status = 'erased' LIMIT ?1",
    ),
    (
        "belongs to a link that was erased: webhook",
        "SELECT events.seq FROM links JOIN events USING (link_id) WHERE links.status = 'erased' LIMIT ?1",
    ),
];

fn journal_rows(
    reader: &Reader,
    verified: &mut Verified,
    at: &mut impl FnMut(&str),
) -> rusqlite::Result<()> {
    let planned_to = planned_to(reader)?;
    let (mut differ, mut forgotten) = (Vec::new(), Vec::new());
    let mut cursor = Seq(i64::MIN);
    loop {
        at(&format!("webhook {}", cursor.0.max(0)));
        let looked = journal::look(reader, cursor, VERIFY_ROWS_MAX, VERIFY_BYTES_MAX)?;
        let Some(last) = looked.last else { break };
        verified.webhooks += looked.rows;
        differ.extend(looked.differ.iter().map(|seq| seq.0));
        forgotten.extend(numbers(
            reader,
            "SELECT seq FROM journal WHERE seq > ?2 AND seq <= ?3
                AND NOT EXISTS (SELECT 1 FROM events WHERE events.seq = journal.seq) LIMIT ?1",
            [cursor.0, last.min(planned_to).0],
        )?);
        cursor = last;
        differ.truncate(VERIFY_FINDINGS_MAX);
        forgotten.truncate(VERIFY_FINDINGS_MAX);
    }
    let differs = about(&differ, DIFFERS_WHAT, DIFFERS);
    verified.findings.extend(differs);
    let forgotten = about(
        &forgotten,
        "was passed over by planning: webhook",
        "systemctl restart belvo-gateway, and if it is still so afterwards, send this to whoever supports the gateway",
    );
    verified.findings.extend(forgotten);
    Ok(())
}

/// Whether each object is the JSON that Belvo sent.
fn objects(
    reader: &Reader,
    verified: &mut Verified,
    at: &mut impl FnMut(&str),
) -> rusqlite::Result<()> {
    let newest: i64 =
        reader.query_row("SELECT coalesce(max(rowid), 0) FROM objects", [], |row| {
            row.get(0)
        })?;
    let mut found = Vec::new();
    let mut from = 0;
    while from < newest && found.len() < VERIFY_FINDINGS_MAX {
        at(&format!("object {from} of {newest}"));
        let to = from + i64::from(VERIFY_ROWS_MAX);
        found.extend(numbers(
            reader,
            "SELECT rowid FROM objects WHERE rowid > ?2 AND rowid <= ?3 AND NOT json_valid(body) LIMIT ?1",
            [from, to],
        )?);
        from = to;
    }
    let next_step = "its body is no JSON any more; fetch its list again: belvo-gateway retry --link ID --resource NAME --fetched --yes, with link_id and resource of this row of the table objects";
    verified
        .findings
        .extend(about(&found, "is unreadable: object in row", next_step));
    Ok(())
}

/// Whether each view can be read.
fn views(reader: &Reader, verified: &mut Verified) -> rusqlite::Result<()> {
    let names: Vec<String> = reader
        .prepare("SELECT name FROM sqlite_schema WHERE type = 'view'")?
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    for name in names {
        let quoted = name.replace('"', "\"\"");
        let read = reader
            .prepare(&format!("SELECT * FROM \"{quoted}\" LIMIT 1"))
            .and_then(|mut statement| statement.query([])?.next().map(drop));
        if let Err(error) = read {
            verified.findings.push(Finding::other(
                format!("the view {name} cannot be read: {error}"),
                "systemctl restart belvo-gateway, which puts its own views in place; a view of yours may ask for what is not there any more",
            ));
        }
    }
    Ok(())
}

/// The first numbers that a question finds; its first parameter is how many.
fn numbers<const N: usize>(
    reader: &Reader,
    sql: &str,
    more: [i64; N],
) -> rusqlite::Result<Vec<i64>> {
    let parameters = std::iter::once(VERIFY_FINDINGS_MAX as i64).chain(more);
    reader
        .prepare_cached(sql)?
        .query_map(params_from_iter(parameters), |row| row.get(0))?
        .collect()
}

/// One finding about these rows, if there are any.
fn about(numbers: &[i64], what: &str, next_step: &str) -> Option<Finding> {
    let named: Vec<_> = numbers.iter().map(i64::to_string).collect();
    let more = match numbers.len() {
        0 => return None,
        VERIFY_FINDINGS_MAX.. => ", and perhaps more",
        _ => "",
    };
    let (verb, noun) = what.split_once(": ").unwrap_or((what, "row"));
    let text = format!("{noun} {} {verb}{more}", named.join(", "));
    Some(Finding::other(text, next_step))
}

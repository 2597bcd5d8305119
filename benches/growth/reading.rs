//! What an admin asks of a file: the commands, and the views through an SQLite connection of their own.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::ensure;
use rusqlite::{Connection, OpenFlags};

use crate::shared::place::Place;
use crate::shared::report::{markdown, median, ms};

/// Each is asked so often; the median counts.
const TIMES: usize = 5;

/// As they are typed, without `--state`.
const COMMANDS: &[&str] = &["status", "events list", "problems"];
/// As docs/database.md has them.
const QUERIES: &[(&str, &str)] = &[
    (
        "inbox, the newest 100",
        "SELECT * FROM inbox ORDER BY seq DESC LIMIT 100",
    ),
    (
        "inbox, the newest 100 of a link",
        "SELECT seq, received_at, type, code, state, error FROM inbox
          WHERE link_id = (SELECT min(link_id) FROM work) ORDER BY seq DESC LIMIT 100",
    ),
    ("attention", "SELECT * FROM attention"),
    ("freshness", "SELECT * FROM freshness"),
    (
        "inbox, all of unknown kinds",
        "SELECT type, code, count(*), max(received_at) FROM inbox WHERE state = 'unknown' GROUP BY type, code",
    ),
];

/// Asks; as a table.
pub(crate) fn measure(place: &Place, state: &Path) -> anyhow::Result<String> {
    let mut lines = Vec::new();
    for command in COMMANDS {
        let took = median_of(|| run(place, state, command))?;
        lines.push(vec![format!("`{command}`"), ms(took, 1)]);
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    for (name, sql) in QUERIES {
        let took = median_of(|| {
            let connection = Connection::open_with_flags(state.join("gateway.db"), flags)?;
            let mut statement = connection.prepare(sql)?;
            let mut rows = statement.query([])?;
            while rows.next()?.is_some() {}
            Ok(())
        })?;
        lines.push(vec![(*name).to_owned(), ms(took, 1)]);
    }
    Ok(markdown(&["asked for", "ms"], &lines))
}

fn run(place: &Place, state: &Path, command: &str) -> anyhow::Result<()> {
    let status = Command::new(&place.program)
        .args(command.split(' '))
        .arg("--state")
        .arg(state)
        .stdout(Stdio::null())
        .status()?;
    // 1 says that there are problems.
    ensure!(matches!(status.code(), Some(0 | 1)), "{command}: {status}");
    Ok(())
}

fn median_of(ask: impl Fn() -> anyhow::Result<()>) -> anyhow::Result<Duration> {
    let mut took = Vec::new();
    for _ in 0..TIMES {
        let begun = Instant::now();
        ask()?;
        took.push(begun.elapsed().as_secs_f64());
    }
    Ok(Duration::from_secs_f64(median(took)))
}

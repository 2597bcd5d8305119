//! `status`: the gateway's state at a glance, from the file alone, so that it works when the service is stopped.

use std::collections::BTreeMap;
use std::process::ExitCode;

use rusqlite::Connection;
use serde::Serialize;

use super::{open, print, state_directory, table};
use crate::cli::Reading;
use crate::store;

#[derive(Serialize)]
struct Status {
    file: String,
    /// Rows in the journal, and the newest.
    webhooks: i64,
    last_webhook: Option<String>,
    /// Journal rows that were not planned yet.
    unplanned: i64,
    /// How many of the webhooks are unknown.
    unknown: i64,
    /// Pieces of work by state.
    work: BTreeMap<String, i64>,
    /// Kept objects by resource.
    objects: BTreeMap<String, i64>,
    /// Refused requests by reason, since the file was made.
    refused: BTreeMap<String, i64>,
    open_problems: i64,
}

/// Shows it.
///
/// # Errors
/// When the file cannot be read.
pub fn run(arguments: &Reading) -> anyhow::Result<ExitCode> {
    let file = state_directory(arguments)?.join(crate::database::FILE_NAME);
    let status = look(&open(arguments)?, file.display().to_string())?;
    if arguments.json {
        print(&format!("{}\n", serde_json::to_string(&status)?))
    } else {
        print(&lines(&status))
    }?;
    Ok(ExitCode::SUCCESS)
}

fn look(connection: &Connection, file: String) -> rusqlite::Result<Status> {
    let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
    let by_name = |sql: &str| {
        connection
            .prepare(sql)?
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<rusqlite::Result<BTreeMap<_, _>>>()
    };
    let last = "SELECT strftime('%Y-%m-%dT%H:%M:%fZ', received_at / 1000.0, 'unixepoch') FROM journal ORDER BY seq DESC LIMIT 1";
    Ok(Status {
        file,
        webhooks: number("SELECT count(*) FROM journal")?,
        last_webhook: connection
            .prepare(last)?
            .query_map([], |row| row.get(0))?
            .next()
            .transpose()?,
        unplanned: number(
            "SELECT count(*) FROM journal WHERE seq > (SELECT value FROM meta WHERE key = 'planned_to')",
        )?,
        unknown: number("SELECT count(*) FROM events WHERE action = 'unknown'")?,
        work: by_name("SELECT state, count(*) FROM freshness GROUP BY state")?,
        objects: by_name(
            "SELECT resource, count(*) FROM objects WHERE deleted_at IS NULL GROUP BY resource",
        )?,
        refused: store::counters(connection, "refused.")?
            .into_iter()
            .collect(),
        open_problems: number("SELECT count(*) FROM problems WHERE closed_at IS NULL")?,
    })
}

fn lines(status: &Status) -> String {
    let mut rows = vec![
        vec!["file".to_owned(), status.file.clone()],
        vec!["webhooks".to_owned(), status.webhooks.to_string()],
        vec![
            "last webhook".to_owned(),
            status
                .last_webhook
                .clone()
                .unwrap_or_else(|| "never".to_owned()),
        ],
        vec!["not planned yet".to_owned(), status.unplanned.to_string()],
        vec!["unknown".to_owned(), status.unknown.to_string()],
        vec!["fetches".to_owned(), together(&status.work)],
        vec!["objects".to_owned(), together(&status.objects)],
        vec!["refused".to_owned(), together(&status.refused)],
    ];
    let problems = match status.open_problems {
        0 => "none".to_owned(),
        open => format!("{open} open; `belvo-gateway problems` shows them"),
    };
    rows.push(vec!["problems".to_owned(), problems]);
    table(&rows)
}

fn together(counts: &BTreeMap<String, i64>) -> String {
    match counts.is_empty() {
        true => "none".to_owned(),
        false => counts
            .iter()
            .map(|(name, count)| format!("{count} {name}"))
            .collect::<Vec<_>>()
            .join(", "),
    }
}

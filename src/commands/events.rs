//! `events`: the received webhooks, newest first, and one of them in full.

use std::process::ExitCode;

use anyhow::bail;
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::Serialize;

use super::{open, print, table};
use crate::cli::Events;

#[derive(Serialize)]
struct Event {
    seq: i64,
    received_at: String,
    r#type: Option<String>,
    code: Option<String>,
    link_id: Option<String>,
    request_id: Option<String>,
    resource: Option<String>,
    state: String,
    error: Option<String>,
    duplicate_of: Option<i64>,
    peer: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
}

const COLUMNS: &str =
    "seq, received_at, type, code, link_id, request_id, resource, state, error, duplicate_of, peer";

/// Lists or shows.
///
/// # Errors
/// When the file cannot be read, or there is no such webhook.
pub fn run(arguments: &Events) -> anyhow::Result<ExitCode> {
    match arguments {
        Events::List { reading, limit } => {
            let events = list(&open(reading)?, *limit)?;
            if reading.json {
                print(&format!("{}\n", serde_json::to_string(&events)?))
            } else {
                print(&lines(&events))
            }?;
        }
        Events::Show { seq, reading } => {
            let Some(event) = show(&open(reading)?, *seq)? else {
                bail!("there is no webhook {seq}; `events list` shows the numbers")
            };
            if reading.json {
                print(&format!("{}\n", serde_json::to_string(&event)?))
            } else {
                print(&in_full(&event))
            }?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn list(connection: &Connection, limit: u32) -> rusqlite::Result<Vec<Event>> {
    connection
        .prepare(&format!(
            "SELECT {COLUMNS} FROM inbox ORDER BY seq DESC LIMIT ?1"
        ))?
        .query_map(params![limit], event)?
        .collect()
}

fn show(connection: &Connection, seq: i64) -> rusqlite::Result<Option<Event>> {
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

fn or_dash(text: &Option<String>) -> String {
    text.clone().unwrap_or_else(|| "-".to_owned())
}

fn lines(events: &[Event]) -> String {
    let head = ["SEQ", "RECEIVED", "TYPE", "CODE", "LINK", "STATE"]
        .map(str::to_owned)
        .to_vec();
    let row = |event: &Event| {
        vec![
            event.seq.to_string(),
            event.received_at.clone(),
            or_dash(&event.r#type),
            or_dash(&event.code),
            or_dash(&event.link_id),
            event.state.clone(),
        ]
    };
    table(
        &std::iter::once(head)
            .chain(events.iter().map(row))
            .collect::<Vec<_>>(),
    )
}

fn in_full(event: &Event) -> String {
    let mut rows = vec![
        ("seq", event.seq.to_string()),
        ("received", event.received_at.clone()),
        ("from", event.peer.clone()),
        ("type", or_dash(&event.r#type)),
        ("code", or_dash(&event.code)),
        ("link", or_dash(&event.link_id)),
        ("request_id", or_dash(&event.request_id)),
        ("leads to", or_dash(&event.resource)),
        ("state", event.state.clone()),
    ];
    rows.extend(event.error.clone().map(|error| ("error", error)));
    rows.extend(event.duplicate_of.map(|seq| ("repeats", seq.to_string())));
    let rows: Vec<_> = rows
        .into_iter()
        .map(|(name, value)| vec![name.to_owned(), value])
        .collect();
    format!(
        "{}\n{}\n",
        table(&rows),
        event.body.as_deref().unwrap_or_default()
    )
}

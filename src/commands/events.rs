//! `events`: the received webhooks, newest first, and one of them in full.

use std::process::ExitCode;

use anyhow::bail;

use super::{open, print, table};
use crate::cli::Events;
use crate::store::inbox::{self, Event};

/// Lists or shows.
///
/// # Errors
/// When the file cannot be read, or there is no such webhook.
pub fn run(arguments: &Events) -> anyhow::Result<ExitCode> {
    match arguments {
        Events::List { reading, limit } => {
            let events = inbox::list(&open(reading)?, *limit)?;
            if reading.json {
                print(&format!("{}\n", serde_json::to_string(&events)?))
            } else {
                print(&lines(&events))
            }?;
        }
        Events::Show { seq, reading } => {
            let Some(event) = inbox::show(&open(reading)?, *seq)? else {
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

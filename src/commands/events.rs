//! `events`: the received webhooks, newest first, and one of them in full.

use std::process::ExitCode;

use anyhow::bail;
use serde::Serialize;

use super::{open, print, table, typed_time};
use crate::cli::{Events, Narrowed};
use crate::store::inbox::{self, Asked, Became, Event};
use crate::webhook;

/// Lists or shows.
///
/// # Errors
/// When the file cannot be read, or there is no such webhook.
pub fn run(arguments: &Events) -> anyhow::Result<ExitCode> {
    match arguments {
        Events::List {
            reading,
            narrowed,
            limit,
        } => {
            let narrowed = narrow(narrowed)?;
            let events = inbox::list(&open(reading)?, &narrowed, *limit)?;
            if reading.json {
                print(&format!("{}\n", serde_json::to_string(&events)?))
            } else {
                print(&lines(&events))
            }?;
        }
        Events::Show { seq, reading } => {
            let reader = open(reading)?;
            let Some(event) = inbox::show(&reader, *seq)? else {
                bail!("there is no webhook {seq}; `events list` shows the numbers")
            };
            let became = inbox::became(&reader, &event)?;
            if reading.json {
                print(&format!(
                    "{}\n",
                    serde_json::to_string(&Shown { event, became })?
                ))
            } else {
                print(&in_full(&event, &became))
            }?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    event: Event,
    became: Became,
}

fn narrow(typed: &Narrowed) -> anyhow::Result<inbox::Narrowed> {
    if let Some(state) = typed.in_state.as_deref()
        && !inbox::STATES.contains(&state)
    {
        bail!(
            "{state} is no state; known are {}",
            inbox::STATES.join(", ")
        );
    }
    Ok(inbox::Narrowed {
        since: typed_time("--since", &typed.since)?,
        until: typed_time("--until", &typed.until)?,
        r#type: typed.r#type.clone(),
        code: typed.code.clone(),
        link_id: typed.link.clone().map(webhook::normal),
        state: typed.in_state.clone(),
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
            or_dash(&event.received_at),
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

fn in_full(event: &Event, became: &Became) -> String {
    let mut rows = vec![
        ("seq", event.seq.to_string()),
        ("received", or_dash(&event.received_at)),
        ("from", or_dash(&event.peer)),
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
        "{}{}\n{}\n",
        table(&rows),
        what_became(became),
        event
            .body
            .as_deref()
            .unwrap_or("(its body has gone: keep-days or journal-max-mib under [storage])")
    )
}

fn what_became(became: &Became) -> String {
    let mut text = String::new();
    if !became.work.is_empty() {
        let head = [
            "RESOURCE",
            "OBJECT",
            "STATE",
            "FAILURES",
            "LAST FETCHED",
            "NEXT TRY",
            "LAST ERROR",
        ]
        .map(str::to_owned)
        .to_vec();
        let rows = std::iter::once(head).chain(became.work.iter().map(asked));
        text += &format!("\nfetches\n{}", table(&rows.collect::<Vec<_>>()));
        if became.more_work {
            text += "and more; the view freshness has them all\n";
        }
    }
    if became.deleted_count > 0 {
        let rows = became.deleted.iter();
        let rows = rows.map(|deleted| vec![deleted.resource.clone(), deleted.id.clone()]);
        text += &format!(
            "\n{} objects marked as deleted\n{}",
            became.deleted_count,
            table(&rows.collect::<Vec<_>>())
        );
    }
    if let Some(link) = &became.link {
        text += &format!("\nlink is {} ({})\n", link.status, link.reason);
    }
    for consent in &became.consents {
        text += &format!(
            "\nconsent {} is {} ({})\n",
            consent.id, consent.status, consent.reason
        );
    }
    text
}

fn asked(asked: &Asked) -> Vec<String> {
    let object = Some(asked.object_id.clone()).filter(|id| !id.is_empty());
    vec![
        asked.resource.clone(),
        or_dash(&object),
        asked.state.clone(),
        asked.attempts.to_string(),
        or_dash(&asked.last_fetched),
        or_dash(&asked.next_try),
        or_dash(&asked.last_error),
    ]
}

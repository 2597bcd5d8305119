//! `status`: the gateway's state at a glance, from the file alone, so that it works when the service is stopped.

use std::collections::BTreeMap;
use std::process::ExitCode;

use serde::Serialize;

use super::{open, print, state_directory, table};
use crate::cli::Reading;
use crate::store::summary::{self, Summary};

#[derive(Serialize)]
struct Status {
    file: String,
    #[serde(flatten)]
    summary: Summary,
}

/// Shows it.
///
/// # Errors
/// When the file cannot be read.
pub fn run(arguments: &Reading) -> anyhow::Result<ExitCode> {
    let file = state_directory(arguments)?.join(crate::database::FILE_NAME);
    let summary = summary::look(&open(arguments)?)?;
    let status = Status {
        file: file.display().to_string(),
        summary,
    };
    if arguments.json {
        print(&format!("{}\n", serde_json::to_string(&status)?))
    } else {
        print(&lines(&status))
    }?;
    Ok(ExitCode::SUCCESS)
}

fn lines(
    Status {
        file,
        summary: status,
    }: &Status,
) -> String {
    let mut rows = vec![
        vec!["file".to_owned(), file.clone()],
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
    if let Some(until) = &status.certificate_until {
        rows.push(vec![
            "certificate".to_owned(),
            format!("valid until {until}"),
        ]);
    }
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

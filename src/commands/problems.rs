//! `problems`: what a person should know, worst first, each with its next step.

use std::process::ExitCode;

use serde::Serialize;

use super::{open, print};
use crate::cli;
use crate::store::problems::{self, Listed};

#[derive(Serialize)]
struct Problem<'a> {
    problem: i64,
    kind: &'a str,
    subject: &'a str,
    severity: u8,
    since: String,
    last_seen: String,
    count: i64,
    text: &'a str,
    next_step: &'a str,
    closed: Option<String>,
}

/// Lists. Exit 1 when a problem is open, so that a script can ask.
///
/// # Errors
/// When the file cannot be read.
pub fn run(arguments: &cli::Problems) -> anyhow::Result<ExitCode> {
    let listed = problems::list(&open(&arguments.reading)?, arguments.all)?;
    if arguments.reading.json {
        print(&format!(
            "{}\n",
            serde_json::to_string(&listed.iter().map(problem).collect::<Vec<_>>())?
        ))?;
    } else if listed.is_empty() {
        print("nothing needs attention\n")?;
    } else {
        print(&listed.iter().map(in_full).collect::<Vec<_>>().join("\n"))?;
    }
    let open = listed.iter().any(|problem| problem.closed.is_none());
    Ok(if open {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn problem(listed: &Listed) -> Problem<'_> {
    Problem {
        problem: listed.problem,
        kind: &listed.kind,
        subject: &listed.subject,
        severity: listed.severity,
        since: listed.since.to_string(),
        last_seen: listed.last.to_string(),
        count: listed.count,
        text: &listed.text,
        next_step: &listed.next_step,
        closed: listed.closed.map(|at| at.to_string()),
    }
}

fn in_full(listed: &Listed) -> String {
    let Listed {
        kind,
        subject,
        since,
        last,
        count,
        text,
        next_step,
        ..
    } = listed;
    let state = listed
        .closed
        .map(|at| format!(", over since {at}"))
        .unwrap_or_default();
    let subject = if subject.is_empty() {
        String::new()
    } else {
        format!(": {subject}")
    };
    format!(
        "{kind}{subject}{state}\n  {text}\n  next: {next_step}\n  since {since}, last {last}, {count} times\n"
    )
}

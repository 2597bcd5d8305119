//! `retry`: shows the work that would be taken up, or has it taken up.

use std::process::ExitCode;

use super::acting::Acting;
use super::{open, print, table};
use crate::cli::Retry;
use crate::operate::retry::{self, Report, Row};
use crate::operate::{Order, Report as Any};

/// Shows or does it.
///
/// # Errors
/// When the webhook, resource or class is not known, or it could not be done.
pub fn run(arguments: &Retry) -> anyhow::Result<ExitCode> {
    let order = retry::Order {
        event: arguments.event,
        link: arguments.link.clone(),
        resource: arguments.resource.clone(),
        class: arguments.class.clone(),
        fetched: arguments.fetched,
    };
    let (report, by_running) = match arguments.yes {
        false => (retry::look(&open(&arguments.reading)?, &order)?, true),
        true => {
            let of = |report| match report {
                Any::Retry(report) => Some(report),
                _ => None,
            };
            let acted = Acting::on(&arguments.reading)?.act(&Order::Retry(order), of)?;
            (acted.report, acted.by_running)
        }
    };
    print(&match arguments.reading.json {
        true => format!("{}\n", serde_json::to_string(&report)?),
        false => in_words(&report, by_running),
    })?;
    Ok(ExitCode::SUCCESS)
}

fn in_words(report: &Report, by_running: bool) -> String {
    if report.work.is_empty() {
        return "nothing to take up: nothing that was asked for waits or has failed there (--fetched asks again for what is fresh)\n".to_owned();
    }
    let head = [
        "LINK",
        "RESOURCE",
        "OBJECT",
        "STATE",
        "FAILURES",
        "LAST ERROR",
    ]
    .map(str::to_owned)
    .to_vec();
    let mut text = table(
        &std::iter::once(head)
            .chain(report.work.iter().map(line))
            .collect::<Vec<_>>(),
    );
    let count = report.work.len();
    let more = if report.more { " and more" } else { "" };
    text += &match (report.done, by_running) {
        (false, _) => format!("\n{count}{more} would be fetched at once; give --yes to do it\n"),
        (true, true) => format!("\n{count}{more} are fetched now, within the request budget\n"),
        (true, false) => format!("\n{count}{more} are fetched when the gateway is started\n"),
    };
    let held = report
        .work
        .iter()
        .filter(|row| row.held_by_link.is_some())
        .count();
    if held > 0 {
        text += &format!(
            "{held} of them wait for their link all the same (it is invalid, token_required, unconfirmed or deleted): a webhook that the link works again, or its record, lifts that; `belvo-gateway problems` says what its user has to do\n"
        );
    }
    text
}

fn line(row: &Row) -> Vec<String> {
    let or_dash = |text: &str| {
        if text.is_empty() {
            "-".to_owned()
        } else {
            text.to_owned()
        }
    };
    let state = match &row.held_by_link {
        Some(link) => format!("{} (link {link})", row.state),
        None => row.state.clone(),
    };
    vec![
        row.name.link_id.clone(),
        row.name.resource.clone(),
        or_dash(&row.name.object_id),
        state,
        row.attempts.to_string(),
        or_dash(row.error.as_deref().unwrap_or_default()),
    ]
}

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
    text += &match (report.done, by_running) {
        (false, _) => format!("\n{count} would be fetched at once; give --yes to do it\n"),
        (true, true) => format!("\n{count} are fetched now, within the request budget\n"),
        (true, false) => format!("\n{count} are fetched when the gateway is started\n"),
    };
    if report.more {
        text += "there is more than that, which is left as it is: narrow it down with --link, --resource or --class\n";
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operate::Name;

    #[test]
    fn what_is_beyond_one_order_is_not_said_to_be_fetched() {
        let row = Row {
            name: Name {
                link_id: "l".to_owned(),
                resource: "accounts".to_owned(),
                object_id: String::new(),
            },
            state: "waiting".to_owned(),
            attempts: 0,
            error: None,
            held_by_link: None,
        };
        let report = Report {
            done: true,
            work: vec![row],
            more: true,
        };
        let said = in_words(&report, true);
        assert!(said.contains("\n1 are fetched now"), "{said}");
        assert!(said.contains("left as it is: narrow it down"), "{said}");
    }
}

//! `erase`: shows what is kept of a link, or has it removed.

use std::process::ExitCode;

use anyhow::bail;

use super::acting::Acting;
use super::{open, print, table};
use crate::cli::Erase;
use crate::operate::erase::{self, Report};
use crate::operate::{Order, Report as Any};

/// Shows or does it. Exit 1 when it was done and a reader still holds an older state of the file.
///
/// # Errors
/// When it could not be done.
pub fn run(arguments: &Erase) -> anyhow::Result<ExitCode> {
    let order = erase::Order {
        link: arguments.link.clone(),
    };
    let look = erase::look(&open(&arguments.reading)?, &order)?;
    if look.removed.is_empty() && !look.removed.erased {
        bail!(
            "nothing is kept of link {}; `belvo-gateway events list` shows the links",
            look.link
        );
    }
    let report = match arguments.yes {
        false => look,
        true => {
            let of = |report| match report {
                Any::Erase(report) => Some(report),
                _ => None,
            };
            let acted = Acting::on(&arguments.reading)?.act(&Order::Erase(order), of)?;
            acted.report
        }
    };
    print(&match arguments.reading.json {
        true => format!("{}\n", serde_json::to_string(&report)?),
        false => in_words(&report),
    })?;
    Ok(match report.done && !report.wal_emptied {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    })
}

fn in_words(report: &Report) -> String {
    let Report { link, removed, .. } = report;
    let row = |name: &str, count: u64| vec![name.to_owned(), count.to_string()];
    let mut rows: Vec<_> = removed
        .objects
        .iter()
        .map(|(resource, count)| row(resource, *count))
        .collect();
    rows.extend([
        row("consents", removed.consents),
        row("work", removed.work),
        row("problems", removed.problems),
        row("webhooks (bodies and ids)", removed.deliveries),
        row("record of the link", u64::from(removed.link)),
    ]);
    let kept = table(&rows);
    match (report.done, report.wal_emptied) {
        (false, _) if removed.unfinished && removed.is_empty() => format!(
            "the erasure of link {link} was begun and is not finished: bytes of it may still be in the file. The gateway finishes it when it is started, and tries once an hour; give --yes to do it now\n"
        ),
        (false, _) if removed.erased && removed.is_empty() => {
            format!("link {link} was erased before, and nothing is kept of it\n")
        }
        (false, _) => format!(
            "link {link}: this would be removed for good, and nothing of it would be kept again\n{kept}\nBelvo keeps its own copy: delete the link there first. Give --yes to erase it here\n"
        ),
        (true, true) => format!("link {link}: this was removed for good\n{kept}"),
        (true, false) => format!(
            "link {link}: this was removed\n{kept}\nbut a program that reads the file keeps older pages in gateway.db-wal: close it (for example an open sqlite3) and do this again, or have the gateway do it, which tries once an hour\n"
        ),
    }
}

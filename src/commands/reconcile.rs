//! `reconcile`: has the links compared with Belvo's list, shows what was found, and waits until what moved is fetched.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::bail;
use serde::Serialize;

use super::acting::{Acted, Acting};
use super::{print, table, typed_time};
use crate::cli::Reconcile;
use crate::database::open_reader;
use crate::operate::reconcile::{self, Report, Stand};
use crate::operate::socket;
use crate::operate::{Name, Order, Report as Any};

/// Until the next look at how far the fetches have come.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Looks after which it is asked whether the gateway still runs.
const ASK_EVERY: u32 = 20;

/// A report, and what became of the lists that were waited for.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    report: &'a Report,
    fetched: Option<Vec<Fetched>>,
}

/// A list that was waited for.
#[derive(Serialize)]
struct Fetched {
    #[serde(flatten)]
    name: Name,
    #[serde(flatten)]
    stand: Stand,
}

/// Compares, shows, and waits. Exit 1 when something that was marked could not be fetched.
///
/// # Errors
/// When Belvo could not be asked, or the file could not be read or written.
pub fn run(arguments: &Reconcile) -> anyhow::Result<ExitCode> {
    let since = typed_time("--since", &arguments.since)?;
    let order = reconcile::Order {
        since_ms: since.map(|since| since.0),
        dry_run: arguments.dry_run,
        tombstone_missing: arguments.tombstone_missing,
    };
    let acting = Acting::on(&arguments.reading)?;
    let of = |report| match report {
        Any::Reconcile(report) => Some(report),
        _ => None,
    };
    let Acted { report, by_running } = acting.act(&Order::Reconcile(order), of)?;
    if !arguments.reading.json {
        print(&in_words(&report))?;
    }
    let fetched = match report.done && by_running && !arguments.no_wait && !report.marked.is_empty()
    {
        true => Some(wait(&acting, &report)?),
        false => None,
    };
    if arguments.reading.json {
        let shown = Shown {
            report: &report,
            fetched,
        };
        print(&format!("{}\n", serde_json::to_string(&shown)?))?;
        return Ok(code(shown.fetched.as_deref()));
    }
    print(&match &fetched {
        Some(fetched) => outcome(fetched, arguments.tombstone_missing),
        None if !report.done => "nothing was changed (--dry-run)\n".to_owned(),
        None if report.marked.is_empty() => String::new(),
        None if !by_running => "no gateway runs: the lists are fetched when it is started; `belvo-gateway status` and the view freshness show how far it is\n".to_owned(),
        None => "the lists are fetched now, within the request budget; the view freshness shows how far it is\n".to_owned(),
    })?;
    Ok(code(fetched.as_deref()))
}

fn code(fetched: Option<&[Fetched]>) -> ExitCode {
    let failed = fetched
        .unwrap_or_default()
        .iter()
        .any(|fetched| fetched.stand.error.is_some());
    if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

/// Waits until each list was fetched, failed once, or is held up by its link.
fn wait(acting: &Acting, report: &Report) -> anyhow::Result<Vec<Fetched>> {
    let terminal = io::stderr().is_terminal();
    let reader = open_reader(&acting.directory)?;
    let waiting = |marked: &reconcile::Marked| Fetched {
        name: marked.name.clone(),
        stand: Stand {
            waits: true,
            ..Stand::default()
        },
    };
    let mut fetched: Vec<_> = report.marked.iter().map(waiting).collect();
    for look in 1u32.. {
        if look % ASK_EVERY == 0 && !socket::is_there(&acting.directory) {
            bail!("the gateway has ended; what was marked is fetched when it is started again")
        }
        // Only at what is still open: there may be thousands, and the gateway needs the processor as well.
        for fetched in fetched.iter_mut().filter(|fetched| fetched.stand.waits) {
            fetched.stand = reconcile::stand(&reader, &fetched.name)?;
        }
        let open = fetched.iter().filter(|fetched| fetched.stand.waits).count();
        if terminal {
            let done = fetched.len() - open;
            eprint!("\rfetched {done} of {}", fetched.len());
            if open == 0 {
                eprintln!();
            }
            io::stderr().flush()?;
        }
        if open == 0 {
            return Ok(fetched);
        }
        thread::sleep(LOOK_EVERY);
    }
    Ok(Vec::new())
}

fn in_words(report: &Report) -> String {
    let mut text = format!("Belvo lists {} links\n", report.links);
    if !report.agreed {
        text += "the list never agreed with its own count, so what is missing from it was not looked at; do this again later\n";
    }
    for changed in &report.changed {
        let before = changed.before.as_deref().unwrap_or("not known");
        text += &format!("link {}: {before} -> {}\n", changed.link_id, changed.now);
    }
    for link in &report.gone {
        text +=
            &format!("link {link} is not in Belvo's list: its record tells whether it is gone\n");
    }
    if report.marked.is_empty() {
        text += "nothing has moved without a webhook\n";
    } else {
        text += match report.done {
            true => "\nfetched again:\n",
            false => "\nwould be fetched again:\n",
        };
        let line = |marked: &reconcile::Marked| {
            vec![
                marked.name.link_id.clone(),
                marked.name.resource.clone(),
                marked.why.clone(),
            ]
        };
        text += &table(&report.marked.iter().map(line).collect::<Vec<_>>());
        if report.marked_more > 0 {
            text += &format!("and {} more\n", report.marked_more);
        }
    }
    if !report.left.is_empty() {
        text += "\nleft as they are:\n";
        let line = |(why, count): (&String, &u64)| vec![count.to_string(), why.clone()];
        text += &table(&report.left.iter().map(line).collect::<Vec<_>>());
    }
    text + "\n"
}

fn outcome(fetched: &[Fetched], swept: bool) -> String {
    let good = fetched
        .iter()
        .filter(|fetched| fetched.stand.is_good())
        .count();
    let mut text = format!("{good} of {} lists were fetched\n", fetched.len());
    for Fetched { name, stand } in fetched {
        let what = format!("{} of link {}", name.resource, name.link_id);
        if let Some(error) = &stand.error {
            text += &format!("{what}: {error}\n");
        } else if let Some(link) = &stand.held_by_link {
            text += &format!("{what}: waits, the link is {link}\n");
        } else if stand.doubtful {
            text += &format!(
                "{what}: never agreed with its own count, so it is not known what is missing from it{}\n",
                if swept {
                    "; the next list that does marks that as deleted"
                } else {
                    ""
                }
            );
        } else if let Some(missing) = stand.missing.filter(|missing| *missing > 0) {
            text += &format!(
                "{what}: {missing} objects of the file are not in Belvo's complete list; --tombstone-missing would mark them as deleted\n"
            );
        }
    }
    if swept {
        text += "what the complete lists did not hold is marked as deleted\n";
    }
    text
}

//! `snapshot`: a copy of the file as one clean file, beside a running gateway or without one.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use serde::Serialize;

use super::{print, state_directory};
use crate::cli::Snapshot;
use crate::config::{self, Surroundings};
use crate::database::room::Floor;
use crate::database::snapshot::{self, Wanted};
use crate::journal;

#[derive(Serialize)]
struct Shown {
    file: String,
    bytes: u64,
    webhooks: i64,
}

/// Copies, and checks the copy.
///
/// # Errors
/// When there is no copy then.
pub fn run(arguments: &Snapshot) -> anyhow::Result<ExitCode> {
    let directory = state_directory(&arguments.reading)?;
    let wanted = Wanted {
        state_directory: &directory,
        to: &arguments.file,
        replace: arguments.force,
        floor: floor(arguments),
        count: journal::count,
    };
    let terminal = io::stderr().is_terminal();
    let outcome = snapshot::take(&wanted, |copied, all| {
        if terminal {
            // Only to show that something happens.
            let percent = copied * 100 / all.max(1);
            drop(write!(io::stderr(), "\r\x1b[Kcopied {percent} %"));
        }
    });
    if terminal {
        eprint!("\r\x1b[K");
    }
    let made = outcome?;
    let shown = Shown {
        file: arguments.file.display().to_string(),
        bytes: made.bytes,
        webhooks: made.webhooks,
    };
    print(&match arguments.reading.json {
        true => format!("{}\n", serde_json::to_string(&shown)?),
        false => format!(
            "{}: {} webhooks in {} KiB, checked and synced\n",
            shown.file,
            shown.webhooks,
            shown.bytes / 1024
        ),
    })?;
    Ok(ExitCode::SUCCESS)
}

/// What stays free, as configured; as it is by default where the configuration is not read or not good.
fn floor(arguments: &Snapshot) -> Floor {
    let file = &arguments.reading.configured.config;
    let asked = arguments.reading.state.is_none();
    let settings = asked.then(|| config::load(file, &Surroundings::of_the_service()).ok());
    let storage = settings.flatten().map(|settings| settings.storage);
    storage.map_or_else(Floor::default, |storage| storage.floor)
}

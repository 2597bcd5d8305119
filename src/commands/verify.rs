//! `verify`: reads the whole file beside a running gateway or without one, and says whether it keeps what it promises.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use serde::Serialize;

use super::{print, state_directory};
use crate::cli;
use crate::database::{FILE_NAME, damage, open_reader};
use crate::store::verify::{self, Finding, Verified};

#[derive(Serialize)]
struct Shown<'a> {
    file: String,
    sound: bool,
    #[serde(flatten)]
    verified: &'a Verified,
}

/// Verifies. Exit 1 when something is wrong.
///
/// # Errors
/// When the file cannot be read at all.
pub fn run(arguments: &cli::Verify) -> anyhow::Result<ExitCode> {
    let directory = state_directory(&arguments.reading)?;
    let terminal = io::stderr().is_terminal();
    let outcome = look(&directory, |at| {
        if terminal {
            // Only to show that something happens.
            drop(write!(io::stderr(), "\r\x1b[Klooking at {at}"));
        }
    });
    if terminal {
        eprint!("\r\x1b[K");
    }
    let verified = outcome?;
    let shown = Shown {
        file: directory.join(FILE_NAME).display().to_string(),
        sound: verified.findings.is_empty(),
        verified: &verified,
    };
    if arguments.reading.json {
        print(&format!("{}\n", serde_json::to_string(&shown)?))?;
    } else {
        print(&in_words(&shown))?;
    }
    let damaged = verified.findings.iter().find(|finding| finding.damage);
    if let (true, Some(damaged)) = (arguments.set_aside, damaged) {
        damage::note(&directory, &damaged.what)?;
        eprintln!(
            "the next start of the gateway sets the file aside: systemctl restart belvo-gateway"
        );
    }
    Ok(match shown.sound {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// What is wrong; that SQLite cannot use the file is a finding like any other.
fn look(directory: &std::path::Path, at: impl FnMut(&str)) -> anyhow::Result<Verified> {
    let damaged = |what: String| Verified {
        webhooks: 0,
        findings: vec![Finding::damage(what)],
    };
    let reader = match open_reader(directory) {
        Ok(reader) => reader,
        Err(error) if error.is_damage() => return Ok(damaged(error.to_string())),
        Err(error) => return Err(error.into()),
    };
    match verify::verify(&reader, at) {
        Err(error) if damage::is_damage(&error) => Ok(damaged(error.to_string())),
        other => Ok(other?),
    }
}

fn in_words(shown: &Shown<'_>) -> String {
    let Verified { webhooks, findings } = shown.verified;
    let mut text = format!("{}: {webhooks} webhooks were compared\n", shown.file);
    if shown.sound {
        return text + "everything is as it should be\n";
    }
    for Finding {
        what, next_step, ..
    } in findings
    {
        text += &format!("\n{what}\n  next: {next_step}\n");
    }
    text
}

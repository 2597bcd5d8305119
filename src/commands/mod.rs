//! One file for each subcommand, with the same parts in the same order: what it reads, what it does, what it prints. This
//! file calls the right one and holds what they share: finding the file that is looked at.

mod acting;
pub mod check;
pub mod demo;
pub mod doctor;
pub mod erase;
pub mod events;
mod explain;
pub mod problems;
pub mod reconcile;
pub mod retry;
pub mod selftest;
pub mod serve;
pub mod snapshot;
pub mod status;
pub mod verify;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;

use crate::cli::{Command, Reading};
use crate::config::{self, Surroundings};
use crate::database::{Reader, damage, open_reader};
use crate::system::clock::UnixMs;
use crate::system::errors::sentence;
use crate::system::times;

/// Does what was typed. Errors and exit codes leave the program here.
pub fn run(command: &Command) -> ExitCode {
    let outcome = match command {
        Command::Serve(arguments) => serve::run(arguments),
        Command::Demo(arguments) => demo::run(arguments),
        Command::Check(arguments) => check::run(arguments),
        Command::Doctor(arguments) => doctor::run(arguments),
        Command::Status(arguments) => status::run(arguments),
        Command::Events(arguments) => events::run(arguments),
        Command::Problems(arguments) => problems::run(arguments),
        Command::Retry(arguments) => retry::run(arguments),
        Command::Reconcile(arguments) => reconcile::run(arguments),
        Command::Erase(arguments) => erase::run(arguments),
        Command::Snapshot(arguments) => snapshot::run(arguments),
        Command::Verify(arguments) => verify::run(arguments),
        Command::SelfTest(arguments) => selftest::run(arguments),
    };
    outcome.unwrap_or_else(|error| {
        let said = sentence(error.as_ref());
        let advice = damage::advice(error.as_ref()).filter(|_| !said.contains("verify"));
        match advice {
            Some(advice) => eprintln!("belvo-gateway: {said}; {advice}"),
            None => eprintln!("belvo-gateway: {said}"),
        }
        ExitCode::FAILURE
    })
}

/// The state directory: as given, or as configured.
fn state_directory(reading: &Reading) -> anyhow::Result<PathBuf> {
    match &reading.state {
        Some(path) => Ok(path.clone()),
        None => config::state_directory(&reading.configured.config, &Surroundings::of_process())
            .context("no --state DIR was given, and the configuration does not help"),
    }
}

fn open(reading: &Reading) -> anyhow::Result<Reader> {
    Ok(open_reader(&state_directory(reading)?)?)
}

/// A time as it was typed.
fn typed_time(option: &str, text: &Option<String>) -> anyhow::Result<Option<UnixMs>> {
    let read = |text: &String| {
        times::typed(text, UnixMs::now()).with_context(|| {
            format!(
                "{option} {text:?} is no time; write 2026-11-23T05:31:56Z, 2026-11-23, 24h or 7d"
            )
        })
    };
    text.as_ref().map(read).transpose()
}

/// Prints and minds a closed pipe no more than other programs do.
fn print(text: &str) -> anyhow::Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

/// Columns padded to their widest cell, two spaces apart; the last is left as it is.
fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<_> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells: Vec<_> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let row = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        assert_eq!(
            table(&[row(["SEQ", "TYPE"]), row(["1", "ACCOUNTS"])]),
            "SEQ  TYPE\n1    ACCOUNTS\n"
        );
    }
}

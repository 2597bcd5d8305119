//! The growth bench: the start, the intake and an admin's questions on a file of a million webhooks and a million objects,
//! beside a small one, as tables. Fails when something malfunctions, never because a figure is poor.
//!
//! ```sh
//! cargo bench --locked --bench growth                    # everything, in about two minutes
//! cargo bench --locked --bench growth -- --only reading  # start, reading or rates
//! ```

mod file;
mod rates;
mod reading;
#[path = "../shared/mod.rs"]
mod shared;

use std::time::Duration;

use anyhow::Context;
use belvo_gateway::standin::sender::Sender;
use clap::Parser;

use shared::place::{Common, Place};
use shared::program::{PATH, Site};
use shared::report::{markdown, median, ms};

/// The arguments after `--`.
#[derive(Debug, Parser)]
struct Arguments {
    /// Webhooks, and objects, in the file that has grown.
    #[arg(long, default_value_t = 1_000_000)]
    rows: i64,
    /// Rounds of each load.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of each round.
    #[arg(long, default_value_t = 0.8)]
    seconds: f64,
    /// Only what has this in its name: start, reading, rates.
    #[arg(long, default_value = "")]
    only: String,
    #[command(flatten)]
    common: Common,
}

/// Starts of each file.
const STARTS: usize = 9;

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let window = Duration::try_from_secs_f64(arguments.seconds).context("--seconds")?;
    let chosen = |name: &str| name.contains(&arguments.only);
    let place = Place::new(arguments.common.program.clone())?;
    println!("{}\n", place.machine());
    let site = Site::new(&place)?;
    eprintln!("the program fills a file ...");
    file::begin(&site)?;
    let mut starts = Vec::new();
    for rows in [arguments.rows / 100, arguments.rows / 10, arguments.rows] {
        eprintln!("{rows} rows ...");
        let bytes = file::grow(&site.state(), rows)?;
        if chosen("start") {
            starts.push(started(&site, rows, bytes)?);
        }
    }
    if chosen("start") {
        let head = [
            "webhooks, and objects",
            "file MiB",
            "start to first 200, ms",
        ];
        println!("Start\n\n{}", markdown(&head, &starts));
    }
    if chosen("reading") {
        eprintln!("reading ...");
        let table = reading::measure(&place, &site.state())?;
        println!(
            "Reading, of {} webhooks and objects\n\n{table}",
            arguments.rows
        );
    }
    if chosen("rates") {
        eprintln!("rates ...");
        let table = rates::measure(&place, &site, arguments.rounds, window)?;
        println!(
            "Intake, of {} webhooks and objects\n\n{table}",
            arguments.rows
        );
    }
    Ok(())
}

fn started(site: &Site<'_>, rows: i64, bytes: u64) -> anyhow::Result<Vec<String>> {
    let sender = Sender::plain(site.address, PATH);
    let starts = (0..STARTS).map(|_| Ok(site.first_200(&sender)?.1.as_secs_f64()));
    let median = median(starts.collect::<anyhow::Result<_>>()?);
    Ok(vec![
        rows.to_string(),
        (bytes / 1024 / 1024).to_string(),
        ms(Duration::from_secs_f64(median), 1),
    ])
}

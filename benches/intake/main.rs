//! The intake's bench: the program as it is served, side by side with what it could be compared to, as a table. Fails
//! when something malfunctions, never because a figure is poor. Judges nothing: goals stand beside the figures.
//!
//! ```sh
//! cargo bench --locked --bench intake                        # everything, in about six minutes
//! cargo bench --locked --bench intake -- --only slow/64      # scenarios with this in their name
//! cargo bench --locked --bench intake -- --program OTHER     # another build, for before and after
//! ```

mod figures;
mod measured;
mod scenario;
mod servers;
#[path = "../shared/mod.rs"]
mod shared;
mod start;
mod subject;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;

use figures::Figures;
use scenario::Scenario;
use servers::{Listening, Role};
use shared::place::{Common, Place};

/// How long an idle gateway is watched.
const IDLE: Duration = Duration::from_secs(60);

/// The arguments after `--`.
#[derive(Debug, Parser)]
struct Arguments {
    /// Rounds of each scenario; each figure is the median of them.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds each subject is measured for in a round.
    #[arg(long, default_value_t = 0.8)]
    seconds: f64,
    /// Only what has this in its name: plain/1, plain/8, plain/64, plain/new, plain/tls, plain/resumed, slow/1 ...,
    /// start, idle.
    #[arg(long, default_value = "")]
    only: String,
    #[command(flatten)]
    common: Common,
    /// Be what the program is compared to, in a process of its own.
    #[arg(long, hide = true, requires = "directory")]
    role: Option<Role>,
    /// Where that listens.
    #[arg(long, hide = true, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Where that writes.
    #[arg(long, hide = true)]
    directory: Option<PathBuf>,
    /// With which certificate and key, if it does TLS.
    #[arg(long, hide = true, requires = "key")]
    certificate: Option<PathBuf>,
    #[arg(long, hide = true)]
    key: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let window = Duration::try_from_secs_f64(arguments.seconds).context("--seconds")?;
    match (arguments.role, &arguments.directory) {
        (Some(role), Some(directory)) => {
            let files = arguments.certificate.clone().zip(arguments.key.clone());
            let listening = Listening {
                address: arguments.listen,
                tls: files.map(servers::tls).transpose()?,
            };
            servers::run(role, listening, directory, window)
        }
        _ => measure(&arguments, window),
    }
}

fn measure(arguments: &Arguments, window: Duration) -> anyhow::Result<()> {
    let place = Place::new(arguments.common.program.clone())?;
    println!(
        "{}; {} rounds of {window:?}, in which the subjects take turns. Rates, times and ratios are medians of the rounds; \
         what a webhook costs is the mean over all of them.\n",
        place.machine(),
        arguments.rounds
    );
    let mut figures = Figures::default();
    for storage in scenario::Storage::ALL {
        let scenarios = Scenario::all(storage);
        let chosen = scenarios
            .into_iter()
            .filter(|scenario| scenario.name().contains(&arguments.only));
        let mut rows = Vec::new();
        for scenario in chosen {
            eprintln!("{} ...", scenario.name());
            rows.extend(scenario.run(&place, arguments.rounds, window)?);
        }
        if !rows.is_empty() {
            println!("{storage}\n\n{}", measured::table(&rows));
            figures.take(rows);
        }
    }
    if "start".contains(&arguments.only) {
        eprintln!("start ...");
        let started = start::measure(&place)?;
        println!("Start and rest\n\n{}", start::table(&started));
        figures.take_started(started);
    }
    if "idle".contains(&arguments.only) {
        eprintln!("idle ...");
        let table = start::idle(&place, IDLE)?;
        println!("Idle for {IDLE:?}, without a watchdog\n\n{table}");
    }
    println!("{figures}");
    Ok(())
}

//! The intake's bench: the program as it is served, side by side with what it could be compared to, as a table. Fails
//! when something malfunctions, never because a figure is poor. Judges nothing: goals stand beside the figures.
//!
//! ```sh
//! cargo bench --locked --bench intake                        # everything, in under three minutes
//! cargo bench --locked --bench intake -- --only slow/64      # scenarios with this in their name
//! cargo bench --locked --bench intake -- --program OTHER     # another build, for before and after
//! ```

mod figures;
mod load;
mod measured;
mod place;
mod scenario;
mod servers;
mod start;
mod subject;
mod usage;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;

use figures::Figures;
use place::Place;
use scenario::Scenario;
use servers::Role;

/// The arguments after `--`.
#[derive(Debug, Parser)]
struct Arguments {
    /// Rounds of each scenario; each figure is the median of them.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds each subject is measured for in a round.
    #[arg(long, default_value_t = 0.8)]
    seconds: f64,
    /// Only what has this in its name: plain/1, plain/8, plain/64, plain/new, slow/1 ..., start.
    #[arg(long, default_value = "")]
    only: String,
    /// The program to measure.
    #[arg(long, default_value = env!("CARGO_BIN_EXE_belvo-gateway"))]
    program: PathBuf,
    /// What cargo calls every bench with.
    #[arg(long, hide = true)]
    bench: bool,
    /// Be what the program is compared to, in a process of its own.
    #[arg(long, hide = true, requires = "directory")]
    role: Option<Role>,
    /// Where that listens.
    #[arg(long, hide = true, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Where that writes.
    #[arg(long, hide = true)]
    directory: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let window = Duration::try_from_secs_f64(arguments.seconds).context("--seconds")?;
    match (arguments.role, &arguments.directory) {
        (Some(role), Some(directory)) => servers::run(role, arguments.listen, directory, window),
        _ => measure(&arguments, window),
    }
}

fn measure(arguments: &Arguments, window: Duration) -> anyhow::Result<()> {
    let place = Place::new(arguments.program.clone())?;
    println!("{}\n", place.description(arguments.rounds, window));
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
    println!("{figures}");
    Ok(())
}

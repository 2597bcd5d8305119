//! The hostile bench: Belvo's webhooks while somebody else does their worst, as a table. Fails when a webhook is lost or an
//! offender is left alone, never because a figure is poor.
//!
//! ```sh
//! cargo bench --locked --bench hostile                     # everything, in under ten minutes
//! cargo bench --locked --bench hostile -- --seconds 10     # the same, shorter
//! cargo bench --locked --bench hostile -- --only flood     # flood, offenders or authorization
//! ```

mod authorization;
mod offenders;
#[path = "../shared/mod.rs"]
mod shared;
mod subject;

use std::net::SocketAddr;
use std::time::Duration;

use clap::Parser;

use shared::place::{Common, Place};
use shared::report::{mib, ms};
use shared::steady::{self, Answered};
use subject::Subject;

/// The arguments after `--`.
#[derive(Debug, Parser)]
struct Arguments {
    /// Seconds of each scenario.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Only what has this in its name: flood, offenders, authorization.
    #[arg(long, default_value = "")]
    only: String,
    #[command(flatten)]
    common: Common,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let time = Duration::from_secs(arguments.seconds);
    let place = Place::new(arguments.common.program.clone())?;
    println!("{}\n", place.machine());
    if "flood".contains(&arguments.only) {
        flood(&place, time)?;
    }
    if "offenders".contains(&arguments.only) {
        among_offenders(&place, time)?;
    }
    if "authorization".contains(&arguments.only) {
        authorization::measure();
    }
    Ok(())
}

/// Webhooks a second.
const RATE: u32 = 50;
/// Connections a second from strangers.
const FLOOD_RATE: u32 = 2_000;

fn flood(place: &Place, time: Duration) -> anyhow::Result<()> {
    println!("Flood of {FLOOD_RATE} connections a second, {time:?}\n");
    println!(
        "| strangers | webhooks | answered 200 | p50 ms | p99 ms | worst ms | peak MiB | CPU ms/s | log lines | written KiB |"
    );
    println!(
        "| --------: | -------: | -----------: | -----: | -----: | -------: | -------: | -------: | --------: | ----------: |"
    );
    for (strangers, webhooks) in [(0, RATE), (1, 0), (200, 0), (1, RATE), (200, RATE)] {
        let subject = Subject::start(place)?;
        let before = subject.used()?;
        let flood =
            (strangers > 0).then(|| offenders::flood(subject.address, strangers, FLOOD_RATE, time));
        let answered = webhooks_for(subject.address, webhooks, time)?;
        let turned_away = flood.map_or(Ok(0), |flood| flood.join().expect("a flood"))?;
        let used = subject.used_in_the_end()? - before;
        // What a webhook writes of its own is in docs/performance.md; here only what refusals write counts.
        let written = if webhooks == 0 {
            format!("{}", used.device_bytes / 1024)
        } else {
            String::new()
        };
        println!(
            "| {strangers} | {} | {} | {} | {:.1} | {} | {written} |",
            u64::from(webhooks) * time.as_secs(),
            cells(&answered),
            mib(subject.peak_kib()?),
            used.cpu.as_secs_f64() * 1e3 / time.as_secs_f64(),
            subject.lines_about_refusals(),
        );
        anyhow::ensure!(
            strangers == 0 || turned_away * 10 > u64::from(FLOOD_RATE) * time.as_secs() * 9,
            "only {turned_away} connections of the flood were made: the machine is too slow for this figure"
        );
    }
    println!();
    Ok(())
}

fn among_offenders(place: &Place, time: Duration) -> anyhow::Result<()> {
    let time = time.min(Duration::from_secs(20));
    println!(
        "200 slow, 200 silent and 1,000 idle connections from Belvo's own address, {time:?}\n"
    );
    println!(
        "| offenders | answered 200 | p50 ms | p99 ms | worst ms | peak MiB | last offender closed after s |"
    );
    println!(
        "| --------- | -----------: | -----: | -----: | -------: | -------: | ---------------------------: |"
    );
    for (name, again) in [("open once", false), ("come again within a second", true)] {
        let subject = Subject::start(place)?;
        let offenders = offenders::all(subject.address, again, time);
        let answered = webhooks_for(subject.address, RATE, time)?;
        let longest = offenders.join().expect("offenders")?;
        println!(
            "| {name} | {} | {} | {:.1} |",
            cells(&answered),
            mib(subject.peak_kib()?),
            longest.as_secs_f64()
        );
    }
    println!();
    Ok(())
}

fn webhooks_for(to: SocketAddr, rate: u32, time: Duration) -> anyhow::Result<Answered> {
    steady::send(to, rate, steady::of_transactions, move |after| {
        after >= time
    })
}

/// How many were answered, and how long that took.
fn cells(answered: &Answered) -> String {
    match answered.count() {
        0 => " | | |".to_owned(),
        count => format!(
            "{count} | {} | {} | {}",
            ms(answered.within(0.5), 1),
            ms(answered.within(0.99), 1),
            ms(answered.within(1.0), 1)
        ),
    }
}

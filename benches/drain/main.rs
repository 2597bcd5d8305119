//! The drain's bench: what a webhook costs until all that it announced is stored, and how fast a long listing is, as tables.
//! Fails when something malfunctions, never because a figure is poor.
//!
//! ```sh
//! cargo bench --locked --bench drain                     # everything, in about ten minutes
//! cargo bench --locked --bench drain -- --only lone      # lone or listing
//! ```

mod listing;
mod lone;
#[path = "../shared/mod.rs"]
mod shared;

use clap::Parser;

use shared::place::{Common, Place};

/// The arguments after `--`.
#[derive(Debug, Parser)]
struct Arguments {
    /// Checkpoints that lone webhooks are sent for.
    #[arg(long, default_value_t = 3)]
    checkpoints: u32,
    /// Rounds of the listing.
    #[arg(long, default_value_t = 3)]
    rounds: u64,
    /// Objects in each listing; a fifth of them where it is paced.
    #[arg(long, default_value_t = 100_000)]
    objects: usize,
    /// Only what has this in its name: lone, listing.
    #[arg(long, default_value = "")]
    only: String,
    #[command(flatten)]
    common: Common,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let place = Place::new(arguments.common.program.clone())?;
    println!("{}\n", place.machine());
    if "lone".contains(&arguments.only) {
        let table = lone::measure(&place, arguments.checkpoints)?;
        println!("The whole life of a lone webhook, each\n\n{table}");
    }
    if "listing".contains(&arguments.only) {
        for pace in &listing::PACES {
            println!(
                "{}",
                listing::measure(&place, pace, arguments.rounds, arguments.objects)?
            );
        }
    }
    Ok(())
}

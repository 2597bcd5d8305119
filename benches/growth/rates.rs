//! The intake on a file that has grown beside one on an empty file, taking turns.

use std::thread;
use std::time::Duration;

use crate::shared::load::{self, Load};
use crate::shared::place::Place;
use crate::shared::program::{Process, Site};
use crate::shared::report::{markdown, median, ms, quantile};
use crate::shared::usage::Usage;

/// Not measured, before each round.
const WARM_UP: Duration = Duration::from_millis(150);
/// Until what a start brings with it is over, a look at the whole file among it.
const STARTED: Duration = Duration::from_secs(12);

struct Round {
    rate: f64,
    p99: Duration,
    webhooks: u64,
    used: Usage,
}

/// Measures both under each load; as a table.
pub(crate) fn measure(
    place: &Place,
    grown: &Site<'_>,
    rounds: usize,
    window: Duration,
) -> anyhow::Result<String> {
    let empty = Site::new(place)?;
    let sites = [&empty, grown];
    let processes = [
        empty.serve_counted(Duration::ZERO)?,
        grown.serve_counted(Duration::ZERO)?,
    ];
    thread::sleep(STARTED);
    let mut lines = Vec::new();
    for load in [Load::Kept(1), Load::Kept(8), Load::Kept(64)] {
        let mut measured = [Vec::new(), Vec::new()];
        for _ in 0..rounds {
            for ((site, process), rounds) in sites.iter().zip(&processes).zip(&mut measured) {
                rounds.push(round(site, process, load, window)?);
            }
        }
        let ratios = measured[1].iter().zip(&measured[0]);
        let ratio = median(
            ratios
                .map(|(grown, empty)| grown.rate / empty.rate)
                .collect(),
        );
        for (name, rounds, ratio) in [
            ("empty", &measured[0], String::new()),
            ("grown", &measured[1], format!("{ratio:.2}")),
        ] {
            lines.push(line(load, name, rounds, ratio));
        }
    }
    let head = [
        "load",
        "file",
        "webhooks/s",
        "to empty",
        "p99 ms",
        "syncs",
        "device KiB",
        "CPU µs",
    ];
    Ok(markdown(&head, &lines))
}

fn round(
    site: &Site<'_>,
    process: &Process,
    load: Load,
    window: Duration,
) -> anyhow::Result<Round> {
    let before = process.settled()?;
    let answered = load::send((site.address, None), load, WARM_UP, window)?;
    let used = process.settled()? - before;
    let mut latencies = answered.latencies;
    latencies.sort_unstable();
    Ok(Round {
        rate: latencies.len() as f64 / window.as_secs_f64(),
        p99: quantile(&latencies, 0.99),
        webhooks: answered.all,
        used,
    })
}

fn line(load: Load, file: &str, rounds: &[Round], ratio: String) -> Vec<String> {
    let mut used = Usage::default();
    rounds.iter().for_each(|round| used += round.used);
    let webhooks: u64 = rounds.iter().map(|round| round.webhooks).sum();
    let each = |figure: f64| figure / webhooks as f64;
    let p99 = median(rounds.iter().map(|round| round.p99.as_secs_f64()).collect());
    vec![
        load.to_string(),
        file.to_owned(),
        format!(
            "{:.0}",
            median(rounds.iter().map(|round| round.rate).collect())
        ),
        ratio,
        ms(Duration::from_secs_f64(p99), 2),
        format!("{:.3}", each(used.syncs as f64)),
        format!("{:.1}", each(used.device_bytes as f64 / 1024.0)),
        format!("{:.0}", each(used.cpu.as_secs_f64() * 1e6)),
    ]
}

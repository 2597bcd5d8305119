//! What was measured: rounds, what they come to, and the rows of the table. Ratios are taken within a round and then their median, so that
//! a disturbed round disturbs both sides. Knows numbers, not how they came about.

use std::time::Duration;

use anyhow::ensure;

use crate::scenario::Scenario;
use crate::servers::Role;
use crate::shared::report::{markdown, median, mib, quantile};
use crate::shared::usage::Usage;
use crate::subject::Kind;

/// One subject in one round.
#[derive(Debug)]
pub(crate) struct Round {
    /// Webhooks a second.
    pub(crate) rate: f64,
    p50: Duration,
    p99: Duration,
    webhooks: u64,
    used: Usage,
}

impl Round {
    pub(crate) fn new(
        mut latencies: Vec<Duration>,
        webhooks: u64,
        used: Usage,
        window: Duration,
    ) -> anyhow::Result<Self> {
        ensure!(!latencies.is_empty(), "nothing was answered in {window:?}");
        latencies.sort_unstable();
        Ok(Self {
            rate: latencies.len() as f64 / window.as_secs_f64(),
            p50: quantile(&latencies, 0.50),
            p99: quantile(&latencies, 0.99),
            webhooks,
            used,
        })
    }
}

/// One subject in one scenario.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) scenario: Scenario,
    pub(crate) kind: Kind,
    pub(crate) rounds: Vec<Round>,
    /// The most memory it ever had.
    pub(crate) peak_kib: Option<u64>,
}

impl Row {
    pub(crate) fn new(scenario: Scenario, kind: Kind) -> Self {
        Self {
            scenario,
            kind,
            rounds: Vec::new(),
            peak_kib: None,
        }
    }

    fn median_of(&self, figure: impl Fn(&Round) -> f64) -> f64 {
        median(self.rounds.iter().map(figure).collect())
    }

    /// Syncs a webhook, over all rounds: a checkpoint falls into one of them.
    pub(crate) fn syncs(&self) -> f64 {
        self.each(|used| used.syncs as f64)
    }

    /// How much of something a webhook cost, over all rounds.
    fn each(&self, figure: impl Fn(&Usage) -> f64) -> f64 {
        let mut used = Usage::default();
        self.rounds.iter().for_each(|round| used += round.used);
        let webhooks: u64 = self.rounds.iter().map(|round| round.webhooks).sum();
        figure(&used) / webhooks as f64
    }

    /// How many times the rate of another subject.
    pub(crate) fn ratio_to(&self, other: &Self) -> f64 {
        let pairs = self.rounds.iter().zip(&other.rounds);
        median(
            pairs
                .map(|(ours, theirs)| ours.rate / theirs.rate)
                .collect(),
        )
    }

    fn cells(&self, rows: &[Self]) -> Vec<String> {
        let ratio = |role| {
            let other = find(rows, self.scenario, Kind::Other(role));
            other.map_or_else(String::new, |other| format!("{:.2}", self.ratio_to(other)))
        };
        let is_raw = self.kind == Kind::Other(Role::RawSync);
        let counted = |text: String| if is_raw { String::new() } else { text };
        // None were counted.
        let some = |figure: f64, text: String| if figure > 0.0 { text } else { String::new() };
        let written = self.each(|used| used.file_bytes as f64 / 1024.0);
        let ms = |time: f64| format!("{:.2}", time * 1e3);
        vec![
            self.scenario.load.to_string(),
            self.kind.to_string(),
            format!("{:.0}", self.median_of(|round| round.rate)),
            ratio(Role::OneCommit),
            ratio(Role::RawSync),
            ms(self.median_of(|round| round.p50.as_secs_f64())),
            ms(self.median_of(|round| round.p99.as_secs_f64())),
            some(self.syncs(), format!("{:.3}", self.syncs())),
            some(written, format!("{written:.1}")),
            counted(format!(
                "{:.1}",
                self.each(|used| used.device_bytes as f64 / 1024.0)
            )),
            counted(format!(
                "{:.0}",
                self.each(|used| used.cpu.as_secs_f64() * 1e6)
            )),
            self.peak_kib.map_or_else(String::new, mib),
        ]
    }
}

/// The row of a subject in a scenario, when it was run.
pub(crate) fn find(rows: &[Row], scenario: Scenario, kind: Kind) -> Option<&Row> {
    rows.iter()
        .find(|row| row.scenario == scenario && row.kind == kind)
}

/// All rows of one storage.
pub(crate) fn table(rows: &[Row]) -> String {
    let head = [
        "load",
        "subject",
        "webhooks/s",
        "to one commit",
        "to fdatasync",
        "p50 ms",
        "p99 ms",
        "syncs",
        "written KiB",
        "device KiB",
        "CPU µs",
        "peak MiB",
    ];
    let cells: Vec<_> = rows.iter().map(|row| row.cells(rows)).collect();
    markdown(&head, &cells)
}

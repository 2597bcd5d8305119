//! What was measured: rounds, their medians, and the table. Ratios are taken within a round and then their median, so that
//! a disturbed round disturbs both sides. Knows numbers, not how they came about.

use std::time::Duration;

use anyhow::ensure;

use crate::scenario::Scenario;
use crate::servers::Role;
use crate::subject::Kind;
use crate::usage::Usage;

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
        let at = |part: f64| latencies[((latencies.len() - 1) as f64 * part) as usize];
        Ok(Self {
            rate: latencies.len() as f64 / window.as_secs_f64(),
            p50: at(0.50),
            p99: at(0.99),
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
        let ms = |time: f64| format!("{:.2}", time * 1e3);
        vec![
            self.scenario.load.to_string(),
            self.kind.to_string(),
            format!("{:.0}", self.median_of(|round| round.rate)),
            ratio(Role::OneCommit),
            ratio(Role::RawSync),
            ms(self.median_of(|round| round.p50.as_secs_f64())),
            ms(self.median_of(|round| round.p99.as_secs_f64())),
            format!("{:.3}", self.syncs()),
            format!("{:.1}", self.each(|used| used.file_bytes as f64 / 1024.0)),
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

/// Lines of cells as a table that reads well as text, too: words to the left, numbers to the right.
pub(crate) fn markdown(head: &[&str], lines: &[Vec<String>]) -> String {
    let columns: Vec<Column> = (0..head.len())
        .map(|at| Column::of(head[at], lines.iter().map(|line| line[at].as_str())))
        .collect();
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let padded = |cells: &mut dyn Iterator<Item = &str>| {
        let both = columns.iter().zip(cells);
        line(both.map(|(column, cell)| column.padded(cell)).collect())
    };
    let mut text = padded(&mut head.iter().copied());
    text += &line(columns.iter().map(Column::rule).collect());
    for cells in lines {
        text += &padded(&mut cells.iter().map(String::as_str));
    }
    text
}

/// How a column is set.
struct Column {
    width: usize,
    is_number: bool,
}

impl Column {
    fn of<'a>(head: &'a str, mut cells: impl Iterator<Item = &'a str> + Clone) -> Self {
        let widths = cells.clone().chain([head]).map(|cell| cell.chars().count());
        Self {
            width: widths.max().unwrap_or(0),
            is_number: cells.all(|cell| cell.is_empty() || cell.parse::<f64>().is_ok()),
        }
    }

    fn padded(&self, cell: &str) -> String {
        let width = self.width;
        match self.is_number {
            true => format!("{cell:>width$}"),
            false => format!("{cell:<width$}"),
        }
    }

    fn rule(&self) -> String {
        match self.is_number {
            true => format!("{}:", "-".repeat(self.width - 1)),
            false => "-".repeat(self.width),
        }
    }
}

/// The middle one; of an even number, the mean of both.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        count if count % 2 == 0 => f64::midpoint(values[middle - 1], values[middle]),
        _ => values[middle],
    }
}

/// KiB as MiB.
pub(crate) fn mib(kib: u64) -> String {
    format!("{:.1}", kib as f64 / 1024.0)
}

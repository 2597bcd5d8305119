//! The few figures that have a goal, each as one line with its goal beside it. Says nothing about whether it is met: on a
//! busy machine that would mean little.

use std::fmt;

use crate::measured::{Row, find};
use crate::scenario::{Scenario, Storage};
use crate::servers::Role;
use crate::shared::load::Load;
use crate::shared::report::mib;
use crate::start::Started;
use crate::subject::Kind;

/// What was measured, as far as it was chosen.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    rows: Vec<Row>,
    started: Option<Started>,
}

impl Figures {
    pub(crate) fn take(&mut self, rows: Vec<Row>) {
        self.rows.extend(rows);
    }

    pub(crate) fn take_started(&mut self, started: Started) {
        self.started = Some(started);
    }

    fn row(&self, storage: Storage, connections: usize, kind: Kind) -> Option<&Row> {
        self.under(storage, Load::Kept(connections), kind)
    }

    fn under(&self, storage: Storage, load: Load, kind: Kind) -> Option<&Row> {
        find(&self.rows, Scenario { storage, load }, kind)
    }

    /// How many times the rate of what it is compared to.
    fn ratio(&self, load: Load, role: Role) -> Option<f64> {
        let ours = self.under(Storage::Plain, load, Kind::Gateway)?;
        let theirs = self.under(Storage::Plain, load, Kind::Other(role))?;
        Some(ours.ratio_to(theirs))
    }

    fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(started) = &self.started {
            let size = started.program_bytes as f64 / 1e6;
            let first = started.complete.first_200.as_secs_f64() * 1e3;
            let rest = mib(started.complete.rest_kib);
            lines.push(format!(
                "size of the program: {size:.2} MB (goal at most 5)"
            ));
            lines.push(format!(
                "resident memory at rest: {rest} MiB (goal at most 7)"
            ));
            lines.push(format!(
                "start to first 200 on an existing file: {first:.0} ms (goal at most 60)"
            ));
        }
        for (storage, connections, text, goal) in [
            (Storage::Plain, 1, "1 connection", "1.05"),
            (Storage::Slow, 1, "1 connection, 5 ms storage", "1.05"),
            (Storage::Slow, 64, "64 connections, 5 ms storage", "0.04"),
        ] {
            if let Some(row) = self.row(storage, connections, Kind::Gateway) {
                let syncs = row.syncs();
                lines.push(format!(
                    "syncs a webhook, {text}: {syncs:.3} (goal at most {goal})"
                ));
            }
        }
        let one_commit = Kind::Other(Role::OneCommit);
        if let (Some(ours), Some(theirs)) = (
            self.row(Storage::Slow, 64, Kind::Gateway),
            self.row(Storage::Slow, 64, one_commit),
        ) {
            let ratio = ours.ratio_to(theirs);
            lines.push(format!(
                "rate with 64 connections, 5 ms storage: {ratio:.1} times one commit a request (goal at least 25)"
            ));
        }
        for (load, goal) in [(Load::Kept(64), "0.45"), (Load::Tls(8), "0.9")] {
            if let Some(ratio) = self.ratio(load, Role::NoOp) {
                lines.push(format!(
                    "rate with {load}: {ratio:.2} of that of a server that keeps nothing (goal at least {goal})"
                ));
            }
        }
        lines
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Figures with a goal\n")?;
        self.lines()
            .iter()
            .try_for_each(|line| writeln!(f, "- {line}"))
    }
}

//! One storage, one load, and the subjects that take turns under it, round by round, so that what disturbs one disturbs
//! all. Knows how a round is measured, not what is a good figure.

use std::fmt;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};

use crate::measured::{Round, Row};
use crate::servers::{RAW_BYTES, Role};
use crate::shared::load::{self, Load};
use crate::shared::place::Place;
use crate::shared::usage::Usage;
use crate::subject::{self, Kind, Subject};

/// Not measured, before each round: connections open, caches and pace settle.
const WARM_UP: Duration = Duration::from_millis(150);

/// The disk under a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Storage {
    /// As it is.
    Plain,
    /// Each sync takes 5 ms longer, about as on a cheap card.
    Slow,
}

impl Storage {
    pub(crate) const ALL: [Self; 2] = [Self::Plain, Self::Slow];

    fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Slow => "slow",
        }
    }

    fn sync_delay(self) -> Duration {
        match self {
            Self::Plain => Duration::ZERO,
            Self::Slow => Duration::from_millis(5),
        }
    }
}

impl fmt::Display for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain => "Storage as it is",
            Self::Slow => "Slow storage: each sync takes 5 ms longer",
        })
    }
}

/// One storage under one load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Scenario {
    pub(crate) storage: Storage,
    pub(crate) load: Load,
}

impl Scenario {
    /// TLS costs nothing that storage has a part in, so it is measured once.
    pub(crate) fn all(storage: Storage) -> Vec<Self> {
        let mut loads = vec![Load::Kept(1), Load::Kept(8), Load::Kept(64), Load::New(8)];
        if storage == Storage::Plain {
            loads.extend([Load::Tls(8), Load::Resumed(8)]);
        }
        let with = |load| Self { storage, load };
        loads.into_iter().map(with).collect()
    }

    /// What `--only` looks at.
    pub(crate) fn name(self) -> String {
        let storage = self.storage.name();
        match self.load {
            Load::Kept(count) => format!("{storage}/{count}"),
            Load::New(_) => format!("{storage}/new"),
            Load::Tls(_) => format!("{storage}/tls"),
            Load::Resumed(_) => format!("{storage}/resumed"),
        }
    }

    /// Runs all rounds; one row a subject.
    pub(crate) fn run(
        self,
        place: &Place,
        rounds: usize,
        window: Duration,
    ) -> anyhow::Result<Vec<Row>> {
        let mut kinds = vec![Kind::Gateway, Kind::Other(Role::OneCommit)];
        if self.storage == Storage::Plain {
            kinds.extend([Role::Grouped, Role::NoOp].map(Kind::Other));
        }
        let delay = self.storage.sync_delay();
        let is_tls = self.load.is_tls();
        let subjects = kinds
            .iter()
            .map(|kind| Subject::start(place, *kind, is_tls, delay));
        let subjects: Vec<Subject<'_>> = subjects.collect::<Result<_, _>>()?;
        let mut rows: Vec<Row> = kinds.iter().map(|kind| Row::new(self, *kind)).collect();
        let mut raw = Row::new(self, Kind::Other(Role::RawSync));
        for _ in 0..rounds {
            for (subject, row) in subjects.iter().zip(&mut rows) {
                let round = round(subject, self.load, window);
                row.rounds
                    .push(round.with_context(|| format!("{}: {}", row.kind, subject.log()))?);
            }
            raw.rounds.push(raw_round(place, delay, window)?);
        }
        for (subject, row) in subjects.iter().zip(&mut rows) {
            row.peak_kib = Some(subject.peak_kib()?);
        }
        rows.push(raw);
        Ok(rows)
    }
}

/// What is used is counted from before the first webhook until nothing more is written, and shared by all webhooks.
fn round(subject: &Subject<'_>, load: Load, window: Duration) -> anyhow::Result<Round> {
    let before = subject.settled()?;
    let answered = load::send(subject.at(), load, WARM_UP, window)?;
    let used = subject.settled()? - before;
    Round::new(answered.latencies, answered.all, used, window)
}

fn raw_round(place: &Place, delay: Duration, window: Duration) -> anyhow::Result<Round> {
    let directory = place.corner()?;
    let output = subject::role_command(Role::RawSync)?
        .args(["--seconds", &window.as_secs_f64().to_string()])
        .arg("--directory")
        .arg(directory.path())
        .env("LD_PRELOAD", &place.faults)
        .env("FAULTS_SYNC_DELAY_US", delay.as_micros().to_string())
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(
        output.status.success(),
        "the appends failed: {}",
        output.status
    );
    let took = String::from_utf8(output.stdout)?;
    let took = took
        .lines()
        .map(|line| Ok(Duration::from_nanos(line.parse()?)));
    let took: Vec<Duration> = took.collect::<anyhow::Result<_>>()?;
    let count = took.len() as u64;
    let used = Usage {
        syncs: count,
        file_bytes: count * RAW_BYTES as u64,
        ..Usage::default()
    };
    Round::new(took, count, used, window)
}

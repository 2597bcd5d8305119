//! The program among those who do their worst, and what it has used when all of that is written down.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use belvo_gateway::limits::STRANGERS_WAIT;

use crate::shared::place::Place;
use crate::shared::program::{Process, Site};
use crate::shared::usage::Usage;

/// What was said last is written by then: strangers are written down every half minute.
const SETTLED: Duration = STRANGERS_WAIT.saturating_add(Duration::from_secs(1));

/// A running gateway, without TLS; only 127.0.0.1 may speak.
pub(crate) struct Subject<'a> {
    process: Process,
    site: Site<'a>,
    /// Where it listens.
    pub(crate) address: SocketAddr,
}

impl<'a> Subject<'a> {
    pub(crate) fn start(place: &'a Place) -> anyhow::Result<Self> {
        let site = Site::new(place)?;
        Ok(Self {
            process: site.serve()?,
            address: site.address,
            site,
        })
    }

    /// What it has used so far.
    pub(crate) fn used(&self) -> anyhow::Result<Usage> {
        self.process.used()
    }

    /// What it has used once everything that was said is written down.
    pub(crate) fn used_in_the_end(&self) -> anyhow::Result<Usage> {
        thread::sleep(SETTLED);
        self.used()
    }

    /// The most memory it has had resident.
    pub(crate) fn peak_kib(&self) -> anyhow::Result<u64> {
        self.process.resident_kib().map(|(peak, _)| peak)
    }

    /// Lines of its log that are about refusals.
    pub(crate) fn lines_about_refusals(&self) -> usize {
        let log = self.site.log();
        log.lines().filter(|line| line.contains("refused")).count()
    }
}

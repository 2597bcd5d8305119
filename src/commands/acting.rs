//! How an order reaches the file: through the socket of the gateway that runs on it, or, where none runs, by taking its
//! place. Shared by the commands that change something.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio::runtime::{Builder, Runtime};

use super::state_directory;
use crate::cli::Reading;
use crate::config::{self, Surroundings};
use crate::database::{OpenError, StateDirectory, open_reader};
use crate::gateway::Standby;
use crate::limits::CONTROL_WAIT;
use crate::operate::socket::{AskError, ask};
use crate::operate::{Order, Report};

/// Until the next try while a gateway holds the lock and has no socket.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Whom an order is given to.
pub(super) struct Acting {
    /// The state directory.
    pub(super) directory: PathBuf,
    configuration: Option<PathBuf>,
    runtime: Runtime,
}

/// What came of an order.
pub(super) struct Acted<T> {
    pub(super) report: T,
    /// Whether a running gateway did it, which goes on with what follows.
    pub(super) by_running: bool,
}

impl Acting {
    /// The gateway of this state directory, which must hold a file.
    pub(super) fn on(reading: &Reading) -> anyhow::Result<Self> {
        let directory = state_directory(reading)?;
        drop(open_reader(&directory)?);
        let configuration = reading
            .state
            .is_none()
            .then(|| reading.configured.config.clone());
        let runtime = Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(2)
            .build()?;
        Ok(Self {
            directory,
            configuration,
            runtime,
        })
    }

    /// Has it done, and takes the report `of` such an order.
    pub(super) fn act<T>(
        &self,
        order: &Order,
        of: impl FnOnce(Report) -> Option<T>,
    ) -> anyhow::Result<Acted<T>> {
        let (report, by_running) = self.report(order)?;
        let report = of(report).ok_or(AskError::OtherVersion)?;
        Ok(Acted { report, by_running })
    }

    /// The report, and whether it is a running gateway's. One that is just starting holds the lock before it has its
    /// socket, and one that is just ending after it had it.
    fn report(&self, order: &Order) -> anyhow::Result<(Report, bool)> {
        let begun = Instant::now();
        loop {
            match self.runtime.block_on(ask(&self.directory, order)) {
                Ok(report) => return Ok((report, true)),
                Err(AskError::Nobody) => {}
                Err(error) => return Err(error.into()),
            }
            match self.act_instead(order) {
                Ok(report) => return Ok((report, false)),
                Err(error) if is_locked(&error) && begun.elapsed() < CONTROL_WAIT => {
                    thread::sleep(LOOK_EVERY);
                }
                Err(error) if is_locked(&error) => bail!(
                    "a gateway runs on {} and has no control socket (its log says why); stop it first (systemctl stop belvo-gateway.socket belvo-gateway) and do this again",
                    self.directory.display()
                ),
                Err(error) => return Err(error),
            }
        }
    }

    fn act_instead(&self, order: &Order) -> anyhow::Result<Report> {
        let lock = StateDirectory::lock(&self.directory)?;
        let settings = match (order, &self.configuration) {
            (Order::Reconcile(_), None) => bail!(
                "no gateway runs on {}, so its configuration is needed to ask Belvo: give --config FILE in place of --state",
                self.directory.display()
            ),
            (Order::Reconcile(_), Some(path)) => Some(
                config::load(path, &Surroundings::of_process())
                    .context("no gateway runs, and its configuration cannot be used")?,
            ),
            _ => None,
        };
        let _in_runtime = self.runtime.enter();
        let standby = Standby::take(lock, settings.as_ref())?;
        Ok(self.runtime.block_on(standby.act(order.clone()))?)
    }
}

fn is_locked(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(OpenError::Locked(_)))
}

//! What is seen to while the gateway runs and no webhook waits for. It runs beside the drain: it reads files and logs,
//! and neither may hold up an answer.

use std::time::Duration;

use tokio::time::sleep;
use tracing::{info, warn};

use super::certificate::{Certificate, no_problems};
use crate::database::WriteError;
use crate::limits::CERTIFICATE_LOOK_EVERY;
use crate::store::Store;
use crate::store::problems::Change;
use crate::system::clock::UnixMs;
use crate::system::stop::Stop;

/// What is seen to.
#[derive(Debug)]
pub(super) struct Upkeep {
    certificate: Option<Certificate>,
    store: Store,
    /// What was written down last.
    noted: Option<Noted>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Noted {
    certificate_until: Option<UnixMs>,
    problems: Vec<Change>,
}

impl Upkeep {
    /// Sees to this certificate, if there is one.
    pub(super) fn new(certificate: Option<Certificate>, store: Store) -> Self {
        Self {
            certificate,
            store,
            noted: None,
        }
    }

    /// Goes on until told to stop.
    ///
    /// # Errors
    /// When the writer has ended before the stop.
    pub(super) async fn run(mut self, mut stop: Stop) -> Result<(), WriteError> {
        loop {
            let wait = self.look().await?;
            tokio::select! {
                () = stop.told() => return Ok(()),
                () = sleep(wait) => {}
            }
        }
    }

    /// Looks at everything once, and says when to look again.
    async fn look(&mut self) -> Result<Duration, WriteError> {
        let now = UnixMs::now();
        let wait = self.certificate.as_mut().map(|served| served.look(now));
        self.note(now).await?;
        Ok(wait.unwrap_or(CERTIFICATE_LOOK_EVERY))
    }

    /// Writes down what has changed since the last time. What could not be written is written at the next look.
    async fn note(&mut self, now: UnixMs) -> Result<(), WriteError> {
        let served = self.certificate.as_ref();
        let now_is = Noted {
            certificate_until: served.map(Certificate::until),
            problems: served.map_or_else(no_problems, |served| served.problems(now)),
        };
        if self.noted.as_ref() == Some(&now_is) {
            return Ok(());
        }
        let Noted {
            certificate_until,
            problems,
        } = now_is.clone();
        match self
            .store
            .note_certificate(certificate_until, problems, now)
            .await
        {
            Err(WriteError::Ended) => Err(WriteError::Ended),
            // A full disk is the writer's business.
            Err(_) => Ok(()),
            Ok(()) => {
                log(&now_is.problems, self.noted.as_ref());
                self.noted = Some(now_is);
                Ok(())
            }
        }
    }
}

/// Says which problems have come and gone.
fn log(problems: &[Change], before: Option<&Noted>) {
    let was = |wanted: &Change| before.is_some_and(|before| before.problems.contains(wanted));
    for change in problems.iter().filter(|change| !was(change)) {
        match change {
            Change::Open(problem) => {
                warn!(next_step = problem.next_step, "{}", problem.text);
            }
            Change::Close(kind, _) if before.is_some() => {
                info!("the problem {} is over", kind.name());
            }
            Change::Close(..) => {}
        }
    }
}

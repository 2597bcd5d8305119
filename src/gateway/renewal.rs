//! When the gateway asks for a certificate: when it has none, and when a third of the lifetime is left. What fails is tried
//! again, later each time, and a person is told. Taking the new files into use is `certificate`'s business.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;
use tracing::info;

use crate::acme;
use crate::bookkeeper::log_opened;
use crate::config::Acme;
use crate::database::WriteError;
use crate::fetch::Roots;
use crate::intake::Intake;
use crate::intake::tls::Files;
use crate::limits::{
    ACME_AGAIN, ACME_FAILED_WAIT, ACME_FAILED_WAIT_MAX, ACME_LOOK_EVERY, CLOCK_LOOK,
};
use crate::store::Store;
use crate::store::problems::{Change, Kind, Problem};
use crate::system::certificate::Validity;
use crate::system::clock::UnixMs;
use crate::system::errors::sentence;
use crate::system::stop::Stop;

/// What is needed to ask.
#[derive(Debug)]
pub(super) struct Renewal {
    pub(super) acme: Acme,
    pub(super) roots: Roots,
    pub(super) state_directory: PathBuf,
    pub(super) intake: Arc<Intake>,
    /// Told when there are new files.
    pub(super) renewed: Arc<Notify>,
}

impl Renewal {
    /// Goes on until told to stop.
    ///
    /// # Errors
    /// When the writer has ended before the stop.
    pub(super) async fn run(self, store: Store, mut stop: Stop) -> Result<(), WriteError> {
        let mut failures = 0;
        loop {
            let now = UnixMs::now();
            let wait = match due_in(self.validity(), now) {
                Some(Duration::ZERO) => tokio::select! {
                    () = stop.told() => return Ok(()),
                    wait = self.try_once(&store, &mut failures) => wait?,
                },
                Some(left) => left.min(ACME_LOOK_EVERY),
                None => CLOCK_LOOK,
            };
            tokio::select! {
                () = stop.told() => return Ok(()),
                () = sleep(wait) => {}
            }
        }
    }

    /// When the certificate in the file is valid. One that cannot be used is none.
    fn validity(&self) -> Option<Validity> {
        let path = self.acme.certificate_file(&self.state_directory);
        let files = Files {
            certificate: path.clone(),
            key: path,
        };
        files.read().ok().map(|pair| pair.validity)
    }

    async fn try_once(&self, store: &Store, failures: &mut u32) -> Result<Duration, WriteError> {
        let challenges = &self.intake.challenges;
        let outcome =
            acme::obtain(&self.acme, &self.roots, &self.state_directory, challenges).await;
        let (kind, subject) = (Kind::CertificateNotRenewed, self.acme.domain.clone());
        let (change, wait) = match outcome {
            Ok(()) => {
                *failures = 0;
                info!(
                    "{} has issued a certificate for {subject}",
                    self.acme.authority()
                );
                self.renewed.notify_one();
                (Change::Close(kind, subject), ACME_AGAIN)
            }
            Err(failed) => {
                let wait = back_off(*failures);
                *failures += 1;
                let problem = self.problem(&sentence(&failed), wait);
                log_opened(&problem);
                (Change::Open(problem), wait)
            }
        };
        match store.problems(vec![change], UnixMs::now()).await {
            Err(WriteError::Ended) => Err(WriteError::Ended),
            _ => Ok(wait),
        }
    }

    fn problem(&self, why: &str, wait: Duration) -> Problem {
        let (domain, authority) = (&self.acme.domain, self.acme.authority());
        let minutes = wait.as_secs() / 60;
        Problem {
            kind: Kind::CertificateNotRenewed,
            subject: domain.clone(),
            text: format!("no certificate for {domain} could be got from {authority}: {why}"),
            next_step: format!(
                "see that the name leads to this machine and port 443 to this gateway; it is tried again after {minutes} minutes, or at once after: systemctl restart belvo-gateway"
            ),
            evidence: None,
        }
    }
}

/// How long until a certificate is to be asked for; nothing while the clock cannot be right.
fn due_in(validity: Option<Validity>, now: UnixMs) -> Option<Duration> {
    if !now.is_plausible() {
        return None;
    }
    let due = validity.map(|Validity { from, until }| until.minus(until.since(from) / 3));
    Some(due.map_or(Duration::ZERO, |due| due.since(now)))
}

fn back_off(failures: u32) -> Duration {
    ACME_FAILED_WAIT
        .saturating_mul(1 << failures.min(16))
        .min(ACME_FAILED_WAIT_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);
    const NOW: UnixMs = UnixMs(1_800_000_000_000);

    #[test]
    fn a_certificate_is_renewed_when_a_third_of_its_lifetime_is_left() {
        let ninety = |age: u32| Validity {
            from: NOW.minus(DAY * age),
            until: NOW.plus(DAY * (90 - age)),
        };
        assert_eq!(due_in(Some(ninety(0)), NOW), Some(DAY * 60));
        assert_eq!(due_in(Some(ninety(59)), NOW), Some(DAY));
        for age in [60, 61, 90] {
            assert_eq!(due_in(Some(ninety(age)), NOW), Some(Duration::ZERO));
        }
        assert_eq!(due_in(None, NOW), Some(Duration::ZERO));
    }

    #[test]
    fn nothing_is_asked_for_while_the_clock_cannot_be_right() {
        assert_eq!(due_in(None, UnixMs(5_000)), None);
    }

    #[test]
    fn tries_that_fail_come_more_seldom_and_never_end() {
        assert_eq!(back_off(0), ACME_FAILED_WAIT);
        assert_eq!(back_off(1), ACME_FAILED_WAIT * 2);
        assert_eq!(back_off(40), ACME_FAILED_WAIT_MAX);
    }
}

//! What is seen to while the gateway runs and no webhook waits for. It runs beside the drain: it reads files and logs,
//! and neither may hold up an answer.

use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use super::certificate::{Certificate, no_problems};
use super::reload::{self, Reload};
use super::room::Disk;
use super::storage::Storage;
use super::{Material, key_files, rules, warnings};
use crate::bookkeeper::log_opened;
use crate::config::{Settings, Tls};
use crate::database::WriteError;
use crate::drain::budget::Budget;
use crate::fetch::Access;
use crate::limits::{CERTIFICATE_LOOK_EVERY, CERTIFICATE_SETTLED, LONGEST_WAIT};
use crate::store::Store;
use crate::store::problems::Change;
use crate::system::clock::UnixMs;
use crate::system::errors::sentence;
use crate::system::notify;
use crate::system::stop::Stop;
use crate::system::watch::Changes;

/// What is seen to.
#[derive(Debug)]
pub(super) struct Upkeep {
    reload: Reload,
    /// Why the last reload changed nothing, if it did not.
    refused: Option<String>,
    certificate: Option<Certificate>,
    /// Changes of its files; nothing where they are not told of.
    changes: Option<Changes>,
    disk: Disk,
    storage: Storage,
    /// Told when somebody else has put new files in its place.
    renewed: Arc<Notify>,
    access: Access,
    budget: Arc<Budget>,
    store: Store,
    /// What was found last.
    noted: Option<Noted>,
    /// Whether that is in the file.
    written: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Noted {
    certificate_until: Option<UnixMs>,
    problems: Vec<Change>,
}

impl Upkeep {
    /// Sees to these; without a certificate, TLS is somebody else's business.
    pub(super) fn new(
        reload: Reload,
        (certificate, disk, storage): (Option<Certificate>, Disk, Storage),
        renewed: Arc<Notify>,
        access: Access,
        budget: Arc<Budget>,
        store: Store,
    ) -> Self {
        Self {
            reload,
            refused: None,
            changes: None,
            certificate,
            disk,
            storage,
            renewed,
            access,
            budget,
            store,
            noted: None,
            written: false,
        }
    }

    /// Goes on until told to stop.
    ///
    /// # Errors
    /// When the writer has ended before the stop.
    pub(super) async fn run(mut self, mut stop: Stop) -> Result<(), WriteError> {
        let watched = self.certificate.as_ref();
        self.changes = watched.and_then(|_| Changes::new().ok());
        let (mut looked_at, mut certificate_at) = (Instant::now(), Instant::now());
        loop {
            tokio::select! {
                () = stop.told() => return Ok(()),
                () = self.reload.asked() => self.reload().await?,
                () = self.disk.changed() => self.note(UnixMs::now()).await?,
                () = self.storage.changed() => self.note(UnixMs::now()).await?,
                () = self.renewed.notified() => certificate_at = Instant::now(),
                () = sleep_until(certificate_at) => {
                    looked_at = Instant::now();
                    certificate_at = looked_at + self.look().await?;
                }
                heard = come(self.changes.as_ref()) => match heard {
                    // Whatever goes on beside the files, they are not looked at all the time.
                    Ok(()) => certificate_at = certificate_at.min(looked_at + CERTIFICATE_SETTLED),
                    Err(_) => self.unheard(&mut certificate_at),
                },
                () = self.access.look_is_due() => self.access.look(),
            }
        }
    }

    /// Looks at the certificate, and says how long it is until the next look.
    async fn look(&mut self) -> Result<Duration, WriteError> {
        let now = UnixMs::now();
        // First, so that no change falls between the two.
        let is_told = self.follow();
        let wait = self.certificate.as_mut().map(|served| served.look(now));
        self.note(now).await?;
        let wait = wait.unwrap_or(LONGEST_WAIT);
        Ok(match is_told && self.written {
            true => wait,
            false => wait.min(CERTIFICATE_LOOK_EVERY),
        })
    }

    /// Says whether all changes of the certificate's files will be told.
    fn follow(&self) -> bool {
        let Some(served) = &self.certificate else {
            return true;
        };
        let follow = |changes: &Changes| served.paths().map(|path| changes.follow(path).is_ok());
        self.changes.as_ref().map(follow) == Some([true; 2])
    }

    /// From now on nobody tells of changes.
    fn unheard(&mut self, certificate_at: &mut Instant) {
        self.changes = None;
        *certificate_at = Instant::now();
    }

    /// Puts the configuration into force as it stands in its files now, all of it or nothing.
    async fn reload(&mut self) -> Result<(), WriteError> {
        told(notify::reloading());
        let outcome = self.read_again();
        told(notify::reloaded());
        self.refused = match outcome {
            Ok(settings) => {
                self.say_what_holds(&settings);
                None
            }
            Err(why) => Some(why),
        };
        self.note(UnixMs::now()).await
    }

    fn read_again(&mut self) -> Result<Settings, String> {
        let (settings, material) = self.reload.read()?;
        let Material {
            tls,
            authority: _,
            authorization,
            keys,
            roots,
        } = material;
        // First what may still fail, then what cannot.
        if settings.api.base_url == self.reload.started.api.base_url {
            self.access
                .replace(key_files(&settings), keys, roots)
                .map_err(|error| sentence(&error))?;
        }
        self.budget
            .change(settings.api.requests_per_second, settings.api.burst);
        if let (Some(served), Some(read), Tls::Files { .. }) =
            (&mut self.certificate, tls, &settings.tls)
        {
            served.take(read);
        }
        self.reload.intake.replace(rules(&settings, authorization));
        Ok(settings)
    }

    fn say_what_holds(&self, settings: &Settings) {
        info!("the configuration was read again and is in force");
        for warning in warnings(settings) {
            warn!("{warning}");
        }
        let left = self.reload.left_for_a_restart(settings);
        if !left.is_empty() {
            warn!(
                next_step = "systemctl restart belvo-gateway",
                "these have changed and hold only after a restart: {}",
                left.join(", ")
            );
        }
    }

    /// Writes down what has changed since the last time. What could not be written is written at the next look.
    async fn note(&mut self, now: UnixMs) -> Result<(), WriteError> {
        let served = self.certificate.as_ref();
        let mut problems = served.map_or_else(no_problems, |served| served.problems(now));
        problems.push(reload::problem(self.refused.as_deref()));
        problems.push(self.disk.problem());
        problems.push(self.storage.problem());
        let now_is = Noted {
            certificate_until: served.and_then(Certificate::until),
            problems,
        };
        if self.noted.as_ref() != Some(&now_is) {
            log(&now_is.problems, self.noted.as_ref());
            self.noted = Some(now_is.clone());
            self.written = false;
        }
        if self.written {
            return Ok(());
        }
        let Noted {
            certificate_until,
            problems,
        } = now_is;
        let noting = self
            .store
            .note_certificate(certificate_until, problems, now);
        match noting.await {
            Err(WriteError::Ended) => Err(WriteError::Ended),
            // A disk that is full or fails is the writer's business.
            Err(_) => Ok(()),
            Ok(()) => {
                self.written = true;
                Ok(())
            }
        }
    }
}

/// Waits until a change is told of.
async fn come(changes: Option<&Changes>) -> io::Result<()> {
    match changes {
        Some(changes) => changes.come().await,
        None => pending().await,
    }
}

/// The service manager cannot be told: it may have gone, and the gateway has not.
fn told(outcome: io::Result<()>) {
    if let Err(error) = outcome {
        warn!("the service manager could not be told of the reload: {error}");
    }
}

/// Says which problems have come and gone.
fn log(problems: &[Change], before: Option<&Noted>) {
    let was = |wanted: &Change| before.is_some_and(|before| before.problems.contains(wanted));
    for change in problems.iter().filter(|change| !was(change)) {
        match change {
            Change::Open(problem) => log_opened(problem),
            Change::Close(kind, _) if before.is_some() => {
                let problem = kind.name();
                info!(problem, "the problem {problem} is over");
            }
            Change::Close(..) => {}
        }
    }
}

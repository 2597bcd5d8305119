//! SIGHUP: the configuration and what it names, read again as a whole. What cannot be used changes nothing; what can only
//! hold after a restart is named. Reads and compares; who puts it into force is `upkeep`.

use std::future::pending;
use std::sync::Arc;

use tokio::signal::unix::Signal;

use super::{Material, read_material};
use crate::config::{Api, Listen, Origin, Settings, Tls};
use crate::intake::Intake;
use crate::store::problems::{Change, Kind, Problem};
use crate::system::errors::sentence;

/// What a reload starts from.
#[derive(Debug)]
pub(super) struct Reload {
    pub(super) origin: Origin,
    /// The settings that the process was started with.
    pub(super) started: Settings,
    pub(super) intake: Arc<Intake>,
    pub(super) hangup: Signal,
}

impl Reload {
    /// Waits until it is asked for.
    pub(super) async fn asked(&mut self) {
        if self.hangup.recv().await.is_none() {
            pending().await
        }
    }

    /// Reads everything, or says what is wrong with it.
    pub(super) fn read(&self) -> Result<(Settings, Material), String> {
        let settings = self.origin.load().map_err(|error| sentence(&error))?;
        let material = read_material(&settings).map_err(|error| sentence(&error))?;
        Ok((settings, material))
    }

    /// The keys whose new values hold only after a restart.
    pub(super) fn left_for_a_restart(&self, next: &Settings) -> Vec<&'static str> {
        let now = &self.started;
        // Without `..`, so that whoever adds a setting decides here.
        let Settings {
            environment,
            state_directory,
            listen:
                Listen {
                    addresses,
                    path,
                    allow: _,
                    authorization_file: _,
                    proxies: _,
                    drift_alarm: _,
                    connections_max,
                },
            tls,
            api:
                Api {
                    base_url,
                    keys: _,
                    ca_file: _,
                    requests_per_second: _,
                    burst: _,
                    reconcile,
                },
            storage,
        } = next;
        let kind = |tls| std::mem::discriminant(tls);
        [
            ("environment", *environment != now.environment),
            ("state-directory", *state_directory != now.state_directory),
            ("listen.address", *addresses != now.listen.addresses),
            ("listen.path", *path != now.listen.path),
            (
                "listen.connections-max",
                *connections_max != now.listen.connections_max,
            ),
            ("storage", *storage != now.storage),
            ("tls.mode", kind(tls) != kind(&now.tls)),
            (
                "tls.domain, contact, directory or ca-file",
                kind(tls) == kind(&now.tls) && matches!(tls, Tls::Acme(_)) && *tls != now.tls,
            ),
            // Keys are one API's: they are not sent to another.
            (
                "api.base-url, and with it the API keys and api.ca-file",
                *base_url != now.api.base_url,
            ),
            ("api.reconcile", *reconcile != now.api.reconcile),
        ]
        .into_iter()
        .filter_map(|(key, differs)| differs.then_some(key))
        .collect()
    }
}

/// Whether the configuration that was read last is in force.
pub(super) fn problem(refused: Option<&str>) -> Change {
    let (kind, subject) = (Kind::ConfigurationRefused, String::new());
    match refused {
        None => Change::Close(kind, subject),
        Some(why) => Change::Open(Problem {
            kind,
            subject,
            text: format!(
                "the configuration was read again and cannot be used, the one before stays in force: {why}"
            ),
            next_step: "correct it, see that `belvo-gateway check` calls it good, and run: systemctl reload belvo-gateway; a restart would fail until then".to_owned(),
            evidence: None,
        }),
    }
}

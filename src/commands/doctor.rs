//! `doctor`: examines the box as a whole and says of each matter what it found, how bad that is, and what to do. One file
//! for each matter. It changes nothing but a file of its own, which it times the disk with, takes no lock, and ends
//! within seconds: what it cannot see it says, with the reason.

mod api;
mod certificate;
mod file;
mod listening;
mod machine;
mod permissions;
mod storage;
mod units;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;

use super::{print, table};
use crate::cli;
use crate::config::{self, CREDSTORE, ConfigError, Settings, Surroundings};
use crate::database::room::Floor;
use crate::system::errors::sentence;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
enum How {
    Ok,
    Warning,
    Broken,
}

/// What was found about one matter. The names in `check` are stable: scripts may ask for them.
#[derive(Debug, Serialize)]
struct Finding {
    check: &'static str,
    how: How,
    what: String,
    next_step: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, what: impl Into<String>) -> Self {
        Self {
            check,
            how: How::Ok,
            what: what.into(),
            next_step: None,
        }
    }

    fn warning(check: &'static str, what: impl Into<String>, next_step: impl Into<String>) -> Self {
        Self {
            how: How::Warning,
            next_step: Some(next_step.into()),
            ..Self::ok(check, what)
        }
    }

    fn broken(check: &'static str, what: impl Into<String>, next_step: impl Into<String>) -> Self {
        Self {
            how: How::Broken,
            ..Self::warning(check, what, next_step)
        }
    }

    /// What this user may not see.
    fn unseen(check: &'static str, why: impl Into<String>) -> Self {
        Self::warning(
            check,
            format!("could not be looked at: {}", why.into()),
            "run this as root, for example with sudo",
        )
    }
}

/// Whether something failed for want of rights alone.
fn is_denied(said: &str) -> bool {
    said.contains("Permission denied")
}

/// Examines and shows. The exit status says the worst: 0, 1 for a warning, 2 for something broken.
///
/// # Errors
/// When nothing can be printed.
pub fn run(arguments: &cli::Doctor) -> anyhow::Result<ExitCode> {
    let findings = examine(arguments);
    print(&match arguments.reading.json {
        true => format!("{}\n", serde_json::to_string(&findings)?),
        false => lines(&findings),
    })?;
    let worst = findings.iter().map(|finding| finding.how).max();
    Ok(match worst {
        None | Some(How::Ok) => ExitCode::SUCCESS,
        Some(How::Warning) => ExitCode::from(1),
        Some(How::Broken) => ExitCode::from(2),
    })
}

fn examine(arguments: &cli::Doctor) -> Vec<Finding> {
    let service = Surroundings::of_the_service();
    let (settings, mut findings) = match arguments.reading.state {
        Some(_) => (None, Vec::new()),
        None => configuration(&arguments.reading.configured.config, &service),
    };
    // The network takes longest; it is asked beside everything else.
    let asked = settings
        .as_ref()
        .filter(|_| !arguments.offline)
        .map(api::ask);
    let state = state_directory(arguments, settings.as_ref(), &service);
    let units = units::look();
    if let Some(settings) = &settings {
        findings.extend(listening::look(settings, units.has_socket));
        findings.extend(certificate::look(settings, arguments.name.as_deref()));
    }
    findings.extend(machine::look());
    findings.extend(asked.map(api::Asked::answer));
    if let Some(state) = &state {
        let floor = settings.as_ref().map(|settings| settings.storage.floor);
        findings.extend(storage::look(state, floor.unwrap_or_else(Floor::default)));
    }
    let configured = (
        settings.as_ref(),
        arguments.reading.configured.config.as_path(),
    );
    findings.extend(permissions::look(configured, state.as_deref()));
    findings.extend(units.findings);
    if let Some(state) = &state {
        findings.extend(file::look(state));
    }
    findings
}

fn configuration(path: &Path, service: &Surroundings) -> (Option<Settings>, Vec<Finding>) {
    const CHECK: &str = "configuration";
    let error = match config::load(path, service) {
        Ok(settings) => {
            let good = format!("{} serves {}", path.display(), settings.environment);
            return (Some(settings), vec![Finding::ok(CHECK, good)]);
        }
        Err(error) => error,
    };
    let said = sentence(&error);
    // The key may be a credential that only root and the service can see.
    let is_hidden = service.credentials_directory.is_none() && Path::new(CREDSTORE).is_dir();
    let lacks_key = matches!(&error, ConfigError::Wrong { key, .. } if key == "tls.key: ");
    let finding = if is_denied(&said) || (lacks_key && is_hidden) {
        Finding::unseen(CHECK, said)
    } else {
        let next = "correct it; belvo-gateway check says the same, and the gateway does not start until it is right";
        Finding::broken(CHECK, said, next)
    };
    (None, vec![finding])
}

/// The state directory: as given, as configured, or where it usually is.
fn state_directory(
    arguments: &cli::Doctor,
    settings: Option<&Settings>,
    service: &Surroundings,
) -> Option<PathBuf> {
    let file = &arguments.reading.configured.config;
    arguments
        .reading
        .state
        .clone()
        .or_else(|| settings.map(|settings| settings.state_directory.clone()))
        .or_else(|| config::state_directory(file, service).ok())
}

fn lines(findings: &[Finding]) -> String {
    let line = |finding: &Finding| {
        let how = match finding.how {
            How::Ok => "ok",
            How::Warning => "warning",
            How::Broken => "BROKEN",
        };
        let next = finding.next_step.as_ref();
        let next = next.map(|next| format!("; next: {next}"));
        let said = format!("{}{}", finding.what, next.unwrap_or_default());
        vec![
            how.to_owned(),
            finding.check.to_owned(),
            said.replace('\n', " "),
        ]
    };
    table(&findings.iter().map(line).collect::<Vec<_>>())
}

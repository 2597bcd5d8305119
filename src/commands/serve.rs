//! `serve`: reads the configuration, starts logging, runs the gateway.

use std::process::ExitCode;

use tracing::{Level, error};

use crate::cli::{EXIT_CONFIG, Serve};
use crate::config::{Origin, Settings, Surroundings};
use crate::gateway::{self, Material};
use crate::notices::Notices;
use crate::system::errors::sentence;
use crate::system::logging;

/// Serves until SIGTERM.
///
/// # Errors
/// When logging cannot be started; everything else is logged and becomes the exit code.
pub fn run(arguments: &Serve) -> anyhow::Result<ExitCode> {
    logging::start(arguments.log)?;
    let origin = Origin {
        path: arguments.configured.config.clone(),
        surroundings: Surroundings::of_process(),
    };
    let (settings, material) = match configured(&origin) {
        Ok(configured) => configured,
        Err(wrong) => {
            error!("{}", sentence(wrong.as_ref()));
            return Ok(ExitCode::from(EXIT_CONFIG));
        }
    };
    let notices = Notices::new(arguments.log >= Level::DEBUG);
    match gateway::run(&settings, material, notices, origin) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(failed) => {
            error!("{failed}");
            Ok(ExitCode::FAILURE)
        }
    }
}

fn configured(origin: &Origin) -> anyhow::Result<(Settings, Material)> {
    let settings = origin.load()?;
    let material = gateway::read_material(&settings)?;
    Ok((settings, material))
}

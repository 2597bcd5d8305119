//! `serve`: reads the configuration, starts logging, runs the gateway.

use std::process::ExitCode;

use tracing::{Level, error};

use crate::cli::{EXIT_CONFIG, Serve};
use crate::config::{self, Settings, Surroundings};
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
    let (settings, material) = match configured(arguments) {
        Ok(configured) => configured,
        Err(wrong) => {
            error!("{}", sentence(wrong.as_ref()));
            return Ok(ExitCode::from(EXIT_CONFIG));
        }
    };
    let notices = Notices::new(arguments.log >= Level::DEBUG);
    match gateway::run(&settings, material, notices) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(failed) => {
            error!("{failed}");
            Ok(ExitCode::FAILURE)
        }
    }
}

fn configured(arguments: &Serve) -> anyhow::Result<(Settings, Material)> {
    let settings = config::load(&arguments.configured.config, &Surroundings::of_process())?;
    let material = gateway::read_material(&settings)?;
    Ok((settings, material))
}

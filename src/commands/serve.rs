//! `serve`: reads the configuration, starts logging, runs the gateway.

use std::net::TcpListener;
use std::process::ExitCode;

use tracing::{Level, error};

use crate::cli::{EXIT_CONFIG, Serve};
use crate::config::{Origin, Settings, Surroundings};
use crate::gateway::{self, Material};
use crate::notices::Notices;
use crate::system::errors::sentence;
use crate::system::handed_over::{self, HandedOverError};
use crate::system::logging;

/// Serves until SIGTERM.
///
/// # Errors
/// When logging cannot be started; everything else is logged and becomes the exit code.
pub fn run(arguments: &Serve) -> anyhow::Result<ExitCode> {
    // First of all: what is open now was handed over.
    let sockets = handed_over::take();
    logging::start(arguments.log)?;
    let (origin, sockets, settings, material) = match configured(arguments, sockets) {
        Ok(configured) => configured,
        Err(wrong) => {
            error!("{}", sentence(wrong.as_ref()));
            return Ok(ExitCode::from(EXIT_CONFIG));
        }
    };
    let notices = Notices::new(arguments.log >= Level::DEBUG);
    match gateway::run(&settings, material, notices, origin, sockets) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(failed) => {
            error!("{failed}");
            Ok(ExitCode::FAILURE)
        }
    }
}

/// All that only a person can mend.
fn configured(
    arguments: &Serve,
    sockets: Result<Vec<TcpListener>, HandedOverError>,
) -> anyhow::Result<(Origin, Vec<TcpListener>, Settings, Material)> {
    let sockets = sockets?;
    let origin = Origin {
        path: arguments.configured.config.clone(),
        surroundings: Surroundings {
            sockets: handed_over::addresses(&sockets)?,
            ..Surroundings::of_process()
        },
    };
    let settings = origin.load()?;
    let material = gateway::read_material(&settings)?;
    Ok((origin, sockets, settings, material))
}

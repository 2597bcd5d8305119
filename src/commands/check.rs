//! `check`: reads a configuration and the files it names, and says what the gateway would do.

use std::process::ExitCode;

use super::{explain, print};
use crate::cli::{Check, EXIT_CONFIG};
use crate::config::{self, Settings, Surroundings, Tls};
use crate::gateway;
use crate::intake::hops::Proxies;
use crate::system::errors::sentence;

/// Checks; prints what is wrong to standard error.
///
/// # Errors
/// When nothing can be printed.
pub fn run(arguments: &Check) -> anyhow::Result<ExitCode> {
    let settings = config::load(&arguments.configured.config, &Surroundings::of_process())
        .map_err(anyhow::Error::from);
    let checked = settings.and_then(|settings| {
        gateway::read_material(&settings)?;
        Ok(settings)
    });
    match checked {
        Ok(settings) if arguments.explain.is_some() => explain::run(arguments, &settings.listen),
        Ok(settings) => {
            print(&describe(arguments, &settings))?;
            Ok(ExitCode::SUCCESS)
        }
        Err(wrong) => {
            eprintln!("belvo-gateway: {}", sentence(wrong.as_ref()));
            Ok(ExitCode::from(EXIT_CONFIG))
        }
    }
}

fn describe(arguments: &Check, settings: &Settings) -> String {
    let addresses: Vec<_> = settings
        .listen
        .addresses
        .iter()
        .map(ToString::to_string)
        .collect();
    let tls = match &settings.tls {
        Tls::Files { certificate, .. } => format!("with the certificate {}", certificate.display()),
        Tls::Off => "without TLS".to_owned(),
    };
    let authorization = match settings.listen.authorization_file {
        Some(_) => "with an Authorization value",
        None => "by source address alone (no Authorization value is configured)",
    };
    let proxies = match settings.listen.proxies.as_ref().map(Proxies::told) {
        None => String::new(),
        Some(told) => format!(
            "\n  believes its trusted proxies, who name their client {}",
            explain::place(told)
        ),
    };
    let keys = match settings.api.keys {
        Some(_) => format!("fetches from {}", settings.api.base_url),
        None => "fetches nothing until API keys are configured".to_owned(),
    };
    format!(
        "{}: good\n  serves {} on {}{}, {tls}\n  lets Belvo in {authorization}{proxies}\n  keeps everything in {}\n  {keys}\n",
        arguments.configured.config.display(),
        settings.environment,
        addresses.join(", "),
        settings.listen.path,
        settings.state_directory.display(),
    )
}

//! `check`: reads a configuration and the files it names, and says what the gateway would do.

use std::process::ExitCode;

use super::{explain, print};
use crate::cli::{Check, EXIT_CONFIG};
use crate::config::{self, Settings, Surroundings, Tls};
use crate::gateway::{self, Material};
use crate::intake::hops::Proxies;
use crate::system::certificate::Validity;
use crate::system::clock::UnixMs;
use crate::system::errors::sentence;

/// Checks; prints what is wrong to standard error.
///
/// # Errors
/// When nothing can be printed.
pub fn run(arguments: &Check) -> anyhow::Result<ExitCode> {
    let settings = config::load(&arguments.configured.config, &Surroundings::of_process())
        .map_err(anyhow::Error::from);
    let checked = settings.and_then(|settings| {
        let material = gateway::read_material(&settings)?;
        Ok((settings, material))
    });
    match checked {
        Ok((settings, _)) if arguments.explain.is_some() => {
            explain::run(arguments, &settings.listen)
        }
        Ok((settings, material)) => {
            print(&describe(arguments, &settings, &material))?;
            Ok(ExitCode::SUCCESS)
        }
        Err(wrong) => {
            eprintln!("belvo-gateway: {}", sentence(wrong.as_ref()));
            Ok(ExitCode::from(EXIT_CONFIG))
        }
    }
}

fn describe(arguments: &Check, settings: &Settings, material: &Material) -> String {
    let addresses: Vec<_> = settings
        .listen
        .addresses
        .iter()
        .map(ToString::to_string)
        .collect();
    let tls = match &settings.tls {
        Tls::Files { certificate, .. } => format!(
            "with the certificate {}{}",
            certificate.display(),
            material.certificate().map(valid).unwrap_or_default()
        ),
        Tls::Acme(acme) => format!(
            "with a certificate for {} from {}{}",
            acme.domain,
            acme.authority(),
            material.certificate().map(valid).unwrap_or_default()
        ),
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
        "{}: good\n  serves {} on {}{}, or there on the sockets named belvo that systemd hands over, {tls}\n  lets Belvo in {authorization}{proxies}\n  keeps everything in {}\n  {keys}\n",
        arguments.configured.config.display(),
        settings.environment,
        addresses.join(", "),
        settings.listen.path,
        settings.state_directory.display(),
    )
}

/// Until when the certificate is valid, and what a clock that can be right says about it.
fn valid(validity: Validity) -> String {
    let (now, until) = (UnixMs::now(), validity.until);
    match now.is_plausible() {
        true if until <= now => {
            format!(", which EXPIRED on {until}: Belvo cannot deliver anything; renew it")
        }
        true if validity.from > now => format!(
            ", which is valid only from {} until {until}: see that the clock is right",
            validity.from
        ),
        _ => format!(", valid until {until}"),
    }
}

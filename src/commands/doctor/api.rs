//! Whether Belvo's API takes the keys: one GET of one link, as `reconcile` begins with, by the code that fetches. It
//! changes nothing at Belvo and costs nothing there.

use std::sync::mpsc::{Receiver, channel};
use std::thread;

use tokio::runtime::Builder;
use tokio::time::timeout;

use super::{Finding, is_denied};
use crate::catalog::LINKS;
use crate::config::Settings;
use crate::fetch::{self, Cause, Class, Client, Error, List, Target};
use crate::gateway;
use crate::limits::DOCTOR_NETWORK_WAIT;
use crate::system::clock::Stamp;
use crate::system::errors::sentence;

const CHECK: &str = "api-keys";

/// A question that is under way.
pub(super) struct Asked(Receiver<Finding>);

/// Asks, on a thread of its own.
pub(super) fn ask(settings: &Settings) -> Asked {
    let (found, answer) = channel();
    let settings = settings.clone();
    thread::spawn(move || {
        // Nobody waits any more when it took too long.
        drop(found.send(look(&settings)));
    });
    Asked(answer)
}

impl Asked {
    /// The answer. The thread has a deadline of its own, a little earlier.
    pub(super) fn answer(self) -> Finding {
        let late = |_| no_answer(&Cause::Timeout);
        let wait = DOCTOR_NETWORK_WAIT + DOCTOR_NETWORK_WAIT / 5;
        self.0.recv_timeout(wait).unwrap_or_else(late)
    }
}

fn look(settings: &Settings) -> Finding {
    let Some(files) = gateway::key_files(settings) else {
        return Finding::warning(
            CHECK,
            "no API keys are configured: webhooks are kept, nothing is fetched",
            "give belvo-secret-id and belvo-secret-password as credentials, or name their files in [api]",
        );
    };
    let read = files.read().map_err(|error| sentence(&error));
    let roots = settings.api.ca_file.as_deref().map(fetch::roots_from);
    let client = read.and_then(|keys| {
        let roots = roots.transpose().map_err(|error| sentence(&error))?;
        let target = Target {
            base_url: settings.api.base_url.clone(),
            roots: roots.map(Into::into),
        };
        Client::new(&target, &keys).map_err(|error| sentence(&error))
    });
    let client = match client {
        Ok(client) => client,
        Err(why) if is_denied(&why) => return Finding::unseen(CHECK, why),
        Err(why) => {
            let next = "put the key into its file again, alone on its line; belvo-gateway check says the same";
            return Finding::broken(CHECK, why, next);
        }
    };
    match asked(&client) {
        Ok(()) => Finding::ok(CHECK, format!("{} takes the keys", settings.api.base_url)),
        Err(error) => judged(&error),
    }
}

fn asked(client: &Client) -> Result<(), Error> {
    let error = |cause| Error::new(LINKS.path, 0, cause);
    let runtime = Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(1)
        .build()
        .map_err(|source| error(Cause::Network(source.to_string())))?;
    let list = List {
        path: LINKS.path.to_owned(),
        ..List::default()
    };
    let page = async { timeout(DOCTOR_NETWORK_WAIT, fetch::page(client, &list, 1, 1)).await };
    let outcome = runtime.block_on(page);
    // A name lookup goes on until the system gives up; nobody waits for it.
    runtime.shutdown_background();
    outcome.map_or_else(|_| Err(error(Cause::Timeout)), |page| page.map(drop))
}

fn judged(error: &Error) -> Finding {
    let status = matches!(error.cause, Cause::Status { .. });
    match error.class() {
        Class::Credentials => Finding::broken(
            CHECK,
            format!("Belvo refuses the keys: {error}"),
            error.next_step(),
        ),
        Class::Forbidden | Class::Throttled => Finding::warning(
            CHECK,
            format!("Belvo does not answer this address now: {error}"),
            "wait a minute and run this again; if it stays, ask Belvo whether the address is blocked",
        ),
        Class::Permanent if status => Finding::broken(
            CHECK,
            format!("Belvo does not let these keys list links: {error}"),
            error.next_step(),
        ),
        _ => no_answer(&error.cause),
    }
}

/// Why there was no answer that says anything about the keys.
fn no_answer(cause: &Cause) -> Finding {
    let (what, next) = match cause {
        _ if !Stamp::now().is_trusted => (
            "the clock is wrong, and no certificate can be judged by it".to_owned(),
            "have the clock set (timedatectl status), then run this again",
        ),
        Cause::Network(why) if why.contains("dns error") => (
            format!("the name of Belvo's API cannot be looked up: {why}"),
            "see /etc/resolv.conf and the router: getent hosts api.belvo.com",
        ),
        Cause::Network(why) if why.contains("certificate") => (
            format!("the certificate of Belvo's API is not trusted: {why}"),
            "see that the package ca-certificates is installed and no firewall breaks TLS open; one that must is named by [api] ca-file",
        ),
        Cause::Network(why) => (
            format!("Belvo's API cannot be reached: {why}"),
            "see that this machine may connect to port 443 outside; webhooks are kept meanwhile",
        ),
        Cause::Timeout => (
            format!(
                "Belvo's API has not answered within {} s",
                DOCTOR_NETWORK_WAIT.as_secs()
            ),
            "see that this machine may connect to port 443 outside; webhooks are kept meanwhile",
        ),
        other => (
            format!(
                "what answers for Belvo's API is not what is expected: {}",
                Error::new(LINKS.path, 0, other.clone())
            ),
            "see [api] base-url, and status.belvo.com; webhooks are kept meanwhile",
        ),
    };
    Finding::broken(CHECK, what, next)
}

//! Where log lines go: to journald when systemd reads our standard error, else to standard error as text.
//! Does not know what is logged. Only the drain's thread and the commands log; the intake's thread never does,
//! because a stuck journald blocks whoever writes to it.
//!
//! Levels: `error` stands still until a person acts; `warn` heals by itself or is worth a look; `info` is the life of the
//! process, a line for each webhook and fetch, and fewer when many come at once; `debug` is for us.

use std::io::{self, IsTerminal};
use std::os::unix::fs::MetadataExt;

use tracing::Level;
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry};

/// What our levels are to journald, whose words they are but for one: a notice is nothing of ours.
const PRIORITIES: PriorityMappings = PriorityMappings {
    error: Priority::Error,
    warn: Priority::Warning,
    info: Priority::Informational,
    debug: Priority::Debug,
    trace: Priority::Debug,
};

/// Prefix of our fields in the journal: `BELVO_LINK_ID=...`.
const FIELD_PREFIX: &str = "BELVO";

/// Starts logging for the rest of the process.
///
/// # Errors
/// When logging was started before.
pub fn start(level: Level) -> io::Result<()> {
    let ours = Targets::new().with_target("belvo_gateway", level);
    // Where journald's socket cannot be opened, standard error still reaches it.
    let journald = stderr_is_journald()
        .then(tracing_journald::layer)
        .and_then(io::Result::ok);
    let layer: Box<dyn Layer<Registry> + Send + Sync> = if let Some(journald) = journald {
        journald
            .with_field_prefix(Some(FIELD_PREFIX.to_owned()))
            .with_priority_mappings(PRIORITIES)
            .boxed()
    } else {
        let text = tracing_subscriber::fmt::layer()
            .with_writer(io::stderr)
            .with_ansi(false)
            .with_target(false);
        if io::stderr().is_terminal() {
            text.without_time().boxed()
        } else {
            text.boxed()
        }
    };
    tracing_subscriber::registry()
        .with(layer.with_filter(ours))
        .try_init()
        .map_err(io::Error::other)
}

/// Whether standard error is the very socket that systemd names in `$JOURNAL_STREAM` (`device:inode`, systemd.exec(5)).
fn stderr_is_journald() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    let Ok(stderr) = std::fs::metadata("/proc/self/fd/2") else {
        return false;
    };
    stream == format!("{}:{}", stderr.dev(), stderr.ino())
}

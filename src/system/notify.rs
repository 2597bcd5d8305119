//! Telling the service manager how we are: ready, stopping, alive. Does nothing where there is none.

use std::io;
use std::time::Duration;

use sd_notify::NotifyState;

/// Says that the gateway serves, and what on.
///
/// # Errors
/// When `$NOTIFY_SOCKET` is set and cannot be written to.
pub fn ready(status: &str) -> io::Result<()> {
    sd_notify::notify(&[NotifyState::Ready, NotifyState::Status(status)])
}

/// Says that the configuration is being read again. What is said next is [`reloaded`].
///
/// # Errors
/// As [`ready`].
pub fn reloading() -> io::Result<()> {
    sd_notify::notify(&[NotifyState::Reloading, NotifyState::monotonic_usec_now()?])
}

/// Says that the gateway serves by the configuration that it read last.
///
/// # Errors
/// As [`ready`].
pub fn reloaded() -> io::Result<()> {
    sd_notify::notify(&[NotifyState::Ready])
}

/// Says that the gateway ends.
///
/// # Errors
/// As [`ready`].
pub fn stopping() -> io::Result<()> {
    sd_notify::notify(&[NotifyState::Stopping])
}

/// Says that the gateway is alive.
///
/// # Errors
/// As [`ready`].
pub fn alive() -> io::Result<()> {
    sd_notify::notify(&[NotifyState::Watchdog])
}

/// How often [`alive`] is to be said: half the time after which the service manager gives us up, or never.
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2)
}

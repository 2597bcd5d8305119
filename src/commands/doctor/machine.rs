//! The clock: whether it can be right, who sets it, and whether it goes on without power.

use std::path::Path;

use super::Finding;
use crate::system::clock::{Stamp, synchronized_at};

/// Programs that set a clock, by the file that each leaves while it runs. systemd-timesyncd has one of its own.
const SETTERS: [(&str, &str); 5] = [
    ("chrony", "/run/chrony/chronyd.pid"),
    ("ntpd-rs", "/run/ntpd-rs/observe"),
    ("ntpsec", "/run/ntpd.pid"),
    ("openntpd", "/run/ntpd.sock"),
    (
        "systemd-timesyncd, which has not reached a server yet",
        "/run/systemd/timesync",
    ),
];

pub(super) fn look() -> Vec<Finding> {
    let now = Stamp::now();
    let clock = match now.is_trusted {
        true => Finding::ok("clock", format!("shows {}", now.wall)),
        false => Finding::broken(
            "clock",
            format!(
                "shows {}, which cannot be right: nothing is fetched over TLS",
                now.wall
            ),
            "let the machine reach a time server (timedatectl status); webhooks are taken meanwhile",
        ),
    };
    vec![clock, source()]
}

fn source() -> Finding {
    const CHECK: &str = "clock-source";
    let battery = match Path::new("/sys/class/rtc/rtc0").exists() {
        true => "the machine has a clock that goes on without power",
        false => "the machine has no clock that goes on without power",
    };
    let setter = SETTERS.iter().find(|(_, file)| Path::new(file).exists());
    match (synchronized_at(), setter) {
        (Some(at), _) => {
            let said = format!("systemd-timesyncd last set the clock at {at}; {battery}");
            Finding::ok(CHECK, said)
        }
        (None, Some((name, _))) => Finding::ok(CHECK, format!("{name} sets the clock; {battery}")),
        (None, None) => Finding::warning(
            CHECK,
            format!("nothing is seen that sets the clock; {battery}"),
            "apt-get install systemd-timesyncd, or see that another program for it runs",
        ),
    }
}

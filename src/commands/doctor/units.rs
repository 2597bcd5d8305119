//! What systemd says of the service and its socket, by its own program `systemctl`.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::channel;
use std::thread;

use super::Finding;
use crate::limits::{DOCTOR_UNIT_WAIT, RESTARTS_MANY};

const CHECK: &str = "unit";
const SERVICE: &str = "belvo-gateway.service";
const SOCKET: &str = "belvo-gateway.socket";
/// Where packages put units, by way of which an older path leads as well.
const PACKAGED: [&str; 2] = ["/usr/lib/systemd/system", "/lib/systemd/system"];

/// What was found.
pub(super) struct Units {
    /// Whether systemd holds the listening sockets.
    pub(super) has_socket: bool,
    pub(super) findings: Vec<Finding>,
}

type Properties = BTreeMap<String, String>;

pub(super) fn look() -> Units {
    let alone = |finding| Units {
        has_socket: false,
        findings: vec![finding],
    };
    // systemd's own test whether it runs the machine (sd_booted).
    if !Path::new("/run/systemd/system").is_dir() {
        return alone(Finding::ok(
            CHECK,
            "systemd does not run this machine, so nothing is known of its units",
        ));
    }
    let Some(service) = properties(SERVICE) else {
        return alone(Finding::warning(
            CHECK,
            "systemctl did not answer",
            "see that it is installed: systemctl status belvo-gateway",
        ));
    };
    if value(&service, "LoadState") != "loaded" {
        let said = format!("{SERVICE} is {}", value(&service, "LoadState"));
        return alone(Finding::warning(
            CHECK,
            said,
            "install the package, or the unit as deploy/README.md says",
        ));
    }
    let socket = properties(SOCKET).filter(|socket| value(socket, "LoadState") == "loaded");
    let mut findings = vec![runs(&service)];
    findings.extend(starts_by_itself(&service, socket.as_ref()));
    findings.extend(overridden(&service));
    findings.extend(socket.as_ref().map(holds));
    Units {
        has_socket: socket.is_some_and(|socket| value(&socket, "ActiveState") == "active"),
        findings,
    }
}

fn value<'a>(properties: &'a Properties, name: &str) -> &'a str {
    properties.get(name).map_or("", String::as_str)
}

fn runs(service: &Properties) -> Finding {
    let (active, sub) = (value(service, "ActiveState"), value(service, "SubState"));
    let restarts = value(service, "NRestarts").parse().unwrap_or(0u64);
    let said = format!("{SERVICE} is {active} ({sub}), started again by systemd {restarts} times");
    match active {
        "active" | "reloading" if restarts > RESTARTS_MANY => Finding::warning(
            CHECK,
            said,
            "journalctl -u belvo-gateway says why it ended; systemctl reset-failed belvo-gateway counts anew",
        ),
        "active" | "reloading" => Finding::ok(CHECK, said),
        "inactive" => Finding::warning(CHECK, said, "systemctl start belvo-gateway"),
        _ => Finding::broken(
            CHECK,
            said,
            "belvo-gateway check, and journalctl -u belvo-gateway -n 50 says why it does not stay up",
        ),
    }
}

/// Whether it comes back when the machine is switched on: itself, or by its socket.
fn starts_by_itself(service: &Properties, socket: Option<&Properties>) -> Option<Finding> {
    let is_enabled = |unit: &Properties| value(unit, "UnitFileState").starts_with("enabled");
    let either = is_enabled(service) || socket.is_some_and(is_enabled);
    (!either).then(|| {
        Finding::warning(
            "unit-enabled",
            "the gateway does not start with the machine",
            "systemctl enable belvo-gateway",
        )
    })
}

/// What was changed of the packaged unit.
fn overridden(service: &Properties) -> Vec<Finding> {
    let mut findings = Vec::new();
    let unit = value(service, "FragmentPath");
    let packaged = PACKAGED
        .iter()
        .map(|directory| Path::new(directory).join(SERVICE))
        .find(|path| path.exists());
    if let (true, Some(packaged)) = (unit.starts_with("/etc/"), packaged) {
        findings.push(Finding::warning(
            "unit-shadowed",
            format!("{unit} is used in place of {}: upgrades do not reach it", packaged.display()),
            format!("keep what you need of it by systemctl edit belvo-gateway, then: rm {unit} && systemctl daemon-reload"),
        ));
    }
    let changes = value(service, "DropInPaths");
    findings.push(Finding::ok(
        "unit-drop-ins",
        match changes.is_empty() {
            true => format!("{unit}, without drop-ins"),
            false => format!("{unit}, changed by {changes}"),
        },
    ));
    if value(service, "NeedDaemonReload") == "yes" {
        findings.push(Finding::warning(
            "unit-reload",
            "the unit was changed on the disk and systemd has not read it",
            "systemctl daemon-reload && systemctl restart belvo-gateway",
        ));
    }
    findings
}

fn holds(socket: &Properties) -> Finding {
    const CHECK: &str = "unit-socket";
    let said = format!(
        "{SOCKET} is {}: {}",
        value(socket, "ActiveState"),
        value(socket, "Listen")
    );
    match value(socket, "ActiveState") {
        "active" => Finding::ok(CHECK, said),
        "failed" => Finding::broken(
            CHECK,
            said,
            "see whether another program has the port (ss -ltnp), then: systemctl restart belvo-gateway.socket",
        ),
        _ => Finding::warning(
            CHECK,
            format!("{said}; while the gateway restarts, webhooks are refused"),
            "systemctl enable --now belvo-gateway.socket && systemctl restart belvo-gateway",
        ),
    }
}

/// What `systemctl show` says of a unit, if it says it in time.
fn properties(unit: &'static str) -> Option<Properties> {
    let (said, heard) = channel();
    thread::spawn(move || {
        let names = "LoadState,ActiveState,SubState,NRestarts,UnitFileState,FragmentPath,DropInPaths,NeedDaemonReload,Listen";
        let output = Command::new("systemctl")
            .args(["show", "--no-pager", "--property", names, unit])
            .output();
        // Nobody waits any more when it took too long.
        drop(said.send(output));
    });
    let output = heard.recv_timeout(DOCTOR_UNIT_WAIT).ok()?.ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let pair = |line: &str| {
        let (name, value) = line.split_once('=')?;
        Some((name.to_owned(), value.to_owned()))
    };
    output
        .status
        .success()
        .then(|| text.lines().filter_map(pair).collect())
}

#[cfg(test)]
mod tests {
    use super::super::How;
    use super::*;

    fn unit(pairs: &[(&str, &str)]) -> Properties {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        pairs.iter().map(owned).collect()
    }

    #[test]
    fn a_service_that_does_not_stay_up_is_broken_and_one_that_was_stopped_is_not() {
        let how = |active, restarts| {
            let found = runs(&unit(&[("ActiveState", active), ("NRestarts", restarts)]));
            found.how
        };
        assert_eq!(how("active", "0"), How::Ok);
        assert_eq!(how("active", "6"), How::Warning);
        assert_eq!(how("inactive", "0"), How::Warning);
        assert_eq!(how("failed", "0"), How::Broken);
        assert_eq!(how("activating", "12"), How::Broken);
    }

    #[test]
    fn the_socket_starts_the_gateway_with_the_machine_as_well_as_the_service_does() {
        let (on, off) = ("enabled", "disabled");
        let state = |state| unit(&[("UnitFileState", state)]);
        assert!(starts_by_itself(&state(on), None).is_none());
        assert!(starts_by_itself(&state(off), Some(&state(on))).is_none());
        assert!(starts_by_itself(&state(off), Some(&state(off))).is_some());
    }

    #[test]
    fn drop_ins_are_named_and_what_systemd_has_not_read_is_said() {
        let found = overridden(&unit(&[
            (
                "FragmentPath",
                "/usr/lib/systemd/system/belvo-gateway.service",
            ),
            (
                "DropInPaths",
                "/etc/systemd/system/belvo-gateway.service.d/override.conf",
            ),
            ("NeedDaemonReload", "yes"),
        ]));
        assert!(
            found[0].what.ends_with("override.conf"),
            "{}",
            found[0].what
        );
        assert_eq!(
            (found[1].check, found[1].how),
            ("unit-reload", How::Warning)
        );
    }
}

//! What the state directory lies on: the kind of file system, the room, and how long a sync takes.

use std::path::Path;
use std::time::Duration;

use super::{Finding, is_denied};
use crate::database::room::Floor;
use crate::limits::{SYNC_SLOW, SYNC_STUCK};
use crate::system::medium::{Medium, Worth, time_syncs};

const MIB: u64 = 1024 * 1024;

pub(super) fn look(state: &Path, floor: Floor) -> Vec<Finding> {
    let medium = match Medium::of(state) {
        Ok(medium) => medium,
        Err(error) => {
            let said = format!("the state directory {}: {error}", state.display());
            return vec![match is_denied(&said) {
                true => Finding::unseen("disk", said),
                false => Finding::broken(
                    "disk",
                    said,
                    "install the package, or make the directory: install -d -m 0750 -o belvo-gateway -g belvo-gateway DIR",
                ),
            }];
        }
    };
    let mut findings = vec![kind(state, &medium)];
    if !medium.is_read_only {
        findings.extend([room(&medium, floor), syncs(state)]);
    }
    findings
}

fn kind(state: &Path, medium: &Medium) -> Finding {
    const CHECK: &str = "disk";
    let said = format!("{} lies on a file system {}", state.display(), medium.name);
    if medium.is_read_only {
        return Finding::broken(
            CHECK,
            format!("{said}, which is read-only: webhooks are answered 503"),
            "see dmesg; start the machine again, which checks and mounts the card anew, and replace it when it comes back",
        );
    }
    match medium.worth {
        Worth::Lasting | Worth::Unknown => Finding::ok(CHECK, said),
        Worth::Fleeting => Finding::warning(
            CHECK,
            format!("{said}: what is kept does not outlive the next start of the machine"),
            "put state-directory on a disk (with an overlay as root: on a partition of its own)",
        ),
        Worth::Remote => Finding::warning(
            CHECK,
            format!("{said}, on another machine: locks and syncs may not hold there"),
            "put state-directory on a disk of this machine",
        ),
        Worth::Fat => Finding::warning(
            CHECK,
            format!("{said}, which has no owners and modes and does not outlive a power cut whole"),
            "put state-directory on ext4",
        ),
    }
}

fn room(medium: &Medium, floor: Floor) -> Finding {
    const CHECK: &str = "room";
    let least = floor.on(medium.total);
    let said = format!(
        "{} MiB of {} are free, and webhooks are taken down to {}",
        medium.free / MIB,
        medium.total / MIB,
        least / MIB
    );
    let next = "make room: journalctl --vacuum-size=50M, apt-get clean; or lower [storage] journal-max-mib and keep-days";
    if medium.free < least {
        Finding::broken(CHECK, format!("{said}: they are answered 503"), next)
    } else if medium.free < floor.kept_on(medium.total) {
        Finding::warning(CHECK, said, next)
    } else {
        Finding::ok(CHECK, said)
    }
}

fn syncs(state: &Path) -> Finding {
    const CHECK: &str = "sync";
    let times = match time_syncs(state) {
        Ok(times) => times,
        Err(error) if is_denied(&error.to_string()) => {
            return Finding::ok(
                CHECK,
                "not timed: only root and the gateway's user may write to the state directory",
            );
        }
        Err(error) => {
            let said = format!("a file in {} cannot be written: {error}", state.display());
            return Finding::broken(CHECK, said, "see dmesg: the card may be full or failing");
        }
    };
    let median = times.get(times.len() / 2).copied().unwrap_or_default();
    let worst = times.last().copied().unwrap_or_default();
    let said = format!(
        "{} syncs took {} ms in the middle and {} ms at worst",
        times.len(),
        in_ms(median),
        in_ms(worst)
    );
    match median > SYNC_SLOW || worst > SYNC_STUCK {
        true => Finding::warning(
            CHECK,
            format!("{said}: each webhook waits for one"),
            "see whether another program writes much (iotop); if not, replace the card by a better one (A1 or A2), or use an SSD",
        ),
        false => Finding::ok(CHECK, said),
    }
}

fn in_ms(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64() * 1_000.0)
}

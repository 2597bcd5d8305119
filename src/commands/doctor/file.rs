//! The file against the program, and the gateway that runs on it: versions, SQLite's own check, open problems.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::{Finding, is_denied};
use crate::database::{LATEST, OpenError, Reader, damage, holder, open_reader};
use crate::limits::DOCTOR_CHECK_WAIT;
use crate::store::alive::alive_at;
use crate::store::problems;
use crate::system::errors::sentence;

const VERSION: &str = env!("CARGO_PKG_VERSION");

pub(super) fn look(state: &Path) -> Vec<Finding> {
    let mut findings = vec![running(state)];
    let mut reader = match open_reader(state) {
        Ok(reader) => reader,
        Err(error) => {
            findings.push(unreadable(&error));
            return findings;
        }
    };
    // What one look finds no other has to say again.
    match versions(&reader).and_then(|found| Ok([found, whole(&mut reader)?, open(&reader)?])) {
        Ok(found) => findings.extend(found),
        Err(error) => {
            let next = damage::advice(error.as_ref()).unwrap_or("belvo-gateway verify says more");
            findings.push(Finding::broken("file", sentence(error.as_ref()), next));
        }
    }
    findings
}

/// Whether a gateway runs on it, and whether it is this program.
fn running(state: &Path) -> Finding {
    const CHECK: &str = "gateway";
    let process = match holder(state) {
        Ok(Some(process)) => process,
        Ok(None) => {
            let said = "no gateway runs on this state directory";
            return Finding::warning(CHECK, said, "systemctl start belvo-gateway");
        }
        Err(error) => return Finding::unseen(CHECK, format!("the lock: {error}")),
    };
    let program = format!("/proc/{process}/exe");
    let identity = |path: &str| fs::metadata(path).map(|found| (found.dev(), found.ino()));
    match (identity(&program), identity("/proc/self/exe")) {
        (Ok(its), Ok(ours)) if its == ours => Finding::ok(
            CHECK,
            format!("runs as process {process}, version {VERSION}"),
        ),
        (Ok(_), Ok(_)) => {
            let path = fs::read_link(&program).unwrap_or_default();
            Finding::warning(
                CHECK,
                format!(
                    "process {process} runs another program than this one ({VERSION}): {}",
                    path.display()
                ),
                "after an upgrade: systemctl restart belvo-gateway",
            )
        }
        _ => Finding::ok(
            CHECK,
            format!("runs as process {process}; only root sees its version"),
        ),
    }
}

fn unreadable(error: &OpenError) -> Finding {
    const CHECK: &str = "file";
    let said = sentence(error);
    match error {
        OpenError::NoFile(_) => Finding::warning(
            CHECK,
            said,
            "start the gateway: systemctl start belvo-gateway",
        ),
        OpenError::Newer { .. } => Finding::broken(
            CHECK,
            said,
            "install the version again that wrote it, or restore a snapshot from before",
        ),
        _ if is_denied(&said) || matches!(error, OpenError::NotReadable { .. }) => {
            Finding::unseen(CHECK, said)
        }
        _ => Finding::broken(CHECK, said, "belvo-gateway verify says more"),
    }
}

fn versions(reader: &Reader) -> anyhow::Result<Finding> {
    const CHECK: &str = "version";
    let found = reader.versions()?;
    let alive =
        alive_at(reader)?.map(|at| format!("; the gateway last noted at {at} that it runs"));
    let said = format!(
        "this is version {VERSION} with schema {LATEST}, the file has schema {} and may be used from {} on{}",
        found.schema,
        found.oldest_reader,
        alive.unwrap_or_default()
    );
    Ok(match found.schema {
        schema if schema < LATEST => Finding::warning(
            CHECK,
            said,
            "restart the gateway, which brings the file to its schema: systemctl restart belvo-gateway",
        ),
        schema if schema > LATEST => Finding::warning(
            CHECK,
            format!("{said}: a newer version has written it"),
            "install the newer version again when what made you go back is mended",
        ),
        _ => Finding::ok(CHECK, said),
    })
}

/// SQLite's own check, as far as it gets.
fn whole(reader: &mut Reader) -> anyhow::Result<Finding> {
    const CHECK: &str = "file";
    Ok(match reader.check(DOCTOR_CHECK_WAIT)? {
        None => Finding::ok(
            CHECK,
            "nothing is damaged, as far as two seconds show; belvo-gateway verify reads all of it",
        ),
        Some(what) => Finding::broken(
            CHECK,
            format!("it is damaged: {what}"),
            "belvo-gateway verify --set-aside && systemctl restart belvo-gateway",
        ),
    })
}

fn open(reader: &Reader) -> anyhow::Result<Finding> {
    const CHECK: &str = "problems";
    let open = problems::list(reader, false)?;
    let Some(worst) = open.first() else {
        return Ok(Finding::ok(CHECK, "none is open"));
    };
    let said = format!(
        "{} open, the worst: {}: {}",
        open.len(),
        worst.kind,
        worst.text
    );
    Ok(Finding::warning(CHECK, said, "belvo-gateway problems"))
}

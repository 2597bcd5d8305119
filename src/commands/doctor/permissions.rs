//! Who may read and write what: the configuration, the secrets that it names, the credentials, and the state directory.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{Finding, How, is_denied};
use crate::config::{CREDSTORE, SERVICE, STATE, Settings, Tls};
use crate::database::FILE_NAME;

const CREDENTIALS: [&str; 4] = [
    "belvo-secret-id",
    "belvo-secret-password",
    "webhook-authorization",
    "tls-key",
];

pub(super) fn look(
    (settings, file): (Option<&Settings>, &Path),
    state: Option<&Path>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(settings) = settings {
        findings.push(configuration(file));
        findings.push(secrets(settings));
        findings.push(credentials());
    }
    findings.extend(state.map(directory));
    findings
}

/// Whoever can write it can have every webhook sent elsewhere; there is nothing secret in it.
fn configuration(path: &Path) -> Finding {
    const CHECK: &str = "configuration-mode";
    match fs::metadata(path) {
        Ok(found) if found.mode() & 0o022 == 0 => Finding::ok(
            CHECK,
            format!("only its owner may change {}", path.display()),
        ),
        Ok(found) => Finding::warning(
            CHECK,
            format!(
                "others than its owner may change {} (mode {:04o})",
                path.display(),
                bits(&found)
            ),
            format!("chmod go-w {}", path.display()),
        ),
        Err(error) => Finding::unseen(CHECK, format!("{}: {error}", path.display())),
    }
}

/// The files of secrets that the configuration names, or that are credentials.
fn secrets(settings: &Settings) -> Finding {
    const CHECK: &str = "secrets";
    let mut paths: Vec<&PathBuf> = settings.listen.authorization_file.iter().collect();
    if let Tls::Files { key, .. } = &settings.tls {
        paths.push(key);
    }
    if let Some((id, password)) = &settings.api.keys {
        paths.extend([id, password]);
    }
    let judged = |path: &PathBuf| match fs::metadata(path) {
        Ok(found) if found.mode() & 0o007 != 0 => Some(Finding::broken(
            CHECK,
            format!(
                "{} may be read by everybody (mode {:04o})",
                path.display(),
                bits(&found)
            ),
            format!("chmod o-rwx {}", path.display()),
        )),
        Err(error) => Some(missing(CHECK, path, &error)),
        Ok(_) => None,
    };
    let worst = paths
        .iter()
        .filter_map(|path| judged(path))
        .max_by_key(|found| found.how);
    let closed = || Finding::ok(CHECK, format!("{} files, closed to others", paths.len()));
    worst.unwrap_or_else(closed)
}

fn missing(check: &'static str, path: &Path, error: &io::Error) -> Finding {
    let said = format!("{}: {error}", path.display());
    match is_denied(&said) {
        true => Finding::unseen(check, said),
        false => Finding::broken(check, said, "create it or correct the path"),
    }
}

/// What systemd passes to the service at its next start.
fn credentials() -> Finding {
    const CHECK: &str = "credentials";
    let path = |name: &str| Path::new(CREDSTORE).join(format!("{SERVICE}.{name}"));
    if let Err(error) = fs::read_dir(CREDSTORE) {
        return match error.kind() {
            io::ErrorKind::NotFound => Finding::ok(CHECK, format!("there are none in {CREDSTORE}")),
            _ => Finding::unseen(CHECK, format!("{CREDSTORE}: {error}")),
        };
    }
    let found: Vec<_> = CREDENTIALS
        .into_iter()
        .filter_map(|name| Some((name, fs::metadata(path(name)).ok()?)))
        .collect();
    let open = found.iter().find(|(_, found)| found.mode() & 0o077 != 0);
    if let Some((name, found)) = open {
        let path = path(name);
        return Finding::warning(
            CHECK,
            format!(
                "{} is open to others than root (mode {:04o})",
                path.display(),
                bits(found)
            ),
            format!("chmod 0600 {}", path.display()),
        );
    }
    let names: Vec<_> = found.iter().map(|(name, _)| *name).collect();
    Finding::ok(
        CHECK,
        match names.is_empty() {
            true => format!("there are none in {CREDSTORE}"),
            false => format!("{CREDSTORE} has {}", names.join(", ")),
        },
    )
}

/// The state directory and the file in it: one owner, who is the service's user, and closed to everybody else.
fn directory(state: &Path) -> Finding {
    const CHECK: &str = "state-mode";
    let there = match fs::metadata(state) {
        Ok(there) => there,
        Err(error) => return missing(CHECK, state, &error),
    };
    let shown = state.display();
    if there.mode() & 0o007 != 0 {
        return Finding::warning(
            CHECK,
            format!(
                "everybody may look into {shown} (mode {:04o})",
                bits(&there)
            ),
            format!("chmod 0750 {shown}"),
        );
    }
    let own = format!("chown -R {SERVICE}: {shown}");
    let service = (state == Path::new(STATE))
        .then(|| user_id(SERVICE))
        .flatten();
    if let Some(id) = service.filter(|id| *id != there.uid()) {
        let said = format!(
            "{shown} belongs to user {} and not to {SERVICE} ({id})",
            there.uid()
        );
        return Finding::broken(CHECK, said, own);
    }
    match fs::metadata(state.join(FILE_NAME)) {
        Ok(file) if file.uid() != there.uid() => {
            let said = format!("{FILE_NAME} belongs to another user than {shown}");
            Finding::broken(CHECK, said, own)
        }
        Ok(file) if file.mode() & 0o007 != 0 => Finding::warning(
            CHECK,
            format!("everybody may read {FILE_NAME} (mode {:04o})", bits(&file)),
            format!("chmod 0640 {}", state.join(FILE_NAME).display()),
        ),
        Ok(file) if file.mode() & 0o040 == 0 => Finding {
            how: How::Warning,
            next_step: Some(format!("chmod 0640 {}", state.join(FILE_NAME).display())),
            ..Finding::ok(CHECK, format!("the group may not read {FILE_NAME}"))
        },
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Finding::unseen(CHECK, format!("{shown}: {error}"))
        }
        _ => Finding::ok(
            CHECK,
            format!(
                "{shown} belongs to user {} and is closed to others",
                there.uid()
            ),
        ),
    }
}

fn bits(found: &Metadata) -> u32 {
    found.mode() & 0o7777
}

/// The number of a user of this machine.
fn user_id(name: &str) -> Option<u32> {
    let users = fs::read_to_string("/etc/passwd").ok()?;
    let of = |line: &str| {
        let mut fields = line.split(':');
        (fields.next()? == name).then(|| fields.nth(1)?.parse().ok())?
    };
    users.lines().find_map(of)
}

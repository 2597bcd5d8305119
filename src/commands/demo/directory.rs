//! The directory that the demo fills: certificates, secrets, a commented configuration and the state. It empties only
//! what an earlier demo left, and does not know what will be done with the files.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::standin::{Certificates, Identity, write_secret};

/// Says that a directory is a demo's own; locked while one runs in it.
const MARKER: &str = ".belvo-gateway-demo";
const DEFAULT: &str = "belvo-gateway-demo";

/// The listener's path, as Belvo's dashboard would be told.
pub(super) const HOOK_PATH: &str = "/belvo/webhooks";

/// A directory with everything a gateway needs.
#[derive(Debug)]
pub(super) struct Directory {
    /// As the user named it, for everything that is printed.
    pub(super) shown: PathBuf,
    root: PathBuf,
    certificates: Certificates,
    _lock: File,
}

/// What the gateway and the stand-in must agree on.
#[derive(Debug)]
pub(super) struct Secrets {
    pub(super) authorization: String,
    pub(super) api_keys: (String, String),
}

impl Secrets {
    /// New ones for each demo, so that none is worth copying.
    pub(super) fn new() -> Self {
        let word = || format!("{:032x}", fastrand::u128(..));
        Self {
            authorization: format!("Bearer {}", word()),
            api_keys: (word(), word()),
        }
    }
}

impl Directory {
    /// Makes the directory, or empties the one that an earlier demo left.
    pub(super) fn prepare(wanted: Option<PathBuf>) -> anyhow::Result<Self> {
        let shown = wanted.unwrap_or_else(|| DEFAULT.into());
        claim(&shown)?;
        let root = shown
            .canonicalize()
            .with_context(|| format!("cannot resolve {}", shown.display()))?;
        let lock = lock(&root)?;
        empty(&root).with_context(|| format!("cannot empty {}", shown.display()))?;
        let certificates =
            Certificates::create(&root.join("tls")).context("cannot write certificates")?;
        make_private(&root.join("state"))?;
        Ok(Self {
            shown,
            root,
            certificates,
            _lock: lock,
        })
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// A file's name as the user would type it.
    pub(super) fn shown(&self, name: &str) -> String {
        self.shown.join(name).display().to_string()
    }

    pub(super) fn identity(&self, name: &str) -> anyhow::Result<Identity> {
        self.certificates
            .issue(name)
            .with_context(|| format!("cannot write the certificate of {name}"))
    }

    pub(super) fn ca_file(&self) -> PathBuf {
        self.certificates.ca_file()
    }

    /// Writes the secrets and a configuration for a gateway that fetches from `base_url`.
    pub(super) fn configure(
        &self,
        secrets: &Secrets,
        allowed: &str,
        base_url: &str,
    ) -> anyhow::Result<()> {
        let (id, password) = &secrets.api_keys;
        let files = [
            ("authorization", &secrets.authorization),
            ("secret-id", id),
            ("secret-password", password),
        ];
        for (name, text) in files {
            write_secret(&self.file(name), &format!("{text}\n"))
                .with_context(|| format!("cannot write {name}"))?;
        }
        let listener = self.identity("gateway")?;
        let config = self.config(&listener, allowed, base_url)?;
        fs::write(self.file("config.toml"), config).context("cannot write config.toml")
    }

    fn config(&self, listener: &Identity, allowed: &str, base_url: &str) -> anyhow::Result<String> {
        let path = |path: &Path| toml_string(path);
        let (state, ca) = (path(&self.file("state"))?, path(&self.ca_file())?);
        let (authorization, id) = (
            path(&self.file("authorization"))?,
            path(&self.file("secret-id"))?,
        );
        let password = path(&self.file("secret-password"))?;
        let (certificate, key) = (path(&listener.certificate)?, path(&listener.key)?);
        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        Ok(format!(
            r#"# The demo's configuration. A real one differs where a line says so.

# Picks the API's address, unless base-url does. A real one: "production".
environment = "sandbox"
# Holds gateway.db. A real one leaves it out: systemd says where.
state-directory = {state}

[listen]
# Port 0 is any free port. A real one: ["0.0.0.0:8443"].
address = ["{any_port}"]
path = "{HOOK_PATH}"
# Who may speak. A real one leaves it out: the default is Belvo's three addresses.
allow = ["{allowed}"]
# The whole Authorization value typed into Belvo's dashboard, one a line; mode 0600.
authorization-file = {authorization}
# Only behind a proxy of your own.
trusted-proxies = []
proxy = "none"
# Here a stranger knows the value above, and is to be turned away like any other. A real one leaves it out.
drift-alarm = false

[tls]
mode = "files"
certificate = {certificate}
key = {key}

[api]
# The stand-in. A real one leaves it out.
base-url = "{base_url}"
# The keys of Belvo's dashboard; mode 0600.
secret-id-file = {id}
secret-password-file = {password}
# Instead of the system's roots. A real one leaves it out.
ca-file = {ca}
requests-per-second = 2
burst = 20
"#
        ))
    }
}

/// Makes sure that the directory exists and is ours to empty.
fn claim(shown: &Path) -> anyhow::Result<()> {
    let name = shown.display();
    match fs::read_dir(shown).map(Iterator::count) {
        Ok(entries) if entries > 0 && !shown.join(MARKER).exists() => bail!(
            "{name} holds something that no demo put there; name another directory with --dir, or move it away"
        ),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => make_private(shown),
        Err(error) => {
            Err(error).with_context(|| format!("cannot use {name}; name another with --dir"))
        }
    }
}

fn make_private(path: &Path) -> anyhow::Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.with_context(|| {
        format!(
            "cannot make {}; name a directory of yours with --dir",
            path.display()
        )
    })
}

fn lock(root: &Path) -> anyhow::Result<File> {
    let marker =
        File::create(root.join(MARKER)).context("cannot mark the directory as the demo's")?;
    match marker.try_lock() {
        Ok(()) => Ok(marker),
        Err(TryLockError::WouldBlock) => {
            bail!(
                "another demo runs in {}; end it, or name another directory with --dir",
                root.display()
            )
        }
        Err(TryLockError::Error(error)) => Err(error).context("cannot lock the directory"),
    }
}

/// Removes everything but the marker, which is locked.
fn empty(root: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        if entry.file_name() == MARKER {
            continue;
        }
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// A TOML string: JSON's escapes are all TOML's too.
fn toml_string(path: &Path) -> anyhow::Result<String> {
    let text = path.to_str().with_context(|| {
        format!(
            "{} is not UTF-8, which a configuration must be; name another with --dir",
            path.display()
        )
    })?;
    Ok(serde_json::Value::from(text).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_demo_made_is_left_alone() {
        let other = tempfile::tempdir().expect("a temporary directory can be made");
        fs::write(other.path().join("letter.txt"), "dear").expect("it can be written to");
        let refused = Directory::prepare(Some(other.path().to_owned()));
        assert!(refused.is_err_and(|error| error.to_string().contains("--dir")));
        assert!(other.path().join("letter.txt").exists());
    }

    #[test]
    fn what_an_earlier_demo_left_is_emptied_but_not_under_a_running_one() {
        let parent = tempfile::tempdir().expect("a temporary directory can be made");
        let root = parent.path().join("a \"demo\"");
        let first = Directory::prepare(Some(root.clone())).expect("a new directory is made");
        fs::write(first.file("state/gateway.db"), "old").expect("the state directory is there");
        assert!(Directory::prepare(Some(root.clone())).is_err());
        drop(first);
        let second = Directory::prepare(Some(root)).expect("the earlier one has ended");
        assert!(!second.file("state/gateway.db").exists());
    }

    #[test]
    fn the_configuration_is_toml_with_the_keys_installers_rely_on() {
        let parent = tempfile::tempdir().expect("a temporary directory can be made");
        let root = parent.path().join("a \"demo\"");
        let directory = Directory::prepare(Some(root.clone())).expect("a new directory is made");
        directory
            .configure(&Secrets::new(), "127.0.0.2", "https://localhost:1")
            .expect("it can be written to");
        let text = fs::read_to_string(directory.file("config.toml")).expect("it was written");
        let config: toml::Table = toml::from_str(&text).expect("it is TOML");
        assert_eq!(config["listen"]["allow"][0].as_str(), Some("127.0.0.2"));
        let key = config["tls"]["key"].as_str().expect("the key is a path");
        assert!(Path::new(key).is_file(), "{key}");
    }
}

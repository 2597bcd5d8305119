//! The configuration file -> [`Settings`]. The only file that knows the format; reads nothing but the file itself and
//! looks at nothing on the machine. Every error names the file, the line, the key, and what was expected.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper::Uri;
use serde::Deserialize;
use thiserror::Error;
use toml::de::{DeTable, DeValue};

use crate::database::room::Floor;
use crate::drain::retention::Keeping;
use crate::intake::hops::{Proxies, Told};
use crate::intake::source::{AllowList, Source};
use crate::limits::{
    BALLAST_MIB, BALLAST_MIB_RANGE, CONNECTIONS_MAX, CONNECTIONS_MAX_RANGE, DISK_FLOOR_MIB,
    DISK_FLOOR_MIB_RANGE, EDGE_REQUESTS_MAX, EDGE_WINDOW, JOURNAL_MAX_MIB, JOURNAL_MAX_MIB_RANGE,
    KEEP_DAYS, KEEP_DAYS_RANGE, KEEP_EVENTS_DAYS,
};
use crate::system::files::{self, ReadError};

/// Belvo sends webhooks from these three addresses, for both environments (docs/belvo.md, Delivery).
pub const BELVO_SOURCES: [&str; 3] = ["3.130.254.46", "18.220.61.186", "18.223.45.212"];

/// The service, as systemd knows it.
pub const SERVICE: &str = "belvo-gateway";
/// Its state directory, unless another is configured.
pub const STATE: &str = "/var/lib/belvo-gateway";
/// Where the credentials are that the running service was given ...
const GIVEN: &str = "/run/credentials/belvo-gateway.service";
/// ... and where they come from, each as `belvo-gateway.NAME`.
pub const CREDSTORE: &str = "/etc/credstore";
const CREDENTIALS: [&str; 2] = [GIVEN, CREDSTORE];

const MIB: u64 = 1024 * 1024;
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Let's Encrypt.
const ACME_DIRECTORY: &str = "https://acme-v02.api.letsencrypt.org/directory";

/// Every table and its keys, as the file may hold them.
const KEYS: &[(&str, &[&str])] = &[
    (
        "",
        &[
            "environment",
            "state-directory",
            "listen",
            "tls",
            "api",
            "storage",
        ],
    ),
    (
        "listen",
        &[
            "address",
            "path",
            "allow",
            "authorization-file",
            "trusted-proxies",
            "proxy",
            "connections-max",
            "drift-alarm",
        ],
    ),
    (
        "tls",
        &[
            "mode",
            "certificate",
            "key",
            "domain",
            "contact",
            "directory",
            "ca-file",
        ],
    ),
    (
        "api",
        &[
            "base-url",
            "secret-id-file",
            "secret-password-file",
            "ca-file",
            "requests-per-second",
            "burst",
            "reconcile",
        ],
    ),
    (
        "storage",
        &[
            "disk-floor-mib",
            "ballast-mib",
            "keep-days",
            "keep-events-days",
            "journal-max-mib",
        ],
    ),
];

/// Where a configuration comes from, so that it can be read again.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The file.
    pub path: PathBuf,
    /// What the service manager says.
    pub surroundings: Surroundings,
}

impl Origin {
    /// Reads it, and as often as it is called.
    ///
    /// # Errors
    /// As [`load`].
    pub fn load(&self) -> Result<Settings, ConfigError> {
        load(&self.path, &self.surroundings)
    }
}

/// What the service manager says: where state and credentials are, and where it listens for us.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// `$STATE_DIRECTORY`.
    pub state_directory: Option<PathBuf>,
    /// `$CREDENTIALS_DIRECTORY`.
    pub credentials_directory: Option<PathBuf>,
    /// The addresses of the sockets that it hands over; where there are some, nothing else is listened on.
    pub sockets: Vec<SocketAddr>,
}

impl Surroundings {
    /// As the process finds them.
    pub fn of_process() -> Self {
        let path = |name| std::env::var_os(name).map(PathBuf::from);
        Self {
            state_directory: path("STATE_DIRECTORY"),
            credentials_directory: path("CREDENTIALS_DIRECTORY"),
            sockets: Vec::new(),
        }
    }

    /// As the service finds them, for a command that was typed by hand: where the process has none, the credentials of
    /// the running service, or those that it would be given, and its state directory.
    pub fn of_the_service() -> Self {
        let own = Self::of_process();
        let can_be_read = |path: &str| std::fs::read_dir(path).is_ok().then(|| path.into());
        let credentials = || CREDENTIALS.into_iter().find_map(can_be_read);
        Self {
            state_directory: own.state_directory.or_else(|| can_be_read(STATE)),
            credentials_directory: own.credentials_directory.or_else(credentials),
            sockets: own.sockets,
        }
    }

    /// Where a credential is, when the service manager has passed it or keeps it for the service.
    fn credential(&self, name: &str) -> Option<PathBuf> {
        let directory = self.credentials_directory.as_ref()?;
        let kept = format!("{SERVICE}.{name}");
        [name, &kept]
            .map(|name| directory.join(name))
            .into_iter()
            .find(|path| path.exists())
    }
}

/// A configuration that can be acted on.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which of Belvo's environments this gateway serves.
    pub environment: Environment,
    /// Where `gateway.db` is.
    pub state_directory: PathBuf,
    /// The listener.
    pub listen: Listen,
    /// TLS of the listener.
    pub tls: Tls,
    /// Belvo's API.
    pub api: Api,
    /// What the file and its disk are kept to.
    pub storage: Storage,
}

/// Belvo's environments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Environment {
    /// Real data.
    Production,
    /// Made-up data.
    Sandbox,
}

impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Production => "production",
            Self::Sandbox => "sandbox",
        })
    }
}

/// Where and from whom webhooks are taken.
#[derive(Clone, Debug)]
pub struct Listen {
    /// The addresses to bind.
    pub addresses: Vec<SocketAddr>,
    /// The path of the hook.
    pub path: String,
    /// The sources that may speak.
    pub allow: AllowList,
    /// The proxies whose word on the source counts.
    pub proxies: Option<Proxies>,
    /// The file of `Authorization` values, if one is to be asked for.
    pub authorization_file: Option<PathBuf>,
    /// Connections served at once.
    pub connections_max: usize,
    /// Whether a few refused connections are looked at, to see whether Belvo sends from a new address.
    pub drift_alarm: bool,
}

/// How the listener does TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tls {
    /// With these files.
    Files {
        /// The certificate chain, PEM.
        certificate: PathBuf,
        /// Its private key, PEM.
        key: PathBuf,
    },
    /// With a certificate that the gateway gets by itself.
    Acme(Acme),
    /// Not at all: on loopback, behind something that does.
    Off,
}

/// How the gateway gets a certificate (RFC 8555).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acme {
    /// The name that the certificate is for.
    pub domain: String,
    /// Where the authority writes to, `mailto:` first.
    pub contact: Option<String>,
    /// The authority's directory.
    pub directory: Uri,
    /// Certificates to trust for it in place of the system's.
    pub ca_file: Option<PathBuf>,
}

impl Acme {
    /// Where the account and certificates of this authority are: what one has issued is not another's.
    pub fn directory(&self, state_directory: &Path) -> PathBuf {
        state_directory.join("acme").join(self.authority())
    }

    /// Where the key and the chain are, in one file, so that one rename replaces both.
    pub fn certificate_file(&self, state_directory: &Path) -> PathBuf {
        let name = format!("{}.pem", self.domain);
        self.directory(state_directory).join(name)
    }

    /// The authority, as a name of a directory on the disk.
    pub fn authority(&self) -> String {
        self.directory
            .authority()
            .map_or_else(String::new, |name| name.as_str().replace(':', "_"))
    }
}

/// How Belvo's API is reached.
#[derive(Clone, Debug)]
pub struct Api {
    /// The origin.
    pub base_url: Uri,
    /// The files of the secret id and password, if there are any.
    pub keys: Option<(PathBuf, PathBuf)>,
    /// Certificates in place of the system's.
    pub ca_file: Option<PathBuf>,
    /// The request budget's rate.
    pub requests_per_second: f64,
    /// The request budget's burst.
    pub burst: u32,
    /// Who compares with Belvo after an absence.
    pub reconcile: Reconcile,
}

/// What the file and its disk are kept to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storage {
    /// What is kept free on the disk.
    pub floor: Floor,
    /// What is kept of finished webhooks.
    pub keeping: Keeping,
}

/// Who compares with Belvo after the gateway was away for longer than Belvo repeats a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reconcile {
    /// A person, whom a problem tells to.
    Manual,
    /// The gateway itself.
    Auto,
}

/// Why a configuration cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Something in the file is wrong.
    #[error("{}{}: {key}{text}", file.display(), line.map(|line| format!(":{line}")).unwrap_or_default())]
    Wrong {
        /// The file.
        file: PathBuf,
        /// Its line, when it is about one.
        line: Option<usize>,
        /// `table.key: `, when it is about one.
        key: String,
        /// What is wrong and what was expected.
        text: String,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct File {
    environment: Option<Environment>,
    state_directory: Option<PathBuf>,
    #[serde(default)]
    listen: ListenTable,
    #[serde(default)]
    tls: TlsTable,
    #[serde(default)]
    api: ApiTable,
    #[serde(default)]
    storage: StorageTable,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct ListenTable {
    address: Option<Vec<String>>,
    path: Option<String>,
    allow: Option<Vec<String>>,
    authorization_file: Option<PathBuf>,
    trusted_proxies: Option<Vec<String>>,
    proxy: Option<String>,
    connections_max: Option<usize>,
    drift_alarm: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct TlsTable {
    mode: Option<String>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    domain: Option<String>,
    contact: Option<String>,
    directory: Option<String>,
    ca_file: Option<PathBuf>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct ApiTable {
    base_url: Option<String>,
    secret_id_file: Option<PathBuf>,
    secret_password_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    requests_per_second: Option<f64>,
    burst: Option<u32>,
    reconcile: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct StorageTable {
    disk_floor_mib: Option<u64>,
    ballast_mib: Option<u64>,
    keep_days: Option<u64>,
    keep_events_days: Option<u64>,
    journal_max_mib: Option<u64>,
}

/// Reads the file at `path`.
///
/// # Errors
/// When it cannot be read or something in it is wrong.
pub fn load(path: &Path, surroundings: &Surroundings) -> Result<Settings, ConfigError> {
    parse(&files::read_small(path)?, path, surroundings)
}

/// The state directory alone, for those who read the file and need nothing else to be right.
///
/// # Errors
/// When the file cannot be read, has keys that nobody reads, or does not say.
pub fn state_directory(path: &Path, surroundings: &Surroundings) -> Result<PathBuf, ConfigError> {
    let text = files::read_small(path)?;
    let (document, file) = Document::read(&text, path)?;
    document.state_directory(&file, surroundings)
}

/// Reads the text of a configuration; `path` is for the errors.
///
/// # Errors
/// When something in it is wrong.
pub fn parse(
    text: &str,
    path: &Path,
    surroundings: &Surroundings,
) -> Result<Settings, ConfigError> {
    let (document, file) = Document::read(text, path)?;
    let environment = file.environment.ok_or_else(|| {
        document.wrong(
            "environment",
            "is missing; write environment = \"production\" or \"sandbox\"",
        )
    })?;
    let state_directory = document.state_directory(&file, surroundings)?;
    let listen = document.listen(file.listen, surroundings)?;
    let tls = document.tls(file.tls, &listen, surroundings)?;
    let api = document.api(file.api, environment, surroundings)?;
    let storage = document.storage(file.storage)?;
    Ok(Settings {
        environment,
        state_directory,
        listen,
        tls,
        api,
        storage,
    })
}

/// The text of the file, for errors that say where.
struct Document<'a> {
    path: &'a Path,
    text: &'a str,
    /// `table.key` -> line.
    lines: BTreeMap<String, usize>,
}

impl<'a> Document<'a> {
    /// The document and what is in it, when every key is one that somebody reads and every value of its type.
    fn read(text: &'a str, path: &'a Path) -> Result<(Self, File), ConfigError> {
        let mut document = Self {
            path,
            text,
            lines: BTreeMap::new(),
        };
        document.check_keys()?;
        let file = toml::from_str(text).map_err(|error| document.refused(&error))?;
        Ok((document, file))
    }

    fn state_directory(
        &self,
        file: &File,
        surroundings: &Surroundings,
    ) -> Result<PathBuf, ConfigError> {
        let said = file
            .state_directory
            .clone()
            .or_else(|| surroundings.state_directory.clone());
        said.ok_or_else(|| {
            self.wrong("state-directory", "is missing, and there is no $STATE_DIRECTORY; write state-directory = \"/var/lib/belvo-gateway\"")
        })
    }

    fn line_of(&self, offset: usize) -> usize {
        self.text.as_bytes()[..offset.min(self.text.len())]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count()
            + 1
    }

    fn wrong(&self, key: &str, text: impl Into<String>) -> ConfigError {
        let (file, line) = (self.path.to_owned(), self.lines.get(key).copied());
        ConfigError::Wrong {
            file,
            line,
            key: format!("{key}: "),
            text: text.into(),
        }
    }

    /// What the TOML reader refused: bad syntax, or a value of the wrong type.
    fn refused(&self, error: &toml::de::Error) -> ConfigError {
        let line = error.span().map(|span| self.line_of(span.start));
        let key = self
            .lines
            .iter()
            .find(|(_, at)| Some(**at) == line)
            .map(|(key, _)| format!("{key}: "));
        let text = error.message().to_owned();
        ConfigError::Wrong {
            file: self.path.to_owned(),
            line,
            key: key.unwrap_or_default(),
            text,
        }
    }

    /// Refuses keys that nobody reads, with the nearest one that somebody does, and remembers where each key is.
    fn check_keys(&mut self) -> Result<(), ConfigError> {
        let root = DeTable::parse(self.text).map_err(|error| self.refused(&error))?;
        let mut tables = vec![(String::new(), root.get_ref())];
        while let Some((table, entries)) = tables.pop() {
            let known = KEYS
                .iter()
                .find(|(name, _)| *name == table)
                .map_or(&[][..], |(_, keys)| keys);
            for (key, value) in entries {
                let name = key.get_ref().as_ref();
                let full = if table.is_empty() {
                    name.to_owned()
                } else {
                    format!("{table}.{name}")
                };
                self.lines
                    .insert(full.clone(), self.line_of(key.span().start));
                if !known.contains(&name) {
                    return Err(self.wrong(&full, unknown(&table, name, known)));
                }
                if let DeValue::Table(inner) = value.get_ref() {
                    tables.push((full, inner));
                }
            }
        }
        Ok(())
    }

    fn listen(
        &self,
        table: ListenTable,
        surroundings: &Surroundings,
    ) -> Result<Listen, ConfigError> {
        let default = || match surroundings.sockets.as_slice() {
            [] => vec!["0.0.0.0:8443".to_owned()],
            sockets => sockets.iter().map(ToString::to_string).collect(),
        };
        let addresses = self.each("listen.address", table.address.unwrap_or_else(default), |text| {
            text.parse().map_err(|_| {
                format!("{text:?} is no address with a port; write for example \"0.0.0.0:8443\" or \"[::]:8443\"")
            })
        })?;
        let allow = table
            .allow
            .unwrap_or_else(|| BELVO_SOURCES.map(str::to_owned).to_vec());
        let allow =
            AllowList::new(self.each("listen.allow", allow, |text| text.parse::<Source>())?);
        let path = table.path.unwrap_or_else(|| "/belvo/webhooks".to_owned());
        if !path.starts_with('/') || path.parse::<Uri>().is_err() || path.contains(['?', '#']) {
            return Err(self.wrong(
                "listen.path",
                format!("{path:?} is no path; write for example \"/belvo/webhooks\""),
            ));
        }
        let proxies = self.proxies(table.trusted_proxies, table.proxy.as_deref(), &allow)?;
        let authorization_file = table
            .authorization_file
            .or_else(|| surroundings.credential("webhook-authorization"));
        let connections_max = table.connections_max.unwrap_or(CONNECTIONS_MAX);
        if !CONNECTIONS_MAX_RANGE.contains(&connections_max) {
            return Err(self.wrong(
                "listen.connections-max",
                format!(
                    "{connections_max} is not between {} and {}",
                    CONNECTIONS_MAX_RANGE.start(),
                    CONNECTIONS_MAX_RANGE.end()
                ),
            ));
        }
        Ok(Listen {
            addresses,
            path,
            allow,
            proxies,
            authorization_file,
            connections_max,
            drift_alarm: table.drift_alarm.unwrap_or(true),
        })
    }

    /// Nobody but this machine, or a proxy that does TLS, may send without it: by the addresses that are served.
    fn without_tls(
        &self,
        listen: &Listen,
        surroundings: &Surroundings,
    ) -> Result<Tls, ConfigError> {
        let is_open = |address: &&SocketAddr| !address.ip().to_canonical().is_loopback();
        let needs = "\"off\" needs loopback addresses or trusted-proxies that do TLS, and";
        let open = match surroundings.sockets.as_slice() {
            [] => listen.addresses.iter().find(is_open).map(|address| format!("{needs} listen.address has {address}")),
            sockets => sockets.iter().find(is_open).map(|address| {
                format!(
                    "{needs} the service manager hands over {address}; write ListenStream=127.0.0.1:{} into a drop-in \
                     (systemctl edit belvo-gateway.socket), after an empty ListenStream=",
                    address.port()
                )
            }),
        };
        match open {
            Some(wrong) if listen.proxies.is_none() => Err(self.wrong("tls.mode", wrong)),
            _ => Ok(Tls::Off),
        }
    }

    fn proxies(
        &self,
        trusted: Option<Vec<String>>,
        told: Option<&str>,
        allow: &AllowList,
    ) -> Result<Option<Proxies>, ConfigError> {
        let trusted = trusted.unwrap_or_default();
        let told = match told {
            None | Some("none") if trusted.is_empty() => return Ok(None),
            None | Some("none") => {
                return Err(self.wrong(
                    "listen.proxy",
                    "must say how the trusted-proxies tell whom they speak for; write \"proxy-protocol\", \"x-forwarded-for\" or \"forwarded\"",
                ));
            }
            Some("proxy-protocol") => Told::ProxyProtocol,
            Some("x-forwarded-for") => Told::XForwardedFor,
            Some("forwarded") => Told::Forwarded,
            Some(other) => {
                return Err(self.wrong("listen.proxy", format!("{other:?} is not known; write \"none\", \"proxy-protocol\", \"x-forwarded-for\" or \"forwarded\"")));
            }
        };
        if trusted.is_empty() {
            return Err(self.wrong(
                "listen.proxy",
                "needs trusted-proxies, the addresses of the proxies; from anybody else what it names counts for nothing",
            ));
        }
        let trusted = AllowList::new(self.each("listen.trusted-proxies", trusted, |text| {
            text.parse::<Source>()
        })?);
        if let Some((proxy, allowed)) = trusted.shared_with(allow) {
            return Err(self.wrong(
                "listen.trusted-proxies",
                format!("{proxy} shares addresses with {allowed} of allow; a proxy speaks for others, and one that may speak for itself lets everybody in who reaches it: take it out of allow"),
            ));
        }
        Ok(Some(Proxies::new(trusted, told)))
    }

    fn each<T>(
        &self,
        key: &str,
        texts: Vec<String>,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Vec<T>, ConfigError> {
        if texts.is_empty() {
            return Err(self.wrong(key, "must not be empty"));
        }
        texts
            .iter()
            .map(|text| read(text).map_err(|error| self.wrong(key, error)))
            .collect()
    }

    fn tls(
        &self,
        table: TlsTable,
        listen: &Listen,
        surroundings: &Surroundings,
    ) -> Result<Tls, ConfigError> {
        match table.mode.as_deref() {
            Some("files") => {
                let certificate = table.certificate.ok_or_else(|| {
                    self.wrong("tls.certificate", "is missing; name the PEM file of the certificate chain")
                })?;
                let key = table.key.or_else(|| surroundings.credential("tls-key")).ok_or_else(|| {
                    self.wrong(
                        "tls.key",
                        "is missing; name the PEM file of the private key, or pass it as the credential tls-key",
                    )
                })?;
                Ok(Tls::Files { certificate, key })
            }
            Some("off") => self.without_tls(listen, surroundings),
            Some("acme") if cfg!(feature = "acme") => self.acme(table).map(Tls::Acme),
            Some("acme") => Err(self.wrong(
                "tls.mode",
                "\"acme\" was left out when this program was built; use \"files\" with certbot or another client",
            )),
            Some(other) => Err(self.wrong(
                "tls.mode",
                format!("{other:?} is not known; write \"files\", \"acme\" or \"off\""),
            )),
            None => Err(self.wrong(
                "tls.mode",
                "is missing; write mode = \"files\" with certificate and key, or \"off\" on a loopback address",
            )),
        }
    }

    fn acme(&self, table: TlsTable) -> Result<Acme, ConfigError> {
        let domain = table.domain.ok_or_else(|| {
            self.wrong("tls.domain", "is missing; write the name in the URL that Belvo posts to, for example \"gateway.example.com\"")
        })?;
        let is_label = |label: &str| {
            !label.is_empty()
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        let is_name =
            domain.len() <= 253 && domain.contains('.') && domain.split('.').all(is_label);
        if !is_name || domain.parse::<std::net::IpAddr>().is_ok() {
            return Err(self.wrong(
                "tls.domain",
                format!(
                    "{domain:?} is no name of a machine; write for example \"gateway.example.com\""
                ),
            ));
        }
        if let Some(contact) = table
            .contact
            .as_ref()
            .filter(|contact| !contact.contains('@'))
        {
            return Err(self.wrong("tls.contact", format!("{contact:?} is no mail address")));
        }
        let text = table.directory.unwrap_or_else(|| ACME_DIRECTORY.to_owned());
        let directory = text
            .parse::<Uri>()
            .ok()
            .filter(|url| url.scheme_str() == Some("https") && url.host().is_some());
        Ok(Acme {
            domain: domain.to_ascii_lowercase(),
            contact: table.contact.map(|contact| format!("mailto:{contact}")),
            directory: directory.ok_or_else(|| {
                self.wrong(
                    "tls.directory",
                    format!("{text:?} is no https:// address of an ACME directory"),
                )
            })?,
            ca_file: table.ca_file,
        })
    }

    fn api(
        &self,
        table: ApiTable,
        environment: Environment,
        surroundings: &Surroundings,
    ) -> Result<Api, ConfigError> {
        let default = match environment {
            Environment::Production => "https://api.belvo.com",
            Environment::Sandbox => "https://sandbox.belvo.com",
        };
        let base_url = self.base_url(table.base_url.as_deref().unwrap_or(default))?;
        let named = table.secret_id_file.is_some() || table.secret_password_file.is_some();
        let id = table
            .secret_id_file
            .or_else(|| surroundings.credential("belvo-secret-id"));
        let password = table
            .secret_password_file
            .or_else(|| surroundings.credential("belvo-secret-password"));
        let keys = match (id, password) {
            (Some(id), Some(password)) => Some((id, password)),
            (Some(_), None) if named => {
                return Err(self.wrong(
                    "api.secret-password-file",
                    "is missing, but there is a secret id; give both or neither",
                ));
            }
            (None, Some(_)) if named => {
                return Err(self.wrong(
                    "api.secret-id-file",
                    "is missing, but there is a secret password; give both or neither",
                ));
            }
            // Half a pair of credentials is no pair: receiving goes on, and the gateway says that it has no keys.
            _ => None,
        };
        let requests_per_second = table.requests_per_second.unwrap_or(2.0);
        if !(0.01..=1000.0).contains(&requests_per_second) {
            return Err(self.wrong(
                "api.requests-per-second",
                format!("{requests_per_second} is not between 0.01 and 1000"),
            ));
        }
        let burst = table.burst.unwrap_or(20);
        if !(1..=10_000).contains(&burst) {
            return Err(self.wrong("api.burst", format!("{burst} is not between 1 and 10000")));
        }
        let in_window = f64::from(burst) + requests_per_second * EDGE_WINDOW.as_secs_f64();
        if in_window > EDGE_REQUESTS_MAX && !is_loopback(&base_url) {
            return Err(self.wrong(
                "api.requests-per-second",
                format!(
                    "with a burst of {burst}, {requests_per_second} would be up to {in_window:.0} requests in {} seconds, and \
                     Belvo shuts an address out above {EDGE_REQUESTS_MAX}; more is for an API on a loopback address only",
                    EDGE_WINDOW.as_secs()
                ),
            ));
        }
        let reconcile = match table.reconcile.as_deref() {
            None | Some("manual") => Reconcile::Manual,
            Some("auto") => Reconcile::Auto,
            Some(other) => {
                return Err(self.wrong(
                    "api.reconcile",
                    format!("{other:?} is not known; write \"manual\" or \"auto\""),
                ));
            }
        };
        Ok(Api {
            base_url,
            keys,
            ca_file: table.ca_file,
            requests_per_second,
            burst,
            reconcile,
        })
    }

    fn storage(&self, table: StorageTable) -> Result<Storage, ConfigError> {
        let within = |key: &str, value: Option<u64>, default, range: RangeInclusive<u64>| {
            let value = value.unwrap_or(default);
            match range.contains(&value) {
                true => Ok(value),
                false => Err(self.wrong(
                    &format!("storage.{key}"),
                    format!(
                        "{value} is not between {} and {}",
                        range.start(),
                        range.end()
                    ),
                )),
            }
        };
        let floor = within(
            "disk-floor-mib",
            table.disk_floor_mib,
            DISK_FLOOR_MIB,
            DISK_FLOOR_MIB_RANGE,
        )?;
        let ballast = within(
            "ballast-mib",
            table.ballast_mib,
            BALLAST_MIB,
            BALLAST_MIB_RANGE,
        )?;
        let days = within("keep-days", table.keep_days, KEEP_DAYS, KEEP_DAYS_RANGE)?;
        let events = within(
            "keep-events-days",
            table.keep_events_days,
            KEEP_EVENTS_DAYS.max(days),
            KEEP_DAYS_RANGE,
        )?;
        if events < days {
            return Err(self.wrong("storage.keep-events-days", format!("{events} is less than keep-days, {days}; what is left of a webhook stays at least as long as the webhook")));
        }
        let journal = within(
            "journal-max-mib",
            table.journal_max_mib,
            JOURNAL_MAX_MIB,
            JOURNAL_MAX_MIB_RANGE,
        )?;
        Ok(Storage {
            keeping: Keeping {
                rows: DAY * days as u32,
                events: DAY * events as u32,
                journal_bytes: journal * MIB,
            },
            floor: Floor {
                bytes: floor * MIB,
                ballast_bytes: ballast * MIB,
            },
        })
    }

    fn base_url(&self, text: &str) -> Result<Uri, ConfigError> {
        let wrong = |text: String| self.wrong("api.base-url", text);
        if text.contains('@') {
            return Err(wrong(
                "must hold no user and password; the keys have files of their own".to_owned(),
            ));
        }
        let expected = || {
            wrong(format!(
                "{text:?} is no address of an API; write for example \"https://api.belvo.com\""
            ))
        };
        let url: Uri = text.parse().map_err(|_| expected())?;
        url.host().ok_or_else(expected)?;
        if url.path() != "/" || url.query().is_some() {
            return Err(wrong(format!(
                "{text:?} must be a scheme and a host, without path or query"
            )));
        }
        match url.scheme_str() {
            Some("https") => Ok(url),
            Some("http") if is_loopback(&url) => Ok(url),
            Some("http") => Err(wrong(format!(
                "{text:?} would send the keys in clear; http:// is for loopback addresses only"
            ))),
            _ => Err(expected()),
        }
    }
}

fn unknown(table: &str, name: &str, known: &[&str]) -> String {
    let near = |candidate: &&&str| strsim::jaro_winkler(name, candidate) > 0.8;
    let nearest = known
        .iter()
        .filter(near)
        .max_by(|a, b| strsim::jaro_winkler(name, a).total_cmp(&strsim::jaro_winkler(name, b)));
    let elsewhere = KEYS
        .iter()
        .find(|(other, keys)| *other != table && keys.contains(&name))
        .map(|(other, _)| *other);
    match (nearest, elsewhere) {
        (_, Some("")) => "this key belongs above the first [table]".to_owned(),
        (_, Some(other)) => format!("this key belongs under [{other}]"),
        (Some(nearest), None) => format!("unknown key; did you mean {nearest}?"),
        (None, None) => format!("unknown key; known here: {}", known.join(", ")),
    }
}

fn is_loopback(url: &Uri) -> bool {
    let host = url.host().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || host
            .parse()
            .is_ok_and(|address: std::net::IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: &str = "environment = \"sandbox\"\nstate-directory = \"/s\"\n[listen]\naddress = [\"127.0.0.1:1\"]\n[tls]\nmode = \"off\"\n";

    fn read(text: &str) -> Result<Settings, String> {
        parse(text, Path::new("c.toml"), &Surroundings::default())
            .map_err(|error| error.to_string())
    }

    fn error(text: &str) -> String {
        read(text).expect_err(text)
    }

    #[test]
    fn the_defaults_are_belvos() {
        let settings = read(LEAST).expect("a configuration");
        assert_eq!(
            settings.api.base_url.to_string(),
            "https://sandbox.belvo.com/"
        );
        assert_eq!(
            (settings.api.requests_per_second, settings.api.burst),
            (2.0, 20)
        );
        assert_eq!(settings.listen.path, "/belvo/webhooks");
        let belvo = BELVO_SOURCES
            .iter()
            .map(|source| source.parse().expect("a source"))
            .collect();
        assert_eq!(settings.listen.allow, AllowList::new(belvo));
    }

    #[test]
    fn an_unknown_key_is_refused_with_file_line_key_and_the_nearest_key() {
        assert_eq!(
            error(&LEAST.replace("address", "adress")),
            "c.toml:4: listen.adress: unknown key; did you mean address?"
        );
        assert!(
            error(&format!("{LEAST}burst = 3\n"))
                .contains("c.toml:7: tls.burst: this key belongs under [api]")
        );
        assert!(
            error(&format!("{LEAST}[weather]\nsun = 1\n"))
                .contains("c.toml:7: weather: unknown key; known here: environment")
        );
    }

    #[test]
    fn a_value_of_the_wrong_type_is_refused_with_its_line_and_key() {
        let error = error(&format!("{LEAST}[api]\nburst = \"many\"\n"));
        assert!(
            error.starts_with("c.toml:8: api.burst: invalid type: string"),
            "{error}"
        );
    }

    #[test]
    fn bad_syntax_is_refused_with_its_line() {
        assert!(
            error("environment = \"sandbox\"\nstate-directory = \n").starts_with("c.toml:2: "),
            "{}",
            error("a =\n")
        );
    }

    #[test]
    fn what_has_no_safe_default_must_be_said() {
        assert!(error("state-directory = \"/s\"\n").contains("environment: is missing"));
        assert!(error("environment = \"sandbox\"\n").contains("state-directory: is missing"));
        assert!(
            error("environment = \"sandbox\"\nstate-directory = \"/s\"\n")
                .contains("tls.mode: is missing")
        );
        assert!(
            error(&LEAST.replace("\"sandbox\"", "\"development\""))
                .contains("c.toml:1: environment")
        );
    }

    #[test]
    fn more_requests_than_belvo_bears_are_for_an_api_on_loopback_only() {
        let with = |rest: &str| read(&format!("{LEAST}[api]\n{rest}"));
        assert!(with("requests-per-second = 2\nburst = 20\n").is_ok());
        let error = with("requests-per-second = 2\nburst = 21\n").expect_err("81 requests");
        assert!(
            error.contains("api.requests-per-second: with a burst of 21"),
            "{error}"
        );
        assert!(with("requests-per-second = 2.5\n").is_err());
        let local =
            "base-url = \"http://127.0.0.1:9\"\nrequests-per-second = 1000\nburst = 10000\n";
        assert!(with(local).is_ok());
    }

    #[test]
    fn connections_are_bounded_and_the_bound_may_be_moved_within_reason() {
        let with = |rest: &str| read(&LEAST.replace("[tls]", &format!("{rest}[tls]")));
        let served = |rest| with(rest).map(|settings| settings.listen.connections_max);
        assert_eq!(served(""), Ok(CONNECTIONS_MAX));
        assert_eq!(served("connections-max = 16\n"), Ok(16));
        let error = served("connections-max = 15\n").expect_err("too few");
        assert!(
            error.contains("c.toml:5: listen.connections-max: 15 is not between 16 and 3072"),
            "{error}"
        );
    }

    #[test]
    fn what_the_disk_keeps_free_may_be_moved_within_reason() {
        let storage = |rest: &str| {
            read(&format!("{LEAST}[storage]\n{rest}")).map(|settings| settings.storage)
        };
        let floor = |rest| {
            storage(rest)
                .map(|storage| (storage.floor.bytes / MIB, storage.floor.ballast_bytes / MIB))
        };
        assert_eq!(floor(""), Ok((64, 8)));
        assert_eq!(
            floor("disk-floor-mib = 200\nballast-mib = 0\n"),
            Ok((200, 0))
        );
        let error = floor("disk-floor-mib = 0\n").expect_err("none at all");
        assert!(
            error.contains("c.toml:8: storage.disk-floor-mib: 0 is not between 1 and 1048576"),
            "{error}"
        );
        let error = floor("disk-flor-mib = 1\n").expect_err("a typing error");
        assert!(error.contains("did you mean disk-floor-mib?"), "{error}");
    }

    #[test]
    fn what_is_left_of_a_webhook_stays_at_least_as_long_as_the_webhook() {
        let days = |rest: &str| {
            let settings = read(&format!("{LEAST}[storage]\n{rest}"))?;
            let Keeping { rows, events, .. } = settings.storage.keeping;
            Ok::<_, String>((rows.as_secs() / 86_400, events.as_secs() / 86_400))
        };
        assert_eq!(days(""), Ok((90, 730)));
        assert_eq!(days("keep-days = 1000\n"), Ok((1_000, 1_000)));
        let error = days("keep-days = 10\nkeep-events-days = 9\n").expect_err("less");
        assert!(
            error.contains("c.toml:9: storage.keep-events-days: 9 is less than keep-days, 10"),
            "{error}"
        );
    }

    #[test]
    fn plain_http_is_for_loopback_only_on_both_sides() {
        assert!(
            error(&LEAST.replace("127.0.0.1:1", "0.0.0.0:1")).contains("needs loopback addresses")
        );
        assert!(
            error(&format!(
                "{LEAST}[api]\nbase-url = \"http://api.belvo.com\"\n"
            ))
            .contains("in clear")
        );
        assert!(read(&format!("{LEAST}[api]\nbase-url = \"http://[::1]:9\"\n")).is_ok());
    }

    #[test]
    fn one_key_without_the_other_is_a_mistake() {
        assert!(
            error(&format!("{LEAST}[api]\nsecret-id-file = \"/i\"\n"))
                .contains("api.secret-password-file: is missing")
        );
    }

    #[test]
    fn half_a_pair_of_credentials_is_no_pair_and_receiving_goes_on() {
        let credentials = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(credentials.path().join("belvo-secret-id"), "x").expect("a credential");
        let surroundings = Surroundings {
            credentials_directory: Some(credentials.path().to_owned()),
            ..Surroundings::default()
        };
        let settings = parse(LEAST, Path::new("c.toml"), &surroundings).expect("a configuration");
        assert!(settings.api.keys.is_none());
    }

    #[test]
    fn acme_asks_for_a_name_or_says_that_it_was_left_out() {
        let said = error(&LEAST.replace("\"off\"", "\"acme\""));
        let expected = match cfg!(feature = "acme") {
            true => "tls.domain: is missing",
            false => "was left out when this program was built",
        };
        assert!(said.contains(expected), "{said}");
    }

    #[cfg(feature = "acme")]
    #[test]
    fn what_an_authority_has_issued_is_kept_apart_by_authority_and_name() {
        let acme = "\"acme\"\ndomain = \"Gateway.example.com\"";
        let settings = read(&LEAST.replace("\"off\"", acme)).expect("a configuration");
        let Tls::Acme(acme) = settings.tls else {
            panic!("{:?}", settings.tls);
        };
        assert_eq!(
            acme.certificate_file(Path::new("/s")),
            Path::new("/s/acme/acme-v02.api.letsencrypt.org/gateway.example.com.pem")
        );
    }

    fn with_listen(lines: &str) -> Result<Settings, String> {
        read(&LEAST.replace("[tls]", &format!("{lines}\n[tls]")))
    }

    #[test]
    fn proxies_are_trusted_only_with_a_way_to_tell_whom_they_speak_for() {
        let trusted = "trusted-proxies = [\"127.0.0.1\", \"10.0.0.0/8\"]";
        for (mode, told) in [
            ("proxy-protocol", Told::ProxyProtocol),
            ("x-forwarded-for", Told::XForwardedFor),
            ("forwarded", Told::Forwarded),
        ] {
            let settings = with_listen(&format!("{trusted}\nproxy = {mode:?}")).expect(mode);
            assert_eq!(settings.listen.proxies.expect("proxies").told(), told);
            let without = with_listen(&format!("proxy = {mode:?}")).expect_err(mode);
            assert!(
                without.contains("c.toml:5: listen.proxy: needs trusted-proxies"),
                "{without}"
            );
        }
        for none in ["", "proxy = \"none\""] {
            let without = with_listen(&format!("{trusted}\n{none}")).expect_err(none);
            assert!(without.contains("listen.proxy: must say how"), "{without}");
            assert!(with_listen(&format!("trusted-proxies = []\n{none}")).is_ok());
        }
        let unknown =
            with_listen(&format!("{trusted}\nproxy = \"x-real-ip\"")).expect_err("unknown");
        assert!(
            unknown.contains("\"x-real-ip\" is not known; write \"none\", "),
            "{unknown}"
        );
    }

    #[test]
    fn a_proxy_that_may_also_speak_for_itself_is_a_mistake() {
        for (trusted, allow) in [("127.0.0.1", "127.0.0.0/8"), ("0.0.0.0/0", "3.130.254.46")] {
            let error = with_listen(&format!(
                "allow = [{allow:?}]\ntrusted-proxies = [{trusted:?}]\nproxy = \"forwarded\""
            ));
            let error = error.expect_err(trusted);
            let expected = format!(
                "c.toml:6: listen.trusted-proxies: {trusted} shares addresses with {allow} of allow"
            );
            assert!(
                error.contains(&expected) && error.contains("take it out of allow"),
                "{error}"
            );
        }
    }

    #[test]
    fn without_tls_the_address_is_loopback_or_proxies_stand_in_front() {
        let open = LEAST.replace("127.0.0.1:1", "0.0.0.0:1");
        assert!(error(&open).contains("needs loopback addresses or trusted-proxies"));
        let behind = open.replace(
            "[tls]",
            "trusted-proxies = [\"10.0.0.2\"]\nproxy = \"forwarded\"\n[tls]",
        );
        assert_eq!(read(&behind).expect("a configuration").tls, Tls::Off);
    }

    #[test]
    fn the_drift_alarm_is_on_unless_it_is_turned_off() {
        assert!(read(LEAST).expect("a configuration").listen.drift_alarm);
        let off = with_listen("drift-alarm = false").expect("a configuration");
        assert!(!off.listen.drift_alarm);
    }

    #[test]
    fn credentials_of_the_service_manager_stand_in_for_absent_keys() {
        let credentials = tempfile::tempdir().expect("a temporary directory");
        for name in [
            "belvo-secret-id",
            "belvo-secret-password",
            "webhook-authorization",
        ] {
            std::fs::write(credentials.path().join(name), "x").expect("a credential");
        }
        let credentials_directory = Some(credentials.path().to_owned());
        let surroundings = Surroundings {
            credentials_directory,
            sockets: Vec::new(),
            state_directory: Some(PathBuf::from("/var/lib/x")),
        };
        let text = LEAST.replace("state-directory = \"/s\"\n", "");
        let settings = parse(&text, Path::new("c.toml"), &surroundings).expect("a configuration");
        assert_eq!(settings.state_directory, Path::new("/var/lib/x"));
        assert_eq!(
            settings.api.keys.expect("keys").0,
            credentials.path().join("belvo-secret-id")
        );
        assert_eq!(
            settings.listen.authorization_file,
            Some(credentials.path().join("webhook-authorization"))
        );
    }
}

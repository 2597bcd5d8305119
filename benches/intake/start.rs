//! The program by itself, without the library from `faults.c`: how long from its start to its first 200, what it holds
//! in memory when nothing comes, how large it is. Knows the configuration, with TLS, `Authorization` and API keys as on
//! a box, and without.

use std::fs::{self, File};
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use belvo_gateway::standin::Certificates;
use belvo_gateway::standin::sender::Sender;
use tempfile::TempDir;

use crate::load::{self, Load, PATH};
use crate::measured::{self, markdown, median};
use crate::place::Place;
use crate::subject::{end, free_address, quiet, until_answered};
use crate::usage;

/// Starts with each configuration.
const STARTS: usize = 9;
/// After the first 200, before the memory is looked at: what starting needed is over.
const REST: Duration = Duration::from_millis(500);
/// What is in the file before the measured starts.
const FILLED_FOR: Duration = Duration::from_millis(500);
const AUTHORIZATION: &str = "Bearer 3c2b0e5f";

/// What was found.
#[derive(Debug)]
pub(crate) struct Started {
    /// Bytes of the program.
    pub(crate) program_bytes: u64,
    /// Rows in the file at each start.
    rows: u64,
    /// With TLS, `Authorization` and API keys.
    pub(crate) complete: Start,
    /// With none of them.
    bare: Start,
}

/// With one configuration, the medians of all starts.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) first_200: Duration,
    /// The most that was resident until then, and what is resident at rest.
    peak_kib: u64,
    pub(crate) rest_kib: u64,
}

/// Measures both configurations on one file.
pub(crate) fn measure(place: &Place) -> anyhow::Result<Started> {
    let site = Site::new(place)?;
    let rows = site.fill()?;
    Ok(Started {
        program_bytes: fs::metadata(&place.program)?.len(),
        rows,
        complete: site.starts(&site.complete, &site.sender(true)?)?,
        bare: site.starts(&site.bare, &site.sender(false)?)?,
    })
}

/// As a table.
pub(crate) fn table(started: &Started) -> String {
    let line = |what: String, start: &Start| {
        vec![
            what,
            format!("{:.1}", start.first_200.as_secs_f64() * 1e3),
            measured::mib(start.rest_kib),
            measured::mib(start.peak_kib),
        ]
    };
    let rows = started.rows;
    let head = [
        "configured",
        "start to first 200, ms",
        "at rest MiB",
        "peak MiB",
    ];
    markdown(
        &head,
        &[
            line(
                format!("TLS, Authorization, API keys; {rows} rows"),
                &started.complete,
            ),
            line(format!("none of them; {rows} rows"), &started.bare),
        ],
    )
}

/// One state directory and two ways to serve it.
struct Site<'a> {
    place: &'a Place,
    directory: TempDir,
    address: SocketAddr,
    certificates: Certificates,
    complete: PathBuf,
    bare: PathBuf,
}

impl<'a> Site<'a> {
    fn new(place: &'a Place) -> anyhow::Result<Self> {
        let directory = place.corner()?;
        let (path, address) = (directory.path(), free_address()?);
        let state = path.join("state");
        fs::create_dir(&state)?;
        let certificates = Certificates::create(&path.join("tls"))?;
        let identity = certificates.issue("localhost")?;
        let secret = |name: &str, text: &str| secret(&path.join(name), text);
        let common = format!(
            "environment = \"production\"\nstate-directory = {state:?}\n\
             [listen]\naddress = [\"{address}\"]\npath = \"{PATH}\"\nallow = [\"127.0.0.0/8\"]\n"
        );
        // Nothing answers there, so what the file asks for is tried and fails, as while Belvo is away.
        let complete = format!(
            "{common}authorization-file = {:?}\n[tls]\nmode = \"files\"\ncertificate = {:?}\nkey = {:?}\n\
             [api]\nbase-url = \"https://127.0.0.1:9\"\nsecret-id-file = {:?}\nsecret-password-file = {:?}\n",
            secret("authorization", AUTHORIZATION)?,
            identity.certificate,
            identity.key,
            secret("id", "id")?,
            secret("password", "password")?,
        );
        let site = Self {
            place,
            address,
            certificates,
            complete: path.join("complete.toml"),
            bare: path.join("bare.toml"),
            directory,
        };
        fs::write(&site.complete, complete)?;
        fs::write(&site.bare, format!("{common}[tls]\nmode = \"off\"\n"))?;
        Ok(site)
    }

    fn sender(&self, complete: bool) -> anyhow::Result<Sender> {
        match complete {
            false => Ok(Sender::plain(self.address, PATH)),
            true => Ok(
                Sender::tls(self.address, PATH, &self.certificates.ca_file())?
                    .authorization(AUTHORIZATION),
            ),
        }
    }

    fn command(&self, config: &Path) -> anyhow::Result<Command> {
        let mut command = Command::new(&self.place.program);
        command.arg("serve").arg("--config").arg(config);
        quiet(&mut command, &self.directory)?;
        Ok(command)
    }

    /// Fills the file and says with how many rows.
    fn fill(&self) -> anyhow::Result<u64> {
        let mut child = self.command(&self.bare)?.spawn()?;
        let filled = until_answered(&mut child, &self.sender(false)?)
            .and_then(|_| load::send(self.address, Load::Kept(8), Duration::ZERO, FILLED_FOR));
        // Planned, too, so that there is nothing to catch up with.
        thread::sleep(REST);
        end(&mut child);
        Ok(filled?.all)
    }

    fn starts(&self, config: &Path, sender: &Sender) -> anyhow::Result<Start> {
        let (mut first_200, mut peak, mut rest) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..STARTS {
            let begun = Instant::now();
            let mut child = self.command(config)?.spawn()?;
            let measured = until_answered(&mut child, sender).and_then(|_| {
                first_200.push(begun.elapsed().as_secs_f64());
                thread::sleep(REST);
                usage::resident_kib(child.id())
            });
            end(&mut child);
            let (most, now) = measured.with_context(|| self.log())?;
            peak.push(most as f64);
            rest.push(now as f64);
        }
        Ok(Start {
            first_200: Duration::from_secs_f64(median(first_200)),
            peak_kib: median(peak) as u64,
            rest_kib: median(rest) as u64,
        })
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }
}

/// A file that only its owner may read.
fn secret(path: &Path, text: &str) -> anyhow::Result<PathBuf> {
    let mut options = File::options();
    let mut file = options
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(path)?;
    writeln!(file, "{text}")?;
    Ok(path.to_owned())
}

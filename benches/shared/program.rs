//! The program that is measured: a site, which is its configuration and state directory, and the process, which can be
//! started there again and again and is killed when it is dropped. Knows the program's command line and configuration,
//! nothing of its inside.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use belvo_gateway::limits::WAL_BYTES;
use belvo_gateway::standin::sender::Sender;
use belvo_gateway::standin::{Certificates, Identity, write_secret};
use tempfile::TempDir;

use super::place::Place;
use super::usage::{self, Usage};

/// The hook's path.
pub(crate) const PATH: &str = "/belvo/webhooks";
/// Without TLS, without API keys.
pub(crate) const BARE: &str = "[tls]\nmode = \"off\"\n";
/// Asks an API without a limit.
pub(crate) const WITHOUT_LIMIT: &str = "requests-per-second = 1000\nburst = 10000\n";
/// How long a process may take until it answers.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two looks whether it does.
const LOOK_EVERY: Duration = Duration::from_micros(200);

/// Where the program is started.
pub(crate) struct Site<'a> {
    place: &'a Place,
    directory: TempDir,
    /// Where it listens.
    pub(crate) address: SocketAddr,
}

impl<'a> Site<'a> {
    /// An empty one; its configuration is [`BARE`].
    pub(crate) fn new(place: &'a Place) -> anyhow::Result<Self> {
        let site = Self {
            place,
            directory: place.corner()?,
            address: free_address()?,
        };
        fs::create_dir(site.state())?;
        site.configure(BARE)?;
        Ok(site)
    }

    /// The directory of all of it.
    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The state directory.
    pub(crate) fn state(&self) -> PathBuf {
        self.path().join("state")
    }

    /// Another configuration for the next start: keys of `[listen]`, and sections after them.
    pub(crate) fn configure(&self, more: &str) -> anyhow::Result<()> {
        let text = format!(
            "environment = \"sandbox\"\nstate-directory = {:?}\n\
             [listen]\naddress = [\"{}\"]\npath = \"{PATH}\"\nallow = [\"127.0.0.1\"]\n{more}",
            self.state(),
            self.address
        );
        Ok(fs::write(self.path().join("config.toml"), text)?)
    }

    /// The section for an API at this address, with these further lines.
    pub(crate) fn api(&self, base_url: &str, more: &str) -> anyhow::Result<String> {
        let secret = |name: &str| {
            let path = self.path().join(name);
            write_secret(&path, name).map(|()| path)
        };
        Ok(format!(
            "[api]\nbase-url = {base_url:?}\nsecret-id-file = {:?}\nsecret-password-file = {:?}\n{more}",
            secret("id")?,
            secret("password")?
        ))
    }

    /// Its command line.
    pub(crate) fn command(&self) -> anyhow::Result<Command> {
        let mut command = Command::new(&self.place.program);
        command
            .arg("serve")
            .arg("--config")
            .arg(self.path().join("config.toml"));
        quiet(&mut command, self.path())?;
        Ok(command)
    }

    /// Starts it as it is shipped, and waits until it has answered and its WAL has its size.
    pub(crate) fn serve(&self) -> anyhow::Result<Process> {
        let process = Process::start(self.command()?)?;
        self.ready(process)
    }

    /// The same with the library from `faults.c`, which counts.
    pub(crate) fn serve_counted(&self, sync_delay: Duration) -> anyhow::Result<Process> {
        let process = Process::start_counted(self.command()?, self.place, self.path(), sync_delay)?;
        self.ready(process)
    }

    fn ready(&self, mut process: Process) -> anyhow::Result<Process> {
        process
            .until_answered(&Sender::plain(self.address, PATH))
            .with_context(|| self.log())?;
        let wal = self.state().join("gateway.db-wal");
        let begun = Instant::now();
        while !fs::metadata(&wal).is_ok_and(|wal| wal.len() >= WAL_BYTES) {
            ensure!(begun.elapsed() < PATIENCE, "its WAL stays small");
            thread::sleep(LOOK_EVERY);
        }
        Ok(process)
    }

    /// Starts it as it is shipped; says how long after that it answered its first webhook 200.
    pub(crate) fn first_200(&self, sender: &Sender) -> anyhow::Result<(Process, Duration)> {
        let command = self.command()?;
        let begun = Instant::now();
        let mut process = Process::start(command)?;
        process.until_answered(sender).with_context(|| self.log())?;
        Ok((process, begun.elapsed()))
    }

    /// What it has said since its last start.
    pub(crate) fn log(&self) -> String {
        log_in(self.path())
    }
}

/// A process that is measured.
pub(crate) struct Process {
    child: Child,
    counts: Option<PathBuf>,
}

impl Process {
    /// Starts it.
    pub(crate) fn start(mut command: Command) -> anyhow::Result<Self> {
        let child = command
            .spawn()
            .with_context(|| format!("{} does not start", command.get_program().display()))?;
        Ok(Self {
            child,
            counts: None,
        })
    }

    /// Starts it with the library from `faults.c`, which counts its syncs and makes them slower.
    pub(crate) fn start_counted(
        mut command: Command,
        place: &Place,
        directory: &Path,
        sync_delay: Duration,
    ) -> anyhow::Result<Self> {
        let counts = directory.join("counts");
        command
            .env("LD_PRELOAD", &place.faults)
            .env("FAULTS_COUNT", &counts)
            .env("FAULTS_SYNC_DELAY_US", sync_delay.as_micros().to_string());
        let mut process = Self::start(command)?;
        process.counts = Some(counts);
        Ok(process)
    }

    /// Its number.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends empty webhooks until one is answered 200; says how long after the call that was.
    pub(crate) fn until_answered(&mut self, sender: &Sender) -> anyhow::Result<Duration> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended with {status} before it answered");
            }
            match sender.send(b"") {
                Ok(reply) if reply.status == 200 => return Ok(begun.elapsed()),
                Ok(reply) => bail!("it answered {}", reply.status),
                Err(error) => ensure!(begun.elapsed() < PATIENCE, "{error}"),
            }
            thread::sleep(LOOK_EVERY);
        }
    }

    /// What it has used so far.
    pub(crate) fn used(&self) -> anyhow::Result<Usage> {
        Usage::of(self.id(), self.counts.as_deref())
    }

    /// What it has used once it writes nothing more.
    pub(crate) fn settled(&self) -> anyhow::Result<Usage> {
        Usage::settled(self.id(), self.counts.as_deref())
    }

    /// The most memory it has had so far, and what it has now, in KiB.
    pub(crate) fn resident_kib(&self) -> anyhow::Result<(u64, u64)> {
        usage::resident_kib(self.id())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself, which the next to ask it will have said.
        if self.child.kill().is_ok() {
            drop(self.child.wait());
        }
    }
}

/// A certificate for this machine in files, and the file of the authority that issued it.
pub(crate) fn certificate(directory: &Path) -> anyhow::Result<(Identity, PathBuf)> {
    let certificates = Certificates::create(&directory.join("tls"))?;
    Ok((certificates.issue("localhost")?, certificates.ca_file()))
}

/// The section for TLS with these files.
pub(crate) fn tls_section(identity: &Identity) -> String {
    let Identity { certificate, key } = identity;
    format!("[tls]\nmode = \"files\"\ncertificate = {certificate:?}\nkey = {key:?}\n")
}

/// One that nobody uses now. Processes are told it, so that all are started alike.
pub(crate) fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// What a process says goes to a file, and nothing that a service manager may have set for the bench goes to it.
pub(crate) fn quiet(command: &mut Command, directory: &Path) -> anyhow::Result<()> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(directory.join("log"))?);
    for name in [
        "CREDENTIALS_DIRECTORY",
        "STATE_DIRECTORY",
        "NOTIFY_SOCKET",
        "WATCHDOG_USEC",
        "JOURNAL_STREAM",
    ] {
        command.env_remove(name);
    }
    Ok(())
}

/// What the process of this directory has said since its last start.
pub(crate) fn log_in(directory: &Path) -> String {
    fs::read_to_string(directory.join("log")).unwrap_or_default()
}

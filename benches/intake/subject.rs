//! A process that is measured: started in a directory of its own with the library from `faults.c`, ready when it has
//! answered, killed when it is dropped. Knows the program's command line and configuration, nothing of its inside.

use std::fmt;
use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use belvo_gateway::standin::sender::Sender;
use clap::ValueEnum;
use tempfile::TempDir;

use crate::load::PATH;
use crate::place::Place;
use crate::servers::Role;
use crate::usage::{self, Usage};

/// How long a subject may take until it answers.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two looks whether it does.
pub(crate) const LOOK_EVERY: Duration = Duration::from_micros(200);

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The program.
    Gateway,
    /// What it is compared to.
    Other(Role),
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gateway => "gateway",
            Self::Other(Role::OneCommit) => "one commit a request",
            Self::Other(Role::NoOp) => "keeps nothing",
            Self::Other(Role::RawSync) => "4 KiB + fdatasync",
        })
    }
}

/// A running subject.
pub(crate) struct Subject {
    child: Child,
    counts: PathBuf,
    directory: TempDir,
    /// Where it listens.
    pub(crate) address: SocketAddr,
}

impl Subject {
    /// Starts a server and waits until it has answered once.
    pub(crate) fn start(place: &Place, kind: Kind, sync_delay: Duration) -> anyhow::Result<Self> {
        let directory = place.corner()?;
        let address = free_address()?;
        let mut command = match kind {
            Kind::Gateway => gateway(place, &directory, address)?,
            Kind::Other(role) => other(role, &directory, address)?,
        };
        let counts = directory.path().join("counts");
        let child = command
            .env("LD_PRELOAD", &place.faults)
            .env("FAULTS_COUNT", &counts)
            .env("FAULTS_SYNC_DELAY_US", sync_delay.as_micros().to_string())
            .spawn()
            .with_context(|| format!("{kind} does not start"))?;
        let mut subject = Self {
            child,
            counts,
            directory,
            address,
        };
        until_answered(&mut subject.child, &Sender::plain(address, PATH))
            .with_context(|| format!("{kind}: {}", subject.log()))?;
        Ok(subject)
    }

    /// What it has used once it writes nothing more.
    pub(crate) fn settled(&self) -> anyhow::Result<Usage> {
        Usage::settled(self.child.id(), &self.counts)
    }

    /// The most memory it has had so far, in KiB.
    pub(crate) fn peak_kib(&self) -> anyhow::Result<u64> {
        usage::resident_kib(self.child.id()).map(|(peak, _)| peak)
    }

    /// What it has said.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// Kills a process and waits until it is gone.
pub(crate) fn end(child: &mut Child) {
    // It may have ended by itself, which the next to ask it will have said.
    if child.kill().is_ok() {
        drop(child.wait());
    }
}

/// Sends empty webhooks until one is answered 200; says how long after the call that was.
pub(crate) fn until_answered(child: &mut Child, sender: &Sender) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            bail!("it ended with {status} before it answered");
        }
        match sender.send(b"") {
            Ok(reply) if reply.status == 200 => return Ok(begun.elapsed()),
            Ok(reply) => bail!("it answered {}", reply.status),
            Err(error) => ensure!(begun.elapsed() < PATIENCE, "{error}"),
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// One that nobody uses now. The subjects are told it, so that all are started alike.
pub(crate) fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

fn gateway(place: &Place, directory: &TempDir, address: SocketAddr) -> anyhow::Result<Command> {
    let (state, config) = (
        directory.path().join("state"),
        directory.path().join("config.toml"),
    );
    fs::create_dir(&state)?;
    let text = format!(
        "environment = \"sandbox\"\nstate-directory = {state:?}\n\
         [listen]\naddress = [\"{address}\"]\npath = \"{PATH}\"\nallow = [\"127.0.0.0/8\"]\n[tls]\nmode = \"off\"\n"
    );
    fs::write(&config, text)?;
    let mut command = Command::new(&place.program);
    command.arg("serve").arg("--config").arg(config);
    quiet(&mut command, directory)?;
    Ok(command)
}

fn other(role: Role, directory: &TempDir, address: SocketAddr) -> anyhow::Result<Command> {
    let mut command = role_command(role)?;
    command
        .arg("--directory")
        .arg(directory.path())
        .args(["--listen", &address.to_string()]);
    quiet(&mut command, directory)?;
    Ok(command)
}

/// This program, as one of its roles.
pub(crate) fn role_command(role: Role) -> anyhow::Result<Command> {
    let name = role.to_possible_value().context("a role with a name")?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--role", name.get_name()]);
    Ok(command)
}

/// What a subject says goes to a file, and nothing that a service manager may have set for the bench goes to it.
pub(crate) fn quiet(command: &mut Command, directory: &TempDir) -> anyhow::Result<()> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(directory.path().join("log"))?);
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

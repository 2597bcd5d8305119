//! A running server that is measured, the program or what it is compared to.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use belvo_gateway::standin::sender::Sender;
use clap::ValueEnum;
use tempfile::TempDir;

use crate::servers::Role;
use crate::shared::place::Place;
use crate::shared::program::{
    BARE, PATH, Process, Site, certificate, free_address, log_in, quiet, tls_section,
};
use crate::shared::usage::Usage;

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
            Self::Other(Role::Grouped) => "a file, one sync for all",
            Self::Other(Role::NoOp) => "keeps nothing",
            Self::Other(Role::RawSync) => "4 KiB + fdatasync",
        })
    }
}

/// A running subject.
pub(crate) struct Subject<'a> {
    process: Process,
    home: Home<'a>,
    address: SocketAddr,
    ca_file: Option<PathBuf>,
}

enum Home<'a> {
    Gateway(Site<'a>),
    Other(TempDir),
}

impl<'a> Subject<'a> {
    /// Starts a server and waits until it has answered once.
    pub(crate) fn start(
        place: &'a Place,
        kind: Kind,
        is_tls: bool,
        sync_delay: Duration,
    ) -> anyhow::Result<Self> {
        let (home, address, command, ca_file) = match kind {
            Kind::Gateway => gateway(place, is_tls)?,
            Kind::Other(role) => other(place, role, is_tls)?,
        };
        let sender = match &ca_file {
            Some(ca_file) => Sender::tls(address, PATH, ca_file)?,
            None => Sender::plain(address, PATH),
        };
        let process = Process::start_counted(command, place, home.path(), sync_delay)?;
        let mut subject = Self {
            process,
            home,
            address,
            ca_file,
        };
        subject
            .process
            .until_answered(&sender)
            .with_context(|| format!("{kind}: {}", subject.log()))?;
        Ok(subject)
    }

    /// Where it listens, and the authority that its certificate is of, if it does TLS.
    pub(crate) fn at(&self) -> (SocketAddr, Option<&Path>) {
        (self.address, self.ca_file.as_deref())
    }

    /// What it has used once it writes nothing more.
    pub(crate) fn settled(&self) -> anyhow::Result<Usage> {
        self.process.settled()
    }

    /// The most memory it has had so far, in KiB.
    pub(crate) fn peak_kib(&self) -> anyhow::Result<u64> {
        self.process.resident_kib().map(|(peak, _)| peak)
    }

    /// What it has said.
    pub(crate) fn log(&self) -> String {
        log_in(self.home.path())
    }
}

impl Home<'_> {
    fn path(&self) -> &Path {
        match self {
            Self::Gateway(site) => site.path(),
            Self::Other(directory) => directory.path(),
        }
    }
}

type Made<'a> = (Home<'a>, SocketAddr, Command, Option<PathBuf>);

fn gateway(place: &Place, is_tls: bool) -> anyhow::Result<Made<'_>> {
    let site = Site::new(place)?;
    let mut ca_file = None;
    if is_tls {
        let (identity, authority) = certificate(site.path())?;
        site.configure(&tls_section(&identity))?;
        ca_file = Some(authority);
    } else {
        site.configure(BARE)?;
    }
    let (address, command) = (site.address, site.command()?);
    Ok((Home::Gateway(site), address, command, ca_file))
}

fn other(place: &Place, role: Role, is_tls: bool) -> anyhow::Result<Made<'_>> {
    let (directory, address) = (place.corner()?, free_address()?);
    let mut command = role_command(role)?;
    command
        .arg("--directory")
        .arg(directory.path())
        .args(["--listen", &address.to_string()]);
    let mut ca_file = None;
    if is_tls {
        let (identity, authority) = certificate(directory.path())?;
        command.arg("--certificate").arg(identity.certificate);
        command.arg("--key").arg(identity.key);
        ca_file = Some(authority);
    }
    quiet(&mut command, directory.path())?;
    Ok((Home::Other(directory), address, command, ca_file))
}

/// This program, as one of its roles.
pub(crate) fn role_command(role: Role) -> anyhow::Result<Command> {
    let name = role.to_possible_value().context("a role with a name")?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--role", name.get_name()]);
    Ok(command)
}

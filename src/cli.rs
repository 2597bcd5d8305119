//! The command line: the subcommands and their arguments. Parses, and does nothing.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};
use tracing::Level;

/// Exit code of a bad configuration, as systemd knows it (EX_CONFIG of sysexits.h).
pub const EXIT_CONFIG: u8 = 78;
/// Exit code of a wrong command line (as clap has it).
const EXIT_USAGE: u8 = 2;

/// Takes Belvo's webhooks in safely, follows them, and keeps what they announce in one SQLite file.
#[derive(Debug, Parser)]
#[command(name = "belvo-gateway", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the gateway until SIGTERM.
    Serve(Serve),
    /// Show the whole way on this machine: a gateway and a stand-in Belvo, real TLS, a real file to look at.
    Demo(Demo),
    /// Check a configuration and the files it names, without starting anything. Exit 78 when something is wrong.
    Check(Check),
    /// Examine the box as a whole: listener, certificate, clock, keys, disk, permissions, units, file. Exit 1 when
    /// something should be seen to, 2 when something is broken.
    Doctor(Doctor),
    /// Show what the gateway has received, what waits, and what needs a person.
    Status(Reading),
    /// List the received webhooks, or show one.
    #[command(subcommand)]
    Events(Events),
    /// List what a person should know, worst first. Exit 1 when something is open.
    Problems(Problems),
    /// Fetch at once what waits or has failed. Only shows what that is, unless --yes is given.
    Retry(Retry),
    /// Compare the links with Belvo's list, and fetch what moved without a webhook that says so.
    Reconcile(Reconcile),
    /// Remove everything that is kept of a link, for good. Only shows what that is, unless --yes is given.
    Erase(Erase),
    /// Copy the file to one clean file, while the gateway runs or not, and check the copy.
    Snapshot(Snapshot),
    /// Read the whole file and say whether it is as it should be. Exit 1 when it is not.
    Verify(Verify),
    /// Send one webhook to the running gateway as Belvo would, and show what came of it. Exit 1 when it was not kept.
    SelfTest(SelfTest),
}

/// Where the configuration is.
#[derive(Args, Debug)]
pub struct Configured {
    /// The configuration file.
    #[arg(
        long,
        value_name = "FILE",
        default_value = "/etc/belvo-gateway/config.toml"
    )]
    pub config: PathBuf,
}

/// Arguments of `serve`.
#[derive(Args, Debug)]
pub struct Serve {
    /// Where the configuration is.
    #[command(flatten)]
    pub configured: Configured,
    /// How much is logged: error, warn, info, debug or trace.
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub log: Level,
}

/// Arguments of `check`.
#[derive(Args, Debug)]
pub struct Check {
    /// Where the configuration is.
    #[command(flatten)]
    pub configured: Configured,
    /// Say whom a request over a TCP connection from this address would be taken to be from, and whether it may speak.
    /// Exit 1 when it may not.
    #[arg(long, value_name = "ADDRESS")]
    pub explain: Option<IpAddr>,
    /// A header line of that request, as "X-Forwarded-For: 1.2.3.4, 10.0.0.2"; several are taken in their order.
    #[arg(long, value_name = "NAME: VALUE", requires = "explain")]
    pub header: Vec<String>,
    /// The line in front of that connection, as "PROXY TCP4 1.2.3.4 10.0.0.2 40000 443".
    #[arg(long, value_name = "LINE", requires = "explain")]
    pub proxy_line: Option<String>,
}

/// Arguments of `doctor`.
#[derive(Args, Debug)]
pub struct Doctor {
    /// Where the configuration is; with a state directory in its place only that and the machine are examined.
    #[command(flatten)]
    pub reading: Reading,
    /// The name in the URL that Belvo posts to: the certificate must be for it.
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Make no connection to Belvo's API.
    #[arg(long)]
    pub offline: bool,
}

/// Arguments of `demo`.
#[derive(Args, Debug)]
pub struct Demo {
    /// Where its files go; emptied first when an earlier demo left it [default: ./belvo-gateway-demo].
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Stay up afterwards, with the stand-in, until Ctrl-C.
    #[arg(long)]
    pub keep_running: bool,
}

/// Where the file is, and how it is shown.
#[derive(Args, Debug)]
pub struct Reading {
    /// The state directory; needs no configuration.
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    pub state: Option<PathBuf>,
    /// Where the configuration is, when no state directory is given.
    #[command(flatten)]
    pub configured: Configured,
    /// Print JSON for programs in place of text for people.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `events`.
#[derive(Debug, Subcommand)]
pub enum Events {
    /// The newest webhooks and what became of them.
    List {
        /// Where the file is.
        #[command(flatten)]
        reading: Reading,
        /// Which of them.
        #[command(flatten)]
        narrowed: Narrowed,
        /// How many, newest first.
        #[arg(long, value_name = "N", default_value_t = 20)]
        limit: u32,
    },
    /// One webhook: its body and what became of it.
    Show {
        /// Its number, as `events list` shows it.
        seq: i64,
        /// Where the file is.
        #[command(flatten)]
        reading: Reading,
    },
}

/// Which webhooks are listed.
#[derive(Args, Debug)]
pub struct Narrowed {
    /// Received at this time or later: 2026-11-23T05:31:56Z, a UTC day as 2026-11-23, or how long ago as 24h or 7d.
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Received before this time.
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Of this webhook_type.
    #[arg(long, value_name = "TYPE")]
    pub r#type: Option<String>,
    /// Of this webhook_code.
    #[arg(long, value_name = "CODE")]
    pub code: Option<String>,
    /// About this link.
    #[arg(long, value_name = "ID")]
    pub link: Option<String>,
    /// In this state: waiting, done, blocked, failed, cancelled, nothing-to-do, unknown or erased.
    #[arg(long, value_name = "STATE")]
    pub in_state: Option<String>,
}

/// Arguments of `retry`.
#[derive(Args, Debug)]
#[command(group(clap::ArgGroup::new("which").required(true).multiple(true).args(["event", "link", "resource", "class", "all"])))]
pub struct Retry {
    /// Where the file is.
    #[command(flatten)]
    pub reading: Reading,
    /// What this webhook asked for.
    #[arg(long, value_name = "SEQ")]
    pub event: Option<i64>,
    /// Of this link.
    #[arg(long, value_name = "ID")]
    pub link: Option<String>,
    /// Of this resource, as `accounts`.
    #[arg(long, value_name = "NAME")]
    pub resource: Option<String>,
    /// Whose last failure is of this class, as the view freshness shows it: temporary, permanent, ...
    #[arg(long, value_name = "CLASS")]
    pub class: Option<String>,
    /// Everything that is pending.
    #[arg(long, conflicts_with_all = ["event", "link", "resource", "class"])]
    pub all: bool,
    /// Also what is fresh: ask for all of it again.
    #[arg(long)]
    pub fetched: bool,
    /// Do it.
    #[arg(long)]
    pub yes: bool,
}

/// Arguments of `reconcile`.
#[derive(Args, Debug)]
pub struct Reconcile {
    /// Where the file is.
    #[command(flatten)]
    pub reading: Reading,
    /// Only links that Belvo got through to since this time: 2026-11-23T05:31:56Z, 2026-11-23, 24h or 7d.
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Show what would be fetched, and change nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Mark as deleted what the complete lists do not hold any more. Belvo also drops old data by itself, so what is
    /// missing was not always deleted at the institution.
    #[arg(long)]
    pub tombstone_missing: bool,
    /// Do not wait until the lists are fetched.
    #[arg(long)]
    pub no_wait: bool,
}

/// Arguments of `erase`.
#[derive(Args, Debug)]
pub struct Erase {
    /// Where the file is.
    #[command(flatten)]
    pub reading: Reading,
    /// The link.
    #[arg(long, value_name = "ID")]
    pub link: String,
    /// Do it.
    #[arg(long)]
    pub yes: bool,
}

/// Arguments of `snapshot`.
#[derive(Args, Debug)]
pub struct Snapshot {
    /// Where the file is that is copied.
    #[command(flatten)]
    pub reading: Reading,
    /// The file to make, outside the state directory and best on another medium.
    pub file: PathBuf,
    /// Replace it when it is there already.
    #[arg(long)]
    pub force: bool,
}

/// Arguments of `verify`.
#[derive(Args, Debug)]
pub struct Verify {
    /// Where the file is.
    #[command(flatten)]
    pub reading: Reading,
    /// When the file is damaged, have the next start of the gateway set it aside, which otherwise looks at a large file
    /// for a moment only.
    #[arg(long)]
    pub set_aside: bool,
}

/// Arguments of `self-test`.
#[derive(Args, Debug)]
pub struct SelfTest {
    /// Where the configuration is.
    #[command(flatten)]
    pub configured: Configured,
    /// Where the gateway listens, when that is not as configured (an address of this machine).
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub to: Option<SocketAddr>,
    /// Print JSON for programs in place of text for people.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `problems`.
#[derive(Args, Debug)]
pub struct Problems {
    /// Where the file is.
    #[command(flatten)]
    pub reading: Reading,
    /// The ones that are over, too.
    #[arg(long)]
    pub all: bool,
}

/// What was typed; or how to exit, after help, the version or an error was printed.
///
/// # Errors
/// When there is nothing to be done.
pub fn parse() -> Result<Command, ExitCode> {
    Cli::try_parse().map(|cli| cli.command).map_err(|error| {
        // Nobody is left to tell when even that cannot be printed.
        drop(error.print());
        if error.use_stderr() {
            ExitCode::from(EXIT_USAGE)
        } else {
            ExitCode::SUCCESS
        }
    })
}

/// The whole command line as a table: what the man pages and the shells' completions are made from.
#[must_use]
pub fn table() -> clap::Command {
    Cli::command()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        table().debug_assert();
    }
}

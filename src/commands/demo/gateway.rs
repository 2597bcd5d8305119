//! The gateway as a child process: started, awaited, followed through its log, killed, asked to end. It knows the
//! command line, the readiness protocol and one log line, and nothing else of what the child does.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use super::directory::Directory;

const READY_WAIT: Duration = Duration::from_secs(10);
const END_WAIT: Duration = Duration::from_secs(10);
const LOG_WAIT: Duration = Duration::from_secs(3);

/// A file and a child's end have no event to wait for with the standard library alone.
const LOOK_EVERY: Duration = Duration::from_millis(5);
const READY_LOOK_EVERY: Duration = Duration::from_millis(50);

/// A socket address of the file system holds 107 bytes and a zero.
const SOCKET_PATH_BYTES_MAX: usize = 107;
const LOG_LINES_SHOWN: usize = 12;

/// What systemd would set for itself and must not reach the child.
const NOT_FOR_THE_CHILD: &[&str] = &[
    "CREDENTIALS_DIRECTORY",
    "STATE_DIRECTORY",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "JOURNAL_STREAM",
];

/// A running gateway; it is killed when this is dropped without having been ended.
#[derive(Debug)]
pub(super) struct Gateway {
    child: Child,
    notify: Notify,
    log: PathBuf,
    /// Where it listens.
    pub(super) address: SocketAddr,
    /// How long it took to be ready.
    pub(super) ready_after: Duration,
}

impl Gateway {
    /// Starts `serve` with the directory's configuration and waits until it listens.
    pub(super) fn start(directory: &Directory) -> anyhow::Result<Self> {
        let notify = Notify::bind(directory)?;
        let log = directory.file("gateway.log");
        let stderr = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .context("cannot write gateway.log")?;
        let program = std::env::current_exe().context("cannot find this program's own file")?;
        let begun = Instant::now();
        let mut command = Command::new(&program);
        command
            .arg("serve")
            .arg("--config")
            .arg(directory.file("config.toml"))
            .args(["--log", "debug"]);
        for name in NOT_FOR_THE_CHILD {
            command.env_remove(name);
        }
        command
            .env("NOTIFY_SOCKET", &notify.path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            // A terminal's Ctrl-C is for the demo alone, which then ends its gateway.
            .process_group(0);
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut gateway = Self {
            child,
            notify,
            log,
            address: nowhere,
            ready_after: Duration::ZERO,
        };
        gateway.address = gateway.wait_ready()?;
        gateway.ready_after = begun.elapsed();
        Ok(gateway)
    }

    fn wait_ready(&mut self) -> anyhow::Result<SocketAddr> {
        let begun = Instant::now();
        let mut told = String::new();
        while begun.elapsed() < READY_WAIT {
            let Some(datagram) = self.notify.hear()? else {
                self.has_not_ended()?;
                continue;
            };
            told.push_str(&datagram);
            told.push('\n');
            if told.lines().any(|line| line == "READY=1")
                && let Some(address) = listening_on(&told)
            {
                self.notify.heard_enough()?;
                return Ok(address);
            }
        }
        let log = self.log.display();
        bail!(
            "the gateway was not ready within {} s; see {log}",
            READY_WAIT.as_secs()
        )
    }

    /// An error when the child has ended by itself; called while waiting for something it should do.
    pub(super) fn still_runs(&mut self) -> anyhow::Result<()> {
        self.notify.drain()?;
        self.has_not_ended()
    }

    /// An error, with the end of the log, when the child has ended by itself.
    fn has_not_ended(&mut self) -> anyhow::Result<()> {
        let Some(status) = self
            .child
            .try_wait()
            .context("cannot look after the gateway")?
        else {
            return Ok(());
        };
        let (log, shown) = (
            fs::read_to_string(&self.log).unwrap_or_default(),
            self.log.display(),
        );
        let lines: Vec<&str> = log.lines().collect();
        let end = lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n   ");
        bail!("the gateway ended by itself ({status}); {shown} ends with\n   {end}")
    }

    /// Kill -9, and wait until it is gone.
    pub(super) fn kill(mut self) -> anyhow::Result<ExitStatus> {
        self.child.kill().context("cannot kill the gateway")?;
        self.child.wait().context("cannot wait for the gateway")
    }

    /// SIGTERM, as systemd would; how it ended and after which time.
    pub(super) fn stop(mut self) -> anyhow::Result<(ExitStatus, Duration)> {
        let begun = Instant::now();
        let id = self.child.id().to_string();
        let sent = Command::new("sh")
            .args(["-c", "kill -TERM \"$1\"", "sh", &id])
            .stderr(Stdio::null())
            .status();
        sent.context("cannot run sh to send SIGTERM")?;
        while begun.elapsed() < END_WAIT {
            if let Some(status) = self
                .child
                .try_wait()
                .context("cannot wait for the gateway")?
            {
                return Ok((status, begun.elapsed()));
            }
            thread::sleep(LOOK_EVERY);
        }
        bail!(
            "the gateway did not end within {} s of SIGTERM and was killed",
            END_WAIT.as_secs()
        )
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) && self.child.kill().is_ok() {
            drop(self.child.wait());
        }
    }
}

/// The socket on which a child says that it is ready, as it would to systemd.
#[derive(Debug)]
struct Notify {
    socket: UnixDatagram,
    path: PathBuf,
    own_directory: Option<PathBuf>,
}

impl Notify {
    /// Binds it in the demo's directory, or in a private temporary one when that path is too long for a socket.
    fn bind(directory: &Directory) -> anyhow::Result<Self> {
        let near = directory.file("notify");
        let (path, own_directory) = if near.as_os_str().len() <= SOCKET_PATH_BYTES_MAX {
            (near, None)
        } else {
            let own = std::env::temp_dir().join(format!("belvo-demo-{:016x}", fastrand::u64(..)));
            DirBuilder::new()
                .mode(0o700)
                .create(&own)
                .context("cannot make a temporary directory")?;
            (own.join("notify"), Some(own))
        };
        let socket =
            UnixDatagram::bind(&path).with_context(|| format!("cannot bind {}", path.display()))?;
        socket
            .set_read_timeout(Some(READY_LOOK_EVERY))
            .context("cannot set a timeout")?;
        Ok(Self {
            socket,
            path,
            own_directory,
        })
    }

    /// What came within a short wait, if anything did.
    fn hear(&self) -> anyhow::Result<Option<String>> {
        let mut datagram = [0; 4096];
        match self.socket.recv(&mut datagram) {
            Ok(length) => Ok(Some(
                String::from_utf8_lossy(&datagram[..length]).into_owned(),
            )),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Ok(None)
            }
            Err(error) => Err(error).context("cannot hear whether the gateway is ready"),
        }
    }

    /// From now on nothing is waited for; what still comes is thrown away by [`Self::drain`].
    fn heard_enough(&self) -> anyhow::Result<()> {
        self.socket
            .set_nonblocking(true)
            .context("cannot leave the readiness socket")
    }

    /// A full socket would hold up a child that goes on telling its status.
    fn drain(&self) -> anyhow::Result<()> {
        while self.hear()?.is_some() {}
        Ok(())
    }
}

impl Drop for Notify {
    fn drop(&mut self) {
        let removed = fs::remove_file(&self.path);
        if let (Ok(()), Some(own)) = (removed, &self.own_directory) {
            drop(fs::remove_dir(own));
        }
    }
}

/// The first address of a `STATUS=listening on ADDRESS[, ADDRESS...]`.
fn listening_on(told: &str) -> Option<SocketAddr> {
    let lists = told
        .lines()
        .filter_map(|line| line.strip_prefix("STATUS=listening on "));
    lists
        .flat_map(|list| list.split([',', ';']))
        .find_map(|address| address.trim().parse().ok())
}

/// What the gateway measured for one webhook, from its first byte on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) on_disk: Duration,
    pub(super) answered: Duration,
}

/// The gateway's log, read as it grows.
#[derive(Debug)]
pub(super) struct Log {
    file: File,
    bytes: Vec<u8>,
}

impl Log {
    pub(super) fn open(directory: &Directory) -> anyhow::Result<Self> {
        let path = directory.file("gateway.log");
        Ok(Self {
            file: open_log(&path)?,
            bytes: Vec::new(),
        })
    }

    /// Waits for the line about the journal row `seq`; it is written after the answer.
    pub(super) fn wait_kept(&mut self, seq: i64) -> anyhow::Result<Kept> {
        let begun = Instant::now();
        while begun.elapsed() < LOG_WAIT {
            self.file
                .read_to_end(&mut self.bytes)
                .context("cannot read gateway.log")?;
            let text = String::from_utf8_lossy(&self.bytes);
            let whole = text.rfind('\n').map_or("", |end| &text[..end]);
            if let Some(kept) = whole.lines().find_map(|line| kept(line, seq)) {
                return Ok(kept);
            }
            thread::sleep(LOOK_EVERY);
        }
        bail!("gateway.log has no line \"webhook kept\" for row {seq}; it is logged at debug")
    }
}

fn open_log(path: &Path) -> anyhow::Result<File> {
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    ensure!(
        file.metadata().is_ok_and(|metadata| metadata.is_file()),
        "{} is not a file",
        path.display()
    );
    Ok(file)
}

fn kept(line: &str, seq: i64) -> Option<Kept> {
    let fields = || {
        line.split_whitespace()
            .filter_map(|word| word.split_once('='))
    };
    let field = |name: &str| {
        fields()
            .find(|(found, _)| *found == name)?
            .1
            .parse::<u64>()
            .ok()
    };
    if !line.contains("webhook kept") || field("seq") != u64::try_from(seq).ok() {
        return None;
    }
    let micros = |name| field(name).map(Duration::from_micros);
    Some(Kept {
        on_disk: micros("on_disk_us")?,
        answered: micros("answered_us")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_address_of_the_status_is_where_it_listens() {
        let told = "READY=1\nSTATUS=listening on 127.0.0.1:40123, [::1]:40123\n";
        assert_eq!(
            listening_on(told),
            Some(SocketAddr::from(([127, 0, 0, 1], 40123)))
        );
        assert_eq!(listening_on("READY=1\nSTATUS=starting\n"), None);
    }

    #[test]
    fn the_log_line_of_one_row_is_told_from_the_others() {
        let line = "2026-11-23T05:42:01Z DEBUG intake: webhook kept seq=12 bytes=443 on_disk_us=1250 answered_us=1300";
        let times = Kept {
            on_disk: Duration::from_micros(1250),
            answered: Duration::from_micros(1300),
        };
        assert_eq!(kept(line, 12), Some(times));
        assert_eq!(kept(line, 1), None);
        assert_eq!(kept("webhook kept seq=1 bytes=443", 1), None);
        assert_eq!(kept("listening", 12), None);
    }
}

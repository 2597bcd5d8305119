//! The program that is measured, in a directory of its own on a real disk; killed when it is dropped.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::ops::Sub;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use belvo_gateway::limits::{STRANGERS_WAIT, WAL_BYTES};
use tempfile::TempDir;

use crate::belvo::PATH;

/// How long it may take until it listens.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two looks whether it does.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// What was said last is written by then: strangers are written down every half minute.
const SETTLED: Duration = STRANGERS_WAIT.saturating_add(Duration::from_secs(1));
/// The kernel reports times in hundredths of a second.
const TICK: Duration = Duration::from_millis(10);

/// A running gateway.
pub(crate) struct Subject {
    child: Child,
    directory: TempDir,
    /// Where it listens.
    pub(crate) address: SocketAddr,
}

/// What it has used, since it began or between two looks.
#[derive(Clone, Copy)]
pub(crate) struct Used {
    pub(crate) cpu: Duration,
    /// As the kernel counts them for the process: `write_bytes` of /proc/PID/io, whole pages.
    pub(crate) written_bytes: u64,
}

impl Sub for Used {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            cpu: self.cpu - before.cpu,
            written_bytes: self.written_bytes - before.written_bytes,
        }
    }
}

impl Subject {
    /// Starts it without TLS; only this source may speak.
    pub(crate) fn start(program: &Path, allow: &str) -> anyhow::Result<Self> {
        // Under the target directory, since the one for temporary files may be in memory.
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let (state, config) = (
            directory.path().join("state"),
            directory.path().join("config.toml"),
        );
        fs::create_dir(&state)?;
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let text = format!(
            "environment = \"sandbox\"\nstate-directory = {state:?}\n\
             [listen]\naddress = [\"{address}\"]\npath = \"{PATH}\"\nallow = [\"{allow}\"]\n[tls]\nmode = \"off\"\n"
        );
        fs::write(&config, text)?;
        let mut child = Command::new(program)
            .arg("serve")
            .arg("--config")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(directory.path().join("log"))?)
            .env_remove("JOURNAL_STREAM")
            .env_remove("NOTIFY_SOCKET")
            .spawn()?;
        let begun = Instant::now();
        // It makes its WAL large first, which is not what is measured.
        let wal = state.join("gateway.db-wal");
        let has_wal = || fs::metadata(&wal).is_ok_and(|wal| wal.len() >= WAL_BYTES);
        while !has_wal() || TcpStream::connect(address).is_err() {
            if let Some(status) = child.try_wait()? {
                bail!("it ended with {status}");
            }
            ensure!(begun.elapsed() < PATIENCE, "it does not listen");
            thread::sleep(LOOK_EVERY);
        }
        Ok(Self {
            child,
            directory,
            address,
        })
    }

    /// What it has used once everything that was said is written down.
    pub(crate) fn used_in_the_end(&self) -> anyhow::Result<Used> {
        thread::sleep(SETTLED);
        self.used()
    }

    /// What it has used so far.
    pub(crate) fn used(&self) -> anyhow::Result<Used> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The name stands in parentheses and may contain anything; the 14th and 15th field are the times.
        let (_, fields) = stat.rsplit_once(')').context("/proc/PID/stat")?;
        let ticks = fields.split_whitespace().skip(11).take(2);
        let ticks: u32 = ticks.map(|text| text.parse().unwrap_or(0)).sum();
        Ok(Used {
            cpu: TICK * ticks,
            written_bytes: self.field("io", "write_bytes:")?,
        })
    }

    /// The most memory it has had resident.
    pub(crate) fn peak_kib(&self) -> anyhow::Result<u64> {
        self.field("status", "VmHWM:")
    }

    /// Lines of its log that are about refusals.
    pub(crate) fn lines_about_refusals(&self) -> usize {
        let log = fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
        log.lines().filter(|line| line.contains("refused")).count()
    }

    fn field(&self, file: &str, name: &str) -> anyhow::Result<u64> {
        let text = fs::read_to_string(format!("/proc/{}/{file}", self.child.id()))?;
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.split_whitespace().next());
        Ok(value
            .with_context(|| format!("no {name} in /proc/PID/{file}"))?
            .parse()?)
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        // It may have ended by itself.
        if self.child.kill().is_ok() {
            drop(self.child.wait());
        }
    }
}

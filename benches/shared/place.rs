//! Where a bench works: a directory on a real disk, the program that is measured, and the library that slows syncs
//! down and counts them. Knows nothing of what is run in it.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tempfile::TempDir;

use super::report::quantile;

/// Under the target directory, since the one for temporary files may be in memory.
const ROOM: &str = env!("CARGO_TARGET_TMPDIR");
/// How long syncs are timed.
const SYNCS_FOR: Duration = Duration::from_millis(500);

/// One run's directory and what is in it.
pub(crate) struct Place {
    directory: TempDir,
    /// The program that is measured.
    pub(crate) program: PathBuf,
    /// `faults.c`, compiled.
    pub(crate) faults: PathBuf,
}

impl Place {
    pub(crate) fn new(program: PathBuf) -> anyhow::Result<Self> {
        ensure!(program.is_file(), "{} is no program", program.display());
        let directory = tempfile::Builder::new()
            .prefix("bench-")
            .tempdir_in(ROOM)
            .with_context(|| format!("no directory in {ROOM}"))?;
        let faults = compile_faults(directory.path())?;
        Ok(Self {
            directory,
            program,
            faults,
        })
    }

    /// A directory of its own, gone when the value is.
    pub(crate) fn corner(&self) -> anyhow::Result<TempDir> {
        tempfile::tempdir_in(self.directory.path()).context("no directory")
    }

    /// What the figures depend on besides the program.
    pub(crate) fn machine(&self) -> String {
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let (arch, kind) = (
            std::env::consts::ARCH,
            file_system(self.directory.path()).unwrap_or_default(),
        );
        format!("{arch}, {cores} cores, files on {kind}")
    }

    /// How long the disk takes for 4 KiB and their sync, the median over a while: what one sync is on this machine.
    pub(crate) fn sync_time(&self) -> anyhow::Result<Duration> {
        let file = fs::File::create(self.directory.path().join("sync"))?;
        let (begun, mut took, mut end) = (Instant::now(), Vec::new(), 0);
        while begun.elapsed() < SYNCS_FOR {
            let one = Instant::now();
            file.write_all_at(&[0x5a; 4096], end)?;
            file.sync_data()?;
            end += 4096;
            took.push(one.elapsed());
        }
        took.sort_unstable();
        Ok(quantile(&took, 0.5))
    }
}

// No doc comment: it would take the place of each bench's own in its help.
#[derive(Debug, clap::Args)]
pub(crate) struct Common {
    /// The program to measure. One that is static is not counted, nor made slow.
    #[arg(long, default_value = env!("CARGO_BIN_EXE_belvo-gateway"))]
    pub(crate) program: PathBuf,
    /// What cargo calls every bench with.
    #[arg(long, hide = true)]
    bench: bool,
}

fn compile_faults(directory: &Path) -> anyhow::Result<PathBuf> {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vocabulary/faults.c");
    let library = directory.join("faults.so");
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"])
        .arg(&library)
        .arg(source)
        .arg("-ldl")
        .status()
        .context("no C compiler, which SQLite needs as well")?;
    ensure!(compiled.success(), "{source} does not compile");
    Ok(library)
}

/// The type of the file system that holds `path`: a sync on one in memory costs nothing, and the reader should know.
fn file_system(path: &Path) -> Option<String> {
    let path = fs::canonicalize(path).ok()?;
    let mounts = fs::read_to_string("/proc/mounts").ok()?;
    let holding = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        let (point, kind) = (words.next()?, words.next()?);
        path.starts_with(point).then_some((point.len(), kind))
    });
    holding
        .max_by_key(|(length, _)| *length)
        .map(|(_, kind)| kind.to_owned())
}

//! What a process has used so far: syncs and bytes as the library from `faults.c` counts them, CPU time, bytes to the
//! device and memory as the kernel does. Knows process ids, not what the processes are.

use std::fs;
use std::ops::{AddAssign, Sub};
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::Context;

/// The kernel reports times in hundredths of a second on every architecture that we build for.
const TICK: Duration = Duration::from_millis(10);
/// Nothing has moved for so long: what a load has caused is done.
const QUIET: Duration = Duration::from_millis(60);
/// It never becomes quiet.
const LOOKS_MAX: u32 = 50;

/// What was used, since the process began or between two looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) syncs: u64,
    /// As written by the process, whatever becomes of them.
    pub(crate) file_bytes: u64,
    /// What the kernel had to bring to the device for it: whole pages, without the file system's own journal.
    pub(crate) device_bytes: u64,
    pub(crate) cpu: Duration,
}

impl Sub for Usage {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            syncs: self.syncs - before.syncs,
            file_bytes: self.file_bytes - before.file_bytes,
            device_bytes: self.device_bytes - before.device_bytes,
            cpu: self.cpu - before.cpu,
        }
    }
}

impl AddAssign for Usage {
    fn add_assign(&mut self, more: Self) {
        self.syncs += more.syncs;
        self.file_bytes += more.file_bytes;
        self.device_bytes += more.device_bytes;
        self.cpu += more.cpu;
    }
}

impl Usage {
    /// What `process` has used, with the counters that it keeps in `counts`, if it does: into a static program no library
    /// is loaded that counts.
    pub(crate) fn of(process: u32, counts: Option<&Path>) -> anyhow::Result<Self> {
        let counts = counts.filter(|counts| counts.exists());
        let (syncs, file_bytes) = counts.map_or(Ok((0, 0)), counted)?;
        Ok(Self {
            syncs,
            file_bytes,
            device_bytes: field(process, "io", "write_bytes:")?,
            cpu: cpu(process)?,
        })
    }

    /// The same, once it writes nothing more.
    pub(crate) fn settled(process: u32, counts: Option<&Path>) -> anyhow::Result<Self> {
        let mut before = Self::of(process, counts)?;
        for _ in 0..LOOKS_MAX {
            thread::sleep(QUIET);
            let now = Self::of(process, counts)?;
            if now.written() == before.written() {
                return Ok(now);
            }
            before = now;
        }
        Ok(before)
    }

    fn written(&self) -> (u64, u64, u64) {
        (self.syncs, self.file_bytes, self.device_bytes)
    }
}

/// The two numbers that `faults.c` keeps.
fn counted(counts: &Path) -> anyhow::Result<(u64, u64)> {
    let bytes = fs::read(counts).with_context(|| format!("no counters in {}", counts.display()))?;
    let number = |at: usize| {
        let eight = bytes
            .get(at..at + 8)
            .context("the counters are too short")?;
        Ok::<_, anyhow::Error>(u64::from_ne_bytes(eight.try_into()?))
    };
    Ok((number(0)?, number(8)?))
}

/// User and system time of all threads, those that have ended included.
fn cpu(process: u32) -> anyhow::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name stands in parentheses and may contain anything; the 14th and 15th field are the times.
    let (_, fields) = stat.rsplit_once(')').context("/proc/PID/stat")?;
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks: u32 = ticks.map(|text| text.parse().unwrap_or(0)).sum();
    Ok(TICK * ticks)
}

/// The most memory it has had resident so far, and what it has now, in KiB.
pub(crate) fn resident_kib(process: u32) -> anyhow::Result<(u64, u64)> {
    Ok((
        field(process, "status", "VmHWM:")?,
        field(process, "status", "VmRSS:")?,
    ))
}

/// How often each of its threads has waited for something and was woken, by the thread's number and name.
pub(crate) fn woken(process: u32) -> anyhow::Result<Vec<(u32, String, u64)>> {
    let mut woken = Vec::new();
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        let path = thread?.path();
        let number = path
            .file_name()
            .and_then(|name| name.to_str()?.parse().ok());
        let number: u32 = number.context("/proc/PID/task")?;
        let name = fs::read_to_string(path.join("comm"))?.trim().to_owned();
        let task = format!("task/{number}/status");
        woken.push((
            number,
            name,
            field(process, &task, "voluntary_ctxt_switches:")?,
        ));
    }
    Ok(woken)
}

fn field(process: u32, file: &str, name: &str) -> anyhow::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{process}/{file}"))?;
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.split_whitespace().next());
    Ok(value
        .with_context(|| format!("no {name} in /proc/PID/{file}"))?
        .parse()?)
}

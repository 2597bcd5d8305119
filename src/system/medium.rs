//! What a directory lies on: the kind of its file system, the room that is left, whether it can be written. Knows the
//! file systems that a box may have, and nothing of what is kept on them.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{StatVfsMountFlags, statfs, statvfs};

use crate::limits::{DOCTOR_SYNC_BYTES, DOCTOR_SYNC_WAIT, DOCTOR_SYNCS};

/// What a file system is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worth {
    /// It keeps files, their owners and their modes.
    Lasting,
    /// What is on it is gone after the next start of the machine.
    Fleeting,
    /// It is another machine's, and SQLite's locks and syncs may not reach it.
    Remote,
    /// It knows neither owners nor modes, and no file of 4 GiB.
    Fat,
    /// Not known here.
    Unknown,
}

/// Where a directory lies.
#[derive(Clone, Copy, Debug)]
pub struct Medium {
    /// The kind of file system.
    pub name: &'static str,
    /// What that is good for.
    pub worth: Worth,
    /// Bytes that a user who is not root may still write.
    pub free: u64,
    /// Bytes in all.
    pub total: u64,
    /// Whether it is mounted read-only.
    pub is_read_only: bool,
}

/// The magic numbers of `statfs(2)`. exFAT has no limit of 4 GiB, and what counts here is that it lacks modes.
const KINDS: &[(u32, &str, Worth)] = &[
    (0xef53, "ext4", Worth::Lasting),
    (0x9123_683e, "btrfs", Worth::Lasting),
    (0x5846_5342, "xfs", Worth::Lasting),
    (0xf2f5_2010, "f2fs", Worth::Lasting),
    (0x2fc1_2fc1, "zfs", Worth::Lasting),
    (0x0102_1994, "tmpfs", Worth::Fleeting),
    (0x8584_58f6, "ramfs", Worth::Fleeting),
    (0x794c_7630, "overlay", Worth::Fleeting),
    (0x7371_7368, "squashfs", Worth::Fleeting),
    (0x6969, "nfs", Worth::Remote),
    (0x517b, "smb", Worth::Remote),
    (0xff53_4d42, "cifs", Worth::Remote),
    (0xfe53_4d42, "smb2", Worth::Remote),
    (0x0102_1997, "9p", Worth::Remote),
    (0x4d44, "FAT", Worth::Fat),
    (0x2011_bab0, "exFAT", Worth::Fat),
];

impl Medium {
    /// What `path` lies on.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn of(path: &Path) -> io::Result<Self> {
        // The type has another width, and sign, on each kind of machine; the numbers have 32 bits.
        let magic = statfs(path)?.f_type as u32;
        let found = statvfs(path)?;
        let (name, worth) = KINDS
            .iter()
            .find(|(number, ..)| *number == magic)
            .map_or(("of a kind not known here", Worth::Unknown), |kind| {
                (kind.1, kind.2)
            });
        Ok(Self {
            name,
            worth,
            free: found.f_bavail.saturating_mul(found.f_frsize),
            total: found.f_blocks.saturating_mul(found.f_frsize),
            is_read_only: found.f_flag.contains(StatVfsMountFlags::RDONLY),
        })
    }
}

/// How long a write that is synced takes in this directory, quickest first: to a file of its own, which is removed. Its
/// size does not change meanwhile, as that of a WAL does not.
///
/// # Errors
/// When nothing can be written there.
pub fn time_syncs(directory: &Path) -> io::Result<Vec<Duration>> {
    let path = directory.join(format!(".doctor-{}", std::process::id()));
    let times = time_syncs_of(&path);
    // It is not there when it could not be made.
    drop(fs::remove_file(&path));
    times
}

fn time_syncs_of(path: &Path) -> io::Result<Vec<Duration>> {
    const BYTES: [u8; DOCTOR_SYNC_BYTES] = [0x5a; DOCTOR_SYNC_BYTES];
    let file = OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(path)?;
    file.write_all_at(&BYTES, 0)?;
    file.sync_all()?;
    let begun = Instant::now();
    let mut times = Vec::with_capacity(DOCTOR_SYNCS);
    while times.len() < DOCTOR_SYNCS && begun.elapsed() < DOCTOR_SYNC_WAIT {
        let at = Instant::now();
        file.write_all_at(&BYTES, 0)?;
        file.sync_data()?;
        times.push(at.elapsed());
    }
    times.sort();
    Ok(times)
}

//! Has the kernel write what a file has in memory. By itself it waits for half a minute, and whoever syncs the file first
//! waits for all of it. One place with unsafe code: the standard library does not offer this call (sync_file_range(2)).

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;

/// Begins to write these bytes, and does not wait. It is no promise that they are on the disk: that is what a sync is for,
/// which has less to do then.
///
/// # Errors
/// When the system refuses; nothing is lost by it.
pub fn begin(file: &File, bytes: Range<u64>) -> io::Result<()> {
    sync_file_range(file, bytes, libc::SYNC_FILE_RANGE_WRITE)
}

/// Writes these bytes, and waits until the disk has taken them. It may hold them in a memory of its own: as above, only a
/// sync is a promise.
///
/// # Errors
/// When the system refuses or the disk fails, which the kernel tells once through each descriptor that was open then, and to
/// nobody later.
pub fn finish(file: &File, bytes: Range<u64>) -> io::Result<()> {
    let all = libc::SYNC_FILE_RANGE_WAIT_BEFORE
        | libc::SYNC_FILE_RANGE_WRITE
        | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    sync_file_range(file, bytes, all)
}

fn sync_file_range(file: &File, bytes: Range<u64>, flags: libc::c_uint) -> io::Result<()> {
    let (start, count) = (bytes.start as i64, (bytes.end - bytes.start) as i64);
    #[expect(
        unsafe_code,
        reason = "takes numbers only; the descriptor is open as long as the file is borrowed"
    )]
    let refused = unsafe { libc::sync_file_range(file.as_raw_fd(), start, count, flags) };
    match refused {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

//! How much of the WAL SQLite takes for copied into the file, and will not copy again ("nBackfill" in
//! <https://sqlite.org/walformat.html>). Other connections may use the file meanwhile.
//!
//! SQLite counts pages as copied before they are on the disk, unless they were the last; a disk that then refuses them tells
//! only once, and the kernel holds them for written ever after. One place with unsafe code: the count is in memory that all
//! connections share, and the descriptor through which it is locked is SQLite's: to open the wal-index once more and close it
//! would let go of all locks that this process has on it (fcntl(2)).

use std::ffi::c_int;
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};

use rusqlite::{Connection, ffi};

/// "Each hash table with its page numbers is 32768 bytes", the first with the header in front.
const INDEX_REGION_BYTES: c_int = 32768;
/// Where the count is in the header, in the byte order of the machine.
const COUNT_AT: usize = 96;
/// The lock that whoever copies holds, WAL_CKPT_LOCK.
const COPYING_LOCK: c_int = 1;

/// Has SQLite take nothing of the WAL for copied, so that the next checkpoint copies all of it.
///
/// # Errors
/// With `SQLITE_BUSY` while somebody copies; otherwise when the connection has no wal-index, since it has not read yet.
pub(super) fn forget(connection: &Connection) -> rusqlite::Result<()> {
    // Copying what was copied already changes nothing for anybody: as a count it may be too low at any time, as it is after
    // a start, but not while somebody who copies is about to raise it.
    #[expect(
        unsafe_code,
        reason = "file and methods are those of the open connection, which is borrowed; the region has the size that SQLite gave it, stays where it is while the connection is open, and others read and write this count atomically"
    )]
    unsafe {
        let mut file: *mut ffi::sqlite3_file = ptr::null_mut();
        let (main, which) = (c"main".as_ptr(), ffi::SQLITE_FCNTL_FILE_POINTER);
        let found =
            ffi::sqlite3_file_control(connection.handle(), main, which, (&raw mut file).cast());
        said(found)?;
        let methods = file.as_ref().and_then(|file| file.pMethods.as_ref());
        let of_index = methods.and_then(|methods| Some((methods.xShmMap?, methods.xShmLock?)));
        let Some((map, lock)) = of_index else {
            return said(ffi::SQLITE_CANTOPEN);
        };
        let mut index = ptr::null_mut();
        said(map(file, 0, INDEX_REGION_BYTES, 0, &raw mut index))?;
        if index.is_null() {
            return said(ffi::SQLITE_CANTOPEN);
        }
        let alone = ffi::SQLITE_SHM_EXCLUSIVE;
        said(lock(file, COPYING_LOCK, 1, ffi::SQLITE_SHM_LOCK | alone))?;
        AtomicU32::from_ptr(index.byte_add(COUNT_AT).cast()).store(0, Ordering::Release);
        said(lock(file, COPYING_LOCK, 1, ffi::SQLITE_SHM_UNLOCK | alone))
    }
}

fn said(code: c_int) -> rusqlite::Result<()> {
    match code {
        ffi::SQLITE_OK => Ok(()),
        code => Err(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::FileExt;

    use super::*;
    use crate::database::{FILE_NAME, StateDirectory, open_reader, open_writer};
    use crate::store::VIEWS;

    fn copied(connection: &Connection) -> (i64, i64) {
        let counts = |row: &rusqlite::Row<'_>| Ok((row.get(1)?, row.get(2)?));
        connection
            .query_row("PRAGMA wal_checkpoint(PASSIVE)", [], counts)
            .expect("a checkpoint")
    }

    #[test]
    fn what_a_disk_has_lost_of_the_copied_wal_is_copied_again_although_somebody_reads_the_file() {
        let place = tempfile::tempdir().expect("a temporary directory");
        let file = place.path().join(FILE_NAME);
        let directory = StateDirectory::lock(place.path()).expect("a state directory");
        let writer = open_writer(&directory, VIEWS).expect("a file");
        let reader = open_reader(place.path()).expect("a reader");
        let before = fs::read(&file).expect("the file");
        writer
            .execute_batch("CREATE TABLE t (x INTEGER) STRICT; INSERT INTO t VALUES (1)")
            .expect("a row");
        let (pages, all) = copied(&writer);
        assert!(pages > 0 && pages == all);
        // What the disk took without keeping it; in place, since it is the file that is locked.
        let kept = fs::OpenOptions::new()
            .write(true)
            .open(&file)
            .expect("the file");
        kept.write_all_at(&before, 0).expect("what there was");
        drop((writer, kept));
        drop(open_writer(&directory, VIEWS).expect("the file again"));
        // By itself, as after a power cut that takes the rest.
        let alone = tempfile::tempdir().expect("a temporary directory");
        fs::copy(&file, alone.path().join(FILE_NAME)).expect("a copy");
        let count = Connection::open(alone.path().join(FILE_NAME))
            .expect("a file")
            .query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0));
        assert_eq!(count.expect("the row"), 1);
        drop(reader);
    }

    #[test]
    fn who_reads_an_older_state_goes_on_reading_it() {
        let place = tempfile::tempdir().expect("a temporary directory");
        let directory = StateDirectory::lock(place.path()).expect("a state directory");
        let writer = open_writer(&directory, VIEWS).expect("a file");
        let count = |connection: &Connection| -> i64 {
            connection
                .query_row("SELECT count(*) FROM t", [], |row| row.get(0))
                .expect("a count")
        };
        writer
            .execute_batch("CREATE TABLE t (x INTEGER) STRICT; INSERT INTO t VALUES (1)")
            .expect("a row");
        let older = open_reader(place.path()).expect("a reader");
        older.execute_batch("BEGIN").expect("a transaction");
        assert_eq!(count(&older), 1);
        writer
            .execute_batch("INSERT INTO t VALUES (2)")
            .expect("a row");
        let (pages, some) = copied(&writer);
        assert!(0 < some && some < pages, "{some} of {pages}");
        forget(&writer).expect("nobody copies");
        assert_eq!(copied(&writer), (pages, some));
        assert_eq!(count(&older), 1);
        drop(older);
        copied(&writer);
        assert_eq!(count(&open_reader(place.path()).expect("a reader")), 2);
    }
}

//! The journal: every request that was answered 200, as received. Rows are appended, read on from a cursor, and never
//! updated. This is the only thing that both halves of the gateway know; it knows neither of them, and it does not look
//! into the bytes: what cannot be parsed today may be after an upgrade.

mod checksum;

use std::time::Instant;

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use tokio::sync::watch;

use crate::database::{WriteError, Writer};
use crate::system::clock::{Stamp, UnixMs};
use crate::webhook::{Delivery, Seq};

use checksum::Checksum;

/// The proof that a delivery is on the disk: the commit that holds it was synced and has returned. Only this module
/// makes one, and a 200 to a webhook cannot be built without it.
#[derive(Debug)]
pub struct Appended {
    seq: Seq,
    at: Instant,
}

impl Appended {
    /// The place of the delivery in the journal.
    pub fn seq(&self) -> Seq {
        self.seq
    }

    /// When the commit had returned.
    pub fn at(&self) -> Instant {
        self.at
    }
}

/// The appending side. Clones share it.
#[derive(Clone, Debug)]
pub struct Journal {
    writer: Writer,
}

/// One row, read back.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its place.
    pub seq: Seq,
    /// When it was received, by the wall clock of that moment.
    pub received_at: UnixMs,
    /// The address it came from, as text.
    pub peer: String,
    /// Its bytes.
    pub body: String,
}

impl Journal {
    /// A journal in the writer's file.
    pub fn new(writer: Writer) -> Self {
        Self { writer }
    }

    /// Appends a delivery and waits until it is on the disk. When the wait is given up, the row may be there all the same;
    /// `room` is what its memory is accounted by, and is given back when the bytes are gone. Both come back with the answer:
    /// memory that one thread takes and another gives back has both wait for the allocator.
    ///
    /// # Errors
    /// When the queue is full, the commit failed, or the writer has ended.
    pub async fn append(
        &self,
        delivery: Delivery,
        room: impl Send + 'static,
    ) -> Result<Appended, WriteError> {
        let insert = move |transaction: &Transaction<'_>| {
            insert(transaction, &delivery).map(|seq| (seq, delivery, room))
        };
        let committed = self.writer.append(insert).await?;
        let (seq, ..) = committed.value;
        Ok(Appended {
            seq,
            at: committed.at,
        })
    }

    /// Whether the disk has room for what may come.
    pub fn has_room(&self) -> bool {
        self.writer.has_room()
    }

    /// Tells, from now on, when something was appended.
    pub fn watch(&self) -> watch::Receiver<()> {
        self.writer.watch_appends()
    }
}

fn insert(connection: &Connection, delivery: &Delivery) -> rusqlite::Result<Seq> {
    let Delivery {
        received,
        peer,
        body,
    } = delivery;
    put(connection, None, received, &peer.to_string(), body.as_str())
}

fn put(
    connection: &Connection,
    seq: Option<Seq>,
    received: &Stamp,
    peer: &str,
    body: &str,
) -> rusqlite::Result<Seq> {
    let columns = columns(received);
    let [received_at, clock_trusted, boot, since_boot] = columns;
    connection
        .prepare_cached(
            "INSERT INTO journal (seq, received_at, clock_trusted, boot, since_boot, peer, checksum, body)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .insert(params![
            seq.map(|seq| seq.0),
            received_at,
            clock_trusted,
            boot,
            since_boot,
            peer,
            checksum(columns, peer, body),
            body
        ])
        .map(Seq)
}

/// A moment as its columns, in their order.
fn columns(received: &Stamp) -> [i64; 4] {
    let Stamp {
        wall,
        is_trusted,
        boot,
        since_boot,
    } = *received;
    [wall.0, is_trusted.into(), boot.0, since_boot]
}

/// The checksum of a row that has these columns.
fn checksum(received: [i64; 4], peer: &str, body: &str) -> i64 {
    received
        .into_iter()
        .fold(Checksum::new(), Checksum::integer)
        .text(peer)
        .text(body)
        .value()
}

/// Empties the body of a row, when a person's data must go or it was kept for long enough. The rest of the row stays, and
/// its checksum is that of the emptied row.
///
/// # Errors
/// When SQLite cannot read or write.
pub fn empty(transaction: &Transaction<'_>, seq: Seq) -> rusqlite::Result<()> {
    let emptied = transaction
        .prepare_cached(
            "SELECT received_at, clock_trusted, boot, since_boot, peer FROM journal WHERE seq = ?1 AND body <> ''",
        )?
        .query_row([seq.0], |row| {
            let received = [row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?];
            let peer: String = row.get(4)?;
            Ok(checksum(received, &peer, ""))
        })
        .optional()?;
    let Some(emptied) = emptied else {
        return Ok(());
    };
    transaction
        .prepare_cached("UPDATE journal SET body = '', checksum = ?2 WHERE seq = ?1")?
        .execute(params![seq.0, emptied])
        .map(drop)
}

/// Puts an empty row at `seq`, so that all later ones come after it.
///
/// # Errors
/// When SQLite cannot write.
pub fn leap(transaction: &Transaction<'_>, seq: Seq) -> rusqlite::Result<()> {
    put(transaction, Some(seq), &Stamp::now(), "salvage", "").map(drop)
}

/// Whether a row that was read from elsewhere, with all columns in their order, has the checksum that it says.
pub fn is_whole(row: &[Value]) -> bool {
    let [
        Value::Integer(_),
        Value::Integer(received_at),
        Value::Integer(trusted @ 0..=1),
        Value::Integer(boot),
        Value::Integer(since_boot),
        Value::Text(peer),
        Value::Integer(said),
        Value::Text(body),
    ] = row
    else {
        return false;
    };
    *said == checksum([*received_at, *trusted, *boot, *since_boot], peer, body)
}

/// Whether the row with the seq of such a one is the same, or was once, before it was emptied.
///
/// # Errors
/// When SQLite cannot read.
pub fn has_like(connection: &Connection, row: &[Value]) -> rusqlite::Result<bool> {
    let [seq, received_at, _, _, _, peer, checksum, _] = row else {
        return Ok(false);
    };
    connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM journal WHERE seq = ?1 AND received_at = ?2 AND peer = ?3
                               AND (checksum = ?4 OR body = ''))",
        )?
        .query_row(params![seq, received_at, peer, checksum], |row| row.get(0))
}

/// What was looked at in the journal, and which of it is not as it was received.
#[derive(Debug, Default)]
pub struct Looked {
    /// The last row that was looked at, if there was one.
    pub last: Option<Seq>,
    /// How many were.
    pub rows: u64,
    /// Those that differ from their checksum.
    pub differ: Vec<Seq>,
}

/// Compares the rows after `cursor` with their checksums: `rows_max` at most, and no more once their bodies have
/// `bytes_max` bytes.
///
/// # Errors
/// When SQLite cannot read.
pub fn look(
    connection: &Connection,
    cursor: Seq,
    rows_max: u32,
    bytes_max: usize,
) -> rusqlite::Result<Looked> {
    let mut statement = connection.prepare_cached(
        "SELECT seq, received_at, clock_trusted, boot, since_boot, peer, checksum, body
           FROM journal WHERE seq > ?1 ORDER BY seq LIMIT ?2",
    )?;
    let mut rows = statement.query(params![cursor.0, rows_max])?;
    let (mut looked, mut bytes) = (Looked::default(), 0);
    while bytes < bytes_max
        && let Some(row) = rows.next()?
    {
        let seq = Seq(row.get(0)?);
        looked.last = Some(seq);
        looked.rows += 1;
        bytes += row.get_ref(7)?.as_bytes().map_or(0, <[u8]>::len);
        if !is_as_received(row) {
            looked.differ.push(seq);
        }
    }
    Ok(looked)
}

/// Whether a row, from its second column on, has the checksum that it says. A flipped bit may have left a text that is
/// none.
fn is_as_received(row: &Row<'_>) -> bool {
    let integer = |column| row.get::<_, i64>(column).ok();
    let text = |column| row.get_ref(column).ok()?.as_str().ok();
    let is_same = || {
        let received = [integer(1)?, integer(2)?, integer(3)?, integer(4)?];
        Some(integer(6)? == checksum(received, text(5)?, text(7)?))
    };
    is_same().unwrap_or(false)
}

/// The rows after `cursor`, oldest first: `rows_max` at most, and no more once their bodies have `bytes_max` bytes.
///
/// # Errors
/// When SQLite cannot read.
pub fn after(
    connection: &Connection,
    cursor: Seq,
    rows_max: u32,
    bytes_max: usize,
) -> rusqlite::Result<Vec<Entry>> {
    let mut statement = connection.prepare_cached(
        "SELECT seq, received_at, peer, body FROM journal WHERE seq > ?1 ORDER BY seq LIMIT ?2",
    )?;
    let mut rows = statement.query_map(params![cursor.0, rows_max], entry)?;
    let (mut entries, mut bytes) = (Vec::new(), 0);
    while bytes < bytes_max
        && let Some(entry) = rows.next().transpose()?
    {
        bytes += entry.body.len();
        entries.push(entry);
    }
    Ok(entries)
}

/// The newest row.
///
/// # Errors
/// When SQLite cannot read.
pub fn newest(connection: &Connection) -> rusqlite::Result<Seq> {
    let newest: Option<i64> = connection
        .prepare_cached("SELECT max(seq) FROM journal")?
        .query_row([], |row| row.get(0))?;
    Ok(Seq(newest.unwrap_or_default()))
}

/// How many rows there are.
///
/// # Errors
/// When SQLite cannot read.
pub fn count(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("SELECT count(*) FROM journal", [], |row| row.get(0))
}

/// One row, if it is still there.
///
/// # Errors
/// When SQLite cannot read.
pub fn at(connection: &Connection, seq: Seq) -> rusqlite::Result<Option<Entry>> {
    connection
        .prepare_cached("SELECT seq, received_at, peer, body FROM journal WHERE seq = ?1")?
        .query_map([seq.0], entry)?
        .next()
        .transpose()
}

fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    Ok(Entry {
        seq: Seq(row.get(0)?),
        received_at: UnixMs(row.get(1)?),
        peer: row.get(2)?,
        body: row.get(3)?,
    })
}

//! What can be read of a damaged file, page by page, without SQLite: each page that is a leaf of a b-tree tells its rows by
//! itself, whatever has become of the pages above it. Only reads, and holds one page and one row at a time. Knows the file
//! format (<https://sqlite.org/fileformat2.html>) and no table.
//!
//! A page is taken from the WAL when a whole copy of it was committed there, otherwise from the file. Copies in the WAL
//! that are damaged themselves come after the last page: whoever can tell a good row from a bad one may look at them.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rusqlite::types::Value;

use super::wal::Wal;
use crate::limits::SALVAGED_ROW_BYTES_MAX;

/// What every file of SQLite begins with.
pub(super) const MAGIC: &[u8; 16] = b"SQLite format 3\0";
/// Bytes that are looked at to find out how large a page is, where the file does not say.
const GUESSED_BY: usize = 512 * 1024;

/// A damaged file and its WAL.
#[derive(Debug)]
pub struct Remains {
    file: Option<File>,
    bytes: u64,
    wal: Option<Wal>,
    page_bytes: usize,
}

/// A row, as it stands in a page.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Its number, in a table that has row numbers.
    pub rowid: Option<i64>,
    /// Its columns. The one that is the row's number is NULL.
    pub values: Vec<Value>,
}

/// What a page holds.
#[derive(Debug, Default)]
pub struct Found {
    /// Rows of tables, and entries of indexes.
    pub rows: Vec<Row>,
    /// Places where a row should be and none can be read; a page that is none at all counts as one.
    pub unreadable: u64,
}

impl Remains {
    /// Opens them; the name is that of the file.
    ///
    /// # Errors
    /// When neither the file nor its WAL can be read.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut beside = path.as_os_str().to_owned();
        beside.push("-wal");
        let wal = File::open(beside);
        let file = match File::open(path).and_then(|file| Ok((file.metadata()?, file))) {
            Ok((metadata, file)) if metadata.is_file() => Some((file, metadata.len())),
            Ok(_) => None,
            Err(error) if error.kind() == io::ErrorKind::NotFound && wal.is_ok() => None,
            Err(error) => return Err(error),
        };
        let (file, bytes) = file.unzip();
        let mut remains = Self {
            file,
            bytes: bytes.unwrap_or(0),
            wal: None,
            page_bytes: 0,
        };
        let said = remains.said_page_bytes();
        let wal = wal.ok().map(|wal| Wal::read(wal, said)).transpose()?;
        let in_wal = wal.as_ref().and_then(Wal::page_bytes);
        remains.page_bytes = said.or(in_wal).unwrap_or_else(|| remains.guess());
        remains.wal = wal;
        Ok(remains)
    }

    /// How many pages there are.
    pub fn pages(&self) -> u32 {
        self.own_pages()
            + self
                .wal
                .as_ref()
                .map_or(0, |wal| wal.damaged_pages() as u32)
    }

    /// Whether a page is one of the damaged copies in the WAL.
    pub fn is_doubtful(&self, number: u32) -> bool {
        number > self.own_pages()
    }

    /// Bytes of all of it.
    pub fn bytes(&self) -> u64 {
        u64::from(self.pages()) * self.page_bytes as u64
    }

    fn own_pages(&self) -> u32 {
        let in_file = self.bytes.div_ceil(self.page_bytes as u64);
        let in_file = u32::try_from(in_file).unwrap_or(u32::MAX / 2);
        let Some(wal) = &self.wal else {
            return in_file;
        };
        // Its whole copies are believed, however far behind the end of the file: that may be cut off.
        in_file.max(wal.last_page())
    }

    /// What the page of this number holds; the first is 1. A page that cannot be read at all, for whatever reason, is one
    /// that holds nothing.
    pub fn found(&self, number: u32) -> Found {
        match self.page(number) {
            Some(page) => self.rows(&page, number == 1),
            None => Found {
                unreadable: 1,
                ..Found::default()
            },
        }
    }

    /// The page, as long as it should be; what is behind the end of the file is zeros.
    fn page(&self, number: u32) -> Option<Vec<u8>> {
        let own = self.own_pages();
        let mut page = vec![0; self.page_bytes];
        if let Some(wal) = &self.wal {
            let copied = match number.checked_sub(own + 1) {
                Some(damaged) => wal.damaged_page(damaged as usize, &mut page),
                None => wal.page(number, &mut page),
            };
            if let Some(read) = copied {
                return read.ok().map(|()| page);
            }
        }
        let offset = u64::from(number.checked_sub(1)?) * self.page_bytes as u64;
        let mut read = 0;
        while read < page.len() {
            match self
                .file
                .as_ref()?
                .read_at(&mut page[read..], offset + read as u64)
            {
                Ok(0) => break,
                Ok(count) => read += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
        (read > 0).then_some(page)
    }

    /// The rows of copies in the WAL that SQLite does not see, commit after commit: those after a damaged one.
    pub fn hidden(&self) -> impl Iterator<Item = Vec<Row>> + '_ {
        let pages = self.wal.iter().flat_map(Wal::hidden);
        pages.map(|pages| {
            let rows = pages.iter().flat_map(|page| self.rows(page, false).rows);
            rows.collect()
        })
    }

    /// The size of a page by the head of the file.
    fn said_page_bytes(&self) -> Option<usize> {
        let mut head = [0; 18];
        self.file.as_ref()?.read_exact_at(&mut head, 0).ok()?;
        let bytes = match u16::from_be_bytes([head[16], head[17]]) {
            1 => 65_536,
            bytes => usize::from(bytes),
        };
        (head.starts_with(MAGIC) && is_page_size(bytes)).then_some(bytes)
    }

    /// The size with which most rows can be read.
    fn guess(&self) -> usize {
        let mut file = self.file.as_ref().and_then(|file| file.try_clone().ok());
        let mut rows_of = |page_bytes| {
            let guessed = Self {
                file: file.take(),
                wal: None,
                page_bytes,
                ..*self
            };
            let pages = guessed.pages().min((GUESSED_BY / page_bytes) as u32);
            let rows: usize = (1..=pages).map(|page| guessed.found(page).rows.len()).sum();
            file = guessed.file;
            rows
        };
        let sizes = [2_048, 4_096, 1_024, 8_192, 512, 16_384, 32_768, 65_536];
        let mut best = (0, sizes[0]);
        for size in sizes {
            let rows = rows_of(size);
            if rows > best.0 {
                best = (rows, size);
            }
        }
        best.1
    }

    fn rows(&self, page: &[u8], first: bool) -> Found {
        let header = if first { 100 } else { 0 };
        let (kind, cells_at, left) = match page.get(header) {
            Some(0x0D) => (Kind::Table, header + 8, 0),
            Some(0x0A) => (Kind::Index, header + 8, 0),
            // An inner page of an index holds rows, too.
            Some(0x02) => (Kind::Index, header + 12, 4),
            // An inner page of a table, a free one, or the rest of a long row, which is read from its beginning.
            Some(0x05 | 0x00) => return Found::default(),
            _ => {
                return Found {
                    unreadable: 1,
                    ..Found::default()
                };
            }
        };
        let mut found = Found::default();
        let cells = short(page, header + 3).unwrap_or(0);
        for cell in 0..cells {
            let row = short(page, cells_at + 2 * cell)
                .filter(|at| *at >= cells_at + 2 * cells)
                .and_then(|at| self.row(page, at + left, kind));
            match row {
                Some(row) => found.rows.push(row),
                None => found.unreadable += 1,
            }
        }
        found
    }

    fn row(&self, page: &[u8], mut at: usize, kind: Kind) -> Option<Row> {
        let bytes = usize::try_from(varint(page, &mut at)?).ok()?;
        if bytes > SALVAGED_ROW_BYTES_MAX {
            return None;
        }
        let rowid = match kind {
            Kind::Table => Some(varint(page, &mut at)?),
            Kind::Index => None,
        };
        let here = self.bytes_here(bytes, kind);
        let mut payload = page.get(at..at + here)?.to_vec();
        if here < bytes {
            let next = long(page, at + here)?;
            self.follow(next, bytes, &mut payload)?;
        }
        Some(Row {
            rowid,
            values: values(&payload)?,
        })
    }

    /// How much of a row stands in the page itself.
    fn bytes_here(&self, bytes: usize, kind: Kind) -> usize {
        let usable = self.page_bytes;
        let most = match kind {
            Kind::Table => usable - 35,
            Kind::Index => (usable - 12) * 64 / 255 - 23,
        };
        let least = (usable - 12) * 32 / 255 - 23;
        if bytes <= most {
            return bytes;
        }
        let here = least + (bytes - least) % (usable - 4);
        if here <= most { here } else { least }
    }

    /// The rest of a long row, from page to page. Each brings bytes, so a circle ends with the row.
    fn follow(&self, mut next: u32, bytes: usize, payload: &mut Vec<u8>) -> Option<()> {
        while payload.len() < bytes {
            let page = self.page(next).filter(|_| next > 1)?;
            let more = (bytes - payload.len()).min(page.len() - 4);
            next = long(&page, 0)?;
            payload.extend_from_slice(&page[4..4 + more]);
        }
        Some(())
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Table,
    Index,
}

/// Whether SQLite has pages of this size.
pub(super) fn is_page_size(bytes: usize) -> bool {
    bytes.is_power_of_two() && (512..=65_536).contains(&bytes)
}

/// The columns of a record, when it is one to its last byte.
fn values(record: &[u8]) -> Option<Vec<Value>> {
    let mut at = 0;
    let header = usize::try_from(varint(record, &mut at)?).ok()?;
    let mut body = header;
    let mut values = Vec::new();
    while at < header {
        let kind = varint(record, &mut at)?;
        let bytes = match kind {
            0 | 8 | 9 => 0,
            1..=4 => kind as usize,
            5 => 6,
            6 | 7 => 8,
            12.. => usize::try_from((kind - 12) / 2).ok()?,
            _ => return None,
        };
        let raw = record.get(body..body.checked_add(bytes)?)?;
        body += bytes;
        values.push(match kind {
            0 => Value::Null,
            8 | 9 => Value::Integer(kind - 8),
            1..=6 => Value::Integer(signed(raw)),
            7 => Value::Real(f64::from_be_bytes(raw.try_into().ok()?)),
            kind if kind % 2 == 0 => Value::Blob(raw.to_vec()),
            _ => Value::Text(String::from_utf8(raw.to_vec()).ok()?),
        });
    }
    (at == header && body == record.len() && !values.is_empty()).then_some(values)
}

fn signed(bytes: &[u8]) -> i64 {
    let negative = bytes.first().is_some_and(|byte| *byte > 0x7F);
    let start = if negative { -1 } else { 0 };
    bytes
        .iter()
        .fold(start, |value, byte| value << 8 | i64::from(*byte))
}

fn varint(bytes: &[u8], at: &mut usize) -> Option<i64> {
    let mut value: u64 = 0;
    for count in 1..=9 {
        let byte = *bytes.get(*at)?;
        *at += 1;
        if count == 9 {
            return Some((value << 8 | u64::from(byte)) as i64);
        }
        value = value << 7 | u64::from(byte & 0x7F);
        if byte < 0x80 {
            return Some(value as i64);
        }
    }
    None
}

fn short(page: &[u8], at: usize) -> Option<usize> {
    let bytes = page.get(at..at + 2)?;
    Some(usize::from(bytes[0]) << 8 | usize::from(bytes[1]))
}

fn long(page: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(page.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rusqlite::Connection;

    /// All rows of a table that has this many columns and is counted by the first.
    fn rows(path: &Path, columns: usize) -> Vec<Row> {
        let remains = Remains::open(path).expect("a file");
        let pages = 1..=remains.pages();
        let rows = pages.flat_map(|page| remains.found(page).rows);
        rows.filter(|row| row.values.len() == columns && row.values[0] == Value::Null)
            .collect()
    }

    #[test]
    fn a_whole_file_is_read_as_sqlite_reads_it_whatever_its_page_size_and_with_its_wal() {
        for page_size in [512, 1_024, 4_096, 65_536] {
            let place = tempfile::tempdir().expect("a temporary directory");
            let path = place.path().join("file");
            let file = Connection::open(&path).expect("a file");
            file.execute_batch(&format!(
                "PRAGMA page_size = {page_size};
                 PRAGMA journal_mode = WAL;
                 CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT, b INTEGER, c BLOB, d ANY) STRICT;
                 WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500)
                 INSERT INTO t SELECT i, replace(hex(zeroblob(i * i % 9000)), '00', 'é'), -(1 << (i % 63)),
                        zeroblob(i % 7), iif(i % 3, 1.5, NULL) FROM n;
                 PRAGMA wal_checkpoint;
                 UPDATE t SET b = 1 - (id % 3) WHERE id % 5 = 0;"
            ))
            .expect("rows");
            let mut found = rows(&path, 5);
            found.sort_by_key(|row| row.rowid);
            let mut statement = file.prepare("SELECT * FROM t ORDER BY id").expect("rows");
            let expected = statement.query_map([], |row| {
                let values = (1..5).map(|column| row.get(column));
                let values: Vec<Value> = values.collect::<Result<_, _>>()?;
                Ok(Row {
                    rowid: Some(row.get(0)?),
                    values: [vec![Value::Null], values].concat(),
                })
            });
            let expected: Vec<Row> = expected
                .expect("rows")
                .collect::<Result<_, _>>()
                .expect("rows");
            assert!(found == expected, "{page_size}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_page(page in proptest::collection::vec(any::<u8>(), 512), kind in prop_oneof![Just(0x0D), Just(0x0A), Just(0x02), any::<u8>()]) {
            let remains = Remains { file: None, bytes: 0, wal: None, page_bytes: 512 };
            let mut page = page;
            page[0] = kind;
            // Few cells, or none would be where one can be.
            page[3] = 0;
            let found = remains.rows(&page, false);
            prop_assert!(found.rows.len() as u64 + found.unreadable <= 256);
        }
    }
}

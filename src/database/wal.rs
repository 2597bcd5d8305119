//! The WAL of a damaged file: which of its copies of pages are whole and committed, and which are damaged. Only reads.
//! Knows the file format (<https://sqlite.org/fileformat2.html>, "The Write-Ahead Log") and no table.
//!
//! Each copy says in its checksum what it and all before it are; one that is damaged takes with it, for SQLite, all that
//! come after. Here the next is judged by what the damaged one says of itself, so that one flipped bit costs one copy.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::remains::is_page_size;
use crate::limits::PAGE_BYTES;

const HEADER_BYTES: usize = 32;
const FRAME_HEADER_BYTES: usize = 24;
/// The page size that is tried where nothing says one.
const USUAL_PAGE_BYTES: usize = PAGE_BYTES as usize;

/// A WAL that was read once.
#[derive(Debug)]
pub(super) struct Wal {
    file: File,
    page_bytes: usize,
    /// Whether its header is whole.
    is_sure: bool,
    /// Where the newest whole copy of each page is.
    copies: HashMap<u32, u64>,
    /// Where the damaged copies are.
    damaged: Vec<u64>,
    /// The copies that SQLite does not see, since they come after a damaged one, by commit.
    hidden: Vec<Vec<u64>>,
    /// The largest page.
    last_page: u32,
}

struct Frame {
    page: u32,
    /// The pages of the file after a commit, in the last frame of one.
    commit: u32,
    salts: [u8; 8],
    said: (u32, u32),
}

impl Wal {
    /// Reads it; `said` is the page size of its file, where that says one.
    pub(super) fn read(file: File, said: Option<usize>) -> io::Result<Self> {
        let bytes = file.metadata()?.len();
        let mut head = [0; HEADER_BYTES];
        let is_there = bytes >= (HEADER_BYTES + FRAME_HEADER_BYTES) as u64;
        if is_there {
            file.read_exact_at(&mut head, 0)?;
        }
        let word =
            |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let mut wal = Self {
            file,
            page_bytes: word(8) as usize,
            is_sure: false,
            copies: HashMap::new(),
            damaged: Vec::new(),
            hidden: Vec::new(),
            last_page: 0,
        };
        let is_big = word(0) & 1 == 1;
        wal.is_sure = is_there
            && word(0) & !1 == 0x377F_0682
            && is_page_size(wal.page_bytes)
            && sum(&head[..24], (0, 0), is_big) == (word(24), word(28));
        if wal.is_sure {
            wal.walk(bytes, Some(&head[16..24]), (word(24), word(28)), is_big)?;
        } else if is_there {
            // Nothing says how the copies are to be judged: all of them are doubtful.
            wal.page_bytes = said.unwrap_or(USUAL_PAGE_BYTES);
            wal.walk(bytes, None, (0, 0), is_big)?;
        }
        Ok(wal)
    }

    /// Reads all copies of this run of the WAL; those of a run before, behind it, have other salts.
    fn walk(
        &mut self,
        bytes: u64,
        salts: Option<&[u8]>,
        mut before: (u32, u32),
        is_big: bool,
    ) -> io::Result<()> {
        let frame_bytes = (FRAME_HEADER_BYTES + self.page_bytes) as u64;
        let mut head = [0; FRAME_HEADER_BYTES];
        let mut page = vec![0; self.page_bytes];
        let (mut open, mut hidden, mut foreign) = (Vec::new(), Vec::new(), Vec::new());
        let mut offset = HEADER_BYTES as u64;
        while offset + frame_bytes <= bytes {
            let page_at = offset + FRAME_HEADER_BYTES as u64;
            self.file.read_exact_at(&mut head, offset)?;
            offset += frame_bytes;
            let frame = Frame::of(&head);
            // Of a run before, or damaged, which shows when one of this run comes after it; zeros were never written, or
            // are damaged, too, and hold nothing.
            if frame.page == 0 || salts.is_some_and(|salts| frame.salts != salts) {
                before = frame.said;
                foreign.extend(Some(page_at).filter(|_| frame.page > 0));
                continue;
            }
            self.damaged.append(&mut foreign);
            self.file.read_exact_at(&mut page, page_at)?;
            let is_whole = salts.is_some()
                && sum(&page, sum(&head[..8], before, is_big), is_big) == frame.said;
            before = frame.said;
            if is_whole {
                open.push((frame.page, page_at));
            } else {
                self.damaged.push(page_at);
            }
            if !self.damaged.is_empty() {
                hidden.push(page_at);
            }
            if frame.commit > 0 && (is_whole || salts.is_none()) {
                self.copies.extend(open.drain(..));
                if !hidden.is_empty() {
                    self.hidden.push(std::mem::take(&mut hidden));
                }
            }
        }
        self.last_page = self.copies.keys().copied().max().unwrap_or(0);
        Ok(())
    }

    /// The size of a page, where that is sure.
    pub(super) fn page_bytes(&self) -> Option<usize> {
        self.is_sure.then_some(self.page_bytes)
    }

    pub(super) fn last_page(&self) -> u32 {
        self.last_page
    }

    /// Reads the newest copy of a page, if there is one.
    pub(super) fn page(&self, number: u32, into: &mut [u8]) -> Option<io::Result<()>> {
        let at = self.copies.get(&number)?;
        Some(self.read_page(*at, into))
    }

    pub(super) fn damaged_pages(&self) -> usize {
        self.damaged.len()
    }

    /// Reads one of the damaged copies.
    pub(super) fn damaged_page(&self, index: usize, into: &mut [u8]) -> Option<io::Result<()>> {
        let at = self.damaged.get(index)?;
        Some(self.read_page(*at, into))
    }

    /// Reads the copies that SQLite does not see, commit after commit.
    pub(super) fn hidden(&self) -> impl Iterator<Item = Vec<Vec<u8>>> + '_ {
        let read = |at: &u64| {
            let mut page = vec![0; self.page_bytes];
            self.read_page(*at, &mut page).ok().map(|()| page)
        };
        self.hidden
            .iter()
            .map(move |commit| commit.iter().filter_map(read).collect())
    }

    fn read_page(&self, at: u64, into: &mut [u8]) -> io::Result<()> {
        let bytes = into.len().min(self.page_bytes);
        self.file.read_exact_at(&mut into[..bytes], at)
    }
}

impl Frame {
    fn of(raw: &[u8]) -> Self {
        let word = |at: usize| u32::from_be_bytes([raw[at], raw[at + 1], raw[at + 2], raw[at + 3]]);
        let mut salts = [0; 8];
        salts.copy_from_slice(&raw[8..16]);
        Self {
            page: word(0),
            commit: word(4),
            salts,
            said: (word(16), word(20)),
        }
    }
}

/// The checksum of the WAL's format, on from `before`.
fn sum(bytes: &[u8], before: (u32, u32), is_big: bool) -> (u32, u32) {
    let word = |raw: &[u8]| {
        let raw = [raw[0], raw[1], raw[2], raw[3]];
        match is_big {
            true => u32::from_be_bytes(raw),
            false => u32::from_le_bytes(raw),
        }
    };
    bytes.chunks_exact(8).fold(before, |(a, b), pair| {
        let a = a.wrapping_add(word(&pair[..4])).wrapping_add(b);
        (a, b.wrapping_add(word(&pair[4..])).wrapping_add(a))
    })
}

//! Puts zeros over the bytes of b-tree pages that hold nothing. `secure_delete` overwrites what is deleted, but not the
//! copies that stay behind when SQLite moves a cell from one page to another: it only ever clears the place where a cell
//! was last. Knows the file format (<https://sqlite.org/fileformat2.html>, "B-tree Pages") and no tables.
//!
//! Pages are read and written through the virtual table `sqlite_dbpage`, so in ordinary transactions, with readers beside.

use std::ops::Range;

use rusqlite::{Transaction, params};

/// Cleans `count` pages from number `from` on (the first is 1), and says where to go on, if there are more.
///
/// # Errors
/// When SQLite cannot read or write.
pub fn clean(
    transaction: &Transaction<'_>,
    from: u32,
    count: u32,
) -> rusqlite::Result<Option<u32>> {
    let pages: u32 = transaction.query_row("PRAGMA page_count", [], |row| row.get(0))?;
    let end = from.saturating_add(count).min(pages.saturating_add(1));
    let mut read = transaction.prepare_cached("SELECT data FROM sqlite_dbpage WHERE pgno = ?1")?;
    let mut write =
        transaction.prepare_cached("UPDATE sqlite_dbpage SET data = ?2 WHERE pgno = ?1")?;
    for number in from..end {
        let mut page: Vec<u8> = read.query_row([number], |row| row.get(0))?;
        if clean_page(&mut page, number == 1) {
            write.execute(params![number, page])?;
        }
    }
    Ok((end <= pages).then_some(end))
}

/// Puts zeros over the gap between the cell pointers and the cells of a page, and over its free blocks; says whether
/// anything else was there. A page that is none of a b-tree is left alone: an overflow or free page begins with the number
/// of another page, whose first byte is 0 in any file below 128 GiB.
fn clean_page(page: &mut [u8], first: bool) -> bool {
    let header = if first { 100 } else { 0 };
    let pointers = match page.get(header) {
        Some(2 | 5) => header + 12,
        Some(10 | 13) => header + 8,
        _ => return false,
    };
    let (Some(cells), Some(content)) = (number(page, header + 3), number(page, header + 5)) else {
        return false;
    };
    // 0 stands for 65536, which two bytes do not hold.
    let content = if content == 0 { 65_536 } else { content };
    let mut cleaned = zero(page, pointers + 2 * cells..content);
    let mut block = number(page, header + 1).unwrap_or(0);
    while block != 0 {
        let (Some(next), Some(size)) = (number(page, block), number(page, block + 2)) else {
            break;
        };
        cleaned |= zero(page, block + 4..block + size);
        // They are in order; a damaged page must not keep us here for ever.
        block = if next > block { next } else { 0 };
    }
    cleaned
}

fn number(page: &[u8], at: usize) -> Option<usize> {
    let bytes = page.get(at..at + 2)?;
    Some(usize::from(bytes[0]) << 8 | usize::from(bytes[1]))
}

fn zero(page: &mut [u8], range: Range<usize>) -> bool {
    let Some(bytes) = page.get_mut(range) else {
        return false;
    };
    let held = bytes.iter().any(|byte| *byte != 0);
    if held {
        bytes.fill(0);
    }
    held
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rusqlite::Connection;

    #[test]
    fn what_was_deleted_is_gone_from_every_page_and_the_rest_is_whole() {
        let place = tempfile::tempdir().expect("a temporary directory");
        let path = place.path().join("file");
        let mut file = Connection::open(&path).expect("a file");
        file.execute_batch(
            "PRAGMA secure_delete = OFF;
             CREATE TABLE t (id TEXT PRIMARY KEY, x TEXT) STRICT;
             WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
             INSERT INTO t SELECT (i * 7919 % 10007) || iif(i % 10 = 0, ' gone', ' kept'), zeroblob(0) || 'text' FROM n;
             UPDATE t SET x = replace(hex(zeroblob(length(id) * 9)), '00', substr(id, -5));
             DELETE FROM t WHERE id LIKE '% gone'",
        )
        .expect("rows");
        let free: i64 = file
            .query_row("PRAGMA freelist_count", [], |row| row.get(0))
            .expect("a count");
        assert_eq!(free, 0, "free pages are not what this test is about");
        let held = || {
            let bytes = std::fs::read(&path).expect("bytes");
            bytes.windows(5).any(|window| window == b" gone")
        };
        assert!(held());
        let mut from = Some(1);
        while let Some(number) = from {
            let transaction = file.transaction().expect("a transaction");
            from = clean(&transaction, number, 7).expect("clean pages");
            transaction.commit().expect("a commit");
        }
        assert!(!held());
        let well: String = file
            .query_row("PRAGMA integrity_check", [], |row| row.get(0))
            .expect("a check");
        let rows: i64 = file
            .query_row(
                "SELECT count(*) FROM t WHERE id LIKE '% kept' AND x LIKE '%kept'",
                [],
                |row| row.get(0),
            )
            .expect("a count");
        assert_eq!((well.as_str(), rows), ("ok", 1_800));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_page_or_left_alone(mut page in proptest::collection::vec(any::<u8>(), 0..600), first in any::<bool>()) {
            let before = page.clone();
            prop_assert_eq!(clean_page(&mut page, first), page != before);
        }
    }
}

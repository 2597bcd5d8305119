//! The removal of everything that is kept of a link. It is done in short transactions, so that an append never waits for
//! long; the first of them makes the link an erased one, after which nothing of it is kept any more, whoever brings it.
//!
//! The same transaction opens a row in `erasures`, which each of them counts in, and which is closed when nothing is left
//! in free pages and the WAL either. So an interrupted erasure is known, and doing it again removes the rest.

use std::collections::BTreeMap;

use rusqlite::{Connection, Transaction, params};
use serde::{Deserialize, Serialize};

use super::{Store, work};
use crate::database::{Reader, WriteError, pages};
use crate::drain::links::Status;
use crate::journal;
use crate::limits::{CLEAN_PAGES_MAX, ERASE_LOOK_ROWS, ERASE_ROWS_MAX, STORE_BYTES_MAX};
use crate::system::clock::UnixMs;
use crate::webhook::Seq;

/// The problems of a link by their subject: `link L`, or `... of link L`.
pub(super) const PROBLEMS: &str =
    "subject = 'link ' || ?1 OR substr(subject, -length(' link ' || ?1)) = ' link ' || ?1";
/// The erasure of a link that is under way.
const UNFINISHED: &str = "link_id = ?1 AND finished_at IS NULL";
/// What stands in a path where a link stood that was erased.
const ERASED: &str = "(erased)";
/// Where zeros are put over free pages.
const SCRUB: &str = "scrub.";

/// What is kept of a link.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holdings {
    /// Objects by resource, the deleted ones too.
    pub objects: BTreeMap<String, u64>,
    /// Consents.
    pub consents: u64,
    /// Rows of work.
    pub work: u64,
    /// Problems, open and closed.
    pub problems: u64,
    /// Webhooks that name it.
    pub deliveries: u64,
    /// Whether Belvo's record of it, or its state, is kept.
    pub link: bool,
    /// Whether it was erased before.
    pub erased: bool,
    /// Whether an erasure of it was begun and is not finished.
    pub unfinished: bool,
}

impl Holdings {
    /// All objects.
    pub fn objects(&self) -> u64 {
        self.objects.values().sum()
    }

    /// Whether there is nothing to remove.
    pub fn is_empty(&self) -> bool {
        let Self {
            consents,
            work,
            problems,
            deliveries,
            link,
            ..
        } = self;
        self.objects.is_empty() && consents + work + problems + deliveries == 0 && !link
    }

    /// What was removed besides.
    pub fn add(&mut self, other: Self) {
        for (resource, count) in other.objects {
            *self.objects.entry(resource).or_default() += count;
        }
        self.consents += other.consents;
        self.work += other.work;
        self.problems += other.problems;
        self.deliveries += other.deliveries;
        self.link |= other.link;
    }
}

/// What is kept of a link. Webhooks that were not planned yet are not counted.
///
/// # Errors
/// When SQLite cannot read.
pub fn holdings(reader: &Reader, link_id: &str) -> rusqlite::Result<Holdings> {
    let count = |from: &str| {
        let sql = format!("SELECT count(*) FROM {from}");
        reader.query_row(&sql, [link_id], |row| {
            row.get::<_, i64>(0).map(i64::unsigned_abs)
        })
    };
    let objects = reader
        .prepare("SELECT resource, count(*) FROM objects WHERE link_id = ?1 GROUP BY resource")?
        .query_map([link_id], |row| {
            Ok((row.get(0)?, row.get::<_, i64>(1)?.unsigned_abs()))
        })?
        .collect::<rusqlite::Result<_>>()?;
    Ok(Holdings {
        objects,
        consents: count("consents WHERE link_id = ?1")?,
        work: count("work WHERE link_id = ?1")?,
        problems: count(&format!("problems WHERE {PROBLEMS}"))?,
        deliveries: count("events WHERE link_id = ?1")?,
        link: count("links WHERE link_id = ?1 AND status <> 'erased'")? > 0,
        erased: count("links WHERE link_id = ?1 AND status = 'erased'")? > 0,
        unfinished: count(&format!("erasures WHERE {UNFINISHED}"))? > 0,
    })
}

/// The links whose erasure was begun and is not finished.
///
/// # Errors
/// When SQLite cannot read.
pub fn unfinished(reader: &Reader) -> rusqlite::Result<Vec<String>> {
    reader
        .prepare("SELECT link_id FROM erasures WHERE finished_at IS NULL ORDER BY erasure")?
        .query_map([], |row| row.get(0))?
        .collect()
}

impl Store {
    /// Makes a link an erased one, of which nothing is kept any more that comes, and removes what is few; says how much.
    /// The rest is for [`Store::erase`].
    ///
    /// # Errors
    /// When nothing was written.
    pub async fn begin_erasing(
        &self,
        link_id: String,
        now: UnixMs,
    ) -> Result<Holdings, WriteError> {
        let begin = move |transaction: &Transaction<'_>| begin(transaction, &link_id, now);
        self.writer.change_synced(begin).await
    }

    /// Removes the rest of a link, for good, and says how much. `unplanned` are webhooks that name it and were not
    /// planned before it was an erased one. What is removed is overwritten with zeros in the file; what is left of it
    /// elsewhere is for [`Store::scrub`] and [`Writer::truncate_wal`](crate::database::Writer::truncate_wal), after which
    /// it is [`Store::erased`].
    ///
    /// # Errors
    /// When not all of it was removed; doing it again removes the rest.
    pub async fn erase(&self, link_id: &str, unplanned: Vec<Seq>) -> Result<Holdings, WriteError> {
        let mut gone = Holdings::default();
        for seqs in unplanned.chunks(ERASE_ROWS_MAX as usize) {
            let (link, seqs) = (link_id.to_owned(), seqs.to_vec());
            let some =
                move |transaction: &Transaction<'_>| unplanned_too(transaction, &link, &seqs);
            gone.add(self.writer.change_synced(some).await?);
        }
        loop {
            let link = link_id.to_owned();
            let some = move |transaction: &Transaction<'_>| some_objects(transaction, &link);
            let more = self.writer.change_synced(some).await?;
            if more == Holdings::default() {
                break;
            }
            gone.add(more);
        }
        let mut after = Some(Seq(0));
        while let Some(seq) = after {
            let link = link_id.to_owned();
            let some = move |transaction: &Transaction<'_>| some_webhooks(transaction, &link, seq);
            let (more, next) = self.writer.change_synced(some).await?;
            gone.add(more);
            after = next;
        }
        Ok(gone)
    }

    /// Notes that nothing of a link is left.
    ///
    /// # Errors
    /// When nothing was written.
    pub async fn erased(&self, link_id: String, now: UnixMs) -> Result<(), WriteError> {
        let erased = move |transaction: &Transaction<'_>| {
            transaction
                .execute(
                    &format!("UPDATE erasures SET finished_at = ?2 WHERE {UNFINISHED}"),
                    params![link_id, now.0],
                )
                .map(drop)
        };
        self.writer.change_synced(erased).await
    }

    /// Overwrites what is left of removed content: the unused bytes of all pages, and the pages that were free before the
    /// file was written with `secure_delete`, those once in its life.
    ///
    /// # Errors
    /// When not all of it was.
    pub async fn scrub(&self) -> Result<(), WriteError> {
        let mut from = Some(1);
        while let Some(number) = from {
            let clean = move |transaction: &Transaction<'_>| {
                pages::clean(transaction, number, CLEAN_PAGES_MAX)
            };
            from = self.writer.change(clean).await?;
        }
        for step in 0.. {
            let scrub = move |transaction: &Transaction<'_>| cover(transaction, step);
            if self.writer.change_synced(scrub).await? {
                break;
            }
        }
        while self.writer.change_synced(uncover).await? > 0 {}
        Ok(())
    }
}

/// Makes the link an erased one, and removes what is few. One that was begun before goes on.
fn begin(transaction: &Transaction<'_>, link_id: &str, now: UnixMs) -> rusqlite::Result<Holdings> {
    transaction.execute(
        &format!(
            "INSERT INTO erasures (link_id, at) SELECT ?1, ?2
              WHERE NOT EXISTS (SELECT 1 FROM erasures WHERE {UNFINISHED})"
        ),
        params![link_id, now.0],
    )?;
    let link = transaction.execute(
        "DELETE FROM links WHERE link_id = ?1 AND status <> 'erased'",
        [link_id],
    )? > 0;
    transaction.execute(
        "INSERT OR IGNORE INTO links (link_id, status, since_at, reason, seq) VALUES (?1, ?2, ?3, 'erase', 0)",
        params![link_id, Status::Erased.name(), now.0],
    )?;
    let consents = transaction.execute("DELETE FROM consents WHERE link_id = ?1", [link_id])?;
    let work = work::forget_link(transaction, link_id)?;
    let problems =
        transaction.execute(&format!("DELETE FROM problems WHERE {PROBLEMS}"), [link_id])?;
    forget_mentions(transaction, link_id)?;
    let gone = Holdings {
        consents: consents as u64,
        work: work as u64,
        problems: problems as u64,
        link,
        ..Holdings::default()
    };
    note(transaction, link_id, &gone)?;
    Ok(gone)
}

/// The bytes of a body that could not be read, and the path of a request in a problem of the gateway itself, may name the
/// link, too; the former in upper case or without dashes.
fn forget_mentions(transaction: &Transaction<'_>, link_id: &str) -> rusqlite::Result<()> {
    let plain = plain("evidence");
    transaction.execute(
        &format!(
            "UPDATE problems SET evidence = NULL WHERE instr({plain}, replace(lower(?1), '-', '')) > 0"
        ),
        [link_id],
    )?;
    transaction
        .execute(
            "UPDATE problems SET text = replace(text, ?1, ?2) WHERE instr(text, '/' || ?1 || '/') > 0",
            [link_id, ERASED],
        )
        .map(drop)
}

/// Bytes as an id is looked for in them.
fn plain(bytes: &str) -> String {
    format!("replace(lower(CAST({bytes} AS TEXT)), '-', '')")
}

/// Whether these bytes name a link that was erased here.
///
/// # Errors
/// When SQLite cannot read.
pub(super) fn names_erased(connection: &Connection, bytes: &[u8]) -> rusqlite::Result<bool> {
    let plain = plain("?1");
    connection
        .prepare_cached(&format!(
            "SELECT EXISTS (SELECT 1 FROM links
              WHERE status = 'erased' AND instr({plain}, replace(lower(link_id), '-', '')) > 0)"
        ))?
        .query_row([bytes], |row| row.get(0))
}

/// Whether the problem of this subject is about a link that was erased here: `link L`, or `... of link L`.
///
/// # Errors
/// When SQLite cannot read.
pub(super) fn is_about_erased(connection: &Connection, subject: &str) -> rusqlite::Result<bool> {
    match subject.rsplit_once("link ") {
        Some((before, link)) if before.is_empty() || before.ends_with(' ') => {
            is_erased(connection, link)
        }
        _ => Ok(false),
    }
}

/// Takes links that were erased here out of the paths in a text.
///
/// # Errors
/// When SQLite cannot read.
pub(super) fn forget_paths(connection: &Connection, text: &mut String) -> rusqlite::Result<()> {
    let mut named = Vec::new();
    for part in text.split('/').skip(1) {
        if is_erased(connection, part)? {
            named.push(part.to_owned());
        }
    }
    for link in named {
        *text = text.replace(&link, ERASED);
    }
    Ok(())
}

/// Removes some of its objects; nothing when there are none left.
fn some_objects(transaction: &Transaction<'_>, link_id: &str) -> rusqlite::Result<Holdings> {
    let mut gone = Holdings::default();
    let objects: Vec<(String, String)> = transaction
        .prepare_cached("SELECT resource, id FROM objects WHERE link_id = ?1 LIMIT ?2")?
        .query_map(params![link_id, ERASE_ROWS_MAX], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?
        .collect::<rusqlite::Result<_>>()?;
    for (resource, id) in objects {
        transaction
            .prepare_cached("DELETE FROM objects WHERE resource = ?1 AND id = ?2")?
            .execute([&resource, &id])?;
        *gone.objects.entry(resource).or_default() += 1;
    }
    note(transaction, link_id, &gone)?;
    Ok(gone)
}

/// Removes some of its webhooks after that place in the journal, and says after which to go on. No index leads from a link
/// to all of its webhooks: it would cost each of them a page of flash.
fn some_webhooks(
    transaction: &Transaction<'_>,
    link_id: &str,
    after: Seq,
) -> rusqlite::Result<(Holdings, Option<Seq>)> {
    let until = Seq(after.0 + ERASE_LOOK_ROWS);
    let seqs: Vec<Seq> = transaction
        .prepare_cached(
            "SELECT seq FROM events WHERE seq > ?2 AND seq <= ?3 AND link_id = ?1 ORDER BY seq LIMIT ?4",
        )?
        .query_map(params![link_id, after.0, until.0, ERASE_ROWS_MAX], |row| {
            row.get(0).map(Seq)
        })?
        .collect::<rusqlite::Result<_>>()?;
    empty(transaction, &seqs)?;
    for seq in &seqs {
        transaction
            .prepare_cached(
                "UPDATE events SET webhook_id = NULL, link_id = NULL, external_id = NULL, request_id = NULL,
                                   action = 'erased', resource = NULL
                  WHERE seq = ?1",
            )?
            .execute([seq.0])?;
    }
    let gone = Holdings {
        deliveries: seqs.len() as u64,
        ..Holdings::default()
    };
    note(transaction, link_id, &gone)?;
    let looked = match seqs.last() {
        Some(last) if seqs.len() == ERASE_ROWS_MAX as usize => *last,
        _ => until,
    };
    let more = transaction
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM events WHERE seq > ?1)")?
        .query_row([looked.0], |row| row.get(0))?;
    Ok((gone, Some(looked).filter(|_| more)))
}

/// Erases webhooks that were not planned yet, so that planning finds it done. One that was planned meanwhile is counted
/// with the planned ones.
fn unplanned_too(
    transaction: &Transaction<'_>,
    link_id: &str,
    seqs: &[Seq],
) -> rusqlite::Result<Holdings> {
    let gone = Holdings {
        deliveries: erase_webhooks(transaction, seqs)?,
        ..Holdings::default()
    };
    note(transaction, link_id, &gone)?;
    Ok(gone)
}

/// Empties webhooks and says so in place of the events that they do not have; of how many that is said.
pub(super) fn erase_webhooks(transaction: &Transaction<'_>, seqs: &[Seq]) -> rusqlite::Result<u64> {
    empty(transaction, seqs)?;
    let mut erased = transaction
        .prepare_cached("INSERT OR IGNORE INTO events (seq, action) VALUES (?1, 'erased')")?;
    seqs.iter()
        .try_fold(0, |count, seq| Ok(count + erased.execute([seq.0])? as u64))
}

/// Empties the bodies of these webhooks.
pub(super) fn empty(transaction: &Transaction<'_>, seqs: &[Seq]) -> rusqlite::Result<()> {
    seqs.iter()
        .try_for_each(|seq| journal::empty(transaction, *seq))
}

/// Keeps a link erased that was erased in another file.
pub(super) fn erased_before(transaction: &Transaction<'_>, link_id: &str) -> rusqlite::Result<()> {
    transaction
        .execute(
            "INSERT OR REPLACE INTO links (link_id, status, since_at, reason, seq)
             SELECT link_id, ?2, at, 'erase', 0 FROM erasures WHERE link_id = ?1 LIMIT 1",
            params![link_id, Status::Erased.name()],
        )
        .map(drop)
}

/// Whether everything of this link was erased here.
///
/// # Errors
/// When SQLite cannot read.
pub(super) fn is_erased(connection: &Connection, link_id: &str) -> rusqlite::Result<bool> {
    connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM links WHERE link_id = ?1 AND status = 'erased')",
        )?
        .query_row([link_id], |row| row.get(0))
}

/// Counts what has gone.
fn note(transaction: &Transaction<'_>, link_id: &str, gone: &Holdings) -> rusqlite::Result<()> {
    if *gone == Holdings::default() {
        return Ok(());
    }
    transaction
        .prepare_cached(&format!(
            "UPDATE erasures SET objects = objects + ?2, consents = consents + ?3, deliveries = deliveries + ?4
              WHERE {UNFINISHED}"
        ))?
        .execute(params![
            link_id,
            gone.objects() as i64,
            gone.consents as i64,
            gone.deliveries as i64
        ])
        .map(drop)
}

/// Puts zeros over some free pages; true when there are none left, or all of them were free of content before.
fn cover(transaction: &Transaction<'_>, step: i64) -> rusqlite::Result<bool> {
    let done: bool = transaction.query_row(
        "SELECT EXISTS (SELECT 1 FROM meta WHERE key = 'scrubbed')",
        [],
        |row| row.get(0),
    )?;
    let number = |sql| transaction.query_row(sql, [], |row| row.get::<_, i64>(0));
    let free = number("PRAGMA freelist_count")?;
    if done || free == 0 {
        transaction.execute("INSERT OR IGNORE INTO meta VALUES ('scrubbed', 1)", [])?;
        return Ok(true);
    }
    // A page that is filled to its end loses four bytes to the number of the next one.
    let bytes = (free * (number("PRAGMA page_size")? - 4)).min(STORE_BYTES_MAX as i64);
    transaction
        .execute(
            "INSERT OR REPLACE INTO meta VALUES (?1, zeroblob(?2))",
            params![format!("{SCRUB}{step:09}"), bytes],
        )
        .map(|_| false)
}

/// Frees some of these pages again, and says whether there were any.
fn uncover(transaction: &Transaction<'_>) -> rusqlite::Result<usize> {
    transaction.execute(
        "DELETE FROM meta WHERE key = (SELECT min(key) FROM meta WHERE substr(key, 1, length(?1)) = ?1)",
        [SCRUB],
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::{StateDirectory, Writer, open_writer};
    use crate::store::VIEWS;

    /// A file of an older program, whose free pages still hold what was deleted.
    #[tokio::test]
    async fn free_pages_of_an_older_file_are_overwritten_once() {
        let place = tempfile::tempdir().expect("a temporary directory");
        let directory = StateDirectory::lock(place.path()).expect("a state directory");
        let connection = open_writer(&directory, VIEWS).expect("a file");
        connection
            .pragma_update(None, "secure_delete", "OFF")
            .expect("an older program");
        connection
            .execute_batch(
                "CREATE TABLE t (x TEXT) STRICT;
                 WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)
                 INSERT INTO t SELECT i || replace(hex(zeroblob(500)), '00', 'old content ') FROM n;
                 DROP TABLE t",
            )
            .expect("some content that was deleted");
        let file = directory.file();
        drop(connection);
        let held = || {
            let bytes = std::fs::read(&file).expect("a file");
            bytes.windows(11).any(|window| window == b"old content")
        };
        assert!(held());
        let connection = open_writer(&directory, VIEWS).expect("a file");
        let (writer, _end) = Writer::start(directory, connection, VIEWS).expect("a thread");
        let store = Store::new(writer.clone());
        store.scrub().await.expect("clean pages");
        assert!(writer.truncate_wal().await.expect("a checkpoint"));
        assert!(!held());
        let left: i64 = writer
            .change(|transaction| {
                transaction.query_row(
                    "SELECT count(*) FROM meta WHERE key LIKE 'scrub.%'",
                    [],
                    |row| row.get(0),
                )
            })
            .await
            .expect("a count");
        assert_eq!(left, 0);
    }
}

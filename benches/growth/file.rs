//! A file that has grown: what the program itself has written, many times over. Knows names of columns, and that nothing else
//! tells one row from the next.

use std::path::Path;
use std::time::Duration;

use anyhow::ensure;
use rusqlite::{Connection, params};

use crate::shared::belvo::{self, File};
use crate::shared::load::{self, Load};
use crate::shared::program::{BARE, Site, WITHOUT_LIMIT};

/// Webhooks come for so long; there are some thousands then.
const FILLED_FOR: Duration = Duration::from_millis(500);
/// Objects of each link that the program itself fetches.
const OBJECTS: usize = 200;
/// What filling may keep in memory, in KiB, so that indexes of random ids are quick to make.
const CACHE_KIB: i64 = 512 * 1024;

/// Has the program write some thousand webhooks, with what they lead to.
pub(crate) fn begin(site: &Site<'_>) -> anyhow::Result<()> {
    let belvo = belvo::start()?;
    for (seed, link) in load::links().enumerate() {
        belvo::put(&belvo, &link, seed as u64, OBJECTS);
    }
    site.configure(&format!(
        "{BARE}{}",
        site.api(belvo.base_url(), WITHOUT_LIMIT)?
    ))?;
    let process = site.serve()?;
    let file = File::open(&site.state())?;
    load::send(
        (site.address, None),
        Load::Kept(8),
        Duration::ZERO,
        FILLED_FOR,
    )?;
    file.wait_for_all(true)?;
    drop(process);
    site.configure(BARE)
}

/// Copies rows until there are so many webhooks and so many objects; says how large the file is then.
pub(crate) fn grow(state: &Path, rows: i64) -> anyhow::Result<u64> {
    let path = state.join("gateway.db");
    let connection = Connection::open(&path)?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    // Only here: a crash of the bench costs no more than the bench.
    connection.pragma_update(None, "synchronous", "OFF")?;
    connection.pragma_update(None, "journal_mode", "OFF")?;
    connection.execute_batch("BEGIN")?;
    let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
    let (webhooks, objects) = (
        number("SELECT max(seq) FROM journal")?,
        number("SELECT count(*) FROM objects")?,
    );
    ensure!(webhooks > 0 && objects > 0, "there is nothing to copy");
    // The checksum of a row does not depend on its seq.
    let mut to = webhooks;
    while to < rows {
        let copied = webhooks.min(rows - to);
        for sql in [
            "INSERT INTO journal SELECT seq + ?1, received_at, clock_trusted, boot, since_boot, peer, checksum, body FROM journal WHERE seq <= ?2",
            "INSERT INTO events SELECT seq + ?1, received_at, webhook_id, type, code, process_type, link_id, external_id,
                    request_id, action, resource, duplicate_of FROM events WHERE seq <= ?2",
        ] {
            connection.execute(sql, params![to, copied])?;
        }
        to += copied;
    }
    let mut to = objects;
    while to < rows {
        let copied = objects.min(rows - to);
        connection.execute(
            "INSERT INTO objects SELECT resource, new, link_id, replace(body, id, new), first_seen_at, last_changed_at, seq,
                    deleted_at, deleted_by
               FROM (SELECT *, lower(hex(randomblob(4))) || substr(id, 9) AS new FROM objects WHERE rowid <= ?1)",
            params![copied],
        )?;
        to += copied;
    }
    connection.execute(
        "UPDATE meta SET value = (SELECT max(seq) FROM journal) WHERE key = 'planned_to'",
        [],
    )?;
    connection.execute_batch("COMMIT")?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    drop(connection);
    std::fs::File::open(&path)?.sync_all()?;
    Ok(std::fs::metadata(&path)?.len())
}

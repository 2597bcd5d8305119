//! The state of everything in the file at a glance. Only reads.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::database::Reader;

/// The gateway's state at a glance.
#[derive(Debug, Serialize)]
pub struct Summary {
    /// Webhooks that are known, also those whose journal row has gone.
    pub webhooks: i64,
    /// When the newest was received.
    pub last_webhook: Option<String>,
    /// Journal rows that were not planned yet.
    pub unplanned: i64,
    /// How many of the webhooks are unknown.
    pub unknown: i64,
    /// Pieces of work by state.
    pub work: BTreeMap<String, i64>,
    /// Kept objects by resource.
    pub objects: BTreeMap<String, i64>,
    /// Refused requests by reason, since the file was made.
    pub refused: BTreeMap<String, i64>,
    /// Until when the certificate that was served last is valid.
    pub certificate_until: Option<String>,
    /// What needs a person.
    pub open_problems: i64,
}

/// All by their key, less those that were deleted: the rows themselves are not read. Those of the last resource by name,
/// which are most often the transactions and by far the most, are what the others leave of all: to count a whole index takes
/// SQLite a fifth of the time that it takes to count a part of it.
const LIVE_OBJECTS: &str = "
    WITH last (resource) AS (SELECT max(resource) FROM objects),
         others AS MATERIALIZED (
             SELECT resource, count(*) AS count FROM objects WHERE resource < (SELECT resource FROM last) GROUP BY resource),
         kept AS (
             SELECT resource, count FROM others
              UNION ALL
             SELECT resource, (SELECT count(*) FROM objects) - (SELECT coalesce(sum(count), 0) FROM others)
               FROM last WHERE resource IS NOT NULL)
    SELECT resource, count - (SELECT count(*) FROM objects AS gone
                               WHERE gone.resource = kept.resource AND gone.deleted_at IS NOT NULL) AS live
      FROM kept WHERE live > 0";

/// Looks.
///
/// # Errors
/// When SQLite cannot read.
pub fn look(connection: &Reader) -> rusqlite::Result<Summary> {
    let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
    let by_name = |sql: &str| {
        connection
            .prepare(sql)?
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<rusqlite::Result<BTreeMap<_, _>>>()
    };
    let last = "SELECT strftime('%Y-%m-%dT%H:%M:%fZ', received_at / 1000.0, 'unixepoch') FROM arrivals ORDER BY seq DESC LIMIT 1";
    Ok(Summary {
        webhooks: number(
            "SELECT (SELECT count(*) FROM events) + (SELECT count(*) FROM journal
              WHERE seq > (SELECT value FROM meta WHERE key = 'planned_to') AND seq NOT IN (SELECT seq FROM events))",
        )?,
        last_webhook: connection
            .prepare(last)?
            .query_map([], |row| row.get(0))?
            .next()
            .transpose()?,
        unplanned: number(
            "SELECT count(*) FROM journal WHERE seq > (SELECT value FROM meta WHERE key = 'planned_to')",
        )?,
        unknown: number("SELECT count(*) FROM events WHERE action = 'unknown'")?,
        work: by_name("SELECT state, count(*) FROM freshness GROUP BY state")?,
        objects: by_name(LIVE_OBJECTS)?,
        refused: super::counters(connection, "refused.")?
            .into_iter()
            .collect(),
        certificate_until: super::certificate::certificate_until(connection)?
            .map(|until| until.to_string()),
        open_problems: number("SELECT count(*) FROM problems WHERE closed_at IS NULL")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::{StateDirectory, open_reader, open_writer};
    use crate::store::VIEWS;

    #[test]
    fn live_objects_are_counted_and_no_object_is_read_for_it() {
        let place = tempfile::tempdir().expect("a directory");
        let locked = StateDirectory::lock(place.path()).expect("the lock");
        let file = open_writer(&locked, VIEWS).expect("a file");
        file.execute_batch(
            "INSERT INTO objects (resource, id, link_id, body, first_seen_at, last_changed_at, seq, deleted_at, deleted_by)
             VALUES ('bills', '1', 'l', '{}', 1, 1, 1, NULL, NULL), ('bills', '2', 'l', '{}', 1, 1, 1, 2, 2),
                    ('accounts', '1', 'l', '{}', 1, 1, 1, NULL, NULL), ('owners', '1', 'l', NULL, 1, 1, 1, 2, 2)",
        )
        .expect("rows");
        let reader = open_reader(place.path()).expect("a reader");
        let objects = look(&reader).expect("a summary").objects;
        let expected = [("accounts", 1), ("bills", 1)];
        assert_eq!(
            objects,
            expected
                .map(|(name, count)| (name.to_owned(), count))
                .into()
        );
        let plan: Vec<String> = reader
            .prepare(&format!("EXPLAIN QUERY PLAN {LIVE_OBJECTS}"))
            .and_then(|mut plan| plan.query_map([], |row| row.get(3))?.collect())
            .expect("a plan");
        let reads = |step: &&String| step.contains(" objects") || step.contains(" gone");
        assert!(
            plan.iter()
                .filter(reads)
                .all(|step| step.contains("USING COVERING INDEX")
                    || step.contains("INDEX objects_deleted")),
            "{plan:#?}"
        );
    }
}

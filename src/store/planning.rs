//! The result of planning: events, wishes, tombstones, the state of links and consents, and the cursor, in one
//! transaction. The decisions were made before.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{OptionalExtension, Transaction, params};

use super::{alive, consents, erasing, links, objects, problems, work};
use crate::catalog::{CONSENTS, LINKS};
use crate::database::Reader;
use crate::drain;
use crate::drain::links::Link;
use crate::drain::plan::Planned;
use crate::drain::work::{Key, Wish, Work};
use crate::system::clock::UnixMs;
use crate::webhook::Seq;

/// Keeps the events, moves links and consents, marks what is deleted and what is to be fetched, and moves the cursor to the
/// newest of them; whoever was let in has no authorization problem any more. `due` is when the work may begin. Doing it
/// twice changes nothing.
pub(super) fn apply(
    transaction: &Transaction<'_>,
    planned: &[Planned],
    now: UnixMs,
    due: UnixMs,
) -> rusqlite::Result<()> {
    let mut wished = Wished::default();
    let mut known = Known::of(transaction, planned)?;
    for event in planned {
        if known.is_of_erased(event) {
            put_erased(transaction, event)?;
            continue;
        }
        put_event(transaction, event, known.planned.contains_key(&event.seq))?;
        for wish in &event.wishes {
            wished.add(wish.clone(), event.seq);
        }
        if let Some(link_id) = &event.envelope.link_id {
            hear_of_link(
                transaction,
                (event, link_id),
                &mut known,
                &mut wished,
                now,
                due,
            )?;
            hear_of_consents(transaction, (event, link_id), &mut known, &mut wished, now)?;
            if let Some(resource) = event.resource
                && !event.gone.is_empty()
            {
                objects::bury(transaction, resource, link_id, &event.gone, event.seq, now)?;
            }
        }
        problems::apply(transaction, event.retrieval.as_slice(), now)?;
    }
    wished.apply(transaction, due)?;
    let peers: BTreeSet<&String> = planned
        .iter()
        .filter_map(|event| event.authorized.as_ref())
        .collect();
    for peer in peers {
        let over = problems::Change::Close(problems::Kind::AuthorizationMismatch, peer.clone());
        problems::apply(transaction, &[over], now)?;
    }
    problems::expire(transaction, now)?;
    alive::note(transaction, now)?;
    let newest = planned
        .iter()
        .map(|event| event.seq)
        .max()
        .unwrap_or_default();
    transaction
        .prepare_cached("UPDATE meta SET value = max(value, ?1) WHERE key = 'planned_to'")?
        .execute([newest.0])
        .map(drop)
}

/// Wishes of several webhooks, so that a row of work that many of them ask for is written once.
#[derive(Default)]
struct Wished(BTreeMap<Key, Vec<(Seq, bool)>>);

impl Wished {
    fn add(&mut self, Wish { key, whole }: Wish, seq: Seq) {
        self.0.entry(key).or_default().push((seq, whole));
    }

    fn apply(self, transaction: &Transaction<'_>, due: UnixMs) -> rusqlite::Result<()> {
        for (key, seqs) in self.0 {
            let found = work::load(transaction, &key)?;
            let wished = seqs.iter().fold(found.clone(), |work, (seq, whole)| {
                Some(match work {
                    Some(work) => work.wished(*seq, *whole, due),
                    None => {
                        let (key, whole) = (key.clone(), *whole);
                        Work::new(Wish { key, whole }, *seq, due)
                    }
                })
            });
            match wished {
                Some(work) if found.as_ref() != Some(&work) => work::save(transaction, &work)?,
                _ => {}
            }
        }
        Ok(())
    }
}

/// Marks one thing as wanted by the webhook `seq`; with `only_new`, when nothing is known of it yet.
pub(super) fn wish(
    transaction: &Transaction<'_>,
    wish: Wish,
    seq: Seq,
    due: UnixMs,
    only_new: bool,
) -> rusqlite::Result<()> {
    if only_new && work::load(transaction, &wish.key)?.is_some() {
        return Ok(());
    }
    let mut wished = Wished::default();
    wished.add(wish, seq);
    wished.apply(transaction, due)
}

fn hear_of_link<'a>(
    transaction: &Transaction<'_>,
    (event, link_id): (&Planned, &'a str),
    known: &mut Known<'a>,
    wished: &mut Wished,
    now: UnixMs,
    due: UnixMs,
) -> rusqlite::Result<()> {
    let Some(said) = &event.link else {
        return Ok(());
    };
    let known = known.links.entry(link_id).or_default();
    let before = match known.state.take() {
        Some(before) => before,
        None => links::load(transaction, link_id)?,
    };
    let moved = drain::links::heard(before.clone(), said, event.seq, now);
    if let Some(after) = &moved.link {
        links::save(transaction, link_id, before.as_ref(), after, now, due)?;
    }
    if moved.look {
        wished.add(record(link_id, LINKS.name, link_id), event.seq);
    }
    known.state = Some(moved.link);
    Ok(())
}

/// What is said about a consent; and data of a link whose consent seemed to end means that its record may say more.
fn hear_of_consents<'a>(
    transaction: &Transaction<'_>,
    (event, link_id): (&Planned, &'a str),
    known: &mut Known<'a>,
    wished: &mut Wished,
    now: UnixMs,
) -> rusqlite::Result<()> {
    if let Some(said) = &event.consent {
        let before = consents::load(transaction, &said.consent_id)?;
        let after = drain::consents::heard(before.clone(), said, event.seq, now);
        consents::save(transaction, &said.consent_id, before.as_ref(), &after, now)?;
        known
            .links
            .values_mut()
            .for_each(|link| link.in_doubt = None);
    }
    if let Some(drain::links::Said::Works(_)) = event.link {
        let known = known.links.entry(link_id).or_default();
        let in_doubt = match known.in_doubt.take() {
            Some(in_doubt) => in_doubt,
            None => consents::in_doubt(transaction, link_id)?,
        };
        for consent_id in &in_doubt {
            wished.add(record(link_id, CONSENTS.name, consent_id), event.seq);
        }
        known.in_doubt = Some(in_doubt);
    }
    Ok(())
}

fn record(link_id: &str, resource: &str, id: &str) -> Wish {
    let key = Key {
        link_id: link_id.to_owned(),
        resource: resource.to_owned(),
        object_id: id.to_owned(),
    };
    Wish { key, whole: false }
}

/// Notes by which catalog everything up to the cursor was planned.
pub(super) fn planned_by(transaction: &Transaction<'_>, catalog: &str) -> rusqlite::Result<()> {
    transaction
        .execute(
            "INSERT OR REPLACE INTO meta VALUES ('catalog', ?1)",
            [catalog],
        )
        .map(drop)
}

/// The catalog that was noted last.
///
/// # Errors
/// When SQLite cannot read.
pub fn catalog(reader: &Reader) -> rusqlite::Result<Option<String>> {
    reader
        .query_row("SELECT value FROM meta WHERE key = 'catalog'", [], |row| {
            row.get(0)
        })
        .optional()
}

/// Webhooks after `from` that were unknown when they were planned, oldest first, `limit` at most.
///
/// # Errors
/// When SQLite cannot read.
pub fn unknown_after(reader: &Reader, from: Seq, limit: u32) -> rusqlite::Result<Vec<Seq>> {
    reader
        .prepare_cached(
            "SELECT seq FROM events WHERE action = 'unknown' AND seq > ?1 ORDER BY seq LIMIT ?2",
        )?
        .query_map(params![from.0, limit], |row| row.get(0).map(Seq))?
        .collect()
}

/// Whether anything was planned where these webhooks are: most often all of them are new.
fn is_any_planned(transaction: &Transaction<'_>, planned: &[Planned]) -> rusqlite::Result<bool> {
    let seqs = planned.iter().map(|event| event.seq.0);
    transaction
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM events WHERE seq BETWEEN ?1 AND ?2)")?
        .query_row([seqs.clone().min(), seqs.max()], |row| row.get(0))
}

/// What was decided about a webhook, if it was planned before.
fn action(transaction: &Transaction<'_>, seq: Seq) -> rusqlite::Result<Option<String>> {
    transaction
        .prepare_cached("SELECT action FROM events WHERE seq = ?1")?
        .query_row([seq.0], |row| row.get(0))
        .optional()
}

/// What the file says about a batch of webhooks before it is kept.
struct Known<'a> {
    /// What was decided about those that were planned before.
    planned: BTreeMap<Seq, String>,
    /// Their links: many webhooks of a batch are about the same few.
    links: BTreeMap<&'a str, OfLink>,
}

/// What the file says about a link by now, as far as anybody asked.
#[derive(Default)]
struct OfLink {
    /// Whether it was erased here.
    is_erased: bool,
    /// Its row, if it has one.
    state: Option<Option<Link>>,
    /// Its consents that are in doubt.
    in_doubt: Option<Vec<String>>,
}

impl<'a> Known<'a> {
    fn of(transaction: &Transaction<'_>, planned: &'a [Planned]) -> rusqlite::Result<Self> {
        let mut planned_before = BTreeMap::new();
        if is_any_planned(transaction, planned)? {
            for event in planned {
                planned_before.extend(action(transaction, event.seq)?.map(|was| (event.seq, was)));
            }
        }
        let mut links = BTreeMap::<&str, OfLink>::new();
        let of_links = planned
            .iter()
            .filter_map(|event| event.envelope.link_id.as_deref());
        for link_id in of_links {
            if !links.contains_key(link_id) {
                let is_erased = erasing::is_erased(transaction, link_id)?;
                let link = OfLink {
                    is_erased,
                    ..OfLink::default()
                };
                links.insert(link_id, link);
            }
        }
        Ok(Self {
            planned: planned_before,
            links,
        })
    }

    /// Whether it is about a link that was erased here, or was erased itself before it was planned.
    fn is_of_erased(&self, event: &Planned) -> bool {
        let link = event.envelope.link_id.as_deref();
        link.is_some_and(|link| self.links.get(link).is_some_and(|link| link.is_erased))
            || self.planned.get(&event.seq).map(String::as_str) == Some("erased")
    }
}

/// A late webhook does not bring a person back: that there was one stays, what it said does not.
fn put_erased(transaction: &Transaction<'_>, event: &Planned) -> rusqlite::Result<()> {
    erasing::empty(transaction, &[event.seq])?;
    transaction
        .prepare_cached(
            "INSERT INTO events (seq, type, code, process_type, action) VALUES (?1, ?2, ?3, ?4, 'erased')
             ON CONFLICT (seq) DO UPDATE
             SET webhook_id = NULL, link_id = NULL, external_id = NULL, request_id = NULL, action = 'erased', resource = NULL",
        )?
        .execute(params![
            event.seq.0,
            event.envelope.kind,
            event.envelope.code,
            event.envelope.process_type
        ])
        .map(drop)
}

/// One that was planned before is replaced. Others are not: a statement that may replace a row keeps a journal of its own.
fn put_event(
    transaction: &Transaction<'_>,
    event: &Planned,
    was_planned: bool,
) -> rusqlite::Result<()> {
    let envelope = &event.envelope;
    if was_planned {
        transaction
            .prepare_cached("DELETE FROM events WHERE seq = ?1")?
            .execute([event.seq.0])?;
    }
    transaction
        .prepare_cached(
            "INSERT INTO events (seq, webhook_id, type, code, process_type, link_id, external_id, request_id,
                                 action, resource, duplicate_of)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        )?
        .execute(params![
            event.seq.0,
            envelope.webhook_id,
            envelope.kind,
            envelope.code,
            envelope.process_type,
            envelope.link_id,
            envelope.external_id,
            envelope.request_id,
            event.action.name(),
            event.resource,
            event.duplicate_of.map(|seq| seq.0),
        ])
        .map(drop)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rusqlite::Connection;
    use rusqlite::types::Value;
    use tempfile::TempDir;

    use super::*;
    use crate::database::{StateDirectory, open_writer};
    use crate::drain::plan::plan;
    use crate::store::VIEWS;

    const LINKS: [&str; 2] = [
        "16f68516-bcbc-4cf7-b815-c500d4200001",
        "16f68516-bcbc-4cf7-b815-c500d4200002",
    ];
    const CONSENT: &str = "0a5d7f9e-6f0c-4c25-9d3a-000000000001";
    const OBJECT: &str = "0a5d7f9e-6f0c-4c25-9d3a-000000000002";
    /// What can be heard of a link and of its consent, and data.
    const HEARD: [(&str, &str); 8] = [
        ("BILLS", "historical_update"),
        ("TRANSACTIONS", "transactions_deleted"),
        ("LINK", "invalid_credentials"),
        ("LINK", "token_required"),
        ("LINK", "link_deleted"),
        ("CONSENT", "consent_expired"),
        ("CONSENT", "consent_revoked"),
        ("CONSENT", "openfinance_consent_about_to_expire"),
    ];

    fn heard(seq: i64, (link, which): (usize, usize)) -> Planned {
        let (link, (kind, code)) = (LINKS[link], HEARD[which]);
        let body = format!(
            r#"{{"webhook_type":"{kind}","webhook_code":"{code}","link_id":"{link}","data":{{"consent_id":"{CONSENT}","deleted_transactions":["{OBJECT}"]}}}}"#
        );
        plan(Seq(seq), "127.0.0.1", &body)
    }

    fn file() -> (TempDir, StateDirectory, Connection) {
        let place = tempfile::tempdir().expect("a temporary directory");
        let directory = StateDirectory::lock(place.path()).expect("a state directory");
        let connection = open_writer(&directory, VIEWS).expect("a file");
        (place, directory, connection)
    }

    fn keep(connection: &mut Connection, planned: &[Planned]) {
        let transaction = connection.transaction().expect("a transaction");
        apply(&transaction, planned, UnixMs(1_000), UnixMs(2_000)).expect("a plan");
        transaction.commit().expect("a commit");
    }

    /// All that planning writes.
    fn kept(connection: &Connection) -> Vec<Vec<Value>> {
        let tables = ["events", "links", "consents", "work", "objects", "problems"];
        let rows = tables.into_iter().flat_map(|table| {
            let mut all = connection
                .prepare(&format!("SELECT * FROM {table} ORDER BY 1, 2, 3"))
                .expect("a table");
            let columns = all.column_count();
            all.query_map([], |row| (0..columns).map(|at| row.get(at)).collect())
                .expect("rows")
                .collect::<rusqlite::Result<Vec<Vec<Value>>>>()
                .expect("rows")
        });
        rows.collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_batch_leads_to_what_its_webhooks_lead_to_one_by_one(
            heard_of in proptest::collection::vec((0..LINKS.len(), 0..HEARD.len()), 1..12)
        ) {
            let planned: Vec<_> = (1..).zip(heard_of).map(|(seq, one)| heard(seq, one)).collect();
            let (_together, _kept_for, mut together) = file();
            keep(&mut together, &planned);
            let (_alone, _kept_for, mut alone) = file();
            for one in &planned {
                keep(&mut alone, std::slice::from_ref(one));
            }
            prop_assert!(!kept(&alone).is_empty());
            prop_assert_eq!(kept(&together), kept(&alone));
        }
    }
}

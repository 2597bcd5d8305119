//! `erase`: removes everything that is kept of a link, for good, also from free pages and the WAL. What stays is that the
//! link was erased, when, and how much went; whatever comes about it later is not kept.

use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use super::{Failed, Operator};
use crate::database::Reader;
use crate::fetch::Api;
use crate::journal;
use crate::limits::{ERASE_AGAIN, PLAN_BYTES_MAX, PLAN_ROWS_MAX};
use crate::notices::{Notice, Notices};
use crate::store;
use crate::store::erasing::{self, Holdings};
use crate::store::salvage;
use crate::webhook::{self, Envelope, Seq};

/// Which link.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// Its id.
    pub link: String,
}

/// What is, or would be, removed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Whether it was done, or is only shown.
    pub done: bool,
    /// The link.
    pub link: String,
    /// What was, or is, kept of it.
    pub removed: Holdings,
    /// Whether nothing of it is left in the WAL. A program that reads an older state of the file keeps it there.
    pub wal_emptied: bool,
}

/// What would be removed.
///
/// # Errors
/// When the file cannot be read.
pub fn look(reader: &Reader, order: &Order) -> Result<Report, Failed> {
    let link = webhook::normal(order.link.clone());
    let mut removed = erasing::holdings(reader, &link).map_err(Failed::file)?;
    removed.deliveries += unplanned(reader, &link)?.len() as u64;
    Ok(Report {
        done: false,
        link,
        removed,
        wal_emptied: false,
    })
}

/// The webhooks about the link that were not planned yet, and those that were copied from a damaged file before what they
/// led to.
fn unplanned(reader: &Reader, link: &str) -> Result<Vec<Seq>, Failed> {
    let mut found = copied(reader, link)?;
    let mut cursor = store::planned_to(reader).map_err(Failed::file)?;
    loop {
        let rows =
            journal::after(reader, cursor, PLAN_ROWS_MAX, PLAN_BYTES_MAX).map_err(Failed::file)?;
        let Some(last) = rows.last() else {
            return Ok(found);
        };
        cursor = last.seq;
        let about = rows.iter().filter(|row| names(&row.body, link));
        found.extend(about.map(|row| row.seq));
    }
}

fn copied(reader: &Reader, link: &str) -> Result<Vec<Seq>, Failed> {
    let (mut cursor, mut found) = (Seq(0), Vec::new());
    loop {
        let seqs = salvage::without_event(reader, cursor, PLAN_ROWS_MAX).map_err(Failed::file)?;
        let Some(last) = seqs.last() else {
            return Ok(found);
        };
        cursor = *last;
        for seq in seqs {
            let row = journal::at(reader, seq).map_err(Failed::file)?;
            found.extend(row.filter(|row| names(&row.body, link)).map(|row| row.seq));
        }
    }
}

fn names(body: &str, link: &str) -> bool {
    Envelope::parse(body).is_ok_and(|envelope| envelope.link_id.as_deref() == Some(link))
}

/// Removes it.
pub(super) async fn act<A: Api>(operator: &Operator<A>, order: &Order) -> Result<Report, Failed> {
    let _alone = operator.erasing.lock().await;
    remove(operator, webhook::normal(order.link.clone())).await
}

/// Finishes, now and then, what was begun and interrupted: by a kill, a full disk, or a reader of an older state. Goes on
/// for ever.
pub(super) async fn finish<A: Api>(operator: &Operator<A>, notices: &Notices) {
    loop {
        {
            let _alone = operator.erasing.lock().await;
            let reader = operator.reader().ok();
            let links = reader.and_then(|reader| erasing::unfinished(&reader).ok());
            for link in links.into_iter().flatten() {
                let outcome = remove(operator, link.clone()).await;
                notices.say(finished(&link, outcome));
            }
        }
        sleep(ERASE_AGAIN).await;
    }
}

fn finished(link: &str, outcome: Result<Report, Failed>) -> Notice {
    let unfinished = format!("the erasure of link {link} is not finished");
    match outcome {
        Ok(report) if report.wal_emptied => Notice::News(format!(
            "finished the erasure of link {link}, which was interrupted"
        )),
        Ok(_) => Notice::Warning(format!(
            "{unfinished}: a program that reads the file keeps older pages in gateway.db-wal; close it, it is tried again"
        )),
        Err(failed) => Notice::Warning(format!("{unfinished} and is tried again: {failed}")),
    }
}

async fn remove<A: Api>(operator: &Operator<A>, link: String) -> Result<Report, Failed> {
    let not_all = |error| {
        Failed(format!(
            "not everything could be erased: {error}; do it again, which removes the rest"
        ))
    };
    let now = operator.clock.wall();
    let store = &operator.store;
    let begun = store.begin_erasing(link.clone(), now).await;
    let mut removed = begun.map_err(not_all)?;
    // Only now, when nothing of it comes any more that is not emptied.
    let unplanned = unplanned(&operator.reader()?, &link)?;
    removed.add(store.erase(&link, unplanned).await.map_err(not_all)?);
    operator.store.scrub().await.map_err(not_all)?;
    let wal_emptied = operator.writer.truncate_wal().await.map_err(not_all)?;
    if wal_emptied {
        let now = operator.clock.wall();
        let noted = operator.store.erased(link.clone(), now).await;
        noted.map_err(not_all)?;
    }
    Ok(Report {
        done: true,
        link,
        removed,
        wal_emptied,
    })
}

//! `erase`: removes everything that is kept of a link, for good, also from free pages and the WAL. What stays is that the
//! link was erased, when, and how much went; whatever comes about it later is not kept.

use serde::{Deserialize, Serialize};

use super::{Failed, Operator};
use crate::database::Reader;
use crate::fetch::Api;
use crate::journal;
use crate::limits::{PLAN_BYTES_MAX, PLAN_ROWS_MAX};
use crate::store;
use crate::store::erasing::{self, Holdings};
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

/// The webhooks about the link that were not planned yet.
fn unplanned(reader: &Reader, link: &str) -> Result<Vec<Seq>, Failed> {
    let mut cursor = store::planned_to(reader).map_err(Failed::file)?;
    let mut found = Vec::new();
    loop {
        let rows =
            journal::after(reader, cursor, PLAN_ROWS_MAX, PLAN_BYTES_MAX).map_err(Failed::file)?;
        let Some(last) = rows.last() else {
            return Ok(found);
        };
        cursor = last.seq;
        let names_it = |body: &str| {
            Envelope::parse(body).is_ok_and(|envelope| envelope.link_id.as_deref() == Some(link))
        };
        found.extend(
            rows.iter()
                .filter(|row| names_it(&row.body))
                .map(|row| row.seq),
        );
    }
}

/// Removes it.
pub(super) async fn act<A: Api>(operator: &Operator<A>, order: &Order) -> Result<Report, Failed> {
    let link = webhook::normal(order.link.clone());
    let unplanned = unplanned(&operator.reader()?, &link)?;
    let not_all = |error| {
        Failed(format!(
            "not everything could be erased: {error}; do it again, which removes the rest"
        ))
    };
    let now = operator.clock.wall();
    let removed = operator
        .store
        .erase(&link, unplanned, now)
        .await
        .map_err(not_all)?;
    operator.store.scrub().await.map_err(not_all)?;
    let wal_emptied = operator.writer.truncate_wal().await.map_err(not_all)?;
    Ok(Report {
        done: true,
        link,
        removed,
        wal_emptied,
    })
}

//! `retry`: makes work that waits or has failed due at once. The budget stays as it is, and what a link holds up stays
//! held up.

use serde::{Deserialize, Serialize};

use super::{Failed, Name, Operator, state};
use crate::catalog::{self, CONSENTS, LINKS};
use crate::database::Reader;
use crate::drain::work::Key;
use crate::fetch::{Api, Class};
use crate::limits::{ORDER_ROWS_MAX, REPORT_ROWS_MAX};
use crate::store::Times;
use crate::store::orders::{self, Asked};
use crate::store::work::{self, Selection};
use crate::webhook::{self, Seq};

/// Which work; what is not given does not narrow it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Order {
    /// What this webhook asked for.
    pub event: Option<i64>,
    /// Of this link.
    pub link: Option<String>,
    /// Of this resource.
    pub resource: Option<String>,
    /// Whose last failure is of this class.
    pub class: Option<String>,
    /// Also what is fresh.
    pub fetched: bool,
}

/// What is, or would be, taken up.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Whether it was done, or is only shown.
    pub done: bool,
    /// The work, as it was before.
    pub work: Vec<Row>,
    /// Whether there is more than that, which is left as it is.
    pub more: bool,
}

/// One piece of work.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    /// What.
    #[serde(flatten)]
    pub name: Name,
    /// fresh, waiting, retrying or failed.
    pub state: String,
    /// Failures in a row.
    pub attempts: u32,
    /// What the last failure said.
    pub error: Option<String>,
    /// The state of its link, when that holds it up all the same.
    pub held_by_link: Option<String>,
}

/// What would be taken up.
///
/// # Errors
/// When nothing of that name is known, or the file cannot be read.
pub fn look(reader: &Reader, order: &Order) -> Result<Report, Failed> {
    check(reader, order)?;
    let selection = Selection {
        event: order.event.map(Seq),
        link_id: order.link.clone().map(webhook::normal),
        resource: order.resource.clone(),
        class: order.class.clone(),
        fetched: order.fetched,
    };
    let mut found =
        work::selected(reader, &selection, REPORT_ROWS_MAX + 1).map_err(Failed::file)?;
    let more = found.len() > REPORT_ROWS_MAX;
    found.truncate(REPORT_ROWS_MAX);
    let rows = found.into_iter().map(|(work, link)| Row {
        state: state(&work).to_owned(),
        attempts: work.attempts,
        error: work
            .last_failure
            .filter(|_| work.wanted > work.fetched)
            .map(|failure| failure.text),
        held_by_link: link.filter(|status| holds_up(status, &work.key)),
        name: work.key.into(),
    });
    Ok(Report {
        done: false,
        work: rows.collect(),
        more,
    })
}

/// Of a link that needs its user, or is gone, only records are read.
fn holds_up(status: &str, key: &Key) -> bool {
    status != "valid" && ![LINKS.name, CONSENTS.name].contains(&key.resource.as_str())
}

fn check(reader: &Reader, order: &Order) -> Result<(), Failed> {
    if let Some(name) = order.resource.as_deref()
        && catalog::resource_named(name).is_none()
    {
        let known: Vec<_> = catalog::everything()
            .map(|resource| resource.name)
            .collect();
        return Err(Failed(format!(
            "{name} is no resource; known are {}",
            known.join(", ")
        )));
    }
    if let Some(name) = order.class.as_deref()
        && Class::named(name).is_none()
    {
        let known = Class::ALL.map(Class::name);
        return Err(Failed(format!(
            "{name} is no class of errors; known are {}",
            known.join(", ")
        )));
    }
    let Some(seq) = order.event else {
        return Ok(());
    };
    match orders::asked(reader, Seq(seq)).map_err(Failed::file)? {
        Asked::Planned => Ok(()),
        Asked::Unplanned => Err(Failed(format!(
            "webhook {seq} was not planned yet, so there is nothing to take up; the gateway does it by itself when it runs"
        ))),
        Asked::Never => Err(Failed(format!(
            "there is no webhook {seq}; `belvo-gateway events list` shows the numbers"
        ))),
    }
}

/// Takes it up.
pub(super) async fn act<A: Api>(operator: &Operator<A>, order: &Order) -> Result<Report, Failed> {
    let report = look(&operator.reader()?, order)?;
    for rows in report.work.chunks(ORDER_ROWS_MAX) {
        let keys = rows.iter().map(|row| row.name.clone().into()).collect();
        let now = Times::of(&operator.clock);
        operator
            .store
            .retry(keys, order.fetched, now)
            .await
            .map_err(Failed::file)?;
    }
    operator.ordered.notify_one();
    Ok(Report {
        done: true,
        ..report
    })
}

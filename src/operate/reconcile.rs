//! `reconcile`: lists the links at Belvo, finds those whose data moved without a webhook that says so, and marks their
//! lists as wanted. It only ever asks for the list of links; what is marked is fetched by the drain, within the budget.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Failed, Name, Operator};
use crate::catalog::{self, CONSENTS, LINKS, Shape};
use crate::database::Reader;
use crate::drain::links::{self, Status};
use crate::drain::trouble;
use crate::fetch::{self, Api, Cause, Error, LinkRecord, List};
use crate::limits::{
    COLLECTED_WAIT, LINK_PAGES_MAX, LISTING_ROUNDS_MAX, ORDER_ROWS_MAX, REPORT_ROWS_MAX,
};
use crate::store::orders::{self, Known};
use crate::store::{Kept, Times};
use crate::system::clock::UnixMs;
use crate::system::times;
use crate::webhook::{self, Seq};

/// How to compare.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Order {
    /// Only links that Belvo got through to since this time, in milliseconds since 1970.
    pub since_ms: Option<i64>,
    /// Change nothing.
    pub dry_run: bool,
    /// Mark as deleted what the complete lists do not hold any more.
    pub tombstone_missing: bool,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Whether it was done, or is only shown.
    pub done: bool,
    /// Links in Belvo's list.
    pub links: u64,
    /// Whether that list agreed with its own count; only then is a link that is not in it looked at.
    pub agreed: bool,
    /// What was, or would be, marked as wanted.
    pub marked: Vec<Marked>,
    /// How much more than that.
    pub marked_more: u64,
    /// Links whose state is, or would be, another now.
    pub changed: Vec<Changed>,
    /// Links that the file knows and Belvo's list does not hold: their records are read.
    pub gone: Vec<String>,
    /// What was left as it is, by reason.
    pub left: BTreeMap<String, u64>,
}

/// A list that is wanted again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marked {
    /// The list.
    #[serde(flatten)]
    pub name: Name,
    /// Why.
    pub why: String,
}

/// A link in another state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// The link.
    pub link_id: String,
    /// Its state before; none when it was not known.
    pub before: Option<String>,
    /// Its state by Belvo's list.
    pub now: String,
}

/// A link as Belvo lists it.
#[derive(Clone, Debug)]
struct Listed {
    record: LinkRecord,
    body: String,
}

/// Belvo's list of links.
#[derive(Debug, Default)]
struct Links {
    links: BTreeMap<String, Listed>,
    agreed: bool,
}

/// Compares, and marks what moved.
pub(super) async fn act<A: Api>(operator: &Operator<A>, order: &Order) -> Result<Report, Failed> {
    let Ok(_alone) = operator.reconciling.try_lock() else {
        return Err(Failed(
            "the gateway is comparing with Belvo already; wait for that to end".to_owned(),
        ));
    };
    let Some(api) = operator.api.borrow().clone() else {
        return Err(Failed(
            "there are no API keys, so Belvo cannot be asked; give belvo-secret-id and belvo-secret-password as \
             credentials, or name their files in [api]"
                .to_owned(),
        ));
    };
    // Before the first request: a webhook that comes meanwhile says more than the list.
    let known = orders::known(&operator.reader()?).map_err(Failed::file)?;
    let listed = links(operator, &*api).await.map_err(|error| {
        // What refuses one request refuses all of them, the drain's too.
        if let Some(pause) = trouble::pause(&error, 0) {
            operator.budget.pause(pause);
        }
        let next_step = error.next_step();
        Failed(format!(
            "Belvo's list of links could not be read: {error}; {next_step}"
        ))
    })?;
    let mut report = compare(&known, &listed, order.since_ms.map(UnixMs));
    if !order.dry_run {
        apply(operator, order, &known, listed, &mut report).await?;
        report.done = true;
    }
    report.marked_more = report.marked.len().saturating_sub(REPORT_ROWS_MAX) as u64;
    report.marked.truncate(REPORT_ROWS_MAX);
    report.gone.truncate(REPORT_ROWS_MAX);
    report.changed.truncate(REPORT_ROWS_MAX);
    Ok(report)
}

/// Reads the whole list, again when it did not agree with its own count.
async fn links<A: Api>(operator: &Operator<A>, api: &A) -> Result<Links, Error> {
    let list = List {
        path: LINKS.path.to_owned(),
        ..List::default()
    };
    let mut read = Links::default();
    for _ in 0..LISTING_ROUNDS_MAX {
        read = round(operator, api, &list).await?;
        if read.agreed {
            break;
        }
    }
    Ok(read)
}

async fn round<A: Api>(operator: &Operator<A>, api: &A, list: &List) -> Result<Links, Error> {
    let (mut links, mut counts, mut without_id) = (BTreeMap::new(), BTreeSet::new(), 0);
    for number in 1..=LINK_PAGES_MAX {
        let _turn = operator.budget.take().await;
        let page = match fetch::page(api, list, number, LINKS.page_size).await {
            // The list shrank below this page while it was read.
            Err(error) if number > 1 && error.is_not_found() => {
                return Ok(Links {
                    links,
                    agreed: false,
                });
            }
            other => other?,
        };
        counts.insert(page.count);
        without_id += page.without_id;
        for item in page.items() {
            let listed = Listed {
                record: LinkRecord::read(item.body),
                body: item.body.to_owned(),
            };
            links.insert(webhook::normal(item.id.to_owned()), listed);
        }
        let seen = links.len() as u64 + without_id;
        if !page.more {
            let agreed = counts.len() == 1 && counts.contains(&seen);
            return Ok(Links { links, agreed });
        }
    }
    Err(Error::new(&list.path, LINK_PAGES_MAX, Cause::Endless))
}

/// Decides what is to be marked and why, and what is left and why.
fn compare(known: &Known, listed: &Links, since: Option<UnixMs>) -> Report {
    let mut report = Report {
        links: listed.links.len() as u64,
        agreed: listed.agreed,
        ..Report::default()
    };
    for (link_id, link) in &listed.links {
        let before = known.links.get(link_id).and_then(|(status, _)| *status);
        if before == Some(Status::Erased) {
            report.leave("the link was erased here", 1);
            continue;
        }
        report.changed.extend(change(link_id, before, &link.record));
        let lists = lists(known, link_id, &link.record);
        let accessed = link.record.last_accessed_at.as_deref();
        let Some(at) = accessed.and_then(times::timestamp) else {
            let why = match accessed {
                None => "Belvo never got through to the institution",
                Some(_) => "last_accessed_at is no time",
            };
            report.leave(why, lists.len());
            continue;
        };
        if since.is_some_and(|since| at < since) {
            report.leave("not accessed since then", lists.len());
            continue;
        }
        for resource in lists {
            let name = Name {
                link_id: link_id.clone(),
                resource,
                object_id: String::new(),
            };
            let list = (link_id.clone(), name.resource.clone());
            match left(at, known.told.get(&list), known.fetched.get(&list)) {
                Some(why) => report.leave(why, 1),
                None => report.marked.push(Marked {
                    why: why(at, known.told.get(&list)),
                    name,
                }),
            }
        }
    }
    if listed.agreed {
        report.gone = gone(known, listed);
    }
    report
}

impl Report {
    fn leave(&mut self, why: &str, count: usize) {
        if count > 0 {
            *self.left.entry(why.to_owned()).or_default() += count as u64;
        }
    }
}

/// Why a list is left as it is, when Belvo last got through to the institution at `at`.
fn left(
    at: UnixMs,
    told: Option<&UnixMs>,
    fetched: Option<&Option<UnixMs>>,
) -> Option<&'static str> {
    if told.is_some_and(|told| *told >= at) {
        return Some("a webhook told");
    }
    let began = fetched.copied().flatten();
    began
        .is_some_and(|began| began >= at.plus(COLLECTED_WAIT))
        .then_some("fetched since")
}

fn why(at: UnixMs, told: Option<&UnixMs>) -> String {
    match told {
        Some(told) => format!("accessed at {at}, last webhook at {told}"),
        None => format!("accessed at {at}, no webhook"),
    }
}

/// What Belvo collects for the link as far as the catalog knows it, and what was ever asked for.
fn lists(known: &Known, link_id: &str, record: &LinkRecord) -> BTreeSet<String> {
    let named = record.fetch_resources.iter().flatten();
    let collected = named
        .filter_map(|kind| catalog::resource_of_kind(kind))
        .map(|resource| resource.name.to_owned());
    let first = (link_id.to_owned(), String::new());
    let worked = known
        .fetched
        .range(first..)
        .take_while(|((link, _), _)| link == link_id)
        .map(|((_, resource), _)| resource.clone());
    collected
        .chain(worked)
        .filter(|name| ![LINKS.name, CONSENTS.name].contains(&name.as_str()))
        .filter(|name| {
            catalog::resource_named(name).is_some_and(|resource| resource.shape == Shape::List)
        })
        .collect()
}

fn change(link_id: &str, before: Option<Status>, record: &LinkRecord) -> Option<Changed> {
    let now = record.status.as_deref().and_then(Status::named)?;
    (before != Some(now)).then(|| Changed {
        link_id: link_id.to_owned(),
        before: before.map(|status| status.name().to_owned()),
        now: now.name().to_owned(),
    })
}

/// Links of the file that should be in Belvo's list and are not.
fn gone(known: &Known, listed: &Links) -> Vec<String> {
    let there = |status: &Option<Status>| !matches!(status, Some(Status::Deleted | Status::Erased));
    known
        .links
        .iter()
        .filter(|(link_id, (status, _))| there(status) && !listed.links.contains_key(*link_id))
        .filter(|(link_id, _)| uuid::Uuid::try_parse(link_id).is_ok())
        .map(|(link_id, _)| link_id.clone())
        .collect()
}

/// Keeps the records, marks the lists, and ends the problem that the gateway was away.
async fn apply<A: Api>(
    operator: &Operator<A>,
    order: &Order,
    known: &Known,
    listed: Links,
    report: &mut Report,
) -> Result<(), Failed> {
    for (link_id, link) in listed.links {
        keep(operator, known, link_id, link).await?;
    }
    let marked = report.marked.iter().map(|marked| marked.name.clone());
    let records = report.gone.iter().map(|link_id| Name {
        link_id: link_id.clone(),
        resource: LINKS.name.to_owned(),
        object_id: link_id.clone(),
    });
    let names: Vec<Name> = marked.chain(records).collect();
    let mut ordered = BTreeSet::new();
    for names in names.chunks(ORDER_ROWS_MAX) {
        let keys = names.iter().cloned().map(Into::into).collect();
        let now = Times::of(&operator.clock);
        let done = operator
            .store
            .order(keys, order.tombstone_missing, now)
            .await;
        ordered.extend(done.map_err(Failed::file)?.into_iter().map(Name::from));
    }
    // A link may have been erased meanwhile.
    report
        .marked
        .retain(|marked| ordered.contains(&marked.name));
    operator.ordered.notify_one();
    // A link that moved may be among those that a list in doubt did not hold.
    if report.agreed {
        let since = order.since_ms.map(UnixMs);
        let made_up = operator.store.made_up(since, operator.clock.wall()).await;
        made_up.map_err(Failed::file)?;
    }
    Ok(())
}

/// Keeps the record of a link, and its state as far as no webhook outran the list.
async fn keep<A: Api>(
    operator: &Operator<A>,
    known: &Known,
    link_id: String,
    link: Listed,
) -> Result<(), Failed> {
    let then = known
        .links
        .get(&link_id)
        .map_or(Seq(0), |(_, newest)| *newest);
    let kept = Kept {
        institution: link.record.institution.clone(),
        last_accessed_at: link.record.last_accessed_at.clone(),
        body: link.body,
    };
    let (status, now) = (link.record.status, Times::of(&operator.clock));
    let read = move |link, newest| {
        let asked = links::Asked { then, now: newest };
        links::read(link, status.as_deref(), asked, now.wall)
    };
    operator
        .store
        .put_link(link_id, kept, now, read)
        .await
        .map_err(Failed::file)
}

/// How a list that was marked stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stand {
    /// Whether its fetch is still to be waited for.
    pub waits: bool,
    /// Why it was not fetched; it may be tried again by itself.
    pub error: Option<String>,
    /// The state of its link, when that holds it up.
    pub held_by_link: Option<String>,
    /// Whether it was fetched and never agreed with its own count, so that it is not known to be complete.
    pub doubtful: bool,
    /// Live objects of the file that the complete list does not hold.
    pub missing: Option<u64>,
}

impl Stand {
    /// Whether it was fetched.
    pub fn is_good(&self) -> bool {
        !self.waits && self.error.is_none() && self.held_by_link.is_none()
    }
}

/// How a list that was marked stands now. What was erased meanwhile is not waited for.
///
/// # Errors
/// When the file cannot be read.
pub fn stand(reader: &Reader, name: &Name) -> Result<Stand, Failed> {
    let found = orders::stands(reader, &name.clone().into()).map_err(Failed::file)?;
    let Some((work, link)) = found else {
        return Ok(Stand::default());
    };
    if !work.is_pending() {
        let doubtful = work.listed_at.is_none();
        return Ok(Stand {
            doubtful,
            // What an earlier list did not hold says nothing about this one.
            missing: work.missing.filter(|_| !doubtful),
            ..Stand::default()
        });
    }
    let held = link.filter(|status| *status != Status::Valid);
    let failed = work.attempts > 0 || work.blocked_by.is_some();
    let error = work.last_failure.filter(|_| failed && held.is_none());
    Ok(Stand {
        waits: held.is_none() && !failed,
        error: error.map(|failure| failure.text),
        held_by_link: held.map(|status| status.name().to_owned()),
        ..Stand::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fetch::Request;
    use crate::limits::{CREDENTIALS_WAIT, THROTTLED_WAIT};
    use crate::operate::tests::operator;
    use std::time::Duration;
    use tokio::time::Instant;

    const LINK: &str = "16f68516-bcbc-4cf7-b815-c500d4204e28";
    const HOUR: Duration = Duration::from_secs(3600);

    fn at() -> UnixMs {
        times::timestamp("2026-11-20T10:00:00Z").expect("a time")
    }

    fn listed(status: &str) -> Links {
        let body = format!(
            r#"{{"id":"{LINK}","status":"{status}","last_accessed_at":"2026-11-20T10:00:00.000000Z","fetch_resources":["ACCOUNTS","WEATHER"]}}"#
        );
        let link = Listed {
            record: LinkRecord::read(&body),
            body,
        };
        Links {
            links: BTreeMap::from([(LINK.to_owned(), link)]),
            agreed: true,
        }
    }

    fn list(resource: &str) -> (String, String) {
        (LINK.to_owned(), resource.to_owned())
    }

    fn marked(known: &Known, since: Option<UnixMs>) -> Vec<String> {
        let report = compare(known, &listed("valid"), since);
        report
            .marked
            .into_iter()
            .map(|marked| marked.name.resource)
            .collect()
    }

    #[test]
    fn what_moved_without_a_webhook_is_marked() {
        let known = Known::default();
        assert_eq!(marked(&known, None), ["accounts"]);
        assert_eq!(marked(&known, Some(at())), ["accounts"]);
        assert!(marked(&known, Some(at().plus(HOUR))).is_empty());
    }

    #[test]
    fn what_was_ever_asked_for_is_compared_too_but_no_records_and_single_objects() {
        let known = Known {
            fetched: BTreeMap::from([(list("bills"), None), (list("links"), None)]),
            ..Known::default()
        };
        assert_eq!(marked(&known, None), ["accounts", "bills"]);
    }

    #[test]
    fn what_a_webhook_told_or_a_later_fetch_has_seen_is_left() {
        let told = |told| Known {
            told: BTreeMap::from([(list("accounts"), told)]),
            ..Known::default()
        };
        assert!(marked(&told(at()), None).is_empty());
        assert_eq!(marked(&told(at().minus(HOUR)), None), ["accounts"]);
        let fetched = |began| Known {
            fetched: BTreeMap::from([(list("accounts"), Some(began))]),
            ..Known::default()
        };
        assert!(marked(&fetched(at().plus(HOUR)), None).is_empty());
        assert_eq!(marked(&fetched(at().plus(HOUR / 2)), None), ["accounts"]);
    }

    #[test]
    fn an_erased_link_is_never_marked_and_one_that_is_not_listed_is_looked_at() {
        let link = |status| Known {
            links: BTreeMap::from([(LINK.to_owned(), (Some(status), Seq(3)))]),
            ..Known::default()
        };
        let report = compare(&link(Status::Erased), &listed("valid"), None);
        assert!(report.marked.is_empty() && report.changed.is_empty());
        let nothing = Links {
            agreed: true,
            ..Links::default()
        };
        assert_eq!(compare(&link(Status::Valid), &nothing, None).gone, [LINK]);
        assert!(
            compare(&link(Status::Erased), &nothing, None)
                .gone
                .is_empty()
        );
        assert!(
            compare(&link(Status::Valid), &Links::default(), None)
                .gone
                .is_empty()
        );
    }

    /// A Belvo that refuses everything.
    struct Refusing(u16);

    impl Api for Refusing {
        async fn get(&self, request: &Request) -> Result<Vec<u8>, Error> {
            let (status, code) = (self.0, None);
            Err(Error::new(
                &request.path,
                request.page,
                Cause::Status { status, code },
            ))
        }
    }

    #[tokio::test]
    async fn who_is_throttled_or_refused_pauses_the_fetches_too() {
        for (status, pause) in [
            (429, THROTTLED_WAIT),
            (403, THROTTLED_WAIT),
            (401, CREDENTIALS_WAIT),
            (500, Duration::ZERO),
        ] {
            let began = Instant::now();
            let (_place, operator) = operator(Refusing(status), at());
            assert!(act(&operator, &Order::default()).await.is_err());
            let paused_until = operator.budget.paused_until();
            assert!(paused_until >= began + pause, "{status}");
            assert!(paused_until <= Instant::now() + pause, "{status}");
        }
    }

    #[test]
    fn a_status_that_changed_is_said() {
        let report = compare(&Known::default(), &listed("token_required"), None);
        assert_eq!(report.changed[0].now, "token_required");
    }
}

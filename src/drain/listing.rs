//! One listing read to its end: page after page, each stored as it comes, the last one together with the settled work.
//! Knows the API and the store; when it runs, and what follows a failure, is decided elsewhere.
//!
//! Belvo's listings are paged by number over a live table, so rows that come and go while we read shift the pages. The
//! distinct ids are therefore compared with Belvo's own count, and the count with itself from page to page, and the
//! listing is read again, a bounded number of times, until they agree. Every read is an upsert by id, so reading again
//! does no harm. What this cannot see, one object that goes and one that comes between the same two pages, the next whole
//! listing mends, a week later at most.

use std::collections::{BTreeSet, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::mem;

use super::job::{Done, Failed, Job, subject};
use super::work::{Extent, Fetch, Key, Proof, Wish};
use crate::catalog::{News, Shape};
use crate::database::open_reader;
use crate::fetch::{self, Api, Cause, Error, List, Page};
use crate::limits::{
    BURY_MAX, LISTING_PAGES_MAX, LISTING_ROUNDS_MAX, STORE_BYTES_MAX, STORE_OBJECTS_MAX,
};
use crate::store::objects::{self, Record, Tally};
use crate::store::problems::{Change, Kind, Problem};
use crate::store::{Settled, Times};
use crate::system::clock::UnixMs;

/// A listing that is being read.
pub(super) struct Listing<'a, A> {
    job: &'a Job<A>,
    list: List,
    extent: Extent,
    page_size: u32,
    done: Done,
    bytes: u64,
}

/// What one round has seen so far.
#[derive(Debug, Default)]
struct Round {
    /// Hashes of the distinct ids: a million of them must fit into the memory of a small box.
    seen: HashSet<u64>,
    hasher: RandomState,
    /// The ids themselves, where each object has a list of its own.
    ids: BTreeSet<String>,
    without_id: u64,
    foreign: u64,
    counts: HashSet<u64>,
    cut_short: bool,
}

impl Round {
    /// Whether the listing did not move while it was read: one count throughout, and as many distinct objects.
    fn agrees(&self) -> bool {
        let seen = self.seen.len() as u64 + self.without_id;
        !self.cut_short && self.counts.len() == 1 && self.counts.contains(&seen)
    }

    fn has(&self, id: &str) -> bool {
        self.seen.contains(&self.hasher.hash_one(id))
    }
}

/// What a listing that came to its end turned out to be.
struct End {
    proves: Proof,
    problems: Vec<Change>,
    wishes: Vec<Wish>,
}

impl<'a, A: Api> Listing<'a, A> {
    /// A listing at this path.
    pub(super) fn new(job: &'a Job<A>, path: String) -> Self {
        let (work, resource) = (&job.work, job.resource);
        let of_new = resource.news == News::Created && resource.shape == Shape::List;
        let extent = match of_new {
            true => work.extent(job.clock.wall()),
            false => Extent::Whole,
        };
        let beneath = resource.shape != Shape::List;
        Self {
            job,
            list: List {
                path,
                link_id: (!beneath).then(|| work.key.link_id.clone()),
                created_from: match extent {
                    Extent::Since(day) => Some(day.day()),
                    Extent::Whole => None,
                },
            },
            extent,
            page_size: work
                .page_size
                .unwrap_or(resource.page_size)
                .min(resource.page_size),
            done: Done::default(),
            bytes: 0,
        }
    }

    /// Reads the listing, stores it, settles its work.
    ///
    /// # Errors
    /// When the API or the file failed; what was stored until then stays, and the work stays pending.
    pub(super) async fn run(mut self) -> Result<Done, Failed> {
        let started_at = self.job.clock.wall();
        let mut rounds = 0;
        loop {
            let mut round = Round::default();
            let last = match self.round(&mut round).await {
                // Fewer objects a page make smaller pages; those already stored are found unchanged.
                Err(Failed::Api(Error {
                    cause: Cause::TooLarge,
                    ..
                })) if self.page_size > 1 => {
                    self.page_size = (self.page_size / 4).max(1);
                    continue;
                }
                other => other?,
            };
            rounds += 1;
            self.done.agreed = round.agrees();
            self.done.found = round.seen.len() as u64;
            if self.done.agreed || rounds >= LISTING_ROUNDS_MAX {
                return self.settle(last, round, started_at).await;
            }
            self.put(last).await?;
        }
    }

    /// Reads all pages once. Everything is stored but the last few objects, which come back.
    async fn round(&mut self, round: &mut Round) -> Result<Vec<Record>, Failed> {
        let mut held = Vec::new();
        for number in 1..=LISTING_PAGES_MAX {
            let turn = self.job.budget.take().await;
            let page = fetch::page(&*self.job.api, &self.list, number, self.page_size).await;
            drop(turn);
            let page = match page {
                // The listing shrank below this page while it was read.
                Err(error) if number > 1 && error.is_not_found() => {
                    round.cut_short = true;
                    return Ok(held);
                }
                other => other?,
            };
            self.done.pages += 1;
            self.bytes = self.bytes.max(page.bytes());
            round.counts.insert(page.count);
            round.without_id += page.without_id;
            self.note(round, &page);
            self.put_all_but_the_last(&mut held, &page).await?;
            if !page.more {
                return Ok(held);
            }
            if page.items().len() == 0 && page.without_id == 0 {
                round.cut_short = true;
                return Ok(held);
            }
        }
        Err(Error::new(&self.list.path, LISTING_PAGES_MAX, Cause::Endless).into())
    }

    fn note(&self, round: &mut Round, page: &Page) {
        for item in page.items() {
            round.seen.insert(round.hasher.hash_one(item.id));
            if self.job.resource.each.is_some() {
                round.ids.insert(item.id.to_owned());
            }
            round.foreign += u64::from(self.job.is_foreign(item.link_id));
        }
    }

    /// Cuts a page into short transactions; the last cut stays in `held`, to be stored with what follows it.
    async fn put_all_but_the_last(
        &mut self,
        held: &mut Vec<Record>,
        page: &Page,
    ) -> Result<(), Failed> {
        let mut bytes: usize = held.iter().map(|record| record.body.len()).sum();
        for item in page.items() {
            if held.len() >= STORE_OBJECTS_MAX || bytes >= STORE_BYTES_MAX {
                self.put(mem::take(held)).await?;
                bytes = 0;
            }
            bytes += item.body.len();
            held.push(self.job.record(item.id, item.link_id, item.body));
        }
        Ok(())
    }

    async fn put(&mut self, records: Vec<Record>) -> Result<(), Failed> {
        let tally = self.job.store.put(records, self.job.clock.wall()).await?;
        self.done.tally = mem::take(&mut self.done.tally).plus(tally);
        Ok(())
    }

    /// Stores the last objects and settles the work in one transaction.
    async fn settle(
        mut self,
        last: Vec<Record>,
        round: Round,
        started_at: UnixMs,
    ) -> Result<Done, Failed> {
        let end = self.end(&round).await?;
        let job = self.job;
        let now = Times::of(&job.clock);
        let (met, found, before) = (job.work.wanted, self.done.found, self.done.tally.clone());
        let (page_size, page_size_max, bytes) =
            (self.page_size, job.resource.page_size, self.bytes);
        let subject = subject(&job.work.key);
        let settle = move |current: crate::store::Current| {
            let tally = before.plus(current.tally.clone());
            let fetch = Fetch {
                started_at,
                finished_at: now.wall,
                found,
                changed: tally.written(),
                proves: end.proves,
            };
            let work = current.work.clone().fetched(met, fetch, now.due);
            let work = work.paged(page_size, page_size_max, bytes, found.min(page_size.into()));
            let complete = matches!(end.proves, Proof::Whole { .. });
            let returned = if complete {
                tally.returned
            } else {
                BTreeSet::new()
            };
            let mut problems = end.problems;
            problems.extend(said_again(&subject, returned.len()));
            Settled {
                problems,
                wishes: end.wishes,
                returned,
                ..Settled::work(current, work)
            }
        };
        let tally = job
            .store
            .finish(last, job.work.key.clone(), now, settle)
            .await?;
        self.done.tally = mem::take(&mut self.done.tally).plus(tally);
        Ok(self.done)
    }

    /// What the listing proves, what it says about earlier troubles and its own, and what follows from its objects. When
    /// an operator asked for it, what a complete listing does not hold is marked as deleted first.
    async fn end(&self, round: &Round) -> Result<End, Failed> {
        let proves = match (self.extent, round.agrees()) {
            (_, false) => Proof::Nothing,
            (Extent::Since(_), true) => Proof::New,
            (Extent::Whole, true) => Proof::Whole {
                missing: self.missing(round).await?,
            },
        };
        Ok(End {
            proves,
            problems: self.problems(round),
            wishes: self.wishes(round),
        })
    }

    async fn missing(&self, round: &Round) -> Result<u64, Failed> {
        let Job { work, store, .. } = self.job;
        let Key {
            link_id, object_id, ..
        } = &work.key;
        if !object_id.is_empty() {
            return Ok(0);
        }
        let name = self.job.resource.name;
        let reader = open_reader(&self.job.state_directory).map_err(Failed::file)?;
        let missing =
            objects::missing(&reader, link_id, name, |id| round.has(id)).map_err(Failed::file)?;
        drop(reader);
        for ids in missing.chunks(BURY_MAX).filter(|_| work.sweep) {
            let now = self.job.clock.wall();
            store
                .bury(name, link_id.clone(), ids.to_vec(), work.wanted, now)
                .await?;
        }
        Ok(missing.len() as u64)
    }

    fn wishes(&self, round: &Round) -> Vec<Wish> {
        let of = |(name, id): (&str, &String)| Wish {
            key: Key {
                link_id: self.job.work.key.link_id.clone(),
                resource: name.to_owned(),
                object_id: id.clone(),
            },
            whole: true,
        };
        let each = self.job.resource.each.into_iter();
        each.flat_map(|name| round.ids.iter().map(move |id| (name, id)))
            .map(of)
            .collect()
    }

    fn problems(&self, round: &Round) -> Vec<Change> {
        let subject = subject(&self.job.work.key);
        let mut changes = over(&subject);
        let mut say = |kind: Kind, text: Option<(String, &str)>| {
            changes.push(match text {
                None => Change::Close(kind, subject.clone()),
                Some((text, next_step)) => Change::Open(Problem {
                    kind,
                    subject: subject.clone(),
                    text,
                    next_step: next_step.to_owned(),
                    evidence: None,
                }),
            });
        };
        let found = round.seen.len();
        say(Kind::ListingUnstable, (!round.agrees()).then(|| (
            format!("the listing was read {LISTING_ROUNDS_MAX} times and never agreed with its own count ({found} objects found)"),
            "nothing if it is rare: the next webhook reads it again; else send the link and path to Belvo's support",
        )));
        let without_id = round.without_id;
        say(Kind::ObjectWithoutId, (without_id > 0).then(|| (
            format!("{without_id} objects came without an id and were not kept"),
            "send the link and path to Belvo's support: every object is documented to have an id",
        )));
        let foreign = round.foreign;
        say(Kind::LinkMismatch, (foreign > 0).then(|| (
            format!("{foreign} of {found} objects in the list of this link name another link"),
            "send the link and path to Belvo's support; what is kept for another link was left as it is",
        )));
        changes
    }
}

/// The problems that a fetch without errors ends.
pub(super) fn over(subject: &str) -> Vec<Change> {
    let of_all = [Kind::ApiKeysRefused, Kind::ApiUnreachable];
    let own = [
        Kind::FetchDelayed,
        Kind::FetchFailed,
        Kind::ResourceUnsupported,
    ];
    let of_all = of_all.map(|kind| Change::Close(kind, String::new()));
    let own = own.map(|kind| Change::Close(kind, subject.to_owned()));
    of_all.into_iter().chain(own).collect()
}

/// That deleted objects are there again.
fn said_again(subject: &str, returned: usize) -> Option<Change> {
    let problem = || Problem {
        kind: Kind::DeletedReturned,
        subject: subject.to_owned(),
        text: format!(
            "{returned} objects that Belvo had deleted are in its complete list again; they are not marked as deleted any more"
        ),
        next_step: "nothing: Belvo's complete list counts".to_owned(),
        evidence: None,
    };
    (returned > 0).then(|| Change::Open(problem()))
}

impl Tally {
    /// In words, for the log.
    pub(super) fn words(&self) -> String {
        let mut words = format!("{} new, {} changed", self.new, self.changed);
        if self.withheld > 0 {
            words += &format!(", {} withheld", self.withheld);
        }
        if !self.returned.is_empty() {
            words += &format!(", {} back after deletion", self.returned.len());
        }
        words
    }
}

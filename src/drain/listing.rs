//! One listing read to its end: page after page, each stored as it comes, the last one together with the settled work.
//! Knows the API and the store; when it runs, and what follows a failure, is decided elsewhere.
//!
//! Belvo's listings are paged by number over a live table, so rows that come and go while we read shift the pages. The
//! distinct ids are therefore compared with Belvo's own count, and the listing is read again, a bounded number of
//! times, until they agree. Every read is an upsert by id, so reading again does no harm.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::mem;
use std::sync::Arc;

use super::budget::Budget;
use super::work::{Fetch, Key, Work};
use crate::catalog::Resource;
use crate::database::WriteError;
use crate::fetch::{Api, Cause, Error, Page, Query};
use crate::limits::{LISTING_PAGES_MAX, LISTING_ROUNDS_MAX, STORE_BYTES_MAX, STORE_OBJECTS_MAX};
use crate::store::Store;
use crate::store::objects::{Record, Tally};
use crate::store::problems::{Change, Kind, Problem};
use crate::system::clock::{Clock, UnixMs};
use crate::webhook::Seq;

/// A whole listing that is to be read and kept.
#[derive(Debug)]
pub struct Listing<A> {
    /// Where from.
    pub api: Arc<A>,
    /// Where to.
    pub store: Store,
    /// How fast.
    pub budget: Arc<Budget>,
    /// For the times that are kept.
    pub clock: Clock,
    /// What is listed.
    pub resource: &'static Resource,
    /// The work it settles.
    pub key: Key,
    /// The newest webhook that asked for it when it began.
    pub wanted: Seq,
}

/// A listing that was read and stored.
#[derive(Clone, Copy, Debug)]
pub struct Done {
    /// Distinct objects found.
    pub found: u64,
    /// What became of them.
    pub tally: Tally,
    /// Pages read, in all rounds.
    pub pages: u32,
    /// Whether the last round agreed with Belvo's count.
    pub agreed: bool,
}

/// Why a listing ended early.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// The API.
    #[error(transparent)]
    Api(#[from] Error),
    /// The file.
    #[error("the objects could not be stored: {0}")]
    Store(#[from] WriteError),
}

/// What one round has seen so far.
#[derive(Debug, Default)]
struct Round {
    /// Hashes of the distinct ids: a million of them must fit into the memory of a small box.
    ids: HashSet<u64>,
    hasher: RandomState,
    without_id: u64,
    counts: HashSet<u64>,
    cut_short: bool,
}

impl Round {
    /// Whether the listing did not move while it was read: one count throughout, and as many distinct objects.
    fn agrees(&self) -> bool {
        let seen = self.ids.len() as u64 + self.without_id;
        !self.cut_short && self.counts.len() == 1 && self.counts.contains(&seen)
    }
}

impl<A: Api> Listing<A> {
    /// Reads the listing, stores it, settles its work.
    ///
    /// # Errors
    /// When the API or the file failed; what was stored until then stays, and the work stays pending.
    pub async fn run(&self) -> Result<Done, Failed> {
        let started_at = self.clock.wall();
        let mut page_size = self.resource.page_size;
        let mut done = Done {
            found: 0,
            tally: Tally::default(),
            pages: 0,
            agreed: false,
        };
        let mut rounds = 0;
        loop {
            let mut round = Round::default();
            let last = match self.round(&mut round, &mut done, page_size).await {
                // Fewer objects a page make smaller pages; those already stored are found unchanged.
                Err(Failed::Api(Error {
                    cause: Cause::TooLarge,
                    ..
                })) if page_size > 1 => {
                    page_size = (page_size / 4).max(1);
                    continue;
                }
                other => other?,
            };
            rounds += 1;
            done.agreed = round.agrees();
            done.found = round.ids.len() as u64;
            if done.agreed || rounds >= LISTING_ROUNDS_MAX {
                done.tally = self.settle(last, &round, done, started_at).await?;
                return Ok(done);
            }
            done.tally = done
                .tally
                .plus(self.store.put(last, self.clock.wall()).await?);
        }
    }

    /// Reads all pages once. Everything is stored but the last few objects, which come back.
    async fn round(
        &self,
        round: &mut Round,
        done: &mut Done,
        page_size: u32,
    ) -> Result<Vec<Record>, Failed> {
        let query = Query {
            path: self.resource.path,
            link_id: self.key.link_id.clone(),
        };
        let mut held = Vec::new();
        for number in 1..=LISTING_PAGES_MAX {
            self.budget.take().await;
            let page = match self.api.page(&query, number, page_size).await {
                // The listing shrank below this page while it was read.
                Err(error) if number > 1 && error.is_not_found() => {
                    round.cut_short = true;
                    return Ok(held);
                }
                other => other?,
            };
            done.pages += 1;
            round.counts.insert(page.count);
            round.without_id += page.without_id;
            round
                .ids
                .extend(page.items().map(|item| round.hasher.hash_one(item.id)));
            self.store_all_but_the_last(&mut held, &page, done).await?;
            if !page.more {
                return Ok(held);
            }
            if page.items().len() == 0 && page.without_id == 0 {
                round.cut_short = true;
                return Ok(held);
            }
        }
        Err(Error::new(query.path, LISTING_PAGES_MAX, Cause::Endless).into())
    }

    /// Cuts a page into short transactions; the last cut stays in `held`, to be stored with what follows it.
    async fn store_all_but_the_last(
        &self,
        held: &mut Vec<Record>,
        page: &Page,
        done: &mut Done,
    ) -> Result<(), Failed> {
        let mut bytes: usize = held.iter().map(|record| record.body.len()).sum();
        for item in page.items() {
            if held.len() >= STORE_OBJECTS_MAX || bytes >= STORE_BYTES_MAX {
                done.tally = done
                    .tally
                    .plus(self.store.put(mem::take(held), self.clock.wall()).await?);
                bytes = 0;
            }
            bytes += item.body.len();
            held.push(Record {
                resource: self.resource.name,
                id: item.id.to_owned(),
                link_id: self.key.link_id.clone(),
                body: item.body.to_owned(),
                seq: self.wanted,
            });
        }
        Ok(())
    }

    /// Stores the last objects and settles the work in one transaction.
    async fn settle(
        &self,
        last: Vec<Record>,
        round: &Round,
        done: Done,
        started_at: UnixMs,
    ) -> Result<Tally, Failed> {
        let (finished_at, due_at) = (self.clock.wall(), self.clock.now());
        let (met, found, before, problems) =
            (self.wanted, done.found, done.tally, self.problems(round));
        let settle = move |work: Work, tally: Tally| {
            let changed = before.plus(tally).written();
            (
                work.fetched(
                    met,
                    Fetch {
                        started_at,
                        finished_at,
                        found,
                        changed,
                    },
                    due_at,
                ),
                problems,
            )
        };
        let tally = self
            .store
            .finish(last, self.key.clone(), finished_at, settle)
            .await?;
        Ok(before.plus(tally))
    }

    /// What a successful fetch says about earlier troubles, and about its own.
    fn problems(&self, round: &Round) -> Vec<Change> {
        let subject = subject(&self.key);
        let mut changes = vec![
            Change::Close(Kind::ApiKeysRefused, String::new()),
            Change::Close(Kind::ApiUnreachable, String::new()),
            Change::Close(Kind::FetchDelayed, subject.clone()),
            Change::Close(Kind::FetchFailed, subject.clone()),
            Change::Close(Kind::LinkBlocked, subject.clone()),
        ];
        changes.push(match round.agrees() {
            true => Change::Close(Kind::ListingUnstable, subject.clone()),
            false => Change::Open(Problem {
                kind: Kind::ListingUnstable,
                subject: subject.clone(),
                text: format!(
                    "the listing was read {LISTING_ROUNDS_MAX} times and never agreed with its own count ({} objects found)",
                    round.ids.len()
                ),
                next_step: "nothing if it is rare: the next webhook reads it again; else send the link and path to Belvo's support".to_owned(),
                evidence: None,
            }),
        });
        changes.push(match round.without_id {
            0 => Change::Close(Kind::ObjectWithoutId, subject),
            without_id => Change::Open(Problem {
                kind: Kind::ObjectWithoutId,
                subject,
                text: format!("{without_id} objects came without an id and were not kept"),
                next_step: "send the link and path to Belvo's support: every object is documented to have an id"
                    .to_owned(),
                evidence: None,
            }),
        });
        changes
    }
}

/// How a piece of work is named in problems and log lines.
pub fn subject(key: &Key) -> String {
    format!("{} of link {}", key.resource, key.link_id)
}

//! One piece of work from its first request to its settling: a listing, one object by its id, or the record of a link or
//! consent. Knows the API and the store; when it runs, and what follows a failure, is decided elsewhere.

use std::path::PathBuf;
use std::sync::Arc;

use super::budget::Budget;
use super::listing::{Listing, over};
use super::work::{Fetch, Key, Wish, Work};
use super::{consents, links};
use crate::catalog::{self, CONSENTS, LINKS, Resource, Shape};
use crate::database::WriteError;
use crate::fetch::{self, Api, Cause, ConsentRecord, Error, LinkRecord, Object};
use crate::store::objects::{Record, Tally};
use crate::store::{Current, Kept, Settled, Store, Times};
use crate::system::clock::Clock;
use crate::webhook::Seq;

/// A piece of work that is under way.
#[derive(Debug)]
pub struct Job<A> {
    /// Where from.
    pub api: Arc<A>,
    /// Where to.
    pub store: Store,
    /// Where to read what is kept.
    pub state_directory: PathBuf,
    /// How fast.
    pub budget: Arc<Budget>,
    /// For the times that are kept.
    pub clock: Clock,
    /// What it is about.
    pub resource: &'static Resource,
    /// The work it settles, as it was when it began.
    pub work: Work,
    /// The institution of its link, when it is known.
    pub institution: Option<String>,
    /// The newest webhook about its link when it began.
    pub known: Seq,
}

/// A piece of work that was done.
#[derive(Clone, Debug, Default)]
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

/// Why a piece of work ended early.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// The API.
    #[error(transparent)]
    Api(#[from] Error),
    /// The link's record is gone, and the link with it.
    #[error("{0}")]
    LinkGone(Error),
    /// The file.
    #[error("the objects could not be stored: {0}")]
    Store(#[from] WriteError),
}

impl Failed {
    pub(super) fn file(error: impl std::fmt::Display) -> Self {
        Self::Store(WriteError::Database(error.to_string()))
    }
}

/// How a piece of work is named in problems and log lines.
pub fn subject(key: &Key) -> String {
    match key.object_id.as_str() {
        "" => format!("{} of link {}", key.resource, key.link_id),
        _ if key.resource == LINKS.name => format!("record of link {}", key.link_id),
        id if key.resource == CONSENTS.name => {
            format!("record of consent {id} of link {}", key.link_id)
        }
        id => format!("{} {id} of link {}", key.resource, key.link_id),
    }
}

impl<A: Api> Job<A> {
    /// Does it.
    ///
    /// # Errors
    /// When the API or the file failed; what was stored until then stays, and the work stays pending.
    pub async fn run(self) -> Result<Done, Failed> {
        self.api.ready().await;
        let key = &self.work.key;
        if key.resource == LINKS.name {
            return self.link().await;
        }
        if key.resource == CONSENTS.name {
            return self.consent().await;
        }
        let path = self.path().await?;
        match self.resource.shape {
            Shape::List if !key.object_id.is_empty() => self.object(&path).await,
            _ => match Listing::new(&self, path.clone()).run().await {
                Err(Failed::Api(error)) if error.is_not_found() && self.may_be_gone(&path) => {
                    self.nothing_there().await
                }
                other => other,
            },
        }
    }

    /// Where it is asked for; the link's record is read first when that depends on a country that is not known yet.
    async fn path(&self) -> Result<String, Failed> {
        let object_id = &self.work.key.object_id;
        if self.resource.elsewhere.is_empty() {
            return Ok(self.resource.path_in(None, object_id));
        }
        let institution = match &self.institution {
            Some(institution) => Some(institution.clone()),
            None => self.institution().await?,
        };
        let country = institution.as_deref().and_then(catalog::country_of);
        Ok(self.resource.path_in(country, object_id))
    }

    async fn institution(&self) -> Result<Option<String>, Failed> {
        let (object, record) = self.link_record().await?;
        let (kept, institution) = (kept(&object, &record), record.institution.clone());
        let (known, now) = (self.known, Times::of(&self.clock));
        let read = move |link, newest| {
            let asked = links::Asked {
                then: known,
                now: newest,
            };
            links::read(link, record.status.as_deref(), asked, now.wall)
        };
        let link_id = self.work.key.link_id.clone();
        self.store.put_link(link_id, kept, now, read).await?;
        Ok(institution)
    }

    async fn link_record(&self) -> Result<(Object, LinkRecord), Failed> {
        let link_id = &self.work.key.link_id;
        let path = LINKS.path_in(None, link_id);
        let _turn = self.budget.take().await;
        match fetch::object(&*self.api, &path).await {
            Ok(object) => {
                let record = LinkRecord::read(&object.body);
                self.named(object, link_id, &path)
                    .map(|object| (object, record))
            }
            Err(error) if error.is_not_found() => Err(Failed::LinkGone(error)),
            Err(error) => Err(error.into()),
        }
    }

    /// A list that is gone because nothing has it any more, or because the object above it has gone.
    fn may_be_gone(&self, path: &str) -> bool {
        let beneath = matches!(self.resource.shape, Shape::Beneath(_));
        beneath || self.resource.retired.contains(&path)
    }

    /// The record of the link: its state, and, when a webhook said that all of it is ready, what was never fetched.
    async fn link(&self) -> Result<Done, Failed> {
        let started_at = self.clock.wall();
        let (object, record) = self.link_record().await?;
        let kept = kept(&object, &record);
        let (known, met, now) = (self.known, self.work.wanted, Times::of(&self.clock));
        let all_ready = self.work.whole > self.work.fetched;
        let wishes_if_new = match all_ready {
            true => self.everything(&record),
            false => Vec::new(),
        };
        let (problems, fetch) = (self.over(), Fetch::of(1, started_at, now.wall));
        let settle = move |current: Current| {
            let asked = links::Asked {
                then: known,
                now: current.newest,
            };
            let link = links::read(
                current.link.clone(),
                record.status.as_deref(),
                asked,
                now.wall,
            );
            let mut work = current.work.clone().fetched(met, fetch, now.due);
            if asked.is_outrun() {
                work = work.wished(current.newest, false, now.due);
            }
            Settled {
                link,
                record: Some(kept),
                problems,
                wishes_if_new,
                ..Settled::work(current, work)
            }
        };
        self.settle(settle, now).await
    }

    /// Every resource that Belvo collects for the link, as far as the catalog knows it.
    fn everything(&self, record: &LinkRecord) -> Vec<Wish> {
        let named = record.fetch_resources.iter().flatten();
        named
            .filter_map(|kind| catalog::resource_of_kind(kind))
            .map(|resource| Wish {
                key: Key {
                    link_id: self.work.key.link_id.clone(),
                    resource: resource.name.to_owned(),
                    object_id: String::new(),
                },
                whole: true,
            })
            .collect()
    }

    async fn consent(&self) -> Result<Done, Failed> {
        let started_at = self.clock.wall();
        let Some(object) = self
            .one_object(&self.resource.path_in(None, &self.work.key.object_id))
            .await?
        else {
            return self.nothing_there().await;
        };
        let read = ConsentRecord::read(&object.body);
        let record = consents::Record {
            status: read.status,
            expired_at: read.expired_at,
        };
        let kept = Kept {
            institution: None,
            last_accessed_at: None,
            body: object.body,
        };
        let (known, met, now) = (self.known, self.work.wanted, Times::of(&self.clock));
        let (problems, fetch) = (self.over(), Fetch::of(1, started_at, now.wall));
        let settle = move |current: Current| {
            let link_id = current.work.key.link_id.clone();
            let before = current.consent.clone();
            let consent = consents::read(before, &record, &link_id, known, now.wall);
            let work = current.work.clone().fetched(met, fetch, now.due);
            Settled {
                consent: Some(consent),
                record: Some(kept),
                problems,
                ..Settled::work(current, work)
            }
        };
        self.settle(settle, now).await
    }

    /// One object by its id. Belvo having it no more is no reason to mark it: only a deletion says so.
    async fn object(&self, path: &str) -> Result<Done, Failed> {
        let started_at = self.clock.wall();
        let Some(object) = self.one_object(path).await? else {
            return self.nothing_there().await;
        };
        let records = vec![self.record(&object.id, object.link_id.as_deref(), &object.body)];
        let (met, now) = (self.work.wanted, Times::of(&self.clock));
        let (problems, fetch) = (self.over(), Fetch::of(1, started_at, now.wall));
        let settle = move |current: Current| {
            let changed = current.tally.written();
            let work = current
                .work
                .clone()
                .fetched(met, Fetch { changed, ..fetch }, now.due);
            Settled {
                forget: !work.is_pending(),
                problems,
                ..Settled::work(current, work)
            }
        };
        let key = self.work.key.clone();
        let tally = self.store.finish(records, key, now, settle).await?;
        Ok(Done { tally, ..done(1) })
    }

    async fn one_object(&self, path: &str) -> Result<Option<Object>, Failed> {
        let _turn = self.budget.take().await;
        match fetch::object(&*self.api, path).await {
            Ok(object) => self.named(object, &self.work.key.object_id, path).map(Some),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// An answer that is about something else than was asked for is no answer.
    fn named(&self, object: Object, id: &str, path: &str) -> Result<Object, Failed> {
        if same_id(&object.id, id) {
            return Ok(object);
        }
        let text = "it has another id than was asked for".to_owned();
        Err(Error::new(path, 0, Cause::NotAsExpected(text)).into())
    }

    /// Settles work for which there is nothing (any more).
    async fn nothing_there(&self) -> Result<Done, Failed> {
        let (met, now) = (self.work.wanted, Times::of(&self.clock));
        let fetch = Fetch::of(0, now.wall, now.wall);
        let by_id = self.resource.shape == Shape::List && !self.work.key.object_id.is_empty();
        let problems = self.over();
        let settle = move |current: Current| {
            let work = current.work.clone().fetched(met, fetch, now.due);
            Settled {
                forget: by_id && !work.is_pending(),
                problems,
                ..Settled::work(current, work)
            }
        };
        self.settle(settle, now).await.map(|_| done(0))
    }

    async fn settle(
        &self,
        settle: impl FnOnce(Current) -> Settled + Send + 'static,
        now: Times,
    ) -> Result<Done, Failed> {
        let key = self.work.key.clone();
        self.store.settle(key, now, settle).await?;
        Ok(done(1))
    }

    fn over(&self) -> Vec<crate::store::problems::Change> {
        over(&subject(&self.work.key))
    }

    /// An object of this work as it is to be kept.
    pub(super) fn record(&self, id: &str, link_id: Option<&str>, body: &str) -> Record {
        Record {
            resource: self.resource.name,
            id: id.to_owned(),
            link_id: self.work.key.link_id.clone(),
            foreign: self.is_foreign(link_id),
            body: body.to_owned(),
            seq: self.work.wanted,
        }
    }

    /// Whether an object names another link than the one it was asked for.
    pub(super) fn is_foreign(&self, link_id: Option<&str>) -> bool {
        link_id.is_some_and(|link| !same_id(link, &self.work.key.link_id))
    }
}

/// Belvo writes ids with dashes and in lower case, but promises neither.
fn same_id(one: &str, other: &str) -> bool {
    let digits = |id: &str| id.bytes().filter(|byte| *byte != b'-').collect::<Vec<_>>();
    one == other || digits(one).eq_ignore_ascii_case(&digits(other))
}

fn kept(object: &Object, record: &LinkRecord) -> Kept {
    Kept {
        institution: record.institution.clone(),
        last_accessed_at: record.last_accessed_at.clone(),
        body: object.body.clone(),
    }
}

fn done(found: u64) -> Done {
    Done {
        found,
        pages: 1,
        agreed: true,
        ..Done::default()
    }
}

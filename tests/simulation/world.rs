//! A made-up Belvo for the simulation: links, objects that come, change and go, faults of its API, and the webhooks that
//! it sends about all that. The same seed always makes the same world. It remembers what it was asked, and complains when
//! it was asked too much.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use belvo_gateway::fetch::{Cause, Error, Request};
use belvo_gateway::system::clock::UnixMs;
use fastrand::Rng;

/// Objects in a page, whatever was asked for: so that small lists have several.
const PAGE: usize = 5;
/// What Belvo's edge bears, and for how long it shuts out whoever goes beyond.
const EDGE_REQUESTS: usize = 80;
const EDGE_WINDOW: Duration = Duration::from_secs(30);
const KEYS_REST: Duration = Duration::from_secs(14 * 60);

/// The lists of this world, and the types of their webhooks.
pub(crate) const LISTS: [(&str, &str, &str); 3] = [
    ("transactions", "TRANSACTIONS", "/api/transactions/"),
    ("owners", "OWNERS", "/api/owners/"),
    ("accounts", "ACCOUNTS", "/api/accounts/"),
];

/// An object as Belvo has it now.
#[derive(Clone, Debug)]
pub(crate) struct Object {
    pub(crate) id: String,
    pub(crate) version: u32,
    pub(crate) created: UnixMs,
}

impl Object {
    pub(crate) fn body(&self, link: &str) -> String {
        let Self {
            id,
            version,
            created,
        } = self;
        format!(
            r#"{{"id":"{id}","link":"{link}","created_at":"{created}","version":{version},"amount":0.10}}"#
        )
    }
}

/// What a link is at Belvo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Valid,
    Invalid,
    TokenRequired,
    Deleted,
}

/// One link and what Belvo has for it.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) id: String,
    pub(crate) status: Status,
    pub(crate) lists: BTreeMap<&'static str, Vec<Object>>,
    /// Objects that Belvo deleted and said so, with their last versions.
    pub(crate) gone: BTreeMap<String, u32>,
}

/// What goes wrong from here on, in thousandths of the requests.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    pub(crate) temporary: u32,
    pub(crate) edge: u32,
    pub(crate) keys: u32,
    pub(crate) permanent: u32,
    pub(crate) busy: u32,
    /// Of the pages that another follows: the list moves before that is asked for.
    pub(crate) moves: u32,
}

/// Everything.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) rng: Rng,
    pub(crate) now: UnixMs,
    /// Whether everything that happens is printed.
    pub(crate) told: bool,
    pub(crate) links: Vec<Link>,
    pub(crate) faults: Faults,
    /// Whether it is there at all.
    pub(crate) down: bool,
    /// Webhooks on their way, with the time of their arrival.
    pub(crate) outbox: VecDeque<(UnixMs, String)>,
    /// Bodies that were answered 200.
    pub(crate) acknowledged: Vec<String>,
    /// (link, resource) that were refused for good at least once.
    pub(crate) refused: BTreeSet<(String, String)>,
    /// What must never be, and was.
    pub(crate) wrong: Vec<String>,
    /// When each request came, and for which link.
    pub(crate) requests: Vec<(UnixMs, String)>,
    /// Answers so far, and the one after which the gateway is killed.
    pub(crate) answered: u64,
    pub(crate) dies_at: u64,
    in_flight: Vec<String>,
    /// The edge lets nobody through between these. What goes out at the very moment of the first cannot know of it.
    shut: (UnixMs, UnixMs),
    /// What the edge has held up: links and paths.
    held_up: BTreeSet<(String, String)>,
    /// Listings that are read from what their list was when they began.
    begun: BTreeMap<(String, String), Vec<String>>,
    keys_refused_until: UnixMs,
    keys_refused_at: Option<UnixMs>,
    made: u64,
}

impl World {
    pub(crate) fn new(seed: u64, now: UnixMs) -> Self {
        let mut world = Self {
            rng: Rng::with_seed(seed),
            now,
            told: std::env::var_os("SIMULATION_TOLD").is_some(),
            links: Vec::new(),
            faults: Faults::default(),
            down: false,
            outbox: VecDeque::new(),
            acknowledged: Vec::new(),
            refused: BTreeSet::new(),
            wrong: Vec::new(),
            requests: Vec::new(),
            answered: 0,
            dies_at: 0,
            in_flight: Vec::new(),
            shut: (UnixMs(0), UnixMs(0)),
            held_up: BTreeSet::new(),
            begun: BTreeMap::new(),
            keys_refused_until: UnixMs(0),
            keys_refused_at: None,
            made: 0,
        };
        for _ in 0..world.rng.usize(1..=4) {
            let id = world.id();
            let lists = LISTS.iter().map(|(name, _, _)| (*name, Vec::new()));
            world.links.push(Link {
                id,
                status: Status::Valid,
                lists: lists.collect(),
                gone: BTreeMap::new(),
            });
        }
        world
    }

    fn id(&mut self) -> String {
        self.made += 1;
        format!("{:08x}-0000-4000-8000-{:012x}", self.rng.u32(..), self.made)
    }

    /// Prints what happens, for whoever looks at one seed.
    pub(crate) fn tell(&self, what: impl FnOnce() -> String) {
        if self.told {
            eprintln!("{} {}", self.now, what());
        }
    }

    fn chance(&mut self, thousandths: u32) -> bool {
        self.rng.u32(0..1000) < thousandths
    }

    // What happens at Belvo.

    /// One thing happens, and webhooks are on their way about it.
    pub(crate) fn happen(&mut self) {
        let link = self.rng.usize(0..self.links.len());
        let list = LISTS[self.rng.usize(0..LISTS.len())].0;
        let alive = self.links[link].status != Status::Deleted;
        match self.rng.u32(0..100) {
            0..=29 if alive => self.objects_come(link, list),
            30..=44 if alive => self.objects_change(link),
            45..=56 if alive => self.objects_go(link, 120),
            57..=63 if alive => self.link_needs_its_user(link),
            64..=73 if alive => self.link_works_again(link),
            74..=75 if self.links.len() > 1 => self.link_goes(link),
            76..=78 if alive => self.object_returns(link),
            79..=84 => self.send(
                r#"{"webhook_type":"WEATHER","webhook_code":"sunny"}"#.to_owned(),
                60,
            ),
            85..=88 => self.send(String::new(), 1),
            89..=94 => self.repeat(),
            _ if alive => self.history(link, list),
            _ => {}
        }
    }

    fn objects_come(&mut self, link: usize, list: &'static str) {
        for _ in 0..self.rng.usize(1..=12) {
            let object = Object {
                id: self.id(),
                version: 1,
                created: self.now,
            };
            self.list(link, list).push(object);
        }
        self.announce(link, list, &format!("new_{list}_available"), "{}", 120);
    }

    fn objects_change(&mut self, link: usize) {
        let many = self.rng.bool();
        let mut changed = Vec::new();
        for _ in 0..if many { 60 } else { 3 } {
            let number = self.rng.usize(0..1_000);
            let list = self.list(link, "transactions");
            let count = list.len();
            if let Some(object) = list.get_mut(number % count.max(1)) {
                object.version += 1;
                changed.push(object.id.clone());
            }
        }
        self.announce_ids(
            link,
            "transactions_updated",
            "updated_transactions",
            &changed,
            120,
        );
    }

    fn objects_go(&mut self, link: usize, late: u64) {
        let mut gone = BTreeMap::new();
        for _ in 0..self.rng.usize(1..=3) {
            let number = self.rng.usize(0..1_000);
            let list = self.list(link, "transactions");
            if !list.is_empty() {
                let object = list.remove(number % list.len());
                gone.insert(object.id, object.version);
            }
        }
        if self.rng.bool() {
            // One that nobody can have seen.
            gone.insert(self.id(), 0);
        }
        let ids: Vec<_> = gone.keys().cloned().collect();
        self.links[link].gone.extend(gone);
        let (code, field) = ("transactions_deleted", "deleted_transactions");
        self.announce_ids(link, code, field, &ids, late);
    }

    /// Belvo deletes by mistake and takes it back; long after, so that nothing on its way arrives later.
    fn object_returns(&mut self, link: usize) {
        if !self.outbox.is_empty() {
            return;
        }
        let Some((id, version)) = self.links[link].gone.pop_first() else {
            return;
        };
        let object = Object {
            id,
            version: version + 1,
            created: self.now,
        };
        self.list(link, "transactions").push(object);
        self.announce(link, "transactions", "historical_update", "{}", 5);
    }

    fn link_needs_its_user(&mut self, link: usize) {
        let token = self.rng.bool();
        self.links[link].status = if token {
            Status::TokenRequired
        } else {
            Status::Invalid
        };
        let code = if token {
            "token_required"
        } else {
            "invalid_credentials"
        };
        if self.rng.bool() {
            let data = r#"{"error_code":"login_error","status":400}"#;
            self.announce_as(link, "LINK", code, data, 60);
        }
    }

    /// Whoever is asked for credentials gives them sooner or later; all data comes again then.
    fn link_works_again(&mut self, link: usize) {
        if self.links[link].status == Status::Valid {
            return;
        }
        self.links[link].status = Status::Valid;
        for (list, _, _) in LISTS {
            self.history(link, list);
        }
    }

    fn link_goes(&mut self, link: usize) {
        self.links[link].status = Status::Deleted;
        for list in self.links[link].lists.values_mut() {
            list.clear();
        }
        self.announce_as(link, "LINK", "link_deleted", "{}", 60);
    }

    fn history(&mut self, link: usize, list: &'static str) {
        self.announce(link, list, "historical_update", "{}", 120);
    }

    /// Belvo repeats within minutes, so it does not say again that something is gone which has come back since.
    fn repeat(&mut self) {
        let Some(body) = self.rng.choice(&self.acknowledged).cloned() else {
            return;
        };
        let lists = self.links.iter().map(|link| &link.lists["transactions"]);
        let mut live = lists.flatten().map(|object| &object.id);
        if !(body.contains("transactions_deleted") && live.any(|id| body.contains(id))) {
            self.send(body, 60);
        }
    }

    /// Every link that needed its user works again. Nobody else says anything: what was lost stays lost.
    pub(crate) fn all_is_well(&mut self) {
        self.faults = Faults::default();
        self.down = false;
        for link in 0..self.links.len() {
            if self.links[link].status != Status::Deleted {
                self.link_works_again(link);
            }
        }
    }

    fn list(&mut self, link: usize, list: &str) -> &mut Vec<Object> {
        self.links[link]
            .lists
            .get_mut(list)
            .expect("a list of this world")
    }

    fn announce(&mut self, link: usize, list: &str, code: &str, data: &str, late: u64) {
        let kind = LISTS
            .iter()
            .find(|(name, _, _)| *name == list)
            .expect("a list of this world")
            .1;
        self.announce_as(link, kind, code, data, late);
    }

    fn announce_ids(&mut self, link: usize, code: &str, field: &str, ids: &[String], late: u64) {
        if ids.is_empty() {
            return;
        }
        let quoted: Vec<_> = ids.iter().map(|id| format!("\"{id}\"")).collect();
        let data = format!(
            r#"{{"count":{},"{field}":[{}]}}"#,
            ids.len(),
            quoted.join(",")
        );
        self.announce_as(link, "TRANSACTIONS", code, &data, late);
    }

    fn announce_as(&mut self, link: usize, kind: &str, code: &str, data: &str, late: u64) {
        let (webhook, link) = (self.rng.u128(..), &self.links[link].id);
        let body = format!(
            r#"{{"webhook_id":"{webhook:032x}","webhook_type":"{kind}","webhook_code":"{code}","link_id":"{link}","data":{data}}}"#
        );
        self.send(body, late);
    }

    /// It arrives within so many seconds, maybe after others that were sent later; often at once.
    fn send(&mut self, body: String, late: u64) {
        let late = if self.rng.bool() { 1 } else { late };
        let at = self
            .now
            .plus(Duration::from_millis(self.rng.u64(0..=late * 1000)));
        self.tell(|| format!("sends, to arrive at {at}: {body}"));
        let place = self.outbox.partition_point(|(other, _)| *other <= at);
        self.outbox.insert(place, (at, body));
    }

    /// The webhooks that have arrived by now.
    pub(crate) fn arrived(&mut self) -> Vec<String> {
        let count = self.outbox.partition_point(|(at, _)| *at <= self.now);
        self.outbox.drain(..count).map(|(_, body)| body).collect()
    }

    // What it is asked.

    /// A request comes in: whether it may, and how long its answer takes.
    pub(crate) fn asked(&mut self, request: &Request) -> Duration {
        let link = link_of(request);
        self.requests.push((self.now, link.clone()));
        let recent = self
            .requests
            .iter()
            .rev()
            .take_while(|(at, _)| self.now.since(*at) < EDGE_WINDOW)
            .count();
        if recent > EDGE_REQUESTS {
            self.wrong
                .push(format!("{recent} requests in {EDGE_WINDOW:?}"));
        }
        if self.in_flight.len() >= 2 {
            self.wrong
                .push(format!("a third request beside {:?}", self.in_flight));
        }
        if self.in_flight.contains(&link) {
            self.wrong
                .push(format!("two requests at once for link {link}"));
        }
        if self.shut.0 < self.now && self.now < self.shut.1 {
            self.wrong
                .push("a request while the edge had asked for a pause".to_owned());
        }
        if self
            .keys_refused_at
            .is_some_and(|at| at < self.now && self.now.since(at) < KEYS_REST)
        {
            self.wrong
                .push("a request soon after the keys were refused".to_owned());
        }
        self.in_flight.push(link);
        Duration::from_millis(self.rng.u64(20..900))
    }

    /// A request that is not waited for any more.
    pub(crate) fn left(&mut self, request: &Request) {
        let link = link_of(request);
        if let Some(place) = self.in_flight.iter().position(|other| *other == link) {
            self.in_flight.remove(place);
        }
    }

    /// The process was killed: nobody remembers that it was asked to wait.
    pub(crate) fn killed(&mut self) {
        self.in_flight.clear();
        self.shut = (UnixMs(0), UnixMs(0));
        self.keys_refused_at = None;
    }

    /// The answer to a request, as the world is when it is made.
    pub(crate) fn answer(&mut self, request: &Request) -> Result<Vec<u8>, Error> {
        let error = |cause| Error::new(&request.path, request.page, cause);
        let said = |status, code: &str| Error {
            request_id: Some("4363b08b".to_owned()),
            ..error(Cause::Status {
                status,
                code: (!code.is_empty()).then(|| code.to_owned()),
            })
        };
        if self.down {
            return Err(error(Cause::Network("connection refused".to_owned())));
        }
        let faults = self.faults;
        // It minds that there is much, not what it is: never the same list again.
        let asked = (link_of(request), request.path.clone());
        if self.chance(faults.edge) && self.held_up.insert(asked) {
            let after = Duration::from_secs(self.rng.u64(1..120));
            let forbidden = self.rng.bool();
            let pause = if forbidden {
                Duration::from_secs(30)
            } else {
                after.max(Duration::from_secs(30))
            };
            self.shut = (self.now, self.now.plus(pause));
            let status = if forbidden { 403 } else { 429 };
            return Err(Error {
                retry_after: (!forbidden).then_some(after),
                ..said(status, "")
            });
        }
        if self.chance(faults.keys) {
            self.keys_refused_until = self.now.plus(Duration::from_secs(self.rng.u64(1..3_000)));
        }
        if self.now < self.keys_refused_until {
            self.keys_refused_at = Some(self.now);
            return Err(said(401, "authentication_failed"));
        }
        self.keys_refused_at = None;
        if self.chance(faults.temporary) {
            return match self.rng.u32(0..6) {
                0 => Err(said(503, "service_unavailable")),
                1 => Err(said(500, "unexpected_error")),
                2 => Err(said(408, "request_timeout")),
                3 => Err(error(Cause::Timeout)),
                4 => Ok(b"{\"count\":3,\"next\":null,\"results\":[{\"id\":\"x".to_vec()),
                _ => Ok(b"<html>We will be back soon.</html>".to_vec()),
            };
        }
        if self.chance(faults.busy) {
            let codes = [
                "too_many_sessions",
                "institution_down",
                "operational_limits_reached",
            ];
            return Err(said(400, codes[self.rng.usize(0..codes.len())]));
        }
        if self.chance(faults.permanent) {
            self.refused
                .insert((link_of(request), request.path.clone()));
            return Err(said(403, "access_to_resource_denied"));
        }
        self.usual(request)
            .map_err(|(status, code)| said(status, code))
    }

    fn usual(&mut self, request: &Request) -> Result<Vec<u8>, (u16, &'static str)> {
        let parts: Vec<_> = request.path.trim_matches('/').split('/').collect();
        let link = self
            .links
            .iter()
            .find(|link| link.id == link_of_path(request, &parts));
        let Some(link) = link else {
            return match parts[..] {
                ["api", "transactions", id] => self.by_id(id),
                _ => Err((404, "not_found")),
            };
        };
        if link.status == Status::Deleted {
            return Err((404, "not_found"));
        }
        if parts[1] == "links" {
            let status = match link.status {
                Status::Valid | Status::Deleted => "valid",
                Status::Invalid => "invalid",
                Status::TokenRequired => "token_required",
            };
            let text = format!(
                r#"{{"id":"{}","status":"{status}","institution":"ofmockbank_br_retail","last_accessed_at":null}}"#,
                link.id
            );
            return Ok(text.into_bytes());
        }
        match link.status {
            Status::Invalid => return Err((400, "invalid_link")),
            Status::TokenRequired => return Err((428, "token_required")),
            Status::Valid | Status::Deleted => {}
        }
        let (link, list) = (link.id.clone(), parts[1].to_owned());
        let page = self.page(request, &link, &list)?;
        if self.chance(self.faults.moves) && page.windows(8).any(|part| part == b"https://") {
            self.move_list(&link, &list);
        }
        Ok(page)
    }

    /// An object goes or comes while the list is being read; that one went is said while it is still being read.
    fn move_list(&mut self, link: &str, list: &str) {
        let Some(link) = self.links.iter().position(|known| known.id == link) else {
            return;
        };
        let list = LISTS.iter().find(|(name, _, _)| *name == list);
        let list = list.expect("a list of this world").0;
        if list == "transactions" && self.rng.bool() {
            self.objects_go(link, 0);
        } else {
            self.objects_come(link, list);
        }
    }

    fn by_id(&self, id: &str) -> Result<Vec<u8>, (u16, &'static str)> {
        for link in &self.links {
            let found = link.lists["transactions"]
                .iter()
                .find(|object| object.id == id);
            match (found, link.status) {
                (Some(object), Status::Valid) => return Ok(object.body(&link.id).into_bytes()),
                (Some(_), _) => return Err((400, "invalid_link")),
                (None, _) => {}
            }
        }
        Err((404, "not_found"))
    }

    /// Some listings are read from the table as it is, page by page, and some from what it was when they began.
    fn page(
        &mut self,
        request: &Request,
        id: &str,
        list: &str,
    ) -> Result<Vec<u8>, (u16, &'static str)> {
        let value = |name: &str| {
            let found = request.query.iter().find(|(other, _)| *other == name);
            found.map(|(_, value)| value.clone())
        };
        let link = self
            .links
            .iter()
            .find(|link| link.id == id)
            .ok_or((404, "not_found"))?;
        let from = value("created_at__gte").unwrap_or_default();
        let objects: Vec<_> = link.lists[list]
            .iter()
            .filter(|object| object.created.day() >= from)
            .map(|object| object.body(&link.id))
            .collect();
        let name = (link.id.clone(), list.to_owned());
        if request.page == 1 {
            self.begun.remove(&name);
            if self.rng.u32(0..3) == 0 {
                self.begun.insert(name.clone(), objects.clone());
            }
        }
        let objects = self.begun.get(&name).unwrap_or(&objects);
        let size = value("page_size")
            .and_then(|size| size.parse().ok())
            .unwrap_or(100usize);
        let size = size.min(PAGE);
        let page = request.page as usize;
        let first = (page - 1) * size;
        if page > 1 && first >= objects.len() {
            return Err((404, "not_found"));
        }
        let bodies = &objects[first..objects.len().min(first + size)];
        let more = first + size < objects.len();
        let next = if more {
            "\"https://elsewhere.example/\""
        } else {
            "null"
        };
        Ok(format!(
            r#"{{"count":{},"next":{next},"previous":null,"results":[{}]}}"#,
            objects.len(),
            bodies.join(",")
        )
        .into_bytes())
    }
}

fn link_of(request: &Request) -> String {
    let parts: Vec<_> = request.path.trim_matches('/').split('/').collect();
    link_of_path(request, &parts)
}

/// The link in the query, or in the path of its record; the object's id where there is neither.
fn link_of_path(request: &Request, parts: &[&str]) -> String {
    let query = request.query.iter().find(|(name, _)| *name == "link");
    let in_path = || parts.get(2).map(|id| (*id).to_owned());
    query
        .map(|(_, link)| link.clone())
        .or_else(in_path)
        .unwrap_or_default()
}

//! One request to the stand-in from head to answer, in the order Belvo's parts see it: the script, the firewall, the
//! routes, the keys, the method, the list. It does not know how connections are made or bytes are sent.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::body::Incoming;
use hyper::header::AUTHORIZATION;
use hyper::{HeaderMap, Method};

use super::answers::{self, Answer};
use super::declared::{Shape, declared, history_of};
use super::edge::{self, Burst, Query};
use super::lists::Lists;
use super::record::{Outcome, Record, Request};
use super::script::{Fault, Script, Target, Turn};

/// Everything a stand-in knows while it is up and while it is down.
#[derive(Debug)]
pub(super) struct Api {
    pub(super) record: Record,
    base_url: String,
    authorization: String,
    state: Mutex<State>,
}

/// What tests and the demo set, and requests read.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) lists: Lists,
    pub(super) script: Script,
    burst: Option<Burst>,
}

impl State {
    fn follow(&mut self, target: &Target<'_>) {
        self.script.follow(target, &mut self.lists);
    }
}

impl Api {
    pub(super) fn new(
        base_url: String,
        keys: &(String, String),
        edge_limit: bool,
        record: Record,
    ) -> Self {
        let pair = STANDARD.encode(format!("{}:{}", keys.0, keys.1));
        let state = State {
            burst: edge_limit.then(Burst::default),
            ..State::default()
        };
        Self {
            record,
            base_url,
            authorization: format!("Basic {pair}"),
            state: Mutex::new(state),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer to a request; an error ends the connection without one.
    pub(super) async fn answer(&self, request: hyper::Request<Incoming>) -> io::Result<Answer> {
        let seen = seen(&request);
        let target = Target {
            path: &seen.path,
            link: seen.link.as_deref(),
            page: seen.page,
        };
        let ticket = self.record.open(seen.clone());
        let turn = self.state().script.take(&target);
        if let Some(Turn::Hold(hold)) = &turn {
            ticket.held();
            hold.pass().await;
        }
        let usual = || self.usual(request.method(), request.headers(), &seen);
        let answer = match turn {
            None | Some(Turn::Hold(_)) => usual(),
            Some(Turn::Fault(Fault::Truncated)) => usual().cut(),
            Some(Turn::Fault(Fault::Count(count))) => usual().counted(count),
            Some(Turn::Fault(Fault::NextElsewhere(elsewhere))) => {
                usual().leading(&self.base_url, &elsewhere)
            }
            Some(Turn::Fault(fault)) => match faulty(fault) {
                Some(answer) => answer,
                None => {
                    ticket.settle(Outcome::Closed);
                    return Err(io::Error::other("closed on purpose"));
                }
            },
        };
        let Answer {
            status,
            objects,
            total,
            ..
        } = answer;
        self.state().follow(&target);
        ticket.settle(Outcome::Answered {
            status,
            objects,
            total,
        });
        Ok(answer)
    }

    /// What Belvo would answer when nothing goes wrong.
    fn usual(&self, method: &Method, headers: &HeaderMap, seen: &Request) -> Answer {
        let mut state = self.state();
        let within = state
            .burst
            .as_mut()
            .is_none_or(|burst| burst.admits(Instant::now()));
        if !within {
            return Answer::forbidden();
        }
        let Some(declared) = declared(&seen.path) else {
            return Answer::not_found();
        };
        let Some(query) = edge::query(&seen.query, &declared) else {
            return Answer::forbidden();
        };
        if headers
            .get(AUTHORIZATION)
            .is_none_or(|value| value.as_bytes() != self.authorization.as_bytes())
        {
            return Answer::error(401, "authentication_failed", "Invalid Secret Keys");
        }
        if method != Method::GET {
            let message = format!("Method \"{method}\" not allowed.");
            return Answer::error(405, "method_not_allowed", &message);
        }
        match declared.shape {
            Shape::Page => self.page(&state.lists, &query, seen),
            Shape::Object => detail(&state.lists, &seen.path, Answer::object),
            Shape::ObjectInArray => detail(&state.lists, &seen.path, Answer::object_in_array),
        }
    }

    fn page(&self, lists: &Lists, query: &Query, seen: &Request) -> Answer {
        if let Some(missing) = query.missing {
            return Answer::required(missing);
        }
        if let Some(filter) = &query.not_played {
            return Answer::not_played(filter);
        }
        if history_of(&seen.path).is_some_and(|object| lists.detail(object).is_none()) {
            return Answer::not_found();
        }
        let (link, created_from) = (query.link.as_deref(), query.created_from.as_deref());
        let objects = lists.matching(&seen.path, link, created_from);
        let url = format!("{}{}", self.base_url, seen.path);
        answers::page(&url, query, &seen.query, &objects)
    }
}

fn detail(lists: &Lists, path: &str, answer: fn(&str) -> Answer) -> Answer {
    let object = lists.detail(path);
    object.map_or_else(Answer::not_found, |object| answer(&object))
}

/// The answer that stands for a fault; none where the connection is closed instead.
fn faulty(fault: Fault) -> Option<Answer> {
    let wait = |answer: Answer, retry_after: Option<String>| match retry_after {
        Some(value) => answer.with("retry-after", value),
        None => answer,
    };
    match fault {
        Fault::Error {
            status,
            code,
            retry_after,
        } => Some(wait(
            Answer::error(status, &code, "Played by the stand-in."),
            retry_after,
        )),
        Fault::Throttled { retry_after } => Some(wait(Answer::throttled(), retry_after)),
        Fault::Forbidden => Some(Answer::forbidden()),
        Fault::NotJson => Some(Answer::not_json()),
        Fault::Endless => Some(Answer::endless()),
        Fault::Redirect(location) => Some(Answer::redirect(location)),
        Fault::TokenRequired { link } => Some(Answer::token_required(&link)),
        Fault::Closed | Fault::Truncated | Fault::Count(_) | Fault::NextElsewhere(_) => None,
    }
}

fn seen(request: &hyper::Request<Incoming>) -> Request {
    let query = request.uri().query().unwrap_or_default();
    let parameter = |wanted: &str| {
        let mut pairs = form_urlencoded::parse(query.as_bytes());
        pairs
            .find(|(name, _)| name == wanted)
            .map(|(_, value)| value.into_owned())
    };
    Request {
        number: 0,
        method: request.method().to_string(),
        path: request.uri().path().to_owned(),
        query: query.to_owned(),
        link: parameter("link"),
        page: parameter("page")
            .and_then(|page| page.parse().ok())
            .unwrap_or(1),
        came: Instant::now(),
        outcome: Outcome::Waiting,
    }
}

//! The intake: one request from head to reply, in the order in which it is checked, cheap and strict first. It knows the
//! journal and nothing behind it. Nothing here logs: what there is to say goes to [`Notices`], because a stuck log must
//! not hold up an answer.
//!
//! 1. A 200 to a webhook is sent only after the commit that holds its bytes was synced: `Reply::kept` takes the proof.
//! 2. The body of a refused peer is never read.
//! 3. The order is source (in `listener` by address, in `connection` by PROXY line, here by header and once more by the
//!    rules of the moment), the head's form, path and method, authorization, room on the disk, declared length, body under
//!    limit and deadline, append.
//! 4. The answer goes out within [`ANSWER_WAIT`] of the request's first byte, or it is a 503 (408 for a slow body).

pub mod auth;
pub mod challenge;
mod connection;
pub mod head;
pub mod hops;
pub mod listener;
mod looks;
pub mod proxy_line;
mod reply;
mod requests;
pub mod rules;
pub mod seats;
pub mod source;
pub mod tls;
mod wire;

use std::error::Error;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_LENGTH, HeaderMap, HeaderValue, TRANSFER_ENCODING};
use hyper::{Method, Request, Response};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout_at;

use crate::database::WriteError;
use crate::journal::Journal;
use crate::limits::{
    ANSWER_WAIT, BODIES_KIB_MAX, BODY_BYTES_MAX, BODY_WAIT, COMMIT_WAIT, EVIDENCE_BYTES_MAX,
};
use crate::notices::{Notice, Notices, Reason, Refused};
use crate::system::clock::{Stamp, UnixMs};
use crate::webhook::{Body, Delivery};

use auth::Verdict;
use challenge::Challenges;
use hops::{FORWARDED_HEADERS, Unclear};
use looks::Looks;
use reply::{Afterwards, Drift, Refusal, Reply};
use requests::State;
use rules::{Caller, Judged, Rules, Standing};
use source::Peer;

/// What every request is checked against, and where it goes.
#[derive(Debug)]
pub struct Intake {
    /// The path of the hook.
    path: String,
    /// What may change while it runs.
    rules: RwLock<Arc<Rules>>,
    /// Where deliveries are kept.
    journal: Journal,
    /// Where everything else is said.
    pub notices: Notices,
    /// Room for bodies, in KiB.
    room: Arc<Semaphore>,
    /// Which strangers are looked at for the drift alarm.
    looks: Looks,
    /// The challenge of an authority, if one is open.
    pub challenges: Arc<Challenges>,
}

impl Intake {
    /// An intake for the hook at `path`.
    pub fn new(path: String, rules: Rules, journal: Journal, notices: Notices) -> Self {
        Self {
            path,
            rules: RwLock::new(Arc::new(rules)),
            journal,
            notices,
            room: Arc::new(Semaphore::new(BODIES_KIB_MAX)),
            looks: Looks::default(),
            challenges: Arc::default(),
        }
    }

    /// The rules that hold now. Nothing panics while it holds the lock, so a poisoned one is still whole.
    pub fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// From now on these hold: for the next connection, and for the next request on one that is open.
    pub fn replace(&self, rules: Rules) {
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
    }

    /// Answers one request of the connection that `state` is about. Cannot fail: every error is an answer.
    async fn answer(
        &self,
        request: Request<Incoming>,
        caller: Caller,
        state: &State,
    ) -> (Response<Full<Bytes>>, Afterwards) {
        // Without a length there is no body (RFC 9112 section 6.3). Should the sender mean otherwise, what follows must
        // not be taken for its next request: this answer is the last on its connection.
        let is_delimited = is_delimited(&request);
        let rules = self.rules();
        let (peer, outcome) = match self.judge(&rules, caller, request.headers()) {
            Ok(peer) => (peer, self.take(request, &rules, peer, state).await),
            Err((peer, refusal)) => (peer, Err(refusal)),
        };
        let reply = outcome.unwrap_or_else(|refusal| {
            let reply = Reply::refused(&refusal);
            if !(caller.is_refused && matches!(refusal, Refusal::Stranger)) {
                self.report(refusal, peer);
            }
            reply
        });
        // Asked only now: it may have become the last one while it was kept.
        let may_go_on = is_delimited && !state.is_last();
        if may_go_on { reply } else { reply.closing() }.into_parts()
    }

    /// Whom the request is from, when that is somebody who may speak.
    fn judge(
        &self,
        rules: &Rules,
        caller: Caller,
        headers: &HeaderMap,
    ) -> Result<Peer, (Peer, Refusal)> {
        let judged = rules.judge(caller, |name| {
            headers.get_all(name).iter().map(HeaderValue::as_bytes)
        });
        match judged {
            Judged::Allowed(peer) => {
                // A trusted proxy's own words stand for another address than its own, or for a connection it named.
                if peer == caller.peer && !caller.is_named {
                    self.note_forwarded(peer, headers);
                }
                Ok(peer)
            }
            Judged::Stranger(peer) => {
                let direct = peer == caller.peer && !caller.is_named;
                let drift = drift(rules, peer, direct, headers).map(Refusal::Drift);
                Err((peer, drift.unwrap_or(Refusal::Stranger)))
            }
            Judged::Unclear(proxy, unclear) => Err((proxy, Refusal::Unclear(unclear))),
        }
    }

    /// Says that somebody who is no trusted proxy claims to speak for another. The claim is refused, not the request: what
    /// comes from an allowed address is Belvo's until the contrary is known.
    fn note_forwarded(&self, peer: Peer, headers: &HeaderMap) {
        if let Some(name) = forwarded_header(headers) {
            let claim = format!("a header {name}");
            self.refused(peer, Reason::Forwarded, None, Some(claim), None);
        }
    }

    async fn take(
        &self,
        request: Request<Incoming>,
        rules: &Rules,
        peer: Peer,
        state: &State,
    ) -> Result<Reply, Refusal> {
        let began = state.began();
        state.head().map_err(Refusal::Ambiguous)?;
        if request.uri().path() != self.path {
            return Err(Refusal::NotFound);
        }
        match *request.method() {
            Method::GET | Method::HEAD => return Ok(Reply::here()),
            Method::POST => {}
            _ => return Err(Refusal::MethodNotAllowed),
        }
        let (head, body) = request.into_parts();
        authorize(rules, &head.headers, body.is_end_stream())?;
        // It is a part of hyper's buffer, which would need another one for as long as it is there.
        drop(head);
        if !self.journal.has_room() {
            return Err(Refusal::Full);
        }
        let room = self.room_for(&body)?;
        let bytes = read(body, began).await?;
        let body = Body::parse(bytes)
            .map_err(|(malformed, bytes)| Refusal::Malformed(malformed, bytes))?;
        state.has_brought();
        self.keep(body, room, peer, began).await
    }

    /// Room for as long as the body is in memory, which may be longer than its request.
    fn room_for(&self, body: &Incoming) -> Result<OwnedSemaphorePermit, Refusal> {
        let bytes = body.size_hint().upper().unwrap_or(BODY_BYTES_MAX as u64);
        if bytes > BODY_BYTES_MAX as u64 {
            return Err(Refusal::TooLarge);
        }
        let kib = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX);
        Arc::clone(&self.room)
            .try_acquire_many_owned(kib)
            .map_err(|_| Refusal::Crowded)
    }

    async fn keep(
        &self,
        body: Body,
        room: OwnedSemaphorePermit,
        peer: Peer,
        began: Instant,
    ) -> Result<Reply, Refusal> {
        let bytes = body.as_str().len();
        let delivery = Delivery {
            received: Stamp::now(),
            peer: peer.address(),
            body,
        };
        let deadline = began + ANSWER_WAIT;
        let appended = match timeout_at(deadline.into(), self.journal.append(delivery, room)).await
        {
            Ok(Ok(appended)) => appended,
            Ok(Err(error)) => return Err(Refusal::Unavailable(unavailable(&error))),
            Err(_) => return Err(Refusal::Unavailable("the commit took too long".to_owned())),
        };
        if Instant::now() > deadline {
            return Err(Refusal::Unavailable("the process was held up".to_owned()));
        }
        self.notices.say(Notice::Kept {
            seq: appended.seq(),
            peer: peer.address(),
            bytes,
            on_disk: appended.at().saturating_duration_since(began),
            answered: began.elapsed(),
        });
        Ok(Reply::kept(&appended))
    }

    fn report(&self, refusal: Refusal, peer: Peer) {
        let (reason, status, detail) = (
            refusal.reason(),
            refusal.status().as_u16(),
            refusal.detail(),
        );
        let evidence = match refusal {
            Refusal::Malformed(_, mut bytes) => {
                bytes.truncate(EVIDENCE_BYTES_MAX);
                // What is cut off is not kept in memory, either.
                bytes.shrink_to_fit();
                Some(bytes)
            }
            _ => None,
        };
        self.refused(peer, reason, Some(status), detail, evidence);
    }

    /// Says that somebody was refused.
    fn refused(
        &self,
        peer: Peer,
        reason: Reason,
        status: Option<u16>,
        detail: Option<String>,
        evidence: Option<Vec<u8>>,
    ) {
        self.notices.say(Notice::Refused(Refused {
            at: UnixMs::now(),
            peer: peer.address(),
            reason,
            status,
            from_allowed_source: self.rules().allow.allows(peer),
            detail,
            evidence,
        }));
    }

    /// Whether this stranger's connection is one of the few that are looked at. Ends with the first comparison when there
    /// is nothing by which Belvo could be known.
    fn looks_at(&self, rules: &Rules, peer: Peer, now: Instant) -> bool {
        rules.hears_drift() && self.looks.take(peer, now)
    }

    /// Says that a PROXY line came where none is expected.
    fn proxy_line_came(&self, caller: Caller) {
        match self.rules().standing(caller.peer) {
            Standing::Proxy(_) if !caller.is_named => {
                self.unclear(caller.peer, Unclear::UnexpectedProxyLine)
            }
            _ => {
                let claim = Some("a line of the PROXY protocol".to_owned());
                self.refused(caller.peer, Reason::ProxyLine, None, claim, None);
            }
        }
    }

    /// Says that a trusted proxy's connection was closed, because it does not say whom it speaks for.
    fn unclear(&self, proxy: Peer, unclear: Unclear) {
        let why = Some(unclear.to_string());
        self.refused(proxy, Reason::Unclear, None, why, None);
    }

    /// Says that a stranger's connection is refused unread.
    fn turned_away(&self, peer: Peer) {
        self.notices.say(Notice::Refused(Refused {
            at: UnixMs::now(),
            peer: peer.address(),
            reason: Reason::Source,
            status: None,
            from_allowed_source: false,
            detail: None,
            evidence: None,
        }));
    }
}

/// A body that is known to be empty may come without the header: how Belvo tries a new URL is not documented, and such a
/// request carries nothing. A wrong value never passes.
fn authorize(rules: &Rules, headers: &HeaderMap, is_probe: bool) -> Result<(), Refusal> {
    match rules.authorization.judge(authorization(headers)) {
        Verdict::Ours => Ok(()),
        Verdict::Missing if is_probe => Ok(()),
        verdict => Err(Refusal::Unauthorized(verdict)),
    }
}

fn authorization(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    headers
        .get_all(AUTHORIZATION)
        .iter()
        .map(HeaderValue::as_bytes)
}

/// The first header by which the request speaks for somebody else.
fn forwarded_header(headers: &HeaderMap) -> Option<&'static str> {
    FORWARDED_HEADERS
        .into_iter()
        .find(|name| headers.keys().any(|key| key == name))
}

/// What it means that the request carries our `Authorization` value, if it does, although it is from a stranger: Belvo
/// has a new address, or a proxy stands in front that nobody has configured. Such a proxy must not be let in as if it
/// were Belvo, because it would bring everybody with it. A `direct` peer was not named by a proxy that we know of.
fn drift(rules: &Rules, peer: Peer, direct: bool, headers: &HeaderMap) -> Option<Drift> {
    if !rules.hears_drift() || rules.authorization.judge(authorization(headers)) != Verdict::Ours {
        return None;
    }
    let forwarded = forwarded_header(headers).filter(|_| direct);
    Some(match forwarded {
        Some(name) => Drift::Proxy(format!("the request has a header {name}")),
        None if peer.is_nearby() => {
            Drift::Proxy("the address is of this machine or of its network".to_owned())
        }
        None => Drift::Source(format!("allow = {:?}", rules.allow.written_with(peer))),
    })
}

fn unavailable(error: &WriteError) -> String {
    format!("the delivery could not be made durable: {error}")
}

/// Whether it is plain where the request ends: by a length, which Belvo sends.
fn is_delimited(request: &Request<Incoming>) -> bool {
    let headers = request.headers();
    request.method() != Method::POST
        || (headers.contains_key(CONTENT_LENGTH) && !headers.contains_key(TRANSFER_ENCODING))
}

/// The whole body, under its limit and deadline.
async fn read(body: Incoming, began: Instant) -> Result<Vec<u8>, Refusal> {
    let deadline = (Instant::now() + BODY_WAIT).min(began + ANSWER_WAIT - COMMIT_WAIT);
    match timeout_at(deadline.into(), gathered(body)).await {
        Err(_) => Err(Refusal::Slow),
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Refusal::TooLarge),
        Ok(Err(error)) => Err(Refusal::Broken(error.to_string())),
    }
}

/// Each piece is put in its place at once: kept as they come, all of them would be in memory twice in the end, and each
/// would hold the whole buffer that it was read into. Room that is not used yet is no memory yet.
async fn gathered(body: Incoming) -> Result<Vec<u8>, Box<dyn Error + Send + Sync>> {
    let bytes_max = body.size_hint().upper().unwrap_or(BODY_BYTES_MAX as u64);
    let mut bytes = Vec::with_capacity(bytes_max.min(BODY_BYTES_MAX as u64) as usize);
    let mut body = Limited::new(body, BODY_BYTES_MAX);
    while let Some(frame) = body.frame().await {
        if let Ok(piece) = frame?.into_data() {
            bytes.extend_from_slice(&piece);
        }
    }
    bytes.shrink_to_fit();
    Ok(bytes)
}

//! The intake: one request from head to reply, in the order in which it is checked, cheap and strict first. It knows the
//! journal and nothing behind it. Nothing here logs: what there is to say goes to [`Notices`], because a stuck log must
//! not hold up an answer.
//!
//! 1. A 200 to a webhook is sent only after the commit that holds its bytes was synced: `Reply::kept` takes the proof.
//! 2. The body of a refused peer is never read.
//! 3. The order is source (in `listener`), the head's form, path and method, authorization, declared length, body under
//!    limit and deadline, append.
//! 4. The answer goes out within [`ANSWER_WAIT`] of the request's first byte, or it is a 503 (408 for a slow body).

pub mod auth;
mod connection;
pub mod head;
pub mod listener;
mod reply;
mod requests;
pub mod seats;
pub mod source;
pub mod tls;

use std::sync::Arc;
use std::time::Instant;

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_LENGTH, HeaderMap, HeaderValue, TRANSFER_ENCODING};
use hyper::{Method, Request, Response};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout_at;

use crate::database::WriteError;
use crate::journal::Journal;
use crate::limits::{ANSWER_WAIT, BODY_BYTES_MAX, BODY_WAIT, COMMIT_WAIT, EVIDENCE_BYTES_MAX};
use crate::notices::{Notice, Notices, Reason, Refused};
use crate::system::clock::UnixMs;
use crate::webhook::{Body, Delivery};

use auth::{Authorization, Verdict};
use reply::{Afterwards, Refusal, Reply};
use requests::State;
use source::{AllowList, Peer};

/// What every request is checked against, and where it goes.
#[derive(Debug)]
pub struct Intake {
    /// The path of the hook.
    pub path: String,
    /// The sources that may speak.
    pub allow: AllowList,
    /// The `Authorization` values that count.
    pub authorization: Authorization,
    /// Where deliveries are kept.
    pub journal: Journal,
    /// Where everything else is said.
    pub notices: Notices,
    /// Room for bodies, in KiB.
    pub room: Arc<Semaphore>,
    /// Connections served at once.
    pub connections_max: usize,
}

impl Intake {
    /// Answers one request of the connection that `state` is about. Cannot fail: every error is an answer.
    async fn answer(
        &self,
        request: Request<Incoming>,
        peer: Peer,
        state: &State,
    ) -> (Response<Full<Bytes>>, Afterwards) {
        // Without a length there is no body (RFC 9112 section 6.3). Should the sender mean otherwise, what follows must
        // not be taken for its next request: this answer is the last on its connection.
        let may_go_on = is_delimited(&request) && !state.is_last();
        let reply = self
            .take(request, peer, state)
            .await
            .unwrap_or_else(|refusal| {
                let reply = Reply::refused(&refusal);
                self.report(refusal, peer);
                reply
            });
        if may_go_on { reply } else { reply.closing() }.into_parts()
    }

    async fn take(
        &self,
        request: Request<Incoming>,
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
        self.authorize(&head.headers, body.is_end_stream())?;
        let room = self.room_for(&body)?;
        let bytes = read(body, began).await?;
        let body = Body::parse(bytes)
            .map_err(|(malformed, bytes)| Refusal::Malformed(malformed, bytes))?;
        state.has_brought();
        self.keep(body, room, peer, began).await
    }

    /// A body that is known to be empty may come without the header: how Belvo tries a new URL is not documented, and
    /// such a request carries nothing. A wrong value never passes.
    fn authorize(&self, headers: &HeaderMap, is_probe: bool) -> Result<(), Refusal> {
        match self.authorization.judge(
            headers
                .get_all(AUTHORIZATION)
                .iter()
                .map(HeaderValue::as_bytes),
        ) {
            Verdict::Ours => Ok(()),
            Verdict::Missing if is_probe => Ok(()),
            verdict => Err(Refusal::Unauthorized(verdict)),
        }
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
        let (received_at, bytes) = (UnixMs::now(), body.as_str().len());
        let delivery = Delivery {
            received_at,
            clock_trusted: received_at.is_plausible(),
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

    /// Says that somebody whose source is allowed was refused.
    fn refused(
        &self,
        peer: Peer,
        reason: Reason,
        status: Option<u16>,
        detail: Option<String>,
        evidence: Option<Vec<u8>>,
    ) {
        let (at, peer) = (UnixMs::now(), peer.address());
        self.notices.say(Notice::Refused(Refused {
            at,
            peer,
            reason,
            status,
            from_allowed_source: true,
            detail,
            evidence,
        }));
    }

    /// Says that a stranger's connection was closed.
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
    match timeout_at(
        deadline.into(),
        Limited::new(body, BODY_BYTES_MAX).collect(),
    )
    .await
    {
        Err(_) => Err(Refusal::Slow),
        Ok(Ok(body)) => Ok(body.to_bytes().into()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Refusal::TooLarge),
        Ok(Err(error)) => Err(Refusal::Broken(error.to_string())),
    }
}

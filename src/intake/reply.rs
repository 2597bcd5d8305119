//! What a request is answered, and why not 200. The 200 to a webhook is made here, in exchange for the proof that the
//! delivery is on the disk, and nowhere else. Knows no checks and no connections.

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};

use super::auth::Verdict;
use super::head::Fault;
use super::hops::Unclear;
use crate::journal::Appended;
use crate::limits::RETRY_AFTER_SECS;
use crate::notices::Reason;
use crate::webhook::{Malformed, request_id_in};

/// Why a request is not answered 200.
#[derive(Debug)]
pub(super) enum Refusal {
    /// Two readers could take it for two things.
    Ambiguous(Fault),
    /// The source is not allowed.
    Stranger,
    /// The same, and the request carried our `Authorization` value: with what is worth knowing about that.
    Drift(Drift),
    /// A trusted proxy does not say whom it speaks for.
    Unclear(Unclear),
    NotFound,
    MethodNotAllowed,
    Unauthorized(Verdict),
    TooLarge,
    Slow,
    /// The connection broke off, or the framing was wrong.
    Broken(String),
    Malformed(Malformed, Vec<u8>),
    /// There is no room for the body now; it was not read.
    Crowded,
    /// There is no room on the disk; the body was not read.
    Full,
    Unavailable(String),
}

/// What a request with our `Authorization` value says, that came from an address that may not speak.
#[derive(Debug)]
pub(super) enum Drift {
    /// Belvo may send from there now: the line of the configuration that would let it in.
    Source(String),
    /// A proxy of ours may stand there: why it looks so.
    Proxy(String),
}

impl Refusal {
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Stranger | Self::Drift(_) | Self::Unclear(_) => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Unauthorized(_) => StatusCode::UNAUTHORIZED,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Slow => StatusCode::REQUEST_TIMEOUT,
            Self::Ambiguous(_) | Self::Broken(_) | Self::Malformed(..) => StatusCode::BAD_REQUEST,
            Self::Crowded | Self::Full | Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    pub(super) fn reason(&self) -> Reason {
        match self {
            Self::Stranger => Reason::Source,
            Self::Drift(Drift::Source(_)) => Reason::Drift,
            Self::Drift(Drift::Proxy(_)) => Reason::Forwarded,
            Self::Unclear(_) => Reason::Unclear,
            Self::NotFound => Reason::Path,
            Self::MethodNotAllowed => Reason::Method,
            Self::Unauthorized(_) => Reason::Authorization,
            Self::TooLarge => Reason::TooLarge,
            Self::Slow => Reason::Slow,
            Self::Ambiguous(_) | Self::Broken(_) => Reason::Head,
            Self::Malformed(..) => Reason::UnreadableBody,
            Self::Crowded | Self::Full | Self::Unavailable(_) => Reason::Unavailable,
        }
    }

    /// Whether the body was read to its end, so that the connection may go on.
    fn leaves_connection_whole(&self) -> bool {
        matches!(self, Self::Malformed(..) | Self::Unavailable(_))
    }

    pub(super) fn detail(&self) -> Option<String> {
        match self {
            Self::Ambiguous(fault) => Some(fault.to_string()),
            Self::Drift(Drift::Source(text) | Drift::Proxy(text)) => Some(text.clone()),
            Self::Unclear(unclear) => Some(unclear.to_string()),
            Self::Unauthorized(Verdict::Missing) => Some("the header is missing".to_owned()),
            Self::Unauthorized(_) => Some("the header has another value".to_owned()),
            Self::Broken(text) | Self::Unavailable(text) => Some(text.clone()),
            Self::Full => {
                Some("there is not enough room on the disk, and nothing may be kept".to_owned())
            }
            Self::Crowded => Some("too many bodies are being read already".to_owned()),
            Self::Malformed(malformed, bytes) => {
                let id = request_id_in(bytes)
                    .map(|id| format!(", request_id {id}"))
                    .unwrap_or_default();
                Some(format!("{malformed}, {} bytes{id}", bytes.len()))
            }
            _ => None,
        }
    }
}

/// An answer. Its fields are seen by this file alone, so a webhook's 200 cannot be had without its proof.
#[derive(Debug)]
pub(super) struct Reply {
    response: Response<Full<Bytes>>,
    afterwards: Afterwards,
}

impl Reply {
    /// The 200 to a delivery, in exchange for the proof that it is on the disk.
    pub(super) fn kept(_proof: &Appended) -> Self {
        Self::new(Response::new(Full::default()))
    }

    /// The 200 to somebody who looks whether the hook is there. It stands for nothing that was sent.
    pub(super) fn here() -> Self {
        Self::new(Response::new(Full::default()))
    }

    fn new(response: Response<Full<Bytes>>) -> Self {
        Self {
            response,
            afterwards: Afterwards::Whole,
        }
    }

    pub(super) fn refused(refusal: &Refusal) -> Self {
        let mut response = Response::new(Full::default());
        *response.status_mut() = refusal.status();
        let headers = response.headers_mut();
        match refusal {
            Refusal::MethodNotAllowed => {
                headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD, POST"));
            }
            Refusal::Crowded | Refusal::Full | Refusal::Unavailable(_) => {
                headers.insert(RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECS));
            }
            Refusal::Malformed(_, bytes) => {
                if let Some(id) = request_id_in(bytes) {
                    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                    *response.body_mut() = format!("{{\"request_id\":\"{id}\"}}").into();
                }
            }
            _ => {}
        }
        match refusal.leaves_connection_whole() {
            true => Self::new(response),
            false => Self::new(response).closing(),
        }
    }

    /// The last answer on its connection.
    pub(super) fn closing(mut self) -> Self {
        let close = HeaderValue::from_static("close");
        self.response.headers_mut().insert(CONNECTION, close);
        self.afterwards = Afterwards::Unread;
        self
    }

    /// What is sent, and what the connection is like afterwards.
    pub(super) fn into_parts(self) -> (Response<Full<Bytes>>, Afterwards) {
        (self.response, self.afterwards)
    }
}

/// What the answer leaves the connection like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Afterwards {
    /// The next request may follow.
    Whole,
    /// The rest of a body may still come, and is not wanted.
    Unread,
}

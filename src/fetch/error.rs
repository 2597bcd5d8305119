//! What can go wrong with a request to Belvo's API: its class, one sentence about it, and the next step.
//! Never holds bytes of an answer's body but Belvo's own `code` and `request_id`.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;

use super::codes::{self, Code};

/// What kind of trouble an error is, which decides what happens next (docs/belvo.md, Errors).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Belvo's side or the network: on Belvo's schedule, then in the slow lane.
    Temporary,
    /// Belvo's side, but sooner in the slow lane.
    Unexpected,
    /// It took too long: as temporary, and in smaller pages.
    Timeout,
    /// Somebody is logged in at the bank now: two minutes first.
    Busy,
    /// The bank is away: half an hour.
    Slow,
    /// The bank gives nothing: a few slow tries, then blocked as permanent.
    Unavailable,
    /// The edge wants us to slow down: everything pauses.
    Throttled,
    /// The edge lets us not through: everything pauses. When it lets others through, it minds this request alone.
    Forbidden,
    /// Our keys are refused: all fetching stops and is tried again rarely.
    Credentials,
    /// The link needs its user: blocked until an event says it may work again.
    Link,
    /// A monthly limit is used up: due again next month.
    Parked,
    /// There is no such data there: as permanent, and hardly worth knowing.
    Unsupported,
    /// Asking again would fail again: blocked until a newer webhook or an operator asks.
    Permanent,
}

impl Class {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Temporary,
        Self::Unexpected,
        Self::Timeout,
        Self::Busy,
        Self::Slow,
        Self::Unavailable,
        Self::Throttled,
        Self::Forbidden,
        Self::Credentials,
        Self::Link,
        Self::Parked,
        Self::Unsupported,
        Self::Permanent,
    ];

    /// The word for `work.error_class`, logs and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Temporary => "temporary",
            Self::Unexpected => "unexpected",
            Self::Timeout => "timeout",
            Self::Busy => "busy",
            Self::Slow => "slow",
            Self::Unavailable => "unavailable",
            Self::Throttled => "throttled",
            Self::Forbidden => "forbidden",
            Self::Credentials => "credentials",
            Self::Link => "link",
            Self::Parked => "parked",
            Self::Unsupported => "unsupported",
            Self::Permanent => "permanent",
        }
    }

    /// The class of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.name() == name)
    }
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// No answer: the network, the name, the certificate, or the other side hung up.
    Network(String),
    /// No whole answer in time.
    Timeout,
    /// The answer is larger than we take. The same may be asked for in smaller pages.
    TooLarge,
    /// An answer that should be a page or an object and is not.
    NotAsExpected(String),
    /// An answer with a status that is no success.
    Status {
        /// The HTTP status.
        status: u16,
        /// Belvo's code, when the body had one.
        code: Option<String>,
    },
    /// A listing of more pages than we read.
    Endless,
    /// The objects break a rule of our file.
    Unstorable(String),
}

/// A failed request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Error {
    /// What went wrong.
    pub cause: Cause,
    /// What was asked for, without the host and the query.
    pub path: String,
    /// The page that was asked for; 0 when it was no listing.
    pub page: u32,
    /// Belvo's id of the request, for their support.
    pub request_id: Option<String>,
    /// How long the answer asks us to wait.
    pub retry_after: Option<Duration>,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.page {
            0 => write!(f, "GET {}: ", self.path)?,
            page => write!(f, "GET {} page {page}: ", self.path)?,
        }
        match &self.cause {
            Cause::Network(text) => write!(f, "no answer: {text}")?,
            Cause::Timeout => write!(f, "no whole answer in time")?,
            Cause::TooLarge => write!(f, "the answer is too large even for the smallest page")?,
            Cause::NotAsExpected(text) => {
                write!(f, "the answer is not what was asked for: {text}")?
            }
            Cause::Status {
                status,
                code: Some(code),
            } => write!(f, "{status} {code}")?,
            Cause::Status { status, code: None } => write!(f, "{status}")?,
            Cause::Endless => write!(f, "the listing does not end")?,
            Cause::Unstorable(text) => write!(f, "the objects cannot be stored: {text}")?,
        }
        if let Some(id) = &self.request_id {
            write!(f, " (request_id {id})")?;
        }
        match self.known() {
            Some(known) => write!(f, ": {}", known.meaning),
            None => Ok(()),
        }
    }
}

impl Error {
    /// A failure without an answer that would say more.
    pub fn new(path: &str, page: u32, cause: Cause) -> Self {
        Self {
            cause,
            path: path.to_owned(),
            page,
            request_id: None,
            retry_after: None,
        }
    }

    /// The class, decided by Belvo's code before the status.
    pub fn class(&self) -> Class {
        match &self.cause {
            Cause::Network(_) | Cause::NotAsExpected(_) => Class::Temporary,
            Cause::Timeout => Class::Timeout,
            Cause::TooLarge | Cause::Endless | Cause::Unstorable(_) => Class::Permanent,
            Cause::Status { status, code } => match self.known() {
                Some(known) => known.class,
                None => class_of_status(*status, code.is_some()),
            },
        }
    }

    /// What the table of codes says about it.
    fn known(&self) -> Option<&'static Code> {
        codes::known(self.code()?)
    }

    /// Belvo's code, when the answer had one.
    pub fn code(&self) -> Option<&str> {
        match &self.cause {
            Cause::Status { code, .. } => code.as_deref(),
            _ => None,
        }
    }

    /// Whether there is no such page or object (any more).
    pub fn is_not_found(&self) -> bool {
        let expired = self.class() == Class::Link;
        matches!(self.cause, Cause::Status { status: 404, .. }) && !expired
    }

    /// What a person should do about it.
    pub fn next_step(&self) -> &'static str {
        if let Some(known) = self.known() {
            return known.next_step;
        }
        match self.class() {
            Class::Credentials => {
                "check the secret id and password, and that they belong to this environment; fetching goes on by itself when the key files change"
            }
            Class::Throttled => {
                "nothing: all fetching pauses and goes on by itself; if it comes back, lower [api] requests-per-second, and see whether others use Belvo from the same address"
            }
            Class::Forbidden => {
                "nothing if it is rare: all fetching pauses and goes on by itself; if only this request is refused, send its path to Belvo's support"
            }
            Class::Permanent | Class::Unsupported | Class::Unavailable | Class::Link => {
                "look the code up in Belvo's error list, or send the request_id to Belvo's support; a later webhook for the same resource, or `belvo-gateway retry`, tries it again"
            }
            Class::Temporary
            | Class::Unexpected
            | Class::Timeout
            | Class::Busy
            | Class::Slow
            | Class::Parked => "nothing: it is tried again",
        }
    }
}

/// A 403 without a code is the edge's HTML page: more than 80 requests in 30 seconds, or a request it does not know. A
/// redirect comes from a network that wants something first, not from Belvo.
fn class_of_status(status: u16, has_code: bool) -> Class {
    match status {
        429 => Class::Throttled,
        403 if !has_code => Class::Forbidden,
        401 if !has_code => Class::Credentials,
        408 => Class::Timeout,
        300..=399 | 500..=599 => Class::Temporary,
        _ => Class::Permanent,
    }
}

/// Belvo's code and request id in the body of an error: a list of objects, or one object, or something else entirely.
pub(super) fn code_and_request_id(body: &[u8]) -> (Option<String>, Option<String>) {
    #[derive(Default, Deserialize)]
    struct Refusal {
        code: Option<String>,
        request_id: Option<String>,
    }
    let list = || {
        serde_json::from_slice::<Vec<Refusal>>(body)
            .ok()?
            .into_iter()
            .next()
    };
    let refusal = list()
        .or_else(|| serde_json::from_slice(body).ok())
        .unwrap_or_default();
    (
        refusal.code.and_then(short),
        refusal.request_id.and_then(short),
    )
}

/// Only what looks like a code or an id may reach a log.
fn short(text: String) -> Option<String> {
    let plain = text
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    (plain && (1..=64).contains(&text.len())).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: u16, body: &str) -> Error {
        let (code, request_id) = code_and_request_id(body.as_bytes());
        let cause = Cause::Status { status, code };
        Error {
            cause,
            path: "/api/accounts/".to_owned(),
            page: 1,
            request_id,
            retry_after: None,
        }
    }

    fn class(status: u16, code: &str) -> Class {
        answered(
            status,
            &format!(r#"[{{"code":"{code}","message":"m","request_id":"r"}}]"#),
        )
        .class()
    }

    #[test]
    fn the_code_decides_before_the_status() {
        assert_eq!(class(401, "authentication_failed"), Class::Credentials);
        assert_eq!(class(401, "consent_without_accounts"), Class::Link);
        assert_eq!(class(400, "too_many_sessions"), Class::Busy);
        assert_eq!(class(400, "operational_limits_reached"), Class::Parked);
        assert_eq!(class(400, "institution_down"), Class::Slow);
        assert_eq!(class(428, "token_required"), Class::Link);
        assert_eq!(class(403, "access_to_resource_denied"), Class::Permanent);
        assert_eq!(class(404, "not_found"), Class::Permanent);
        assert_eq!(class(408, "request_timeout"), Class::Timeout);
        assert_eq!(class(404, "expired_credentials"), Class::Link);
        assert_eq!(class(418, "something_new"), Class::Permanent);
    }

    #[test]
    fn without_a_code_the_status_decides() {
        assert_eq!(
            answered(403, "<html>403 Forbidden</html>").class(),
            Class::Forbidden
        );
        assert_eq!(answered(429, "").class(), Class::Throttled);
        assert_eq!(answered(401, "").class(), Class::Credentials);
        assert_eq!(answered(502, "<html>").class(), Class::Temporary);
        assert_eq!(answered(302, "").class(), Class::Temporary);
    }

    #[test]
    fn an_error_names_the_path_the_code_and_belvos_request_id() {
        let error = answered(
            500,
            r#"{"code":"unexpected_error","request_id":"4363b08b"}"#,
        );
        assert_eq!(
            error.to_string(),
            "GET /api/accounts/ page 1: 500 unexpected_error (request_id 4363b08b): something went wrong at Belvo"
        );
    }

    #[test]
    fn bytes_that_are_no_code_do_not_reach_a_log() {
        assert_eq!(
            code_and_request_id(br#"[{"code":"name: Maria Silva","request_id":""}]"#),
            (None, None)
        );
        assert_eq!(code_and_request_id(b"\xff"), (None, None));
    }
}

//! What can go wrong with a request to Belvo's API: its class, one sentence about it, and the next step.
//! Never holds bytes of an answer's body but Belvo's own `code` and `request_id`.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;

/// What kind of trouble an error is, which decides what happens next (docs/belvo.md, Errors).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Belvo's side or the network: on Belvo's schedule, then in the slow lane.
    Temporary,
    /// Somebody is logged in at the bank now: two minutes first.
    Busy,
    /// The bank is away: half an hour.
    Slow,
    /// The edge wants us to slow down: everything pauses.
    Throttled,
    /// Our keys are refused: all fetching stops and is tried again rarely.
    Credentials,
    /// The link needs its user: blocked until an event says it may work again.
    Link,
    /// A monthly limit is used up: due again next month.
    Parked,
    /// Asking again would fail again: blocked until a newer webhook or an operator asks.
    Permanent,
}

impl Class {
    /// The word for `work.error_class`, logs and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Temporary => "temporary",
            Self::Busy => "busy",
            Self::Slow => "slow",
            Self::Throttled => "throttled",
            Self::Credentials => "credentials",
            Self::Link => "link",
            Self::Parked => "parked",
            Self::Permanent => "permanent",
        }
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
    /// An answer that should be a page and is not.
    NotAPage(String),
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
    /// The page that was asked for.
    pub page: u32,
    /// Belvo's id of the request, for their support.
    pub request_id: Option<String>,
    /// How long the answer asks us to wait.
    pub retry_after: Option<Duration>,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GET {} page {}: ", self.path, self.page)?;
        match &self.cause {
            Cause::Network(text) => write!(f, "no answer: {text}")?,
            Cause::Timeout => write!(f, "no whole answer in time")?,
            Cause::TooLarge => write!(f, "the answer is too large even for the smallest page")?,
            Cause::NotAPage(text) => write!(f, "the answer is not a page of objects: {text}")?,
            Cause::Status {
                status,
                code: Some(code),
            } => write!(f, "{status} {code}")?,
            Cause::Status { status, code: None } => write!(f, "{status}")?,
            Cause::Endless => write!(f, "the listing does not end")?,
            Cause::Unstorable(text) => write!(f, "the objects cannot be stored: {text}")?,
        }
        match &self.request_id {
            Some(id) => write!(f, " (request_id {id})"),
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
            Cause::Network(_) | Cause::Timeout | Cause::NotAPage(_) => Class::Temporary,
            Cause::TooLarge | Cause::Endless | Cause::Unstorable(_) => Class::Permanent,
            Cause::Status { status, code } => code
                .as_deref()
                .and_then(class_of_code)
                .unwrap_or_else(|| class_of_status(*status, code.is_some())),
        }
    }

    /// Whether the listing has no such page (any more).
    pub fn is_not_found(&self) -> bool {
        matches!(self.cause, Cause::Status { status: 404, .. })
    }

    /// What a person should do about it.
    pub fn next_step(&self) -> &'static str {
        match self.class() {
            Class::Credentials => {
                "check the secret id and password, and that they belong to this environment; then restart the gateway"
            }
            Class::Link => {
                "the link's user must act: update the credentials, or renew the consent; a later webhook for the link starts the fetch again"
            }
            Class::Parked => {
                "nothing: the monthly limit of this person is used up; it is tried again next month"
            }
            Class::Permanent => {
                "look the code up in Belvo's error list, or send the request_id to Belvo's support; a later webhook for the same resource tries it again"
            }
            Class::Temporary | Class::Busy | Class::Slow | Class::Throttled => {
                "nothing: it is tried again"
            }
        }
    }
}

/// Codes that decide whatever the status (docs/belvo.md, Errors).
fn class_of_code(code: &str) -> Option<Class> {
    Some(match code {
        "too_many_sessions" => Class::Busy,
        "operational_limits_reached" => Class::Parked,
        "institution_down"
        | "institution_unavailable"
        | "institution_inactive"
        | "unavailable_data"
        | "permission_denied" => Class::Slow,
        "invalid_link"
        | "unconfirmed_link"
        | "login_error"
        | "activation_failed"
        | "activation_required"
        | "session_expired"
        | "session_expired_ob"
        | "expired_credentials"
        | "token_required"
        | "consent_without_accounts" => Class::Link,
        "authentication_failed" => Class::Credentials,
        "request_timeout" | "unexpected_error" | "service_unavailable" => Class::Temporary,
        _ => return None,
    })
}

/// A 403 without a code is the edge's HTML page: more than 80 requests in 30 seconds.
fn class_of_status(status: u16, has_code: bool) -> Class {
    match status {
        429 => Class::Throttled,
        403 if !has_code => Class::Throttled,
        401 if !has_code => Class::Credentials,
        408 | 500..=599 => Class::Temporary,
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
        assert_eq!(class(408, "request_timeout"), Class::Temporary);
    }

    #[test]
    fn without_a_code_the_status_decides() {
        assert_eq!(
            answered(403, "<html>403 Forbidden</html>").class(),
            Class::Throttled
        );
        assert_eq!(answered(429, "").class(), Class::Throttled);
        assert_eq!(answered(401, "").class(), Class::Credentials);
        assert_eq!(answered(502, "<html>").class(), Class::Temporary);
        assert_eq!(answered(302, "").class(), Class::Permanent);
    }

    #[test]
    fn an_error_names_the_path_the_code_and_belvos_request_id() {
        let error = answered(
            500,
            r#"{"code":"unexpected_error","request_id":"4363b08b"}"#,
        );
        assert_eq!(
            error.to_string(),
            "GET /api/accounts/ page 1: 500 unexpected_error (request_id 4363b08b)"
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

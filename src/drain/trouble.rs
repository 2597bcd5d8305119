//! What a person should know about a failed fetch, and what follows for the fetches to come. Pure.

use std::time::Duration;

use super::job::subject;
use super::work::{Block, Work};
use crate::fetch::{Cause, Class, Error};
use crate::limits::{CREDENTIALS_WAIT, RETRY_AFTER_MAX, THROTTLED_WAIT, THROTTLED_WAIT_MAX};
use crate::store::problems::{Change, Kind, Problem};

/// Failures in a row after which one that is tried again by itself is worth knowing: Belvo's own schedule is used up.
const WORTH_KNOWING: u32 = 6;

/// How long nothing at all may be asked of the API after this failure, when it is the next after `pauses` pauses in a row.
pub fn pause(error: &Error, pauses: u32) -> Option<Duration> {
    let after = error.retry_after.unwrap_or_default().min(RETRY_AFTER_MAX);
    match error.class() {
        Class::Throttled | Class::Forbidden => Some(
            THROTTLED_WAIT
                .saturating_mul(1 << pauses.min(10))
                .min(THROTTLED_WAIT_MAX)
                .max(after),
        ),
        Class::Credentials => Some(CREDENTIALS_WAIT),
        _ => None,
    }
}

/// The problem that the last failure of this work opens, if it opens one; while the API as a whole is away for longer than
/// a moment, that is the problem.
pub fn problem(work: &Work, error: &Error, outage: bool) -> Option<Problem> {
    let subject = subject(&work.key);
    let blocked = work.blocked_by == Some(Block::Failed);
    let (kind, subject) = match (error.class(), &error.cause) {
        (Class::Credentials, _) => (Kind::ApiKeysRefused, String::new()),
        // The link's own state is the problem.
        (Class::Link, _) => return None,
        (Class::Unsupported, _) => (Kind::ResourceUnsupported, subject),
        (Class::Permanent | Class::Parked, _) => (Kind::FetchFailed, subject),
        _ if blocked => (Kind::FetchFailed, subject),
        _ if outage => (Kind::ApiUnreachable, String::new()),
        _ if work.attempts < WORTH_KNOWING => return None,
        (_, Cause::Network(_) | Cause::Timeout) => (Kind::ApiUnreachable, String::new()),
        _ => (Kind::FetchDelayed, subject),
    };
    let next_step = match (kind, &error.cause) {
        (Kind::ApiUnreachable, Cause::Status { .. }) => {
            "nothing: Belvo answers nobody, see its status page; it is tried again once a minute"
        }
        (Kind::ApiUnreachable, _) => {
            "see whether the box has a network, a name server and the right time, and whether base-url and ca-file are right; it is tried again meanwhile"
        }
        _ => error.next_step(),
    };
    let (text, next_step) = (error.to_string(), next_step.to_owned());
    Some(Problem {
        kind,
        subject,
        text,
        next_step,
        evidence: None,
    })
}

/// The problems that an answer ends although it is a refusal: whoever refuses one request is there, and whoever knows
/// whose request it is knows our keys.
pub fn over(error: &Error) -> Vec<Change> {
    match error.cause {
        Cause::Status { status, .. } if status < 500 => {}
        _ => return Vec::new(),
    }
    let mut changes = vec![Change::Close(Kind::ApiUnreachable, String::new())];
    if proves_the_keys(error) {
        changes.push(Change::Close(Kind::ApiKeysRefused, String::new()));
    }
    changes
}

/// Whether the answer comes from behind the check of our keys.
pub fn proves_the_keys(error: &Error) -> bool {
    let with_code = matches!(error.cause, Cause::Status { code: Some(_), .. });
    with_code
        && !matches!(
            error.class(),
            Class::Credentials
                | Class::Throttled
                | Class::Forbidden
                | Class::Temporary
                | Class::Unexpected
                | Class::Timeout
        )
}

/// What is said when there are no keys.
pub fn keys_missing() -> Problem {
    Problem {
        kind: Kind::ApiKeysMissing,
        subject: String::new(),
        text: "no API keys are configured: webhooks are kept, nothing is fetched".to_owned(),
        next_step: "give belvo-secret-id and belvo-secret-password as credentials (or [api] secret-id-file and secret-password-file) and restart the gateway".to_owned(),
        evidence: None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::work::{Key, Wish};
    use super::*;
    use crate::system::clock::UnixMs;
    use crate::webhook::Seq;

    fn error(cause: Cause) -> Error {
        Error::new("/api/accounts/", 1, cause)
    }

    fn status(status: u16) -> Error {
        error(Cause::Status { status, code: None })
    }

    fn kind(error: &Error, attempts: u32) -> Option<Kind> {
        let key = Key {
            link_id: "l".to_owned(),
            resource: "accounts".to_owned(),
            object_id: String::new(),
        };
        let work = Work {
            attempts,
            ..Work::new(Wish { key, whole: true }, Seq(1), UnixMs(0))
        };
        problem(&work, error, false).map(|problem| problem.kind)
    }

    #[test]
    fn what_is_tried_again_is_a_problem_only_when_it_lasts() {
        assert_eq!(
            (kind(&status(503), 5), kind(&status(503), 6)),
            (None, Some(Kind::FetchDelayed))
        );
        assert_eq!(kind(&error(Cause::Timeout), 6), Some(Kind::ApiUnreachable));
    }

    #[test]
    fn what_needs_a_person_is_a_problem_at_once() {
        assert_eq!(kind(&status(401), 1), Some(Kind::ApiKeysRefused));
        assert_eq!(kind(&status(404), 1), Some(Kind::FetchFailed));
    }

    #[test]
    fn a_refusal_of_one_request_ends_what_was_said_about_all_of_them() {
        let code = Some("invalid_link".to_owned());
        let refused = error(Cause::Status { status: 400, code });
        assert_eq!((over(&refused).len(), over(&status(503)).len()), (2, 0));
        assert_eq!(over(&error(Cause::Timeout)).len(), 0);
        assert!(proves_the_keys(&refused) && !proves_the_keys(&status(403)));
    }

    #[test]
    fn throttling_and_refused_keys_pause_everything() {
        assert_eq!(pause(&status(429), 0), Some(THROTTLED_WAIT));
        assert_eq!(pause(&status(403), 1), Some(THROTTLED_WAIT * 2));
        assert_eq!(pause(&status(429), u32::MAX), Some(THROTTLED_WAIT_MAX));
        assert_eq!(pause(&status(401), 0), Some(CREDENTIALS_WAIT));
        assert_eq!(pause(&status(503), 0), None);
    }
}

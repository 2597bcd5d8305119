//! THE TABLE of Belvo's error codes: what each means for somebody who only reads, what follows, and what a person should
//! do (docs/belvo.md, Errors). Pure.

use super::Class;

/// One of Belvo's error codes.
#[derive(Debug)]
pub struct Code {
    /// As it stands in `code`.
    pub code: &'static str,
    /// The HTTP status it is documented with.
    pub status: u16,
    /// What follows.
    pub class: Class,
    /// What it means, in a sentence without its end.
    pub meaning: &'static str,
    /// What a person should do.
    pub next_step: &'static str,
}

const REPORT: &str = "send the request_id to Belvo's support; a later webhook for the same resource, or `belvo-gateway retry`, tries it again";
const WAIT: &str = "nothing: it is tried again";
const USER: &str = "the link's user must act, see the link's own problem; a later webhook for the link starts the fetch again";
const KEYS: &str = "check the secret id and password, and that they belong to this environment and may read this data; fetching goes on by itself when the key files change";

const fn code(
    status: u16,
    code: &'static str,
    class: Class,
    meaning: &'static str,
    next_step: &'static str,
) -> Code {
    Code {
        code,
        status,
        class,
        meaning,
        next_step,
    }
}

/// A request of ours that the API does not take: most of these answer what we never send.
const fn wrong(status: u16, code_: &'static str) -> Code {
    code(
        status,
        code_,
        Class::Permanent,
        "Belvo does not take the request as it is",
        REPORT,
    )
}

/// Trouble between the link and its institution.
const fn link(status: u16, code_: &'static str, meaning: &'static str) -> Code {
    code(status, code_, Class::Link, meaning, USER)
}

/// Every code that Belvo documents for the data this gateway reads, by status.
pub const CODES: &[Code] = &[
    wrong(400, "required"),
    wrong(400, "blank"),
    wrong(400, "null"),
    wrong(400, "invalid"),
    wrong(400, "invalid_choice"),
    wrong(400, "does_not_exist"),
    wrong(400, "not_a_list"),
    wrong(400, "parse_error"),
    wrong(400, "validation_error"),
    wrong(400, "min_value"),
    wrong(400, "max_digits"),
    wrong(400, "max_decimal_places"),
    wrong(400, "invalid_period"),
    wrong(400, "invalid_fetch_resources"),
    wrong(400, "invalid_credentials_storage"),
    wrong(400, "already_exists"),
    wrong(400, "duplicated"),
    wrong(400, "cancellation_error"),
    code(
        400,
        "unsupported_operation",
        Class::Unsupported,
        "the institution does not offer this resource",
        "nothing: there is no such data at this institution",
    ),
    code(
        400,
        "too_many_sessions",
        Class::Busy,
        "somebody is logged in at the institution now",
        WAIT,
    ),
    code(
        400,
        "operational_limits_reached",
        Class::Parked,
        "this person's monthly limit of Open Finance is used up",
        "nothing: it is tried again next month",
    ),
    code(
        400,
        "institution_down",
        Class::Slow,
        "the institution is down",
        WAIT,
    ),
    code(
        400,
        "institution_unavailable",
        Class::Slow,
        "the institution does not answer Belvo",
        WAIT,
    ),
    code(
        400,
        "institution_inactive",
        Class::Slow,
        "Belvo has switched the institution off for now",
        "see Belvo's status page; it is tried again meanwhile",
    ),
    code(
        400,
        "unavailable_data",
        Class::Unavailable,
        "the institution gives nothing",
        "nothing if the user has no such data; else a later webhook, or `belvo-gateway retry`, tries it again",
    ),
    link(400, "invalid_link", "the link does not work any more"),
    link(400, "unconfirmed_link", "the link was never completed"),
    link(
        400,
        "login_error",
        "the institution does not accept the credentials",
    ),
    link(
        400,
        "activation_failed",
        "internet banking could not be activated",
    ),
    link(
        400,
        "session_expired",
        "the session at the institution has ended",
    ),
    link(
        400,
        "session_expired_ob",
        "the session at the institution has ended",
    ),
    code(
        401,
        "authentication_failed",
        Class::Credentials,
        "Belvo does not accept the API keys",
        KEYS,
    ),
    link(
        401,
        "consent_without_accounts",
        "the consent covers no account any more",
    ),
    code(
        403,
        "access_to_production_denied",
        Class::Credentials,
        "the API keys may not be used in this environment",
        "ask Belvo to open the environment for these keys, or use those that belong to it; fetching goes on by itself when the key files change",
    ),
    code(
        403,
        "access_to_resource_denied",
        Class::Permanent,
        "this resource is not part of the contract with Belvo",
        "ask Belvo to add the resource, or take it out of what the widget asks for; send them the request_id; a later webhook tries it again",
    ),
    code(
        403,
        "permission_denied",
        Class::Slow,
        "Belvo is barred at the institution, or asks it too often",
        "if it lasts a day, send the request_id to Belvo's support; it is tried again meanwhile",
    ),
    code(
        403,
        "quota_limit_reached",
        Class::Permanent,
        "the environment allows no more links",
        REPORT,
    ),
    code(
        404,
        "not_found",
        Class::Permanent,
        "Belvo has no such path or object for these keys",
        REPORT,
    ),
    link(
        404,
        "expired_credentials",
        "Belvo has stored the credentials no longer",
    ),
    wrong(405, "method_not_allowed"),
    code(
        408,
        "request_timeout",
        Class::Timeout,
        "Belvo could not collect everything in time",
        "nothing: it is asked for again in smaller pages; if it lasts a day, send the request_id to Belvo's support",
    ),
    code(
        409,
        "link_refreshed",
        Class::Temporary,
        "the link was refreshed a moment ago",
        WAIT,
    ),
    link(
        428,
        "token_required",
        "the institution asks for a new token",
    ),
    link(
        428,
        "activation_required",
        "internet banking is not activated",
    ),
    code(
        500,
        "unexpected_error",
        Class::Unexpected,
        "something went wrong at Belvo",
        "nothing at first: it is tried again; if it lasts a day, send the request_id to Belvo's support",
    ),
    code(
        500,
        "service_unavailable",
        Class::Temporary,
        "Belvo is not available",
        WAIT,
    ),
];

/// What is known about a code.
pub(super) fn known(code: &str) -> Option<&'static Code> {
    CODES.iter().find(|known| known.code == code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_code_stands_twice() {
        let codes: HashSet<_> = CODES.iter().map(|known| known.code).collect();
        assert_eq!(codes.len(), CODES.len());
    }

    #[test]
    fn the_codes_stand_by_status() {
        assert!(CODES.is_sorted_by_key(|known| known.status));
    }
}

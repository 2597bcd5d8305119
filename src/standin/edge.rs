//! What Belvo's firewall lets through: the query parameters declared for a path, in their declared form, and so many
//! requests in so many seconds. Pure; it does not know what is held, who asks or what is answered.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::declared::Declared;

const PAGE_SIZE_DEFAULT: usize = 100;
const PAGE_SIZE_MAX: usize = 1000;

/// More than this many requests within [`BURST_WINDOW`] from one address are answered with the firewall's 403.
const BURST_REQUESTS_MAX: usize = 80;
const BURST_WINDOW: Duration = Duration::from_secs(30);

/// The query of a list, checked and with its defaults filled in.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Query {
    pub(super) link: Option<String>,
    pub(super) created_from: Option<String>,
    pub(super) page: usize,
    pub(super) page_size: usize,
    /// The parameter that the path requires and the query does not have.
    pub(super) missing: Option<&'static str>,
    /// A filter that is let through but that the stand-in does not play.
    pub(super) not_played: Option<String>,
}

/// Reads the query string of a request for `declared`; `None` is what the firewall does not let through.
///
/// `omit` and `fields` are let through where they are declared, but every object is answered whole.
pub(super) fn query(text: &str, declared: &Declared) -> Option<Query> {
    let mut query = Query {
        link: None,
        created_from: None,
        page: 1,
        page_size: PAGE_SIZE_DEFAULT,
        missing: declared.required,
        not_played: None,
    };
    for (name, value) in form_urlencoded::parse(text.as_bytes()) {
        if !declared.takes(&name) {
            return None;
        }
        query.missing = query.missing.filter(|required| *required != name);
        match name.as_ref() {
            "link" => query.link = Some(uuid(&value)?),
            "created_at__gte" => query.created_from = Some(day(&value)?),
            "page" => query.page = positive(&value)?,
            "page_size" => query.page_size = positive(&value)?.min(PAGE_SIZE_MAX),
            "user_document" if !matches!(value.len(), 11..=14) => return None,
            "omit" | "fields" | "user_document" => {}
            other => query.not_played = Some(other.to_owned()),
        }
    }
    Some(query)
}

fn uuid(value: &str) -> Option<String> {
    Uuid::parse_str(value).ok().map(|_| value.to_owned())
}

fn positive(value: &str) -> Option<usize> {
    value.parse().ok().filter(|number| *number > 0)
}

fn day(value: &str) -> Option<String> {
    let form = value.bytes().enumerate().all(|(at, byte)| match at {
        4 | 7 => byte == b'-',
        _ => byte.is_ascii_digit(),
    });
    (form && value.len() == 10).then(|| value.to_owned())
}

/// The requests of the last half minute.
#[derive(Debug, Default)]
pub(super) struct Burst {
    seen: VecDeque<Instant>,
}

impl Burst {
    /// Counts one request and says whether it is within what the firewall bears.
    pub(super) fn admits(&mut self, now: Instant) -> bool {
        while self
            .seen
            .front()
            .is_some_and(|first| now.duration_since(*first) > BURST_WINDOW)
        {
            self.seen.pop_front();
        }
        self.seen.push_back(now);
        self.seen.len() <= BURST_REQUESTS_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::standin::declared::declared;

    const LINK: &str = "16f68516-bcbc-4cf7-b815-c500d4204e28";

    fn asked(path: &str, text: &str) -> Option<Query> {
        query(text, &declared(path).expect("the path is declared"))
    }

    #[test]
    fn an_empty_query_is_the_first_hundred() {
        let first = Query {
            link: None,
            created_from: None,
            page: 1,
            page_size: 100,
            missing: None,
            not_played: None,
        };
        assert_eq!(asked("/api/accounts/", ""), Some(first));
    }

    #[test]
    fn a_page_is_never_larger_than_a_thousand() {
        let text = format!("link={LINK}&page=3&page_size=5000&created_at__gte=2026-11-20");
        let expected = Query {
            link: Some(LINK.into()),
            created_from: Some("2026-11-20".into()),
            page: 3,
            page_size: 1000,
            missing: None,
            not_played: None,
        };
        assert_eq!(asked("/api/transactions/", &text), Some(expected));
    }

    #[test]
    fn what_is_not_declared_or_not_in_its_form_is_stopped() {
        for bad in [
            "ordering=created_at",
            "value_date__gte=2026-11-20",
            "link=16f68516",
            "page=0",
            "page=two",
            "page_size=-1",
            "created_at__gte=2026-11-20T00:00:00Z",
            "created_at__gte=20-11-2026",
        ] {
            assert_eq!(asked("/api/accounts/", bad), None, "{bad}");
        }
        assert_eq!(asked("/api/consents/", "user_document=1"), None);
    }

    #[test]
    fn what_is_required_is_missed_and_what_is_not_played_is_named() {
        let missing = |path: &str, text: &str| asked(path, text).and_then(|query| query.missing);
        assert_eq!(missing("/api/bills/", "page=2"), Some("link"));
        assert_eq!(missing("/api/bills/", &format!("link={LINK}")), None);
        assert_eq!(missing("/api/consents/", ""), Some("user_document"));
        let filtered = asked("/api/accounts/", "type=checking").expect("it is declared");
        assert_eq!(filtered.not_played.as_deref(), Some("type"));
    }

    #[test]
    fn the_eighty_first_request_in_half_a_minute_is_stopped() {
        let mut burst = Burst::default();
        let start = Instant::now();
        assert!((0..80).all(|_| burst.admits(start)));
        assert!(!burst.admits(start + Duration::from_secs(29)));
        assert!(burst.admits(start + Duration::from_secs(31)));
    }
}

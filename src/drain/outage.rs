//! Whether the API as a whole is away, and not one resource or link: then one request a while finds out when it is back,
//! in place of a try for every piece of work. Pure.
//!
//! No answer at all is about the API; an answer that says "our fault" may be about one resource, unless links without
//! anything in common get it one after the other.

use std::collections::BTreeSet;

use crate::fetch::{Cause, Error};

/// Failures in a row, without an answer of any other kind in between.
const IN_A_ROW: u32 = 3;
/// Links among them, when there was an answer.
const LINKS: usize = 3;

/// What the last failures say about the API.
#[derive(Debug, Default)]
pub(super) struct Outage {
    unanswered: u32,
    failed_links: BTreeSet<String>,
    /// Failures since it was taken for away.
    since: u32,
}

impl Outage {
    /// Whether the API is taken for away.
    pub(super) fn is_on(&self) -> bool {
        self.unanswered >= IN_A_ROW || self.failed_links.len() >= LINKS
    }

    /// Whether it has been for longer than a moment.
    pub(super) fn lasts(&self) -> bool {
        self.since > 1
    }

    /// A fetch for this link failed.
    pub(super) fn failed(&mut self, link_id: &str, error: &Error) {
        match &error.cause {
            Cause::Network(_) => self.unanswered = self.unanswered.saturating_add(1),
            Cause::Status {
                status: 500..=599, ..
            } if self.failed_links.len() < LINKS => {
                self.failed_links.insert(link_id.to_owned());
            }
            Cause::Status {
                status: 500..=599, ..
            } => {}
            // Something is there, and it minds what was asked for.
            Cause::Status { .. } => self.over(),
            _ => {}
        }
        if self.is_on() {
            self.since = self.since.saturating_add(1);
        }
    }

    /// Something was fetched.
    pub(super) fn over(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn away() -> Cause {
        Cause::Network("connection refused".to_owned())
    }

    fn status(status: u16) -> Cause {
        Cause::Status { status, code: None }
    }

    fn after(failures: &[(&str, Cause)]) -> Outage {
        let mut outage = Outage::default();
        for (link, cause) in failures {
            outage.failed(link, &Error::new("/api/owners/", 1, cause.clone()));
        }
        outage
    }

    #[test]
    fn no_answer_three_times_in_a_row_is_an_outage() {
        assert!(!after(&[("a", away()), ("a", away())]).is_on());
        assert!(after(&[("a", away()), ("a", away()), ("a", away())]).is_on());
    }

    #[test]
    fn a_resource_that_always_fails_is_none_and_links_that_fail_one_after_the_other_are() {
        assert!(!after(&[("a", status(500)), ("a", status(500)), ("b", status(503))]).is_on());
        assert!(after(&[("a", status(503)), ("b", status(503)), ("c", status(503))]).is_on());
    }

    #[test]
    fn any_other_answer_ends_it() {
        let mut outage = after(&[("a", away()), ("a", away()), ("a", away()), ("a", away())]);
        assert!(outage.is_on() && outage.lasts());
        outage.failed("a", &Error::new("/api/owners/", 1, status(404)));
        assert!(!outage.is_on() && !outage.lasts());
    }
}

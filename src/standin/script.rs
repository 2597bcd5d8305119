//! What goes wrong on purpose: which request, how often, and how. It decides only that; what a fault looks like on the
//! wire is in `answers` and `server`, and it has not heard of lists beyond handing them to a change.

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::lists::Lists;

/// Which requests are meant, and how many of them. The next one on any page, unless said otherwise.
#[derive(Debug, Clone)]
pub struct When {
    path: String,
    link: Option<String>,
    page: Option<usize>,
    left: Option<u32>,
}

impl When {
    /// Requests whose path begins with `prefix`.
    pub fn path(prefix: &str) -> Self {
        Self {
            path: prefix.to_owned(),
            link: None,
            page: None,
            left: Some(1),
        }
    }

    /// Only those for this link.
    pub fn link(self, link: &str) -> Self {
        Self {
            link: Some(link.to_owned()),
            ..self
        }
    }

    /// Only those for this page; a request that names no page asks for page 1.
    pub fn page(self, page: usize) -> Self {
        Self {
            page: Some(page),
            ..self
        }
    }

    /// So many of them.
    pub fn times(self, times: u32) -> Self {
        Self {
            left: Some(times),
            ..self
        }
    }

    /// All of them, until the script is cleared.
    pub fn always(self) -> Self {
        Self { left: None, ..self }
    }

    fn means(&self, target: &Target<'_>) -> bool {
        self.left != Some(0)
            && target.path.starts_with(&self.path)
            && self.page.is_none_or(|page| page == target.page)
            && self
                .link
                .as_deref()
                .is_none_or(|link| target.link == Some(link))
    }

    fn count(&mut self) {
        self.left = self.left.map(|left| left - 1);
    }
}

/// One way of going wrong.
#[derive(Debug, Clone)]
pub enum Fault {
    /// An error in Belvo's form, with a `Retry-After` when one is given.
    Error {
        /// HTTP status.
        status: u16,
        /// Belvo's code, for example `unexpected_error`.
        code: String,
        /// The header's value: seconds or a date.
        retry_after: Option<String>,
    },
    /// The firewall's HTML 403.
    Forbidden,
    /// The firewall's 429, with a `Retry-After` when one is given.
    Throttled {
        /// The header's value: seconds or a date.
        retry_after: Option<String>,
    },
    /// The connection is closed without an answer.
    Closed,
    /// The right answer, but the connection ends half way through it.
    Truncated,
    /// A 200 that holds HTML.
    NotJson,
    /// A 200 that never ends.
    Endless,
    /// A redirect to this address.
    Redirect(String),
    /// The 428 for a link whose institution wants a token of its user, with all that Belvo adds to it.
    TokenRequired {
        /// The link's id.
        link: String,
    },
    /// The right page, but with this `count`.
    Count(usize),
    /// The right page, but its `next` leads to this scheme, host and port.
    NextElsewhere(String),
}

/// The errors Belvo documents for what only reads: status and code. A fault for each is made by [`Fault::error`].
pub const ERRORS: &[(u16, &str)] = &[
    (400, "already_exists"),
    (400, "blank"),
    (400, "cancellation_error"),
    (400, "does_not_exist"),
    (400, "duplicated"),
    (400, "invalid"),
    (400, "invalid_choice"),
    (400, "invalid_credentials_storage"),
    (400, "invalid_fetch_resources"),
    (400, "invalid_period"),
    (400, "max_decimal_places"),
    (400, "max_digits"),
    (400, "min_value"),
    (400, "not_a_list"),
    (400, "null"),
    (400, "parse_error"),
    (400, "required"),
    (400, "validation_error"),
    (400, "unsupported_operation"),
    (400, "too_many_sessions"),
    (400, "operational_limits_reached"),
    (400, "institution_down"),
    (400, "institution_inactive"),
    (400, "institution_unavailable"),
    (400, "unavailable_data"),
    (400, "invalid_link"),
    (400, "unconfirmed_link"),
    (400, "login_error"),
    (400, "activation_failed"),
    (400, "session_expired"),
    (400, "session_expired_ob"),
    (401, "authentication_failed"),
    (401, "consent_without_accounts"),
    (403, "access_to_production_denied"),
    (403, "access_to_resource_denied"),
    (403, "permission_denied"),
    (403, "quota_limit_reached"),
    (404, "not_found"),
    (404, "expired_credentials"),
    (405, "method_not_allowed"),
    (408, "request_timeout"),
    (409, "link_refreshed"),
    (428, "token_required"),
    (428, "activation_required"),
    (500, "unexpected_error"),
    (500, "service_unavailable"),
];

impl Fault {
    /// An error in Belvo's form.
    pub fn error(status: u16, code: &str) -> Self {
        Self::Error {
            status,
            code: code.to_owned(),
            retry_after: None,
        }
    }

    /// An error in Belvo's form that names the wait, in seconds or as a date.
    pub fn error_with_wait(status: u16, code: &str, retry_after: &str) -> Self {
        Self::Error {
            status,
            code: code.to_owned(),
            retry_after: Some(retry_after.to_owned()),
        }
    }
}

/// Requests that are kept waiting, as seen by the one who lets them go.
#[derive(Debug, Clone)]
pub struct Hold {
    gate: Arc<Gate>,
}

#[derive(Debug)]
struct Gate {
    waiting: Mutex<usize>,
    reached: Condvar,
    open: watch::Sender<bool>,
}

impl Hold {
    fn new() -> Self {
        let gate = Gate {
            waiting: Mutex::new(0),
            reached: Condvar::new(),
            open: watch::Sender::new(false),
        };
        Self {
            gate: Arc::new(gate),
        }
    }

    /// Waits until a request is held, and says whether one is.
    pub fn wait_reached(&self, timeout: Duration) -> bool {
        let waiting = self
            .gate
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let nobody = |waiting: &mut usize| *waiting == 0;
        let waited = self
            .gate
            .reached
            .wait_timeout_while(waiting, timeout, nobody);
        *waited.unwrap_or_else(PoisonError::into_inner).0 > 0
    }

    /// Lets the held requests go on to the answer they would have had, and every later one through.
    pub fn release(&self) {
        self.gate.open.send_replace(true);
    }

    pub(super) async fn pass(&self) {
        *self
            .gate
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner) += 1;
        self.gate.reached.notify_all();
        let mut open = self.gate.open.subscribe();
        open.wait_for(|open| *open)
            .await
            .expect("the sender is in the gate that this hold keeps alive");
    }
}

/// What a request asks for, as far as the script cares.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target<'a> {
    pub(super) path: &'a str,
    pub(super) link: Option<&'a str>,
    pub(super) page: usize,
}

/// What the script has for one request.
#[derive(Debug)]
pub(super) enum Turn {
    Fault(Fault),
    Hold(Hold),
}

type Change = Box<dyn FnMut(&mut Lists) + Send>;

/// Everything that is to go wrong, in the order it was asked for.
#[derive(Default)]
pub(super) struct Script {
    turns: Vec<(When, Turn)>,
    changes: Vec<(When, Change)>,
}

impl Script {
    pub(super) fn fail(&mut self, when: When, fault: Fault) {
        self.turns.push((when, Turn::Fault(fault)));
    }

    pub(super) fn hold(&mut self, when: When) -> Hold {
        let hold = Hold::new();
        self.turns.push((when, Turn::Hold(hold.clone())));
        hold
    }

    pub(super) fn change(&mut self, when: When, change: Change) {
        self.changes.push((when, change));
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The first thing that is to go wrong with this request; it is used up by that.
    pub(super) fn take(&mut self, target: &Target<'_>) -> Option<Turn> {
        let (when, turn) = self.turns.iter_mut().find(|(when, _)| when.means(target))?;
        when.count();
        match turn {
            Turn::Fault(fault) => Some(Turn::Fault(fault.clone())),
            Turn::Hold(hold) => Some(Turn::Hold(hold.clone())),
        }
    }

    /// Makes the changes that are to follow this request's answer.
    pub(super) fn follow(&mut self, target: &Target<'_>, lists: &mut Lists) {
        for (when, change) in self
            .changes
            .iter_mut()
            .filter(|(when, _)| when.means(target))
        {
            when.count();
            change(lists);
        }
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let changes: Vec<_> = self.changes.iter().map(|(when, _)| when).collect();
        f.debug_struct("Script")
            .field("turns", &self.turns)
            .field("changes", &changes)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(path: &str, page: usize) -> Target<'_> {
        Target {
            path,
            link: Some("one"),
            page,
        }
    }

    #[test]
    fn a_fault_meets_its_requests_as_often_as_asked() {
        let mut script = Script::default();
        script.fail(When::path("/api/bills/").page(2).times(2), Fault::Closed);
        assert!(script.take(&target("/api/bills/", 1)).is_none());
        assert!(script.take(&target("/api/owners/", 2)).is_none());
        assert!(script.take(&target("/api/bills/", 2)).is_some());
        assert!(script.take(&target("/api/bills/", 2)).is_some());
        assert!(script.take(&target("/api/bills/", 2)).is_none());
    }

    #[test]
    fn a_fault_for_ever_lasts_until_cleared() {
        let mut script = Script::default();
        script.fail(When::path("/api/").link("one").always(), Fault::Forbidden);
        assert!((0..100).all(|_| script.take(&target("/api/bills/", 1)).is_some()));
        assert!(
            script
                .take(&Target {
                    path: "/api/bills/",
                    link: None,
                    page: 1
                })
                .is_none()
        );
        script.clear();
        assert!(script.take(&target("/api/bills/", 1)).is_none());
    }

    #[test]
    fn a_change_follows_its_page_once() {
        let (mut script, mut lists) = (Script::default(), Lists::default());
        let more = |lists: &mut Lists| lists.add("/api/bills/", "one", vec!["{}".into()]);
        script.change(When::path("/api/bills/").page(1), Box::new(more));
        for page in [2, 1, 1] {
            script.follow(&target("/api/bills/", page), &mut lists);
        }
        assert_eq!(lists.objects("/api/bills/", "one").len(), 1);
    }
}

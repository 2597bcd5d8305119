//! What the stand-in was asked and what became of it, in a bounded log that can be waited on and watched. It does not
//! know what a request means.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Enough for the longest test; the oldest go first.
const REQUESTS_KEPT: usize = 20_000;

/// One request that reached the stand-in.
#[derive(Debug, Clone)]
pub struct Request {
    /// Counted from 1, in the order they came.
    pub number: u64,
    /// `GET`, or what else was tried.
    pub method: String,
    /// Path without the query.
    pub path: String,
    /// Query as it came, without the question mark.
    pub query: String,
    /// The `link` that was asked for.
    pub link: Option<String>,
    /// The page that was asked for; 1 when none was named.
    pub page: usize,
    /// When its head had been read.
    pub came: Instant,
    /// What became of it so far.
    pub outcome: Outcome,
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was read and nothing else happened yet.
    Waiting,
    /// It is kept waiting by a hold.
    Held,
    /// An answer was made.
    Answered {
        /// HTTP status.
        status: u16,
        /// Objects in this page.
        objects: usize,
        /// Objects in all pages.
        total: usize,
    },
    /// The connection was closed on purpose, without an answer.
    Closed,
    /// The client went away, or the stand-in was stopped, before there was an answer.
    Abandoned,
}

/// Called with a request each time its outcome changes, on the stand-in's own thread.
pub type Observer = Box<dyn Fn(&Request) + Send + Sync>;

#[derive(Default)]
pub(super) struct Record {
    kept: Mutex<Kept>,
    changed: Condvar,
    observer: Option<Observer>,
}

#[derive(Default)]
struct Kept {
    requests: VecDeque<Request>,
    count: u64,
}

impl Record {
    pub(super) fn new(observer: Option<Observer>) -> Self {
        Self {
            observer,
            ..Self::default()
        }
    }

    /// Notes a request; it counts as abandoned unless the ticket is settled.
    pub(super) fn open(&self, mut request: Request) -> Ticket<'_> {
        let mut kept = self.lock();
        kept.count += 1;
        let number = kept.count;
        request.number = number;
        if kept.requests.len() == REQUESTS_KEPT {
            kept.requests.pop_front();
        }
        kept.requests.push_back(request);
        self.changed.notify_all();
        Ticket {
            record: self,
            number,
            settled: false,
        }
    }

    pub(super) fn requests(&self) -> Vec<Request> {
        self.lock().requests.iter().cloned().collect()
    }

    pub(super) fn forget(&self) {
        self.lock().requests.clear();
    }

    /// Waits until `enough` is true of the requests so far, and says whether it is.
    pub(super) fn wait_for(&self, timeout: Duration, enough: impl Fn(&[Request]) -> bool) -> bool {
        let not_yet = |kept: &mut Kept| !enough(kept.requests.make_contiguous());
        let waited = self
            .changed
            .wait_timeout_while(self.lock(), timeout, not_yet);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn settle(&self, number: u64, outcome: Outcome) {
        let mut kept = self.lock();
        let Some(request) = kept
            .requests
            .iter_mut()
            .rev()
            .find(|request| request.number == number)
        else {
            return;
        };
        request.outcome = outcome;
        let request = request.clone();
        drop(kept);
        self.changed.notify_all();
        if let Some(observer) = &self.observer {
            observer(&request);
        }
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("requests", &self.lock().requests.len())
            .finish_non_exhaustive()
    }
}

/// A request on its way to an answer.
pub(super) struct Ticket<'a> {
    record: &'a Record,
    number: u64,
    settled: bool,
}

impl Ticket<'_> {
    pub(super) fn held(&self) {
        self.record.settle(self.number, Outcome::Held);
    }

    pub(super) fn settle(mut self, outcome: Outcome) {
        self.settled = true;
        self.record.settle(self.number, outcome);
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        if !self.settled {
            self.record.settle(self.number, Outcome::Abandoned);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(path: &str) -> Request {
        Request {
            number: 0,
            method: "GET".into(),
            path: path.into(),
            query: String::new(),
            link: None,
            page: 1,
            came: Instant::now(),
            outcome: Outcome::Waiting,
        }
    }

    #[test]
    fn a_request_without_an_answer_is_abandoned() {
        let record = Record::default();
        record.open(request("/a/")).settle(Outcome::Closed);
        drop(record.open(request("/b/")));
        let outcomes: Vec<_> = record
            .requests()
            .iter()
            .map(|r| (r.number, r.outcome))
            .collect();
        assert_eq!(outcomes, [(1, Outcome::Closed), (2, Outcome::Abandoned)]);
    }

    #[test]
    fn waiting_ends_when_it_is_enough_or_too_long() {
        let record = Record::default();
        record.open(request("/a/")).settle(Outcome::Closed);
        assert!(record.wait_for(Duration::from_secs(5), |requests| requests.len() == 1));
        assert!(!record.wait_for(Duration::ZERO, |requests| requests.len() == 2));
    }
}

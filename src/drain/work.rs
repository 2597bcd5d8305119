//! One thing to keep fetched, and the legal moves of its state. Pure: the SQL only stores the result.
//!
//! ```text
//!   wished ----> wanted > fetched, due ----> fetched: fetched = w, settled unless wished meanwhile
//!                    ^            |--------> failed:  due later, or blocked by `failed` or `link`
//!                    '---- a newer wish lifts a block
//! ```

use std::time::Duration;

use super::retry::{self, Next};
use crate::fetch::Class;
use crate::limits::LONGEST_WAIT;
use crate::system::clock::UnixMs;
use crate::webhook::Seq;

/// A new wish for something that keeps failing brings the next try no nearer than this.
const WISHED_AGAIN: Duration = Duration::from_secs(60);

/// What is kept fetched: the whole list of a resource for a link, or one object of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The link.
    pub link_id: String,
    /// A name in the catalog.
    pub resource: String,
    /// Empty for the whole list.
    pub object_id: String,
}

/// Why pending work is not due at any time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// Asking again would fail again.
    Failed,
    /// The link needs its user.
    Link,
}

impl Block {
    /// The word for `work.blocked_by`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Link => "link",
        }
    }

    /// The block of that name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Failed, Self::Link]
            .into_iter()
            .find(|block| block.name() == name)
    }
}

/// The state of one thing to keep fetched: a row of `work`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Work {
    /// What it is.
    pub key: Key,
    /// The newest webhook that asks for it.
    pub wanted: Seq,
    /// The newest webhook whose ask has been met.
    pub fetched: Seq,
    /// The oldest webhook whose ask has not been met.
    pub asked: Seq,
    /// Failures in a row.
    pub attempts: u32,
    /// When to try (again); `None` when nothing is pending or something blocks it.
    pub due_at: Option<UnixMs>,
    /// What blocks it.
    pub blocked_by: Option<Block>,
    /// What the last failure said.
    pub last_failure: Option<Failure>,
    /// The last complete fetch.
    pub last_fetch: Option<Fetch>,
}

/// A failure as it is kept: a sentence without any of the body's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What happened.
    pub text: String,
    /// Its class.
    pub class: String,
    /// Belvo's id of the failed request, for their support.
    pub request_id: Option<String>,
}

/// A complete fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// When its first request went out.
    pub started_at: UnixMs,
    /// When its last page was stored.
    pub finished_at: UnixMs,
    /// Objects found.
    pub found: u64,
    /// Of those, new or changed.
    pub changed: u64,
}

impl Work {
    /// Something that was never wanted before, as the webhook `seq` asks for it.
    pub fn new(key: Key, seq: Seq, now: UnixMs) -> Self {
        Self {
            key,
            wanted: seq,
            fetched: Seq(0),
            asked: seq,
            attempts: 0,
            due_at: Some(now),
            blocked_by: None,
            last_failure: None,
            last_fetch: None,
        }
    }

    /// Whether an ask has not been met.
    pub fn is_pending(&self) -> bool {
        self.wanted > self.fetched
    }

    /// Whether it may be fetched at `now`. A time too far away to be one of ours comes from a wrong clock.
    pub fn is_due(&self, now: UnixMs) -> bool {
        let due = |at: UnixMs| at <= now || at.since(now) > LONGEST_WAIT;
        self.is_pending() && self.blocked_by.is_none() && self.due_at.is_some_and(due)
    }

    /// The webhook `seq` asks for it. Planning the same row twice changes nothing.
    #[must_use]
    pub fn wished(mut self, seq: Seq, now: UnixMs) -> Self {
        if seq <= self.wanted {
            return self;
        }
        if !self.is_pending() {
            self.asked = seq;
            self.due_at = Some(now);
        } else if self.blocked_by.take().is_some() {
            self.attempts = 0;
            self.due_at = Some(now);
        } else if self.attempts > 0 {
            let soon = now.plus(WISHED_AGAIN);
            self.due_at = Some(self.due_at.map_or(soon, |due| due.min(soon)));
        }
        self.wanted = seq;
        self
    }

    /// Everything the webhooks up to `met` asked for is stored. What was wished meanwhile stays due.
    #[must_use]
    pub fn fetched(mut self, met: Seq, fetch: Fetch, now: UnixMs) -> Self {
        self.fetched = self.fetched.max(met);
        self.attempts = 0;
        self.last_failure = None;
        self.blocked_by = None;
        self.last_fetch = Some(fetch);
        self.due_at = self.is_pending().then_some(now);
        if self.is_pending() {
            self.asked = Seq(met.0 + 1).max(self.asked).min(self.wanted);
        }
        self
    }

    /// A fetch that was begun for the webhooks up to `tried` failed.
    #[must_use]
    pub fn failed(
        mut self,
        tried: Seq,
        failure: Failure,
        class: Class,
        after: Option<Duration>,
        now: UnixMs,
        spread: f64,
    ) -> Self {
        self.attempts = self.attempts.saturating_add(1);
        self.last_failure = Some(failure);
        let newer_wish = self.wanted > tried;
        (self.due_at, self.blocked_by) = match retry::next(class, self.attempts, after, spread) {
            Next::Wait(wait) => (Some(now.plus(wait)), None),
            // What was wished meanwhile has not failed yet.
            Next::Failed | Next::Link if newer_wish => (Some(now.plus(WISHED_AGAIN)), None),
            Next::Failed => (None, Some(Block::Failed)),
            Next::Link => (None, Some(Block::Link)),
        };
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: UnixMs = UnixMs(1_800_000_000_000);

    fn new() -> Work {
        let key = Key {
            link_id: "l".to_owned(),
            resource: "accounts".to_owned(),
            object_id: String::new(),
        };
        Work::new(key, Seq(5), NOW)
    }

    fn fetch(at: UnixMs) -> Fetch {
        Fetch {
            started_at: at,
            finished_at: at,
            found: 1,
            changed: 1,
        }
    }

    fn fail(work: Work, class: Class) -> Work {
        let tried = work.wanted;
        let failure = Failure {
            text: "no".to_owned(),
            class: class.name().to_owned(),
            request_id: None,
        };
        work.failed(tried, failure, class, None, NOW, 0.0)
    }

    #[test]
    fn a_new_wish_is_due_at_once() {
        assert!(new().is_due(NOW));
    }

    #[test]
    fn a_met_wish_is_not_pending() {
        let work = new().fetched(Seq(5), fetch(NOW), NOW);
        assert!(!work.is_pending() && !work.is_due(NOW) && work.due_at.is_none());
    }

    #[test]
    fn a_wish_that_came_during_the_fetch_stays_due() {
        let work = new().wished(Seq(9), NOW).fetched(Seq(5), fetch(NOW), NOW);
        assert!(work.is_due(NOW));
        assert_eq!((work.asked, work.wanted), (Seq(6), Seq(9)));
    }

    #[test]
    fn a_temporary_failure_is_due_later_and_a_success_forgets_it() {
        let work = fail(new(), Class::Temporary);
        assert!(!work.is_due(NOW) && work.is_due(NOW.plus(Duration::from_secs(3))));
        assert_eq!(work.fetched(Seq(5), fetch(NOW), NOW).attempts, 0);
    }

    #[test]
    fn a_permanent_failure_is_lifted_by_a_newer_wish_only() {
        let work = fail(new(), Class::Permanent);
        assert_eq!(work.blocked_by, Some(Block::Failed));
        assert!(!work.clone().wished(Seq(5), NOW).is_due(NOW));
        assert!(work.wished(Seq(6), NOW).is_due(NOW));
    }

    #[test]
    fn a_wish_during_a_permanent_failure_is_tried_for_itself() {
        let work = new().wished(Seq(6), NOW);
        let failure = Failure {
            text: "no".to_owned(),
            class: "permanent".to_owned(),
            request_id: None,
        };
        let work = work.failed(Seq(5), failure, Class::Permanent, None, NOW, 0.0);
        assert_eq!(work.blocked_by, None);
    }

    #[test]
    fn wishes_do_not_hammer_what_keeps_failing() {
        let mut work = new();
        for _ in 0..9 {
            work = fail(work, Class::Temporary);
        }
        let work = work.wished(Seq(6), NOW).wished(Seq(7), NOW);
        assert!(
            !work.is_due(NOW.plus(Duration::from_secs(59)))
                && work.is_due(NOW.plus(Duration::from_secs(60)))
        );
    }

    #[test]
    fn a_due_time_from_a_wrong_clock_is_due_now() {
        let work = Work {
            due_at: Some(NOW.plus(LONGEST_WAIT * 2)),
            ..new()
        };
        assert!(work.is_due(NOW));
    }

    proptest! {
        #[test]
        fn nothing_ever_waits_for_nothing(moves in proptest::collection::vec((0u8..3, 0usize..8), 0..40)) {
            let classes = [
                Class::Temporary, Class::Busy, Class::Slow, Class::Throttled, Class::Credentials, Class::Link,
                Class::Parked, Class::Permanent,
            ];
            let (mut work, mut seq, mut now) = (new(), 5, NOW);
            for (step, class) in moves {
                now = now.plus(Duration::from_secs(7));
                work = match step {
                    0 => { seq += 1; work.wished(Seq(seq), now) }
                    1 => { let met = work.wanted; work.fetched(met, fetch(now), now) }
                    _ => fail(work, classes[class]),
                };
                prop_assert!(!work.is_pending() || work.due_at.is_some() || work.blocked_by.is_some());
                prop_assert!(work.asked <= work.wanted && work.wanted == Seq(seq));
            }
        }

        #[test]
        fn planning_a_row_again_changes_nothing(seqs in proptest::collection::vec(1i64..50, 1..20)) {
            let once = seqs.iter().fold(new(), |work, seq| work.wished(Seq(*seq), NOW));
            let twice = seqs.iter().fold(once.clone(), |work, seq| work.wished(Seq(*seq), NOW));
            prop_assert_eq!(once, twice);
        }
    }
}

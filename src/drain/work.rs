//! One thing to keep fetched, and the legal moves of its state. Pure: the SQL only stores the result.
//!
//! ```text
//!   wished ----> wanted > fetched, due ----> fetched: fetched = w, settled unless wished meanwhile
//!                    ^            |--------> failed:  due later, or blocked by `failed`
//!                    '---- a newer wish lifts a block
//! ```

use std::time::Duration;

use super::retry::{self, Next, Pace};
use crate::fetch::Class;
use crate::limits::{LIST_BYTES_MAX, LONGEST_WAIT, NEW_OVERLAP, SAME_AGAIN, WHOLE_EVERY};
use crate::system::clock::UnixMs;
use crate::webhook::Seq;

/// A new wish for something that keeps failing brings the next try no nearer than this.
const WISHED_AGAIN: Duration = Duration::from_secs(60);

/// What is kept fetched: the list of a resource for a link, one object of it, the list beneath one, or a record.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The link.
    pub link_id: String,
    /// A name in the catalog.
    pub resource: String,
    /// Empty for the list of the link.
    pub object_id: String,
}

/// A webhook's wish for one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// What.
    pub key: Key,
    /// Whether all of it is wanted and not only what is new. Of a link's record: also what it says is to be fetched.
    pub whole: bool,
}

/// Why pending work is not due at any time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// Asking again would fail again.
    Failed,
}

impl Block {
    /// The word for `work.blocked_by`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Failed => "failed",
        }
    }

    /// The block of that name.
    pub fn named(name: &str) -> Option<Self> {
        (name == Self::Failed.name()).then_some(Self::Failed)
    }
}

/// How much of a list is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// All of it.
    Whole,
    /// What was created on the UTC day of this time, or later.
    Since(UnixMs),
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
    /// The newest webhook that asks for all of it.
    pub whole: Seq,
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
    /// When the last listing that agreed with its own count began.
    pub listed_at: Option<UnixMs>,
    /// When the last of those that read the whole list began.
    pub whole_listed_at: Option<UnixMs>,
    /// Live objects in the file that the last complete listing did not have.
    pub missing: Option<u64>,
    /// Whether the next complete listing marks those as deleted.
    pub sweep: bool,
    /// Objects in a page, where a full page was too large or too slow.
    pub page_size: Option<u32>,
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
    /// What it proves about the list.
    pub proves: Proof,
}

impl Fetch {
    /// One that was no listing, and found so many objects, none of them changed.
    pub fn of(found: u64, started_at: UnixMs, finished_at: UnixMs) -> Self {
        Self {
            started_at,
            finished_at,
            found,
            changed: 0,
            proves: Proof::Nothing,
        }
    }
}

/// What a complete fetch proves about a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// It was no listing, or the listing never agreed with its own count.
    Nothing,
    /// All that was new is kept.
    New,
    /// All of it is kept; and how many live objects in the file are not in it.
    Whole {
        /// How many.
        missing: u64,
    },
}

impl Work {
    /// Something that was never wanted before, as the webhook `seq` asks for it.
    pub fn new(wish: Wish, seq: Seq, now: UnixMs) -> Self {
        Self {
            key: wish.key,
            wanted: seq,
            fetched: Seq(0),
            whole: if wish.whole { seq } else { Seq(0) },
            asked: seq,
            attempts: 0,
            due_at: Some(now),
            blocked_by: None,
            last_failure: None,
            last_fetch: None,
            listed_at: None,
            whole_listed_at: None,
            missing: None,
            sweep: false,
            page_size: None,
        }
    }

    /// Something that was never wanted before, as an operator asks for it when `newest` is the newest webhook.
    pub fn ordered(key: Key, newest: Seq, now: UnixMs) -> Self {
        let fetched = Seq(newest.0 - 1);
        Self {
            fetched,
            ..Self::new(Wish { key, whole: true }, newest, now)
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

    /// How much of the list is to be asked for at `now`: what is new, if a complete listing is recent enough to build on
    /// and nothing asks for more. A time in the future comes from a wrong clock, and is nothing to build on.
    pub fn extent(&self, now: UnixMs) -> Extent {
        let recent = |at: UnixMs| at <= now && now.since(at) < WHOLE_EVERY && at.is_plausible();
        let whole_is_recent = self.whole_listed_at.is_some_and(recent);
        match self.listed_at {
            Some(at) if self.whole <= self.fetched && whole_is_recent && at <= now => {
                Extent::Since(at.minus(NEW_OVERLAP))
            }
            _ => Extent::Whole,
        }
    }

    /// The webhook `seq` asks for it, or for all of it. Planning the same row twice changes nothing.
    #[must_use]
    pub fn wished(mut self, seq: Seq, whole: bool, now: UnixMs) -> Self {
        if seq <= self.wanted {
            return self;
        }
        if whole {
            self.whole = seq;
        }
        if !self.is_pending() {
            self.asked = seq;
            self.attempts = 0;
            self.due_at = Some(self.again_at(now));
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

    /// When what was fetched a moment ago may be fetched again. A fetch in the future comes from a wrong clock.
    fn again_at(&self, now: UnixMs) -> UnixMs {
        let since = self.last_fetch.map(|fetch| fetch.finished_at);
        let soon = now.plus(SAME_AGAIN);
        since.map_or(now, |at| at.plus(SAME_AGAIN).clamp(now, soon))
    }

    /// An operator, or a link that works again, asks for what is pending at once.
    #[must_use]
    pub fn retried(mut self, now: UnixMs) -> Self {
        if self.is_pending() {
            self.attempts = 0;
            self.blocked_by = None;
            self.due_at = Some(now);
        }
        self
    }

    /// An operator asks for all of it once more, pending or not, and may ask that what is not in it any more is marked.
    #[must_use]
    pub fn reordered(mut self, sweep: bool, now: UnixMs) -> Self {
        if !self.is_pending() {
            self.fetched = Seq(self.wanted.0 - 1);
            self.asked = self.wanted;
        }
        self.whole = self.wanted;
        self.sweep |= sweep;
        self.retried(now)
    }

    /// Everything the webhooks up to `met` asked for is stored. What was wished meanwhile stays due.
    #[must_use]
    pub fn fetched(mut self, met: Seq, fetch: Fetch, now: UnixMs) -> Self {
        self.fetched = self.fetched.max(met);
        self.attempts = 0;
        self.last_failure = None;
        self.blocked_by = None;
        self.last_fetch = Some(fetch);
        match fetch.proves {
            // What is not known to be complete is nothing to build on.
            Proof::Nothing => self.listed_at = None,
            Proof::New => self.listed_at = Some(fetch.started_at),
            Proof::Whole { missing } => {
                self.listed_at = Some(fetch.started_at);
                self.whole_listed_at = Some(fetch.started_at);
                self.missing = Some(if self.sweep { 0 } else { missing });
                self.sweep = false;
            }
        }
        self.due_at = self.is_pending().then_some(self.again_at(now));
        if self.is_pending() {
            self.asked = Seq(met.0 + 1).max(self.asked).min(self.wanted);
        }
        self
    }

    /// A listing went through with pages of this size and so many bytes: the size stays smaller only if a full page would
    /// still be too large.
    #[must_use]
    pub fn paged(mut self, page_size: u32, page_size_max: u32, bytes: u64, objects: u64) -> Self {
        let full = bytes / objects.max(1) * u64::from(page_size_max);
        let fits = full < LIST_BYTES_MAX as u64;
        self.page_size = (!fits && page_size < page_size_max).then_some(page_size);
        self
    }

    /// A fetch that was begun for the webhooks up to `tried` failed.
    #[must_use]
    pub fn failed(mut self, tried: Seq, failure: Failure, class: Class, pace: Pace) -> Self {
        let likewise = self.last_failure.as_ref().map(|last| last.class.as_str());
        let pace = Pace {
            others_pass: pace.others_pass && likewise == Some(class.name()),
            ..pace
        };
        if !pace.outage {
            self.attempts = self.attempts.saturating_add(1);
        }
        self.last_failure = Some(failure);
        if class == Class::Timeout {
            self.page_size = Some((pace.page_size / 4).max(1));
        }
        let newer_wish = self.wanted > tried;
        (self.due_at, self.blocked_by) = match retry::next(class, self.attempts, &pace) {
            Next::Wait(wait) => (Some(pace.now.plus(wait)), None),
            // What was wished meanwhile has not failed yet.
            Next::Failed if newer_wish => (Some(pace.now.plus(WISHED_AGAIN)), None),
            Next::Failed => (None, Some(Block::Failed)),
        };
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: UnixMs = UnixMs(1_800_000_000_000);

    const PACE: Pace = Pace {
        after: None,
        now: NOW,
        spread: 0.0,
        page_size: 1_000,
        others_pass: false,
        outage: false,
    };

    fn new() -> Work {
        let key = Key {
            link_id: "l".to_owned(),
            resource: "accounts".to_owned(),
            object_id: String::new(),
        };
        Work::new(Wish { key, whole: false }, Seq(5), NOW)
    }

    fn fetch(at: UnixMs) -> Fetch {
        Fetch {
            started_at: at,
            finished_at: at,
            found: 1,
            changed: 1,
            proves: Proof::Whole { missing: 0 },
        }
    }

    fn fail(work: Work, class: Class) -> Work {
        let tried = work.wanted;
        let failure = Failure {
            text: "no".to_owned(),
            class: class.name().to_owned(),
            request_id: None,
        };
        work.failed(tried, failure, class, PACE)
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
        let work = new()
            .wished(Seq(9), false, NOW)
            .fetched(Seq(5), fetch(NOW), NOW);
        assert!(work.is_due(NOW.plus(SAME_AGAIN)));
        assert_eq!((work.asked, work.wanted), (Seq(6), Seq(9)));
    }

    #[test]
    fn a_wish_soon_after_a_fetch_waits_a_moment_and_a_later_one_does_not() {
        let work = new().fetched(Seq(5), fetch(NOW), NOW);
        let soon = work.clone().wished(Seq(6), false, NOW);
        assert!(!soon.is_due(NOW) && soon.is_due(NOW.plus(SAME_AGAIN)));
        let later = NOW.plus(SAME_AGAIN * 2);
        assert!(work.wished(Seq(6), false, later).is_due(later));
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
        assert!(!work.clone().wished(Seq(5), false, NOW).is_due(NOW));
        assert!(work.wished(Seq(6), false, NOW).is_due(NOW));
    }

    #[test]
    fn a_wish_during_a_permanent_failure_is_tried_for_itself() {
        let work = new().wished(Seq(6), false, NOW);
        let failure = Failure {
            text: "no".to_owned(),
            class: "permanent".to_owned(),
            request_id: None,
        };
        let work = work.failed(Seq(5), failure, Class::Permanent, PACE);
        assert_eq!(work.blocked_by, None);
    }

    #[test]
    fn wishes_do_not_hammer_what_keeps_failing() {
        let mut work = new();
        for _ in 0..9 {
            work = fail(work, Class::Temporary);
        }
        let work = work.wished(Seq(6), false, NOW).wished(Seq(7), false, NOW);
        assert!(
            !work.is_due(NOW.plus(Duration::from_secs(59)))
                && work.is_due(NOW.plus(Duration::from_secs(60)))
        );
    }

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn listed(proves: Proof) -> Work {
        new().fetched(
            Seq(5),
            Fetch {
                proves,
                ..fetch(NOW)
            },
            NOW,
        )
    }

    #[test]
    fn what_is_new_is_asked_for_from_two_days_before_the_last_complete_listing() {
        let work = listed(Proof::Whole { missing: 0 }).wished(Seq(6), false, NOW);
        let day_later = NOW.plus(DAY);
        assert_eq!(work.extent(day_later), Extent::Since(NOW.minus(2 * DAY)));
        let again = Fetch {
            proves: Proof::New,
            ..fetch(day_later)
        };
        let work = work
            .fetched(Seq(6), again, day_later)
            .wished(Seq(7), false, day_later);
        assert_eq!(
            work.extent(day_later),
            Extent::Since(day_later.minus(2 * DAY))
        );
    }

    #[test]
    fn the_whole_list_is_read_first_when_asked_for_after_a_doubt_and_once_a_week() {
        assert_eq!(new().extent(NOW), Extent::Whole);
        let whole = listed(Proof::Whole { missing: 0 });
        assert_eq!(
            whole.clone().wished(Seq(6), true, NOW).extent(NOW),
            Extent::Whole
        );
        let whole = whole.wished(Seq(6), false, NOW);
        assert_eq!(whole.extent(NOW.plus(7 * DAY)), Extent::Whole);
        let doubtful = listed(Proof::Nothing).wished(Seq(6), false, NOW);
        assert_eq!(doubtful.extent(NOW), Extent::Whole);
    }

    #[test]
    fn a_listing_from_a_wrong_clock_is_nothing_to_build_on() {
        let work = listed(Proof::Whole { missing: 0 }).wished(Seq(6), false, NOW);
        assert_eq!(work.extent(NOW.minus(DAY)), Extent::Whole);
        let long_ago = Work {
            listed_at: Some(UnixMs(5)),
            whole_listed_at: Some(UnixMs(5)),
            ..work
        };
        assert_eq!(long_ago.extent(UnixMs(6)), Extent::Whole);
    }

    #[test]
    fn a_wish_for_all_of_it_that_came_during_a_fetch_of_what_is_new_is_kept() {
        let work = listed(Proof::Whole { missing: 0 }).wished(Seq(6), false, NOW);
        let work = work.wished(Seq(7), true, NOW);
        let new = Fetch {
            proves: Proof::New,
            ..fetch(NOW)
        };
        let work = work.fetched(Seq(6), new, NOW);
        assert!(work.is_due(NOW.plus(SAME_AGAIN)));
        assert_eq!(work.extent(NOW), Extent::Whole);
    }

    #[test]
    fn an_order_reads_all_of_it_once_more_and_marks_what_is_missing_once() {
        let work = listed(Proof::Whole { missing: 3 });
        assert_eq!(work.missing, Some(3));
        let work = work.reordered(true, NOW);
        assert!(work.is_due(NOW) && work.sweep);
        assert_eq!(work.extent(NOW), Extent::Whole);
        let swept = Fetch {
            proves: Proof::Whole { missing: 3 },
            ..fetch(NOW)
        };
        let work = work.fetched(Seq(5), swept, NOW);
        assert!(!work.is_pending() && !work.sweep);
        assert_eq!(work.missing, Some(0));
        let never = Work::ordered(work.key, Seq(0), NOW);
        assert!(never.is_due(NOW));
    }

    #[test]
    fn pages_are_smaller_after_a_timeout_and_while_a_full_one_would_be_too_large() {
        assert_eq!(fail(new(), Class::Timeout).page_size, Some(250));
        let small = Work {
            page_size: Some(15),
            ..new()
        };
        let large = small.paged(15, 1_000, 15 * 300_000, 15);
        assert_eq!(large.page_size, Some(15));
        assert_eq!(large.paged(15, 1_000, 15 * 2_000, 15).page_size, None);
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
        fn nothing_ever_waits_for_nothing(moves in proptest::collection::vec((0u8..3, 0usize..Class::ALL.len()), 0..40)) {
            let classes = Class::ALL;
            let (mut work, mut seq, mut now) = (new(), 5, NOW);
            for (step, class) in moves {
                now = now.plus(Duration::from_secs(7));
                work = match step {
                    0 => { seq += 1; work.wished(Seq(seq), seq % 3 == 0, now) }
                    1 => { let met = work.wanted; work.fetched(met, fetch(now), now) }
                    _ => fail(work, classes[class]),
                };
                prop_assert!(!work.is_pending() || work.due_at.is_some() || work.blocked_by.is_some());
                prop_assert!(work.asked <= work.wanted && work.wanted == Seq(seq));
            }
        }

        #[test]
        fn planning_a_row_again_changes_nothing(seqs in proptest::collection::vec(1i64..50, 1..20)) {
            let once = seqs.iter().fold(new(), |work, seq| work.wished(Seq(*seq), false, NOW));
            let twice = seqs.iter().fold(once.clone(), |work, seq| work.wished(Seq(*seq), false, NOW));
            prop_assert_eq!(once, twice);
        }
    }
}

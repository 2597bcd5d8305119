//! The wall clock as it is set while something waits. Due times are stored as the wall clock of a moment moved on by the
//! monotonic clock: when the wall clock makes a step, they make the same, so that the next start, which begins from the
//! wall clock, neither finds all of them due at once nor waits for years.

use std::time::Duration;

use crate::limits::CLOCK_STEP_MAX;
use crate::store::problems::{Kind, Problem};
use crate::system::clock::{Clock, UnixMs};

/// The steps of the clock that the stored times have not made yet.
#[derive(Debug)]
pub(super) struct Steps {
    /// The last note of the run before, until the clock of this one can be right.
    before: Option<Option<UnixMs>>,
    owed: i64,
}

impl Steps {
    /// Those since `noted_at`, the last note of the run before.
    pub(super) fn since(noted_at: Option<UnixMs>) -> Self {
        Self {
            before: Some(noted_at),
            owed: 0,
        }
    }

    /// By how many milliseconds all due times are to be moved, now that this clock can be right. Waits are counted by what
    /// it shows from now on.
    ///
    /// Of the run before, no more is known than what its clock showed last. One that showed a later time was ahead, and so
    /// are the due times; one that showed an earlier time is nothing special.
    pub(super) fn look(&mut self, clock: &Clock) -> i64 {
        let ahead = clock.follow();
        let step = match self.before.take() {
            Some(noted_at) => noted_at.map_or(0, |noted_at| {
                clock.now().0.saturating_sub(noted_at.0).min(0)
            }),
            None => ahead,
        };
        if Duration::from_millis(step.unsigned_abs()) > CLOCK_STEP_MAX {
            self.owed = self.owed.saturating_add(step);
        }
        self.owed
    }

    /// The stored times have made them.
    pub(super) fn made(&mut self) {
        self.owed = 0;
    }
}

/// The problem that a clock is which shows `now`, and cannot be right.
pub(super) fn problem(now: UnixMs) -> Problem {
    Problem {
        kind: Kind::ClockNotSet,
        subject: String::new(),
        text: format!(
            "the clock shows {now}, which cannot be right; webhooks are taken in and kept, and nothing is fetched until it is set, since no certificate can be judged by it"
        ),
        next_step: "let the box reach a time server (timedatectl timesync-status says how that stands), or set the clock: timedatectl set-time; fetching goes on by itself within seconds".to_owned(),
        evidence: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMs = UnixMs(1_800_000_000_000);
    const DAY: Duration = Duration::from_secs(24 * 3600);

    #[test]
    fn due_times_of_a_run_whose_clock_was_ahead_are_moved_back() {
        let clock = Clock::simulated(NOW);
        let mut steps = Steps::since(Some(NOW.plus(20 * DAY)));
        let step = steps.look(&clock);
        assert!((-1_728_000_000..=-1_727_990_000).contains(&step), "{step}");
        assert_eq!(steps.look(&clock), step, "it is still owed");
        steps.made();
        assert_eq!(steps.look(&clock), 0);
    }

    #[test]
    fn time_in_which_the_box_was_off_moves_nothing() {
        for noted_at in [
            None,
            Some(NOW.minus(20 * DAY)),
            Some(NOW.plus(DAY / 86_400)),
        ] {
            assert_eq!(Steps::since(noted_at).look(&Clock::simulated(NOW)), 0);
        }
    }
}

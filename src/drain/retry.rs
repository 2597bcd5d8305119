//! Attempts and an error's class -> when to try again, or what blocks it until then. Pure.

use std::time::Duration;

use crate::fetch::Class;
use crate::limits::{CREDENTIALS_WAIT, RETRY_AFTER_MAX, THROTTLED_WAIT};

/// What follows a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Due again after this long.
    Wait(Duration),
    /// Blocked until a newer webhook or an operator lifts it.
    Failed,
    /// Blocked until the link works again.
    Link,
}

/// Belvo's own retry rule: five tries, from three seconds, doubling (docs/belvo.md, Errors).
const SCHEDULE_SECS: [u64; 5] = [3, 6, 12, 24, 48];
/// After that there will be no second webhook, so the work is never dropped: from two minutes, doubling, to two hours.
const SLOW_LANE_SECS: u64 = 120;
const SLOW_LANE_MAX_SECS: u64 = 2 * 3600;
const BUSY_SECS: u64 = 120;
const BANK_AWAY_SECS: u64 = 30 * 60;
/// A month and a day: the limit is monthly and the time zone of its reset is not stated.
const PARKED_SECS: u64 = 31 * 24 * 3600;

/// What to do after the `attempts`-th failure in a row (1 is the first). `retry_after` is what the answer asked for;
/// `spread` from 0 to 1 moves a wait by up to a tenth, so that many do not come back at once.
pub fn next(class: Class, attempts: u32, retry_after: Option<Duration>, spread: f64) -> Next {
    let wait = match class {
        Class::Permanent => return Next::Failed,
        Class::Link => return Next::Link,
        Class::Throttled => doubled(THROTTLED_WAIT.as_secs(), attempts.saturating_sub(1))
            .max(retry_after.unwrap_or_default().min(RETRY_AFTER_MAX)),
        Class::Credentials => CREDENTIALS_WAIT,
        Class::Parked => Duration::from_secs(PARKED_SECS),
        Class::Slow => Duration::from_secs(BANK_AWAY_SECS),
        Class::Busy => doubled(BUSY_SECS, attempts.saturating_sub(1)),
        Class::Temporary => {
            scheduled(attempts).max(retry_after.unwrap_or_default().min(RETRY_AFTER_MAX))
        }
    };
    Next::Wait(wait.mul_f64(1.0 + spread.clamp(0.0, 1.0) / 10.0))
}

fn scheduled(attempts: u32) -> Duration {
    let index = attempts.saturating_sub(1) as usize;
    match SCHEDULE_SECS.get(index) {
        Some(seconds) => Duration::from_secs(*seconds),
        None => doubled(
            SLOW_LANE_SECS,
            attempts.saturating_sub(1 + SCHEDULE_SECS.len() as u32),
        ),
    }
}

fn doubled(seconds: u64, times: u32) -> Duration {
    Duration::from_secs(
        seconds
            .saturating_mul(1u64.checked_shl(times).unwrap_or(u64::MAX))
            .min(SLOW_LANE_MAX_SECS),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seconds(class: Class, attempts: u32) -> u64 {
        match next(class, attempts, None, 0.0) {
            Next::Wait(wait) => wait.as_secs(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn temporary_errors_follow_belvos_schedule_and_then_the_slow_lane() {
        let waits: Vec<_> = (1..=9)
            .map(|attempts| seconds(Class::Temporary, attempts))
            .collect();
        assert_eq!(waits, [3, 6, 12, 24, 48, 120, 240, 480, 960]);
        assert_eq!(seconds(Class::Temporary, u32::MAX), SLOW_LANE_MAX_SECS);
    }

    #[test]
    fn a_session_at_the_bank_is_given_two_minutes() {
        assert_eq!(
            (seconds(Class::Busy, 1), seconds(Class::Busy, 2)),
            (120, 240)
        );
    }

    #[test]
    fn permanent_and_link_errors_block_instead_of_waiting() {
        assert_eq!(next(Class::Permanent, 1, None, 0.0), Next::Failed);
        assert_eq!(next(Class::Link, 1, None, 0.0), Next::Link);
    }

    #[test]
    fn retry_after_is_obeyed_and_capped() {
        let wait = |seconds| next(Class::Throttled, 1, Some(Duration::from_secs(seconds)), 0.0);
        assert_eq!(wait(90), Next::Wait(Duration::from_secs(90)));
        assert_eq!(wait(1), Next::Wait(THROTTLED_WAIT));
        assert_eq!(wait(u64::MAX), Next::Wait(RETRY_AFTER_MAX));
    }

    proptest! {
        #[test]
        fn no_wait_is_shorter_than_three_seconds_or_longer_than_the_longest(
            attempts in 1u32.., after in proptest::option::of(any::<u64>()), spread in any::<f64>(), class in 0usize..6,
        ) {
            let classes = [Class::Temporary, Class::Busy, Class::Slow, Class::Throttled, Class::Credentials, Class::Parked];
            let spread = if spread.is_nan() { 0.0 } else { spread };
            if let Next::Wait(wait) = next(classes[class], attempts, after.map(Duration::from_secs), spread) {
                prop_assert!(wait >= Duration::from_secs(3) && wait <= crate::limits::LONGEST_WAIT);
            }
        }
    }
}

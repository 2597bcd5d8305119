//! Attempts and an error's class -> when to try again, or what blocks it until then. Pure.

use std::time::Duration;

use time::OffsetDateTime;

use crate::fetch::Class;
use crate::limits::{LONGEST_WAIT, RETRY_AFTER_MAX, THROTTLED_WAIT};
use crate::system::clock::UnixMs;

/// What follows a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Due again after this long.
    Wait(Duration),
    /// Blocked until a newer webhook or an operator lifts it.
    Failed,
}

/// What the next try depends on besides class and attempts.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// The wait that the answer asked for.
    pub after: Option<Duration>,
    /// Now.
    pub now: UnixMs,
    /// From 0 to 1: moves a wait by up to a tenth, so that many do not come back at once.
    pub spread: f64,
    /// Objects that were asked for in a page.
    pub page_size: u32,
    /// Whether the edge has let other requests pass between the last failure and this one, which was likewise: then it is
    /// this request that it minds.
    pub others_pass: bool,
    /// Whether the API as a whole is away: then everything waits, and this one no longer than the rest.
    pub outage: bool,
}

/// Belvo's own retry rule: five tries, from three seconds, doubling (docs/belvo.md, Errors).
const SCHEDULE_SECS: [u64; 5] = [3, 6, 12, 24, 48];
/// Of these, for `unexpected_error`.
const UNEXPECTED_TRIES: usize = 3;
/// After that there will be no second webhook, so the work is never dropped: from two minutes, doubling, to two hours.
const SLOW_LANE_SECS: u64 = 120;
const SLOW_LANE_MAX_SECS: u64 = 2 * 3600;
const BUSY_SECS: u64 = 120;
const BANK_AWAY_SECS: u64 = 30 * 60;
/// Tries before data that the institution does not give is given up, and before a request that only the edge minds is.
const FEW_TRIES: u32 = 5;
const EDGE_TRIES: u32 = 3;
const DAY_SECS: u64 = 24 * 3600;

/// What to do after the `attempts`-th failure in a row (1 is the first).
pub fn next(class: Class, attempts: u32, pace: &Pace) -> Next {
    let after = pace.after.unwrap_or_default().min(RETRY_AFTER_MAX);
    let throttled = || doubled(THROTTLED_WAIT.as_secs(), attempts.saturating_sub(1)).max(after);
    let wait = match class {
        Class::Temporary | Class::Unexpected if pace.outage => return Next::Wait(Duration::ZERO),
        Class::Permanent | Class::Unsupported => return Next::Failed,
        Class::Unavailable if attempts >= FEW_TRIES => return Next::Failed,
        Class::Forbidden if attempts >= EDGE_TRIES && pace.others_pass => return Next::Failed,
        Class::Throttled | Class::Forbidden => throttled(),
        // Everything pauses; this one is no later than the rest.
        Class::Credentials => return Next::Wait(Duration::ZERO),
        Class::Parked => next_month(pace.now),
        Class::Slow | Class::Unavailable => Duration::from_secs(BANK_AWAY_SECS),
        Class::Busy => doubled(BUSY_SECS, attempts.saturating_sub(1)),
        // The link's state holds it up; should that change meanwhile, this is how soon it is asked for again.
        Class::Link | Class::Temporary | Class::Timeout => {
            scheduled(attempts, SCHEDULE_SECS.len()).max(after)
        }
        Class::Unexpected => scheduled(attempts, UNEXPECTED_TRIES).max(after),
    };
    Next::Wait(
        wait.mul_f64(1.0 + pace.spread.clamp(0.0, 1.0) / 10.0)
            .min(LONGEST_WAIT),
    )
}

fn scheduled(attempts: u32, tries: usize) -> Duration {
    let index = attempts.saturating_sub(1) as usize;
    match SCHEDULE_SECS[..tries].get(index) {
        Some(seconds) => Duration::from_secs(*seconds),
        None => doubled(SLOW_LANE_SECS, attempts.saturating_sub(1 + tries as u32)),
    }
}

/// Until the second day of the next month, UTC: the limit is monthly, and the time zone of its reset is not stated.
fn next_month(now: UnixMs) -> Duration {
    let month = |now: OffsetDateTime| {
        let (year, month) = (now.year(), now.month());
        let year = year + i32::from(month == time::Month::December);
        let second = time::Date::from_calendar_date(year, month.next(), 2).ok()?;
        u64::try_from((second.midnight().assume_utc() - now).whole_seconds()).ok()
    };
    let now = OffsetDateTime::from_unix_timestamp(now.0.div_euclid(1000)).ok();
    Duration::from_secs(now.and_then(month).unwrap_or(31 * DAY_SECS))
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

    const PACE: Pace = Pace {
        after: None,
        now: UnixMs(1_800_000_000_000),
        spread: 0.0,
        page_size: 1_000,
        others_pass: true,
        outage: false,
    };

    fn seconds(class: Class, attempts: u32) -> u64 {
        match next(class, attempts, &PACE) {
            Next::Wait(wait) => wait.as_secs(),
            Next::Failed => panic!("no wait"),
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
    fn an_unexpected_error_is_tried_three_times_before_the_slow_lane() {
        let waits: Vec<_> = (1..=5)
            .map(|attempts| seconds(Class::Unexpected, attempts))
            .collect();
        assert_eq!(waits, [3, 6, 12, 120, 240]);
    }

    #[test]
    fn a_session_at_the_bank_is_given_two_minutes() {
        assert_eq!(
            (seconds(Class::Busy, 1), seconds(Class::Busy, 2)),
            (120, 240)
        );
    }

    #[test]
    fn permanent_errors_block_instead_of_waiting() {
        assert_eq!(next(Class::Permanent, 1, &PACE), Next::Failed);
        assert_eq!(next(Class::Unsupported, 1, &PACE), Next::Failed);
    }

    #[test]
    fn what_the_institution_does_not_give_is_given_up_after_a_few_slow_tries() {
        assert_eq!(seconds(Class::Unavailable, 4), BANK_AWAY_SECS);
        assert_eq!(next(Class::Unavailable, 5, &PACE), Next::Failed);
        assert_eq!(seconds(Class::Slow, 500), BANK_AWAY_SECS);
    }

    #[test]
    fn a_request_that_the_edge_alone_refuses_is_given_up_only_while_others_pass() {
        assert_eq!(next(Class::Forbidden, 3, &PACE), Next::Failed);
        let nobody_passes = Pace {
            others_pass: false,
            ..PACE
        };
        assert_eq!(
            next(Class::Forbidden, 3, &nobody_passes),
            Next::Wait(Duration::from_secs(120))
        );
    }

    #[test]
    fn a_monthly_limit_is_parked_to_the_second_day_of_the_next_month() {
        let until = |now: &str| {
            let at = OffsetDateTime::parse(now, &time::format_description::well_known::Rfc3339)
                .expect("a time");
            let now = UnixMs(at.unix_timestamp() * 1000);
            match next(Class::Parked, 1, &Pace { now, ..PACE }) {
                Next::Wait(wait) => now.plus(wait).to_string(),
                Next::Failed => panic!("no wait"),
            }
        };
        assert_eq!(until("2026-11-23T10:00:00Z"), "2026-12-02T00:00:00.000Z");
        assert_eq!(until("2026-12-31T23:59:59Z"), "2027-01-02T00:00:00.000Z");
    }

    #[test]
    fn retry_after_is_obeyed_and_capped() {
        let wait = |class, seconds| {
            let after = Some(Duration::from_secs(seconds));
            next(class, 1, &Pace { after, ..PACE })
        };
        for class in [Class::Throttled, Class::Forbidden, Class::Temporary] {
            assert_eq!(wait(class, 90), Next::Wait(Duration::from_secs(90)));
            assert_eq!(wait(class, u64::MAX), Next::Wait(RETRY_AFTER_MAX));
        }
        assert_eq!(wait(Class::Throttled, 1), Next::Wait(THROTTLED_WAIT));
    }

    #[test]
    fn while_the_api_is_away_nothing_waits_for_itself() {
        let away = Pace {
            outage: true,
            ..PACE
        };
        assert_eq!(next(Class::Temporary, 9, &away), Next::Wait(Duration::ZERO));
        assert_eq!(next(Class::Permanent, 1, &away), Next::Failed);
    }

    proptest! {
        #[test]
        fn no_wait_is_shorter_than_three_seconds_or_longer_than_the_longest(
            attempts in 1u32.., after in proptest::option::of(any::<u64>()), spread in any::<f64>(),
            class in 0usize..Class::ALL.len(), others_pass: bool, now in 0i64..4_000_000_000_000,
        ) {
            let pace = Pace {
                after: after.map(Duration::from_secs),
                now: UnixMs(now),
                spread: if spread.is_nan() { 0.0 } else { spread },
                page_size: 1,
                others_pass,
                outage: false,
            };
            let class = Class::ALL[class];
            if let Next::Wait(wait) = next(class, attempts, &pace) {
                prop_assert!(wait >= Duration::from_secs(3) || class == Class::Credentials);
                prop_assert!(wait <= LONGEST_WAIT);
            }
        }
    }
}

//! Time: the wall clock for what is written down, and a clock that never jumps for what is waited for.
//! The box has no battery clock, so the wall clock may be years off until the network has set it.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::time::Instant;

/// A point in time: milliseconds since 1970-01-01T00:00:00Z, as in every `*_at` column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnixMs(pub i64);

impl UnixMs {
    /// No right clock shows a time before this program was written (2026-11-01T00:00:00Z).
    pub const EARLIEST_PLAUSIBLE: Self = Self(1_793_491_200_000);

    /// What the wall clock shows, right or wrong.
    pub fn now() -> Self {
        let since = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(after) => Self(since(after)),
            Err(before) => Self(-since(before.duration())),
        }
    }

    /// Whether a clock that shows this time can be right.
    pub fn is_plausible(self) -> bool {
        self >= Self::EARLIEST_PLAUSIBLE
    }

    /// This time and a duration later.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(
            self.0
                .saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)),
        )
    }

    /// This time and a duration earlier.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        Self(
            self.0
                .saturating_sub(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)),
        )
    }

    /// The UTC day, `2026-11-23`, as Belvo's filters take it.
    pub fn day(self) -> String {
        self.to_string().chars().take(10).collect()
    }

    /// How long from `earlier` to this time; nothing when `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

/// RFC 3339 in UTC with milliseconds, `2026-11-23T05:31:56.123Z`.
impl fmt::Display for UnixMs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1_000_000)
            .ok()
            .and_then(|time| time.replace_nanosecond(0).ok())
            .and_then(|time| time.format(&Rfc3339).ok());
        match seconds {
            Some(text) => write!(
                f,
                "{}.{:03}Z",
                text.trim_end_matches('Z'),
                self.0.rem_euclid(1000)
            ),
            None => write!(f, "{} ms", self.0),
        }
    }
}

/// The drain's clock: for waits, the wall time at its start, moved on by the monotonic clock, so that whoever sets the
/// wall clock meanwhile neither fires all retries at once nor parks them; for what is written down, the wall time itself.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
    started_at: UnixMs,
    wall: fn(&Self) -> UnixMs,
}

impl Clock {
    /// The machine's.
    pub fn of_machine() -> Self {
        Self {
            wall: |_| UnixMs::now(),
            ..Self::simulated(UnixMs::now())
        }
    }

    /// One that starts at `at` and follows tokio's time, which tests can pause and advance.
    pub fn simulated(at: UnixMs) -> Self {
        Self {
            started: Instant::now(),
            started_at: at,
            wall: Self::now,
        }
    }

    /// The time by which waits are counted. Never jumps.
    pub fn now(&self) -> UnixMs {
        self.started_at.plus(self.started.elapsed())
    }

    /// The time to write down.
    pub fn wall(&self) -> UnixMs {
        (self.wall)(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_shown_as_rfc_3339_with_milliseconds() {
        assert_eq!(
            UnixMs(1_793_491_200_007).to_string(),
            "2026-11-01T00:00:00.007Z"
        );
        assert_eq!(UnixMs(-1).to_string(), "1969-12-31T23:59:59.999Z");
    }

    #[test]
    fn the_clock_of_a_box_that_was_just_powered_on_is_not_plausible() {
        assert!(!UnixMs(0).is_plausible());
        assert!(UnixMs::now().is_plausible());
    }

    #[tokio::test(start_paused = true)]
    async fn the_drains_clock_moves_with_the_monotonic_clock() {
        let clock = Clock::simulated(UnixMs(1_000));
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!((clock.now(), clock.wall()), (UnixMs(4_000), UnixMs(4_000)));
    }
}

//! Time: the wall clock for what is written down, and a clock that never jumps for what is waited for.
//! The box has no battery clock, so the wall clock may be years off until the network has set it.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{fmt, fs};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::time::Instant;

use super::boot::{self, Boot};
use crate::limits::CLOCK_LOOK;

/// A point in time: milliseconds since 1970-01-01T00:00:00Z, as in every `*_at` column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnixMs(pub i64);

impl UnixMs {
    /// No right clock shows a time before this program was written (2026-11-01T00:00:00Z).
    pub const EARLIEST_PLAUSIBLE: Self = Self(1_793_491_200_000);

    /// What the wall clock shows, right or wrong.
    pub fn now() -> Self {
        Self::of(SystemTime::now())
    }

    fn of(time: SystemTime) -> Self {
        let since = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        match time.duration_since(UNIX_EPOCH) {
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

/// The file whose time is that of the last synchronisation, where systemd-timesyncd keeps the clock (its manual, FILES).
const SYNCHRONIZED: &str = "/run/systemd/timesync/synchronized";

/// When this program was built, in so far as the build says so: `SOURCE_DATE_EPOCH`, in seconds
/// (<https://reproducible-builds.org/specs/source-date-epoch/>).
const BUILT: UnixMs = match option_env!("SOURCE_DATE_EPOCH") {
    Some(text) => match i64::from_str_radix(text, 10) {
        Ok(seconds) if seconds > UnixMs::EARLIEST_PLAUSIBLE.0 / 1_000 => UnixMs(seconds * 1_000),
        _ => UnixMs::EARLIEST_PLAUSIBLE,
    },
    None => UnixMs::EARLIEST_PLAUSIBLE,
};

/// Whether the machine's clock, which shows `wall`, can be right: it shows no time before the program was built, or has
/// been synchronised with the network and not set back since.
fn is_trusted(wall: UnixMs, synchronized: &Path) -> bool {
    let was_synchronized = || {
        let at = fs::metadata(synchronized).and_then(|file| file.modified());
        at.is_ok_and(|at| UnixMs::of(at) <= wall)
    };
    wall >= BUILT || was_synchronized()
}

/// When systemd-timesyncd last synchronised the clock, where that keeps it.
pub fn synchronized_at() -> Option<UnixMs> {
    let at = fs::metadata(SYNCHRONIZED).and_then(|file| file.modified());
    at.ok().map(UnixMs::of)
}

/// A moment, by all that the machine knows of the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// What the wall clock showed.
    pub wall: UnixMs,
    /// Whether that could be right.
    pub is_trusted: bool,
    /// Since when `since_boot` counts.
    pub boot: Boot,
    /// Milliseconds since then, by a clock that never jumps.
    pub since_boot: i64,
}

impl Stamp {
    /// Now, by the machine's clocks.
    pub fn now() -> Self {
        let wall = UnixMs::now();
        Self {
            wall,
            is_trusted: is_trusted(wall, Path::new(SYNCHRONIZED)),
            boot: Boot::current(),
            since_boot: boot::elapsed_ms(),
        }
    }

    /// When the machine was switched on, by the wall clock of this moment.
    pub fn boot_began_at(&self) -> UnixMs {
        UnixMs(self.wall.0.saturating_sub(self.since_boot))
    }
}

/// Waits until the machine's clock can be right. Returns at once when it can be already.
pub async fn until_trusted() {
    while !Stamp::now().is_trusted {
        tokio::time::sleep(CLOCK_LOOK).await;
    }
}

/// The drain's clock: for what is written down, the wall time; for waits, the wall time of one moment, moved on by the
/// monotonic clock, so that whoever sets the wall clock meanwhile neither fires all retries at once nor parks them.
/// Clones share that moment.
#[derive(Clone, Debug)]
pub struct Clock {
    anchor: Arc<Mutex<Anchor>>,
    stamp: fn(&Self) -> Stamp,
}

/// The moment, by both clocks.
#[derive(Clone, Copy, Debug)]
struct Anchor {
    at: Instant,
    shows: UnixMs,
}

impl Clock {
    /// The machine's.
    pub fn of_machine() -> Self {
        Self {
            stamp: |_| Stamp::now(),
            ..Self::simulated(UnixMs::now())
        }
    }

    /// One that starts at `at` and follows tokio's time, which tests can pause and advance.
    pub fn simulated(at: UnixMs) -> Self {
        let anchor = Anchor {
            at: Instant::now(),
            shows: at,
        };
        let stamp = |clock: &Self| {
            let wall = clock.now();
            Stamp {
                wall,
                is_trusted: wall.is_plausible(),
                boot: Boot::current(),
                since_boot: wall.0,
            }
        };
        Self {
            anchor: Arc::new(Mutex::new(anchor)),
            stamp,
        }
    }

    /// The time by which waits are counted.
    pub fn now(&self) -> UnixMs {
        let Anchor { at, shows } = *self.lock();
        shows.plus(at.elapsed())
    }

    /// The time to write down.
    pub fn wall(&self) -> UnixMs {
        self.stamp().wall
    }

    /// This moment.
    pub fn stamp(&self) -> Stamp {
        (self.stamp)(self)
    }

    /// Counts waits from what the wall clock shows now. Who has stored such times has to move them by what this says: the
    /// milliseconds by which it was ahead.
    pub fn follow(&self) -> i64 {
        let shows = self.wall();
        let ahead = shows.0.saturating_sub(self.now().0);
        *self.lock() = Anchor {
            at: Instant::now(),
            shows,
        };
        ahead
    }

    fn lock(&self) -> MutexGuard<'_, Anchor> {
        self.anchor.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

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

    #[test]
    fn waits_are_counted_on_when_the_wall_clock_is_set_until_they_are_to_follow_it() {
        static SET: AtomicI64 = AtomicI64::new(0);
        let clock = Clock {
            stamp: |_| Stamp {
                wall: UnixMs(SET.load(Ordering::Relaxed)),
                ..Stamp::now()
            },
            ..Clock::simulated(UnixMs(0))
        };
        let yesterday = -24 * 3_600_000;
        SET.store(yesterday, Ordering::Relaxed);
        assert!(clock.now() >= UnixMs(0));
        let ahead = clock.follow();
        assert!((yesterday - 60_000..=yesterday).contains(&ahead), "{ahead}");
        assert!(clock.now() < UnixMs(yesterday + 60_000));
    }

    #[test]
    fn a_clock_that_was_synchronised_and_not_set_back_since_is_trusted_whatever_it_shows() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let long_ago = UNIX_EPOCH + Duration::from_secs(1_000);
        file.as_file().set_modified(long_ago).expect("its time");
        assert!(is_trusted(UnixMs(1_000_000), file.path()));
        assert!(!is_trusted(UnixMs(999_999), file.path()));
        assert!(!is_trusted(UnixMs(1_000_000), Path::new("/nowhere")));
        assert!(is_trusted(UnixMs::now(), Path::new("/nowhere")));
    }

    #[test]
    fn two_moments_of_a_boot_are_as_far_apart_as_their_distances_from_it() {
        let (one, two) = (Stamp::now(), Stamp::now());
        assert_eq!(one.boot, two.boot);
        assert!(one.since_boot > 0 && one.since_boot <= two.since_boot);
        assert!(one.boot_began_at() < one.wall);
    }
}

//! Texts -> points in time: Belvo's timestamps, and what a person types. Pure.

use std::time::Duration;

use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{Date, OffsetDateTime};

use super::clock::UnixMs;

/// A timestamp as Belvo writes it: with or without a fraction of a second, with `Z` or an offset.
pub fn timestamp(text: &str) -> Option<UnixMs> {
    let at = OffsetDateTime::parse(text.trim(), &Rfc3339).ok()?;
    i64::try_from(at.unix_timestamp_nanos().div_euclid(1_000_000))
        .ok()
        .map(UnixMs)
}

/// A time as a person types it: `2026-11-23T05:31:56Z`, the beginning of a UTC day as `2026-11-23`, or how long ago, as
/// `24h`, `7d` or `90m ago`.
pub fn typed(text: &str, now: UnixMs) -> Option<UnixMs> {
    let text = text.trim();
    timestamp(text)
        .or_else(|| day(text))
        .or_else(|| ago(text, now))
}

fn day(text: &str) -> Option<UnixMs> {
    let date = Date::parse(text, format_description!("[year]-[month]-[day]")).ok()?;
    Some(UnixMs(
        date.midnight().assume_utc().unix_timestamp() * 1_000,
    ))
}

fn ago(text: &str, now: UnixMs) -> Option<UnixMs> {
    let text = text.strip_suffix("ago").unwrap_or(text).trim();
    let unit = text.chars().last()?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 24 * 3_600,
        _ => return None,
    };
    let count: u32 = text.strip_suffix(unit)?.trim().parse().ok()?;
    Some(now.minus(Duration::from_secs(u64::from(count) * seconds)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: UnixMs = UnixMs(1_800_000_000_000);

    #[test]
    fn belvos_ways_to_write_one_moment_are_one_moment() {
        let at = timestamp("2026-11-23T05:31:56.123Z");
        assert_eq!(
            at.map(|at| at.to_string()).as_deref(),
            Some("2026-11-23T05:31:56.123Z")
        );
        for text in [
            "2026-11-23T05:31:56.123000Z",
            "2026-11-23T05:31:56.1230+00:00",
            "2026-11-23T06:31:56.123456+01:00",
        ] {
            assert_eq!(timestamp(text), at, "{text}");
        }
        assert_eq!(
            timestamp("2026-11-23T05:31:56Z"),
            timestamp("2026-11-23T05:31:56.000Z")
        );
    }

    #[test]
    fn a_person_may_type_a_time_a_day_or_how_long_ago() {
        let hours = |count: u64| NOW.minus(Duration::from_secs(count * 3_600));
        assert_eq!(typed("24h", NOW), Some(hours(24)));
        assert_eq!(typed(" 7d ago", NOW), Some(hours(7 * 24)));
        assert_eq!(typed("60 m", NOW), Some(hours(1)));
        assert_eq!(typed("2026-11-23", NOW), timestamp("2026-11-23T00:00:00Z"));
        for text in [
            "",
            "yesterday",
            "2026-13-01",
            "h",
            "-3h",
            "24",
            "99999999999d",
            "ago",
        ] {
            assert_eq!(typed(text, NOW), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_we_write_we_read_with_any_digits_and_either_zero_offset(
            ms in 0i64..4_000_000_000_000, digits in 3usize..10, offset in any::<bool>()
        ) {
            let text = UnixMs(ms).to_string();
            let (date, _) = text.split_at(text.len() - 1);
            let zeros = "0".repeat(digits - 3);
            let zone = if offset { "+00:00" } else { "Z" };
            prop_assert_eq!(timestamp(&format!("{date}{zeros}{zone}")), Some(UnixMs(ms)));
        }

        #[test]
        fn any_text_is_a_time_or_none(text in ".{0,40}") {
            let _ = (timestamp(&text), typed(&text, NOW));
        }
    }
}

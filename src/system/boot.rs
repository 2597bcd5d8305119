//! Since when the machine runs: which boot it is, and a clock that counts from it, never jumps, and goes on in a suspend.

use std::sync::OnceLock;
use std::{env, fs};

use rustix::time::{ClockId, clock_gettime};

/// The variable with the boot id, where the service manager hides the kernel's file (`%b` in a unit).
const BOOT_ID: &str = "BOOT_ID";

/// One run of the machine, from when it was switched on: the first 48 bits of the kernel's boot id. A number made up for
/// this run of the program where that cannot be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Boot(pub i64);

impl Boot {
    /// The one that goes on.
    pub fn current() -> Self {
        static CURRENT: OnceLock<Boot> = OnceLock::new();
        *CURRENT.get_or_init(|| {
            let hidden = || env::var(BOOT_ID).ok();
            fs::read_to_string("/proc/sys/kernel/random/boot_id")
                .ok()
                .or_else(hidden)
                .and_then(|id| Self::of(&id))
                .unwrap_or_else(|| Self(fastrand::i64(0..1 << 48)))
        })
    }

    /// From the kernel's text, `9f6b2c1e-8d54-…`, with or without hyphens.
    fn of(id: &str) -> Option<Self> {
        let digits: String = id.chars().filter(|digit| *digit != '-').take(12).collect();
        let is_whole = digits.len() == 12;
        i64::from_str_radix(&digits, 16)
            .ok()
            .filter(|_| is_whole)
            .map(Self)
    }
}

/// Milliseconds since the machine was switched on.
pub fn elapsed_ms() -> i64 {
    let now = clock_gettime(ClockId::Boottime);
    now.tv_sec
        .saturating_mul(1_000)
        .saturating_add(now.tv_nsec / 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_is_the_beginning_of_its_id() {
        let found = Some(Boot(0x9f6b_2c1e_8d54));
        assert_eq!(Boot::of("9f6b2c1e-8d54-4a51-9c6f-0a1b2c3d4e5f\n"), found);
        assert_eq!(Boot::of("9f6b2c1e8d544a519c6f0a1b2c3d4e5f"), found);
        assert_eq!(Boot::of("9f6b2c1e"), None);
        assert_eq!(Boot::of("not a boot id"), None);
    }
}

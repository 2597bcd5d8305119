//! Is the `Authorization` header ours? Pure, in a time that does not depend on what differs; never logs what it saw.

use crate::system::secret::Secret;

/// The header values that count. Belvo sends whatever was typed into its dashboard, so they are opaque bytes.
#[derive(Clone, Debug, Default)]
pub struct Authorization(Vec<Secret>);

/// What a request's header is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is one of ours, or none is configured.
    Ours,
    /// There is none.
    Missing,
    /// It is another one, or there are several.
    Wrong,
}

impl Authorization {
    /// These values; none at all means that no header is asked for.
    pub fn new(values: Vec<Secret>) -> Self {
        Self(values)
    }

    /// Whether a header is asked for at all.
    pub fn is_configured(&self) -> bool {
        !self.0.is_empty()
    }

    /// Judges the header lines of one request. Every value is compared, so the time tells nothing about which one matched.
    pub fn judge<'a>(&self, mut lines: impl Iterator<Item = &'a [u8]>) -> Verdict {
        if self.0.is_empty() {
            return Verdict::Ours;
        }
        match (lines.next(), lines.next()) {
            (None, _) => Verdict::Missing,
            (Some(offered), None)
                if self
                    .0
                    .iter()
                    .fold(false, |ours, value| ours | value.is(offered)) =>
            {
                Verdict::Ours
            }
            _ => Verdict::Wrong,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn configured(values: &[&str]) -> Authorization {
        Authorization::new(
            values
                .iter()
                .map(|value| Secret::new((*value).to_owned()))
                .collect(),
        )
    }

    fn judge(ours: &Authorization, lines: &[&str]) -> Verdict {
        ours.judge(lines.iter().map(|line| line.as_bytes()))
    }

    #[test]
    fn without_a_configured_value_nothing_is_asked_for() {
        assert_eq!(judge(&configured(&[]), &[]), Verdict::Ours);
    }

    #[test]
    fn the_whole_value_counts() {
        let ours = configured(&["Bearer abc"]);
        assert_eq!(judge(&ours, &["Bearer abc"]), Verdict::Ours);
        for wrong in ["Bearer ab", "Bearer abcd", "bearer abc", "abc", ""] {
            assert_eq!(judge(&ours, &[wrong]), Verdict::Wrong, "{wrong}");
        }
        assert_eq!(judge(&ours, &[]), Verdict::Missing);
    }

    #[test]
    fn both_values_count_while_one_is_being_changed() {
        let ours = configured(&["Bearer old", "Bearer new"]);
        assert_eq!(
            (judge(&ours, &["Bearer old"]), judge(&ours, &["Bearer new"])),
            (Verdict::Ours, Verdict::Ours)
        );
    }

    #[test]
    fn two_header_lines_are_wrong_whatever_they_say() {
        assert_eq!(judge(&configured(&["a"]), &["a", "a"]), Verdict::Wrong);
    }

    proptest! {
        #[test]
        fn only_an_equal_value_is_ours(value in "[ -~]{1,40}", offered in "[ -~]{0,40}") {
            prop_assert_eq!(judge(&configured(&[&value]), &[&offered]) == Verdict::Ours, value == offered);
        }
    }
}

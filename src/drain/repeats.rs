//! Recognises a delivery that came before: the same `webhook_id` with the same bytes, among the last few. For
//! information only: what Belvo's id stands for is not documented, so nothing is skipped because of it.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};

use crate::limits::DELIVERIES_REMEMBERED;
use crate::webhook::Seq;

/// The last deliveries, by a hash of id and bytes.
#[derive(Debug, Default)]
pub struct Repeats {
    hasher: RandomState,
    first: HashMap<u64, Seq>,
    order: VecDeque<u64>,
}

impl Repeats {
    /// Remembers a delivery, and says which earlier one it repeats.
    pub fn remember(&mut self, seq: Seq, webhook_id: Option<&str>, body: &str) -> Option<Seq> {
        let hash = self.hasher.hash_one((webhook_id?, body));
        if let Some(first) = self.first.get(&hash) {
            return (*first < seq).then_some(*first);
        }
        if self.order.len() >= DELIVERIES_REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.first.remove(&oldest);
        }
        self.order.push_back(hash);
        self.first.insert(hash, seq);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeat_has_the_same_id_and_the_same_bytes() {
        let mut repeats = Repeats::default();
        assert_eq!(repeats.remember(Seq(1), Some("a"), "{}"), None);
        assert_eq!(repeats.remember(Seq(2), Some("a"), "{}"), Some(Seq(1)));
        assert_eq!(repeats.remember(Seq(3), Some("a"), "{ }"), None);
        assert_eq!(repeats.remember(Seq(4), Some("b"), "{}"), None);
        assert_eq!(repeats.remember(Seq(5), None, "{}"), None);
    }

    #[test]
    fn planning_a_row_again_does_not_make_it_its_own_repeat() {
        let mut repeats = Repeats::default();
        repeats.remember(Seq(1), Some("a"), "{}");
        assert_eq!(repeats.remember(Seq(1), Some("a"), "{}"), None);
    }

    #[test]
    fn no_more_than_a_bounded_number_is_remembered() {
        let mut repeats = Repeats::default();
        for seq in 0..3 * DELIVERIES_REMEMBERED as i64 {
            repeats.remember(Seq(seq), Some(&seq.to_string()), "{}");
        }
        assert_eq!(
            (repeats.order.len(), repeats.first.len()),
            (DELIVERIES_REMEMBERED, DELIVERIES_REMEMBERED)
        );
    }
}

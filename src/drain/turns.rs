//! Whose turn it is: which links were served lately, so that none is served twice while another waits. In memory only;
//! after a restart all are equal again. Knows links by name and nothing of their work.

use std::collections::HashMap;

use crate::limits::TURNS_REMEMBERED;

/// The last turns of the links.
#[derive(Debug, Default)]
pub(super) struct Turns {
    last: HashMap<String, u64>,
    count: u64,
}

impl Turns {
    /// A link is served now.
    pub(super) fn take(&mut self, link_id: &str) {
        self.count += 1;
        if self.last.len() >= TURNS_REMEMBERED && !self.last.contains_key(link_id) {
            // The older half counts as never served, which only lets it wait less.
            let middle = self.count.saturating_sub(TURNS_REMEMBERED as u64 / 2);
            self.last.retain(|_, turn| *turn >= middle);
        }
        self.last.insert(link_id.to_owned(), self.count);
    }

    /// When a link was served last; 0 is never.
    pub(super) fn last(&self, link_id: &str) -> u64 {
        self.last.get(link_id).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_served_last_comes_last() {
        let mut turns = Turns::default();
        for link in ["a", "b", "a"] {
            turns.take(link);
        }
        let mut links = ["a", "b", "c"];
        links.sort_by_key(|link| turns.last(link));
        assert_eq!(links, ["c", "b", "a"]);
    }

    #[test]
    fn no_more_than_a_bounded_number_is_remembered() {
        let mut turns = Turns::default();
        for link in 0..3 * TURNS_REMEMBERED {
            turns.take(&link.to_string());
        }
        assert!(turns.last.len() <= TURNS_REMEMBERED);
        assert_eq!(turns.last("0"), 0);
    }
}

//! Which refused connections are looked at for the drift alarm: one now and then, never two at once, and not the same
//! address again and again, so that one stranger's flood does not use all looks up. Everybody else is closed unread at
//! the price of one comparison. Pure but for its lock: the time comes from the caller.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::source::Peer;
use crate::limits::{LOOK_EVERY, LOOK_SAME_AGAIN, LOOKED_AT_KEPT};

/// The budget of looks.
#[derive(Debug, Default)]
pub(super) struct Looks(Mutex<Past>);

#[derive(Debug, Default)]
struct Past {
    /// None is had before this. It is further away than a look may last.
    next: Option<Instant>,
    /// The latest at the end.
    looked_at: VecDeque<(IpAddr, Instant)>,
}

impl Looks {
    /// Whether a connection from this peer may be looked at now; then none is for a while.
    pub(super) fn take(&self, peer: Peer, now: Instant) -> bool {
        let mut past = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if past.next.is_some_and(|next| now < next) {
            return false;
        }
        let address = peer.address();
        let recent = |(of, at): &(IpAddr, Instant)| *of == address && now < *at + LOOK_SAME_AGAIN;
        if past.looked_at.iter().any(recent) {
            return false;
        }
        past.next = Some(now + LOOK_EVERY);
        if past.looked_at.len() == LOOKED_AT_KEPT {
            past.looked_at.pop_front();
        }
        past.looked_at.push_back((address, now));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::LOOK_WAIT;
    use std::net::SocketAddr;

    fn peer(last: u8) -> Peer {
        Peer::of(SocketAddr::from(([203, 0, 113, last], 1)))
    }

    #[test]
    fn one_look_is_over_before_the_next_begins() {
        assert!(LOOK_WAIT < LOOK_EVERY);
        let (looks, now) = (Looks::default(), Instant::now());
        assert!(looks.take(peer(1), now));
        assert!(!looks.take(peer(2), now + LOOK_WAIT));
        assert!(looks.take(peer(2), now + LOOK_EVERY));
    }

    #[test]
    fn the_flood_of_one_stranger_leaves_looks_for_others() {
        let (looks, now) = (Looks::default(), Instant::now());
        assert!(looks.take(peer(1), now));
        assert!(!looks.take(peer(1), now + LOOK_EVERY));
        assert!(looks.take(peer(2), now + LOOK_EVERY));
        assert!(looks.take(peer(1), now + LOOK_SAME_AGAIN.max(LOOK_EVERY * 2)));
    }

    #[test]
    fn a_flood_from_everywhere_gets_a_few_looks_a_minute_and_little_memory() {
        let (looks, began) = (Looks::default(), Instant::now());
        let minute = std::time::Duration::from_secs(60);
        let taken = (0..60_000u32)
            .filter(|n| {
                let peer = Peer::of(SocketAddr::from((n.to_be_bytes(), 1)));
                looks.take(peer, began + minute * *n / 60_000)
            })
            .count();
        assert!((2..=6).contains(&taken), "{taken}");
        let past = looks.0.into_inner().expect("no panic");
        assert!(past.looked_at.len() <= LOOKED_AT_KEPT);
    }
}

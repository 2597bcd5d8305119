//! Who has a connection open, in all and by source, and who has to go when there is no seat for a newcomer: the one that
//! has gone longest without a whole request, be it silent, slow or idle; never one whose request is being answered. Those
//! who have brought a webhook and those who have not yet are two kinds, and who is crowded out is one of the larger kind:
//! however many come and say nothing, they do not take the seats of those who are served, nor the reverse. Pure: it is
//! told the time, and knows sources and no sockets.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// One seat; no two are ever the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seat(u64);

/// All who sit. `T` is what stands for a connection: it is given back when somebody has to go.
#[derive(Debug)]
pub struct Seats<T> {
    /// How many there are.
    all: usize,
    guests: BTreeMap<Seat, Guest<T>>,
    kinds: BTreeMap<Kind, usize>,
    given: u64,
}

/// Guests of one source that have or have not brought a webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    source: IpAddr,
    has_brought: bool,
}

#[derive(Debug)]
struct Guest<T> {
    kind: Kind,
    /// Since when it owes us a whole request; not at all while one is being answered.
    owes_since: Option<Instant>,
    connection: T,
}

/// Somebody who has to go.
#[derive(Debug, PartialEq, Eq)]
pub struct Gone<T> {
    /// Where it is from.
    pub source: IpAddr,
    /// What stands for its connection.
    pub connection: T,
}

impl<T> Seats<T> {
    /// None taken.
    pub fn new(all: usize) -> Self {
        Self {
            all,
            guests: BTreeMap::new(),
            kinds: BTreeMap::new(),
            given: 0,
        }
    }

    /// A seat for a connection that was accepted at `now`, from a source that may have `share` seats, and who had to go for
    /// it. None when everybody who could go is being answered.
    pub fn take(
        &mut self,
        source: IpAddr,
        share: usize,
        now: Instant,
        connection: T,
    ) -> Option<(Seat, Option<Gone<T>>)> {
        let gone = if self.of(source) >= share {
            Some(self.send_away(Some(source))?)
        } else if self.guests.len() >= self.all {
            Some(self.send_away(None)?)
        } else {
            None
        };
        let kind = Kind {
            source,
            has_brought: false,
        };
        let seat = Seat(self.given);
        self.given += 1;
        self.add(
            seat,
            Guest {
                kind,
                owes_since: Some(now),
                connection,
            },
        );
        Some((seat, gone))
    }

    /// It has brought a webhook, which is being answered.
    pub fn has_brought(&mut self, seat: Seat) {
        if let Some(mut guest) = self.remove(seat) {
            guest.kind.has_brought = true;
            guest.owes_since = None;
            self.add(seat, guest);
        }
    }

    /// Its answer is out; it owes the next request.
    pub fn is_answered(&mut self, seat: Seat, now: Instant) {
        if let Some(guest) = self.guests.get_mut(&seat) {
            guest.owes_since = Some(now);
        }
    }

    /// It has left by itself, or was sent away before.
    pub fn leave(&mut self, seat: Seat) {
        drop(self.remove(seat));
    }

    /// Sends somebody away when the machine has no room for more.
    pub fn make_room(&mut self) -> Option<Gone<T>> {
        self.send_away(None)
    }

    /// Of this source or else of all, the largest kind; of that, the one that has owed for longest.
    fn send_away(&mut self, source: Option<IpAddr>) -> Option<Gone<T>> {
        let among = self
            .guests
            .iter()
            .filter(|(_, guest)| source.is_none_or(|source| source == guest.kind.source));
        let owing = among.filter_map(|(seat, guest)| {
            let seats = self.kinds.get(&guest.kind)?;
            let order = (Reverse(seats), guest.kind.has_brought, guest.owes_since?);
            Some((order, *seat))
        });
        let (_, seat) = owing.min()?;
        let Guest {
            kind, connection, ..
        } = self.remove(seat)?;
        Some(Gone {
            source: kind.source,
            connection,
        })
    }

    fn add(&mut self, seat: Seat, guest: Guest<T>) {
        *self.kinds.entry(guest.kind).or_default() += 1;
        self.guests.insert(seat, guest);
    }

    fn remove(&mut self, seat: Seat) -> Option<Guest<T>> {
        let guest = self.guests.remove(&seat)?;
        if let Some(seats) = self.kinds.get_mut(&guest.kind) {
            *seats -= 1;
            if *seats == 0 {
                self.kinds.remove(&guest.kind);
            }
        }
        Some(guest)
    }

    fn of(&self, source: IpAddr) -> usize {
        let kinds = [false, true].map(|has_brought| Kind {
            source,
            has_brought,
        });
        kinds.iter().filter_map(|kind| self.kinds.get(kind)).sum()
    }
}

/// The seats of all listeners together. Clones share them.
#[derive(Debug)]
pub struct Shared<T>(Arc<Mutex<Seats<T>>>);

impl<T> Shared<T> {
    /// None taken.
    pub fn new(all: usize) -> Self {
        Self(Arc::new(Mutex::new(Seats::new(all))))
    }

    /// [`Seats::take`].
    pub fn take(
        &self,
        source: IpAddr,
        share: usize,
        now: Instant,
        connection: T,
    ) -> Option<(Seated<T>, Option<Gone<T>>)> {
        let (seat, gone) = self.lock().take(source, share, now, connection)?;
        let seats = self.clone();
        Some((Seated { seats, seat }, gone))
    }

    /// [`Seats::make_room`].
    pub fn make_room(&self) -> Option<Gone<T>> {
        self.lock().make_room()
    }

    /// No code that holds this lock can panic halfway through a change, so a poisoned one is still whole.
    fn lock(&self) -> MutexGuard<'_, Seats<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// A seat that is held, and free again when this is dropped.
#[derive(Debug)]
pub struct Seated<T> {
    seats: Shared<T>,
    seat: Seat,
}

impl<T> Seated<T> {
    /// [`Seats::has_brought`].
    pub fn has_brought(&self) {
        self.seats.lock().has_brought(self.seat);
    }

    /// [`Seats::is_answered`].
    pub fn is_answered(&self, now: Instant) {
        self.seats.lock().is_answered(self.seat, now);
    }
}

impl<T> Drop for Seated<T> {
    fn drop(&mut self) {
        self.seats.lock().leave(self.seat);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::Ipv4Addr;
    use std::time::Duration;

    const ALL: usize = 6;
    const SHARE: usize = 4;

    fn source(number: u8) -> IpAddr {
        Ipv4Addr::new(192, 0, 2, number).into()
    }

    #[derive(Clone, Debug)]
    enum Act {
        Come(u8),
        Bring(usize),
        Answered(usize),
        Leave(usize),
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            3 => (0..3_u8).prop_map(Act::Come),
            2 => (0..6_usize).prop_map(Act::Bring),
            1 => (0..6_usize).prop_map(Act::Answered),
            1 => (0..6_usize).prop_map(Act::Leave),
        ]
    }

    /// The same in the plainest way: everybody in a list.
    struct Sitting {
        seat: Seat,
        source: u8,
        has_brought: bool,
        owes_since: Option<Instant>,
    }

    fn count(model: &[Sitting], source: u8) -> usize {
        model.iter().filter(|guest| guest.source == source).count()
    }

    /// Who may have to go for a newcomer; nobody when there is room.
    fn may_go(model: &[Sitting], newcomer: u8) -> Option<Vec<Seat>> {
        let crowded = count(model, newcomer) == SHARE;
        if !crowded && model.len() < ALL {
            return None;
        }
        let alike = |one: &Sitting| {
            let like = |other: &&Sitting| {
                (one.source, one.has_brought) == (other.source, other.has_brought)
            };
            model.iter().filter(like).count()
        };
        let owing =
            |guest: &&Sitting| guest.owes_since.is_some() && (!crowded || guest.source == newcomer);
        let most = model.iter().filter(owing).map(alike).max();
        let of_most = || {
            model
                .iter()
                .filter(owing)
                .filter(|guest| Some(alike(guest)) == most)
        };
        let newer = of_most().all(|guest| guest.has_brought);
        let of_kind = || of_most().filter(|guest| guest.has_brought == newer);
        let oldest = of_kind().map(|guest| guest.owes_since).min();
        let longest = of_kind().filter(|guest| Some(guest.owes_since) == oldest);
        Some(longest.map(|guest| guest.seat).collect())
    }

    proptest! {
        #[test]
        fn whoever_has_to_go_owes_a_request_for_longest_and_nobody_goes_without_need(
            acts in prop::collection::vec(act(), 0..80),
        ) {
            let (mut seats, mut model, begun) = (Seats::new(ALL), Vec::<Sitting>::new(), Instant::now());
            for (moment, act) in acts.into_iter().enumerate() {
                // Two acts may fall into one moment.
                let now = begun + Duration::from_millis(moment as u64 / 2);
                match act {
                    Act::Come(number) => {
                        let may_go = may_go(&model, number);
                        let Some((seat, gone)) = seats.take(source(number), SHARE, now, ()) else {
                            prop_assert_eq!(may_go, Some(vec![]), "turned away without need");
                            continue;
                        };
                        prop_assert_eq!(gone.is_some(), may_go.is_some());
                        if let Some(gone) = gone {
                            let at = model.iter().position(|guest| !seats.guests.contains_key(&guest.seat));
                            let guest = model.remove(at.expect("somebody who sat"));
                            prop_assert_eq!(source(guest.source), gone.source);
                            prop_assert!(may_go.is_some_and(|may| may.contains(&guest.seat)));
                        }
                        model.push(Sitting { seat, source: number, has_brought: false, owes_since: Some(now) });
                    }
                    Act::Bring(at) => if let Some(guest) = model.get_mut(at) {
                        seats.has_brought(guest.seat);
                        (guest.has_brought, guest.owes_since) = (true, None);
                    },
                    Act::Answered(at) => if let Some(guest) = model.get_mut(at) {
                        seats.is_answered(guest.seat, now);
                        guest.owes_since = Some(now);
                    },
                    Act::Leave(at) => if at < model.len() {
                        seats.leave(model.remove(at).seat);
                    },
                }
                prop_assert!(model.len() <= ALL);
                prop_assert!((0..3).all(|number| count(&model, number) <= SHARE));
                prop_assert!(seats.guests.keys().eq(model.iter().map(|guest| &guest.seat)));
                prop_assert!((0..3).all(|number| seats.of(source(number)) == count(&model, number)));
            }
        }
    }

    #[test]
    fn those_who_bring_webhooks_keep_half_of_the_seats_and_those_who_come_the_other_half() {
        let (mut seats, mut now) = (Seats::new(ALL), Instant::now());
        let mut come = |what: &'static str| {
            now += Duration::from_millis(1);
            let (seat, gone) = seats.take(source(1), SHARE, now, what).expect("a seat");
            if what == "webhooks" {
                seats.has_brought(seat);
                seats.is_answered(seat, now);
            }
            gone.map(|gone| gone.connection)
        };
        let served: Vec<_> = (0..10).map(|_| come("webhooks")).collect();
        assert_eq!(served, [vec![None; 4], vec![Some("webhooks"); 6]].concat());
        let silent: Vec<_> = (0..10).map(|_| come("nothing")).collect();
        assert_eq!(
            silent,
            [vec![Some("webhooks"); 2], vec![Some("nothing"); 8]].concat()
        );
    }

    #[test]
    fn a_source_that_takes_all_it_can_get_takes_nothing_from_another() {
        let (mut seats, now) = (Seats::new(ALL), Instant::now());
        let belvo = [0, 1].map(|_| {
            seats
                .take(source(1), SHARE, now, "belvo")
                .expect("a seat")
                .0
        });
        for moment in 1..100 {
            let now = now + Duration::from_secs(moment);
            let (_, gone) = seats.take(source(2), SHARE, now, "flood").expect("a seat");
            assert!(gone.is_none_or(|gone| gone.connection == "flood"));
        }
        assert!(belvo.iter().all(|seat| seats.guests.contains_key(seat)));
    }

    #[test]
    fn while_all_are_being_answered_nobody_goes() {
        let (mut seats, now) = (Seats::new(ALL), Instant::now());
        for _ in 0..SHARE {
            let (seat, _) = seats.take(source(1), SHARE, now, ()).expect("a seat");
            seats.has_brought(seat);
        }
        assert_eq!(seats.take(source(1), SHARE, now, ()), None);
        assert!(
            seats.take(source(2), SHARE, now, ()).is_some(),
            "another source has seats of its own"
        );
    }
}

//! Chooses the introduction points of one descriptor for all HSDirs.
//!
//! A function of what the live backends offer and of what is listed already;
//! it knows nothing of time. The rules, the earlier before the later:
//!
//! 1. 1 to 20 points, every session once, every backend at least one point
//!    (of more than 20 backends the first 20: who is first, [`turns`] decides).
//! 2. A client finds a point by its relay and uses only the first one listed
//!    there. So a relay is listed once, and twice only where a backend has no
//!    point anywhere else, even after those that have a choice have moved.
//! 3. A backend's share of the points is its share of the traffic. The numbers
//!    are proportional to the weights, as high as the limit permits, and any
//!    backend may be *one* point short of its share: then a backend that loses
//!    one point of three costs the others nothing, and a backend with a single
//!    point leaves two to those of equal weight, since one alone is fragile.
//!    With equal weights, offers of 3, 3, 3 give 3, 3, 3; 3 and 2 give 3 and
//!    2; 3 and 1 give 2 and 1. Room that would break the proportion is left free.
//! 4. What is listed stays listed: only what rules 1 to 3 demand is changed,
//!    and the order of what stays is kept.
//!
//! [`turns`]: super::turns

use std::collections::BTreeSet;

use super::fact::BackendId;
use super::quota::limit;
use super::seating::{BackendIndex, BackendOffer, Chosen, Seat, Seating, SetIndex};
use crate::onion::{MAX_INTRO_POINTS, RelayId, SessionId};

/// The points to list, given those listed so far.
///
/// Empty only if nothing is offered. [`limit`] says how many there may be.
pub(super) fn select(
    candidates: &[BackendOffer<'_>],
    previous: &[(BackendId, SessionId)],
    max_points: Option<u8>,
) -> Vec<Chosen> {
    let mut seating = Seating::new(candidates, previous.iter(), &[1], MAX_INTRO_POINTS);
    seating.prefer_listed(MAX_INTRO_POINTS);
    seating.set_quotas(limit(max_points, seating.backends().count()), &[]);
    let Some(set) = seating.sets().next() else { return Vec::new() };
    let mut one = One { seating, set };
    one.keep_listed(previous);
    one.fill();
    one.into_list()
}

/// The only descriptor.
struct One<'a> {
    seating: Seating<'a>,
    set: SetIndex,
}

impl One<'_> {
    /// What is listed stays, as far as the quotas go.
    fn keep_listed(&mut self, previous: &[(BackendId, SessionId)]) {
        for (backend, session) in previous {
            let Some(who) = self.seating.find(*backend) else { continue };
            let Some(place) = self.seating.find_point(who, *session) else { continue };
            let share = &self.seating[who];
            if share.places < share.quota && !self.seating.is_taken(self.set, place) {
                self.seating.append(self.set, place);
            }
        }
    }

    /// Everyone's first point before anyone's second, and so on. A backend that
    /// finds every one of its relays taken is listed with a second point there.
    fn fill(&mut self) {
        for round in 1..=self.seating.most_rounds() {
            for who in self.seating.backends() {
                let share = &self.seating[who];
                if share.places < round.min(share.quota) {
                    self.seat(who, round == 1, &mut BTreeSet::new());
                }
            }
        }
        for who in self.seating.backends() {
            let first = self.seating.points(who).next();
            if let Some(place) = first.filter(|_| self.seating[who].places == 0) {
                self.seating.append(self.set, place);
            }
        }
    }

    /// Finds a relay for one more point of this backend, if need be by moving
    /// others to another of their relays (an augmenting path).
    ///
    /// What was listed before moves, or loses one of several points, only for
    /// the sake of a backend's `first` point.
    fn seat(&mut self, who: BackendIndex, first: bool, seen: &mut BTreeSet<RelayId>) -> bool {
        let free = self.seating.points(who).find(|it| !self.seating.is_taken(self.set, *it));
        if let Some(place) = free {
            self.seating.append(self.set, place);
            return true;
        }
        for place in self.seating.points(who) {
            let relay = self.seating.relay(place);
            let Some(held) = self.at_relay(relay) else { continue };
            let movable = first || self.seating.rank(held).is_none();
            if held.who == who || !movable || !seen.insert(relay) {
                continue;
            }
            let moved = self.seat(held.who, first, seen);
            if moved || (first && self.seating[held.who].places > 1) {
                let at = self.seating[self.set].places.iter().position(|it| *it == held);
                if let Some(at) = at {
                    self.seating.unlist(self.set, at);
                }
                self.seating.append(self.set, place);
                return true;
            }
        }
        false
    }

    fn at_relay(&self, relay: RelayId) -> Option<Seat> {
        let mut places = self.seating[self.set].places.iter();
        places.find(|place| self.seating.relay(**place) == relay).copied()
    }

    /// The list: what stays in its order, then what is new.
    fn into_list(mut self) -> Vec<Chosen> {
        let mut places = std::mem::take(&mut self.seating[self.set].places);
        places.sort_by_key(|place| (self.seating.rank(*place).unwrap_or(usize::MAX), *place));
        self.seating[self.set].places = places;
        self.seating.into_sets().pop().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::super::samples::point;
    use super::*;
    use crate::onion::IntroPoint;

    type Offered = Vec<(u16, Vec<IntroPoint>)>;

    fn select_from(offered: &Offered, previous: &[Chosen], max: Option<u8>) -> Vec<Chosen> {
        let candidates: Vec<BackendOffer<'_>> = (0..)
            .map(BackendId)
            .zip(offered)
            .map(|(backend, (weight, points))| BackendOffer { backend, weight: *weight, points })
            .collect();
        let previous: Vec<_> = previous.iter().map(|c| (c.backend, c.point.session_id)).collect();
        select(&candidates, &previous, max)
    }

    /// Backends of these weights and numbers of points, each at a relay of its own.
    fn offers(of: &[(u16, u16)]) -> Offered {
        let mut next = 0..;
        let mut fresh = || next.next().map(|n| point(n, n)).unwrap();
        of.iter().map(|&(weight, n)| (weight, (0..n).map(|_| fresh()).collect())).collect()
    }

    fn counts(offered: &Offered, chosen: &[Chosen]) -> Vec<usize> {
        let of = |id| chosen.iter().filter(|c| c.backend == BackendId(id)).count();
        (0..).take(offered.len()).map(of).collect()
    }

    fn shares(of: &[(u16, u16)], max: Option<u8>) -> Vec<usize> {
        let offered = offers(of);
        counts(&offered, &select_from(&offered, &[], max))
    }

    #[test]
    fn equal_backends_get_equal_numbers_up_to_the_size_of_an_ordinary_service() {
        assert_eq!(shares(&[(1, 3); 1], None), [3]);
        assert_eq!(shares(&[(1, 3); 2], None), [3, 3]);
        assert_eq!(shares(&[(1, 3); 3], None), [2, 2, 2]);
        assert_eq!(shares(&[(1, 3); 4], None), [2, 2, 2, 2]);
        assert_eq!(shares(&[(1, 3); 8], None), [1; 8]);
        assert_eq!(shares(&[(1, 3); 9], None), [2; 9]);
        assert_eq!(shares(&[(1, 3); 20], None), [1; 20]);
    }

    #[test]
    fn a_backend_with_one_point_leaves_two_to_the_others_and_one_with_two_leaves_three() {
        assert_eq!(shares(&[(1, 3), (1, 1)], None), [2, 1]);
        assert_eq!(shares(&[(1, 3), (1, 2), (1, 3)], None), [3, 2, 3]);
    }

    #[test]
    fn weights_are_numbers_of_points() {
        assert_eq!(shares(&[(3, 3), (1, 3)], None), [3, 1]);
        assert_eq!(shares(&[(10, 3), (1, 3)], None), [3, 1]);
        assert_eq!(shares(&[(2, 6), (1, 6)], None), [5, 2]);
        assert_eq!(shares(&[(2, 6), (1, 6)], Some(9)), [6, 3]);
        assert_eq!(shares(&[(0, 3), (0, 3)], None), [3, 3]);
    }

    #[test]
    fn a_configured_limit_gives_way_only_to_every_backends_first_point() {
        assert_eq!(shares(&[(1, 20), (1, 20)], Some(20)), [10, 10]);
        assert_eq!(shares(&[(1, 3), (1, 3)], Some(3)), [1, 1]);
        assert_eq!(shares(&[(1, 3); 4], Some(2)), [1; 4]);
        assert_eq!(shares(&[(1, 30)], Some(255)), [20]);
    }

    #[test]
    fn a_second_point_on_a_relay_is_listed_only_for_a_backend_that_has_no_other() {
        // The second backend has nothing but relay 1: the first moves over.
        let offered = vec![(1, vec![point(1, 1), point(2, 2)]), (1, vec![point(3, 1)])];
        let chosen = select_from(&offered, &[], None);
        assert_eq!(chosen.len(), 2);
        assert!(chosen.iter().any(|c| c.point == point(2, 2)));
        assert!(chosen.iter().any(|c| c.point == point(3, 1)));

        // It gives a listed point up for that.
        let alone = select_from(&vec![offered[0].clone()], &[], None);
        assert_eq!(alone.len(), 2);
        assert_eq!(select_from(&offered, &alone, None), chosen);

        // Nobody can move: both stay.
        let offered = vec![(1, vec![point(1, 1)]), (1, vec![point(3, 1)])];
        assert_eq!(counts(&offered, &select_from(&offered, &[], None)), [1, 1]);
    }

    #[test]
    fn a_listed_point_does_not_move_for_another_backends_second_point() {
        let mut offered = vec![
            (1, vec![point(1, 1), point(2, 2), point(3, 3)]),
            (1, vec![point(4, 4), point(5, 1)]),
        ];
        let seconds = offered[1].1.split_off(1);
        let before = select_from(&offered, &[], Some(4));
        assert_eq!(counts(&offered, &before), [2, 1]);
        offered[1].1.extend(seconds);
        assert_eq!(select_from(&offered, &before, Some(4)), before);
        // Where nothing is listed yet, everyone gets the full number.
        assert_eq!(counts(&offered, &select_from(&offered, &[], Some(4))), [2, 2]);
    }

    #[test]
    fn nobody_pushes_a_listed_point_out_by_offering_the_same_session() {
        let honest = vec![(1, vec![]), (1, vec![point(1, 1), point(2, 2)])];
        let before = select_from(&honest, &[], None);
        let copied = vec![(1, vec![point(1, 9), point(2, 9)]), honest[1].clone()];
        assert_eq!(select_from(&copied, &before, None), before);
    }

    #[test]
    fn a_replaced_point_leaves_all_others_in_their_places() {
        let mut offered = offers(&[(1, 3), (1, 3), (1, 3)]);
        let before = select_from(&offered, &[], Some(9));
        offered[1].1[0] = point(100, 100);
        let after = select_from(&offered, &before, Some(9));
        let gone: Vec<_> = before.iter().filter(|c| !after.contains(c)).cloned().collect();
        let new: Vec<_> = after.iter().filter(|c| !before.contains(c)).cloned().collect();
        assert_eq!((gone.len(), new.len()), (1, 1));
        let kept: Vec<_> = before.iter().filter(|c| after.contains(c)).collect();
        assert_eq!(after.iter().take(8).collect::<Vec<_>>(), kept);
    }

    /// Up to 20 backends with up to 6 points each, on few relays or on many.
    /// Every session is of one backend, as all honest ones are.
    fn any_offers(relays: std::ops::Range<u16>) -> impl Strategy<Value = Offered> {
        let backend = (0u16..5, prop::collection::vec(relays, 0..7));
        prop::collection::vec(backend, 1..21).prop_map(|backends| {
            let mut session = 0;
            let mut next = |at| {
                session += 1;
                point(session, at)
            };
            backends
                .into_iter()
                .map(|(weight, at)| (weight, at.into_iter().map(&mut next).collect()))
                .collect()
        })
    }

    proptest! {
        #[test]
        fn every_list_keeps_the_rules(
            offered in prop_oneof![any_offers(0..8), any_offers(0..200)],
            before in prop::collection::vec(any::<bool>(), 120),
            max in prop::option::of(0u8..30),
        ) {
            // What was listed before: the choice from some of the points.
            let mut keep = before.into_iter();
            let mut earlier = offered.clone();
            for (_, points) in &mut earlier {
                points.retain(|_| keep.next().unwrap());
            }
            let previous = select_from(&earlier, &[], max);
            let chosen = select_from(&offered, &previous, max);

            let backends = offered.iter().filter(|(_, points)| !points.is_empty()).count();
            let limit = max.map_or(if backends <= 8 { 8 } else { 20 }, usize::from);
            prop_assert!(chosen.len() <= limit.max(backends).min(20));
            prop_assert_eq!(chosen.is_empty(), backends == 0);

            let sessions: BTreeSet<_> = chosen.iter().map(|c| c.point.session_id).collect();
            prop_assert_eq!(sessions.len(), chosen.len());

            let counts = counts(&offered, &chosen);
            for ((_, points), count) in offered.iter().zip(&counts) {
                prop_assert_eq!(points.is_empty(), *count == 0);
            }
            for c in &chosen {
                prop_assert!(offered[c.backend.0 as usize].1.contains(&c.point));
                let here: Vec<_> =
                    chosen.iter().filter(|other| other.point.relay == c.point.relay).collect();
                prop_assert!(here.len() == 1 || counts[c.backend.0 as usize] == 1);
            }
            let kept: Vec<_> = previous.iter().filter(|c| chosen.contains(c)).collect();
            prop_assert_eq!(chosen.iter().take(kept.len()).collect::<Vec<_>>(), kept);
            prop_assert_eq!(select_from(&offered, &chosen, max), chosen);
        }

        #[test]
        fn shares_follow_the_weights(
            of in prop::collection::vec((1u16..6, 1u16..8), 1..21),
            max in prop::option::of(1u8..21),
        ) {
            let counts = shares(&of, max);
            for ((weight, _), count) in of.iter().zip(&counts) {
                for ((other_weight, _), other) in of.iter().zip(&counts) {
                    let here = count * usize::from(*other_weight);
                    prop_assert!(*count == 1 || here < (other + 2) * usize::from(*weight));
                }
            }
        }

        #[test]
        fn equal_backends_differ_by_one_at_most_and_room_is_left_only_for_a_reason(
            of in prop::collection::vec((Just(1u16), 1u16..8), 1..21),
            max in prop::option::of(1u8..21),
        ) {
            let counts = shares(&of, max);
            let most = *counts.iter().max().unwrap();
            let least = *counts.iter().min().unwrap();
            prop_assert!(most - least <= 1);
            let offered: Vec<usize> = of.iter().map(|(_, n)| usize::from(*n)).collect();
            let more: usize = offered.iter().map(|n| (most + 1).min(*n)).sum();
            let limit = max.map_or(if of.len() <= 8 { 8 } else { 20 }, usize::from);
            let nothing_left = offered.iter().all(|n| *n <= most);
            let unfair = offered.iter().any(|n| *n < most);
            prop_assert!(nothing_left || unfair || more > limit.max(of.len()).min(20));
        }

        #[test]
        fn a_backend_that_changes_one_point_moves_nobody_else(
            of in prop::collection::vec((1u16..6, 1u16..8), 1..21),
            who in any::<prop::sample::Index>(),
        ) {
            let mut offered = offers(&of);
            let before = select_from(&offered, &[], None);
            let who = who.index(offered.len());
            offered[who].1[0] = point(1000, 1000);
            let after = select_from(&offered, &before, None);
            let others = |list: &[Chosen]| -> Vec<Chosen> {
                list.iter().filter(|c| c.backend.0 as usize != who).cloned().collect()
            };
            prop_assert_eq!(others(&before), others(&after));
        }
    }
}

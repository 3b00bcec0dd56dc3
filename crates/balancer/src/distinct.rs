//! Chooses the introduction points of several distinct descriptors.
//!
//! One descriptor holds 20 points. Where more are wanted, HSDirs get different
//! ones: a *set* of points for each place in the ring at which clients ask. A
//! client picks an HSDir evenly, then a point of its descriptor evenly. Like
//! [`select`](super::select), a function of what the live backends offer and
//! of what is listed already. The rules, the earlier before the later:
//!
//! 1. A set has no more points than the limit, and no relay twice, save for a
//!    backend that finds all of its relays taken everywhere.
//! 2. Every backend is in some set, and in sets of two replicas where there is
//!    room: if the HSDirs of one replica fail, it is found through the other.
//! 3. A backend's share of all places in all sets is its share of the traffic;
//!    those of equal weight differ by one at most. Sets are of like size, for
//!    a point in a small set is met more often.
//! 4. As many points as possible are in use: a backend's points are in
//!    different sets before one is in two.
//! 5. What is listed stays listed. The backends that stay get no more than
//!    before when one goes, until half of what they could have is unused or
//!    rule 2 wants it; when one comes, only those give way that have more than
//!    their share.
//!
//! Where relays collide, rule 1 can cost a backend a place that rule 3 would
//! give it.

use std::collections::BTreeSet;

use super::fact::BackendId;
use super::seating::{BackendIndex, BackendOffer, Chosen, Seating, SetIndex};
use crate::onion::SessionId;

/// The replica of each set, and how many points a set may have.
#[derive(Clone, Debug)]
pub(super) struct Shape<'a> {
    pub(super) replicas: &'a [u8],
    pub(super) limit: usize,
}

/// The points of each set, given those listed so far.
pub(super) fn spread(
    candidates: &[BackendOffer<'_>],
    previous: &[Vec<(BackendId, SessionId)>],
    shape: &Shape<'_>,
) -> Vec<Vec<Chosen>> {
    let listed = previous.iter().flatten();
    let seating = Seating::new(candidates, listed, shape.replicas, shape.limit);
    let mut plan = Spreading { seating, shape };
    let held = plan.keep_listed(previous);
    // What one descriptor had room for says nothing of what several have.
    plan.seating.set_quotas(shape.limit, if previous.len() > 1 { &held } else { &[] });
    plan.use_more_points();
    plan.fill();
    plan.seat_excluded();
    plan.trim();
    plan.cross_replicas();
    plan.even_out();
    // Who gave a place may have given that of its only listing of a point.
    plan.use_more_points();
    plan.seating.into_sets()
}

/// The sets while they are put together.
struct Spreading<'a> {
    seating: Seating<'a>,
    shape: &'a Shape<'a>,
}

impl Spreading<'_> {
    fn size(&self, set: SetIndex) -> usize {
        self.seating[set].places.len()
    }

    fn replica(&self, set: SetIndex) -> u8 {
        self.seating[set].replica
    }

    /// What is listed stays, as far as it is there. Tells how many places each
    /// backend had, with those whose points have gone.
    fn keep_listed(&mut self, previous: &[Vec<(BackendId, SessionId)>]) -> Vec<usize> {
        let mut held: Vec<(BackendIndex, usize)> =
            self.seating.backends().map(|who| (who, 0)).collect();
        let mut excluded = Vec::new();
        for (set, listed) in self.seating.sets().zip(previous) {
            for (backend, session) in listed {
                let Some(who) = self.seating.find(*backend) else { continue };
                held.iter_mut().filter(|it| it.0 == who).for_each(|it| it.1 += 1);
                let place = self.seating.find_point(who, *session);
                let Some(place) = place.filter(|_| self.seating.has_room(set)) else { continue };
                if self.seating.is_taken(set, place) {
                    excluded.push((set, place));
                } else {
                    self.seating.append(set, place);
                }
            }
        }
        for (set, place) in excluded {
            if self.seating[place.who].places == 0 && self.seating.has_room(set) {
                self.seating.append(set, place);
            }
        }
        held.into_iter().map(|(_, held)| held).collect()
    }

    /// Puts points that are nowhere where another of the same backend is for
    /// the second time.
    fn use_more_points(&mut self) {
        for set in self.seating.sets() {
            for at in 0..self.size(set) {
                let place = self.seating[set].places[at];
                if self.seating.uses(place) < 2 {
                    continue;
                }
                let idle = self.seating.points(place.who).find(|other| {
                    self.seating.uses(*other) == 0 && !self.seating.is_taken(set, *other)
                });
                if let Some(other) = idle {
                    self.seating.unlist(set, at);
                    self.seating.list(set, at, other);
                }
            }
        }
    }

    /// Gives every backend what it should have: the first place to everyone
    /// before the second to anyone, and so on.
    fn fill(&mut self) {
        for round in 1..=self.seating.most_rounds() {
            for who in self.seating.backends() {
                let wanted = round.min(self.seating[who].quota);
                while self.seating[who].places < wanted && (self.seat(who) || self.displace(who)) {}
            }
        }
    }

    /// How little a place in this set would bring this backend.
    fn cost(&self, who: BackendIndex, set: SetIndex) -> (usize, usize) {
        let here = |set: SetIndex| self.seating[set].count(who);
        let replica = self.replica(set);
        let same = self.seating.sets().filter(|other| self.replica(*other) == replica);
        (here(set), same.map(here).sum())
    }

    /// One more place where there is room.
    fn seat(&mut self, who: BackendIndex) -> bool {
        let open = self.seating.sets().filter(|set| self.seating.has_room(*set));
        let best = open
            .flat_map(|set| self.seating.points(who).map(move |place| (set, place)))
            .filter(|(set, place)| !self.seating.is_taken(*set, *place))
            .min_by_key(|&(set, place)| {
                (self.cost(who, set), self.seating.uses(place), self.size(set), set, place)
            });
        if let Some((set, place)) = best {
            self.seating.append(set, place);
        }
        best.is_some()
    }

    /// One more place at the cost of a backend that has more than its share,
    /// or for one that has none, of one that has several.
    fn displace(&mut self, who: BackendIndex) -> bool {
        let alone = self.seating[who].places == 0;
        let mut best = None;
        for set in self.seating.sets() {
            for (at, &held) in self.seating[set].places.iter().enumerate() {
                let holder = &self.seating[held.who];
                let over = holder.places.saturating_sub(holder.quota);
                if held.who == who || (over == 0 && !(alone && holder.places > 1)) {
                    continue;
                }
                let freed = self.seating.relay(held);
                for place in self.seating.points(who) {
                    if self.seating.relay(place) != freed && self.seating.is_taken(set, place) {
                        continue;
                    }
                    let used = self.seating.uses(place);
                    let spare = (usize::MAX - over, usize::MAX - holder.places);
                    let key = (spare, self.cost(who, set), used, set, at, place);
                    if best.is_none_or(|best| key < best) {
                        best = Some(key);
                    }
                }
            }
        }
        if let Some((.., set, at, place)) = best {
            self.seating.unlist(set, at);
            self.seating.append(set, place);
        }
        best.is_some()
    }

    /// Gives a backend that found all of its relays taken a place all the same;
    /// takes it again once the backend has another.
    fn seat_excluded(&mut self) {
        for set in self.seating.sets() {
            let mut relays = BTreeSet::new();
            let mut at = 0;
            while let Some(&place) = self.seating[set].places.get(at) {
                let again = !relays.insert(self.seating.relay(place));
                if again && self.seating[place.who].places > 1 {
                    self.seating.unlist(set, at);
                } else {
                    at += 1;
                }
            }
        }
        for who in self.seating.backends() {
            let first = self.seating.points(who).next();
            let Some(place) = first.filter(|_| self.seating[who].places == 0) else { continue };
            let smallest = self.seating.sets().min_by_key(|set| self.size(*set));
            let Some(set) = smallest else { return };
            if !self.seating.has_room(set) {
                let places = |at: &usize| self.seating[self.seating[set].places[*at].who].places;
                let richest = (0..self.size(set)).max_by_key(places);
                let Some(at) = richest.filter(|at| places(at) > 1) else { continue };
                self.seating.unlist(set, at);
            }
            self.seating.append(set, place);
        }
    }

    /// Takes from those that have more than one place above their share, in the
    /// largest sets first.
    fn trim(&mut self) {
        for who in self.seating.backends() {
            while self.seating[who].places > self.seating[who].quota + 1 {
                let holding = self.seating.sets().filter(|set| self.seating[*set].holds(who));
                let Some(set) = holding.max_by_key(|set| self.size(*set)) else { break };
                let places = &self.seating[set].places;
                let Some(at) = places.iter().rposition(|place| place.who == who) else { break };
                self.seating.unlist(set, at);
            }
        }
    }

    /// Gives a backend that is in sets of one replica alone a place in another
    /// one's, for one of its own: where there is room, or from a backend that
    /// stays in both.
    fn cross_replicas(&mut self) {
        for who in self.seating.backends() {
            let holds = |set: &SetIndex| self.seating[*set].holds(who);
            let held: Vec<SetIndex> = self.seating.sets().filter(holds).collect();
            let replicas: BTreeSet<u8> = held.iter().map(|set| self.replica(*set)).collect();
            let Some(&own) = replicas.first().filter(|_| replicas.len() == 1) else { continue };
            let largest = held.into_iter().max_by_key(|set| self.size(*set));
            let Some(from) = largest.filter(|_| self.seating[who].places > 1) else { continue };
            let places = &self.seating[from].places;
            let Some(at) = places.iter().position(|place| place.who == who) else { continue };
            let mut foreign = self.seating.sets().filter(|set| self.replica(*set) != own);
            let exchange = foreign.find_map(|to| Some((to, self.exchange(from, at, to)?)));
            let Some((to, gives)) = exchange else { continue };
            let place = self.seating.unlist(from, at);
            if let Some(gives) = gives {
                let given = self.seating.unlist(to, gives);
                self.seating.list(from, at, given);
            }
            self.seating.append(to, place);
        }
    }

    /// Whether a place can move to a set of another replica, and for which one
    /// there if the set is full.
    fn exchange(&self, from: SetIndex, at: usize, to: SetIndex) -> Option<Option<usize>> {
        let seating = &self.seating;
        let place = seating[from].places[at];
        if seating.has_room(to) {
            return (!seating.is_taken(to, place)).then_some(None);
        }
        let replica = self.replica(to);
        let gives = seating[to].places.iter().position(|given| {
            let same = seating.sets().filter(|set| self.replica(*set) == replica);
            let of_giver: usize = same.map(|set| seating[set].count(given.who)).sum();
            let same_relay = seating.relay(place) == seating.relay(*given);
            of_giver > 1
                && given.who != place.who
                && (same_relay || !seating.is_taken(to, place))
                && (same_relay || !seating.is_taken(from, *given))
        });
        gives.map(Some)
    }

    /// Moves places from the largest sets to the smallest, until sets differ by
    /// two or a quarter at most: that much the death of a backend may cost.
    fn even_out(&mut self) {
        for _ in 0..self.seating.sets().count() * self.shape.limit {
            let mut by_size: Vec<SetIndex> = self.seating.sets().collect();
            by_size.sort_by_key(|set| (self.size(*set), *set));
            let (Some(&small), Some(&large)) = (by_size.first(), by_size.last()) else { return };
            let (least, most) = (self.size(small), self.size(large));
            if most - least <= (most / 4).max(2) {
                return;
            }
            let movable = self.seating[large].places.iter().enumerate();
            let movable = movable
                .filter(|(_, place)| !self.seating.is_taken(small, **place))
                .min_by_key(|(at, place)| (self.cost(place.who, small), usize::MAX - at));
            let Some((at, _)) = movable else { return };
            let place = self.seating.unlist(large, at);
            self.seating.list(small, least, place);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::samples::point;
    use super::*;
    use crate::onion::IntroPoint;

    /// The places of the public network.
    const REPLICAS: [u8; 6] = [1, 1, 1, 2, 2, 2];

    type Offered = Vec<(BackendId, u16, Vec<IntroPoint>)>;
    type Sets = Vec<Vec<Chosen>>;

    /// Backends of these weights and numbers of points, each at a relay of its own.
    fn offers(of: impl IntoIterator<Item = (u16, u16)>) -> Offered {
        let mut next = 0..;
        let mut fresh = || next.next().map(|n| point(n, n)).unwrap();
        (0..)
            .map(BackendId)
            .zip(of)
            .map(|(id, (weight, n))| (id, weight, (0..n).map(|_| fresh()).collect()))
            .collect()
    }

    fn spread_from(offered: &Offered, previous: &Sets, limit: usize) -> Sets {
        let candidates: Vec<BackendOffer<'_>> = offered
            .iter()
            .map(|(backend, weight, points)| BackendOffer {
                backend: *backend,
                weight: *weight,
                points,
            })
            .collect();
        let point = |c: &Chosen| (c.backend, c.point.session_id);
        let previous: Vec<_> = previous.iter().map(|set| set.iter().map(point).collect()).collect();
        spread(&candidates, &previous, &Shape { replicas: &REPLICAS, limit })
    }

    fn of(set: &[Chosen], id: BackendId) -> usize {
        set.iter().filter(|c| c.backend == id).count()
    }

    fn counts(offered: &Offered, sets: &Sets) -> Vec<usize> {
        offered.iter().map(|(id, ..)| sets.iter().map(|set| of(set, *id)).sum()).collect()
    }

    fn in_use(sets: &Sets) -> usize {
        sets.iter().flatten().map(|c| c.point.session_id).collect::<BTreeSet<_>>().len()
    }

    /// The sets that differ.
    fn changed(before: &Sets, after: &Sets) -> BTreeSet<usize> {
        (0..before.len()).filter(|set| before[*set] != after[*set]).collect()
    }

    fn check_limits(sets: &Sets, limit: usize) {
        for set in sets {
            assert!((1..=limit).contains(&set.len()), "{}", set.len());
            let relays: BTreeSet<_> = set.iter().map(|c| c.point.relay).collect();
            assert_eq!(relays.len(), set.len());
        }
    }

    #[test]
    fn forty_backends_of_three_points_fill_all_six_descriptors_with_different_points() {
        let offered = offers([(1, 3); 40]);
        let sets = spread_from(&offered, &Sets::new(), 20);
        assert!(sets.iter().all(|set| set.len() == 20));
        assert_eq!(counts(&offered, &sets), [3; 40]);
        assert_eq!(in_use(&sets), 120);
    }

    #[test]
    fn the_room_that_one_descriptor_had_does_not_limit_several() {
        let offered = offers([(1, 3); 40]);
        let ten = |(backend, _, points): &(BackendId, u16, Vec<IntroPoint>)| {
            let chosen = |point: &IntroPoint| Chosen { backend: *backend, point: point.clone() };
            points[..2].iter().map(chosen).collect::<Vec<_>>()
        };
        let one: Sets = vec![offered[..10].iter().flat_map(ten).collect()];
        let sets = spread_from(&offered, &one, 20);
        assert_eq!(counts(&offered, &sets), [3; 40]);
        assert_eq!(sets[0][..20], one[0]);
    }

    #[test]
    fn weights_are_numbers_of_places() {
        let offered = offers((0..30).map(|n| (1 + n % 2, 3)));
        let sets = spread_from(&offered, &Sets::new(), 20);
        let counts = counts(&offered, &sets);
        assert!(counts.iter().step_by(2).all(|n| *n == 2), "{counts:?}");
        assert!(counts.iter().skip(1).step_by(2).all(|n| *n == 4 || *n == 5), "{counts:?}");
    }

    #[test]
    fn points_that_come_later_replace_second_listings_and_nothing_else() {
        let mut offered = offers([(1, 3); 40]);
        let late = offered[7].2.split_off(1);
        let before = spread_from(&offered, &Sets::new(), 20);
        offered[7].2.extend(late);
        let after = spread_from(&offered, &before, 20);
        assert_eq!(in_use(&after), 120);
        for set in changed(&before, &after) {
            let of_others = |set: &[Chosen]| -> Vec<Chosen> {
                set.iter().filter(|c| c.backend != BackendId(7)).cloned().collect()
            };
            assert_eq!(of_others(&before[set]), of_others(&after[set]));
        }
    }

    #[test]
    fn a_newcomer_gets_its_share_from_those_that_have_more_than_theirs() {
        let offered = offers([(1, 3); 21]);
        let twenty = offered[..20].to_vec();
        let before = spread_from(&twenty, &Sets::new(), 20);
        let after = spread_from(&offered, &before, 20);
        let counts = counts(&offered, &after);
        assert!(counts.iter().all(|n| *n == 5 || *n == 6), "{counts:?}");
        let lost = counts.iter().filter(|n| **n == 5).count();
        assert_eq!(lost, 6);
    }

    #[test]
    fn a_backend_whose_relays_are_taken_everywhere_is_listed_all_the_same() {
        let mut offered = offers([(1, 3); 25]);
        for (_, _, points) in &mut offered[..8] {
            *points = vec![point(1000 + points[0].session_id.0[1] as u16, 77)];
        }
        let sets = spread_from(&offered, &Sets::new(), 20);
        assert!(counts(&offered, &sets).iter().all(|n| *n > 0));
        let at_77 =
            |set: &Vec<Chosen>| set.iter().filter(|c| c.point.relay == point(0, 77).relay).count();
        assert_eq!(sets.iter().map(at_77).sum::<usize>(), 8);
        assert_eq!(spread_from(&offered, &sets, 20), sets);
    }

    #[test]
    fn sets_that_have_lost_most_of_their_points_get_some_of_the_others() {
        let offered = offers([(1, 1); 100]);
        let before = spread_from(&offered, &Sets::new(), 20);
        let gone: BTreeSet<_> = before[0].iter().skip(1).map(|c| c.backend).collect();
        let left: Offered = offered.into_iter().filter(|(id, ..)| !gone.contains(id)).collect();
        let after = spread_from(&left, &before, 20);
        let sizes: Vec<_> = after.iter().map(Vec::len).collect();
        assert!(sizes.iter().min().unwrap() * 4 >= sizes.iter().max().unwrap() * 3, "{sizes:?}");
        assert_eq!(in_use(&after), left.len());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn everyone_has_an_equal_share_in_two_replicas_and_no_point_is_idle_for_another(
            points in prop::collection::vec(1u16..6, 21..120),
        ) {
            let offered = offers(points.iter().map(|n| (1, *n)));
            let sets = spread_from(&offered, &Sets::new(), 20);
            check_limits(&sets, 20);
            let counts = counts(&offered, &sets);
            let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
            prop_assert!(most - least <= 1 && *least >= 1, "{counts:?}");
            let sizes: Vec<_> = sets.iter().map(Vec::len).collect();
            prop_assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 2, "{sizes:?}");
            for ((id, _, points), count) in offered.iter().zip(&counts) {
                let replicas: BTreeSet<_> = REPLICAS
                    .iter()
                    .zip(&sets)
                    .filter(|(_, set)| of(set, *id) > 0)
                    .map(|(replica, _)| replica)
                    .collect();
                prop_assert!(replicas.len() == 2 || 2 * offered.len() > 120, "{counts:?}");
                let used: BTreeSet<_> = sets
                    .iter()
                    .flatten()
                    .filter(|c| c.backend == *id)
                    .map(|c| c.point.session_id)
                    .collect();
                prop_assert_eq!(used.len(), points.len().min(*count));
            }
            prop_assert_eq!(spread_from(&offered, &sets, 20), sets);
        }

        #[test]
        fn a_death_changes_only_the_sets_it_was_in_and_moves_nobody_and_a_return_neither(
            points in prop::collection::vec(1u16..6, 22..120),
            who in any::<prop::sample::Index>(),
        ) {
            // With one less than 61 there is room for everyone in both replicas.
            prop_assume!(points.len() != 61);
            let offered = offers(points.iter().map(|n| (1, *n)));
            let before = spread_from(&offered, &Sets::new(), 20);
            let (id, ..) = offered[who.index(offered.len())];
            let left: Offered = offered.iter().filter(|(other, ..)| *other != id).cloned().collect();
            let without = spread_from(&left, &before, 20);
            for (set, (before, without)) in before.iter().zip(&without).enumerate() {
                let expected: Vec<_> =
                    before.iter().filter(|c| c.backend != id).cloned().collect();
                prop_assert_eq!(&without[..expected.len()], &expected[..], "set {}", set);
                prop_assert!(without.len() == expected.len() || of(before, id) > 0);
            }
            let again = spread_from(&offered, &without, 20);
            let counts = counts(&offered, &again);
            prop_assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1);
            for (without, again) in without.iter().zip(&again) {
                let others: Vec<_> = again.iter().filter(|c| c.backend != id).cloned().collect();
                prop_assert_eq!(&others[..], &without[..]);
            }
        }

        #[test]
        fn whatever_happened_before_the_rules_are_kept(
            backends in prop::collection::vec((0u16..4, prop::collection::vec(0u16..60, 1..5)), 10..80),
            life in prop::collection::vec(any::<u128>(), 1..6),
            limit in 3usize..21,
        ) {
            let mut session = 0;
            let mut offered: Offered = Vec::new();
            for (id, (weight, at)) in (0..).map(BackendId).zip(backends) {
                let points = at.into_iter().map(|at| {
                    session += 1;
                    point(session, at)
                });
                offered.push((id, weight, points.collect()));
            }
            // As many as there is room for, whatever collides.
            offered.truncate(6 * limit / 2);
            let mut sets = Sets::new();
            for alive in life {
                let lives = |(n, _): &(usize, &(BackendId, u16, Vec<IntroPoint>))| {
                    alive >> n & 1 == 1
                };
                let left: Offered =
                    offered.iter().enumerate().filter(lives).map(|(_, it)| it.clone()).collect();
                sets = spread_from(&left, &sets, limit);
                for set in &sets {
                    prop_assert!(set.len() <= limit);
                    for c in set {
                        let here = set.iter().filter(|other| other.point.relay == c.point.relay);
                        let excluded = |c: &&Chosen| {
                            sets.iter().map(|set| of(set, c.backend)).sum::<usize>() == 1
                        };
                        prop_assert!(here.skip(1).all(|c| excluded(&c)));
                    }
                }
                for (id, _, points) in &left {
                    let own: Vec<_> = sets.iter().flatten().filter(|c| c.backend == *id).collect();
                    prop_assert!(!own.is_empty());
                    prop_assert!(own.iter().all(|c| points.contains(&c.point)));
                }
            }
        }
    }
}

//! Which introduction points stand in which of several descriptors?
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

use std::collections::{BTreeMap, BTreeSet};

use super::fact::BackendId;
use super::select::{Candidate, Chosen, owners};
use crate::onion::{IntroPoint, RelayId, SessionId};

/// The replica of each set, and how many points a set may have.
#[derive(Clone, Debug)]
pub(super) struct Shape<'a> {
    pub(super) replicas: &'a [u8],
    pub(super) limit: usize,
}

/// The points of each set, given those listed so far.
pub(super) fn spread(
    candidates: &[Candidate<'_>],
    previous: &[Vec<(BackendId, SessionId)>],
    shape: &Shape<'_>,
) -> Vec<Vec<Chosen>> {
    let mut plan = Plan::new(candidates, previous, shape);
    let held = plan.keep_listed(previous);
    // What one descriptor had room for says nothing of what several have.
    let level = if previous.len() > 1 { &held[..] } else { &[] };
    plan.quotas = quotas(&plan, level);
    plan.use_more_points();
    plan.fill();
    plan.seat_excluded();
    plan.trim();
    plan.cross_replicas();
    plan.even_out();
    // Who gave a place may have given that of its only listing of a point.
    plan.use_more_points();
    plan.into_sets()
}

/// A point's place: whose, which of its points. Both by index.
type Place = (usize, usize);

/// The sets while they are put together.
struct Plan<'a> {
    candidates: &'a [Candidate<'a>],
    /// The points that each backend may list, in the order of their sessions.
    points: Vec<Vec<&'a IntroPoint>>,
    shape: &'a Shape<'a>,
    /// In the order of the list.
    sets: Vec<Vec<Place>>,
    /// How many points each set has at a relay.
    relays: Vec<BTreeMap<RelayId, usize>>,
    /// How many places each backend has ...
    counts: Vec<usize>,
    /// ... and should have.
    quotas: Vec<usize>,
    /// How often each point is listed.
    uses: Vec<Vec<usize>>,
}

/// How many places each backend should have.
///
/// As many as its share of the room, by the same steps of weight as in
/// [`select`](super::select). The level that explains what is `held` stays
/// while it fits, gives half as much as could be given and keeps rule 2: else
/// every death of a backend could give all others one place more.
fn quotas(plan: &Plan<'_>, held: &[usize]) -> Vec<usize> {
    let room = plan.sets.len() * plan.shape.limit;
    let relays = |points: &Vec<&IntroPoint>| {
        points.iter().map(|point| point.relay).collect::<BTreeSet<_>>().len()
    };
    let most: Vec<usize> =
        plan.points.iter().map(|points| relays(points) * plan.sets.len()).collect();
    let weight = |candidate: &Candidate<'_>| usize::from(candidate.weight.max(1));
    let share = |(places, of): (usize, usize), candidate: &Candidate<'_>| {
        (places * weight(candidate) / of).max(1)
    };
    let level = |step: (usize, usize)| -> Vec<usize> {
        let shares = plan.candidates.iter().map(|candidate| share(step, candidate));
        shares.zip(&most).map(|(share, most)| share.min(*most)).collect()
    };
    // As in `select`, a backend may be one place short of its share.
    let fair = |step: (usize, usize)| {
        plan.candidates
            .iter()
            .zip(&most)
            .all(|(it, most)| *most == 0 || share(step, it) <= most + 1)
    };
    // Levels, each higher than the one before: so many places for so much weight.
    let weights: BTreeSet<usize> = plan.candidates.iter().map(weight).collect();
    let mut steps: Vec<(usize, usize)> =
        weights.iter().flat_map(|of| (1..=room).map(move |places| (places, *of))).collect();
    steps.sort_by(|(a, of_a), (b, of_b)| (a * of_b).cmp(&(b * of_a)));
    let total = |level: &[usize]| level.iter().sum::<usize>();
    let fit = steps.partition_point(|step| total(&level(*step)) <= room && fair(*step));
    let Some(highest) = fit.checked_sub(1).and_then(|n| steps.get(n)) else {
        return most.iter().map(|most| 1.min(*most)).collect();
    };
    let highest = level(*highest);
    let too_low =
        |step: &(usize, usize)| level(*step).iter().zip(held).any(|(quota, held)| held > quota);
    let explains = steps.partition_point(too_low);
    let explains = steps.get(..fit).and_then(|fit| fit.get(explains)).map(|step| level(*step));
    let fewest = |level: &[usize]| level.iter().copied().min().unwrap_or(0);
    let stays = |level: &Vec<usize>| {
        2 * total(level) >= total(&highest) && fewest(level) >= fewest(&highest).min(2)
    };
    match explains.filter(stays) {
        Some(level) if held.iter().any(|held| *held > 0) => level,
        _ => highest,
    }
}

impl<'a> Plan<'a> {
    fn new(
        candidates: &'a [Candidate<'a>],
        previous: &[Vec<(BackendId, SessionId)>],
        shape: &'a Shape<'a>,
    ) -> Self {
        let sets = shape.replicas.len();
        let owners = owners(candidates, previous.iter().flatten());
        let points: Vec<Vec<&IntroPoint>> = candidates
            .iter()
            .map(|candidate| {
                let own =
                    |point: &&IntroPoint| owners.get(&point.session_id) == Some(&candidate.backend);
                let mut points: Vec<_> = candidate.points.iter().filter(own).collect();
                points.sort_by_key(|point| point.session_id);
                points.dedup_by_key(|point| point.session_id);
                points
            })
            .collect();
        Self {
            candidates,
            shape,
            sets: vec![Vec::new(); sets],
            relays: vec![BTreeMap::new(); sets],
            counts: vec![0; candidates.len()],
            quotas: Vec::new(),
            uses: points.iter().map(|points| vec![0; points.len()]).collect(),
            points,
        }
    }

    fn relay(&self, (who, what): Place) -> RelayId {
        self.points[who][what].relay
    }

    fn list(&mut self, set: usize, at: usize, place: Place) {
        let relay = self.relay(place);
        *self.relays[set].entry(relay).or_default() += 1;
        self.sets[set].insert(at, place);
        self.counts[place.0] += 1;
        self.uses[place.0][place.1] += 1;
    }

    fn unlist(&mut self, set: usize, at: usize) -> Place {
        let place = self.sets[set].remove(at);
        let relay = self.relay(place);
        let left = self.relays[set].get(&relay).map_or(0, |count| count - 1);
        if left == 0 {
            self.relays[set].remove(&relay);
        } else {
            self.relays[set].insert(relay, left);
        }
        self.counts[place.0] -= 1;
        self.uses[place.0][place.1] -= 1;
        place
    }

    /// What is listed stays, as far as it is there. Tells how many places each
    /// backend had, with those whose points have gone.
    fn keep_listed(&mut self, previous: &[Vec<(BackendId, SessionId)>]) -> Vec<usize> {
        let backends: BTreeMap<BackendId, usize> =
            self.candidates.iter().enumerate().map(|(n, it)| (it.backend, n)).collect();
        let mut held = vec![0; self.candidates.len()];
        let mut excluded = Vec::new();
        for (set, listed) in previous.iter().enumerate().take(self.sets.len()) {
            for (backend, session) in listed {
                let Some(&who) = backends.get(backend) else { continue };
                held[who] += 1;
                let what = self.points[who].binary_search_by_key(session, |it| it.session_id);
                let Ok(what) = what else { continue };
                let place = (who, what);
                if self.sets[set].len() >= self.shape.limit {
                    continue;
                }
                if self.relays[set].contains_key(&self.relay(place)) {
                    excluded.push((set, place));
                } else {
                    self.list(set, self.sets[set].len(), place);
                }
            }
        }
        for (set, place) in excluded {
            if self.counts[place.0] == 0 && self.sets[set].len() < self.shape.limit {
                self.list(set, self.sets[set].len(), place);
            }
        }
        held
    }

    /// Puts points that are nowhere where another of the same backend is for
    /// the second time.
    fn use_more_points(&mut self) {
        for set in 0..self.sets.len() {
            for at in 0..self.sets[set].len() {
                let (who, what) = self.sets[set][at];
                if self.uses[who][what] < 2 {
                    continue;
                }
                let idle = (0..self.uses[who].len()).find(|&other| {
                    self.uses[who][other] == 0
                        && !self.relays[set].contains_key(&self.relay((who, other)))
                });
                if let Some(other) = idle {
                    self.unlist(set, at);
                    self.list(set, at, (who, other));
                }
            }
        }
    }

    /// Gives every backend what it should have: the first place to everyone
    /// before the second to anyone, and so on.
    fn fill(&mut self) {
        let rounds = self.quotas.iter().copied().max().unwrap_or(0);
        for round in 1..=rounds {
            for who in 0..self.candidates.len() {
                while self.counts[who] < round.min(self.quotas[who]) {
                    if !self.seat(who) && !self.displace(who) {
                        break;
                    }
                }
            }
        }
    }

    /// How little a place in this set would bring this backend.
    fn cost(&self, who: usize, set: usize) -> (usize, usize) {
        let here = |set: usize| self.sets[set].iter().filter(|place| place.0 == who).count();
        let replica = self.shape.replicas[set];
        let same = (0..self.sets.len()).filter(|other| self.shape.replicas[*other] == replica);
        (here(set), same.map(here).sum())
    }

    /// One more place where there is room.
    fn seat(&mut self, who: usize) -> bool {
        let open = (0..self.sets.len()).filter(|set| self.sets[*set].len() < self.shape.limit);
        let best = open
            .flat_map(|set| (0..self.uses[who].len()).map(move |what| (set, what)))
            .filter(|(set, what)| !self.relays[*set].contains_key(&self.relay((who, *what))))
            .min_by_key(|&(set, what)| {
                (self.cost(who, set), self.uses[who][what], self.sets[set].len(), set, what)
            });
        if let Some((set, what)) = best {
            self.list(set, self.sets[set].len(), (who, what));
        }
        best.is_some()
    }

    /// One more place at the cost of a backend that has more than its share,
    /// or for one that has none, of one that has several.
    fn displace(&mut self, who: usize) -> bool {
        let alone = self.counts[who] == 0;
        let mut best = None;
        for set in 0..self.sets.len() {
            for (at, &(holder, held)) in self.sets[set].iter().enumerate() {
                let over = self.counts[holder].saturating_sub(self.quotas[holder]);
                if holder == who || (over == 0 && !(alone && self.counts[holder] > 1)) {
                    continue;
                }
                let freed = self.relay((holder, held));
                for what in 0..self.uses[who].len() {
                    let relay = self.relay((who, what));
                    if relay != freed && self.relays[set].contains_key(&relay) {
                        continue;
                    }
                    let used = self.uses[who][what];
                    let spare = (usize::MAX - over, usize::MAX - self.counts[holder]);
                    let key = (spare, self.cost(who, set), used, set, at, what);
                    if best.is_none_or(|best| key < best) {
                        best = Some(key);
                    }
                }
            }
        }
        if let Some((.., set, at, what)) = best {
            self.unlist(set, at);
            self.list(set, self.sets[set].len(), (who, what));
        }
        best.is_some()
    }

    /// Gives a backend that found all of its relays taken a place all the same;
    /// takes it again once the backend has another.
    fn seat_excluded(&mut self) {
        for set in 0..self.sets.len() {
            let mut relays = BTreeSet::new();
            let mut at = 0;
            while let Some(&place) = self.sets[set].get(at) {
                if !relays.insert(self.relay(place)) && self.counts[place.0] > 1 {
                    self.unlist(set, at);
                } else {
                    at += 1;
                }
            }
        }
        for who in 0..self.candidates.len() {
            if self.counts[who] > 0 || self.points[who].is_empty() {
                continue;
            }
            let smallest = (0..self.sets.len()).min_by_key(|set| self.sets[*set].len());
            let Some(set) = smallest else { return };
            if self.sets[set].len() >= self.shape.limit {
                let richest = (0..self.sets[set].len())
                    .max_by_key(|at| self.counts[self.sets[set][*at].0])
                    .filter(|at| self.counts[self.sets[set][*at].0] > 1);
                let Some(at) = richest else { continue };
                self.unlist(set, at);
            }
            self.list(set, self.sets[set].len(), (who, 0));
        }
    }

    /// Takes from those that have more than one place above their share, in the
    /// largest sets first.
    fn trim(&mut self) {
        for who in 0..self.candidates.len() {
            while self.counts[who] > self.quotas[who] + 1 {
                let holds = |set: &usize| self.sets[*set].iter().any(|place| place.0 == who);
                let largest =
                    (0..self.sets.len()).filter(holds).max_by_key(|s| self.sets[*s].len());
                let Some(set) = largest else { break };
                let Some(at) = self.sets[set].iter().rposition(|place| place.0 == who) else {
                    break;
                };
                self.unlist(set, at);
            }
        }
    }

    /// Gives a backend that is in sets of one replica alone a place in another
    /// one's, for one of its own: where there is room, or from a backend that
    /// stays in both.
    fn cross_replicas(&mut self) {
        for who in 0..self.candidates.len() {
            let holds = |set: &usize| self.sets[*set].iter().any(|place| place.0 == who);
            let held: Vec<usize> = (0..self.sets.len()).filter(holds).collect();
            let replicas: BTreeSet<u8> = held.iter().map(|set| self.shape.replicas[*set]).collect();
            let Some(&own) = replicas.first().filter(|_| replicas.len() == 1) else { continue };
            let largest = held.into_iter().max_by_key(|set| self.sets[*set].len());
            let Some(from) = largest.filter(|_| self.counts[who] > 1) else { continue };
            let Some(at) = self.sets[from].iter().position(|place| place.0 == who) else {
                continue;
            };
            let foreign = (0..self.sets.len()).filter(|set| self.shape.replicas[*set] != own);
            let exchange = foreign.filter_map(|to| Some((to, self.exchange(from, at, to)?))).next();
            let Some((to, gives)) = exchange else { continue };
            let place = self.unlist(from, at);
            if let Some(gives) = gives {
                let given = self.unlist(to, gives);
                self.list(from, at, given);
            }
            self.list(to, self.sets[to].len(), place);
        }
    }

    /// Whether a place can move to a set of another replica, and for which one
    /// there if the set is full.
    fn exchange(&self, from: usize, at: usize, to: usize) -> Option<Option<usize>> {
        let place = self.sets[from][at];
        let (relay, there) = (self.relay(place), &self.relays[to]);
        if self.sets[to].len() < self.shape.limit {
            return (!there.contains_key(&relay)).then_some(None);
        }
        let replica = self.shape.replicas[to];
        let gives = self.sets[to].iter().position(|given| {
            let same = (0..self.sets.len()).filter(|set| self.shape.replicas[*set] == replica);
            let of_giver = same.flat_map(|set| &self.sets[set]).filter(|it| it.0 == given.0);
            let (freed, gained) = (self.relay(*given), &self.relays[from]);
            of_giver.count() > 1
                && given.0 != place.0
                && (relay == freed || !there.contains_key(&relay))
                && (relay == freed || !gained.contains_key(&freed))
        });
        gives.map(Some)
    }

    /// Moves places from the largest sets to the smallest, until sets differ by
    /// two or a quarter at most: that much the death of a backend may cost.
    fn even_out(&mut self) {
        for _ in 0..self.sets.len() * self.shape.limit {
            let mut by_size: Vec<usize> = (0..self.sets.len()).collect();
            by_size.sort_by_key(|set| (self.sets[*set].len(), *set));
            let (Some(&small), Some(&large)) = (by_size.first(), by_size.last()) else { return };
            let (least, most) = (self.sets[small].len(), self.sets[large].len());
            if most - least <= (most / 4).max(2) {
                return;
            }
            let movable = (0..most)
                .filter(|at| !self.relays[small].contains_key(&self.relay(self.sets[large][*at])))
                .min_by_key(|at| (self.cost(self.sets[large][*at].0, small), usize::MAX - at));
            let Some(at) = movable else { return };
            let place = self.unlist(large, at);
            self.list(small, least, place);
        }
    }

    fn into_sets(self) -> Vec<Vec<Chosen>> {
        let chosen = |(who, what): Place| Chosen {
            backend: self.candidates[who].backend,
            point: self.points[who][what].clone(),
        };
        self.sets.iter().map(|set| set.iter().copied().map(chosen).collect()).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::samples::point;
    use super::*;

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
        let candidates: Vec<Candidate<'_>> = offered
            .iter()
            .map(|(backend, weight, points)| Candidate {
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

//! What the descriptors should say.
//!
//! Brings together who is live, whose turn it is, whether one set of points is
//! enough for all HSDirs, and which points are chosen. Called by the balancer
//! at every wake-up.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::SystemTime;

use super::distinct::{Shape, spread};
use super::fact::BackendId;
use super::quota::limit;
use super::room::clients_that_fit;
use super::schedule::Alarm;
use super::seating::{BackendOffer, Chosen};
use super::select::select;
use super::settings::{BackendRank, Distinct, Publishers};
use super::turns::{BackendTurns, seated_by_the_clock};
use crate::onion::{Access, Capabilities, IntroPoint, MAX_INTRO_POINTS, SessionId};
use crate::pow::Puzzle;

/// With so few backends one descriptor serves again, where more than
/// [`MAX_INTRO_POINTS`] made several necessary: a number of backends that moves
/// around the limit must not turn everything over each time.
const ONE_AGAIN: usize = 16;

/// What is listed in each set, by whom.
pub(super) type ListedSets = Vec<Vec<(BackendId, SessionId)>>;

/// What all descriptors say: one set for all HSDirs, or one for each place in
/// the ring at which clients ask.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Content {
    /// Never empty, and none of them is.
    pub(super) sets: Vec<Set>,
    /// What clients are asked for, in all of them.
    pub(super) puzzle: Option<Puzzle>,
    /// Who may read them.
    pub(super) access: Access,
}

/// What a round publishes.
#[derive(Debug)]
pub(super) struct PublishedContent {
    pub(super) content: Content,
    /// The points of each set.
    pub(super) points: Vec<Arc<[IntroPoint]>>,
}

/// What one descriptor says.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Set {
    /// 1 to 20 points.
    pub(super) chosen: Vec<Chosen>,
    pub(super) capabilities: Capabilities,
}

impl Content {
    pub(super) fn is_distinct(&self) -> bool {
        self.sets.len() > 1
    }

    /// What stays listed, if it can.
    pub(super) fn listed(&self) -> ListedSets {
        self.sets.iter().map(|set| ids(&set.chosen)).collect()
    }

    /// The same for these readers, as far as a descriptor for them has room for it; `None`
    /// if it has for none of some set, or nobody may read.
    pub(super) fn readable_by(&self, access: &Access) -> Option<Content> {
        let clients = access.clients().unwrap_or_default();
        let fit =
            |points: &usize| *access == Access::Everybody || clients <= clients_that_fit(*points);
        let most = (1..=MAX_INTRO_POINTS).rev().find(fit)?;
        let mut sets = self.sets.clone();
        for set in &mut sets {
            set.chosen.retain(|chosen| access.has_room_for(&chosen.point));
            set.chosen.truncate(most);
        }
        let readable = !access.is_closed() && sets.iter().all(|set| !set.chosen.is_empty());
        readable.then(|| Content { sets, access: access.clone(), ..self.clone() })
    }

    /// How many points are in use.
    pub(super) fn points(&self) -> usize {
        self.listed().into_iter().flatten().collect::<BTreeSet<_>>().len()
    }

    /// Whether any point of this one is left.
    pub(super) fn keeps_any_of(&self, before: &Content) -> bool {
        let before: BTreeSet<_> = before.listed().into_iter().flatten().collect();
        self.listed().iter().flatten().any(|point| before.contains(point))
    }

    /// Whether any backend of this one is still listed, be it with other points.
    pub(super) fn keeps_a_backend_of(&self, before: &Content) -> bool {
        let of = |content: &Content| -> BTreeSet<BackendId> {
            content.listed().into_iter().flatten().map(|(backend, _)| backend).collect()
        };
        !of(self).is_disjoint(&of(before))
    }

    /// Whether it has only more points than this one, and promises the same.
    pub(super) fn adds_to(&self, before: &Content) -> bool {
        self.access == before.access
            && self.sets.len() == before.sets.len()
            && self.sets.iter().zip(&before.sets).all(|(set, before)| {
                set.capabilities == before.capabilities
                    && before.chosen.iter().all(|chosen| set.chosen.contains(chosen))
            })
    }
}

/// A backend that may be listed.
pub(super) struct Live<'a> {
    pub(super) backend: BackendId,
    /// Where it stands among the others, whoever looks.
    pub(super) order: BackendRank<'a>,
    /// Its share of the traffic relative to the others.
    pub(super) weight: u16,
    pub(super) points: &'a [IntroPoint],
    pub(super) capabilities: &'a Capabilities,
}

/// Decides what descriptors say, and keeps to it while nothing changes.
#[derive(Debug)]
pub(super) struct ContentPolicy {
    pub(super) max_points: Option<u8>,
    pub(super) distinct: Distinct,
    pub(super) publishers: Publishers,
    turns: BackendTurns,
    /// Whether there are several sets.
    several: bool,
    /// The last choice: as long as nothing changes, it stays.
    last: Option<Last>,
}

/// What was chosen, and from what.
#[derive(Debug)]
struct Last {
    from: Vec<(BackendId, u16, Vec<IntroPoint>)>,
    /// How many points of how many sets.
    shape: (usize, usize),
    listed: ListedSets,
    sets: Vec<Vec<Chosen>>,
}

impl Last {
    /// Whether the same is asked again, or what to go on with when that is listed.
    fn answers(
        &self,
        from: &[BackendOffer<'_>],
        shape: (usize, usize),
        listed: &ListedSets,
    ) -> bool {
        let same = |((id, weight, points), it): (
            &(BackendId, u16, Vec<IntroPoint>),
            &BackendOffer<'_>,
        )| {
            (*id, *weight, points.as_slice()) == (it.backend, it.weight, it.points)
        };
        self.shape == shape
            && self.from.len() == from.len()
            && self.from.iter().zip(from).all(same)
            && (self.listed == *listed
                || self.sets.iter().map(|set| ids(set)).eq(listed.iter().cloned()))
    }
}

/// What stays listed of a set, if it can.
fn ids(set: &[Chosen]) -> Vec<(BackendId, SessionId)> {
    set.iter().map(|chosen| (chosen.backend, chosen.point.session_id)).collect()
}

impl ContentPolicy {
    pub(super) fn new(max_points: Option<u8>, distinct: Distinct, publishers: Publishers) -> Self {
        Self {
            max_points,
            distinct,
            publishers,
            turns: BackendTurns::default(),
            several: false,
            last: None,
        }
    }

    /// What is best said, given what is listed so far: `None` if nobody is
    /// live. `replicas` has one entry for each place at which clients ask;
    /// `all` are the backends of the settings, in their order.
    pub(super) fn content(
        &mut self,
        mut live: Vec<Live<'_>>,
        all: &[(BackendRank<'_>, BackendId)],
        listed: &ListedSets,
        replicas: &[u8],
        now: SystemTime,
        alarm: &mut Alarm,
    ) -> Option<Content> {
        live.sort_by_key(|it| it.order);
        let one = limit(self.max_points, live.len());
        self.several = replicas.len() > 1 && self.needs_several(&live, one, listed.len() > 1);
        // In one descriptor the limit gives way to every backend's first point.
        let each = match self.max_points {
            Some(_) => limit(self.max_points, live.len().div_ceil(replicas.len().max(1))),
            None => one,
        };
        let seats = if self.several { each * replicas.len() } else { MAX_INTRO_POINTS };
        let ids: BTreeSet<BackendId> = live.iter().map(|it| it.backend).collect();
        let seated = match self.publishers {
            Publishers::One => {
                let before = listed.iter().flatten().map(|(backend, _)| *backend).collect();
                self.turns.seated(&ids, &before, seats, alarm)
            }
            Publishers::Several => seated_by_the_clock(all, &ids, seats, now, alarm),
        };
        let candidates: Vec<BackendOffer<'_>> = live
            .iter()
            .filter(|it| seated.contains(&it.backend))
            .map(|it| BackendOffer { backend: it.backend, weight: it.weight, points: it.points })
            .collect();

        let sets = self.sets(&candidates, listed, Shape { replicas, limit: each });
        let capabilities: BTreeMap<BackendId, &Capabilities> =
            live.iter().map(|it| (it.backend, it.capabilities)).collect();
        let set = |chosen: Vec<Chosen>| Set {
            capabilities: Capabilities::merged(
                chosen.iter().filter_map(|it| capabilities.get(&it.backend).copied()),
            ),
            chosen,
        };
        let sets: Vec<Set> = sets.into_iter().map(set).collect();
        sets.iter().all(|set| !set.chosen.is_empty()).then_some(Content {
            sets,
            puzzle: None,
            access: Access::default(),
        })
    }

    /// The points of each set.
    fn sets(
        &mut self,
        candidates: &[BackendOffer<'_>],
        listed: &ListedSets,
        shape: Shape<'_>,
    ) -> Vec<Vec<Chosen>> {
        let number = if self.several { shape.replicas.len() } else { 1 };
        let size = (shape.limit, number);
        if let Some(last) = self.last.as_ref().filter(|it| it.answers(candidates, size, listed)) {
            return last.sets.clone();
        }
        let mut sets = Vec::new();
        if self.several {
            sets = spread(candidates, listed, &shape);
        }
        if sets.is_empty() || sets.iter().any(Vec::is_empty) {
            let previous = listed.first().map_or(&[][..], Vec::as_slice);
            sets = vec![select(candidates, previous, self.max_points)];
        }
        let from = candidates.iter().map(|it| (it.backend, it.weight, it.points.to_vec()));
        let (from, listed) = (from.collect(), listed.clone());
        self.last = Some(Last { from, shape: size, listed, sets: sets.clone() });
        sets
    }

    /// Whether one set is too small, or was and is not yet big enough again.
    fn needs_several(&self, live: &[Live<'_>], one: usize, before: bool) -> bool {
        let before = before || self.several;
        match self.distinct {
            Distinct::Never => false,
            Distinct::Auto => live.len() > if before { ONE_AGAIN } else { MAX_INTRO_POINTS },
            Distinct::Always => {
                let points = live.iter().flat_map(|it| it.points);
                let offered = points.map(|point| point.session_id).collect::<BTreeSet<_>>().len();
                // A point that is replaced is missing for a while.
                offered > if before { one - one / 4 } else { one }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{point, start};
    use super::*;

    const REPLICAS: [u8; 6] = [1, 1, 1, 2, 2, 2];

    /// What is to be published for backends that offer these points, where this
    /// is listed already.
    fn content(
        choice: &mut ContentPolicy,
        offered: &[Vec<IntroPoint>],
        listed: &ListedSets,
    ) -> Option<Content> {
        let capabilities = Capabilities::default();
        let live = (0..).map(BackendId).zip(offered).map(|(backend, points)| Live {
            backend,
            order: (false, &[]),
            weight: 1,
            points,
            capabilities: &capabilities,
        });
        let alarm = &mut Alarm::new(start().monotonic);
        choice.content(live.collect(), &[], listed, &REPLICAS, start().wall, alarm)
    }

    /// How many sets there are for so many backends of so many points each.
    fn sets(choice: &mut ContentPolicy, backends: u16, points: u16) -> usize {
        let offered: Vec<Vec<IntroPoint>> = (0..backends)
            .map(|n| (0..points).map(|at| point(100 * n + at, 100 * n + at)).collect())
            .collect();
        content(choice, &offered, &ListedSets::new()).map_or(0, |content| content.sets.len())
    }

    fn choice(distinct: Distinct, max_points: Option<u8>) -> ContentPolicy {
        ContentPolicy::new(max_points, distinct, Publishers::One)
    }

    #[test]
    fn sets_become_several_above_twenty_backends_and_one_again_well_below() {
        let mut auto = choice(Distinct::Auto, None);
        let counts = [20, 21, 20, 17, 16, 17, 20, 21].map(|n| sets(&mut auto, n, 3));
        assert_eq!(counts, [1, 6, 6, 6, 1, 1, 1, 6]);
        assert_eq!(sets(&mut choice(Distinct::Never, None), 130, 3), 1);
        assert_eq!(sets(&mut auto, 0, 0), 0);
    }

    #[test]
    fn always_means_as_soon_as_points_would_be_left_out() {
        let mut always = choice(Distinct::Always, None);
        let counts = [2, 3, 4, 3, 2].map(|n| sets(&mut always, n, 3));
        assert_eq!(counts, [1, 6, 6, 6, 1]);
        assert_eq!(sets(&mut choice(Distinct::Always, Some(5)), 2, 3), 6);
    }

    #[test]
    fn while_nothing_changes_the_choice_stays_as_it_is() {
        // On so few relays that no choice is clearly the best one.
        let offered: Vec<Vec<IntroPoint>> =
            (0..30).map(|n| (0..3).map(|at| point(3 * n + at, (n + at) % 11)).collect()).collect();
        let mut choice = choice(Distinct::Auto, None);
        let mut listed = ListedSets::new();
        let mut decide =
            |alive, listed: &ListedSets| content(&mut choice, &offered[..alive], listed).unwrap();
        for alive in [30, 27, 29, 24, 30] {
            let content = decide(alive, &listed);
            assert_eq!(decide(alive, &listed), content);
            listed = content.listed();
            assert_eq!(decide(alive, &listed), content);
        }
    }

    #[test]
    fn the_operators_limit_holds_in_every_set() {
        let mut choice = choice(Distinct::Auto, Some(5));
        let offered: Vec<Vec<IntroPoint>> = (0..25).map(|n| vec![point(n, n)]).collect();
        let content = content(&mut choice, &offered, &ListedSets::new()).unwrap();
        assert!(content.sets.iter().all(|set| set.chosen.len() <= 5));
        assert_eq!(content.points(), 25);
    }
}

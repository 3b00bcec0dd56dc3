//! Which introduction points stand in the descriptor?
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

use std::collections::{BTreeMap, BTreeSet};

use super::fact::BackendId;
use crate::onion::{IntroPoint, MAX_INTRO_POINTS, RelayId, SessionId};

/// Up to so many points the descriptor has the size of an ordinary service's:
/// the padding's first step (rend-spec-v3, section 2.5.1.1) ends after 9.
const ORDINARY: usize = 9;

/// A live backend and what it has to offer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate<'a> {
    pub(super) backend: BackendId,
    /// Its share of the traffic relative to the others; 0 counts as 1.
    pub(super) weight: u16,
    pub(super) points: &'a [IntroPoint],
}

/// A point in the descriptor, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chosen {
    pub(super) backend: BackendId,
    pub(super) point: IntroPoint,
}

/// The points to list, given those listed so far.
///
/// Empty only if nothing is offered. With `max_points` that is the limit, save
/// that every backend has a point; without, [`ORDINARY`] while that gives
/// every backend one, else 20.
pub(super) fn select(
    candidates: &[Candidate<'_>],
    previous: &[Chosen],
    max_points: Option<u8>,
) -> Vec<Chosen> {
    let offers = offers(candidates, previous);
    let limit = limit(max_points, offers.len());
    let quotas = quotas(&offers, limit);
    let mut seating = Seating::new(&offers, &quotas);
    seating.keep_listed();
    seating.fill();
    seating.into_list()
}

/// One backend's usable points, those listed so far first.
struct Offer<'a> {
    backend: BackendId,
    weight: u64,
    points: Vec<Offered<'a>>,
}

struct Offered<'a> {
    point: &'a IntroPoint,
    /// Its place in the previous list.
    rank: Option<usize>,
}

/// Drops what cannot be listed: sessions that another backend has too, second
/// points on one's own relay, backends without a point.
fn offers<'a>(candidates: &[Candidate<'a>], previous: &[Chosen]) -> Vec<Offer<'a>> {
    let owners = owners(candidates, previous);
    let ranks: BTreeMap<(BackendId, SessionId), usize> =
        previous.iter().enumerate().map(|(i, c)| ((c.backend, c.point.session_id), i)).collect();

    let offer = |candidate: &Candidate<'a>| {
        let backend = candidate.backend;
        let mut points: Vec<Offered<'a>> = candidate
            .points
            .iter()
            .filter(|point| owners.get(&point.session_id) == Some(&backend))
            .map(|point| Offered { point, rank: ranks.get(&(backend, point.session_id)).copied() })
            .collect();
        points.sort_by_key(|offered| offered.rank.unwrap_or(usize::MAX));
        let mut relays = BTreeSet::new();
        points.retain(|offered| relays.insert(offered.point.relay));
        Offer { backend, weight: candidate.weight.max(1).into(), points }
    };
    let mut offers: Vec<Offer<'a>> = candidates.iter().map(offer).collect();
    offers.retain(|offer| !offer.points.is_empty());
    offers.truncate(MAX_INTRO_POINTS);
    offers
}

/// Who may list a session: the backend that has it listed and still offers it,
/// else the first that offers it. Nobody can push another's point out by
/// offering the same session.
fn owners(candidates: &[Candidate<'_>], previous: &[Chosen]) -> BTreeMap<SessionId, BackendId> {
    let mut owners = BTreeMap::new();
    for chosen in previous {
        let session = chosen.point.session_id;
        let offered = candidates.iter().any(|candidate| {
            candidate.backend == chosen.backend
                && candidate.points.iter().any(|point| point.session_id == session)
        });
        if offered {
            owners.entry(session).or_insert(chosen.backend);
        }
    }
    for candidate in candidates {
        for point in candidate.points {
            owners.entry(point.session_id).or_insert(candidate.backend);
        }
    }
    owners
}

fn limit(max_points: Option<u8>, backends: usize) -> usize {
    let wished = match max_points {
        Some(points) => points.into(),
        None if backends <= ORDINARY => ORDINARY,
        None => MAX_INTRO_POINTS,
    };
    wished.max(backends).min(MAX_INTRO_POINTS)
}

/// How many points each backend may have (rule 3).
///
/// With `s` points per unit of weight a backend's share is `s * weight`,
/// rounded down, at least 1. The largest `s` counts for which no backend falls
/// short by more than one and the whole stays within the limit. Shares change
/// only where some `s * weight` is whole, so only such `s` need be tried.
fn quotas(offers: &[Offer<'_>], limit: usize) -> Vec<usize> {
    let steps = offers.iter().flat_map(|offer| {
        let most = offer.points.len() as u64 + 1;
        (1..=most).map(move |points| (points, offer.weight))
    });
    steps
        .filter_map(|(points, weight)| {
            let share = |offer: &Offer<'_>| {
                usize::try_from(points * offer.weight / weight).unwrap_or(usize::MAX).max(1)
            };
            let fair = offers.iter().all(|offer| share(offer) <= offer.points.len() + 1);
            let quotas: Vec<usize> =
                offers.iter().map(|offer| share(offer).min(offer.points.len())).collect();
            (fair && quotas.iter().sum::<usize>() <= limit).then_some(quotas)
        })
        .max_by_key(|quotas| quotas.iter().sum::<usize>())
        .unwrap_or_else(|| vec![1; offers.len()])
}

/// Who sits at which relay. Backends and their points go by index.
struct Seating<'a> {
    offers: &'a [Offer<'a>],
    quotas: &'a [usize],
    seats: BTreeMap<RelayId, (usize, usize)>,
    counts: Vec<usize>,
}

impl<'a> Seating<'a> {
    fn new(offers: &'a [Offer<'a>], quotas: &'a [usize]) -> Self {
        Self { offers, quotas, seats: BTreeMap::new(), counts: vec![0; offers.len()] }
    }

    /// What is listed stays, as far as the quotas go.
    fn keep_listed(&mut self) {
        let mut listed: Vec<(usize, usize, usize)> = Vec::new();
        for (who, offer) in self.offers.iter().enumerate() {
            for (what, offered) in offer.points.iter().enumerate() {
                listed.extend(offered.rank.map(|rank| (rank, who, what)));
            }
        }
        listed.sort_unstable();
        for (_, who, what) in listed {
            let relay = self.offers[who].points[what].point.relay;
            if self.counts[who] < self.quotas[who] && !self.seats.contains_key(&relay) {
                self.seats.insert(relay, (who, what));
                self.counts[who] += 1;
            }
        }
    }

    /// Everyone's first point before anyone's second, and so on.
    fn fill(&mut self) {
        let rounds = self.quotas.iter().copied().max().unwrap_or(0);
        for round in 1..=rounds {
            for who in 0..self.offers.len() {
                let wants = self.counts[who] < round.min(self.quotas[who]);
                if wants && self.seat(who, round == 1, &mut BTreeSet::new()) {
                    self.counts[who] += 1;
                }
            }
        }
    }

    /// Finds a relay for one more point of this backend, if need be by moving
    /// others to another of their relays (an augmenting path).
    ///
    /// What was listed before moves, or loses one of several points, only for
    /// the sake of a backend's `first` point.
    fn seat(&mut self, who: usize, first: bool, seen: &mut BTreeSet<RelayId>) -> bool {
        let offers = self.offers;
        let offered = &offers[who].points;
        let free = (0..offered.len()).find(|&i| !self.seats.contains_key(&offered[i].point.relay));
        if let Some(what) = free {
            self.seats.insert(offered[what].point.relay, (who, what));
            return true;
        }
        for (what, Offered { point, .. }) in offered.iter().enumerate() {
            let Some(&(holder, held)) = self.seats.get(&point.relay) else { continue };
            let movable = first || offers[holder].points[held].rank.is_none();
            if holder == who || !movable || !seen.insert(point.relay) {
                continue;
            }
            let moved = self.seat(holder, first, seen);
            if !moved && first && self.counts[holder] > 1 {
                self.counts[holder] -= 1;
            } else if !moved {
                continue;
            }
            self.seats.insert(point.relay, (who, what));
            return true;
        }
        false
    }

    /// The list: what stays in its order, then what is new. A backend that
    /// found every one of its relays taken is listed with a second point there.
    fn into_list(self) -> Vec<Chosen> {
        let alone = (0..self.offers.len()).filter(|&who| self.counts[who] == 0).map(|who| (who, 0));
        let mut places: Vec<(usize, usize)> = self.seats.values().copied().chain(alone).collect();
        places.sort_by_key(|&(who, what)| {
            (self.offers[who].points[what].rank.unwrap_or(usize::MAX), who, what)
        });
        let chosen = |(who, what): (usize, usize)| Chosen {
            backend: self.offers[who].backend,
            point: self.offers[who].points[what].point.clone(),
        };
        places.into_iter().map(chosen).collect()
    }
}

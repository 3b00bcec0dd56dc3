//! How many places each backend should have: its share of the room, by weight.

use std::collections::BTreeSet;

use crate::onion::MAX_INTRO_POINTS;

/// Up to so many points the descriptor has the size of an ordinary service's:
/// C tor's padding (rend-spec-v3, section 2.5.1.1) has room for no more.
const ORDINARY: usize = 8;

/// What one backend can claim.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claim {
    /// At least 1.
    pub(super) weight: usize,
    /// The most places that it can use.
    pub(super) most: usize,
}

/// So many places for so much weight: everyone's share follows from it, rounded
/// down, and at least 1.
#[derive(Clone, Copy)]
struct Level {
    places: usize,
    weight: usize,
}

impl Level {
    fn share(self, claim: &Claim) -> usize {
        (self.places * claim.weight / self.weight).max(1)
    }

    fn quotas(self, claims: &[Claim]) -> Vec<usize> {
        claims.iter().map(|claim| self.share(claim).min(claim.most)).collect()
    }

    /// Whether no backend that has points falls short of its share by more than
    /// one place.
    fn is_fair(self, claims: &[Claim]) -> bool {
        claims.iter().all(|claim| claim.most == 0 || self.share(claim) <= claim.most + 1)
    }
}

/// The most points of one descriptor for so many live backends: every backend has
/// one, whatever the operator's limit; none is above [`MAX_INTRO_POINTS`].
pub(super) fn limit(max_points: Option<u8>, backends: usize) -> usize {
    let wished = match max_points {
        Some(points) => points.into(),
        None if backends <= ORDINARY => ORDINARY,
        None => MAX_INTRO_POINTS,
    };
    wished.max(backends).min(MAX_INTRO_POINTS)
}

/// How many places each backend should have of the `room`: by the highest fair
/// [`Level`] that fits, else one each.
///
/// The level that explains what is `held` stays while it fits, gives half as much
/// as could be given and leaves everyone the two places that two replicas need:
/// else every death of a backend could give all others one place more.
pub(super) fn quotas(claims: &[Claim], room: usize, held: &[usize]) -> Vec<usize> {
    // Shares change only where some weight's is whole: only such levels count.
    let weights: BTreeSet<usize> = claims.iter().map(|claim| claim.weight).collect();
    let levels = |weight| (1..=room).map(move |places| Level { places, weight });
    let mut levels: Vec<Level> = weights.into_iter().flat_map(levels).collect();
    levels.sort_by(|a, b| (a.places * b.weight).cmp(&(b.places * a.weight)));

    let total = |quotas: &[usize]| quotas.iter().sum::<usize>();
    let fits = |level: &Level| total(&level.quotas(claims)) <= room && level.is_fair(claims);
    levels.truncate(levels.partition_point(fits));
    let Some(highest) = levels.last() else {
        return claims.iter().map(|claim| claim.most.min(1)).collect();
    };
    let highest = highest.quotas(claims);
    let too_low =
        |level: &Level| level.quotas(claims).iter().zip(held).any(|(quota, held)| held > quota);
    let explains = levels.get(levels.partition_point(too_low)).map(|level| level.quotas(claims));
    let fewest = |quotas: &[usize]| quotas.iter().copied().min().unwrap_or(0);
    let stays = |quotas: &Vec<usize>| {
        held.iter().any(|held| *held > 0)
            && 2 * total(quotas) >= total(&highest)
            && fewest(quotas) >= fewest(&highest).min(2)
    };
    explains.filter(stays).unwrap_or(highest)
}

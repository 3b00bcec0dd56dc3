//! Whose descriptor an HSDir holds, and what another publisher's is worth: as
//! good as ours, good enough to go along with, or to be replaced.
//!
//! Several publishers have the same key and the same remote backends, and nothing
//! else in common; so each accepts what the others publish where it says nothing
//! that it knows better.

use std::collections::{BTreeMap, BTreeSet};

use super::content::ListedSets;
use super::fact::{BackendId, FetchedDescriptor};
use crate::onion::{IntroPoint, MAX_INTRO_POINTS, SessionId};

/// So many points are known as ours, to tell descriptors of others.
const OURS: usize = 4096;

/// The points of live backends, and whose they are.
pub(super) type LivePoints = BTreeMap<SessionId, BackendId>;

/// The points that we have published, with the last round of each.
#[derive(Debug, Default)]
pub(super) struct OwnPoints(BTreeMap<SessionId, u64>);

/// What to think of another publisher's descriptor.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    /// It lists what we list there.
    Same,
    /// Its points are as good: we could go along with them.
    AsGood(Vec<(BackendId, SessionId)>),
    /// It takes a whole round of ours to replace it.
    Tolerated,
    /// It says what we would not say now.
    Worse,
}

impl OwnPoints {
    /// These are published in this round.
    pub(super) fn add(&mut self, listed: &ListedSets, round: u64) {
        self.0.extend(listed.iter().flatten().map(|(_, session)| (*session, round)));
        while self.0.len() > OURS {
            let Some((&oldest, _)) = self.0.iter().min_by_key(|(_, round)| **round) else { break };
            self.0.remove(&oldest);
        }
    }

    pub(super) fn contains(&self, session: &SessionId) -> bool {
        self.0.contains_key(session)
    }
}

/// Compares another publisher's descriptor with what we list in its `set`.
pub(super) fn compare(
    seen: &FetchedDescriptor,
    listed: &ListedSets,
    set: usize,
    live: &LivePoints,
) -> Comparison {
    let owner = |it: &IntroPoint| Some((*live.get(&it.session_id)?, it.session_id));
    let points: Vec<_> = seen.points.iter().filter_map(owner).collect();
    if listed.get(set) == Some(&points) {
        Comparison::Same
    } else if listed.len() > 1 {
        // One of our sets among another's could leave a backend out.
        Comparison::Tolerated
    } else if is_as_good(seen, live) {
        Comparison::AsGood(points)
    } else {
        Comparison::Worse
    }
}

/// Whether another publisher's descriptor says nothing that we know better: all
/// its points are of live backends, and so many backends are in it as it has
/// room for.
fn is_as_good(seen: &FetchedDescriptor, live: &LivePoints) -> bool {
    let owners: Option<BTreeSet<BackendId>> =
        seen.points.iter().map(|point| live.get(&point.session_id).copied()).collect();
    let backends: BTreeSet<&BackendId> = live.values().collect();
    owners.is_some_and(|it| !it.is_empty() && it.len() >= backends.len().min(MAX_INTRO_POINTS))
}

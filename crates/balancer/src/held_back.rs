//! Whether descriptors ask clients for work, how much, and which backends leave them for
//! that.
//!
//! A client that worked is met only at a point whose backend verifies what it
//! did; others drop the introduction, and the client waits in vain. So while work
//! is asked for, only such points are listed: those of local instances, and of backends
//! elsewhere that have the seeds and have proven it. In peace everybody is: clients then
//! do no work unless an introduction has failed before.
//!
//! How much is what the local instances need, or what those need that have more than half
//! of the weight of all live backends, several of them: one backend that lies has no client
//! work for nothing, and pushes nobody out. How many points it offers does not count.

use super::backend::TrackedBackend;
use super::pow::{CLIENT_MAX_EFFORT, Effort, OwnWork, Puzzle, SeedSlot};

/// Why a live backend is not listed, for the operator.
pub(super) const REASON: &str = "held back: cannot verify proof of work";

/// We do no more work than this ourselves: a second of one core.
const OWN_MOST: Effort = 300;

/// How much work clients should do for a backend elsewhere, by its word.
fn told_effort(backend: &TrackedBackend) -> Effort {
    backend.last_work().map_or(0, |told| told.effort)
}

/// So that nobody who does what is asked comes before us.
fn own_effort(needed: Effort) -> Effort {
    needed.saturating_mul(2).min(OWN_MOST)
}

/// Whether work is asked for.
#[derive(Debug, Default)]
pub(super) struct PuzzlesAsked {
    /// What we verify, and how much work the local instances suggest.
    offered: Option<Puzzle>,
    /// The most to ask for, if the operator says so.
    most: Option<Effort>,
}

/// What is to be listed, and what clients are asked for there.
pub(super) struct Listable<'a> {
    pub(super) backends: Vec<&'a TrackedBackend>,
    pub(super) puzzle: Option<Puzzle>,
}

impl PuzzlesAsked {
    /// The local instances verify solutions for this from now on; `None`: for
    /// nothing.
    pub(super) fn offer(&mut self, puzzle: Option<Puzzle>) {
        self.offered = puzzle;
    }

    /// The most effort to ask for, from now on.
    pub(super) fn ask_at_most(&mut self, most: Option<Effort>) {
        self.most = most;
    }

    /// What is offered, whatever it asks for.
    pub(super) fn offered(&self) -> Option<Puzzle> {
        self.offered
    }

    /// What clients are to be asked for while these backends are live.
    pub(super) fn asked(&self, live: &[&TrackedBackend]) -> Option<Puzzle> {
        let own = self.offered?;
        let wanted = live.iter().map(|backend| {
            let effort = match (backend.verifies_work(own.slot), backend.is_local()) {
                (false, _) => 0,
                (true, true) => own.effort,
                (true, false) => told_effort(backend),
            };
            (effort, u32::from(backend.weight()))
        });
        let most = self.most.unwrap_or(CLIENT_MAX_EFFORT).max(own.effort);
        let effort = own.effort.max(of_most(wanted.collect()).min(most));
        Some(Puzzle { effort, ..own })
    }

    /// The work to do for an introduction of our own to this backend, so that it is not met
    /// last: more than clients do that were told to by it or by us. Also where it has proven
    /// nothing, for without work it cannot.
    pub(super) fn own_work(
        &self,
        backend: &TrackedBackend,
        live: &[&TrackedBackend],
    ) -> Option<OwnWork> {
        let asked = self.asked(live)?;
        let told = backend.last_work().filter(|told| told.slot >= Some(asked.slot))?;
        let needed = asked.effort.max(told.effort);
        (needed > 0).then(|| OwnWork { slot: asked.slot, effort: own_effort(needed) })
    }

    /// The work with which this backend proves that it verifies some, for this slot.
    pub(super) fn proof(&self, backend: &TrackedBackend, slot: SeedSlot) -> OwnWork {
        OwnWork { slot, effort: own_effort(told_effort(backend)).max(1) }
    }

    /// What may be listed of these live backends: those without weight only while
    /// there is no other. `published` stays if it says about the same.
    pub(super) fn listable<'a>(
        &self,
        mut live: Vec<&'a TrackedBackend>,
        published: Option<Puzzle>,
    ) -> Listable<'a> {
        let asked = self.asked(&live);
        let close = |published: &Puzzle| asked.is_some_and(|it| it.is_close_to(published));
        let mut puzzle = published.filter(close).or(asked);
        if self.asks_for_work(&live) {
            live.retain(|backend| self.are_verified_by(backend));
        }
        if live.iter().any(|backend| backend.weight() > 0) {
            live.retain(|backend| backend.weight() > 0);
        }
        if !live.iter().any(|backend| self.are_verified_by(backend)) {
            puzzle = None;
        }
        Listable { backends: live, puzzle }
    }

    /// Whether this backend is not listed because of work that others of the live
    /// ones verify.
    pub(super) fn holds_back(&self, backend: &TrackedBackend, live: &[&TrackedBackend]) -> bool {
        backend.is_live() && !self.are_verified_by(backend) && self.asks_for_work(live)
    }

    /// Whether these live backends want clients to work.
    pub(super) fn wants_work(&self, live: &[&TrackedBackend]) -> bool {
        self.asked(live).is_some_and(|puzzle| puzzle.effort > 0)
    }

    /// Never where nobody could verify it.
    pub(super) fn asks_for_work(&self, live: &[&TrackedBackend]) -> bool {
        self.wants_work(live) && live.iter().any(|backend| self.are_verified_by(backend))
    }

    fn are_verified_by(&self, backend: &TrackedBackend) -> bool {
        match self.offered {
            Some(puzzle) => backend.verifies_work(puzzle.slot),
            None => backend.is_local(),
        }
    }
}

/// The greatest effort that backends want which have more than half of these weights, and of
/// which there are several, unless there is one alone.
fn of_most(mut wanted: Vec<(Effort, u32)>) -> Effort {
    if let [(effort, _)] = wanted[..] {
        return effort;
    }
    let all: u32 = wanted.iter().map(|(_, weight)| weight).sum();
    wanted.sort_unstable_by_key(|(effort, _)| std::cmp::Reverse(*effort));
    let mut so_much = 0;
    let mut weigh = |weight: u32| {
        so_much += weight;
        2 * so_much > all
    };
    let mut found = wanted.into_iter().enumerate().filter(|(_, (_, weight))| weigh(*weight));
    found.find(|(place, _)| *place > 0).map_or(0, |(_, (effort, _))| effort)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_effort_is_what_backends_need_that_have_more_than_half_of_the_weight() {
        assert_eq!(of_most(vec![]), 0);
        assert_eq!(of_most(vec![(40, 3)]), 40);
        assert_eq!(of_most(vec![(10_000, 3), (0, 3)]), 0, "one of two");
        assert_eq!(of_most(vec![(7, 3), (10_000, 3), (0, 3)]), 7);
        assert_eq!(of_most(vec![(0, 1), (50, 4), (9, 2)]), 9, "one alone is not most");
        assert_eq!(of_most(vec![(50, 0), (9, 2)]), 9);
        assert_eq!(of_most(vec![(50, u32::from(u16::MAX)), (0, 1), (0, 1)]), 0);
        assert_eq!(of_most(vec![(50, 0), (40, 0)]), 0, "nobody counts");
    }
}

//! Whether descriptors ask clients for work, and which backends leave them for
//! that.
//!
//! A client that worked is met only at a point whose backend verifies what it
//! did; others drop the introduction, and the client waits in vain. So while work
//! is asked for, only such points are listed. In peace everybody is: clients then
//! do no work unless an introduction has failed before.

use super::backend::TrackedBackend;
use super::pow::Puzzle;

/// Why a live backend is not listed, for the operator.
pub(super) const REASON: &str = "held back: cannot verify proof of work";

/// Whether work is asked for.
#[derive(Debug, Default)]
pub(super) struct Puzzles {
    /// What the local instances verify, and how much work they suggest.
    offered: Option<Puzzle>,
}

/// What is to be listed, and what clients are asked for there.
pub(super) struct Listable<'a> {
    pub(super) backends: Vec<&'a TrackedBackend>,
    pub(super) puzzle: Option<Puzzle>,
}

impl Puzzles {
    /// The local instances verify solutions for this from now on; `None`: for
    /// nothing.
    pub(super) fn offer(&mut self, puzzle: Option<Puzzle>) {
        self.offered = puzzle;
    }

    /// Whether the local instances verify what clients do.
    pub(super) fn are_offered(&self) -> bool {
        self.offered.is_some()
    }

    /// What may be listed of these live backends: those without weight only while
    /// there is no other. `published` stays if it says about the same.
    pub(super) fn listable<'a>(
        &self,
        mut live: Vec<&'a TrackedBackend>,
        published: Option<Puzzle>,
    ) -> Listable<'a> {
        let close = |published: &Puzzle| self.offered.is_some_and(|it| it.is_close_to(published));
        let mut puzzle = published.filter(close).or(self.offered);
        if self.asks_for_work(&live) {
            live.retain(|backend| backend.verifies_work());
        }
        if live.iter().any(|backend| backend.weight() > 0) {
            live.retain(|backend| backend.weight() > 0);
        }
        if !live.iter().any(|backend| backend.verifies_work()) {
            puzzle = None;
        }
        Listable { backends: live, puzzle }
    }

    /// Whether this backend is not listed because of work that others of the live
    /// ones verify.
    pub(super) fn holds_back(&self, backend: &TrackedBackend, live: &[&TrackedBackend]) -> bool {
        backend.is_live() && !backend.verifies_work() && self.asks_for_work(live)
    }

    /// Never where nobody could verify it.
    fn asks_for_work(&self, live: &[&TrackedBackend]) -> bool {
        self.offered.is_some_and(|puzzle| puzzle.effort > 0)
            && live.iter().any(|backend| backend.verifies_work())
    }
}

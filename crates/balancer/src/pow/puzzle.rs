//! What a descriptor says of proof of work, and when it has to say something else.

use std::time::SystemTime;

use super::seeds::SeedSlot;

/// What a solution cost: the expected number of runs of the solver.
pub type Effort = u32;

/// C tor's and Arti's clients do no more work than this, whatever a descriptor
/// suggests (`CLIENT_MAX_POW_EFFORT`, `HiddenServiceProofOfWorkV1MaxEffort`).
pub const CLIENT_MAX_EFFORT: Effort = 10_000;

/// The `pow-params` of a descriptor, without the seed: that is derived from a
/// secret where the descriptor is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Puzzle {
    /// Names the seed.
    pub slot: SeedSlot,
    /// Until when clients may use it.
    pub expires: SystemTime,
    /// How much work clients are asked for; with 0, none unless an introduction
    /// has failed before.
    pub effort: Effort,
}

/// Work that we do ourselves, for an introduction to a backend that verifies it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnWork {
    /// Names the seed.
    pub slot: SeedSlot,
    /// How much.
    pub effort: Effort,
}

impl Puzzle {
    /// Whether a descriptor with `published` says the same well enough: the same
    /// seed, and an effort from 0.85 to 1.15 of this one's (C tor's rule). Any
    /// work at all is another thing than none.
    pub fn is_close_to(&self, published: &Self) -> bool {
        let (wanted, published_effort) = (u64::from(self.effort), u64::from(published.effort));
        self.slot == published.slot
            && (wanted == 0) == (published_effort == 0)
            && 100 * wanted >= 85 * published_effort
            && 100 * wanted <= 115 * published_effort
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn puzzle(slot: u64, effort: Effort) -> Puzzle {
        Puzzle { slot: SeedSlot(slot), expires: UNIX_EPOCH, effort }
    }

    #[test]
    fn a_descriptor_is_published_anew_when_effort_leaves_a_band_or_the_seed_changes() {
        let close = |wanted, published| puzzle(1, wanted).is_close_to(&puzzle(1, published));
        assert!(close(0, 0));
        assert!(close(85, 100) && close(100, 100) && close(115, 100));
        assert!(!close(84, 100) && !close(116, 100));
        assert!(!close(0, 1) && !close(1, 0) && !close(2, 1));
        assert!(close(u32::MAX, u32::MAX) && !close(u32::MAX, 1) && !close(1, u32::MAX));
        assert!(!puzzle(2, 100).is_close_to(&puzzle(1, 100)));
    }
}

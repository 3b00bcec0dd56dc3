//! How much does the work count that a client says it did?
//!
//! A solution that is right counts once. One that is wrong, or was used, is worse than
//! none (torspec hspow-spec, section "Service verifies PoW").

use crate::tor::puzzles::{SeedId, SolutionRefusal, Solved};
use onionbraid_balancer::pow::{Effort, NonceLog, NonceVerdict};

/// The solutions that were used, and how many there were of each kind.
pub(crate) struct Claims {
    pub(crate) nonces: NonceLog<SeedId>,
    /// Whether seeds that are not known may be those of other publishers.
    pub(super) has_frontends: bool,
    pub(super) verified: u64,
    pub(super) refused: Refused,
}

/// Solutions that did not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) unknown_seed: u64,
    pub(super) wrong: u64,
    pub(super) used: u64,
    pub(super) cheap: u64,
}

impl Claims {
    /// Remembers a single nonce, until there is room for more.
    pub(crate) fn new() -> Self {
        let nonces = NonceLog::new(1);
        Self { nonces, has_frontends: false, verified: 0, refused: Refused::default() }
    }

    /// By how much effort an introduction waits for its turn. `None`: it is dropped.
    pub(crate) fn effort(
        &mut self,
        solution: Option<Result<Solved, SolutionRefusal>>,
    ) -> Option<Effort> {
        let refused = &mut self.refused;
        let solved = match solution {
            None => return Some(0),
            Some(Ok(solved)) => solved,
            Some(Err(SolutionRefusal::UnknownSeed)) => {
                refused.unknown_seed += 1;
                return self.has_frontends.then_some(0);
            }
            Some(Err(SolutionRefusal::Wrong)) => {
                refused.wrong += 1;
                return None;
            }
        };
        match self.nonces.enter(solved.seed, solved.effort, &solved.nonce) {
            NonceVerdict::New => {
                self.verified += 1;
                Some(solved.effort)
            }
            NonceVerdict::Used => {
                refused.used += 1;
                None
            }
            NonceVerdict::TooCheap => {
                refused.cheap += 1;
                Some(0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use onionbraid_balancer::onion::Period;
    use onionbraid_balancer::pow::SeedSlot;

    fn claims() -> Claims {
        let mut claims = Claims::new();
        claims.nonces.set_capacity(100);
        claims
    }

    fn solved(slot: u64, effort: Effort, nonce: u8) -> Option<Result<Solved, SolutionRefusal>> {
        let period = Period { number: 1, length_minutes: 1440, offset_seconds: 0 };
        Some(Ok(Solved { seed: (None, period, SeedSlot(slot)), effort, nonce: [nonce; 16] }))
    }

    #[test]
    fn a_solution_counts_once_and_its_second_use_is_worse_than_none() {
        let mut claims = claims();
        assert_eq!(claims.effort(None), Some(0));
        assert_eq!(claims.effort(solved(1, 40, 1)), Some(40));
        assert_eq!(claims.effort(solved(1, 40, 1)), None);
        assert_eq!(claims.effort(solved(2, 40, 1)), Some(40));
        assert_eq!((claims.verified, claims.refused.used), (2, 1));
    }

    #[test]
    fn what_solves_nothing_is_dropped_and_expired_seeds_too() {
        let mut claims = claims();
        assert_eq!(claims.effort(Some(Err(SolutionRefusal::Wrong))), None);
        assert_eq!(claims.effort(Some(Err(SolutionRefusal::UnknownSeed))), None);
        // It may be one of another publisher's, for whom these instances answer.
        claims.has_frontends = true;
        assert_eq!(claims.effort(Some(Err(SolutionRefusal::UnknownSeed))), Some(0));
        let expected = Refused { unknown_seed: 2, wrong: 1, ..Refused::default() };
        assert_eq!((claims.verified, claims.refused), (0, expected));
    }

    #[test]
    fn a_solution_too_cheap_to_be_remembered_counts_as_no_work() {
        let mut claims = claims();
        claims.nonces.set_capacity(2);
        for nonce in 0..3 {
            assert_eq!(claims.effort(solved(1, 1, nonce)), Some(1));
        }
        assert_eq!(claims.effort(solved(1, 1, 0)), Some(0));
        assert_eq!(claims.effort(solved(1, 8, 0)), Some(8));
        assert_eq!(claims.refused.cheap, 1);
    }
}

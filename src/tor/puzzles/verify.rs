//! Has a client solved a puzzle of this address?
//!
//! A solution names its seed by four bytes. It is checked against every seed that
//! is accepted and begins so: those of the slots of now, in the time periods in
//! which clients may believe to be.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use tor_cell::relaycell::hs::pow::ProofOfWork;
use tor_cell::relaycell::hs::pow::v1::ProofOfWorkV1;
use tor_hscrypto::pk::{HsBlindId, HsIdKey};
use tor_hscrypto::pow::v1::{
    Instance, Nonce, RuntimeOption, Seed, SeedHead, Solution, SolverInput, Verifier,
};
use tor_netdir::NetDir;

use super::super::credentials::Credentials;
use super::super::hsdirs::{from_arti, identity_key, to_arti};
use super::seeds::{AddressPuzzles, SeedId, SolutionRefusal, Solved};
use crate::clock::now;
use onionbraid_balancer::link::GivenSeed;
use onionbraid_balancer::onion::{OnionAddress, Period};
use onionbraid_balancer::pow::{Effort, OwnWork, SeedSlot};

/// Work of our own that takes longer is given up.
const SOLVED_WITHIN: Duration = Duration::from_secs(3);

/// Where memory may not become executable (`MemoryDenyWriteExecute` of systemd), puzzles are
/// interpreted, which takes a dozen times as long: no more effort than this, a second of one
/// core.
const INTERPRETED_MOST: Effort = 25;

/// Verifies solutions for the seeds that are accepted at some time.
#[derive(Default)]
pub(crate) struct Verifiers(Vec<(SeedId, SeedHead, Verifier)>);

impl Verifiers {
    /// For the seeds that are accepted now, by this directory's time periods, and for those
    /// `given` by the publishers of other addresses.
    pub(crate) fn new(
        puzzles: &AddressPuzzles,
        key: &HsIdKey,
        given: impl Iterator<Item = (OnionAddress, GivenSeed)>,
        directory: &NetDir,
        now: SystemTime,
    ) -> Self {
        let current = directory.hs_time_period();
        let periods = [Some(current), current.prev(), current.next()];
        let periods = periods.into_iter().flatten().map(from_arti).collect::<Vec<_>>();
        let own = Self::of(puzzles, key, &periods, &puzzles.accepted(now));
        own.and_given(given.filter(|(_, seed)| periods.contains(&seed.period)))
    }

    /// And for the seeds of other addresses, in time periods of now.
    fn and_given(mut self, given: impl Iterator<Item = (OnionAddress, GivenSeed)>) -> Self {
        for (frontend, GivenSeed { period, slot, seed, .. }) in given {
            let key = identity_key(&frontend);
            let blinded = key.and_then(|key| key.compute_blinded_key(to_arti(period)).ok());
            if let Some((blinded, _)) = blinded {
                self.add((Some(frontend), period, slot), blinded.id(), seed.into());
            }
        }
        self
    }

    /// And for this seed of the address that has this blinded identity.
    fn add(&mut self, id: SeedId, blinded: HsBlindId, seed: Seed) {
        let head = seed.head();
        let mut verifier = Verifier::new(Instance::new(blinded, seed));
        // Faster than compiling for a single check, and no memory has to be executable.
        verifier.runtime(RuntimeOption::InterpretOnly);
        self.0.push((id, head, verifier));
    }

    /// For the seeds of these slots in these periods.
    pub(crate) fn of(
        puzzles: &AddressPuzzles,
        key: &HsIdKey,
        periods: &[Period],
        slots: &[SeedSlot],
    ) -> Self {
        let mut verifiers = Self::default();
        for period in periods {
            let blinded = key.compute_blinded_key(to_arti(*period));
            let Ok((blinded, _)) = blinded else { continue };
            for slot in slots {
                if let Some(seed) = puzzles.seed(*period, *slot) {
                    verifiers.add((None, *period, *slot), blinded.id(), seed.into());
                }
            }
        }
        verifiers
    }

    /// The seeds that are accepted.
    pub(crate) fn seeds(&self) -> impl Iterator<Item = SeedId> {
        self.0.iter().map(|(seed, ..)| *seed)
    }

    /// Checks a solution. Costs a few ten microseconds where it is right, or next
    /// to it, and less than one otherwise.
    pub(crate) fn check(&self, proof: &ProofOfWork) -> Result<Solved, SolutionRefusal> {
        let ProofOfWork::V1(proof) = proof else { return Err(SolutionRefusal::Wrong) };
        let head = proof.seed_head();
        let mut candidates = self.0.iter().filter(|(_, it, _)| *it == head).peekable();
        if candidates.peek().is_none() {
            return Err(SolutionRefusal::UnknownSeed);
        }
        let nonce: Nonce = proof.nonce().clone();
        let solution =
            Solution::try_from_bytes(nonce.clone(), proof.effort(), head, proof.solution())
                .map_err(|_| SolutionRefusal::Wrong)?;
        let (seed, ..) = candidates
            .find(|(_, _, verifier)| verifier.check(&solution).is_ok())
            .ok_or(SolutionRefusal::Wrong)?;
        Ok(Solved { seed: *seed, effort: proof.effort().into(), nonce: *nonce.as_ref() })
    }
}

/// Does the work of a client of our own address, in this period; `None` if that takes too
/// long, or there is no puzzle.
pub(crate) fn solve(
    credentials: &Arc<Credentials>,
    period: Period,
    work: OwnWork,
) -> Option<ProofOfWork> {
    let (blinded, _) = credentials.public_key().compute_blinded_key(to_arti(period)).ok()?;
    let seed = AddressPuzzles::of(credentials).seed(period, work.slot)?;
    let instance = Instance::new(blinded.id(), Seed::from(seed));
    let effort = at_most(work.effort, can_compile(&instance));
    let mut solver = SolverInput::new(instance, effort.into()).solve(&mut crate::tor::rng());
    let by = now().monotonic + SOLVED_WITHIN;
    while now().monotonic < by {
        if let Some(solution) = solver.run_step().ok()? {
            return Some(ProofOfWork::V1(ProofOfWorkV1::new(
                solution.nonce().clone(),
                solution.effort(),
                solution.seed_head(),
                solution.proof_to_bytes(),
            )));
        }
    }
    None
}

/// Whether puzzles can be compiled here: found out once, with a step of this one.
fn can_compile(instance: &Instance) -> bool {
    static CAN_COMPILE: OnceLock<bool> = OnceLock::new();
    *CAN_COMPILE.get_or_init(|| {
        let mut input = SolverInput::new(instance.clone(), Effort::MIN.into());
        input.runtime(RuntimeOption::CompileOnly);
        input.solve(&mut crate::tor::rng()).run_step().is_ok()
    })
}

/// The work that can be done in time, of what is wanted: less is met later, none last.
fn at_most(wanted: Effort, can_compile: bool) -> Effort {
    if can_compile { wanted } else { wanted.min(INTERPRETED_MOST) }
}

#[cfg(test)]
mod tests {
    use tor_hscrypto::pk::HsIdKeypair;
    use tor_llcrypto::pk::ed25519;

    use super::*;

    const PERIOD: Period =
        Period { number: 20_000, length_minutes: 1440, offset_seconds: 12 * 3600 };
    const SLOTS: [SeedSlot; 3] = [SeedSlot(10), SeedSlot(11), SeedSlot(12)];

    fn identity(n: u8) -> Arc<Credentials> {
        let keypair = ed25519::Keypair::from_bytes(&[n; 32]);
        let keypair = HsIdKeypair::from(ed25519::ExpandedKeypair::from(&keypair));
        Arc::new(Credentials::of_identity(keypair))
    }

    fn verifiers(n: u8) -> Verifiers {
        let identity = identity(n);
        let periods = [PERIOD, Period { number: 20_001, ..PERIOD }];
        Verifiers::of(&AddressPuzzles::of(&identity), &identity.public_key(), &periods, &SLOTS)
    }

    /// What a client of the address sends that has done so much work.
    fn solve(n: u8, period: Period, slot: SeedSlot, effort: Effort) -> ProofOfWorkV1 {
        let (identity, work) = (identity(n), OwnWork { slot, effort });
        match super::solve(&identity, period, work) {
            Some(ProofOfWork::V1(proof)) => proof,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn solutions_for_an_address_of_another_publisher_are_verified_with_the_seeds_that_it_gave() {
        let (frontend, given) =
            (identity(2), AddressPuzzles::of(&identity(2)).given(&[PERIOD], &SLOTS));
        let address = frontend.address();
        let proof = ProofOfWork::V1(solve(2, PERIOD, SLOTS[1], 2));
        assert_eq!(verifiers(1).check(&proof), Err(SolutionRefusal::UnknownSeed));
        let both = verifiers(1).and_given(given.iter().map(|seed| (address, *seed)));
        let solved = both.check(&proof).unwrap();
        assert_eq!((solved.seed, solved.effort), ((Some(address), PERIOD, SLOTS[1]), 2));
        let own = ProofOfWork::V1(solve(1, PERIOD, SLOTS[1], 1));
        assert_eq!(both.check(&own).map(|solved| solved.seed), Ok((None, PERIOD, SLOTS[1])));
        // A seed of one address makes nothing of another's right.
        let other = identity(3).address();
        let wrong = verifiers(1).and_given(given.iter().map(|seed| (other, *seed)));
        assert_eq!(wrong.check(&proof), Err(SolutionRefusal::Wrong));
    }

    #[test]
    fn a_solution_holds_for_its_address_period_and_slot() {
        let proof = solve(1, PERIOD, SLOTS[0], 3);
        let nonce: [u8; 16] = *proof.nonce().as_ref();
        let proof = ProofOfWork::V1(proof);
        let solved = Solved { seed: (None, PERIOD, SLOTS[0]), effort: 3, nonce };
        assert_eq!(verifiers(1).check(&proof), Ok(solved));
        assert_eq!(verifiers(2).check(&proof), Err(SolutionRefusal::UnknownSeed));
        let over = ProofOfWork::V1(solve(1, PERIOD, SeedSlot(9), 1));
        assert_eq!(verifiers(1).check(&over), Err(SolutionRefusal::UnknownSeed));
    }

    #[test]
    fn where_no_memory_may_become_executable_less_work_is_done_and_never_none() {
        assert_eq!((at_most(300, true), at_most(300, false)), (300, INTERPRETED_MOST));
        assert_eq!((at_most(1, true), at_most(1, false)), (1, 1));
    }

    #[test]
    fn nobody_claims_more_work_than_was_done_or_another_nonce() {
        let honest = solve(1, PERIOD, SLOTS[1], 1);
        let with = |effort, nonce: Nonce, solution| {
            let proof = ProofOfWorkV1::new(nonce, effort, honest.seed_head(), solution);
            verifiers(1).check(&ProofOfWork::V1(proof))
        };
        let claimed = with(10_000.into(), honest.nonce().clone(), *honest.solution());
        assert_eq!(claimed, Err(SolutionRefusal::Wrong));
        assert_eq!(
            with(honest.effort(), [0; 16].into(), *honest.solution()),
            Err(SolutionRefusal::Wrong)
        );
        for solution in [[0; 16], [0xff; 16]] {
            let wrong = with(honest.effort(), honest.nonce().clone(), solution);
            assert_eq!(wrong, Err(SolutionRefusal::Wrong));
        }
    }

    #[test]
    fn seeds_of_all_periods_and_slots_are_accepted() {
        let verifiers = verifiers(1);
        assert_eq!(verifiers.seeds().count(), 6);
        let next = Period { number: 20_001, ..PERIOD };
        let proof = ProofOfWork::V1(solve(1, next, SLOTS[2], 1));
        assert_eq!(verifiers.check(&proof).map(|solved| solved.seed), Ok((None, next, SLOTS[2])));
    }
}

//! The seeds of one address, and what names them.
//!
//! They follow from the identity key, the time period and the slot of time, whoever
//! publishes the address: [`Credentials`] has them.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::super::credentials::Credentials;
use onionbraid_balancer::link::GivenSeed;
use onionbraid_balancer::onion::{OnionAddress, Period};
use onionbraid_balancer::pow::{Effort, Puzzle, Seed, SeedSchedule, SeedSlot};

/// Names a seed: of an address that is published elsewhere, or `None` for our own.
pub(crate) type SeedId = (Option<OnionAddress>, Period, SeedSlot);

/// So long before a slot begins, those who verify elsewhere get its seed.
const GIVEN_BEFORE: Duration = Duration::from_mins(10);

/// A solution that is right. Whether it was used before, others know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Solved {
    pub(crate) seed: SeedId,
    pub(crate) effort: Effort,
    pub(crate) nonce: [u8; 16],
}

/// Why a solution is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SolutionRefusal {
    /// For a seed that is not accepted, any more or at all.
    UnknownSeed,
    /// It does not solve the puzzle, or is of a kind that is not known.
    Wrong,
}

/// The seeds of an address, and their times.
pub(crate) struct AddressPuzzles {
    credentials: Arc<Credentials>,
    schedule: SeedSchedule,
}

impl AddressPuzzles {
    /// Those of the address that is published with these.
    pub(crate) fn of(credentials: &Arc<Credentials>) -> Self {
        Self { schedule: credentials.schedule(), credentials: Arc::clone(credentials) }
    }

    /// What a descriptor says that is signed now.
    pub(crate) fn current(&self, effort: Effort, now: SystemTime) -> Puzzle {
        let slot = self.schedule.current(now);
        Puzzle { slot, expires: self.schedule.expires(slot), effort }
    }

    /// The slots whose seeds are accepted now.
    pub(crate) fn accepted(&self, now: SystemTime) -> [SeedSlot; 3] {
        self.schedule.accepted(now)
    }

    /// The slots whose seeds those get now who verify elsewhere.
    pub(crate) fn slots_given(&self, now: SystemTime) -> Vec<SeedSlot> {
        self.schedule.given(now, GIVEN_BEFORE)
    }

    /// The seeds of these slots in these periods, for those who verify elsewhere.
    pub(crate) fn given(&self, periods: &[Period], slots: &[SeedSlot]) -> Vec<GivenSeed> {
        let expires = |slot| {
            let expires = self.schedule.expires(slot).duration_since(UNIX_EPOCH);
            expires.map_or(0, |since| since.as_secs())
        };
        let seed = |(period, slot): (&Period, &SeedSlot)| {
            let seed = self.seed(*period, *slot)?;
            Some(GivenSeed { period: *period, slot: *slot, seed, expires: expires(*slot) })
        };
        let all = periods.iter().flat_map(|period| slots.iter().map(move |slot| (period, slot)));
        all.filter_map(seed).collect()
    }

    /// The seed of a slot in a time period: public, once it is published. `None` in a
    /// period for which there are no keys.
    pub(crate) fn seed(&self, period: Period, slot: SeedSlot) -> Option<Seed> {
        self.credentials.seed(period, slot)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use tor_hscrypto::pk::HsIdKeypair;
    use tor_llcrypto::pk::ed25519;

    use super::*;

    const PERIOD: Period =
        Period { number: 20_000, length_minutes: 1440, offset_seconds: 12 * 3600 };

    fn identity(n: u8) -> Arc<Credentials> {
        let keypair = ed25519::Keypair::from_bytes(&[n; 32]);
        let keypair = HsIdKeypair::from(ed25519::ExpandedKeypair::from(&keypair));
        Arc::new(Credentials::of_identity(keypair))
    }

    #[test]
    fn publishers_of_one_key_agree_and_others_differ_in_everything() {
        let (one, same, other) = (
            AddressPuzzles::of(&identity(1)),
            AddressPuzzles::of(&identity(1)),
            AddressPuzzles::of(&identity(2)),
        );
        let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let puzzle = one.current(7, now);
        assert_eq!(puzzle, same.current(7, now));
        assert_ne!(puzzle.expires, other.current(7, now).expires);
        assert_eq!(one.seed(PERIOD, puzzle.slot), same.seed(PERIOD, puzzle.slot));
        assert_ne!(one.seed(PERIOD, puzzle.slot), other.seed(PERIOD, puzzle.slot));
        assert!(one.accepted(now).contains(&puzzle.slot));
    }

    #[test]
    fn each_period_and_each_slot_has_a_seed_of_its_own() {
        let puzzles = AddressPuzzles::of(&identity(1));
        let periods = [
            PERIOD,
            Period { number: 20_001, ..PERIOD },
            Period { length_minutes: 60, ..PERIOD },
            Period { offset_seconds: 0, ..PERIOD },
        ];
        let seeds: BTreeSet<Seed> = periods
            .iter()
            .flat_map(|period| (1..=3).map(|slot| puzzles.seed(*period, SeedSlot(slot)).unwrap()))
            .collect();
        assert_eq!(seeds.len(), 12);
        assert!(!seeds.contains(&[0; 32]));
    }

    #[test]
    fn who_verifies_elsewhere_gets_the_seeds_that_are_accepted_and_the_next_ones_shortly_before() {
        let puzzles = AddressPuzzles::of(&identity(1));
        let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let mut most = 0;
        for minute in 0..200 {
            let now = now + Duration::from_secs(60 * minute);
            let slots = puzzles.slots_given(now);
            let current = puzzles.current(0, now).slot;
            assert!(slots.contains(&current) && slots.contains(&SeedSlot(current.0 - 1)));
            let next = SeedSlot(current.0 + 1);
            assert_eq!(slots.contains(&next), puzzles.schedule.begins(next) <= now + GIVEN_BEFORE);
            let given = puzzles.given(&[PERIOD, Period { number: 20_001, ..PERIOD }], &slots);
            assert_eq!(given.len(), 2 * slots.len());
            assert_eq!(Some(given[0].seed), puzzles.seed(PERIOD, slots[0]));
            most = most.max(slots.len());
        }
        assert_eq!(most, 3);
    }

    #[test]
    fn the_derivation_stays_as_it_is() {
        // Publishers of different versions must agree.
        let seed = AddressPuzzles::of(&identity(1)).seed(PERIOD, SeedSlot(300_000)).unwrap();
        let hex: String = seed.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "c840618bb11612a16f4819665eb851fab944e9c34be8e1edbad81f4d77aa193c");
    }
}

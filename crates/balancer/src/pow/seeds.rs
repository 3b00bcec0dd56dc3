//! Which seed is published until when, and which are accepted?
//!
//! Publishers of one address have one secret and derive everything from it and
//! the time, so they agree without talking, and a restart changes nothing. Time
//! is divided into *slots*; the seed of a slot is published from its beginning
//! and valid until after the next one has begun, so that a client always finds a
//! seed that is not about to expire: C tor's clients refuse an expired one, and
//! ask an HSDir no sooner than after 15 minutes again. Beginnings and ends vary
//! as C tor's do, at random for those who do not have the secret.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use sha3::{Digest as _, Sha3_256};

use crate::onion::Period;

/// From one beginning to the next, in the long run.
const LENGTH: u64 = 95 * 60;
/// Slots begin up to so much later.
const LATER: u64 = 5 * 60;
/// A seed is valid for so long, as C tor's (`HS_SERVICE_POW_SEED_ROTATE_TIME_MIN`,
/// `..._MAX`): at least 5 minutes into the next slot, never into the one after it.
const VALID: std::ops::RangeInclusive<u64> = 105 * 60..=120 * 60;

/// So many seeds are derived for one slot until one has a head of its own.
const ATTEMPTS: u8 = 4;

/// The number of a slot of time, counted from 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SeedSlot(pub u64);

/// The random part of a puzzle. It is public once it is published.
pub type Seed = [u8; 32];

/// When the slots of one address begin and end.
#[derive(Clone)]
pub struct SeedSchedule {
    secret: [u8; 32],
}

impl SeedSchedule {
    /// Of the address with this secret, which should serve for nothing else.
    pub fn new(secret: [u8; 32]) -> Self {
        Self { secret }
    }

    /// The slot whose seed is published now.
    pub fn current(&self, now: SystemTime) -> SeedSlot {
        let now = seconds(now);
        let slot = SeedSlot(now.saturating_sub(self.offset()) / LENGTH);
        if now < self.begins_at(slot) { SeedSlot(slot.0.saturating_sub(1)) } else { slot }
    }

    /// The slots whose seeds are accepted now: the current one, the one before,
    /// and the next, which another publisher may have begun by its own clock.
    pub fn accepted(&self, now: SystemTime) -> [SeedSlot; 3] {
        let SeedSlot(current) = self.current(now);
        [SeedSlot(current.saturating_sub(1)), SeedSlot(current), SeedSlot(current + 1)]
    }

    /// The slots whose seeds those have to know who verify elsewhere: the current one, the
    /// one before, and the next once it begins within `soon`, for it to be there by then.
    /// No sooner: who has a seed before it is published can work in advance.
    pub fn given(&self, now: SystemTime, soon: Duration) -> Vec<SeedSlot> {
        let [before, current, next] = self.accepted(now);
        let is_near = self.begins(next) <= now + soon;
        [Some(before), Some(current), is_near.then_some(next)].into_iter().flatten().collect()
    }

    /// When a slot begins.
    pub fn begins(&self, slot: SeedSlot) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(self.begins_at(slot))
    }

    /// Until when clients may use the seed of a slot.
    pub fn expires(&self, slot: SeedSlot) -> SystemTime {
        let valid = VALID.start() + self.number(slot, 1) % (VALID.end() - VALID.start() + 1);
        self.begins(slot) + Duration::from_secs(valid)
    }

    fn begins_at(&self, slot: SeedSlot) -> u64 {
        let later = self.number(slot, 2) % LATER;
        slot.0.saturating_mul(LENGTH).saturating_add(self.offset()).saturating_add(later)
    }

    /// By how much the slots of this address are moved, so that no two
    /// addresses keep step.
    fn offset(&self) -> u64 {
        self.number(SeedSlot(0), 0) % LENGTH
    }

    /// A number that only those know who have the secret.
    fn number(&self, slot: SeedSlot, purpose: u8) -> u64 {
        let digest = Sha3_256::new()
            .chain_update(b"onionbraid pow slot")
            .chain_update(self.secret)
            .chain_update([purpose])
            .chain_update(slot.0.to_be_bytes())
            .finalize();
        digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
    }
}

fn seconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The seed of one slot in one time period.
///
/// A solution names its seed by the first 4 bytes, so no two seeds that are
/// accepted together may begin alike. `derive` gives a slot's seeds, by the
/// number of the attempt; the first one is taken that begins as no seed of a
/// slot nearby could that comes before it. Everyone who derives alike agrees.
pub fn distinct_seed(
    derive: impl Fn(Period, SeedSlot, u8) -> Seed,
    period: Period,
    slot: SeedSlot,
) -> Seed {
    let head = |seed: &Seed| [seed[0], seed[1], seed[2], seed[3]];
    let mut taken = Vec::new();
    for number in period.number.saturating_sub(2)..=period.number.saturating_add(2) {
        for near in slot.0.saturating_sub(2)..=slot.0.saturating_add(2) {
            if (number, near) < (period.number, slot.0) {
                let before = Period { number, ..period };
                let seeds = (0..ATTEMPTS).map(|attempt| derive(before, SeedSlot(near), attempt));
                taken.extend(seeds.map(|seed| head(&seed)));
            }
        }
    }
    let mut seeds = (0..ATTEMPTS).map(|attempt| derive(period, slot, attempt));
    // That every attempt collides happens once in 10^27 times.
    seeds.find(|seed| !taken.contains(&head(seed))).unwrap_or_else(|| derive(period, slot, 0))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::super::super::samples::period;
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_seed_is_published_for_90_to_100_minutes_and_outlives_that_by_at_least_five() {
        for secret in 0..20 {
            let schedule = SeedSchedule::new([secret; 32]);
            for slot in 300_000..300_100 {
                let [slot, next, over] = [slot, slot + 1, slot + 2].map(SeedSlot);
                let begins = schedule.begins(slot);
                let published = schedule.begins(next).duration_since(begins).unwrap();
                let valid = schedule.expires(slot).duration_since(begins).unwrap();
                assert!((90 * MINUTE..=100 * MINUTE).contains(&published), "{published:?}");
                assert!((105 * MINUTE..=120 * MINUTE).contains(&valid), "{valid:?}");
                assert!(valid >= published + 5 * MINUTE);
                assert!(schedule.expires(slot) < schedule.begins(over));
            }
        }
    }

    proptest! {
        #[test]
        fn a_seed_that_is_valid_is_accepted_and_the_published_one_is_valid(
            secret: [u8; 32], at in 0_u64..5_000_000_000,
        ) {
            let schedule = SeedSchedule::new(secret);
            let now = UNIX_EPOCH + Duration::from_secs(at);
            let current = schedule.current(now);
            // Before the first slot nothing has begun.
            prop_assume!(current.0 > 0);
            prop_assert!(schedule.begins(current) <= now);
            prop_assert!(schedule.expires(current) >= now + 5 * MINUTE);
            prop_assert!(now < schedule.begins(SeedSlot(current.0 + 1)));
            let accepted = schedule.accepted(now);
            for slot in current.0.saturating_sub(3)..=current.0 {
                let slot = SeedSlot(slot);
                prop_assert!(schedule.expires(slot) <= now || accepted.contains(&slot));
            }
        }
    }

    #[test]
    fn publishers_whose_clocks_differ_by_a_minute_accept_each_others_seeds() {
        let schedule = SeedSchedule::new([7; 32]);
        let mut now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        for _ in 0..2_000 {
            now += MINUTE;
            let others = schedule.current(now + MINUTE);
            assert!(schedule.accepted(now).contains(&others));
        }
    }

    #[test]
    fn addresses_do_not_keep_step() {
        let begins: BTreeSet<_> =
            (0..50).map(|n| SeedSchedule::new([n; 32]).begins(SeedSlot(300_000))).collect();
        assert_eq!(begins.len(), 50);
    }

    /// Seeds whose heads have 12 bits, so that many are alike.
    fn derive(period: Period, slot: SeedSlot, attempt: u8) -> Seed {
        let digest = Sha3_256::new()
            .chain_update(period.number.to_be_bytes())
            .chain_update(slot.0.to_be_bytes())
            .chain_update([attempt])
            .finalize();
        let mut seed: Seed = digest.into();
        (seed[0], seed[1], seed[2]) = (0, 0, seed[2] & 0x0f);
        seed
    }

    #[test]
    fn seeds_that_are_accepted_together_begin_differently() {
        let mut alike = 0;
        for first in 0..500 {
            let mut heads = BTreeSet::new();
            let mut first_attempts = BTreeSet::new();
            for number in 100..103 {
                for slot in first..first + 3 {
                    let (period, slot) = (period(number), SeedSlot(slot));
                    let seed = distinct_seed(derive, period, slot);
                    assert!(heads.insert(seed[..4].to_vec()), "{number} {slot:?}");
                    first_attempts.insert(derive(period, slot, 0)[..4].to_vec());
                    assert_eq!(seed, distinct_seed(derive, period, slot));
                }
            }
            alike += usize::from(first_attempts.len() < heads.len());
        }
        assert!(alike > 0, "the test has collisions to avoid");
    }
}

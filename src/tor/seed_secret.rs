//! The secret of an address from which its proof-of-work seeds follow.
//!
//! It follows from the identity key, so that every publisher has the same seeds. Who
//! has it knows all seeds, for ever: it never leaves the machine with that key; a
//! bundle has the seeds of its periods alone.

use tor_hscrypto::pk::HsIdKeypair;

use super::derived::{Derivation, named};
use onionbraid_balancer::onion::Period;
use onionbraid_balancer::pow::{Seed, SeedSchedule, SeedSlot, distinct_seed};

/// Tells these keys from any other that is derived from an identity.
const SALT: &[u8] = b"onionbraid proof of work v1";

/// What the seeds of an address follow from.
pub(super) struct SeedSecret(Derivation);

impl SeedSecret {
    /// That of the address with this identity.
    pub(super) fn of(identity: &HsIdKeypair) -> Self {
        Self(Derivation::of(identity, SALT))
    }

    /// What the times of slots follow from, which says nothing of seeds.
    pub(super) fn times(&self) -> [u8; 32] {
        *self.0.expanded(&[b"slots"])
    }

    /// When slots begin and end.
    pub(super) fn schedule(&self) -> SeedSchedule {
        SeedSchedule::new(self.times())
    }

    /// The seed of a slot in a time period: public, once it is published.
    pub(super) fn seed(&self, period: Period, slot: SeedSlot) -> Seed {
        let derive = |period: Period, SeedSlot(slot): SeedSlot, attempt: u8| {
            let [number, length, offset] = named(period);
            let slot = slot.to_be_bytes();
            *self.0.expanded(&[b"seed", &number, &length, &offset, &slot, &[attempt]])
        };
        distinct_seed(derive, period, slot)
    }
}

//! How much would the work count that an introduction brings? For the fuzz target `work`,
//! which feeds what clients could send; nothing in the program asks here.
//!
//! What it goes through is what introductions go through between their decryption and the
//! queue.

use std::sync::Arc;

use rand::RngExt as _;
use tor_bytes::Writeable as _;
use tor_cell::relaycell::hs::intro_payload::{IntroduceHandshakePayload, OnionKey};
use tor_hscrypto::pk::HsIdKeypair;
use tor_linkspec::{EncodedLinkSpec, LinkSpecType};
use tor_llcrypto::pk::ed25519;

use super::defence::Claims;
use super::rendezvous::payload;
use crate::tor::credentials::Credentials;
use crate::tor::puzzles::{AddressPuzzles, Verifiers, solve};
use onionbraid_balancer::onion::Period;
use onionbraid_balancer::pow::{Effort, OwnWork, SeedSlot};

const PERIOD: Period = Period { number: 20_000, length_minutes: 1440, offset_seconds: 12 * 3600 };
const SLOTS: [SeedSlot; 3] = [SeedSlot(10), SeedSlot(11), SeedSlot(12)];

/// Where a client's rendezvous point would be.
const POINT: [u8; 6] = [127, 0, 0, 1, 0x23, 0x28];

/// Examines introductions of one address.
pub struct Examiner {
    credentials: Arc<Credentials>,
    verifiers: Verifiers,
    claims: Claims,
}

impl Examiner {
    /// Of an address that follows from this.
    pub fn of(secret: [u8; 32]) -> Self {
        let keypair = ed25519::Keypair::from_bytes(&secret);
        let keypair = HsIdKeypair::from(ed25519::ExpandedKeypair::from(&keypair));
        let credentials = Arc::new(Credentials::of_identity(keypair));
        let puzzles = AddressPuzzles::of(&credentials);
        let verifiers = Verifiers::of(&puzzles, &credentials.public_key(), &[PERIOD], &SLOTS);
        Self { credentials, verifiers, claims: Self::nothing_used() }
    }

    /// What a client would encrypt that has done so much work, or none with 0; `None` if
    /// the work takes too long.
    pub fn introduction(&self, effort: Effort) -> Option<Vec<u8>> {
        let work = OwnWork { slot: SLOTS[1], effort };
        let work = match effort {
            0 => None,
            _ => Some(solve(&self.credentials, PERIOD, work)?),
        };
        let introduction = IntroduceHandshakePayload::new(
            crate::tor::rng().random(),
            OnionKey::NtorOnionKey([9; 32].into()),
            vec![EncodedLinkSpec::new(LinkSpecType::ORPORT_V4, POINT.to_vec())],
            work,
        );
        let mut plaintext = Vec::new();
        introduction.write_onto(&mut plaintext).ok()?;
        Some(plaintext)
    }

    /// By how much effort this introduction, decrypted, waits for its turn. `None`: it is
    /// dropped.
    pub fn effort(&mut self, plaintext: &[u8]) -> Option<Effort> {
        let introduction = payload(plaintext).ok()?;
        let proof = introduction.proof_of_work_extension();
        self.claims.effort(proof.map(|proof| self.verifiers.check(proof)))
    }

    /// Forgets which solutions were used.
    pub fn forget(&mut self) {
        self.claims = Self::nothing_used();
    }

    fn nothing_used() -> Claims {
        let mut claims = Claims::new();
        claims.nonces.set_capacity(100);
        claims
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_work_of_an_honest_client_counts_once_and_garbage_never() {
        let mut examiner = Examiner::of([1; 32]);
        let (worked, idle) = (examiner.introduction(2).unwrap(), examiner.introduction(0).unwrap());
        assert_eq!((examiner.effort(&worked), examiner.effort(&worked)), (Some(2), None));
        assert_eq!((examiner.effort(&idle), examiner.effort(&idle)), (Some(0), Some(0)));
        examiner.forget();
        // Padding changes nothing, and what is cut off is no introduction.
        assert_eq!(examiner.effort(&[&worked[..], &[0; 200]].concat()), Some(2));
        assert_eq!(examiner.effort(&worked[..60]), None);
        assert_eq!(Examiner::of([2; 32]).effort(&worked), None);
    }
}

//! Secrets that follow from an identity key: every publisher of the address has the
//! same ones, without talking, and after a restart too.

use hkdf::Hkdf;
use sha2::Sha256;
use tor_hscrypto::pk::HsIdKeypair;
use tor_llcrypto::pk::ed25519;
use zeroize::Zeroizing;

use super::wiped;
use onionbraid_balancer::onion::Period;

/// A secret from which those of one kind follow.
pub(super) struct Derivation {
    /// Extracted from the identity key (RFC 5869, section 2.2); says nothing of it.
    secret: Zeroizing<[u8; 32]>,
}

impl Derivation {
    /// That of an identity, for what `salt` tells from any other kind.
    pub(super) fn of(identity: &HsIdKeypair, salt: &[u8]) -> Self {
        let secret = wiped(|| {
            let keypair: &ed25519::ExpandedKeypair = identity.as_ref();
            let key = Zeroizing::new(keypair.to_secret_key_bytes());
            let (extracted, _) = Hkdf::<Sha256>::extract(Some(salt), &*key);
            Zeroizing::new(extracted.into())
        });
        Self { secret }
    }

    /// With a secret that follows from an identity by another one.
    pub(super) fn from_secret(secret: Zeroizing<[u8; 32]>) -> Self {
        Self { secret }
    }

    /// What the others follow from.
    pub(super) fn secret(&self) -> &[u8; 32] {
        &self.secret
    }

    /// A secret for one purpose (RFC 5869, section 2.3), of at most 32 bytes.
    pub(super) fn expanded<const N: usize>(&self, purpose: &[&[u8]]) -> Zeroizing<[u8; N]> {
        const { assert!(N <= 32, "as long as SHA-256's, with which nothing below can fail") }
        let mut key = Zeroizing::new([0; N]);
        if let Ok(hkdf) = Hkdf::<Sha256>::from_prk(&*self.secret) {
            let _ = hkdf.expand_multi_info(purpose, &mut *key);
        }
        key
    }
}

/// A period as part of a purpose.
pub(super) fn named(period: Period) -> [[u8; 8]; 3] {
    let Period { number, length_minutes, offset_seconds } = period;
    [number, length_minutes.into(), offset_seconds.into()].map(u64::to_be_bytes)
}

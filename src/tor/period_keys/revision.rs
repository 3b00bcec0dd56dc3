//! The revision counters of a period: as C tor computes them, from a key that can be
//! written down (rend-spec-v3, section 2.2.1 and appendix F.2).
//!
//! `tor_hscrypto::ope` does the same and makes its key from the blinded secret key
//! alone, which a publisher with a bundle must not have.

use cipher::{KeyIvInit as _, StreamCipher as _};
use digest::Digest as _;
use tor_hscrypto::pk::HsBlindIdKeypair;
use tor_llcrypto::cipher::aes::Aes256Ctr;
use tor_llcrypto::d::Sha3_256;
use tor_llcrypto::pk::ed25519;
use zeroize::Zeroizing;

/// Begins what the key is derived from (`hs_common.c`).
const PREFIX: &[u8] = b"rev-counter-generation";

/// Keystream at a time, in bytes.
const CHUNK: usize = 16 * 1024;

/// The key of the revision counters of one address in one period. It says nothing of
/// the key that it was made from.
pub(in crate::tor) struct RevisionKey(Zeroizing<[u8; 32]>);

impl RevisionKey {
    /// C tor's derivation: from a zero byte and the 64 bytes of the blinded secret
    /// key, so that an address can move from C tor to us and back, and so that
    /// publishers of one address count alike.
    pub(super) fn of(blinded: &HsBlindIdKeypair) -> Self {
        let keypair: &ed25519::ExpandedKeypair = blinded.as_ref();
        let secret = Zeroizing::new(keypair.to_secret_key_bytes());
        let hash = Sha3_256::new().chain_update(PREFIX).chain_update([0]).chain_update(*secret);
        Self(Zeroizing::new(hash.finalize().into()))
    }

    /// One that was written down.
    pub(in crate::tor) fn from_bytes(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(bytes)
    }

    pub(in crate::tor) fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The counter so many seconds after the beginning of the protocol run that made
    /// the period's shared random value.
    pub(in crate::tor) fn counter(&self, offset: u32) -> u64 {
        // The encryption of 0 would be 0.
        let steps = offset.saturating_add(1);
        let mut counter = u64::from(steps);
        let mut cipher = Aes256Ctr::new((&*self.0).into(), &[0; 16].into());
        let mut left = u64::from(steps) * 2;
        let mut stream = [0_u8; CHUNK];
        while left > 0 {
            let length = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
            let part = &mut stream[..length];
            part.fill(0);
            cipher.apply_keystream(part);
            let words = part.as_chunks::<2>().0.iter();
            counter += words.map(|word| u64::from(u16::from_le_bytes(*word))).sum::<u64>();
            left -= length as u64;
        }
        counter
    }
}

#[cfg(test)]
mod tests {
    use tor_hscrypto::ope::AesOpeKey;
    use tor_hscrypto::pk::HsIdKeypair;
    use tor_hscrypto::time::TimePeriod;

    use super::*;

    #[test]
    fn counters_are_those_of_arti_and_c_tor() {
        let identity = ed25519::Keypair::from_bytes(&[7; 32]);
        let identity = HsIdKeypair::from(ed25519::ExpandedKeypair::from(&identity));
        let period = TimePeriod::from_parts(1440, 20_000, 43_200);
        let (_, blinded, _) = identity.compute_blinded_key(period).unwrap();
        let own = RevisionKey::of(&blinded);
        let keypair: &ed25519::ExpandedKeypair = blinded.as_ref();
        let secret = [&[0][..], &keypair.to_secret_key_bytes()].concat();
        let arti = AesOpeKey::from_secret(&secret);
        for offset in [0, 1, 8_190, 8_191, 8_192, 8_193, 16_383, 43_200, 172_799] {
            assert_eq!(own.counter(offset), arti.encrypt(offset.into()), "{offset}");
        }
        // From C tor's unit tests.
        let key = *b"\x19\xe0\x58\x91\xd5\x52\x32\xc0\x8c\x2c\xad\x91\xd6\x12\xfd\xb9\
                     \xcb\xd6\x69\x19\x49\xa0\x74\x24\x34\xa7\x6c\x80\xbc\x69\x92\xfe";
        let key = RevisionKey::from_bytes(Zeroizing::new(key));
        assert_eq!(key.counter(82_283 - 1), 2_695_743_564);
        assert_eq!(key.counter(7_110 - 1), 234_966_492);
    }
}

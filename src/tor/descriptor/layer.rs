//! Encryption of a descriptor's layers (rend-spec-v3, section 2.5.3).

use cipher::{KeyIvInit as _, StreamCipher as _};
use digest::{Digest as _, ExtendableOutput as _, Update as _, XofReader as _};
use rand::RngExt as _;
use tor_hscrypto::Subcredential;
use tor_llcrypto::cipher::aes::Aes256Ctr;
use tor_llcrypto::d::{Sha3_256, Shake256};
use zeroize::Zeroizing;

/// What the keys of both layers follow from, beside their salts.
pub(super) struct Sealer<'a> {
    /// The blinded public key.
    pub(super) blinded: [u8; 32],
    pub(super) subcredential: &'a Subcredential,
    pub(super) revision: u64,
}

/// Which layer is encrypted.
pub(super) enum Layer<'a> {
    /// The middle one (section 2.5.1.1).
    Middle,
    /// The inner one (section 2.5.2.1), with the descriptor cookie where clients
    /// have to be authorized.
    Inner { cookie: Option<&'a [u8; 16]> },
}

impl Layer<'_> {
    fn constant(&self) -> &'static [u8] {
        match self {
            Self::Middle => b"hsdir-superencrypted-data",
            Self::Inner { .. } => b"hsdir-encrypted-data",
        }
    }
}

impl Sealer<'_> {
    /// Encrypts a layer with a salt of its own: salt, ciphertext, MAC.
    pub(super) fn seal(&self, layer: &Layer<'_>, plaintext: &[u8]) -> Vec<u8> {
        let salt: [u8; 16] = crate::tor::rng().random();
        let mut kdf = Shake256::default();
        kdf.update(&self.blinded);
        if let Layer::Inner { cookie: Some(cookie) } = layer {
            kdf.update(*cookie);
        }
        kdf.update(self.subcredential.as_ref());
        kdf.update(&self.revision.to_be_bytes());
        kdf.update(&salt);
        kdf.update(layer.constant());
        let mut keys = kdf.finalize_xof();
        let (mut key, mut iv, mut mac_key) =
            (Zeroizing::new([0; 32]), Zeroizing::new([0; 16]), Zeroizing::new([0; 32]));
        keys.read(&mut *key);
        keys.read(&mut *iv);
        keys.read(&mut *mac_key);

        let mut sealed = [&salt, plaintext].concat();
        let (_, text) = sealed.split_at_mut(salt.len());
        Aes256Ctr::new((&*key).into(), (&*iv).into()).apply_keystream(text);
        let mac = Sha3_256::new()
            .chain_update(32_u64.to_be_bytes())
            .chain_update(*mac_key)
            .chain_update(16_u64.to_be_bytes())
            .chain_update(&sealed)
            .finalize();
        sealed.extend_from_slice(&mac);
        sealed
    }
}

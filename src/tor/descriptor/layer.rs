//! Encryption of a descriptor's layers (rend-spec-v3, section 2.5.3).

use cipher::{KeyIvInit as _, StreamCipher as _};
use digest::{Digest as _, ExtendableOutput as _, Update as _, XofReader as _};
use rand::RngExt as _;
use tor_hscrypto::Subcredential;
use tor_llcrypto::cipher::aes::Aes256Ctr;
use tor_llcrypto::d::{Sha3_256, Shake256};
use zeroize::Zeroizing;

use super::super::period_keys::PeriodKeys;

/// The bytes of a salt ...
const SALT: usize = 16;
/// ... and of a MAC.
const MAC: usize = 32;

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

impl<'a> Sealer<'a> {
    /// With the keys of this period.
    pub(super) fn new(keys: &'a PeriodKeys, revision: u64) -> Self {
        Self { blinded: keys.blinded.into(), subcredential: &keys.subcredential, revision }
    }
}

impl Sealer<'_> {
    /// Encrypts a layer with a salt of its own: salt, ciphertext, MAC.
    pub(super) fn seal(&self, layer: &Layer<'_>, plaintext: &[u8]) -> Vec<u8> {
        let salt: [u8; SALT] = crate::tor::rng().random();
        let keys = self.keys(layer, &salt);
        let mut sealed = [&salt, plaintext].concat();
        let (_, text) = sealed.split_at_mut(salt.len());
        keys.cipher().apply_keystream(text);
        let mac = keys.mac(&sealed);
        sealed.extend_from_slice(&mac);
        sealed
    }

    /// Decrypts one; `None` if it was encrypted with other keys.
    pub(super) fn open(&self, layer: &Layer<'_>, sealed: &[u8]) -> Option<Vec<u8>> {
        let (sealed, mac) = sealed.split_last_chunk::<MAC>()?;
        let (salt, text) = sealed.split_first_chunk::<SALT>()?;
        let keys = self.keys(layer, salt);
        if keys.mac(sealed) != *mac {
            return None;
        }
        let mut text = text.to_vec();
        keys.cipher().apply_keystream(&mut text);
        Some(text)
    }

    fn keys(&self, layer: &Layer<'_>, salt: &[u8; SALT]) -> LayerKeys {
        let mut kdf = Shake256::default();
        kdf.update(&self.blinded);
        if let Layer::Inner { cookie: Some(cookie) } = layer {
            kdf.update(*cookie);
        }
        kdf.update(self.subcredential.as_ref());
        kdf.update(&self.revision.to_be_bytes());
        kdf.update(salt);
        kdf.update(layer.constant());
        let mut keys = kdf.finalize_xof();
        let mut made = LayerKeys {
            key: Zeroizing::default(),
            iv: Zeroizing::default(),
            mac_key: Zeroizing::default(),
        };
        keys.read(&mut *made.key);
        keys.read(&mut *made.iv);
        keys.read(&mut *made.mac_key);
        made
    }
}

/// The keys of one layer with one salt.
struct LayerKeys {
    key: Zeroizing<[u8; 32]>,
    iv: Zeroizing<[u8; 16]>,
    mac_key: Zeroizing<[u8; 32]>,
}

impl LayerKeys {
    fn cipher(&self) -> Aes256Ctr {
        Aes256Ctr::new((&*self.key).into(), (&*self.iv).into())
    }

    /// That of salt and ciphertext.
    fn mac(&self, sealed: &[u8]) -> [u8; MAC] {
        let mac = Sha3_256::new()
            .chain_update(32_u64.to_be_bytes())
            .chain_update(*self.mac_key)
            .chain_update(16_u64.to_be_bytes())
            .chain_update(sealed);
        mac.finalize().into()
    }
}

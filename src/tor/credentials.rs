//! With what does a publisher publish an address: with its identity key, or with the
//! keys of some periods (`identity_bundle`) while that key is kept elsewhere?
//!
//! Whoever signs, proves or counts for an address asks here, and does not see the
//! difference, save that there may be no keys for a period. What is in force can be
//! exchanged while it is used.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use parking_lot::RwLock;
use tor_hscrypto::pk::{HsIdKey, HsIdKeypair};
use tor_hsservice::HsNickname;
use tor_llcrypto::pk::keymanip::BlindingError;

use super::bundle::Bundle;
use super::keys::{self, KeyError, Keys};
use super::period_keys::PeriodKeys;
use super::seed_secret::SeedSecret;
use onionbraid_balancer::onion::{OnionAddress, Period};
use onionbraid_balancer::pow::{Seed, SeedSchedule, SeedSlot};

/// Why something cannot be signed for a period.
#[derive(Debug, thiserror::Error)]
pub enum NoKeys {
    /// The bundle has none for it.
    #[error("the identity_bundle has no keys for time period {0}")]
    NotInBundle(u64),
    /// The identity key cannot be blinded for it.
    #[error("cannot blind the identity key")]
    Blinding(#[source] BlindingError),
}

/// What the configuration says of a service's key.
#[derive(Clone, Copy, Debug, Default)]
pub struct KeyPlace<'a> {
    /// The file with the identity key (`identity_key`); else it is in the keystore.
    pub file: Option<&'a Path>,
    /// The directory with the keys of periods (`identity_bundle`).
    pub bundle: Option<&'a Path>,
}

/// What an address is published with.
pub struct Credentials {
    address: OnionAddress,
    public: HsIdKey,
    secret: RwLock<Arc<CredentialSecret>>,
    /// How often it was exchanged.
    version: AtomicU64,
}

enum CredentialSecret {
    /// The identity; zeroized when dropped.
    Identity {
        key: Box<HsIdKeypair>,
        seeds: SeedSecret,
    },
    Bundle(Box<Bundle>),
}

impl Credentials {
    /// Those of who has the identity key.
    pub fn of_identity(key: HsIdKeypair) -> Self {
        let (address, public) = (keys::address(&key), HsIdKey::from(&key));
        let seeds = SeedSecret::of(&key);
        let secret = CredentialSecret::Identity { key: Box::new(key), seeds };
        Self::with(address, public, secret)
    }

    /// Those of who has the keys of some periods.
    pub fn of_bundle(bundle: Bundle) -> Self {
        let (address, public) = (bundle.address(), bundle.public_key());
        Self::with(address, public, CredentialSecret::Bundle(Box::new(bundle)))
    }

    fn with(address: OnionAddress, public: HsIdKey, secret: CredentialSecret) -> Self {
        let (secret, version) = (RwLock::new(Arc::new(secret)), AtomicU64::new(0));
        Self { address, public, secret, version }
    }

    /// Those of a service, if it has any yet.
    ///
    /// # Errors
    ///
    /// If they are there and cannot be used, or if there is a bundle for one address and
    /// the key of another.
    pub fn of_service(
        keys: &Keys,
        nickname: &HsNickname,
        place: KeyPlace<'_>,
    ) -> Result<Option<Self>, KeyError> {
        let Some(directory) = place.bundle else {
            return Ok(keys.identity(nickname, place.file)?.map(Self::of_identity));
        };
        if place.file.is_some() {
            return Err(KeyError::KeyBesideBundle { nickname: nickname.clone() });
        }
        let bundle = Bundle::read(directory, keys.mistrust())
            .map_err(|cause| KeyError::Bundle { nickname: nickname.clone(), cause })?;
        if let Some(stored) = keys.stored(nickname)?
            && keys::address(&stored) != bundle.address()
        {
            let (nickname, stored) = (nickname.clone(), keys::address(&stored));
            return Err(KeyError::OtherBundle { nickname, stored, bundle: bundle.address() });
        }
        Ok(Some(Self::of_bundle(bundle)))
    }

    /// The address.
    pub fn address(&self) -> OnionAddress {
        self.address
    }

    /// The public half of its identity.
    pub fn public_key(&self) -> HsIdKey {
        self.public.clone()
    }

    /// For which periods there are keys; `None`: for all, by the identity key.
    pub fn periods(&self) -> Option<Vec<Period>> {
        match &**self.secret.read() {
            CredentialSecret::Identity { .. } => None,
            CredentialSecret::Bundle(bundle) => Some(bundle.periods()),
        }
    }

    /// Puts others of the same address into force. Whether they are.
    pub(crate) fn replace(&self, other: &Self) -> bool {
        if other.address != self.address {
            return false;
        }
        let secret = Arc::clone(&other.secret.read());
        *self.secret.write() = secret;
        self.version.fetch_add(1, Ordering::Release);
        true
    }

    /// Changes whenever others are put into force: what was computed with those of before
    /// may be missing something.
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// The keys for a period.
    pub(super) fn period(&self, period: Period) -> Result<Arc<PeriodKeys>, NoKeys> {
        match &*self.secret() {
            CredentialSecret::Identity { key, .. } => {
                PeriodKeys::new(key, period).map(Arc::new).map_err(NoKeys::Blinding)
            }
            CredentialSecret::Bundle(bundle) => {
                bundle.keys(period).ok_or(NoKeys::NotInBundle(period.number))
            }
        }
    }

    /// Signs with the descriptor signing key of a period; the signature, and the
    /// certificate of that key. `None` if there are no keys for the period or this
    /// moment. What is signed must not begin as a descriptor does.
    pub(crate) fn signed(
        &self,
        period: Period,
        message: &[u8],
        now: SystemTime,
    ) -> Option<([u8; 64], Vec<u8>)> {
        let keys = self.period(period).ok()?;
        let certificate = keys.certificate(now).ok()?;
        Some((keys.signing.sign(message).to_bytes(), certificate))
    }

    /// When the seeds of the address change.
    pub(super) fn schedule(&self) -> SeedSchedule {
        match &*self.secret() {
            CredentialSecret::Identity { seeds, .. } => seeds.schedule(),
            CredentialSecret::Bundle(bundle) => bundle.schedule(),
        }
    }

    /// The seed of a slot in a time period: public, once it is published.
    pub(super) fn seed(&self, period: Period, slot: SeedSlot) -> Option<Seed> {
        match &*self.secret() {
            CredentialSecret::Identity { seeds, .. } => Some(seeds.seed(period, slot)),
            CredentialSecret::Bundle(bundle) => bundle.seed(period, slot),
        }
    }

    fn secret(&self) -> Arc<CredentialSecret> {
        Arc::clone(&self.secret.read())
    }
}

//! With which keys the process reads descriptors that are not for everybody: those of
//! backends whose clients it is, and its own.
//!
//! Whoever fetches a descriptor finds the key here, by its address.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::RwLock;
use tor_hscrypto::pk::HsClientDescEncKeypair;

use super::credentials::Credentials;
use onionbraid_balancer::onion::{Access, OnionAddress};

/// What reads the descriptors of one address.
#[derive(Clone)]
pub(crate) enum DescriptorReader {
    /// The key of a client.
    Client(Arc<HsClientDescEncKeypair>),
    /// Their publisher is this process, and they are for these.
    Publisher(Arc<Credentials>, Access),
}

/// The readers of all addresses; those that are missing are for everybody. Cheap to
/// clone.
#[derive(Clone, Default)]
pub(crate) struct Keyring(Arc<RwLock<BTreeMap<OnionAddress, Vec<DescriptorReader>>>>);

impl Keyring {
    /// These are all from now on.
    pub(crate) fn replace(
        &self,
        readers: impl IntoIterator<Item = (OnionAddress, DescriptorReader)>,
    ) {
        let mut all: BTreeMap<_, Vec<DescriptorReader>> = BTreeMap::new();
        for (address, reader) in readers {
            all.entry(address).or_default().push(reader);
        }
        *self.0.write() = all;
    }

    /// Those of an address.
    pub(super) fn of(&self, address: &OnionAddress) -> Vec<DescriptorReader> {
        self.0.read().get(address).cloned().unwrap_or_default()
    }
}

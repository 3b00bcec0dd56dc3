//! At which relays the introduction points of one service are.
//!
//! A C tor client knows a point by its relay and sees only the first point at
//! each, so the local instances of one service choose different relays.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;
use tor_linkspec::{RelayIdRef, RelayIdSet};
use tor_llcrypto::pk::rsa::RsaIdentity;
use tor_netdir::NetDir;
use tor_relay_selection::{RelayExclusion, RelaySelector, RelayUsage};

use crate::tor::network::{Network, relay_id};
use onionbraid_balancer::onion::RelayId;

/// The relays that the local instances of one service use.
#[derive(Debug, Default)]
pub struct RelaysInUse {
    /// All of them.
    relays: Mutex<BTreeSet<RelayId>>,
}

impl RelaysInUse {
    /// Chooses a relay for a new introduction point and marks it as used.
    ///
    /// On a network too small for a relay of its own, an instance takes one
    /// that a sibling uses, but never one of `own` twice. `None` if there is
    /// no relay, or no directory.
    pub(super) fn choose(&self, network: &Network, own: &BTreeSet<RelayId>) -> Option<RelayId> {
        let mut relays = self.relays.lock();
        let in_use: BTreeSet<RelayId> = relays.union(own).copied().collect();
        let chosen = select(network, &in_use).or_else(|| select(network, own))?;
        relays.insert(chosen);
        Some(chosen)
    }

    /// A relay is used again by a point of an earlier process.
    pub(super) fn mark(&self, relay: RelayId) {
        self.relays.lock().insert(relay);
    }

    /// A relay is no longer used.
    pub(super) fn release(&self, relay: RelayId) {
        self.relays.lock().remove(&relay);
    }
}

/// Whether the directory lists a relay, usable at this moment or not: when its
/// microdescriptor has changed, it takes a while until the new one is known, and
/// the circuit there is none the worse for it. Without a directory nothing is
/// known to be gone.
pub(super) fn is_listed(network: &Network, id: RelayId) -> bool {
    let listed = |directory: Arc<NetDir>| directory.rsa_id_is_listed(&RsaIdentity::from(id.0));
    network.directory().map_or(true, listed)
}

/// A relay fit for an introduction point, by Tor's rules, outside a set.
fn select(network: &Network, excluded: &BTreeSet<RelayId>) -> Option<RelayId> {
    let directory = network.directory().ok()?;
    let excluded: RelayIdSet =
        excluded.iter().map(|id| RelayIdRef::from(&RsaIdentity::from(id.0)).to_owned()).collect();
    let exclusion = RelayExclusion::exclude_identities(excluded);
    let selector = RelaySelector::new(RelayUsage::new_intro_point(), exclusion);
    let (chosen, _) = selector.select_relay(&mut crate::tor::rng(), &directory);
    chosen.map(|relay| relay_id(&relay))
}

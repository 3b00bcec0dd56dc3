//! Who is at an address: the relays and bridges that the configuration and the
//! directory name.

use std::net::SocketAddr;

use arti_client::TorClientConfig;
use tor_dircommon::fallback::FallbackList;
use tor_guardmgr::GuardMgrConfig as _;
use tor_guardmgr::bridge::BridgeConfig;
use tor_linkspec::{HasAddrs, HasChanMethod as _, OwnedChanTarget};
use tor_netdir::NetDir;

/// Who can be asked what our clock is.
#[derive(Clone, Debug)]
pub(super) struct KnownRelays {
    /// Those that the configuration names: fallback directories and bridges.
    relays: Vec<OwnedChanTarget>,
    /// So many bridges are to be used; 0: none are.
    pub(super) bridges: usize,
    /// Those of them that are reached through pluggable transports.
    pub(super) behind_transports: Vec<OwnedChanTarget>,
}

impl KnownRelays {
    /// Those of a configuration.
    pub(super) fn of(config: &TorClientConfig) -> Self {
        let listed: &[BridgeConfig] = config.as_ref();
        let bridges = if config.bridges_enabled() { listed } else { &[] };
        let relays: Vec<_> = match bridges {
            [] => {
                let fallbacks: &FallbackList = config.as_ref();
                fallbacks.iter().map(OwnedChanTarget::from_chan_target).collect()
            }
            bridges => bridges.iter().map(OwnedChanTarget::from_chan_target).collect(),
        };
        let is_behind = |bridge: &&BridgeConfig| !bridge.chan_method().is_direct();
        let behind = bridges.iter().filter(is_behind);
        let behind_transports = behind.map(OwnedChanTarget::from_chan_target).collect();
        Self { relays, bridges: bridges.len(), behind_transports }
    }

    /// Whoever is at an address.
    pub(super) fn at(
        &self,
        address: &SocketAddr,
        directory: Option<&NetDir>,
    ) -> Option<OwnedChanTarget> {
        if let Some(relay) = self.relays.iter().find(|relay| is_at(*relay, address)) {
            return Some(relay.clone());
        }
        // With bridges, a relay of the directory is never connected to.
        let directory = directory.filter(|_| self.bridges == 0)?;
        let relay = directory.relays().find(|relay| is_at(relay, address))?;
        Some(OwnedChanTarget::from_chan_target(&relay))
    }
}

fn is_at(relay: &impl HasAddrs, address: &SocketAddr) -> bool {
    relay.addrs().any(|other| other == *address)
}

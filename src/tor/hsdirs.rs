//! Which HSDirs are responsible for a service, in every time period.

use tor_hscrypto::pk::HsBlindId;
use tor_hscrypto::time::TimePeriod;
use tor_netdir::NetDir;

use super::network::{Network, relay_id};
pub(crate) use super::values::{from_arti, identity_key, to_arti};
use onionbraid_balancer::fact::{NetworkView, PeriodView, ResponsibleHsdir};
use onionbraid_balancer::onion::OnionAddress;

/// What the directory says to a service: its periods and its HSDirs in each.
///
/// All times come from the consensus (rend-spec-v3, section 2.2.1).
///
/// `None` without a timely directory.
pub(crate) fn network_view(network: &Network, address: &OnionAddress) -> Option<NetworkView> {
    let directory = network.directory().ok()?;
    let current = directory.hs_time_period();
    let mut periods: Vec<PeriodView> = directory
        .hs_all_time_periods()
        .iter()
        .map(tor_netdir::HsDirParams::time_period)
        .map(|period| PeriodView {
            period: from_arti(period),
            current: period == current,
            hsdirs: responsible(&directory, address, period),
        })
        .collect();
    periods.sort_by_key(|view| view.period);
    Some(NetworkView { periods })
}

/// The HSDirs responsible for an address in one period, replica by replica.
///
/// Arti gives the HSDirs of a descriptor to upload replica by replica, in the
/// order of the ring; clients ask the first `hsdir_spread_fetch` of each
/// replica (rend-spec-v3, section 2.2.3).
pub(crate) fn responsible(
    directory: &NetDir,
    address: &OnionAddress,
    period: TimePeriod,
) -> Vec<ResponsibleHsdir> {
    let Some(blinded) = blinded_id(address, period) else { return Vec::new() };
    let Ok(relays) = directory.hs_dirs_upload(blinded, period) else { return Vec::new() };
    let params = directory.params();
    let store = usize::try_from(params.hsdir_spread_store.get()).unwrap_or(1).max(1);
    let fetch = usize::try_from(params.hsdir_spread_fetch.get()).unwrap_or(1);
    relays
        .enumerate()
        .map(|(index, relay)| ResponsibleHsdir {
            relay: relay_id(&relay),
            replica: u8::try_from(index / store + 1).unwrap_or(u8::MAX),
            asked_by_clients: index % store < fetch,
        })
        .collect()
}

/// The blinded identity of an address in a period, from public data alone.
///
/// `None` for an address that is no valid Ed25519 point.
fn blinded_id(address: &OnionAddress, period: TimePeriod) -> Option<HsBlindId> {
    let key = identity_key(address)?;
    key.compute_blinded_key(period).ok().map(|(blinded, _)| blinded.id())
}

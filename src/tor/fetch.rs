//! A remote backend's own descriptor: fetched from more than one HSDir; the
//! newest wins.

use std::collections::BTreeMap;
use std::time::SystemTime;

use futures::future::join_all;
use rand::seq::SliceRandom as _;

use super::held::Wanted;
use super::network::Network;
use crate::balancer::fact::{FetchFailure, FetchedDescriptor, ResponsibleHsdir};
use crate::onion::{OnionAddress, RelayId};

/// Fetches the descriptor of `address` in the current time period.
///
/// First it asks one HSDir of each replica at the same time, as two clients
/// would; if neither has a descriptor, all others that clients may ask. Of
/// several answers the highest revision counter wins: a single HSDir may hold
/// an old descriptor, or claim to have none.
pub(crate) async fn fetch(
    network: &Network,
    address: &OnionAddress,
    now: SystemTime,
) -> Result<FetchedDescriptor, FetchFailure> {
    let (wanted, hsdirs) = Wanted::of(network, address, now)?;
    let (first, others) = in_order_of_asking(hsdirs);
    let mut failures = Vec::new();
    for hsdirs in [first, others] {
        let answers = join_all(hsdirs.iter().map(|hsdir| wanted.held_by(network, *hsdir))).await;
        let (found, failed): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
        failures.extend(failed.into_iter().filter_map(Result::err));
        let descriptors = found.into_iter().flatten().map(|held| held.descriptor);
        if let Some(newest) = descriptors.max_by_key(|descriptor| descriptor.revision) {
            return Ok(newest);
        }
    }
    Err(most_telling(failures))
}

/// One replica's HSDir each to begin with, then the others; all in random
/// order, and only those that clients ask.
fn in_order_of_asking(hsdirs: Vec<ResponsibleHsdir>) -> (Vec<RelayId>, Vec<RelayId>) {
    let mut rng = super::rng();
    let mut replicas: BTreeMap<u8, Vec<RelayId>> = BTreeMap::new();
    for hsdir in hsdirs.into_iter().filter(|hsdir| hsdir.asked_by_clients) {
        replicas.entry(hsdir.replica).or_default().push(hsdir.relay);
    }
    let mut first = Vec::new();
    let mut others = Vec::new();
    for mut relays in replicas.into_values() {
        relays.shuffle(&mut rng);
        first.extend(relays.pop());
        others.extend(relays);
    }
    (first, others)
}

/// Of several failures the one to act on: a descriptor that cannot be used
/// says most, an HSDir that could not be asked says least of the backend.
fn most_telling(failures: Vec<FetchFailure>) -> FetchFailure {
    failures
        .into_iter()
        .max_by_key(|failure| match failure {
            FetchFailure::Unusable(_) => 2,
            FetchFailure::NotFound => 1,
            FetchFailure::Unreachable(_) => 0,
        })
        .unwrap_or_else(|| FetchFailure::Unreachable("no HSDir is responsible".into()))
}

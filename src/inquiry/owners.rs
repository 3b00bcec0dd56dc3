//! Whose introduction points are these? A backend elsewhere has those in its own
//! descriptors.

use std::collections::{BTreeMap, BTreeSet};

use futures::FutureExt as _;
use futures::future::join_all;
use serde::{Deserialize, Serialize};

use crate::clock::now;
use crate::tor::fetch;
use crate::tor::network::Network;
use onionbraid_balancer::fact::{FetchFailure, FetchedDescriptor};
use onionbraid_balancer::onion::{OnionAddress, SessionId};

/// A backend with an address of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteOwner {
    /// What the operator calls it.
    pub name: String,
    /// Where its own descriptor is published.
    pub address: OnionAddress,
}

/// The backend of each introduction point, by its name.
pub type Owners = BTreeMap<SessionId, String>;

/// What is fetched of one address.
pub(super) type Fetched = Result<FetchedDescriptor, FetchFailure>;

/// Adds the owners of these points that are among the backends. Nothing is
/// fetched for points whose owners are known.
pub(super) async fn complete(
    owners: &mut Owners,
    network: &Network,
    backends: &[RemoteOwner],
    points: BTreeSet<SessionId>,
) {
    let mut unclaimed: BTreeSet<_> =
        points.into_iter().filter(|point| !owners.contains_key(point)).collect();
    if unclaimed.is_empty() {
        return;
    }
    let wall = now().wall;
    let fetches = backends.iter().map(|it| fetch::fetch(network, &it.address, wall).boxed());
    let mut fetched: Vec<Fetched> = join_all(fetches).await;
    for descriptor in fetched.iter().flatten() {
        for point in &descriptor.points {
            unclaimed.remove(&point.session_id);
        }
    }
    claim(network, backends, &mut fetched, &mut unclaimed).await;
    for (backend, fetched) in backends.iter().zip(fetched) {
        for point in fetched.into_iter().flat_map(|descriptor| descriptor.points) {
            owners.entry(point.session_id).or_insert_with(|| backend.name.clone());
        }
    }
}

/// The points of the last descriptor that are in none of those before it.
pub(super) fn unclaimed(published: &Fetched, backends: &[Fetched]) -> BTreeSet<SessionId> {
    let points = |descriptor: &FetchedDescriptor| {
        descriptor.points.iter().map(|point| point.session_id).collect::<BTreeSet<_>>()
    };
    let Ok(published) = published else { return BTreeSet::new() };
    let claimed: BTreeSet<_> = backends.iter().flatten().flat_map(points).collect();
    &points(published) - &claimed
}

/// Counts unclaimed points among those of a backend if they are in its
/// descriptors of the periods beside. After a change of the period, the daemon
/// knows the old one's points until it has a new consensus, which can take hours.
pub(super) async fn claim(
    network: &Network,
    backends: &[RemoteOwner],
    fetched: &mut [Fetched],
    unclaimed: &mut BTreeSet<SessionId>,
) {
    if unclaimed.is_empty() {
        return;
    }
    let wall = now().wall;
    let alive = backends.iter().zip(fetched).filter_map(|(backend, fetched)| {
        let descriptor = fetched.as_mut().ok()?;
        let beside = fetch::beside(network, &backend.address, wall).boxed();
        Some(beside.map(move |beside| (descriptor, beside)))
    });
    for (descriptor, beside) in join_all(alive).await {
        count_among(descriptor, beside, unclaimed);
    }
}

fn count_among(
    descriptor: &mut FetchedDescriptor,
    beside: Vec<FetchedDescriptor>,
    unclaimed: &mut BTreeSet<SessionId>,
) {
    let points = beside.into_iter().flat_map(|descriptor| descriptor.points);
    descriptor.points.extend(points.filter(|point| unclaimed.remove(&point.session_id)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use onionbraid_balancer::onion::{Capabilities, IntroPoint, Period, RelayId};

    fn with_points(numbers: &[u8]) -> FetchedDescriptor {
        let points = numbers.iter().map(|n| IntroPoint {
            session_id: SessionId([*n; 32]),
            relay: RelayId([0; 20]),
            link_specifiers: Vec::new(),
            relay_ntor_key: [0; 32],
            service_ntor_key: [0; 32],
        });
        FetchedDescriptor {
            period: Period { number: 1, length_minutes: 1440, offset_seconds: 0 },
            revision: 1,
            points: points.collect(),
            flaw: None,
            capabilities: Capabilities::default(),
        }
    }

    #[test]
    fn published_points_of_the_period_before_belong_to_the_backend_that_had_them_then() {
        // A backend has moved on from 3, 4 and 5 to 1 and 2; 6 is local.
        let fetched = [Ok(with_points(&[1, 2])), Err(FetchFailure::NotFound)];
        let mut left = unclaimed(&Ok(with_points(&[2, 3, 4, 6])), &fetched);
        assert_eq!(left, [3, 4, 6].map(|n| SessionId([n; 32])).into());
        let [Ok(mut backend), ..] = fetched else { panic!("it was fetched") };
        count_among(&mut backend, vec![with_points(&[3, 4, 5])], &mut left);
        assert_eq!(backend.points, with_points(&[1, 2, 3, 4]).points);
        assert_eq!(left, [SessionId([6; 32])].into());
    }

    #[test]
    fn nothing_is_left_to_claim_where_nothing_is_published() {
        let backends = [Ok(with_points(&[1]))];
        assert!(unclaimed(&Err(FetchFailure::NotFound), &backends).is_empty());
    }
}

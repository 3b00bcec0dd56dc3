//! Keys of periods for Prometheus. A service that has its identity key has no samples
//! here.

use prometheus_client::registry::Unit;

use super::family::{Family, gauge, moment};
use crate::observe::Snapshot;

/// How long they last.
pub(super) fn families(snapshot: &Snapshot) -> Vec<Family<'_>> {
    let bundles = || {
        let services = snapshot.services.iter();
        services
            .filter_map(|service| Some((vec![("service", &*service.nickname)], service.bundle?)))
    };
    vec![
        Family::new(
            "onionbraid_bundle_periods_left",
            "Time periods that can be published with the keys of the identity_bundle",
            bundles().map(|(labels, bundle)| (labels, gauge(bundle.periods_left))),
        ),
        Family::new(
            "onionbraid_bundle_ends",
            "When the last of them ends, in seconds since 1970",
            bundles().filter_map(|(labels, bundle)| Some((labels, moment(bundle.ends?)))),
        )
        .in_unit(Unit::Seconds),
    ]
}

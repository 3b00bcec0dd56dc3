//! Guards of local instances for Prometheus. A service whose instances share those of the
//! process has no samples here.

use super::family::{Family, gauge};
use crate::observe::Snapshot;

/// How many sets there are, and how far they differ.
pub(super) fn families(snapshot: &Snapshot) -> Vec<Family<'_>> {
    let guards = || {
        let services = snapshot.services.iter();
        services.filter_map(|service| {
            Some((vec![("service", &*service.nickname)], service.guards.as_ref()?))
        })
    };
    vec![
        Family::new(
            "onionbraid_guard_sets",
            "Local instances with guards of their own",
            guards().map(|(labels, guards)| (labels, gauge(guards.sets as u64))),
        ),
        Family::new(
            "onionbraid_first_guards",
            "Different relays at which their circuits begin now",
            guards().map(|(labels, guards)| (labels, gauge(guards.first_guards as u64))),
        ),
    ]
}

//! Backends for Prometheus: how each is, and what local instances have done.

use std::collections::BTreeMap;

use prometheus_client::registry::Unit;

use super::family::{Family, Labels, SampleValue, flag, gauge, moment};
use crate::observe::snapshot::{
    Activity, Backend, BackendKind, BackendState, LinkState, Service, Snapshot, Word,
};

/// Samples of each backend that is of one of these kinds.
fn each_backend<'a, const N: usize>(
    snapshot: &'a Snapshot,
    kinds: &[BackendKind],
    samples: impl Fn(&'a Backend) -> [(Option<(&'static str, &'static str)>, SampleValue<'a>); N],
) -> Vec<(Labels<'a>, SampleValue<'a>)> {
    let mut all = Vec::new();
    for service in &snapshot.services {
        for backend in service.backends.iter().filter(|backend| kinds.contains(&backend.kind)) {
            for (label, value) in samples(backend) {
                let labels = [("service", &*service.nickname), ("backend", &*backend.name)];
                all.push((labels.into_iter().chain(label).collect(), value));
            }
        }
    }
    all
}

/// A sample of each backend of which something is known.
fn each_if_known<'a>(
    snapshot: &'a Snapshot,
    value: impl Fn(&'a Backend) -> Option<SampleValue<'a>>,
) -> Vec<(Labels<'a>, SampleValue<'a>)> {
    let of = |service: &'a Service| service.backends.iter().map(move |backend| (service, backend));
    let known = snapshot.services.iter().flat_map(of).filter_map(|(service, backend)| {
        let labels = vec![("service", &*service.nickname), ("backend", &*backend.name)];
        Some((labels, value(backend)?))
    });
    known.collect()
}

/// All of them.
pub(super) fn families(snapshot: &Snapshot) -> Vec<Family<'_>> {
    const ALL: &[BackendKind] = &[BackendKind::Local, BackendKind::Remote];
    // What happens at a backend elsewhere, nobody sees here.
    const LOCAL: &[BackendKind] = &[BackendKind::Local];
    let states = each_backend(snapshot, ALL, |backend| {
        [
            ("up", BackendState::Up),
            ("stale", BackendState::Stale),
            ("down", BackendState::Down),
            ("unknown", BackendState::Unknown),
        ]
        .map(|(name, state)| (Some(("state", name)), flag(backend.state == state)))
    });
    let points = each_backend(snapshot, ALL, |backend| {
        let published = backend.published_intro_points as u64;
        let other = (backend.intro_points as u64).saturating_sub(published);
        [("true", published), ("false", other)]
            .map(|(name, count)| (Some(("published", name)), gauge(count)))
    });
    let words = each_backend(snapshot, ALL, |backend| {
        [("ready", Word::Ready), ("drain", Word::Drain), ("maintenance", Word::Maintenance)]
            .map(|(name, word)| (Some(("word", name)), flag(backend.operator == word)))
    });
    let closed = each_backend(snapshot, LOCAL, |backend| {
        let it = &backend.activity;
        [
            ("idle", it.circuits_closed_idle),
            ("silent", it.circuits_closed_silent),
            ("slow", it.circuits_closed_slow),
        ]
        .map(|(name, count)| (Some(("reason", name)), SampleValue::Counter(count)))
    });
    let by_reason = |counts: fn(&Activity) -> &BTreeMap<String, u64>| {
        let mut all = Vec::new();
        for service in &snapshot.services {
            for backend in &service.backends {
                for (reason, count) in counts(&backend.activity) {
                    let labels = vec![
                        ("service", &*service.nickname),
                        ("backend", &*backend.name),
                        ("reason", reason.as_str()),
                    ];
                    all.push((labels, SampleValue::Counter(*count)));
                }
            }
        }
        all
    };
    let counters = |value: fn(&Activity) -> u64| {
        each_backend(snapshot, LOCAL, move |backend| {
            [(None, SampleValue::Counter(value(&backend.activity)))]
        })
    };
    vec![
        Family::new("onionbraid_backend_state", "1: the backend is in this state", states),
        Family::new(
            "onionbraid_backend_introduction_points",
            "Introduction points that clients find (published) and others",
            points,
        ),
        Family::new(
            "onionbraid_backend_introduction_points_failing",
            "Introduction points that fail when asked as clients ask",
            each_backend(snapshot, ALL, |backend| {
                [(None, gauge(backend.failing_intro_points as u64))]
            }),
        ),
        Family::new(
            "onionbraid_backend_weight",
            "The backend's share of clients, relative to others",
            each_backend(snapshot, ALL, |backend| [(None, gauge(backend.weight.into()))]),
        ),
        Family::new("onionbraid_backend_operator", "1: the operator's word on the backend", words),
        Family::new(
            "onionbraid_backend_last_seen",
            "When its introduction points were last confirmed, in seconds since 1970",
            each_if_known(snapshot, |backend| backend.last_seen.map(moment)),
        )
        .in_unit(Unit::Seconds),
        Family::new(
            "onionbraid_backend_link_up",
            "1: the control link to the backend carries states",
            each_if_known(snapshot, |backend| backend.link.map(|it| flag(it == LinkState::Up))),
        ),
        Family::new(
            "onionbraid_introductions",
            "Introductions that were looked at",
            counters(|activity| activity.introductions),
        ),
        Family::new(
            "onionbraid_introductions_dropped",
            "Introductions that were dropped because of a limit",
            by_reason(|activity| &activity.introductions_dropped_by),
        ),
        Family::new(
            "onionbraid_introductions_replayed",
            "Introductions that had come before and were dropped",
            counters(|activity| activity.replays),
        ),
        Family::new(
            "onionbraid_rendezvous_succeeded",
            "Clients that were met",
            counters(|activity| activity.rendezvous_succeeded),
        ),
        Family::new(
            "onionbraid_rendezvous_direct",
            "Clients whose rendezvous point was reached by one hop",
            counters(|activity| activity.rendezvous_direct),
        ),
        Family::new(
            "onionbraid_rendezvous_failed",
            "Clients that were not met",
            by_reason(|activity| &activity.rendezvous_failed_by),
        ),
        Family::new(
            "onionbraid_rendezvous_abandoned",
            "Clients that went before they opened a stream",
            counters(|activity| activity.rendezvous_abandoned),
        ),
        Family::new(
            "onionbraid_rendezvous_congestion_controlled",
            "Clients that were met with congestion control",
            counters(|activity| activity.congestion_controlled),
        ),
        Family::new(
            "onionbraid_circuits_closed",
            "Circuits that were closed to make room for new ones",
            closed,
        ),
        Family::new(
            "onionbraid_streams",
            "Streams that clients opened",
            counters(|activity| activity.streams),
        ),
    ]
}

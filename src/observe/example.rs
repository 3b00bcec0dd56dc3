//! A Snapshot for tests of its renderings.

use super::snapshot::{
    Activity, Backend, BackendKind, BackendState, Descriptor, Hsdir, HsdirState, Service,
    ServiceState, Snapshot, Timestamp, TorStatus, Word,
};

pub(crate) const EPOCH: Timestamp = Timestamp(std::time::UNIX_EPOCH);

pub(crate) fn backend(name: &str, kind: BackendKind, state: BackendState) -> Backend {
    Backend {
        name: name.into(),
        kind,
        address: None,
        state,
        reason: (state == BackendState::Down).then(|| "no HSDir has a descriptor of it".into()),
        intro_points: 3,
        failing_intro_points: 0,
        relays: Vec::new(),
        published_intro_points: 3,
        weight: 1,
        configured_weight: None,
        operator: Word::Ready,
        operator_since: None,
        operator_by: None,
        weight_since: None,
        weight_by: None,
        link: None,
        last_seen: None,
        revision: None,
        activity: Activity {
            introductions: 17,
            introductions_dropped: 2,
            streams: 12,
            ..Activity::default()
        },
    }
}

pub(crate) fn hsdir(relay: &str, last_error: Option<&str>) -> Hsdir {
    Hsdir {
        intro_points: 6,
        relay: relay.into(),
        state: if last_error.is_some() { HsdirState::Failed } else { HsdirState::Uploaded },
        attempts: 4,
        last_error: last_error.map(str::to_owned),
    }
}

pub(crate) fn descriptor(hsdirs: Vec<Hsdir>) -> Descriptor {
    Descriptor {
        distinct: false,
        canary: None,
        period: 20780,
        current: true,
        revision: Some(1),
        intro_points: 3,
        published_at: Some(EPOCH),
        hsdirs,
    }
}

pub(crate) fn service(
    nickname: &str,
    backends: Vec<Backend>,
    descriptors: Vec<Descriptor>,
) -> Service {
    Service {
        nickname: nickname.into(),
        address: "abc.onion".into(),
        state: ServiceState::Published,
        backends,
        descriptors,
        ..Service::default()
    }
}

pub(crate) fn snapshot(services: Vec<Service>) -> Snapshot {
    Snapshot {
        version: "1.2.3".into(),
        ready: true,
        tor: TorStatus { bootstrap: 1.0, ..TorStatus::default() },
        services,
        ..Snapshot::default()
    }
}

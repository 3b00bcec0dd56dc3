//! The Snapshot, put together from what Tor and the services tell.

use std::sync::atomic::Ordering::Relaxed;
use std::time::SystemTime;

use tokio::sync::watch;

use crate::balancer::fact::BackendId;
use crate::observe::Snapshot;
use crate::observe::snapshot::{self, ServiceState, Timestamp};
use crate::tor::bootstrap::Tor;

use super::service::Posted;
use crate::clock::now;

/// Where everybody tells their status.
pub(super) struct Board {
    /// When the daemon started.
    started: SystemTime,
    /// Tells how far it is.
    tor: Tor,
    /// In the order of the nicknames.
    services: Vec<watch::Receiver<Posted>>,
}

impl Board {
    /// A board for this Tor client and these services.
    pub(super) fn new(tor: Tor, services: Vec<watch::Receiver<Posted>>) -> Self {
        Self { started: now().wall, tor, services }
    }

    /// Everything as it is at this moment.
    pub(super) fn snapshot(&self) -> Snapshot {
        let tor = self.tor.view();
        let services: Vec<_> =
            self.services.iter().map(|posted| posted.borrow().counted()).collect();
        let published = |service: &snapshot::Service| service.state == ServiceState::Published;
        Snapshot {
            version: env!("CARGO_PKG_VERSION").into(),
            started: Timestamp(self.started),
            ready: services.iter().all(published),
            tor: snapshot::Tor {
                bootstrap: tor.fraction,
                message: tor.message,
                consensus_valid_until: tor.valid_until.map(Timestamp),
            },
            services,
        }
    }
}

impl Posted {
    /// The status with what the local instances have counted by now.
    fn counted(&self) -> snapshot::Service {
        let mut service = self.service.clone();
        for (backend, id) in service.backends.iter_mut().zip(0..) {
            if let Some(counters) = self.counters.get(&BackendId(id)) {
                backend.introductions = counters.introductions.load(Relaxed);
                backend.introductions_dropped = counters.introductions_dropped.load(Relaxed);
                backend.rendezvous_failed = counters.rendezvous_failed.load(Relaxed);
                backend.congestion_controlled = counters.congestion_controlled.load(Relaxed);
                backend.streams = counters.streams.load(Relaxed);
            }
        }
        service
    }
}

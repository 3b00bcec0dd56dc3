//! The Snapshot, put together when somebody asks for it, from what Tor and the
//! services know at that moment. Nothing is copied while nobody looks.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use crate::clock::now;
use crate::inquiry::published::Here;
use crate::instance::{Counters, Dropped};
use crate::observe::Snapshot;
use crate::observe::load::Load;
use crate::observe::snapshot::{self, Activity, Reload, ServiceState, Timestamp};
use crate::tor::bootstrap::Tor;
use onionbraid_balancer::Balancer;
use onionbraid_balancer::onion::OnionAddress;

use super::proxies::Proxies;

/// Where everybody shows their status.
pub(super) struct Board {
    /// When the daemon started.
    started: SystemTime,
    /// Tells how far it is.
    tor: Tor,
    /// In the order of the nicknames.
    services: Mutex<Vec<Arc<Posted>>>,
    /// What became of the last reload.
    reload: Mutex<Option<Reload>>,
}

/// What can be seen of a service.
pub(super) struct Posted {
    /// Its name in the configuration.
    pub(super) nickname: String,
    /// Its address.
    address: OnionAddress,
    /// Decides, and knows its own status. Until the service starts it is one that
    /// knows what the operator wants, and is told nothing.
    balancer: Mutex<Balancer>,
    /// What its local instances count, by their names.
    counters: Mutex<BTreeMap<String, Arc<Counters>>>,
    /// What serves its streams, once it has started.
    proxies: Mutex<Option<Arc<Proxies>>>,
}

impl Board {
    /// A board for this Tor client, with no service yet.
    pub(super) fn new(tor: Tor) -> Self {
        Self { started: now().wall, tor, services: Mutex::default(), reload: Mutex::default() }
    }

    /// The services are these from now on, in the order of the nicknames.
    pub(super) fn show(&self, services: Vec<Arc<Posted>>) {
        *lock(&self.services) = services;
    }

    /// The configuration was just read again: what is not in force now, and why.
    pub(super) fn reloaded(&self, error: Option<String>) {
        let at = Timestamp(now().wall);
        *lock(&self.reload) = Some(Reload { at, ok: error.is_none(), error });
    }

    /// What is known of an address that is published here.
    pub(super) fn here(&self, address: &OnionAddress) -> Here {
        let posted = lock(&self.services).clone();
        let Some(posted) = posted.iter().find(|posted| posted.address == *address) else {
            return Here::default();
        };
        let owners = posted.with(|balancer| {
            balancer.owners().map(|(session, name)| (session, name.to_owned())).collect()
        });
        Here { service: Some(posted.status()), owners }
    }

    /// Everything as it is at this moment.
    pub(super) fn snapshot(&self) -> Snapshot {
        let tor = self.tor.view();
        let posted = lock(&self.services).clone();
        let services: Vec<_> = posted.iter().map(|posted| posted.status()).collect();
        let published = |service: &snapshot::Service| service.state == ServiceState::Published;
        Snapshot {
            version: env!("CARGO_PKG_VERSION").into(),
            started: Timestamp(self.started),
            ready: services.iter().all(published),
            reload: lock(&self.reload).clone(),
            tor: snapshot::Tor {
                bootstrap: tor.fraction,
                message: tor.message,
                consensus_valid_until: tor.valid_until.map(Timestamp),
            },
            handles: snapshot::Handles::default(),
            cpu_seconds: None,
            memory: snapshot::Memory::default(),
            requests: snapshot::Requests::default(),
            tasks: tokio::runtime::Handle::current().metrics().num_alive_tasks(),
            services,
        }
    }
}

impl Posted {
    /// A service that has not started, with a balancer of what it is to be.
    pub(super) fn new(nickname: String, address: OnionAddress, balancer: Balancer) -> Self {
        let (balancer, counters) = (Mutex::new(balancer), Mutex::default());
        Self { nickname, address, balancer, counters, proxies: Mutex::default() }
    }

    /// These proxies serve its streams.
    pub(super) fn serve(&self, proxies: Arc<Proxies>) {
        *lock(&self.proxies) = Some(proxies);
    }

    /// This balancer takes the place of the one before: the service starts, or is
    /// to be something else once it does.
    pub(super) fn decide_with(&self, balancer: Balancer) {
        *lock(&self.balancer) = balancer;
    }

    /// Does something with the balancer. Whoever asks for the status waits
    /// meanwhile.
    pub(super) fn with<T>(&self, what: impl FnOnce(&mut Balancer) -> T) -> T {
        what(&mut lock(&self.balancer))
    }

    /// A local instance of this name counts here.
    pub(super) fn count(&self, name: &str, counters: Arc<Counters>) {
        lock(&self.counters).insert(name.to_owned(), counters);
    }

    /// It does not any more. Another one may have its name by now.
    pub(super) fn count_no_longer(&self, name: &str, counters: &Arc<Counters>) {
        let mut all = lock(&self.counters);
        if all.get(name).is_some_and(|other| Arc::ptr_eq(other, counters)) {
            all.remove(name);
        }
    }

    /// The status, with what the local instances have counted by now.
    pub(super) fn status(&self) -> snapshot::Service {
        let status = self.with(|balancer| balancer.status());
        let mut service = snapshot::Service {
            nickname: self.nickname.clone(),
            address: self.address.to_string(),
            state: status.state,
            problems: status.problems,
            load: Load::default(),
            backends: status.backends,
            descriptors: status.descriptors,
            http: lock(&self.proxies).as_ref().and_then(|proxies| proxies.status()),
            uploads_accepted: 0,
            uploads_failed: 0,
            probe_seconds: snapshot::Durations::default(),
        };
        let counters = lock(&self.counters);
        for backend in &mut service.backends {
            if let Some(counters) = counters.get(&backend.name) {
                backend.activity = activity(counters);
            }
        }
        service
    }
}

/// What an instance has counted, as the status shows it.
fn activity(counters: &Counters) -> Activity {
    let read = |count: &AtomicU64| count.load(Relaxed);
    let Dropped { queue, rate, rendezvous, circuits } = &counters.dropped;
    let dropped =
        [("queue", queue), ("rate", rate), ("rendezvous", rendezvous), ("circuits", circuits)];
    let dropped = dropped.map(|(limit, count)| (limit.to_owned(), read(count)));
    Activity {
        introductions: read(&counters.introductions),
        introductions_dropped: dropped.iter().map(|(_, count)| count).sum(),
        introductions_dropped_by: dropped.into(),
        replays: read(&counters.replays),
        rendezvous_failed: read(&counters.rendezvous_failed),
        rendezvous_abandoned: read(&counters.rendezvous_abandoned),
        rendezvous_under_way: read(&counters.rendezvous_under_way),
        circuits_closed_idle: read(&counters.closed_idle),
        circuits_closed_silent: read(&counters.closed_silent),
        circuits_closed_slow: read(&counters.closed_slow),
        circuits_open: read(&counters.open_circuits),
        congestion_controlled: read(&counters.congestion_controlled),
        streams: read(&counters.streams),
        streams_open: read(&counters.open_streams),
    }
}

/// Nothing is left half changed under these locks, whoever panicked.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

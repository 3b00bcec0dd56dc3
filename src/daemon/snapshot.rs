//! Takes the Snapshot when somebody asks for it: what Tor knows at that moment,
//! and what each service published of itself last.
//!
//! The loop of a service publishes a [`ServiceView`] whenever something has
//! happened, so nobody who asks waits for a loop, whatever that waits for, and
//! no number of dashboards costs a loop anything. What changes without the loop
//! (counters of instances, the proxies) is in the view as it is, and read when
//! somebody asks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::SystemTime;

use tokio::sync::watch;

use crate::clock::now;
use crate::inquiry::owners::Owners;
use crate::inquiry::published::Here;
use crate::instance::{Counters, Dropped};
use crate::observe::Snapshot;
use crate::observe::snapshot::{self, Activity, Load, Reload, ServiceState, Timestamp};
use crate::tor::bootstrap::Tor;
use onionbraid_balancer::onion::OnionAddress;
use onionbraid_balancer::{Balancer, Status};

use super::proxies::Proxies;

/// What the daemon shows of itself.
pub(super) struct Board {
    /// When the daemon started.
    started: SystemTime,
    /// Tells how far it is.
    tor: Tor,
    /// In the order of the nicknames.
    services: watch::Sender<Vec<Views>>,
    /// What became of the last reload.
    reload: watch::Sender<Option<Reload>>,
}

/// What one service shows, now and later.
pub(super) type Views = watch::Receiver<Arc<ServiceView>>;

/// What a service shows of itself.
pub(super) struct ServiceView {
    /// Its name in the configuration.
    nickname: String,
    address: OnionAddress,
    /// What its balancer says.
    status: Status,
    /// The backend of each introduction point that its balancer knows.
    owners: Owners,
    /// What its local instances count, by their names.
    counters: BTreeMap<String, Arc<Counters>>,
    /// What serves its streams, once it has started.
    proxies: Option<Arc<Proxies>>,
}

impl Board {
    /// For this Tor client, with no service yet.
    pub(super) fn new(tor: Tor) -> Self {
        let (services, reload) = Default::default();
        Self { started: now().wall, tor, services, reload }
    }

    /// The services are these from now on, in the order of the nicknames.
    pub(super) fn show(&self, services: Vec<Views>) {
        self.services.send_replace(services);
    }

    /// The configuration was just read again: what is not in force now, and why.
    pub(super) fn reloaded(&self, error: Option<String>) {
        let at = Timestamp(now().wall);
        self.reload.send_replace(Some(Reload { at, ok: error.is_none(), error }));
    }

    /// What is known of an address that is published here.
    pub(super) fn here(&self, address: &OnionAddress) -> Here {
        let views = self.views();
        let Some(view) = views.iter().find(|view| view.address == *address) else {
            return Here::default();
        };
        Here { service: Some(view.snapshot()), owners: view.owners.clone() }
    }

    /// Everything as it is at this moment.
    pub(super) fn snapshot(&self) -> Snapshot {
        let tor = self.tor.view();
        let services: Vec<_> = self.views().iter().map(|view| view.snapshot()).collect();
        let published = |service: &snapshot::Service| service.state == ServiceState::Published;
        Snapshot {
            version: env!("CARGO_PKG_VERSION").into(),
            started: Timestamp(self.started),
            ready: services.iter().all(published),
            reload: self.reload.borrow().clone(),
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

    fn views(&self) -> Vec<Arc<ServiceView>> {
        self.services.borrow().iter().map(|views| Arc::clone(&views.borrow())).collect()
    }
}

impl ServiceView {
    /// What a service shows that decides with this balancer and has nothing else
    /// yet.
    pub(super) fn new(nickname: &str, address: OnionAddress, balancer: &Balancer) -> Self {
        let owners = balancer.owners().map(|(session, name)| (session, name.to_owned()));
        Self {
            nickname: nickname.to_owned(),
            address,
            status: balancer.status(),
            owners: owners.collect(),
            counters: BTreeMap::new(),
            proxies: None,
        }
    }

    /// The same of one that has started.
    pub(super) fn with_counts(
        self,
        counters: BTreeMap<String, Arc<Counters>>,
        proxies: Arc<Proxies>,
    ) -> Self {
        Self { counters, proxies: Some(proxies), ..self }
    }

    /// With what is counted by now.
    pub(super) fn snapshot(&self) -> snapshot::Service {
        let mut backends = self.status.backends.clone();
        for backend in &mut backends {
            if let Some(counters) = self.counters.get(&backend.name) {
                backend.activity = activity(counters);
            }
        }
        snapshot::Service {
            nickname: self.nickname.clone(),
            address: self.address.to_string(),
            state: self.status.state,
            problems: self.status.problems.clone(),
            load: Load::default(),
            backends,
            descriptors: self.status.descriptors.clone(),
            http: self.proxies.as_ref().and_then(|proxies| proxies.status()),
            uploads_accepted: 0,
            uploads_failed: 0,
            probe_seconds: snapshot::Durations::default(),
        }
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

//! Takes the Snapshot when somebody asks for it: what Tor knows at that moment,
//! and what each service published of itself last.
//!
//! The loop of a service publishes a [`ServiceView`] whenever something has
//! happened, so nobody who asks waits for a loop, whatever that waits for, and
//! no number of dashboards costs a loop anything. What changes without the loop
//! (counters of instances, the proxies) is in the view as it is, and read when
//! somebody asks.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::SystemTime;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::clock::now;
use crate::inquiry::owners::Owners;
use crate::inquiry::published::Here;
use crate::instance::{Counters, Defence, DefenceStatus, Dropped, Failed, LIMITS};
use crate::observe::Snapshot;
use crate::observe::certificates;
use crate::observe::load::{self, Past, Totals};
use crate::observe::snapshot::{
    self, Activity, Handles, Load, Pow, Reload, Requests, ServiceState, Timestamp,
};
use crate::spare_handle;
use crate::tor::bootstrap::{BootstrapView, Tor};
use onionbraid_balancer::onion::{Anonymity, OnionAddress};
use onionbraid_balancer::operator::Word;
use onionbraid_balancer::pow::Effort;
use onionbraid_balancer::{Balancer, Publishers, Status};
use onionbraid_proxy::http::requests_under_way;

use super::file_handles::FileHandles;
use super::guards::{self, GuardsInUse};
use super::proxies::Proxies;
use super::usage::Usage;
use super::work::Tally;

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
    /// What became of the files that list more backends, by the nicknames of their
    /// services.
    backends_files: Mutex<BTreeMap<String, Reload>>,
    /// What is wrong with the files of services' clients, by the nicknames of those.
    clients_files: Problems,
    /// What is wrong with the bundles of services, likewise.
    bundles: Problems,
    /// What clients may have of the process.
    file_handles: FileHandles,
    /// What services have counted before, by their nicknames.
    past: Mutex<BTreeMap<String, Past>>,
}

/// What is wrong with files that are watched, by the nicknames of their services.
#[derive(Default)]
struct Problems(Mutex<BTreeMap<String, String>>);

impl Problems {
    /// Files of these services are watched, and of no others.
    fn of<'a>(&self, nicknames: impl Iterator<Item = &'a str>) {
        let nicknames: BTreeSet<&str> = nicknames.collect();
        self.0.lock().retain(|nickname, _| nicknames.contains(nickname.as_str()));
    }

    /// Those of a service were just read again: what is wrong with them.
    fn found(&self, nickname: &str, problem: Option<String>) {
        let mut problems = self.0.lock();
        match problem {
            Some(problem) => problems.insert(nickname.to_owned(), problem),
            None => problems.remove(nickname),
        };
    }
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
    /// What the descriptor asks clients for.
    asked: Effort,
    /// The backend of each introduction point that its balancer knows.
    owners: Owners,
    /// What works for it, once it has started.
    at_work: Option<AtWork>,
}

/// What works for a service, and counts what it does.
pub(super) struct AtWork {
    /// What its local instances count, by their names.
    pub(super) counters: BTreeMap<String, Arc<Counters>>,
    /// At whose guards their circuits begin, by their names.
    pub(super) guards: BTreeMap<String, GuardsInUse>,
    /// What serves its streams.
    pub(super) proxies: Arc<Proxies>,
    /// What orders its introductions, while clients are asked for work.
    pub(super) defence: Arc<Defence>,
    /// What has come of uploads and probes.
    pub(super) tally: Arc<Tally>,
    /// Streams that one circuit may have open.
    pub(super) streams_per_circuit: usize,
}

impl Board {
    /// For this Tor client, with no service yet.
    pub(super) fn new(tor: Tor, file_handles: FileHandles) -> Self {
        let (services, reload, backends_files, past) = Default::default();
        let (clients_files, bundles) = Default::default();
        Self {
            started: now().wall,
            tor,
            services,
            reload,
            backends_files,
            clients_files,
            bundles,
            file_handles,
            past,
        }
    }

    /// Looks at what services count, again and again: rates come from that.
    pub(super) async fn remember(&self) -> Infallible {
        let mut next = tokio::time::interval(load::EVERY);
        loop {
            next.tick().await;
            let now = now().monotonic;
            let views = self.views();
            let mut past = self.past.lock();
            past.retain(|nickname, _| views.iter().any(|view| view.nickname == *nickname));
            for view in views {
                let totals = view.totals();
                past.entry(view.nickname.clone()).or_default().remember(totals, now);
            }
        }
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

    /// The files that list more backends of these services were read with the
    /// configuration, and are in force; those of others are none any more.
    pub(super) fn backends_files(&self, nicknames: impl Iterator<Item = String>) {
        let read = Reload { at: Timestamp(now().wall), ok: true, error: None };
        let mut files = self.backends_files.lock();
        *files = nicknames.map(|nickname| (nickname, read.clone())).collect();
    }

    /// The file that lists more backends of a service was just read again: what is
    /// wrong with it.
    pub(super) fn backends_file(&self, nickname: &str, error: Option<String>) {
        let read = Reload { at: Timestamp(now().wall), ok: error.is_none(), error };
        self.backends_files.lock().insert(nickname.to_owned(), read);
    }

    /// Files of the clients of these services are watched, and of no others.
    pub(super) fn clients_files<'a>(&self, nicknames: impl Iterator<Item = &'a str>) {
        self.clients_files.of(nicknames);
    }

    /// The files of a service's clients were just read again: what is wrong with them.
    pub(super) fn clients_file(&self, nickname: &str, problem: Option<String>) {
        self.clients_files.found(nickname, problem);
    }

    /// The bundles of these services are watched, and of no others. What was in them
    /// when the configuration was read is in force.
    pub(super) fn bundles<'a>(&self, nicknames: impl Iterator<Item = &'a str>) {
        self.bundles.of(nicknames);
    }

    /// The bundle of a service was just read again: what is wrong with it.
    pub(super) fn bundle(&self, nickname: &str, problem: Option<String>) {
        self.bundles.found(nickname, problem);
    }

    /// What is known of an address that is published here.
    pub(super) fn here(&self, address: &OnionAddress) -> Here {
        let views = self.views();
        let Some(view) = views.iter().find(|view| view.address == *address) else {
            return Here::default();
        };
        Here { service: Some(view.snapshot()), owners: view.owners.clone() }
    }

    /// The services' names and addresses.
    pub(super) fn addresses(&self) -> Vec<(String, String)> {
        let services = self.services.borrow();
        let view = |views: &Views| {
            let view = views.borrow();
            (view.nickname.clone(), view.address.to_string())
        };
        services.iter().map(view).collect()
    }

    /// Everything as it is at this moment.
    pub(super) fn snapshot(&self) -> Snapshot {
        let tor = self.tor.view();
        let mut services: Vec<_> = self.views().iter().map(|view| view.snapshot()).collect();
        let files = self.backends_files.lock();
        for service in &mut services {
            let read = files.get(&service.nickname).cloned();
            let wrong = read.as_ref().and_then(|read| read.error.as_ref());
            service.problems.extend(wrong.map(|wrong| {
                format!("backends_file is wrong, its backends stay as they were: {wrong}")
            }));
            service.backends_file = read;
        }
        drop(files);
        let clients = self.clients_files.0.lock();
        for service in &mut services {
            let problem = clients.get(&service.nickname);
            service.problems.extend(problem.map(|it| format!("restricted_discovery: {it}")));
        }
        let bundles = self.bundles.0.lock();
        for service in &mut services {
            service.problems.extend(
                bundles.get(&service.nickname).map(|it| {
                    format!("identity_bundle is wrong, its keys stay as they were: {it}")
                }),
            );
        }
        drop(bundles);
        drop(clients);
        let direct = self.tor.direct_connections();
        let anonymity = direct.map_or(Anonymity::Anonymous, |_| Anonymity::NotAnonymous);
        let (past, none, moment) = (self.past.lock(), Past::default(), now().monotonic);
        for service in &mut services {
            service.anonymity = anonymity;
            past.get(&service.nickname).unwrap_or(&none).complete(service, moment);
        }
        drop(past);
        let usage = Usage::now();
        let (direct_open, direct_limit) = direct.unwrap_or_default();
        let (under_way, limit) = requests_under_way();
        let published = |service: &snapshot::Service| service.state == ServiceState::Published;
        Snapshot {
            version: env!("CARGO_PKG_VERSION").into(),
            started: Timestamp(self.started),
            ready: services.iter().all(published),
            reload: self.reload.borrow().clone(),
            tor: of_tor(tor),
            handles: Handles {
                direct_open: direct_open as u64,
                direct_limit: direct_limit as u64,
                clients_open: self.file_handles.open(),
                clients_limit: self.file_handles.limit(),
                ..usage.handles
            },
            cpu_seconds: usage.cpu_seconds,
            memory: usage.memory,
            requests: Requests { under_way: under_way as u64, limit: limit as u64 },
            tasks: tokio::runtime::Handle::current().metrics().num_alive_tasks(),
            services,
        }
    }

    fn views(&self) -> Vec<Arc<ServiceView>> {
        self.services.borrow().iter().map(|views| Arc::clone(&views.borrow())).collect()
    }
}

/// What keeps connections and files from being opened, in the operator's words.
fn no_handle_left() -> Option<String> {
    let words = "no file handle is left: raise the limit of open files; no restart is needed";
    spare_handle::none_left().then(|| words.to_owned())
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
            asked: balancer.published_effort(),
            owners: owners.collect(),
            at_work: None,
        }
    }

    /// The same of a backend of which operators of its publishers say this.
    pub(super) fn told_by_publishers(mut self, word: Word) -> Self {
        let problem = match word {
            Word::Ready => return self,
            Word::Drain => "a publisher drains this backend: it sends no new clients",
            Word::Maintenance => "a publisher has this backend out of use",
        };
        self.status.problems.push(problem.to_owned());
        self
    }

    /// The same of one that has started.
    pub(super) fn at_work(self, at_work: AtWork) -> Self {
        Self { at_work: Some(at_work), ..self }
    }

    /// With something more that is wrong.
    pub(super) fn with_problem(mut self, problem: &str) -> Self {
        self.status.problems.push(problem.to_owned());
        self
    }

    /// With what is counted by now.
    pub(super) fn snapshot(&self) -> snapshot::Service {
        let mut service = snapshot::Service {
            nickname: self.nickname.clone(),
            address: self.address.to_string(),
            state: self.status.state,
            problems: self.status.problems.clone(),
            clients: self.status.clients,
            bundle: self.status.bundle,
            several_publishers: self.status.publishers == Publishers::Several,
            backends: self.status.backends.clone(),
            descriptors: self.status.descriptors.clone(),
            ..snapshot::Service::default()
        };
        let Some(at_work) = &self.at_work else { return service };
        let AtWork { counters, proxies, defence, tally, streams_per_circuit, .. } = at_work;
        for backend in &mut service.backends {
            if let Some(counters) = counters.get(&backend.name) {
                backend.activity = activity(counters);
            }
        }
        service.guards = guards::sets(&at_work.guards);
        service.problems.extend(guards::problems(&at_work.guards));
        service.http = proxies.status();
        service.certificates = proxies.certificates();
        service.problems.extend(certificates::problems(&service.certificates, now().wall));
        service.uploads_accepted = tally.uploads_accepted.load(Relaxed);
        service.uploads_failed = tally.uploads_failed.load(Relaxed);
        service.probe_seconds = tally.probes.durations();
        service.load = load_of(counters.values(), *streams_per_circuit);
        if let Some(status) = defence.status() {
            // All instances together.
            service.load.introductions_limit_per_s = status.rate.into();
            service.load.rendezvous_limit = LIMITS.rendezvous;
            let local =
                service.backends.iter().filter(|it| it.kind == snapshot::BackendKind::Local);
            let points: u64 = local.map(|it| it.intro_points as u64).sum();
            service.load.introductions_waiting_limit += points * LIMITS.waiting_at_point;
            service.load.pow = Some(pow(self.asked.max(status.asked_elsewhere), status));
        }
        service
    }

    /// What its rates come from.
    fn totals(&self) -> Totals {
        let Some(AtWork { counters, proxies, .. }) = &self.at_work else {
            return Totals::default();
        };
        let activities: Vec<_> = counters.values().map(|counters| activity(counters)).collect();
        Totals::of(&activities, proxies.status().as_ref())
    }
}

/// What clients have of the instances now, beside what they may have.
fn load_of<'a>(
    instances: impl ExactSizeIterator<Item = &'a Arc<Counters>>,
    streams_per_circuit: usize,
) -> Load {
    let number = instances.len() as u64;
    let mut load = Load {
        introductions_limit_per_s: number * LIMITS.introductions_per_s,
        introductions_waiting_limit: number * LIMITS.waiting,
        rendezvous_limit: number * LIMITS.rendezvous,
        circuits_limit: number * LIMITS.circuits,
        streams_limit_per_circuit: streams_per_circuit as u64,
        ..Load::default()
    };
    for counters in instances {
        load.introductions_waiting += counters.introductions_waiting.load(Relaxed);
        load.rendezvous_under_way += counters.rendezvous_under_way.load(Relaxed);
        load.circuits_open += counters.open_circuits.load(Relaxed);
        load.streams_open += counters.open_streams.load(Relaxed);
    }
    load
}

/// How the Tor client is, as the status shows it.
fn of_tor(view: BootstrapView) -> snapshot::TorStatus {
    let BootstrapView { fraction, step, trouble, valid_until, problem } = view;
    let kind = trouble.as_ref().map(|trouble| trouble.kind.to_owned());
    let (message, advice) = match trouble {
        Some(trouble) => (trouble.message, Some(trouble.advice)),
        None => (step.to_owned(), None),
    };
    snapshot::TorStatus {
        bootstrap: fraction,
        message,
        trouble: kind,
        advice,
        consensus_valid_until: valid_until.map(Timestamp),
        problem: problem.or_else(no_handle_left),
    }
}

/// What has come of proof of work, as the status shows it.
fn pow(effort: Effort, status: DefenceStatus) -> Pow {
    let refused = [
        ("unknown_seed", status.refused_unknown_seed),
        ("wrong", status.refused_wrong),
        ("used", status.refused_used),
        ("cheap", status.refused_cheap),
    ];
    Pow {
        effort,
        queue: status.queue as u64,
        queue_limit: status.queue_limit as u64,
        trimmed_effort: status.trimmed_effort,
        trimmed: status.trimmed,
        expired: status.expired,
        verified: status.verified,
        refused: refused.map(|(reason, count)| (reason.to_owned(), count)).into(),
    }
}

/// What an instance has counted, as the status shows it.
fn activity(counters: &Counters) -> Activity {
    let read = |count: &AtomicU64| count.load(Relaxed);
    let Dropped { queue, rate, work, rendezvous, circuits, operator } = &counters.dropped;
    let dropped = [
        ("queue", queue),
        ("rate", rate),
        ("work", work),
        ("rendezvous", rendezvous),
        ("circuits", circuits),
        ("operator", operator),
    ];
    let Failed { unreadable, circuit, closed, time } = &counters.failed;
    let failed =
        [("unreadable", unreadable), ("circuit", circuit), ("closed", closed), ("time", time)];
    let failed = failed.map(|(what, count)| (what.to_owned(), read(count)));
    let dropped = dropped.map(|(limit, count)| (limit.to_owned(), read(count)));
    Activity {
        introductions: read(&counters.introductions),
        introductions_dropped: dropped.iter().map(|(_, count)| count).sum(),
        introductions_dropped_by: dropped.into(),
        replays: read(&counters.replays),
        rendezvous_failed: failed.iter().map(|(_, count)| count).sum(),
        rendezvous_failed_by: failed.into(),
        rendezvous_succeeded: read(&counters.rendezvous_succeeded),
        rendezvous_direct: read(&counters.rendezvous_direct),
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

//! One onion service at work: its balancer, its local instances, and what
//! carries out the balancer's commands.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::StreamExt as _;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tor_hscrypto::pk::HsIdKeypair;

use crate::balancer::command::{Command, Publication};
use crate::balancer::fact::{BackendId, Fact, UploadFailure};
use crate::balancer::{BackendKind, BackendSettings, Balancer, Settings};
use crate::config::ServiceConfig;
use crate::instance::{self, Counters, Instance, RelaysInUse};
use crate::observe::snapshot::{self, ServiceState};
use crate::onion::OnionAddress;
use crate::tor::descriptor::Signer;
use crate::tor::network::Network;
use crate::tor::subcredentials::Subcredentials;
use crate::tor::{fetch, hsdirs, keys, upload};

use super::streams::ByPort;
use crate::clock::{now, sleep_until};

/// Points that instances may tell at a time without waiting.
const FACT_QUEUE: usize = 64;

/// What a service tells of itself.
#[derive(Clone, Debug)]
pub(super) struct Posted {
    /// Its status, with counters of 0.
    pub(super) service: snapshot::Service,
    /// What its local instances count, by place among the backends.
    pub(super) counters: BTreeMap<BackendId, Arc<Counters>>,
}

/// An onion service, ready to run.
pub(super) struct Service {
    /// What the operator wants.
    config: ServiceConfig,
    /// Who it is.
    identity: Arc<HsIdKeypair>,
    /// The same, in public.
    address: OnionAddress,
    /// Where its status is told.
    status: watch::Sender<Posted>,
}

impl Service {
    /// A service with this identity.
    pub(super) fn new(config: ServiceConfig, identity: HsIdKeypair) -> Self {
        let address = keys::address(&identity);
        let (status, _) = watch::channel(Posted {
            service: snapshot::Service {
                nickname: config.nickname.to_string(),
                address: address.to_string(),
                state: ServiceState::Starting,
                backends: Vec::new(),
                descriptors: Vec::new(),
                http: None,
            },
            counters: BTreeMap::new(),
        });
        Self { config, identity: Arc::new(identity), address, status }
    }

    /// The name in the configuration.
    pub(super) fn nickname(&self) -> String {
        self.config.nickname.to_string()
    }

    /// What it is and who it is, to be checked together with the others.
    pub(super) fn config_and_address(&self) -> (&ServiceConfig, Option<OnionAddress>) {
        (&self.config, Some(self.address))
    }

    /// Where the service tells its status.
    pub(super) fn watch(&self) -> watch::Receiver<Posted> {
        self.status.subscribe()
    }

    /// Runs until it is cancelled. Returns its nickname.
    pub(super) async fn run(self, network: Network, cancel: CancellationToken) -> String {
        let nickname = self.nickname();
        let mut running = Running::start(self, network);
        let _ = cancel.run_until_cancelled(running.run()).await;
        nickname
    }
}

/// A service at work.
struct Running {
    /// What runs.
    service: Service,
    /// Circuits and directory.
    network: Network,
    /// Decides.
    balancer: Balancer,
    /// Signs.
    signer: Signer,
    /// The addresses of remote backends.
    remote: BTreeMap<BackendId, OnionAddress>,
    /// The local instances and those who listen to them. None ever ends.
    instances: JoinSet<()>,
    /// Points told by the instances.
    facts: mpsc::Receiver<Fact>,
    /// Fetches and uploads under way; each ends with a fact.
    tasks: JoinSet<Fact>,
}

impl Running {
    /// Starts the local instances.
    fn start(service: Service, network: Network) -> Self {
        let settings = settings(&service.config);
        let remote = settings
            .backends
            .iter()
            .filter_map(|backend| match backend.kind {
                BackendKind::Remote { address } => Some((backend.id, address)),
                BackendKind::Local { .. } => None,
            })
            .collect();
        let (told, facts) = mpsc::channel(FACT_QUEUE);
        let mut instances = JoinSet::new();
        let mut counters = BTreeMap::new();
        // Its own address, and those of the frontends that it is a backend of.
        let addresses = std::iter::once(&service.address).chain(&service.config.frontends);
        let identities = addresses.filter_map(hsdirs::identity_key).collect();
        let subcredentials = Arc::new(Subcredentials::new(identities));
        let relays_in_use = Arc::new(RelaysInUse::default());
        let serve = Arc::new(ByPort::new(service.config.proxy_ports.clone()));
        for backend in &settings.backends {
            let BackendKind::Local { expected_points } = backend.kind else { continue };
            let id = backend.id;
            let rate_limit = service.config.rate_limit_at_intro.as_ref();
            let (instance, counted, mut points) = Instance::new(
                instance::Settings {
                    name: format!("{}/{}", service.config.nickname, backend.name),
                    intro_points: usize::from(expected_points),
                    max_streams_per_circuit: usize::try_from(
                        service.config.max_concurrent_streams_per_circuit,
                    )
                    .unwrap_or(usize::MAX),
                    rate_limit_at_intro: rate_limit.map(|limit| (limit.rate, limit.burst)),
                },
                network.clone(),
                Arc::clone(&subcredentials),
                Arc::clone(&relays_in_use),
                Arc::clone(&serve) as Arc<dyn instance::Serve>,
            );
            counters.insert(id, counted);
            instances.spawn(async move { match instance.run().await {} });
            let told = told.clone();
            let network = network.clone();
            instances.spawn(async move {
                while points.changed().await.is_ok() {
                    let points = points.borrow_and_update().clone();
                    let capabilities = network.local_capabilities();
                    let fact = Fact::LocalPoints { backend: id, points, capabilities };
                    if told.send(fact).await.is_err() {
                        break;
                    }
                }
            });
        }
        service.status.send_modify(|posted| posted.counters = counters);
        Self {
            signer: Signer::new(Arc::clone(&service.identity)),
            balancer: Balancer::new(settings),
            service,
            network,
            remote,
            instances,
            facts,
            tasks: JoinSet::new(),
        }
    }

    /// Carries facts to the balancer and commands from it, for ever.
    async fn run(&mut self) {
        let mut changes = self.network.changes();
        self.network_changed();
        loop {
            while let Some(command) = self.balancer.poll_command() {
                self.carry_out(command);
            }
            self.tell_status();
            let wake = self.balancer.poll_timeout();
            tokio::select! {
                Some(fact) = self.facts.recv() => self.happened(fact),
                Some(ended) = self.tasks.join_next() => match ended {
                    Ok(fact) => self.happened(fact),
                    Err(error) => tracing::error!(%error, "a fetch or upload has panicked"),
                },
                Some(()) = changes.next() => self.network_changed(),
                Some(_) = self.instances.join_next() => {
                    tracing::error!("a local instance has ended");
                    return;
                }
                () = sleep_until(wake) => {
                    self.balancer.handle_timeout(now(), &mut crate::tor::rng());
                }
            }
        }
    }

    /// Tells the balancer.
    fn happened(&mut self, fact: Fact) {
        self.log(&fact);
        self.balancer.handle_fact(fact, now(), &mut crate::tor::rng());
    }

    /// Tells the balancer what the directory says now.
    fn network_changed(&mut self) {
        if let Some(view) = hsdirs::network_view(&self.network, &self.service.address) {
            self.happened(Fact::Network(view));
        }
    }

    /// One match for every command.
    fn carry_out(&mut self, command: Command) {
        match command {
            Command::Fetch { backend } => {
                let Some(address) = self.remote.get(&backend).copied() else { return };
                let network = self.network.clone();
                self.tasks.spawn(async move {
                    let outcome = fetch::fetch(&network, &address, now().wall).await;
                    Fact::Fetched { backend, outcome }
                });
            }
            Command::Publish(publication) => self.publish(&publication),
            // The balancer asks for none of these yet.
            Command::Probe { .. } | Command::Replace { .. } | Command::Inspect { .. } => {}
        }
    }

    /// Builds and signs here, uploads in a task of its own.
    fn publish(&mut self, publication: &Publication) {
        let Publication { period, hsdir, as_of, .. } = *publication;
        let signed = self.signer.sign(publication, &self.network);
        let network = self.network.clone();
        self.tasks.spawn(async move {
            let outcome = match signed {
                Ok(signed) => {
                    upload::upload(&network, hsdir, signed.text).await.map(|()| signed.revision)
                }
                Err(error) => Err(UploadFailure::Unreachable(error.to_string())),
            };
            Fact::Uploaded { period, hsdir, as_of, outcome }
        });
    }

    /// What the operator may want to read afterwards.
    fn log(&self, fact: &Fact) {
        let service = &self.service.config.nickname;
        match fact {
            Fact::Uploaded { period, hsdir, outcome: Ok(revision), .. } => {
                tracing::debug!(%service, period = period.number, %hsdir, revision, "descriptor stored");
            }
            Fact::Uploaded { period, hsdir, outcome: Err(error), .. } => {
                tracing::info!(%service, period = period.number, %hsdir, %error, "descriptor not stored; trying again");
            }
            Fact::Fetched { backend, outcome: Err(error) } => {
                tracing::info!(%service, backend = backend.0, %error, "no descriptor from backend");
            }
            Fact::Fetched { backend, outcome: Ok(descriptor) } => {
                let points = descriptor.points.len();
                tracing::debug!(%service, backend = backend.0, points, "backend's descriptor fetched");
            }
            Fact::LocalPoints { backend, points, .. } => {
                tracing::debug!(%service, backend = backend.0, points = points.len(), "local points");
            }
            Fact::Network(_) | Fact::Probed { .. } | Fact::Origins(_) | Fact::Inspected { .. } => {}
        }
    }

    /// Tells the status, if it has changed.
    fn tell_status(&self) {
        let status = self.balancer.status();
        self.service.status.send_modify(|posted| {
            let told = &mut posted.service;
            if told.state != status.state {
                tracing::info!(service = %self.service.config.nickname, "{}", in_words(status.state));
            }
            told.state = status.state;
            told.backends = status.backends;
            told.descriptors = status.descriptors;
        });
    }
}

/// The balancer's settings for a service: local instances first, then remote
/// backends in the order of the file.
fn settings(config: &ServiceConfig) -> Settings {
    let local = (0..config.local_instances).map(|n| {
        let kind = BackendKind::Local { expected_points: config.points_per_instance() };
        (format!("local-{n}"), kind, config.local_weight)
    });
    let remote = config.backends.iter().map(|backend| {
        let kind = BackendKind::Remote { address: backend.address };
        (backend.name.clone(), kind, backend.weight)
    });
    let backends = (0..)
        .map(BackendId)
        .zip(local.chain(remote))
        .map(|(id, (name, kind, weight))| BackendSettings { id, name, kind, weight })
        .collect();
    Settings { backends, max_points: config.max_intro_points, ..Settings::default() }
}

/// A line for the log when the state of a service changes.
fn in_words(state: ServiceState) -> &'static str {
    match state {
        ServiceState::Starting => "starting",
        ServiceState::Publishing => "publishing its descriptor",
        ServiceState::Published => "published: clients can reach it",
        ServiceState::Down => "no backend answers",
    }
}

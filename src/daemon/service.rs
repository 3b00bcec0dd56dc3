//! The life of one onion service: it waits for a Tor network, carries facts to
//! its balancer and commands from it, obeys the operator, and ends in order.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use tokio::sync::{Notify, broadcast, mpsc, watch};
use tokio::task::{JoinSet, block_in_place};
use tokio_util::sync::CancellationToken;
use tor_hscrypto::pk::HsIdKeypair;

use crate::clock::{now, sleep_until};
use crate::config::{ServiceConfig, Shutdown, Storage};
use crate::throttle::Throttle;
use crate::tor::hsdirs;
use crate::tor::network::Network;
use crate::tor::subcredentials::Subcredentials;
use onionbraid_balancer::command::Command;
use onionbraid_balancer::fact::{Fact, Now};
use onionbraid_balancer::onion::OnionAddress;
use onionbraid_balancer::{Balancer, Settings};
use onionbraid_proxy::rules::ProxyRules;

use super::drain::{Drain, Step};
use super::fetches::{Answer, Fetches};
use super::file_handles::FileHandles;
use super::instances::{Instances, Shared};
use super::log_lines::{self, Names, Told};
use super::origins::Origins;
use super::proxies::Proxies;
use super::settings::Ids;
use super::snapshot::Posted;
use super::state::StateDir;
use super::streams::ByPort;
use super::work::Work;

/// Facts that may wait at a time.
const FACT_QUEUE: usize = 64;

/// How long after something has changed it is written down: what changes
/// together is written once.
const REMEMBER_AFTER: Duration = Duration::from_secs(10);

/// What the operator wants of a service.
#[derive(Clone, Debug)]
pub(super) struct Orders {
    /// What it is.
    pub(super) config: ServiceConfig,
    /// How long taking things out may take.
    pub(super) times: Shutdown,
    /// Whether it is to end.
    pub(super) end: bool,
}

/// What all services share.
#[derive(Clone)]
pub(super) struct Common {
    /// The Tor network, once there is one.
    pub(super) network: watch::Receiver<Option<Network>>,
    /// Fetches for all of them.
    pub(super) fetches: Fetches,
    /// Where their state lies.
    pub(super) storage: Arc<Storage>,
    /// What their clients may take.
    pub(super) file_handles: FileHandles,
}

/// An onion service, ready to run.
pub(super) struct Service {
    /// Who it is.
    pub(super) identity: Arc<HsIdKeypair>,
    /// The same, in public.
    pub(super) address: OnionAddress,
    /// What the operator wants, now and later.
    pub(super) orders: watch::Receiver<Orders>,
    /// Where its status is shown.
    pub(super) posted: Arc<Posted>,
    /// What it shares.
    pub(super) common: Common,
    /// Those that must have ended before: they have its directory or address.
    pub(super) after: Vec<CancellationToken>,
}

/// A service has ended that nobody has told to.
#[derive(Debug, thiserror::Error)]
#[error("service {0}")]
pub(super) struct Unexpected(pub(super) String);

impl Service {
    /// Runs until it is told to end.
    pub(super) async fn run(mut self) -> Result<(), Unexpected> {
        let nickname = self.orders.borrow().config.nickname.to_string();
        let mut orders = self.orders.clone();
        let network = loop {
            tokio::select! {
                network = self.network() => break network,
                changed = orders.changed() => {
                    let orders = orders.borrow_and_update();
                    // Nobody gives orders any more only when everything ends.
                    if changed.is_err() || orders.end {
                        return Ok(());
                    }
                    self.posted.decide_with(idle(&orders.config));
                }
            }
        };
        let Some(network) = network else { return Ok(()) };
        Running::start(self, network).run().await.map_err(|()| Unexpected(nickname))
    }

    /// Waits for those before it, and for a Tor network.
    async fn network(&mut self) -> Option<Network> {
        for before in &self.after {
            before.cancelled().await;
        }
        self.common.network.wait_for(Option::is_some).await.ok()?.clone()
    }
}

/// A service at work.
struct Running {
    /// What runs.
    service: Service,
    /// Circuits and directory.
    network: Network,
    /// Where its balancer decides, and shows its status.
    posted: Arc<Posted>,
    /// What it finds again after a restart.
    state: Option<StateDir>,
    /// When to write that down, if something has changed.
    remember_at: Option<Instant>,
    /// The numbers of its backends.
    ids: Ids,
    /// Their names, for the log.
    names: Names,
    /// Its local instances.
    instances: Instances,
    /// What introductions they accept.
    subcredentials: Arc<Subcredentials>,
    /// Where new streams are led.
    rules: watch::Sender<Arc<ProxyRules>>,
    /// Looks after the origins.
    origins: JoinSet<()>,
    /// Carries out commands.
    work: Work,
    /// Told by the instances and of the origins.
    facts: mpsc::Receiver<Fact>,
    /// Fetches that have ended, of all services.
    answers: broadcast::Receiver<Answer>,
    /// Since it was told to end.
    drain: Option<Drain>,
    /// What the log was told of it.
    told: Told,
    /// How often it is told of failed uploads.
    failed_uploads: Throttle,
}

impl Running {
    /// With what was remembered, and its local instances started.
    fn start(service: Service, network: Network) -> Self {
        let orders = service.orders.borrow().clone();
        let Orders { config, times, .. } = &orders;
        let nickname = config.nickname.to_string();
        let mut state = StateDir::open(&service.common.storage, &nickname, &service.address);
        let mut ids = Ids::default();
        let settings = ids.settings(config);
        let balancer = match state.as_mut().and_then(StateDir::remembered) {
            Some(memory) => Balancer::remembering(settings.clone(), memory, now()),
            None => Balancer::new(settings.clone()),
        };
        let posted = Arc::clone(&service.posted);
        posted.decide_with(balancer);

        let (told, facts) = mpsc::channel(FACT_QUEUE);
        let (rules, watched) = watch::channel(Arc::new(config.proxy_ports.clone()));
        let file_handles = service.common.file_handles.clone();
        let for_clients = file_handles.for_clients.clone();
        let proxies = Proxies::new(Arc::clone(&rules.borrow()), for_clients.clone());
        let proxies = Arc::new(proxies);
        posted.serve(Arc::clone(&proxies));
        let failed = Arc::new(Notify::new());
        let subcredentials = Arc::new(Subcredentials::new(Vec::new()));
        let mut instances = Instances::new(Shared {
            network: network.clone(),
            subcredentials: Arc::clone(&subcredentials),
            serve: Arc::new(ByPort::new(
                Arc::clone(&proxies),
                service.address,
                Arc::clone(&failed),
                for_clients,
            )),
            file_handles,
            told: told.clone(),
            posted: Arc::clone(&posted),
        });
        subcredentials.replace(identities(&service.address, config));
        instances.apply(config, &settings, state.as_ref(), *times, now().monotonic);
        let mut origins = JoinSet::new();
        origins.spawn(Origins { in_force: proxies.watch(), failed, told }.watch());
        origins.spawn(proxies.follow(watched));
        let fetches = service.common.fetches.clone();
        let answers = fetches.listen();
        let identity = Arc::clone(&service.identity);
        let mut work = Work::new(network.clone(), service.address, identity, fetches);
        work.apply(&settings, config.probe.clone());
        Self {
            service,
            network,
            posted,
            state,
            remember_at: None,
            ids,
            names: names(&settings),
            instances,
            subcredentials,
            rules,
            origins,
            work,
            facts,
            answers,
            drain: None,
            told: Told::nothing(),
            failed_uploads: Throttle::new(log_lines::UPLOADS_EVERY),
        }
    }

    /// Carries facts to the balancer and commands from it, until the end that
    /// the operator wants; any other is an error.
    async fn run(mut self) -> Result<(), ()> {
        let mut changes = self.network.changes();
        self.network_changed();
        let ended = loop {
            self.carry_out();
            let wake = match self.look_around(now()) {
                ControlFlow::Continue(wake) => wake,
                ControlFlow::Break(()) => break Ok(()),
            };
            tokio::select! {
                Some(fact) = self.facts.recv() => self.happened(fact),
                fact = self.work.done() => self.happened(fact),
                answer = self.answers.recv() => self.answered(answer),
                Some(()) = changes.next() => self.network_changed(),
                ended = self.instances.ended(self.drain.is_some(), self.state.as_ref()) => {
                    if let Err(error) = ended {
                        tracing::error!(service = %self.posted.nickname, "{error}");
                        break Err(());
                    }
                }
                Some(_) = self.origins.join_next() => {
                    tracing::error!("nobody looks after the origins any more");
                    break Err(());
                }
                changed = self.service.orders.changed() => match changed {
                    Ok(()) => self.obey(),
                    // Nobody gives orders any more only when everything ends.
                    Err(_) => break Ok(()),
                },
                () = sleep_until(wake) => self.tell(Balancer::handle_timeout),
            }
        };
        self.remember(now());
        ended
    }

    /// Has the balancer look at something, and tells the log what has changed.
    fn tell(&mut self, of: impl FnOnce(&mut Balancer, Now, &mut rand::rngs::ThreadRng)) {
        self.posted.with(|balancer| {
            let now = now();
            of(balancer, now, &mut crate::tor::rng());
            self.told.tell(&self.posted.nickname, balancer, now.monotonic);
        });
    }

    /// Tells the balancer a fact, and the log.
    fn happened(&mut self, fact: Fact) {
        log_lines::fact(&self.posted.nickname, &self.names, &fact, &mut self.failed_uploads);
        self.remember_at.get_or_insert(now().monotonic + REMEMBER_AFTER);
        self.tell(|balancer, now, rng| balancer.handle_fact(fact, now, rng));
    }

    /// Tells the balancer of a fetch, if it is of one of its backends.
    fn answered(&mut self, answer: Result<Answer, broadcast::error::RecvError>) {
        match answer {
            Ok(answer) => {
                if let Some(fact) = self.work.fetched(&answer) {
                    self.happened(fact);
                }
            }
            Err(error) => tracing::debug!(%error, "answers to fetches were lost"),
        }
    }

    /// Tells the balancer what the directory says now.
    fn network_changed(&mut self) {
        if let Some(view) = hsdirs::network_view(&self.network, &self.service.address) {
            self.happened(Fact::Network(view));
        }
    }

    /// One match for every command.
    fn carry_out(&mut self) {
        while let Some(command) = self.posted.with(Balancer::poll_command) {
            match command {
                Command::Fetch { backend } => self.work.fetch(backend),
                Command::Probe { backend, point } => {
                    self.work.probe(backend, point, self.instances.counters(backend));
                }
                Command::Replace { backend, session } => self.instances.replace(backend, session),
                Command::Inspect { period, hsdir } => self.work.inspect(period, hsdir),
                Command::Publish(publication) => self.work.publish(&publication),
            }
        }
    }

    /// Does what is due beside the balancer's commands. When to look again at
    /// the latest, or that everything has ended.
    fn look_around(&mut self, now: Now) -> ControlFlow<(), Option<Instant>> {
        if self.remember_at.is_some_and(|at| at <= now.monotonic) {
            self.remember(now);
        }
        let mut wakes = vec![self.remember_at, self.posted.with(|b| b.poll_timeout())];
        let posted = &self.posted;
        let may_be_found = |id| posted.with(|b| b.may_be_found(id));
        wakes.push(self.instances.take_out(may_be_found, now.monotonic));
        if let Some(drain) = &mut self.drain {
            let out = posted.with(|balancer| balancer.is_withdrawn());
            let mut step = drain.step(out, now.monotonic);
            if step == Step::Finish {
                self.instances.finish();
                step = drain.step(out, now.monotonic);
            }
            match step {
                Step::Drop => {
                    let streams = self.instances.open_streams();
                    let service = &self.posted.nickname;
                    tracing::warn!(%service, streams, "not everything ended in time");
                    return ControlFlow::Break(());
                }
                _ if self.instances.is_empty() => return ControlFlow::Break(()),
                // Where nobody takes over, the sooner the end the sooner the next
                // process: clients between two requests are not waited for.
                _ if drain.is_without_grace() && self.instances.open_streams() == 0 => {
                    return ControlFlow::Break(());
                }
                Step::Wait(until) => wakes.push(Some(until)),
                Step::Finish => {}
            }
        }
        ControlFlow::Continue(wakes.into_iter().flatten().min())
    }

    /// Does what the operator wants now.
    fn obey(&mut self) {
        let orders = self.service.orders.borrow_and_update().clone();
        let Orders { config, times, end } = &orders;
        let monotonic = now().monotonic;
        if *end {
            self.tell(Balancer::withdraw);
            let nothing_to_wait_for = self.posted.with(|b| b.is_withdrawn());
            let begin = if nothing_to_wait_for { Drain::begin_without_grace } else { Drain::begin };
            self.drain.get_or_insert_with(|| begin(*times, monotonic));
            return;
        }
        let settings = self.ids.settings(config);
        self.subcredentials.replace(identities(&self.service.address, config));
        // Also if they are the same: files that they name may have changed.
        self.rules.send_replace(Arc::new(config.proxy_ports.clone()));
        self.names = names(&settings);
        self.work.apply(&settings, config.probe.clone());
        self.instances.apply(config, &settings, self.state.as_ref(), *times, monotonic);
        self.remember_at.get_or_insert(monotonic + REMEMBER_AFTER);
        self.tell(|balancer, now, rng| balancer.reconfigure(settings, now, rng));
    }

    /// Writes down what a restart should not lose.
    fn remember(&mut self, now: Now) {
        self.remember_at = None;
        let memory = self.posted.with(|balancer| balancer.memory(now));
        if let Some(state) = &mut self.state {
            // The disk may be slow; other services share this thread.
            block_in_place(|| state.remember(&memory, now.monotonic));
        }
    }
}

/// The balancer of a service that has not started: it has the backends that the
/// operator wants, and knows nothing of them.
pub(super) fn idle(config: &ServiceConfig) -> Balancer {
    Balancer::new(Ids::default().settings(config))
}

/// What the operator calls the backends.
fn names(settings: &Settings) -> Names {
    settings.backends.iter().map(|backend| (backend.id, backend.name.clone())).collect()
}

/// Whose introductions the local instances accept: those for the service's own
/// address, and for the frontends that it is a backend of.
fn identities(address: &OnionAddress, config: &ServiceConfig) -> Vec<tor_hscrypto::pk::HsIdKey> {
    let addresses = std::iter::once(address).chain(&config.frontends);
    addresses.filter_map(hsdirs::identity_key).collect()
}

#[cfg(test)]
mod tests {
    use tor_llcrypto::pk::ed25519;

    use super::*;
    use crate::config::{Config, Environment, RemoteBackend};
    use crate::daemon::fetches::fetches;
    use crate::observe::snapshot::{BackendState, ServiceState};
    use crate::tor::keys;

    #[tokio::test]
    async fn a_service_without_a_network_shows_the_backends_that_it_is_to_have_as_unknown() {
        let mut config = ServiceConfig::with_defaults("shop".parse().unwrap());
        config.local_instances = 2;
        let environment = Environment::new([("HOME", "/home/user")]);
        let storage = Config::from_text("", &environment).unwrap().storage;
        let key = ed25519::Keypair::generate(&mut crate::tor::rng());
        let identity = HsIdKeypair::from(ed25519::ExpandedKeypair::from(&key));
        let address = keys::address(&identity);
        let (_network, network) = watch::channel(None);
        let common = Common {
            network,
            fetches: fetches().0,
            storage: Arc::new(storage),
            file_handles: FileHandles::raise(),
        };
        let orders = Orders { config: config.clone(), times: Shutdown::default(), end: false };
        let (orders, received) = watch::channel(orders);
        let posted = Arc::new(Posted::new("shop".into(), address, idle(&config)));
        let service = Service {
            identity: Arc::new(identity),
            address,
            orders: received,
            posted: Arc::clone(&posted),
            common,
            after: Vec::new(),
        };
        let names = || {
            let status = posted.status();
            assert_eq!(status.state, ServiceState::Starting);
            for backend in &status.backends {
                assert_eq!(backend.state, BackendState::Unknown);
                assert_eq!((backend.intro_points, backend.published_intro_points), (0, 0));
            }
            let names = status.backends.into_iter().map(|backend| (backend.name, backend.weight));
            names.collect::<Vec<_>>()
        };
        let local = |n| (format!("local-{n}"), 1);
        assert_eq!(names(), [local(0), local(1)]);

        let reloaded = async {
            let berlin = OnionAddress::from_public_key([1; 32]);
            config.backends =
                vec![RemoteBackend { address: berlin, name: "berlin".into(), weight: 3 }];
            orders.send_modify(|orders| orders.config = config);
            while names().len() < 3 {
                tokio::task::yield_now().await;
            }
            assert_eq!(names(), [local(0), local(1), ("berlin".to_owned(), 3)]);
            orders.send_modify(|orders| orders.end = true);
        };
        let (ended, ()) = tokio::join!(service.run(), reloaded);
        assert!(ended.is_ok());
    }
}

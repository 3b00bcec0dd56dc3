//! The life of one service: it waits for a Tor network, then its loop owns the
//! balancer, carries facts to it and commands from it, does what the operator
//! wants, shows what has become of that, and ends in order.
//!
//! Everything that can happen to a service comes in through [`EventLoop::run`];
//! after each event everything that is due is done and a new view is published.

use std::ops::ControlFlow::{self, Break, Continue};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use rand::rngs::ThreadRng;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::{JoinSet, block_in_place};
use tor_hscrypto::pk::HsIdKey;

use crate::clock::{now, sleep_until};
use crate::config::ServiceConfig;
use crate::instance::{Defence, Verified};
use crate::link::listen::LinkListener;
use crate::throttle::Throttle;
use crate::tor::hsdirs;
use crate::tor::network::Network;
use crate::tor::subcredentials::Subcredentials;
use onionbraid_balancer::fact::{Fact, Now};
use onionbraid_balancer::link::Offered;
use onionbraid_balancer::memory::Memory;
use onionbraid_balancer::onion::OnionAddress;
use onionbraid_balancer::operator::Word;
use onionbraid_balancer::pow::Puzzle;
use onionbraid_balancer::{Balancer, BalancerSettings, BundlePeriods, LinkPolicy};
use onionbraid_proxy::rules::ProxyRules;

use super::brim;
use super::certificates::key_check;
use super::drain::{Drain, DrainStep, HeldByPublishers};
use super::instances::{InstanceParts, Instances};
use super::log_lines::{self, LoggedState};
use super::orders::{BackendOrderOf, Obeyed};
use super::origins::OriginWatch;
use super::proxies::Proxies;
use super::service::{PreparedService, ServiceUpdate};
use super::settings::{self, Ids, of_defence};
use super::snapshot::AtWork;
use super::state::StateDir;
use super::streams::ByPort;
use super::waiting::wait_for_network;
use super::words;
use super::work::Work;

/// Facts that may wait at a time.
const FACT_QUEUE: usize = 64;

/// How long after something has changed it is written down: what changes
/// together is written once.
const REMEMBER_AFTER: Duration = Duration::from_secs(10);

/// How often a backend looks whether it is full.
const LOAD_EVERY: Duration = Duration::from_secs(5);

/// A service ended unexpectedly.
#[derive(Debug, thiserror::Error)]
#[error("service {0}")]
pub(super) struct ServiceEnded(String);

/// Runs a service until it is told to end. However that comes about, its handle
/// is told when nothing of it is left.
pub(super) fn run(
    service: PreparedService,
) -> impl Future<Output = Result<(), ServiceEnded>> + Send {
    let when_ended = service.ended.clone().drop_guard();
    async move {
        let _when_ended = when_ended;
        let nickname = service.nickname.clone();
        match wait_for_network(service).await {
            Some((service, network)) => {
                EventLoop::start(service, network).run().await.map_err(|()| ServiceEnded(nickname))
            }
            None => Ok(()),
        }
    }
}

/// A service at work.
struct EventLoop {
    service: PreparedService,
    network: Network,
    balancer: Balancer,
    /// The numbers of its backends.
    ids: Ids,
    /// Carries out what it decides.
    work: Work,
    /// What it finds again after a restart.
    state: Option<StateDir>,
    /// When to write that down, if something has changed.
    remember_at: Option<Instant>,
    held: HeldByPublishers,
    /// Whether publishers are told that it is full ...
    full: bool,
    /// ... and the furthest that an operator of theirs has it out of use.
    word: Word,
    instances: Instances,
    /// What introductions the instances accept.
    subcredentials: Arc<Subcredentials>,
    /// Orders their introductions, while clients are asked for work.
    defence: Arc<Defence>,
    /// What publishers of the frontends are told that it verifies.
    verified: watch::Receiver<Option<Verified>>,
    /// Answers the publishers of the frontends.
    listener: Arc<LinkListener>,
    /// Where their streams are led ...
    rules: watch::Sender<Arc<ProxyRules>>,
    /// ... and by whom.
    proxies: Arc<Proxies>,
    /// From the instances and the origin monitor.
    facts: mpsc::Receiver<Fact>,
    /// Puts rules in force, watches the origins, orders introductions; never ends.
    background: JoinSet<()>,
    /// Since it was told to end.
    drain: Option<Drain>,
    /// What the log was told of it.
    logged: LoggedState,
    /// How often the log is told of failed uploads.
    failed_uploads: Throttle,
}

impl EventLoop {
    /// With what was remembered, and its local instances started.
    fn start(service: PreparedService, network: Network) -> Self {
        let ServiceUpdate { config, times, in_company, .. } = service.updates.borrow().clone();
        let mut state =
            StateDir::open(&service.common.storage, &service.nickname, &service.address);
        let mut ids = Ids::default();
        let settings = BalancerSettings { in_company, ..ids.settings(&config) };
        let remembered = state.as_mut().and_then(StateDir::remembered);
        let suggested = |memory: &Memory| memory.suggested_effort(now().wall);
        let suggested = remembered.as_ref().map_or(0, suggested);
        let balancer = match remembered {
            Some(memory) => Balancer::remembering(settings.clone(), memory, now()),
            None => Balancer::new(settings.clone()),
        };

        let (told, facts) = mpsc::channel(FACT_QUEUE);
        let file_handles = service.common.file_handles.clone();
        let for_clients = file_handles.for_clients.clone();
        let (rules, watched) = watch::channel(Arc::new(config.proxy_ports.clone()));
        let keys = key_check(&service.common.storage.mistrust);
        let proxies = Proxies::new(Arc::clone(&rules.borrow()), for_clients.clone(), keys);
        let proxies = Arc::new(proxies);
        let failed = Arc::new(Notify::new());
        let listener = Arc::new(LinkListener::new(service.address, network.clone()));
        listener.answer_for(linked_frontends(&config));
        let serve = ByPort::new(
            Arc::clone(&proxies),
            service.address,
            Arc::clone(&failed),
            for_clients,
            Arc::clone(&listener),
        );
        let mut background = JoinSet::new();
        background.spawn(Arc::clone(&proxies).follow(watched));
        let origins = OriginWatch { in_force: proxies.watch(), failed, told: told.clone() };
        background.spawn(origins.watch());

        let subcredentials = Arc::new(Subcredentials::new(identities(&service.address, &config)));
        let defence = Defence::new(
            network.clone(),
            Arc::clone(&service.credentials),
            Arc::clone(&subcredentials),
            suggested,
        );
        defence.configure(of_defence(&config));
        background.spawn(Arc::clone(&defence).run());
        background.spawn(tell_puzzle(defence.puzzle(), told.clone()));
        background.spawn(tell_verified(defence.verified(), Arc::clone(&listener)));
        let verified = defence.verified();
        let mut instances = Instances::new(InstanceParts {
            network: network.clone(),
            subcredentials: Arc::clone(&subcredentials),
            serve: Arc::new(serve),
            defence: Arc::clone(&defence),
            file_handles,
            told,
        });
        instances.apply(&config, &settings, state.as_ref(), times, now().monotonic);
        let fetches = service.common.fetches.clone();
        let credentials = Arc::clone(&service.credentials);
        let mut work = Work::new(network.clone(), service.address, credentials, fetches);
        work.apply(&settings, config.probe.clone());
        Self {
            service,
            network,
            balancer,
            ids,
            work,
            state,
            remember_at: None,
            held: HeldByPublishers::default(),
            full: false,
            word: Word::default(),
            instances,
            subcredentials,
            defence,
            listener,
            rules,
            proxies,
            facts,
            verified,
            background,
            drain: None,
            logged: LoggedState::nothing(),
            failed_uploads: Throttle::new(log_lines::UPLOADS_EVERY),
        }
    }

    /// Carries facts to the balancer and commands from it, until the end that
    /// the operator wants; any other is an error.
    async fn run(mut self) -> Result<(), ()> {
        let mut changes = self.network.changes();
        let mut beat = self.service.common.pulse.join();
        self.bundle_changed();
        // Before anything is published.
        let offered = *self.defence.puzzle().borrow();
        self.handle_fact(Fact::Puzzle(offered));
        self.network_changed();
        let ended = loop {
            let wake = match self.do_what_is_due(now()) {
                Continue(wake) => wake,
                Break(()) => break Ok(()),
            };
            self.show();
            tokio::select! {
                Some(fact) = self.facts.recv() => self.handle_fact(fact),
                fact = self.work.next() => self.handle_fact(fact),
                Some(()) = changes.next() => self.network_changed(),
                ended = self.instances.ended(self.drain.is_some(), self.state.as_ref()) => {
                    if let Err(error) = ended {
                        tracing::error!(service = %self.service.nickname, "{error}");
                        break Err(());
                    }
                }
                Some(_) = self.background.join_next() => {
                    tracing::error!(
                        service = %self.service.nickname, "background task stopped unexpectedly"
                    );
                    break Err(());
                }
                changed = self.service.updates.changed() => match changed {
                    Ok(()) => self.apply_update(),
                    // The handle is dropped only when everything ends.
                    Err(_) => break Ok(()),
                },
                Some(order) = self.service.orders.recv() => self.obey(order),
                () = self.listener.changed() => {}
                Ok(()) = self.verified.changed() => self.remember_soon(),
                () = sleep_until(wake) => self.decide(Balancer::handle_timeout),
                () = beat.next() => {}
            }
        };
        self.remember(now());
        ended
    }

    /// Has the balancer look at something, and tells the log what has changed.
    fn decide(&mut self, of: impl FnOnce(&mut Balancer, Now, &mut ThreadRng)) {
        let now = now();
        of(&mut self.balancer, now, &mut crate::tor::rng());
        self.logged.tell(&self.service.nickname, &self.balancer, now.monotonic);
    }

    /// Tells the balancer a fact, and the log.
    fn handle_fact(&mut self, fact: Fact) {
        let uploads = &mut self.failed_uploads;
        log_lines::fact(&self.service.nickname, &self.balancer, &fact, uploads);
        self.remember_soon();
        self.decide(|balancer, now, rng| balancer.handle_fact(fact, now, rng));
    }

    /// Tells the balancer what the directory says now.
    fn network_changed(&mut self) {
        if let Some(view) = hsdirs::network_view(&self.network, &self.service.address) {
            self.handle_fact(Fact::Network(view));
        }
    }

    /// Tells the balancer for which periods there are keys.
    fn bundle_changed(&mut self) {
        let periods = self.service.credentials.periods();
        self.handle_fact(Fact::Bundle(periods.map(BundlePeriods::from_iter)));
    }

    /// Does what the operator wants now.
    fn apply_update(&mut self) {
        let ServiceUpdate { config, times, in_company, end } =
            self.service.updates.borrow_and_update().clone();
        let monotonic = now().monotonic;
        if end {
            self.decide(Balancer::withdraw);
            let nothing_to_wait_for = self.balancer.is_withdrawn() && !self.listener.has_links();
            let begin = if nothing_to_wait_for { Drain::begin_without_grace } else { Drain::begin };
            self.drain.get_or_insert_with(|| begin(times, monotonic));
            return;
        }
        let settings = BalancerSettings { in_company, ..self.ids.settings(&config) };
        self.subcredentials.replace(identities(&self.service.address, &config));
        self.listener.answer_for(linked_frontends(&config));
        // Also if they are the same: files that they name may have changed.
        self.rules.send_replace(Arc::new(config.proxy_ports.clone()));
        self.work.apply(&settings, config.probe.clone());
        self.defence.configure(of_defence(&config));
        self.instances.apply(&config, &settings, self.state.as_ref(), times, monotonic);
        self.bundle_changed();
        self.decide(|balancer, now, rng| balancer.reconfigure(settings, now, rng));
        log_lines::still_operated(&self.service.nickname, &self.balancer.status().backends);
    }

    /// Does what the operator says of a backend, and writes it down at once: it
    /// has to hold after a crash, too.
    fn obey(&mut self, order: BackendOrderOf) {
        let obeyed = self.try_obey(&order);
        if let Err(refused) = &obeyed {
            words::log_refused(&order, refused);
        }
        order.answer(obeyed);
    }

    fn try_obey(&mut self, order: &BackendOrderOf) -> Obeyed<()> {
        let now = now();
        // Written first: an order that a restart would forget is not taken.
        let (said, memory) = words::consider(&self.balancer, order, now)?;
        let memory = self.with_effort(memory, now);
        let kept = words::keep(self.state.as_mut(), &memory);
        // What is on the disk is to be what holds, whatever became of that.
        self.remember_soon();
        kept?;
        let obeyed = self.balancer.obey(&said, now, &mut crate::tor::rng());
        obeyed.map_err(|refused| words::why(&order.backend, refused))?;
        log_lines::operator(order);
        self.logged.tell(&self.service.nickname, &self.balancer, now.monotonic);
        Ok(())
    }

    /// Carries out the balancer's commands and does what is due beside them. When
    /// to look again at the latest, or that everything has ended.
    fn do_what_is_due(&mut self, now: Now) -> ControlFlow<(), Option<Instant>> {
        while let Some(command) = self.balancer.poll_command() {
            self.work.carry_out(command, &self.instances);
        }
        if self.remember_at.is_some_and(|at| at <= now.monotonic) {
            self.remember(now);
        }
        self.work.tell_standing(&self.balancer);
        let load_look = self.be_a_backend(now.monotonic);
        let report = (!self.listener.is_released()).then(|| self.listener.report_number());
        let (released, held_until) = self.held.released(report, now.monotonic);
        let balancer = &self.balancer;
        let may_be_found = |id| balancer.may_be_found(id) || !released;
        let grace = self.service.updates.borrow().times.grace;
        let word = |id| balancer.word(id);
        let holding = self.instances.heed(word, may_be_found, grace, now.monotonic);
        let taking_out = self.instances.take_out(may_be_found, now.monotonic);
        let ending = self.end_in_order(released, now.monotonic)?;
        let next = self.balancer.poll_timeout();
        let wakes = [self.remember_at, next, holding, taking_out, ending, held_until, load_look];
        Continue(wakes.into_iter().flatten().min())
    }

    /// Tells the publishers of the frontends what is offered to them, and does what they say.
    /// When to look again at what clients take.
    fn be_a_backend(&mut self, now: Instant) -> Option<Instant> {
        let frontends = self.listener.frontends();
        self.defence.asks_for(self.balancer.asked_effort());
        self.defence.give(&self.listener.work(), &frontends);
        let asked = [self.balancer.published_effort(), self.defence.asked_elsewhere()];
        self.logged.tell_work(&self.service.nickname, asked, now);
        if frontends.is_empty() {
            return None;
        }
        self.full = brim::is_full(self.full, self.instances.used());
        let offered = Offered { full: self.full, ..self.balancer.offered() };
        self.listener.offer(offered);
        let word = self.listener.word();
        if std::mem::replace(&mut self.word, word) != word {
            log_lines::publishers_word(&self.service.nickname, word);
        }
        self.listener.has_links().then(|| now + LOAD_EVERY)
    }

    /// Goes on with the end, since it was told to; the same answer.
    fn end_in_order(&mut self, released: bool, now: Instant) -> ControlFlow<(), Option<Instant>> {
        let Some(drain) = &mut self.drain else { return Continue(None) };
        let out = self.balancer.is_withdrawn() && released;
        if out && !self.balancer.has_others() && self.listener.is_alone() {
            drain.forgo_grace(now);
        }
        let mut step = drain.step(out, now);
        if step == DrainStep::Finish {
            self.instances.finish();
            self.listener.answer_for(Vec::new());
            step = drain.step(out, now);
        }
        match step {
            DrainStep::Drop => {
                let streams = self.instances.open_streams();
                let service = &self.service.nickname;
                tracing::warn!(%service, streams, "shutdown timed out; dropping open streams");
                Break(())
            }
            _ if self.instances.is_empty() => Break(()),
            // Where nobody takes over, the sooner the end the sooner the next
            // process: clients between two requests are not waited for.
            _ if drain.is_without_grace() && self.instances.open_streams() == 0 => Break(()),
            DrainStep::Wait(until) => Continue(Some(until)),
            DrainStep::Finish => Continue(None),
        }
    }

    /// Publishes what is to be seen of it.
    fn show(&self) {
        let view = self.service.shows(&self.balancer).told_by_publishers(self.word);
        let (updates, common) = (&self.service.updates, &self.service.common);
        let view = view.at_work(AtWork {
            counters: self.instances.all_counters(),
            guards: self.instances.guards(),
            proxies: Arc::clone(&self.proxies),
            defence: Arc::clone(&self.defence),
            tally: self.work.tally(),
            streams_per_circuit: settings::streams_per_circuit(
                &updates.borrow().config,
                &common.file_handles,
            ),
        });
        self.service.view.send_replace(Arc::new(view));
    }

    fn remember_soon(&mut self) {
        self.remember_at.get_or_insert(now().monotonic + REMEMBER_AFTER);
    }

    /// Adds the work that the queue of the local instances suggests, whoever asks for it.
    fn with_effort(&self, memory: Memory, now: Now) -> Memory {
        memory.with_suggested_effort(self.defence.suggested(), now.wall)
    }

    /// Writes down what a restart should not lose.
    fn remember(&mut self, now: Now) {
        self.remember_at = None;
        let memory = self.with_effort(self.balancer.memory(now), now);
        if let Some(state) = &mut self.state {
            // The disk may be slow; other services share this thread.
            block_in_place(|| state.remember(&memory, now.monotonic));
        }
    }
}

/// Tells the balancer what else clients can be asked for from now on. It ends only when
/// nobody takes that any more.
async fn tell_puzzle(mut puzzle: watch::Receiver<Option<Puzzle>>, told: mpsc::Sender<Fact>) {
    while puzzle.changed().await.is_ok() {
        let offered = *puzzle.borrow_and_update();
        if told.send(Fact::Puzzle(offered)).await.is_err() {
            return;
        }
    }
}

/// Tells the publishers of the frontends what is verified of their clients' work. It ends
/// only when nothing is any more.
async fn tell_verified(
    mut verified: watch::Receiver<Option<Verified>>,
    listener: Arc<LinkListener>,
) {
    loop {
        let now = verified.borrow_and_update().clone();
        listener.verifies(now);
        if verified.changed().await.is_err() {
            return;
        }
    }
}

/// Whose introductions the local instances accept: those for the service's own
/// address, and for the frontends that it is a backend of.
fn identities(address: &OnionAddress, config: &ServiceConfig) -> Vec<HsIdKey> {
    let addresses = std::iter::once(address).chain(&config.frontends);
    addresses.filter_map(hsdirs::identity_key).collect()
}

/// The frontends whose publishers may hold control links.
fn linked_frontends(config: &ServiceConfig) -> Vec<OnionAddress> {
    if config.link == LinkPolicy::Never { Vec::new() } else { config.frontends.clone() }
}

#[cfg(test)]
mod tests {
    use tor_hscrypto::pk::HsIdKeypair;
    use tor_llcrypto::pk::ed25519;

    use super::*;
    use crate::admin::NoAnswer;
    use crate::admin::orders::BackendOrder;
    use crate::config::{Config, Environment, RemoteBackend, Shutdown};
    use crate::daemon::fetches::fetches;
    use crate::daemon::file_handles::FileHandles;
    use crate::daemon::service::{Common, ServiceHandle};
    use crate::observe::snapshot::{BackendState, ServiceState, Word};
    use crate::tor::credentials::Credentials;
    use onionbraid_balancer::operator::Verb;
    use tokio::sync::oneshot;

    /// A service without a network, whose state lies there.
    fn prepared(
        config: &ServiceConfig,
        directory: &std::path::Path,
    ) -> (ServiceHandle, PreparedService, watch::Sender<Option<Network>>) {
        let environment = Environment::new([("HOME", "/home/user")]);
        let text = format!(
            "[storage]\nstate_dir = \"{0}/state\"\ncache_dir = \"{0}/cache\"\n\
             [storage.permissions]\ndangerously_trust_everyone = true\n",
            directory.display()
        );
        let storage = Config::from_text(&text, &environment).unwrap().storage;
        crate::daemon::state::prepare(&storage, config.nickname.as_ref()).unwrap();
        let key = ed25519::Keypair::from_bytes(&[7; 32]);
        let identity = HsIdKeypair::from(ed25519::ExpandedKeypair::from(&key));
        let credentials = Arc::new(Credentials::of_identity(identity));
        let (sender, network) = watch::channel(None);
        let common = Common {
            network,
            fetches: fetches().0,
            storage: Arc::new(storage),
            file_handles: FileHandles::raise(),
            pulse: crate::daemon::pulse::Pulse::new(),
        };
        let config = (config.clone(), Shutdown::default());
        let (handle, service) = PreparedService::new(credentials, config, common, &[]);
        (handle, service, sender)
    }

    fn with_local_instances(count: u8) -> ServiceConfig {
        let mut config = ServiceConfig::with_defaults("shop".parse().unwrap());
        config.local_instances = count;
        config
    }

    /// Has a service obey, and waits for what that comes to.
    async fn say(handle: &ServiceHandle, backend: &str, verb: Verb, user: u32) -> Obeyed<()> {
        let (answer, obeyed) = oneshot::channel();
        handle.obey(BackendOrderOf {
            service: "shop".into(),
            backend: backend.into(),
            order: BackendOrder { verb, force: false },
            user: Some(user),
            answer,
        });
        obeyed.await.unwrap()
    }

    async fn until(what: impl Fn() -> bool) {
        while !what() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn words_on_backends_are_shown_and_taken_before_there_is_a_network() {
        let directory = tempfile::tempdir().unwrap();
        let mut config = with_local_instances(2);
        for round in 0..2 {
            let (handle, service, _network) = prepared(&config, directory.path());
            let backends = || handle.views().borrow().snapshot().backends;
            let words = || backends().iter().map(|it| it.operator).collect::<Vec<_>>();
            let orders = async {
                if round == 0 {
                    say(&handle, "local-0", Verb::Maintenance, 1000).await.unwrap();
                    let last = say(&handle, "local-1", Verb::Drain, 1000).await;
                    assert!(matches!(last, Err(NoAnswer::Refused(_))), "{last:?}");
                    let unknown = say(&handle, "local-2", Verb::Drain, 1000).await;
                    assert!(matches!(unknown, Err(NoAnswer::NotFound(_))), "{unknown:?}");
                    say(&handle, "local-1", Verb::Weight { weight: 5 }, 2000).await.unwrap();
                }
                // Also in the process after this one.
                until(|| words() == [Word::Maintenance, Word::Ready]).await;
                let [out, light] = backends().try_into().unwrap();
                assert_eq!((out.operator_by, out.state), (Some(1000), BackendState::Unknown));
                assert_eq!((light.weight, light.configured_weight), (5, Some(1)));
                assert_eq!(light.weight_by, Some(2000));
                if round == 1 {
                    config.local_weight = 3;
                    handle.update(config.clone(), Shutdown::default());
                    until(|| backends()[1].weight == 3).await;
                    assert_eq!(words(), [Word::Maintenance, Word::Ready]);
                    say(&handle, "local-0", Verb::Ready, 1000).await.unwrap();
                    until(|| words() == [Word::Ready, Word::Ready]).await;
                }
                handle.end();
            };
            let (ended, ()) = tokio::join!(run(service), orders);
            assert!(ended.is_ok());
        }
    }

    #[tokio::test]
    async fn a_service_without_a_network_shows_the_backends_that_it_is_to_have_as_unknown() {
        let directory = tempfile::tempdir().unwrap();
        let mut config = with_local_instances(2);
        let (handle, service, _network) = prepared(&config, directory.path());
        let names = || {
            let status = handle.views().borrow().snapshot();
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
            config.backends = vec![RemoteBackend {
                address: berlin,
                name: "berlin".into(),
                weight: 3,
                client_key: None,
            }];
            handle.update(config, Shutdown::default());
            while names().len() < 3 {
                tokio::task::yield_now().await;
            }
            assert_eq!(names(), [local(0), local(1), ("berlin".to_owned(), 3)]);
            handle.end();
        };
        let (ended, ()) = tokio::join!(run(service), reloaded);
        assert!(ended.is_ok() && handle.has_ended());
    }
}

//! A world in which backends really die, hang and break while HSDirs go on
//! serving their descriptors, the operator reloads, and now and then our own
//! side of the network fails: what does a balancer that probes make of it?
//!
//! HSDirs are dull here, they take everything; their troubles are the other
//! simulation's. What is checked is what the descriptor lists, against what
//! would really answer.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant, SystemTime};

use onionbraid_balancer::command::{Command, Publication};
use onionbraid_balancer::fact::{
    BackendId, Fact, FetchFailure, FetchedDescriptor, ProbeFailure, UploadFailure,
};
use onionbraid_balancer::onion::{
    Capabilities, IntroPoint, OnionAddress, Period, RelayId, SessionId,
};
use onionbraid_balancer::status::{BackendState, ServiceState};
use onionbraid_balancer::{BackendPlace, BackendSettings, Balancer, BalancerSettings};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::timeline::Timeline;
use super::world::{Network, point};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);

/// How often each point is probed.
const EVERY: Duration = Duration::from_secs(30);
/// How long a backend that answers nobody may be listed: until its points have
/// been asked and another backend has done better, and the change is published.
const BOUND: Duration = Duration::from_secs(120);
/// How much longer where each failing probe waits for an answer in vain: all
/// points wait at the same time, and then one of them once more, or twice, since
/// some probes come to nothing.
const WAITING: Duration = Duration::from_secs(3 * 36);
/// How long it may take until a backend that has failed is seen to have other points.
const LOOKED_AT: Duration = Duration::from_secs(4 * 60);
/// When a probe ends at the latest, whatever comes of it ...
const LATEST: Duration = Duration::from_secs(150);
/// ... and when one is given up of which nothing is heard.
const LOST: Duration = Duration::from_secs(3 * 60);
/// After so long a probe under way keeps no other one waiting.
const SLOW: Duration = Duration::from_secs(10);

/// What is simulated.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) locals: u32,
    pub(crate) remotes: u32,
    /// Whether the operator changes weights, adds and removes backends.
    pub(crate) reloads: bool,
    /// Whether the process is started anew now and then, in place of reloads.
    pub(crate) restarts: bool,
    /// Whether our own network fails now and then.
    pub(crate) outages: bool,
    /// How many of a hundred probes fail for no reason that lasts.
    pub(crate) flakes: u8,
}

/// How a backend fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Health {
    Well,
    /// Relays know that its circuits are gone.
    Killed,
    /// Relays do not: introductions vanish.
    Silent,
    /// It answers, and what is behind it does not.
    Broken,
}

#[derive(Debug)]
struct Backend {
    id: BackendId,
    local: bool,
    configured: bool,
    weight: u16,
    health: Health,
    points: Vec<IntroPoint>,
    /// Those that hang though the backend is well.
    hanging: BTreeSet<SessionId>,
    /// Its own descriptor, if it is remote.
    published: Option<(u64, Vec<IntroPoint>)>,
    /// Since when all of this is as it is, and probes are answered in time.
    steady_since: Instant,
}

enum Event {
    Tell(Fact),
    /// A probe ends; `blind` if our network failed since it began.
    Probed(BackendId, SessionId, bool),
    Consensus,
    /// All remote backends publish again.
    Republish,
    /// One backend publishes what it has.
    Publish(BackendId),
    /// An instance has another point instead of this one.
    Replaced(BackendId, SessionId),
    Trouble,
    Recover(BackendId),
    NetworkBack,
    Look,
}

pub(crate) struct Judging {
    plan: Plan,
    balancer: Balancer,
    network: Network,
    backends: Vec<Backend>,
    rng: StdRng,
    its_rng: StdRng,
    time: Timeline<Event>,
    trouble: bool,
    network_down: bool,
    network_since: Instant,
    owners: BTreeMap<SessionId, BackendId>,
    listed: Vec<IntroPoint>,
    /// What decided about the shares when that was listed.
    shares: Vec<(BackendId, u16, usize)>,
    stored: BTreeMap<(Period, RelayId), Vec<SessionId>>,
    /// The probes under way, and since when.
    probes: BTreeMap<(BackendId, SessionId), Instant>,
    replaced: BTreeMap<SessionId, (BackendId, Instant)>,
    removals: usize,
    withdrawn: bool,
}

impl Judging {
    pub(crate) fn new(plan: Plan) -> Self {
        let time = Timeline::new();
        let mut world = Self {
            plan,
            balancer: Balancer::new(BalancerSettings::default()),
            network: Network::new(1440),
            backends: Vec::new(),
            rng: StdRng::seed_from_u64(plan.seed),
            its_rng: StdRng::seed_from_u64(!plan.seed),
            trouble: false,
            network_down: false,
            network_since: time.now.monotonic,
            time,
            owners: BTreeMap::new(),
            listed: Vec::new(),
            shares: Vec::new(),
            stored: BTreeMap::new(),
            probes: BTreeMap::new(),
            replaced: BTreeMap::new(),
            removals: 0,
            withdrawn: false,
        };
        for n in 0..plan.locals + plan.remotes {
            world.add(n < plan.locals);
        }
        world.balancer = Balancer::new(world.settings());
        world.time.schedule(Duration::ZERO, Event::Consensus);
        world.time.schedule(HOUR, Event::Republish);
        world.time.schedule(10 * MINUTE, Event::Trouble);
        world.time.schedule(MINUTE, Event::Look);
        for n in 0..world.backends.len() {
            world.tell_points(n);
        }
        world
    }

    /// Lets time pass, with or without new trouble.
    pub(crate) fn run(&mut self, time: Duration, trouble: bool) {
        self.trouble = trouble;
        let end = self.time.now.monotonic + time;
        loop {
            let event = self.time.next();
            let timeout = self.balancer.poll_timeout();
            let next = event.into_iter().chain(timeout).min().filter(|at| *at <= end);
            let Some(at) = next else { break };
            self.time.advance(at);
            if event == Some(at) {
                let event = self.time.take().unwrap();
                self.happen(event);
            } else {
                self.balancer.handle_timeout(self.time.now, &mut self.its_rng);
            }
            self.obey();
        }
        self.time.advance(end);
    }

    fn between(&mut self, low: Duration, high: Duration) -> Duration {
        self.rng.random_range(low..=high)
    }

    /// In trouble, so many times of a hundred.
    fn chance(&mut self, percent: u8) -> bool {
        self.trouble && self.rng.random_range(0..100) < percent
    }

    #[track_caller]
    fn check(&self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            let hours = self.time.hours();
            panic!("seed {} after {hours:.4} h: {}", self.plan.seed, what());
        }
    }

    fn index(&self, id: BackendId) -> usize {
        self.backends.iter().position(|backend| backend.id == id).unwrap()
    }

    // What the world is like.

    fn add(&mut self, local: bool) {
        let id = BackendId(self.backends.len() as u32);
        self.backends.push(Backend {
            id,
            local,
            configured: true,
            weight: 1,
            health: Health::Well,
            points: Vec::new(),
            hanging: BTreeSet::new(),
            published: None,
            steady_since: self.time.now.monotonic,
        });
        self.fresh_points(self.backends.len() - 1);
    }

    fn fresh_points(&mut self, n: usize) {
        self.backends[n].points = (0..3).map(|_| self.fresh_point(n)).collect();
        self.backends[n].hanging.clear();
        let revision = self.backends[n].published.as_ref().map_or(1, |(revision, _)| revision + 1);
        if !self.backends[n].local {
            self.backends[n].published = Some((revision, self.backends[n].points.clone()));
        }
    }

    /// Every point is at a relay of its own.
    fn fresh_point(&mut self, n: usize) -> IntroPoint {
        let number = self.time.number();
        let fresh = point(number, number as u16);
        self.owners.insert(fresh.session_id, self.backends[n].id);
        fresh
    }

    /// Until then nothing is to be expected of the judgement.
    fn disturb(&mut self, n: usize, until: Instant) {
        let backend = &mut self.backends[n];
        backend.steady_since = backend.steady_since.max(until);
    }

    fn settings(&self) -> BalancerSettings {
        let backend = |backend: &Backend| BackendSettings {
            id: backend.id,
            name: backend.id.0.to_string(),
            kind: if backend.local {
                BackendPlace::Local { expected_points: 3 }
            } else {
                let key = [backend.id.0 as u8; 32];
                BackendPlace::Remote { address: OnionAddress::from_public_key(key) }
            },
            weight: backend.weight,
        };
        BalancerSettings {
            backends: self.backends.iter().filter(|b| b.configured).map(backend).collect(),
            probe_every: Some(EVERY),
            ..BalancerSettings::default()
        }
    }

    fn answers(&self, backend: &Backend, session: SessionId) -> bool {
        backend.health == Health::Well
            && backend.points.iter().any(|point| point.session_id == session)
            && !backend.hanging.contains(&session)
    }

    /// Whether nothing is wrong with it, and has not been for that long.
    fn is_well(&self, backend: &Backend, since: Duration) -> bool {
        backend.configured
            && backend.health == Health::Well
            && backend.hanging.is_empty()
            && self.time.now.monotonic - backend.steady_since > since
    }

    // What happens.

    fn tell(&mut self, fact: Fact) {
        self.balancer.handle_fact(fact, self.time.now, &mut self.its_rng);
    }

    fn tell_points(&mut self, n: usize) {
        let backend = &self.backends[n];
        if backend.local && backend.configured {
            let (backend, points) = (backend.id, backend.points.clone());
            self.tell(Fact::LocalPoints { backend, points, capabilities: Capabilities::default() });
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Tell(fact) => self.tell(fact),
            Event::Probed(backend, session, blind) => self.probed(backend, session, blind),
            Event::Consensus => {
                self.tell(Fact::Network(self.network.view(self.time.now.wall)));
                self.time.schedule(HOUR, Event::Consensus);
            }
            Event::Republish => {
                for backend in &mut self.backends {
                    if let Some((revision, _)) = &mut backend.published
                        && matches!(backend.health, Health::Well | Health::Broken)
                    {
                        *revision += 1;
                    }
                }
                self.time.schedule(HOUR, Event::Republish);
            }
            Event::Publish(id) => {
                let n = self.index(id);
                let backend = &mut self.backends[n];
                if let Some((revision, points)) = &mut backend.published
                    && backend.health == Health::Well
                {
                    *revision += 1;
                    points.clone_from(&backend.points);
                }
            }
            Event::Replaced(id, session) => {
                let n = self.index(id);
                let fresh = self.fresh_point(n);
                if let Some(at) =
                    self.backends[n].points.iter().position(|p| p.session_id == session)
                {
                    self.backends[n].points[at] = fresh;
                    self.backends[n].hanging.remove(&session);
                    self.tell_points(n);
                }
            }
            Event::Trouble => {
                if self.trouble {
                    self.make_trouble();
                }
                let delay = self.between(4 * MINUTE, 16 * MINUTE);
                self.time.schedule(delay, Event::Trouble);
            }
            Event::Recover(id) => self.recover(self.index(id)),
            Event::NetworkBack => {
                (self.network_down, self.network_since) = (false, self.time.now.monotonic);
            }
            Event::Look => {
                self.look();
                self.time.schedule(SECOND * 7, Event::Look);
            }
        }
    }

    fn make_trouble(&mut self) {
        let n = self.rng.random_range(0..self.backends.len());
        let lasts = self.between(30 * SECOND, 30 * MINUTE);
        let now = self.time.now.monotonic;
        match self.rng.random_range(0..10) {
            0 | 1 if self.plan.outages && !self.network_down => {
                (self.network_down, self.network_since) = (true, now);
                let lasts = lasts / 3;
                self.time.schedule(lasts, Event::NetworkBack);
            }
            2 | 3 if self.plan.reloads => self.reload(),
            0..=3 if self.plan.restarts => self.restart(),
            4 => {
                // A point hangs.
                let which = self.rng.random_range(0..self.backends[n].points.len());
                let session = self.backends[n].points[which].session_id;
                self.backends[n].hanging.insert(session);
                self.disturb(n, now);
            }
            5 => {
                // A point is replaced by another.
                let session = self.backends[n].points[0].session_id;
                let id = self.backends[n].id;
                if self.backends[n].health == Health::Well {
                    self.disturb(n, now);
                    self.happen(Event::Replaced(id, session));
                    let delay = self.between(SECOND, MINUTE);
                    self.time.schedule(delay, Event::Publish(id));
                }
            }
            _ if self.backends[n].health == Health::Well => {
                let kinds = [Health::Killed, Health::Silent, Health::Broken];
                let kind = kinds[self.rng.random_range(0..3)];
                // Who is killed together with us tells nobody of it.
                self.backends[n].health = if self.backends[n].local && kind == Health::Killed {
                    Health::Silent
                } else {
                    kind
                };
                self.disturb(n, now);
                self.time.schedule(lasts, Event::Recover(self.backends[n].id));
            }
            _ => {}
        }
    }

    fn recover(&mut self, n: usize) {
        let was = std::mem::replace(&mut self.backends[n].health, Health::Well);
        self.disturb(n, self.time.now.monotonic);
        if was == Health::Killed {
            // As after a restart: with other points, in a new descriptor.
            self.fresh_points(n);
            self.disturb(n, self.time.now.monotonic + LOOKED_AT);
        }
    }

    fn reload(&mut self) {
        let n = self.rng.random_range(0..self.backends.len());
        let configured = self.backends.iter().filter(|backend| backend.configured).count();
        match self.rng.random_range(0..3) {
            0 => self.backends[n].weight = self.rng.random_range(1..4),
            1 if configured > 2 => self.backends[n].configured = false,
            _ if configured < 6 => {
                let local = self.rng.random_range(0..2) == 0;
                self.add(local);
            }
            _ => {}
        }
        self.balancer.reconfigure(self.settings(), self.time.now, &mut self.its_rng);
        self.tell_points(self.backends.len() - 1);
    }

    /// What is listed has to be judged anew; what was found dead stays out.
    fn restart(&mut self) {
        let now = self.time.now;
        self.time.cancel(|event| matches!(event, Event::Tell(_) | Event::Probed(..)));
        self.probes.clear();
        let listed: BTreeSet<_> = self.listed.iter().map(|point| point.session_id).collect();
        for n in 0..self.backends.len() {
            let backend = &self.backends[n];
            let mut points = backend.points.iter().map(|point| point.session_id);
            if points.any(|it| listed.contains(&it) && !self.answers(backend, it)) {
                self.disturb(n, now.monotonic);
            }
        }
        let text = serde_json::to_string(&self.balancer.memory(now)).unwrap();
        let memory = serde_json::from_str(&text).unwrap();
        self.balancer = Balancer::remembering(self.settings(), memory, now);
        self.tell(Fact::Network(self.network.view(now.wall)));
    }

    // What the balancer asks for.

    fn obey(&mut self) {
        while let Some(command) = self.balancer.poll_command() {
            match command {
                Command::Fetch { backend } => self.fetch(backend),
                Command::Probe { backend, point, .. } => self.probe(backend, point.session_id),
                Command::Replace { backend, session } => self.replace(backend, session),
                Command::Publish(publication) => self.store(publication),
                Command::Inspect { .. }
                | Command::Dial { .. }
                | Command::Prove { .. }
                | Command::Renew { .. } => {}
            }
        }
        if let Some(at) = self.balancer.poll_timeout() {
            self.check(at > self.time.now.monotonic, || "it wakes up for nothing".into());
        }
    }

    fn fetch(&mut self, backend: BackendId) {
        let descriptor = self.backends[self.index(backend)].published.clone();
        let outcome = match descriptor {
            _ if self.network_down => Err(FetchFailure::Unreachable("no circuit".into())),
            None => Err(FetchFailure::NotFound),
            Some((revision, points)) => Ok(FetchedDescriptor {
                period: self.network.current(self.time.now.wall),
                revision,
                points,
                flaw: None,
                capabilities: Capabilities::default(),
            }),
        };
        let delay = self.between(SECOND / 2, 4 * SECOND);
        self.time.schedule(delay, Event::Tell(Fact::Fetched { backend, outcome }));
    }

    fn probe(&mut self, id: BackendId, session: SessionId) {
        let now = self.time.now.monotonic;
        self.probes.retain(|_, since| now - *since < LOST);
        let before = self.probes.insert((id, session), now);
        self.check(before.is_none(), || format!("two probes of a point of {id:?} at a time"));
        let quick: Vec<BackendId> = (self.probes.iter())
            .filter(|(_, since)| now - **since < SLOW)
            .map(|((of, _), _)| *of)
            .filter(|of| self.backends.iter().any(|b| b.id == *of && b.configured))
            .collect();
        let own = quick.iter().filter(|of| **of == id).count();
        self.check(own == 1, || format!("{own} quick probes of {id:?} at a time"));
        self.check(quick.len() <= 4, || format!("{} quick probes at a time", quick.len()));
        let n = self.index(id);
        let silent = !self.answers(&self.backends[n], session)
            && matches!(self.backends[n].health, Health::Well | Health::Silent);
        let mut delay = if silent {
            self.between(30 * SECOND, 36 * SECOND)
        } else {
            self.between(SECOND / 2, 3 * SECOND)
        };
        let dice = self.rng.random_range(0..1000);
        if self.trouble && dice < 2 {
            delay = self.between(MINUTE, LATEST);
        }
        let lost = self.trouble && dice == 2;
        if lost || delay >= MINUTE {
            // Nobody can tell before that.
            self.disturb(n, now + if lost { LOST } else { delay });
        }
        if !lost {
            self.time.schedule(delay, Event::Probed(id, session, self.network_down));
        }
    }

    fn probed(&mut self, backend: BackendId, session: SessionId, blind: bool) {
        self.probes.remove(&(backend, session));
        let flake = self.chance(self.plan.flakes);
        let unknown = self.chance(3);
        let of = &self.backends[self.index(backend)];
        let outcome = if self.network_down || blind {
            // Circuits of ours that break look so or so.
            Err(match self.rng.random_range(0..2) {
                0 => ProbeFailure::Inconclusive("no circuit".into()),
                _ => ProbeFailure::Point("no circuit to the relay".into()),
            })
        } else if unknown {
            Err(ProbeFailure::Inconclusive("no rendezvous point".into()))
        } else if of.health == Health::Broken {
            Err(ProbeFailure::Application("502 Bad Gateway".into()))
        } else if of.health == Health::Killed {
            Err(ProbeFailure::Refused("the relay does not know the point".into()))
        } else if flake || !self.answers(of, session) {
            Err(ProbeFailure::Point("no answer".into()))
        } else {
            Ok(())
        };
        self.tell(Fact::Probed { backend, session, outcome });
    }

    fn replace(&mut self, id: BackendId, session: SessionId) {
        let now = self.time.now.monotonic;
        let backend = &self.backends[self.index(id)];
        let recent = now - backend.steady_since.min(now) < BOUND;
        let deserved = !self.answers(backend, session) || recent || self.plan.flakes > 0;
        self.check(backend.local, || "no remote backend's point can be replaced".into());
        self.check(deserved, || format!("{id:?} has a point replaced that answers"));
        let mut own = self.replaced.values().filter(|(of, _)| *of == id);
        let slowly = own.all(|(_, at)| now - *at >= MINUTE);
        self.check(slowly, || format!("{id:?} has points replaced too fast"));
        let before = self.replaced.insert(session, (id, now));
        self.check(before.is_none(), || "a point is replaced twice".into());
        let delay = self.between(SECOND, 5 * SECOND);
        self.time.schedule(delay, Event::Replaced(id, session));
    }

    fn store(&mut self, publication: Publication) {
        let Publication { period, hsdir, as_of, points, .. } = publication;
        if self.listed != points[..] {
            self.check_change(&points);
            self.listed = points.to_vec();
        }
        let outcome = if self.network_down {
            Err(UploadFailure::Unreachable("no circuit".into()))
        } else {
            let sessions = points.iter().map(|point| point.session_id).collect();
            self.stored.insert((period, hsdir), sessions);
            Ok(as_of.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs())
        };
        let delay = self.between(SECOND / 10, 2 * SECOND);
        self.time.schedule(delay, Event::Tell(Fact::Uploaded { period, hsdir, as_of, outcome }));
    }

    // What must hold.

    /// A point leaves only for a reason of its own or for the shares' sake.
    fn check_change(&mut self, new: &[IntroPoint]) {
        let now = self.time.now.monotonic;
        let shares = self.shares_now();
        let same_shares = shares == self.shares;
        let of = |list: &[IntroPoint], id| -> BTreeSet<SessionId> {
            let own = list.iter().filter(|point| self.owners[&point.session_id] == id);
            own.map(|point| point.session_id).collect()
        };
        let mut removals = 0;
        for backend in self.backends.iter().filter(|b| b.configured && !self.withdrawn) {
            let (before, after) = (of(&self.listed, backend.id), of(new, backend.id));
            let still = |session: &&SessionId| {
                backend.points.iter().any(|point| point.session_id == **session)
            };
            let lost: Vec<_> = before.difference(&after).filter(still).collect();
            let steady = now - backend.steady_since.min(now) > BOUND + WAITING;
            let well = lost.iter().filter(|session| self.answers(backend, ***session)).count();
            removals += lost.len() - well;
            if well > 0 && steady && self.plan.flakes == 0 {
                let demanded = !same_shares && after.is_subset(&before);
                self.check(demanded, || format!("{:?} loses points that answer", backend.id));
            }
            // A change just before is published in a few seconds.
            let blind = self.network_down && now - self.network_since > 20 * SECOND;
            let by_share = !same_shares && after.is_subset(&before) && !after.is_empty();
            if !lost.is_empty() && blind {
                self.check(by_share, || format!("{:?} is withdrawn blindly", backend.id));
            }
        }
        self.removals += removals;
        self.shares = shares;
    }

    /// What the shares follow from: who is live, with how many points and what weight.
    fn shares_now(&self) -> Vec<(BackendId, u16, usize)> {
        let status = self.balancer.status();
        let live = status.backends.iter().filter(|b| b.state == BackendState::Up);
        live.map(|b| {
            let id = BackendId(b.name.parse().unwrap());
            (id, b.weight, b.intro_points - b.failing_intro_points)
        })
        .collect()
    }

    /// Whoever is dead long enough, while others live and our network works,
    /// is not listed; whoever hangs in this process is replaced.
    fn look(&self) {
        let now = self.time.now.monotonic;
        let since = now - self.network_since;
        let listed: BTreeSet<_> = self.listed.iter().map(|point| point.session_id).collect();
        for backend in self.backends.iter().filter(|backend| backend.configured) {
            let bound = match backend.health {
                Health::Killed | Health::Broken => BOUND,
                Health::Well | Health::Silent => BOUND + WAITING,
            };
            let bound = if self.plan.flakes > 0 { 2 * bound } else { bound };
            let witness = self
                .backends
                .iter()
                .any(|other| other.id != backend.id && self.is_well(other, bound));
            let steady = now - backend.steady_since.min(now);
            if !witness || self.network_down || since < bound || steady < bound {
                continue;
            }
            for point in &backend.points {
                let bad =
                    listed.contains(&point.session_id) && !self.answers(backend, point.session_id);
                self.check(!bad, || format!("{:?} is {:?} and listed", backend.id, backend.health));
            }
            let patient =
                backend.local && steady > bound + 3 * MINUTE && since > bound + 3 * MINUTE;
            if patient && backend.health == Health::Well {
                let none = backend.hanging.is_empty();
                self.check(none, || format!("{:?} has a hanging point", backend.id));
            }
        }
    }

    /// Everybody is well again: that is known, and everybody is listed.
    pub(crate) fn check_calm(&mut self) {
        for n in 0..self.backends.len() {
            self.recover(n);
            self.backends[n].hanging.clear();
        }
        self.network_down = false;
        self.run(15 * MINUTE, false);
        let status = self.balancer.status();
        self.check(status.state == ServiceState::Published, || "it is published".into());
        self.check(status.problems.is_empty(), || format!("{:?}", status.problems));
        for shown in &status.backends {
            let well = shown.state == BackendState::Up && shown.failing_intro_points == 0;
            self.check(well, || format!("{} is not well: {:?}", shown.name, shown.reason));
            self.check(shown.published_intro_points > 0, || format!("{} is listed", shown.name));
        }
    }

    /// Shuts down: no HSDir that clients ask keeps a local point, if there is
    /// anybody else.
    pub(crate) fn check_withdrawal(&mut self) {
        self.withdrawn = true;
        self.balancer.withdraw(self.time.now, &mut self.its_rng);
        self.obey();
        self.run(30 * SECOND, false);
        self.check(self.balancer.is_withdrawn(), || "it is withdrawn in time".into());
        let local = |session: &SessionId| self.backends[self.index(self.owners[session])].local;
        if !self.backends.iter().any(|backend| backend.configured && !backend.local) {
            return;
        }
        for period in self.network.view(self.time.now.wall).periods.iter().filter(|p| p.current) {
            for hsdir in period.hsdirs.iter().filter(|hsdir| hsdir.asked_by_clients) {
                let held = self.stored.get(&(period.period, hsdir.relay));
                let none = held.is_none_or(|held| !held.iter().any(local));
                self.check(none, || "an HSDir holds a point of ours".into());
            }
        }
    }

    /// How many points left the descriptor because they did not answer.
    pub(crate) fn removals(&self) -> usize {
        self.removals
    }
}

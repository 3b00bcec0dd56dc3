//! What HSDirs and clients see of one or several publishers of an address with
//! many backends: HSDirs forget, strangers publish, publishers end and start
//! again. The backends do little but rotate and die.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant, SystemTime};

use onionbraid_balancer::command::{Command, Publication};
use onionbraid_balancer::fact::{
    BackendId, DialFailure, Fact, FetchFailure, FetchedDescriptor, LinkNews, Now, UploadFailure,
};
use onionbraid_balancer::onion::{
    Capabilities, IntroPoint, OnionAddress, Period, RelayId, SessionId,
};
use onionbraid_balancer::{
    BackendPlace, BackendSettings, Balancer, BalancerSettings, Publishers, Status,
};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::timeline::Timeline;
use super::world::{Network, SimBackend, Stored, counted_to, point};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
/// How long HSDirs keep a descriptor.
const LIFETIME: Duration = Duration::from_secs(180 * 60);

/// What is simulated.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) backends: u16,
    /// In the publisher's process, of which there is one then.
    pub(crate) local: bool,
    pub(crate) publishers: usize,
    /// The time between two troubles of all backends together.
    pub(crate) trouble_every: Option<Duration>,
    /// Whether backends have other points in every period, as C tor's.
    pub(crate) renewing: bool,
}

enum Event {
    /// To this publisher, in this life of it.
    Tell(usize, u32, Fact),
    Consensus,
    Establish(usize),
    Republish(usize, u64),
    Trouble,
}

struct Publisher {
    balancer: Balancer,
    rng: StdRng,
    alive: bool,
    life: u32,
    /// By how much its clock is behind.
    behind: Duration,
    /// For how long its machine has slept: its monotonic clock stood still.
    slept: Duration,
}

impl Publisher {
    /// When it wants to be woken.
    fn timeout(&self) -> Option<Instant> {
        Some(self.balancer.poll_timeout()? + self.slept)
    }
}

/// Publishers, backends and HSDirs.
pub(crate) struct Site {
    plan: Plan,
    rng: StdRng,
    time: Timeline<Event>,
    network: Network,
    backends: Vec<SimBackend>,
    publishers: Vec<Publisher>,
    /// When an HSDir took what it holds.
    since: BTreeMap<(Period, RelayId), Instant>,
    /// The uploads to each HSDir.
    uploads: BTreeMap<(Period, RelayId), Vec<Instant>>,
    /// The times between two of them, each since one that was accepted, ...
    gaps: Vec<Duration>,
    /// ... and from one that was accepted to a look.
    quiet: Vec<Duration>,
    looks: usize,
    /// When the period changed, ...
    changes: Vec<Instant>,
    /// ... and what it changed to last.
    period: Option<Period>,
    owners: BTreeMap<SessionId, usize>,
}

impl Site {
    pub(crate) fn new(plan: Plan) -> Self {
        let mut site = Self {
            plan,
            rng: StdRng::seed_from_u64(plan.seed),
            time: Timeline::new(),
            network: Network::new(1440),
            backends: (0..plan.backends).map(|_| SimBackend::new(plan.local, false)).collect(),
            publishers: Vec::new(),
            since: BTreeMap::new(),
            uploads: BTreeMap::new(),
            gaps: Vec::new(),
            quiet: Vec::new(),
            looks: 0,
            changes: Vec::new(),
            period: None,
            owners: BTreeMap::new(),
        };
        for n in 0..plan.publishers {
            site.publishers.push(Publisher {
                balancer: Balancer::new(site.settings(n)),
                rng: StdRng::seed_from_u64(!plan.seed - n as u64),
                alive: true,
                life: 0,
                behind: Duration::ZERO,
                slept: Duration::ZERO,
            });
        }
        site.time.schedule(Duration::ZERO, Event::Consensus);
        for who in 0..site.backends.len() {
            let delay = site.between(SECOND / 5, 5 * SECOND);
            site.time.schedule(delay, Event::Establish(who));
        }
        if let Some(every) = plan.trouble_every {
            site.time.schedule(HOUR + every, Event::Trouble);
        }
        site
    }

    /// Every publisher counts the backends in an order of its own.
    fn settings(&self, publisher: usize) -> BalancerSettings {
        let backend = |n: u16| BackendSettings {
            id: BackendId(n.into()),
            name: format!("backend-{n}"),
            kind: if self.plan.local {
                BackendPlace::Local { expected_points: 3 }
            } else {
                let mut key = [0; 32];
                key[..2].copy_from_slice(&n.wrapping_mul(40_503).to_be_bytes());
                BackendPlace::Remote { address: OnionAddress::from_public_key(key) }
            },
            weight: 1,
        };
        let mut backends: Vec<_> = (0..self.plan.backends).map(backend).collect();
        if publisher % 2 == 1 {
            backends.reverse();
        }
        let publishers =
            if self.plan.publishers > 1 { Publishers::Several } else { Publishers::One };
        BalancerSettings { backends, publishers, ..BalancerSettings::default() }
    }

    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.time.now.monotonic + time;
        loop {
            let event = self.time.next();
            let alive = self.publishers.iter().enumerate().filter(|(_, it)| it.alive);
            let timeout = alive.filter_map(|(n, it)| Some((it.timeout()?, n))).min();
            let next = event.into_iter().chain(timeout.map(|(at, _)| at)).min();
            let Some(at) = next.filter(|at| *at <= end) else { break };
            self.time.advance(at);
            match timeout {
                Some((due, n)) if due == at => {
                    let now = self.clock_of(n);
                    let it = &mut self.publishers[n];
                    it.balancer.handle_timeout(now, &mut it.rng);
                    self.obey(n);
                }
                _ => {
                    let event = self.time.take().unwrap();
                    self.happen(event);
                }
            }
        }
        self.time.advance(end);
    }

    fn clock_of(&self, publisher: usize) -> Now {
        let Publisher { behind, slept, .. } = self.publishers[publisher];
        Now { wall: self.time.now.wall - behind, monotonic: self.time.now.monotonic - slept }
    }

    fn between(&mut self, low: Duration, high: Duration) -> Duration {
        self.rng.random_range(low..=high)
    }

    #[track_caller]
    pub(crate) fn check(&self, holds: bool, what: &str) {
        let hours = self.time.hours();
        assert!(holds, "seed {} after {hours:.4} h: {what}", self.plan.seed);
    }

    fn tell(&mut self, publisher: usize, fact: Fact) {
        let now = self.clock_of(publisher);
        let it = &mut self.publishers[publisher];
        if it.alive {
            it.balancer.handle_fact(fact, now, &mut it.rng);
            self.obey(publisher);
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Tell(publisher, life, fact) => {
                if self.publishers[publisher].life == life {
                    self.tell(publisher, fact);
                }
            }
            Event::Consensus => {
                let view = self.network.view(self.time.now.wall);
                for publisher in 0..self.publishers.len() {
                    self.tell(publisher, Fact::Network(view.clone()));
                }
                let current = Some(self.network.current(self.time.now.wall));
                if std::mem::replace(&mut self.period, current)
                    .is_some_and(|it| Some(it) != current)
                {
                    self.changes.push(self.time.now.monotonic);
                    let renewed = 0..if self.plan.renewing { self.backends.len() } else { 0 };
                    for who in renewed {
                        self.happen(Event::Establish(who));
                        // It is what is with other HSDirs since half a period.
                        self.backends[who].publish(self.time.now.wall);
                    }
                }
                self.time.schedule(HOUR, Event::Consensus);
            }
            Event::Establish(who) => {
                let points = (0..3).map(|_| self.fresh_point(who)).collect();
                self.backends[who].points = points;
                self.backends[who].alive = true;
                self.changed(who);
            }
            Event::Republish(who, life) if self.backends[who].life == life => {
                self.backends[who].publish(self.time.now.wall);
                let delay = self.between(HOUR, 2 * HOUR);
                self.time.schedule(delay, Event::Republish(who, life));
            }
            Event::Republish(..) => {}
            Event::Trouble => {
                let who = self.rng.random_range(0..self.backends.len());
                if !self.backends[who].alive {
                    self.time.schedule(SECOND, Event::Establish(who));
                } else if self.rng.random_bool(0.3) {
                    self.backends[who].alive = false;
                    self.backends[who].points.clear();
                    self.backends[who].life += 1;
                    if self.plan.local {
                        self.changed(who);
                    }
                } else {
                    let which = self.rng.random_range(0..3);
                    self.backends[who].points[which] = self.fresh_point(who);
                    self.changed(who);
                }
                if let Some(every) = self.plan.trouble_every {
                    let delay = self.between(every / 2, every * 3 / 2);
                    self.time.schedule(delay, Event::Trouble);
                }
            }
        }
    }

    fn fresh_point(&mut self, who: usize) -> IntroPoint {
        let number = self.time.number();
        let at = self.rng.random_range(0..u16::MAX);
        let fresh = point(number.wrapping_mul(0x9e37_79b9_7f4a_7c15), at);
        self.owners.insert(fresh.session_id, who);
        fresh
    }

    fn changed(&mut self, who: usize) {
        let backend = &mut self.backends[who];
        backend.changed_at = self.time.now.wall;
        backend.life += 1;
        if self.plan.local {
            let points = backend.points.clone();
            let backend = BackendId(who as u32);
            let capabilities = Capabilities::default();
            self.tell(0, Fact::LocalPoints { backend, points, capabilities });
        } else {
            let life = backend.life;
            let delay = self.between(SECOND, 30 * SECOND);
            self.time.schedule(delay, Event::Republish(who, life));
        }
    }

    fn obey(&mut self, publisher: usize) {
        while let Some(command) = self.publishers[publisher].balancer.poll_command() {
            let fact = match command {
                Command::Fetch { backend } => self.fetched(backend),
                Command::Publish(publication) => self.store(publication),
                Command::Inspect { period, hsdir } => self.inspected(period, hsdir),
                Command::Dial { backend, .. } => {
                    Fact::Link { backend, news: LinkNews::NotDialled(DialFailure::NotOffered) }
                }
                Command::Probe { .. }
                | Command::Prove { .. }
                | Command::Replace { .. }
                | Command::Renew { .. } => {
                    unreachable!("not wanted")
                }
            };
            let delay = self.between(SECOND / 10, 5 * SECOND);
            let life = self.publishers[publisher].life;
            self.time.schedule(delay, Event::Tell(publisher, life, fact));
        }
    }

    fn fetched(&self, backend: BackendId) -> Fact {
        let found = self.backends[backend.0 as usize].descriptor(false, self.time.now.wall);
        let descriptor = |(revision, points)| FetchedDescriptor {
            period: self.network.current(self.time.now.wall),
            revision,
            points,
            flaw: None,
            capabilities: Capabilities::default(),
        };
        Fact::Fetched { backend, outcome: found.map(descriptor).ok_or(FetchFailure::NotFound) }
    }

    fn held(&self, place: (Period, RelayId)) -> Option<&Stored> {
        let fresh = self.time.now.monotonic - *self.since.get(&place)? < LIFETIME;
        self.network.stored.get(&place).filter(|stored| fresh && !stored.points.is_empty())
    }

    fn inspected(&mut self, period: Period, hsdir: RelayId) -> Fact {
        self.looks += 1;
        let accepted = self.since.get(&(period, hsdir));
        self.quiet.extend(accepted.map(|at| self.time.now.monotonic - *at));
        let descriptor = |stored: &Stored| FetchedDescriptor {
            period,
            revision: stored.revision,
            points: stored.points.clone(),
            flaw: None,
            capabilities: Capabilities::default(),
        };
        let outcome = self.held((period, hsdir)).map(descriptor).ok_or(FetchFailure::NotFound);
        let signed = outcome.as_ref().ok().map(|held| held.revision);
        let counted_to = signed.map(counted_to);
        Fact::Inspected { period, hsdir, outcome, signed, counted_to }
    }

    fn store(&mut self, publication: Publication) -> Fact {
        let Publication { period, hsdir, as_of, points, .. } = publication;
        self.check((1..=20).contains(&points.len()), "1 to 20 points");
        let relays: BTreeSet<_> = points.iter().map(|point| point.relay).collect();
        self.check(relays.len() == points.len(), "one point at each relay");
        let revision = as_of.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let place = (period, hsdir);
        let accepted = self.since.get(&place).map(|at| self.time.now.monotonic - *at);
        self.gaps.extend(accepted);
        self.uploads.entry(place).or_default().push(self.time.now.monotonic);
        let held = self.held(place).map_or(0, |stored| stored.revision);
        let outcome = if revision > held {
            self.network.stored.insert(place, Stored { revision, points: points.to_vec() });
            self.since.insert(place, self.time.now.monotonic);
            Ok(revision)
        } else {
            Err(UploadFailure::Refused("revision too low".into()))
        };
        Fact::Uploaded { period, hsdir, as_of, outcome }
    }

    /// The places that clients ask now, with their replicas.
    fn asked(&self) -> Vec<(u8, (Period, RelayId))> {
        let view = self.network.view(self.time.now.wall);
        let current = view.periods.into_iter().find(|period| period.current).unwrap();
        let asked = current.hsdirs.iter().filter(|hsdir| hsdir.asked_by_clients);
        asked.map(|it| (it.replica, (current.period, it.relay))).collect()
    }

    /// The part of the clients that a backend gets, for all backends.
    pub(crate) fn shares(&self) -> Vec<f64> {
        let asked = self.asked();
        let mut shares = vec![0.0; self.backends.len()];
        for (_, place) in &asked {
            let Some(stored) = self.held(*place) else { continue };
            for point in &stored.points {
                let Some(&who) = self.owners.get(&point.session_id) else { continue };
                if self.backends[who].points.contains(point) {
                    shares[who] += 1.0 / (asked.len() * stored.points.len()) as f64;
                }
            }
        }
        shares
    }

    /// Whether every backend that has been settled for a while is found through
    /// each of so many replicas.
    pub(crate) fn check_coverage(&self, replicas: usize) {
        for (who, backend) in self.backends.iter().enumerate() {
            let age = self.time.now.wall.duration_since(backend.changed_at).unwrap();
            // A descriptor is fetched every 20 minutes at the latest.
            if !backend.alive || age < 25 * MINUTE {
                continue;
            }
            let found: BTreeSet<u8> = self
                .asked()
                .into_iter()
                .filter(|(_, place)| {
                    let points = self.held(*place).into_iter().flat_map(|stored| &stored.points);
                    points.into_iter().any(|point| backend.points.contains(point))
                })
                .map(|(replica, _)| replica)
                .collect();
            self.check(found.len() >= replicas, &format!("clients find backend {who}: {found:?}"));
        }
    }

    /// How many points clients can find.
    pub(crate) fn points_in_use(&self) -> usize {
        let held = self.asked().into_iter().filter_map(|(_, place)| self.held(place));
        held.flat_map(|stored| &stored.points).collect::<BTreeSet<_>>().len()
    }

    /// The most uploads that any HSDir got in the last `time`.
    pub(crate) fn most_uploads(&self, time: Duration) -> usize {
        let recent = |at: &&Instant| self.time.now.monotonic - **at < time;
        self.uploads.values().map(|all| all.iter().filter(recent).count()).max().unwrap_or(0)
    }

    /// The shortest time after a descriptor in which an HSDir got another one.
    pub(crate) fn shortest_gap(&self) -> Duration {
        self.gaps.iter().min().copied().unwrap_or_default()
    }

    /// The shortest time after a descriptor in which an HSDir was asked for it.
    pub(crate) fn soonest_look(&self) -> Option<Duration> {
        self.quiet.iter().min().copied()
    }

    /// How often HSDirs were asked what they hold.
    pub(crate) fn looks(&self) -> usize {
        self.looks
    }

    /// How many uploads under one key each HSDir got within this `time` after a change of
    /// the period.
    pub(crate) fn uploads_after_changes(&self, time: Duration) -> Vec<usize> {
        let after = |all: &Vec<Instant>, change: &Instant| {
            all.iter().filter(|at| (*change..*change + time).contains(*at)).count()
        };
        let all = self.uploads.values();
        let counts = all.flat_map(|all| self.changes.iter().map(|change| after(all, change)));
        counts.filter(|count| *count > 0).collect()
    }

    /// The fewest uploads in the last `time` that an HSDir which clients ask got.
    pub(crate) fn least_uploads(&self, time: Duration) -> usize {
        let recent = |at: &&Instant| self.time.now.monotonic - **at < time;
        let all = self.asked().into_iter().map(|(_, place)| self.uploads.get(&place));
        all.map(|all| all.into_iter().flatten().filter(recent).count()).min().unwrap_or(0)
    }

    /// How many HSDirs that clients ask hold something.
    pub(crate) fn complete(&self) -> usize {
        self.asked().iter().filter(|(_, place)| self.held(*place).is_some()).count()
    }

    /// The HSDirs that clients ask lose what they hold.
    pub(crate) fn forget(&mut self) {
        for (_, place) in self.asked() {
            self.network.stored.remove(&place);
        }
    }

    /// Somebody with our key was at the HSDirs that clients ask.
    pub(crate) fn intrude(&mut self) {
        for (_, place) in self.asked() {
            let held = self.held(place).map_or(0, |stored| stored.revision);
            let points = vec![point(u64::MAX, 7)];
            self.network.stored.insert(place, Stored { revision: held + 3, points });
            self.since.insert(place, self.time.now.monotonic);
        }
    }

    /// How many HSDirs that clients ask hold a point of nobody's.
    pub(crate) fn intruded(&self) -> usize {
        let foreign = |stored: &Stored| {
            stored.points.iter().any(|point| !self.owners.contains_key(&point.session_id))
        };
        self.asked().into_iter().filter(|(_, place)| self.held(*place).is_some_and(foreign)).count()
    }

    /// Whether all HSDirs that clients ask hold the same points.
    pub(crate) fn agrees(&self) -> bool {
        let points = |place| -> Option<BTreeSet<SessionId>> {
            Some(self.held(place)?.points.iter().map(|point| point.session_id).collect())
        };
        self.asked().into_iter().map(|(_, place)| points(place)).collect::<BTreeSet<_>>().len() == 1
    }

    /// A publisher ends and, unless `after` says otherwise, starts again with
    /// its memory and its clock so far `behind`.
    pub(crate) fn restart(&mut self, publisher: usize, behind: Duration) {
        let memory = self.publishers[publisher].balancer.memory(self.clock_of(publisher));
        let text = serde_json::to_string(&memory).unwrap();
        let memory = serde_json::from_str(&text).unwrap();
        self.publishers[publisher].behind = behind;
        self.publishers[publisher].life += 1;
        let now = self.clock_of(publisher);
        let balancer = Balancer::remembering(self.settings(publisher), memory, now);
        self.publishers[publisher].balancer = balancer;
        let view = self.network.view(self.time.now.wall);
        self.tell(publisher, Fact::Network(view));
    }

    /// The machine of a publisher sleeps for a while: whatever it waits for
    /// comes to nothing.
    pub(crate) fn sleep(&mut self, publisher: usize, time: Duration) {
        self.publishers[publisher].alive = false;
        self.run(time);
        self.publishers[publisher].alive = true;
        self.publishers[publisher].slept += time;
    }

    /// A publisher ends for good.
    pub(crate) fn kill(&mut self, publisher: usize) {
        self.publishers[publisher].alive = false;
    }

    pub(crate) fn status(&self, publisher: usize) -> Status {
        self.publishers[publisher].balancer.status()
    }
}

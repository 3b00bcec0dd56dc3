//! The simulator: moves the clock from event to event, answers what the
//! balancer asks for, now and then late, wrongly or not at all, and checks
//! every upload.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant, SystemTime};

use onionbraid_balancer::command::{Command, Publication};
use onionbraid_balancer::fact::{
    BackendId, DialFailure, Fact, FetchFailure, FetchedDescriptor, LinkNews, UploadFailure,
};
use onionbraid_balancer::link::{Condition, Offered};
use onionbraid_balancer::onion::{
    Capabilities, IntroPoint, OnionAddress, Period, RelayId, SessionId,
};
use onionbraid_balancer::status::{Backend, BackendState, Belief, ServiceState};
use onionbraid_balancer::{BackendPlace, BackendSettings, Balancer, BalancerSettings, Distinct};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::attacks::Attacks;
use super::timeline::Timeline;
use super::world::{Dials, Network, SimBackend, counted_to, point};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);

/// So soon one is out of the descriptor that a dial has found dead, the dial included.
const AFTER_A_DIAL: Duration = Duration::from_secs(30);

/// What is simulated.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) locals: u32,
    pub(crate) remotes: u32,
    pub(crate) period_minutes: u32,
    /// The relays that backends choose introduction points from.
    pub(crate) intro_relays: u16,
    /// Whether backends die and come back.
    pub(crate) deaths: bool,
    /// Whether remote backends have control links, which come and go.
    pub(crate) links: bool,
    /// Whether clients are asked for work now and then; every second backend elsewhere
    /// verifies it.
    pub(crate) attacks: bool,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            seed: 0,
            locals: 1,
            remotes: 0,
            period_minutes: 1440,
            intro_relays: u16::MAX,
            deaths: true,
            links: false,
            attacks: false,
        }
    }
}

pub(crate) enum Event {
    Tell(Fact),
    /// A new consensus.
    Consensus,
    /// A backend gets its next point, until it has three.
    Establish(usize, u64),
    /// A backend replaces a point.
    Rotate(usize),
    /// A remote backend publishes, again and again while it lives this life.
    Republish(usize, u64),
    /// ... once, after a change.
    Republished(usize, u64),
    Die(usize),
    Revive(usize),
    /// A backend was met where it was dialled.
    Linked(usize, u64),
    /// It reports its points, as of now, over the link with this number.
    Report(usize, u64),
    /// The link breaks, whatever becomes of the backend.
    Break(usize, u64),
    /// One that had a link when it died this death is out of the descriptor.
    Out(usize, u64),
    /// So much work is needed from now on.
    Effort(u32),
    /// The seeds of the next slot are given; the slot begins.
    Seeds,
    Slot,
    /// A backend gets them over this link.
    Given(usize, u64),
    /// The publisher ends, and begins again with what it wrote down.
    End,
    Begin,
}

pub(crate) struct Simulation {
    pub(crate) plan: Plan,
    pub(crate) balancer: Balancer,
    pub(crate) network: Network,
    pub(crate) backends: Vec<SimBackend>,
    /// The world's dice, and the balancer's.
    rng: StdRng,
    its_rng: StdRng,
    pub(crate) time: Timeline<Event>,
    pub(crate) trouble: bool,
    /// Whether the publisher has ended.
    pub(crate) away: bool,
    /// Whose every session is or was.
    pub(crate) owners: BTreeMap<SessionId, BackendId>,
    /// What the last upload listed ...
    pub(crate) newest: Vec<IntroPoint>,
    /// ... and since when.
    newest_since: Instant,
    /// As of which moment it was.
    newest_as_of: SystemTime,
    /// Who could be listed, at each moment since then at which that changed.
    listable: Vec<BTreeSet<BackendId>>,
    /// Until when nobody was live last.
    nobody_until: Instant,
    uploads: BTreeMap<(Period, RelayId), Vec<(Instant, SystemTime)>>,
    /// The uploads that it waits for.
    pub(crate) in_flight: BTreeMap<(Period, RelayId), (SystemTime, Instant)>,
    /// HSDirs that refused the last one, and when.
    refused: BTreeMap<(Period, RelayId), Instant>,
    fetches: BTreeMap<BackendId, Vec<Instant>>,
    removals_forbidden: bool,
    rotations: usize,
    /// The links that are up, by the number of each.
    pub(crate) links: BTreeMap<usize, u64>,
    pub(crate) attacks: Attacks,
    /// How many were lost, and how many deaths were noticed by that.
    broken: usize,
    noticed: usize,
}

impl Plan {
    /// What the balancer of it is told to do.
    pub(crate) fn settings(self) -> BalancerSettings {
        let plan = self;
        let settings = |n: u32| BackendSettings {
            id: BackendId(n),
            name: format!("backend-{n}"),
            kind: if n < plan.locals {
                BackendPlace::Local { expected_points: 3 }
            } else {
                let address = OnionAddress::from_public_key([n as u8; 32]);
                BackendPlace::Remote { address }
            },
            weight: 1,
        };
        BalancerSettings {
            backends: (0..plan.locals + plan.remotes).map(settings).collect(),
            distinct: Distinct::Never,
            ..BalancerSettings::default()
        }
    }
}

impl Simulation {
    pub(crate) fn new(plan: Plan) -> Self {
        let backends = 0..plan.locals + plan.remotes;
        let balancer = Balancer::new(plan.settings());
        let time = Timeline::new();
        let mut simulation = Self {
            plan,
            balancer,
            network: Network::new(plan.period_minutes),
            backends: backends
                .map(|n| SimBackend::new(n < plan.locals, plan.attacks && n % 2 == 0))
                .collect(),
            rng: StdRng::seed_from_u64(plan.seed),
            its_rng: StdRng::seed_from_u64(!plan.seed),
            trouble: false,
            away: false,
            owners: BTreeMap::new(),
            newest: Vec::new(),
            newest_since: time.now.monotonic,
            newest_as_of: SystemTime::UNIX_EPOCH,
            listable: Vec::new(),
            nobody_until: time.now.monotonic,
            time,
            uploads: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            refused: BTreeMap::new(),
            fetches: BTreeMap::new(),
            removals_forbidden: false,
            rotations: 0,
            links: BTreeMap::new(),
            attacks: Attacks::default(),
            broken: 0,
            noticed: 0,
        };
        simulation.time.schedule(Duration::ZERO, Event::Consensus);
        for who in 0..simulation.backends.len() {
            simulation.begin_life(who);
        }
        if plan.attacks {
            simulation.begin_attacks();
        }
        simulation
    }

    /// Lets time pass, with or without new trouble.
    pub(crate) fn run(&mut self, time: Duration, trouble: bool) {
        self.trouble = trouble;
        if !trouble {
            self.network.dark.clear();
        }
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
                self.note_beliefs();
            }
            self.obey();
        }
        self.time.advance(end);
    }

    pub(crate) fn between(&mut self, low: Duration, high: Duration) -> Duration {
        self.rng.random_range(low..=high)
    }

    pub(crate) fn chance(&mut self, of: f64) -> bool {
        self.trouble && self.rng.random_bool(of)
    }

    #[track_caller]
    pub(crate) fn check(&self, holds: bool, what: &str) {
        let hours = self.time.hours();
        assert!(holds, "seed {} after {hours:.4} h: {what}", self.plan.seed);
    }

    pub(crate) fn tell(&mut self, fact: Fact) {
        if let Fact::Uploaded { period, hsdir, as_of, .. } = &fact {
            let place = (*period, *hsdir);
            if self.in_flight.get(&place).is_some_and(|(awaited, _)| awaited == as_of) {
                self.in_flight.remove(&place);
            }
        }
        self.balancer.handle_fact(fact, self.time.now, &mut self.its_rng);
        self.note_beliefs();
    }

    /// What is believed of the backends now.
    fn note_beliefs(&mut self) {
        let live = |state| matches!(state, BackendState::Up | BackendState::Stale);
        let held_back = |it: &Belief<'_>| it.reason.is_some_and(|it| it.starts_with("held back"));
        let listable = self.balancer.beliefs().filter(|it| live(it.state) && !held_back(it));
        let listable: BTreeSet<_> = listable.map(|it| it.backend).collect();
        self.note_time(!listable.is_empty() && !self.away);
        if listable.is_empty() {
            self.nobody_until = self.time.now.monotonic;
        }
        if self.listable.last() != Some(&listable) {
            self.listable.push(listable);
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Tell(fact) => self.tell(fact),
            Event::Consensus => {
                if self.trouble {
                    self.network.churn(&mut self.rng);
                }
                let view = self.network.view(self.time.now.wall);
                for hsdir in view.periods.iter().flat_map(|period| &period.hsdirs) {
                    if self.chance(0.03) {
                        let until = self.time.now.wall + self.between(MINUTE, 2 * HOUR);
                        self.network.dark.insert(hsdir.relay, until);
                    }
                }
                self.tell(Fact::Network(view));
                let often = Duration::from_secs(u64::from(self.plan.period_minutes) * 60 / 8);
                self.time.schedule(often.min(HOUR), Event::Consensus);
            }
            Event::Establish(who, life) if self.backends[who].life == life => {
                let fresh = self.fresh_point(who);
                self.backends[who].points.push(fresh);
                if self.backends[who].points.len() < 3 {
                    let delay = self.between(SECOND / 5, 3 * SECOND);
                    self.time.schedule(delay, Event::Establish(who, life));
                } else {
                    self.next_trouble(who);
                }
                self.points_changed(who);
            }
            Event::Rotate(who) => {
                if self.trouble && self.backends[who].alive && !self.backends[who].points.is_empty()
                {
                    let fresh = self.fresh_point(who);
                    let which = self.rng.random_range(0..self.backends[who].points.len());
                    self.backends[who].points[which] = fresh;
                    self.rotations += 1;
                    self.points_changed(who);
                }
                self.next_trouble(who);
            }
            Event::Republish(who, life) if self.backends[who].life == life => {
                self.backends[who].publish(self.time.now.wall);
                let delay = self.between(HOUR, 2 * HOUR);
                self.time.schedule(delay, Event::Republish(who, life));
            }
            Event::Republished(who, life) if self.backends[who].life == life => {
                self.backends[who].publish(self.time.now.wall);
            }
            Event::Die(who) if self.trouble && self.backends[who].alive => {
                let backend = &mut self.backends[who];
                (backend.alive, backend.life) = (false, backend.life + 1);
                backend.points.clear();
                backend.seeds = None;
                if backend.local {
                    self.points_changed(who);
                }
                let delay = self.between(MINUTE, 6 * HOUR);
                self.time.schedule(delay, Event::Revive(who));
                if let Some(link) = self.links.get(&who).copied() {
                    // At once, or when the pings find out.
                    let delay = self.between(SECOND / 10, 10 * SECOND);
                    self.time.schedule(delay, Event::Break(who, link));
                    self.backends[who].dials = Dials::default();
                    self.time.schedule(MINUTE, Event::Out(who, self.backends[who].life));
                }
            }
            Event::Linked(who, life) if self.backends[who].life == life => {
                let link = self.time.number();
                self.links.insert(who, link);
                self.time.schedule(Duration::ZERO, Event::Report(who, link));
                if self.plan.attacks {
                    self.time.schedule(SECOND, Event::Given(who, link));
                }
                let delay = self.between(MINUTE, 2 * HOUR);
                self.time.schedule(delay, Event::Break(who, link));
            }
            Event::Linked(who, _) => {
                let failure = DialFailure::Unmet("it died meanwhile".into());
                self.link(who, LinkNews::NotDialled(failure));
            }
            Event::Report(who, link) if self.links.get(&who) == Some(&link) => {
                let points = self.backends[who].points.clone();
                let condition = match points.as_slice() {
                    [] => Condition::Unestablished,
                    _ => Condition::Serving,
                };
                let work = self.work_of(who);
                let offered = Offered { condition, points, work, ..Offered::default() };
                let number = self.time.number();
                self.link(who, LinkNews::Reported { number, offered, flaw: None });
            }
            Event::Break(who, link) if self.links.get(&who) == Some(&link) => {
                self.links.remove(&who);
                self.broken += 1;
                self.link(who, LinkNews::Lost("the circuit broke".into()));
            }
            Event::Out(who, life) if self.backends[who].life == life => {
                let id = BackendId(who as u32);
                let status = self.balancer.status();
                let up = |b: &Backend| matches!(b.state, BackendState::Up | BackendState::Stale);
                let others = (0..).zip(&status.backends).any(|(n, b)| n != who && up(b));
                let (is_dead, dials) = (!self.backends[who].alive, self.backends[who].dials);
                let now = self.time.now.monotonic;
                let is_late = dials.reached_at.is_some_and(|at| now - at >= AFTER_A_DIAL);
                if is_dead && dials.in_vain && !is_late {
                    // Nothing is known of it yet, and it is dialled again.
                    self.time.schedule(AFTER_A_DIAL, Event::Out(who, life));
                } else if others && is_dead && now - self.nobody_until < AFTER_A_DIAL {
                    // Whoever can take its place has only just come.
                    self.time.schedule(AFTER_A_DIAL, Event::Out(who, life));
                } else if others && is_dead {
                    let out = !self.listed().contains(&id);
                    self.check(out, "the dead are out in a minute, or soon after a dial");
                    self.noticed += 1;
                }
            }
            Event::Revive(who) => self.begin_life(who),
            Event::Effort(effort) => self.effort(effort),
            Event::Seeds => self.seeds(),
            Event::Slot => self.slot(),
            Event::End => self.end(),
            Event::Begin => self.begin_again(),
            Event::Given(who, link) if self.links.get(&who) == Some(&link) => {
                self.given(who, link);
            }
            Event::Die(who) => self.next_trouble(who),
            Event::Establish(..) | Event::Republish(..) | Event::Republished(..) => {}
            Event::Report(..) | Event::Break(..) | Event::Out(..) | Event::Given(..) => {}
        }
    }

    fn begin_life(&mut self, who: usize) {
        let life = self.backends[who].life;
        self.backends[who].alive = true;
        let delay = self.between(SECOND / 5, 3 * SECOND);
        self.time.schedule(delay, Event::Establish(who, life));
        if !self.backends[who].local {
            self.time.schedule(10 * SECOND, Event::Republish(who, life));
        }
    }

    /// What befalls a backend next. Now and then, one rotates without end.
    fn next_trouble(&mut self, who: usize) {
        let hectic = self.chance(0.02);
        let delay = if hectic {
            self.between(SECOND, 20 * SECOND)
        } else {
            self.between(10 * MINUTE, 8 * HOUR)
        };
        let dies = self.plan.deaths && !hectic && self.rng.random_bool(0.4);
        self.time.schedule(delay, if dies { Event::Die(who) } else { Event::Rotate(who) });
    }

    fn fresh_point(&mut self, who: usize) -> IntroPoint {
        let number = self.time.number();
        let used: BTreeSet<_> = self.backends[who].points.iter().map(|p| p.relay).collect();
        let fresh = loop {
            let at = self.rng.random_range(0..self.plan.intro_relays);
            let fresh = point(number, at);
            if !used.contains(&fresh.relay) {
                break fresh;
            }
        };
        self.owners.insert(fresh.session_id, BackendId(who as u32));
        fresh
    }

    /// A local instance says where it answers.
    pub(crate) fn tell_points(&mut self, who: usize) {
        let points = self.backends[who].points.clone();
        let backend = BackendId(who as u32);
        self.tell(Fact::LocalPoints { backend, points, capabilities: Capabilities::default() });
    }

    fn points_changed(&mut self, who: usize) {
        self.backends[who].changed_at = self.time.now.wall;
        if self.backends[who].local {
            self.tell_points(who);
        } else if self.backends[who].points.len() == 3 {
            let delay = self.between(SECOND, 30 * SECOND);
            self.time.schedule(delay, Event::Republished(who, self.backends[who].life));
        }
        if let Some(link) = self.links.get(&who).copied() {
            let delay = self.between(SECOND / 10, SECOND);
            self.time.schedule(delay, Event::Report(who, link));
        }
    }

    fn link(&mut self, who: usize, news: LinkNews) {
        self.tell(Fact::Link { backend: BackendId(who as u32), news });
    }

    /// Somebody is met at points that are current.
    fn dial(&mut self, backend: BackendId, points: &[IntroPoint]) {
        let who = backend.0 as usize;
        let ours = self.chance(0.1);
        let met = points.iter().any(|point| self.backends[who].points.contains(point));
        let (now, dials) = (self.time.now.monotonic, &mut self.backends[who].dials);
        match ours {
            true => dials.in_vain = true,
            false => _ = dials.reached_at.get_or_insert(now),
        }
        let event = if ours || !met {
            let failure = match ours {
                true => DialFailure::Inconclusive("no circuit".into()),
                false => DialFailure::Unmet("the relays do not know its points".into()),
            };
            Event::Tell(Fact::Link { backend, news: LinkNews::NotDialled(failure) })
        } else {
            Event::Linked(who, self.backends[who].life)
        };
        let delay = self.between(SECOND / 2, 8 * SECOND);
        self.time.schedule(delay, event);
    }

    /// How many links were lost, and how many deaths were noticed in time by that.
    pub(crate) fn lost_links(&self) -> (usize, usize) {
        (self.broken, self.noticed)
    }

    fn obey(&mut self) {
        while let Some(command) = self.balancer.poll_command() {
            if self.away {
                continue;
            }
            match command {
                Command::Fetch { backend } => self.fetch(backend),
                Command::Publish(publication) => self.store(publication),
                Command::Inspect { period, hsdir } => self.inspect(period, hsdir),
                Command::Dial { backend, points, .. } if self.plan.links => {
                    self.dial(backend, &points);
                }
                Command::Dial { .. } => {}
                Command::Prove { backend, point, work } => self.prove(backend, &point, work),
                Command::Probe { .. } | Command::Replace { .. } | Command::Renew { .. } => {
                    unreachable!("not wanted")
                }
            }
        }
        if let Some(at) = self.balancer.poll_timeout() {
            self.check(at > self.time.now.monotonic, "the balancer wakes up for nothing");
        }
    }

    /// Answers in a moment, seldom late, and now and then not at all.
    pub(crate) fn answer(&mut self, fact: Fact) {
        let delay = if self.chance(0.02) {
            self.between(MINUTE, 3 * MINUTE)
        } else {
            self.between(SECOND / 10, 5 * SECOND)
        };
        if !self.chance(0.03) {
            self.time.schedule(delay, Event::Tell(fact));
        }
    }

    fn fetch(&mut self, backend: BackendId) {
        // Not as the first answer of a period: nobody could tell then.
        let earlier = self.network.current(self.time.now.wall - 10 * MINUTE);
        let old = self.chance(0.1) && earlier == self.network.current(self.time.now.wall);
        let unreachable = self.chance(0.1);
        let now = self.time.now.monotonic;
        let fetches = self.fetches.entry(backend).or_default();
        fetches.push(now);
        let hour = fetches.iter().filter(|at| now - **at < HOUR).count();
        self.check(hour <= 80, "no storm of fetches");
        let found = self.backends[backend.0 as usize].descriptor(old, self.time.now.wall);
        let outcome = match found {
            _ if unreachable => Err(FetchFailure::Unreachable("no circuit".into())),
            None => Err(FetchFailure::NotFound),
            Some((revision, points)) => Ok(FetchedDescriptor {
                period: self.network.current(self.time.now.wall),
                revision,
                points,
                flaw: None,
                capabilities: Capabilities::default(),
            }),
        };
        self.answer(Fact::Fetched { backend, outcome });
    }

    fn store(&mut self, publication: Publication) {
        self.check_upload(&publication);
        let Publication { period, hsdir, as_of, points, .. } = publication;
        let revision = as_of.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let dark = self.network.dark.get(&hsdir).is_some_and(|until| *until > self.time.now.wall);
        let foreign = self.chance(0.01);
        let unreachable = dark || self.chance(0.05);
        let stored = self.network.stored.entry((period, hsdir)).or_default();
        if foreign {
            // Another publisher of the same key was here, with its own counter.
            stored.revision = stored.revision.max(revision + 5 * 60);
        }
        let outcome = if unreachable {
            Err(UploadFailure::Unreachable("no circuit".into()))
        } else if revision <= stored.revision {
            self.refused.insert((period, hsdir), self.time.now.monotonic);
            Err(UploadFailure::Refused("revision too low".into()))
        } else {
            self.refused.remove(&(period, hsdir));
            stored.revision = revision;
            stored.points = points.to_vec();
            Ok(revision)
        };
        self.answer(Fact::Uploaded { period, hsdir, as_of, outcome });
    }

    fn inspect(&mut self, period: Period, hsdir: RelayId) {
        let stored = self.network.stored.get(&(period, hsdir));
        let found = stored.filter(|stored| !stored.points.is_empty()).cloned();
        let outcome = match found {
            _ if self.chance(0.1) => Err(FetchFailure::Unreachable("no circuit".into())),
            None => Err(FetchFailure::NotFound),
            Some(stored) => Ok(FetchedDescriptor {
                period,
                revision: stored.revision,
                points: stored.points,
                flaw: None,
                capabilities: Capabilities::default(),
            }),
        };
        let signed = outcome.as_ref().ok().map(|held| held.revision);
        let counted_to = signed.map(counted_to);
        self.answer(Fact::Inspected { period, hsdir, outcome, signed, counted_to });
    }

    fn check_upload(&mut self, publication: &Publication) {
        self.check_work(publication);
        let Publication { period, hsdir, as_of, points, .. } = publication;
        self.check((1..=20).contains(&points.len()), "1 to 20 points");
        let sessions: BTreeSet<_> = points.iter().map(|point| point.session_id).collect();
        self.check(sessions.len() == points.len(), "every session once");
        let owner = |point: &IntroPoint| self.owners[&point.session_id];
        let of = |id: BackendId| points.iter().filter(|point| owner(point) == id).count();
        for point in points.iter() {
            let here = points.iter().filter(|other| other.relay == point.relay).count();
            self.check(here == 1 || of(owner(point)) == 1, "no second point on a relay");
        }

        let place = (*period, *hsdir);
        let now = self.time.now.monotonic;
        let before = self.uploads.entry(place).or_default();
        let increases = before.last().is_none_or(|(_, last)| *as_of >= *last + SECOND);
        before.push((now, *as_of));
        let hour = before.iter().filter(|(at, _)| now - *at < HOUR).count();
        self.check(increases, "moments increase by a second or more");
        self.check(hour <= 30 + 60, "no upload storm");
        let waits = self.in_flight.insert(place, (*as_of, now));
        let alone = waits.is_none_or(|(_, since)| now - since >= 2 * MINUTE);
        self.check(alone, "one upload at a time");

        if self.removals_forbidden {
            for gone in self.newest.iter().filter(|point| !sessions.contains(&point.session_id)) {
                let backend = &self.backends[owner(gone).0 as usize];
                self.check(!backend.points.contains(gone), "no working point is removed");
            }
        }
        if *as_of == self.newest_as_of && self.newest == points[..] {
            // The same descriptor for another HSDir.
            return;
        }
        self.newest_as_of = *as_of;
        let status = self.balancer.status();
        let new = self.newest != points[..];
        self.newest = points.to_vec();
        if new {
            self.newest_since = now;
        }
        if new && self.backends.len() <= 20 {
            // It was decided at one of these moments, and an HSDir may get it later.
            let listed = self.listed();
            let complete = self.listable.iter().any(|all| all.is_subset(&listed));
            self.check(complete, "every backend believed to live is in a new list");
            self.listable.drain(..self.listable.len() - 1);
        }
        let told = status.descriptors.iter().all(|d| d.intro_points == points.len());
        self.check(told, "the status tells what is uploaded");
    }

    /// After a while without trouble everything is in its place, once what
    /// changed last (a backend that comes back, say) is with the HSDirs.
    pub(crate) fn check_calm(&mut self) {
        let mut patience = 30;
        while self.time.now.monotonic - self.newest_since < 20 * SECOND {
            patience -= 1;
            self.check(patience > 0, "it comes to rest");
            self.run(10 * SECOND, false);
        }
        let status = self.balancer.status();
        let found: usize = status.backends.iter().map(|b| b.published_intro_points).sum();
        self.check(found == self.newest.len(), "the status tells what clients find");
        let mut lives = false;
        let listed = self.listed();
        for (n, backend) in self.backends.iter().enumerate() {
            let id = BackendId(n as u32);
            // A fetch every 10 to 20 minutes sees every change.
            let age = self.time.now.wall.duration_since(backend.changed_at).unwrap_or_default();
            let settled = backend.points.len() == 3 && age > 25 * MINUTE;
            if backend.alive && settled {
                lives = true;
                self.check(listed.contains(&id), "every live backend is listed");
                let mut own = self.newest.iter().filter(|p| self.owners[&p.session_id] == id);
                let current = own.all(|point| backend.points.contains(point));
                self.check(current, "its listed points are those that it has");
            } else if backend.local && !backend.alive && !self.all_down() {
                self.check(!listed.contains(&id), "no dead local instance is listed");
            }
        }
        if lives {
            self.check(status.state == ServiceState::Published, "clients find it");
        }
        if self.newest.is_empty() {
            return;
        }
        for period in self.network_view().periods {
            for hsdir in period.hsdirs {
                let place = (period.period, hsdir.relay);
                let now = self.time.now.monotonic;
                let within = |at: &Instant, time| now - *at < time;
                // The other period follows within half an hour, so that HSDirs of both
                // do not see one change in one second.
                let follows = !period.current && within(&self.newest_since, 31 * MINUTE);
                // One that has refused gets what it refused with the next round.
                let refused = self.refused.get(&place).is_some_and(|at| within(at, 2 * HOUR));
                let stored = self.network.stored.get(&place);
                let newest = stored.is_some_and(|stored| stored.points == self.newest);
                self.check(newest || follows || refused, "every HSDir holds the newest points");
                let last = self.uploads.get(&place).and_then(|all| all.last());
                let lately = last.is_some_and(|(at, _)| within(at, 2 * HOUR));
                self.check(lately, "every HSDir gets a descriptor within two hours");
            }
        }
    }

    fn network_view(&self) -> onionbraid_balancer::fact::NetworkView {
        // What the balancer was told last, since its status names it.
        let mut view = self.network.view(self.time.now.wall);
        let descriptors = self.balancer.status().descriptors;
        view.periods.retain(|p| descriptors.iter().any(|d| d.period == p.period.number));
        view
    }

    pub(crate) fn all_down(&self) -> bool {
        let backends = self.balancer.status().backends;
        backends.iter().all(|b| !matches!(b.state, BackendState::Up | BackendState::Stale))
    }

    /// From now on only points that their backend has given up may leave.
    pub(crate) fn forbid_removals(&mut self) {
        self.removals_forbidden = true;
    }

    /// How many points were replaced so far.
    pub(crate) fn rotations(&self) -> usize {
        self.rotations
    }

    /// The backends in the descriptor.
    pub(crate) fn listed(&self) -> BTreeSet<BackendId> {
        self.newest.iter().map(|point| self.owners[&point.session_id]).collect()
    }

    pub(crate) fn state(&self) -> ServiceState {
        self.balancer.status().state
    }
}

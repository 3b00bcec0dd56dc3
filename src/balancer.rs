//! The balancer: decides, for one service, which introduction points stand in
//! which descriptor on which HSDir, and when to look and publish again.
//!
//! It is pure: facts and the time come in, commands come out, and it owns no
//! socket, clock or random source. The daemon that drives it
//!
//! - passes every [`Fact`] to [`Balancer::handle_fact`],
//! - then carries out every [`Command`] from [`Balancer::poll_command`],
//! - and calls [`Balancer::handle_timeout`] at [`Balancer::poll_timeout`].
//!
//! On every wake-up it looks at the whole of its small state again
//! (`progress`) rather than reacting to the single event: what is missed once,
//! a lost answer say, is seen the next time.
//!
//! Where to find what, in the order in which it looks:
//!
//! - What is told, asked for and wanted: [`fact`], [`command`], `settings`.
//! - Who is live: `backend`. By its own descriptor, `remote`; by asking it as a
//!   client would, `probing` (whom, when, and whether to suspect ourselves) and
//!   `health` (what the answers say).
//! - What the descriptors say: `content`. Whose turn it is, `turns`; which
//!   points, `select` for one set for all HSDirs, `distinct` for different ones.
//! - What is uploaded, where and when: `publish`, with one `ring` for each
//!   period and one `hsdir` for each place in it. Whether it is still there,
//!   `canary`.
//! - What outlives the process: [`memory`]. How to wait: `schedule`.

pub mod command;
pub mod fact;

mod backend;
mod canary;
mod content;
mod distinct;
mod health;
mod hsdir;
pub mod memory;
mod probing;
mod publish;
mod remote;
mod ring;
mod samples;
mod schedule;
mod select;
mod settings;
mod turns;

use std::collections::VecDeque;
use std::time::Instant;

use rand::Rng;

use self::backend::Backend;
use self::command::Command;
use self::content::{Choice, Content, Listed, Live};
use self::fact::{BackendId, Fact, NetworkView, Now};
use self::probing::Probing;
use self::publish::Publisher;
use self::schedule::Alarm;
use crate::observe::snapshot::{self, BackendState, ServiceState};

pub use self::settings::{BackendKind, BackendSettings, Distinct, Publishers, Settings};

/// What the operator sees of one service.
#[derive(Clone, Debug)]
pub struct Status {
    /// Whether clients can find it; it is ready exactly if `Published`.
    pub state: ServiceState,
    /// In the order of the settings; what the shell counts is 0.
    pub backends: Vec<snapshot::Backend>,
    /// One for each period of the network view, in its order.
    pub descriptors: Vec<snapshot::Descriptor>,
    /// What the operator should act on and no backend's state tells.
    pub problems: Vec<String>,
}

/// The policy of one service.
#[derive(Debug)]
pub struct Balancer {
    backends: Vec<Backend>,
    choice: Choice,
    /// What the network directory said last.
    network: Option<NetworkView>,
    /// Why no origin behind the local instances answers, if so.
    origins_down: Option<String>,
    /// Whether the local instances are about to end.
    withdrawing: bool,
    probing: Probing,
    publisher: Publisher,
    commands: VecDeque<Command>,
    timeout: Option<Instant>,
}

impl Balancer {
    /// A balancer that knows nothing of the network and its backends yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            backends: settings.backends.into_iter().map(Backend::new).collect(),
            choice: Choice::new(settings.max_points, settings.distinct, settings.publishers),
            network: None,
            origins_down: None,
            withdrawing: false,
            probing: Probing::new(settings.probe_every),
            publisher: Publisher::new(settings.publishers),
            commands: VecDeque::new(),
            timeout: None,
        }
    }

    /// The operator wants this from now on.
    ///
    /// A backend with an id that is known keeps everything that is known of
    /// it, under its new name and weight; new ones start unknown; the points
    /// of those that are gone leave the descriptor like any point that is gone.
    pub fn reconfigure(&mut self, settings: Settings, now: Now, rng: &mut impl Rng) {
        let mut known = std::mem::take(&mut self.backends);
        for settings in settings.backends {
            let same = known.iter().position(|backend| backend.is_meant_by(&settings));
            let mut backend = match same {
                Some(index) => known.swap_remove(index).with_settings(settings),
                None => Backend::new(settings),
            };
            if let Some(view) = self.network.as_ref().filter(|_| same.is_none()) {
                backend.network_changed(view, now, rng);
            }
            self.backends.push(backend);
        }
        self.choice.max_points = settings.max_points;
        self.choice.distinct = settings.distinct;
        self.choice.publishers = settings.publishers;
        self.publisher.with_publishers(settings.publishers);
        self.probing.set_interval(settings.probe_every, now);
        self.progress(now, rng);
    }

    /// The process is about to end: the points of the local instances leave
    /// the descriptor, if another backend is live. If none is, what is
    /// published stays. There is no way back.
    pub fn withdraw(&mut self, now: Now, rng: &mut impl Rng) {
        if !self.withdrawing {
            self.withdrawing = true;
            self.publisher.allow_changes();
        }
        self.progress(now, rng);
    }

    /// Whether nothing is left to wait for after [`withdraw`](Self::withdraw):
    /// no HSDir that clients ask in the current period holds a point of a
    /// local instance, as far as is known, or no other backend is live.
    pub fn is_withdrawn(&self) -> bool {
        let local = |id| self.backends.iter().any(|b| b.id() == id && b.is_local());
        let listed = self.publisher.listed().iter().flatten().any(|(id, _)| local(*id));
        let others = self.backends.iter().any(|b| b.is_live() && !b.is_local());
        self.withdrawing && (!others || (!listed && self.publisher.has_replaced_all()))
    }

    /// Whether clients may find points of a backend still: they are in the
    /// descriptor, or an HSDir that clients ask may hold one from before. Also
    /// of a backend that [`reconfigure`](Self::reconfigure) has taken out.
    pub fn may_be_found(&self, backend: BackendId) -> bool {
        let listed = self.publisher.listed().iter().flatten().any(|(id, _)| *id == backend);
        listed || !self.publisher.has_replaced_all()
    }

    /// Something has happened. Facts about backends that the settings do not
    /// have, and answers to what was given up, are ignored.
    pub fn handle_fact(&mut self, fact: Fact, now: Now, rng: &mut impl Rng) {
        match fact {
            Fact::Network(view) => {
                for backend in &mut self.backends {
                    backend.network_changed(&view, now, rng);
                }
                self.network = Some(view.clone());
                self.publisher.network_changed(view, now, rng);
            }
            Fact::LocalPoints { backend, points, capabilities } => {
                if let Some(backend) = self.backend(backend) {
                    backend.local_points(backend::Offer { points, capabilities }, now);
                }
            }
            Fact::Fetched { backend, outcome } => {
                if let Some(backend) = self.backend(backend) {
                    backend.fetched(outcome, now, rng);
                }
            }
            Fact::Uploaded { period, hsdir, as_of, outcome } => {
                self.publisher.uploaded((period, hsdir), as_of, outcome, now, rng);
            }
            Fact::Inspected { period, hsdir, outcome } => {
                let live = listable(&self.backends, self.withdrawing).into_iter();
                let points = |backend: &Backend| backend.points().to_vec();
                let owned =
                    live.flat_map(|b| points(b).into_iter().map(|it| (it.session_id, b.id())));
                let live = owned.collect();
                self.publisher.inspected((period, hsdir), &outcome, &live, now);
            }
            Fact::Probed { backend, session, outcome } => {
                let moved = self.probing.probed(backend, session, &outcome, now, rng);
                if let Some(backend) = self.backend(backend).filter(|_| moved) {
                    backend.may_have_moved(now, rng);
                }
            }
            Fact::Origins(outcome) => self.origins(outcome),
        }
        self.progress(now, rng);
    }

    /// The moment that [`poll_timeout`](Self::poll_timeout) named has come.
    /// Calling it at any other time does no harm.
    pub fn handle_timeout(&mut self, now: Now, rng: &mut impl Rng) {
        self.progress(now, rng);
    }

    /// The next thing to do. To be called until there is none, after every
    /// `handle_*`.
    pub fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout), if nothing
    /// happens before. To be asked again after every `handle_*`.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timeout
    }

    /// What the operator sees, as of the last `handle_*`.
    pub fn status(&self) -> Status {
        let backends = self.backends.iter().map(|backend| {
            let id = backend.id();
            let listed = self.publisher.found().iter().filter(|chosen| chosen.backend == id);
            backend.snapshot(listed.count())
        });
        Status {
            state: self.state(),
            backends: backends.collect(),
            descriptors: self.publisher.snapshot(),
            problems: self
                .probing
                .problem()
                .into_iter()
                .chain(self.publisher.problem().map(str::to_owned))
                .collect(),
        }
    }

    fn backend(&mut self, id: BackendId) -> Option<&mut Backend> {
        self.backends.iter_mut().find(|backend| backend.id() == id)
    }

    /// When the origins answer again, what probes through the local instances
    /// found of them is out of date.
    fn origins(&mut self, outcome: Result<(), String>) {
        if outcome.is_ok() && self.origins_down.is_some() {
            for backend in self.backends.iter().filter(|backend| backend.is_local()) {
                self.probing.application_is_back(backend.id());
            }
        }
        self.origins_down = outcome.err();
    }

    /// Looks at everything again and does whatever is due.
    fn progress(&mut self, now: Now, rng: &mut impl Rng) {
        let mut alarm = Alarm::new(now.monotonic);
        for backend in &mut self.backends {
            if backend.progress(self.origins_down.as_deref(), &mut alarm, rng) {
                self.commands.push_back(Command::Fetch { backend: backend.id() });
            }
        }
        self.probing.progress(&self.backends, now, &mut alarm, rng, &mut self.commands);
        for backend in &mut self.backends {
            backend.heed(self.probing.health(backend.id()));
        }
        if let Some(seen) = self.publisher.take_seen()
            && let Some(content) = self.wanted(&seen, now, &mut alarm)
            && content.listed() == seen
        {
            self.publisher.adopt(content);
        }
        let listed = self.publisher.listed().clone();
        let wanted = self.wanted(&listed, now, &mut alarm);
        let settled = self.backends.iter().all(Backend::is_settled);
        self.publisher.progress(wanted, settled, now, &mut alarm, rng, &mut self.commands);
        self.timeout = alarm.next();
    }

    /// What should be published: `None` if no backend is live. Then what is
    /// published stays, since all of them failing at once is more likely our
    /// own error, and a descriptor without points helps nobody.
    fn wanted(&mut self, listed: &Listed, now: Now, alarm: &mut Alarm) -> Option<Content> {
        let live = listable(&self.backends, self.withdrawing).into_iter();
        let live = live.map(|backend| Live {
            backend: backend.id(),
            order: backend.order(),
            weight: backend.weight(),
            points: backend.points(),
            capabilities: &backend.offer().capabilities,
        });
        let all: Vec<_> = self.backends.iter().map(|b| (b.order(), b.id())).collect();
        let replicas = self.publisher.replicas();
        self.choice.content(live.collect(), &all, listed, replicas, now.wall, alarm)
    }

    /// Whether clients can find the service, as of the last `handle_*`.
    pub fn state(&self) -> ServiceState {
        let starting = !self.publisher.has_network()
            || (!self.publisher.has_published()
                && self.backends.iter().any(|b| b.state() == BackendState::Unknown));
        if self.backends.iter().any(Backend::is_live) {
            match (self.publisher.has_network(), self.publisher.is_found()) {
                (false, _) => ServiceState::Starting,
                (true, false) => ServiceState::Publishing,
                (true, true) => ServiceState::Published,
            }
        } else if starting {
            ServiceState::Starting
        } else {
            ServiceState::Down
        }
    }
}

/// The backends whose points may be listed: the live ones, and those without
/// weight only while there is no other.
fn listable(backends: &[Backend], withdrawing: bool) -> Vec<&Backend> {
    let stays = |b: &&Backend| b.is_live() && !(withdrawing && b.is_local());
    let mut live: Vec<&Backend> = backends.iter().filter(stays).collect();
    if live.iter().any(|backend| backend.weight() > 0) {
        live.retain(|backend| backend.weight() > 0);
    }
    live
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rand::rngs::StdRng;

    use super::command::Publication;
    use super::fact::{FetchFailure, FetchedDescriptor, ProbeFailure, UploadFailure};
    use super::samples::{MINUTE, SECOND, later, network, period, point, relay, rng, start};
    use super::*;
    use crate::onion::{Capabilities, IntroPoint, OnionAddress};

    /// A balancer and its world: every fetch and upload is recorded, and every
    /// upload is answered at once unless `deaf`.
    struct World {
        balancer: Balancer,
        now: Now,
        rng: StdRng,
        fetches: usize,
        uploads: Vec<(Duration, Publication)>,
        began: Instant,
        deaf: bool,
        /// Whose points answer no probe; the others' do.
        dead: Option<BackendId>,
    }

    impl World {
        /// `local` instances that expect 3 points each, `remote` backends.
        fn new(local: u32, remote: u8) -> Self {
            let settings = Self::settings(local, remote);
            let now = start();
            Self {
                balancer: Balancer::new(settings),
                now,
                rng: rng(),
                fetches: 0,
                uploads: Vec::new(),
                began: now.monotonic,
                deaf: false,
                dead: None,
            }
        }

        fn settings(local: u32, remote: u8) -> Settings {
            let backend = |name: String, kind| (name, kind);
            let locals = (0..local)
                .map(|n| backend(format!("local-{n}"), BackendKind::Local { expected_points: 3 }));
            let remotes = (0..remote).map(|n| {
                let address = OnionAddress::from_public_key([n; 32]);
                backend(format!("remote-{n}"), BackendKind::Remote { address })
            });
            let backends = (0..).map(BackendId).zip(locals.chain(remotes));
            let backends = backends
                .map(|(id, (name, kind))| BackendSettings { id, name, kind, weight: 1 })
                .collect();
            Settings { backends, ..Settings::default() }
        }

        fn reconfigure(&mut self, settings: Settings) {
            self.balancer.reconfigure(settings, self.now, &mut self.rng);
            self.obey();
        }

        fn withdraw(&mut self) {
            self.balancer.withdraw(self.now, &mut self.rng);
            self.obey();
        }

        fn newest(&self) -> Vec<IntroPoint> {
            self.uploads.last().map_or(Vec::new(), |(_, publication)| publication.points.to_vec())
        }

        fn tell(&mut self, fact: Fact) {
            self.balancer.handle_fact(fact, self.now, &mut self.rng);
            self.obey();
        }

        fn obey(&mut self) {
            while let Some(command) = self.balancer.poll_command() {
                let publication = match command {
                    Command::Publish(publication) => publication,
                    Command::Probe { backend, point } => {
                        self.probed(backend, &point);
                        continue;
                    }
                    _ => {
                        self.fetches += 1;
                        continue;
                    }
                };
                let answer = Fact::Uploaded {
                    period: publication.period,
                    hsdir: publication.hsdir,
                    as_of: publication.as_of,
                    outcome: Ok(self.uploads.len() as u64),
                };
                self.uploads.push((self.now.monotonic - self.began, publication));
                if !self.deaf {
                    self.balancer.handle_fact(answer, self.now, &mut self.rng);
                }
            }
        }

        fn probed(&mut self, backend: BackendId, point: &IntroPoint) {
            let failure = ProbeFailure::Point("no answer".into());
            let outcome = if self.dead == Some(backend) { Err(failure) } else { Ok(()) };
            let answer = Fact::Probed { backend, session: point.session_id, outcome };
            self.balancer.handle_fact(answer, self.now, &mut self.rng);
        }

        fn pass(&mut self, time: Duration) {
            let end = later(self.now, time);
            while let Some(at) = self.balancer.poll_timeout().filter(|at| *at <= end.monotonic) {
                assert!(at > self.now.monotonic, "a timeout lies in the future");
                self.now = later(self.now, at - self.now.monotonic);
                self.balancer.handle_timeout(self.now, &mut self.rng);
                self.obey();
            }
            self.now = end;
        }

        fn local(&mut self, backend: u32, sessions: &[u16]) {
            let points: Vec<IntroPoint> = sessions.iter().map(|n| point(*n, *n)).collect();
            let backend = BackendId(backend);
            self.tell(Fact::LocalPoints { backend, points, capabilities: Capabilities::default() });
        }

        fn fetched(&mut self, backend: u32, revision: u64, sessions: &[u16]) {
            let points = sessions.iter().map(|n| point(*n, *n)).collect();
            let outcome = Ok(FetchedDescriptor {
                period: period(1),
                revision,
                points,
                capabilities: Capabilities::default(),
            });
            self.tell(Fact::Fetched { backend: BackendId(backend), outcome });
        }

        /// When each upload began and how many points it had.
        fn rounds(&self) -> Vec<(u64, usize)> {
            let mut rounds: Vec<_> =
                self.uploads.iter().map(|(at, p)| (at.as_secs(), p.points.len())).collect();
            rounds.dedup();
            rounds
        }

        fn state(&self) -> ServiceState {
            self.balancer.status().state
        }
    }

    #[test]
    fn what_is_complete_is_published_at_once_to_every_hsdir() {
        let mut world = World::new(1, 0);
        world.tell(Fact::Network(network(1, [1, 2])));
        assert_eq!(world.state(), ServiceState::Starting);
        world.local(0, &[1, 2, 3]);
        assert_eq!(world.rounds(), [(0, 3)]);
        assert_eq!(world.uploads.len(), 2);
        assert_eq!(world.state(), ServiceState::Published);
        assert_eq!(world.balancer.status().backends[0].published_intro_points, 3);
        assert_eq!(world.balancer.status().descriptors[0].revision, Some(1));
    }

    #[test]
    fn the_first_points_wait_a_second_for_others_and_no_longer() {
        let mut world = World::new(1, 1);
        world.tell(Fact::Network(network(1, [1, 2])));
        world.local(0, &[1]);
        world.local(0, &[1, 2]);
        assert!(world.uploads.is_empty());
        world.pass(10 * MINUTE);
        assert_eq!(world.rounds(), [(1, 2)]);

        let mut world = World::new(1, 1);
        world.tell(Fact::Network(network(1, [1, 2])));
        world.local(0, &[1, 2, 3]);
        world.tell(Fact::Fetched { backend: BackendId(1), outcome: Err(FetchFailure::NotFound) });
        assert_eq!(world.rounds(), [(0, 3)]);
    }

    #[test]
    fn nothing_is_published_without_points_or_without_a_network() {
        let mut world = World::new(1, 1);
        world.tell(Fact::Network(network(1, [1, 2])));
        world.local(0, &[]);
        world.pass(10 * MINUTE);
        assert!(world.uploads.is_empty() && world.fetches > 3);
        let mut world = World::new(1, 1);
        world.local(0, &[1, 2, 3]);
        world.pass(10 * MINUTE);
        assert!(world.uploads.is_empty() && world.fetches == 0);
        assert_eq!(world.state(), ServiceState::Starting);
        world.tell(Fact::Network(network(1, [1, 2])));
        assert_eq!(world.uploads.len(), 2);
    }

    #[test]
    fn a_dead_point_leaves_sooner_than_a_new_one_comes_and_a_burst_is_one_round() {
        let mut world = World::new(2, 0);
        world.tell(Fact::Network(network(1, [1, 2])));
        world.local(0, &[1, 2, 3]);
        world.local(1, &[4, 5]);
        world.pass(10 * SECOND);
        world.local(1, &[4, 5, 6]);
        world.pass(20 * SECOND);
        world.local(1, &[5, 6]);
        world.pass(SECOND);
        world.local(1, &[5]);
        world.pass(10 * SECOND);
        assert_eq!(world.rounds(), [(1, 5), (15, 6), (33, 3)]);
    }

    #[test]
    fn a_change_that_is_taken_back_in_time_is_not_published() {
        let mut world = World::new(1, 0);
        world.tell(Fact::Network(network(1, [1, 2])));
        world.local(0, &[1, 2, 3]);
        world.pass(10 * SECOND);
        world.local(0, &[1, 2]);
        world.pass(SECOND);
        world.local(0, &[1, 2, 3]);
        world.pass(MINUTE);
        assert_eq!(world.rounds(), [(0, 3)]);
    }

    #[test]
    fn changes_without_end_are_published_at_a_bounded_rate_in_the_newest_form() {
        let mut world = World::new(1, 0);
        world.tell(Fact::Network(network(1, [1, 2])));
        for n in 0..3600 {
            world.local(0, &[n, n + 1, n + 2]);
            world.pass(SECOND);
        }
        let rounds = world.rounds().len();
        assert!((20..=1 + 6 + 30).contains(&rounds), "{rounds}");
        world.pass(3 * MINUTE);
        let newest = &world.uploads.last().unwrap().1.points;
        assert_eq!(newest.last(), Some(&point(3601, 3601)));
    }

    #[test]
    fn a_round_shares_one_moment_and_each_hsdirs_moments_increase_by_two_seconds() {
        let mut world = World::new(1, 0);
        world.tell(Fact::Network(network(1, [1, 2])));
        for n in 0..30 {
            world.local(0, &[n]);
            world.pass(2 * SECOND + SECOND / 2);
            // The clock is set back now and then.
            world.now.wall -= MINUTE;
        }
        let moments = |hsdir| {
            let of = world.uploads.iter().filter(move |(_, p)| p.hsdir == relay(hsdir));
            of.map(|(_, p)| p.as_of).collect::<Vec<_>>()
        };
        assert_eq!(moments(1), moments(2));
        assert!(moments(1).len() > 5);
        assert!(moments(1).windows(2).all(|two| two[1] >= two[0] + 2 * SECOND));
    }

    #[test]
    fn an_hsdir_that_comes_back_gets_a_later_moment_than_it_may_have_seen() {
        let mut world = World::new(1, 0);
        world.tell(Fact::Network(network(1, [1, 2])));
        world.local(0, &[1, 2, 3]);
        world.tell(Fact::Network(network(1, [1, 3])));
        world.now.wall -= MINUTE;
        world.tell(Fact::Network(network(1, [1, 2])));
        world.pass(10 * SECOND);
        let [first, .., last] = &world.uploads[..] else { panic!("uploads") };
        assert_eq!(last.1.hsdir, relay(2));
        assert!(last.1.as_of >= first.1.as_of + 2 * SECOND);
    }

    #[test]
    fn a_change_waits_for_uploads_under_way_but_not_for_long() {
        let mut world = World::new(1, 0);
        world.tell(Fact::Network(network(1, [1, 2])));
        world.deaf = true;
        world.local(0, &[1, 2, 3]);
        world.local(0, &[1, 2]);
        world.pass(9 * SECOND);
        let Publication { period, hsdir, as_of, .. } = world.uploads[0].1.clone();
        assert_eq!(world.uploads.len(), 2);
        // One is slow: after ten seconds the other goes ahead.
        world.tell(Fact::Uploaded { period, hsdir, as_of, outcome: Ok(1) });
        assert_eq!(world.uploads.len(), 2);
        world.pass(2 * SECOND);
        assert_eq!(world.rounds(), [(0, 3), (10, 2)]);
        assert_eq!(world.uploads.len(), 3);
    }

    #[test]
    fn the_last_points_stay_published_when_every_backend_goes() {
        let mut world = World::new(1, 1);
        world.tell(Fact::Network(network(1, [1, 2])));
        world.local(0, &[1, 2, 3]);
        world.fetched(1, 1, &[4, 5, 6]);
        world.local(0, &[]);
        world.pass(20 * SECOND);
        for _ in 0..10 {
            world.tell(Fact::Fetched {
                backend: BackendId(1),
                outcome: Err(FetchFailure::NotFound),
            });
            world.pass(MINUTE);
        }
        assert_eq!(world.state(), ServiceState::Down);
        assert_eq!(world.rounds(), [(0, 6), (2, 3)]);
        // Still published again in its time, and in a new period.
        world.pass(125 * MINUTE);
        world.tell(Fact::Network(network(2, [3, 4])));
        world.pass(MINUTE);
        assert_eq!(world.uploads.last().unwrap().1.period, period(2));
        assert!(world.uploads.iter().all(|(_, p)| !p.points.is_empty()));
    }

    #[test]
    fn only_the_new_hsdir_gets_an_upload_when_the_ring_changes() {
        let mut world = World::new(1, 0);
        world.tell(Fact::Network(network(1, [1, 2])));
        world.local(0, &[1, 2, 3]);
        world.pass(MINUTE);
        world.tell(Fact::Network(network(1, [1, 3])));
        assert_eq!(world.state(), ServiceState::Publishing);
        world.pass(10 * SECOND);
        assert_eq!(world.state(), ServiceState::Published);
        assert_eq!(world.uploads.len(), 3);
        assert_eq!(world.uploads[2].1.hsdir, relay(3));
    }

    #[test]
    fn everything_is_published_again_after_one_to_two_hours() {
        let mut world = World::new(1, 0);
        world.tell(Fact::Network(network(1, [1, 2])));
        world.local(0, &[1, 2, 3]);
        world.pass(24 * 60 * MINUTE);
        let rounds = world.rounds();
        assert!((12..=25).contains(&rounds.len()), "{rounds:?}");
        assert!(rounds.windows(2).all(|two| (3600..=7200).contains(&(two[1].0 - two[0].0))));
        assert_eq!(world.uploads.len(), 2 * rounds.len());
    }

    #[test]
    fn a_service_is_published_only_when_every_replica_has_an_hsdir_that_took_it() {
        let mut world = World::new(1, 0);
        world.deaf = true;
        world.tell(Fact::Network(network(1, [1, 2])));
        world.local(0, &[1, 2, 3]);
        let answer = |world: &mut World, index: usize, outcome| {
            let Publication { period, hsdir, as_of, .. } = world.uploads[index].1.clone();
            world.tell(Fact::Uploaded { period, hsdir, as_of, outcome });
        };
        answer(&mut world, 0, Ok(7));
        assert_eq!(world.state(), ServiceState::Publishing);
        answer(&mut world, 1, Err(UploadFailure::Refused("too low".into())));
        world.pass(10 * SECOND);
        assert_eq!(world.uploads.len(), 3);
        // The answer to an upload that is not under way says nothing.
        answer(&mut world, 1, Ok(8));
        assert_eq!(world.state(), ServiceState::Publishing);
        answer(&mut world, 2, Ok(9));
        assert_eq!(world.state(), ServiceState::Published);
    }

    #[test]
    fn a_backend_without_weight_is_listed_only_while_no_other_is_live() {
        let local = |id, weight| BackendSettings {
            id: BackendId(id),
            name: String::new(),
            kind: BackendKind::Local { expected_points: 1 },
            weight,
        };
        let mut world = World::new(0, 0);
        let backends = vec![local(0, 0), local(1, 5)];
        world.balancer = Balancer::new(Settings { backends, ..Settings::default() });
        world.tell(Fact::Network(network(1, [1, 2])));
        world.local(0, &[1]);
        world.local(1, &[2]);
        let listed = |world: &World| world.uploads.last().unwrap().1.points.to_vec();
        assert_eq!(listed(&world), [point(2, 2)]);
        world.local(1, &[]);
        world.pass(MINUTE);
        assert_eq!(listed(&world), [point(1, 1)]);
    }

    /// The same service after a restart, with what it wrote down.
    fn restarted(world: &World, mut settings: Settings, after: Duration) -> World {
        let text = serde_json::to_string(&world.balancer.memory(world.now)).unwrap();
        // The file may list the backends in another order now.
        settings.backends.reverse();
        let now = later(world.now, after);
        let memory = serde_json::from_str(&text).unwrap();
        let balancer = Balancer::remembering(settings, memory, now);
        World { balancer, now, began: now.monotonic, ..World::new(0, 0) }
    }

    fn two_remotes() -> Settings {
        let remote = |n: u8| BackendSettings {
            id: BackendId(n.into()),
            name: format!("remote-{n}"),
            kind: BackendKind::Remote { address: OnionAddress::from_public_key([n; 32]) },
            weight: 1,
        };
        Settings { backends: (0..2).map(remote).collect(), ..Settings::default() }
    }

    fn with_two_remotes() -> World {
        let mut world = World::new(0, 2);
        world.tell(Fact::Network(network(1, [1, 2])));
        world.fetched(0, 5, &[1, 2, 3]);
        world.fetched(1, 7, &[4, 5, 6]);
        world
    }

    #[test]
    fn after_a_restart_the_same_points_are_published_at_once_and_doubted_until_seen() {
        let before = with_two_remotes();
        let mut world = restarted(&before, two_remotes(), MINUTE);
        world.tell(Fact::Network(network(1, [1, 2])));
        assert_eq!(world.uploads.len(), 2);
        assert_eq!(world.uploads[0].1.points, before.uploads[0].1.points);
        assert_eq!(world.state(), ServiceState::Published);
        let of = |world: &World, id: usize| world.balancer.status().backends[id].clone();
        assert_eq!(of(&world, 0).state, BackendState::Stale);
        assert!(of(&world, 0).reason.unwrap().contains("restart"));
        world.fetched(1, 7, &[4, 5, 6]);
        assert_eq!(of(&world, 0).state, BackendState::Up);
    }

    #[test]
    fn after_a_restart_a_lower_revision_than_seen_is_an_old_copy_still() {
        let mut world = restarted(&with_two_remotes(), two_remotes(), MINUTE);
        world.tell(Fact::Network(network(1, [1, 2])));
        world.fetched(0, 4, &[9]);
        assert_eq!(world.balancer.status().backends[1].intro_points, 3);
        world.fetched(0, 6, &[9]);
        assert_eq!(world.balancer.status().backends[1].intro_points, 1);
    }

    #[test]
    fn after_a_restart_with_the_clock_set_back_revisions_grow_still() {
        let before = with_two_remotes();
        let newest = before.uploads.last().unwrap().1.as_of;
        let mut world = restarted(&before, two_remotes(), Duration::ZERO);
        world.now.wall -= 10 * MINUTE;
        world.tell(Fact::Network(network(1, [3, 4])));
        assert!(world.uploads.iter().all(|(_, p)| p.as_of >= newest + SECOND));
    }

    #[test]
    fn after_a_long_pause_old_points_are_not_offered_and_of_a_dead_backend_none_are() {
        let mut world = restarted(&with_two_remotes(), two_remotes(), 181 * MINUTE);
        world.tell(Fact::Network(network(1, [1, 2])));
        world.pass(MINUTE);
        assert!(world.uploads.is_empty());

        let mut before = with_two_remotes();
        for _ in 0..10 {
            let outcome = Err(FetchFailure::NotFound);
            before.tell(Fact::Fetched { backend: BackendId(0), outcome });
            before.pass(MINUTE);
        }
        let mut world = restarted(&before, two_remotes(), MINUTE);
        world.tell(Fact::Network(network(1, [1, 2])));
        world.pass(MINUTE);
        assert_eq!(world.rounds(), [(1, 3)]);
    }

    fn points(sessions: &[u16]) -> Vec<IntroPoint> {
        sessions.iter().map(|n| point(*n, *n)).collect()
    }

    #[test]
    fn a_reload_moves_nothing_of_the_backends_that_it_leaves_alone() {
        let mut world = World::new(2, 1);
        world.tell(Fact::Network(network(1, [1, 2])));
        world.local(0, &[1, 2, 3]);
        world.local(1, &[4, 5, 6]);
        world.fetched(2, 1, &[7, 8, 9]);
        world.pass(MINUTE);
        let fetches = world.fetches;
        // A second remote backend comes, the first local instance goes.
        let mut settings = World::settings(2, 2);
        let renamed = &mut settings.backends[2];
        renamed.name = "berlin".into();
        settings.backends.remove(0);
        world.reconfigure(settings);
        assert!(world.balancer.may_be_found(BackendId(0)));
        assert_eq!(world.fetches, fetches + 1, "the new backend is fetched at once");
        world.pass(20 * SECOND);
        assert_eq!(world.newest(), points(&[4, 5, 6, 7, 8, 9]));
        assert!(!world.balancer.may_be_found(BackendId(0)));
        assert!(world.balancer.may_be_found(BackendId(1)));
        world.fetched(3, 1, &[10, 11, 12]);
        world.pass(20 * SECOND);
        assert_eq!(world.newest(), points(&[4, 5, 6, 7, 8, 9, 10, 11, 12]));
        let status = world.balancer.status();
        let shown: Vec<_> = status.backends.iter().map(|b| (&b.name[..], b.revision)).collect();
        assert_eq!(shown, [("local-1", None), ("berlin", Some(1)), ("remote-1", Some(1))]);
    }

    #[test]
    fn a_reload_without_a_change_changes_nothing_and_a_weight_counts_at_once() {
        let mut world = World::new(2, 0);
        world.tell(Fact::Network(network(1, [1, 2])));
        world.local(0, &[1, 2, 3]);
        world.local(1, &[4, 5, 6]);
        world.pass(MINUTE);
        world.reconfigure(World::settings(2, 0));
        world.pass(MINUTE);
        assert_eq!(world.rounds(), [(0, 6)]);
        let mut settings = World::settings(2, 0);
        settings.backends[1].weight = 3;
        world.reconfigure(settings);
        assert_eq!(world.balancer.status().backends[1].weight, 3);
        world.pass(3 * SECOND);
        assert_eq!(world.newest(), points(&[1, 4, 5, 6]));
    }

    #[test]
    fn the_points_of_the_last_backend_stay_until_those_of_its_successor_are_known() {
        let mut world = World::new(0, 1);
        world.tell(Fact::Network(network(1, [1, 2])));
        world.fetched(0, 1, &[1, 2, 3]);
        let mut settings = World::settings(0, 2);
        settings.backends.remove(0);
        world.reconfigure(settings);
        world.pass(MINUTE);
        assert_eq!(world.newest(), points(&[1, 2, 3]));
        world.fetched(1, 1, &[4, 5, 6]);
        world.pass(MINUTE);
        assert_eq!(world.newest(), points(&[4, 5, 6]));
    }

    #[test]
    fn an_id_with_another_address_is_another_backend() {
        let mut world = World::new(0, 2);
        world.tell(Fact::Network(network(1, [1, 2])));
        world.fetched(0, 1, &[1, 2, 3]);
        let mut settings = World::settings(0, 2);
        settings.backends.remove(0);
        settings.backends[0].id = BackendId(0);
        world.reconfigure(settings);
        assert_eq!(world.balancer.status().backends[0].state, BackendState::Unknown);
    }

    #[test]
    fn local_points_are_withdrawn_from_every_hsdir_before_the_end() {
        let mut world = World::new(1, 1);
        world.tell(Fact::Network(network(1, [1, 2])));
        world.local(0, &[1, 2, 3]);
        world.fetched(1, 1, &[4, 5, 6]);
        world.pass(MINUTE);
        world.deaf = true;
        world.withdraw();
        assert!(!world.balancer.is_withdrawn());
        world.pass(3 * SECOND);
        assert_eq!(world.newest(), points(&[4, 5, 6]));
        let [.., first, second] = &world.uploads[..] else { panic!("two uploads") };
        let answers = [first, second].map(|(_, of)| Fact::Uploaded {
            period: of.period,
            hsdir: of.hsdir,
            as_of: of.as_of,
            outcome: Ok(1),
        });
        let [first, second] = answers;
        world.tell(first);
        assert!(!world.balancer.is_withdrawn(), "an upload is under way");
        world.tell(second);
        assert!(world.balancer.is_withdrawn());
        // There is no way back, whatever the instances say.
        world.local(0, &[7, 8, 9]);
        world.pass(10 * MINUTE);
        assert_eq!(world.newest(), points(&[4, 5, 6]));
    }

    #[test]
    fn an_hsdir_that_refuses_the_withdrawal_keeps_it_waiting() {
        let mut world = World::new(1, 1);
        world.tell(Fact::Network(network(1, [1, 2])));
        world.local(0, &[1, 2, 3]);
        world.fetched(1, 1, &[4, 5, 6]);
        world.pass(MINUTE);
        world.withdraw();
        world.deaf = true;
        world.pass(3 * SECOND);
        let last = world.uploads.split_off(world.uploads.len() - 2);
        for (_, of) in last {
            let refused = Err(UploadFailure::Refused("too low".into()));
            let outcome = if of.hsdir == relay(1) { Ok(1) } else { refused };
            let Publication { period, hsdir, as_of, .. } = of;
            world.tell(Fact::Uploaded { period, hsdir, as_of, outcome });
        }
        assert!(!world.balancer.is_withdrawn());
        world.deaf = false;
        world.pass(3 * SECOND);
        assert!(world.balancer.is_withdrawn());
    }

    #[test]
    fn with_no_other_live_backend_there_is_nothing_to_withdraw() {
        let mut world = World::new(1, 1);
        world.tell(Fact::Network(network(1, [1, 2])));
        world.local(0, &[1, 2, 3]);
        world.pass(MINUTE);
        assert!(!world.balancer.is_withdrawn());
        world.withdraw();
        assert!(world.balancer.is_withdrawn());
        world.local(0, &[]);
        world.pass(MINUTE);
        assert_eq!(world.newest(), points(&[1, 2, 3]));
    }

    #[test]
    fn a_withdrawal_does_not_wait_for_the_changes_before_it() {
        let mut world = World::new(1, 1);
        world.tell(Fact::Network(network(1, [1, 2])));
        world.fetched(1, 1, &[4, 5, 6]);
        for n in 100..200 {
            world.local(0, &[n, n + 1, n + 2]);
            world.pass(SECOND);
        }
        world.withdraw();
        world.pass(10 * SECOND);
        assert!(world.balancer.is_withdrawn());
    }

    #[test]
    fn local_instances_are_down_while_their_origins_are_and_back_at_once() {
        let mut world = World::new(1, 1);
        world.tell(Fact::Network(network(1, [1, 2])));
        world.local(0, &[1, 2, 3]);
        world.fetched(1, 1, &[4, 5, 6]);
        world.pass(MINUTE);
        world.tell(Fact::Origins(Err("http://127.0.0.1:8080 refuses connections".into())));
        let shown = world.balancer.status().backends;
        assert_eq!([shown[0].state, shown[1].state], [BackendState::Down, BackendState::Up]);
        assert!(shown[0].reason.as_ref().unwrap().contains("refuses connections"));
        world.pass(5 * SECOND);
        assert_eq!(world.newest(), points(&[4, 5, 6]));
        world.tell(Fact::Origins(Ok(())));
        assert_eq!(world.balancer.status().backends[0].state, BackendState::Up);
        world.pass(10 * SECOND);
        assert_eq!(world.newest(), points(&[4, 5, 6, 1, 2, 3]));
    }

    #[test]
    fn origins_that_are_down_empty_no_descriptor_and_count_for_new_instances_too() {
        let mut world = World::new(1, 0);
        world.tell(Fact::Network(network(1, [1, 2])));
        world.local(0, &[1, 2, 3]);
        world.tell(Fact::Origins(Err("refused".into())));
        world.pass(10 * MINUTE);
        assert_eq!(world.state(), ServiceState::Down);
        assert_eq!(world.rounds(), [(0, 3)]);
        world.reconfigure(World::settings(2, 0));
        world.local(1, &[4, 5, 6]);
        assert_eq!(world.balancer.status().backends[1].state, BackendState::Down);
    }

    #[test]
    fn a_dead_backend_leaves_the_descriptor_within_90_seconds_and_at_once() {
        let mut world = World::new(0, 3);
        let probed = Settings { probe_every: Some(30 * SECOND), ..World::settings(0, 3) };
        world.balancer = Balancer::new(probed);
        world.tell(Fact::Network(network(1, [1, 2])));
        for backend in 0..3u16 {
            let first = 1 + 3 * backend;
            world.fetched(backend.into(), 1, &[first, first + 1, first + 2]);
        }
        world.pass(10 * MINUTE);
        let before = world.rounds().len();
        world.dead = Some(BackendId(1));
        world.pass(90 * SECOND);
        assert_eq!(world.newest(), points(&[1, 2, 3, 7, 8, 9]));
        assert_eq!(world.rounds().len(), before + 1, "all of its points at once");
        let shown = &world.balancer.status().backends[1];
        assert_eq!((shown.state, shown.failing_intro_points), (BackendState::Down, 3));
        // HSDirs still serve the descriptor that it published in its lifetime.
        world.fetched(1, 1, &[4, 5, 6]);
        world.pass(10 * MINUTE);
        assert_eq!(world.rounds().len(), before + 1);
        world.dead = None;
        world.pass(90 * SECOND);
        assert_eq!(world.newest(), points(&[1, 2, 3, 7, 8, 9, 4, 5, 6]));
    }

    #[test]
    fn facts_about_unknown_backends_and_hsdirs_are_ignored() {
        let mut world = World::new(1, 0);
        world.local(7, &[1]);
        world.fetched(0, 1, &[1]);
        world.tell(Fact::Uploaded {
            period: period(1),
            hsdir: relay(1),
            as_of: world.now.wall,
            outcome: Ok(1),
        });
        assert_eq!(world.balancer.status().backends[0].intro_points, 0);
    }
}

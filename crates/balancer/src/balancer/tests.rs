//! What does the balancer ask for when things happen to a service?

#![cfg(test)]

mod links;
mod readers;
mod takeover;
mod work;

use std::collections::BTreeSet;
use std::time::Duration;

use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::*;
use crate::command::Publication;
use crate::fact::{
    DialFailure, FetchFailure, FetchedDescriptor, LinkNews, PeriodView, ProbeFailure,
    ResponsibleHsdir, UploadFailure,
};
use crate::onion::{Capabilities, ClientKey, IntroPoint, OnionAddress, Period, RelayId};
use crate::operator::{OperatorOrder, OrderRefused, Verb};
use crate::pow::{OwnWork, SeedSlot};
use crate::samples::{MINUTE, SECOND, later, network, period, point, relay, rng, start};
use crate::settings::{BackendPlace, BackendSettings, Publishers};
use crate::status::{BackendState, ServiceState};

/// A balancer and its world: every fetch and upload is recorded, and every
/// upload is answered at once unless `deaf`.
struct World {
    balancer: Balancer,
    now: Now,
    rng: StdRng,
    fetches: usize,
    /// When a control link was dialled, to which backend and at how many points.
    dials: Vec<(Duration, u32, usize)>,
    /// How dials end, if they do.
    undialled: Option<DialFailure>,
    /// The work of the last dial.
    dial_work: Option<OwnWork>,
    /// The tries whether backends verify work, and how they end, if they do.
    proofs: Vec<(u32, IntroPoint, OwnWork)>,
    proven: Option<Result<(), ProbeFailure>>,
    uploads: Vec<(Duration, Publication)>,
    /// Local instances that were told to have other points.
    renewed: Vec<u32>,
    began: Instant,
    deaf: bool,
    /// What backends say over their links beside their points.
    also: Offered,
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
            dials: Vec::new(),
            undialled: None,
            dial_work: None,
            proofs: Vec::new(),
            proven: Some(Ok(())),
            uploads: Vec::new(),
            renewed: Vec::new(),
            began: now.monotonic,
            deaf: false,
            also: Offered::default(),
            dead: None,
        }
    }

    /// The same, and a network with two HSDirs is known.
    fn on_network(local: u32, remote: u8) -> Self {
        let mut world = Self::new(local, remote);
        world.tell(Fact::Network(network(1, [1, 2])));
        world
    }

    fn settings(local: u32, remote: u8) -> BalancerSettings {
        let backend = |name: String, kind| (name, kind);
        let locals = (0..local)
            .map(|n| backend(format!("local-{n}"), BackendPlace::Local { expected_points: 3 }));
        let remotes = (0..remote).map(|n| {
            let address = OnionAddress::from_public_key([n; 32]);
            backend(format!("remote-{n}"), BackendPlace::Remote { address })
        });
        let backends = (0..).map(BackendId).zip(locals.chain(remotes));
        let backends = backends
            .map(|(id, (name, kind))| BackendSettings { id, name, kind, weight: 1 })
            .collect();
        // Room for every point of three backends.
        BalancerSettings { backends, max_points: Some(9), ..BalancerSettings::default() }
    }

    fn reconfigure(&mut self, settings: BalancerSettings) {
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

    /// Answers the uploads so far: this HSDir does not take them, the others do.
    fn refuse(&mut self, refusing: RelayId, failure: impl Fn() -> UploadFailure) {
        for (_, it) in std::mem::take(&mut self.uploads) {
            let Publication { period, hsdir, as_of, .. } = it;
            let outcome = if hsdir == refusing { Err(failure()) } else { Ok(1) };
            self.tell(Fact::Uploaded { period, hsdir, as_of, outcome });
        }
    }

    fn obey(&mut self) {
        while let Some(command) = self.balancer.poll_command() {
            let publication = match command {
                Command::Publish(publication) => publication,
                Command::Probe { backend, point, .. } => {
                    self.probed(backend, &point);
                    continue;
                }
                Command::Dial { backend, points, work } => {
                    self.dial_work = work;
                    self.dials.push((self.now.monotonic - self.began, backend.0, points.len()));
                    if let Some(failure) = self.undialled.clone() {
                        let news = LinkNews::NotDialled(failure);
                        let answer = Fact::Link { backend, news };
                        self.balancer.handle_fact(answer, self.now, &mut self.rng);
                    }
                    continue;
                }
                Command::Prove { backend, point, work } => {
                    self.proofs.push((backend.0, point, work));
                    if let Some(outcome) = self.proven.clone() {
                        let answer = Fact::Proved { backend, outcome };
                        self.balancer.handle_fact(answer, self.now, &mut self.rng);
                    }
                    continue;
                }
                Command::Renew { backend } => {
                    self.renewed.push(backend.0);
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
        // As of a backend that was killed: its relays have lost its points.
        let failure = ProbeFailure::Refused("no such point".into());
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

    /// Lets time pass and leaves the commands to the test.
    fn pass_by(&mut self, time: Duration) {
        self.now = later(self.now, time);
        self.balancer.handle_timeout(self.now, &mut self.rng);
    }

    fn local(&mut self, backend: u32, sessions: &[u16]) {
        let points: Vec<IntroPoint> = sessions.iter().map(|n| point(*n, *n)).collect();
        let backend = BackendId(backend);
        self.tell(Fact::LocalPoints { backend, points, capabilities: Capabilities::default() });
    }

    fn fetched(&mut self, backend: u32, revision: u64, sessions: &[u16]) {
        self.fetched_in(1, backend, revision, sessions);
    }

    /// The same of a descriptor of the period with this number.
    fn fetched_in(&mut self, number: u64, backend: u32, revision: u64, sessions: &[u16]) {
        let outcome = Ok(descriptor(period(number), revision, points(sessions)));
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
    let mut world = World::on_network(1, 0);
    assert_eq!(world.state(), ServiceState::Starting);
    world.local(0, &[1, 2, 3]);
    assert_eq!(world.rounds(), [(0, 3)]);
    assert_eq!(world.uploads.len(), 2);
    assert_eq!(world.state(), ServiceState::Published);
    assert_eq!(world.balancer.status().backends[0].published_intro_points, 3);
    assert_eq!(world.balancer.status().descriptors[0].revision, Some(1));
}

#[test]
fn the_first_points_wait_some_seconds_for_others_and_no_longer() {
    let mut world = World::on_network(1, 1);
    world.local(0, &[1]);
    world.local(0, &[1, 2]);
    assert!(world.uploads.is_empty());
    world.pass(10 * MINUTE);
    assert_eq!(world.rounds(), [(6, 2)]);

    let mut world = World::on_network(1, 1);
    world.local(0, &[1, 2, 3]);
    world.tell(Fact::Fetched { backend: BackendId(1), outcome: Err(FetchFailure::NotFound) });
    assert_eq!(world.rounds(), [(0, 3)]);
}

#[test]
fn nothing_is_published_without_points_or_without_a_network() {
    let mut world = World::on_network(1, 1);
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
    let mut world = World::on_network(2, 0);
    world.local(0, &[1, 2, 3]);
    world.local(1, &[4, 5]);
    world.pass(70 * SECOND);
    world.local(1, &[4, 5, 6]);
    world.pass(80 * SECOND);
    world.local(1, &[5, 6]);
    world.pass(SECOND);
    world.local(1, &[5]);
    world.pass(10 * SECOND);
    assert_eq!(world.rounds(), [(6, 5), (75, 6), (153, 3)]);
}

#[test]
fn an_hsdir_gets_one_descriptor_a_minute_unless_clients_would_lose_by_it() {
    // Two points come one after the other: whoever has a descriptor can wait.
    let mut world = World::on_network(1, 1);
    world.local(0, &[1, 2, 3]);
    world.fetched(1, 1, &[11, 12]);
    world.pass(5 * SECOND);
    world.fetched(1, 2, &[11, 12, 13]);
    world.pass(20 * SECOND);
    world.fetched(1, 3, &[12, 13, 14]);
    world.pass(MINUTE);
    assert_eq!(world.rounds(), [(0, 5), (60, 6)]);
    // An operator waits for it.
    world.say(1, Verb::Maintenance, false).unwrap();
    world.pass(10 * SECOND);
    assert_eq!(world.rounds()[2..], [(85, 3)]);
    // Clients find nothing where the last point has gone.
    world.local(0, &[4, 5, 6]);
    world.pass(10 * SECOND);
    assert_eq!(world.newest(), points(&[4, 5, 6]));
}

#[test]
fn after_a_change_of_the_period_hsdirs_get_one_descriptor_with_what_every_backend_has_there() {
    let both = |current: u64, other: u64| {
        let of = |number: u64| network(number, [1, 2].map(|n| 10 * number as u16 + n));
        let (mut view, other) = (of(current), of(other).periods.remove(0));
        view.periods.push(PeriodView { current: false, ..other });
        Fact::Network(view)
    };
    let mut world = World::new(1, 2);
    world.tell(both(1, 2));
    world.local(0, &[1, 2, 3]);
    world.fetched(1, 1, &[11, 12, 13]);
    world.fetched(2, 1, &[21, 22, 23]);
    world.pass(30 * MINUTE);
    let uploads = world.uploads.len();
    assert_eq!(uploads, 4);
    world.tell(both(2, 3));
    world.pass(20 * SECOND);
    world.fetched_in(2, 1, 1, &[14, 15, 16]);
    world.pass(30 * SECOND);
    assert_eq!(world.uploads.len(), uploads + 2, "the other one may have other points, too");
    world.fetched_in(2, 2, 1, &[24, 25, 26]);
    world.pass(30 * MINUTE);
    assert_eq!(world.uploads.len(), uploads + 4, "one for each HSDir that clients ask now");
    assert!(world.uploads[uploads + 2..].iter().all(|(_, it)| it.period == period(2)));
    // One that cannot be fetched is not waited for long.
    world.tell(both(3, 4));
    world.pass(20 * SECOND);
    world.fetched_in(3, 1, 1, &[17, 18, 19]);
    world.pass(89 * SECOND);
    assert_eq!(world.uploads.len(), uploads + 6);
    world.pass(SECOND);
    assert_eq!(world.uploads.len(), uploads + 8);
}

#[test]
fn who_takes_over_from_dead_points_while_a_new_period_begins_is_published_at_once() {
    let mut world = World::new(1, 1);
    let view = |number: u64| network(number, [1, 2]);
    world.tell(Fact::Network(view(1)));
    world.local(0, &[1, 2, 3]);
    world.pass(2 * MINUTE);
    world.local(0, &[1, 2, 4]);
    world.pass(10 * SECOND);
    let uploads = world.uploads.len();
    assert_eq!(uploads, 4);
    let both =
        vec![view(2).periods.remove(0), PeriodView { current: false, ..view(1).periods.remove(0) }];
    world.tell(Fact::Network(NetworkView { periods: both }));
    world.local(0, &[]);
    world.fetched_in(2, 1, 1, &[14, 15, 16]);
    world.pass(5 * SECOND);
    let newest = |number: u64| {
        let last = world.uploads.iter().rfind(|(_, it)| it.period == period(number));
        last.map(|(_, it)| it.points.to_vec())
    };
    assert_eq!([newest(1), newest(2)], [1, 2].map(|_| Some(points(&[14, 15, 16]))));
}

#[test]
fn after_a_period_without_keys_the_backends_are_looked_for_in_the_next_one() {
    // Whoever is probed is fetched now and then only.
    for seed in 0..20 {
        let mut world = World::new(0, 2);
        world.rng = StdRng::seed_from_u64(seed);
        let probed = BalancerSettings { probe_every: Some(30 * SECOND), ..World::settings(0, 2) };
        world.balancer = Balancer::new(probed);
        world.tell(Fact::Bundle(Some([1, 3].into_iter().map(period).collect())));
        for number in 1..=3 {
            world.tell(Fact::Network(network(number, [1, 2])));
            let fetches = world.fetches;
            for minute in 0..25 {
                world.pass(MINUTE);
                if world.fetches > fetches {
                    world.fetched_in(number, 0, minute, &[11, 12, 13]);
                    world.fetched_in(number, 1, minute, &[21, 22, 23]);
                }
            }
            assert!(world.fetches >= fetches + 2, "seed {seed}, period {number}");
        }
    }
}

#[test]
fn the_backends_are_looked_for_in_a_new_period_at_a_moment_of_chance() {
    let mut world = World::on_network(1, 2);
    world.local(0, &[1, 2, 3]);
    world.fetched(1, 1, &[11, 12, 13]);
    world.fetched(2, 1, &[21, 22, 23]);
    world.tell(Fact::Network(network(2, [1, 2])));
    let fetches = world.fetches;
    world.pass(30 * SECOND);
    let hurry = world.fetches - fetches;
    // Found by chance, one shows that the time has come to look for all.
    world.fetched_in(2, 1, 1, &[14, 15, 16]);
    world.pass(30 * SECOND);
    assert_eq!((hurry, world.fetches - fetches), (0, 1));
}

#[test]
fn a_change_of_points_goes_to_the_hsdirs_of_both_periods_at_different_times() {
    let both = || {
        let mut view = network(1, [11, 12]);
        let other = network(2, [21, 22]).periods.remove(0);
        view.periods.push(PeriodView { current: false, ..other });
        Fact::Network(view)
    };
    let mut delays = Vec::new();
    for _ in 0..40 {
        let mut world = World::new(2, 0);
        world.rng = StdRng::seed_from_u64(delays.len() as u64);
        world.tell(both());
        world.local(0, &[1, 2, 3]);
        world.local(1, &[4, 5, 6]);
        assert_eq!(world.uploads.len(), 4);
        world.pass(2 * MINUTE);
        world.local(1, &[5, 6, 7]);
        world.pass(40 * MINUTE);
        let [current, other] = [1, 2].map(|number| {
            let of = world.uploads[4..].iter().filter(|(_, it)| it.period == period(number));
            let times: Vec<_> = of.map(|(at, it)| (*at, it.points.len())).collect();
            assert!(times.len() == 2 && times[0] == times[1] && times[0].1 == 6, "{times:?}");
            times[0].0
        });
        assert!(current <= 130 * SECOND, "{current:?}");
        delays.push((other - current).as_secs());
    }
    let mean = delays.iter().sum::<u64>() / 40;
    assert!((420..780).contains(&mean) && delays.iter().all(|it| *it <= 1800), "{delays:?}");
    assert!(delays.iter().filter(|it| **it < 5).count() <= 2, "{delays:?}");
    // What somebody waits for, or clients need, goes to both.
    let mut world = World::new(2, 0);
    world.tell(both());
    world.local(0, &[1, 2, 3]);
    world.local(1, &[4, 5, 6]);
    world.pass(2 * MINUTE);
    world.say(1, Verb::Maintenance, false).unwrap();
    world.pass(10 * SECOND);
    assert_eq!(world.uploads.len(), 8);
}

/// A service of a process that has another one, with the first HSDirs known.
fn in_company(seed: u64) -> World {
    let mut world = World::new(1, 0);
    let settings = BalancerSettings { in_company: true, ..World::settings(1, 0) };
    world.balancer = Balancer::new(settings);
    world.rng = StdRng::seed_from_u64(seed);
    world.tell(two_of_each_replica(1, [1, 2, 3, 4]));
    world.local(0, &[1, 2, 3]);
    world
}

#[test]
fn two_services_of_one_process_do_not_upload_in_the_same_seconds() {
    let (mut first, mut to_new) = (BTreeSet::new(), BTreeSet::new());
    for seed in 0..40 {
        let mut world = in_company(seed);
        world.pass(25 * SECOND);
        first.extend(world.uploads.first().map(|it| it.0.as_secs()));
        assert_eq!(world.uploads.len(), 4, "nobody waits for longer");
        world.tell(two_of_each_replica(1, [1, 5, 3, 4]));
        let told = world.now.monotonic - world.began;
        world.pass(5 * MINUTE);
        let new = world.uploads.iter().find(|(_, it)| it.hsdir == relay(5)).unwrap();
        to_new.insert((new.0 - told).as_secs());
    }
    assert!(first.len() > 12 && to_new.len() > 30, "{first:?} {to_new:?}");
}

#[test]
fn the_first_service_of_a_process_is_spread_once_another_one_joins_it() {
    let mut to_new = BTreeSet::new();
    for seed in 0..20 {
        let mut world = World::new(1, 0);
        world.rng = StdRng::seed_from_u64(seed);
        world.tell(two_of_each_replica(1, [1, 2, 3, 4]));
        world.local(0, &[1, 2, 3]);
        world.reconfigure(BalancerSettings { in_company: true, ..World::settings(1, 0) });
        world.pass(MINUTE);
        world.tell(two_of_each_replica(1, [1, 5, 3, 4]));
        let told = world.now.monotonic - world.began;
        world.pass(5 * MINUTE);
        let new = world.uploads.iter().find(|(_, it)| it.hsdir == relay(5)).unwrap();
        to_new.insert((new.0 - told).as_secs());
    }
    assert!(to_new.len() > 12 && to_new.last() > Some(&60), "{to_new:?}");
}

#[test]
fn a_service_whose_hsdirs_are_all_new_waits_for_no_neighbour() {
    for seed in 0..20 {
        let mut world = in_company(seed);
        world.pass(5 * MINUTE);
        world.tell(two_of_each_replica(3, [5, 6, 7, 8]));
        world.pass(6 * SECOND);
        assert_eq!(world.uploads.len(), 8, "seed {seed}");
    }
}

#[test]
fn a_period_in_which_clients_begin_to_look_waits_for_no_neighbour_where_they_find_nothing() {
    for seed in 0..20 {
        let mut world = in_company(seed);
        world.pass(5 * MINUTE);
        let view = |current: u64| {
            let of = |number: u64| {
                let at = 4 * number as u16;
                let Fact::Network(view) = two_of_each_replica(number, [1, 2, 3, 4].map(|n| at + n))
                else {
                    unreachable!()
                };
                PeriodView { current: number == current, ..view.periods[0].clone() }
            };
            Fact::Network(NetworkView { periods: vec![of(2), of(3)] })
        };
        let uploads = world.uploads.len();
        world.tell(view(2));
        world.tell(view(3));
        world.pass(6 * SECOND);
        let new = world.uploads[uploads..].iter().filter(|(_, it)| it.period == period(3));
        assert_eq!(new.count(), 4, "seed {seed}");
    }
}

#[test]
fn a_period_that_becomes_current_has_the_last_change_a_minute_later() {
    let view = |current: u64| {
        let period = |n: u64| PeriodView {
            current: n == current,
            ..network(n, [10 * n as u16, 10 * n as u16 + 1]).periods.remove(0)
        };
        Fact::Network(NetworkView { periods: vec![period(1), period(2)] })
    };
    for seed in 0..10 {
        let mut world = World::new(2, 0);
        world.rng = StdRng::seed_from_u64(seed);
        world.tell(view(1));
        world.local(0, &[1, 2, 3]);
        world.local(1, &[4, 5, 6]);
        world.pass(2 * MINUTE);
        world.local(1, &[5, 6]);
        world.pass(10 * SECOND);
        world.tell(view(2));
        world.pass(70 * SECOND);
        let newest = world.uploads.iter().rev().find(|(_, it)| it.period == period(2)).unwrap();
        assert_eq!(newest.1.points.len(), 5, "seed {seed}");
    }
}

#[test]
fn however_many_points_have_gone_hsdirs_get_the_others_after_a_minute_and_the_last_at_once() {
    let mut world = World::on_network(3, 0);
    for n in 0..3 {
        world.local(n.into(), &[10 * n + 1, 10 * n + 2, 10 * n + 3]);
    }
    world.local(2, &[]);
    world.local(1, &[]);
    world.pass(50 * SECOND);
    assert_eq!(world.rounds(), [(0, 9)], "three of nine do");
    world.pass(20 * SECOND);
    assert_eq!(world.rounds(), [(0, 9), (60, 3)]);
    world.local(0, &[4, 5, 6]);
    world.pass(15 * SECOND);
    assert_eq!(world.rounds()[2], (72, 3));
}

#[test]
fn a_round_of_its_own_elsewhere_keeps_no_change_waiting() {
    let mut world = World::on_network(2, 0);
    world.local(0, &[1, 2, 3]);
    world.local(1, &[4, 5, 6]);
    let mut view = network(1, [1, 2]);
    let other = network(2, [3, 4]).periods.remove(0);
    view.periods.push(PeriodView { current: false, ..other });
    world.pass(10 * MINUTE);
    world.tell(Fact::Network(view.clone()));
    world.pass(10 * MINUTE);
    let uploads = world.uploads.len();
    // The other period has a new HSDir: all of it are brought the descriptor.
    view.periods[1].hsdirs[0].relay = relay(5);
    world.tell(Fact::Network(view));
    world.pass(5 * SECOND);
    assert_eq!(world.uploads.len(), uploads + 2);
    world.local(1, &[5, 6]);
    world.pass(5 * SECOND);
    let newest: Vec<_> = world.uploads[uploads + 2..].iter().map(|(_, it)| it.period).collect();
    assert_eq!(newest, [period(1); 2]);
}

/// A period with two HSDirs of each replica.
fn two_of_each_replica(number: u64, relays: [u16; 4]) -> Fact {
    let hsdir = |(place, at)| ResponsibleHsdir {
        relay: relay(at),
        replica: if place < 2 { 1 } else { 2 },
        asked_by_clients: true,
    };
    let hsdirs = (0..).zip(relays).map(hsdir).collect();
    let view = PeriodView { period: period(number), current: true, hsdirs };
    Fact::Network(NetworkView { periods: vec![view] })
}

/// A local instance on a network with two HSDirs of each replica, the first of which does
/// not take what it is brought.
fn refused_by_one(failure: impl Fn() -> UploadFailure, seed: u64) -> (World, RelayId) {
    let mut world = World::new(1, 0);
    world.rng = StdRng::seed_from_u64(seed);
    world.deaf = true;
    world.tell(two_of_each_replica(1, [1, 2, 3, 4]));
    world.local(0, &[1, 2, 3]);
    world.refuse(relay(1), failure);
    (world, relay(1))
}

#[test]
fn what_one_hsdir_refuses_all_get_anew_after_half_an_hour() {
    let failures: [fn() -> UploadFailure; 2] =
        [|| UploadFailure::Refused("no".into()), || UploadFailure::Unanswered("no".into())];
    let mut delays = Vec::new();
    for (failure, seed) in failures.into_iter().flat_map(|it| (0..20).map(move |n| (it, n))) {
        let (mut world, _) = refused_by_one(failure, seed);
        world.deaf = false;
        let fetches = world.fetches;
        world.pass(14 * MINUTE);
        assert_eq!(world.fetches, fetches, "nor is it asked what it has");
        assert!(world.uploads.is_empty(), "{:?}", world.uploads);
        world.pass(32 * MINUTE);
        let brought: BTreeSet<_> = world.uploads.iter().map(|(_, it)| it.hsdir).collect();
        assert_eq!((world.uploads.len(), brought.len()), (4, 4), "as when points change");
        delays.push(world.uploads[0].0.as_secs() / 60);
    }
    assert!(delays.iter().min() < Some(&20) && delays.iter().max() > Some(&40), "{delays:?}");
}

#[test]
fn an_hsdir_that_reads_and_takes_nothing_gets_nothing_again_while_others_are_to_answer() {
    let failures: [fn() -> UploadFailure; 2] =
        [|| UploadFailure::Refused("no".into()), || UploadFailure::Unanswered("no".into())];
    for failure in failures {
        let mut world = World::new(1, 0);
        world.deaf = true;
        world.tell(two_of_each_replica(1, [1, 2, 3, 4]));
        world.local(0, &[1, 2, 3]);
        let (_, first) = world.uploads.iter().find(|(_, it)| it.hsdir == relay(1)).unwrap();
        let Publication { period, hsdir, as_of, .. } = first.clone();
        world.tell(Fact::Uploaded { period, hsdir, as_of, outcome: Err(failure()) });
        world.pass(8 * SECOND);
        assert_eq!(world.uploads.len(), 4, "clients find nothing yet, and a moment is no loss");
    }
}

#[test]
fn an_hsdir_that_always_refuses_brings_few_more_rounds() {
    let (mut world, refusing) = refused_by_one(|| UploadFailure::Refused("no".into()), 1);
    let mut rounds = Vec::new();
    for _ in 0..24 * 60 {
        world.pass(MINUTE);
        rounds.extend(world.uploads.iter().filter(|(_, it)| it.hsdir == refusing).map(|it| it.0));
        world.refuse(refusing, || UploadFailure::Refused("no".into()));
    }
    let gaps: Vec<_> = rounds.windows(2).map(|two| (two[1] - two[0]).as_secs() / 60).collect();
    assert!(gaps.iter().all(|gap| *gap >= 14), "{gaps:?}");
    assert!((16..=26).contains(&rounds.len()), "16 come in a day anyway: {gaps:?}");
}

#[test]
fn what_most_hsdirs_refuse_is_tried_again_soon() {
    let mut world = World::on_network(2, 0);
    world.local(0, &[1, 2, 3]);
    world.local(1, &[4, 5, 6]);
    world.pass(2 * MINUTE);
    world.deaf = true;
    world.local(1, &[5, 6]);
    world.pass(5 * SECOND);
    for (_, of) in world.uploads.split_off(2) {
        let Publication { period, hsdir, as_of, .. } = of;
        let outcome = Err(UploadFailure::Unanswered("no answer in time".into()));
        world.tell(Fact::Uploaded { period, hsdir, as_of, outcome });
    }
    world.pass(5 * SECOND);
    assert_eq!(world.uploads.len(), 4);
}

#[test]
fn every_point_that_is_offered_or_still_listed_has_its_backends_name() {
    let mut world = World::on_network(1, 1);
    world.local(0, &[1, 2]);
    world.fetched(1, 1, &[3]);
    world.pass(10 * SECOND);
    // 3 is listed until the next round.
    world.fetched(1, 2, &[4]);
    let owners: std::collections::BTreeMap<_, _> = world.balancer.owners().collect();
    let of = |session| owners.get(&point(session, session).session_id).copied();
    assert_eq!(
        [1, 2, 3, 4, 5].map(of),
        [Some("local-0"), Some("local-0"), Some("remote-0"), Some("remote-0"), None]
    );
}

#[test]
fn a_change_that_is_taken_back_in_time_is_not_published() {
    let mut world = World::on_network(1, 0);
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
    let mut world = World::on_network(1, 0);
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
    let mut world = World::on_network(1, 0);
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
fn a_round_is_one_moment_for_hsdirs_that_took_the_last_one_at_different_times() {
    let mut world = World::on_network(1, 0);
    world.deaf = true;
    world.local(0, &[1, 2, 3]);
    for (_, it) in std::mem::take(&mut world.uploads) {
        world.pass(SECOND / 2);
        let Publication { period, hsdir, as_of, .. } = it;
        world.tell(Fact::Uploaded { period, hsdir, as_of, outcome: Ok(1) });
    }
    world.local(0, &[1, 2, 4]);
    world.pass(65 * SECOND);
    let [(_, first), (_, second)] = &world.uploads[..] else { panic!("uploads") };
    assert_eq!(first.as_of, second.as_of);
}

#[test]
fn an_hsdir_that_comes_back_gets_a_later_moment_than_it_may_have_seen() {
    let mut world = World::on_network(1, 0);
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
    let mut world = World::on_network(1, 0);
    world.deaf = true;
    world.local(0, &[1, 2, 3]);
    world.local(0, &[1, 2]);
    world.pass(9 * SECOND);
    let Publication { period, hsdir, as_of, .. } = world.uploads[0].1.clone();
    assert_eq!(world.uploads.len(), 2);
    // One is slow: a minute after the other has taken the first round, it goes ahead.
    world.tell(Fact::Uploaded { period, hsdir, as_of, outcome: Ok(1) });
    assert_eq!(world.uploads.len(), 2);
    world.pass(65 * SECOND);
    assert_eq!(world.rounds(), [(0, 3), (69, 2)]);
    assert_eq!(world.uploads.len(), 3);
}

#[test]
fn the_last_points_stay_published_when_every_backend_goes() {
    let mut world = World::on_network(1, 1);
    world.local(0, &[1, 2, 3]);
    world.fetched(1, 1, &[4, 5, 6]);
    world.local(0, &[]);
    world.pass(20 * SECOND);
    for _ in 0..10 {
        world.tell(Fact::Fetched { backend: BackendId(1), outcome: Err(FetchFailure::NotFound) });
        world.pass(MINUTE);
    }
    assert_eq!(world.state(), ServiceState::Down);
    assert_eq!(world.rounds(), [(0, 6), (60, 3)]);
    // Still published again in its time, and in a new period.
    world.pass(125 * MINUTE);
    world.tell(Fact::Network(network(2, [3, 4])));
    world.pass(MINUTE);
    assert_eq!(world.uploads.last().unwrap().1.period, period(2));
    assert!(world.uploads.iter().all(|(_, p)| !p.points.is_empty()));
}

#[test]
fn when_the_ring_changes_the_new_hsdir_and_the_others_get_an_upload() {
    let mut world = World::on_network(1, 0);
    world.local(0, &[1, 2, 3]);
    world.pass(MINUTE);
    world.tell(Fact::Network(network(1, [1, 3])));
    assert_eq!(world.state(), ServiceState::Publishing);
    world.pass(10 * SECOND);
    assert_eq!(world.state(), ServiceState::Published);
    let got: Vec<_> = world.uploads[2..].iter().map(|(_, it)| it.hsdir).collect();
    assert_eq!(got, [relay(1), relay(3)]);
}

#[test]
fn everything_is_published_again_after_one_to_two_hours() {
    let mut world = World::on_network(1, 0);
    world.local(0, &[1, 2, 3]);
    world.pass(24 * 60 * MINUTE);
    let rounds = world.rounds();
    assert!((12..=25).contains(&rounds.len()), "{rounds:?}");
    assert!(rounds.windows(2).all(|two| (3600..=7200).contains(&(two[1].0 - two[0].0))));
    assert_eq!(world.uploads.len(), 2 * rounds.len());
}

#[test]
fn after_a_sleep_in_which_hsdirs_dropped_everything_it_is_published_at_once() {
    let mut world = World::on_network(1, 0);
    world.local(0, &[1, 2, 3]);
    world.pass(10 * MINUTE);
    assert_eq!(world.uploads.len(), 2);
    world.now.wall += 181 * MINUTE;
    world.deaf = true;
    world.pass(MINUTE);
    assert_eq!(world.uploads.len(), 4);
    assert_eq!(world.state(), ServiceState::Publishing, "no HSDir has anything");
    world.deaf = false;
    world.pass(3 * MINUTE);
    assert_eq!(world.state(), ServiceState::Published);
    let uploads = world.uploads.len();
    world.pass(50 * MINUTE);
    assert_eq!(world.uploads.len(), uploads, "once");
}

#[test]
fn after_a_sleep_backends_are_fetched_at_once_and_none_is_stale_for_it() {
    let mut world = with_two_remotes();
    world.pass(SECOND);
    let fetches = world.fetches;
    world.now.wall += 300 * MINUTE;
    // The first thing that is heard may be anything.
    world.tell(Fact::Origins(Ok(())));
    assert_eq!(world.uploads.len(), 4);
    world.pass(5 * SECOND);
    assert_eq!(world.fetches, fetches + 2);
    world.fetched(0, 5, &[1, 2, 3]);
    world.fetched(1, 7, &[4, 5, 6]);
    let states = world.balancer.beliefs().map(|belief| belief.state).collect::<Vec<_>>();
    assert_eq!(states, [BackendState::Up; 2]);
}

#[test]
fn a_clock_that_is_set_right_by_minutes_or_set_back_causes_no_work() {
    let mut world = with_two_remotes();
    world.pass(SECOND);
    let fetches = world.fetches;
    world.now.wall += 9 * MINUTE;
    world.pass(2 * SECOND);
    world.now.wall -= 600 * MINUTE;
    world.pass(2 * SECOND);
    assert_eq!((world.uploads.len(), world.fetches), (2, fetches));
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
        kind: BackendPlace::Local { expected_points: 1 },
        weight,
    };
    let mut world = World::new(0, 0);
    let backends = vec![local(0, 0), local(1, 5)];
    world.balancer = Balancer::new(BalancerSettings { backends, ..BalancerSettings::default() });
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
fn restarted(world: &World, mut settings: BalancerSettings, after: Duration) -> World {
    let text = serde_json::to_string(&world.balancer.memory(world.now)).unwrap();
    // The file may list the backends in another order now.
    settings.backends.reverse();
    let now = later(world.now, after);
    let memory = serde_json::from_str(&text).unwrap();
    let balancer = Balancer::remembering(settings, memory, now);
    World { balancer, now, began: now.monotonic, ..World::new(0, 0) }
}

fn two_remotes() -> BalancerSettings {
    let remote = |n: u8| BackendSettings {
        id: BackendId(n.into()),
        name: format!("remote-{n}"),
        kind: BackendPlace::Remote { address: OnionAddress::from_public_key([n; 32]) },
        weight: 1,
    };
    BalancerSettings { backends: (0..2).map(remote).collect(), ..BalancerSettings::default() }
}

fn with_two_remotes() -> World {
    let mut world = World::on_network(0, 2);
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
    assert_eq!(world.rounds(), [(6, 3)]);
}

/// Two backends that are probed, of which the second answers nobody.
fn with_a_dead_remote() -> World {
    let mut world = World::new(0, 2);
    let probed = BalancerSettings { probe_every: Some(30 * SECOND), ..two_remotes() };
    world.balancer = Balancer::new(probed);
    world.tell(Fact::Network(network(1, [1, 2])));
    world.fetched(0, 5, &[1, 2, 3]);
    world.fetched(1, 7, &[4, 5, 6]);
    world.dead = Some(BackendId(1));
    world.pass(2 * MINUTE);
    assert_eq!(world.newest(), points(&[1, 2, 3]));
    world
}

#[test]
fn a_restart_lists_nothing_that_probes_had_found_dead() {
    let before = with_a_dead_remote();
    let probed = BalancerSettings { probe_every: Some(30 * SECOND), ..two_remotes() };
    let mut world = restarted(&before, probed, MINUTE);
    world.dead = Some(BackendId(1));
    world.tell(Fact::Network(network(1, [1, 2])));
    // HSDirs still serve the descriptor of the dead one.
    world.fetched(0, 5, &[1, 2, 3]);
    world.fetched(1, 7, &[4, 5, 6]);
    let shown = world.balancer.status().backends.remove(0);
    assert_eq!((shown.state, shown.failing_intro_points), (BackendState::Down, 3));
    assert_eq!(shown.reason.unwrap(), "all 3 introduction points fail: no such point");
    world.pass(20 * MINUTE);
    assert!(world.uploads.iter().all(|(_, p)| p.points.to_vec() == points(&[1, 2, 3])));
    world.dead = None;
    world.pass(90 * SECOND);
    assert_eq!(world.newest(), points(&[1, 2, 3, 4, 5, 6]));
}

#[test]
fn a_restart_without_probes_keeps_nobody_out_for_what_they_had_found() {
    let mut world = restarted(&with_a_dead_remote(), two_remotes(), MINUTE);
    world.tell(Fact::Network(network(1, [1, 2])));
    world.fetched(0, 5, &[1, 2, 3]);
    world.fetched(1, 7, &[4, 5, 6]);
    world.pass(MINUTE);
    assert_eq!(world.newest(), points(&[1, 2, 3, 4, 5, 6]));
}

fn descriptor(period: Period, revision: u64, points: Vec<IntroPoint>) -> FetchedDescriptor {
    let capabilities = Capabilities::default();
    FetchedDescriptor { period, revision, points, flaw: None, capabilities }
}

fn points(sessions: &[u16]) -> Vec<IntroPoint> {
    sessions.iter().map(|n| point(*n, *n)).collect()
}

#[test]
fn a_reload_moves_nothing_of_the_backends_that_it_leaves_alone() {
    let mut world = World::on_network(2, 1);
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
    world.pass(70 * SECOND);
    assert_eq!(world.newest(), points(&[4, 5, 6, 7, 8, 9, 10, 11, 12]));
    let status = world.balancer.status();
    let shown: Vec<_> = status.backends.iter().map(|b| (&b.name[..], b.revision)).collect();
    assert_eq!(shown, [("local-1", None), ("berlin", Some(1)), ("remote-1", Some(1))]);
}

#[test]
fn a_reload_without_a_change_changes_nothing_and_a_weight_counts_at_once() {
    let mut world = World::on_network(2, 0);
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
    let mut world = World::on_network(0, 1);
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
    let mut world = World::on_network(0, 2);
    world.fetched(0, 1, &[1, 2, 3]);
    let mut settings = World::settings(0, 2);
    settings.backends.remove(0);
    settings.backends[0].id = BackendId(0);
    world.reconfigure(settings);
    assert_eq!(world.balancer.status().backends[0].state, BackendState::Unknown);
}

#[test]
fn local_points_are_withdrawn_from_every_hsdir_before_the_end() {
    let mut world = World::on_network(1, 1);
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
    let mut world = World::on_network(1, 1);
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
    let mut world = World::on_network(1, 1);
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
    let mut world = World::on_network(1, 1);
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
fn a_reload_that_takes_out_an_instance_does_not_wait_for_the_changes_before_it() {
    let mut world = World::on_network(2, 0);
    world.local(1, &[4, 5, 6]);
    for n in 100..200 {
        world.local(0, &[n, n + 1, n + 2]);
        world.pass(SECOND);
    }
    assert!(world.balancer.may_be_found(BackendId(1)));
    let mut settings = World::settings(2, 0);
    settings.backends.remove(1);
    world.reconfigure(settings);
    world.pass(10 * SECOND);
    assert!(!world.balancer.may_be_found(BackendId(1)));
}

#[test]
fn another_publisher_is_no_stranger_once_several_are_expected() {
    let mut world = World::on_network(1, 0);
    world.local(0, &[1, 2, 3]);
    // Until one of the HSDirs is asked what it holds.
    while world.fetches == 0 {
        world.pass(10 * SECOND);
    }
    let found = descriptor(period(1), 1_000, points(&[77]));
    for hsdir in [relay(1), relay(2)] {
        let outcome = Ok(found.clone());
        let (signed, counted_to) = (Some(1_000), None);
        world.tell(Fact::Inspected { period: period(1), hsdir, outcome, signed, counted_to });
    }
    assert!(world.balancer.status().problems[0].contains("another publisher"));
    // A reload that changes something else leaves the alarm.
    world.reconfigure(World::settings(1, 0));
    assert!(!world.balancer.status().problems.is_empty());
    let several = BalancerSettings { publishers: Publishers::Several, ..World::settings(1, 0) };
    world.reconfigure(several);
    let status = world.balancer.status();
    assert!(status.problems.is_empty() && status.descriptors[0].canary.is_none());
}

#[test]
fn local_instances_are_down_while_their_origins_are_and_back_at_once() {
    let mut world = World::on_network(1, 1);
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
    world.pass(MINUTE);
    assert_eq!(world.newest(), points(&[4, 5, 6, 1, 2, 3]));
}

#[test]
fn origins_that_are_down_empty_no_descriptor_and_count_for_new_instances_too() {
    let mut world = World::on_network(1, 0);
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
    let probed = BalancerSettings { probe_every: Some(30 * SECOND), ..World::settings(0, 3) };
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
fn among_calm_others_a_killed_backend_is_out_within_90_seconds_wherever_chance_has_its_probes() {
    let mut times = Vec::new();
    for seed in 0..100 {
        let mut world = World::new(0, 3);
        let probed = BalancerSettings { probe_every: Some(30 * SECOND), ..World::settings(0, 3) };
        world.balancer = Balancer::new(probed);
        world.rng = StdRng::seed_from_u64(seed);
        world.tell(Fact::Network(network(1, [1, 2])));
        for backend in 0..3u16 {
            let first = 1 + 3 * backend;
            world.fetched(backend.into(), 1, &[first, first + 1, first + 2]);
        }
        world.pass(10 * MINUTE);
        world.dead = Some(BackendId(1));
        let died = world.now.monotonic - world.began;
        world.pass(3 * MINUTE);
        let (gone, _) = world.uploads.iter().find(|(_, it)| it.points.len() == 6).unwrap();
        times.push((*gone - died).as_secs());
    }
    times.sort_unstable();
    println!("{} to {} s, the median {}", times[0], times[99], times[50]);
    assert!(times[99] <= 90 && times[50] <= 60, "{times:?}");
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

#[test]
fn a_hostile_backends_point_with_a_bad_key_reaches_no_descriptor_and_status_says_why() {
    let mut world = World::on_network(1, 1);
    world.local(0, &[1, 2, 3]);
    let bad = IntroPoint { relay_ntor_key: [0; 32], ..point(12, 12) };
    let descriptor = |points, revision| descriptor(period(1), revision, points);
    let backend = BackendId(1);
    let outcome = Ok(descriptor(vec![point(11, 11), bad.clone(), point(13, 13)], 1));
    world.tell(Fact::Fetched { backend, outcome });
    world.pass(60 * SECOND);
    let published = |world: &World| -> BTreeSet<IntroPoint> {
        world
            .uploads
            .iter()
            .flat_map(|(_, publication)| publication.points.iter().cloned())
            .collect()
    };
    assert!(published(&world).contains(&point(11, 11)) && !published(&world).contains(&bad));
    let status = &world.balancer.status().backends[1];
    let reason = "its descriptor lists an introduction point with an unusable key";
    assert_eq!((status.state, status.intro_points), (BackendState::Up, 2));
    assert_eq!(status.reason.as_deref(), Some(reason));

    // Nor does one that an instance, or the memory of an older program, has.
    world.tell(Fact::Fetched { backend, outcome: Ok(descriptor(vec![bad.clone()], 2)) });
    world.tell(Fact::LocalPoints {
        backend: BackendId(0),
        points: vec![point(1, 1), bad.clone()],
        capabilities: Capabilities::default(),
    });
    world.pass(60 * SECOND);
    let status = world.balancer.status();
    assert_eq!(status.backends[1].state, BackendState::Down);
    assert!(status.backends[1].reason.as_ref().unwrap().contains("an unusable key"));
    let reason = "it has an introduction point with an unusable key";
    assert_eq!(status.backends[0].reason.as_deref(), Some(reason));
    assert!(!published(&world).contains(&bad));
}

impl World {
    /// An operator says something of a backend.
    fn say(&mut self, backend: u32, verb: Verb, force: bool) -> Result<(), OrderRefused> {
        let order = OperatorOrder { backend: BackendId(backend), verb, force, by: Some(1000) };
        let said = self.balancer.obey(&order, self.now, &mut self.rng);
        self.obey();
        said
    }

    /// The backends whose points the newest descriptor holds, of [`with_two_remotes`].
    fn published(&self) -> BTreeSet<u8> {
        let points = self.newest();
        [(0, 1..=3), (1, 4..=6)]
            .into_iter()
            .filter(|(_, sessions)| {
                sessions.clone().any(|session| {
                    points.iter().any(|it| it.session_id == point(session, 0).session_id)
                })
            })
            .map(|(backend, _)| backend)
            .collect()
    }
}

#[test]
fn a_backend_that_an_operator_takes_out_leaves_within_seconds_and_comes_back() {
    for verb in [Verb::Drain, Verb::Maintenance] {
        let mut world = with_two_remotes();
        world.pass(MINUTE);
        assert_eq!(world.published(), [0, 1].into());
        assert_eq!(world.say(0, verb, false), Ok(()));
        world.pass(10 * SECOND);
        assert_eq!(world.published(), [1].into(), "{verb:?}");
        let status = world.balancer.status();
        assert_eq!(status.backends[0].operator_by, Some(1000));
        assert_ne!(status.backends[0].operator, Word::Ready);
        assert_eq!(status.backends[0].published_intro_points, 0);
        // What it publishes meanwhile changes nothing.
        world.fetched(0, 6, &[1, 2, 3]);
        world.pass(2 * MINUTE);
        assert_eq!(world.published(), [1].into());
        assert_eq!(world.say(0, Verb::Ready, false), Ok(()));
        world.pass(2 * MINUTE);
        assert_eq!(world.published(), [0, 1].into());
        assert_eq!(world.balancer.status().backends[0].operator_since, None);
    }
}

#[test]
fn the_last_backend_in_use_is_taken_out_only_by_force_and_stays_published_then() {
    let mut world = with_two_remotes();
    assert_eq!(world.say(0, Verb::Drain, false), Ok(()));
    assert_eq!(world.say(1, Verb::Maintenance, false), Err(OrderRefused::TheLast));
    world.pass(MINUTE);
    assert_eq!(world.published(), [1].into());
    assert_eq!(world.say(1, Verb::Maintenance, true), Ok(()));
    world.pass(MINUTE);
    // A descriptor without points helps nobody.
    assert_eq!(world.published(), [1].into());
    assert_eq!(world.say(9, Verb::Drain, false), Err(OrderRefused::Unknown));
    assert_eq!(world.say(0, Verb::Weight { weight: 101 }, false), Err(OrderRefused::Weight));
}

#[test]
fn what_an_operator_said_holds_over_a_restart_and_a_reload() {
    let mut world = with_two_remotes();
    assert_eq!(world.say(0, Verb::Drain, false), Ok(()));
    assert_eq!(world.say(1, Verb::Weight { weight: 7 }, false), Ok(()));
    let mut world = restarted(&world, two_remotes(), MINUTE);
    world.tell(Fact::Network(network(1, [1, 2])));
    world.pass(MINUTE);
    assert_eq!(world.published(), [1].into());
    world.reconfigure(two_remotes());
    let weights = |world: &World| {
        let backend = world.balancer.backend_named("remote-1").unwrap();
        let status = world.balancer.status();
        let of = |name: &str| status.backends.iter().find(|it| it.name == name).cloned().unwrap();
        assert_eq!(world.balancer.word(backend), Word::Ready);
        assert_eq!(of("remote-0").operator, Word::Drain);
        (of("remote-1").weight, of("remote-1").configured_weight)
    };
    assert_eq!(weights(&world), (7, Some(1)));
    // Another weight in the file is the newer word, and takes nothing else back.
    let mut settings = two_remotes();
    settings.backends[1].weight = 2;
    world.reconfigure(settings);
    assert_eq!(weights(&world), (2, None));
}

#[test]
fn an_order_can_be_kept_before_it_is_obeyed() {
    let mut world = with_two_remotes();
    let order = |backend, verb| OperatorOrder {
        backend: BackendId(backend),
        verb,
        force: false,
        by: Some(1000),
    };
    let orders =
        [order(0, Verb::Drain), order(1, Verb::Weight { weight: 7 }), order(0, Verb::Ready)];
    for order in orders {
        let before = world.balancer.memory(world.now);
        let kept = world.balancer.memory_obeying(&order, world.now).unwrap();
        assert_ne!(kept, before);
        // Nothing has happened yet.
        assert_eq!(world.balancer.memory(world.now), before);
        world.say(order.backend.0, order.verb, false).unwrap();
        let mut obeyed = world.balancer.memory(world.now);
        obeyed.operator.sort_by_key(|known| known.backend.clone());
        let mut kept = kept;
        kept.operator.sort_by_key(|known| known.backend.clone());
        assert_eq!(kept.operator, obeyed.operator);
    }
    let refused = |backend, verb| {
        world.balancer.memory_obeying(&order(backend, verb), world.now).unwrap_err()
    };
    assert_eq!(refused(9, Verb::Drain), OrderRefused::Unknown);
    assert_eq!(refused(0, Verb::Weight { weight: 101 }), OrderRefused::Weight);
}

#[test]
fn what_an_operator_said_holds_of_a_backend_that_the_file_leaves_out_for_a_while() {
    let mut world = with_two_remotes();
    world.pass(MINUTE);
    assert_eq!(world.say(0, Verb::Drain, false), Ok(()));
    assert_eq!(world.say(0, Verb::Weight { weight: 7 }, false), Ok(()));
    let without = || {
        let mut settings = two_remotes();
        settings.backends.remove(0);
        settings
    };
    // It comes back under another number, as every backend does.
    let back = |configured| {
        let mut settings = two_remotes();
        settings.backends[0].id = BackendId(7);
        settings.backends[0].weight = configured;
        settings
    };
    let of = |world: &World| {
        let status = world.balancer.status();
        let backend = status.backends.iter().find(|it| it.name == "remote-0").unwrap();
        (backend.operator, backend.weight, backend.operator_by)
    };
    world.reconfigure(without());
    world.pass(MINUTE);
    world.reconfigure(back(1));
    assert_eq!(of(&world), (Word::Drain, 7, Some(1000)));
    // Also if a restart comes between, and another weight is still the newer word.
    world.reconfigure(without());
    let mut world = restarted(&world, without(), MINUTE);
    world.reconfigure(without());
    let mut world = restarted(&world, back(2), MINUTE);
    assert_eq!(of(&world), (Word::Drain, 2, Some(1000)));
    // What is taken back is not kept.
    assert_eq!(world.say(7, Verb::Ready, false), Ok(()));
    world.reconfigure(without());
    assert_eq!(world.balancer.memory(world.now).operator, []);
    world.reconfigure(back(1));
    assert_eq!(of(&world), (Word::Ready, 1, None));
}

#[test]
fn no_more_is_kept_of_absent_backends_than_fits() {
    let mut world = World::on_network(0, 1);
    for number in 0..600_u16 {
        let mut settings = World::settings(0, 2);
        let [first, second] = number.to_be_bytes();
        let mut key = [7; 32];
        (key[0], key[1]) = (first, second);
        let address = OnionAddress::from_public_key(key);
        settings.backends[1].id = BackendId(10 + u32::from(number));
        settings.backends[1].kind = BackendPlace::Remote { address };
        world.reconfigure(settings);
        assert_eq!(world.say(10 + u32::from(number), Verb::Drain, false), Ok(()));
        world.pass(SECOND);
    }
    world.reconfigure(World::settings(0, 1));
    assert_eq!(world.balancer.memory(world.now).operator.len(), 256);
}

#[test]
fn a_backend_without_weight_takes_over_from_the_last_one_with_weight() {
    let mut settings = two_remotes();
    settings.backends[1].weight = 0;
    let mut world = with_two_remotes();
    world.reconfigure(settings);
    world.pass(3 * MINUTE);
    assert_eq!(world.published(), [0].into());
    assert_eq!(world.say(0, Verb::Drain, false), Ok(()));
    world.pass(MINUTE);
    assert_eq!(world.published(), [1].into());
    assert_eq!(world.say(1, Verb::Drain, false), Err(OrderRefused::TheLast));
}

#[test]
fn the_last_one_is_who_serves_and_where_nobody_does_who_may_come() {
    // Nobody answers yet: one of them has to be left.
    let mut world = World::on_network(0, 2);
    assert_eq!(world.say(0, Verb::Drain, false), Ok(()));
    assert_eq!(world.say(1, Verb::Drain, false), Err(OrderRefused::TheLast));
    // Who is out by force serves those that come still: maintenance ends that.
    let mut world = with_two_remotes();
    assert_eq!(world.say(0, Verb::Maintenance, false), Ok(()));
    assert_eq!(world.say(1, Verb::Drain, true), Ok(()));
    assert_eq!(world.say(1, Verb::Maintenance, false), Err(OrderRefused::TheLast));
    // What takes nobody out further is no matter of force.
    assert_eq!(world.say(1, Verb::Drain, false), Ok(()));
    assert_eq!(world.say(1, Verb::Weight { weight: 0 }, false), Ok(()));
    assert_eq!(world.say(1, Verb::Maintenance, true), Ok(()));
    assert_eq!(world.say(1, Verb::Drain, false), Ok(()));
}

#[test]
fn what_is_published_though_nobody_is_in_use_stays_over_a_restart_and_follows_its_backend() {
    for verb in [Verb::Drain, Verb::Maintenance] {
        let mut world = with_two_remotes();
        assert_eq!(world.say(0, Verb::Maintenance, false), Ok(()));
        world.pass(MINUTE);
        assert_eq!(world.say(1, verb, true), Ok(()));
        world.pass(MINUTE);
        assert_eq!(world.published(), [1].into());
        // Other points are published as they come.
        world.fetched(1, 9, &[5, 6, 14]);
        world.pass(3 * MINUTE);
        assert!(world.newest().contains(&point(14, 14)), "{verb:?}");

        let mut world = restarted(&world, two_remotes(), MINUTE);
        world.tell(Fact::Network(network(1, [1, 2])));
        world.pass(MINUTE);
        assert_eq!(world.published(), [1].into(), "{verb:?}");
        assert!(world.newest().contains(&point(14, 14)));
        // Only what was: the other one is out, and stays so.
        world.fetched(0, 9, &[1, 2, 3]);
        world.pass(3 * MINUTE);
        assert_eq!(world.published(), [1].into());
        assert_eq!(world.balancer.status().state, ServiceState::Down);
        assert_eq!(world.say(0, Verb::Ready, false), Ok(()));
        world.pass(MINUTE);
        assert_eq!(world.published(), [0].into());
    }
}

#[test]
fn after_a_restart_who_is_out_is_not_published_before_those_in_use_are_known() {
    let mut world = World::on_network(2, 0);
    world.local(0, &[1, 2, 3]);
    world.local(1, &[4, 5, 6]);
    world.pass(MINUTE);
    assert_eq!(world.published(), [0, 1].into());
    // Ended before a descriptor without it was published.
    assert_eq!(world.say(0, Verb::Drain, false), Ok(()));
    let mut world = restarted(&world, World::settings(2, 0), MINUTE);
    world.tell(Fact::Network(network(1, [1, 2])));
    world.local(0, &[1, 2, 3]);
    world.pass(MINUTE);
    assert!(world.uploads.is_empty());
    world.local(1, &[4, 5, 6]);
    world.pass(MINUTE);
    assert_eq!(world.published(), [1].into());
}

fn puzzle(slot: u64, effort: u32) -> Option<Puzzle> {
    let expires = start().wall + 100 * MINUTE;
    Some(Puzzle { slot: SeedSlot(slot), expires, effort })
}

impl World {
    /// What the newest descriptor asks for, and how many points it has.
    fn asked(&self) -> (Option<u32>, usize) {
        let (_, newest) = self.uploads.last().unwrap();
        (newest.puzzle.map(|puzzle| puzzle.effort), newest.points.len())
    }

    /// The reason that status has for a backend.
    fn reason(&self, backend: usize) -> Option<String> {
        self.balancer.status().backends[backend].reason.clone()
    }

    /// Whether a client that works finds only points that verify it, wherever it
    /// asks: those of locals have numbers up to 9.
    fn work_is_worth_something(&self) -> bool {
        self.uploads.iter().all(|(_, publication)| {
            let asked = publication.puzzle.is_some_and(|puzzle| puzzle.effort > 0);
            !asked || publication.points.iter().all(|it| (1..10).any(|n| *it == point(n, n)))
        })
    }
}

#[test]
fn who_cannot_verify_work_leaves_while_it_is_asked_for_and_comes_back() {
    let mut world = World::on_network(1, 2);
    world.tell(Fact::Puzzle(puzzle(1, 0)));
    world.local(0, &[1, 2, 3]);
    world.fetched(1, 1, &[11, 12, 13]);
    world.fetched(2, 1, &[21, 22, 23]);
    world.pass(MINUTE);
    assert_eq!(world.asked(), (Some(0), 9));

    world.tell(Fact::Puzzle(puzzle(1, 40)));
    let reason = Some("held back: cannot verify proof of work".to_owned());
    assert_eq!([0, 1, 2].map(|n| world.reason(n)), [None, reason.clone(), reason.clone()]);
    world.pass(MINUTE);
    assert_eq!(world.asked(), (Some(40), 3));
    assert_eq!(world.balancer.status().backends[1].published_intro_points, 0);
    assert_eq!(world.balancer.status().backends[1].state, BackendState::Up);

    world.tell(Fact::Puzzle(puzzle(1, 0)));
    world.pass(3 * MINUTE);
    assert_eq!(world.asked(), (Some(0), 9));
    assert_eq!(world.reason(1), None);
    assert!(world.work_is_worth_something());
}

#[test]
fn nobody_is_asked_for_work_that_no_live_backend_verifies() {
    // Without a local instance, and with one whose origins are down.
    let mut world = World::on_network(0, 1);
    world.tell(Fact::Puzzle(puzzle(1, 40)));
    world.fetched(0, 1, &[11, 12, 13]);
    world.pass(MINUTE);
    assert_eq!(world.asked(), (None, 3));

    let mut world = World::on_network(1, 1);
    world.tell(Fact::Puzzle(puzzle(1, 40)));
    world.local(0, &[1, 2, 3]);
    world.fetched(1, 1, &[11, 12, 13]);
    world.pass(MINUTE);
    assert_eq!(world.asked(), (Some(40), 3));
    world.tell(Fact::Origins(Err("connection refused".into())));
    world.pass(MINUTE);
    assert_eq!(world.asked(), (None, 3));
    assert!(world.newest().contains(&point(11, 11)));
    world.tell(Fact::Origins(Ok(())));
    world.pass(3 * MINUTE);
    assert_eq!(world.asked(), (Some(40), 3));
    world.withdraw();
    world.pass(MINUTE);
    assert_eq!(world.asked(), (None, 3));
    assert!(world.work_is_worth_something());
}

#[test]
fn in_peace_a_puzzle_is_published_only_where_a_listed_backend_verifies_it() {
    let mut settings = World::settings(1, 1);
    settings.backends[0].weight = 0;
    let mut world = World::on_network(1, 1);
    world.reconfigure(settings);
    world.tell(Fact::Puzzle(puzzle(1, 0)));
    world.local(0, &[1, 2, 3]);
    world.fetched(1, 1, &[11, 12, 13]);
    world.pass(MINUTE);
    assert_eq!(world.asked(), (None, 3));
    // Who gets no clients in peace gets them when nobody else can verify work.
    world.tell(Fact::Puzzle(puzzle(1, 5)));
    world.pass(MINUTE);
    assert_eq!((world.asked(), world.work_is_worth_something()), ((Some(5), 3), true));
}

#[test]
fn a_descriptor_is_published_anew_for_another_seed_or_an_effort_that_differs_by_much() {
    let mut world = World::on_network(1, 0);
    let mut rounds_for = |of| {
        world.tell(Fact::Puzzle(of));
        world.local(0, &[1, 2, 3]);
        world.pass(3 * MINUTE);
        (world.rounds().len(), world.uploads.last().unwrap().1.puzzle)
    };
    let _ = rounds_for(puzzle(1, 100));
    let uploads = |world: &World| world.uploads.len();
    assert_eq!(rounds_for(puzzle(1, 110)).1, puzzle(1, 100));
    assert_eq!(rounds_for(puzzle(1, 90)).1, puzzle(1, 100));
    assert_eq!(rounds_for(puzzle(1, 120)).1, puzzle(1, 120));
    assert_eq!(rounds_for(puzzle(2, 120)).1, puzzle(2, 120));
    assert_eq!(rounds_for(puzzle(2, 0)).1, puzzle(2, 0));
    assert_eq!(rounds_for(None).1, None);
    assert_eq!(uploads(&world), 2 * 5);
}

#[test]
fn whatever_is_suggested_and_whoever_dies_no_work_is_ever_worth_nothing() {
    use rand::RngExt as _;
    let mut world = World::on_network(2, 2);
    let mut choices = rng();
    for step in 0..3_000_u64 {
        let number = choices.random_range(0..8_u32);
        let on = choices.random_bool(0.5);
        match number {
            0 | 1 => {
                let first = 1 + 3 * number as u16;
                let points = [first, first + 1];
                world.local(number, if on { &points } else { &[] });
            }
            2 | 3 if on => {
                world.fetched(number, step + 1, &[number as u16 * 10, number as u16 * 10 + 1])
            }
            4 => world.tell(Fact::Origins(if on { Ok(()) } else { Err("down".into()) })),
            _ => world.tell(Fact::Puzzle(match choices.random_range(0..4) {
                0 => None,
                1 => puzzle(step / 100, 0),
                _ => puzzle(step / 100, choices.random_range(1..10_000)),
            })),
        }
        world.pass(choices.random_range(1..120) * SECOND);
    }
    assert!(world.uploads.iter().any(|(_, it)| it.puzzle.is_some_and(|it| it.effort > 0)));
    assert!(world.uploads.iter().any(|(_, it)| it.points.iter().any(|p| *p == point(20, 20))));
    assert!(world.work_is_worth_something());
}

/// Settings under which these may read the descriptors.
fn readable_by(settings: BalancerSettings, keys: &[u8]) -> BalancerSettings {
    let keys = keys.iter().map(|n| ClientKey::new([*n; 32]).unwrap());
    BalancerSettings { access: Access::Clients(keys.collect()), ..settings }
}

#[test]
fn descriptors_are_for_the_clients_of_the_settings_and_others_are_published_at_once() {
    let mut world = World::on_network(1, 0);
    let access = |world: &World| world.uploads.last().map(|(_, it)| it.access.clone()).unwrap();
    world.local(0, &[1, 2, 3]);
    assert_eq!(access(&world), Access::Everybody);
    assert_eq!(world.balancer.status().clients, None);
    for keys in [&[2, 3][..], &[2, 3, 4], &[2]] {
        world.pass(5 * MINUTE);
        let before = world.uploads.len();
        let settings = readable_by(World::settings(1, 0), keys);
        let expected = settings.access.clone();
        world.reconfigure(settings);
        if !std::mem::take(&mut world.renewed).is_empty() {
            let n = 10 * keys.len() as u16;
            world.local(0, &[n, n + 1, n + 2]);
        }
        world.pass(2 * SECOND);
        assert_eq!(world.uploads.len(), before + 2);
        assert_eq!(access(&world), expected);
        assert_eq!(world.balancer.status().clients, Some(keys.len()));
    }
}

#[test]
fn who_is_shut_out_does_not_find_the_points_of_before() {
    let mut world = World::on_network(2, 1);
    let base = || World::settings(2, 1);
    let mut renewed = |settings| {
        world.renewed.clear();
        world.reconfigure(settings);
        world.renewed.clone()
    };
    assert_eq!(renewed(readable_by(base(), &[2, 3])), [0, 1]);
    assert_eq!(renewed(readable_by(base(), &[2, 3, 4])), [0; 0]);
    assert_eq!(renewed(readable_by(base(), &[2, 4])), [0, 1]);
    assert_eq!(renewed(readable_by(base(), &[2, 4])), [0; 0]);
    assert_eq!(renewed(base()), [0; 0]);
}

#[test]
fn who_was_shut_out_while_the_process_did_not_run_does_not_find_them_either() {
    let before = Balancer::new(readable_by(World::settings(1, 0), &[2, 3]));
    let memory = serde_json::to_string(&before.memory(start())).unwrap();
    let renews = |settings, memory: &str| {
        let memory = serde_json::from_str(memory).unwrap();
        let mut after = Balancer::remembering(settings, memory, start());
        matches!(after.poll_command(), Some(Command::Renew { backend: BackendId(0) }))
    };
    assert!(!renews(readable_by(World::settings(1, 0), &[2, 3, 4]), &memory));
    assert!(renews(readable_by(World::settings(1, 0), &[2]), &memory));
    // Nothing was written of it: everybody may have known them.
    assert!(renews(readable_by(World::settings(1, 0), &[2]), "{}"));
    assert!(renews(readable_by(World::settings(1, 0), &[2]), r#"{"access": 7}"#));
    assert!(!renews(World::settings(1, 0), &memory));
}

#[test]
fn without_any_client_nothing_is_published_and_that_is_said() {
    let mut world = World::on_network(1, 0);
    world.reconfigure(readable_by(World::settings(1, 0), &[]));
    world.local(0, &[1, 2, 3]);
    world.pass(200 * MINUTE);
    assert_eq!(world.uploads, []);
    assert_eq!(world.state(), ServiceState::Down);
    let problems = world.balancer.status().problems;
    assert!(problems[0].contains("no client is authorized"), "{problems:?}");

    world.reconfigure(readable_by(World::settings(1, 0), &[2]));
    world.pass(2 * SECOND);
    assert_eq!(world.state(), ServiceState::Published);
    let uploaded = world.uploads.len();
    assert_eq!(uploaded, 2);
    // The last one is gone: what was published is not published again.
    world.reconfigure(readable_by(World::settings(1, 0), &[]));
    world.pass(300 * MINUTE);
    assert_eq!(world.uploads.len(), uploaded);
    assert_eq!(world.state(), ServiceState::Down);
}

#[test]
fn no_backend_makes_a_descriptor_for_clients_too_long() {
    let large = |session| {
        let mut point = point(session, session);
        let further = crate::onion::LinkSpecifier { kind: 99, body: vec![0; 62] };
        point.link_specifiers.push(further);
        assert_eq!(point.flaw(), None);
        point
    };
    let mut world = World::on_network(1, 0);
    let (backend, points) = (BackendId(0), vec![large(1), point(2, 2)]);
    let fact = Fact::LocalPoints { backend, points, capabilities: Capabilities::default() };
    world.tell(fact);
    world.pass(7 * SECOND);
    assert_eq!(world.newest().len(), 2);
    world.reconfigure(readable_by(World::settings(1, 0), &[2]));
    world.pass(2 * MINUTE);
    assert_eq!(world.newest(), [point(2, 2)]);
}

/// The periods from this one on, the first of them current.
fn periods_from(number: u64) -> crate::fact::NetworkView {
    let mut view = network(number, [1, 2]);
    view.periods.extend(
        network(number + 1, [3, 4])
            .periods
            .into_iter()
            .map(|view| PeriodView { current: false, ..view }),
    );
    view
}

#[test]
fn only_periods_with_keys_are_published_and_the_end_is_announced_and_then_quiet() {
    let mut world = World::new(1, 0);
    world.tell(Fact::Bundle(Some((1..=8).map(period).collect())));
    world.tell(Fact::Network(periods_from(1)));
    world.local(0, &[1, 2, 3]);
    assert_eq!(world.state(), ServiceState::Published);
    assert_eq!(world.uploads.len(), 4);
    assert_eq!(world.balancer.status().bundle.unwrap().periods_left, 8);
    assert_eq!(world.balancer.status().problems, [""; 0]);
    for (number, left) in (2..=8).zip((1..=7).rev()) {
        world.tell(Fact::Network(periods_from(number)));
        world.pass(10 * MINUTE);
        let status = world.balancer.status();
        assert_eq!(status.bundle.unwrap().periods_left, left);
        assert!(status.problems.iter().any(|it| it.contains("identity_bundle")), "{left}");
        assert_eq!(world.state(), ServiceState::Published, "{left}");
    }
    assert!(world.uploads.iter().all(|(_, it)| it.period.number <= 8));
    // It is over: nothing is published, asked for or retried, for a whole day.
    world.tell(Fact::Network(periods_from(9)));
    let uploads = world.uploads.len();
    world.pass(24 * 60 * MINUTE);
    assert_eq!(world.uploads.len(), uploads);
    assert_eq!(world.state(), ServiceState::Down);
    let problems = world.balancer.status().problems;
    assert!(problems[0].contains("nothing is published any more"), "{problems:?}");
    // Others come, without a restart.
    world.tell(Fact::Bundle(Some((9..=30).map(period).collect())));
    world.pass(10 * MINUTE);
    assert_eq!(world.state(), ServiceState::Published);
    assert_eq!(world.balancer.status().problems, [""; 0]);
    // And with the identity key nothing is counted.
    world.tell(Fact::Bundle(None));
    assert_eq!(world.balancer.status().bundle, None);
}

#[test]
fn a_period_without_keys_is_left_alone_while_others_are_published() {
    let mut world = World::new(1, 0);
    world.tell(Fact::Bundle(Some([2, 4].into_iter().map(period).collect())));
    world.tell(Fact::Network(periods_from(1)));
    world.local(0, &[1, 2, 3]);
    // The next one has keys, and clients do not look there yet.
    assert!(!world.uploads.is_empty());
    assert!(world.uploads.iter().all(|(_, it)| it.period.number == 2));
    assert_eq!(world.state(), ServiceState::Down);
    world.tell(Fact::Network(periods_from(2)));
    world.pass(10 * MINUTE);
    assert_eq!(world.state(), ServiceState::Published);
    world.tell(Fact::Network(periods_from(3)));
    world.pass(10 * MINUTE);
    assert_eq!(world.state(), ServiceState::Down);
    assert!(world.uploads.iter().all(|(_, it)| it.period.number != 3));
}

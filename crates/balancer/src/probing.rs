//! Schedules probes of introduction points, and suspects our own network instead of
//! the backends when none succeeds.
//!
//! One probe at a time for each backend, its points in turn, so that each point
//! is asked about once in the interval that the operator wants, at times that
//! nobody can foresee, and more seldom while nothing is wrong; a few at a time over
//! the whole service. A probe that is slow to end holds up nobody: meanwhile the
//! backend's other points are asked. A result that contradicts what is believed
//! is followed by others soon, at this backend's points and at one of another
//! backend: the verdict ([`BackendHealth`]) needs both.
//!
//! While every backend's probes fail, the fault is likelier ours. Then nobody
//! is judged, nothing is asked sooner, and the operator is told; what failed
//! meanwhile is forgiven when the first probe succeeds again, and what began
//! before that and fails later proves nothing.
//!
//! A local instance's point that fails is replaced: its circuit stands, and
//! hangs. Called by the balancer with every result and at every wake-up.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use rand::Rng;

use super::backend::TrackedBackend;
use super::command::Command;
use super::fact::{BackendId, Now, ProbeFailure};
use super::health::BackendHealth;
use super::memory::FailingPoint;
use super::schedule::{Alarm, Allowance, between, exponential};
use crate::onion::{IntroPoint, SessionId};

/// How many probes are under way at a time, over the whole service, slow ones
/// aside: each costs Tor two circuits, and the process two handshakes.
const AT_ONCE: usize = 4;
/// A probe under way for longer is slow. Most take a second, those that nobody
/// answers half a minute, in which they cost next to nothing.
const SLOW: Duration = Duration::from_secs(10);
/// After so long the answer to a probe is given up as lost: half a minute after
/// the shell has given up itself.
const PROBE_LIMIT: Duration = Duration::from_secs(3 * 60);
/// A point whose result is in doubt is asked again within this part of the
/// interval ...
const SOON: u32 = 5;
/// ... and no sooner than this: a relay needs a moment to notice that a circuit
/// has gone, and a restarted backend to come back.
const SOON_AT_LEAST: Duration = Duration::from_secs(3);
/// How soon another backend is asked when a failure must be told from our own.
const COMPARISON: Duration = Duration::from_secs(1);
/// So many results from every backend without a success anywhere make us
/// suspect ourselves: one alone may be an accident.
const BLIND_AFTER: u32 = 2;
/// A point replaced in vain is not replaced faster than this.
const REPLACEMENTS: Allowance = Allowance::new(1, Duration::from_secs(60));

/// The probes of one service.
#[derive(Debug)]
pub(super) struct Probing {
    every: Option<Duration>,
    /// The time between two probes of a backend while nothing speaks against it.
    calm: Option<Duration>,
    backends: BTreeMap<BackendId, Probed>,
    /// How many probes have succeeded, of all backends.
    successes: u64,
    /// Why the last one that did not succeed did not.
    reason: String,
}

/// The probes of one backend.
#[derive(Debug)]
struct Probed {
    health: BackendHealth,
    /// Its points, those to be asked next first.
    queue: VecDeque<SessionId>,
    /// Whether it is to be asked: its points are there, and nothing else than
    /// probes speaks against them.
    asked: bool,
    is_local: bool,
    next_at: Instant,
    /// At most one of them is not slow, and each is of another point.
    under_way: Vec<ProbeUnderWay>,
    /// How many of its probes have not succeeded since the last success anywhere.
    failures_since_success: u32,
    /// The points that were replaced, as long as they are there.
    replaced: Vec<SessionId>,
    replacements: Allowance,
}

/// A probe that has not ended.
#[derive(Debug)]
struct ProbeUnderWay {
    session: SessionId,
    since: Instant,
    /// How many probes had succeeded when it began.
    successes: u64,
    /// Whether it began before our own side worked again: its failure proves
    /// nothing.
    blind: bool,
}

impl Probing {
    /// Probes every point once in `every`; `None`: no probes. A backend that nothing
    /// speaks against is probed once in `calm` instead, if that is given.
    pub(super) fn new(every: Option<Duration>, calm: Option<Duration>) -> Self {
        Self { every, calm, backends: BTreeMap::new(), successes: 0, reason: String::new() }
    }

    /// From now on every point is probed once in `every`, in `calm` as in `new`.
    /// Without probes nothing is known that was known from them.
    pub(super) fn set_interval(
        &mut self,
        every: Option<Duration>,
        calm: Option<Duration>,
        now: Now,
    ) {
        if (self.every, self.calm) == (every, calm) {
            return;
        }
        (self.every, self.calm) = (every, calm);
        match every {
            Some(every) => {
                let latest = now.monotonic + every;
                self.backends.values_mut().for_each(|b| b.next_at = b.next_at.min(latest));
            }
            None => self.backends.clear(),
        }
    }

    /// What probes said of a backend before a restart. Without probes nothing
    /// could ever say better, so nothing is known then.
    pub(super) fn recall(
        &mut self,
        backend: BackendId,
        failing: &[FailingPoint],
        broken: Option<&str>,
        now: Now,
    ) {
        if self.every.is_some() {
            let probed = self.backends.entry(backend).or_insert_with(|| Probed::new(now));
            probed.health.recall(failing, broken);
        }
    }

    /// What the probes say of a backend.
    pub(super) fn health(&self, backend: BackendId) -> Option<&BackendHealth> {
        self.backends.get(&backend).map(|probed| &probed.health)
    }

    /// The application behind this backend is known to answer again.
    pub(super) fn application_is_back(&mut self, backend: BackendId) {
        if let Some(probed) = self.backends.get_mut(&backend) {
            probed.health.application_is_back();
        }
    }

    /// What the operator should know.
    pub(super) fn problem(&self) -> Option<String> {
        self.is_blind().then(|| {
            format!(
                "no probe of any backend succeeds (the last one: {}); the trouble may be on our \
                 side, so no backend is judged by it",
                self.reason
            )
        })
    }

    /// A probe has ended. True if the backend may have moved on to other
    /// points, which its own descriptor would tell.
    pub(super) fn probed(
        &mut self,
        backend: BackendId,
        session: SessionId,
        outcome: &Result<(), ProbeFailure>,
        now: Now,
        rng: &mut impl Rng,
    ) -> bool {
        let (Some(every), Some(probed)) = (self.every, self.backends.get_mut(&backend)) else {
            return false;
        };
        // A local instance offers a point only while its circuit stands: the
        // relay has it, and keeps to its limit.
        let limited = match outcome {
            Err(ProbeFailure::Refused(reason)) if probed.is_local => {
                Some(Err(ProbeFailure::Inconclusive(reason.clone())))
            }
            _ => None,
        };
        let outcome = limited.as_ref().unwrap_or(outcome);
        let Some(at) = probed.under_way.iter().position(|asked| asked.session == session) else {
            return false;
        };
        let began = probed.under_way.swap_remove(at);
        match outcome {
            Ok(()) => self.succeeded(),
            Err(failure) => {
                probed.failures_since_success = probed.failures_since_success.saturating_add(1);
                self.reason = failure.to_string();
            }
        }
        let blind = self.is_blind();
        let successes = self.successes;
        let Some(probed) = self.backends.get_mut(&backend) else { return false };
        let counts = outcome.is_ok() || !began.blind;
        let seen = (began.successes, successes);
        let contradicts = counts && probed.health.probed(session, outcome, seen, now.monotonic);
        for probed in self.backends.values_mut() {
            probed.health.judge(successes);
        }
        self.schedule(backend, every, blind, now.monotonic, rng);
        if contradicts && outcome.is_err() && !blind {
            self.compare(backend, now.monotonic, rng);
        }
        matches!(outcome, Err(ProbeFailure::Point(_) | ProbeFailure::Refused(_)))
    }

    /// Looks at everything again: asks which points are due, and has those
    /// replaced that hang. `backends` are all there are.
    pub(super) fn progress(
        &mut self,
        backends: &[TrackedBackend],
        now: Now,
        alarm: &mut Alarm,
        rng: &mut impl Rng,
        commands: &mut VecDeque<Command>,
    ) {
        let Some(every) = self.every else { return };
        self.backends.retain(|id, _| backends.iter().any(|backend| backend.id() == *id));
        for backend in backends {
            let probed = self.backends.entry(backend.id()).or_insert_with(|| Probed::new(now));
            probed.offered(backend, now.monotonic + between(Duration::ZERO, soon(every), rng));
        }
        self.give_up_lost(now, alarm, rng);
        self.ask(backends, every, alarm, commands);
        let blind = self.is_blind();
        for backend in backends.iter().filter(|backend| backend.is_local() && !blind) {
            let Some(probed) = self.backends.get_mut(&backend.id()) else { continue };
            if let Some(session) = probed.replace(self.successes, alarm) {
                commands.push_back(Command::Replace { backend: backend.id(), session });
            }
        }
    }

    /// Our own side works.
    fn succeeded(&mut self) {
        if self.is_blind() {
            for probed in self.backends.values_mut() {
                probed.health.forgive();
                probed.under_way.iter_mut().for_each(|asked| asked.blind = true);
            }
        }
        self.successes += 1;
        self.backends.values_mut().for_each(|probed| probed.failures_since_success = 0);
    }

    /// Whether every backend has been asked in vain since the last probe that
    /// succeeded.
    fn is_blind(&self) -> bool {
        let mut asked = self.backends.values().filter(|probed| probed.asked).peekable();
        asked.peek().is_some() && asked.all(|probed| probed.failures_since_success >= BLIND_AFTER)
    }

    /// When this backend is asked again.
    fn schedule(
        &mut self,
        backend: BackendId,
        every: Duration,
        blind: bool,
        now: Instant,
        rng: &mut impl Rng,
    ) {
        let Some(probed) = self.backends.get_mut(&backend) else { return };
        let in_doubt = probed.health.is_in_doubt() && !blind;
        let calm = self.calm.filter(|_| probed.is_calm());
        let delay = match calm {
            _ if in_doubt => {
                let delay = probed.pace(soon(every));
                between(delay * 4 / 5, delay * 6 / 5, rng)
            }
            Some(calm) => exponential(calm, rng),
            None => exponential(probed.pace(every), rng),
        };
        probed.next_at = now + delay;
    }

    /// Asks the backend next that is best fit to show that our side works.
    fn compare(&mut self, failed: BackendId, now: Instant, rng: &mut impl Rng) {
        let fit = |probed: &Probed| {
            let health = &probed.health;
            probed.asked
                && probed.under_way.is_empty()
                && !health.is_in_doubt()
                && health.down().is_none()
        };
        let others = self.backends.iter_mut().filter(|(id, b)| **id != failed && fit(b));
        if let Some((_, other)) = others.min_by_key(|(_, probed)| probed.next_at) {
            other.next_at = other.next_at.min(now + between(Duration::ZERO, COMPARISON, rng));
        }
    }

    fn give_up_lost(&mut self, now: Now, alarm: &mut Alarm, rng: &mut impl Rng) {
        let asked = self.backends.iter().flat_map(|(id, probed)| {
            probed.under_way.iter().map(|asked| (*id, asked.session, asked.since))
        });
        let lost: Vec<_> =
            asked.filter(|(.., since)| alarm.reached(*since + PROBE_LIMIT)).collect();
        for (backend, session, _) in lost {
            let outcome = Err(ProbeFailure::Inconclusive("no answer in time".into()));
            self.probed(backend, session, &outcome, now, rng);
        }
    }

    /// Probes where it is due, who waits longest first.
    fn ask(
        &mut self,
        backends: &[TrackedBackend],
        every: Duration,
        alarm: &mut Alarm,
        commands: &mut VecDeque<Command>,
    ) {
        let blind = self.is_blind();
        let mut busy = 0;
        let mut due: Vec<(Instant, BackendId)> = Vec::new();
        for (id, probed) in &self.backends {
            if probed.is_busy(alarm) {
                busy += 1;
            } else if probed.asked && probed.idle().is_some() && alarm.reached(probed.next_at) {
                due.push((probed.next_at, *id));
            }
        }
        due.sort_unstable();
        for (_, id) in due.into_iter().take(AT_ONCE.saturating_sub(busy)) {
            let offered = backends.iter().find(|b| b.id() == id).map(|b| b.offer().points());
            let Some(probed) = self.backends.get_mut(&id) else { continue };
            if let Some(point) = offered.and_then(|points| probed.next(points)) {
                let (session, since) = (point.session_id, alarm.now());
                let successes = self.successes;
                probed.under_way.push(ProbeUnderWay { session, since, successes, blind: false });
                // The result decides when the next one follows. If it is slow
                // to come, that is a reason for doubt where none was before.
                let expected = blind || probed.health.fails(session);
                let lap = if expected { every } else { soon(every) };
                probed.next_at = since + probed.pace(lap).max(SLOW);
                alarm.reached(since + SLOW);
                alarm.reached(probed.next_at);
                alarm.reached(since + PROBE_LIMIT);
                commands.push_back(Command::Probe {
                    backend: id,
                    point: point.clone(),
                    work: None,
                });
            }
        }
    }
}

impl Probed {
    fn new(now: Now) -> Self {
        Self {
            health: BackendHealth::default(),
            queue: VecDeque::new(),
            asked: false,
            is_local: false,
            next_at: now.monotonic,
            under_way: Vec::new(),
            failures_since_success: 0,
            replaced: Vec::new(),
            replacements: REPLACEMENTS,
        }
    }

    /// The backend is this now; points not seen before are asked at `soon`.
    fn offered(&mut self, backend: &TrackedBackend, soon: Instant) {
        let points = backend.offer().points();
        self.asked = backend.is_live_without_probes();
        self.is_local = backend.is_local();
        self.health.offered(points);
        let offered = |session: &SessionId| points.iter().any(|p| p.session_id == *session);
        self.queue.retain(offered);
        self.replaced.retain(offered);
        for point in points {
            if !self.queue.contains(&point.session_id) {
                let first = self.queue.is_empty();
                // Where nothing works, those that are listed come first.
                if self.health.fails(point.session_id) {
                    self.queue.push_back(point.session_id);
                } else {
                    self.queue.push_front(point.session_id);
                }
                self.next_at = if first { soon } else { self.next_at.min(soon) };
            }
        }
    }

    /// Whether a probe is under way that is not slow.
    fn is_busy(&self, alarm: &mut Alarm) -> bool {
        self.under_way.iter().any(|asked| !alarm.reached(asked.since + SLOW))
    }

    /// Whether nothing speaks against it.
    fn is_calm(&self) -> bool {
        let fails = |session: &SessionId| self.health.fails(*session);
        !self.health.is_in_doubt() && self.health.down().is_none() && !self.queue.iter().any(fails)
    }

    /// The time between two probes, where a lap of all points takes so long.
    fn pace(&self, lap: Duration) -> Duration {
        lap / u32::try_from(self.queue.len()).unwrap_or(u32::MAX).max(1)
    }

    /// The place in the queue of the first point that is not being asked.
    fn idle(&self) -> Option<usize> {
        let asked = |session| self.under_way.iter().any(|it| it.session == session);
        self.queue.iter().position(|session| !asked(*session))
    }

    /// The point to be asked now; it goes to the end of the queue.
    fn next<'a>(&mut self, points: &'a [IntroPoint]) -> Option<&'a IntroPoint> {
        let session = self.queue.remove(self.idle()?)?;
        self.queue.push_back(session);
        points.iter().find(|point| point.session_id == session)
    }

    /// The point to be replaced now, if any: each once.
    fn replace(&mut self, successes: u64, alarm: &mut Alarm) -> Option<SessionId> {
        let broken = |session: &&SessionId| self.health.is_broken(**session, successes);
        let mut broken = self.queue.iter().filter(broken);
        let session = *broken.find(|session| !self.replaced.contains(session))?;
        self.replacements.permits(alarm).then(|| {
            self.replacements.take(alarm.now());
            self.replaced.push(session);
            session
        })
    }
}

/// How soon a doubtful point is asked again.
fn soon(every: Duration) -> Duration {
    (every / SOON).max(SOON_AT_LEAST).min(every)
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;

    use super::super::fact::FetchedDescriptor;
    use super::super::samples::{MINUTE, SECOND, later, network, period, point, rng, start};
    use super::super::{BackendPlace, BackendSettings};
    use super::*;
    use crate::onion::{Capabilities, OnionAddress};
    use crate::status::BackendState;

    const EVERY: Duration = Duration::from_secs(30);

    type Outcome = Result<(), ProbeFailure>;

    /// Some backends, and what was done with their points.
    struct World {
        probing: Probing,
        backends: Vec<TrackedBackend>,
        now: Now,
        began: Now,
        rng: StdRng,
        asked: Vec<(Duration, u32, SessionId)>,
        replaced: Vec<(Duration, SessionId)>,
        /// The answers on their way.
        answers: Vec<(Instant, BackendId, SessionId, Outcome)>,
        /// How long a probe takes that succeeds ...
        takes: Duration,
        /// ... and one that fails.
        fails_after: Duration,
        most_at_once: usize,
        moved: usize,
    }

    impl World {
        /// `local` instances, then `remote` backends, with three points each:
        /// backend 2 has 21, 22 and 23.
        fn new(local: u16, remote: u16) -> Self {
            let now = start();
            let mut world = Self {
                probing: Probing::new(Some(EVERY), None),
                backends: Vec::new(),
                now,
                began: now,
                rng: rng(),
                asked: Vec::new(),
                replaced: Vec::new(),
                answers: Vec::new(),
                takes: SECOND,
                fails_after: SECOND,
                most_at_once: 0,
                moved: 0,
            };
            for n in 0..local + remote {
                let kind = if n < local {
                    BackendPlace::Local { expected_points: 3 }
                } else {
                    BackendPlace::Remote { address: OnionAddress::from_public_key([n as u8; 32]) }
                };
                let id = BackendId(n.into());
                world.backends.push(TrackedBackend::new(BackendSettings {
                    id,
                    name: n.to_string(),
                    kind,
                    weight: 1,
                }));
                world.offers(n.into(), &[10 * n + 1, 10 * n + 2, 10 * n + 3]);
            }
            world
        }

        fn offers(&mut self, backend: usize, sessions: &[u16]) {
            let points = sessions.iter().map(|n| point(*n, *n)).collect();
            let capabilities = Capabilities::default();
            let (now, rng) = (self.now, &mut self.rng);
            let backend = &mut self.backends[backend];
            if backend.is_local() {
                return backend.local_points(points, capabilities, now);
            }
            let revision = sessions[0].into();
            let descriptor =
                FetchedDescriptor { period: period(1), revision, points, flaw: None, capabilities };
            backend.network_changed(&network(1, [1, 2]), now);
            backend.fetched(Ok(descriptor), now, rng);
        }

        /// Lets time pass; every probe is answered with what `answer` says of
        /// the session, or not at all.
        fn pass(&mut self, time: Duration, answer: impl Fn(u16) -> Option<Outcome>) {
            let end = later(self.now, time);
            loop {
                let mut alarm = Alarm::new(self.now.monotonic);
                let mut commands = VecDeque::new();
                for backend in &mut self.backends {
                    backend.progress(None, &mut Alarm::new(self.now.monotonic), &mut self.rng);
                }
                self.probing.progress(
                    &self.backends,
                    self.now,
                    &mut alarm,
                    &mut self.rng,
                    &mut commands,
                );
                for backend in &mut self.backends {
                    backend.apply_probe_health(self.probing.health(backend.id()));
                }
                for command in commands {
                    self.carry_out(command, &answer);
                }
                let mut slow = Alarm::new(self.now.monotonic);
                let busy = self.probing.backends.values().filter(|b| b.is_busy(&mut slow));
                self.most_at_once = self.most_at_once.max(busy.count());
                let answers = self.answers.iter().map(|(at, ..)| *at);
                let Some(next) = answers.chain(alarm.next()).min() else { break };
                if next > end.monotonic {
                    break;
                }
                self.now = later(self.now, next - self.now.monotonic);
                while let Some(i) = self.answers.iter().position(|(at, ..)| *at <= next) {
                    let (_, backend, session, outcome) = self.answers.remove(i);
                    let probing = &mut self.probing;
                    let moved = probing.probed(backend, session, &outcome, self.now, &mut self.rng);
                    self.moved += usize::from(moved);
                }
            }
            self.now = end;
        }

        fn carry_out(&mut self, command: Command, answer: &impl Fn(u16) -> Option<Outcome>) {
            let after = self.now.monotonic - self.began.monotonic;
            match command {
                Command::Probe { backend, point, .. } => {
                    let session = point.session_id;
                    self.asked.push((after, backend.0, session));
                    let number = u16::from_be_bytes([session.0[0], session.0[1]]);
                    if let Some(outcome) = answer(number) {
                        let takes = if outcome.is_ok() { self.takes } else { self.fails_after };
                        let at = self.now.monotonic + takes;
                        self.answers.push((at, backend, session, outcome));
                    }
                }
                Command::Replace { session, .. } => self.replaced.push((after, session)),
                other => panic!("{other:?}"),
            }
        }

        /// When this point was asked.
        fn times(&self, number: u16) -> Vec<Duration> {
            let session = point(number, 0).session_id;
            self.asked.iter().filter(|(_, _, s)| *s == session).map(|(at, ..)| *at).collect()
        }

        fn states(&self) -> Vec<BackendState> {
            self.backends.iter().map(TrackedBackend::state).collect()
        }

        fn forget(&mut self) {
            self.asked.clear();
            self.began = self.now;
        }
    }

    fn good(_: u16) -> Option<Outcome> {
        Some(Ok(()))
    }

    fn dead() -> Option<Outcome> {
        Some(Err(ProbeFailure::Point("no answer".into())))
    }

    /// The backend whose points begin with this digit is dead.
    fn dead_is(digit: u16) -> impl Fn(u16) -> Option<Outcome> {
        move |n| if n / 10 == digit { dead() } else { good(n) }
    }

    #[test]
    fn every_point_is_asked_soon_and_then_once_an_interval() {
        let mut world = World::new(2, 2);
        world.pass(60 * MINUTE, good);
        for number in [1, 2, 3, 11, 12, 13, 21, 22, 23, 31, 32, 33] {
            let times = world.times(number);
            assert!(times[0] <= EVERY + 10 * SECOND, "{times:?}");
            assert!((90..=150).contains(&times.len()), "{}", times.len());
            let longest = times.windows(2).map(|two| two[1] - two[0]).max().unwrap();
            assert!(longest <= 3 * EVERY + 5 * SECOND, "{times:?}");
        }
        // Neither all at once nor in step: nobody can tell when the next one comes.
        assert!(world.most_at_once <= AT_ONCE);
        for backend in 0..4 {
            let times: Vec<_> = world.asked.iter().filter(|(_, b, _)| *b == backend).collect();
            let gaps: Vec<f64> =
                times.windows(2).map(|two| (two[1].0 - two[0].0).as_secs_f64()).collect();
            let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
            let variance =
                gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
            assert!((0.5..1.1).contains(&(variance.sqrt() / mean)), "{gaps:?}");
        }
    }

    #[test]
    fn while_nothing_is_wrong_a_backend_is_asked_every_few_minutes_and_in_doubt_at_once() {
        let mut world = World::new(0, 3);
        world.probing.set_interval(Some(EVERY), Some(5 * MINUTE), world.now);
        world.pass(MINUTE, good);
        world.forget();
        world.pass(20 * 60 * MINUTE, good);
        for backend in 0..3 {
            let asked = world.asked.iter().filter(|(_, b, _)| *b == backend).count();
            assert!((200..=300).contains(&asked), "{backend}: {asked} in 20 hours");
        }
        // The first failure is followed by others within seconds.
        world.forget();
        world.pass(20 * MINUTE, dead_is(1));
        assert_eq!(world.states()[1], BackendState::Down);
        let of_dead: Vec<_> = world.asked.iter().filter(|(_, b, _)| *b == 1).collect();
        assert!(of_dead[3].0 - of_dead[0].0 <= 15 * SECOND, "{of_dead:?}");
        // It is asked as often as the operator wants until it is well again.
        let last = of_dead.last().unwrap().0;
        assert!(world.now.monotonic - world.began.monotonic - last <= EVERY);
    }

    #[test]
    fn no_more_than_a_few_probes_are_under_way_and_everyone_gets_a_turn() {
        let mut world = World::new(0, 9);
        world.takes = 20 * SECOND;
        world.pass(60 * MINUTE, good);
        assert_eq!(world.most_at_once, AT_ONCE);
        for backend in 0..9 {
            let asked = world.asked.iter().filter(|(_, b, _)| *b == backend).count();
            assert!(asked >= 70, "{backend}: {asked}");
        }
    }

    #[test]
    fn a_lost_answer_is_given_up_and_a_late_one_ignored() {
        let mut world = World::new(1, 1);
        world.pass(PROBE_LIMIT, |n| if n < 10 { None } else { good(n) });
        assert_eq!([1, 2, 3].map(|n| world.times(n).len()), [1; 3]);
        let (_, _, lost) = *world.asked.iter().find(|(_, b, _)| *b == 0).unwrap();
        world.pass(MINUTE, good);
        assert!(world.asked.iter().filter(|(_, b, _)| *b == 0).count() > 2);
        world.probing.backends.get_mut(&BackendId(0)).unwrap().under_way.clear();
        let gone = Err(ProbeFailure::Point("late".into()));
        world.probing.probed(BackendId(0), lost, &gone, world.now, &mut world.rng);
        assert!(!world.probing.health(BackendId(0)).unwrap().is_in_doubt());
    }

    #[test]
    fn a_dead_backend_is_down_within_45_seconds_and_up_again_within_as_many() {
        for seed in 0..200 {
            let mut world = World::new(0, 3);
            world.rng = rand::SeedableRng::seed_from_u64(seed);
            world.pass(10 * MINUTE + seed as u32 * SECOND / 7, good);
            world.pass(45 * SECOND, dead_is(1));
            use BackendState::{Down, Up};
            assert_eq!(world.states(), [Up, Down, Up], "seed {seed}");
            assert_eq!(world.probing.problem(), None);
            world.pass(10 * MINUTE, dead_is(1));
            world.pass(45 * SECOND, good);
            assert_eq!(world.states(), [Up, Up, Up], "seed {seed}");
        }
    }

    #[test]
    fn a_silent_backend_is_down_after_two_silences_though_three_points_are_silent() {
        for seed in 0..100 {
            let mut world = World::new(0, 3);
            world.rng = rand::SeedableRng::seed_from_u64(seed);
            world.fails_after = 36 * SECOND;
            world.pass(10 * MINUTE + seed as u32 * SECOND / 7, good);
            world.pass(110 * SECOND, dead_is(1));
            use BackendState::{Down, Up};
            assert_eq!(world.states(), [Up, Down, Up], "seed {seed}");
            assert!(world.most_at_once <= 3);
        }
    }

    #[test]
    fn silent_backends_keep_nobody_else_from_being_asked() {
        let mut world = World::new(0, 7);
        world.fails_after = 2 * MINUTE;
        for backend in 3..7 {
            world.offers(backend, &[10 * backend as u16 + 2]);
        }
        world.pass(10 * MINUTE, |n| if n >= 10 { dead() } else { good(n) });
        world.forget();
        world.pass(60 * MINUTE, |n| if n >= 10 { dead() } else { good(n) });
        let often = |two: &[Duration]| two[1] - two[0] < 4 * EVERY;
        assert!(world.times(1).windows(2).all(often), "{:?}", world.times(1));
        // Two minutes for each answer: no point is asked twice at a time.
        assert!((25..=30).contains(&world.times(11).len()), "{:?}", world.times(11));
    }

    #[test]
    fn one_lost_probe_does_not_hide_that_our_own_side_fails() {
        let mut world = World::new(0, 2);
        world.pass(10 * MINUTE, good);
        world.pass(2 * MINUTE, |n| if n == 1 { None } else { dead() });
        assert!(world.probing.problem().is_some());
    }

    #[test]
    fn what_fails_after_an_outage_and_began_in_it_proves_nothing() {
        for seed in 0..100 {
            let mut world = World::new(0, 3);
            world.rng = rand::SeedableRng::seed_from_u64(seed);
            world.pass(5 * MINUTE, good);
            world.fails_after = 25 * SECOND;
            world.pass(5 * MINUTE, |_| dead());
            for _ in 0..60 {
                world.pass(SECOND, good);
                let blind = world.probing.problem().is_some();
                let health = |id| world.probing.health(BackendId(id)).unwrap();
                assert!(blind || (0..3).all(|id| !health(id).is_in_doubt()), "seed {seed}");
            }
            assert_eq!(world.probing.problem(), None);
        }
    }

    #[test]
    fn what_is_known_to_be_dead_is_asked_no_more_often_than_what_works() {
        let mut world = World::new(0, 3);
        world.pass(5 * MINUTE, dead_is(1));
        world.forget();
        world.pass(60 * MINUTE, dead_is(1));
        let asked = world.times(11).len();
        assert!((100..=120).contains(&asked), "{asked}");
    }

    #[test]
    fn when_every_backend_fails_nobody_is_judged_and_the_operator_is_told() {
        let mut world = World::new(1, 2);
        world.pass(10 * MINUTE, good);
        assert_eq!(world.probing.problem(), None);
        for cause in [
            ProbeFailure::Point("no circuit".into()),
            ProbeFailure::Inconclusive("no circuit".into()),
            ProbeFailure::Application("no circuit".into()),
        ] {
            world.forget();
            world.pass(30 * MINUTE, |_| Some(Err(cause.clone())));
            assert_eq!(world.states(), [BackendState::Up; 3]);
            assert!(world.probing.problem().unwrap().contains("no circuit"));
            assert_eq!(world.replaced, []);
            // Nothing is gained by asking sooner.
            assert!(world.times(11).len() < 70);
            world.pass(MINUTE, good);
            assert_eq!(world.probing.problem(), None);
            assert_eq!(world.states(), [BackendState::Up; 3]);
        }
    }

    #[test]
    fn one_failure_before_an_outage_does_not_condemn_with_one_during_it() {
        for seed in 0..200 {
            let mut world = World::new(0, 2);
            world.rng = rand::SeedableRng::seed_from_u64(seed);
            world.pass(5 * MINUTE, good);
            while !world.probing.health(BackendId(0)).unwrap().is_in_doubt() {
                world.pass(SECOND, dead_is(0));
            }
            world.pass(2 * SECOND, good);
            world.pass(MINUTE, |_| dead());
            for _ in 0..60 {
                world.pass(SECOND, good);
                assert_eq!(world.states(), [BackendState::Up; 2], "seed {seed}");
            }
        }
    }

    #[test]
    fn the_only_backend_is_kept_whatever_its_probes_say() {
        let mut world = World::new(0, 1);
        world.pass(10 * MINUTE, |_| dead());
        assert_eq!(world.states(), [BackendState::Up]);
        assert!(world.probing.problem().is_some());
        // One of its points is told from the others all the same.
        let mut world = World::new(0, 1);
        world.pass(5 * MINUTE, |n| if n == 1 { dead() } else { good(n) });
        assert_eq!(world.backends[0].points(), [point(2, 2), point(3, 3)]);
        let shown = world.backends[0].snapshot(2);
        assert_eq!((shown.state, shown.failing_intro_points), (BackendState::Up, 1));
        assert_eq!(shown.reason.unwrap(), "1 of 3 introduction points fails: no answer");
    }

    #[test]
    fn a_broken_application_takes_its_backend_down_and_none_of_its_points() {
        let mut world = World::new(0, 2);
        let broken = || Some(Err(ProbeFailure::Application("502 Bad Gateway".into())));
        world.pass(MINUTE, |n| if n / 10 == 1 { broken() } else { good(n) });
        assert_eq!(world.states(), [BackendState::Up, BackendState::Down]);
        assert_eq!(world.backends[1].snapshot(0).reason.unwrap(), "502 Bad Gateway");
        assert_eq!(world.backends[1].points().len(), 3);
        assert_eq!(world.moved, 0);
        world.pass(30 * SECOND, good);
        assert_eq!(world.states(), [BackendState::Up; 2]);
    }

    #[test]
    fn a_local_instances_hanging_point_is_replaced_once_and_slowly() {
        let mut world = World::new(2, 0);
        world.pass(10 * MINUTE, |n| if n == 2 { dead() } else { good(n) });
        assert_eq!(world.replaced.len(), 1);
        assert_eq!(world.replaced[0].1, point(2, 2).session_id);
        // The replacement is good until it fails, and asked soon.
        world.offers(0, &[1, 3, 4]);
        world.forget();
        world.pass(20 * SECOND, good);
        assert!(world.times(4)[0] <= 20 * SECOND);
        assert_eq!(world.backends[0].points().len(), 3);

        let mut world = World::new(2, 0);
        world.pass(20 * MINUTE, dead_is(0));
        assert_eq!(world.replaced.len(), 3);
        assert!(world.replaced.windows(2).all(|two| two[1].0 - two[0].0 >= MINUTE));
        assert!(World::new(0, 2).replaced.is_empty());
    }

    #[test]
    fn a_remote_backend_whose_point_fails_is_looked_at_again_and_never_replaced() {
        let mut world = World::new(0, 2);
        world.pass(10 * MINUTE, |n| if n == 11 { dead() } else { good(n) });
        assert!(world.moved > 1, "{}", world.moved);
        assert_eq!(world.replaced, []);
        // What its new descriptor lists is a new point.
        world.offers(1, &[14, 12, 13]);
        world.pass(MINUTE, good);
        assert_eq!(world.backends[1].points().len(), 3);
        assert_eq!(world.backends[1].snapshot(3).reason, None);
    }

    #[test]
    fn nobody_is_asked_whom_more_than_probes_speaks_against() {
        let mut world = World::new(2, 0);
        world.pass(MINUTE, good);
        world.offers(0, &[]);
        world.forget();
        world.pass(10 * MINUTE, good);
        assert!(world.asked.iter().all(|(_, backend, _)| *backend == 1));
        // And it has no say in whether the others fail in vain.
        world.pass(2 * MINUTE, |_| dead());
        assert!(world.probing.problem().is_some());
    }

    #[test]
    fn without_an_interval_nothing_is_asked_and_nothing_is_known() {
        let mut world = World::new(0, 2);
        world.pass(5 * MINUTE, dead_is(1));
        assert_eq!(world.states()[1], BackendState::Down);
        world.probing.set_interval(None, None, world.now);
        world.forget();
        world.pass(5 * MINUTE, good);
        assert_eq!(world.states(), [BackendState::Up; 2]);
        assert!(world.asked.is_empty());
        world.probing.set_interval(Some(MINUTE), None, world.now);
        world.pass(10 * MINUTE, good);
        assert!((5..=20).contains(&world.times(11).len()));
    }
}

//! Judges a remote backend by its own descriptor, and schedules its fetches.
//!
//! A remote backend is known by its own descriptor alone: one fetch at a time,
//! soon after a failure or a change, seldom when nothing changes. What the
//! fetches say (and how long they have been saying it) is judged here.
//! Called by [`TrackedBackend`](super::backend::TrackedBackend).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rand::Rng;

use super::fact::{FetchFailure, FetchedDescriptor, NetworkView, Now};
use super::memory::{self, KnownBackend, KnownDescriptor};
use super::offer::Offer;
use super::schedule::{Alarm, Allowance, backoff, between, exponential, stretched};
use crate::onion::{OnionAddress, Period};
use crate::status::BackendState;
use crate::status::Timestamp;

/// The delay after the first failure; doubled with each further one. A backend
/// that is just starting publishes within seconds.
const RETRY_FIRST: Duration = Duration::from_secs(5);
/// The longest delay between failures, so that a backend that comes back is
/// found within a minute or so.
const RETRY_MOST: Duration = Duration::from_secs(60);
/// A backend that has failed for so long is in no hurry to come back ...
const LONG_GONE: Duration = Duration::from_secs(60 * 60);
/// ... and is asked for this seldom, to spare the HSDirs.
const RETRY_LONG_GONE: Duration = Duration::from_secs(5 * 60);
/// The delay after a descriptor that cannot be used: somebody must reconfigure
/// the backend first.
const RETRY_UNUSABLE: Duration = Duration::from_secs(2 * 60);
/// The delay while the points change. C tor publishes a change of its points
/// within a minute, so looking more often shows little more.
const CHANGING: Duration = Duration::from_secs(60);
/// When to look while nothing changes. A point whose relay has gone is replaced
/// in the backend's descriptor and costs our clients retries until we see it.
/// Reached by doubling.
const CALM: (Duration, Duration) = (Duration::from_secs(10 * 60), Duration::from_secs(20 * 60));
/// The same, on average, where probes or a control link see that: HSDirs know
/// nobody else who asks for ever.
const CALM_WHILE_PROBED: Duration = Duration::from_secs(45 * 60);
/// When to look once it is time to after a change of the time period
/// ([`PeriodChange`](super::period_change::PeriodChange)). C tor has other points in
/// the descriptor of the next period, which clients look for then.
const NEW_PERIOD: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(30));
/// In short periods to look is due after such a part of them.
const PART_OF_PERIOD: u32 = 10;
/// When to look after a probe has failed: the backend may have moved on, and
/// publishes that in a moment; or after a sleep, in which it may have.
const MOVED: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5));
/// How often to look because of that: twice in a row, since the first look may
/// come too early, and once a minute in the long run: a backend that was
/// restarted is back with other points, and the probes of its old ones are all
/// that tells us to look.
const LOOKS: Allowance = Allowance::new(2, Duration::from_secs(60));
/// After so long the answer to a fetch is given up as lost. Fetching from
/// several HSDirs, each with circuit retries, can take a minute.
const FETCH_LIMIT: Duration = Duration::from_secs(2 * 60);

/// Services publish anew every 60 to 120 minutes, in C tor and Arti alike and
/// whatever the length of the period (C tor's `HS_SERVICE_NEXT_UPLOAD_TIME_MIN`
/// and `_MAX`). One whose revision has not moved for this long has missed that;
/// the half hour more is for our own looking seldom.
const REVISION_UNMOVED: Duration = Duration::from_secs(150 * 60);
/// How long doubtful points stay listed while nothing better is known. HSDirs
/// drop a descriptor 180 minutes after the upload: by then the doubt is gone.
const DOUBT: Duration = Duration::from_secs(30 * 60);
/// So many times in a row, over at least this time, must all HSDirs asked have
/// no descriptor before the backend counts as gone: at a change of the HSDir
/// ring it can take a service a little while to reach the new ones.
const NOT_FOUND: (u32, Duration) = (3, Duration::from_secs(3 * 60));

/// The knowledge about one remote backend.
#[derive(Debug)]
pub(super) struct RemoteDescriptor {
    /// When to fetch; `None` until a network is known.
    fetch_at: Option<Instant>,
    /// A fetch besides, because the period has changed, a probe has failed or
    /// the machine has slept.
    extra_fetch_at: Option<Instant>,
    looks: Allowance,
    /// Since when a fetch is under way.
    fetching_since: Option<Instant>,
    /// The delay after a success.
    pace: Duration,
    /// Whether probes tell as well when points fail.
    probed: bool,
    /// Whether its control link is up.
    linked: bool,
    /// Whether any fetch has ended, in whatever way.
    answered: bool,
    /// The period in which clients look.
    current: Option<Period>,
    /// The highest revision seen in each period that is published in.
    revisions: BTreeMap<Period, u64>,
    known: Option<NewestDescriptor>,
    failing: Option<FailedFetches>,
    not_found: Option<NotFound>,
    unusable: Option<(Instant, String)>,
}

/// The newest descriptor seen.
#[derive(Debug)]
struct NewestDescriptor {
    period: Period,
    revision: u64,
    /// When this revision was first seen ...
    moved_at: Instant,
    /// ... and when it, or an older copy, was last seen.
    seen_at: Instant,
    /// Whether it comes from before a restart, and no fetch has shown it since.
    remembered: bool,
}

/// Fetches that failed in a row, for whatever reason.
#[derive(Debug)]
struct FailedFetches {
    since: Instant,
    times: u32,
    reason: String,
}

/// Fetches in a row to which all HSDirs said that there is nothing.
#[derive(Debug)]
struct NotFound {
    first: Instant,
    last: Instant,
    times: u32,
}

/// What a fetched descriptor says that was not known.
pub(super) enum DescriptorNews {
    /// These are the backend's points now.
    Offer(Offer),
    /// What is known is true still.
    Confirmed,
    /// Nothing: an old copy.
    Nothing,
}

impl RemoteDescriptor {
    pub(super) fn new() -> Self {
        Self {
            fetch_at: None,
            extra_fetch_at: None,
            looks: LOOKS,
            fetching_since: None,
            pace: CHANGING,
            probed: false,
            linked: false,
            answered: false,
            current: None,
            revisions: BTreeMap::new(),
            known: None,
            failing: None,
            not_found: None,
            unusable: None,
        }
    }

    pub(super) fn set_probed(&mut self, probed: bool) {
        self.probed = probed;
    }

    /// Whether the newest descriptor that is known is of the current period.
    pub(super) fn is_found_in_period(&self) -> bool {
        self.known.as_ref().is_none_or(|known| Some(known.period) == self.current)
    }

    pub(super) fn answered(&self) -> bool {
        self.answered
    }

    /// Whether there is something to offer from before a restart, so that nobody
    /// need wait for the first fetch.
    pub(super) fn is_remembered(&self) -> bool {
        self.known.as_ref().is_some_and(|known| known.remembered)
    }

    /// What a restart should not lose, of the backend with this address. Its
    /// points are kept only while it `is_live`.
    pub(super) fn memory(
        &self,
        address: OnionAddress,
        offer: &Offer,
        is_live: bool,
        now: Now,
    ) -> KnownBackend {
        let wall = |at: Instant| memory::written(now.wall - now.monotonic.duration_since(at));
        let descriptor = self.known.as_ref().filter(|_| is_live).map(|known| KnownDescriptor {
            period: known.period,
            revision: known.revision,
            first_seen: wall(known.moved_at),
            last_seen: wall(known.seen_at),
            points: offer.points().to_vec(),
            capabilities: offer.capabilities().clone(),
        });
        let revision = |(period, revision): (&Period, &u64)| memory::Revision {
            period: *period,
            revision: *revision,
        };
        KnownBackend {
            address,
            revisions: self.revisions.iter().map(revision).collect(),
            descriptor,
            failing: Vec::new(),
            broken: None,
            work: None,
        }
    }

    /// What was known before a restart; the points, unless they are too old.
    pub(super) fn recall(&mut self, known: KnownBackend, now: Now) -> Option<Offer> {
        let floors = known.revisions.into_iter().map(|floor| (floor.period, floor.revision));
        self.revisions.extend(floors);
        let descriptor = known.descriptor.filter(|descriptor| descriptor.is_fresh(now.wall))?;
        let monotonic = |Timestamp(at)| {
            let ago = now.wall.duration_since(at).unwrap_or_default();
            now.monotonic.checked_sub(ago).unwrap_or(now.monotonic)
        };
        let KnownDescriptor { period, revision, points, capabilities, .. } = descriptor;
        let seen_at = monotonic(descriptor.last_seen);
        let moved_at = monotonic(descriptor.first_seen).min(seen_at);
        self.known =
            Some(NewestDescriptor { period, revision, moved_at, seen_at, remembered: true });
        Some(Offer::new(points, capabilities, None, &Offer::default()))
    }

    /// The newest revision, in its period.
    pub(super) fn revision(&self) -> Option<u64> {
        self.known.as_ref().map(|known| known.revision)
    }

    /// Whether a descriptor of the current period is known, as of the newest.
    pub(super) fn has_changed_period(&self) -> bool {
        self.known.as_ref().is_some_and(|known| Some(known.period) == self.current)
    }

    /// It is time to look for it in a new period.
    pub(super) fn look_in_period(&mut self, now: Instant, rng: &mut impl Rng) {
        if self.fetch_at.is_some() && !self.has_changed_period() {
            self.extra_fetch_at = Some(now + between(NEW_PERIOD.0, NEW_PERIOD.1, rng));
        }
    }

    /// The network is known, or has changed.
    pub(super) fn network_changed(&mut self, view: &NetworkView, now: Instant) {
        self.revisions.retain(|period, _| view.periods.iter().any(|p| p.period == *period));
        let current = view.periods.iter().find(|p| p.current).map(|p| p.period);
        self.current = current.or(self.current);
        self.fetch_at = self.fetch_at.or(Some(now));
    }

    /// Points that were offered fail: there may be others by now.
    pub(super) fn may_have_moved(&mut self, now: Instant, rng: &mut impl Rng) {
        if self.fetch_at.is_some()
            && self.extra_fetch_at.is_none()
            && self.looks.permits(&mut Alarm::new(now))
        {
            self.looks.take(now);
            self.extra_fetch_at = Some(now + between(MOVED.0, MOVED.1, rng));
        }
    }

    /// Whether its control link is up, which says sooner what its descriptor does.
    pub(super) fn linked(&mut self, linked: bool, now: Instant, rng: &mut impl Rng) {
        if self.linked && !linked {
            self.pace = CHANGING;
            let latest = now + stretched(CHANGING, rng);
            self.fetch_at = self.fetch_at.map(|at| at.min(latest));
        }
        self.linked = linked;
    }

    /// The machine has slept, so what was seen last is old. How long a revision
    /// has not moved counts in time awake still: a wall clock that was set right
    /// looks like a sleep and must not make every backend stale.
    pub(super) fn slept(&mut self, now: Instant, rng: &mut impl Rng) {
        if self.fetch_at.is_some() {
            self.extra_fetch_at = Some(now + between(MOVED.0, MOVED.1, rng));
        }
    }

    /// Whether to fetch now; if so, the fetch counts as under way.
    pub(super) fn fetch_due(&mut self, alarm: &mut Alarm, rng: &mut impl Rng) -> bool {
        if self.fetching_since.is_some_and(|since| alarm.reached(since + FETCH_LIMIT)) {
            self.failed(FetchFailure::Unreachable("no answer in time".into()), alarm.now(), rng);
        }
        if self.fetching_since.is_some() {
            return false;
        }
        let at = self.fetch_at.into_iter().chain(self.extra_fetch_at).min();
        let due = at.is_some_and(|at| alarm.reached(at));
        if due {
            self.fetching_since = Some(alarm.now());
            self.extra_fetch_at = None;
            alarm.reached(alarm.now() + FETCH_LIMIT);
        }
        due
    }

    /// A fetch brought a descriptor; `offered` are the points known so far.
    pub(super) fn fetched(
        &mut self,
        descriptor: FetchedDescriptor,
        offered: &Offer,
        now: Instant,
        rng: &mut impl Rng,
    ) -> DescriptorNews {
        let FetchedDescriptor { period, revision, points, flaw, capabilities } = descriptor;
        self.answered = true;
        self.fetching_since = None;
        self.failing = None;
        self.not_found = None;

        let newest = self.revisions.entry(period).or_insert(revision);
        let old_copy = revision < *newest;
        *newest = revision.max(*newest);
        // An answer from the period that clients have left meanwhile says
        // nothing of the points in the one where they look now.
        let old_period = self.known.as_ref().is_some_and(|known| {
            Some(known.period) == self.current && Some(period) != self.current
        });
        let offer = Offer::new(points, capabilities, flaw, offered);
        let changed = !old_copy && !old_period && offer != *offered;
        self.pace = if changed { CHANGING } else { (self.pace * 2).min(CALM.0) };
        let delay = match self.pace {
            _ if self.probed || self.linked => exponential(CALM_WHILE_PROBED, rng),
            pace if pace == CALM.0 => between(CALM.0, CALM.1, rng),
            pace => stretched(pace, rng),
        };
        // In a short period it changes before.
        let period = self.current.unwrap_or(period);
        self.fetch_at = Some(now + delay.min(period.part(PART_OF_PERIOD).max(CHANGING)));

        if old_copy || old_period {
            if let Some(known) = &mut self.known {
                known.seen_at = now;
            }
            return DescriptorNews::Nothing;
        }
        self.unusable = None;
        match &mut self.known {
            Some(known) if (known.period, known.revision) == (period, revision) => {
                known.seen_at = now;
                known.remembered = false;
                // A restart does not remember what was dropped.
                if offer.flaw() == offered.flaw() {
                    DescriptorNews::Confirmed
                } else {
                    DescriptorNews::Offer(offer)
                }
            }
            // The first sight of a period counts as movement too: how long ago
            // its descriptor was uploaded cannot be told, it may be new.
            known => {
                *known = Some(NewestDescriptor {
                    period,
                    revision,
                    moved_at: now,
                    seen_at: now,
                    remembered: false,
                });
                DescriptorNews::Offer(offer)
            }
        }
    }

    /// A fetch brought nothing, or no answer came.
    pub(super) fn failed(&mut self, failure: FetchFailure, now: Instant, rng: &mut impl Rng) {
        self.answered = true;
        self.fetching_since = None;
        let reason = failure.to_string();
        let failing = self.failing.get_or_insert(FailedFetches {
            since: now,
            times: 0,
            reason: String::new(),
        });
        failing.times += 1;
        failing.reason.clone_from(&reason);
        let long_gone = now.duration_since(failing.since) >= LONG_GONE;
        let most = if long_gone { RETRY_LONG_GONE } else { RETRY_MOST };
        let mut delay = backoff(failing.times, RETRY_FIRST, most);

        match failure {
            FetchFailure::NotFound => {
                let first = NotFound { first: now, last: now, times: 0 };
                let not_found = self.not_found.get_or_insert(first);
                not_found.last = now;
                not_found.times += 1;
            }
            FetchFailure::Unusable(_) => {
                self.not_found = None;
                let since = self.unusable.as_ref().map_or(now, |(since, _)| *since);
                self.unusable = Some((since, reason));
                delay = delay.max(RETRY_UNUSABLE);
            }
            // The trouble is likely ours: what is known stays as it is.
            FetchFailure::Unreachable(_) => {}
        }
        self.fetch_at = Some(now + stretched(delay, rng));
    }

    /// What to think of the backend, and why.
    pub(super) fn judge(
        &self,
        offered: &Offer,
        alarm: &mut Alarm,
    ) -> (BackendState, Option<String>) {
        use BackendState::{Down, Stale, Unknown, Up};
        if let Some(NotFound { first, last, times }) = &self.not_found
            && *times >= NOT_FOUND.0
            && last.duration_since(*first) >= NOT_FOUND.1
        {
            return (Down, Some(FetchFailure::NotFound.to_string()));
        }
        let Some(known) = &self.known else {
            return match &self.unusable {
                Some((_, reason)) => (Down, Some(reason.clone())),
                None => (Unknown, self.failing.as_ref().map(|failing| failing.reason.clone())),
            };
        };
        if offered.points().is_empty() {
            let reason = "its descriptor lists no usable introduction point";
            let flaw = offered.flaw().map(|flaw| format!("{reason}, but one with {flaw}"));
            return (Down, Some(flaw.unwrap_or_else(|| reason.into())));
        }
        if let Some((since, reason)) = &self.unusable {
            let state = if alarm.reached(*since + DOUBT) { Down } else { Stale };
            return (state, Some(reason.clone()));
        }
        // Only what was seen counts: while we cannot fetch, nobody ages.
        let unmoved = known.seen_at.duration_since(known.moved_at);
        if unmoved >= REVISION_UNMOVED {
            let state = if unmoved >= REVISION_UNMOVED + DOUBT { Down } else { Stale };
            let minutes = unmoved.as_secs() / 60;
            return (state, Some(format!("it has not published for {minutes} minutes")));
        }
        if known.remembered {
            return (Stale, Some("remembered from before the restart".into()));
        }
        (Up, None)
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{MINUTE, SECOND, network, period, point, rng, start};
    use super::*;
    use crate::onion::Capabilities;

    /// A remote backend, what it offered last, and the time.
    struct World {
        remote: RemoteDescriptor,
        offer: Offer,
        now: Instant,
    }

    impl World {
        fn new() -> Self {
            let now = start().monotonic;
            let mut remote = RemoteDescriptor::new();
            remote.network_changed(&network(1, [1, 2]), now);
            Self { remote, offer: Offer::default(), now }
        }

        /// Waits for the next fetch; how long that took.
        fn wait(&mut self) -> Duration {
            let began = self.now;
            loop {
                let mut alarm = Alarm::new(self.now);
                if self.remote.fetch_due(&mut alarm, &mut rng()) {
                    return self.now - began;
                }
                self.now = alarm.next().expect("an alarm while no fetch is due");
            }
        }

        fn finds(&mut self, number: u64, revision: u64, session: u16) {
            let descriptor = FetchedDescriptor {
                period: period(number),
                revision,
                points: vec![point(session, session)],
                flaw: None,
                capabilities: Capabilities::default(),
            };
            let news = self.remote.fetched(descriptor, &self.offer, self.now, &mut rng());
            if let DescriptorNews::Offer(offer) = news {
                self.offer = offer;
            }
        }

        fn fails(&mut self, failure: FetchFailure) {
            self.remote.failed(failure, self.now, &mut rng());
        }

        fn state(&self) -> BackendState {
            self.remote.judge(&self.offer, &mut Alarm::new(self.now)).0
        }

        fn session(&self) -> Option<&crate::onion::IntroPoint> {
            self.offer.points().first()
        }
    }

    #[test]
    fn it_is_fetched_at_once_then_ever_more_seldom_while_it_fails() {
        let mut world = World::new();
        assert_eq!(world.wait(), Duration::ZERO);
        for expected in [5, 10, 20, 40, 60, 60] {
            world.fails(FetchFailure::Unreachable(String::new()));
            let waited = world.wait().as_secs_f64();
            let expected = f64::from(expected);
            assert!((expected..=expected * 1.5).contains(&waited), "{waited} {expected}");
        }
        for _ in 0..60 {
            world.fails(FetchFailure::NotFound);
            world.wait();
        }
        world.fails(FetchFailure::NotFound);
        assert!(world.wait() >= RETRY_LONG_GONE);
    }

    #[test]
    fn a_calm_backend_is_fetched_less_and_less_often_until_its_points_change() {
        let mut world = World::new();
        world.wait();
        let mut waited = Vec::new();
        for revision in 1..8 {
            world.finds(1, revision, 1);
            waited.push(world.wait());
        }
        assert!(waited[0] >= CHANGING && waited[0] <= CHANGING * 3 / 2);
        assert!((CALM.0..=CALM.1).contains(waited.last().unwrap()));
        world.finds(1, 9, 2);
        assert!(world.wait() <= CHANGING * 3 / 2);
    }

    #[test]
    fn while_probes_watch_a_backend_it_is_fetched_less_than_twice_an_hour() {
        let mut world = World::new();
        world.remote.set_probed(true);
        world.wait();
        let mut waited = Vec::new();
        let mut rng = rng();
        for revision in 1..200 {
            let descriptor = FetchedDescriptor {
                period: period(1),
                revision,
                points: vec![point(1, 1)],
                flaw: None,
                capabilities: Capabilities::default(),
            };
            world.remote.fetched(descriptor, &world.offer, world.now, &mut rng);
            waited.push(world.wait());
        }
        let mean = waited.iter().sum::<Duration>() / 199;
        assert!((35 * MINUTE..50 * MINUTE).contains(&mean), "{mean:?}");
        // Else one that has died would look alive for longer than HSDirs keep it.
        assert!(waited.iter().all(|it| *it <= REVISION_UNMOVED));
    }

    #[test]
    fn one_with_a_control_link_is_fetched_seldom_and_soon_after_it_is_lost() {
        let mut world = World::new();
        let mut rng = rng();
        world.wait();
        world.remote.linked(true, world.now, &mut rng);
        world.finds(1, 1, 1);
        world.remote.linked(false, world.now, &mut rng);
        assert!(world.wait() <= CHANGING * 3 / 2);
    }

    #[test]
    fn one_fetch_at_a_time_and_a_lost_answer_is_given_up() {
        let mut world = World::new();
        world.wait();
        let waited = world.wait();
        assert!(waited >= FETCH_LIMIT && waited <= FETCH_LIMIT + 2 * RETRY_FIRST);
    }

    #[test]
    fn the_look_in_a_new_period_comes_soon_and_once() {
        let mut world = World::new();
        world.wait();
        world.finds(1, 1, 1);
        world.remote.network_changed(&network(2, [1, 2]), world.now);
        world.remote.look_in_period(world.now, &mut rng());
        let waited = world.wait();
        assert!(waited >= NEW_PERIOD.0 && waited <= NEW_PERIOD.1);
        // Where it has been found there, nothing need be looked for.
        world.finds(2, 1, 1);
        world.remote.look_in_period(world.now, &mut rng());
        assert!(world.wait() > NEW_PERIOD.1);
    }

    #[test]
    fn failing_points_mean_a_look_soon_but_not_without_end() {
        let mut world = World::new();
        world.wait();
        let mut soon = 0;
        for revision in 0..60 {
            world.finds(1, revision, 1);
            world.remote.may_have_moved(world.now, &mut rng());
            soon += u32::from(world.wait() <= MOVED.1);
        }
        let minutes = u32::try_from((world.now - start().monotonic).as_secs() / 60).unwrap_or(0);
        assert!(soon > 10 && soon <= 3 + minutes, "{soon} in {minutes} minutes");
    }

    #[test]
    fn the_highest_revision_wins_within_a_period_and_the_current_period_over_another() {
        let mut world = World::new();
        world.finds(1, 10, 1);
        world.finds(1, 9, 2);
        assert_eq!(world.session(), Some(&point(1, 1)));
        world.remote.network_changed(&network(2, [1, 2]), world.now);
        world.finds(2, 3, 3);
        assert_eq!(world.session(), Some(&point(3, 3)));
        world.finds(1, 11, 4);
        assert_eq!(world.session(), Some(&point(3, 3)));
        assert_eq!(world.remote.revision(), Some(3));
    }

    #[test]
    fn it_is_down_when_three_fetches_over_three_minutes_found_nothing() {
        let mut world = World::new();
        world.finds(1, 1, 1);
        let began = world.now;
        for _ in 0..3 {
            world.fails(FetchFailure::NotFound);
        }
        assert_eq!(world.state(), BackendState::Up);
        while world.state() == BackendState::Up {
            world.wait();
            world.fails(FetchFailure::NotFound);
        }
        assert_eq!(world.state(), BackendState::Down);
        let took = world.now - began;
        assert!(took >= 3 * MINUTE && took <= 5 * MINUTE, "{took:?}");
        world.finds(1, 1, 1);
        assert_eq!(world.state(), BackendState::Up);
    }

    #[test]
    fn trouble_of_our_own_changes_nothing_however_long_it_lasts() {
        let mut world = World::new();
        world.finds(1, 1, 1);
        for _ in 0..500 {
            world.wait();
            world.fails(FetchFailure::Unreachable("no circuit".into()));
        }
        assert_eq!(world.state(), BackendState::Up);
    }

    #[test]
    fn a_revision_that_does_not_move_makes_it_stale_then_down_and_moving_makes_it_up() {
        let mut world = World::new();
        world.finds(1, 5, 1);
        let began = world.now;
        let mut changes = Vec::new();
        while world.now - began < 200 * MINUTE {
            world.wait();
            // An old copy shows that we look; it does not show life.
            world.finds(1, if changes.is_empty() { 5 } else { 4 }, 1);
            if changes.last().map_or(BackendState::Up, |(state, _)| *state) != world.state() {
                changes.push((world.state(), (world.now - began).as_secs() / 60));
            }
        }
        let states: Vec<_> = changes.iter().map(|(state, _)| *state).collect();
        assert_eq!(states, [BackendState::Stale, BackendState::Down]);
        assert!((150..160).contains(&changes[0].1) && (180..190).contains(&changes[1].1));
        world.finds(1, 6, 1);
        assert_eq!(world.state(), BackendState::Up);
    }

    #[test]
    fn an_unusable_descriptor_is_down_at_once_or_doubtful_while_older_points_are_known() {
        let mut world = World::new();
        world.wait();
        assert_eq!(world.state(), BackendState::Unknown);
        world.fails(FetchFailure::Unusable("legacy keys".into()));
        let (state, reason) = world.remote.judge(&world.offer, &mut Alarm::new(world.now));
        assert_eq!(state, BackendState::Down);
        assert!(reason.unwrap().contains("legacy keys"));
        assert!(world.wait() >= RETRY_UNUSABLE);

        let mut world = World::new();
        world.finds(1, 1, 1);
        world.fails(FetchFailure::Unusable("legacy keys".into()));
        assert_eq!(world.state(), BackendState::Stale);
        world.now += DOUBT - SECOND;
        assert_eq!(world.state(), BackendState::Stale);
        world.now += SECOND;
        assert_eq!(world.state(), BackendState::Down);
    }
}

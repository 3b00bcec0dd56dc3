//! Which circuit of a client makes room for a new client?
//!
//! Opening a circuit, and a stream on it, costs a client little; keeping both
//! costs nothing. An instance that has as many circuits as it serves closes one
//! of them, so whoever comes is still met. In this order:
//!
//! 1. A circuit without a stream, the one that has been so for longest: its
//!    client builds another one when it needs it.
//! 2. One whose streams have moved nothing for [`SILENT_FOR`], the one that has
//!    been silent for longest.
//! 3. One that has had streams for [`SLOW_AFTER`] and moved next to nothing, the
//!    one that has moved least: whoever holds circuits by a byte now and then
//!    has to pay more for each than clients that make use of theirs.
//!
//! Where all circuits are busy, none goes, and the newcomer has to come again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::activity::CircuitActivity;

/// Shorter silences are a part of every exchange: an origin thinks, a relay on
/// the way is slow. Less than it takes to fill an instance with new circuits.
const SILENT_FOR: Duration = Duration::from_secs(10);

/// A client that has just come, or come back, has had no time to move much.
const SLOW_AFTER: Duration = Duration::from_mins(1);

/// Whatever moves as many bytes in one to two minutes is in use: a page.
const SLOW_BELOW: u64 = 16 * 1024;

/// After a search that found nobody, the next one waits this long: introductions
/// come faster than circuits fall silent.
const SEARCH_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// Why a circuit made room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MadeRoom {
    /// It had no stream.
    Idle,
    /// Its streams were silent.
    Silent,
    /// Its streams moved next to nothing.
    Slow,
}

/// The circuits of an instance's clients.
#[derive(Debug, Default)]
pub(super) struct ClientCircuits {
    all: Mutex<All>,
}

/// What is behind the lock.
#[derive(Debug, Default)]
struct All {
    circuits: BTreeMap<u64, CircuitEntry>,
    /// The next circuit's number.
    next: u64,
    /// Not before is anybody searched for again.
    search_after: Option<Instant>,
}

#[derive(Debug)]
struct CircuitEntry {
    activity: Arc<CircuitActivity>,
    /// Since when it has no stream; `None` while it has one.
    idle_since: Option<Instant>,
    /// Since when it has had streams, with pauses shorter than [`SILENT_FOR`]: who
    /// ends its only stream and opens another has not come anew.
    busy_since: Instant,
    makes_room: CancellationToken,
}

/// A circuit is served as long as this is there.
#[derive(Debug)]
pub(super) struct Served {
    of: Arc<ClientCircuits>,
    number: u64,
    activity: Arc<CircuitActivity>,
    makes_room: CancellationToken,
}

impl ClientCircuits {
    /// A client has come, and has no stream yet.
    pub(super) fn enter(self: &Arc<Self>, now: Instant) -> Served {
        let (activity, makes_room) =
            (Arc::new(CircuitActivity::new(now)), CancellationToken::new());
        let mut all = self.all.lock();
        all.next += 1;
        let number = all.next;
        let entry = CircuitEntry {
            activity: Arc::clone(&activity),
            idle_since: Some(now),
            busy_since: now,
            makes_room: makes_room.clone(),
        };
        all.circuits.insert(number, entry);
        Served { of: Arc::clone(self), number, activity, makes_room }
    }

    /// Tells one to make room, and says why it was chosen; `None` if all are in
    /// use. Each is told once.
    pub(super) fn make_room(&self, now: Instant) -> Option<MadeRoom> {
        let mut all = self.all.lock();
        if all.search_after.is_some_and(|at| now < at) {
            return None;
        }
        let Some((number, why)) = all.least_used(now) else {
            all.search_after = Some(now + SEARCH_AGAIN_AFTER);
            return None;
        };
        if let Some(entry) = all.circuits.remove(&number) {
            entry.makes_room.cancel();
        }
        Some(why)
    }
}

impl All {
    fn least_used(&self, now: Instant) -> Option<(u64, MadeRoom)> {
        let circuits = || self.circuits.iter().filter(|(_, it)| !it.activity.is_kept());
        let idle = circuits().filter_map(|(n, it)| Some((it.idle_since?, *n)));
        if let Some((_, number)) = idle.min() {
            return Some((number, MadeRoom::Idle));
        }
        let quiet = circuits().map(|(n, it)| (it.activity.silent_for(now), *n));
        if let Some((silence, number)) = quiet.max()
            && silence >= SILENT_FOR
        {
            return Some((number, MadeRoom::Silent));
        }
        let for_long =
            |it: &CircuitEntry| now.saturating_duration_since(it.busy_since) >= SLOW_AFTER;
        let grown = circuits().filter(|(_, it)| for_long(it));
        let (bytes, number) = grown.map(|(n, it)| (it.activity.lately(now), *n)).min()?;
        (bytes < SLOW_BELOW).then_some((number, MadeRoom::Slow))
    }
}

impl Served {
    /// What its streams count by.
    pub(super) fn activity(&self) -> Arc<CircuitActivity> {
        Arc::clone(&self.activity)
    }

    /// A stream has begun or ended; whether there is any now.
    pub(super) fn has_streams(&self, any: bool, now: Instant) {
        let mut all = self.of.all.lock();
        let Some(entry) = all.circuits.get_mut(&self.number) else { return };
        entry.activity.moved(0, now);
        if !any {
            entry.idle_since.get_or_insert(now);
            // There is somebody to find again.
            all.search_after = None;
        } else if let Some(since) = entry.idle_since.take()
            && now.saturating_duration_since(since) >= SILENT_FOR
        {
            entry.busy_since = now;
        }
    }

    /// Ends when this circuit is to make room.
    pub(super) async fn makes_room(&self) {
        self.makes_room.cancelled().await;
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.of.all.lock().circuits.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    /// An instance's circuits and the time.
    struct World {
        circuits: Arc<ClientCircuits>,
        now: Instant,
    }

    impl World {
        fn new() -> Self {
            Self { circuits: Arc::default(), now: crate::clock::now().monotonic }
        }

        /// A client comes and opens a stream.
        fn client(&self) -> Served {
            let served = self.circuits.enter(self.now);
            served.has_streams(true, self.now);
            served
        }

        fn pass(&mut self, seconds: u64) {
            self.now += Duration::from_secs(seconds);
        }

        fn make_room(&self) -> Option<MadeRoom> {
            self.circuits.make_room(self.now)
        }
    }

    fn told(served: &Served) -> bool {
        served.makes_room().now_or_never().is_some()
    }

    #[test]
    fn a_circuit_that_is_kept_makes_room_for_nobody() {
        let mut world = World::new();
        let kept = world.client();
        kept.activity().keep();
        world.pass(600);
        assert_eq!((world.make_room(), told(&kept)), (None, false));
        let client = world.client();
        world.pass(600);
        assert_eq!((world.make_room(), told(&client)), (Some(MadeRoom::Silent), true));
    }

    #[test]
    fn who_ends_its_only_stream_and_opens_another_has_not_come_anew() {
        let mut world = World::new();
        let (honest, toggler) = (world.client(), world.client());
        for _ in 0..10 {
            world.pass(9);
            honest.activity().moved(20_000, world.now);
            toggler.has_streams(false, world.now);
            toggler.has_streams(true, world.now);
        }
        assert_eq!(world.make_room(), Some(MadeRoom::Slow));
        assert!(told(&toggler) && !told(&honest));
        // Who comes back after a pause has time again.
        let back = world.client();
        world.pass(1);
        back.has_streams(false, world.now);
        world.pass(3600);
        honest.activity().moved(20_000, world.now);
        back.has_streams(true, world.now);
        world.pass(9);
        assert_eq!(world.make_room(), None);
    }

    #[test]
    fn who_has_had_no_stream_for_longest_makes_room_first_and_only_once() {
        let mut world = World::new();
        let silent = world.client();
        let busy_again = world.circuits.enter(world.now);
        let first = world.circuits.enter(world.now);
        world.pass(60);
        let second = world.client();
        busy_again.has_streams(true, world.now);
        second.has_streams(false, world.now);
        assert_eq!(world.make_room(), Some(MadeRoom::Idle));
        assert!(told(&first) && !told(&second));
        assert_eq!(world.make_room(), Some(MadeRoom::Idle));
        assert!(told(&second) && !told(&silent));
        assert_eq!(world.make_room(), Some(MadeRoom::Silent));
        assert!(told(&silent) && !told(&busy_again));
        assert_eq!(world.make_room(), None);
    }

    #[test]
    fn whoever_holds_every_circuit_with_a_silent_stream_keeps_nobody_out() {
        let mut world = World::new();
        let honest = world.client();
        let held: Vec<Served> = (0..100).map(|_| world.client()).collect();
        assert_eq!(world.make_room(), None, "all have just come");
        // The honest client's download goes on meanwhile.
        for _ in 0..100 {
            world.pass(1);
            honest.activity().moved(1_000, world.now);
        }
        for n in 1..=held.len() {
            assert_eq!(world.make_room(), Some(MadeRoom::Silent), "{n}");
            assert_eq!(held.iter().filter(|it| told(it)).count(), n);
        }
        assert!(!told(&honest));
        assert_eq!(world.make_room(), None, "who is in use stays");
    }

    #[test]
    fn whoever_holds_every_circuit_with_a_byte_now_and_then_goes_before_those_who_use_theirs() {
        let mut world = World::new();
        let honest = world.client();
        let held: Vec<Served> = (0..10).map(|_| world.client()).collect();
        for _ in 0..20 {
            world.pass(5);
            held.iter().for_each(|it| it.activity().moved(1, world.now));
            honest.activity().moved(2_000, world.now);
        }
        // Others that come meanwhile have their time to begin.
        let newcomer = world.client();
        for _ in 0..held.len() {
            assert_eq!(world.make_room(), Some(MadeRoom::Slow));
        }
        assert!(held.iter().all(told) && !told(&honest) && !told(&newcomer));
        assert_eq!(world.make_room(), None);
    }

    #[test]
    fn a_search_in_vain_is_not_repeated_for_every_introduction_but_soon() {
        let mut world = World::new();
        let client = world.client();
        world.now += SILENT_FOR - SEARCH_AGAIN_AFTER / 2;
        assert_eq!(world.make_room(), None);
        world.now += SEARCH_AGAIN_AFTER / 2;
        assert_eq!(world.make_room(), None, "silent long enough, but not looked for yet");
        world.now += SEARCH_AGAIN_AFTER / 2;
        assert_eq!(world.make_room(), Some(MadeRoom::Silent));
        // One that has lost its last stream is found at once.
        assert_eq!(world.make_room(), None);
        let other = world.client();
        other.has_streams(false, world.now);
        assert_eq!(world.make_room(), Some(MadeRoom::Idle));
        drop((client, other));
    }
}

//! How fast a client moves its request, and which request is given up for
//! others to be served.
//!
//! Only the time counts in which the client is the one who is waited for: an
//! origin that thinks, or that has nothing to say, makes no client slow. Only of
//! what may be silent for as long as it likes, event streams and what a connection
//! was upgraded to, the silence itself counts: they would hold for ever what others
//! wait for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Extensions;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time;

/// The time over which a rate is averaged.
const WINDOW: Duration = Duration::from_secs(10);

/// How long a client is waited for before its rate says anything.
const GRACE: Duration = Duration::from_secs(2);

/// How long a client may take nothing at all, whatever it took before: buffers on
/// its way take the beginning of any answer.
const STILL: Duration = Duration::from_secs(4);

/// How long one that may be silent is so before it can be given up.
const SILENT: Duration = Duration::from_secs(10);

/// The pace of one request, known to those who serve it and to those who hold
/// something for it.
#[derive(Clone, Debug)]
pub struct Pace(Arc<PaceInner>);

#[derive(Debug)]
struct PaceInner {
    /// Bytes a second that the client has to move when others wait.
    least: Option<u64>,
    state: Mutex<PaceState>,
    given_up: Notify,
}

#[derive(Debug, Default)]
struct PaceState {
    /// Bytes that have moved in the time below.
    bytes: u64,
    /// Those that are on their way to the client, until it asks for more.
    pending: u64,
    /// When something last moved.
    moved: Option<Instant>,
    /// The time for which the client was waited for.
    waited: Duration,
    /// Since when it is waited for, if it is.
    waiting: Option<Instant>,
    /// When the last byte came from either side, if silence is what counts.
    silent_since: Option<Instant>,
    /// Whether the request was given up for others.
    given_up: bool,
}

/// The time that paces are measured in: that of the timers of who waits.
pub(crate) fn now() -> Instant {
    time::Instant::now().into_std()
}

/// A request that could be given up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct SlowCandidate {
    /// Whose it is.
    pub(crate) circuit: u64,
    /// Bytes a second, if its client is slower than it has to be.
    pub(crate) too_slow: Option<f64>,
}

impl Pace {
    /// Of a request that begins, whose client has to move `least` bytes a
    /// second when others wait for what the request holds; `None`: it may be
    /// as slow as it likes.
    pub fn new(least: Option<u64>) -> Self {
        Self(Arc::new(PaceInner { least, state: Mutex::default(), given_up: Notify::new() }))
    }

    /// Of the request with these extensions; without one there, of a request
    /// that may be as slow as it likes.
    pub(crate) fn of(extensions: &Extensions) -> Self {
        extensions.get().cloned().unwrap_or_else(|| Self::new(None))
    }

    /// Who is waited for now: the client, or not. What it was given before, it
    /// has taken.
    pub(crate) fn turn(&self, client_is_next: bool) {
        let now = now();
        let mut state = self.0.state.lock();
        state.pass(now);
        let pending = std::mem::take(&mut state.pending);
        state.bytes = state.bytes.saturating_add(pending);
        state.moved = Some(now);
        state.waiting = client_is_next.then_some(now);
    }

    /// The client has sent so many bytes.
    pub(crate) fn sent(&self, bytes: u64) {
        let mut state = self.0.state.lock();
        state.bytes = state.bytes.saturating_add(bytes);
    }

    /// The client is given so many bytes.
    pub(crate) fn given(&self, bytes: u64) {
        let mut state = self.0.state.lock();
        state.pending = state.pending.saturating_add(bytes);
    }

    /// From now on it lasts for as long as both sides like, in silence or not.
    pub(crate) fn may_be_silent(&self) {
        self.0.state.lock().silent_since = Some(now());
    }

    /// A byte has come from either side.
    pub(crate) fn lives(&self) {
        let mut state = self.0.state.lock();
        state.silent_since = state.silent_since.map(|_| now());
    }

    /// Bytes a second that the client moves, if that is too few. Of what may be
    /// silent it is less the longer that lasts, and more than of what stands still.
    pub(crate) fn too_slow(&self, now: Instant) -> Option<f64> {
        let least = self.0.least?;
        let mut state = self.0.state.lock();
        if state.given_up {
            return None;
        }
        if let Some(since) = state.silent_since {
            let silent = now.saturating_duration_since(since);
            return (silent >= SILENT).then(|| silent.as_secs_f64().recip());
        }
        state.waiting?;
        state.pass(now);
        state.waiting = Some(now);
        if state.moved.is_some_and(|moved| now.saturating_duration_since(moved) >= STILL) {
            return Some(0.0);
        }
        if state.waited < GRACE {
            return None;
        }
        #[expect(clippy::cast_precision_loss, reason = "a rate need not be exact")]
        let (bytes, least) = (state.bytes as f64, least as f64);
        Some(bytes / state.waited.as_secs_f64()).filter(|rate| *rate < least)
    }

    /// Ends the request, for others to be served.
    pub(crate) fn give_up(&self) {
        self.0.state.lock().given_up = true;
        self.0.given_up.notify_one();
    }

    /// Waits until the request is given up. For one waiter.
    pub(crate) async fn given_up(&self) {
        while !self.is_given_up() {
            self.0.given_up.notified().await;
        }
    }

    /// Whether the request was given up.
    pub(crate) fn is_given_up(&self) -> bool {
        self.0.state.lock().given_up
    }
}

impl PaceState {
    /// Counts the time that has passed, and forgets what is long ago.
    fn pass(&mut self, now: Instant) {
        let Some(since) = self.waiting else { return };
        self.waited += now.saturating_duration_since(since);
        while self.waited > 2 * WINDOW {
            self.waited /= 2;
            self.bytes /= 2;
        }
    }
}

/// Which request is given up for one of the circuit `wanting`: of those that are
/// too slow the slowest one of the circuit that has most. Nobody's, if no circuit
/// has more than `wanting`. Pure.
pub(crate) fn give_up(candidates: &[SlowCandidate], wanting: u64) -> Option<usize> {
    let mut counts = BTreeMap::new();
    for candidate in candidates {
        *counts.entry(candidate.circuit).or_insert(0_usize) += 1;
    }
    let own = counts.get(&wanting).copied().unwrap_or_default();
    let slow = candidates.iter().enumerate().filter_map(|(index, candidate)| {
        let held = counts.get(&candidate.circuit).copied().unwrap_or_default();
        Some((index, held, candidate.too_slow?)).filter(|_| held > own)
    });
    let chosen =
        slow.min_by(|(_, held, rate), (_, other, than)| other.cmp(held).then(rate.total_cmp(than)));
    chosen.map(|(index, _, _)| index)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(candidates: &[(u64, Option<f64>)], wanting: u64) -> Option<usize> {
        let candidates: Vec<_> = candidates
            .iter()
            .map(|&(circuit, too_slow)| SlowCandidate { circuit, too_slow })
            .collect();
        give_up(&candidates, wanting)
    }

    #[test]
    fn the_slowest_request_of_the_circuit_that_has_most_goes_first() {
        let held = [(1, Some(0.0)), (2, Some(9.0)), (2, Some(3.0)), (2, None)];
        assert_eq!(chosen(&held, 7), Some(2));
    }

    #[test]
    fn a_request_that_is_fast_enough_stays_whoever_waits() {
        assert_eq!(chosen(&[(1, None), (1, None), (2, Some(1.0))], 7), Some(2));
        assert_eq!(chosen(&[(1, None)], 7), None);
    }

    #[test]
    fn a_circuit_gets_nothing_of_those_that_have_no_more_than_it() {
        let held = [(1, Some(0.0)), (2, Some(0.0))];
        assert_eq!(chosen(&held, 1), None);
        assert!(chosen(&held, 3).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn of_what_may_be_silent_the_longest_silence_is_the_slowest() {
        let (first, second) = (Pace::new(Some(1000)), Pace::new(Some(1000)));
        first.may_be_silent();
        time::advance(Duration::from_secs(1)).await;
        second.may_be_silent();
        // Whose turn it is does not count, and what passes does.
        second.turn(true);
        let later = |seconds| now() + Duration::from_secs(seconds);
        assert_eq!((first.too_slow(later(8)), second.too_slow(later(9))), (None, None));
        assert!(first.too_slow(later(20)) < second.too_slow(later(20)));
        assert!(first.too_slow(later(100_000)) > Some(0.0));
        time::advance(Duration::from_secs(20)).await;
        first.lives();
        assert_eq!(first.too_slow(later(9)), None);
        let patient = Pace::new(None);
        patient.may_be_silent();
        assert_eq!(patient.too_slow(later(3600)), None);
    }

    #[tokio::test(start_paused = true)]
    async fn only_time_in_which_the_client_is_waited_for_makes_it_slow() {
        let pace = Pace::new(Some(1000));
        let later = |seconds| now() + Duration::from_secs(seconds);
        assert_eq!(pace.too_slow(later(3600)), None);
        pace.turn(true);
        pace.given(6000);
        assert_eq!(pace.too_slow(later(1)), None);
        // What it is given, it has not taken yet.
        assert_eq!(pace.too_slow(later(3)), Some(0.0));
        pace.turn(true);
        assert_eq!(pace.too_slow(later(1)), None);
        pace.turn(false);
        assert_eq!(pace.too_slow(later(3600)), None);
        // Whatever it took before, it does not stand still.
        pace.given(1_000_000);
        pace.turn(true);
        assert_eq!(pace.too_slow(later(3)), None);
        assert_eq!(pace.too_slow(later(5)), Some(0.0));
        assert_eq!(Pace::new(None).too_slow(later(10)), None);
    }
}

//! Which circuits of clients have no stream, and which of them makes room?
//!
//! Opening a circuit and leaving it costs a client little. An instance that has
//! as many as it serves closes the one that has been idle longest, so whoever
//! comes is still met.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio_util::sync::CancellationToken;

/// Since when a circuit is idle, and a number that tells it from others.
type Since = (Instant, u64);

/// The circuits of an instance that have no stream.
#[derive(Debug, Default)]
pub(super) struct IdleCircuits {
    all: Mutex<All>,
}

/// What is behind the lock.
#[derive(Debug, Default)]
struct All {
    /// Those that are idle, and how to tell them to close.
    idle: BTreeMap<Since, CancellationToken>,
    /// How many have been idle so far.
    count: u64,
}

/// A circuit is idle as long as this is there.
#[derive(Debug)]
pub(super) struct Idle {
    of: Arc<IdleCircuits>,
    since: Since,
    makes_room: CancellationToken,
}

impl IdleCircuits {
    /// A circuit has no stream from now on.
    pub(super) fn enter(self: &Arc<Self>, now: Instant) -> Idle {
        let makes_room = CancellationToken::new();
        let mut all = self.lock();
        all.count += 1;
        let since = (now, all.count);
        all.idle.insert(since, makes_room.clone());
        Idle { of: Arc::clone(self), since, makes_room }
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.lock().idle.is_empty()
    }

    /// Tells the one that has been idle longest to make room.
    pub(super) fn make_room(&self) {
        if let Some((_, makes_room)) = self.lock().idle.pop_first() {
            makes_room.cancel();
        }
    }

    /// A map is never half changed, whoever panicked.
    fn lock(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Idle {
    /// Ends when this circuit is to make room.
    pub(super) async fn makes_room(&self) {
        self.makes_room.cancelled().await;
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        self.of.lock().idle.remove(&self.since);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn who_has_been_idle_longest_makes_room_and_only_once() {
        let circuits = Arc::new(IdleCircuits::default());
        let now = crate::clock::now().monotonic;
        let [busy_again, first, second] =
            [0, 0, 1].map(|seconds| circuits.enter(now + std::time::Duration::from_secs(seconds)));
        drop(busy_again);
        let told = |idle: &Idle| idle.makes_room().now_or_never().is_some();
        circuits.make_room();
        assert!(told(&first) && !told(&second));
        assert!(!circuits.is_empty());
        drop(first);
        circuits.make_room();
        assert!(told(&second) && circuits.is_empty());
        circuits.make_room();
    }
}

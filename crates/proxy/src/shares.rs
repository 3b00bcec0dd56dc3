//! How many of what there are only so many of may one circuit take?
//!
//! Connections to an origin and file handles are few, and taking one costs a
//! client next to nothing. Nobody can tell how many circuits a client has, but
//! none of them takes more than its share, and who waits for its own share
//! stands in nobody's way. See `origins::pool` and the daemon's `file_handles`
//! for how many there are of each.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// So many of something, and how many of them one circuit may have.
#[derive(Clone, Debug)]
pub struct Shares(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// What nobody has taken.
    free: Arc<Semaphore>,
    /// What one circuit may have.
    each: usize,
    /// How long a circuit waits for one.
    within: Duration,
    /// The circuits that have some, or wait for one.
    circuits: Mutex<BTreeMap<u64, Own>>,
}

/// What one circuit may still take.
#[derive(Debug)]
struct Own {
    free: Arc<Semaphore>,
    /// Those that it has, and those that it waits for.
    wanted: usize,
}

/// One that a circuit has taken; given back when this is dropped.
#[derive(Debug)]
pub struct Share {
    // In this order: the others get it before the circuit may want another.
    _one: OwnedSemaphorePermit,
    _own: Option<(OwnedSemaphorePermit, Wanted)>,
}

/// A circuit has one, or waits for it.
#[derive(Debug)]
struct Wanted {
    shares: Shares,
    circuit: u64,
}

impl Shares {
    /// `all` of them, of which one circuit gets `each`. Who finds none waits
    /// for at most `within`.
    pub fn new(all: usize, each: usize, within: Duration) -> Self {
        let free = Arc::new(Semaphore::new(all.min(Semaphore::MAX_PERMITS)));
        let each = each.min(Semaphore::MAX_PERMITS);
        Self(Arc::new(Shared { free, each, within, circuits: Mutex::default() }))
    }

    /// Takes one for this circuit; `None`: it has its share, or all are taken,
    /// and that did not change in time.
    pub async fn take(&self, circuit: u64) -> Option<Share> {
        let taking = async {
            let (own, wanted) = self.want(circuit);
            // Its own share first: waiting for that keeps nothing from others.
            let own = own.acquire_owned().await.ok()?;
            Some(Share { _one: self.one().await?, _own: Some((own, wanted)) })
        };
        timeout(self.0.within, taking).await.ok().flatten()
    }

    /// Takes one that is for all circuits together.
    pub async fn take_for_all(&self) -> Option<Share> {
        let taking = async { Some(Share { _one: self.one().await?, _own: None }) };
        timeout(self.0.within, taking).await.ok().flatten()
    }

    async fn one(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0.free).acquire_owned().await.ok()
    }

    /// How many are left, over all circuits.
    pub fn left(&self) -> usize {
        self.0.free.available_permits()
    }

    fn want(&self, circuit: u64) -> (Arc<Semaphore>, Wanted) {
        let mut circuits = self.circuits();
        let new = || Own { free: Arc::new(Semaphore::new(self.0.each)), wanted: 0 };
        let own = circuits.entry(circuit).or_insert_with(new);
        own.wanted += 1;
        (Arc::clone(&own.free), Wanted { shares: self.clone(), circuit })
    }

    fn circuits(&self) -> MutexGuard<'_, BTreeMap<u64, Own>> {
        self.0.circuits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Wanted {
    fn drop(&mut self) {
        let mut circuits = self.shares.circuits();
        if let Some(own) = circuits.get_mut(&self.circuit) {
            own.wanted -= 1;
            if own.wanted == 0 {
                circuits.remove(&self.circuit);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::future::join_all;

    use super::*;

    const SHORT: Duration = Duration::from_secs(5);

    async fn taken(shares: &Shares, circuit: u64, wanted: usize) -> Vec<Share> {
        join_all((0..wanted).map(|_| shares.take(circuit))).await.into_iter().flatten().collect()
    }

    #[tokio::test(start_paused = true)]
    async fn one_circuit_gets_its_share_and_leaves_the_rest_to_others() {
        let shares = Shares::new(10, 4, SHORT);
        let first = taken(&shares, 1, 20).await;
        assert_eq!((first.len(), shares.left()), (4, 6));
        let second = taken(&shares, 2, 20).await;
        let third = taken(&shares, 3, 20).await;
        assert_eq!([second.len(), third.len()], [4, 2]);
        drop(first);
        assert_eq!(taken(&shares, 3, 20).await.len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_its_own_share_stands_in_nobodys_way() {
        let shares = Shares::new(3, 2, SHORT);
        let _first = taken(&shares, 1, 2).await;
        let waiting = taken(&shares, 1, 100);
        let other = async {
            tokio::task::yield_now().await;
            let began = tokio::time::Instant::now();
            assert!(shares.take(2).await.is_some());
            assert_eq!(began.elapsed(), Duration::ZERO);
        };
        let (waited, ()) = tokio::join!(waiting, other);
        assert!(waited.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_gets_what_is_given_back_in_time() {
        let shares = Shares::new(1, 1, SHORT);
        for next in [1, 2] {
            let held = shares.take(1).await.unwrap();
            let give_back = async {
                tokio::time::sleep(SHORT / 2).await;
                drop(held);
            };
            let (got, ()) = tokio::join!(shares.take(next), give_back);
            assert!(got.is_some(), "{next}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn circuits_that_have_none_and_want_none_are_forgotten() {
        let shares = Shares::new(2, 1, SHORT);
        let held = taken(&shares, 1, 1).await;
        for circuit in 1..1000 {
            drop(shares.take(circuit).await);
        }
        assert_eq!(shares.circuits().keys().collect::<Vec<_>>(), [&1]);
        tokio::select! {
            biased;
            _ = shares.take(1) => panic!("it has its share"),
            () = std::future::ready(()) => {}
        }
        drop(held);
        assert!(shares.circuits().is_empty());
        assert_eq!(shares.left(), 2);
    }
}

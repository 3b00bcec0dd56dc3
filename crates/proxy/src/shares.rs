//! How many of what there are only so many of may one circuit take?
//!
//! Connections to an origin and file handles are few, and taking one costs a
//! client next to nothing. Nobody can tell how many circuits a client has, but
//! none of them takes more than its share, who waits for its own share
//! stands in nobody's way, and what becomes free goes to the circuit that has
//! least. Where nothing becomes free, the slowest request of the circuit that has
//! most is given up (`pace`). See `origins::pool` and the daemon's `file_handles`
//! for how many there are of each.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use crate::pace::{Candidate, Pace, give_up, now};

/// How often who waits looks for a request to give up.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// So many of something, and how many of them one circuit may have.
#[derive(Clone, Debug)]
pub struct Shares(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// What one circuit may have.
    each: usize,
    /// How long a circuit waits for one.
    within: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// What nobody has taken.
    free: usize,
    /// The number of the next one who wants one.
    next: u64,
    /// Those who wait, in the order in which they came; `None`: for all circuits.
    waiting: BTreeMap<u64, (Option<u64>, oneshot::Sender<()>)>,
    /// Those that are taken, and by whose requests.
    taken: BTreeMap<u64, (u64, Pace)>,
    /// How many each circuit has; none has 0.
    held: BTreeMap<u64, usize>,
}

/// One that a circuit has taken; given back when this is dropped.
#[derive(Debug)]
pub struct Share(#[expect(dead_code, reason = "given back when dropped")] Ticket);

/// A request has one, or waits for it.
#[derive(Debug)]
struct Ticket {
    shares: Shares,
    number: u64,
    circuit: Option<u64>,
}

impl Shares {
    /// `all` of them, of which one circuit gets `each`. Who finds none waits
    /// for at most `within`.
    pub fn new(all: usize, each: usize, within: Duration) -> Self {
        let state = Mutex::new(State { free: all, ..State::default() });
        Self(Arc::new(Shared { each, within, state }))
    }

    /// Takes one for this circuit; `None`: it has its share, or all are taken,
    /// and that did not change in time.
    pub async fn take(&self, circuit: u64) -> Option<Share> {
        self.take_for(circuit, &Pace::new(None)).await
    }

    /// Takes one for a request of this circuit, which is given up if it is too
    /// slow and others wait.
    pub async fn take_for(&self, circuit: u64, pace: &Pace) -> Option<Share> {
        self.wait(Some((circuit, pace))).await
    }

    /// Takes one that is for all circuits together.
    pub async fn take_for_all(&self) -> Option<Share> {
        self.wait(None).await
    }

    /// How many are left, over all circuits.
    pub fn left(&self) -> usize {
        self.state().free
    }

    /// Gives up requests that are too slow, for one of this circuit, until it
    /// waits no more. Never ends.
    pub(crate) async fn make_room(&self, circuit: u64) {
        loop {
            sleep(LOOK_EVERY).await;
            self.give_one_up(circuit);
        }
    }

    async fn wait(&self, whose: Option<(u64, &Pace)>) -> Option<Share> {
        let circuit = whose.map(|(circuit, _)| circuit);
        let (ticket, granted) = self.queue(circuit);
        let room = async {
            match circuit {
                Some(circuit) => loop {
                    sleep(LOOK_EVERY).await;
                    if self.left() == 0 {
                        self.give_one_up(circuit);
                    }
                },
                None => std::future::pending().await,
            }
        };
        let waiting = async {
            tokio::select! {
                biased;
                _ = granted => {}
                () = room => {}
            }
        };
        let _ = timeout(self.0.within, waiting).await;
        let mut state = self.state();
        // It may have got one in the very moment in which it has waited enough.
        let has_one = !state.waiting.contains_key(&ticket.number);
        if let Some((circuit, pace)) = whose.filter(|_| has_one) {
            state.taken.insert(ticket.number, (circuit, pace.clone()));
        }
        drop(state);
        has_one.then(|| Share(ticket))
    }

    fn queue(&self, circuit: Option<u64>) -> (Ticket, oneshot::Receiver<()>) {
        let (grant, granted) = oneshot::channel();
        let mut state = self.state();
        let number = state.next;
        state.next += 1;
        state.waiting.insert(number, (circuit, grant));
        state.grant(self.0.each);
        (Ticket { shares: self.clone(), number, circuit }, granted)
    }

    fn give_one_up(&self, wanting: u64) {
        let now = now();
        let state = self.state();
        let own = state.held.get(&wanting).copied().unwrap_or_default();
        // Most of those who wait in a flood have as much as anybody.
        if state.held.values().all(|held| *held <= own) {
            return;
        }
        let taken = state.taken.values().filter(|(_, pace)| !pace.is_given_up());
        let (candidates, paces): (Vec<_>, Vec<_>) = taken
            .map(|(circuit, pace)| {
                (Candidate { circuit: *circuit, too_slow: pace.too_slow(now) }, pace)
            })
            .unzip();
        if let Some(pace) = give_up(&candidates, wanting).and_then(|index| paces.get(index)) {
            pace.give_up();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Gives what is free to those who wait: first to the circuits that have least.
    fn grant(&mut self, each: usize) {
        while self.free > 0 {
            let waiting = self.waiting.iter().filter_map(|(number, (circuit, _))| {
                let Some(circuit) = circuit else { return Some((0, *number)) };
                let held = self.held.get(circuit).copied().unwrap_or_default();
                (held < each).then_some((held, *number))
            });
            let Some((_, number)) = waiting.min() else { return };
            let Some((circuit, grant)) = self.waiting.remove(&number) else { return };
            self.free -= 1;
            if let Some(circuit) = circuit {
                *self.held.entry(circuit).or_default() += 1;
            }
            // Who has gone in this moment gives it back.
            let _ = grant.send(());
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut state = self.shares.state();
        let waited = state.waiting.remove(&self.number).is_some();
        if waited {
            return;
        }
        state.taken.remove(&self.number);
        state.free += 1;
        if let Some(circuit) = self.circuit
            && let Some(held) = state.held.get_mut(&circuit)
        {
            *held -= 1;
            if *held == 0 {
                state.held.remove(&circuit);
            }
        }
        state.grant(self.shares.0.each);
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
        assert_eq!(shares.state().held.keys().collect::<Vec<_>>(), [&1]);
        tokio::select! {
            biased;
            _ = shares.take(1) => panic!("it has its share"),
            () = std::future::ready(()) => {}
        }
        drop(held);
        assert!(shares.state().held.is_empty());
        assert!(shares.state().taken.is_empty() && shares.state().waiting.is_empty());
        assert_eq!(shares.left(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn what_becomes_free_goes_to_the_circuit_that_has_least() {
        let shares = Shares::new(3, 3, SHORT);
        let mut first = taken(&shares, 1, 3).await;
        let own = async { shares.take(1).await.map(|_| tokio::time::Instant::now()) };
        let other = async {
            tokio::task::yield_now().await;
            shares.take(2).await.map(|_| tokio::time::Instant::now())
        };
        let give_back = async {
            tokio::time::sleep(SHORT / 4).await;
            first.pop();
            tokio::time::sleep(SHORT / 4).await;
            first.pop();
        };
        let (own, other, ()) = tokio::join!(own, other, give_back);
        assert!(other.unwrap() <= own.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn requests_that_stand_still_make_room_for_those_of_others_and_not_of_their_own() {
        let shares = Shares::new(2, 2, SHORT);
        let paces = [Pace::new(Some(1000)), Pace::new(Some(1000))];
        let mut held = Vec::new();
        for pace in &paces {
            pace.turn(true);
            held.push(shares.take_for(1, pace).await);
        }
        assert!(shares.take(1).await.is_none());
        assert!(paces.iter().all(|pace| !pace.is_given_up()));
        let gone = async {
            paces[0].given_up().await;
            held.remove(0);
        };
        let (got, ()) = tokio::join!(shares.take(2), gone);
        assert!(got.is_some());
        assert!(!paces[1].is_given_up());
    }
}

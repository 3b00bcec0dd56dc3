//! How many of what there are only so many of may one circuit take?
//!
//! Connections to an origin, its streams and file handles are few, and taking one
//! costs a client next to nothing. Nobody can tell how many circuits a client has,
//! but none of them takes more than its share, who waits for its own share
//! stands in nobody's way, and what becomes free goes to the circuit that has
//! least. Where nothing becomes free, the slowest request of the circuit that has
//! most is given up (`pace`). See `origins::pool`, `origins::shared` and the daemon's
//! `file_handles` for how many there are of each.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use crate::pace::{Pace, SlowCandidate, give_up, now};

/// How often who waits looks for a request to give up.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// So many of something, and how many of them one circuit may have.
#[derive(Clone, Debug)]
pub struct Shares(Arc<SharesInner>);

#[derive(Debug)]
struct SharesInner {
    /// How long a circuit waits for one.
    within: Duration,
    state: Mutex<SharesState>,
}

#[derive(Debug, Default)]
struct SharesState {
    /// How many there are.
    all: usize,
    /// What one circuit may have of them.
    each: usize,
    /// How many are taken.
    taken: usize,
    /// The number of the next request that wants one.
    next: u64,
    /// Those that have one or wait for one.
    circuits: BTreeMap<u64, CircuitShare>,
    /// Circuits with requests that wait, below their share: who has least comes
    /// first, then who has waited longest.
    eligible: BTreeSet<Rank>,
}

/// How many a circuit has, its first request that waits, and the circuit.
type Rank = (usize, u64, u64);

/// The requests of one circuit, by their numbers.
#[derive(Debug, Default)]
struct CircuitShare {
    taken: BTreeMap<u64, Pace>,
    waiting: BTreeMap<u64, (Pace, oneshot::Sender<()>)>,
}

/// One that a circuit has taken; given back when this is dropped.
#[derive(Debug)]
pub struct Share(#[expect(dead_code, reason = "given back when dropped")] Ticket);

/// A request has one, or waits for it.
#[derive(Debug)]
struct Ticket {
    shares: Shares,
    number: u64,
    circuit: u64,
}

impl Shares {
    /// `all` of them, of which one circuit gets `each`. Who finds none waits
    /// for at most `within`.
    pub fn new(all: usize, each: usize, within: Duration) -> Self {
        let state = Mutex::new(SharesState { all, each, ..SharesState::default() });
        Self(Arc::new(SharesInner { within, state }))
    }

    /// From now on there are so many. What is taken beyond that stays taken.
    pub fn resize(&self, all: usize, each: usize) {
        let mut state = self.0.state.lock();
        state.all = all;
        if state.each != each {
            state.each = each;
            state.eligible = state.circuits.iter().filter_map(|it| rank(each, it)).collect();
        }
        state.grant();
    }

    /// Takes one for this circuit; `None`: it has its share, or all are taken,
    /// and that did not change in time.
    pub async fn take(&self, circuit: u64) -> Option<Share> {
        self.take_for(circuit, &Pace::new(None)).await
    }

    /// Takes one for a request of this circuit, which is given up if it is too
    /// slow and others wait.
    pub async fn take_for(&self, circuit: u64, pace: &Pace) -> Option<Share> {
        self.take_or(circuit, pace, || ()).await
    }

    /// The same; does `meanwhile` once the request waits, if it has to.
    pub(crate) async fn take_or(
        &self,
        circuit: u64,
        pace: &Pace,
        meanwhile: impl FnOnce(),
    ) -> Option<Share> {
        let (ticket, waiting) = self.queue(circuit, pace);
        let Some(granted) = waiting else { return Some(Share(ticket)) };
        meanwhile();
        let room = async {
            loop {
                sleep(LOOK_EVERY).await;
                self.make_room(&ticket);
            }
        };
        let granted = async {
            tokio::select! {
                biased;
                _ = granted => {}
                () = room => {}
            }
        };
        let _ = timeout(self.0.within, granted).await;
        // It may have got one in the very moment in which it has waited enough.
        let has_one = self.0.state.lock().has(&ticket);
        has_one.then(|| Share(ticket))
    }

    /// How many are left, over all circuits.
    pub fn left(&self) -> usize {
        self.0.state.lock().left()
    }

    /// Whether anybody waits for want of them, and not for its own share.
    pub(crate) fn are_short(&self) -> bool {
        !self.0.state.lock().eligible.is_empty()
    }

    /// Takes one, or gets in line, with who tells when its turn has come.
    fn queue(&self, circuit: u64, pace: &Pace) -> (Ticket, Option<oneshot::Receiver<()>>) {
        let mut state = self.0.state.lock();
        let number = state.next;
        state.next += 1;
        let ticket = Ticket { shares: self.clone(), number, circuit };
        let (pace, each) = (pace.clone(), state.each);
        let held = state.circuits.get(&circuit).map_or(0, |circuit| circuit.taken.len());
        if state.left() > 0 && held < each {
            state.taken += 1;
            state.change(circuit, |circuit| drop(circuit.taken.insert(number, pace)));
            return (ticket, None);
        }
        let (grant, granted) = oneshot::channel();
        state.change(circuit, |circuit| drop(circuit.waiting.insert(number, (pace, grant))));
        (ticket, Some(granted))
    }

    /// Gives up the request of others that is slowest, for this one, if that is the
    /// next one of its circuit.
    fn make_room(&self, ticket: &Ticket) {
        let now = now();
        let state = self.0.state.lock();
        let own = state.circuits.get(&ticket.circuit);
        let next = own.and_then(|own| own.waiting.keys().next());
        if state.left() > 0 || next != Some(&ticket.number) {
            return;
        }
        // Most of those who wait in a flood have as much as anybody.
        let held = own.map_or(0, |own| own.taken.len());
        if state.circuits.values().all(|other| other.taken.len() <= held) {
            return;
        }
        let (candidates, paces): (Vec<_>, Vec<_>) = state
            .circuits
            .iter()
            .flat_map(|(circuit, it)| it.taken.values().map(move |pace| (*circuit, pace)))
            .filter(|(_, pace)| !pace.is_given_up())
            .map(|(circuit, pace)| (SlowCandidate { circuit, too_slow: pace.too_slow(now) }, pace))
            .unzip();
        if let Some(pace) = give_up(&candidates, ticket.circuit).and_then(|index| paces.get(index))
        {
            pace.give_up();
        }
    }
}

/// Where a circuit stands among those that are eligible, if it is.
fn rank(each: usize, (circuit, requests): (&u64, &CircuitShare)) -> Option<Rank> {
    let held = requests.taken.len();
    let first = requests.waiting.keys().next()?;
    (held < each).then_some((held, *first, *circuit))
}

impl SharesState {
    fn left(&self) -> usize {
        self.all.saturating_sub(self.taken)
    }

    fn has(&self, ticket: &Ticket) -> bool {
        let circuit = self.circuits.get(&ticket.circuit);
        circuit.is_some_and(|circuit| circuit.taken.contains_key(&ticket.number))
    }

    /// Changes what a circuit has and wants, and its rank with it.
    fn change<T>(&mut self, circuit: u64, change: impl FnOnce(&mut CircuitShare) -> T) -> T {
        let requests = self.circuits.entry(circuit).or_default();
        if let Some(rank) = rank(self.each, (&circuit, requests)) {
            self.eligible.remove(&rank);
        }
        let changed = change(requests);
        self.eligible.extend(rank(self.each, (&circuit, requests)));
        if requests.taken.is_empty() && requests.waiting.is_empty() {
            self.circuits.remove(&circuit);
        }
        changed
    }

    /// Gives what is left to those who wait: first to the circuits that have least.
    fn grant(&mut self) {
        while self.left() > 0 {
            let Some((_, number, circuit)) = self.eligible.first().copied() else { return };
            self.taken += 1;
            self.change(circuit, |circuit| {
                if let Some((pace, grant)) = circuit.waiting.remove(&number) {
                    circuit.taken.insert(number, pace);
                    // Who has gone in this moment gives it back.
                    let _ = grant.send(());
                }
            });
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut state = self.shares.0.state.lock();
        let number = self.number;
        let had_one = state.change(self.circuit, |circuit| {
            circuit.waiting.remove(&number).is_none() && circuit.taken.remove(&number).is_some()
        });
        if had_one {
            state.taken -= 1;
            state.grant();
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
    async fn who_waits_gets_one_of_those_that_are_added() {
        let shares = Shares::new(1, 4, SHORT);
        let held = taken(&shares, 1, 1).await;
        let grow = async {
            tokio::time::sleep(SHORT / 2).await;
            shares.resize(4, 4);
        };
        let (waited, ()) = tokio::join!(taken(&shares, 2, 2), grow);
        assert_eq!((held.len(), waited.len(), shares.left()), (1, 2, 1));
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
        assert_eq!(shares.0.state.lock().circuits.keys().collect::<Vec<_>>(), [&1]);
        tokio::select! {
            biased;
            _ = shares.take(1) => panic!("it has its share"),
            () = std::future::ready(()) => {}
        }
        drop(held);
        let state = shares.0.state.lock();
        assert!(state.circuits.is_empty() && state.eligible.is_empty());
        drop(state);
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

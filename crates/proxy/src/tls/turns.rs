//! May this circuit begin another handshake, and which one is given up for it?
//!
//! An honest handshake takes a second or two. So where there are as many as may be,
//! the one that has taken longest makes room: who stands still keeps nobody out.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::failure::Failure;

/// Handshakes that one circuit may have under way on one port: a browser makes six
/// connections at a time.
const EACH: usize = 16;

/// Those of all circuits together. Each takes some 10 KiB, and what the client sends
/// of its side, of which there may be 64 KiB.
const ALL: usize = 4096;

/// The handshakes that are under way.
#[derive(Debug, Default)]
pub(super) struct HandshakeTurns(Mutex<HandshakesState>);

#[derive(Debug, Default)]
struct HandshakesState {
    /// The number of the next one.
    next: u64,
    /// All that go on, the oldest first.
    all: BTreeMap<u64, Arc<Notify>>,
    circuits: BTreeMap<u64, usize>,
}

/// A handshake counts as under way as long as this is there.
#[derive(Debug)]
pub(super) struct HandshakeTurn<'a> {
    turns: &'a HandshakeTurns,
    number: u64,
    circuit: u64,
    given_up: Arc<Notify>,
}

impl HandshakeTurns {
    /// The turn of a handshake on this circuit.
    ///
    /// # Errors
    ///
    /// `TooMany` if the circuit has as many as it may.
    pub(super) fn take(&self, circuit: u64) -> Result<HandshakeTurn<'_>, Failure> {
        let mut state = self.0.lock();
        let own = state.circuits.entry(circuit).or_default();
        if *own >= EACH {
            return Err(Failure::TooMany);
        }
        *own += 1;
        if state.all.len() >= ALL
            && let Some((_, oldest)) = state.all.pop_first()
        {
            oldest.notify_one();
        }
        let (number, given_up) = (state.next, Arc::<Notify>::default());
        state.next += 1;
        state.all.insert(number, Arc::clone(&given_up));
        Ok(HandshakeTurn { turns: self, number, circuit, given_up })
    }
}

impl HandshakeTurn<'_> {
    /// Waits until it has to make room.
    pub(super) async fn given_up(&self) {
        self.given_up.notified().await;
    }
}

impl Drop for HandshakeTurn<'_> {
    fn drop(&mut self) {
        let mut state = self.turns.0.lock();
        state.all.remove(&self.number);
        if let Entry::Occupied(mut own) = state.circuits.entry(self.circuit) {
            match own.get() {
                0 | 1 => drop(own.remove()),
                more => drop(own.insert(more - 1)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn a_circuit_has_sixteen_and_is_forgotten_with_its_last() {
        let turns = HandshakeTurns::default();
        let mut taken: Vec<_> = (0..EACH).map(|_| turns.take(1).unwrap()).collect();
        assert_eq!(turns.take(1).unwrap_err(), Failure::TooMany);
        assert!(turns.take(2).is_ok(), "another circuit is another client");
        taken.pop();
        assert!(turns.take(1).is_ok());
        drop(taken);
        let state = turns.0.lock();
        assert_eq!((state.all.len(), state.circuits.len()), (0, 0));
    }

    #[test]
    fn the_oldest_of_all_circuits_makes_room_and_no_other() {
        let turns = HandshakeTurns::default();
        let taken: Vec<_> = (0..ALL as u64).map(|n| turns.take(n / EACH as u64).unwrap()).collect();
        let new = turns.take(u64::MAX).unwrap();
        assert_eq!(taken[0].given_up().now_or_never(), Some(()));
        assert_eq!(taken[1].given_up().now_or_never(), None);
        assert_eq!(new.given_up().now_or_never(), None);
        assert_eq!(turns.0.lock().all.len(), ALL);
    }
}

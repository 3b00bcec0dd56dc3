//! May this circuit begin another handshake?

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use parking_lot::Mutex;

use crate::failure::Failure;

/// Handshakes that one circuit may have under way on one port: a browser makes six
/// connections at a time.
const EACH: usize = 16;

/// Those of all circuits together. Each takes up to some 100 KiB, and no longer than
/// a handshake may take.
const ALL: usize = 4096;

/// The handshakes that are under way.
#[derive(Debug, Default)]
pub(super) struct Turns(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    all: usize,
    circuits: BTreeMap<u64, usize>,
}

/// A handshake counts as under way as long as this is there.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    turns: &'a Turns,
    circuit: u64,
}

impl Turns {
    /// The turn of a handshake on this circuit.
    ///
    /// # Errors
    ///
    /// `TooMany` if the circuit has as many as it may, `Overloaded` if all have.
    pub(super) fn take(&self, circuit: u64) -> Result<Turn<'_>, Failure> {
        let mut state = self.0.lock();
        if state.all >= ALL {
            return Err(Failure::Overloaded);
        }
        let own = state.circuits.entry(circuit).or_default();
        if *own >= EACH {
            return Err(Failure::TooMany);
        }
        *own += 1;
        state.all += 1;
        Ok(Turn { turns: self, circuit })
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.turns.0.lock();
        state.all = state.all.saturating_sub(1);
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
    use super::*;

    #[test]
    fn a_circuit_has_sixteen_and_is_forgotten_with_its_last() {
        let turns = Turns::default();
        let mut taken: Vec<_> = (0..EACH).map(|_| turns.take(1).unwrap()).collect();
        assert_eq!(turns.take(1).unwrap_err(), Failure::TooMany);
        assert!(turns.take(2).is_ok(), "another circuit is another client");
        taken.pop();
        assert!(turns.take(1).is_ok());
        drop(taken);
        let state = turns.0.lock();
        assert_eq!((state.all, state.circuits.len()), (0, 0));
    }

    #[test]
    fn all_circuits_together_have_their_limit() {
        let turns = Turns::default();
        let _taken: Vec<_> =
            (0..ALL as u64).map(|n| turns.take(n / EACH as u64).unwrap()).collect();
        assert_eq!(turns.take(u64::MAX).unwrap_err(), Failure::Overloaded);
        assert_eq!(turns.0.lock().circuits.len(), ALL / EACH);
    }
}

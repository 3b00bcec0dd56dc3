//! Whose turn is it, while what arrives at one point waits beside what arrives at
//! others? Pure.
//!
//! Each point has a queue of its own, with a limit of its own, and they take
//! turns: a relay that floods us leaves the clients at other relays their share.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

/// Things that wait, by who brings them.
#[derive(Debug)]
pub(super) struct FairQueue<K, T> {
    /// How many of each may wait.
    each: usize,
    /// None of them empty.
    waiting: BTreeMap<K, VecDeque<T>>,
    /// Who had the last turn.
    last: Option<K>,
}

impl<K: Ord + Copy, T> FairQueue<K, T> {
    /// Empty; of each, so many may wait.
    pub(super) fn new(each: usize) -> Self {
        Self { each, waiting: BTreeMap::new(), last: None }
    }

    /// One more of this one, unless so many wait already: then it comes back.
    pub(super) fn push(&mut self, of: K, item: T) -> Result<(), T> {
        let queue = self.waiting.entry(of).or_default();
        if queue.len() >= self.each {
            return Err(item);
        }
        queue.push_back(item);
        Ok(())
    }

    /// The oldest one of whose turn it is.
    pub(super) fn pop(&mut self) -> Option<T> {
        let after = self.last.map_or(Bound::Unbounded, Bound::Excluded);
        let turn = self.waiting.range((after, Bound::Unbounded)).next();
        let of = *turn.or_else(|| self.waiting.first_key_value())?.0;
        self.last = Some(of);
        let queue = self.waiting.get_mut(&of)?;
        let item = queue.pop_front();
        if queue.is_empty() {
            self.waiting.remove(&of);
        }
        item
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Drops everything.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everyone_has_a_turn_however_much_one_of_them_brings() {
        let mut queue = FairQueue::new(100);
        for n in 0..50 {
            queue.push(1, (1, n)).unwrap();
        }
        queue.push(0, (0, 0)).unwrap();
        queue.push(2, (2, 0)).unwrap();
        queue.push(2, (2, 1)).unwrap();
        let first: Vec<_> = (0..6).map_while(|_| queue.pop()).collect();
        assert_eq!(first, [(0, 0), (1, 0), (2, 0), (1, 1), (2, 1), (1, 2)]);
        assert_eq!(std::iter::from_fn(|| queue.pop()).count(), 47);
        assert!(queue.is_empty());
    }

    #[test]
    fn who_has_too_much_waiting_brings_no_more_and_others_do() {
        let mut queue = FairQueue::new(2);
        assert_eq!(queue.push(1, 1), Ok(()));
        assert_eq!(queue.push(1, 2), Ok(()));
        assert_eq!(queue.push(1, 3), Err(3));
        assert_eq!(queue.push(2, 4), Ok(()));
        queue.pop();
        assert_eq!(queue.push(1, 5), Ok(()));
        queue.clear();
        assert_eq!(queue.pop(), None);
    }
}

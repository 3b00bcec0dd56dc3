//! Was a solution used before?
//!
//! A nonce is entered once its solution is verified, so that nobody fills the
//! log without work, and forgotten with its seed. The log is bounded: when it is
//! full, the cheapest solutions are forgotten and solutions as cheap as these count
//! for nothing from then on, so that forgetting never makes a replay work.

use std::collections::{BTreeMap, BTreeSet};

use super::puzzle::Effort;

/// As many classes of effort as `u32` has lengths: 0, 1, 2 to 3, 4 to 7, ...
const CLASSES: usize = 33;

/// The nonces of all seeds that are accepted. `S` names a seed.
#[derive(Debug)]
pub struct NonceLog<S> {
    capacity: usize,
    len: usize,
    seeds: BTreeMap<S, Used>,
}

/// The nonces used with one seed.
#[derive(Debug)]
struct Used {
    /// By class of effort, the first half of each nonce: clients choose nonces
    /// at random, so 64 bits tell them apart.
    classes: [BTreeSet<u64>; CLASSES],
    /// Classes below this one were forgotten.
    forgotten: usize,
}

/// What the log says of a solution that is valid otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NonceVerdict {
    /// It was not used before, and is used now.
    New,
    /// It was used before.
    Used,
    /// It is as cheap as others that were forgotten: it counts as no work.
    TooCheap,
}

impl<S: Ord + Copy> NonceLog<S> {
    /// Empty; it never holds more than `capacity` nonces, of 8 bytes each and
    /// about as much around them.
    pub fn new(capacity: usize) -> Self {
        Self { capacity: capacity.max(1), len: 0, seeds: BTreeMap::new() }
    }

    /// Holds no more than this from now on.
    pub fn set_capacity(&mut self, capacity: usize) {
        self.capacity = capacity.max(1);
        while self.len > self.capacity {
            self.forget_cheapest();
        }
    }

    /// Enters the nonce of a verified solution.
    pub fn enter(&mut self, seed: S, effort: Effort, nonce: &[u8; 16]) -> NonceVerdict {
        let class = class(effort);
        let used = self.seeds.entry(seed).or_insert_with(Used::nothing);
        if class < used.forgotten {
            return NonceVerdict::TooCheap;
        }
        let (half, _) = nonce.split_at(8);
        let half = half.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
        if !used.classes[class].insert(half) {
            return NonceVerdict::Used;
        }
        self.len += 1;
        while self.len > self.capacity {
            self.forget_cheapest();
        }
        NonceVerdict::New
    }

    /// Forgets the seeds that are accepted no longer.
    pub fn retain(&mut self, is_accepted: impl Fn(&S) -> bool) {
        self.seeds.retain(|seed, _| is_accepted(seed));
        self.len = self.seeds.values().map(Used::len).sum();
    }

    /// The least effort that counts with every seed: what clients should be asked
    /// for at least, 0 while nothing was forgotten.
    pub fn floor(&self) -> Effort {
        let forgotten = self.seeds.values().map(|used| used.forgotten).max().unwrap_or(0);
        if forgotten == 0 { 0 } else { 1_u32.checked_shl(forgotten as u32 - 1).unwrap_or(u32::MAX) }
    }

    /// How many nonces it holds.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Forgets the lowest class of the seed with the lowest one; the largest of
    /// several.
    fn forget_cheapest(&mut self) {
        let cheapest = self.seeds.values_mut().filter_map(|used| {
            let lowest = used.classes.iter().position(|class| !class.is_empty())?;
            Some((lowest, used))
        });
        let Some((lowest, used)) = cheapest
            .min_by_key(|(lowest, used)| (*lowest, usize::MAX - used.classes[*lowest].len()))
        else {
            return;
        };
        self.len -= used.classes[lowest].len();
        used.classes[lowest].clear();
        used.forgotten = lowest + 1;
    }
}

impl Used {
    fn nothing() -> Self {
        Self { classes: std::array::from_fn(|_| BTreeSet::new()), forgotten: 0 }
    }

    fn len(&self) -> usize {
        self.classes.iter().map(BTreeSet::len).sum()
    }
}

/// The number of binary digits of an effort.
fn class(effort: Effort) -> usize {
    (u32::BITS - effort.leading_zeros()) as usize
}

#[cfg(test)]
mod tests {
    use super::NonceVerdict::{New, TooCheap, Used};
    use super::*;

    fn nonce(n: u64) -> [u8; 16] {
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&n.to_be_bytes());
        nonce
    }

    #[test]
    fn a_solution_works_once_for_its_seed_and_again_only_with_other_work() {
        let mut log = NonceLog::new(100);
        assert_eq!(log.enter(1, 5, &nonce(1)), New);
        assert_eq!(log.enter(1, 5, &nonce(1)), Used);
        assert_eq!(log.enter(1, 5, &nonce(2)), New);
        assert_eq!(log.enter(2, 5, &nonce(1)), New);
        assert_eq!(log.len(), 3);
    }

    #[test]
    fn nonces_go_with_their_seed() {
        let mut log = NonceLog::new(100);
        log.enter(1, 5, &nonce(1));
        log.enter(2, 5, &nonce(1));
        log.retain(|seed| *seed == 2);
        assert_eq!(log.len(), 1);
        assert_eq!(log.enter(2, 5, &nonce(1)), Used);
    }

    #[test]
    fn a_full_log_forgets_the_cheapest_and_lets_no_replay_of_them_count() {
        let mut log = NonceLog::new(10);
        for n in 0..8 {
            assert_eq!(log.enter(1, 3, &nonce(n)), New);
        }
        assert_eq!(log.floor(), 0);
        for n in 0..3 {
            assert_eq!(log.enter(1, 100, &nonce(n)), New);
        }
        assert_eq!(log.len(), 3);
        assert_eq!(log.floor(), 4);
        for n in 0..8 {
            assert_eq!(log.enter(1, 3, &nonce(n)), TooCheap);
        }
        assert_eq!(log.enter(1, 100, &nonce(1)), Used);
        assert_eq!(log.enter(1, 4, &nonce(1)), New);
        // With the next seeds it begins anew.
        log.retain(|seed| *seed == 2);
        assert_eq!((log.floor(), log.is_empty()), (0, true));
    }

    #[test]
    fn less_room_forgets_the_cheapest_at_once() {
        let mut log = NonceLog::new(100);
        (0..60).for_each(|n| assert_eq!(log.enter(1, (n % 3) as u32, &nonce(n)), New));
        log.set_capacity(30);
        assert_eq!((log.len(), log.floor()), (20, 2));
    }

    #[test]
    fn it_never_holds_more_than_its_capacity_whatever_comes() {
        let mut log = NonceLog::new(50);
        for n in 0..10_000_u64 {
            let effort = (n * 2_654_435_761 % 4_294_967_296) as u32 >> (n % 32);
            log.enter(n % 3, effort, &nonce(n));
            assert!(log.len() <= 50);
        }
        log.enter(1, u32::MAX, &nonce(1));
        assert!(log.floor() > 0);
    }
}

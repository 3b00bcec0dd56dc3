//! Which introduction is the next one, when many wait?
//!
//! The one with the most effort, and among equals the oldest. The queue is
//! bounded: at its high mark the better half stays. Whoever has waited for
//! [`WAIT_LIMIT`] is dropped, since its client will have given up before it is met.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::puzzle::Effort;

/// How long an introduction may wait: C tor's rule, half of what a rendezvous may
/// take (`MAX_REND_TIMEOUT / 2`).
pub const WAIT_LIMIT: Duration = Duration::from_secs(15);

/// Introductions in the order in which they are to be acted upon.
#[derive(Debug)]
pub struct PriorityQueue<T> {
    high_mark: usize,
    waiting: BTreeMap<QueuePlace, (Instant, T)>,
    /// In the order of arrival, so that the oldest are found; may name places
    /// that are empty by now.
    arrivals: VecDeque<(Instant, QueuePlace)>,
    /// The number of the next arrival.
    next: u64,
}

/// More effort before less, then older before newer.
type QueuePlace = (Reverse<Effort>, u64);

impl<T> PriorityQueue<T> {
    /// Empty; it never holds more than `high_mark`, which is taken as 2 at least.
    pub fn new(high_mark: usize) -> Self {
        Self {
            high_mark: high_mark.max(2),
            waiting: BTreeMap::new(),
            arrivals: VecDeque::new(),
            next: 0,
        }
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The effort of the next one.
    pub fn top(&self) -> Option<Effort> {
        self.waiting.first_key_value().map(|((Reverse(effort), _), _)| *effort)
    }

    /// The effort of the one that has `before` before it.
    pub fn nth(&self, before: usize) -> Option<Effort> {
        self.waiting.keys().nth(before).map(|(Reverse(effort), _)| *effort)
    }

    /// One more. Returns what had to go for it, each with its effort: at the
    /// high mark, the worse half, which can be the new one.
    pub fn push(&mut self, effort: Effort, item: T, now: Instant) -> Vec<(Effort, T)> {
        let place = (Reverse(effort), self.next);
        self.next += 1;
        self.waiting.insert(place, (now, item));
        self.arrivals.push_back((now, place));
        if self.arrivals.len() > 2 * self.high_mark {
            let waiting = &self.waiting;
            self.arrivals.retain(|(_, place)| waiting.contains_key(place));
        }
        self.trimmed()
    }

    /// Another high mark. Returns what has no place under it.
    pub fn set_high_mark(&mut self, high_mark: usize) -> Vec<(Effort, T)> {
        self.high_mark = high_mark.max(2);
        self.trimmed()
    }

    /// The best one.
    pub fn pop(&mut self) -> Option<(Effort, T)> {
        let ((Reverse(effort), _), (_, item)) = self.waiting.pop_first()?;
        Some((effort, item))
    }

    /// Takes out everything that has waited too long.
    pub fn expired(&mut self, now: Instant) -> Vec<(Effort, T)> {
        let mut expired = Vec::new();
        while let Some((arrived, place)) = self.arrivals.front() {
            let present = self.waiting.contains_key(place);
            if present && now.saturating_duration_since(*arrived) <= WAIT_LIMIT {
                break;
            }
            if let Some((_, item)) = self.waiting.remove(place) {
                expired.push((place.0.0, item));
            }
            self.arrivals.pop_front();
        }
        expired
    }

    /// When the next one will have waited too long.
    pub fn next_expiry(&self) -> Option<Instant> {
        let mut present = self.arrivals.iter().filter(|(_, it)| self.waiting.contains_key(it));
        // A moment later than the limit: exactly then it is not over.
        present.next().map(|(arrived, _)| *arrived + WAIT_LIMIT + Duration::from_millis(1))
    }

    /// Cuts the queue to the better half if it has reached its high mark.
    fn trimmed(&mut self) -> Vec<(Effort, T)> {
        if self.waiting.len() < self.high_mark {
            return Vec::new();
        }
        let Some(first_out) = self.waiting.keys().nth(self.high_mark / 2).copied() else {
            return Vec::new();
        };
        let out = self.waiting.split_off(&first_out);
        out.into_iter().map(|((Reverse(effort), _), (_, item))| (effort, item)).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::super::samples::{SECOND, start};
    use super::*;

    fn drained(queue: &mut PriorityQueue<u32>) -> Vec<(Effort, u32)> {
        std::iter::from_fn(|| queue.pop()).collect()
    }

    #[test]
    fn more_effort_goes_first_and_among_equals_the_older() {
        let now = start().monotonic;
        let mut queue = PriorityQueue::new(10);
        for (n, effort) in [0, 5, 0, 7, 5].into_iter().enumerate() {
            queue.push(effort, n as u32, now);
        }
        assert_eq!(drained(&mut queue), [(7, 3), (5, 1), (5, 4), (0, 0), (0, 2)]);
    }

    #[test]
    fn at_the_high_mark_the_better_half_stays() {
        let now = start().monotonic;
        let mut queue = PriorityQueue::new(6);
        let mut out = Vec::new();
        for effort in [3, 0, 9, 0, 1, 2] {
            out.extend(queue.push(effort, effort, now));
        }
        assert_eq!(out, [(1, 1), (0, 0), (0, 0)]);
        assert_eq!(drained(&mut queue), [(9, 9), (3, 3), (2, 2)]);
    }

    #[test]
    fn who_has_waited_too_long_is_taken_out_wherever_it_waits() {
        let now = start().monotonic;
        let mut queue = PriorityQueue::new(100);
        queue.push(9, 0, now);
        queue.push(1, 1, now);
        queue.push(5, 2, now + SECOND);
        assert!(queue.expired(now + WAIT_LIMIT).is_empty());
        let expiry = queue.next_expiry().unwrap();
        assert_eq!(queue.expired(expiry), [(9, 0), (1, 1)]);
        assert_eq!(queue.pop(), Some((5, 2)));
        assert_eq!(queue.next_expiry(), None);
    }

    #[test]
    fn a_smaller_high_mark_takes_effect_at_once() {
        let now = start().monotonic;
        let mut queue = PriorityQueue::new(100);
        for effort in 0..50 {
            queue.push(effort, effort, now);
        }
        assert_eq!(queue.set_high_mark(10).len(), 45);
        assert_eq!(queue.top(), Some(49));
    }

    proptest! {
        #[test]
        fn it_stays_bounded_and_drops_nobody_for_a_worse_one(
            high_mark in 0_usize..40, efforts in prop::collection::vec(0_u32..50, 0..400),
        ) {
            let now = start().monotonic;
            let mut queue = PriorityQueue::new(high_mark);
            for (n, effort) in efforts.into_iter().enumerate() {
                let out = queue.push(effort, n as u32, now);
                let worst = queue.waiting.last_key_value().map_or(0, |((it, _), _)| it.0);
                prop_assert!(out.iter().all(|(effort, _)| *effort <= worst));
                prop_assert!(queue.len() < high_mark.max(2));
                prop_assert!(queue.arrivals.len() <= 2 * high_mark.max(2));
            }
            let order: Vec<_> = drained(&mut queue);
            prop_assert!(order.is_sorted_by_key(|(effort, n)| (Reverse(*effort), *n)));
        }
    }
}

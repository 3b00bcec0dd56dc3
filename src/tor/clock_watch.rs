//! When should Arti try again at once, rather than when it next means to?
//!
//! While the machine's clock is wrong, every directory looks invalid, and Arti
//! waits longer and longer between its attempts: minutes, once the clock has
//! been set right. Clocks that part from each other show that it was set; and
//! as long as there is no directory, an attempt now and then costs little.
//! Pure; called by [`watch`](super::watch) every few seconds.

use std::time::{Duration, Instant};

use onionbraid_balancer::fact::Now;

/// How often to look.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(2);

/// A clock that moves by so much against the other was set.
const SET_BY: Duration = Duration::from_secs(60);

/// The pause between two attempts, after a clock was set and at the start ...
const AGAIN_AFTER: Duration = Duration::from_secs(10);
/// ... so many times; then it doubles each time ...
const AT_FIRST: u32 = 6;
/// ... up to this.
const AGAIN_AFTER_AT_MOST: Duration = Duration::from_mins(5);

/// What the clocks show.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClockLook {
    /// By how many seconds the wall clock was set forward since the last look,
    /// or a suspended machine's went on; negative: back.
    pub(super) set_by: Option<i64>,
    /// Whether to have Arti try at once.
    pub(super) try_again: bool,
}

/// The two clocks, and when an attempt was last asked for.
#[derive(Debug)]
pub(super) struct ClockWatch {
    /// The last look.
    last: Now,
    /// When the next attempt is due.
    next_at: Instant,
    /// Attempts since a clock was set.
    attempts: u32,
}

impl ClockWatch {
    /// Begins to watch.
    pub(super) fn new(now: Now) -> Self {
        Self { last: now, next_at: now.monotonic + AGAIN_AFTER, attempts: 0 }
    }

    /// What the clocks show, given whether Arti's directory is usable.
    pub(super) fn look(&mut self, now: Now, usable: bool) -> ClockLook {
        let last = std::mem::replace(&mut self.last, now);
        let passed = now.monotonic.saturating_duration_since(last.monotonic);
        let expected = last.wall + passed;
        let seconds = |by: Duration| i64::try_from(by.as_secs()).unwrap_or(i64::MAX);
        let (by, forward) = match now.wall.duration_since(expected) {
            Ok(forward) => (forward, seconds(forward)),
            Err(back) => (back.duration(), -seconds(back.duration())),
        };
        let set_by = (by >= SET_BY).then_some(forward);
        if set_by.is_some() {
            (self.attempts, self.next_at) = (0, now.monotonic);
        }
        ClockLook { set_by, try_again: self.is_due(now, usable) }
    }

    /// Whether to have Arti try at once.
    fn is_due(&mut self, now: Now, usable: bool) -> bool {
        if usable {
            self.attempts = 0;
            self.next_at = self.next_at.max(now.monotonic + AGAIN_AFTER);
            return false;
        }
        if now.monotonic < self.next_at {
            return false;
        }
        self.attempts = self.attempts.saturating_add(1);
        let doublings = self.attempts.saturating_sub(AT_FIRST).min(8);
        let pause = (AGAIN_AFTER * 2_u32.pow(doublings)).min(AGAIN_AFTER_AT_MOST);
        self.next_at = now.monotonic + pause;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks for so long, and at which seconds it is to be tried.
    fn tried(watch: &mut ClockWatch, now: &mut Now, lasts: Duration, usable: bool) -> Vec<u64> {
        let began = now.monotonic;
        let mut at = Vec::new();
        while now.monotonic - began < lasts {
            if watch.look(*now, usable).try_again {
                at.push((now.monotonic - began).as_secs());
            }
            now.monotonic += LOOK_EVERY;
            now.wall += LOOK_EVERY;
        }
        at
    }

    #[test]
    fn a_clock_that_was_set_right_means_an_attempt_at_once_and_more_within_a_minute() {
        let mut now = crate::clock::now();
        let mut watch = ClockWatch::new(now);
        // Three days slow for hours: by now it is seldom tried.
        tried(&mut watch, &mut now, Duration::from_hours(3), false);
        for set in [Duration::from_hours(72), Duration::from_secs(90)] {
            now.wall += set;
            let at = tried(&mut watch, &mut now, Duration::from_secs(60), false);
            assert_eq!(at, [0, 10, 20, 30, 40, 50]);
            tried(&mut watch, &mut now, Duration::from_hours(3), false);
            now.wall -= set;
            let look = watch.look(now, false);
            assert!(look.try_again, "set back");
            let back = -i64::try_from(set.as_secs()).unwrap();
            assert!((back - 1..=back + 1).contains(&look.set_by.unwrap()));
        }
    }

    #[test]
    fn without_a_directory_it_is_tried_ever_more_seldom_and_with_one_not_at_all() {
        let mut now = crate::clock::now();
        let mut watch = ClockWatch::new(now);
        let at = tried(&mut watch, &mut now, Duration::from_hours(1), false);
        assert!((15..25).contains(&at.len()), "{at:?}");
        let last = at[at.len() - 2..].iter().copied().reduce(|a, b| b - a).unwrap();
        assert!((295..=310).contains(&last), "{at:?}");
        now.wall += Duration::from_hours(72);
        assert_eq!(tried(&mut watch, &mut now, Duration::from_hours(1), true), [0_u64; 0]);
        // When the directory is lost, not later than after the first pause.
        assert_eq!(tried(&mut watch, &mut now, Duration::from_secs(12), false).len(), 1);
    }
}

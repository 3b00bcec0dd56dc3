//! The few ways in which the balancer waits: an alarm that gathers
//! the next wake-up, jitter, backoff, and an allowance that bounds a rate.
//!
//! Plain values and arithmetic; the time and the random source are arguments.

use std::time::{Duration, Instant};

use rand::{Rng, RngExt as _};

/// Compares moments with the present and remembers the earliest one that is
/// still to come: asking "is it time?" is what sets the next wake-up, so that
/// no wake-up can be forgotten.
#[derive(Debug)]
pub(super) struct Alarm {
    now: Instant,
    next: Option<Instant>,
}

impl Alarm {
    pub(super) fn new(now: Instant) -> Self {
        Self { now, next: None }
    }

    pub(super) fn now(&self) -> Instant {
        self.now
    }

    /// Whether `at` has come; if not, the alarm will ring then.
    pub(super) fn reached(&mut self, at: Instant) -> bool {
        let reached = at <= self.now;
        if !reached {
            self.next = Some(self.next.map_or(at, |next| next.min(at)));
        }
        reached
    }

    /// The earliest moment that was asked about and has not come.
    pub(super) fn next(&self) -> Option<Instant> {
        self.next
    }
}

/// A delay between `delay` and one and a half times as much, so that nothing
/// that several services do falls into step.
pub(super) fn stretched(delay: Duration, rng: &mut impl Rng) -> Duration {
    between(delay, delay + delay / 2, rng)
}

/// A delay from `low` to `high`, evenly distributed.
pub(super) fn between(low: Duration, high: Duration, rng: &mut impl Rng) -> Duration {
    rng.random_range(low..=high)
}

/// A delay of which nobody can tell when it ends: exponentially distributed with
/// this mean, and none longer than three times as much.
pub(super) fn exponential(mean: Duration, rng: &mut impl Rng) -> Duration {
    // Cut off at 2.15 of the means of the whole, not heaped up there, which leaves
    // 0.7165 of that mean.
    let chance: f64 = rng.random_range(0.0..(1.0 - (-2.15_f64).exp()));
    mean.mul_f64(-(1.0 - chance).ln() / 0.7165)
}

/// The delay before the next attempt after `failures` (at least 1) in a row:
/// `first`, doubled each time, never above `most`; without jitter.
pub(super) fn backoff(failures: u32, first: Duration, most: Duration) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    first.saturating_mul(1 << doublings).min(most)
}

/// A token bucket: bounds how often something happens.
///
/// At most `burst` times at once, and once per `interval` in the long run; so
/// in any time `t` at most `burst + t / interval` (rounded up) times.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowance {
    burst: u32,
    interval: Duration,
    /// When the bucket will be full again; in the past when it is full.
    full_at: Option<Instant>,
}

impl Allowance {
    pub(super) const fn new(burst: u32, interval: Duration) -> Self {
        Self { burst, interval, full_at: None }
    }

    /// Whether it may happen now; if not, the alarm rings when it may.
    pub(super) fn permits(&self, alarm: &mut Alarm) -> bool {
        let Some(full_at) = self.full_at else { return true };
        full_at.checked_sub(self.spare()).is_none_or(|at| alarm.reached(at))
    }

    /// Lets it happen once now, whatever has been taken before.
    pub(super) fn grant_one(&mut self, now: Instant) {
        self.full_at = self.full_at.map(|full_at| full_at.min(now + self.spare()));
    }

    /// How long before all tokens the first one is there.
    fn spare(&self) -> Duration {
        self.interval * self.burst.saturating_sub(1)
    }

    /// It happens now.
    pub(super) fn take(&mut self, now: Instant) {
        let base = self.full_at.map_or(now, |full_at| full_at.max(now));
        self.full_at = Some(base + self.interval);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng as _;

    const SECOND: Duration = Duration::from_secs(1);

    #[expect(clippy::disallowed_methods, reason = "a test needs some first moment")]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn the_alarm_rings_at_the_earliest_moment_that_has_not_come() {
        let now = start();
        let mut alarm = Alarm::new(now);
        assert!(alarm.reached(now));
        assert_eq!(alarm.next(), None);
        assert!(!alarm.reached(now + 3 * SECOND));
        assert!(!alarm.reached(now + 2 * SECOND));
        assert!(!alarm.reached(now + 5 * SECOND));
        assert_eq!(alarm.next(), Some(now + 2 * SECOND));
    }

    #[test]
    fn backoff_doubles_up_to_its_limit_and_never_overflows() {
        let delays: Vec<u64> =
            [1, 2, 3, 7, 40, u32::MAX].map(|n| backoff(n, SECOND, 60 * SECOND).as_secs()).into();
        assert_eq!(delays, [1, 2, 4, 60, 60, 60]);
    }

    #[test]
    fn an_exponential_delay_has_its_mean_no_memory_and_an_end() {
        let mut rng = rand::rngs::StdRng::seed_from_u64(1);
        let mut delays: Vec<f64> =
            (0..4000).map(|_| exponential(100 * SECOND, &mut rng).as_secs_f64()).collect();
        let mean = delays.iter().sum::<f64>() / 4000.0;
        assert!((95.0..105.0).contains(&mean), "{mean}");
        delays.sort_by(f64::total_cmp);
        assert!((delays[2000] - 79.7).abs() < 5.0, "the median: {}", delays[2000]);
        assert!(delays[3999] <= 300.0);
        let last = delays.iter().filter(|delay| **delay > 299.0).count();
        assert!(last < 20, "none is heaped up at the end: {last}");
    }

    #[test]
    fn a_stretched_delay_is_never_shorter_and_at_most_half_longer() {
        let mut rng = rand::rngs::StdRng::seed_from_u64(1);
        for _ in 0..200 {
            let delay = stretched(10 * SECOND, &mut rng);
            assert!((10 * SECOND..=15 * SECOND).contains(&delay));
        }
    }

    #[test]
    fn an_allowance_gives_its_burst_then_one_per_interval() {
        let now = start();
        let mut allowance = Allowance::new(3, 10 * SECOND);
        let mut taken = 0;
        for tenth in 0..1000 {
            let at = now + Duration::from_millis(100 * tenth);
            if allowance.permits(&mut Alarm::new(at)) {
                allowance.take(at);
                taken += 1;
            }
            if tenth == 0 {
                assert!(allowance.permits(&mut Alarm::new(at)));
            }
        }
        // 3 at once, then one every 10 s of the 99.9 s.
        assert_eq!(taken, 3 + 9);
    }

    #[test]
    fn an_exhausted_allowance_says_when_it_permits_again() {
        let now = start();
        let mut allowance = Allowance::new(2, 10 * SECOND);
        allowance.take(now);
        allowance.take(now);
        let mut alarm = Alarm::new(now + SECOND);
        assert!(!allowance.permits(&mut alarm));
        assert_eq!(alarm.next(), Some(now + 10 * SECOND));
    }
}

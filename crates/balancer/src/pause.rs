//! Notices that the machine has slept.
//!
//! While a machine is suspended, or a virtual one paused, the monotonic clock
//! stands still: what we wait for comes late, and what looks new to us is old
//! to everybody else. Once it goes on, the wall clock tells. One that was
//! merely set forward looks the same and costs a little work that was not
//! needed. Called by the balancer before anything else.

use std::time::Duration;

use super::fact::Now;
use super::schedule::Alarm;

/// By how much the wall clock must have gone further: clocks are set right by
/// seconds and minutes, and that little harms nothing.
const PAUSE: Duration = Duration::from_secs(10 * 60);
/// How often the clocks are compared at least: no timer of ours rings because
/// the machine goes on.
const OFTEN: Duration = Duration::from_secs(60);

/// The two clocks, side by side.
#[derive(Debug, Default)]
pub(super) struct Clocks {
    /// When they were last known to agree: not the last look, so that many
    /// short pauses add up to a long one.
    agreed: Option<Now>,
}

impl Clocks {
    /// For how long the machine has slept, if for long since this was told last.
    pub(super) fn slept(&mut self, now: Now) -> Option<Duration> {
        let agreed = self.agreed.get_or_insert(now);
        let awake = now.monotonic.duration_since(agreed.monotonic);
        let passed = now.wall.duration_since(agreed.wall).ok();
        match passed.and_then(|passed| passed.checked_sub(awake)) {
            Some(slept) if slept < PAUSE => None,
            slept => {
                // A clock that was set back: they agree on that from now on.
                *agreed = now;
                slept
            }
        }
    }

    /// Has them compared again.
    pub(super) fn look_again(alarm: &mut Alarm) {
        alarm.reached(alarm.now() + OFTEN);
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{MINUTE, SECOND, later, start};
    use super::*;

    fn clocks() -> (Clocks, Now) {
        let (mut clocks, now) = (Clocks::default(), start());
        assert_eq!(clocks.slept(now), None);
        (clocks, now)
    }

    #[test]
    fn a_pause_is_told_once_and_passing_time_is_none() {
        let (mut clocks, mut now) = clocks();
        now = later(now, 100 * PAUSE);
        assert_eq!(clocks.slept(now), None);
        now = later(now, MINUTE);
        now.wall += 5 * PAUSE;
        assert_eq!(clocks.slept(now), Some(5 * PAUSE));
        assert_eq!(clocks.slept(now), None);
    }

    #[test]
    fn short_pauses_add_up() {
        let (mut clocks, mut now) = clocks();
        let mut told = Vec::new();
        for n in 1..=20 {
            now = later(now, SECOND);
            now.wall += PAUSE / 10;
            told.extend(clocks.slept(now).map(|slept| (n, slept)));
        }
        assert_eq!(told, [(10, PAUSE), (20, PAUSE)]);
    }

    #[test]
    fn a_clock_that_was_set_back_hides_no_pause_after_it() {
        let (mut clocks, mut now) = clocks();
        now.wall -= 5 * PAUSE;
        assert_eq!(clocks.slept(now), None);
        now.wall += 2 * PAUSE;
        assert_eq!(clocks.slept(now), Some(2 * PAUSE));
    }
}

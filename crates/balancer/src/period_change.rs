//! Spreads what follows a change of the time period: when the backends are looked
//! for in the new one, and for how long what they have there is waited for.
//!
//! All services of the network change periods in the same second, and nothing is
//! urgent then: C tor answers at the points of the old period for half a period
//! more (rend-spec-v3, section 2.2.4). So the look comes at a moment of chance, and
//! one round follows it. Called by [`publish`](super::publish).

use std::time::{Duration, Instant};

use rand::Rng;

use super::schedule::{Alarm, between};
use crate::onion::Period;

/// How long after the change the backends are looked for at the latest: as long as
/// a backend may go without a look at other times.
const LOOK: Duration = Duration::from_secs(20 * 60);
/// In short periods that is such a part of them.
const PART_OF_PERIOD: u32 = 72;

/// How long after the look nothing is uploaded, if not all backends have been found
/// before: each has other points there, and HSDirs get one descriptor from an
/// ordinary service then.
const GATHER: Duration = Duration::from_secs(90);
/// In short periods that is such a part of them.
const GATHER_PART: u32 = 24;

/// How far a change of the period has come.
#[derive(Debug, Default)]
pub(super) enum PeriodChange {
    #[default]
    None,
    /// The backends are to be looked for then, or as soon as one has been found by
    /// chance.
    Expected { look_at: Instant, period: Period },
    /// They are being looked for, and waited for until then at most.
    Gathering { until: Instant },
}

impl PeriodChange {
    /// The period has changed to this one.
    pub(super) fn begin(&mut self, period: Period, now: Instant, rng: &mut impl Rng) {
        let latest = LOOK.min(period.part(PART_OF_PERIOD));
        *self = Self::Expected { look_at: now + between(Duration::ZERO, latest, rng), period };
    }

    /// Whether to look for the backends now, given once for each change. `found`: one
    /// of them has been found in the new period already.
    pub(super) fn look_due(&mut self, found: bool, alarm: &mut Alarm) -> bool {
        let Self::Expected { look_at, period } = *self else { return false };
        let due = alarm.reached(look_at) || found;
        if due {
            let until = alarm.now() + GATHER.min(period.part(GATHER_PART));
            *self = Self::Gathering { until };
        }
        due
    }

    pub(super) fn is_gathering(&self) -> bool {
        matches!(self, Self::Gathering { .. })
    }

    /// Whether gathering ends now, since it is `done` or has lasted long enough.
    pub(super) fn gathered(&mut self, done: bool, alarm: &mut Alarm) -> bool {
        let Self::Gathering { until } = *self else { return false };
        let ends = done || alarm.reached(until);
        if ends {
            *self = Self::None;
        }
        ends
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{MINUTE, period, rng, start};
    use super::*;

    /// When the look of a change that began at the start is due, and the change then.
    fn looked(rng: &mut impl Rng) -> (Duration, PeriodChange) {
        let now = start().monotonic;
        let mut change = PeriodChange::default();
        change.begin(period(2), now, rng);
        let mut alarm = Alarm::new(now);
        assert!(!change.look_due(false, &mut alarm) && !change.is_gathering());
        let at = alarm.next().unwrap();
        assert!(change.look_due(false, &mut Alarm::new(at)));
        assert!(!change.look_due(true, &mut Alarm::new(at)), "it is given once");
        (at - now, change)
    }

    #[test]
    fn the_look_after_a_change_comes_at_any_moment_of_twenty_minutes() {
        let mut rng = rng();
        let looks: Vec<_> = (0..400).map(|_| looked(&mut rng).0).collect();
        assert!(looks.iter().all(|at| *at <= 20 * MINUTE));
        let early = looks.iter().filter(|at| **at < 5 * MINUTE).count();
        assert!((70..130).contains(&early), "{early} of 400 in the first quarter");
    }

    #[test]
    fn one_backend_that_is_found_by_chance_begins_it_and_gathering_has_an_end() {
        let now = start().monotonic;
        let mut change = PeriodChange::default();
        change.begin(period(2), now, &mut rng());
        assert!(!change.gathered(true, &mut Alarm::new(now)));
        assert!(change.look_due(true, &mut Alarm::new(now)) && change.is_gathering());
        let mut alarm = Alarm::new(now);
        assert!(!change.gathered(false, &mut alarm));
        assert_eq!(alarm.next(), Some(now + GATHER));
        assert!(change.gathered(false, &mut Alarm::new(now + GATHER)));
        assert!(!change.is_gathering());
    }
}

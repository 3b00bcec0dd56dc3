//! When to dial again where there is no control link.
//!
//! At short intervals at first, for most links are lost for a moment; a backend that
//! stays away is dialled ever less often, since it may never come back. Whatever shows
//! that it lives ends that: a report, or a newer descriptor at the HSDirs.

use std::time::{Duration, Instant};

use super::super::schedule::backoff;
use super::super::settings::LinkPolicy;

/// After so long one that was met and has no link for us is asked again ...
const NOT_OFFERED: Duration = Duration::from_secs(24 * 60 * 60);
/// ... unless it should have one: then in steps from here ...
const MISSING_FIRST: Duration = Duration::from_secs(30);
/// ... to here.
const MISSING_MOST: Duration = Duration::from_secs(10 * 60);
/// The delay after the first dial that failed, where there was a link before ...
const REDIAL_FIRST: Duration = Duration::from_secs(2);
/// ... and at most: a backend that was restarted with the points that it had is
/// found by this alone.
const REDIAL_MOST: Duration = Duration::from_secs(60);
/// The same where there was none: the backend is likely no better reached by its
/// clients, which probes and fetches look after.
const UNMET_FIRST: Duration = Duration::from_secs(60);
/// See [`UNMET_FIRST`].
const UNMET_MOST: Duration = Duration::from_secs(60 * 60);
/// A backend that stays away is dialled again after this part of the time that it has
/// been away already, if that is longer, ...
const PART_OF_ABSENCE: u32 = 4;
/// ... and at least this often: a decommissioned backend costs next to nothing.
const LONG_AWAY_MOST: Duration = Duration::from_secs(24 * 60 * 60);
/// The same where the cause is on our side of the network, which says nothing of the
/// backend.
const UNKNOWN_MOST: Duration = Duration::from_secs(60 * 60);

/// What a dial came to that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DialOutcome {
    /// The backend is alive and has no link for us.
    NotOffered,
    /// Our own side of the network is in trouble.
    Unknown,
    /// Nobody was met.
    Away,
}

/// The dials that have failed in a row.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Absence {
    failures: u32,
    /// Since the first of them.
    since: Option<Instant>,
    /// What the last one came to.
    outcome: Option<DialOutcome>,
}

impl Absence {
    /// One more dial has failed.
    pub(super) fn failed(&mut self, outcome: DialOutcome, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        self.since.get_or_insert(now);
        self.outcome = Some(outcome);
    }

    /// How long after the last one the next dial follows. `speaks`: there was a link
    /// since the start.
    pub(super) fn delay(&self, speaks: bool, wanted: LinkPolicy, now: Instant) -> Duration {
        let outcome = self.outcome.unwrap_or(DialOutcome::Unknown);
        let expected = speaks || wanted == LinkPolicy::Always;
        let (first, most) = match outcome {
            DialOutcome::NotOffered if !expected => return NOT_OFFERED,
            DialOutcome::NotOffered => (MISSING_FIRST, MISSING_MOST),
            _ if speaks => (REDIAL_FIRST, REDIAL_MOST),
            _ => (UNMET_FIRST, UNMET_MOST),
        };
        let soon = backoff(self.failures, first, most);
        let rarest = match outcome {
            // The operator says that it has one.
            DialOutcome::NotOffered if wanted == LinkPolicy::Always => return soon,
            DialOutcome::NotOffered | DialOutcome::Away => LONG_AWAY_MOST,
            DialOutcome::Unknown => UNKNOWN_MOST,
        };
        let away = self.since.map_or(Duration::ZERO, |since| now.duration_since(since));
        soon.max((away / PART_OF_ABSENCE).min(rarest))
    }

    /// A fetch has brought the backend's own descriptor, a newer one than before or the
    /// same: whether that is a reason to dial now. HSDirs can be reached, and one that
    /// has published since the last dial is alive.
    pub(super) fn is_over(&mut self, is_newer: bool) -> bool {
        let is_over = match self.outcome {
            Some(DialOutcome::Away) => is_newer,
            Some(DialOutcome::Unknown) => true,
            // It was met.
            Some(DialOutcome::NotOffered) | None => false,
        };
        if is_over && is_newer {
            *self = Self { outcome: self.outcome, ..Self::default() };
        }
        is_over
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::start;

    const MINUTE: Duration = Duration::from_secs(60);
    const HOUR: Duration = Duration::from_secs(60 * 60);
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    /// The moments of the dials within so long, the first at 0.
    fn dials(
        outcome: DialOutcome,
        speaks: bool,
        wanted: LinkPolicy,
        within: Duration,
    ) -> Vec<Duration> {
        let (mut absence, began) = (Absence::default(), start().monotonic);
        let (mut dials, mut at) = (Vec::new(), Duration::ZERO);
        while at < within {
            dials.push(at);
            absence.failed(outcome, began + at);
            at += absence.delay(speaks, wanted, began + at);
        }
        dials
    }

    #[test]
    fn one_that_stays_away_is_dialled_often_for_minutes_and_daily_in_the_end() {
        let dials = dials(DialOutcome::Away, true, LinkPolicy::Auto, 60 * DAY);
        let within = |time| dials.iter().filter(|at| **at < time).count();
        assert!(within(5 * MINUTE) >= 8, "{}", within(5 * MINUTE));
        // After an hour it is found within a quarter of one.
        let gap = |after| {
            let later = dials.iter().position(|at| *at > after).unwrap();
            dials[later] - dials[later - 1]
        };
        assert!(gap(HOUR) <= 15 * MINUTE && gap(DAY) <= 6 * HOUR);
        assert_eq!(gap(30 * DAY), DAY);
        assert!(dials.len() < 110, "{}", dials.len());
    }

    #[test]
    fn one_that_has_given_up_its_link_is_asked_ever_less_often_unless_it_should_have_one() {
        let asked = |speaks, wanted| dials(DialOutcome::NotOffered, speaks, wanted, 30 * DAY).len();
        assert_eq!(asked(false, LinkPolicy::Auto), 30);
        assert!(asked(true, LinkPolicy::Auto) < 70, "{}", asked(true, LinkPolicy::Auto));
        assert!(asked(true, LinkPolicy::Always) > 4000);
    }

    #[test]
    fn trouble_of_our_own_makes_nobody_wait_for_more_than_an_hour() {
        let dials = dials(DialOutcome::Unknown, true, LinkPolicy::Auto, 10 * DAY);
        assert!(dials.windows(2).all(|two| two[1] - two[0] <= HOUR));
        assert!(dials.len() < 280, "{}", dials.len());
    }

    #[test]
    fn a_newer_descriptor_ends_an_absence_and_any_one_the_doubt_whether_hsdirs_are_reached() {
        let now = start().monotonic;
        let after = |outcome, is_newer| {
            let mut absence = Absence::default();
            absence.failed(outcome, now);
            absence.is_over(is_newer)
        };
        assert!(after(DialOutcome::Away, true) && !after(DialOutcome::Away, false));
        assert!(after(DialOutcome::Unknown, true) && after(DialOutcome::Unknown, false));
        assert!(!after(DialOutcome::NotOffered, true) && !Absence::default().is_over(true));
        let mut absence = Absence::default();
        (0..40).for_each(|n| absence.failed(DialOutcome::Away, now + n * HOUR));
        assert_eq!(absence.delay(true, LinkPolicy::Auto, now + 40 * HOUR), 10 * HOUR);
        assert!(absence.is_over(true));
        absence.failed(DialOutcome::Away, now + 41 * HOUR);
        assert_eq!(absence.delay(true, LinkPolicy::Auto, now + 41 * HOUR), REDIAL_FIRST);
    }
}

//! For how long can a publisher publish that has keys for some time periods and not
//! the identity key (`identity_bundle`)?
//!
//! Pure: which periods there are keys for, and what follows from that.

use std::collections::BTreeSet;
use std::fmt;
use std::time::SystemTime;

use crate::onion::Period;
use crate::timestamp::Timestamp;

/// From so many periods on that are left, the operator is warned.
pub const WARN_FROM: usize = 7;

/// What to do about it.
const EXPORT: &str = "make more with `onionbraid keys export-periods` where the identity key is, \
                      and put them beside these";

/// The time periods for which there are keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BundlePeriods(BTreeSet<Period>);

/// How far the keys reach, from one period on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coverage {
    /// There are keys for this period and those that follow.
    Left {
        /// For so many, this one included, without a gap.
        periods: usize,
        /// When the last of them ends.
        until: SystemTime,
        /// When the next period with keys begins that comes after a gap.
        again: Option<SystemTime>,
    },
    /// There are none for this period, and some for later ones.
    Gap {
        /// Whether there were keys for earlier ones.
        before: bool,
        /// When the next period with keys begins.
        again: SystemTime,
    },
    /// The last period with keys is over.
    Ended(SystemTime),
    /// All of them are for periods of another length: the network has changed it.
    OtherPeriods {
        /// The length of those for which there are keys, in minutes.
        made_for: u32,
        /// The length of the network's, in minutes.
        network: u32,
    },
    /// There are no keys at all.
    Nothing,
}

impl FromIterator<Period> for BundlePeriods {
    fn from_iter<T: IntoIterator<Item = Period>>(periods: T) -> Self {
        Self(periods.into_iter().collect())
    }
}

impl BundlePeriods {
    /// Whether there are keys for this one.
    pub fn covers(&self, period: &Period) -> bool {
        self.0.contains(period)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// How far they reach from the network's current period on.
    pub fn from(&self, current: Period) -> Coverage {
        let alike = |it: &&Period| {
            (it.length_minutes, it.offset_seconds)
                == (current.length_minutes, current.offset_seconds)
        };
        let Some(last) = self.0.iter().rfind(alike) else {
            return self.0.last().map_or(Coverage::Nothing, |other| Coverage::OtherPeriods {
                made_for: other.length_minutes,
                network: current.length_minutes,
            });
        };
        let following = std::iter::successors(Some(current), |period| period.next());
        let left: Vec<Period> = following.take_while(|period| self.covers(period)).collect();
        let reached = left.last().copied().unwrap_or(current);
        let again = self.0.iter().filter(alike).find(|it| it.number > reached.number);
        let again = again.map(|period| period.begins());
        match (left.len(), again) {
            (0, Some(again)) => {
                let before = self.0.iter().filter(alike).any(|it| it.number < current.number);
                Coverage::Gap { before, again }
            }
            (0, None) => Coverage::Ended(last.ends()),
            (periods, again) => Coverage::Left { periods, until: reached.ends(), again },
        }
    }

    /// How far they reach from this moment on, if the network's periods are like these.
    pub fn at(&self, moment: SystemTime) -> Coverage {
        match self.0.iter().max_by_key(|period| period.ends()) {
            Some(last) => self.from(last.at(moment)),
            None => Coverage::Nothing,
        }
    }
}

impl Coverage {
    /// So many periods can be published from now on.
    pub fn left(self) -> usize {
        match self {
            Self::Left { periods, .. } => periods,
            _ => 0,
        }
    }

    /// What the operator should know, if there is something.
    pub fn problem(self) -> Option<String> {
        match self {
            Self::Left { periods, .. } if periods > WARN_FROM => None,
            it => Some(it.to_string()),
        }
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let moment = |it: &SystemTime| Timestamp(*it);
        match self {
            Self::Left { periods, until, again } => {
                match periods {
                    1 => write!(f, "identity_bundle: this is the last time period with keys")?,
                    more => write!(f, "identity_bundle: keys for {more} time periods are left")?,
                }
                write!(f, "; after {} nothing is published", moment(until))?;
                if let Some(again) = again {
                    write!(f, " until {}, for which there are keys again", moment(again))?;
                }
                if *periods <= WARN_FROM { write!(f, ": {EXPORT}") } else { Ok(()) }
            }
            Self::Gap { before: true, again } => write!(
                f,
                "identity_bundle: there are no keys for the current time period, so nothing is \
                 published until {}, for which there are some again: {EXPORT}",
                moment(again)
            ),
            Self::Gap { before: false, again } => write!(
                f,
                "identity_bundle: the first time period with keys begins at {}, and nothing is \
                 published before",
                moment(again)
            ),
            Self::Ended(at) => write!(
                f,
                "identity_bundle: the last time period with keys ended at {}: nothing is published \
                 any more, and HSDirs drop the last descriptor; {EXPORT}",
                moment(at)
            ),
            Self::OtherPeriods { made_for, network } => write!(
                f,
                "identity_bundle: its keys are for time periods of {made_for} minutes (or another \
                 beginning), and those of the network have {network}: nothing is published; make \
                 keys for these"
            ),
            Self::Nothing => {
                write!(f, "identity_bundle: it has no keys of any time period: {EXPORT}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn period(number: u64) -> Period {
        Period { number, length_minutes: 1440, offset_seconds: 43_200 }
    }

    fn periods(numbers: impl IntoIterator<Item = u64>) -> BundlePeriods {
        numbers.into_iter().map(period).collect()
    }

    #[test]
    fn periods_are_counted_down_to_the_end_and_the_last_seven_are_warned_of() {
        let bundle = periods(100..=110);
        let end = period(110).ends();
        for (current, left) in (100..=110).zip((1..=11).rev()) {
            let coverage = bundle.from(period(current));
            assert_eq!(coverage, Coverage::Left { periods: left, until: end, again: None });
            assert_eq!(coverage.problem().is_some(), left <= 7, "{left}");
        }
        assert_eq!(bundle.from(period(111)), Coverage::Ended(end));
        assert!(
            bundle.from(period(111)).problem().unwrap().contains("nothing is published any more")
        );
        let first = Coverage::Gap { before: false, again: period(100).begins() };
        assert_eq!(bundle.from(period(99)), first);
    }

    #[test]
    fn a_gap_ends_what_is_left_and_is_told_of() {
        let bundle = periods([100, 101, 104]);
        let again = period(104).begins();
        let left = Coverage::Left { periods: 2, until: period(101).ends(), again: Some(again) };
        assert_eq!(bundle.from(period(100)), left);
        assert_eq!(bundle.from(period(102)), Coverage::Gap { before: true, again });
        assert_eq!(bundle.from(period(102)).left(), 0);
    }

    #[test]
    fn periods_of_another_length_are_other_periods() {
        let bundle = periods([100]);
        let current = Period { length_minutes: 60, ..period(100) };
        let other = Coverage::OtherPeriods { made_for: 1440, network: 60 };
        assert_eq!(bundle.from(current), other);
        assert_eq!(periods([]).from(current), Coverage::Nothing);
        let both: BundlePeriods = [period(100), current].into_iter().collect();
        assert_eq!(both.from(current).left(), 1);
        assert_eq!(both.from(period(100)).left(), 1);
    }

    #[test]
    fn a_moment_has_one_period() {
        // 11:00 on 2016-04-13: the example of rend-spec-v3, section 2.2.1.
        let moment = UNIX_EPOCH + Duration::from_secs(1_460_545_200);
        assert_eq!(period(0).at(moment).number, 16_903);
        let begins = period(16_903).begins();
        assert_eq!(begins, UNIX_EPOCH + Duration::from_secs(16_903 * 86_400 + 43_200));
        assert_eq!(period(0).at(begins), period(16_903));
        assert_eq!(period(0).at(begins - Duration::from_secs(1)), period(16_902));
        let bundle = periods([16_903]);
        assert_eq!(bundle.at(moment).left(), 1);
        assert_eq!(bundle.at(period(16_903).ends()), Coverage::Ended(period(16_903).ends()));
    }
}

//! How many points a backend keeps in the descriptor that reports being full.
//!
//! A backend's share of the clients is its share of the points, so one that has as many
//! clients as it can bear gives up points, one at a time and never the last: clients that
//! have found them before still come. It gets them back one at a time, more slowly. So a
//! backend that changes its word all the time changes little.

use std::time::{Duration, Instant};

use super::schedule::Alarm;

/// A backend that is full for so long gives up a point, and another one after the same
/// time again.
const GIVES_UP_AFTER: Duration = Duration::from_secs(2 * 60);
/// One that is not gets a point back after this.
const TAKES_BACK_AFTER: Duration = Duration::from_secs(10 * 60);

/// How many points one backend keeps.
#[derive(Debug, Default)]
pub(super) struct Fullness {
    /// `None`: all.
    limit: Option<usize>,
    is_full: bool,
    /// When that began, or the last point went or came.
    since: Option<Instant>,
}

impl Fullness {
    /// Whether it is full by its own word, while there are others who could have its
    /// clients, and how many points it offers.
    pub(super) fn update(&mut self, is_full: bool, offered: usize, alarm: &mut Alarm) {
        if self.is_full != is_full {
            (self.is_full, self.since) = (is_full, Some(alarm.now()));
        }
        let Some(since) = self.since else { return };
        if self.limit.is_none() && !is_full {
            self.since = None;
            return;
        }
        let after = if is_full { GIVES_UP_AFTER } else { TAKES_BACK_AFTER };
        if !alarm.reached(since + after) {
            return;
        }
        let now = self.limit.unwrap_or(offered).min(offered);
        let next = if is_full { now.saturating_sub(1).max(1) } else { now + 1 };
        self.limit = Some(next).filter(|limit| is_full || *limit < offered);
        self.since = Some(alarm.now());
        // The alarm rings for the next one.
        alarm.reached(alarm.now() + after);
    }

    /// How many of its points may be listed.
    pub(super) fn limit(&self) -> usize {
        self.limit.unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{MINUTE, start};

    /// What it keeps of six points after each minute, as it `is_full` in each.
    fn kept(is_full: impl Fn(u32) -> bool, minutes: u32) -> Vec<usize> {
        let (now, mut fullness) = (start().monotonic, Fullness::default());
        let kept = (0..minutes).map(|minute| {
            fullness.update(is_full(minute), 6, &mut Alarm::new(now + minute * MINUTE));
            fullness.limit().min(6)
        });
        kept.collect()
    }

    #[test]
    fn one_that_is_full_keeps_ever_fewer_points_but_one_and_gets_them_back_slowly() {
        let kept = kept(|minute| minute < 20, 80);
        assert_eq!(kept[..13], [6, 6, 5, 5, 4, 4, 3, 3, 2, 2, 1, 1, 1]);
        assert_eq!(kept[19..31], [1; 11].into_iter().chain([2]).collect::<Vec<_>>());
        assert_eq!((kept[69], kept[79]), (5, 6));
        assert!(kept.windows(2).all(|two| two[0].abs_diff(two[1]) <= 1));
    }

    #[test]
    fn one_that_changes_its_word_every_minute_keeps_all_of_its_points() {
        assert!(kept(|minute| minute % 2 == 0, 60).iter().all(|kept| *kept == 6));
    }

    #[test]
    fn nobody_gives_up_the_last_point_or_wakes_anybody_for_nothing() {
        let (now, mut fullness) = (start().monotonic, Fullness::default());
        for hour in 0..10 {
            fullness.update(true, 1, &mut Alarm::new(now + hour * 60 * MINUTE));
            assert_eq!(fullness.limit().min(1), 1);
        }
        let mut alarm = Alarm::new(now);
        Fullness::default().update(false, 3, &mut alarm);
        assert_eq!(alarm.next(), None);
    }
}

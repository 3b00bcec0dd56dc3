//! When what could not be put into force is tried again although no file has changed, and
//! how often the log says so. Pure.
//!
//! A failure may have causes that no file shows: a lack of file handles, a key elsewhere, the
//! mode of a directory further up.

use std::time::{Duration, Instant};

use crate::throttle::Throttle;

/// The delay after the first failure; doubled with each further one.
const RETRY_FIRST: Duration = Duration::from_secs(5);
/// The longest delay.
const RETRY_MOST: Duration = Duration::from_secs(60);
/// The log is told of failures no more often, whatever else writes the files.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// The tries to put what some files say into force.
#[derive(Debug)]
pub(super) struct FileTries {
    /// In a row, up to now.
    failures: u32,
    /// What was wrong the last time ...
    last: Option<String>,
    /// ... and what the log has said of it.
    logged: Option<String>,
    throttle: Throttle,
}

/// What follows from a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileFailure {
    /// When to try again.
    pub(super) again_at: Instant,
    /// Whether the log should say it: once for each problem.
    pub(super) is_news: bool,
}

impl Default for FileTries {
    fn default() -> Self {
        Self { failures: 0, last: None, logged: None, throttle: Throttle::new(LOG_EVERY) }
    }
}

impl FileTries {
    /// All of it is in force.
    pub(super) fn succeeded(&mut self) {
        (self.failures, self.last, self.logged) = (0, None, None);
    }

    /// Something of it is not, because of this.
    pub(super) fn failed(&mut self, problem: &str, now: Instant) -> FileFailure {
        if self.last.as_deref() != Some(problem) {
            // It may have another cause, which may pass sooner.
            (self.failures, self.last) = (0, Some(problem.to_owned()));
        }
        let doubled = RETRY_FIRST.saturating_mul(1 << self.failures.min(8));
        self.failures += 1;
        let is_new = self.logged.as_deref() != Some(problem);
        let is_news = is_new && self.throttle.permits(now).is_some();
        if is_news {
            self.logged = Some(problem.to_owned());
        }
        FileFailure { again_at: now + doubled.min(RETRY_MOST), is_news }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_tried_again_soon_then_every_minute_and_logged_once() {
        let mut tries = FileTries::default();
        let mut now = crate::clock::now().monotonic;
        for round in 0..3 {
            for (n, seconds) in [5, 10, 20, 40, 60, 60].into_iter().enumerate() {
                let failure = tries.failed("the same", now);
                assert_eq!(failure.again_at - now, Duration::from_secs(seconds));
                assert_eq!(failure.is_news, n == 0, "round {round}");
                now = failure.again_at;
            }
            tries.succeeded();
        }
    }

    #[test]
    fn another_problem_is_news_a_minute_after_the_last_one_that_was() {
        let mut tries = FileTries::default();
        let now = crate::clock::now().monotonic;
        assert!(tries.failed("one", now).is_news);
        assert!(!tries.failed("two", now + Duration::from_secs(5)).is_news);
        let again = tries.failed("two", now + LOG_EVERY);
        assert!(again.is_news && again.again_at == now + LOG_EVERY + 2 * RETRY_FIRST);
        assert!(!tries.failed("two", now + 3 * LOG_EVERY).is_news);
    }
}

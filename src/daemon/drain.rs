//! When is a local instance that is taken out of use told to finish, and when
//! is it not waited for any more?
//!
//! Pure. First its points leave what clients find, then those who found them
//! before have a while to come (`grace`), then it takes nobody new and what is
//! open may come to its end, and all that within a limit.

use std::time::{Duration, Instant};

use crate::config::Shutdown;

/// One instance, or all of a service, on the way out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Drain {
    /// How long things may take.
    times: Shutdown,
    /// When whatever is left is dropped.
    by: Instant,
    /// When to finish, once clients no longer find the points.
    finish_at: Option<Instant>,
    /// Whether it was told to finish.
    finishing: bool,
    /// Whether there is no grace.
    without_grace: bool,
}

/// Who is on the way out may be held by a publisher that still lists its points.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct HeldByPublishers {
    /// The last report that was not released, and since when.
    by: Option<(u64, Instant)>,
}

/// How long a publisher may hold it: as long as an upload to every HSDir takes, and
/// less than an end may take. That its link is up does not prove that it works.
const RELEASED_WITHIN: Duration = Duration::from_secs(15);

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DrainStep {
    /// Wait until this moment, or until something has happened.
    Wait(Instant),
    /// Tell it to finish: it takes nobody new. Said once.
    Finish,
    /// Drop it, with whatever is open.
    Drop,
}

impl HeldByPublishers {
    /// Whether nobody holds it any more, and until when somebody may. `report` is the
    /// number of the report that not every publisher has released.
    pub(super) fn released(
        &mut self,
        report: Option<u64>,
        now: Instant,
    ) -> (bool, Option<Instant>) {
        let since = self.by.filter(|(held, _)| Some(*held) == report).map_or(now, |it| it.1);
        self.by = report.map(|report| (report, since));
        let until = self.by.map(|_| since + RELEASED_WITHIN).filter(|until| now < *until);
        (until.is_none(), until)
    }
}

impl Drain {
    /// From now on.
    pub(super) fn begin(times: Shutdown, now: Instant) -> Self {
        Self {
            times,
            by: now + times.limit,
            finish_at: None,
            finishing: false,
            without_grace: false,
        }
    }

    /// The same without a grace: clients never found the points, or there is
    /// nowhere else that they could go.
    pub(super) fn begin_without_grace(times: Shutdown, now: Instant) -> Self {
        Self { finish_at: Some(now), without_grace: true, ..Self::begin(times, now) }
    }

    /// There is nowhere else that clients could go, as has turned out.
    pub(super) fn forgo_grace(&mut self, now: Instant) {
        self.finish_at = Some(self.finish_at.map_or(now, |at| at.min(now)));
        self.without_grace = true;
    }

    /// Whether it goes without one.
    pub(super) fn is_without_grace(&self) -> bool {
        self.without_grace
    }

    /// Looks again; `out`: no HSDir that clients ask has the points any more.
    pub(super) fn step(&mut self, out: bool, now: Instant) -> DrainStep {
        if now >= self.by {
            return DrainStep::Drop;
        }
        if out && self.finish_at.is_none() {
            self.finish_at = Some(now + self.times.grace);
        }
        match self.finish_at {
            Some(at) if now >= at && !self.finishing => {
                self.finishing = true;
                DrainStep::Finish
            }
            Some(at) if !self.finishing => DrainStep::Wait(at.min(self.by)),
            _ => DrainStep::Wait(self.by),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::now;

    const SECOND: Duration = Duration::from_secs(1);
    const TIMES: Shutdown =
        Shutdown { grace: Duration::from_secs(10), limit: Duration::from_secs(30) };

    #[test]
    fn a_publisher_that_answers_nothing_holds_each_report_for_a_while() {
        let (start, mut held) = (now().monotonic, HeldByPublishers::default());
        assert_eq!(held.released(None, start), (true, None));
        let until = start + RELEASED_WITHIN;
        assert_eq!(held.released(Some(1), start), (false, Some(until)));
        assert_eq!(held.released(Some(1), until - SECOND), (false, Some(until)));
        assert_eq!(held.released(Some(1), until), (true, None));
        assert_eq!(held.released(Some(2), until), (false, Some(until + RELEASED_WITHIN)));
        assert_eq!(held.released(None, until), (true, None));
    }

    #[test]
    fn the_grace_begins_when_clients_no_longer_find_the_points() {
        let start = now().monotonic;
        let mut drain = Drain::begin(TIMES, start);
        let end = start + 30 * SECOND;
        assert_eq!(drain.step(false, start), DrainStep::Wait(end));
        assert_eq!(drain.step(true, start + 5 * SECOND), DrainStep::Wait(start + 15 * SECOND));
        // What is published meanwhile begins no second grace.
        assert_eq!(drain.step(true, start + 9 * SECOND), DrainStep::Wait(start + 15 * SECOND));
        assert_eq!(drain.step(true, start + 15 * SECOND), DrainStep::Finish);
        assert_eq!(drain.step(true, start + 15 * SECOND), DrainStep::Wait(end));
        assert_eq!(drain.step(true, end), DrainStep::Drop);
    }

    #[test]
    fn points_that_never_leave_and_a_long_grace_end_at_the_limit() {
        let start = now().monotonic;
        let mut drain = Drain::begin(TIMES, start);
        assert_eq!(drain.step(false, start + 29 * SECOND), DrainStep::Wait(start + 30 * SECOND));
        assert_eq!(drain.step(true, start + 29 * SECOND), DrainStep::Wait(start + 30 * SECOND));
        assert_eq!(drain.step(true, start + 30 * SECOND), DrainStep::Drop);
    }

    #[test]
    fn a_grace_that_turns_out_to_be_for_nothing_ends() {
        let start = now().monotonic;
        let mut drain = Drain::begin(TIMES, start);
        assert_eq!(drain.step(true, start + SECOND), DrainStep::Wait(start + 11 * SECOND));
        drain.forgo_grace(start + 2 * SECOND);
        assert!(drain.is_without_grace());
        assert_eq!(drain.step(false, start + 2 * SECOND), DrainStep::Finish);
    }

    #[test]
    fn where_there_is_nothing_to_wait_for_it_finishes_at_once() {
        let start = now().monotonic;
        let mut drain = Drain::begin_without_grace(TIMES, start);
        assert_eq!(drain.step(false, start), DrainStep::Finish);
        assert_eq!(drain.step(false, start), DrainStep::Wait(start + 30 * SECOND));
    }
}

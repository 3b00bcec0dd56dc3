//! How much work does the descriptor ask of clients?
//!
//! C tor's loop (`update_suggested_effort`), changed where a simulation showed
//! something better: more when those who did what was asked make a queue or were
//! dropped, less when there is no queue and room for more.
//! `docs/decisions/0010-proof-of-work.md` lists the changes, why, and figures.

use std::time::{Duration, Instant};

use super::puzzle::Effort;

/// How often raising is decided. C tor: 300 s (`HS_UPDATE_PERIOD`).
pub(super) const PERIOD: Duration = Duration::from_secs(60);

/// So many periods without a queue make one step down: C tor's 300 s.
const CALM: u32 = 5;

/// The suggested effort, and what it is decided by.
#[derive(Debug)]
pub struct SuggestedEffort {
    suggested: Effort,
    /// The most to ask for.
    most: Effort,
    /// The least to ask for while anything is asked: what costs less counts for
    /// nothing.
    floor: Effort,
    /// What happened in this period.
    seen: EffortSeen,
    /// The greatest effort that was dropped in the period before.
    trimmed_before: Effort,
    /// Periods without a queue, up to now.
    calm: u32,
    /// Steps down since there was a queue.
    steps: u32,
    next: Option<Instant>,
}

#[derive(Debug, Default)]
struct EffortSeen {
    /// The effort of all introductions that were received, dropped ones too.
    received: u64,
    /// How many were received.
    came: u64,
    /// How many were acted upon.
    handled: u64,
    /// The greatest effort of those that were dropped unmet.
    trimmed: Effort,
    /// Whether those who did what was asked made a queue worth the name.
    queue: bool,
}

/// The queue at the end of a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObservedQueue {
    /// The effort of the one with which a queue begins, from the best one on; `None`
    /// if fewer wait.
    pub at_low_mark: Option<Effort>,
    /// How many could have been acted upon in this period, had all of them done
    /// enough work; 0 if no more than were.
    pub capacity: u64,
}

impl SuggestedEffort {
    /// Nothing is asked for so far, and never more than `most`.
    pub fn new(most: Effort) -> Self {
        Self {
            suggested: 0,
            most,
            floor: 0,
            seen: EffortSeen::default(),
            trimmed_before: 0,
            calm: 0,
            steps: 0,
            next: None,
        }
    }

    /// What to ask for.
    pub fn suggested(&self) -> Effort {
        self.suggested
    }

    /// Asks for no more than this from now on.
    pub fn set_most(&mut self, most: Effort) {
        self.most = most;
        self.suggested = self.suggested.min(most);
    }

    /// Goes on with what was asked for before a restart: those who did that much are met
    /// first, and it falls as ever if nobody attacks any more.
    pub fn resume(&mut self, suggested: Effort) {
        self.suggested = suggested.min(self.most);
    }

    /// Solutions below this count for nothing: see [`NonceLog::floor`].
    ///
    /// [`NonceLog::floor`]: super::nonces::NonceLog::floor
    pub fn set_floor(&mut self, floor: Effort) {
        self.floor = floor;
    }

    /// An introduction has come.
    pub fn received(&mut self, effort: Effort) {
        self.seen.came += 1;
        self.seen.received = self.seen.received.saturating_add(effort.into());
    }

    /// One is acted upon.
    pub fn handled(&mut self) {
        self.seen.handled += 1;
    }

    /// One was dropped that nobody acted upon.
    pub fn trimmed(&mut self, effort: Effort) {
        self.seen.trimmed = self.seen.trimmed.max(effort);
    }

    /// As many have to wait as make a queue, though the best of them did what was asked.
    pub fn had_queue(&mut self) {
        self.seen.queue = true;
    }

    /// The greatest effort that was dropped in this period and the one before.
    pub fn trimmed_effort(&self) -> Effort {
        self.seen.trimmed.max(self.trimmed_before)
    }

    /// When to call [`update`](Self::update); `None` before the first call.
    pub fn next_update(&self) -> Option<Instant> {
        self.next
    }

    /// Decides anew if a period is over; whether it is.
    pub fn update(&mut self, observed: ObservedQueue, now: Instant) -> bool {
        let next = *self.next.get_or_insert(now + PERIOD);
        if now < next {
            return false;
        }
        self.next = Some(now + PERIOD);
        let EffortSeen { received, came, handled, trimmed, queue } = std::mem::take(&mut self.seen);
        self.trimmed_before = trimmed;
        // Asking for two thirds of the work brings half as many again. Those count who were
        // not let through too: they may have done too little, and be let through then.
        let busy = 3 * came.max(handled) > 2 * observed.capacity;
        let is_worthwhile = |effort| effort >= self.suggested;
        if trimmed > self.suggested || observed.at_low_mark.is_some_and(is_worthwhile) {
            let average = Effort::try_from(received / handled.max(observed.capacity).max(1))
                .unwrap_or(Effort::MAX);
            let more = self.suggested.saturating_add((self.suggested / 4).max(1));
            self.suggested = average.max(more).max(self.floor);
            (self.calm, self.steps) = (0, 0);
        } else if queue || busy {
            (self.calm, self.steps) = (0, 0);
        } else {
            self.calm += 1;
        }
        if self.calm >= CALM {
            self.calm = 0;
            self.lower();
        }
        if self.suggested > 0 {
            self.suggested = self.suggested.max(self.floor);
        }
        self.suggested = self.suggested.min(self.most);
        true
    }

    /// First to two thirds, as C tor does, then to a quarter, an eighth and so on: from
    /// 10,000 to nothing in five steps, where C tor takes 23.
    fn lower(&mut self) {
        self.suggested = match self.steps {
            0 => (u64::from(self.suggested) * 2 / 3) as Effort,
            steps => self.suggested.checked_shr(steps + 1).unwrap_or(0),
        };
        self.steps += 1;
        if self.suggested < self.floor {
            self.suggested = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::samples::{MINUTE, start};
    use super::*;

    const EMPTY: ObservedQueue = ObservedQueue { at_low_mark: None, capacity: 100 };

    fn full(best: Effort) -> ObservedQueue {
        ObservedQueue { at_low_mark: Some(best), capacity: 0 }
    }

    /// A loop with its first period begun, and the ends of its periods.
    fn begun(most: Effort) -> (SuggestedEffort, impl Iterator<Item = Instant>) {
        let now = start().monotonic;
        let mut effort = SuggestedEffort::new(most);
        effort.update(EMPTY, now);
        (effort, (1..).map(move |n| now + n * MINUTE))
    }

    #[test]
    fn it_asks_for_the_average_of_what_came_where_that_is_more_than_a_quarter_more() {
        let (mut effort, mut ends) = begun(10_000);
        let mut period = |received: &[Effort], handled, top| {
            received.iter().for_each(|it| effort.received(*it));
            (0..handled).for_each(|_| effort.handled());
            effort.had_queue();
            effort.update(full(top), ends.next().unwrap());
            effort.suggested()
        };
        assert_eq!(period(&[0; 100], 10, 0), 1);
        assert_eq!(period(&[8; 100], 10, 8), 80);
        assert_eq!(period(&[80; 10], 10, 80), 100);
        // Those who wait do less than is asked for, so that is enough.
        assert_eq!(period(&[80; 10], 10, 80), 100);
        // Nobody was let through at all.
        assert_eq!(period(&[200; 2], 0, 200), 400);
    }

    #[test]
    fn what_was_held_back_for_too_little_work_does_not_count_as_too_much_to_do() {
        let (mut effort, mut ends) = begun(10_000);
        (0..100).for_each(|_| effort.received(50));
        (0..10).for_each(|_| effort.handled());
        effort.had_queue();
        let observed = ObservedQueue { capacity: 100, ..full(50) };
        effort.update(observed, ends.next().unwrap());
        assert_eq!(effort.suggested(), 50);
    }

    #[test]
    fn it_asks_for_more_when_somebody_was_dropped_who_did_what_was_asked() {
        let (mut effort, mut ends) = begun(10_000);
        effort.trimmed(5);
        assert_eq!(effort.trimmed_effort(), 5);
        effort.update(EMPTY, ends.next().unwrap());
        assert_eq!((effort.suggested(), effort.trimmed_effort()), (1, 5));
        effort.update(EMPTY, ends.next().unwrap());
        assert_eq!((effort.suggested(), effort.trimmed_effort()), (1, 0));
    }

    #[test]
    fn from_the_most_it_falls_to_nothing_within_half_an_hour_of_calm() {
        let (mut effort, mut ends) = begun(u32::MAX);
        effort.set_most(10_000);
        effort.received(u32::MAX);
        effort.had_queue();
        effort.update(full(u32::MAX), ends.next().unwrap());
        assert_eq!(effort.suggested(), 10_000);
        let steps: Vec<Effort> = ends
            .take(25)
            .map(|at| {
                effort.update(EMPTY, at);
                effort.suggested()
            })
            .collect();
        let steps: Vec<Effort> = steps.into_iter().skip(4).step_by(5).collect();
        assert_eq!(steps, [6_666, 1_666, 208, 13, 0]);
    }

    #[test]
    fn a_queue_of_those_who_do_less_than_is_asked_changes_nothing() {
        let (mut effort, ends) = begun(10_000);
        effort.suggested = 10;
        for at in ends.take(100) {
            effort.had_queue();
            effort.trimmed(10);
            effort.update(full(9), at);
            assert_eq!(effort.suggested(), 10);
        }
    }

    #[test]
    fn it_asks_for_no_less_while_that_would_bring_more_than_can_be_done() {
        let (mut effort, mut ends) = begun(10_000);
        effort.suggested = 90;
        for at in ends.by_ref().take(20) {
            (0..67).for_each(|_| effort.handled());
            effort.update(EMPTY, at);
        }
        assert_eq!(effort.suggested(), 90);
        for at in ends.take(5) {
            (0..66).for_each(|_| effort.handled());
            effort.update(EMPTY, at);
        }
        assert_eq!(effort.suggested(), 60);
    }

    #[test]
    fn decisions_wait_for_the_end_of_the_period_and_are_not_made_up_for_later() {
        let (mut effort, mut ends) = begun(10_000);
        let end = ends.next().unwrap();
        effort.had_queue();
        effort.update(full(0), end - Duration::from_millis(1));
        assert_eq!((effort.suggested(), effort.next_update()), (0, Some(end)));
        let late = end + 100 * MINUTE;
        effort.update(full(0), late);
        assert_eq!((effort.suggested(), effort.next_update()), (1, Some(late + MINUTE)));
    }

    #[test]
    fn what_counts_for_nothing_is_not_asked_for() {
        let (mut effort, mut ends) = begun(10_000);
        effort.set_floor(16);
        effort.had_queue();
        effort.update(full(0), ends.next().unwrap());
        assert_eq!(effort.suggested(), 16);
        effort.set_floor(32);
        assert!(effort.update(EMPTY, ends.next().unwrap()));
        assert_eq!(effort.suggested(), 32);
        ends.take(5).for_each(|at| assert!(effort.update(EMPTY, at)));
        assert_eq!(effort.suggested(), 0);
    }
    #[test]
    fn what_was_asked_before_a_restart_is_asked_at_once_and_falls_in_calm() {
        let (mut effort, ends) = begun(300);
        effort.resume(10_000);
        assert_eq!(effort.suggested(), 300, "the operator wants no more");
        ends.take(25).for_each(|at| assert!(effort.update(EMPTY, at)));
        assert_eq!(effort.suggested(), 0);
    }
}

//! Which introduction is acted upon next, and when?
//!
//! Brings together the queue, the rate at which introductions are taken from it,
//! and the suggested effort. The rules are C tor's (`handle_rend_pqueue_cb`): the
//! next one is taken while the bucket has a token, and while few rendezvous are
//! under way or it did as much work as clients are asked for. C tor asks for what it
//! suggests; here the descriptor may ask for less, because others decide what it says.

use std::time::{Duration, Instant};

use super::effort::{ObservedQueue, PERIOD, SuggestedEffort};
use super::puzzle::{CLIENT_MAX_EFFORT, Effort};
use super::queue::PriorityQueue;

/// So many rendezvous may be under way for those who did less work than was
/// asked for (`MAX_CHEAP_REND_CIRCUITS_IN_PROGRESS`).
const CHEAP_AT_ONCE: usize = 16;

/// What the operator wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdmissionSettings {
    /// Introductions taken from the queue in a second, in the long run; at least 1.
    pub rate: u32,
    /// Introductions taken at once after a quiet time; at least 1.
    pub burst: u32,
    /// At so many waiting introductions the worse half is dropped.
    pub depth: usize,
    /// The most effort to suggest.
    pub max_effort: Effort,
    /// Rendezvous that may be under way at a time, whatever their clients did.
    pub at_once: usize,
}

impl Default for AdmissionSettings {
    /// C tor's rate and burst (`HiddenServicePoWQueueRate`, `...Burst`), Arti's depth.
    fn default() -> Self {
        Self {
            rate: 250,
            burst: 2_500,
            depth: 8_192,
            max_effort: CLIENT_MAX_EFFORT,
            at_once: 1_024,
        }
    }
}

/// Introductions that wait to be acted upon.
#[derive(Debug)]
pub struct AdmissionQueue<T> {
    settings: AdmissionSettings,
    queue: PriorityQueue<T>,
    effort: SuggestedEffort,
    /// What clients are really asked for.
    asked: Effort,
    bucket: TokenBucket,
    /// Whether as many rendezvous were under way in this period as may be.
    was_full: bool,
    /// Introductions dropped because better ones came.
    trimmed: u64,
    /// Introductions dropped because they had waited too long.
    expired: u64,
}

/// An introduction to act upon.
#[derive(Debug, PartialEq, Eq)]
pub struct Admitted<T> {
    /// The work that its client did.
    pub effort: Effort,
    /// The introduction.
    pub item: T,
}

impl<T> AdmissionQueue<T> {
    /// Empty, and nothing is suggested.
    pub fn new(settings: AdmissionSettings) -> Self {
        Self {
            settings,
            queue: PriorityQueue::new(settings.depth),
            effort: SuggestedEffort::new(settings.max_effort),
            asked: Effort::MAX,
            bucket: TokenBucket { tokens: settings.burst.into(), as_of: None },
            was_full: false,
            trimmed: 0,
            expired: 0,
        }
    }

    /// The operator wants this from now on. What waits goes on waiting, as far as
    /// there is room for it.
    pub fn reconfigure(&mut self, settings: AdmissionSettings) {
        self.settings = settings;
        let dropped = self.queue.set_high_mark(settings.depth);
        self.count_trimmed(dropped);
        self.effort.set_most(settings.max_effort);
        self.bucket.tokens = self.bucket.tokens.min(settings.burst.into());
    }

    /// Goes on with what was suggested before a restart.
    pub fn resume(&mut self, suggested: Effort) {
        self.effort.resume(suggested);
    }

    /// Descriptors are to ask clients for this, which can be less than what is suggested:
    /// a client that did as it was asked does not wait for others. Until it is known, it
    /// is what is suggested. Not what the last descriptor says: it follows minutes later,
    /// and who does no more than before has to wait meanwhile.
    pub fn set_asked(&mut self, asked: Effort) {
        self.asked = asked;
    }

    /// Solutions below this effort count for nothing.
    pub fn set_floor(&mut self, floor: Effort) {
        self.effort.set_floor(floor);
    }

    /// An introduction whose client did so much work, verified.
    pub fn push(&mut self, effort: Effort, item: T, now: Instant) {
        self.effort.received(effort);
        let dropped = self.queue.push(effort, item, now);
        self.count_trimmed(dropped);
    }

    /// The next one to act upon, while `under_way` rendezvous are under way. To be
    /// called until there is none, whenever something was pushed, a rendezvous has
    /// ended, or [`poll_timeout`](Self::poll_timeout) has come.
    pub fn poll(&mut self, under_way: usize, now: Instant) -> Option<Admitted<T>> {
        let expired = self.queue.expired(now);
        self.expired += expired.len() as u64;
        expired.iter().for_each(|(effort, _)| self.effort.trimmed(*effort));
        self.was_full |= under_way >= self.settings.at_once;
        self.update_effort(now);
        let may_go = self.may_go(under_way);
        if !may_go || !self.bucket.take(&self.settings, now) {
            self.note_queue();
            return None;
        }
        let (effort, item) = self.queue.pop()?;
        self.effort.handled();
        Some(Admitted { effort, item })
    }

    /// When to call [`poll`](Self::poll) again, if nothing happens before.
    pub fn poll_timeout(&self, under_way: usize) -> Option<Instant> {
        let token = self.bucket.next_token(&self.settings).filter(|_| self.may_go(under_way));
        let wakes = [self.effort.next_update(), self.queue.next_expiry(), token];
        wakes.into_iter().flatten().min()
    }

    /// What the descriptor should ask for.
    pub fn suggested_effort(&self) -> Effort {
        self.effort.suggested()
    }

    /// The greatest effort that was dropped in the last minute or two.
    pub fn trimmed_effort(&self) -> Effort {
        self.effort.trimmed_effort()
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// How many are taken in a second, in the long run.
    pub fn rate(&self) -> u32 {
        self.settings.rate
    }

    /// How many may wait at most.
    pub fn depth(&self) -> usize {
        self.settings.depth
    }

    /// Introductions dropped so far because better ones came.
    pub fn trimmed(&self) -> u64 {
        self.trimmed
    }

    /// Introductions dropped so far because they had waited too long.
    pub fn expired(&self) -> u64 {
        self.expired
    }

    /// From how many on it counts as a queue: C tor's rule, or half of a short one.
    fn low_mark(&self) -> usize {
        let by_rate = usize::try_from(self.settings.rate / 4).unwrap_or(usize::MAX).max(8);
        // Half of the queue is what trimming leaves: a mark above it is never reached.
        by_rate.min(self.settings.depth / 2).max(1)
    }

    /// Whether a client that did so much work did what it was asked for.
    fn did_enough(&self, effort: Effort) -> bool {
        effort >= self.asked.min(self.effort.suggested())
    }

    fn may_go(&self, under_way: usize) -> bool {
        let goes = |top| under_way < CHEAP_AT_ONCE || self.did_enough(top);
        under_way < self.settings.at_once && self.queue.top().is_some_and(goes)
    }

    /// Notes those who have to wait now. Where the best of them did too little, asking for
    /// less would let it go: no reason to ask for as much as before.
    fn note_queue(&mut self) {
        let did_enough = self.queue.top().is_some_and(|top| self.did_enough(top));
        if did_enough && self.queue.len() >= self.low_mark() {
            self.effort.had_queue();
        }
    }

    fn update_effort(&mut self, now: Instant) {
        if self.effort.next_update().is_some_and(|at| now < at) {
            return;
        }
        let rate = u64::from(self.settings.rate);
        let observed = ObservedQueue {
            at_low_mark: self.queue.nth(self.low_mark() - 1),
            // Else what was done is all that can be done.
            capacity: if self.was_full { 0 } else { rate * PERIOD.as_secs() },
        };
        if self.effort.update(observed, now) {
            self.was_full = false;
        }
    }

    fn count_trimmed(&mut self, dropped: Vec<(Effort, T)>) {
        self.trimmed += dropped.len() as u64;
        dropped.iter().for_each(|(effort, _)| self.effort.trimmed(*effort));
    }
}

/// A bucket of tokens that fills over time.
#[derive(Debug)]
struct TokenBucket {
    tokens: f64,
    as_of: Option<Instant>,
}

impl TokenBucket {
    /// Takes a token, if there is one now.
    fn take(&mut self, settings: &AdmissionSettings, now: Instant) -> bool {
        let passed = self.as_of.map_or(Duration::ZERO, |then| now.saturating_duration_since(then));
        let filled = self.tokens + passed.as_secs_f64() * f64::from(settings.rate.max(1));
        self.tokens = filled.min(settings.burst.max(1).into());
        self.as_of = Some(now);
        let has_one = self.tokens >= 1.0;
        if has_one {
            self.tokens -= 1.0;
        }
        has_one
    }

    /// When there is one again.
    fn next_token(&self, settings: &AdmissionSettings) -> Option<Instant> {
        let missing = (1.0 - self.tokens).max(0.0) / f64::from(settings.rate.max(1));
        // A moment more: rounded down it would come too early, again and again.
        Some(self.as_of? + Duration::from_secs_f64(missing) + Duration::from_millis(1))
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::samples::{MINUTE, SECOND, start};
    use super::*;

    fn settings() -> AdmissionSettings {
        AdmissionSettings { rate: 10, burst: 20, depth: 100, max_effort: 10_000, at_once: 50 }
    }

    fn admitted(queue: &mut AdmissionQueue<u32>, under_way: usize, now: Instant) -> Vec<u32> {
        std::iter::from_fn(|| queue.poll(under_way, now).map(|it| it.item)).collect()
    }

    #[test]
    fn a_burst_goes_at_once_and_then_so_many_a_second() {
        let now = start().monotonic;
        let mut queue = AdmissionQueue::new(settings());
        (0..50).for_each(|n| queue.push(0, n, now));
        assert_eq!(admitted(&mut queue, 0, now).len(), 20);
        let at = queue.poll_timeout(0).unwrap();
        assert!(at > now && at < now + SECOND / 9, "{:?}", at - now);
        assert_eq!(admitted(&mut queue, 0, at).len(), 1);
        assert_eq!(admitted(&mut queue, 0, at + SECOND).len(), 10);
    }

    #[test]
    fn who_worked_does_not_wait_for_those_who_did_not() {
        let now = start().monotonic;
        let mut queue = AdmissionQueue::new(settings());
        (0..90).for_each(|n| queue.push(0, n, now));
        assert_eq!(admitted(&mut queue, 0, now).len(), 20);
        queue.push(1, 1_000, now);
        assert_eq!(queue.poll(0, now + SECOND).map(|it| it.item), Some(1_000));
    }

    #[test]
    fn while_many_rendezvous_are_under_way_only_those_go_who_did_what_was_asked() {
        let now = start().monotonic;
        let mut queue = AdmissionQueue::new(settings());
        queue.poll(usize::MAX, now);
        queue.effort.trimmed(5);
        queue.poll(usize::MAX, now + MINUTE);
        assert_eq!(queue.suggested_effort(), 1);
        let now = now + MINUTE;
        queue.push(0, 2, now);
        queue.push(1, 3, now);
        assert_eq!(queue.poll(CHEAP_AT_ONCE, now), Some(Admitted { effort: 1, item: 3 }));
        assert_eq!(queue.poll(CHEAP_AT_ONCE, now), None);
        assert_eq!(queue.poll(CHEAP_AT_ONCE - 1, now), Some(Admitted { effort: 0, item: 2 }));
    }

    #[test]
    fn who_is_asked_for_less_than_is_suggested_does_not_wait_for_having_done_less() {
        let now = start().monotonic;
        let mut queue = AdmissionQueue::new(settings());
        queue.poll(usize::MAX, now);
        queue.resume(40);
        (0..3).for_each(|n| queue.push(5, n, now));
        assert_eq!(queue.poll(CHEAP_AT_ONCE, now), None);
        queue.set_asked(6);
        assert_eq!(queue.poll(CHEAP_AT_ONCE, now), None);
        queue.set_asked(5);
        assert_eq!(queue.poll(CHEAP_AT_ONCE, now).map(|it| it.item), Some(0));
        // More than is suggested is not needed, whoever asks for it.
        queue.set_asked(9_000);
        queue.resume(5);
        assert_eq!(queue.poll(CHEAP_AT_ONCE, now).map(|it| it.item), Some(1));
        queue.resume(40);
        assert_eq!(queue.poll(CHEAP_AT_ONCE, now), None);
    }

    #[test]
    fn who_waits_for_having_done_too_little_keeps_effort_up_only_where_too_many_come() {
        for (a_minute, falls) in [(390, true), (420, false)] {
            let begin = start().monotonic;
            let mut queue = AdmissionQueue::new(settings());
            queue.poll(0, begin);
            queue.resume(40);
            let minutes = (0..5).map(|minute| begin + minute * MINUTE);
            for at in minutes.flat_map(|at| (0..a_minute).map(move |n| at + n * MINUTE / a_minute))
            {
                queue.push(0, 0, at);
                assert_eq!(queue.poll(CHEAP_AT_ONCE, at), None);
            }
            assert!(queue.len() >= queue.low_mark());
            queue.poll(CHEAP_AT_ONCE, begin + 5 * MINUTE);
            assert_eq!(queue.suggested_effort() < 40, falls, "{a_minute}");
        }
    }

    #[test]
    fn nobody_goes_while_as_many_are_under_way_as_may_be() {
        let now = start().monotonic;
        let mut queue = AdmissionQueue::new(settings());
        queue.push(9, 1, now);
        assert_eq!(queue.poll(50, now), None);
        // No token was lost, and nothing spins meanwhile.
        assert!(queue.poll_timeout(50).is_none_or(|at| at > now + SECOND));
        assert_eq!(admitted(&mut queue, 49, now), [1]);
    }

    #[test]
    fn what_was_dropped_is_counted_and_makes_clients_work_more() {
        let now = start().monotonic;
        let mut queue = AdmissionQueue::new(settings());
        queue.poll(0, now);
        (0..100).for_each(|n| queue.push(4, n, now));
        assert_eq!((queue.len(), queue.trimmed(), queue.trimmed_effort()), (50, 50, 4));
        queue.poll(50, now + 16 * SECOND);
        assert_eq!((queue.len(), queue.expired()), (0, 50));
        queue.poll(50, now + MINUTE);
        // 400 of effort came, and nobody was let through.
        assert_eq!(queue.suggested_effort(), 400);
    }

    #[test]
    fn a_flood_is_seen_however_short_the_queue_is() {
        for (rate, depth) in [(250, 50), (250, 2), (40_000, 8_192), (1_000_000, 1_000)] {
            let begin = start().monotonic;
            let mut queue = AdmissionQueue::new(AdmissionSettings {
                rate,
                burst: 50,
                depth,
                ..AdmissionSettings::default()
            });
            (0..65 * 200_u32).for_each(|n| {
                let now = begin + n * SECOND / 200;
                (0..10).for_each(|_| queue.push(0, 0, now));
                admitted(&mut queue, 1_024, now);
            });
            assert!(queue.suggested_effort() > 0, "{rate} {depth}");
        }
    }

    #[test]
    fn a_reload_drops_what_has_no_room_any_more_and_asks_for_no_more_than_allowed() {
        let now = start().monotonic;
        let mut queue = AdmissionQueue::new(settings());
        queue.poll(0, now);
        (0..90).for_each(|n| queue.push(n, n, now));
        queue.poll(50, now + MINUTE);
        assert!(queue.suggested_effort() > 5);
        queue.reconfigure(AdmissionSettings { depth: 10, max_effort: 5, ..settings() });
        assert_eq!(queue.suggested_effort(), 5);
        (0..90).for_each(|n| queue.push(n, n, now + MINUTE));
        assert!(queue.len() < 10);
    }
}

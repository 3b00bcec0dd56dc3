//! Finds out how far HSDirs count that refuse descriptors, so that the next one counts
//! higher.
//!
//! Programs that derive the secret of the revision counter in different ways count up to
//! some 20 minutes apart. When several HSDirs of a period have refused, a third or more, one of them is asked
//! once what it holds, as a client would; what was refused waits for the answer. Called by
//! [`publish`](super::publish), which judges the answer as one of a
//! [`canary`](super::canary)'s looks, too.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::hsdir::TakenRevision;
use super::schedule::{Alarm, Allowance};
use crate::onion::{Period, RelayId};

/// After so long the answer is given up, and uploads go on as after any failure.
const ANSWER_LIMIT: Duration = Duration::from_secs(15);
/// Services do not ask for their own descriptors: a few questions at once, if one HSDir
/// does not answer or says nothing new, and one every 20 minutes in the long run, for each
/// period.
const QUESTIONS: Allowance = Allowance::new(3, Duration::from_secs(20 * 60));

/// What was refused, and who has been asked for it, by the period.
#[derive(Debug, Default)]
pub(super) struct UploadRefusals {
    periods: BTreeMap<Period, HsdirQuestions>,
    /// Whom to ask.
    wanted: VecDeque<(Period, RelayId)>,
}

#[derive(Debug)]
struct HsdirQuestions {
    allowance: Allowance,
    asked: Option<HsdirQuestion>,
}

#[derive(Debug)]
struct HsdirQuestion {
    relay: RelayId,
    since: Instant,
    /// What was known of it then; if that changes, the answer says nothing of whether it
    /// still holds what it took.
    taken: TakenRevision,
}

impl UploadRefusals {
    /// An HSDir has refused a descriptor, as most have.
    pub(super) fn refused(
        &mut self,
        period: Period,
        relay: RelayId,
        taken: TakenRevision,
        now: Instant,
    ) {
        let questions = self
            .periods
            .entry(period)
            .or_insert(HsdirQuestions { allowance: QUESTIONS, asked: None });
        let mut alarm = Alarm::new(now);
        questions.asked.take_if(|asked| alarm.reached(asked.since + ANSWER_LIMIT));
        if questions.asked.is_none() && questions.allowance.permits(&mut alarm) {
            questions.allowance.take(now);
            questions.asked = Some(HsdirQuestion { relay, since: now, taken });
            self.wanted.push_back((period, relay));
        }
    }

    /// Whom to ask what it holds. Given once.
    pub(super) fn next(&mut self) -> Option<(Period, RelayId)> {
        self.wanted.pop_front()
    }

    /// Whether an answer is waited for.
    pub(super) fn waits(&self, period: Period, alarm: &mut Alarm) -> bool {
        let asked = self.periods.get(&period).and_then(|questions| questions.asked.as_ref());
        asked.is_some_and(|asked| !alarm.reached(asked.since + ANSWER_LIMIT))
    }

    /// An HSDir has answered: what was known of it when it was asked; `None` if it was
    /// not, or has been given up.
    pub(super) fn answered(&mut self, period: Period, relay: RelayId) -> Option<TakenRevision> {
        let questions = self.periods.get_mut(&period)?;
        questions.asked.take_if(|asked| asked.relay == relay).map(|asked| asked.taken)
    }

    /// Periods for which this does not hold are over.
    pub(super) fn retain(&mut self, is_published: impl Fn(&Period) -> bool) {
        self.periods.retain(|period, _| is_published(period));
        self.wanted.retain(|(period, _)| is_published(period));
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{MINUTE, SECOND, period, relay, start};
    use super::*;

    fn asked(refusals: &mut UploadRefusals) -> Vec<RelayId> {
        std::iter::from_fn(|| refusals.next()).map(|(_, relay)| relay).collect()
    }

    #[test]
    fn one_hsdir_is_asked_however_many_refuse_and_the_answer_is_waited_for() {
        let now = start().monotonic;
        let mut refusals = UploadRefusals::default();
        for n in 1..=6 {
            refusals.refused(period(1), relay(n), TakenRevision::default(), now);
        }
        refusals.refused(period(2), relay(7), TakenRevision::default(), now);
        assert_eq!(asked(&mut refusals), [relay(1), relay(7)]);
        let mut alarm = Alarm::new(now);
        assert!(refusals.waits(period(1), &mut alarm));
        assert_eq!(alarm.next(), Some(now + ANSWER_LIMIT));
        assert!(!refusals.waits(period(3), &mut alarm));

        assert_eq!(refusals.answered(period(1), relay(2)), None, "not asked");
        assert_eq!(refusals.answered(period(1), relay(1)), Some(TakenRevision::default()));
        assert_eq!(refusals.answered(period(1), relay(1)), None, "once");
        assert!(!refusals.waits(period(1), &mut alarm));
        assert!(refusals.waits(period(2), &mut alarm));
    }

    #[test]
    fn hsdirs_that_go_on_refusing_are_not_asked_all_the_time() {
        let now = start().monotonic;
        let mut refusals = UploadRefusals::default();
        let mut questions = 0;
        for second in 0..7_200 {
            // One that never answers is given up, another one that does says nothing new.
            let now = now + SECOND * second;
            refusals.refused(period(1), relay(1), TakenRevision::default(), now);
            questions += asked(&mut refusals).len();
            if second % 2 == 0 {
                refusals.answered(period(1), relay(1));
            }
        }
        assert_eq!(questions, 3 + 5);
    }

    #[test]
    fn one_that_does_not_answer_is_waited_for_no_longer_than_a_quarter_of_a_minute() {
        let now = start().monotonic;
        let mut refusals = UploadRefusals::default();
        refusals.refused(period(1), relay(1), TakenRevision::default(), now);
        let later = now + ANSWER_LIMIT;
        assert!(!refusals.waits(period(1), &mut Alarm::new(later)));
        refusals.refused(period(1), relay(2), TakenRevision::default(), later);
        assert_eq!(asked(&mut refusals), [relay(1), relay(2)]);
        assert_eq!(refusals.answered(period(1), relay(1)), None, "too late");
        refusals.retain(|_| false);
        assert!(!refusals.waits(period(1), &mut Alarm::new(later + MINUTE / 60)));
    }
}

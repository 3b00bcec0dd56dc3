//! Tracks the uploads to one HSDir for one period, and when the next one is due.
//!
//! One upload at a time. One that did not get through is tried again; one that the
//! HSDir has read and not taken is not, as C tor never tries again what an HSDir
//! refused (hs_service.c, `upload_descriptor_to_all`): the next round brings it, unless
//! clients would lose something by waiting. Called by [`publish`](super::publish).

use std::time::{Duration, Instant, SystemTime};

use rand::Rng;

use super::fact::{Now, UploadFailure};
use super::schedule::{Alarm, Allowance, backoff, stretched};
use crate::onion::RelayId;
use crate::status::{self, HsdirState};

/// The delay after the first failed upload; doubled with each further one.
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// The longest delay between failed uploads. They go on as long as the HSDir
/// is responsible: one that refuses and does not say what it holds may hold a higher
/// revision counter, of another publisher, which ours can take up to 20 minutes to pass.
const RETRY_MOST: Duration = Duration::from_secs(60);
/// After so long the answer to an upload is given up as lost.
const UPLOAD_LIMIT: Duration = Duration::from_secs(2 * 60);
/// So long the answer to an upload is worth waiting for before another HSDir gets again
/// what it refused.
const ANSWER: Duration = Duration::from_secs(10);
/// An HSDir keeps a descriptor for its lifetime field, 180 minutes
/// (`descriptor-lifetime`; rend-spec-v3, section 2.4); then it holds nothing of ours.
pub(super) const LIFETIME: Duration = Duration::from_secs(180 * 60);
/// An HSDir that took a descriptor gets the next one no sooner, as from other
/// services, unless clients would lose something by it.
pub(super) const GAP: Duration = Duration::from_secs(60);
/// Revision counters are a function of whole seconds, and an HSDir refuses one
/// that is not higher than its own. Two seconds leave no room for rounding.
pub(super) const REVISION_STEP: Duration = Duration::from_secs(2);
/// Whatever goes wrong, one HSDir gets at most 30 uploads at once and one a
/// minute in the long run, for each period.
const UPLOADS: Allowance = Allowance::new(30, Duration::from_secs(60));

/// A descriptor that an HSDir has lost is brought to it again at most this often.
const REPAIRS: Allowance = Allowance::new(1, Duration::from_secs(5 * 60));
/// With another publisher whose descriptor says what we would not say now, one
/// does not argue more often than this.
const CORRECTIONS: Allowance = Allowance::new(1, Duration::from_secs(30 * 60));
/// A descriptor of another publisher's may get this old before we replace it.
const VOUCHED: Duration = Duration::from_secs(150 * 60);

/// What an HSDir should hold: the round of the descriptor, and which of the
/// sets of points in that round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct UploadTarget {
    pub(super) round: u64,
    pub(super) set: usize,
}

/// What we know of the revision that an HSDir holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct TakenRevision {
    /// The highest that it took from us.
    pub(super) revision: Option<u64>,
    /// Whether it may have taken a higher one and its answer was lost.
    pub(super) unsure: bool,
    /// Whether it refused the last one.
    pub(super) refused: bool,
}

/// The state of the uploads to one HSDir.
#[derive(Debug)]
pub(super) struct HsdirUploads {
    /// The highest `as_of` that it may have seen.
    pub(super) newest_as_of: Option<SystemTime>,
    /// Not before this moment: jitter, or a failure's backoff.
    not_before: Instant,
    /// Whether it is new, and that moment was chosen to spread uploads.
    is_spread: bool,
    in_flight: Option<UploadUnderWay>,
    holds: Option<HeldDescriptor>,
    /// When it took a descriptor of ours last.
    accepted_at: Option<Instant>,
    /// What it has read and not taken.
    declined: Option<UploadTarget>,
    taken: TakenRevision,
    /// What it was last seen to hold, and when: a newer descriptor of another
    /// publisher's came later.
    seen: Option<(u64, Instant)>,
    /// How many uploads in a row it took to bring it what it holds, or has
    /// not been enough so far.
    attempts: u32,
    last_error: Option<String>,
    allowance: Allowance,
    repairs: Allowance,
    corrections: Allowance,
}

#[derive(Debug)]
struct UploadUnderWay {
    target: UploadTarget,
    as_of: SystemTime,
    started: Instant,
}

#[derive(Debug)]
struct HeldDescriptor {
    target: UploadTarget,
    since: Instant,
    /// Whether another publisher brought it.
    foreign: bool,
}

impl HsdirUploads {
    /// A newly responsible HSDir that is not to be asked before `not_before`
    /// and may have seen `newest_as_of` when it was responsible earlier.
    pub(super) fn new(not_before: Instant, newest_as_of: Option<SystemTime>) -> Self {
        Self {
            newest_as_of,
            not_before,
            is_spread: true,
            in_flight: None,
            holds: None,
            accepted_at: None,
            declined: None,
            taken: TakenRevision::default(),
            seen: None,
            attempts: 0,
            last_error: None,
            allowance: UPLOADS,
            repairs: REPAIRS,
            corrections: CORRECTIONS,
        }
    }

    /// It need not wait until a moment that was chosen to spread uploads.
    pub(super) fn allow_from(&mut self, soon: Instant) {
        if self.is_spread {
            self.not_before = self.not_before.min(soon);
        }
    }

    pub(super) fn is_uploading(&self) -> bool {
        self.in_flight.is_some()
    }

    /// Whether it has a descriptor of ours to take or refuse, and has had little time to.
    pub(super) fn should_answer(&self, alarm: &mut Alarm) -> bool {
        self.in_flight.as_ref().is_some_and(|upload| !alarm.reached(upload.started + ANSWER))
    }

    /// Whether it holds a descriptor of ours, of this or an earlier round.
    pub(super) fn holds_any(&self) -> bool {
        self.holds.is_some()
    }

    /// When it took a descriptor of ours last.
    pub(super) fn accepted_at(&self) -> Option<Instant> {
        self.accepted_at
    }

    pub(super) fn taken(&self) -> TakenRevision {
        self.taken
    }

    /// Whether it has read the last upload and not taken it.
    pub(super) fn has_declined(&self) -> bool {
        self.declined.is_some()
    }

    /// Whether it has read just this and not taken it.
    pub(super) fn declines(&self, target: UploadTarget) -> bool {
        self.declined == Some(target)
    }

    /// Whether it holds just this.
    pub(super) fn holds(&self, target: UploadTarget) -> bool {
        self.holds.as_ref().is_some_and(|held| held.target == target)
    }

    /// Whether to upload what it should hold now: no sooner than the `gap` after
    /// what it took last, and what it did not take only if the caller `insists`.
    pub(super) fn upload_due(
        &mut self,
        target: UploadTarget,
        gap: Duration,
        insists: bool,
        alarm: &mut Alarm,
        rng: &mut impl Rng,
    ) -> bool {
        if self
            .in_flight
            .as_ref()
            .is_some_and(|upload| alarm.reached(upload.started + UPLOAD_LIMIT))
        {
            self.failed(UploadFailure::Unreachable("no answer in time".into()), alarm.now(), rng);
        }
        if self.holds.as_ref().is_some_and(|held| alarm.reached(held.since + LIFETIME)) {
            self.holds = None;
        }
        self.in_flight.is_none()
            && !self.holds(target)
            && (insists || !self.declines(target))
            && alarm.reached(self.not_before)
            && self.accepted_at.is_none_or(|at| alarm.reached(at + gap))
            && self.allowance.permits(alarm)
    }

    /// The upload begins.
    pub(super) fn upload(&mut self, target: UploadTarget, as_of: SystemTime, alarm: &mut Alarm) {
        let started = alarm.now();
        self.newest_as_of = Some(as_of);
        self.allowance.take(started);
        self.is_spread = false;
        self.attempts = if self.last_error.is_some() { self.attempts + 1 } else { 1 };
        self.in_flight = Some(UploadUnderWay { target, as_of, started });
        alarm.reached(started + UPLOAD_LIMIT);
    }

    /// An upload has ended, with the revision that was taken. False if it is
    /// not the one under way.
    pub(super) fn uploaded(
        &mut self,
        as_of: SystemTime,
        outcome: Result<u64, UploadFailure>,
        now: Now,
        rng: &mut impl Rng,
    ) -> bool {
        let Some(upload) = self.in_flight.take_if(|upload| upload.as_of == as_of) else {
            return false;
        };
        match outcome {
            Ok(revision) => {
                let since = now.monotonic;
                self.holds = Some(HeldDescriptor { target: upload.target, since, foreign: false });
                self.accepted_at = Some(since);
                let revision = self.taken.revision.max(Some(revision));
                self.taken = TakenRevision { revision, ..TakenRevision::default() };
                self.seen = revision.map(|revision| (revision, since));
                self.not_before = now.monotonic;
                self.declined = None;
                self.last_error = None;
            }
            Err(failure) => {
                let read = !matches!(failure, UploadFailure::Unreachable(_));
                self.declined = read.then_some(upload.target);
                self.failed(failure, now.monotonic, rng);
            }
        }
        true
    }

    fn failed(&mut self, failure: UploadFailure, now: Instant, rng: &mut impl Rng) {
        self.in_flight = None;
        self.taken.refused = matches!(failure, UploadFailure::Refused(_));
        self.taken.unsure |= !self.taken.refused;
        self.last_error = Some(failure.to_string());
        self.not_before = now + stretched(backoff(self.attempts, RETRY_FIRST, RETRY_MOST), rng);
    }

    /// Revisions are known to be counted beyond this moment. If it refused one that was
    /// lower, it gets a higher one at once.
    pub(super) fn count_beyond(&mut self, moment: SystemTime, now: Instant) {
        if self.newest_as_of.is_some_and(|used| used > moment) {
            return;
        }
        self.newest_as_of = Some(moment);
        if self.taken.refused && self.in_flight.is_none() {
            self.not_before = now;
        }
    }

    /// It was seen to hold this revision.
    pub(super) fn saw(&mut self, revision: u64, now: Instant) {
        self.seen = Some((revision, now));
    }

    /// It was found without what it took: it gets that again, unless it did
    /// a moment ago.
    pub(super) fn repair(&mut self, now: Instant) {
        if self.repairs.permits(&mut Alarm::new(now)) {
            self.repairs.take(now);
            self.holds = None;
        }
    }

    /// It was found with another publisher's newer descriptor, which says what
    /// we would not.
    pub(super) fn correct(&mut self, now: Instant) {
        if self.corrections.permits(&mut Alarm::new(now)) {
            self.corrections.take(now);
            self.holds = None;
        }
    }

    /// It was found with another publisher's newer descriptor, as good as what
    /// it should hold.
    pub(super) fn credit(&mut self, target: UploadTarget, revision: u64, now: Instant) {
        let since = match self.seen {
            Some((seen, at)) if seen != revision => at,
            _ => self.holds.as_ref().map_or(now, |held| held.since),
        };
        self.holds = Some(HeldDescriptor { target, since, foreign: true });
        self.last_error = None;
        self.saw(revision, now);
    }

    /// A round that brings nothing new begins: what another publisher brought
    /// lately counts as this round's, if it will do until the `next` one.
    pub(super) fn skip(&mut self, held: UploadTarget, wanted: UploadTarget, next: Instant) {
        if let Some(holds) = &mut self.holds
            && holds.foreign
            && holds.target == held
            && holds.since + VOUCHED >= next
        {
            holds.target = wanted;
        }
    }

    /// The machine has slept for so long: what it was brought or seen to hold
    /// before is so much older, and gone if that is its lifetime.
    pub(super) fn slept(&mut self, slept: Duration) {
        let older = |at: Instant| at.checked_sub(slept);
        self.holds =
            self.holds.take().and_then(|it| Some(HeldDescriptor { since: older(it.since)?, ..it }));
        self.accepted_at = self.accepted_at.and_then(older);
        self.seen = self.seen.and_then(|(revision, at)| Some((revision, older(at)?)));
    }

    /// Whether it works and does not hold what it should yet: clients who ask
    /// it get an older one. One that fails keeps nobody waiting.
    pub(super) fn lags(&self, target: UploadTarget) -> bool {
        self.last_error.is_none() && !self.holds(target)
    }

    /// Whether it holds what it should or nothing, and gets nothing else.
    pub(super) fn has_replaced(&self, target: UploadTarget) -> bool {
        self.in_flight.is_none() && (self.holds.is_none() || self.holds(target))
    }

    /// What the operator sees of it.
    pub(super) fn snapshot(
        &self,
        relay: RelayId,
        target: UploadTarget,
        intro_points: usize,
    ) -> status::Hsdir {
        let state = if self.in_flight.is_some() {
            HsdirState::Uploading
        } else if self.last_error.is_some() {
            HsdirState::Failed
        } else if self.holds(target) {
            HsdirState::Uploaded
        } else {
            HsdirState::Pending
        };
        status::Hsdir {
            relay: relay.to_string(),
            state,
            intro_points,
            attempts: self.attempts,
            last_error: self.last_error.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{MINUTE, SECOND, later, rng, start};
    use super::*;

    fn target(round: u64) -> UploadTarget {
        UploadTarget { round, set: 0 }
    }

    /// Uploads whenever it is due and answers `outcome` at once, for `time`;
    /// the moments of the uploads.
    fn run(
        hsdir: &mut HsdirUploads,
        mut now: Now,
        time: Duration,
        gap: Duration,
        outcome: impl Fn(u64) -> Option<Result<u64, UploadFailure>>,
    ) -> Vec<Duration> {
        let began = now.monotonic;
        let mut rng = rng();
        let mut uploads = Vec::new();
        while now.monotonic - began < time {
            let round = (now.monotonic - began).as_secs();
            let mut alarm = Alarm::new(now.monotonic);
            if hsdir.upload_due(target(round), gap, true, &mut alarm, &mut rng) {
                hsdir.upload(target(round), now.wall, &mut alarm);
                uploads.push(now.monotonic - began);
                if let Some(outcome) = outcome(round) {
                    assert!(hsdir.uploaded(now.wall, outcome, now, &mut rng));
                }
            }
            now = later(now, SECOND);
        }
        uploads
    }

    fn refused() -> Result<u64, UploadFailure> {
        Err(UploadFailure::Refused("too low".into()))
    }

    #[test]
    fn a_refused_upload_is_tried_again_ever_more_seldom_and_for_ever() {
        let now = start();
        let mut hsdir = HsdirUploads::new(now.monotonic, None);
        let uploads = run(&mut hsdir, now, 120 * MINUTE, GAP, |_| Some(refused()));
        let gaps: Vec<_> = uploads.windows(2).map(|two| (two[1] - two[0]).as_secs()).collect();
        assert!(gaps[0] <= 2 && gaps[3] >= 8 && gaps[3] <= 13, "{gaps:?}");
        assert!(gaps[10..].iter().all(|gap| (60..=91).contains(gap)), "{gaps:?}");
        let shown = hsdir.snapshot(super::super::samples::relay(1), target(0), 3);
        assert_eq!(shown.state, HsdirState::Failed);
        assert_eq!(shown.attempts as usize, uploads.len());
        assert!(shown.last_error.unwrap().contains("too low"));
    }

    #[test]
    fn what_is_refused_comes_again_only_if_insisted_on() {
        let now = start();
        let mut hsdir = HsdirUploads::new(now.monotonic, None);
        hsdir.upload(target(1), now.wall, &mut Alarm::new(now.monotonic));
        assert!(hsdir.uploaded(now.wall, refused(), now, &mut rng()));
        let mut alarm = Alarm::new(now.monotonic + 2 * SECOND);
        let mut due =
            |round, insists| hsdir.upload_due(target(round), GAP, insists, &mut alarm, &mut rng());
        assert_eq!((due(1, false), due(1, true), due(2, false)), (false, true, true));
    }

    #[test]
    fn uploads_are_bounded_even_if_every_second_brought_a_new_round() {
        let now = start();
        let mut hsdir = HsdirUploads::new(now.monotonic, None);
        let uploads = run(&mut hsdir, now, 60 * MINUTE, Duration::ZERO, |_| Some(Ok(1)));
        assert_eq!(uploads.len(), 30 + 59);
        let mut hsdir = HsdirUploads::new(now.monotonic, None);
        let uploads = run(&mut hsdir, now, 60 * MINUTE, GAP, |_| Some(Ok(1)));
        assert!(uploads.windows(2).all(|two| two[1] - two[0] == GAP), "{uploads:?}");
    }

    #[test]
    fn a_lost_answer_counts_as_a_failure_and_a_late_one_is_ignored() {
        let now = start();
        let mut hsdir = HsdirUploads::new(now.monotonic, None);
        let uploads = run(&mut hsdir, now, 3 * MINUTE, GAP, |_| None);
        assert_eq!(uploads.len(), 2);
        assert!(uploads[1] >= UPLOAD_LIMIT);
        assert!(!hsdir.uploaded(now.wall, Ok(1), now, &mut rng()));
        assert!(hsdir.is_uploading() && !hsdir.holds_any());
    }

    #[test]
    fn what_it_took_is_gone_after_the_lifetime() {
        let now = start();
        let mut hsdir = HsdirUploads::new(now.monotonic, None);
        let mut alarm = Alarm::new(now.monotonic);
        hsdir.upload(target(1), now.wall, &mut alarm);
        assert!(hsdir.uploaded(now.wall, Ok(1), now, &mut rng()));
        assert!(!hsdir.upload_due(target(1), GAP, true, &mut alarm, &mut rng()));
        assert_eq!(alarm.next(), Some(now.monotonic + UPLOAD_LIMIT));
        let mut alarm = Alarm::new(now.monotonic + LIFETIME);
        assert!(hsdir.upload_due(target(1), GAP, true, &mut alarm, &mut rng()));
        assert!(!hsdir.holds_any());
    }

    /// One that has taken round 1 as revision 7.
    fn taken(now: Now) -> HsdirUploads {
        let mut hsdir = HsdirUploads::new(now.monotonic, None);
        hsdir.upload(target(1), now.wall, &mut Alarm::new(now.monotonic));
        assert!(hsdir.uploaded(now.wall, Ok(7), now, &mut rng()));
        hsdir
    }

    #[test]
    fn what_it_lost_it_gets_again_once_in_five_minutes() {
        let mut now = start();
        let mut hsdir = taken(now);
        for repaired in [true, false, false, false, false, true] {
            hsdir.repair(now.monotonic);
            let mut alarm = Alarm::new(now.monotonic);
            assert_eq!(
                hsdir.upload_due(target(1), Duration::ZERO, true, &mut alarm, &mut rng()),
                repaired
            );
            hsdir.upload(target(1), now.wall, &mut alarm);
            assert!(hsdir.uploaded(now.wall, Ok(8), now, &mut rng()));
            now = later(now, MINUTE);
        }
    }

    #[test]
    fn a_descriptor_of_another_publisher_saves_an_upload_while_it_lasts() {
        let now = start();
        let at = |minutes: u32| now.monotonic + MINUTE * minutes;
        // Seen unchanged after 20 minutes, so what is there after 30 is newer.
        let mut hsdir = taken(now);
        hsdir.saw(7, at(20));
        hsdir.credit(target(1), 9, at(30));
        hsdir.skip(target(1), target(2), at(170));
        assert!(hsdir.holds(target(2)));
        hsdir.skip(target(2), target(3), at(171));
        assert!(!hsdir.holds(target(3)));
        // What it took from us is uploaded again in its time.
        let mut hsdir = taken(now);
        hsdir.skip(target(1), target(2), at(60));
        assert!(!hsdir.holds(target(2)));
    }

    #[test]
    fn what_it_took_ages_while_the_machine_sleeps() {
        let now = start();
        let mut hsdir = taken(now);
        hsdir.slept(LIFETIME - MINUTE);
        let mut alarm = Alarm::new(now.monotonic);
        assert!(
            !hsdir.upload_due(target(1), GAP, true, &mut alarm, &mut rng()) && hsdir.holds_any()
        );
        assert_eq!(alarm.next(), Some(now.monotonic + MINUTE));
        hsdir.slept(MINUTE);
        assert!(hsdir.upload_due(target(1), GAP, true, &mut Alarm::new(now.monotonic), &mut rng()));
        assert!(!hsdir.holds_any());
        // What another publisher was seen to have brought does so too.
        let mut hsdir = taken(now);
        hsdir.saw(7, now.monotonic);
        hsdir.slept(60 * MINUTE);
        hsdir.credit(target(1), 9, now.monotonic);
        hsdir.skip(target(1), target(2), now.monotonic + 91 * MINUTE);
        assert!(!hsdir.holds(target(2)));
    }

    #[test]
    fn another_set_of_the_same_round_is_something_else() {
        let mut hsdir = taken(start());
        let other = UploadTarget { round: 1, set: 3 };
        assert!(hsdir.holds(target(1)) && !hsdir.holds(other) && hsdir.lags(other));
        let mut due = |at| hsdir.upload_due(other, GAP, true, &mut Alarm::new(at), &mut rng());
        assert!(!due(start().monotonic));
        assert!(due(start().monotonic + GAP));
    }
}

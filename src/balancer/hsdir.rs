//! What became of the uploads to one HSDir for one period, and when is the
//! next one due?
//!
//! One upload at a time, tried again until the HSDir has taken what it should
//! hold. Called by [`publish`](super::publish).

use std::time::{Duration, Instant, SystemTime};

use rand::Rng;

use super::fact::{Now, UploadFailure};
use super::schedule::{Alarm, Allowance, backoff, stretched};
use crate::observe::snapshot::{self, HsdirState};
use crate::onion::RelayId;

/// The delay after the first failed upload; doubled with each further one.
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// The longest delay between failed uploads. They go on as long as the HSDir
/// is responsible: one that refuses holds a higher revision counter, of
/// another publisher, which ours can take up to 20 minutes to pass.
const RETRY_MOST: Duration = Duration::from_secs(60);
/// After so long the answer to an upload is given up as lost.
const UPLOAD_LIMIT: Duration = Duration::from_secs(2 * 60);
/// An HSDir keeps a descriptor for its lifetime field, 180 minutes
/// (`descriptor-lifetime`; rend-spec-v3, section 2.4); then it holds nothing of ours.
pub(super) const LIFETIME: Duration = Duration::from_secs(180 * 60);
/// Revision counters are a function of whole seconds, and an HSDir refuses one
/// that is not higher than its own. Two seconds leave no room for rounding.
pub(super) const REVISION_STEP: Duration = Duration::from_secs(2);
/// Whatever goes wrong, one HSDir gets at most 30 uploads at once and one a
/// minute in the long run, for each period.
const UPLOADS: Allowance = Allowance::new(30, Duration::from_secs(60));

/// The state of the uploads to one HSDir.
#[derive(Debug)]
pub(super) struct Hsdir {
    /// The highest `as_of` that it may have seen.
    pub(super) newest_as_of: Option<SystemTime>,
    /// Not before this moment: jitter, or a failure's backoff.
    not_before: Instant,
    in_flight: Option<Upload>,
    holds: Option<Held>,
    /// How many uploads in a row it took to bring it what it holds, or has
    /// not been enough so far.
    attempts: u32,
    last_error: Option<String>,
    allowance: Allowance,
}

#[derive(Debug)]
struct Upload {
    round: u64,
    as_of: SystemTime,
    started: Instant,
}

#[derive(Debug)]
struct Held {
    round: u64,
    since: Instant,
}

impl Hsdir {
    /// A newly responsible HSDir that is not to be asked before `not_before`
    /// and may have seen `newest_as_of` when it was responsible earlier.
    pub(super) fn new(not_before: Instant, newest_as_of: Option<SystemTime>) -> Self {
        Self {
            newest_as_of,
            not_before,
            in_flight: None,
            holds: None,
            attempts: 0,
            last_error: None,
            allowance: UPLOADS,
        }
    }

    pub(super) fn is_uploading(&self) -> bool {
        self.in_flight.is_some()
    }

    /// Whether it holds a descriptor of ours, of this or an earlier round.
    pub(super) fn holds_any(&self) -> bool {
        self.holds.is_some()
    }

    /// Whether to upload this round's descriptor now.
    pub(super) fn upload_due(&mut self, round: u64, alarm: &mut Alarm, rng: &mut impl Rng) -> bool {
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
            && self.holds.as_ref().is_none_or(|held| held.round != round)
            && alarm.reached(self.not_before)
            && self.allowance.permits(alarm)
    }

    /// The upload begins.
    pub(super) fn upload(&mut self, round: u64, as_of: SystemTime, alarm: &mut Alarm) {
        let started = alarm.now();
        self.newest_as_of = Some(as_of);
        self.allowance.take(started);
        self.attempts = if self.last_error.is_some() { self.attempts + 1 } else { 1 };
        self.in_flight = Some(Upload { round, as_of, started });
        alarm.reached(started + UPLOAD_LIMIT);
    }

    /// An upload has ended. False if it is not the one under way.
    pub(super) fn uploaded(
        &mut self,
        as_of: SystemTime,
        outcome: Result<(), UploadFailure>,
        now: Now,
        rng: &mut impl Rng,
    ) -> bool {
        let Some(upload) = self.in_flight.take_if(|upload| upload.as_of == as_of) else {
            return false;
        };
        match outcome {
            Ok(()) => {
                self.holds = Some(Held { round: upload.round, since: now.monotonic });
                self.not_before = now.monotonic;
                self.last_error = None;
            }
            Err(failure) => self.failed(failure, now.monotonic, rng),
        }
        true
    }

    fn failed(&mut self, failure: UploadFailure, now: Instant, rng: &mut impl Rng) {
        self.in_flight = None;
        self.last_error = Some(failure.to_string());
        self.not_before = now + stretched(backoff(self.attempts, RETRY_FIRST, RETRY_MOST), rng);
    }

    /// Whether it works and does not hold this round's descriptor yet: clients
    /// who ask it get an older one. One that fails keeps nobody waiting.
    pub(super) fn lags(&self, round: u64) -> bool {
        self.last_error.is_none() && self.holds.as_ref().is_none_or(|held| held.round != round)
    }

    /// Whether it holds this round's descriptor or none, and gets no other.
    pub(super) fn has_replaced(&self, round: u64) -> bool {
        self.in_flight.is_none() && self.holds.as_ref().is_none_or(|held| held.round == round)
    }

    /// What the operator sees of it.
    pub(super) fn snapshot(&self, relay: RelayId, round: u64) -> snapshot::Hsdir {
        let state = if self.in_flight.is_some() {
            HsdirState::Uploading
        } else if self.last_error.is_some() {
            HsdirState::Failed
        } else if self.holds.as_ref().is_some_and(|held| held.round == round) {
            HsdirState::Uploaded
        } else {
            HsdirState::Pending
        };
        snapshot::Hsdir {
            relay: relay.to_string(),
            state,
            attempts: self.attempts,
            last_error: self.last_error.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{MINUTE, SECOND, later, rng, start};
    use super::*;

    /// Uploads whenever it is due and answers `outcome` at once, for `time`;
    /// the moments of the uploads.
    fn run(
        hsdir: &mut Hsdir,
        mut now: Now,
        time: Duration,
        outcome: impl Fn(u64) -> Option<Result<(), UploadFailure>>,
    ) -> Vec<Duration> {
        let began = now.monotonic;
        let mut rng = rng();
        let mut uploads = Vec::new();
        while now.monotonic - began < time {
            let round = (now.monotonic - began).as_secs();
            let mut alarm = Alarm::new(now.monotonic);
            if hsdir.upload_due(round, &mut alarm, &mut rng) {
                hsdir.upload(round, now.wall, &mut alarm);
                uploads.push(now.monotonic - began);
                if let Some(outcome) = outcome(round) {
                    assert!(hsdir.uploaded(now.wall, outcome, now, &mut rng));
                }
            }
            now = later(now, SECOND);
        }
        uploads
    }

    fn refused() -> Result<(), UploadFailure> {
        Err(UploadFailure::Refused("too low".into()))
    }

    #[test]
    fn a_refused_upload_is_tried_again_ever_more_seldom_and_for_ever() {
        let now = start();
        let mut hsdir = Hsdir::new(now.monotonic, None);
        let uploads = run(&mut hsdir, now, 120 * MINUTE, |_| Some(refused()));
        let gaps: Vec<_> = uploads.windows(2).map(|two| (two[1] - two[0]).as_secs()).collect();
        assert!(gaps[0] <= 2 && gaps[3] >= 8 && gaps[3] <= 13, "{gaps:?}");
        assert!(gaps[10..].iter().all(|gap| (60..=91).contains(gap)), "{gaps:?}");
        let shown = hsdir.snapshot(super::super::samples::relay(1), 0);
        assert_eq!(shown.state, HsdirState::Failed);
        assert_eq!(shown.attempts as usize, uploads.len());
        assert!(shown.last_error.unwrap().contains("too low"));
    }

    #[test]
    fn uploads_are_bounded_even_if_every_second_brought_a_new_round() {
        let now = start();
        let mut hsdir = Hsdir::new(now.monotonic, None);
        let uploads = run(&mut hsdir, now, 60 * MINUTE, |_| Some(Ok(())));
        assert_eq!(uploads.len(), 30 + 59);
    }

    #[test]
    fn a_lost_answer_counts_as_a_failure_and_a_late_one_is_ignored() {
        let now = start();
        let mut hsdir = Hsdir::new(now.monotonic, None);
        let uploads = run(&mut hsdir, now, 3 * MINUTE, |_| None);
        assert_eq!(uploads.len(), 2);
        assert!(uploads[1] >= UPLOAD_LIMIT);
        assert!(!hsdir.uploaded(now.wall, Ok(()), now, &mut rng()));
        assert!(hsdir.is_uploading() && !hsdir.holds_any());
    }

    #[test]
    fn what_it_took_is_gone_after_the_lifetime() {
        let now = start();
        let mut hsdir = Hsdir::new(now.monotonic, None);
        let mut alarm = Alarm::new(now.monotonic);
        hsdir.upload(1, now.wall, &mut alarm);
        assert!(hsdir.uploaded(now.wall, Ok(()), now, &mut rng()));
        assert!(!hsdir.upload_due(1, &mut alarm, &mut rng()));
        assert_eq!(alarm.next(), Some(now.monotonic + UPLOAD_LIMIT));
        let mut alarm = Alarm::new(now.monotonic + LIFETIME);
        assert!(hsdir.upload_due(1, &mut alarm, &mut rng()));
        assert!(!hsdir.holds_any());
    }
}

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
/// (rend-spec-v3, section 2.2.6); then it holds nothing of ours.
const LIFETIME: Duration = Duration::from_secs(180 * 60);
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
    /// Uploads tried since the last one that it took.
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
        self.attempts += 1;
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
                self.attempts = 0;
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

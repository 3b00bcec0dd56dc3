//! Whether a backend elsewhere verifies the work of clients: it says that it has the
//! seeds, and has answered an introduction with a solution.
//!
//! Its word alone is not enough. A client that worked waits in vain where its solution is
//! not understood, so each backend is tried before clients are sent there with work. That
//! is done in peace, for under attack there is no time for it. One that begins anew has no
//! seeds, says so, and is tried again.

use std::time::{Duration, Instant};

use super::fact::ProbeFailure;
use super::link::WorkReport;
use super::pow::SeedSlot;
use super::schedule::{Alarm, Allowance, backoff};

/// The delay after the first try that failed ...
const RETRY_FIRST: Duration = Duration::from_secs(5);
/// ... and at most.
const RETRY_MOST: Duration = Duration::from_secs(10 * 60);
/// After so long the answer to a try is given up as lost.
const LIMIT: Duration = Duration::from_secs(3 * 60);
/// However often a backend says that it begins anew, it is tried so often at once and once
/// in two minutes in the long run: each try is a circuit of ours.
const TRIES: Allowance = Allowance::new(6, Duration::from_secs(2 * 60));

/// What is known of one backend.
#[derive(Debug)]
pub(super) struct WorkProof {
    /// What it says, as long as that is to be believed.
    told: Option<WorkReport>,
    proven: bool,
    /// The try that is under way.
    asked: Option<Attempt>,
    /// When to try again.
    next_at: Option<Instant>,
    failures: u32,
    tries: Allowance,
}

#[derive(Debug)]
struct Attempt {
    since: Instant,
    /// Whether the backend has taken back what it said when this began.
    void: bool,
}

impl Default for WorkProof {
    fn default() -> Self {
        Self { told: None, proven: false, asked: None, next_at: None, failures: 0, tries: TRIES }
    }
}

impl WorkProof {
    /// The backend says this now; `None`: nothing that would be believed.
    pub(super) fn told(&mut self, told: Option<WorkReport>) {
        self.told = told.filter(|work| work.slot.is_some());
        if self.told.is_none() {
            self.proven = false;
            if let Some(attempt) = &mut self.asked {
                attempt.void = true;
            }
        }
    }

    /// A proof that was found before a restart of this process, of a backend that said this.
    pub(super) fn recalled(told: Option<WorkReport>) -> Self {
        let told = told.filter(|work| work.slot.is_some());
        Self { told, proven: told.is_some(), ..Self::default() }
    }

    /// Whether the backend that says this has answered an introduction with a solution.
    pub(super) fn is_proven(&self) -> bool {
        self.proven
    }

    /// Whether solutions for the seeds of this slot are verified there.
    pub(super) fn holds(&self, slot: SeedSlot) -> bool {
        self.proven && self.has_seeds(slot)
    }

    /// Whether to try now with a solution for this slot; if so, the try counts as under
    /// way.
    pub(super) fn due(&mut self, slot: SeedSlot, alarm: &mut Alarm) -> bool {
        if self.asked.as_ref().is_some_and(|attempt| alarm.reached(attempt.since + LIMIT)) {
            let lost = ProbeFailure::Inconclusive("no answer in time".into());
            self.tried(&Err(lost), alarm.now());
        }
        let waits = self.next_at.is_some_and(|at| !alarm.reached(at));
        if self.proven || self.asked.is_some() || waits || !self.has_seeds(slot) {
            return false;
        }
        if !self.tries.permits(alarm) {
            return false;
        }
        self.tries.take(alarm.now());
        self.asked = Some(Attempt { since: alarm.now(), void: false });
        alarm.reached(alarm.now() + LIMIT);
        true
    }

    /// A try has ended.
    pub(super) fn tried(&mut self, outcome: &Result<(), ProbeFailure>, now: Instant) {
        let Some(attempt) = self.asked.take() else { return };
        self.proven = outcome.is_ok() && !attempt.void;
        self.failures = if self.proven { 0 } else { self.failures.saturating_add(1) };
        self.next_at = Some(now + backoff(self.failures.max(1), RETRY_FIRST, RETRY_MOST));
    }

    fn has_seeds(&self, slot: SeedSlot) -> bool {
        self.told.is_some_and(|told| told.slot >= Some(slot))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{MINUTE, SECOND, start};

    const SLOT: SeedSlot = SeedSlot(7);

    fn told(slot: u64) -> Option<WorkReport> {
        Some(WorkReport { slot: Some(SeedSlot(slot)), effort: 3 })
    }

    #[test]
    fn seeds_and_a_solution_that_was_answered_make_a_proof_and_neither_alone() {
        let (now, mut proof) = (start().monotonic, WorkProof::default());
        let due = |proof: &mut WorkProof, at| proof.due(SLOT, &mut Alarm::new(at));
        assert!(!due(&mut proof, now), "it has said nothing");
        proof.told(Some(WorkReport { slot: None, effort: 9 }));
        assert!(!due(&mut proof, now));
        proof.told(told(6));
        assert!(!due(&mut proof, now), "seeds that are out of date");
        proof.told(told(7));
        assert!(!proof.holds(SLOT) && due(&mut proof, now) && !due(&mut proof, now));
        proof.tried(&Ok(()), now + SECOND);
        assert!(proof.holds(SLOT) && !due(&mut proof, now + MINUTE));
        // The next seeds need no other proof, only that it has them.
        assert!(!proof.holds(SeedSlot(8)));
        proof.told(told(8));
        assert!(proof.holds(SeedSlot(8)));
        // Another process, which knows nothing.
        proof.told(Some(WorkReport { slot: None, effort: 0 }));
        proof.told(told(8));
        assert!(!proof.holds(SeedSlot(8)) && due(&mut proof, now + MINUTE));
        // What it answers now, a process may answer that has gone meanwhile.
        proof.told(None);
        proof.told(told(8));
        assert!(!due(&mut proof, now + MINUTE), "one try at a time");
        proof.tried(&Ok(()), now + MINUTE);
        assert!(!proof.holds(SeedSlot(8)) && due(&mut proof, now + 2 * MINUTE));
        // Nor does it matter for the next try that this one was void and failed.
        proof.told(None);
        proof.told(told(8));
        proof.tried(&Err(ProbeFailure::Point("no answer".into())), now + 2 * MINUTE);
        assert!(due(&mut proof, now + 3 * MINUTE));
        proof.tried(&Ok(()), now + 3 * MINUTE);
        assert!(proof.holds(SeedSlot(8)));
    }

    #[test]
    fn one_that_begins_anew_without_end_is_tried_at_a_bounded_rate_whatever_it_answers() {
        for outcome in [Ok(()), Err(ProbeFailure::Point("no answer".into()))] {
            let (start, mut proof, mut tries) = (start().monotonic, WorkProof::default(), 0);
            for tenth in 0..36_000 {
                let now = start + tenth * SECOND / 10;
                proof.told(told(7).filter(|_| tenth % 2 == 0));
                if proof.due(SLOT, &mut Alarm::new(now)) {
                    tries += 1;
                }
                if tenth % 3 == 0 {
                    proof.tried(&outcome, now);
                }
            }
            assert!((6..=36).contains(&tries), "{tries} in an hour");
        }
    }

    #[test]
    fn a_try_that_fails_or_is_lost_is_made_again_ever_less_often() {
        let (now, mut proof) = (start().monotonic, WorkProof::default());
        proof.told(told(7));
        let mut tries = Vec::new();
        for second in 0..7200_u32 {
            let at = now + second * SECOND;
            if proof.due(SLOT, &mut Alarm::new(at)) {
                tries.push(second);
                if tries.len() != 3 {
                    proof.tried(&Err(ProbeFailure::Point("no answer".into())), at);
                }
            }
        }
        assert!((15..25).contains(&tries.len()), "{tries:?}");
        assert!(!proof.holds(SLOT));
        // An answer that nobody waits for proves nothing.
        proof.told(None);
        proof.tried(&Ok(()), now);
        assert!(!proof.proven);
    }
}

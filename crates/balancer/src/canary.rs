//! Watches whether HSDirs still hold what they took, and whether anybody else
//! publishes the address.
//!
//! Some seconds after each round, and again and again, one HSDir of every
//! replica that clients ask in the current period is asked for our descriptor.
//! When, and what to think of the answers, is decided here; what follows from
//! it, in [`publish`](super::publish).

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rand::{Rng, RngExt as _};

use super::fact::{FetchFailure, FetchedDescriptor, Now};
use super::hsdir::Taken;
use super::ring::Ring;
use super::schedule::{Alarm, between};
use crate::onion::{Period, RelayId, SessionId};
use crate::status::{Canary as Report, CanaryOutcome, Timestamp};

/// When to look after a round, or after a reason for doubt ...
const SOON: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(15));
/// ... but not more often than this, however often the points change.
const NOT_BEFORE: Duration = Duration::from_secs(60);
/// How long after one look the next follows: between this and twice as much ...
const PACE: Duration = Duration::from_secs(10 * 60);
/// ... and in short periods, between such a part of them and twice as much.
const PART_OF_PERIOD: u32 = 12;
/// After so long the answer is given up as lost.
const ANSWER_LIMIT: Duration = Duration::from_secs(2 * 60);
/// How long another publisher is remembered: by then no HSDir holds anything
/// of it any more, if it has stopped.
const STRANGER: Duration = Duration::from_secs(3 * 60 * 60);

/// What was asked and seen.
#[derive(Debug, Default)]
pub(super) struct CanaryWatch {
    /// The round after which was looked last.
    round: Option<(Period, u64)>,
    look_at: Option<Instant>,
    looked_at: Option<Instant>,
    asked: BTreeMap<RelayId, Inspection>,
    /// HSDirs to ask besides, because they refused an upload.
    suspects: BTreeSet<RelayId>,
    /// Whether the next answer is the first one of a look.
    first_answer: bool,
    report: Option<Report>,
    stranger: Option<(Instant, String)>,
}

/// An HSDir that is being asked.
#[derive(Debug)]
struct Inspection {
    period: Period,
    since: Instant,
    /// What was known of it then; if that changes, the answer says nothing.
    taken: Taken,
}

impl CanaryWatch {
    /// Whom of the current period's ring to ask now.
    pub(super) fn due(
        &mut self,
        ring: &Ring,
        alarm: &mut Alarm,
        rng: &mut impl Rng,
    ) -> Vec<RelayId> {
        let now = alarm.now();
        self.asked.retain(|_, asked| !alarm.reached(asked.since + ANSWER_LIMIT));
        if self.stranger.as_ref().is_some_and(|(seen, _)| alarm.reached(*seen + STRANGER)) {
            self.stranger = None;
        }
        let round = (ring.view.period, ring.round);
        if self.round != Some(round) && ring.is_done() && ring.is_found() {
            self.round = Some(round);
            self.look_soon(NOT_BEFORE, now, rng);
        }
        let Some(at) = self.look_at else { return Vec::new() };
        if !alarm.reached(at) {
            return Vec::new();
        }
        let minutes = u64::from(ring.view.period.length_minutes);
        let pace = PACE.min(Duration::from_secs(minutes * 60) / PART_OF_PERIOD);
        let next = now + between(pace, 2 * pace, rng).max(Duration::from_secs(1));
        self.look_at = Some(next);
        self.looked_at = Some(now);
        self.first_answer = true;
        alarm.reached(next);

        let relays = self.choose(ring, rng);
        for relay in &relays {
            let taken = ring.hsdirs.get(relay).map(|hsdir| hsdir.taken()).unwrap_or_default();
            self.asked.insert(*relay, Inspection { period: ring.view.period, since: now, taken });
            alarm.reached(now + ANSWER_LIMIT);
        }
        relays
    }

    /// One HSDir of each replica, and those under suspicion.
    fn choose(&mut self, ring: &Ring, rng: &mut impl Rng) -> Vec<RelayId> {
        let mut of_replica: BTreeMap<u8, Vec<RelayId>> = BTreeMap::new();
        let mut relays = Vec::new();
        for (it, hsdir) in ring.asked() {
            let taken = hsdir.taken();
            let of_interest = hsdir.holds_any() || taken.refused;
            if !of_interest || hsdir.is_uploading() || self.asked.contains_key(&it.relay) {
                continue;
            }
            if self.suspects.contains(&it.relay) {
                relays.push(it.relay);
            } else {
                of_replica.entry(it.replica).or_default().push(it.relay);
            }
        }
        self.suspects.clear();
        for candidates in of_replica.into_values() {
            relays.push(candidates[rng.random_range(0..candidates.len())]);
        }
        relays.sort_unstable();
        relays.dedup();
        relays
    }

    /// An HSDir refused an upload: it may hold somebody else's.
    pub(super) fn suspect(&mut self, relay: RelayId, now: Instant, rng: &mut impl Rng) {
        // Once; while it goes on refusing, the ordinary pace will do.
        self.suspects.insert(relay);
        self.look_soon(PACE, now, rng);
    }

    /// The machine has slept: HSDirs may have lost what they held.
    pub(super) fn slept(&mut self, now: Instant, rng: &mut impl Rng) {
        self.look_soon(NOT_BEFORE, now, rng);
    }

    fn look_soon(&mut self, gap: Duration, now: Instant, rng: &mut impl Rng) {
        let earliest = self.looked_at.map_or(now, |at| at + gap);
        let soon = (now + between(SOON.0, SOON.1, rng)).max(earliest);
        self.look_at = Some(self.look_at.map_or(soon, |at| at.min(soon)));
    }

    /// Whether an answer belongs to what was asked, and nothing has been
    /// uploaded meanwhile.
    pub(super) fn expects(&mut self, period: Period, relay: RelayId, taken: Taken) -> bool {
        let asked = self.asked.remove(&relay);
        asked.is_some_and(|asked| asked.period == period && asked.taken == taken)
    }

    /// Notes what came out.
    pub(super) fn note(&mut self, outcome: CanaryOutcome, now: Now) {
        let before = self.report.filter(|_| !self.first_answer).map(|report| report.outcome);
        self.first_answer = false;
        let outcome = before.map_or(outcome, |before| outcome.max(before));
        self.report = Some(Report { checked_at: Timestamp(now.wall), outcome });
    }

    /// Somebody else publishes the address.
    pub(super) fn warn(&mut self, relay: RelayId, seen: &FetchedDescriptor, now: Now) {
        let revision = seen.revision;
        self.stranger = Some((
            now.monotonic,
            format!(
                "another publisher has this address's key: HSDir {relay} holds revision {revision} \
                 that is not ours; unless another program of yours publishes this address, or did \
                 until three hours ago, the key is in other hands"
            ),
        ));
    }

    /// There may be others who publish the address from now on: those seen so
    /// far were no strangers.
    pub(super) fn expect_others(&mut self) {
        self.stranger = None;
        self.report.take_if(|report| report.outcome == CanaryOutcome::Foreign);
    }

    pub(super) fn problem(&self) -> Option<&str> {
        self.stranger.as_ref().map(|(_, text)| text.as_str())
    }

    pub(super) fn report(&self) -> Option<Report> {
        self.report
    }
}

/// What to think of what an HSDir holds. `ours` knows the points that we have
/// published.
pub(super) fn judge(
    seen: &Result<FetchedDescriptor, FetchFailure>,
    taken: Taken,
    ours: impl Fn(&SessionId) -> bool,
) -> CanaryOutcome {
    let seen = match seen {
        Ok(seen) => seen,
        Err(FetchFailure::Unreachable(_)) => return CanaryOutcome::Unreachable,
        Err(FetchFailure::NotFound | FetchFailure::Unusable(_)) => return CanaryOutcome::Missing,
    };
    let ours = seen.points.iter().all(|point| ours(&point.session_id));
    match taken.revision {
        Some(taken) if seen.revision < taken => CanaryOutcome::Old,
        Some(taken) if seen.revision == taken && ours => CanaryOutcome::Ok,
        _ if ours && taken.unsure => CanaryOutcome::Ok,
        None if ours => CanaryOutcome::Ok,
        _ => CanaryOutcome::Foreign,
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{period, point, relay, rng, start};
    use super::*;
    use crate::onion::Capabilities;

    fn holds(revision: u64, session: u16) -> Result<FetchedDescriptor, FetchFailure> {
        Ok(FetchedDescriptor {
            period: period(1),
            revision,
            points: vec![point(session, 1)],
            flaw: None,
            capabilities: Capabilities::default(),
        })
    }

    /// The verdict after the HSDir took revision 5; points below 10 are ours.
    fn verdict(seen: Result<FetchedDescriptor, FetchFailure>, unsure: bool) -> CanaryOutcome {
        let taken = Taken { revision: Some(5), unsure, refused: false };
        judge(&seen, taken, |session| session.0[1] < 10)
    }

    #[test]
    fn an_hsdir_is_judged_by_what_it_took() {
        assert_eq!(verdict(holds(5, 1), false), CanaryOutcome::Ok);
        assert_eq!(verdict(holds(4, 1), false), CanaryOutcome::Old);
        assert_eq!(verdict(holds(4, 99), false), CanaryOutcome::Old);
        assert_eq!(verdict(Err(FetchFailure::NotFound), false), CanaryOutcome::Missing);
        let unusable = Err(FetchFailure::Unusable(String::new()));
        assert_eq!(verdict(unusable, false), CanaryOutcome::Missing);
        let unreachable = Err(FetchFailure::Unreachable(String::new()));
        assert_eq!(verdict(unreachable, false), CanaryOutcome::Unreachable);
    }

    #[test]
    fn what_is_newer_than_ours_or_has_other_points_is_a_strangers() {
        assert_eq!(verdict(holds(6, 1), false), CanaryOutcome::Foreign);
        assert_eq!(verdict(holds(5, 99), false), CanaryOutcome::Foreign);
        assert_eq!(verdict(holds(6, 99), true), CanaryOutcome::Foreign);
        // An upload whose answer was lost may well have arrived.
        assert_eq!(verdict(holds(6, 1), true), CanaryOutcome::Ok);
        // One that refuses all of ours holds somebody else's.
        let refused = Taken { refused: true, ..Taken::default() };
        assert_eq!(judge(&holds(9, 99), refused, |_| false), CanaryOutcome::Foreign);
    }

    #[test]
    fn a_look_tells_the_worst_of_its_answers_and_the_next_one_begins_anew() {
        let mut canary = CanaryWatch { first_answer: true, ..CanaryWatch::default() };
        let outcome = |canary: &CanaryWatch| canary.report().unwrap().outcome;
        canary.note(CanaryOutcome::Missing, start());
        canary.note(CanaryOutcome::Ok, start());
        assert_eq!(outcome(&canary), CanaryOutcome::Missing);
        canary.first_answer = true;
        canary.note(CanaryOutcome::Ok, start());
        assert_eq!(outcome(&canary), CanaryOutcome::Ok);
    }

    #[test]
    fn an_answer_from_before_an_upload_says_nothing() {
        let mut canary = CanaryWatch::default();
        let taken = Taken { revision: Some(1), ..Taken::default() };
        let ask = |canary: &mut CanaryWatch| {
            let asked = Inspection { period: period(1), since: start().monotonic, taken };
            canary.asked.insert(relay(1), asked);
        };
        ask(&mut canary);
        assert!(canary.expects(period(1), relay(1), taken));
        assert!(!canary.expects(period(1), relay(1), taken));
        ask(&mut canary);
        let newer = Taken { revision: Some(2), ..taken };
        assert!(!canary.expects(period(1), relay(1), newer));
    }

    #[test]
    fn hsdirs_that_go_on_refusing_are_asked_at_the_ordinary_pace() {
        let now = start().monotonic;
        let mut canary = CanaryWatch::default();
        canary.suspect(relay(1), now, &mut rng());
        assert!(canary.look_at.unwrap() <= now + SOON.1);
        canary.looked_at = Some(now);
        canary.look_at = None;
        canary.suspect(relay(1), now, &mut rng());
        assert_eq!(canary.look_at, Some(now + PACE));
    }
}

//! Watches whether HSDirs still hold what they took, and whether anybody else
//! publishes the address.
//!
//! Now and then, at times that nobody can foresee, one HSDir that clients ask in
//! the current period is asked for our descriptor, as a client would. Services
//! never fetch their own: so it is seldom, and never soon after an upload. When,
//! and what to think of the answers, is decided here; what follows from it, in
//! [`publish`](super::publish).

use std::time::{Duration, Instant};

use rand::{Rng, RngExt as _};

use super::fact::{FetchFailure, FetchedDescriptor, Now};
use super::hsdir::TakenRevision;
use super::ring::Ring;
use super::schedule::{Alarm, between, exponential};
use super::settings::Publishers;
use crate::onion::{Period, RelayId, SessionId};
use crate::status::{Canary as Report, CanaryOutcome, Timestamp};

/// How long after one look the next follows, on average. Rounds bring HSDirs
/// what they have lost long before.
const PACE: Duration = Duration::from_secs(210 * 60);
/// The same where others publish, too: looks are all that is known of them.
const PACE_AMONG_SEVERAL: Duration = Duration::from_secs(30 * 60);
/// An HSDir that took a descriptor is not asked for so long.
const QUIET: Duration = Duration::from_secs(30 * 60);
/// In short periods these are such parts of them.
const PARTS: (u32, u32) = (7, 48);
/// When to look after a reason for doubt ...
const SOON: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(15));
/// ... but not more often than this.
const NOT_BEFORE: Duration = Duration::from_secs(10 * 60);
/// After so long the answer is given up as lost.
const ANSWER_LIMIT: Duration = Duration::from_secs(2 * 60);
/// How long another publisher is remembered: by then no HSDir holds anything
/// of it any more, if it has stopped.
const STRANGER: Duration = Duration::from_secs(3 * 60 * 60);

/// What was asked and seen.
#[derive(Debug, Default)]
pub(super) struct CanaryWatch {
    look_at: Option<Instant>,
    looked_at: Option<Instant>,
    asked: Option<Inspection>,
    report: Option<Report>,
    stranger: Option<(Instant, String)>,
}

/// An HSDir that is being asked.
#[derive(Debug)]
struct Inspection {
    relay: RelayId,
    period: Period,
    since: Instant,
    /// What was known of it then; if that changes, the answer says nothing.
    taken: TakenRevision,
}

/// How long after a look the next one follows, on average, and how long an HSDir
/// is left alone that took a descriptor.
pub(super) fn pace(publishers: Publishers, period: Period) -> (Duration, Duration) {
    let (pace, part) = match publishers {
        Publishers::One => (PACE, PARTS.0),
        Publishers::Several => (PACE_AMONG_SEVERAL, PARTS.1),
    };
    (pace.min(period.part(part)), QUIET.min(period.part(PARTS.1)))
}

impl CanaryWatch {
    /// Whom of the current period's ring to ask now.
    pub(super) fn due(
        &mut self,
        ring: &Ring,
        publishers: Publishers,
        alarm: &mut Alarm,
        rng: &mut impl Rng,
    ) -> Option<RelayId> {
        let now = alarm.now();
        self.asked.take_if(|asked| alarm.reached(asked.since + ANSWER_LIMIT));
        if self.stranger.as_ref().is_some_and(|(seen, _)| alarm.reached(*seen + STRANGER)) {
            self.stranger = None;
        }
        let (pace, quiet) = pace(publishers, ring.view.period);
        let at = match self.look_at {
            Some(at) => at,
            None if ring.is_done() && ring.is_found() => {
                *self.look_at.insert(now + exponential(pace, rng))
            }
            None => return None,
        };
        if !alarm.reached(at) {
            return None;
        }
        let chosen = choose(ring, quiet, alarm, rng);
        let next = match chosen {
            Some(_) => now + exponential(pace, rng).max(Duration::from_secs(1)),
            // All of them took something lately.
            None => now + between(quiet / 4, quiet / 2, rng).max(Duration::from_secs(1)),
        };
        self.look_at = Some(next);
        alarm.reached(next);
        let relay = chosen?;
        self.looked(now);
        let taken = ring.hsdirs.get(&relay).map(|hsdir| hsdir.taken()).unwrap_or_default();
        self.asked = Some(Inspection { relay, period: ring.view.period, since: now, taken });
        alarm.reached(now + ANSWER_LIMIT);
        Some(relay)
    }

    /// The machine has slept: HSDirs may have lost what they held.
    pub(super) fn slept(&mut self, now: Instant, rng: &mut impl Rng) {
        self.look_soon(now, rng);
    }

    /// An HSDir is asked what it holds.
    pub(super) fn looked(&mut self, now: Instant) {
        self.looked_at = Some(now);
    }

    fn look_soon(&mut self, now: Instant, rng: &mut impl Rng) {
        let earliest = self.looked_at.map_or(now, |at| at + NOT_BEFORE);
        let soon = (now + between(SOON.0, SOON.1, rng)).max(earliest);
        self.look_at = Some(self.look_at.map_or(soon, |at| at.min(soon)));
    }

    /// Whether an answer belongs to what was asked, and nothing has been
    /// uploaded meanwhile.
    pub(super) fn expects(&mut self, period: Period, relay: RelayId, taken: TakenRevision) -> bool {
        let asked = self.asked.take_if(|asked| asked.relay == relay);
        asked.is_some_and(|asked| asked.period == period && asked.taken == taken)
    }

    /// Notes what came out.
    pub(super) fn note(&mut self, outcome: CanaryOutcome, now: Now) {
        self.report = Some(Report { checked_at: Timestamp(now.wall), outcome });
    }

    /// Somebody else publishes the address.
    pub(super) fn warn(&mut self, relay: RelayId, revision: u64, now: Now) {
        self.stranger = Some((
            now.monotonic,
            format!(
                "another publisher has this address's key: HSDir {relay} holds revision {revision} \
                 that is not ours; unless another program of yours publishes this address, or did \
                 until three hours ago, the key is in other hands"
            ),
        ));
    }

    /// Among several who publish the address, one does for other clients.
    pub(super) fn warn_of_other_readers(&mut self, relay: RelayId, revision: u64, now: Now) {
        self.stranger = Some((
            now.monotonic,
            format!(
                "another publisher publishes this address for other clients: HSDir {relay} holds \
                 revision {revision} that is not for ours alone; give all publishers the same \
                 `restricted_discovery`; if they had it for the last three hours, the key is in \
                 other hands"
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

/// One HSDir that clients ask and that took nothing lately.
fn choose(ring: &Ring, quiet: Duration, alarm: &mut Alarm, rng: &mut impl Rng) -> Option<RelayId> {
    let fit = |hsdir: &super::hsdir::HsdirUploads, alarm: &mut Alarm| {
        (hsdir.holds_any() || hsdir.taken().refused)
            && !hsdir.is_uploading()
            && hsdir.accepted_at().is_none_or(|at| alarm.reached(at + quiet))
    };
    let mut relays: Vec<RelayId> =
        ring.asked().filter(|(_, hsdir)| fit(hsdir, alarm)).map(|(it, _)| it.relay).collect();
    relays.sort_unstable();
    relays.dedup();
    (!relays.is_empty()).then(|| relays[rng.random_range(0..relays.len())])
}

/// What to think of what an HSDir holds. `signed` is its revision if it is signed with our
/// key, whoever may read it; `ours` knows the points that we have published.
pub(super) fn judge(
    seen: &Result<FetchedDescriptor, FetchFailure>,
    signed: Option<u64>,
    taken: TakenRevision,
    ours: impl Fn(&SessionId) -> bool,
) -> CanaryOutcome {
    let seen = match seen {
        Ok(seen) => seen,
        Err(FetchFailure::Unreachable(_)) => return CanaryOutcome::Unreachable,
        Err(FetchFailure::NotFound) => return CanaryOutcome::Missing,
        Err(FetchFailure::Unusable(_)) => return judge_unreadable(signed, taken),
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

/// The same of what we cannot read: whoever has our key may have made it for others.
fn judge_unreadable(signed: Option<u64>, taken: TakenRevision) -> CanaryOutcome {
    let Some(seen) = signed else { return CanaryOutcome::Missing };
    match taken.revision {
        // Ours, for the clients of before.
        Some(taken) if seen < taken => CanaryOutcome::Old,
        Some(taken) if seen == taken => CanaryOutcome::Missing,
        _ if taken.unsure => CanaryOutcome::Missing,
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
        let taken = TakenRevision { revision: Some(5), unsure, refused: false };
        judge(&seen, None, taken, |session| session.0[1] < 10)
    }

    /// The same of one that is signed with our key and for others.
    fn of_unreadable(revision: u64, taken: TakenRevision) -> CanaryOutcome {
        let unusable = Err(FetchFailure::Unusable("its descriptor is for other clients".into()));
        judge(&unusable, Some(revision), taken, |_| true)
    }

    #[test]
    fn what_our_key_has_signed_for_others_is_a_strangers_unless_it_may_be_ours_of_before() {
        let took = TakenRevision { revision: Some(5), unsure: false, refused: false };
        assert_eq!(of_unreadable(6, took), CanaryOutcome::Foreign);
        assert_eq!(of_unreadable(5, took), CanaryOutcome::Missing);
        assert_eq!(of_unreadable(4, took), CanaryOutcome::Old);
        let unsure = TakenRevision { unsure: true, ..took };
        assert_eq!(of_unreadable(6, unsure), CanaryOutcome::Missing);
        let refused = TakenRevision { refused: true, ..TakenRevision::default() };
        assert_eq!(of_unreadable(1, refused), CanaryOutcome::Foreign);
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
        let refused = TakenRevision { refused: true, ..TakenRevision::default() };
        assert_eq!(judge(&holds(9, 99), None, refused, |_| false), CanaryOutcome::Foreign);
    }

    #[test]
    fn a_look_takes_place_every_few_hours_and_more_often_only_among_several_publishers() {
        let day = Period { number: 1, length_minutes: 1440, offset_seconds: 0 };
        let minutes = |publishers, period| {
            let (pace, quiet) = pace(publishers, period);
            (pace.as_secs() / 60, quiet.as_secs() / 60)
        };
        assert_eq!(minutes(Publishers::One, day), (205, 30));
        assert_eq!(minutes(Publishers::Several, day), (30, 30));
        // A private network's periods are over before.
        let short = Period { length_minutes: 48, ..day };
        assert_eq!(minutes(Publishers::One, short), (6, 1));
    }

    #[test]
    fn an_answer_from_before_an_upload_says_nothing() {
        let mut canary = CanaryWatch::default();
        let taken = TakenRevision { revision: Some(1), ..TakenRevision::default() };
        let ask = |canary: &mut CanaryWatch| {
            let (relay, since) = (relay(1), start().monotonic);
            canary.asked = Some(Inspection { relay, period: period(1), since, taken });
        };
        ask(&mut canary);
        assert!(canary.expects(period(1), relay(1), taken));
        assert!(!canary.expects(period(1), relay(1), taken));
        ask(&mut canary);
        let newer = TakenRevision { revision: Some(2), ..taken };
        assert!(!canary.expects(period(1), relay(1), newer));
    }

    #[test]
    fn a_reason_for_doubt_brings_the_next_look_near_but_not_after_another_one() {
        let now = start().monotonic;
        let mut canary = CanaryWatch::default();
        canary.slept(now, &mut rng());
        assert!(canary.look_at.unwrap() <= now + SOON.1);
        canary.looked(now);
        canary.look_at = None;
        canary.slept(now, &mut rng());
        assert_eq!(canary.look_at, Some(now + NOT_BEFORE));
    }
}

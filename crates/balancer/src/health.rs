//! Judges one backend by its probes: which of its introduction points fail, and
//! whether it is down as a whole.
//!
//! The rules:
//!
//! - A point fails after [`FAILURES`] failures in a row and works again after
//!   [`SUCCESSES`] good probes in a row: one lost cell changes nothing.
//! - A backend whose every point failed when last asked is down after as many
//!   failures in a row over all of them (one that replaces a point that failed
//!   need not be asked for that), and up again as soon as every point was good
//!   when last asked. What stands and falls with the backend leaves
//!   and enters the descriptor at once, not point by point.
//! - A backend whose application fails is down by the same numbers, counted
//!   over all of its points; they themselves work.
//! - A relay that refuses an introduction has lost the point, or passes no more
//!   for now than its rate limit allows. So refusals alone condemn only once
//!   they have gone on for [`REFUSED_FOR`], in which a bucket fills again.
//! - **A failure proves something only if somebody else did better.** It
//!   counts if a probe of another point has succeeded between the failure that
//!   was counted before and the beginning of this probe, and failures change a
//!   verdict only once a probe of another point has succeeded after them. While
//!   our own side of the network is broken no probe succeeds, so however long
//!   that lasts, it adds one failure and condemns nobody; and a backend that
//!   nobody outdoes is kept, since withdrawing it would help no client.
//!
//! Called by [`probing`](super::probing), which counts the successes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::fact::ProbeFailure;
use super::memory::FailingPoint;
use crate::onion::{IntroPoint, SessionId};

/// So many failures in a row make a point, or a backend, fail ...
const FAILURES: u32 = 2;
/// ... and so many successes in a row make it work again.
const SUCCESSES: u32 = 2;
/// How long nothing but refusals must go on before they count: C tor's default
/// bucket of 200 introductions fills in 8 s. Short enough that a backend that
/// was killed leaves within 90 s where probes come every 30.
const REFUSED_FOR: Duration = Duration::from_secs(25);

/// What is believed of one backend because of probes.
#[derive(Debug, Default)]
pub(super) struct BackendHealth {
    points: BTreeMap<SessionId, ProbeRecord>,
    /// The results at all points, in a row.
    everywhere: Streak,
    application: ProbeRecord,
    /// What failed before a restart, and why, until points are offered.
    recalled: BTreeMap<SessionId, String>,
}

/// What is believed of a point, or of the application behind all of them.
#[derive(Clone, Debug, Default)]
struct ProbeRecord {
    fails: bool,
    streak: Streak,
    /// Why it failed last.
    reason: String,
}

/// The newest results, as far back as they agree.
#[derive(Clone, Debug, Default)]
struct Streak {
    successes: u32,
    /// The failures that count.
    failures: u32,
    /// When the relay refused first and last, if these failures are nothing but
    /// refusals.
    refused: Option<(Instant, Instant)>,
    /// How many probes had succeeded anywhere when the last of them was counted.
    counted_at: u64,
}

impl BackendHealth {
    /// The backend has these points now. What is known of others is forgotten.
    ///
    /// A point never seen before counts as good, unless the backend has failed
    /// wherever it was asked lately: then the point has to prove itself first.
    pub(super) fn offered(&mut self, points: &[IntroPoint]) {
        let suspect = self.all_fail() || self.everywhere.failures >= FAILURES;
        let reason = self.points.values().map(|trial| &trial.reason).find(|it| !it.is_empty());
        let reason = reason.filter(|_| suspect).cloned().unwrap_or_default();
        let newcomer = ProbeRecord { fails: suspect, streak: Streak::default(), reason };
        let sessions = || points.iter().map(|point| point.session_id);
        self.points.retain(|session, _| sessions().any(|offered| offered == *session));
        for session in sessions() {
            let recalled = self.recalled.remove(&session);
            self.points.entry(session).or_insert_with(|| match recalled {
                Some(reason) => ProbeRecord { fails: true, streak: Streak::default(), reason },
                None => newcomer.clone(),
            });
        }
        if !points.is_empty() {
            self.recalled.clear();
        }
    }

    /// This failed before a restart: it has to prove itself by the ordinary rule.
    pub(super) fn recall(&mut self, failing: &[FailingPoint], broken: Option<&str>) {
        self.recalled = failing.iter().map(|it| (it.session, it.reason.clone())).collect();
        if let Some(reason) = broken {
            self.application.fails = true;
            reason.clone_into(&mut self.application.reason);
        }
    }

    /// The points that fail, to be recalled after a restart ...
    pub(super) fn failing(&self) -> Vec<FailingPoint> {
        let failing = self.points.iter().filter(|(_, trial)| trial.fails);
        let failing = failing.map(|(session, trial)| (session, &trial.reason));
        let known = |(session, reason): (&SessionId, &String)| FailingPoint {
            session: *session,
            reason: reason.clone(),
        };
        failing.chain(&self.recalled).map(known).collect()
    }

    /// ... and why the application fails, if it does.
    pub(super) fn broken(&self) -> Option<&str> {
        self.application.fails.then_some(self.application.reason.as_str())
    }

    /// A probe of one point has ended. `successes` counts those of the service,
    /// as the probe began and as it ended, which is `now`.
    /// True if it contradicts what is believed of the point or the application.
    pub(super) fn probed(
        &mut self,
        session: SessionId,
        outcome: &Result<(), ProbeFailure>,
        successes: (u64, u64),
        now: Instant,
    ) -> bool {
        let Some(point) = self.points.get_mut(&session) else { return false };
        match outcome {
            Err(ProbeFailure::Inconclusive(_)) => return false,
            Err(ProbeFailure::Point(reason)) => {
                self.everywhere.failed(successes);
                point.failed(reason, successes);
            }
            Err(ProbeFailure::Refused(reason)) => {
                self.everywhere.refused(successes, now);
                point.streak.refused(successes, now);
                reason.clone_into(&mut point.reason);
            }
            Err(ProbeFailure::Application(reason)) => {
                self.everywhere.succeeded();
                point.streak.succeeded();
                self.application.failed(reason, successes);
            }
            Ok(()) => {
                self.everywhere.succeeded();
                point.streak.succeeded();
                self.application.streak.succeeded();
            }
        }
        point.is_in_doubt() || self.application.is_in_doubt()
    }

    /// Draws the conclusions; to be called whenever a probe has ended anywhere.
    pub(super) fn judge(&mut self, successes: u64) {
        let against = self.points.values().all(|trial| trial.speaks_against(successes));
        let well = self.points.values().all(|trial| trial.streak.successes > 0);
        if against && self.everywhere.condemns(successes) {
            self.points.values_mut().for_each(|trial| trial.fails = true);
        } else if well && self.all_fail() && self.everywhere.acquits() {
            self.points.values_mut().for_each(|trial| trial.fails = false);
        }
        for trial in self.points.values_mut().chain([&mut self.application]) {
            trial.fails = if trial.fails {
                !trial.streak.acquits()
            } else {
                trial.streak.condemns(successes)
            };
        }
    }

    /// What failed lately may have been our own fault: it counts no longer.
    /// Verdicts stay.
    pub(super) fn forgive(&mut self) {
        let trials = self.points.values_mut().chain([&mut self.application]);
        for streak in trials.map(|trial| &mut trial.streak).chain([&mut self.everywhere]) {
            (streak.failures, streak.refused) = (0, None);
        }
    }

    /// The application is known to answer again, from elsewhere.
    pub(super) fn application_is_back(&mut self) {
        self.application = ProbeRecord::default();
    }

    /// Whether the newest results contradict what is believed, and have not
    /// been enough to change it.
    pub(super) fn is_in_doubt(&self) -> bool {
        self.points.values().chain([&self.application]).any(ProbeRecord::is_in_doubt)
    }

    /// Whether this point should not be listed.
    pub(super) fn fails(&self, session: SessionId) -> bool {
        self.points.get(&session).is_some_and(|trial| trial.fails)
    }

    /// Whether this point has failed by itself, not only together with all others.
    pub(super) fn is_broken(&self, session: SessionId, successes: u64) -> bool {
        self.points.get(&session).is_some_and(|trial| trial.streak.condemns(successes))
    }

    /// Why the backend is down, if it is.
    pub(super) fn down(&self) -> Option<String> {
        if let Some(reason) = self.broken() {
            Some(reason.to_owned())
        } else if self.all_fail() {
            self.complaint()
        } else {
            None
        }
    }

    /// How many points fail, and why, if any do.
    pub(super) fn complaint(&self) -> Option<String> {
        let mut failing = self.points.values().filter(|trial| trial.fails);
        let reason = &failing.next()?.reason;
        let (failing, all) = (1 + failing.count(), self.points.len());
        Some(match (failing, all) {
            (1, 1) => format!("its only introduction point fails: {reason}"),
            (_, _) if failing == all => format!("all {all} introduction points fail: {reason}"),
            (1, _) => format!("1 of {all} introduction points fails: {reason}"),
            (_, _) => format!("{failing} of {all} introduction points fail: {reason}"),
        })
    }

    fn all_fail(&self) -> bool {
        !self.points.is_empty() && self.points.values().all(|trial| trial.fails)
    }
}

impl ProbeRecord {
    fn failed(&mut self, reason: &str, successes: (u64, u64)) {
        self.streak.failed(successes);
        reason.clone_into(&mut self.reason);
    }

    /// Whether it failed when last asked and others have done better since, or is
    /// believed to fail and has not been asked.
    fn speaks_against(&self, successes: u64) -> bool {
        self.streak.failures > 0 && self.streak.is_outdone(successes)
            || self.fails && self.streak.successes == 0
    }

    fn is_in_doubt(&self) -> bool {
        if self.fails { self.streak.successes > 0 } else { self.streak.failures > 0 }
    }
}

impl Streak {
    fn succeeded(&mut self) {
        *self = Self { successes: self.successes.saturating_add(1), ..Self::default() };
    }

    fn refused(&mut self, successes: (u64, u64), now: Instant) {
        let before = (self.failures == 0).then_some((now, now)).or(self.refused);
        self.failed(successes);
        self.refused = before.map(|(first, _)| (first, now));
    }

    fn failed(&mut self, (began_at, ended_at): (u64, u64)) {
        self.successes = 0;
        self.refused = None;
        if self.failures == 0 || began_at > self.counted_at {
            self.failures = self.failures.saturating_add(1);
            self.counted_at = ended_at;
        }
    }

    /// Whether it has failed often enough, and others have done better since.
    fn condemns(&self, successes: u64) -> bool {
        self.failures >= FAILURES && self.is_outdone(successes) && !self.may_be_limited()
    }

    /// Whether the relay may do no more than keep to its rate limit.
    fn may_be_limited(&self) -> bool {
        self.refused.is_some_and(|(first, last)| last.duration_since(first) < REFUSED_FOR)
    }

    /// Whether others have done better since the last failure that counts.
    fn is_outdone(&self, successes: u64) -> bool {
        successes > self.counted_at
    }

    fn acquits(&self) -> bool {
        self.successes >= SUCCESSES
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{point, start};
    use super::*;

    const NONE: [u16; 0] = [];

    /// One backend, and the successes of its neighbours.
    #[derive(Default)]
    struct World {
        health: BackendHealth,
        successes: u64,
        /// Since the first moment.
        passed: Duration,
    }

    impl World {
        fn with(sessions: &[u16]) -> Self {
            let mut world = Self::default();
            world.offered(sessions);
            world
        }

        fn offered(&mut self, sessions: &[u16]) {
            let points: Vec<_> = sessions.iter().map(|n| point(*n, *n)).collect();
            self.health.offered(&points);
        }

        fn probed(&mut self, session: u16, outcome: Result<(), ProbeFailure>) -> bool {
            let before = self.successes;
            self.successes += u64::from(outcome.is_ok());
            let session = point(session, 0).session_id;
            let successes = (before, self.successes);
            let now = start().monotonic + self.passed;
            let contradicts = self.health.probed(session, &outcome, successes, now);
            self.health.judge(self.successes);
            contradicts
        }

        fn good(&mut self, session: u16) {
            self.probed(session, Ok(()));
        }

        fn dead(&mut self, session: u16) {
            self.probed(session, Err(ProbeFailure::Point("no answer".into())));
        }

        fn refused(&mut self, session: u16) {
            self.probed(session, Err(ProbeFailure::Refused("unknown point".into())));
        }

        fn broken(&mut self, session: u16) {
            self.probed(session, Err(ProbeFailure::Application("502".into())));
        }

        /// A probe of another backend succeeds.
        fn neighbour(&mut self) {
            self.successes += 1;
            self.health.judge(self.successes);
        }

        /// The failing points of 1, 2, 3.
        fn failing(&self) -> Vec<u16> {
            (1..=3).filter(|n| self.health.fails(point(*n, 0).session_id)).collect()
        }
    }

    #[test]
    fn a_point_fails_after_two_failures_in_a_row_and_works_after_two_good_ones() {
        let mut world = World::with(&[1, 2, 3]);
        for _ in 0..3 {
            world.dead(1);
            world.good(2);
            world.good(1);
            world.good(3);
        }
        assert_eq!(world.failing(), NONE);
        world.dead(1);
        world.good(2);
        world.dead(1);
        assert_eq!(world.failing(), NONE, "nobody has done better since");
        world.good(3);
        assert_eq!(world.failing(), [1]);
        assert_eq!(world.health.down(), None);
        let complaint = world.health.complaint().unwrap();
        assert_eq!(complaint, "1 of 3 introduction points fails: no answer");
        for _ in 0..3 {
            world.good(1);
            assert_eq!(world.failing(), [1]);
            world.dead(1);
        }
        world.good(1);
        world.good(1);
        assert_eq!(world.failing(), NONE);
    }

    #[test]
    fn what_is_inconclusive_counts_neither_way() {
        let mut world = World::with(&[1, 2]);
        let unknown = || Err(ProbeFailure::Inconclusive("no circuit".into()));
        world.dead(1);
        for _ in 0..9 {
            assert!(!world.probed(1, unknown()));
            world.good(2);
        }
        assert_eq!(world.failing(), NONE);
        world.dead(1);
        world.good(2);
        assert_eq!(world.failing(), [1]);
        world.good(1);
        assert!(!world.probed(1, unknown()));
        world.good(1);
        assert_eq!(world.failing(), NONE);
    }

    #[test]
    fn a_backend_goes_and_comes_back_as_a_whole_when_all_of_its_points_agree() {
        let mut world = World::with(&[1, 2, 3]);
        world.dead(1);
        world.neighbour();
        world.dead(2);
        world.neighbour();
        assert_eq!(world.failing(), NONE);
        world.dead(3);
        world.neighbour();
        assert_eq!(world.failing(), [1, 2, 3]);
        let reason = world.health.down().unwrap();
        assert_eq!(reason, "all 3 introduction points fail: no answer");
        world.good(1);
        world.good(2);
        assert_eq!(world.failing(), [1, 2, 3]);
        world.good(3);
        assert_eq!(world.failing(), NONE);
    }

    #[test]
    fn the_last_point_that_works_does_not_fail_before_others_have_done_better() {
        let mut world = World::with(&[1, 2, 3]);
        world.good(3);
        for _ in 0..2 {
            for hangs in [1, 2] {
                world.dead(hangs);
                world.neighbour();
            }
        }
        assert_eq!(world.failing(), [1, 2]);
        world.dead(3);
        assert_eq!(world.failing(), [1, 2], "that may be our own side");
        world.neighbour();
        assert_eq!(world.failing(), [1, 2, 3]);
    }

    #[test]
    fn a_backend_with_a_single_point_goes_by_the_same_numbers() {
        let mut world = World::with(&[1]);
        world.dead(1);
        world.neighbour();
        assert_eq!(world.health.down(), None);
        world.dead(1);
        world.neighbour();
        let reason = world.health.down().unwrap();
        assert_eq!(reason, "its only introduction point fails: no answer");
        world.good(1);
        assert!(world.health.down().is_some());
        world.good(1);
        assert_eq!(world.health.down(), None);
    }

    #[test]
    fn while_nobody_does_better_no_number_of_failures_changes_anything() {
        let mut world = World::with(&[1, 2, 3]);
        for n in 0..100 {
            world.dead(n % 3 + 1);
        }
        assert_eq!(world.failing(), NONE);
        // When others succeed again, all of that counts as one failure.
        world.neighbour();
        assert_eq!(world.failing(), NONE);
        world.good(1);
        world.good(2);
        world.good(3);
        assert!(!world.health.is_in_doubt());
    }

    #[test]
    fn the_last_point_that_nobody_outdoes_stays() {
        let mut world = World::with(&[1, 2]);
        world.dead(1);
        world.good(2);
        world.dead(1);
        world.good(2);
        assert_eq!(world.failing(), [1]);
        for _ in 0..9 {
            world.dead(2);
            world.dead(1);
        }
        assert_eq!(world.failing(), [1]);
    }

    #[test]
    fn an_application_fails_and_recovers_over_all_points_and_leaves_them_good() {
        let mut world = World::with(&[1, 2, 3]);
        world.broken(1);
        world.neighbour();
        world.good(3);
        world.broken(2);
        world.neighbour();
        assert_eq!(world.health.down(), None);
        world.broken(3);
        world.neighbour();
        assert_eq!(world.health.down(), Some("502".into()));
        assert_eq!(world.failing(), NONE);
        world.good(1);
        assert!(world.health.down().is_some());
        world.good(2);
        assert_eq!(world.health.down(), None);
    }

    #[test]
    fn a_new_point_counts_as_good_unless_its_backend_fails_everywhere() {
        let mut world = World::with(&[1, 2]);
        world.dead(1);
        world.good(2);
        world.dead(1);
        world.good(2);
        world.offered(&[1, 2, 3]);
        assert_eq!(world.failing(), [1]);
        let mut world = World::with(&[1, 2]);
        for session in [1, 2] {
            world.dead(session);
            world.neighbour();
        }
        world.offered(&[3]);
        assert_eq!(world.failing(), [3]);
        world.dead(3);
        world.neighbour();
        let session = point(3, 0).session_id;
        assert!(!world.health.is_broken(session, world.successes), "it was asked only once");
        world.good(3);
        world.good(3);
        assert_eq!(world.failing(), NONE);
    }

    #[test]
    fn a_replacement_does_not_hide_that_the_whole_instance_hangs() {
        let mut world = World::with(&[1, 2]);
        for _ in 0..2 {
            world.dead(1);
            world.neighbour();
        }
        assert_eq!(world.failing(), [1]);
        world.offered(&[3, 2]);
        assert_eq!(world.failing(), [3]);
        // So the other needs no second failure either, nor the new one any.
        world.dead(2);
        world.neighbour();
        assert_eq!(world.failing(), [2, 3]);
        assert!(world.health.down().is_some());
        // Where another point was good since, the new one is believed.
        let mut world = World::with(&[1, 2]);
        for _ in 0..2 {
            world.dead(1);
            world.good(2);
        }
        world.offered(&[3, 2]);
        assert_eq!(world.failing(), NONE);
    }

    #[test]
    fn a_probe_that_began_before_others_did_better_adds_nothing() {
        let mut world = World::with(&[1]);
        world.dead(1);
        // It begins while our network is down, and ends when others succeed again.
        let began = world.successes;
        world.neighbour();
        let outcome = Err(ProbeFailure::Point("no circuit".into()));
        let session = point(1, 0).session_id;
        world.health.probed(session, &outcome, (began, world.successes), start().monotonic);
        world.neighbour();
        assert_eq!(world.failing(), NONE);
    }

    #[test]
    fn the_results_of_a_session_that_is_gone_are_forgotten() {
        let mut world = World::with(&[1, 2]);
        world.dead(1);
        world.offered(&[2]);
        world.dead(1);
        world.offered(&[1, 2]);
        assert!(!world.health.is_in_doubt());
    }

    #[test]
    fn what_failed_before_a_restart_fails_until_two_good_answers() {
        let mut world = World::with(&[1, 2]);
        for _ in 0..2 {
            world.dead(1);
            world.good(2);
        }
        let failing = world.health.failing();
        let mut world = World::default();
        world.health.recall(&failing, None);
        world.offered(&[]);
        assert_eq!(world.health.failing(), failing, "another restart forgets nothing");
        world.offered(&[1, 2, 3]);
        assert_eq!(world.failing(), [1]);
        let complaint = world.health.complaint().unwrap();
        assert_eq!(complaint, "1 of 3 introduction points fails: no answer");
        world.good(1);
        assert_eq!(world.failing(), [1]);
        world.good(1);
        assert_eq!(world.failing(), NONE);
        // What is no longer offered when the first points are known is over.
        let mut world = World::default();
        world.health.recall(&failing, None);
        world.offered(&[2]);
        world.offered(&[1, 2]);
        assert_eq!(world.failing(), NONE);
    }

    #[test]
    fn an_application_that_failed_before_a_restart_is_down_until_two_good_answers() {
        let mut world = World::default();
        world.health.recall(&[], Some("502"));
        world.offered(&[1, 2]);
        assert_eq!(world.health.down(), Some("502".into()));
        assert_eq!(world.health.broken(), Some("502"));
        world.good(1);
        assert!(world.health.down().is_some());
        world.good(2);
        assert_eq!(world.health.down(), None);
        assert_eq!(world.health.broken(), None);
    }

    #[test]
    fn what_is_forgiven_counts_no_longer_and_verdicts_stay() {
        let mut world = World::with(&[1, 2, 3]);
        for _ in 0..2 {
            world.dead(1);
            world.neighbour();
        }
        world.dead(2);
        world.broken(3);
        assert!(world.health.is_in_doubt());
        world.health.forgive();
        assert!(!world.health.is_in_doubt());
        assert_eq!(world.failing(), [1]);
        world.neighbour();
        world.dead(2);
        world.neighbour();
        assert_eq!(world.failing(), [1]);
    }

    #[test]
    fn a_result_that_contradicts_what_is_believed_says_so() {
        let mut world = World::with(&[1]);
        let dead = || Err(ProbeFailure::Point("no answer".into()));
        assert!(!world.probed(1, Ok(())));
        assert!(world.probed(1, dead()));
        world.neighbour();
        world.probed(1, dead());
        world.neighbour();
        assert!(!world.probed(1, dead()));
        assert!(world.probed(1, Ok(())));
        world.health.application_is_back();
        assert!(world.health.down().is_some());
    }

    #[test]
    fn a_relay_that_limits_introductions_condemns_no_point_however_often_it_refuses() {
        let mut world = World::with(&[1, 2, 3]);
        for _ in 0..20 {
            // Twenty refusals within a second less than it takes.
            for _ in 0..20 {
                world.refused(1);
                world.good(2);
                world.passed += (REFUSED_FOR - Duration::from_secs(1)) / 20;
            }
            assert_eq!(world.failing(), NONE);
            world.good(1);
            world.passed += Duration::from_secs(30);
        }
    }

    #[test]
    fn a_relay_that_goes_on_refusing_has_lost_the_point() {
        let mut world = World::with(&[1, 2, 3]);
        world.refused(1);
        world.good(2);
        world.passed += REFUSED_FOR;
        world.refused(1);
        assert_eq!(world.failing(), NONE, "nobody has done better since");
        world.good(2);
        assert_eq!(world.failing(), [1]);
    }

    #[test]
    fn silence_and_a_refusal_together_condemn_at_once() {
        let mut world = World::with(&[1, 2, 3]);
        world.dead(1);
        world.good(2);
        world.refused(1);
        world.good(2);
        assert_eq!(world.failing(), [1]);
    }

    #[test]
    fn a_killed_backend_whose_relays_all_refuse_goes_as_a_whole_but_not_at_once() {
        let mut world = World::with(&[1, 2, 3]);
        for _ in 0..2 {
            for session in [1, 2, 3] {
                world.refused(session);
                world.neighbour();
            }
            assert_eq!(world.failing(), NONE);
        }
        world.passed += REFUSED_FOR;
        world.refused(1);
        world.neighbour();
        assert_eq!(world.failing(), [1, 2, 3]);
    }
}

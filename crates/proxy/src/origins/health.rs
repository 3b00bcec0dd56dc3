//! Whether one origin is in use: what requests and checks say of it. Pure.
//!
//! Two judges, and an origin is used only if neither speaks against it.
//! *Requests*: `fail_after` failures in a row take it out for `fail_for`; then
//! a single request tries it, and its end decides. A request may last, so after
//! another `fail_for` without an end the next one may try. *Checks*, if there are
//! any: `fall` bad ones in a row take it out, `rise` good ones bring it back.
//!
//! The last signs of trouble are kept beside that, for whoever looks at the
//! status: an origin can refuse connections and still be in use.

use std::time::{Duration, Instant};

/// The thresholds, all at least 1.
#[derive(Clone, Copy, Debug)]
pub(super) struct Thresholds {
    /// Failed requests in a row that take it out ...
    pub(super) fail_after: u32,
    /// ... for this long.
    pub(super) fail_for: Duration,
    /// Good checks in a row that bring it back.
    pub(super) rise: u32,
    /// Bad checks in a row that take it out.
    pub(super) fall: u32,
}

/// What is known of one origin.
#[derive(Debug)]
pub(super) struct OriginHealth {
    thresholds: Thresholds,
    requests: RequestsSay,
    checks: Checks,
    signs: Signs,
}

/// What the last attempts to use it came to.
#[derive(Debug, Default)]
struct Signs {
    /// Why it accepted no connection.
    unreachable: Option<String>,
    /// What was wrong with its answer.
    unanswered: Option<String>,
}

/// A sign of trouble with an origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OriginTrouble {
    /// No connection could be made.
    Connecting,
    /// There was a connection, and no good answer.
    Answering,
}

/// What requests say.
#[derive(Debug)]
enum RequestsSay {
    /// It answers; so many failures since it last did.
    Fine { failures: u32 },
    /// It has failed too often.
    Out { until: Instant, why: String },
    /// One request finds out whether it is back. From this moment on another
    /// one may: nobody can say how long a request takes.
    Trial { until: Instant, why: String },
}

/// What checks say.
#[derive(Debug)]
enum Checks {
    /// It is well; so many bad checks since the last good one.
    Good { bad: u32 },
    /// It is not; so many good checks since the last bad one.
    Bad { good: u32, why: String },
}

/// A change of whether an origin is in use, for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum UseChange {
    /// It went out of use, for this reason.
    Out(String),
    /// It is in use again.
    Back,
}

/// Whether a request tries an origin that was out, and by the end of its time
/// which of these it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Trial(Option<Instant>);

impl OriginHealth {
    /// In use until something is said against it.
    pub(super) fn new(thresholds: Thresholds) -> Self {
        let (requests, checks) = (RequestsSay::Fine { failures: 0 }, Checks::Good { bad: 0 });
        Self { thresholds, requests, checks, signs: Signs::default() }
    }

    /// What the last attempts to use it came to, if to nothing good, whether or
    /// not it is in use.
    pub(super) fn trouble(&self) -> Option<&str> {
        self.signs.unreachable.as_deref().or(self.signs.unanswered.as_deref())
    }

    /// A request came to nothing, in this way.
    pub(super) fn saw(&mut self, trouble: OriginTrouble, why: &str) {
        let sign = match trouble {
            OriginTrouble::Connecting => &mut self.signs.unreachable,
            OriginTrouble::Answering => &mut self.signs.unanswered,
        };
        *sign = Some(why.to_owned());
    }

    /// Somebody connected to see whether it accepts connections. That decides
    /// nothing; it is told to whoever looks at the status.
    pub(super) fn looked(&mut self, result: Result<(), String>) {
        self.signs.unreachable = result.err();
    }

    /// What checks have against it.
    pub(super) fn ill(&self) -> Option<&str> {
        match &self.checks {
            Checks::Bad { why, .. } => Some(why),
            Checks::Good { .. } => None,
        }
    }

    /// What speaks against it now; `None`: it may get a request, be it a trial.
    pub(super) fn out(&self, now: Instant) -> Option<&str> {
        if let Some(why) = self.ill() {
            return Some(why);
        }
        match &self.requests {
            RequestsSay::Out { until, why } | RequestsSay::Trial { until, why } if now < *until => {
                Some(why)
            }
            RequestsSay::Fine { .. } | RequestsSay::Out { .. } | RequestsSay::Trial { .. } => None,
        }
    }

    /// A request goes to it, though requests may speak against it. What becomes
    /// of it has to be told, by one of the three methods below.
    pub(super) fn begin(&mut self, now: Instant) -> Trial {
        match &mut self.requests {
            RequestsSay::Out { until, why } | RequestsSay::Trial { until, why }
                if *until <= now =>
            {
                let (until, why) = (now + self.thresholds.fail_for, std::mem::take(why));
                self.requests = RequestsSay::Trial { until, why };
                Trial(Some(until))
            }
            RequestsSay::Fine { .. } | RequestsSay::Out { .. } | RequestsSay::Trial { .. } => {
                Trial(None)
            }
        }
    }

    /// The request was answered. Any answer proves life, also to a request
    /// that began before the origin was taken out.
    pub(super) fn answered(&mut self) -> Option<UseChange> {
        self.signs = Signs::default();
        let was_fine = matches!(self.requests, RequestsSay::Fine { .. });
        self.requests = RequestsSay::Fine { failures: 0 };
        (!was_fine && matches!(self.checks, Checks::Good { .. })).then_some(UseChange::Back)
    }

    /// The request failed, by a fault of the origin's.
    pub(super) fn failed(&mut self, trial: Trial, why: &str, now: Instant) -> Option<UseChange> {
        let out = RequestsSay::Out { until: now + self.thresholds.fail_for, why: why.to_owned() };
        match &mut self.requests {
            RequestsSay::Fine { failures } => {
                *failures = failures.saturating_add(1);
                if *failures < self.thresholds.fail_after {
                    return None;
                }
                self.requests = out;
                matches!(self.checks, Checks::Good { .. }).then(|| UseChange::Out(why.to_owned()))
            }
            RequestsSay::Trial { until, .. } if trial.0 == Some(*until) => {
                self.requests = out;
                None
            }
            // Others that fail while it is out say nothing new.
            RequestsSay::Trial { .. } | RequestsSay::Out { .. } => None,
        }
    }

    /// The request ended without a word on the origin, since its client left or
    /// there was no connection to spare. A trial may be tried again at once.
    pub(super) fn abandoned(&mut self, trial: Trial, now: Instant) {
        if let RequestsSay::Trial { until, why } = &mut self.requests
            && trial.0 == Some(*until)
        {
            self.requests = RequestsSay::Out { until: now, why: std::mem::take(why) };
        }
    }

    /// A check has ended; an error says what is wrong.
    pub(super) fn checked(&mut self, result: Result<(), String>) -> Option<UseChange> {
        let fine = matches!(self.requests, RequestsSay::Fine { .. });
        self.signs = Signs { unanswered: result.clone().err(), unreachable: None };
        match (&mut self.checks, result) {
            (Checks::Good { bad }, Ok(())) => {
                *bad = 0;
                None
            }
            (Checks::Good { bad }, Err(why)) => {
                *bad = bad.saturating_add(1);
                if *bad < self.thresholds.fall {
                    return None;
                }
                self.checks = Checks::Bad { good: 0, why: why.clone() };
                fine.then_some(UseChange::Out(why))
            }
            (Checks::Bad { good, .. }, Ok(())) => {
                *good = good.saturating_add(1);
                if *good < self.thresholds.rise {
                    return None;
                }
                self.checks = Checks::Good { bad: 0 };
                fine.then_some(UseChange::Back)
            }
            (Checks::Bad { good, why }, Err(reason)) => {
                *good = 0;
                *why = reason;
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOR: Duration = Duration::from_secs(10);

    fn health() -> OriginHealth {
        OriginHealth::new(Thresholds { fail_after: 3, fail_for: FOR, rise: 2, fall: 2 })
    }

    #[expect(clippy::disallowed_methods, reason = "any moment will do")]
    fn start() -> Instant {
        Instant::now()
    }

    fn fail(health: &mut OriginHealth, now: Instant) -> Option<UseChange> {
        let trial = health.begin(now);
        health.failed(trial, "refused", now)
    }

    fn taken_out() -> (OriginHealth, Instant) {
        let (mut health, now) = (health(), start());
        assert_eq!(fail(&mut health, now), None);
        assert_eq!(fail(&mut health, now), None);
        assert_eq!(fail(&mut health, now), Some(UseChange::Out("refused".into())));
        (health, now)
    }

    #[test]
    fn only_failures_in_a_row_take_an_origin_out() {
        let (mut health, now) = (health(), start());
        for _ in 0..10 {
            fail(&mut health, now);
            fail(&mut health, now);
            assert_eq!(health.answered(), None);
        }
        assert_eq!(health.out(now), None);
        let (health, now) = taken_out();
        assert_eq!(health.out(now), Some("refused"));
    }

    #[test]
    fn after_its_time_one_request_alone_tries_it() {
        let (mut health, now) = taken_out();
        assert!(health.out(now + FOR - Duration::from_millis(1)).is_some());
        let now = now + FOR;
        assert_eq!(health.out(now), None);
        let trial = health.begin(now);
        assert!(health.out(now).is_some(), "a trial is under way");
        assert_eq!(health.failed(trial, "again", now), None);
        assert_eq!(health.out(now), Some("again"));
        health.begin(now);
        assert_eq!(health.answered(), Some(UseChange::Back));
        assert_eq!(health.out(now), None);
        assert_eq!(fail(&mut health, now), None, "it counts from the beginning");
    }

    #[test]
    fn a_trial_that_nobody_waits_for_leaves_the_next_one_to_others() {
        let (mut health, now) = taken_out();
        let now = now + FOR;
        let trial = health.begin(now);
        health.abandoned(trial, now);
        assert_eq!(health.out(now), None);
        let (trial, other) = (health.begin(now), Trial(None));
        health.abandoned(other, now);
        assert!(health.out(now).is_some(), "only the trial itself can be abandoned");
        health.abandoned(trial, now);
        assert_eq!(health.out(now), None);
    }

    #[test]
    fn a_trial_that_does_not_end_leaves_the_next_one_to_another_after_its_time() {
        let (mut health, now) = taken_out();
        let now = now + FOR;
        let endless = health.begin(now);
        assert!(health.out(now + FOR - Duration::from_millis(1)).is_some());
        let now = now + FOR;
        assert_eq!(health.out(now), None);
        let next = health.begin(now);
        assert!(health.out(now).is_some(), "one at a time");
        health.abandoned(endless, now);
        health.failed(endless, "late", now);
        assert_eq!(health.out(now), Some("refused"), "it has had its time");
        assert_eq!(health.failed(next, "again", now), None);
        assert_eq!(health.out(now), Some("again"));
    }

    #[test]
    fn requests_that_go_there_for_want_of_another_origin_are_no_trials() {
        let (mut health, now) = taken_out();
        let trial = health.begin(now);
        assert_eq!(health.failed(trial, "again", now), None);
        assert_eq!(health.out(now), Some("refused"));
        assert_eq!(health.out(now + FOR), None, "they do not prolong the time");
        assert_eq!(health.answered(), Some(UseChange::Back));
    }

    #[test]
    fn requests_from_before_do_not_prolong_the_time_but_their_answers_count() {
        let (mut health, now) = taken_out();
        assert_eq!(health.failed(Trial(None), "late", now + FOR / 2), None);
        assert_eq!(health.out(now + FOR), None);
        assert_eq!(health.answered(), Some(UseChange::Back));
        assert_eq!(health.out(now), None);
    }

    #[test]
    fn checks_take_it_out_and_bring_it_back_by_their_own_thresholds() {
        let (mut health, now) = (health(), start());
        let bad = || Err("status 500".to_owned());
        assert_eq!(health.checked(bad()), None);
        assert_eq!(health.checked(Ok(())), None);
        assert_eq!(health.checked(bad()), None);
        assert_eq!(health.checked(bad()), Some(UseChange::Out("status 500".into())));
        assert_eq!(health.out(now), Some("status 500"));
        assert_eq!(health.answered(), None, "an answer to a request does not overrule checks");
        assert!(health.out(now).is_some());
        assert_eq!(health.checked(Ok(())), None);
        assert_eq!(health.checked(bad()), None);
        assert_eq!(health.checked(Ok(())), None);
        assert_eq!(health.checked(Ok(())), Some(UseChange::Back));
        assert_eq!(health.out(now), None);
    }

    #[test]
    fn the_last_sign_of_trouble_shows_until_something_better_is_seen() {
        let mut health = health();
        assert_eq!(health.trouble(), None);
        health.looked(Err("refused".into()));
        assert_eq!(health.trouble(), Some("refused"));
        health.looked(Ok(()));
        assert_eq!(health.trouble(), None);
        // That it accepts connections says nothing of its answers.
        health.saw(OriginTrouble::Answering, "no answer within 60s");
        health.saw(OriginTrouble::Connecting, "refused");
        health.looked(Ok(()));
        assert_eq!(health.trouble(), Some("no answer within 60s"));
        health.answered();
        assert_eq!(health.trouble(), None);
        health.checked(Err("status 500".into()));
        assert_eq!(health.trouble(), Some("status 500"));
        health.checked(Ok(()));
        assert_eq!(health.trouble(), None);
    }

    #[test]
    fn looks_alone_take_no_origin_out_and_bring_none_back() {
        let (mut health, now) = taken_out();
        health.looked(Ok(()));
        assert_eq!(health.out(now), Some("refused"));
        let mut health = self::health();
        (0..10).for_each(|_| health.looked(Err("refused".into())));
        assert_eq!(health.out(now), None);
    }

    #[test]
    fn good_checks_do_not_overrule_failing_requests() {
        let (mut health, now) = taken_out();
        assert_eq!(health.checked(Ok(())), None);
        assert_eq!(health.out(now), Some("refused"));
    }
}

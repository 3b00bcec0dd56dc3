//! The log lines of a service: what an operator may want to read afterwards.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::admin::orders::BackendOrder;
use crate::clock::now;
use crate::observe::snapshot::{Backend, BackendState, ServiceState, Timestamp, Word};
use crate::throttle::Throttle;
use onionbraid_balancer::fact::{BackendId, Fact, LinkNews};
use onionbraid_balancer::operator::Verb;
use onionbraid_balancer::pow::Effort;
use onionbraid_balancer::{Balancer, Belief};

use super::orders::BackendOrderOf;

/// A line for a fact, where there is something to say of it. `uploads` holds back
/// those of failed uploads: each HSDir of each service may have one at a time.
pub(super) fn fact(service: &str, balancer: &Balancer, fact: &Fact, uploads: &mut Throttle) {
    // One that a reload has removed has no name any more.
    let name = |id: &BackendId| balancer.name(*id).unwrap_or("removed backend");
    match fact {
        Fact::Uploaded { period, hsdir, outcome: Ok(revision), .. } => {
            tracing::debug!(service, period = period.number, %hsdir, revision, "descriptor stored");
        }
        Fact::Uploaded { period, hsdir, outcome: Err(error), .. } => {
            let period = period.number;
            tracing::debug!(service, period, %hsdir, %error, "descriptor not stored");
            // HSDirs tell whose service it is, so a log that is kept does not name them.
            if let Some(more) = uploads.permits(now().monotonic) {
                tracing::info!(service, more, "descriptor not stored by an HSDir");
            }
        }
        Fact::Fetched { backend, outcome: Err(error) } => {
            tracing::debug!(service, backend = name(backend), %error, "backend descriptor not fetched");
        }
        Fact::Fetched { backend, outcome: Ok(descriptor) } => {
            let points = descriptor.points.len();
            tracing::debug!(service, backend = name(backend), points, "backend descriptor fetched");
        }
        Fact::LocalPoints { backend, points, .. } => {
            tracing::debug!(
                service,
                backend = name(backend),
                points = points.len(),
                "local introduction points changed"
            );
        }
        Fact::Probed { backend, session, outcome: Ok(()) } => {
            tracing::debug!(
                service,
                backend = name(backend),
                point = session.prefix(),
                "probe succeeded"
            );
        }
        Fact::Probed { backend, session, outcome: Err(error) } => {
            let point = session.prefix();
            tracing::debug!(service, backend = name(backend), point, %error, "probe failed");
        }
        Fact::Proved { backend, outcome: Ok(()) } => {
            tracing::info!(service, backend = name(backend), "backend verifies proof of work");
        }
        Fact::Proved { backend, outcome: Err(error) } => {
            let backend = name(backend);
            tracing::debug!(service, backend, %error, "backend does not answer proof of work");
        }
        Fact::Link { backend, news } => {
            let was_up = balancer.standing(*backend).is_some();
            control_link(service, name(backend), was_up, news);
        }
        Fact::Puzzle(Some(puzzle)) => {
            let effort = puzzle.effort;
            tracing::debug!(service, effort, "proof of work parameters changed");
        }
        Fact::Puzzle(None) => tracing::debug!(service, "proof of work is off"),
        Fact::Origins(Ok(())) => tracing::info!(service, "an origin is reachable again"),
        Fact::Origins(Err(error)) => tracing::warn!(service, %error, "no origin is reachable"),
        Fact::Inspected { period, hsdir, outcome: Ok(descriptor), .. } => {
            let revision = descriptor.revision;
            tracing::debug!(service, period = period.number, %hsdir, revision, "descriptor inspected");
        }
        Fact::Inspected { period, hsdir, outcome: Err(error), .. } => {
            tracing::debug!(service, period = period.number, %hsdir, %error, "descriptor not inspected");
        }
        Fact::Network(_) | Fact::Bundle(_) => {}
    }
}

/// An operator of a publisher says something of this backend.
pub(super) fn publishers_word(service: &str, word: Word) {
    match word {
        Word::Ready => tracing::info!(service, "its publishers send new clients here"),
        Word::Drain => tracing::warn!(service, "a publisher drains this backend"),
        Word::Maintenance => tracing::warn!(service, "a publisher has this backend out of use"),
    }
}

fn control_link(service: &str, backend: &str, was_up: bool, news: &LinkNews) {
    match news {
        LinkNews::Reported { .. } if !was_up => {
            tracing::info!(service, backend, "control link established");
        }
        LinkNews::Reported { number, offered, .. } => {
            let points = offered.points.len();
            tracing::debug!(service, backend, number, points, "backend reported");
        }
        LinkNews::Lost(why) => tracing::info!(service, backend, why, "control link lost"),
        LinkNews::NotDialled(error) => {
            tracing::debug!(service, backend, %error, "no control link");
        }
    }
}

/// What the log was last told of a service: it is told what has changed.
pub(super) struct LoggedState {
    state: ServiceState,
    backends: BTreeMap<BackendId, (BackendState, usize)>,
    problems: [Option<(String, Instant)>; 4],
    /// Whether its own clients are asked for work, and those of other addresses that come
    /// here.
    asks: [bool; 2],
    /// How often it is told what others ask.
    others_ask: Throttle,
}

/// Failed uploads are told no more often: while nothing can be stored anywhere,
/// each of them says the same.
pub(super) const UPLOADS_EVERY: Duration = Duration::from_secs(60);

/// What publishers of other addresses ask of their clients is told no more often: one may say
/// something else ten times a second.
const OTHERS_EVERY: Duration = Duration::from_secs(60);

/// A problem whose words change is told no more often.
const AGAIN_AFTER: Duration = Duration::from_secs(10 * 60);

impl LoggedState {
    /// Of a service that has just started.
    pub(super) fn nothing() -> Self {
        Self {
            state: ServiceState::Starting,
            backends: BTreeMap::new(),
            problems: Default::default(),
            asks: [false; 2],
            others_ask: Throttle::new(OTHERS_EVERY),
        }
    }

    /// A line if clients are asked for work, or no longer: by its own descriptors, and by
    /// those of the publishers that it is a backend of.
    pub(super) fn tell_work(&mut self, service: &str, [own, elsewhere]: [Effort; 2], now: Instant) {
        let [asked, asked_elsewhere] = &mut self.asks;
        match (std::mem::replace(asked, own > 0), own > 0) {
            (false, true) => tracing::warn!(
                service,
                effort = own,
                "more clients come than can be met; asking them for work"
            ),
            (true, false) => tracing::info!(service, "no longer asking clients for work"),
            _ => {}
        }
        if *asked_elsewhere == (elsewhere > 0) || self.others_ask.permits(now).is_none() {
            return;
        }
        *asked_elsewhere = elsewhere > 0;
        if elsewhere > 0 {
            tracing::warn!(service, effort = elsewhere, "publishers ask clients for work");
        } else {
            tracing::info!(service, "publishers no longer ask clients for work");
        }
    }

    /// A line for everything that has changed.
    pub(super) fn tell(&mut self, service: &str, balancer: &Balancer, now: Instant) {
        let state = balancer.state();
        if state != self.state {
            self.state = state;
            tell_state(service, state);
        }
        self.tell_beliefs(service, balancer.beliefs());
        self.tell_problems(service, balancer.problems(), now);
    }

    fn tell_beliefs<'a>(&mut self, service: &str, beliefs: impl Iterator<Item = Belief<'a>>) {
        let mut told = BTreeMap::new();
        for belief in beliefs {
            let is = (belief.state, belief.failing);
            let was = self.backends.get(&belief.backend).copied();
            if was.unwrap_or((BackendState::Unknown, 0)) != is {
                tell_belief(service, &belief);
            }
            told.insert(belief.backend, is);
        }
        self.backends = told;
    }

    fn tell_problems(&mut self, service: &str, problems: [Option<String>; 4], now: Instant) {
        for (told, problem) in self.problems.iter_mut().zip(problems) {
            match (&told, problem) {
                (None, None) => {}
                (Some((text, _)), None) => {
                    tracing::info!(service, "problem solved: {text}");
                    *told = None;
                }
                (Some((text, at)), Some(problem))
                    if *text == problem || now - *at < AGAIN_AFTER => {}
                (_, Some(problem)) => {
                    tracing::error!(service, "{problem}");
                    *told = Some((problem, now));
                }
            }
        }
    }
}

/// A line for what is believed of a backend now.
fn tell_belief(service: &str, belief: &Belief<'_>) {
    let Belief { name: backend, reason, .. } = belief;
    let reason = reason.unwrap_or_default();
    match belief.state {
        BackendState::Up if belief.failing > 0 => {
            tracing::info!(
                service,
                backend,
                reason,
                "backend up; some introduction points failing"
            );
        }
        BackendState::Up => tracing::info!(service, backend, "backend up"),
        BackendState::Stale => tracing::warn!(service, backend, reason, "backend stale"),
        BackendState::Down => tracing::warn!(service, backend, reason, "backend down"),
        BackendState::Unknown => tracing::info!(service, backend, "backend state unknown"),
    }
}

/// A line for a new state.
fn tell_state(service: &str, state: ServiceState) {
    match state {
        ServiceState::Starting => tracing::info!(service, "service starting"),
        ServiceState::Publishing => tracing::info!(service, "publishing the descriptor"),
        ServiceState::Published => {
            tracing::info!(service, "service published; clients can reach it");
        }
        ServiceState::Down => tracing::error!(service, "service down; clients cannot reach it"),
    }
}

/// An operator has said something of a backend.
pub(super) fn operator(order: &BackendOrderOf) {
    let BackendOrderOf { service, backend, user, .. } = order;
    let user = user.map(tracing::field::display);
    let BackendOrder { verb, force } = order.order;
    // Only where it was said.
    let force = force.then_some(true);
    match verb {
        Verb::Ready => tracing::info!(service, backend, user, force, "operator: ready"),
        Verb::Drain => tracing::warn!(service, backend, user, force, "operator: drain"),
        Verb::Maintenance => tracing::warn!(service, backend, user, force, "operator: maintenance"),
        Verb::Weight { weight } => {
            tracing::info!(service, backend, user, force, weight, "operator: weight");
        }
    }
}

/// What operators said before holds still: after a start, or when a reload has
/// brought its backend back.
pub(super) fn still_operated(service: &str, backends: &[Backend]) {
    let display = |since: Option<Timestamp>| since.map(tracing::field::display);
    for it in backends {
        let backend = &it.name;
        let (user, since) = (it.operator_by, display(it.operator_since));
        let word = match it.operator {
            Word::Ready => None,
            Word::Drain => Some("drain"),
            Word::Maintenance => Some("maintenance"),
        };
        if let Some(word) = word {
            tracing::warn!(service, backend, word, user, since, "operator's word still holds");
        }
        let (user, since) = (it.weight_by, display(it.weight_since));
        if it.configured_weight.is_some() {
            let weight = it.weight;
            tracing::warn!(service, backend, weight, user, since, "operator's word still holds");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::logged::lines;

    fn belief(n: u32, state: BackendState, failing: usize) -> Belief<'static> {
        Belief { backend: BackendId(n), name: "berlin", state, failing, reason: Some("silence") }
    }

    #[test]
    fn a_service_that_nobody_answers_for_is_an_error_and_every_other_state_is_none() {
        use ServiceState::{Down, Published, Publishing, Starting};
        let level = |state| lines(|| tell_state("shop", state)).concat();
        assert_eq!(level(Down), "ERROR service down; clients cannot reach it service=\"shop\"");
        assert!([Starting, Publishing, Published].iter().all(|it| level(*it).starts_with("INFO")));
    }

    #[test]
    fn what_an_operator_said_is_told_again_while_it_holds() {
        use crate::observe::example::{EPOCH, backend};
        use crate::observe::snapshot::BackendKind::Remote;
        let said = Backend {
            operator: Word::Drain,
            configured_weight: Some(3),
            operator_since: Some(EPOCH),
            operator_by: Some(1000),
            weight_since: Some(EPOCH),
            weight_by: Some(0),
            ..backend("berlin", Remote, BackendState::Up)
        };
        let told =
            lines(|| still_operated("shop", &[said, backend("paris", Remote, BackendState::Up)]));
        assert_eq!(
            told,
            [
                "WARN operator's word still holds service=\"shop\" backend=\"berlin\" word=\"drain\" \
                 user=1000 since=1970-01-01T00:00:00Z",
                "WARN operator's word still holds service=\"shop\" backend=\"berlin\" weight=1 user=0 \
                 since=1970-01-01T00:00:00Z",
            ]
        );
    }

    #[test]
    fn a_backend_is_told_when_it_changes_and_not_before() {
        use BackendState::{Down, Unknown, Up};
        let mut told = LoggedState::nothing();
        let mut tell = |beliefs: &[Belief<'static>]| {
            lines(|| told.tell_beliefs("shop", beliefs.iter().copied()))
        };
        assert_eq!(tell(&[belief(1, Unknown, 0)]), [""; 0]);
        let up = "INFO backend up service=\"shop\" backend=\"berlin\"";
        assert_eq!(tell(&[belief(1, Up, 0), belief(2, Unknown, 0)]), [up]);
        assert_eq!(tell(&[belief(1, Up, 0), belief(2, Up, 0)]), [up]);
        assert_eq!(
            tell(&[belief(1, Up, 1), belief(2, Down, 3)]),
            [
                "INFO backend up; some introduction points failing service=\"shop\" backend=\"berlin\" \
                 reason=\"silence\"",
                "WARN backend down service=\"shop\" backend=\"berlin\" \
                 reason=\"silence\"",
            ]
        );
        assert_eq!(tell(&[belief(1, Up, 1), belief(2, Down, 3)]), [""; 0]);
        // Taken out by a reload, and back with another one.
        assert_eq!(tell(&[belief(1, Up, 1)]), [""; 0]);
        assert_eq!(tell(&[belief(1, Up, 1), belief(2, Up, 0)]), [up]);
    }

    #[test]
    fn a_problem_is_told_at_once_and_its_new_words_now_and_then() {
        let mut told = LoggedState::nothing();
        let start = crate::clock::now().monotonic;
        let mut tell = |minute: u64, problems: [Option<&str>; 2]| {
            let [first, second] = problems.map(|problem| problem.map(str::to_owned));
            let problems = [first, second, None, None];
            let now = start + Duration::from_secs(60 * minute);
            lines(|| told.tell_problems("shop", problems, now))
        };
        assert_eq!(tell(0, [None, None]), [""; 0]);
        assert_eq!(tell(1, [None, Some("thief")]), ["ERROR thief service=\"shop\""]);
        assert_eq!(tell(2, [Some("blind"), Some("thief")]), ["ERROR blind service=\"shop\""]);
        assert_eq!(tell(5, [Some("more blind"), Some("other thief")]), [""; 0]);
        assert_eq!(
            tell(11, [Some("blind"), Some("other thief")]),
            ["ERROR other thief service=\"shop\""]
        );
        assert_eq!(
            tell(12, [None, Some("other thief")]),
            ["INFO problem solved: blind service=\"shop\""]
        );
    }
}

//! What is wrong with a service, in the words of every rendering?

use super::limits;
use super::snapshot::{
    Backend, BackendState, OriginState, Service, ServiceState, Snapshot, TorStatus, Word,
};
use super::words::counted;

/// So many backends with the same trouble are named; the others are counted.
const NAMED: usize = 3;

/// What is wrong with the Tor client and what to do, or how far it is.
pub(super) fn of_tor(tor: &TorStatus) -> Option<String> {
    let TorStatus { bootstrap, message, trouble, advice, .. } = tor;
    let percent = bootstrap * 100.0;
    match (trouble, advice) {
        (Some(_), Some(advice)) => Some(format!("Tor: {message}: {advice}")),
        (Some(_), None) => Some(format!("Tor: {message}")),
        (None, _) => (*bootstrap < 1.0).then(|| format!("Tor is at {percent:.0} %: {message}")),
    }
}

/// What is wrong with the process, and with its Tor client although that can be
/// used.
pub(super) fn of_process(snapshot: &Snapshot) -> Vec<String> {
    snapshot.tor.problem.clone().into_iter().chain(limits::of_process(snapshot)).collect()
}

/// What is wrong with a service, worst first.
pub(super) fn troubles(service: &Service) -> impl Iterator<Item = String> {
    // Where no client is authorized, or keys are missing, the problems say so.
    let without_keys = service.bundle.is_some_and(|bundle| bundle.periods_left == 0);
    let explained = service.clients == Some(0) || without_keys;
    let down = service.state == ServiceState::Down && !explained;
    let down = down.then(|| why_down(&service.backends));
    let origins = service.http.iter().flat_map(|http| &http.origins).filter_map(|origin| {
        let reason = origin.reason.as_deref()?;
        Some(match origin.state {
            OriginState::Failing => format!("origin {} does not answer: {reason}", origin.name),
            _ => format!("origin {} gets no requests: {reason}", origin.name),
        })
    });
    let problems = service.problems.iter().cloned();
    let backends = backends_in_trouble(&service.backends);
    let said = service.backends.iter().flat_map(said);
    down.into_iter()
        .chain(problems)
        .chain(limits::of_service(service))
        .chain(said)
        .chain(backends)
        .chain(origins)
        .chain(refusing(service))
}

/// Why clients are sent to nobody, and what they find meanwhile.
fn why_down(backends: &[Backend]) -> String {
    let in_use = |backend: &Backend| backend.operator == Word::Ready;
    let up = |backend: &Backend| backend.state == BackendState::Up;
    let why = match backends.iter().any(|it| !in_use(it)) {
        // Those in use, if there are any, are not up: the others may be.
        true if !backends.iter().any(in_use) => "an operator has taken every backend out of use",
        true if backends.iter().any(|it| up(it) && !in_use(it)) => {
            "no backend answers but those that an operator has taken out of use"
        }
        _ => "no backend answers",
    };
    format!("{why}; what was published last is left where it is")
}

/// What an operator says of a backend, until it is taken back.
fn said(backend: &Backend) -> impl Iterator<Item = String> {
    let word = match backend.operator {
        Word::Drain => Some("is drained".to_owned()),
        Word::Maintenance => Some("is in maintenance".to_owned()),
        Word::Ready => None,
    };
    let weight = backend.configured_weight.map(|configured| {
        format!("has weight {} in place of the configuration's {configured}", backend.weight)
    });
    let word = word.map(|what| (what, backend.operator_since, backend.operator_by));
    let weight = weight.map(|what| (what, backend.weight_since, backend.weight_by));
    let said = word.into_iter().chain(weight).map(|(what, since, by)| {
        let since = since.map(|since| format!(" since {since}")).unwrap_or_default();
        let by = by.map(|user| format!(", by user {user}")).unwrap_or_default();
        format!("backend {} {what}{since}{by}; `ready` takes it back", backend.name)
    });
    said.collect::<Vec<_>>().into_iter()
}

/// One line for each trouble that backends have: local instances share theirs.
fn backends_in_trouble(backends: &[Backend]) -> Vec<String> {
    let mut troubles: Vec<(&str, &str, Vec<&str>)> = Vec::new();
    for backend in backends {
        let state = match backend.state {
            _ if backend.operator != Word::Ready => continue,
            BackendState::Down => "down",
            BackendState::Stale => "stale",
            BackendState::Up if backend.failing_intro_points > 0 => "up, but not whole",
            BackendState::Unknown | BackendState::Up => continue,
        };
        let reason = backend.reason.as_deref().unwrap_or("no reason known");
        match troubles.iter_mut().find(|it| (it.0, it.1) == (state, reason)) {
            Some((_, _, names)) => names.push(&backend.name),
            None => troubles.push((state, reason, vec![&backend.name])),
        }
    }
    let line = |(state, reason, names): (&str, &str, Vec<&str>)| match names.as_slice() {
        [name] => format!("backend {name} is {state}: {reason}"),
        names => {
            let named = names.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
            let more = match names.len().saturating_sub(NAMED) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            format!("backends {named}{more} are {state}: {reason}")
        }
    };
    troubles.into_iter().map(line).collect()
}

/// The HSDirs that do not take the descriptor. Where there are several, the
/// trouble is most often one and the same: the one tried most stands for all.
fn refusing(service: &Service) -> Option<String> {
    let all = || service.descriptors.iter().flat_map(|descriptor| &descriptor.hsdirs);
    let failing = || all().filter(|hsdir| hsdir.last_error.is_some());
    let worst = failing().max_by_key(|hsdir| hsdir.attempts)?;
    let error = worst.last_error.as_deref().unwrap_or_default();
    let attempts = counted(worst.attempts, "attempt");
    let one = format!("HSDir {} after {attempts}: {error}", worst.relay);
    Some(match failing().count() {
        1 => one,
        count => format!("{count} of {} HSDirs have not taken it, {one}", all().count()),
    })
}

/// Sorts services in need of somebody before the others.
pub(super) fn worst_first(service: &Service) -> (u8, bool) {
    let by_state = match service.state {
        ServiceState::Down => 0,
        ServiceState::Publishing => 1,
        ServiceState::Starting => 2,
        ServiceState::Published => 3,
    };
    (by_state, troubles(service).next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::example::{self, EPOCH};
    use crate::observe::snapshot::BackendKind;

    #[test]
    fn a_service_that_an_operator_has_taken_out_of_use_is_not_said_to_be_dead() {
        let backend = |operator, state| Backend {
            operator,
            ..example::backend("berlin", BackendKind::Remote, state)
        };
        let told = |backends| {
            let mut service = example::service("shop", backends, Vec::new());
            service.state = ServiceState::Down;
            let why = troubles(&service).next().unwrap();
            why.strip_suffix("; what was published last is left where it is").unwrap().to_owned()
        };
        let dead = backend(Word::Ready, BackendState::Down);
        let taken_out = backend(Word::Maintenance, BackendState::Up);
        let gone = backend(Word::Drain, BackendState::Down);
        assert_eq!(told(vec![dead.clone()]), "no backend answers");
        assert_eq!(told(vec![dead.clone(), gone.clone()]), "no backend answers");
        let of_all = "an operator has taken every backend out of use";
        assert_eq!(told(vec![taken_out.clone(), gone]), of_all);
        let but_those = "no backend answers but those that an operator has taken out of use";
        assert_eq!(told(vec![dead, taken_out]), but_those);
    }

    #[test]
    fn what_an_operator_said_is_told_until_it_is_taken_back() {
        let backend = |operator, configured_weight| Backend {
            operator,
            configured_weight,
            operator_since: Some(EPOCH),
            operator_by: Some(1000),
            weight_since: Some(EPOCH),
            weight_by: Some(2000),
            ..example::backend("berlin", BackendKind::Remote, BackendState::Down)
        };
        let told = |backend| {
            troubles(&example::service("shop", vec![backend], Vec::new())).collect::<Vec<_>>()
        };
        let since = "since 1970-01-01T00:00:00Z, by user 1000; `ready` takes it back";
        // That it is down meanwhile is no news.
        assert_eq!(
            told(backend(Word::Maintenance, None)),
            [format!("backend berlin is in maintenance {since}")]
        );
        let weight = format!(
            "backend berlin has weight 1 in place of the configuration's 3 {}",
            since.replace("1000", "2000")
        );
        assert_eq!(told(backend(Word::Ready, Some(3)))[0], weight);
        // A word and a weight are two things that two people may have said.
        let both = told(backend(Word::Drain, Some(3)));
        assert_eq!(both, [format!("backend berlin is drained {since}"), weight]);
        assert!(told(backend(Word::Ready, None))[0].starts_with("backend berlin is down"));
    }
}

//! What is wrong with a service, in the words of every rendering?

use super::snapshot::{
    Backend, BackendState, Hsdir, HsdirState, OriginState, Service, ServiceState, Tor,
};

/// So many backends with the same trouble are named; the others are counted.
const NAMED: usize = 3;

/// What is wrong with the Tor client and what to do, or how far it is.
pub(super) fn of_tor(tor: &Tor) -> Option<String> {
    let Tor { bootstrap, message, trouble, advice, .. } = tor;
    let percent = bootstrap * 100.0;
    match (trouble, advice) {
        (Some(_), Some(advice)) => Some(format!("Tor: {message}: {advice}")),
        (Some(_), None) => Some(format!("Tor: {message}")),
        (None, _) => (*bootstrap < 1.0).then(|| format!("Tor is at {percent:.0} %: {message}")),
    }
}

/// What is wrong with a service, worst first.
pub(super) fn troubles(service: &Service) -> impl Iterator<Item = String> {
    let down = (service.state == ServiceState::Down)
        .then(|| "no backend answers; what was published last is left where it is".to_owned());
    let origins = service.http.iter().flat_map(|http| &http.origins).filter_map(|origin| {
        let reason = origin.reason.as_deref()?;
        Some(match origin.state {
            OriginState::Failing => format!("origin {} does not answer: {reason}", origin.name),
            _ => format!("origin {} gets no requests: {reason}", origin.name),
        })
    });
    let problems = service.problems.iter().cloned();
    let backends = backends_in_trouble(&service.backends);
    down.into_iter().chain(problems).chain(backends).chain(origins).chain(refusing(service))
}

/// One line for each trouble that backends have: local instances share theirs.
fn backends_in_trouble(backends: &[Backend]) -> Vec<String> {
    let mut troubles: Vec<(&str, &str, Vec<&str>)> = Vec::new();
    for backend in backends {
        let state = match backend.state {
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
    let one = format!("HSDir {} after {} attempts: {error}", worst.relay, worst.attempts);
    Some(match failing().count() {
        1 => one,
        count => format!("{count} of {} HSDirs have not taken it, {one}", all().count()),
    })
}

/// How many of these HSDirs hold what is published now.
pub(super) fn uploaded(hsdirs: &[Hsdir]) -> usize {
    hsdirs.iter().filter(|hsdir| hsdir.state == HsdirState::Uploaded).count()
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

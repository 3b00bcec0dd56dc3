//! What may the operator want to read afterwards of what happened to a service?

use crate::balancer::fact::Fact;
use crate::observe::snapshot::ServiceState;

/// A line for a fact, where there is something to say of it.
pub(super) fn fact(service: &str, fact: &Fact) {
    match fact {
        Fact::Uploaded { period, hsdir, outcome: Ok(revision), .. } => {
            tracing::debug!(service, period = period.number, %hsdir, revision, "descriptor stored");
        }
        Fact::Uploaded { period, hsdir, outcome: Err(error), .. } => {
            tracing::info!(
                service, period = period.number, %hsdir, %error,
                "descriptor not stored; trying again"
            );
        }
        Fact::Fetched { backend, outcome: Err(error) } => {
            tracing::info!(service, backend = backend.0, %error, "no descriptor from backend");
        }
        Fact::Fetched { backend, outcome: Ok(descriptor) } => {
            let points = descriptor.points.len();
            tracing::debug!(service, backend = backend.0, points, "backend's descriptor fetched");
        }
        Fact::LocalPoints { backend, points, .. } => {
            tracing::debug!(service, backend = backend.0, points = points.len(), "local points");
        }
        Fact::Probed { backend, session, outcome: Ok(()) } => {
            tracing::debug!(service, backend = backend.0, point = session.prefix(), "probed: good");
        }
        Fact::Probed { backend, session, outcome: Err(error) } => {
            let point = session.prefix();
            tracing::info!(service, backend = backend.0, point, %error, "probed: not good");
        }
        Fact::Origins(Ok(())) => tracing::info!(service, "an origin answers again"),
        Fact::Origins(Err(error)) => tracing::warn!(service, %error, "no origin answers"),
        Fact::Inspected { period, hsdir, outcome: Ok(descriptor) } => {
            let revision = descriptor.revision;
            tracing::debug!(service, period = period.number, %hsdir, revision, "inspected");
        }
        Fact::Inspected { period, hsdir, outcome: Err(error) } => {
            tracing::debug!(service, period = period.number, %hsdir, %error, "not inspected");
        }
        Fact::Network(_) => {}
    }
}

/// A line for a new state.
pub(super) fn state(service: &str, state: ServiceState) {
    tracing::info!(
        service,
        "{}",
        match state {
            ServiceState::Starting => "starting",
            ServiceState::Publishing => "publishing its descriptor",
            ServiceState::Published => "published: clients can reach it",
            ServiceState::Down => "no backend answers",
        }
    );
}

//! Whether clients can find the service, and what the operator should know of it.

use super::{Balancer, live};
use crate::status::{BackendState, ServiceState};

impl Balancer {
    /// Whether clients can find the service, as of the last `handle_*`.
    pub fn state(&self) -> ServiceState {
        let starting = !self.publisher.has_network()
            || (!self.publisher.has_published()
                && self.backends.iter().any(|b| b.state() == BackendState::Unknown));
        if self.closed().is_some() || self.is_without_keys() {
            ServiceState::Down
        } else if !live(&self.backends, false).is_empty() {
            match (self.publisher.has_network(), self.publisher.is_found()) {
                (false, _) => ServiceState::Starting,
                (true, false) => ServiceState::Publishing,
                (true, true) => ServiceState::Published,
            }
        } else if starting {
            ServiceState::Starting
        } else {
            ServiceState::Down
        }
    }

    /// What the operator should know that no backend's state tells, as of the
    /// last `handle_*`. Each kind of problem has its place.
    pub fn problems(&self) -> [Option<String>; 4] {
        let publisher = self.publisher.problem().map(str::to_owned);
        [self.probing.problem(), publisher, self.closed(), self.bundle_problem()]
    }
}

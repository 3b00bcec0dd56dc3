//! Whether clients can find the service.

use super::{Balancer, live};
use crate::status::{BackendState, ServiceState};

impl Balancer {
    /// Whether clients can find the service, as of the last `handle_*`.
    pub fn state(&self) -> ServiceState {
        let starting = !self.publisher.has_network()
            || (!self.publisher.has_published()
                && self.backends.iter().any(|b| b.state() == BackendState::Unknown));
        if self.access.is_closed() {
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
}

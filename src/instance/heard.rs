//! When did an introduction last arrive at each point?
//!
//! What arrives proves that the point works, whatever becomes of the way back
//! to the client: whoever probes the point and is not met may have found no
//! more than that our own network is slow.

use std::collections::BTreeMap;
use std::time::Instant;

use parking_lot::Mutex;

use onionbraid_balancer::onion::SessionId;

/// The newest arrival at each point of an instance.
#[derive(Debug, Default)]
pub struct Heard(Mutex<BTreeMap<SessionId, Instant>>);

impl Heard {
    /// An introduction has arrived.
    pub(super) fn at(&self, session: SessionId, now: Instant) {
        self.0.lock().insert(session, now);
    }

    /// The point has gone.
    pub(super) fn forget(&self, session: SessionId) {
        self.0.lock().remove(&session);
    }

    /// Whether one has arrived since then.
    pub fn since(&self, session: SessionId, moment: Instant) -> bool {
        self.0.lock().get(&session).is_some_and(|at| *at >= moment)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_arrival_counts_for_its_point_from_then_on_until_the_point_goes() {
        let (heard, now) = (Heard::default(), crate::clock::now().monotonic);
        let [here, elsewhere] = [1, 2].map(|n| SessionId([n; 32]));
        heard.at(here, now);
        assert!(heard.since(here, now) && !heard.since(elsewhere, now));
        assert!(!heard.since(here, now + Duration::from_millis(1)));
        heard.forget(here);
        assert!(!heard.since(here, now));
    }
}

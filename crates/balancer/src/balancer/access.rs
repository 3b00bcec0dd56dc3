//! Who may read the descriptors, and what follows from that.

use std::time::Instant;

use super::{Balancer, live};
use crate::backend::TrackedBackend;
use crate::command::Command;
use crate::onion::{Access, IntroPoint};

/// What to say of a service that nobody may read.
const CLOSED: &str = "restricted discovery is on and no client is authorized: nothing is published; \
                      add one with `onionbraid clients add`";

/// What to say of a service whose points a descriptor for clients has no room for.
const TOO_LARGE: &str = "every introduction point has more link specifiers than a relay's, for which \
                         descriptors of services with restricted discovery have no room: none of \
                         them is published";

impl Balancer {
    /// These may read the descriptors from now on. Who has lost that knows the points
    /// of before.
    pub(super) fn allow(&mut self, access: Access, now: Instant) {
        if self.access == access {
            return;
        }
        if self.access.loses_somebody(&access) {
            self.renew_points();
            let listed = self.publisher.listed().iter().flatten();
            self.renewal.begin(listed.map(|(_, session)| *session).collect(), now);
        }
        self.access = access;
        // The operator waits for it.
        self.publisher.allow_changes();
    }

    pub(super) fn renew_points(&mut self) {
        let local = self.backends.iter().filter(|backend| backend.is_local());
        let renew = local.map(|backend| Command::Renew { backend: backend.id() });
        self.commands.extend(renew);
    }

    /// Why nothing is published for anybody although a backend may be live, if so.
    pub(super) fn closed(&self) -> Option<String> {
        if self.access.is_closed() {
            return Some(CLOSED.to_owned());
        }
        let live = live(&self.backends, self.withdrawing);
        let mut points = live.into_iter().flat_map(TrackedBackend::points).peekable();
        let too_large =
            points.peek().is_some() && !points.any(|point| self.access.has_room_for(point));
        too_large.then(|| TOO_LARGE.to_owned())
    }

    /// The points of each backend that a descriptor for these has room for.
    pub(super) fn points_that_fit<'a>(
        access: &Access,
        backends: Vec<&'a TrackedBackend>,
    ) -> Vec<(&'a TrackedBackend, Vec<IntroPoint>)> {
        let fits = |point: &&IntroPoint| access.has_room_for(point);
        let points =
            |backend: &TrackedBackend| backend.points().iter().filter(fits).cloned().collect();
        let all = backends.into_iter().map(|backend| (backend, points(backend)));
        all.filter(|(_, points): &(_, Vec<_>)| !points.is_empty() && !access.is_closed()).collect()
    }
}

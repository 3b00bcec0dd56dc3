//! Who may read the descriptors, and what follows from that.

use super::Balancer;
use crate::backend::TrackedBackend;
use crate::command::Command;
use crate::onion::{Access, IntroPoint};

/// What to say of a service that nobody may read.
const CLOSED: &str = "restricted discovery is on and no client is authorized: nothing is published; \
                      add one with `onionbraid clients add`";

impl Balancer {
    /// These may read the descriptors from now on. Who has lost that knows the points
    /// of before.
    pub(super) fn allow(&mut self, access: Access) {
        if self.access == access {
            return;
        }
        if self.access.loses_somebody(&access) {
            self.renew_points();
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

    /// That nobody may, if so.
    pub(super) fn closed(&self) -> Option<String> {
        self.access.is_closed().then(|| CLOSED.to_owned())
    }

    /// The points of each backend that a descriptor for these has room for. Clients were
    /// counted with points of a relay's size: no backend is to make the descriptor too long
    /// for HSDirs.
    pub(super) fn points_that_fit<'a>(
        access: &Access,
        backends: Vec<&'a TrackedBackend>,
    ) -> Vec<(&'a TrackedBackend, Vec<IntroPoint>)> {
        let may_be_large = *access == Access::Everybody;
        let fits = |point: &&IntroPoint| may_be_large || point.is_of_ordinary_size();
        let points =
            |backend: &TrackedBackend| backend.points().iter().filter(fits).cloned().collect();
        let all = backends.into_iter().map(|backend| (backend, points(backend)));
        all.filter(|(_, points): &(_, Vec<_>)| !points.is_empty() && !access.is_closed()).collect()
    }
}

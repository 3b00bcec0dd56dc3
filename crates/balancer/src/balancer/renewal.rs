//! Which published points are to be replaced before a descriptor says who may read it now?

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::backend::TrackedBackend;
use crate::onion::SessionId;
use crate::schedule::Alarm;

/// So long a descriptor for others than before waits for the points that only they are to know:
/// HSDirs get one descriptor then and not two in a row, and clients no points that are about
/// to go.
const RENEWAL: Duration = Duration::from_secs(10);

/// Published points of local instances that somebody knows who must not, until others have
/// replaced them.
#[derive(Debug, Default)]
pub(super) struct PointRenewal {
    known: BTreeSet<SessionId>,
    until: Option<Instant>,
}

impl PointRenewal {
    /// One more begins; what waits for the one before waits no longer for that.
    pub(super) fn begin(&mut self, known: BTreeSet<SessionId>, now: Instant) {
        self.known = known;
        self.until.get_or_insert(now + RENEWAL);
    }

    /// Whether others have replaced them, or have had their time to.
    pub(super) fn is_done(&mut self, backends: &[TrackedBackend], alarm: &mut Alarm) -> bool {
        let local = backends.iter().filter(|backend| backend.is_local());
        let mut points = local.flat_map(TrackedBackend::points);
        let waits = points.any(|point| self.known.contains(&point.session_id))
            && self.until.is_some_and(|until| !alarm.reached(until));
        if !waits {
            *self = Self::default();
        }
        !waits
    }
}

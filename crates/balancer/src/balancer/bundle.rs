//! What follows from having keys for some periods alone: only those are published.

use rand::Rng;

use super::Balancer;
use crate::bundle::Coverage;
use crate::fact::{NetworkView, Now, PeriodView};
use crate::status;
use crate::timestamp::Timestamp;

impl Balancer {
    /// Tells the publisher in which periods there is something to publish: without keys
    /// for one, what HSDirs hold there is left to expire.
    pub(super) fn tell_publisher(&mut self, now: Now, rng: &mut impl Rng) {
        let Some(NetworkView { periods }) = self.network.clone() else { return };
        let has_keys = |view: &PeriodView| {
            self.bundle.as_ref().is_none_or(|bundle| bundle.covers(&view.period))
        };
        let periods = periods.into_iter().filter(has_keys).collect();
        self.publisher.network_changed(NetworkView { periods }, now, rng);
    }

    /// How far the keys reach, once a network is known and if there are not keys for all
    /// periods.
    fn coverage(&self) -> Option<Coverage> {
        let current = self.network.as_ref()?.current()?;
        Some(self.bundle.as_ref()?.from(current))
    }

    /// Whether there are no keys for the current period.
    pub(super) fn is_without_keys(&self) -> bool {
        self.coverage().is_some_and(|coverage| coverage.left() == 0)
    }

    /// What the operator should know of the keys.
    pub(super) fn bundle_problem(&self) -> Option<String> {
        self.coverage()?.problem()
    }

    /// How long the keys last.
    pub(super) fn bundle_status(&self) -> Option<status::BundleStatus> {
        let coverage = self.coverage()?;
        let ends = match coverage {
            Coverage::Left { until, .. } | Coverage::Ended(until) => Some(Timestamp(until)),
            _ => None,
        };
        Some(status::BundleStatus { periods_left: coverage.left() as u64, ends })
    }
}

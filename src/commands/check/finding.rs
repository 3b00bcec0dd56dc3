//! What was found out about the introduction points of a backend?

use crate::tor::probe::{Probe, Verdict};
use onionbraid_balancer::fact::FetchFailure;
use onionbraid_balancer::onion::{IntroPoint, OnionAddress};

/// Whose introduction points they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// Those of a remote backend, by its name, and its own address.
    Backend(String, OnionAddress),
    /// Those in the service's own descriptor that no remote backend has: of
    /// local instances, or left over.
    Published,
}

/// What was found out about one descriptor and its points.
pub(super) struct Finding {
    /// Whose descriptor.
    pub(super) whose: Whose,
    /// What became of each of its points, or why there are none.
    pub(super) points: Result<Vec<PointFinding>, FetchFailure>,
}

/// What was found out about one introduction point.
pub(super) struct PointFinding {
    /// Which.
    pub(super) point: IntroPoint,
    /// The name of its relay, if the directory has it.
    pub(super) relay: Option<String>,
    /// Whether it answers.
    pub(super) probe: Probe,
}

impl Finding {
    /// Whether there are points and all of them answer.
    pub(super) fn is_good(&self) -> bool {
        self.points.as_ref().is_ok_and(|points| {
            !points.is_empty() && points.iter().all(|p| p.probe.verdict == Verdict::Answers)
        })
    }

    /// What it is called in the table.
    pub(super) fn name(&self) -> &str {
        match &self.whose {
            Whose::Backend(name, _) => name,
            Whose::Published => "(published)",
        }
    }
}

//! What the balancer asks for. The shell carries it out and reports with a fact.

#![expect(missing_docs, reason = "fields whose names say all")]

use std::sync::Arc;
use std::time::SystemTime;

use super::fact::BackendId;
use crate::onion::{Access, Capabilities, IntroPoint, Period, RelayId, SessionId};
use crate::pow::{OwnWork, Puzzle};

#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Fetch a remote backend's own descriptor from several HSDirs and report
    /// the newest with `Fact::Fetched`.
    Fetch { backend: BackendId },
    /// Do what a client would do at one introduction point, to the end, and
    /// report with `Fact::Probed`.
    Probe {
        backend: BackendId,
        point: IntroPoint,
        /// The work to do for it, where only those are met who did some.
        work: Option<OwnWork>,
    },
    /// Introduce ourselves as a client of the address at a point of a remote backend, with
    /// this work, and report with `Fact::Proved`.
    Prove { backend: BackendId, point: IntroPoint, work: OwnWork },
    /// Meet a remote backend at any of these points, tried at the same time, ask
    /// it for a control link, keep that, and report with `Fact::Link`.
    Dial {
        backend: BackendId,
        points: Vec<IntroPoint>,
        /// As for a probe.
        work: Option<OwnWork>,
    },
    /// A local instance's point hangs at its relay: give it up and establish
    /// another elsewhere. The instance reports with `Fact::LocalPoints`.
    Replace { backend: BackendId, session: SessionId },
    /// Somebody who knows the points of a local instance must no longer reach it:
    /// have it establish others, and give the old ones up soon after those stand.
    /// The instance reports with `Fact::LocalPoints`.
    Renew { backend: BackendId },
    /// Ask one HSDir for our own descriptor, as a client would, and report with
    /// `Fact::Inspected`.
    Inspect { period: Period, hsdir: RelayId },
    /// Build, sign and upload one descriptor to one HSDir, once, and report
    /// with `Fact::Uploaded`.
    Publish(Publication),
}

/// One descriptor for one HSDir.
#[derive(Clone, Debug, PartialEq)]
pub struct Publication {
    /// The time period, which decides the blinded key.
    pub period: Period,
    /// Where to upload it.
    pub hsdir: RelayId,
    /// The moment from which the revision counter is computed. Publications of
    /// one round share it, so that they share one revision.
    pub as_of: SystemTime,
    /// 1 to 20 introduction points, in their order.
    pub points: Arc<[IntroPoint]>,
    /// What the descriptor may promise.
    pub capabilities: Capabilities,
    /// What it asks clients for: every point listed verifies that, or it asks for
    /// an effort of 0.
    pub puzzle: Option<Puzzle>,
    /// Who may read it: never nobody.
    pub access: Access,
}

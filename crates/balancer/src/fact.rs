//! Events the balancer consumes.

#![expect(missing_docs, reason = "fields whose names say all")]

use std::time::{Instant, SystemTime};

use serde::{Deserialize, Serialize};

pub use crate::backend_id::BackendId;
use crate::bundle::BundlePeriods;
use crate::link::Offered;
use crate::onion::{Capabilities, IntroPoint, Period, PointFlaw, RelayId, SessionId};
use crate::pow::Puzzle;

/// A moment on both clocks: the monotonic one for every delay, the wall clock
/// for what is shown and for revision counters.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// For delays and timeouts.
    pub monotonic: Instant,
    /// For timestamps and revision counters.
    pub wall: SystemTime,
}

/// Something that has happened.
#[derive(Clone, Debug)]
pub enum Fact {
    /// The network directory is there, or has changed.
    Network(NetworkView),
    /// For which periods the publisher has keys; `None`: for all, since it has the
    /// identity key.
    Bundle(Option<BundlePeriods>),
    /// A local instance has these introduction points now, all established.
    LocalPoints {
        backend: BackendId,
        /// All of them, not only the new ones.
        points: Vec<IntroPoint>,
        /// What the instance keeps for every one of them.
        capabilities: Capabilities,
    },
    /// A fetch that the balancer asked for has ended.
    Fetched {
        backend: BackendId,
        /// The newest descriptor that any HSDir asked had, or why there is none.
        outcome: Result<FetchedDescriptor, FetchFailure>,
    },
    /// A probe that the balancer asked for has ended.
    Probed {
        backend: BackendId,
        session: SessionId,
        /// Whether a client would have been served there.
        outcome: Result<(), ProbeFailure>,
    },
    /// A try that the balancer asked for has ended: whether a client was met at the
    /// backend that did work.
    Proved { backend: BackendId, outcome: Result<(), ProbeFailure> },
    /// Something has happened to the control link to a remote backend.
    Link { backend: BackendId, news: LinkNews },
    /// Whether the origins behind the local instances can be reached; `Err`
    /// says why none of them can. All local instances of a service share them.
    Origins(Result<(), String>),
    /// The local instances verify solutions for this puzzle now, and suggest its
    /// effort; `None`: they verify none.
    Puzzle(Option<Puzzle>),
    /// One HSDir has been asked for our own descriptor.
    Inspected {
        /// The period of the descriptor.
        period: Period,
        hsdir: RelayId,
        /// What it holds, or why nothing came.
        outcome: Result<FetchedDescriptor, FetchFailure>,
        /// The revision of what it holds if that is signed with the address's key, even if
        /// more cannot be read.
        signed: Option<u64>,
        /// Up to which moment that is counted as ours are; `None`, too, if counting never
        /// gets there.
        counted_to: Option<SystemTime>,
    },
    /// An upload that the balancer asked for has ended.
    Uploaded {
        /// The period of the descriptor.
        period: Period,
        hsdir: RelayId,
        /// The moment that the command carried; tells an old answer from the current one.
        as_of: SystemTime,
        /// The revision counter that the HSDir accepted, or why it did not.
        outcome: Result<u64, UploadFailure>,
    },
}

/// What the network directory says that matters to one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkView {
    /// Every time period to publish in: the current one, and its neighbours
    /// for which a shared random value is known.
    pub periods: Vec<PeriodView>,
}

impl NetworkView {
    /// The period in which clients look now, if that is known.
    pub fn current(&self) -> Option<Period> {
        self.periods.iter().find(|view| view.current).map(|view| view.period)
    }
}

/// One time period and the HSDirs responsible for the service in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeriodView {
    pub period: Period,
    /// Whether clients look in it now.
    pub current: bool,
    /// The responsible HSDirs, replica by replica, in the order of the ring.
    pub hsdirs: Vec<ResponsibleHsdir>,
}

/// A responsible HSDir.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponsibleHsdir {
    pub relay: RelayId,
    /// The replica, from 1.
    pub replica: u8,
    /// Whether clients ask it (the first `hsdir_spread_fetch` of each replica).
    pub asked_by_clients: bool,
}

/// A remote backend's own descriptor, decrypted and checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedDescriptor {
    /// The period in which it was found. Revisions of different periods do not compare.
    pub period: Period,
    pub revision: u64,
    /// Its introduction points; those that cannot be read are left out.
    pub points: Vec<IntroPoint>,
    /// What is wrong with those left out, if there are any.
    pub flaw: Option<PointFlaw>,
    pub capabilities: Capabilities,
}

/// Why no descriptor was fetched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum FetchFailure {
    /// Every HSDir asked answered that it has none: the backend does not publish.
    #[error("no HSDir has a descriptor of it")]
    NotFound,
    /// A descriptor came and cannot be used: says why. Asking again soon is no use.
    #[error("its descriptor cannot be used: {0}")]
    Unusable(String),
    /// No HSDir could be asked: the trouble is likely ours or the network's.
    #[error("no HSDir could be asked: {0}")]
    Unreachable(String),
}

/// Why a client would not have been served at an introduction point.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProbeFailure {
    /// The trouble is on our side of the network: nothing is known of the point.
    #[error("not known: {0}")]
    Inconclusive(String),
    /// Nobody came: the point does not work, whatever its backend does.
    #[error("{0}")]
    Point(String),
    /// The relay refused the introduction. It says the same of a point that it
    /// has lost and of one that is asked for more than its limit lets through
    /// (proposal 305).
    #[error("{0}")]
    Refused(String),
    /// The backend came, and what a client wants of it failed: its application
    /// is in trouble, which no other point of it would mend.
    #[error("{0}")]
    Application(String),
}

/// What has happened to a control link. One that was asked for is reported over
/// until it is lost, or was not dialled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkNews {
    /// The backend says this of itself now.
    Reported {
        /// The number of the report, 1 or higher, which grows.
        number: u64,
        offered: Offered,
        /// What is wrong with points that were left out, if there are any.
        flaw: Option<PointFlaw>,
    },
    /// It is no more.
    Lost(String),
    /// There is none.
    NotDialled(DialFailure),
}

/// Why there is no control link.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DialFailure {
    /// The trouble is on our side of the network: nothing is known of the backend.
    #[error("not known: {0}")]
    Inconclusive(String),
    /// Nobody answers at any of the points that were tried.
    #[error("nobody met: {0}")]
    Unmet(String),
    /// The relays of all points that were tried refuse: the points are lost, or
    /// somebody floods them.
    #[error("nobody met: {0}")]
    Refused(String),
    /// The backend answers, and has no link for us.
    #[error("met; it offers no control link")]
    NotOffered,
}

/// Why an HSDir did not take a descriptor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UploadFailure {
    /// The HSDir refused it, most often because it holds an equal or higher
    /// revision counter.
    #[error("refused: {0}")]
    Refused(String),
    /// The HSDir got the request and gave no answer, or none that can be read.
    #[error("not answered: {0}")]
    Unanswered(String),
    /// The HSDir could not be reached.
    #[error("not reached: {0}")]
    Unreachable(String),
}

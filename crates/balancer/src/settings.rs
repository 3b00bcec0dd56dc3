//! What the operator wants of one service: the types that the configuration turns
//! into for the balancer.

use std::time::Duration;

use super::fact::BackendId;
use crate::onion::{Access, OnionAddress};
use crate::pow::Effort;

/// What the operator wants of one service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BalancerSettings {
    /// Everything that answers for it, in the order in which status shows it.
    pub backends: Vec<BackendSettings>,
    /// The most introduction points to list, save that every backend gets one;
    /// never more than 20. `None`: 8, the size of an ordinary service, and 20
    /// with more than 8 backends.
    pub max_points: Option<u8>,
    /// Whether different HSDirs may get different points.
    pub distinct: Distinct,
    /// Who else publishes the address.
    pub publishers: Publishers,
    /// Whether another service is published from the same process: what both do for
    /// one reason they do at different times then.
    pub in_company: bool,
    /// Who may read the descriptors.
    pub access: Access,
    /// Whether remote backends are asked for control links.
    pub links: LinkPolicy,
    /// The most effort that clients are asked for, whatever backends report; `None`: the
    /// most that clients do.
    pub max_effort: Option<Effort>,
    /// How long after a probe of a point the next one follows; `None`: no probes.
    pub probe_every: Option<Duration>,
    /// How long instead after a probe of a backend the next one of it follows, on
    /// average, while nothing speaks against it; `None`: as ever.
    pub probe_calm: Option<Duration>,
}

/// Whether different HSDirs get different points, so that more than one
/// descriptor holds are in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Distinct {
    /// Only where one descriptor has no room for every backend.
    #[default]
    Auto,
    /// Wherever more points are offered than one descriptor holds.
    Always,
    /// Never: all HSDirs get the same points.
    Never,
}

/// Who publishes the address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Publishers {
    /// This process alone: a descriptor of somebody else's means that the key
    /// is in other hands.
    #[default]
    One,
    /// Other processes with the same key and the same remote backends too.
    Several,
}

/// Whether remote backends are asked for control links.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LinkPolicy {
    /// Those that turn out to have one; the others rarely.
    #[default]
    Auto,
    /// All are expected to have one.
    Always,
    /// None.
    Never,
}

/// One backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendSettings {
    /// What facts and commands call it; every backend has another.
    pub id: BackendId,
    /// What logs and status call it.
    pub name: String,
    /// Where it runs.
    pub kind: BackendPlace,
    /// Its share of the traffic relative to the others; with 0 it gets none
    /// while others are live.
    pub weight: u16,
}

/// Where a backend runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackendPlace {
    /// In this process: reports its points by itself.
    Local {
        /// How many points it is going to establish. The first publication
        /// need not wait for more.
        expected_points: u8,
    },
    /// Elsewhere: known by its own descriptor.
    Remote {
        /// Its own address.
        address: OnionAddress,
    },
}

/// What backends are ordered by: local instances first, by name, then remote
/// ones by address.
pub(super) type BackendRank<'a> = (bool, &'a [u8]);

impl BackendSettings {
    /// What it goes by where a number would not last: a remote one by its
    /// address, a local instance by its name.
    pub(super) fn key(&self) -> String {
        match self.kind {
            BackendPlace::Local { .. } => self.name.clone(),
            BackendPlace::Remote { address } => address.to_string(),
        }
    }

    /// Where it stands among the others: the same for everyone who knows it.
    pub(super) fn order(&self) -> BackendRank<'_> {
        match &self.kind {
            BackendPlace::Local { .. } => (false, self.name.as_bytes()),
            BackendPlace::Remote { address } => (true, address.public_key()),
        }
    }
}

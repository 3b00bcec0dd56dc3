//! In place of `verify.rs` in a program without the feature `pow`: the
//! configuration refuses `enable_pow`, so nothing is ever asked of this.

use std::sync::Arc;
use std::time::SystemTime;

use tor_cell::relaycell::hs::pow::ProofOfWork;
use tor_hscrypto::pk::HsIdKey;
use tor_netdir::NetDir;

use super::super::credentials::Credentials;
use super::seeds::{AddressPuzzles, SeedId, SolutionRefusal, Solved};
use onionbraid_balancer::link::GivenSeed;
use onionbraid_balancer::onion::{OnionAddress, Period};
use onionbraid_balancer::pow::OwnWork;

/// Does no work.
pub(super) fn solve(_: &Arc<Credentials>, _: Period, _: OwnWork) -> Option<ProofOfWork> {
    None
}

/// Verifies nothing.
#[derive(Default)]
pub(crate) struct Verifiers;

impl Verifiers {
    /// Accepts no seed.
    pub(crate) fn new(
        _: &AddressPuzzles,
        _: &HsIdKey,
        _: impl Iterator<Item = (OnionAddress, GivenSeed)>,
        _: &NetDir,
        _: SystemTime,
    ) -> Self {
        Self
    }

    /// There are none.
    pub(crate) fn seeds(&self) -> impl Iterator<Item = SeedId> {
        std::iter::empty()
    }

    /// No solution is right.
    pub(crate) fn check(&self, _: &ProofOfWork) -> Result<Solved, SolutionRefusal> {
        Err(SolutionRefusal::UnknownSeed)
    }
}

//! Work that we do ourselves, where introductions of our own would be met last without.

use std::sync::Arc;

use tokio::task::JoinSet;
use tor_cell::relaycell::hs::pow::ProofOfWork;

use super::super::credentials::Credentials;
use super::super::hsdirs::from_arti;
use super::super::network::Network;
use super::verify::solve;
use onionbraid_balancer::pow::OwnWork;

/// Work to do for introductions, as a client of the address of these.
#[derive(Clone)]
pub(crate) struct Toil {
    pub(crate) credentials: Arc<Credentials>,
    pub(crate) work: OwnWork,
}

impl Toil {
    /// A new solution, which can be used once; `None` if there is none in time. It takes a
    /// core, on a thread of its own.
    pub(crate) async fn solution(&self, network: &Network) -> Option<ProofOfWork> {
        let period = from_arti(network.directory().ok()?.hs_time_period());
        let Self { credentials, work } = self.clone();
        let mut solving = JoinSet::new();
        solving.spawn_blocking(move || solve(&credentials, period, work));
        solving.join_next().await?.ok()?
    }
}

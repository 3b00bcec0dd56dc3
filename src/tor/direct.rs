//! Circuits of one hop: how a single onion service reaches its introduction points
//! and its clients' rendezvous points.
//!
//! Only a process that does not hide has these. It connects to relays of the directory
//! and to the addresses that the directory gives, whatever a client names
//! (`choice`), and to no more of them at a time than it may (`places`). Whatever
//! cannot be reached so is reached by an ordinary circuit: the caller falls back.

mod choice;
mod places;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinSet;
use tor_chanmgr::{ChanMgr, ChannelUsage};
use tor_circmgr::build::onion_circparams_from_netparams;
use tor_linkspec::{CircTarget, OwnedCircTarget};
use tor_netdir::NetDir;
use tor_proto::ClientTunnel;
use tor_proto::client::circuit::TimeoutEstimator;

use super::attempts::Runtime;
use crate::clock::now;
use choice::{Named, Refusal};
use onionbraid_balancer::onion::RelayId;
pub(crate) use places::Places;

/// How long a circuit of one hop may take, its connection included. A relay that
/// answers at all does so in a fraction of it, and clients wait.
const TIME_LIMIT: Duration = Duration::from_secs(5);

/// After how long data for a stream that was closed is no longer expected
/// on a circuit.
const CLOSED_STREAMS_WITHIN: Duration = Duration::from_secs(10);

/// Makes circuits of one hop.
pub(crate) struct Direct {
    /// Arti's connections to relays, those of its own circuits among them.
    channels: Arc<ChanMgr<Runtime>>,
    /// How many of them may be made for this.
    places: Arc<Places>,
    /// The circuits at work. Each ends when it is dropped by who asked for it.
    circuits: Mutex<JoinSet<()>>,
}

/// Why there is no circuit of one hop.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DirectError {
    /// It is not to be connected to.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The connection does not come about.
    #[error("connection: {0}")]
    Connection(#[from] tor_chanmgr::Error),
    /// The relay does not answer as it should.
    #[error("circuit: {0}")]
    Circuit(#[from] tor_proto::Error),
    /// The consensus has impossible parameters.
    #[error("parameters: {0}")]
    Parameters(#[from] tor_circmgr::Error),
    /// Nothing within the time limit.
    #[error("not done within {} s", TIME_LIMIT.as_secs())]
    TimedOut,
}

impl Direct {
    /// On these connections, and no more of them than there are places.
    pub(super) fn new(channels: Arc<ChanMgr<Runtime>>, places: Arc<Places>) -> Self {
        Self { channels, places, circuits: Mutex::default() }
    }

    /// A circuit to the relay that somebody names, if it is one of the directory's
    /// in everything that is said of it.
    pub(crate) async fn circuit(
        &self,
        directory: &NetDir,
        named: &impl CircTarget,
    ) -> Result<ClientTunnel, DirectError> {
        let listed = directory.by_ids(named).ok_or(Refusal::Unlisted)?;
        choice::check(&Named::of(named), &Named::of(&listed))?;
        // From here on, what was named plays no part.
        let target = OwnedCircTarget::from_circ_target(&listed);
        let parameters = onion_circparams_from_netparams(directory.params())?;
        let relay = RelayId(listed.rsa_id().to_bytes());
        let opening = self.places.enter(relay, now().monotonic)?;
        let made = tokio::time::timeout(TIME_LIMIT, async {
            let usage = ChannelUsage::UserTraffic;
            let (channel, _) = self.channels.get_or_launch(&target, usage).await?;
            let watched = Arc::downgrade(&channel);
            opening.opened(move || watched.upgrade().is_some_and(|it| !it.is_closing()));
            let (pending, reactor) = channel.new_tunnel(Arc::new(DirectPatience)).await?;
            self.run(async move {
                // Why it ends, its tunnel tells.
                let _ = reactor.run().await;
            });
            Ok(pending.create_firsthop(&target, parameters).await?)
        });
        let made = made.await.unwrap_or(Err(DirectError::TimedOut));
        if let Err(DirectError::Connection(_) | DirectError::TimedOut) = made {
            opening.failed(now().monotonic);
        }
        made
    }

    fn run(&self, circuit: impl Future<Output = ()> + Send + 'static) {
        let mut circuits = self.circuits.lock();
        while circuits.try_join_next().is_some() {}
        circuits.spawn(circuit);
    }
}

/// How long Arti waits on these circuits for what may still come.
struct DirectPatience;

impl TimeoutEstimator for DirectPatience {
    fn circuit_build_timeout(&self, _hops: usize) -> Duration {
        CLOSED_STREAMS_WITHIN
    }
}

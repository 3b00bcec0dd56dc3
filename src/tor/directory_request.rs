//! One directory request to one HSDir over an anonymous circuit.

use std::time::Duration;

use tor_circmgr::{ClientOnionServiceDirTunnel, ServiceOnionServiceDirTunnel};
use tor_dirclient::request::Requestable;
use tor_dirclient::{DirResponse, send_request};
use tor_linkspec::OwnedCircTarget;

use super::network::{Network, relay};
use onionbraid_balancer::onion::RelayId;

/// How long one request may take, circuit included. C tor gives a directory
/// circuit for onion services a minute or so, too.
const TIME_LIMIT: Duration = Duration::from_secs(60);

/// As whom a request is made; client and service circuits are never mixed.
#[derive(Clone, Copy)]
pub(super) enum As {
    /// To fetch.
    Client,
    /// To upload.
    Service,
}

/// Why there is no answer. The text is what status shows.
#[derive(Debug, thiserror::Error)]
pub(super) enum DirectoryRequestError {
    /// There is no directory to find the relay in.
    #[error("no network directory")]
    NoDirectory,
    /// The relay has left the network.
    #[error("the relay is no longer in the network directory")]
    NotListed,
    /// No circuit, no stream, or it broke.
    #[error("{0}")]
    Circuit(#[from] tor_circmgr::Error),
    /// The exchange failed.
    #[error("{0}")]
    Exchange(#[from] tor_dirclient::Error),
    /// Nothing within the time limit.
    #[error("no answer within {} s", TIME_LIMIT.as_secs())]
    TimedOut,
}

/// Asks one HSDir one thing, once, within a minute.
pub(super) async fn ask<R: Requestable + Sync>(
    network: &Network,
    hsdir: RelayId,
    role: As,
    request: &R,
) -> Result<DirResponse, DirectoryRequestError> {
    let exchange = async {
        let directory = network.directory().map_err(|_| DirectoryRequestError::NoDirectory)?;
        let target = relay(&directory, hsdir).ok_or(DirectoryRequestError::NotListed)?;
        let target = OwnedCircTarget::from_circ_target(&target);
        let tunnel: DirTunnel = match role {
            As::Client => {
                let pool = &network.circuits;
                DirTunnel::Client(pool.get_or_launch_client_dir(&directory, target).await?)
            }
            As::Service => {
                let pool = &network.circuits;
                DirTunnel::Service(pool.get_or_launch_svc_dir(&directory, target).await?)
            }
        };
        drop(directory);
        let mut stream = match &tunnel {
            DirTunnel::Client(tunnel) => tunnel.begin_dir_stream().await?,
            DirTunnel::Service(tunnel) => tunnel.begin_dir_stream().await?,
        };
        Ok(send_request(&network.runtime, request, &mut stream, None).await?)
    };
    tokio::time::timeout(TIME_LIMIT, exchange).await.unwrap_or(Err(DirectoryRequestError::TimedOut))
}

/// A circuit to an HSDir, in either role.
enum DirTunnel {
    /// See [`As::Client`].
    Client(ClientOnionServiceDirTunnel),
    /// See [`As::Service`].
    Service(ServiceOnionServiceDirTunnel),
}

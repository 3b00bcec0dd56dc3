//! One directory request to one HSDir over an anonymous circuit.

mod exchange;

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use tor_circmgr::{ClientOnionServiceDirTunnel, ServiceOnionServiceDirTunnel};
use tor_linkspec::{HasAddrs as _, OwnedCircTarget};

use super::network::{Network, relay};
use exchange::ExchangeError;
use onionbraid_balancer::onion::RelayId;

pub(super) use exchange::{Answer, Request};

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
    Circuit(Box<tor_circmgr::Error>),
    /// The exchange failed.
    #[error("{0}")]
    Exchange(#[from] ExchangeError),
    /// No stream within the time limit.
    #[error("no stream within {} s", TIME_LIMIT.as_secs())]
    NotConnected,
}

impl From<tor_circmgr::Error> for DirectoryRequestError {
    fn from(error: tor_circmgr::Error) -> Self {
        Self::Circuit(Box::new(error))
    }
}

/// Asks one HSDir one thing, once, within a minute.
pub(super) async fn ask(
    network: &Network,
    hsdir: RelayId,
    role: As,
    request: &Request,
) -> Result<Answer, DirectoryRequestError> {
    let by = Instant::now() + TIME_LIMIT;
    let connecting = async {
        let directory = network.directory().map_err(|_| DirectoryRequestError::NoDirectory)?;
        let target = relay(&directory, hsdir).ok_or(DirectoryRequestError::NotListed)?;
        let address = address(target.addrs()).ok_or(DirectoryRequestError::NotListed)?;
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
        let stream = match &tunnel {
            DirTunnel::Client(tunnel) => tunnel.begin_dir_stream().await?,
            DirTunnel::Service(tunnel) => tunnel.begin_dir_stream().await?,
        };
        // With the stream comes its circuit, which ends when nobody has it.
        Ok((tunnel, stream, address))
    };
    let connected = timeout_at(by, connecting).await;
    let (_tunnel, stream, address) =
        connected.unwrap_or(Err(DirectoryRequestError::NotConnected))?;
    let answer = timeout_at(by, exchange::exchange(stream, address, request)).await;
    Ok(answer.unwrap_or(Err(ExchangeError::TimedOut))?)
}

/// The address by which C tor names a relay: of IPv4, if it has one.
fn address(all: impl Iterator<Item = SocketAddr>) -> Option<SocketAddr> {
    let all: Vec<_> = all.collect();
    all.iter().find(|address| address.is_ipv4()).or(all.first()).copied()
}

/// A circuit to an HSDir, in either role.
enum DirTunnel {
    /// See [`As::Client`].
    Client(ClientOnionServiceDirTunnel),
    /// See [`As::Service`].
    Service(ServiceOnionServiceDirTunnel),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relay_is_named_by_its_ipv4_address_where_it_has_one() {
        let [v6, v4] = ["[2001:db8::1]:1", "192.0.2.1:2"].map(|text| text.parse().unwrap());
        assert_eq!(address([v6, v4].into_iter()), Some(v4));
        assert_eq!(address([v6].into_iter()), Some(v6));
        assert_eq!(address(std::iter::empty()), None);
    }
}

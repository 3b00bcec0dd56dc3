//! How does a visitor reach onion services on the network?
//!
//! A C tor with a SOCKS port, started by [`super::Network::client`].

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, bail};

use super::fetch::{Response, fetch};
use super::node::Node;

/// How long a client may take to know the network, on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

/// A C tor client; dropping it ends the process.
#[derive(Debug)]
pub struct Client {
    /// Its SOCKS port; each user name gets circuits of its own.
    pub socks: SocketAddr,
    /// Its process.
    pub node: Node,
}

impl Client {
    /// Fetches a page of an onion service; see [`fetch()`].
    pub async fn get(
        &self,
        isolation: &str,
        onion: &str,
        path: &str,
        limit: Duration,
    ) -> Result<Response> {
        self.get_at(isolation, onion, 80, path, limit).await
    }

    /// The same at another port.
    pub async fn get_at(
        &self,
        isolation: &str,
        onion: &str,
        port: u16,
        path: &str,
        limit: Duration,
    ) -> Result<Response> {
        fetch(self.socks, isolation, onion, port, path, limit).await
    }

    /// Forgets all descriptors and circuits, as a user's "New Identity" does.
    pub async fn new_identity(&self) -> Result<()> {
        self.node.control("SIGNAL NEWNYM").await.map(|_| ())
    }

    /// Waits until it knows all `relays` with their microdescriptors: only then
    /// does it look for descriptors on the same HSDirs as everybody.
    pub(super) async fn ready(&self, relays: usize) -> Result<()> {
        let known = async {
            loop {
                if self.node.bootstrapped().await? == 100 && self.node.knows(relays).await? {
                    return Ok(());
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        match tokio::time::timeout(LIMIT, known).await {
            Ok(ready) => ready,
            Err(_) => bail!("{} does not get ready:\n{}", self.node.name(), self.node.tail()),
        }
    }
}

//! How does a C tor offer onion services, as a backend or on its own?
//!
//! Started by [`super::Network::service`] and [`super::Network::backend`].

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};

use super::node::Node;
use super::place::make_private_dir;
use super::process::read_lossy;

/// How long tor may take to make the service's key.
const LIMIT: Duration = Duration::from_secs(30);

/// A C tor with onion services; dropping it ends the process.
#[derive(Debug)]
pub struct Service {
    /// Its process.
    pub node: Node,
    addresses: Vec<String>,
    torrc: Torrc,
}

/// What its configuration says.
#[derive(Debug)]
pub(super) struct Torrc {
    /// What is not about services.
    pub(super) common: String,
    /// One service for each of these, to which its virtual port 80 leads.
    pub(super) origins: Vec<SocketAddr>,
    /// Further lines for each service.
    pub(super) lines: Vec<String>,
}

impl Service {
    /// Has tor make the services' keys, with `files` in the directory of each.
    /// It does not run afterwards, and has published nothing.
    pub(super) async fn prepare(
        node: Node,
        torrc: Torrc,
        files: &[(&str, &str)],
    ) -> Result<Service> {
        let dirs: Vec<PathBuf> = (0..torrc.origins.len()).map(|n| service_dir(&node, n)).collect();
        for dir in &dirs {
            make_private_dir(dir)?;
            for (name, content) in files {
                fs::write(dir.join(name), content)?;
            }
        }
        node.configure(&torrc.text(&dirs, ""));
        node.start()?;
        node.listening().await?;
        let named = async {
            loop {
                let addresses: Vec<String> = dirs
                    .iter()
                    .map(|dir| read_lossy(&dir.join("hostname")).trim().to_owned())
                    .collect();
                if addresses.iter().all(|address| address.ends_with(".onion")) {
                    return addresses;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let addresses = tokio::time::timeout(LIMIT, named)
            .await
            .with_context(|| format!("{} makes no key:\n{}", node.name(), node.tail()))?;
        node.kill()?;
        Ok(Service { node, addresses, torrc })
    }

    /// The HiddenServiceDir of its first service.
    pub fn directory(&self) -> PathBuf {
        service_dir(&self.node, 0)
    }

    /// Its own address, with `.onion`; that of the first service of several.
    pub fn onion_address(&self) -> &str {
        &self.addresses[0]
    }

    /// The addresses of all its services.
    pub fn onion_addresses(&self) -> &[String] {
        &self.addresses
    }

    /// From its next start on this virtual port of all its services leads there.
    pub fn lead(&mut self, port: u16, to: SocketAddr) {
        self.torrc.lines.push(format!("HiddenServicePort {port} {to}"));
    }

    /// From now on all its services answer for the one at `frontend`, too: tor
    /// is started again as a backend (`HiddenServiceOnionBalanceInstance`).
    pub async fn answer_for(&self, frontend: &str) -> Result<()> {
        let dirs: Vec<PathBuf> =
            (0..self.torrc.origins.len()).map(|n| service_dir(&self.node, n)).collect();
        for dir in &dirs {
            fs::write(dir.join("ob_config"), format!("MasterOnionAddress {frontend}\n"))?;
        }
        self.node.configure(&self.torrc.text(&dirs, INSTANCE));
        self.node.restart().await
    }
}

impl Torrc {
    /// The whole text, with a block for each service.
    fn text(&self, dirs: &[PathBuf], instance: &str) -> String {
        let mut text = self.common.clone();
        for (dir, origin) in dirs.iter().zip(&self.origins) {
            text += &format!("HiddenServiceDir {}\n", dir.display());
            text += &format!("HiddenServicePort 80 {origin}\n");
            for line in &self.lines {
                text += &format!("{line}\n");
            }
            text += instance;
        }
        text
    }
}

/// The torrc line of a backend. tor reads `ob_config` when it sees this.
const INSTANCE: &str = "HiddenServiceOnionBalanceInstance 1\n";

fn service_dir(node: &Node, number: usize) -> PathBuf {
    node.dir().join(format!("service-{number}"))
}

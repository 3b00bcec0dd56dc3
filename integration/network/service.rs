//! How does a C tor offer an onion service, as a backend or on its own?
//!
//! Started by [`super::Network::service`] and [`super::Network::backend`].

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::node::Node;
use super::place::make_private_dir;
use super::process::read_lossy;

/// How long tor may take to make the service's key.
const LIMIT: Duration = Duration::from_secs(30);

/// A C tor with one onion service; dropping it ends the process.
#[derive(Debug)]
pub struct Service {
    /// Its process.
    pub node: Node,
    address: String,
}

impl Service {
    /// Has tor make the service's key, with `origin` at the virtual port 80,
    /// files that have to be in its directory and further torrc lines. It does
    /// not run afterwards, and has published nothing.
    pub(super) async fn prepare(
        node: Node,
        origin: SocketAddr,
        lines: &[&str],
        files: &[(&str, &str)],
    ) -> Result<Service> {
        let dir = service_dir(&node);
        make_private_dir(&dir)?;
        for (name, content) in files {
            fs::write(dir.join(name), content)?;
        }
        node.configure_also(&format!(
            "HiddenServiceDir {}\nHiddenServicePort 80 {origin}\n",
            dir.display()
        ));
        for line in lines {
            node.configure_also(&format!("{line}\n"));
        }
        node.start()?;
        node.listening().await?;
        let named = async {
            loop {
                let address = read_lossy(&dir.join("hostname")).trim().to_owned();
                if address.ends_with(".onion") {
                    return address;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let address = tokio::time::timeout(LIMIT, named).await.unwrap_or_default();
        ensure!(!address.is_empty(), "{} makes no key:\n{}", node.name(), node.tail());
        node.kill()?;
        Ok(Service { node, address })
    }

    /// Its own address, with `.onion`.
    pub fn onion_address(&self) -> &str {
        &self.address
    }

    /// From now on it answers for the service at `frontend`, too: it is started
    /// again as a backend (`HiddenServiceOnionBalanceInstance`).
    pub async fn answer_for(&self, frontend: &str) -> Result<()> {
        fs::write(service_dir(&self.node).join("ob_config"), ob_config(frontend))?;
        self.node.configure_also(INSTANCE);
        self.node.restart().await
    }
}

/// The torrc line of a backend. tor reads `ob_config` when it sees this.
const INSTANCE: &str = "HiddenServiceOnionBalanceInstance 1\n";

/// The file in a backend's directory that names the frontend.
fn ob_config(frontend: &str) -> String {
    format!("MasterOnionAddress {frontend}\n")
}

fn service_dir(node: &Node) -> PathBuf {
    node.dir().join("service")
}

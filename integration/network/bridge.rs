//! How does a censored operator reach the network?
//!
//! A C tor that is in no consensus and takes clients on, plainly or through
//! obfs4proxy (Debian's package).

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::node::Node;
use super::process::program;
use super::{Network, torrc};

/// How long it may take to be ready, on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

/// How bytes look on the way to a bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Like Tor.
    Plain,
    /// Like nothing in particular.
    Obfs4,
}

/// A bridge; dropping it ends the process.
#[derive(Debug)]
pub struct Bridge {
    /// Its process.
    pub node: Node,
    /// Where clients connect to.
    pub address: SocketAddr,
    /// How clients are told of it.
    pub line: String,
}

impl Network {
    /// Starts a bridge and waits until it knows the whole network.
    pub async fn bridge(&self, name: &str, transport: Transport) -> Result<Bridge> {
        let (or_address, address) = (self.free_address()?, self.free_address()?);
        let node = Node::new(&self.place, name)?;
        let mut lines = torrc::entrance(&name.replace('-', ""), or_address);
        lines += "BridgeRelay 1\n\
                  PublishServerDescriptor 0\n\
                  FetchDirInfoEarly 1\n\
                  FetchDirInfoExtraEarly 1\n";
        if transport == Transport::Obfs4 {
            lines += &format!(
                "ServerTransportPlugin obfs4 exec {}\n\
                 ServerTransportListenAddr obfs4 {address}\n\
                 ExtORPort auto\n",
                program("obfs4proxy")?.display()
            );
        }
        node.configure(&(self.torrc() + &lines));
        node.start()?;
        node.listening().await?;
        let ready = async {
            loop {
                let all = node.knows(self.relays.len()).await?;
                if let (true, Some(found)) = (all, line(&node, or_address, address, transport)) {
                    return anyhow::Ok(found);
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let (address, line) = match tokio::time::timeout(LIMIT, ready).await {
            Ok(ready) => ready?,
            Err(_) => bail!("{name} does not get ready:\n{}", node.tail()),
        };
        Ok(Bridge { node, address, line })
    }
}

impl Bridge {
    /// Arti's tables for who knows this bridge alone.
    pub fn arti_toml(&self) -> Result<String> {
        let transport = match self.line.starts_with("obfs4 ") {
            true => format!(
                "[[bridges.transports]]\nprotocols = ['obfs4']\npath = '{}'\n",
                program("obfs4proxy")?.display()
            ),
            false => String::new(),
        };
        Ok(format!("[bridges]\nenabled = true\nbridges = ['{}']\n{transport}", self.line))
    }
}

/// The address for clients and the bridge's line, once its keys are there.
fn line(
    node: &Node,
    or_address: SocketAddr,
    obfs4: SocketAddr,
    transport: Transport,
) -> Option<(SocketAddr, String)> {
    let data = node.dir().join("data");
    let read = |file: &str| fs::read_to_string(data.join(file)).context("not there").ok();
    let fingerprint = read("fingerprint")?.split_whitespace().nth(1)?.to_owned();
    if transport == Transport::Plain {
        return Some((or_address, format!("{or_address} {fingerprint}")));
    }
    let text = read("pt_state/obfs4_bridgeline.txt")?;
    let line = text.lines().find(|line| line.starts_with("Bridge "))?;
    let (_, arguments) = line.split_once("<FINGERPRINT> ")?;
    Some((obfs4, format!("obfs4 {obfs4} {fingerprint} {arguments}")))
}

//! Whom does a process connect to?
//!
//! Read from `/proc` again and again: a connection to a relay lasts for as long
//! as a handshake of TLS at least, which is many looks.

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;

/// From one look to the next.
const EVERY: Duration = Duration::from_millis(5);

/// The addresses that a process and its children have had connections to.
#[derive(Debug)]
pub struct Connections {
    seen: Arc<Mutex<BTreeSet<SocketAddr>>>,
    /// Ends with this.
    _looking: JoinSet<()>,
}

impl Connections {
    /// Looks at this process from now on.
    pub fn of(pid: u32) -> Connections {
        let seen = Arc::<Mutex<BTreeSet<SocketAddr>>>::default();
        let mut looking = JoinSet::new();
        let found = Arc::clone(&seen);
        looking.spawn(async move {
            loop {
                let now: Vec<_> = family(pid).into_iter().flat_map(connected_to).collect();
                found.lock().unwrap_or_else(PoisonError::into_inner).extend(now);
                tokio::time::sleep(EVERY).await;
            }
        });
        Connections { seen, _looking: looking }
    }

    /// All that were seen.
    pub fn seen(&self) -> BTreeSet<SocketAddr> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A process and its children.
fn family(pid: u32) -> Vec<u32> {
    let children = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let children =
        children.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    let children: Vec<u32> = children
        .flat_map(|pids| {
            pids.split(' ').filter_map(|it| it.trim().parse().ok()).collect::<Vec<_>>()
        })
        .collect();
    std::iter::once(pid).chain(children).collect()
}

/// What the TCP sockets of a process are connected to, or about to be.
fn connected_to(pid: u32) -> Vec<SocketAddr> {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let sockets: BTreeSet<String> = open
        .filter_map(|file| fs::read_link(file.path()).ok()?.to_str().map(str::to_owned))
        .filter_map(|target| Some(target.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let table = fs::read_to_string(format!("/proc/{pid}/net/tcp")).unwrap_or_default();
    table
        .lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let [_, _, remote, _, ..] = fields.as_slice() else { return None };
            let inode = fields.get(9)?;
            if !sockets.contains(*inode) {
                return None;
            }
            let (address, port) = remote.split_once(':')?;
            let address = u32::from_str_radix(address, 16).ok()?;
            let port = u16::from_str_radix(port, 16).ok()?;
            // In the order of bytes of the machine.
            let address = Ipv4Addr::from(address.to_ne_bytes());
            (port != 0).then(|| SocketAddr::from((address, port)))
        })
        .collect()
}

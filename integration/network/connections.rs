//! Whom does a process connect to?
//!
//! Read from `/proc` again and again: a connection to a relay lasts for as long
//! as a handshake of TLS at least, which is many looks.

use std::collections::{BTreeMap, BTreeSet};
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
            let mut looks = BTreeMap::<u32, Look>::new();
            loop {
                let family = family(pid);
                looks.retain(|pid, _| family.contains(pid));
                let now: Vec<_> = family
                    .into_iter()
                    .flat_map(|pid| looks.entry(pid).or_default().at(pid))
                    .collect();
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

/// The sockets that a process has open, by their inodes.
fn sockets(pid: u32) -> BTreeSet<String> {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    open.filter_map(|file| fs::read_link(file.path()).ok()?.to_str().map(str::to_owned))
        .filter_map(|target| Some(target.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect()
}

/// The sockets of a table below `/proc`, each with its line.
fn table(pid: u32, name: &str, inode: usize) -> BTreeMap<String, String> {
    let text = fs::read_to_string(format!("/proc/{pid}/net/{name}")).unwrap_or_default();
    let rows = text.lines().skip(1);
    rows.filter_map(|row| Some((row.split_whitespace().nth(inode)?.to_owned(), row.to_owned())))
        .collect()
}

/// What a TCP socket is connected to, or about to be; `None`: it listens.
fn remote(row: &str) -> Option<SocketAddr> {
    let (address, port) = row.split_whitespace().nth(2)?.split_once(':')?;
    let address = u32::from_str_radix(address, 16).ok()?;
    let port = u16::from_str_radix(port, 16).ok()?;
    // In the order of bytes of the machine.
    let address = Ipv4Addr::from(address.to_ne_bytes());
    (port != 0).then(|| SocketAddr::from((address, port)))
}

/// What is known of a process's sockets.
#[derive(Default)]
struct Look {
    /// Those of which nothing new can be learned.
    known: BTreeSet<String>,
}

impl Look {
    /// What its new TCP sockets are connected to. The kernel takes milliseconds to write
    /// its tables, so they are read only where there is a socket that nothing is known of.
    fn at(&mut self, pid: u32) -> Vec<SocketAddr> {
        let open = sockets(pid);
        self.known.retain(|inode| open.contains(inode));
        let mut new: Vec<String> = open.difference(&self.known).cloned().collect();
        if new.is_empty() {
            return Vec::new();
        }
        let unix = table(pid, "unix", 6);
        new.retain(|inode| !unix.contains_key(inode));
        self.known.extend(open.into_iter().filter(|inode| unix.contains_key(inode)));
        if new.is_empty() {
            return Vec::new();
        }
        let tcp = table(pid, "tcp", 9);
        let found: Vec<_> = new.into_iter().filter_map(|inode| tcp.get_key_value(&inode)).collect();
        self.known.extend(found.iter().map(|(inode, _)| (*inode).clone()));
        found.into_iter().filter_map(|(_, row)| remote(row)).collect()
    }
}

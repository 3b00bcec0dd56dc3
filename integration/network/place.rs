//! Which directory and which ports belong to one network alone?
//!
//! Several networks run at once, in one process or in many. A directory is
//! owned by who holds the lock file in it; ports come in blocks, each owned by
//! who listens on its first port. The kernel gives both free when the owner
//! dies, so nothing is left to clean by hand: directories of dead owners are
//! removed when the next network starts.

use std::fs::{self, DirBuilder, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};

/// Ports are taken from here on, ...
const FIRST_PORT: u16 = 12_000;
/// ... up to here: Linux takes those of outgoing connections from 32768 on.
const LAST_PORT: u16 = 31_999;
/// How many ports a block has.
const BLOCK: u16 = 100;
/// The lock file in a directory.
const LOCK: &str = "lock";

/// A directory and a supply of ports. The directory is removed with it, unless
/// something has failed: then its logs stay until the next run.
#[derive(Debug)]
pub struct Place {
    dir: PathBuf,
    ports: Mutex<Vec<Block>>,
    names: AtomicU32,
    keep: AtomicBool,
    /// Locked for as long as the place is in use.
    _lock: File,
}

/// Ports that no other network takes.
#[derive(Debug)]
struct Block {
    next: u16,
    end: u16,
    /// Owning the first port is owning the block.
    _claim: TcpListener,
}

impl Place {
    /// Takes a new directory below `root`, which is made if it does not exist.
    pub fn claim(root: &Path) -> Result<Place> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        fs::create_dir_all(root).with_context(|| format!("cannot make {}", root.display()))?;
        // Whoever makes or removes directories in the root holds its lock.
        let root_lock = File::create(root.join(LOCK))?;
        root_lock.lock()?;
        remove_stale(root)?;
        let name = format!("net-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let dir = root.join(name);
        make_private_dir(&dir)?;
        let lock = File::create(dir.join(LOCK))?;
        lock.try_lock().context("the lock of a new directory is taken")?;
        Ok(Place {
            dir,
            ports: Mutex::default(),
            names: AtomicU32::new(0),
            keep: AtomicBool::new(false),
            _lock: lock,
        })
    }

    /// The directory, an absolute path.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Leaves the directory where it is, for whoever looks for what went wrong.
    pub fn keep(&self) {
        self.keep.store(true, Ordering::Relaxed);
    }

    /// A new private directory whose name begins with `name`.
    pub fn subdirectory(&self, name: &str) -> Result<PathBuf> {
        let number = self.names.fetch_add(1, Ordering::Relaxed);
        let dir = self.dir.join(format!("{name}.{number}"));
        make_private_dir(&dir)?;
        Ok(dir)
    }

    /// An address on loopback that was free a moment ago and that no other
    /// network will be given.
    pub fn address(&self) -> Result<SocketAddr> {
        let mut blocks = self.ports.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(block) = blocks.last_mut() {
                while block.next < block.end {
                    let address = loopback(block.next);
                    block.next += 1;
                    if TcpListener::bind(address).is_ok() {
                        return Ok(address);
                    }
                }
            }
            blocks.push(Block::claim()?);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !std::thread::panicking() && !self.keep.load(Ordering::Relaxed) {
            // What cannot be removed now is removed by the next run.
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

impl Block {
    /// Takes the first block that nobody owns, beginning at one that depends on
    /// the process id, so that processes seldom try the same.
    fn claim() -> Result<Block> {
        let count = (LAST_PORT - FIRST_PORT + 1) / BLOCK;
        let start = u16::try_from(std::process::id() % u32::from(count))?;
        for number in (0..count).map(|step| (start + step) % count) {
            let first = FIRST_PORT + number * BLOCK;
            if let Ok(claim) = TcpListener::bind(loopback(first)) {
                return Ok(Block { next: first + 1, end: first + BLOCK, _claim: claim });
            }
        }
        bail!("no free ports between {FIRST_PORT} and {LAST_PORT}")
    }
}

/// Makes a directory that only its owner may enter, as tor demands.
pub fn make_private_dir(dir: &Path) -> Result<()> {
    DirBuilder::new()
        .mode(0o700)
        .recursive(true)
        .create(dir)
        .with_context(|| format!("cannot make {}", dir.display()))
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// Removes the directories whose owners are dead. Those of this process stay:
/// after a failed test they hold the logs.
fn remove_stale(root: &Path) -> Result<()> {
    let ours = format!("net-{}-", std::process::id());
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with("net-") || name.starts_with(&ours) {
            continue;
        }
        let owned = File::open(entry.path().join(LOCK)).is_ok_and(|lock| lock.try_lock().is_err());
        if !owned {
            fs::remove_dir_all(entry.path())
                .with_context(|| format!("cannot remove {}", entry.path().display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn two_places_share_no_directory_and_no_port() {
        let root = tempfile::tempdir().unwrap();
        let places = [Place::claim(root.path()).unwrap(), Place::claim(root.path()).unwrap()];
        assert_ne!(places[0].dir(), places[1].dir());
        let ports: BTreeSet<SocketAddr> =
            (0..2 * BLOCK).map(|i| places[usize::from(i % 2)].address().unwrap()).collect();
        assert_eq!(ports.len(), usize::from(2 * BLOCK));
    }

    #[test]
    fn a_directory_is_removed_when_its_owner_is_dead_and_kept_while_it_lives() {
        let root = tempfile::tempdir().unwrap();
        let (dead, alive) = (root.path().join("net-x-0"), root.path().join("net-x-1"));
        for dir in [&dead, &alive] {
            fs::create_dir(dir).unwrap();
            File::create(dir.join(LOCK)).unwrap();
        }
        let held = File::open(alive.join(LOCK)).unwrap();
        held.lock().unwrap();
        let place = Place::claim(root.path()).unwrap();
        assert!(!dead.exists());
        assert!(alive.exists());
        let dir = place.dir().to_owned();
        drop(place);
        assert!(!dir.exists());
    }
}

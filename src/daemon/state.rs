//! What does a service find again after a restart, and where does it lie?
//!
//! `STATE/onionbraid/NICKNAME/` (mode 0700): `balancer.json`, what the balancer
//! remembers, and a directory for each local instance. It only makes a start
//! quicker and smoother, so nothing that is wrong with it keeps a service from
//! starting, save a directory that cannot be made or that others can read.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fs_mistrust::Mistrust;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::complaints;
use crate::config::Storage;
use crate::durable;
use crate::throttle::Throttle;
use onionbraid_balancer::onion::OnionAddress;

/// Below the state directory, so that nothing of Arti's is in the way.
const DIRECTORY: &str = "onionbraid";

/// What the balancer remembers.
const BALANCER: &str = "balancer.json";

/// Whose state it is.
const ADDRESS: &str = "address";

/// There once its service has run without hiding.
const NOT_ANONYMOUS: &str = "not_anonymous";

/// A disk that cannot be written to is told no more often.
const COMPLAIN_EVERY: Duration = Duration::from_secs(10 * 60);

/// A service's directory.
#[derive(Debug)]
pub(super) struct StateDir {
    /// It exists, and is its owner's alone.
    path: PathBuf,
    /// What that means.
    mistrust: Mistrust,
    /// What was written last, or read.
    written: Option<Vec<u8>>,
    /// Limits how often the log says that it cannot be written.
    complained: Throttle,
}

/// A directory cannot be made, or is open to others.
#[derive(Debug, thiserror::Error)]
#[error("the directory {path} cannot be used")]
pub struct StateError {
    /// Which.
    path: PathBuf,
    /// Why.
    #[source]
    source: fs_mistrust::Error,
}

/// Makes a service's directory if it is missing.
///
/// # Errors
///
/// If it cannot be made, or others could read it.
pub(super) fn prepare(storage: &Storage, nickname: &str) -> Result<(), StateError> {
    private(&storage.mistrust, &directory(storage, nickname))
}

/// Where a service's state lies.
pub(super) fn directory(storage: &Storage, nickname: &str) -> PathBuf {
    storage.state_dir.join(DIRECTORY).join(nickname)
}

/// What a service remembers, without changing anything; `None`: nothing, or it
/// cannot be read, or it is of another address.
pub(super) fn look<T: DeserializeOwned>(
    storage: &Storage,
    nickname: &str,
    address: &OnionAddress,
) -> Option<T> {
    let path = directory(storage, nickname);
    let noted = durable::read(&path.join(ADDRESS)).ok()?;
    if noted.trim_ascii() != address.to_string().as_bytes() {
        return None;
    }
    serde_json::from_slice(&durable::read(&path.join(BALANCER)).ok()?).ok()
}

/// The directory of a service that has run under this address without hiding, so that
/// hiding now would hide nothing.
pub(super) fn was_not_anonymous(
    storage: &Storage,
    nickname: &str,
    address: &OnionAddress,
) -> Option<PathBuf> {
    let path = directory(storage, nickname);
    let noted = durable::read(&path.join(ADDRESS)).ok()?;
    let same = noted.trim_ascii() == address.to_string().as_bytes();
    (same && path.join(NOT_ANONYMOUS).exists()).then_some(path)
}

/// Makes a directory for its owner alone.
fn private(mistrust: &Mistrust, path: &Path) -> Result<(), StateError> {
    let made = mistrust.verifier().make_directory(path);
    made.map_err(|source| StateError { path: path.to_owned(), source })
}

impl StateDir {
    /// The directory of a service, once nobody else uses it any more. What lies
    /// there of another identity, if the service had another key before, is
    /// removed: introduction points with the same keys under two addresses
    /// would show that both are one's. `None`, and a warning, if that fails or
    /// it cannot be read whose it is: then it stays as it is.
    pub(super) fn open(storage: &Storage, nickname: &str, address: &OnionAddress) -> Option<Self> {
        let path = directory(storage, nickname);
        let note = path.join(ADDRESS);
        let ready = || {
            let noted = match durable::read(&note) {
                Ok(noted) => noted,
                Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
                Err(error) => return Err(error),
            };
            if noted.trim_ascii() != address.to_string().as_bytes() {
                if !noted.is_empty() {
                    let directory = path.display();
                    tracing::warn!(%directory, "belongs to another address and is emptied");
                }
                fs::remove_dir_all(&path)?;
                private(&storage.mistrust, &path).map_err(io::Error::other)?;
                durable::replace(&note, format!("{address}\n").as_bytes())?;
            }
            io::Result::Ok(())
        };
        match ready() {
            Ok(()) => Some(Self {
                path,
                mistrust: storage.mistrust.clone(),
                written: None,
                complained: Throttle::new(COMPLAIN_EVERY),
            }),
            Err(error) => {
                tracing::warn!(directory = %path.display(), %error, "nothing will be remembered");
                None
            }
        }
    }

    /// What was remembered; `None`, and a warning, if that cannot be read. It
    /// is moved aside then.
    pub(super) fn remembered<T: DeserializeOwned>(&mut self) -> Option<T> {
        let file = self.path.join(BALANCER);
        let problem = match durable::read(&file) {
            Ok(bytes) => match serde_json::from_slice(&bytes) {
                Ok(memory) => {
                    self.written = Some(bytes);
                    return Some(memory);
                }
                Err(error) => error.to_string(),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => error.to_string(),
        };
        let aside = file.with_extension("json.corrupt");
        let moved = fs::rename(&file, &aside);
        tracing::warn!(
            file = %file.display(), problem, moved = moved.is_ok(),
            "what was remembered cannot be read; it is moved aside, and starting goes on without",
        );
        None
    }

    /// Writes what is to be remembered, if it differs from what is there.
    ///
    /// # Errors
    ///
    /// Those of the system; then what is there stays, or it is not known whether it
    /// does, and the next attempt writes in any case.
    pub(super) fn keep<T: Serialize>(&mut self, memory: &T) -> io::Result<()> {
        let bytes = serde_json::to_vec(memory)?;
        if self.written.as_ref() != Some(&bytes) {
            self.written = None;
            durable::replace(&self.path.join(BALANCER), &bytes)?;
            self.written = Some(bytes);
        }
        Ok(())
    }

    /// The same. Where it fails, the log is told once in a while.
    pub(super) fn remember<T: Serialize>(&mut self, memory: &T, now: Instant) {
        let file = self.path.join(BALANCER);
        let written = self.keep(memory);
        // A write that succeeds does not reset the throttle: while file handles
        // or disk space are short, success and failure alternate.
        if let Err(error) = written
            && let Some(more) = complaints::permits(&mut self.complained, &error, now)
        {
            tracing::warn!(file = %file.display(), %error, more, "cannot be written; going on");
        }
    }

    /// Notes that the service does not hide. A warning, if that cannot be written.
    pub(super) fn note_not_anonymous(&self) {
        let file = self.path.join(NOT_ANONYMOUS);
        if let Err(error) = durable::replace(&file, b"") {
            tracing::warn!(file = %file.display(), %error, "cannot be written; going on");
        }
    }

    /// The directory of a local instance, made if it is missing; `None`, and a
    /// warning, if that fails.
    pub(super) fn of_instance(&self, name: &str) -> Option<PathBuf> {
        let path = self.path.join(name);
        match private(&self.mistrust, &path) {
            Ok(()) => Some(path),
            Err(error) => {
                let error = anyhow::Error::from(error);
                tracing::warn!(error = %format!("{error:#}"), "introduction points are not kept");
                None
            }
        }
    }

    /// Removes what an instance kept that is not coming back.
    pub(super) fn forget_instance(&self, name: &str) {
        let path = self.path.join(name);
        if let Err(error) = fs::remove_dir_all(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(directory = %path.display(), %error, "cannot be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::clock::now;
    use crate::config::{Config, Environment};

    fn storage(directory: &Path) -> Storage {
        let text = format!(
            "[onion_services.a]\nproxy_ports = [[80, \"127.0.0.1:1\"]]\n[storage]\n\
             state_dir = \"{0}/state\"\ncache_dir = \"{0}/cache\"\n[storage.permissions]\n\
             dangerously_trust_everyone = true\n",
            directory.display(),
        );
        Config::from_text(&text, &Environment::new([("HOME", "/home/user")])).unwrap().storage
    }

    /// The directory of the service `shop`.
    fn open(storage: &Storage, n: u8) -> StateDir {
        prepare(storage, "shop").unwrap();
        StateDir::open(storage, "shop", &OnionAddress::from_public_key([n; 32])).unwrap()
    }

    #[test]
    fn what_is_remembered_is_found_again_by_its_owner_alone() {
        let directory = tempfile::tempdir().unwrap();
        let storage = storage(directory.path());
        let mut state = open(&storage, 1);
        assert!(state.path.ends_with("state/onionbraid/shop"));
        let mode = fs::metadata(&state.path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        assert_eq!(state.remembered::<Vec<u32>>(), None);
        state.remember(&vec![1, 2, 3], now().monotonic);
        assert_eq!(open(&storage, 1).remembered(), Some(vec![1, 2, 3]));
    }

    #[test]
    fn that_an_address_did_not_hide_is_known_for_as_long_as_its_state_lies_there() {
        let directory = tempfile::tempdir().unwrap();
        let storage = storage(directory.path());
        let state = open(&storage, 1);
        let of = |n| OnionAddress::from_public_key([n; 32]);
        let was = |n| was_not_anonymous(&storage, "shop", &of(n));
        assert_eq!(was(1), None);
        state.note_not_anonymous();
        assert_eq!(was(1), Some(state.path.clone()));
        assert_eq!(was(2), None, "another address has its own history");
        open(&storage, 1);
        assert_eq!(was(1), Some(state.path.clone()));
        open(&storage, 2);
        assert_eq!((was(1), was(2)), (None, None));
    }

    #[test]
    fn a_damaged_file_is_moved_aside_and_the_next_one_takes_its_place() {
        let directory = tempfile::tempdir().unwrap();
        let storage = storage(directory.path());
        for damaged in ["[1, 2", "{}", ""] {
            let mut state = open(&storage, 1);
            fs::write(state.path.join(BALANCER), damaged).unwrap();
            assert_eq!(state.remembered::<Vec<u32>>(), None);
            let aside = fs::read_to_string(state.path.join("balancer.json.corrupt")).unwrap();
            assert_eq!(aside, damaged);
            state.remember(&vec![4], now().monotonic);
            assert_eq!(open(&storage, 1).remembered(), Some(vec![4]));
        }
    }

    #[test]
    fn what_another_identity_left_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let storage = storage(directory.path());
        let mut state = open(&storage, 1);
        state.remember(&vec![1], now().monotonic);
        let kept = state.of_instance("local-0").unwrap();
        fs::write(kept.join("points"), "secret").unwrap();
        let mut other = open(&storage, 2);
        assert!(!kept.exists());
        assert_eq!(other.remembered::<Vec<u32>>(), None);
    }

    #[test]
    fn where_it_cannot_be_read_whose_it_is_nothing_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let storage = storage(directory.path());
        let state = open(&storage, 1);
        let kept = state.of_instance("local-0").unwrap();
        fs::write(kept.join("points"), "secret").unwrap();
        // Not even root can read a directory as a file.
        fs::remove_file(state.path.join(ADDRESS)).unwrap();
        fs::create_dir(state.path.join(ADDRESS)).unwrap();
        let address = OnionAddress::from_public_key([1; 32]);
        assert!(StateDir::open(&storage, "shop", &address).is_none());
        assert!(kept.join("points").exists());
    }

    #[test]
    fn a_disk_that_cannot_be_written_does_no_harm() {
        let directory = tempfile::tempdir().unwrap();
        let storage = storage(directory.path());
        let mut state = open(&storage, 1);
        state.remember(&vec![1], now().monotonic);
        // Not even root can write to a directory of this name.
        let in_the_way = state.path.join("balancer.json.new");
        fs::create_dir(&in_the_way).unwrap();
        state.remember(&vec![2], now().monotonic);
        assert_eq!(open(&storage, 1).remembered(), Some(vec![1]));
        fs::remove_dir(&in_the_way).unwrap();
        state.remember(&vec![2], now().monotonic);
        assert_eq!(open(&storage, 1).remembered(), Some(vec![2]));
    }

    #[test]
    fn a_disk_that_fails_now_and_then_is_logged_no_more_often() {
        let directory = tempfile::tempdir().unwrap();
        let mut state = open(&storage(directory.path()), 1);
        let in_the_way = state.path.join("balancer.json.new");
        let start = now().monotonic;
        for round in 0..5 {
            fs::create_dir(&in_the_way).unwrap();
            state.remember(&vec![2 * round], start);
            fs::remove_dir(&in_the_way).unwrap();
            state.remember(&vec![2 * round + 1], start);
        }
        assert_eq!(state.complained.permits(start + COMPLAIN_EVERY), Some(4));
    }
}

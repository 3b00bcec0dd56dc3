//! What does a service find again after a restart, and where does it lie?
//!
//! `STATE/onionbraid/NICKNAME/` (mode 0700): `balancer.json`, what the balancer
//! remembers, a directory for each local instance, and in `guards` one for each that
//! has guards of its own. It only makes a start quicker and smoother, so nothing that
//! is wrong with it keeps a service from starting, save a directory that cannot be
//! made or that others can read.
//!
//! Beside them, which addresses have run without hiding: whatever is wrong with that keeps
//! a service from starting.

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

/// In it lies an empty file for each address that has run without hiding, whatever service had
/// its key. No service has this name: nicknames have no dot.
const NOT_ANONYMOUS: &str = "not_anonymous.addresses";

/// Below it a directory for each local instance with guards of its own.
const GUARDS: &str = "guards";

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

/// Which addresses have run without hiding cannot be looked at, or written.
#[derive(Debug, thiserror::Error)]
#[error(
    "{path}, which tells whether this address has run with `anonymity = \"not_anonymous\"`, cannot \
     be used"
)]
pub struct PastError {
    /// Where that stands.
    path: PathBuf,
    /// Why.
    #[source]
    source: io::Error,
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

/// The file that is there once this address has run without hiding, so that hiding now would
/// hide nothing.
///
/// # Errors
///
/// If it cannot be seen whether it is there.
pub(super) fn was_not_anonymous(
    storage: &Storage,
    address: &OnionAddress,
) -> Result<Option<PathBuf>, PastError> {
    let path = past_of(storage, address);
    match fs::symlink_metadata(&path) {
        Ok(_) => Ok(Some(path)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(PastError { path, source }),
    }
}

/// Notes that this address does not hide, before anybody can see that.
///
/// # Errors
///
/// If it cannot be written: it could seem to hide later.
pub(super) fn note_not_anonymous(
    storage: &Storage,
    address: &OnionAddress,
) -> Result<(), PastError> {
    if was_not_anonymous(storage, address)?.is_some() {
        return Ok(());
    }
    let path = past_of(storage, address);
    let directory = storage.state_dir.join(DIRECTORY).join(NOT_ANONYMOUS);
    let made = private(&storage.mistrust, &directory).map_err(io::Error::other);
    let written = made.and_then(|()| durable::replace(&path, b""));
    written.map_err(|source| PastError { path, source })
}

fn past_of(storage: &Storage, address: &OnionAddress) -> PathBuf {
    storage.state_dir.join(DIRECTORY).join(NOT_ANONYMOUS).join(address.to_string())
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

    /// Where the guards of a local instance lie, if it has its own. They stay when it is
    /// taken out: one that comes back would else begin with others, and again the next
    /// time.
    pub(super) fn of_guards(&self, name: &str) -> PathBuf {
        self.path.join(GUARDS).join(name)
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
    fn that_an_address_did_not_hide_is_known_under_every_name_and_after_every_other_key() {
        let directory = tempfile::tempdir().unwrap();
        let storage = storage(directory.path());
        let of = |n| OnionAddress::from_public_key([n; 32]);
        let was = |n| was_not_anonymous(&storage, &of(n)).unwrap().is_some();
        assert!(!was(1), "nothing is there yet");
        note_not_anonymous(&storage, &of(1)).unwrap();
        note_not_anonymous(&storage, &of(1)).unwrap();
        assert!(was(1) && !was(2), "another address has its own history");
        // The directory of its service is emptied for another key.
        for n in [1, 2, 1] {
            open(&storage, n);
            assert!(was(1) && !was(2));
        }
        let lies = was_not_anonymous(&storage, &of(1)).unwrap().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&lies), mode(lies.parent().unwrap())), (0o600, 0o700));
    }

    #[test]
    fn what_cannot_be_looked_at_or_written_of_the_past_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let storage = storage(directory.path());
        let address = OnionAddress::from_public_key([1; 32]);
        fs::create_dir_all(storage.state_dir.join(DIRECTORY)).unwrap();
        // Not even root finds or makes anything in an ordinary file.
        fs::write(storage.state_dir.join(DIRECTORY).join(NOT_ANONYMOUS), "").unwrap();
        assert!(was_not_anonymous(&storage, &address).is_err());
        assert!(note_not_anonymous(&storage, &address).is_err());
        // Nor in the place of a directory.
        fs::remove_file(storage.state_dir.join(DIRECTORY).join(NOT_ANONYMOUS)).unwrap();
        let mut beside = past_of(&storage, &address).into_os_string();
        beside.push(".new");
        fs::create_dir_all(beside).unwrap();
        assert!(note_not_anonymous(&storage, &address).is_err());
        assert!(was_not_anonymous(&storage, &address).unwrap().is_none());
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

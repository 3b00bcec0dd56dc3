//! One daemon for each state directory: two would publish the same addresses
//! against each other and mix up Tor's own state.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::Storage;

/// The lock's file in the state directory. Its content means nothing.
pub(super) const FILE: &str = "onionbraid.lock";

/// How often the lock is tried, and the pause between: `is_taken` of another
/// process holds it for a moment.
const TRIES: u32 = 10;
const PAUSE: Duration = Duration::from_millis(20);

/// Held while the daemon runs; the system releases it however the process ends.
#[derive(Debug)]
pub(super) struct StateLock {
    /// The lock belongs to the open file.
    _file: File,
}

/// Why the state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateLockError {
    /// Another daemon is running there.
    #[error(
        "another onionbraid is running on the state directory {0}; \
         stop it, or give this one a `storage.state_dir` of its own"
    )]
    Taken(PathBuf),
    /// The directory cannot be made, or is open to others.
    #[error("the state directory {path} cannot be used")]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: fs_mistrust::Error,
    },
    /// The file cannot be opened or locked.
    #[error("cannot lock {path}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl StateLock {
    /// Makes the state directory (0700) if it is missing, and takes the lock.
    pub(super) fn take(storage: &Storage) -> Result<Self, StateLockError> {
        let directory = &storage.state_dir;
        storage
            .mistrust
            .verifier()
            .make_directory(directory)
            .map_err(|source| StateLockError::Directory { path: directory.clone(), source })?;
        let path = directory.join(FILE);
        let failed = |source| StateLockError::Io { path: path.clone(), source };
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        for _ in 1..TRIES {
            match file.try_lock() {
                Err(TryLockError::WouldBlock) => std::thread::sleep(PAUSE),
                _ => break,
            }
        }
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(StateLockError::Taken(directory.clone())),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }

    /// Whether a daemon runs on the state directory. Makes and changes nothing;
    /// what cannot be looked at is held to be free.
    pub(super) fn is_taken(storage: &Storage) -> bool {
        let Ok(file) = File::open(storage.state_dir.join(FILE)) else { return false };
        matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Environment};

    #[test]
    fn a_lock_that_is_taken_shows_and_looking_takes_and_makes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let text = format!(
            "[onion_services.a]\nproxy_ports = [[80, \"127.0.0.1:1\"]]\n[storage]\n\
             state_dir = \"{0}/state\"\ncache_dir = \"{0}/cache\"\n[storage.permissions]\n\
             dangerously_trust_everyone = true\n",
            directory.path().display(),
        );
        let environment = Environment::new([("HOME", "/home/user")]);
        let storage = Config::from_text(&text, &environment).unwrap().storage;
        assert!(!StateLock::is_taken(&storage) && !storage.state_dir.exists());
        let lock = StateLock::take(&storage).unwrap();
        assert!(StateLock::is_taken(&storage));
        assert!(matches!(StateLock::take(&storage), Err(StateLockError::Taken(_))));
        drop(lock);
        assert!(!StateLock::is_taken(&storage));
        StateLock::take(&storage).unwrap();
    }
}

//! One daemon for each state directory: two would publish the same addresses
//! against each other and mix up Tor's own state.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use crate::config::Storage;

/// The lock's file in the state directory. Its content means nothing.
const FILE: &str = "onionbraid.lock";

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
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(StateLockError::Taken(directory.clone())),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }
}

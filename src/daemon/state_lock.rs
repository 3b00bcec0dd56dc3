//! Who has a state directory: one daemon, or, while none runs, one command that
//! uses its guards. Two would mix up Tor's own state, and two daemons publish the
//! same addresses against each other.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::clock::now;
use crate::config::Storage;

/// The lock's file in the state directory. Its content means nothing.
pub(super) const FILE: &str = "onionbraid.lock";

/// How often the lock is tried, and the pause between: `is_taken` of another
/// process holds it for a moment.
const TRIES: u32 = 10;
const PAUSE: Duration = Duration::from_millis(20);

/// A command has this one, too: to wait in line for others, and to tell a daemon
/// that starts that waiting is worth it.
pub(super) const COMMAND_FILE: &str = "onionbraid-command.lock";

/// A daemon that waits for a command has this one: it asks the command to end.
pub(super) const WANTED_FILE: &str = "onionbraid-wanted.lock";

/// How long to wait for a command to end, and how often to look.
const COMMAND_WITHIN: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Held while the daemon runs; the system releases it however the process ends.
#[derive(Debug)]
pub(super) struct StateLock {
    /// The lock belongs to the open file.
    _file: File,
}

/// Held while a command uses the directory. Released in the order of the fields.
#[derive(Debug)]
pub(crate) struct CommandLock {
    /// As a daemon's.
    _state: File,
    /// The place in the line.
    _command: File,
    /// Where it is.
    directory: PathBuf,
}

/// Why the state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateLockError {
    /// Another daemon has it.
    #[error(
        "another onionbraid is running on the state directory {0}; \
         stop it, or give this one a `storage.state_dir` of its own"
    )]
    Taken(PathBuf),
    /// A command has it, and does not end.
    #[error(
        "`onionbraid descriptor` or `check --online` has been using the directory {0} for too \
         long; wait for it, or end it"
    )]
    Busy(PathBuf),
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
    /// Makes the state directory (0700) if it is missing, and takes the lock. If a
    /// command has it, asks that to end, and waits.
    pub(super) async fn take(storage: &Storage) -> Result<Self, StateLockError> {
        let directory = &storage.state_dir;
        storage
            .mistrust
            .verifier()
            .make_directory(directory)
            .map_err(|source| StateLockError::Directory { path: directory.clone(), source })?;
        let end = now().monotonic + COMMAND_WITHIN;
        let mut wanted = None;
        let mut refusals = 0;
        loop {
            if let Some(file) = lock(directory, FILE)? {
                return Ok(Self { _file: file });
            }
            if lock(directory, COMMAND_FILE)?.is_some() {
                // A command that has just ended is not taken for a daemon, and
                // neither is a look of `is_taken`.
                refusals += 1;
                if refusals >= TRIES {
                    return Err(StateLockError::Taken(directory.clone()));
                }
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            refusals = 0;
            if now().monotonic >= end {
                return Err(StateLockError::Busy(directory.clone()));
            }
            if wanted.is_none() {
                tracing::info!("waiting for a command that uses the state directory");
                wanted = lock(directory, WANTED_FILE)?;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Whether a daemon runs on the state directory: a command that uses it has the
    /// same lock, and another one beside it. Makes and changes nothing; what cannot
    /// be looked at is held to be free.
    pub(super) fn is_taken(storage: &Storage) -> bool {
        let is_locked = |file| {
            let file = File::open(storage.state_dir.join(file));
            file.is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
        };
        is_locked(FILE) && !is_locked(COMMAND_FILE)
    }
}

impl CommandLock {
    /// Takes a directory that exists; waits for another command to end, and calls
    /// `waiting` before. [`StateLockError::Taken`] means that a daemon runs there.
    pub(crate) fn take(directory: &Path, waiting: impl FnOnce()) -> Result<Self, StateLockError> {
        Self::take_until(directory, now().monotonic + COMMAND_WITHIN, waiting)
    }

    fn take_until(
        directory: &Path,
        end: Instant,
        waiting: impl FnOnce(),
    ) -> Result<Self, StateLockError> {
        let mut waiting = Some(waiting);
        let command = loop {
            match lock(directory, COMMAND_FILE)? {
                Some(file) => break file,
                None if now().monotonic >= end => {
                    return Err(StateLockError::Busy(directory.to_owned()));
                }
                None => {}
            }
            if let Some(waiting) = waiting.take() {
                waiting();
            }
            std::thread::sleep(LOOK_EVERY);
        };
        for _ in 0..TRIES {
            if let Some(state) = lock(directory, FILE)? {
                let directory = directory.to_owned();
                return Ok(Self { _state: state, _command: command, directory });
            }
            std::thread::sleep(PAUSE);
        }
        Err(StateLockError::Taken(directory.to_owned()))
    }

    /// Waits until a daemon wants the directory.
    pub(crate) async fn wanted(&self) {
        while !matches!(lock(&self.directory, WANTED_FILE), Ok(None)) {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// The lock on a file in the directory, made if it is missing; `None`: somebody
/// has it.
fn lock(directory: &Path, file: &str) -> Result<Option<File>, StateLockError> {
    let path = directory.join(file);
    let failed = |source| StateLockError::Io { path: path.clone(), source };
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Environment};

    fn storage(directory: &Path) -> Storage {
        let text = format!(
            "[storage]\nstate_dir = \"{0}\"\ncache_dir = \"{0}/cache\"\n\
             [storage.permissions]\ndangerously_trust_everyone = true\n",
            directory.display(),
        );
        Config::from_text(&text, &Environment::new([("HOME", "/home/user")])).unwrap().storage
    }

    #[tokio::test]
    async fn a_lock_that_is_taken_shows_and_looking_takes_and_makes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let storage = storage(&directory.path().join("state"));
        assert!(!StateLock::is_taken(&storage) && !storage.state_dir.exists());
        let lock = StateLock::take(&storage).await.unwrap();
        assert!(StateLock::is_taken(&storage));
        drop(lock);
        assert!(!StateLock::is_taken(&storage));
        let command = CommandLock::take(&storage.state_dir, || panic!("nobody is there")).unwrap();
        assert!(!StateLock::is_taken(&storage), "a command is no daemon");
        drop(command);
        StateLock::take(&storage).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_daemon_has_a_command_make_way_and_does_not_wait_for_another_daemon() {
        let directory = tempfile::tempdir().unwrap();
        let storage = storage(directory.path());
        let command = CommandLock::take(directory.path(), || panic!("nobody is there")).unwrap();
        let (daemon, ()) = tokio::join!(StateLock::take(&storage), async {
            command.wanted().await;
            drop(command);
        });
        let _daemon = daemon.unwrap();
        let second = StateLock::take(&storage).await;
        assert!(matches!(second, Err(StateLockError::Taken(_))));
        let command = CommandLock::take(directory.path(), || panic!("a daemon is no command"));
        assert!(matches!(command, Err(StateLockError::Taken(_))));
    }

    #[test]
    fn a_second_command_waits_for_the_first_one_and_not_for_ever() {
        let directory = tempfile::tempdir().unwrap();
        let first = CommandLock::take(directory.path(), || panic!("nobody is there")).unwrap();
        let mut waited = false;
        let second = CommandLock::take_until(directory.path(), now().monotonic, || waited = true);
        assert!(matches!(second, Err(StateLockError::Busy(_))));
        let mut first = Some(first);
        let second = CommandLock::take(directory.path(), || drop(first.take()));
        assert!(second.is_ok());
        assert!(!waited);
    }
}

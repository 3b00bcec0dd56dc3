//! Whose guards does a command's Tor client use? Never fresh ones: each new guard
//! is a chance for a hostile relay to see who asks.
//!
//! Those of the daemon, while none runs and its directories are this user's own;
//! else those of a client that this user's commands keep.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use arti_client::TorClientConfig;
use sha2::{Digest as _, Sha256};

use crate::commands::{CommandFailure, remark};
use crate::config::{Config, Environment, Storage};
use crate::daemon::state_lock::{CommandLock, StateLockError};
use crate::exit::Exit;

/// Directories that nobody else uses meanwhile.
pub(super) struct ClientDirectories {
    /// What Arti runs with.
    pub(super) tor: TorClientConfig,
    /// Whose guards they hold, in words.
    pub(super) guards: String,
    /// Released when Arti has ended.
    pub(super) lock: CommandLock,
}

/// Takes the directories that this command can use; waits for another command
/// that has them.
pub(super) fn take(
    config: &Config,
    env: &Environment,
) -> Result<ClientDirectories, CommandFailure> {
    if is_usable(&config.storage) {
        match CommandLock::take(&config.storage.state_dir, waiting) {
            Ok(lock) => {
                let guards = "the guards of the daemon, which is not running".to_owned();
                return Ok(ClientDirectories { tor: config.tor.clone(), guards, lock });
            }
            Err(error @ StateLockError::Busy(_)) => return Err(error.into()),
            // A daemon runs, and takes no questions; or the file is another's.
            Err(_) => {}
        }
    }
    let directory = own(config, env)?;
    let lock = CommandLock::take(&directory, waiting)?;
    let guards = format!("guards of this user's commands, kept in {}", directory.display());
    Ok(ClientDirectories { tor: config.tor_below(&directory)?, guards, lock })
}

fn waiting() {
    remark("waiting for another command that uses the same Tor client ...");
}

/// Whether the daemon's directories are there and this user's own. What a
/// command of another user wrote there, the daemon could not read.
fn is_usable(storage: &Storage) -> bool {
    let Storage { state_dir, cache_dir, mistrust, .. } = storage;
    // The directory itself may be another's, who lets the daemon's group write.
    let arti = state_dir.join("state");
    let of_daemon = if arti.exists() { &arti } else { state_dir };
    mistrust.verifier().require_directory().check(state_dir).is_ok()
        && writes_as_owner(state_dir, of_daemon).unwrap_or(false)
        && mistrust.verifier().make_directory(cache_dir).is_ok()
        && writes_as_owner(cache_dir, cache_dir).unwrap_or(false)
}

/// Whether a file that this process makes in a directory belongs to the owner of
/// `owned`.
fn writes_as_owner(directory: &Path, owned: &Path) -> io::Result<bool> {
    let file = tempfile::tempfile_in(directory)?;
    Ok(file.metadata()?.uid() == fs::metadata(owned)?.uid())
}

/// The directory (0700) of this user's commands for the configured network.
fn own(config: &Config, env: &Environment) -> Result<PathBuf, CommandFailure> {
    let failed = |text: String| {
        let text = format!(
            "{text}; the state directory {} cannot be used either, so there is no place for the \
             guards of a Tor client: run this as the daemon's user, or set XDG_STATE_HOME",
            config.storage.state_dir.display()
        );
        CommandFailure::new(Exit::Permission, text)
    };
    let mut directory = env
        .client_dir()
        .ok_or_else(|| failed("there is neither HOME nor XDG_STATE_HOME".to_owned()))?;
    // Guards of one network are unknown to another.
    if let Some(network) = config.arti_tables.get("tor_network") {
        let digest = Sha256::digest(network.to_string().as_bytes());
        let digits = digest.iter().take(4).map(|byte| format!("{byte:02x}"));
        directory.set_file_name(format!("client-{}", digits.collect::<String>()));
    }
    match config.storage.mistrust.verifier().make_directory(&directory) {
        Ok(()) => Ok(directory),
        Err(error) => {
            let error = anyhow::Error::from(error);
            Err(failed(format!("{} cannot be used: {error:#}", directory.display())))
        }
    }
}

impl From<StateLockError> for CommandFailure {
    fn from(error: StateLockError) -> Self {
        let exit = match &error {
            StateLockError::Taken(_) | StateLockError::Busy(_) => Exit::Failed,
            StateLockError::Directory { .. } | StateLockError::Io { .. } => Exit::Permission,
        };
        Self::new(exit, format!("{:#}", anyhow::Error::from(error)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A configuration below a directory, and a home there.
    fn configured(directory: &Path, more: &str) -> (Config, Environment) {
        let env = Environment::new([("HOME", directory.join("home"))]);
        let text = format!(
            "[storage]\nstate_dir = \"{0}/state\"\ncache_dir = \"{0}/cache\"\n\
             [storage.permissions]\ndangerously_trust_everyone = true\n{more}",
            directory.display(),
        );
        (Config::from_text(&text, &env).unwrap(), env)
    }

    #[test]
    fn the_daemons_own_directories_are_used_where_there_are_any() {
        let directory = tempfile::tempdir().unwrap();
        let (config, env) = configured(directory.path(), "");
        fs::create_dir(directory.path().join("state")).unwrap();
        let taken = take(&config, &env).unwrap();
        assert_eq!(taken.tor, config.tor);
        assert!(!directory.path().join("home").exists());
    }

    #[test]
    fn a_client_of_ones_own_lasts_where_there_are_none_or_a_daemon_has_them() {
        let directory = tempfile::tempdir().unwrap();
        let (config, env) = configured(directory.path(), "");
        let own = directory.path().join("home/.local/state/onionbraid/client");
        for _ in 0..2 {
            let taken = take(&config, &env).unwrap();
            assert_eq!(taken.tor, config.tor_below(&own).unwrap());
        }
        assert!(!directory.path().join("state").exists());

        let state = directory.path().join("state");
        fs::create_dir(&state).unwrap();
        // What a daemon holds.
        let daemon = fs::File::create(state.join("onionbraid.lock")).unwrap();
        daemon.lock().unwrap();
        let taken = take(&config, &env).unwrap();
        assert_eq!(taken.tor, config.tor_below(&own).unwrap());
    }

    #[test]
    fn directories_of_another_user_and_files_in_their_place_are_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let (config, _) = configured(directory.path(), "");
        fs::write(directory.path().join("state"), "no directory").unwrap();
        assert!(!is_usable(&config.storage));
        // Nobody here is the owner of the process table.
        let ours = directory.path().join("ours");
        fs::create_dir(&ours).unwrap();
        assert!(writes_as_owner(&ours, &ours).unwrap());
        let proc = Path::new("/proc/1");
        let root = fs::metadata(proc).unwrap().uid();
        let we = fs::metadata(&ours).unwrap().uid();
        assert_eq!(writes_as_owner(&ours, proc).unwrap(), root == we);
    }

    #[test]
    fn another_network_has_guards_of_its_own() {
        let directory = tempfile::tempdir().unwrap();
        let table = "[tor_network]\nauthorities = {}\n";
        let (other, env) = configured(directory.path(), table);
        let (public, _) = configured(directory.path(), "");
        let (own_of_other, own_of_public) =
            (own(&other, &env).unwrap(), own(&public, &env).unwrap());
        assert_ne!(own_of_other, own_of_public);
        assert_eq!(own_of_other, own(&other, &env).unwrap());
    }

    #[test]
    fn without_any_place_for_guards_nothing_is_asked() {
        let directory = tempfile::tempdir().unwrap();
        let (config, _) = configured(directory.path(), "");
        let none = take(&config, &Environment::new([("A", "b")])).err().unwrap();
        assert_eq!(none.exit, Exit::Permission);
        assert!(none.text.contains("XDG_STATE_HOME"), "{}", none.text);
    }
}

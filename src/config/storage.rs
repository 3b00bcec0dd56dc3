//! Where state, keys and cache lie: `[storage]` where it names the directories,
//! else onionbraid's own ones.
//!
//! What a platform made for this process alone is trusted as it is: see
//! [`trust`](crate::trust).
//! The rest of `[storage]` is Arti's and read in `arti.rs`.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use arti_client::TorClientConfig;
use fs_mistrust::Mistrust;
use tor_keymgr::config::ArtiKeystoreConfig;

use super::document::{Table, Value};
use super::environment::Environment;
use super::error::{ConfigError, ConfigReport, KeyPath};
use super::files;
use super::reader::TableItem;
use crate::tor::keys::Keystores;
use crate::trust::Process;

/// Where everything lies that outlives the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storage {
    /// Keys, guards, locks, the admin socket.
    pub state_dir: PathBuf,
    /// What can be fetched again: the network directory.
    pub cache_dir: PathBuf,
    /// How strictly the permissions of these directories are checked
    /// (`storage.permissions`).
    pub mistrust: Mistrust,
    /// Which keystores there are beside the one in the state directory
    /// (`storage.keystore`).
    pub keystore: ArtiKeystoreConfig,
    /// Whether a file named the state directory, and so the keys.
    pub explicit: bool,
}

impl From<&Storage> for Keystores {
    fn from(storage: &Storage) -> Self {
        Self {
            directory: storage.state_dir.join("keystore"),
            others: storage.keystore.clone(),
            mistrust: storage.mistrust.clone(),
        }
    }
}

/// The two directories, before Arti has read the rest of `[storage]`.
#[derive(Debug)]
pub(crate) struct StorageDirectories {
    pub(crate) state: PathBuf,
    pub(crate) cache: PathBuf,
    pub(crate) explicit: bool,
    /// Who may share them, unless the operator says who may.
    pub(crate) trust: Trust,
}

/// What is trusted beside this process's user.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trust {
    /// A user.
    pub(crate) user: Option<u32>,
    /// A group that nobody else is in, to which a volume was given.
    pub(crate) group: Option<u32>,
    /// The state directory, if it is that volume: its mode says nothing of what is
    /// in it, and only the platform could change it.
    pub(crate) prefix: Option<PathBuf>,
}

/// Whether the directory lies on a volume that a platform made for this process:
/// root's, writable by a group that nobody else is in. Kubernetes does that for
/// `fsGroup`.
fn volume(state: &Path) -> Trust {
    let process = Process::current();
    let is_volume = |path: &Path| {
        let found = path.metadata().ok()?;
        let (group, shared) = (found.gid(), found.is_dir() && found.mode() & 0o020 != 0);
        let given = shared && found.uid() == 0 && group != 0 && process.is_own_group(group);
        given.then_some(group)
    };
    if process.user() == 0 {
        return Trust::default();
    }
    let volume = state.ancestors().find_map(|path| Some((path, is_volume(path)?)));
    let Some((path, group)) = volume else { return Trust::default() };
    let own = Mistrust::builder().trust_group(group).build();
    let safe = own
        .is_ok_and(|own| own.verifier().require_directory().permit_readable().check(path).is_ok());
    let prefix = (safe && path == state).then(|| path.to_owned());
    Trust { user: None, group: safe.then_some(group), prefix }
}

/// Finds the directories. A missing answer has been reported.
pub(crate) fn directories(
    root: &Table,
    env: &Environment,
    report: &mut ConfigReport,
) -> Option<StorageDirectories> {
    let storage = root.get("storage").and_then(|node| match &node.value {
        Value::Table(entries) => Some(entries),
        // Arti reports what is wrong with the table itself.
        _ => None,
    });
    let mut directory = |key: &'static str, default: Option<PathBuf>| {
        let path = KeyPath::default().key("storage").key(key);
        match storage.and_then(|entries| entries.get(key)) {
            Some(node) => files::directory(&TableItem { node, path }, report),
            None => {
                if default.as_ref().is_some_and(|path| path.to_str().is_none()) {
                    let problem = "the default is not UTF-8 text: give the directory here";
                    report.error(ConfigError::at_key(None, path, problem));
                    return None;
                }
                if default.is_none() {
                    let problem = "there is no default for it without HOME in the environment: \
                                   give the directory here, or set HOME";
                    report.error(ConfigError::at_key(None, path, problem));
                }
                default
            }
        }
    };
    let state = directory("state_dir", env.state_dir());
    let cache = directory("cache_dir", env.cache_dir());
    let explicit = storage.is_some_and(|entries| entries.contains_key("state_dir"));
    let (state, cache) = (state?, cache?);
    let trust = volume(&state);
    Some(StorageDirectories { state, cache, explicit, trust })
}

/// Puts the directories together with what Arti read in `[storage]`.
pub(crate) fn storage(
    root: &Table,
    directories: StorageDirectories,
    tor: &TorClientConfig,
    report: &mut ConfigReport,
) -> Option<Storage> {
    let keystore = tor.keystore();
    if !keystore.is_enabled() {
        let path = KeyPath::default().key("storage").key("keystore");
        let place = root.get("storage").and_then(|node| node.place.clone());
        let problem = "an onion service needs a keystore for its identity: take out \
                       `enabled = false`";
        report.error(ConfigError::at_key(place, path.key("enabled"), problem));
        return None;
    }
    Some(Storage {
        state_dir: directories.state,
        cache_dir: directories.cache,
        mistrust: tor.fs_mistrust().clone(),
        keystore,
        explicit: directories.explicit,
    })
}

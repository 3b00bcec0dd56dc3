//! Where state, keys and cache lie: `[storage]` where it names the directories,
//! else onionbraid's own ones.
//!
//! The rest of `[storage]` is Arti's and read in `arti.rs`.

use std::path::PathBuf;

use arti_client::TorClientConfig;
use fs_mistrust::Mistrust;
use tor_config_path::CfgPath;
use tor_keymgr::config::ArtiKeystoreConfig;

use super::document::{Table, Value};
use super::environment::Environment;
use super::error::{ConfigError, KeyPath, Report};
use super::reader::Item;
use crate::tor::keys::Keystores;

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
pub(crate) struct Directories {
    pub(crate) state: PathBuf,
    pub(crate) cache: PathBuf,
    pub(crate) explicit: bool,
}

/// Finds the directories. A missing answer has been reported.
pub(crate) fn directories(
    root: &Table,
    env: &Environment,
    report: &mut Report,
) -> Option<Directories> {
    let storage = root.get("storage").and_then(|node| match &node.value {
        Value::Table(entries) => Some(entries),
        // Arti reports what is wrong with the table itself.
        _ => None,
    });
    let mut directory = |key: &'static str, default: Option<PathBuf>| {
        let path = KeyPath::default().key("storage").key(key);
        match storage.and_then(|entries| entries.get(key)) {
            // Commands that ask the daemon may run elsewhere: a relative path
            // means the same to both only once it is whole.
            Some(node) => expand(&Item { node, path }, report)
                .map(|path| std::path::absolute(&path).unwrap_or(path)),
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
    Some(Directories { state: state?, cache: cache?, explicit })
}

/// Expands a path as Arti does: `~`, `${ARTI_LOCAL_DATA}` and its other variables.
pub(crate) fn expand(item: &Item<'_>, report: &mut Report) -> Option<PathBuf> {
    let path: CfgPath = match item.node.to_toml().try_into() {
        Ok(path) => path,
        Err(_) => {
            item.wrong("this must be a path, as a string", report);
            return None;
        }
    };
    let expanded = path.path(&tor_config_path::arti_client_base_resolver());
    match expanded {
        Ok(path) if path.as_os_str().is_empty() => {
            item.wrong("this must be a path", report);
            None
        }
        Ok(path) => Some(path),
        Err(error) => {
            item.wrong(format!("this path cannot be expanded: {error}"), report);
            None
        }
    }
}

/// Puts the directories together with what Arti read in `[storage]`.
pub(crate) fn storage(
    root: &Table,
    directories: Directories,
    tor: &TorClientConfig,
    report: &mut Report,
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

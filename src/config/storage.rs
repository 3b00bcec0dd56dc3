//! Where state, keys and cache lie: `[storage]` where it names the directories,
//! else onionbraid's own ones.
//!
//! What a platform made for this process alone is trusted as it is: see
//! [`trust`](crate::trust).
//! The rest of `[storage]` is Arti's and read in `arti.rs`.

use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use arti_client::TorClientConfig;
use fs_mistrust::Mistrust;
use tor_config_path::{CfgPath, CfgPathError};
use tor_keymgr::config::ArtiKeystoreConfig;

use super::document::{Table, Value};
use super::environment::Environment;
use super::error::{ConfigError, KeyPath, Report};
use super::reader::Item;
use crate::tor::keys::Keystores;
use crate::trust::Process;

/// Where systemd puts what `LoadCredential=` names, for one unit alone.
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

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
    let (state, cache) = (state?, cache?);
    let trust = volume(&state);
    Some(Directories { state, cache, explicit, trust })
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
    match resolved(&path) {
        Ok(path) if path.as_os_str().is_empty() => {
            item.wrong("this must be a path", report);
            None
        }
        Ok(path) => Some(path),
        Err(CfgPathError::UnknownVar(name)) if name == CREDENTIALS => {
            let problem = "systemd gives no credentials to this process: the unit needs \
                           LoadCredential=, and commands outside it do not see them";
            item.wrong(problem, report);
            None
        }
        Err(error) => {
            item.wrong(format!("this path cannot be expanded: {error}"), report);
            None
        }
    }
}

/// The same of a path that was read; of a program, which no backup keeps.
pub(super) fn resolved(path: &CfgPath) -> Result<PathBuf, CfgPathError> {
    let mut resolver = tor_config_path::arti_client_base_resolver();
    if let Some(directory) =
        std::env::var_os(CREDENTIALS).filter(|it| it.as_bytes().starts_with(b"/"))
    {
        resolver.set_var(CREDENTIALS, Ok(PathBuf::from(directory).into()));
    }
    path.path(&resolver)
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

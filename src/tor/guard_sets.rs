//! Guards of their own for local instances: circuits to introduction points and to
//! clients that begin at other relays than everything else in the process.
//!
//! A set is a directory in which Arti keeps the guards, what chooses among them, and a
//! pool of circuits; connections and the network directory are the Tor client's. What is
//! in the directory stays: guards that change with every start would let a hostile one
//! in sooner or later. So whoever cannot keep a set does without, and says why.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use arti_client::TorClientConfig;
use parking_lot::Mutex;
use tokio::sync::OnceCell;
use tor_chanmgr::ChanMgr;
use tor_circmgr::CircMgr;
use tor_circmgr::hspool::HsCircPool;
use tor_guardmgr::{GuardMgr, GuardMgrConfig as _, GuardUsage};
use tor_linkspec::HasRelayIds as _;
use tor_netdir::NetDirProvider;
use tor_persist::{FsStateMgr, StateMgr as _};
use tor_rtcompat::scheduler::TaskHandle;

use super::attempts::Runtime;
use crate::causes::in_one_line;
use crate::clock::now;
use onionbraid_balancer::onion::RelayId;

/// How long the first guards may take to be chosen: Arti does it as soon as one of its
/// tasks runs, where there is a directory.
const CHOSEN_WITHIN: Duration = Duration::from_secs(5);

/// How often it is looked whether they are.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Vanguards are chosen by another task of Arti's in the same moment. It does not say
/// when it has; without them the first circuits fail, and are tried again.
const VANGUARDS_AFTER: Duration = Duration::from_millis(100);

/// For how long it is believed which guard is the first.
const FIRST_GUARD_FOR: Duration = Duration::from_secs(10);

/// Makes guard sets: what they share.
pub(crate) struct GuardSets {
    runtime: Runtime,
    /// What the Tor client runs with: what holds for its circuits holds for theirs.
    config: Arc<TorClientConfig>,
    /// Its connections: two sets with one guard have one connection to it.
    channels: Arc<ChanMgr<Runtime>>,
    provider: Arc<dyn NetDirProvider>,
    /// Those that are in use, by their directories. An instance that comes back while the
    /// one before it is on its way out has its guards, too.
    in_use: Mutex<BTreeMap<PathBuf, Weak<GuardSet>>>,
}

/// The guards of one instance, with the circuits that begin there.
pub(crate) struct GuardSet {
    guards: GuardMgr<Runtime>,
    pub(super) circuits: Arc<HsCircPool<Runtime>>,
    /// Where the guards are kept, locked while this lives.
    kept: KeptGuards,
    runtime: Runtime,
    provider: Arc<dyn NetDirProvider>,
    /// The tasks of the pool, once there are guards.
    ready: OnceCell<Vec<TaskHandle>>,
    /// The relay that was found to be the first guard, and when.
    first: Mutex<Option<(RelayId, Instant)>>,
    /// Arti's tasks end with these.
    _tasks: Vec<TaskHandle>,
}

/// Why there is no guard set.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GuardSetError {
    /// Circuits begin at bridges.
    #[error("bridges are the guards of everything in this process")]
    Bridges,
    /// The Tor client has no connections yet.
    #[error("the Tor client is not ready")]
    NotReady,
    /// The directory cannot be used, or what is in it.
    #[error("{}: {}", directory.display(), in_one_line(&**cause))]
    Kept {
        /// Which.
        directory: PathBuf,
        /// Why.
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Somebody else has the directory.
    #[error("another process has its guards in {}", .0.display())]
    Locked(PathBuf),
    /// Arti cannot make circuits.
    #[error("circuits: {}", in_one_line(.0))]
    Circuits(Box<tor_circmgr::Error>),
}

impl From<tor_circmgr::Error> for GuardSetError {
    fn from(error: tor_circmgr::Error) -> Self {
        Self::Circuits(Box::new(error))
    }
}

impl GuardSets {
    /// With a Tor client's configuration, connections and directory.
    pub(super) fn new(
        runtime: Runtime,
        config: Arc<TorClientConfig>,
        channels: Arc<ChanMgr<Runtime>>,
        provider: Arc<dyn NetDirProvider>,
    ) -> Self {
        Self { runtime, config, channels, provider, in_use: Mutex::default() }
    }

    /// The set that is kept in a directory, made with it if it is missing.
    ///
    /// # Errors
    ///
    /// If it could not be kept, or what was kept cannot be read: new guards are not
    /// chosen in their place.
    pub(super) fn of(&self, directory: &Path) -> Result<Arc<GuardSet>, GuardSetError> {
        if self.config.bridges_enabled() {
            return Err(GuardSetError::Bridges);
        }
        let mut in_use = self.in_use.lock();
        in_use.retain(|_, set| set.strong_count() > 0);
        if let Some(set) = in_use.get(directory).and_then(Weak::upgrade) {
            return Ok(set);
        }
        let set = Arc::new(self.open(directory)?);
        in_use.insert(directory.to_owned(), Arc::downgrade(&set));
        Ok(set)
    }

    fn open(&self, directory: &Path) -> Result<GuardSet, GuardSetError> {
        let kept = KeptGuards::open(directory, self.config.fs_mistrust())?;
        let guards = kept.choose(&self.runtime, &self.config)?;
        let (runtime, state) = (self.runtime.clone(), kept.state.clone());
        let channels = Arc::clone(&self.channels);
        let circuits = CircMgr::new(&*self.config, state.clone(), &runtime, channels, &guards)?;
        let circuits = Arc::new(circuits);
        let tasks = circuits.launch_background_tasks(&runtime, &self.provider, state)?;
        Ok(GuardSet {
            guards,
            circuits: Arc::new(HsCircPool::new(&circuits)),
            kept,
            runtime,
            provider: Arc::clone(&self.provider),
            ready: OnceCell::new(),
            first: Mutex::default(),
            _tasks: tasks,
        })
    }
}

impl GuardSet {
    /// Waits until the guards are chosen and kept, and has circuits made in advance.
    /// Without a directory it waits no longer than some seconds.
    pub(crate) async fn ready(&self) {
        let begin = || async {
            let chosen = async {
                while self.first_guard().is_none() {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
            };
            // Circuits that come too early fail, and are tried again.
            let _ = tokio::time::timeout(CHOSEN_WITHIN, chosen).await;
            tokio::time::sleep(VANGUARDS_AFTER).await;
            // Arti does so once a minute: a process that is killed before would begin
            // with others the next time.
            self.keep();
            self.circuits.launch_background_tasks(&self.runtime, &self.provider)
        };
        if let Err(error) = self.ready.get_or_try_init(begin).await {
            tracing::warn!(error = in_one_line(&error), "no circuits with guards of their own");
        }
    }

    /// The relay at which circuits begin now; `None`: none is chosen yet, or all of them
    /// fail.
    pub(crate) fn first_guard(&self) -> Option<RelayId> {
        let now = now().monotonic;
        let mut first = self.first.lock();
        if let Some((relay, at)) = *first
            && now.saturating_duration_since(at) < FIRST_GUARD_FOR
        {
            return Some(relay);
        }
        // No attempt follows, and Arti takes it for one that was given up.
        let chosen = self.guards.select_guard(GuardUsage::default()).ok();
        let relay = chosen.and_then(|(hop, ..)| Some(RelayId(hop.rsa_identity()?.to_bytes())));
        *first = relay.map(|relay| (relay, now));
        relay
    }

    fn keep(&self) {
        if let Err(error) = self.guards.store_persistent_state() {
            let directory = self.kept.state.path().display();
            tracing::warn!(%directory, error = in_one_line(&error), "guards cannot be written");
        }
    }
}

impl Drop for GuardSet {
    fn drop(&mut self) {
        self.keep();
    }
}

/// Where the guards of one set lie, with the lock on them.
struct KeptGuards {
    state: FsStateMgr,
}

impl KeptGuards {
    /// The directory, made for its owner alone if it is missing, and locked.
    fn open(directory: &Path, mistrust: &fs_mistrust::Mistrust) -> Result<Self, GuardSetError> {
        let failed = |cause| Self::failed(directory, cause);
        let state = FsStateMgr::from_path_and_mistrust(directory, mistrust).map_err(failed)?;
        match state.try_lock().map_err(failed)?.held() {
            true => Ok(Self { state }),
            false => Err(GuardSetError::Locked(directory.to_owned())),
        }
    }

    /// What chooses among the guards that lie there, and adds to them.
    fn choose(
        &self,
        runtime: &Runtime,
        config: &TorClientConfig,
    ) -> Result<GuardMgr<Runtime>, GuardSetError> {
        let guards = GuardMgr::new(runtime.clone(), self.state.clone(), config);
        guards.map_err(|cause| Self::failed(self.state.path(), cause))
    }

    fn failed(
        directory: &Path,
        cause: impl std::error::Error + Send + Sync + 'static,
    ) -> GuardSetError {
        GuardSetError::Kept { directory: directory.to_owned(), cause: Box::new(cause) }
    }
}

impl Drop for KeptGuards {
    fn drop(&mut self) {
        // Tasks of Arti's may hold the state until the next consensus.
        let _ = self.state.unlock();
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use arti_client::config::TorClientConfigBuilder;
    use fs_mistrust::Mistrust;

    use super::*;

    fn open(directory: &Path) -> Result<KeptGuards, GuardSetError> {
        KeptGuards::open(directory, &Mistrust::new_dangerously_trust_everyone())
    }

    /// What chooses among the guards in a directory, and has written them down.
    async fn choose(kept: &KeptGuards) -> Result<(), GuardSetError> {
        let config = TorClientConfigBuilder::from_directories("/nowhere/a", "/nowhere/b");
        let (runtime, _) = super::super::attempts::runtime().unwrap();
        let guards = kept.choose(&runtime, &config.build().unwrap())?;
        // Arti's tasks have begun.
        tokio::task::yield_now().await;
        guards.store_persistent_state().unwrap();
        Ok(())
    }

    #[tokio::test]
    async fn guards_are_their_owners_alone_and_are_found_again() {
        let directory = tempfile::tempdir().unwrap();
        let below = directory.path().join("guards/local-0");
        choose(&open(&below).unwrap()).await.unwrap();
        for made in [below.join("state"), below.clone(), directory.path().join("guards")] {
            let mode = fs::metadata(&made).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o700, "{}", made.display());
        }
        let file = below.join("state/guards.json");
        let written = fs::read(&file).unwrap();
        choose(&open(&below).unwrap()).await.unwrap();
        assert_eq!(fs::read(&file).unwrap(), written);
    }

    #[tokio::test]
    async fn two_do_not_write_to_one_directory() {
        let directory = tempfile::tempdir().unwrap();
        let first = open(directory.path()).unwrap();
        // As a task of Arti's holds it that does not know yet that the set is gone.
        let held = first.state.clone();
        let error = open(directory.path()).err().unwrap();
        assert!(matches!(error, GuardSetError::Locked(_)), "{error}");
        drop(first);
        choose(&open(directory.path()).unwrap()).await.unwrap();
        assert!(!held.can_store());
    }

    #[tokio::test]
    async fn in_the_place_of_guards_that_cannot_be_read_no_others_are_chosen() {
        let directory = tempfile::tempdir().unwrap();
        let kept = open(directory.path()).unwrap();
        choose(&kept).await.unwrap();
        let file = directory.path().join("state/guards.json");
        for damaged in ["", "{\"default\": 7}", "no JSON"] {
            fs::write(&file, damaged).unwrap();
            let error = choose(&kept).await.unwrap_err().to_string();
            assert!(error.contains(&*directory.path().to_string_lossy()), "{error}");
            assert!(error.contains("guards.json"), "{error}");
            assert_eq!(fs::read_to_string(&file).unwrap(), damaged);
        }
    }

    #[tokio::test]
    async fn a_directory_that_cannot_be_made_is_an_error_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let in_the_way = directory.path().join("guards");
        fs::write(&in_the_way, "").unwrap();
        let error = open(&in_the_way.join("local-0")).err().unwrap();
        assert!(matches!(error, GuardSetError::Kept { .. }), "{error}");
    }
}

//! The embedded Tor client: created from the configuration, bootstrapped for
//! as long as it takes, and how far it is.

use std::convert::Infallible;
use std::error::Error;
use std::future::{Future as _, poll_fn};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::{Duration, SystemTime};

use arti_client::{TorClient, TorClientConfig};
use parking_lot::Mutex;
use tor_chanmgr::ChanMgr;
use tor_netdir::{NetDir, NetDirProvider, Timeliness};

use super::attempts::{self, Attempts};
use super::diagnosis::{BootstrapFailure, Trouble};
use super::direct::{Direct, Places};
use super::full_disk;
pub use super::full_disk::UnwrittenCache;
use super::guard_sets::GuardSets;
use super::keyring::Keyring;
use super::known::KnownRelays;
use super::network::{Network, Runtime};
use crate::causes::{in_one_line, is_disk_full, is_out_of_handles};
use crate::clock::now;
use crate::spare_handle;
use crate::throttle::Throttle;

/// Between two attempts to bootstrap, once Arti's own retries are used up.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// How often it is looked whether the directory is overdue, and how seldom at most
/// it is asked for again then.
const RENEW_AFTER: Duration = Duration::from_secs(30);
const RENEW_AT_MOST: Duration = Duration::from_secs(10 * 60);

/// How far it is when nothing but a bridge's descriptor is missing.
const AT_A_BRIDGE: f32 = 0.99;

/// Files that Arti may have open while it reads its store, and some for others who
/// open one in the same moment.
const HANDLES_TO_READ: usize = 16;

/// How often a full disk is looked at.
const ROOM_EVERY: Duration = Duration::from_secs(5);

/// The embedded Tor client.
#[derive(Clone)]
pub struct Tor {
    /// Arti's client; its background tasks live as long as it does.
    client: Arc<TorClient<Runtime>>,
    /// What it runs with.
    config: Arc<TorClientConfig>,
    /// Why the last attempt to bootstrap failed, until one succeeds.
    failure: Arc<Mutex<Option<BootstrapFailure>>>,
    /// Where Arti's store is.
    cache_dir: Arc<PathBuf>,
    /// Held while the disk is full.
    unwritten: Arc<Mutex<Option<UnwrittenCache>>>,
    /// What became of its connections.
    pub(super) attempts: Attempts,
    /// Who can be asked what our clock is.
    pub(super) known: Arc<KnownRelays>,
    /// Whether circuits begin at bridges, and none can yet.
    waits_for_bridge: Arc<AtomicBool>,
    /// What is wrong, as of the last look.
    trouble: Arc<Mutex<Option<Trouble>>>,
    /// What reads descriptors that are not for everybody.
    pub(crate) keyring: Keyring,
    /// Room for direct connections, in a process that does not hide.
    places: Option<Arc<Places>>,
}

/// Why there is no Tor client.
#[derive(Debug, thiserror::Error)]
pub enum TorError {
    /// Not called from within a tokio runtime.
    #[error("no tokio runtime")]
    Runtime(#[source] std::io::Error),
    /// Arti refuses its configuration or its directories.
    #[error("the Tor client cannot start")]
    Client(#[source] arti_client::Error),
    /// Something is wrong with this machine, in the operator's words.
    #[error("the Tor client cannot start: {0}")]
    Machine(String),
}

/// How far the Tor client is.
#[derive(Clone, Debug)]
pub struct BootstrapView {
    /// From 0.0 to 1.0, which is ready.
    pub fraction: f32,
    /// What it does, where nothing is wrong.
    pub step: &'static str,
    /// What is wrong.
    pub trouble: Option<Trouble>,
    /// Until when the directory is valid, once there is one.
    pub valid_until: Option<SystemTime>,
    /// What is wrong with it although it can be used.
    pub problem: Option<String>,
}

impl BootstrapView {
    /// What is wrong and what to do, else what the client does.
    pub fn in_words(&self) -> String {
        match &self.trouble {
            Some(trouble) => format!("{}: {}", trouble.message, trouble.advice),
            None => self.step.to_owned(),
        }
    }
}

impl Tor {
    /// Creates the client. It does nothing on the network before [`Tor::bootstrap`],
    /// and writes to no cache that is `unwritten` as long as that has no room.
    pub fn new(
        config: TorClientConfig,
        unwritten: Option<UnwrittenCache>,
    ) -> Result<Self, TorError> {
        // Without a provider the first TLS connection panics. Whoever installed
        // one before us chose well enough.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (runtime, attempts) = attempts::runtime().map_err(TorError::Runtime)?;
        let known = Arc::new(KnownRelays::of(&config));
        let store =
            config.dir_mgr_config().map_err(|error| TorError::Machine(error.to_string()))?;
        let cache_dir = Arc::new(store.cache_dir);
        let client = TorClient::with_runtime(runtime)
            .config(config.clone())
            .create_unbootstrapped()
            .map_err(|error| match of_this_machine(&error) {
                Some(what) => TorError::Machine(what),
                None => TorError::Client(error),
            })?;
        let unwritten = Arc::new(Mutex::new(unwritten));
        let (failure, trouble) = (Arc::default(), Arc::default());
        let keyring = Keyring::default();
        let waits_for_bridge = Arc::new(AtomicBool::new(known.bridges > 0));
        Ok(Self {
            client,
            config: Arc::new(config),
            failure,
            cache_dir,
            unwritten,
            attempts,
            known,
            waits_for_bridge,
            trouble,
            keyring,
            places: None,
        })
    }

    /// The same of a process that does not hide: it makes circuits of one hop, too.
    pub(crate) fn not_anonymous(self, places: Places) -> Self {
        Self { places: Some(Arc::new(places)), ..self }
    }

    /// How many relays are connected to directly, and how many may be; `None` in a
    /// process that hides.
    pub fn direct_connections(&self) -> Option<(usize, usize)> {
        self.places.as_ref().map(|places| places.taken())
    }

    /// Circuits of one hop, if there are any; none before it bootstraps.
    fn direct(&self) -> Option<Arc<Direct>> {
        let places = self.places.clone()?;
        let channels = self.channels()?;
        Some(Arc::new(Direct::new(channels, places)))
    }

    /// What makes guards beside its own; none before it bootstraps.
    fn guard_sets(&self, provider: &Arc<dyn NetDirProvider>) -> Option<Arc<GuardSets>> {
        let (runtime, config) = (self.client.runtime().clone(), Arc::clone(&self.config));
        let sets = GuardSets::new(runtime, config, self.channels()?, Arc::clone(provider));
        Some(Arc::new(sets))
    }

    /// Bootstraps, trying again for as long as it takes.
    pub async fn bootstrap(&self) -> Network {
        loop {
            let failure: Box<dyn Error + Send + Sync> = match self.bootstrap_once().await {
                Ok(()) if self.directory(Timeliness::Unchecked).is_none() => {
                    "Arti could not read its store and does not try again: only a restart helps"
                        .into()
                }
                Ok(()) => match (self.client.hs_circ_pool(), self.client.dirmgr()) {
                    (Ok(circuits), Ok(directory)) => {
                        self.failed_with(None);
                        let provider = directory.upcast_arc();
                        let keyring = self.keyring.clone();
                        let sets = self.guard_sets(&provider);
                        let network =
                            Network::new(circuits, provider, keyring, self.direct(), sets);
                        if self.known.bridges > 0 {
                            network.begins_at_a_bridge().await;
                        }
                        self.waits_for_bridge.store(false, Ordering::Relaxed);
                        return network;
                    }
                    (Err(error), _) | (_, Err(error)) => error.into(),
                },
                Err(error) => error,
            };
            // The operator hears of it in other words, from the watch.
            let error = in_one_line(&*failure);
            tracing::debug!(%error, "bootstrapping failed; retrying in {RETRY_AFTER:?}");
            self.failed_with(Some(classify(&*failure)));
            tokio::time::sleep(RETRY_AFTER).await;
        }
    }

    /// Bootstraps in a way that can be done again: where Arti's task that renews
    /// the directory has ended, since it could not write to its store, another
    /// call begins anew; and does nothing where it runs.
    ///
    /// Arti refuses that once it has waited for its first download to the end. So
    /// the first wait is cut off as soon as the directory is there, and a second
    /// call, which does not wait, takes the lock on the state files again.
    ///
    /// It also refuses that, for good and without a word, once it could not read its
    /// store when it began. So it does not begin where that would fail.
    async fn bootstrap_once(&self) -> Result<(), Box<dyn Error + Send + Sync>> {
        self.store_is_usable()?;
        let is_usable = || {
            let directory = self.client.dirmgr();
            directory.is_ok_and(|directory| directory.netdir(Timeliness::Timely).is_ok())
        };
        let was_usable = is_usable();
        let mut first = Box::pin(self.client.bootstrap());
        let ended = poll_fn(|context| match !was_usable && is_usable() {
            true => Poll::Ready(None),
            false => first.as_mut().poll(context).map(Some),
        });
        match ended.await {
            Some(outcome) => outcome?,
            None => {
                drop(first);
                self.client.bootstrap().await?;
            }
        }
        Ok(())
    }

    /// Whether Arti can read and write its store now, as far as file handles and
    /// space go.
    fn store_is_usable(&self) -> io::Result<()> {
        spare_handle::are_left(HANDLES_TO_READ)?;
        // Where the cache is left unwritten, Arti does with what is there.
        match self.unwritten.lock().is_some() || full_disk::has_room(&self.cache_dir) {
            true => Ok(()),
            false => Err(rustix::io::Errno::NOSPC.into()),
        }
    }

    /// Has Arti renew its directory again, where it has given that up: without
    /// space on the disk, or file handles, it does so for good.
    pub async fn keep_up(&self) -> Infallible {
        let mut complained = Throttle::new(RENEW_AT_MOST);
        let mut pause = RENEW_AFTER;
        loop {
            tokio::time::sleep(pause).await;
            let directory =
                self.client.dirmgr().ok().and_then(|it| it.netdir(Timeliness::Unchecked).ok());
            let overdue = directory.is_some_and(|it| it.lifetime().valid_until() < now().wall);
            if !overdue {
                pause = RENEW_AFTER;
                continue;
            }
            let renewed = tokio::time::timeout(RENEW_AT_MOST, self.bootstrap_once()).await;
            if let Ok(Err(error)) = renewed {
                // What this machine lacks costs the network nothing.
                pause = RENEW_AFTER;
                if let Some(more) = complained.permits(now().monotonic) {
                    let error = explained(&*error);
                    tracing::warn!(error, more, "the Tor directory cannot be renewed");
                }
            } else {
                pause = (pause * 2).min(RENEW_AT_MOST);
            }
        }
    }

    /// Lets Arti write to its cache again when there is room.
    pub async fn use_room(&self) -> Infallible {
        loop {
            tokio::time::sleep(ROOM_EVERY).await;
            let mut unwritten = self.unwritten.lock();
            // Reserving space is quick: nothing is written.
            if unwritten.take_if(|cache| cache.has_room()).is_some() {
                tracing::info!("there is space in cache_dir again: the Tor directory is renewed");
            }
        }
    }

    fn failed_with(&self, failure: Option<BootstrapFailure>) {
        *self.failure.lock() = failure;
    }

    /// How far the client is, at this moment.
    pub fn view(&self) -> BootstrapView {
        let valid_until = self.directory(Timeliness::Unchecked);
        // While Arti looks for the next directory, the one at hand will do.
        let usable = self.directory(Timeliness::Timely).is_some();
        let waits = self.waits_for_bridge.load(Ordering::Relaxed);
        let fraction = match (usable, waits) {
            (true, false) => 1.0,
            (true, true) => AT_A_BRIDGE,
            (false, _) => self.fraction(),
        };
        let unwritten = usable && self.unwritten.lock().is_some();
        BootstrapView {
            fraction,
            step: step(fraction),
            trouble: self.trouble.lock().clone(),
            valid_until: valid_until.map(|directory| directory.lifetime().valid_until()),
            problem: unwritten.then(|| full_disk::PROBLEM.to_owned()),
        }
    }

    /// Why there is no directory, as far as it is this machine's fault.
    pub(super) fn failure(&self) -> Option<BootstrapFailure> {
        let usable = self.directory(Timeliness::Timely).is_some();
        let full = !usable && self.unwritten.lock().is_some();
        self.failure.lock().or(full.then_some(BootstrapFailure::DiskFull))
    }

    /// This is what is wrong now.
    pub(super) fn found(&self, trouble: Option<Trouble>) {
        *self.trouble.lock() = trouble;
    }

    /// How far Arti says that it is.
    pub(super) fn fraction(&self) -> f32 {
        self.client.bootstrap_status().as_frac()
    }

    /// The directory at hand, if there is one of this timeliness.
    pub(super) fn directory(&self, timeliness: Timeliness) -> Option<Arc<NetDir>> {
        self.client.dirmgr().ok()?.netdir(timeliness).ok()
    }

    /// Arti's connections to relays; none before it bootstraps.
    pub(super) fn channels(&self) -> Option<Arc<ChanMgr<Runtime>>> {
        self.client.chanmgr().ok()
    }

    /// Has Arti fetch a directory now. Before bootstrapping has begun there is
    /// nothing to hurry.
    pub(super) fn try_again(&self) {
        let download = self.client.dirmgr().ok().and_then(|it| it.download_task_handle());
        if let Some(download) = download {
            tracing::debug!("no directory yet: trying again now");
            download.fire();
        }
    }
}

/// Why bootstrapping failed, as far as it is this machine's fault.
fn classify(error: &(dyn std::error::Error + 'static)) -> BootstrapFailure {
    if is_disk_full(error) {
        BootstrapFailure::DiskFull
    } else if is_out_of_handles(error) {
        BootstrapFailure::NoHandles
    } else {
        BootstrapFailure::Other
    }
}

/// What a client does that is so far, and does not fail. The first 15 hundredths
/// are Arti's for connecting.
fn step(fraction: f32) -> &'static str {
    match fraction {
        ready if ready >= 1.0 => "ready",
        bridge if bridge >= AT_A_BRIDGE => "waiting for a bridge to describe itself",
        descriptors if descriptors > 0.3 => "fetching the relays' descriptors",
        directory if directory > 0.0 => "fetching the network directory",
        _ => "connecting to the Tor network",
    }
}

/// Why bootstrapping failed, for the operator: what is wrong with this machine
/// comes first.
fn explained(error: &(dyn std::error::Error + 'static)) -> String {
    of_this_machine(error).unwrap_or_else(|| in_one_line(error))
}

/// What is wrong with this machine, if that is the reason.
fn of_this_machine(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    let what = match classify(error) {
        BootstrapFailure::DiskFull => {
            "no space is left for the Tor directory in cache_dir or state_dir"
        }
        BootstrapFailure::NoHandles => "no file handle is left: raise the limit of open files",
        BootstrapFailure::Other => return None,
    };
    Some(format!("{what} ({})", in_one_line(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_and_missing_handles_are_told_from_other_failures() {
        let of = |code| classify(&std::io::Error::from_raw_os_error(code));
        assert_eq!(
            [28, 24, 111].map(of),
            [BootstrapFailure::DiskFull, BootstrapFailure::NoHandles, BootstrapFailure::Other]
        );
    }

    #[test]
    fn each_step_has_words_of_its_own() {
        let steps = [0.0, 0.075, 0.5, AT_A_BRIDGE, 1.0].map(step);
        assert_eq!(steps.iter().collect::<std::collections::BTreeSet<_>>().len(), 5);
    }

    #[test]
    fn a_full_disk_is_one_sentence() {
        let full = std::io::Error::from_raw_os_error(28);
        assert_eq!(
            explained(&full),
            "no space is left for the Tor directory in cache_dir or state_dir (No space left on \
             device (os error 28))"
        );
    }
}

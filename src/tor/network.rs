//! What a bootstrapped Tor client gives to the other parts: circuits and the
//! network directory. Cheap to clone.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tor_circmgr::hspool::HsCircPool;
use tor_llcrypto::pk::rsa::RsaIdentity;
use tor_netdir::{DirEvent, NetDir, NetDirProvider, Relay};

use futures::StreamExt as _;
use futures::stream::BoxStream;

use super::direct::Direct;
use super::guard_sets::{GuardSet, GuardSetError, GuardSets};
use super::keyring::Keyring;
use super::protocols;
use onionbraid_balancer::onion::{Capabilities, RelayId};

pub use super::attempts::Runtime;

/// How often it is tried whether a bridge has described itself.
const TRY_BRIDGES_EVERY: Duration = Duration::from_millis(500);

/// A Tor network that can be used: a directory and onion service circuits.
#[derive(Clone)]
pub struct Network {
    /// Onion service circuits, prepared in advance by Arti.
    pub(crate) circuits: Arc<HsCircPool<Runtime>>,
    /// The directory, kept fresh by Arti.
    provider: Arc<dyn NetDirProvider>,
    /// What reads descriptors that are not for everybody.
    pub(crate) keyring: Keyring,
    /// Circuits of one hop, in a process that does not hide: no other has them.
    pub(crate) direct: Option<Arc<Direct>>,
    /// Makes guards of their own for those that want some.
    guard_sets: Option<Arc<GuardSets>>,
}

/// The network directory is missing or too old; Arti is fetching a new one.
#[derive(Debug, Clone, thiserror::Error)]
#[error("no timely network directory")]
pub struct NoDirectory(#[source] tor_netdir::Error);

impl Network {
    /// Takes the running parts of a Tor client.
    pub(crate) fn new(
        circuits: Arc<HsCircPool<Runtime>>,
        provider: Arc<dyn NetDirProvider>,
        keyring: Keyring,
        direct: Option<Arc<Direct>>,
        guard_sets: Option<Arc<GuardSets>>,
    ) -> Self {
        Self { circuits, provider, keyring, direct, guard_sets }
    }

    /// The same network by way of the guards that are kept in a directory, which is made
    /// if it is missing: see [`GuardSets`].
    ///
    /// # Errors
    ///
    /// If there can be no such guards. The set has to be kept for as long as its circuits
    /// are wanted, and is to be [`ready`](GuardSet::ready) before the first is.
    pub(crate) fn with_guards_of(
        &self,
        directory: &Path,
    ) -> Result<(Self, Arc<GuardSet>), GuardSetError> {
        let sets = self.guard_sets.as_ref().ok_or(GuardSetError::NotReady)?;
        let guards = sets.of(directory)?;
        let circuits = Arc::clone(&guards.circuits);
        Ok((Self { circuits, ..self.clone() }, guards))
    }

    /// The directory as of now. Hold it for one operation only.
    pub(crate) fn directory(&self) -> Result<Arc<NetDir>, NoDirectory> {
        self.provider.timely_netdir().map_err(NoDirectory)
    }

    /// What a local instance promises: congestion control, as C tor services
    /// do (proposal 324), nothing of it without a directory; and whether it hides.
    pub fn local_capabilities(&self) -> Capabilities {
        use tor_protover::named::{FLOWCTRL_AUTH_SENDME, FLOWCTRL_CC};
        let advertised = [FLOWCTRL_AUTH_SENDME, FLOWCTRL_CC].into_iter().collect();
        let supported = tor_proto::supported_client_protocols().intersection(&advertised);
        let increment = self.directory().map(|directory| directory.params().cc_sendme_inc.into());
        let flow_control = match increment {
            Ok(increment) if supported.supports_named_subver(FLOWCTRL_CC) => {
                Some((protocols::from_arti(&supported), increment))
            }
            _ => None,
        };
        let single_onion = self.direct.is_some();
        Capabilities { flow_control, single_onion, ..Capabilities::default() }
    }

    /// The nickname of a relay, if the directory lists it as usable.
    pub fn relay_nickname(&self, id: RelayId) -> Option<String> {
        let directory = self.directory().ok()?;
        relay(&directory, id).map(|relay| relay.rs().nickname().to_owned())
    }

    /// Waits until the directory describes every relay, or no longer than
    /// `limit`. Tor can be used before; but only who knows all relays agrees
    /// with others on which HSDirs are responsible for an address.
    pub async fn described_within(&self, limit: Duration) {
        let mut changes = self.changes();
        let all_described = async {
            while self.directory().is_ok_and(|d| d.relays().count() < d.all_relays().count()) {
                if changes.next().await.is_none() {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(limit, all_described).await;
    }

    /// Waits until a circuit can begin at a bridge. Arti fetches a directory through
    /// one of which it knows no more than the configuration says; but for a circuit it
    /// takes none before it has its descriptor.
    pub(super) async fn begins_at_a_bridge(&self) {
        loop {
            if let Ok(directory) = self.directory()
                && !matches!(
                    self.circuits.get_or_launch_client_rend(&directory).await,
                    Err(tor_circmgr::Error::Guard(_))
                )
            {
                return;
            }
            tokio::time::sleep(TRY_BRIDGES_EVERY).await;
        }
    }

    /// Wakes up whenever time periods, HSDirs or relays may have changed.
    pub fn changes(&self) -> BoxStream<'static, ()> {
        self.provider
            .events()
            .filter_map(|event| async move {
                matches!(event, DirEvent::NewConsensus | DirEvent::NewDescriptors).then_some(())
            })
            .boxed()
    }
}

/// The relay with this fingerprint, if the directory lists it as usable.
pub(crate) fn relay(directory: &NetDir, id: RelayId) -> Option<Relay<'_>> {
    directory.by_id(&RsaIdentity::from(id.0))
}

/// The fingerprint of a relay in the directory.
pub(crate) fn relay_id(relay: &Relay<'_>) -> RelayId {
    RelayId(relay.rsa_id().to_bytes())
}

//! One introduction point: establishing it at a relay, and what arrives there.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use digest::Digest as _;
use tokio::sync::{mpsc, oneshot};
use tor_cell::relaycell::hs::est_intro::{DosParams, EstablishIntroDetails};
use tor_cell::relaycell::msg::{AnyRelayMsg, Introduce2, Unrecognized};
use tor_cell::relaycell::{RelayCmd, RelayMsg as _};
use tor_circmgr::ServiceOnionServiceIntroTunnel;
use tor_hscrypto::pk::{HsIntroPtSessionIdKey, HsIntroPtSessionIdKeypair, HsSvcNtorKeypair};
use tor_linkspec::CircTarget as _;
use tor_llcrypto::d::Sha3_256;
use tor_llcrypto::pk::{curve25519, ed25519};
use tor_netdir::{NetDir, Relay};
use tor_proto::{MetaCellDisposition, MsgHandler, TargetHop};
use tor_protover::named::HSINTRO_RATELIM;
use zeroize::Zeroizing;

use super::counters::{CountedInstance, Counters};
use super::plan::SlotId;
use super::replay::Digest;
use crate::tor::descriptor;
use crate::tor::network::{Network, relay};
use onionbraid_balancer::onion::{IntroPoint, RelayId, SessionId};

/// How long the relay may take to confirm, once the circuit stands.
const CONFIRM_WITHIN: Duration = Duration::from_secs(30);

/// The bytes of a secret key, wiped when dropped.
pub(super) type SecretBytes = Zeroizing<[u8; 32]>;

/// The secrets of one introduction point.
pub(super) struct PointKeys {
    /// Names the point and proves to the relay that it is ours (`KS_hs_ipt_sid`).
    pub(super) session: HsIntroPtSessionIdKeypair,
    /// Clients encrypt to it (`KS_hss_ntor`).
    pub(super) ntor: HsSvcNtorKeypair,
}

/// An established introduction point. Dropping it closes the circuit.
pub(super) struct Session {
    /// The circuit.
    tunnel: ServiceOnionServiceIntroTunnel,
    /// How clients find it.
    pub(super) point: IntroPoint,
}

/// An introduction that has arrived.
pub(super) struct Introduction {
    /// At which point.
    pub(super) slot: SlotId,
    /// The message as the relay sent it.
    pub(super) message: Introduce2,
    /// Counted as waiting, until it was looked at.
    pub(super) _waits: CountedInstance,
}

/// Where introductions go.
pub(super) struct Sink {
    /// The point they arrive at.
    pub(super) slot: SlotId,
    /// The instance's queue.
    pub(super) queue: mpsc::Sender<Introduction>,
    /// Where it is counted what finds no place in the queue.
    pub(super) counters: Arc<Counters>,
}

/// Why there is no introduction point.
#[derive(Debug, thiserror::Error)]
pub(super) enum IntroError {
    /// Nothing can be built without a directory.
    #[error("no network directory")]
    NoDirectory,
    /// The relay is gone: choose another.
    #[error("the relay is no longer in the network directory")]
    NotListed,
    /// The directory's words on the relay make no introduction point.
    #[error("the relay's directory entry cannot be used")]
    UnusableRelay,
    /// No circuit to the relay, or it broke.
    #[error("circuit: {0}")]
    Circuit(#[from] tor_circmgr::Error),
    /// The request could not be put together.
    #[error("ESTABLISH_INTRO: {0}")]
    Encode(#[from] tor_cell::Error),
    /// The relay closed the circuit or stayed silent.
    #[error("the relay did not confirm the introduction point")]
    NotConfirmed,
}

/// Builds a circuit to a relay and asks it to be an introduction point, once
/// (rend-spec-v3, section 3.1).
pub(super) async fn establish(
    network: &Network,
    relay_id: RelayId,
    keys: &PointKeys,
    rate_limit: Option<(u32, u32)>,
    sink: Sink,
) -> Result<Session, IntroError> {
    let directory = network.directory().map_err(|_| IntroError::NoDirectory)?;
    let target = relay(&directory, relay_id).ok_or(IntroError::NotListed)?;
    let link_specifiers = target.linkspecs().map_err(|_| IntroError::UnusableRelay)?;
    let point = descriptor::from_parts(
        keys.session_identity(),
        &link_specifiers,
        target.ntor_onion_key(),
        keys.ntor.public(),
    )
    .ok()
    .filter(|point| point.flaw().is_none())
    .ok_or(IntroError::UnusableRelay)?;
    let limits_rate = target.protovers().supports_named_subver(HSINTRO_RATELIM);
    let tunnel = circuit(network, &directory, target).await?;
    drop(directory);

    let mut details = EstablishIntroDetails::new(keys.session_identity());
    if let (Some((rate, burst)), true) = (rate_limit, limits_rate) {
        let as_i32 = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
        details.set_extension_dos(DosParams::new(Some(as_i32(rate)), Some(as_i32(burst)))?);
    }
    let binding = tunnel.binding_key(TargetHop::LastHop).await?.ok_or(IntroError::UnusableRelay)?;
    let body = details.sign_and_encode(keys.session.as_ref(), binding.hs_mac())?;
    // The message is signed over its encoding, so it is sent as encoded.
    let message: AnyRelayMsg = Unrecognized::new(RelayCmd::ESTABLISH_INTRO, body).into();

    let (confirmed, confirmation) = oneshot::channel();
    let arrivals = Arrivals { confirmed: Some(confirmed), sink };
    tunnel.start_conversation(Some(message), arrivals, TargetHop::LastHop).await?;
    match tokio::time::timeout(CONFIRM_WITHIN, confirmation).await {
        Ok(Ok(())) => Ok(Session { tunnel, point }),
        Ok(Err(_)) | Err(_) => Err(IntroError::NotConfirmed),
    }
}

/// A circuit to a relay: of one hop where the service does not hide and the relay
/// can be reached so, else an ordinary one.
async fn circuit(
    network: &Network,
    directory: &Arc<NetDir>,
    target: Relay<'_>,
) -> Result<ServiceOnionServiceIntroTunnel, tor_circmgr::Error> {
    if let Some(direct) = &network.direct {
        match direct.circuit(directory, &target).await {
            Ok(tunnel) => return Ok(tunnel.into()),
            Err(error) => tracing::debug!(%error, "introduction point not reached directly"),
        }
    }
    network.circuits.get_or_launch_svc_intro(directory, target).await
}

impl Session {
    /// Ends when the circuit has closed.
    pub(super) fn closed(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        self.tunnel.wait_for_close()
    }
}

impl PointKeys {
    /// Fresh keys.
    pub(super) fn generate() -> Self {
        let mut rng = crate::tor::rng();
        Self {
            session: ed25519::Keypair::generate(&mut rng).into(),
            ntor: HsSvcNtorKeypair::generate(&mut rng),
        }
    }

    /// The keys of an earlier process.
    pub(super) fn from_secrets(session: &SecretBytes, ntor: &SecretBytes) -> Self {
        let ntor = curve25519::StaticSecret::from(**ntor);
        Self {
            session: ed25519::Keypair::from_bytes(session).into(),
            ntor: HsSvcNtorKeypair::from_secret_key(ntor.into()),
        }
    }

    /// What [`Self::from_secrets`] takes, in its order.
    pub(super) fn secrets(&self) -> (SecretBytes, SecretBytes) {
        let session: &ed25519::Keypair = self.session.as_ref();
        let ntor: &curve25519::StaticSecret = self.ntor.secret().as_ref();
        (SecretBytes::new(session.to_bytes()), SecretBytes::new(ntor.to_bytes()))
    }

    /// The public half of the session key.
    pub(super) fn session_public(&self) -> HsIntroPtSessionIdKey {
        let keypair: &ed25519::Keypair = self.session.as_ref();
        keypair.verifying_key().into()
    }

    /// What names the point.
    pub(super) fn session_id(&self) -> SessionId {
        SessionId(self.session_identity().into())
    }

    /// The same, as relays know it.
    fn session_identity(&self) -> ed25519::Ed25519Identity {
        let keypair: &ed25519::Keypair = self.session.as_ref();
        keypair.verifying_key().into()
    }
}

impl Introduction {
    /// What a replay would repeat: the encrypted part, which holds the
    /// client's fresh key. The relay can alter the header at will.
    pub(super) fn digest(&self) -> Digest {
        let full: [u8; 32] = Sha3_256::digest(self.message.encrypted_body()).into();
        let mut digest = Digest::default();
        digest.copy_from_slice(&full[..16]);
        digest
    }
}

/// Takes what arrives on the circuit of an introduction point.
///
/// It runs inside the circuit's reactor, so it only passes things on.
struct Arrivals {
    /// Told once, when the relay has confirmed.
    confirmed: Option<oneshot::Sender<()>>,
    /// Where introductions go.
    sink: Sink,
}

tor_cell::restricted_msg! {
    /// What a relay may send on the circuit of an introduction point.
    enum Arrival : RelayMsg {
        IntroEstablished,
        Introduce2,
    }
}

impl MsgHandler for Arrivals {
    fn handle_msg(&mut self, message: AnyRelayMsg) -> tor_proto::Result<MetaCellDisposition> {
        let arrival = Arrival::try_from(message).map_err(|message: AnyRelayMsg| {
            let text = format!("{} on an introduction circuit", message.cmd());
            tor_proto::Error::CircProto(text)
        })?;
        match (arrival, self.confirmed.take()) {
            (Arrival::IntroEstablished(_), Some(confirmed)) => match confirmed.send(()) {
                Ok(()) => Ok(MetaCellDisposition::Consumed),
                Err(()) => Ok(MetaCellDisposition::CloseCirc),
            },
            (Arrival::Introduce2(message), None) => {
                let Sink { slot, counters, .. } = &self.sink;
                let _waits =
                    CountedInstance::new(counters, |counters| &counters.introductions_waiting);
                let introduction = Introduction { slot: *slot, message, _waits };
                match self.sink.queue.try_send(introduction) {
                    Ok(()) => Ok(MetaCellDisposition::Consumed),
                    // A full queue drops introductions: there is no way to
                    // tell the relay, and waiting would block the circuit.
                    Err(mpsc::error::TrySendError::Full(_)) => {
                        self.sink.counters.dropped.queue.fetch_add(1, Ordering::Relaxed);
                        Ok(MetaCellDisposition::Consumed)
                    }
                    Err(mpsc::error::TrySendError::Closed(_)) => Ok(MetaCellDisposition::CloseCirc),
                }
            }
            (Arrival::IntroEstablished(_), None) => {
                Err(tor_proto::Error::CircProto("second INTRO_ESTABLISHED".into()))
            }
            (Arrival::Introduce2(_), Some(_)) => {
                Err(tor_proto::Error::CircProto("INTRODUCE2 before INTRO_ESTABLISHED".into()))
            }
        }
    }
}

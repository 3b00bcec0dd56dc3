//! How a client meets whoever answers at an introduction point: a rendezvous
//! point, one introduction, one handshake, one virtual hop.

use std::future::Future;
use std::time::Duration;

use rand::RngExt as _;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};
use tor_bytes::Writeable as _;
use tor_cell::relaycell::hs::intro_payload::{IntroduceHandshakePayload, OnionKey};
use tor_cell::relaycell::hs::pow::ProofOfWork;
use tor_cell::relaycell::hs::{AuthKeyType, IntroduceAckStatus};
use tor_cell::relaycell::msg::{
    Body as _, EndReason, EstablishRendezvous, Introduce1, Rendezvous2,
};
use tor_circmgr::build::onion_circparams_from_netparams;
use tor_circmgr::{ClientOnionServiceDataTunnel, ClientOnionServiceIntroTunnel};
use tor_hscrypto::{RendCookie, Subcredential};
use tor_linkspec::CircTarget as _;
use tor_netdoc::doc::hsdesc::IntroPointDesc;
use tor_proto::TargetHop;
use tor_proto::client::circuit::handshake::{HandshakeRole, RelayProtocol};
use tor_proto::client::stream::DataStream;
use tor_protover::Protocols;

use super::handshake::Handshake;
use super::replies::{AtIntroPoint, AtRendezvousPoint};
use super::verdict::{Steps, StreamRefusal, Verdict};
use crate::causes::is_out_of_handles;
use crate::tor::binding::{Binding, Exporting};
use crate::tor::network::Network;
use crate::tor::puzzles::Toil;
use crate::tor::{descriptor, hsdirs};
use onionbraid_balancer::onion::{IntroPoint, OnionAddress};

/// How long a circuit may take, all attempts together.
const CIRCUIT_WITHIN: Duration = Duration::from_secs(60);

/// How long a relay may take to answer one message.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// How long the service may take to come, with a circuit of its own to build.
/// C tor clients wait about as long before they try another point.
const MEET_WITHIN: Duration = Duration::from_secs(30);

/// How long the service's origin may take to accept a stream.
const STREAM_WITHIN: Duration = Duration::from_secs(30);

/// A rendezvous point, at a relay of our own choice, is there within a second or
/// two. Where that takes longer, our own side of the network is slow, and whoever
/// is silent may only be late.
pub(super) const SLOW: Duration = Duration::from_secs(5);

/// Each call of the circuit pool is one attempt, which can fail by chance.
const CIRCUIT_ATTEMPTS: usize = 3;

/// A circuit that ends at whoever answers for an address. It closes when this
/// is dropped.
pub(crate) struct Meeting {
    tunnel: ClientOnionServiceDataTunnel,
    /// What both ends of the circuit know; `None` never comes of a handshake.
    binding: Option<Binding>,
}

/// A stream on the circuit of a meeting.
pub(crate) struct OpenStream {
    /// The data.
    pub(crate) stream: DataStream,
    /// Keeps the circuit open.
    pub(crate) meeting: Meeting,
}

/// A rendezvous point that waits for a service.
struct RendezvousPoint {
    tunnel: ClientOnionServiceDataTunnel,
    /// What names this rendezvous to the relay.
    cookie: RendCookie,
    /// How the service finds the relay.
    link_specifiers: Vec<tor_linkspec::EncodedLinkSpec>,
    onion_key: OnionKey,
    /// Told when the service has come.
    met: oneshot::Receiver<Rendezvous2>,
}

/// Meets whoever answers at a point for an address, in the current period
/// (rend-spec-v3, sections 3.2 and 4), with work done for that or without.
///
/// # Errors
///
/// The verdict on the point. Never [`Verdict::Answers`].
pub(crate) async fn meet(
    network: &Network,
    point: &IntroPoint,
    address: &OnionAddress,
    toil: Option<&Toil>,
    steps: &mut Steps,
) -> Result<Meeting, Verdict> {
    let ours = |what: &str| Verdict::Inconclusive(what.to_owned());
    let subcredential = subcredential(network, address)?;
    let point = descriptor::to_arti_point(point)
        .ok_or_else(|| Verdict::NoCircuit("the point's keys are invalid".into()))?;

    let started = Instant::now();
    let rendezvous = within(CIRCUIT_WITHIN, establish(network))
        .await
        .unwrap_or_else(|| Err(ours("no rendezvous point within a minute")))?;
    steps.rendezvous_point = Some(started.elapsed());

    let started = Instant::now();
    let tunnel = within(CIRCUIT_WITHIN, circuit_to(network, &point))
        .await
        .unwrap_or_else(|| Err(ours("no circuit to the relay within a minute")))?;
    steps.circuit = Some(started.elapsed());

    let handshake =
        Handshake::new(**point.svc_ntor_key(), *point.ipt_sid_key().as_bytes(), subcredential);
    let mut work = None;
    if let Some(toil) = toil {
        let started = Instant::now();
        // Without it we would be met last, and learn nothing from that.
        let solution = toil.solution(network).await;
        work = Some(solution.ok_or_else(|| ours("no solution of a puzzle in time"))?);
        steps.puzzle = Some(started.elapsed());
    }
    let message = introduction(&point, &rendezvous, &handshake, work)
        .ok_or_else(|| ours("the introduction cannot be written"))?;
    let started = Instant::now();
    introduce(&tunnel, message).await?;
    steps.acknowledged = Some(started.elapsed());
    drop(tunnel);

    let started = Instant::now();
    let answer = match timeout(MEET_WITHIN, rendezvous.met).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => return Err(ours("the circuit to the rendezvous point broke")),
        Err(_) => return Err(Verdict::Silent),
    };
    let keys = handshake
        .finish(answer.handshake_info())
        .map_err(|error| Verdict::WrongAnswer(error.to_string()))?;
    steps.met = Some(started.elapsed());

    let directory = network.directory().map_err(|error| ours(&error.to_string()))?;
    let parameters = onion_circparams_from_netparams(directory.params())
        .map_err(|error| ours(&error.to_string()))?;
    drop(directory);
    // No extension was requested, so none is negotiated.
    let none = Protocols::new();
    let (protocol, role) = (RelayProtocol::HsV3, HandshakeRole::Initiator);
    let mut binding = None;
    let keys = Exporting::new(keys, &mut binding);
    rendezvous
        .tunnel
        .extend_virtual(protocol, role, keys, parameters, &none)
        .await
        .map_err(|error| ours(&error.to_string()))?;
    Ok(Meeting { tunnel: rendezvous.tunnel, binding })
}

impl Meeting {
    /// What both ends of the circuit know, and nobody else.
    pub(crate) fn binding(&self) -> Option<&Binding> {
        self.binding.as_ref()
    }

    /// Opens a stream to a port of the service.
    ///
    /// # Errors
    ///
    /// [`Verdict::Refused`] or [`Verdict::StreamSilent`].
    pub(crate) async fn open(self, port: u16, steps: &mut Steps) -> Result<OpenStream, Verdict> {
        self.open_with("", port, steps).await
    }

    /// The same with words for the service where BEGIN has a host for exit relays:
    /// onion services look at the port alone.
    pub(crate) async fn open_with(
        self,
        words: &str,
        port: u16,
        steps: &mut Steps,
    ) -> Result<OpenStream, Verdict> {
        let started = Instant::now();
        match timeout(STREAM_WITHIN, self.tunnel.begin_stream(words, port, None)).await {
            Ok(Ok(stream)) => {
                steps.stream = Some(started.elapsed());
                Ok(OpenStream { stream, meeting: self })
            }
            Ok(Err(error)) => Err(Verdict::Refused(refusal(&error))),
            Err(_) => Err(Verdict::StreamSilent),
        }
    }
}

/// What an error on opening a stream says.
fn refusal(error: &tor_circmgr::Error) -> StreamRefusal {
    match error {
        tor_circmgr::Error::Protocol { error: tor_proto::Error::EndReceived(reason), .. } => {
            match *reason {
                EndReason::DONE | EndReason::EXITPOLICY => StreamRefusal::NoSuchPort,
                reason => StreamRefusal::Origin(format!("END {reason}")),
            }
        }
        error => StreamRefusal::Broken(error.to_string()),
    }
}

/// The subcredential of an address in the current period: what the client's
/// part of the handshake is computed with.
fn subcredential(network: &Network, address: &OnionAddress) -> Result<Subcredential, Verdict> {
    let directory =
        network.directory().map_err(|error| Verdict::Inconclusive(error.to_string()))?;
    hsdirs::identity_key(address)
        .and_then(|key| key.compute_blinded_key(directory.hs_time_period()).ok())
        .map(|(_, subcredential)| subcredential)
        .ok_or_else(|| Verdict::Inconclusive("the address is no valid Ed25519 key".into()))
}

/// Builds a circuit to some relay and makes it a rendezvous point.
async fn establish(network: &Network) -> Result<RendezvousPoint, Verdict> {
    let mut failure = String::new();
    for _ in 0..CIRCUIT_ATTEMPTS {
        match establish_once(network).await {
            Ok(point) => return Ok(point),
            Err(error) => failure = error,
        }
    }
    Err(Verdict::Inconclusive(format!("no rendezvous point: {failure}")))
}

/// Whether some relay becomes a rendezvous point in this time.
pub(super) async fn rendezvous_point_within(network: &Network, limit: Duration) -> bool {
    matches!(within(limit, establish(network)).await, Some(Ok(_)))
}

async fn establish_once(network: &Network) -> Result<RendezvousPoint, String> {
    let directory = network.directory().map_err(|error| error.to_string())?;
    let text = |error: tor_circmgr::Error| error.to_string();
    let (tunnel, relay) =
        network.circuits.get_or_launch_client_rend(&directory).await.map_err(text)?;
    let link_specifiers = relay.linkspecs().map_err(|error| error.to_string())?;
    let onion_key = OnionKey::NtorOnionKey(*relay.ntor_onion_key());
    drop(directory);

    let cookie: RendCookie = crate::tor::rng().random();
    let (replies, established, met) = AtRendezvousPoint::new();
    let message = EstablishRendezvous::new(cookie).into();
    tunnel.start_conversation(Some(message), replies, TargetHop::LastHop).await.map_err(text)?;
    match timeout(ANSWER_WITHIN, established).await {
        Ok(Ok(())) => Ok(RendezvousPoint { tunnel, cookie, link_specifiers, onion_key, met }),
        Ok(Err(_)) => Err("the circuit broke".into()),
        Err(_) => Err("the relay does not answer".into()),
    }
}

/// Builds a circuit to the relay of an introduction point. That there is none is held
/// against the relay only if every attempt came as far as to the relay.
async fn circuit_to(
    network: &Network,
    point: &IntroPointDesc,
) -> Result<ClientOnionServiceIntroTunnel, Verdict> {
    let (mut failure, mut reached) = (String::new(), true);
    for _ in 0..CIRCUIT_ATTEMPTS {
        let directory =
            network.directory().map_err(|error| Verdict::Inconclusive(error.to_string()))?;
        let target = directory
            .circ_target_from_verbatim_linkspecs(point.link_specifiers(), point.ipt_ntor_key())
            .map_err(|error| Verdict::NoCircuit(error.to_string()))?;
        match network.circuits.get_or_launch_client_intro(&directory, target).await {
            Ok(tunnel) => return Ok(tunnel),
            // Our own trouble says nothing of the relay.
            Err(error) if is_out_of_handles(&error) => {
                return Err(Verdict::Inconclusive("no file handle is left".into()));
            }
            Err(error) => {
                reached &= may_be_the_relays(&error);
                failure = error.to_string();
            }
        }
    }
    Err(match reached {
        true => Verdict::NoCircuit(failure),
        false => Verdict::Inconclusive(format!("no circuit of our own: {failure}")),
    })
}

/// Whether the relay at the end of a circuit may be why it was not built. What fails
/// before the last hop, our guards and the choice of a path among it, is ours.
fn may_be_the_relays(error: &tor_circmgr::Error) -> bool {
    use tor_circmgr::Error::{CircTimeout, Protocol};
    // On the last hop no peer is named, and the circuit is.
    matches!(error, Protocol { peer: None, .. } | CircTimeout(Some(_)))
}

/// INTRODUCE1: the header, and what only the service can read.
fn introduction(
    point: &IntroPointDesc,
    rendezvous: &RendezvousPoint,
    handshake: &Handshake,
    work: Option<ProofOfWork>,
) -> Option<Introduce1> {
    let session_id = point.ipt_sid_key().as_bytes().to_vec();
    let message =
        |encrypted| Introduce1::new(AuthKeyType::ED25519_SHA3_256, session_id.clone(), encrypted);
    // The handshake authenticates the header, which is the message without
    // its encrypted part.
    let mut header = Vec::new();
    message(Vec::new()).encode_onto(&mut header).ok()?;
    let payload = IntroduceHandshakePayload::new(
        rendezvous.cookie,
        rendezvous.onion_key.clone(),
        rendezvous.link_specifiers.clone(),
        work,
    );
    let mut plaintext = Vec::new();
    payload.write_onto(&mut plaintext).ok()?;
    Some(message(handshake.introduction(&header, &plaintext)))
}

/// Sends an introduction and waits for the relay's word on it.
async fn introduce(
    tunnel: &ClientOnionServiceIntroTunnel,
    message: Introduce1,
) -> Result<(), Verdict> {
    let (replies, acknowledged) = AtIntroPoint::new();
    let sent = tunnel.start_conversation(Some(message.into()), replies, TargetHop::LastHop).await;
    sent.map_err(|error| Verdict::NoCircuit(error.to_string()))?;
    match timeout(ANSWER_WITHIN, acknowledged).await {
        Ok(Ok(IntroduceAckStatus::SUCCESS)) => Ok(()),
        Ok(Ok(status)) => Err(Verdict::UnknownPoint(status.to_string())),
        Ok(Err(_)) => Err(Verdict::NoCircuit("the circuit broke".into())),
        Err(_) => Err(Verdict::NoCircuit("it does not answer introductions".into())),
    }
}

/// The outcome, unless it takes longer.
async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    timeout(limit, work).await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(reason: EndReason) -> StreamRefusal {
        refusal(&tor_circmgr::Error::Protocol {
            action: "begin stream",
            peer: None,
            error: tor_proto::Error::EndReceived(reason),
            unique_id: None,
        })
    }

    #[test]
    fn only_a_circuit_that_came_to_its_last_hop_speaks_against_the_relay_there() {
        use tor_circmgr::Error;
        let last_hop = || Error::Protocol {
            action: "extending to chosen HS hop",
            peer: None,
            error: tor_proto::Error::CircuitClosed,
            unique_id: None,
        };
        assert!(may_be_the_relays(&last_hop()));
        let no_relay = Error::NoRelay {
            path_kind: "onion-service circuit",
            role: "middle relay",
            problem: "none is left".into(),
        };
        for ours in [
            Error::RequestTimeout,
            Error::CircCanceled,
            Error::PendingCanceled,
            Error::CircTimeout(None),
            Error::PendingFailed(Box::new(last_hop())),
            no_relay,
        ] {
            assert!(!may_be_the_relays(&ours), "{ours}");
        }
    }

    #[test]
    fn an_unknown_port_a_dead_origin_and_a_broken_circuit_are_told_apart() {
        assert_eq!(ended(EndReason::DONE), StreamRefusal::NoSuchPort);
        assert_eq!(ended(EndReason::MISC), StreamRefusal::Origin("END MISC".into()));
        let broken = refusal(&tor_circmgr::Error::CircCanceled);
        assert!(matches!(broken, StreamRefusal::Broken(_)), "{broken:?}");
    }
}

//! Meeting a client: from an introduction to a circuit with streams.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::StreamExt as _;
use rand::RngExt as _;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tor_cell::relaycell::RelayCmd;
use tor_cell::relaycell::hs::intro_payload::{IntroduceHandshakePayload, OnionKey};
use tor_cell::relaycell::hs::pow::ProofOfWork;
use tor_cell::relaycell::msg::{End, EndReason, Rendezvous1};
use tor_circmgr::ServiceOnionServiceDataTunnel;
use tor_circmgr::build::onion_circparams_from_netparams;
use tor_hscrypto::Subcredential;
use tor_linkspec::OwnedCircTarget;
use tor_linkspec::verbatim::VerbatimLinkSpecCircTarget;
use tor_netdir::NetDir;
use tor_proto::circuit::CircHopSyncView;
use tor_proto::client::circuit::handshake::{HandshakeRole, RelayProtocol, hs_ntor};
use tor_proto::stream::{
    IncomingStreamRequestContext, IncomingStreamRequestDisposition, IncomingStreamRequestFilter,
};
use tor_protover::Protocols;
use tor_protover::named::FLOWCTRL_CC;

use super::counters::{CountedInstance, Counters};
use super::intro::{Introduction, PointKeys};
use super::limits::{FIRST_STREAM_WITHIN, IDLE_FOR, IDLE_WHILE_FINISHING, Limit};
use super::room::{ClientCircuits, MadeRoom};
use super::streams::{CircuitNumber, ClientStream, OnCircuit, Serve};
use crate::clock::now;
use crate::tor::binding::{Binding, Exporting};
use crate::tor::network::Network;
use crate::tor::subcredentials::Subcredentials;

/// How long a rendezvous may take. C tor clients wait no longer.
const TIME_LIMIT: Duration = Duration::from_secs(60);

/// How long the handshake of a RENDEZVOUS1 message is, as C tor sends it.
const HANDSHAKE_FILLED_TO: usize = 148;

/// What all rendezvous of an instance share.
#[derive(Clone)]
pub(super) struct Context {
    /// Circuits and directory.
    pub(super) network: Network,
    /// What introductions to accept.
    pub(super) subcredentials: Arc<Subcredentials>,
    /// Who serves the streams.
    pub(super) serve: Arc<dyn Serve>,
    /// What is counted.
    pub(super) counters: Arc<Counters>,
    /// Streams that one circuit may have open.
    pub(super) max_streams: usize,
    /// Whether a circuit that wants more is closed, or only refused them.
    pub(super) close_beyond: bool,
    /// The circuits of its clients.
    pub(super) circuits: Arc<ClientCircuits>,
    /// Cancelled when the instance takes no new clients any more.
    pub(super) finishing: CancellationToken,
}

/// Why a client was not met.
#[derive(Debug, thiserror::Error)]
pub(super) enum RendezvousError {
    /// Nothing can be built without a directory.
    #[error("no network directory")]
    NoDirectory,
    /// Not for an address of ours, or garbage (rend-spec-v3, section 3.3).
    #[error("the introduction cannot be decrypted: {0}")]
    Undecryptable(tor_proto::Error),
    /// Decrypted, and still garbage.
    #[error("the introduction says nothing that makes sense")]
    Malformed,
    /// No circuit to the rendezvous point.
    #[error("circuit to the rendezvous point: {0}")]
    Circuit(#[from] tor_circmgr::Error),
    /// The circuit to the rendezvous point broke before the client was answered.
    #[error("the circuit closed before the answer was sent: {0}")]
    Answer(tor_circmgr::Error),
    /// As many clients are served as may be, and all of them make use of it.
    #[error("no client makes room")]
    Full,
    /// The client will have gone.
    #[error("not done within {} s", TIME_LIMIT.as_secs())]
    TimedOut,
}

/// What a client says of itself in an introduction.
pub(super) struct OpenedIntroduction {
    key_generator: hs_ntor::HsNtorHkdfKeyGenerator,
    /// The service's part of the handshake.
    reply: Vec<u8>,
    payload: IntroduceHandshakePayload,
}

impl OpenedIntroduction {
    /// The work that the client claims to have done.
    pub(super) fn proof_of_work(&self) -> Option<&ProofOfWork> {
        self.payload.proof_of_work_extension()
    }
}

/// Meets the client of one introduction and serves its streams until it goes.
/// Where the instance `is_full`, another client makes room for it, once it is
/// certain that it is one.
pub(super) fn meet(
    context: Arc<Context>,
    introduction: Introduction,
    keys: Arc<PointKeys>,
    is_full: bool,
) -> impl Future<Output = ()> + Send + 'static {
    let network = context.network.clone();
    let subcredentials = Arc::clone(&context.subcredentials);
    let opened = async move {
        let directory = network.directory().map_err(|_| RendezvousError::NoDirectory)?;
        open(&introduction, &keys, &subcredentials.acceptable(&directory))
    };
    meet_when_opened(context, opened, is_full, ())
}

/// The same for a client whose introduction was opened already. `until_met` is
/// dropped when it is met, or not.
pub(super) fn meet_opened(
    context: Arc<Context>,
    opened: OpenedIntroduction,
    is_full: bool,
    until_met: impl Send + 'static,
) -> impl Future<Output = ()> + Send + 'static {
    meet_when_opened(context, std::future::ready(Ok(opened)), is_full, until_met)
}

fn meet_when_opened(
    context: Arc<Context>,
    opened: impl Future<Output = Result<OpenedIntroduction, RendezvousError>> + Send + 'static,
    is_full: bool,
    until_met: impl Send + 'static,
) -> impl Future<Output = ()> + Send + 'static {
    // Counted from now on, not from when the task first runs.
    let under_way =
        CountedInstance::new(&context.counters, |counters| &counters.rendezvous_under_way);
    async move {
        let begun = now().monotonic;
        // The client may stay for days; the point's keys go with the point.
        let connected = async { connect(&context, opened.await?, is_full).await };
        let met = tokio::time::timeout(TIME_LIMIT, connected)
            .await
            .unwrap_or(Err(RendezvousError::TimedOut));
        drop((until_met, under_way));
        match met {
            Ok((tunnel, requests, binding)) => {
                tracing::debug!("client met");
                context.counters.rendezvous_succeeded.fetch_add(1, Ordering::Relaxed);
                let _open =
                    CountedInstance::new(&context.counters, |counters| &counters.open_circuits);
                serve_streams(&context, Arc::new(tunnel), requests, binding).await;
            }
            Err(error) => {
                context.counters.failed_with(&error);
                let after = now().monotonic.saturating_duration_since(begun);
                tracing::debug!(%error, ?after, "client not met");
            }
        }
    }
}

/// The streams that a client asks for on one circuit.
type StreamRequests = futures::stream::BoxStream<'static, tor_proto::stream::IncomingStream>;

/// Builds the circuit that an introduction asks for.
async fn connect(
    context: &Context,
    opened: OpenedIntroduction,
    is_full: bool,
) -> Result<(ServiceOnionServiceDataTunnel, StreamRequests, Arc<Option<Binding>>), RendezvousError>
{
    let OpenedIntroduction { key_generator, reply, payload } = opened;
    let directory = context.network.directory().map_err(|_| RendezvousError::NoDirectory)?;
    let OnionKey::NtorOnionKey(onion_key) = payload.onion_key() else {
        return Err(RendezvousError::Malformed);
    };
    let point = directory
        .circ_target_from_verbatim_linkspecs(payload.link_specifiers(), onion_key)
        .map_err(|_| RendezvousError::Malformed)?;
    let parameters = onion_circparams_from_netparams(directory.params())?;
    if is_full {
        let made_room = context.circuits.make_room(now().monotonic);
        context.counters.made_room(made_room.ok_or(RendezvousError::Full)?);
    }

    let tunnel = match direct_circuit(context, &directory, &point).await {
        Some(tunnel) => tunnel,
        None => ordinary_circuit(context, &directory, point).await?,
    };
    drop(directory);

    let negotiated: Protocols = if payload.cc_request_extension().is_some() {
        context.counters.congestion_controlled.fetch_add(1, Ordering::Relaxed);
        [FLOWCTRL_CC].into_iter().collect()
    } else {
        Protocols::new()
    };
    let last_relay = tunnel.last_hop().map_err(RendezvousError::Answer)?;
    let mut binding = None;
    tunnel
        .extend_virtual(
            RelayProtocol::HsV3,
            HandshakeRole::Responder,
            Exporting::new(key_generator, &mut binding),
            parameters,
            &negotiated,
        )
        .await
        .map_err(RendezvousError::Answer)?;
    let client = tunnel.last_hop().map_err(RendezvousError::Answer)?;
    let Context { max_streams, close_beyond, .. } = *context;
    let limit = StreamLimit { max_streams, close_beyond };
    let requests = tunnel
        .allow_stream_requests(&[RelayCmd::BEGIN], client, limit)
        .await
        .map_err(RendezvousError::Answer)?
        .boxed();
    let message = Rendezvous1::new(*payload.cookie(), filled(reply));
    tunnel.send_raw_msg(message.into(), last_relay).await.map_err(RendezvousError::Answer)?;
    Ok((tunnel, requests, Arc::new(binding)))
}

/// A rendezvous point as an introduction names it.
type Point = VerbatimLinkSpecCircTarget<OwnedCircTarget>;

/// A circuit of one hop to a rendezvous point, where the service does not hide; tried
/// once, as C tor does.
async fn direct_circuit(
    context: &Context,
    directory: &NetDir,
    point: &Point,
) -> Option<ServiceOnionServiceDataTunnel> {
    let direct = context.network.direct.as_ref()?;
    match direct.circuit(directory, point).await {
        Ok(tunnel) => {
            context.counters.rendezvous_direct.fetch_add(1, Ordering::Relaxed);
            Some(tunnel.into())
        }
        Err(error) => {
            tracing::debug!(%error, "rendezvous point not reached directly");
            None
        }
    }
}

/// An ordinary circuit to a rendezvous point.
async fn ordinary_circuit(
    context: &Context,
    directory: &Arc<NetDir>,
    point: Point,
) -> Result<ServiceOnionServiceDataTunnel, RendezvousError> {
    let pool = &context.network.circuits;
    let mut attempts_left = directory.params().hs_service_rendezvous_failures_max.get().max(1);
    loop {
        attempts_left -= 1;
        match pool.get_or_launch_svc_rend(directory, point.clone()).await {
            Ok(tunnel) => return Ok(tunnel),
            Err(error) if attempts_left <= 0 => return Err(error.into()),
            Err(error) => tracing::debug!(error = %error, "rendezvous circuit failed; once more"),
        }
    }
}

/// A handshake with chance behind it: as long as C tor's, which are as long as
/// those of onion services of the second version were (`HS_LEGACY_RENDEZVOUS_CELL_SIZE`:
/// 168 bytes with the cookie). Clients do not look at the rest.
fn filled(mut reply: Vec<u8>) -> Vec<u8> {
    let chance = reply.len()..HANDSHAKE_FILLED_TO;
    reply.extend(chance.map(|_| crate::tor::rng().random::<u8>()));
    reply
}

/// Decrypts an introduction, made for an address with one of these subcredentials.
#[expect(clippy::result_large_err, reason = "moved once, to be logged")]
pub(super) fn open(
    introduction: &Introduction,
    keys: &PointKeys,
    acceptable: &[Subcredential],
) -> Result<OpenedIntroduction, RendezvousError> {
    let (header, body) =
        (introduction.message.encoded_header(), introduction.message.encrypted_body());
    let (key_generator, reply, payload) = read(header, body, keys, acceptable)?;
    Ok(OpenedIntroduction { key_generator, reply, payload })
}

/// The same, of the parts of the message.
#[expect(clippy::result_large_err, reason = "moved once, to be logged")]
fn read(
    header: &[u8],
    body: &[u8],
    keys: &PointKeys,
    acceptable: &[Subcredential],
) -> Result<(hs_ntor::HsNtorHkdfKeyGenerator, Vec<u8>, IntroduceHandshakePayload), RendezvousError>
{
    let (key_generator, reply, plaintext) = hs_ntor::server_receive_intro(
        &mut crate::tor::rng(),
        &keys.ntor,
        &keys.session_public(),
        acceptable,
        header,
        body,
    )
    .map_err(RendezvousError::Undecryptable)?;
    Ok((key_generator, reply, payload(&plaintext)?))
}

/// What a client says, decrypted. Padding follows it, so the rest is not looked at.
#[expect(clippy::result_large_err, reason = "moved once, to be logged")]
pub(super) fn payload(plaintext: &[u8]) -> Result<IntroduceHandshakePayload, RendezvousError> {
    tor_bytes::Reader::from_slice(plaintext).extract().map_err(|_| RendezvousError::Malformed)
}

/// Serves every stream of one circuit until the client closes it, has had no
/// stream for too long, or makes room for somebody else.
async fn serve_streams(
    context: &Context,
    tunnel: Arc<ServiceOnionServiceDataTunnel>,
    mut requests: StreamRequests,
    binding: Arc<Option<Binding>>,
) {
    let circuit = CircuitNumber::next();
    let served = context.circuits.enter(now().monotonic);
    let mut streams = JoinSet::new();
    let mut idle_for = FIRST_STREAM_WITHIN;
    let mut had_stream = false;
    loop {
        let is_idle = streams.is_empty();
        served.has_streams(!is_idle, now().monotonic);
        tokio::select! {
            request = requests.next() => {
                let Some(request) = request else {
                    if !had_stream {
                        // The relay found nobody waiting for us, or no longer.
                        context.counters.rendezvous_abandoned.fetch_add(1, Ordering::Relaxed);
                    }
                    break;
                };
                had_stream = true;
                let on = OnCircuit {
                    tunnel: Arc::clone(&tunnel),
                    circuit,
                    binding: Arc::clone(&binding),
                    activity: served.activity(),
                    finishing: context.finishing.clone(),
                };
                let Some(stream) = ClientStream::new(request, on) else { continue };
                idle_for = IDLE_FOR;
                context.counters.streams.fetch_add(1, Ordering::Relaxed);
                let open = CountedInstance::new(&context.counters, |counters| &counters.open_streams);
                let serve = context.serve.serve(stream);
                streams.spawn(async move {
                    let _open = open;
                    serve.await;
                });
            }
            Some(_) = streams.join_next() => {}
            () = over(idle_for, &context.finishing), if is_idle => break,
            // What is open ends with the circuit.
            () = served.makes_room() => {
                tunnel.terminate();
                return;
            }
        }
    }
    // What the client has sent before it closed the circuit still reaches the
    // origin: each stream sees the end by itself.
    tokio::select! {
        () = async { while streams.join_next().await.is_some() {} } => {}
        () = served.makes_room() => {}
    }
}

impl Counters {
    /// A client was not met.
    pub(super) fn failed_with(&self, error: &RendezvousError) {
        let counter = match error {
            RendezvousError::Full => return self.dropped(Limit::Circuits),
            RendezvousError::Undecryptable(_) | RendezvousError::Malformed => {
                &self.failed.unreadable
            }
            RendezvousError::NoDirectory | RendezvousError::Circuit(_) => &self.failed.circuit,
            RendezvousError::Answer(_) => &self.failed.closed,
            RendezvousError::TimedOut => &self.failed.time,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// A circuit was told to make room.
    fn made_room(&self, why: MadeRoom) {
        let counter = match why {
            MadeRoom::Idle => &self.closed_idle,
            MadeRoom::Silent => &self.closed_silent,
            MadeRoom::Slow => &self.closed_slow,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// Ends when a circuit that has no stream from now on is to be closed.
async fn over(idle_for: Duration, finishing: &CancellationToken) {
    tokio::select! {
        () = tokio::time::sleep(idle_for) => {}
        () = async {
            finishing.cancelled().await;
            tokio::time::sleep(IDLE_WHILE_FINISHING).await;
        } => {}
    }
}

/// Closes a circuit with too many open streams, or refuses further ones: what C tor
/// calls to ignore them is an END with the reason DONE on a circuit that stays.
#[derive(Clone, Debug)]
struct StreamLimit {
    /// How many may be open at a time.
    max_streams: usize,
    close_beyond: bool,
}

impl IncomingStreamRequestFilter for StreamLimit {
    fn disposition(
        &mut self,
        _request: &IncomingStreamRequestContext<'_>,
        circuit: &CircHopSyncView<'_>,
    ) -> tor_proto::Result<IncomingStreamRequestDisposition> {
        Ok(match (circuit.n_open_streams() >= self.max_streams, self.close_beyond) {
            (false, _) => IncomingStreamRequestDisposition::Accept,
            (true, true) => IncomingStreamRequestDisposition::CloseCircuit,
            (true, false) => {
                let done = End::new_with_reason(EndReason::DONE);
                IncomingStreamRequestDisposition::RejectRequest(done)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_introduction_that_cannot_be_read_is_counted_as_that_and_asks_nobody_for_room() {
        let (keys, counters) = (PointKeys::generate(), Counters::default());
        for length in [0, 100, 300] {
            // Without what is in it nobody comes to where room is made.
            let (header, body) = (vec![1; 56], vec![2; length]);
            let acceptable = [Subcredential::from([3; 32])];
            let error = read(&header, &body, &keys, &acceptable).err().unwrap();
            assert!(matches!(error, RendezvousError::Undecryptable(_)), "{error}");
            counters.failed_with(&error);
        }
        counters.failed_with(&RendezvousError::TimedOut);
        counters.failed_with(&RendezvousError::Full);
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        assert_eq!(count(&counters.failed.unreadable), 3);
        assert_eq!(count(&counters.failed.time), 1);
        assert_eq!(count(&counters.dropped.circuits), 1);
    }

    #[test]
    fn an_answer_has_the_length_of_c_tors_and_begins_with_the_handshake() {
        let [one, other] = [(); 2].map(|()| filled(vec![7; 64]));
        assert_eq!((one.len(), &one[..64]), (148, &[7; 64][..]));
        assert_ne!(one[64..], other[64..]);
    }
}

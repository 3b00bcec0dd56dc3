//! A stream that a client asks for, and who serves it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;
use tor_cell::relaycell::msg::{Connected, End, EndReason};
use tor_circmgr::ServiceOnionServiceDataTunnel;
use tor_proto::client::stream::DataStream;
use tor_proto::stream::{IncomingStream, IncomingStreamRequest};

use super::activity::{CircuitActivity, Counting};
use crate::tor::binding::Binding;

/// How long an END message has until its circuit is closed.
const END_ON_ITS_WAY: Duration = Duration::from_millis(100);

/// Serves the streams of clients. The daemon implements it with the proxy.
pub trait Serve: Send + Sync + 'static {
    /// Serves one stream; ends when the stream has ended.
    fn serve(&self, stream: ClientStream) -> BoxFuture<'static, ()>;
}

/// A number for a client's circuit, for logs, limits and the origin. It says
/// nothing of the client, and is not used twice while the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CircuitNumber(pub u64);

/// A client asks for a stream to one of our ports.
pub struct ClientStream {
    /// The request, not answered yet.
    incoming: IncomingStream,
    on: OnCircuit,
    /// To which port, ...
    port: u16,
    /// ... and to which host, if the client names one: an onion service has none.
    host: Vec<u8>,
}

/// The circuit of a stream.
pub(super) struct OnCircuit {
    /// Kept while the stream lives: the circuit closes with the last holder.
    pub(super) tunnel: Arc<ServiceOnionServiceDataTunnel>,
    pub(super) circuit: CircuitNumber,
    /// What both of its ends know.
    pub(super) binding: Arc<Option<Binding>>,
    /// What moves on it.
    pub(super) activity: Arc<CircuitActivity>,
    /// Cancelled when the instance takes no new clients any more.
    pub(super) finishing: CancellationToken,
}

/// The stream of a client, accepted.
pub struct AcceptedStream {
    /// The data.
    pub stream: Counting<DataStream>,
    /// The circuit that it came on.
    pub handle: CircuitHandle,
}

/// The circuit of an accepted stream. It stays open as long as this is there.
pub struct CircuitHandle(Arc<ServiceOnionServiceDataTunnel>);

/// The client went before it got an answer.
#[derive(Debug, thiserror::Error)]
#[error("the client has gone")]
pub struct ClientGone(#[from] tor_proto::Error);

impl CircuitNumber {
    /// A number not used before.
    pub(super) fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

impl ClientStream {
    /// `None` for anything but BEGIN, which no other request gets past the
    /// circuit's own check.
    pub(super) fn new(incoming: IncomingStream, on: OnCircuit) -> Option<Self> {
        let IncomingStreamRequest::Begin(begin) = incoming.request() else { return None };
        let (port, host) = (begin.port(), begin.addr().to_vec());
        Some(Self { incoming, on, port, host })
    }

    /// The host that the client wants, which means nothing to an onion service: as
    /// a rule there is none.
    pub fn host(&self) -> &[u8] {
        &self.host
    }

    /// What both ends of the circuit know, and nobody else.
    pub(crate) fn binding(&self) -> Option<&Binding> {
        self.on.binding.as_ref().as_ref()
    }

    /// The circuit makes room for nobody from now on: who holds it is no client.
    pub(crate) fn keep_circuit(&self) {
        self.on.activity.keep();
    }

    /// Cancelled when the instance that the stream came to takes no new clients any more.
    pub(crate) fn finishing(&self) -> CancellationToken {
        self.on.finishing.clone()
    }

    /// The virtual port that the client wants.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The client's circuit.
    pub fn circuit(&self) -> CircuitNumber {
        self.on.circuit
    }

    /// Accepts the stream (CONNECTED without an address, as C tor answers).
    pub async fn accept(self) -> Result<AcceptedStream, ClientGone> {
        let stream = self.incoming.accept_data(Connected::new_empty()).await?;
        let stream = Counting::new(stream, self.on.activity);
        Ok(AcceptedStream { stream, handle: CircuitHandle(self.on.tunnel) })
    }

    /// Refuses the stream as C tor refuses an unknown port.
    pub async fn refuse(self) -> Result<(), ClientGone> {
        Ok(self.incoming.reject(End::new_with_reason(EndReason::DONE)).await?)
    }

    /// Refuses the stream as C tor does when the origin does not answer.
    pub async fn origin_failed(self) -> Result<(), ClientGone> {
        Ok(self.incoming.reject(End::new_misc()).await?)
    }

    /// Leaves the client without an answer.
    pub async fn ignore(self) -> Result<(), ClientGone> {
        Ok(self.incoming.discard().await?)
    }

    /// Refuses the stream and closes the whole circuit, as C tor does for an
    /// unknown port. The relays throw away what they still hold of a circuit that
    /// is closed, so that takes a moment.
    pub async fn destroy_circuit(self) -> Result<(), ClientGone> {
        let refused = self.incoming.reject(End::new_with_reason(EndReason::DONE)).await;
        tokio::time::sleep(END_ON_ITS_WAY).await;
        self.on.tunnel.terminate();
        Ok(refused?)
    }
}

impl CircuitHandle {
    /// Closes the circuit, with all of its streams.
    pub fn close(&self) {
        self.0.terminate();
    }
}

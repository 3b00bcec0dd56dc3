//! Leads a client's stream where `proxy_ports` says.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::Notify;

use crate::clock::now;
use crate::instance::{CircuitHandle, ClientStream, Serve};
use crate::link::listen::LinkListener;
use crate::throttle::Throttle;
use onionbraid_balancer::onion::OnionAddress;
use onionbraid_proxy::http::CircuitControl;
use onionbraid_proxy::origin::{Failures, OriginConnection};
use onionbraid_proxy::rules::{ForwardTarget, Origin, ProxyTarget};
use onionbraid_proxy::settings::ProxyProtocol;
use onionbraid_proxy::setup::Setup;
use onionbraid_proxy::shares::Shares;
use onionbraid_proxy::visitor::Visitor;
use onionbraid_proxy::{forward, origin, proxy_line, welcome};

use super::proxies::Proxies;

/// Serves the streams of one service by its `proxy_ports`.
pub(super) struct ByPort {
    shared: Arc<StreamContext>,
}

/// What all streams of a service share.
struct StreamContext {
    /// The rules in force, and what serves them.
    proxies: Arc<Proxies>,
    /// The address of the service, as clients write it.
    onion: String,
    /// Told of every origin that does not answer.
    failed: Arc<Notify>,
    /// The file handles that clients may take.
    for_clients: Shares,
    /// Knows the publishers of the frontends.
    listener: Arc<LinkListener>,
    /// When the log was last told of an origin that does not answer.
    complained: Mutex<Throttle>,
}

/// An origin that does not answer is told no more often: clients decide how
/// often they try.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

impl ByPort {
    /// By these rules, for the service of this address; `failed` is told of
    /// every origin that does not answer. Who is a publisher to the `listener` is
    /// led there.
    pub(super) fn new(
        proxies: Arc<Proxies>,
        address: OnionAddress,
        failed: Arc<Notify>,
        for_clients: Shares,
        listener: Arc<LinkListener>,
    ) -> Self {
        let (onion, complained) = (address.to_string(), Mutex::new(Throttle::new(COMPLAIN_EVERY)));
        let shared = StreamContext { proxies, onion, failed, for_clients, listener, complained };
        Self { shared: Arc::new(shared) }
    }
}

impl Serve for ByPort {
    fn serve(&self, stream: ClientStream) -> BoxFuture<'static, ()> {
        let shared = Arc::clone(&self.shared);
        async move {
            if let Some(frontend) = shared.listener.recognises(&stream) {
                stream.keep_circuit();
                let finishing = stream.finishing();
                if let Ok(accepted) = stream.accept().await {
                    shared.listener.serve(frontend, accepted.stream, finishing).await;
                }
                return;
            }
            let served = shared.proxies.serving(stream.port());
            // A client that goes before it has its answer is no event.
            let _ = match (&served.target, &served.setup) {
                (ProxyTarget::Forward(target), _) => {
                    return shared.forward_to(target, &served.failures, stream).await;
                }
                (
                    ProxyTarget::Http(_) | ProxyTarget::Files(_) | ProxyTarget::Redirect(_),
                    Some(setup),
                ) => return shared.answer(setup, stream).await,
                (ProxyTarget::Http(_) | ProxyTarget::Files(_) | ProxyTarget::Redirect(_), None) => {
                    stream.origin_failed().await
                }
                (ProxyTarget::Welcome, _) => {
                    if let Ok(accepted) = stream.accept().await {
                        let _ = welcome::serve(accepted.stream).await;
                    }
                    return;
                }
                (ProxyTarget::Destroy, _) => stream.destroy_circuit().await,
                (ProxyTarget::Reject, _) => stream.refuse().await,
                (ProxyTarget::Ignore, _) => stream.ignore().await,
            };
        }
        .boxed()
    }
}

impl StreamContext {
    /// Accepts the stream at once: who asks by HTTP is answered by HTTP,
    /// whatever has become of the origins.
    async fn answer(&self, setup: &Setup, stream: ClientStream) {
        let onion = self.onion.clone();
        let visitor =
            Visitor { circuit: stream.circuit().0, port: stream.port(), onion, tls: false };
        if let Ok(accepted) = stream.accept().await {
            setup.serve(accepted.stream, visitor, accepted.handle).await;
        }
    }

    /// Connects to an origin first: a client is accepted only by a live one.
    async fn forward_to(&self, target: &ForwardTarget, failures: &Failures, stream: ClientStream) {
        let (circuit, port) = (stream.circuit().0, stream.port());
        let Some(_handle) = self.for_clients.take(circuit).await else {
            self.complain(&target.origins, &"too many streams are open");
            let _ = stream.origin_failed().await;
            return;
        };
        let greeting = match target.proxy_protocol {
            Some(ProxyProtocol::V1) => proxy_line::v1(circuit, port),
            Some(ProxyProtocol::V2) => proxy_line::v2(circuit, port),
            None => Vec::new(),
        };
        match greeted(target, failures, &greeting).await {
            Ok(connection) => {
                if let Ok(accepted) = stream.accept().await {
                    let _ = forward::forward(accepted.stream, connection).await;
                }
            }
            Err(error) => {
                self.failed.notify_one();
                self.complain(&target.origins, &error);
                let _ = stream.origin_failed().await;
            }
        }
    }

    /// Tells the log of origins that get no stream, now and then.
    fn complain(&self, origins: &[Origin], error: &dyn fmt::Display) {
        let now = now().monotonic;
        let mut complained = self.complained.lock();
        if let Some(more) = complained.permits(now) {
            tracing::warn!(?origins, %error, more, "no origin accepted the stream");
        }
    }
}

/// A connection to an origin of these that begins with this.
async fn greeted(
    target: &ForwardTarget,
    failures: &Failures,
    greeting: &[u8],
) -> io::Result<OriginConnection> {
    let mut connection = origin::connect_first(&target.origins, failures).await?;
    connection.write_all(greeting).await?;
    Ok(connection)
}

impl CircuitControl for CircuitHandle {
    fn close(&self) {
        CircuitHandle::close(self);
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;
    use tokio::net::{TcpListener, TcpSocket};

    use super::*;

    #[tokio::test]
    async fn the_origin_that_answers_reads_the_circuits_line_before_anything_else() {
        let alive = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        // Nobody listens there, and nobody else is given the port.
        let dead = TcpSocket::new_v4().unwrap();
        dead.bind(([127, 0, 0, 1], 0).into()).unwrap();
        let addresses = [dead.local_addr().unwrap(), alive.local_addr().unwrap()];
        let origins = addresses.map(Origin::Tcp).to_vec();
        let target = ForwardTarget { origins, proxy_protocol: Some(ProxyProtocol::V1) };
        let greeting = proxy_line::v1(7, 22);
        let mut near = greeted(&target, &Failures::default(), &greeting).await.unwrap();
        near.write_all(b"hello").await.unwrap();
        drop(near);
        let mut read = Vec::new();
        alive.accept().await.unwrap().0.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, [greeting.as_slice(), b"hello"].concat());
    }
}

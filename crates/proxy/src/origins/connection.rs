//! One connection to an origin: how it is made (socket, PROXY line, TLS, HTTP), what
//! is sent on it above HTTP, and what is known of it below.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::counts::{Client, InFlight};
use super::upload::Upload;
use crate::clock::sleep_until;
use crate::origin::{self, OriginConnection};
use crate::proxy_line;
use crate::rules::Origin;
use crate::settings::{OriginProtocol, ProxyProtocol};
use crate::shares::Share;

/// The least buffer that hyper has for HTTP/1.
const LEAST_BUFFER: usize = 8192;

/// An HTTP/2 connection with requests under way is asked for a sign of life so
/// often: one that died silently would take every new request with it.
const PING_EVERY: Duration = Duration::from_secs(20);

/// What an HTTP/2 origin may send of one body before the client has taken it.
/// All bodies together may fill the connection only at the largest window that
/// there is: slow clients must not stop the answers to others on it.
const BODY_WINDOW: u32 = 128 * 1024;

/// The largest window (RFC 9113, section 6.9.1).
const LARGEST_WINDOW: u32 = (1 << 31) - 1;

/// Version 1 of the PROXY line for a connection without a client (proxy-protocol,
/// section 2.1).
const UNKNOWN: &[u8] = b"PROXY UNKNOWN\r\n";

/// Version 2 for it: the signature, the command LOCAL, no family and no
/// addresses (section 2.2).
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

/// How connections to one origin are made.
pub(super) struct Dialer {
    /// Where it listens.
    pub(super) address: Origin,
    /// With `https://`: how it is verified, and as whom.
    pub(super) tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    /// What is spoken.
    pub(super) protocol: OriginProtocol,
    /// The line that comes first.
    pub(super) proxy_protocol: Option<ProxyProtocol>,
    /// How long everything may take together.
    pub(super) within: Duration,
    /// The bounds on heads of responses.
    pub(super) heads: HeadLimits,
    /// Where connections live.
    pub(super) tasks: Arc<ConnectionTasks>,
}

/// What a head of a response may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct HeadLimits {
    /// Fields.
    pub(super) fields: usize,
    /// Bytes.
    pub(super) bytes: usize,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    /// It took too long.
    #[error("no connection within {}", humantime::format_duration(*.0))]
    Slow(Duration),
    /// No socket, or it broke.
    #[error("{0}")]
    Socket(io::Error),
    /// The origin could not prove who it is, or cannot do TLS.
    #[error("TLS: {0}")]
    Tls(io::Error),
    /// It is one that does not speak HTTP/2.
    #[error("it does not offer HTTP/2 (ALPN \"h2\")")]
    NoHttp2,
    /// Its HTTP cannot begin.
    #[error("HTTP cannot begin")]
    Http(#[source] hyper::Error),
    /// It ended before the settings of HTTP/2 came.
    #[error("the connection ended before HTTP/2 began")]
    Ended,
}

impl Dialer {
    /// Connects, and verifies a TLS origin. For a client, or for a check.
    pub(super) async fn connect(
        &self,
        client: Option<Client>,
    ) -> Result<OriginConnection, DialError> {
        let opened = timeout(self.within, self.open(client)).await;
        opened.map_err(|_| DialError::Slow(self.within))?
    }

    /// Connects and begins HTTP.
    pub(super) async fn http(
        &self,
        client: Option<Client>,
    ) -> Result<(Sender, Arc<Wire>), DialError> {
        let begun = async { self.begin(self.open(client).await?).await };
        timeout(self.within, begun).await.map_err(|_| DialError::Slow(self.within))?
    }

    async fn open(&self, client: Option<Client>) -> Result<OriginConnection, DialError> {
        let mut socket = origin::open(&self.address).await.map_err(DialError::Socket)?;
        let opening = opening(self.proxy_protocol, client);
        socket.write_all(&opening).await.map_err(DialError::Socket)?;
        let Some((config, name)) = &self.tls else { return Ok(socket) };
        let connector = TlsConnector::from(Arc::clone(config));
        let stream = connector.connect(name.clone(), socket).await.map_err(DialError::Tls)?;
        let agreed = stream.get_ref().1.alpn_protocol();
        if self.protocol == OriginProtocol::Http2 && agreed != Some(b"h2") {
            return Err(DialError::NoHttp2);
        }
        Ok(Box::new(stream))
    }

    async fn begin(&self, connection: OriginConnection) -> Result<(Sender, Arc<Wire>), DialError> {
        let wire = Arc::new(Wire::default());
        let io = TokioIo::new(Wired { connection, wire: Arc::clone(&wire) });
        // How a connection ends is told to the requests on it.
        let sender = match self.protocol {
            OriginProtocol::Http1 => {
                let (sender, connection) = http1::Builder::new()
                    .preserve_header_case(true)
                    .max_headers(self.heads.fields)
                    .max_header_size(self.heads.bytes)
                    .max_buf_size(self.heads.bytes.max(LEAST_BUFFER))
                    .handshake(io)
                    .await
                    .map_err(DialError::Http)?;
                let wire = Arc::clone(&wire);
                self.tasks.spawn(async move {
                    tokio::select! {
                        _ = connection.with_upgrades() => {}
                        () = wire.given_up() => {}
                    }
                });
                Sender::Http1(sender)
            }
            OriginProtocol::Http2 => {
                let bytes = u32::try_from(self.heads.bytes).unwrap_or(u32::MAX);
                let executor = Executor(Arc::downgrade(&self.tasks));
                let (sender, mut connection) = http2::Builder::new(executor)
                    .timer(TokioTimer::new())
                    .max_header_list_size(bytes)
                    .initial_stream_window_size(BODY_WINDOW)
                    .initial_connection_window_size(LARGEST_WINDOW)
                    // Until the origin has said how many it takes.
                    .initial_max_send_streams(0)
                    .keep_alive_interval(PING_EVERY)
                    .keep_alive_timeout(self.within)
                    .handshake(io)
                    .await
                    .map_err(DialError::Http)?;
                while connection.current_max_send_streams() == 0 {
                    tokio::select! {
                        ended = &mut connection => {
                            return Err(ended.err().map_or(DialError::Ended, DialError::Http));
                        }
                        () = wire.heard.notified() => {}
                    }
                }
                let told = Arc::clone(&wire);
                let tell = move |connection: &http2::Connection<_, _, _>| {
                    told.streams.store(connection.current_max_send_streams(), Ordering::Relaxed);
                };
                tell(&connection);
                self.tasks.spawn(std::future::poll_fn(move |context| {
                    let ended = Pin::new(&mut connection).poll(context);
                    // Every request passes here, so what is known is never old.
                    tell(&connection);
                    ended.map(drop)
                }));
                Sender::Http2(sender)
            }
        };
        Ok((sender, wire))
    }
}

/// What is written first on a connection for a client, or for a check of ours:
/// nothing without PROXY protocol.
fn opening(protocol: Option<ProxyProtocol>, client: Option<Client>) -> Vec<u8> {
    match (protocol, client) {
        (None, _) => Vec::new(),
        (Some(ProxyProtocol::V1), None) => UNKNOWN.to_vec(),
        (Some(ProxyProtocol::V2), None) => LOCAL.to_vec(),
        (Some(ProxyProtocol::V1), Some(it)) => proxy_line::v1(it.circuit, it.port),
        (Some(ProxyProtocol::V2), Some(it)) => proxy_line::v2(it.circuit, it.port),
    }
}

/// Sends requests on one connection, whichever protocol is spoken on it.
pub(super) enum Sender {
    /// One request at a time.
    Http1(http1::SendRequest<Upload>),
    /// Many at a time.
    Http2(http2::SendRequest<Upload>),
}

impl Sender {
    /// Whether the connection takes a request at once.
    pub(super) fn is_ready(&self) -> bool {
        match self {
            Self::Http1(sender) => sender.is_ready(),
            Self::Http2(sender) => sender.is_ready(),
        }
    }

    /// Whether it has ended.
    pub(super) fn is_closed(&self) -> bool {
        match self {
            Self::Http1(sender) => sender.is_closed(),
            Self::Http2(sender) => sender.is_closed(),
        }
    }

    /// Waits until it takes the next request, which an HTTP/1 connection does
    /// when the last one is over in both directions; false: it never will.
    pub(super) async fn ready(&mut self) -> bool {
        match self {
            Self::Http1(sender) => sender.ready().await.is_ok(),
            Self::Http2(sender) => sender.ready().await.is_ok(),
        }
    }

    /// Sends a request; one of which nothing was sent comes back with the error.
    pub(super) async fn send(
        &mut self,
        request: Request<Upload>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Upload>>> {
        match self {
            Self::Http1(sender) => sender.try_send_request(request).await,
            Self::Http2(sender) => sender.try_send_request(request).await,
        }
    }
}

/// What is known of a connection by those who do not hold it.
#[derive(Debug, Default)]
pub(super) struct Wire {
    received: AtomicU64,
    /// How many streams an HTTP/2 origin takes at a time.
    streams: AtomicUsize,
    held: Mutex<EndsWithWire>,
    /// All that has arrived so far is understood.
    heard: Notify,
    given_up: Notify,
    closed: Notify,
}

/// What ends with the connection at the latest, also if it was upgraded and
/// somebody else holds it now.
#[derive(Debug, Default)]
struct EndsWithWire {
    slot: Option<Share>,
    in_flight: Option<InFlight>,
}

impl Wire {
    /// The bytes that have arrived on it.
    pub(super) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// How many streams the origin takes on it at a time, with HTTP/2.
    pub(super) fn streams(&self) -> usize {
        self.streams.load(Ordering::Relaxed)
    }

    /// It is used now, and takes one of the connections that there may be.
    pub(super) fn hold_slot(&self, slot: Share) {
        self.held.lock().slot = Some(slot);
    }

    /// It is no longer used; who takes the slot gives it back.
    pub(super) fn take_slot(&self) -> Option<Share> {
        self.held.lock().slot.take()
    }

    /// A request that has become the connection itself.
    pub(super) fn hold_in_flight(&self, in_flight: InFlight) {
        self.held.lock().in_flight = Some(in_flight);
    }

    /// Whatever is still to be sent or read, nobody waits for it any more.
    pub(super) fn give_up(&self) {
        self.given_up.notify_one();
    }

    /// Waits until somebody gives it up. For one waiter.
    async fn given_up(&self) {
        self.given_up.notified().await;
    }

    /// Waits until it is closed. For one waiter.
    pub(super) async fn closed(&self) {
        self.closed.notified().await;
    }
}

/// The connection itself, for hyper: whatever goes through it is told to the wire.
struct Wired {
    connection: OriginConnection,
    wire: Arc<Wire>,
}

impl Drop for Wired {
    fn drop(&mut self) {
        let held = std::mem::take(&mut *self.wire.held.lock());
        drop(held);
        self.wire.closed.notify_one();
    }
}

impl AsyncRead for Wired {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.connection).poll_read(context, buffer);
        let read = (buffer.filled().len() - before) as u64;
        self.wire.received.fetch_add(read, Ordering::Relaxed);
        if result.is_pending() {
            self.wire.heard.notify_one();
        }
        result
    }
}

impl AsyncWrite for Wired {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.connection.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_shutdown(context)
    }
}

/// The tasks of the connections to one origin, which end with their owner. A task
/// that starts others knows it only weakly, or it would keep itself alive.
#[derive(Debug, Default)]
pub(super) struct ConnectionTasks(Mutex<JoinSet<()>>);

impl ConnectionTasks {
    /// Runs a task for as long as the owner lives. Without a runtime it is
    /// dropped at once: everything ends.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let Ok(runtime) = Handle::try_current() else { return };
        let mut set = self.0.lock();
        // Those that have ended are let go.
        while set.try_join_next().is_some() {}
        set.spawn_on(task, &runtime);
    }

    /// Has what is idle for too long closed, by one who says when to look again.
    pub(super) fn reap<T: Send + Sync + 'static>(
        &self,
        owner: &Arc<T>,
        close: impl Fn(&Arc<T>) -> Option<Instant> + Send + 'static,
    ) {
        let owner = Arc::downgrade(owner);
        self.spawn(async move {
            while let Some(next) = owner.upgrade().and_then(|owner| close(&owner)) {
                sleep_until(Some(next)).await;
            }
        });
    }
}

/// The tasks that hyper starts for HTTP/2.
#[derive(Clone, Debug)]
struct Executor(Weak<ConnectionTasks>);

impl<F> hyper::rt::Executor<F> for Executor
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, task: F) {
        if let Some(tasks) = self.0.upgrade() {
            tasks.spawn(task);
        }
    }
}

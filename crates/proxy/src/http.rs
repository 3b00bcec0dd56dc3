//! From a client's stream to responses: the HTTP reverse proxy of one virtual
//! port.
//!
//! Takes any duplex stream and answers the requests on it, HTTP/1 or, if the operator
//! wants that, HTTP/2 by prior knowledge. hyper does the protocol, on a [`gate`] that gives it one
//! message of HTTP/1 at a time; an [`exchange`] leads one request to an
//! [`Upstream`](crate::upstream::Upstream) and its answer back, without holding more
//! of either body than a few buffers.

mod activity;
mod circuits;
mod counts;
mod exchange;
pub mod framing;
mod gate;
mod progress;
mod proxy;
mod record;
mod refusals;
mod request_body;
mod response_body;
mod tasks;
mod turns;
mod upgrade;

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use h2::Reason;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1::{self, Parts};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, Version};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

use super::body::Body;
use super::failure::Failure;
use super::settings::{OriginProtocol, STREAMS_OF_A_CIRCUIT};
use super::tasks::{Spawner, Tasks};
use super::tls::taken::TakenBytes;
use super::visitor::Visitor;

use activity::ConnectionActivity;
use counts::RequestOutcome;
use exchange::{Exchange, PIECE};
use framing::MessageLimits;
use gate::{Gate, PAGE_PATIENCE, Patience, Protocol};
pub use proxy::{CircuitControl, Proxy, requests_under_way};
use refusals::StreamRefusals;
use tasks::{Answering, answering};
use turns::{ConnectionTurn, RequestTurn};

/// Bytes of a body that hyper holds for a client of HTTP/1 who does not read, or
/// for an origin who does not, and what a client of HTTP/2 may send of one.
const BUFFER: u32 = 64 * 1024;

/// The flow control window of all streams of an HTTP/2 connection.
const CONNECTION_WINDOW: u32 = 4 * BUFFER;

/// Requests that one HTTP/2 connection may have under way at most.
const MAX_STREAMS: u32 = 100;

/// What a client of HTTP/2 gets whose circuit has enough connections: no settings,
/// and GOAWAY with `ENHANCE_YOUR_CALM` for all of its requests (RFC 9113, sections
/// 6.5 and 6.8).
const CALM_DOWN: &[u8] = b"\0\0\0\x04\0\0\0\0\0\
    \0\0\x08\x07\0\0\0\0\0\
    \0\0\0\0\0\0\0\x0b";

impl Proxy {
    /// Serves one client until either side ends the stream.
    pub async fn serve<C>(
        self: &Arc<Self>,
        client: C,
        visitor: Visitor,
        control: impl CircuitControl,
    ) where
        C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        self.serve_counted(client, None, visitor, control).await;
    }

    /// The same, where what the client takes is counted elsewhere, too.
    pub(crate) async fn serve_counted<C>(
        self: &Arc<Self>,
        client: C,
        taken: Option<TakenBytes>,
        visitor: Visitor,
        control: impl CircuitControl,
    ) where
        C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let guard = &self.settings.guard;
        let limits = MessageLimits { head_bytes: guard.max_head_bytes, fields: guard.max_headers };
        let patience = Patience {
            head: guard.head_timeout,
            next: guard.client_keep_alive,
            idle: self.settings.origins.idle_timeout,
        };
        let activity = Arc::<ConnectionActivity>::default();
        let (proxy, circuit) = (Arc::clone(self), visitor.circuit);
        let refuse = Box::new(move |failure| proxy.refuse(failure, circuit));
        let client = Box::new(client);
        let mut gate = Gate::new(client, limits, patience, Arc::clone(&activity), refuse);
        taken.into_iter().for_each(|taken| gate.counted_by(taken));
        let http2 = visitor.tls || self.settings.http2_without_tls;
        let Some(protocol) = gate.protocol(http2).await else { return };
        let tasks = Tasks::default();
        let exchange = Arc::new(Exchange {
            proxy: Arc::clone(self),
            visitor,
            control: Box::new(control),
            activity,
            tasks: tasks.spawner(),
            refusals: StreamRefusals::default(),
        });
        match protocol {
            Protocol::Http1 => {
                // The circuit is held until what the connection became has ended.
                self.serve_http1(gate, Arc::clone(&exchange)).await;
                tasks.ended().await;
            }
            // What still runs when the connection has ended, nobody waits for.
            Protocol::Http2 => match ConnectionTurn::take(self, exchange.visitor.circuit) {
                Some(_place) => self.serve_http2(gate, exchange, tasks.spawner()).await,
                None => {
                    self.counts.refused(Failure::TooMany);
                    let goodbye = async {
                        let _ = gate.write_all(CALM_DOWN).await;
                        let _ = gate.shutdown().await;
                    };
                    let _ = timeout(PAGE_PATIENCE, goodbye).await;
                }
            },
        }
    }

    /// One connection of HTTP/1, and what it is upgraded to. hyper is there only while
    /// messages come: its buffers are most of what an idle connection would take.
    async fn serve_http1(&self, mut gate: Gate, exchange: Arc<Exchange>) {
        let guard = &self.settings.guard;
        let mut builder = http1::Builder::new();
        // The gate has measured and timed every head.
        builder
            .header_read_timeout(None)
            .max_headers(guard.max_headers)
            .max_buf_size((guard.max_head_bytes + 1).max(BUFFER as usize))
            .auto_date_header(false)
            .preserve_header_case(true)
            .title_case_headers(true);
        let connection = async {
            while gate.begins().await? {
                let served = service(Arc::clone(&exchange));
                let connection = builder.serve_connection(TokioIo::new(gate), served);
                let mut connection = Box::new(connection.with_upgrades());
                let rests = poll_fn(|context| match Pin::new(&mut *connection).poll(context) {
                    Poll::Pending if exchange.activity.rests() => Poll::Ready(true),
                    ended => ended.map(|_| false),
                });
                // What has ended may have become something else.
                let left = rests.await.then(|| connection.into_parts()).flatten();
                let Some(Parts { io, .. }) = left else { return Ok(()) };
                gate = io.into_inner();
            }
            gate.shutdown().await
        };
        // A connection that breaks is no event: clients may leave at any time.
        let _ = answering(connection).await;
    }

    /// One connection of HTTP/2.
    async fn serve_http2(&self, gate: Gate, exchange: Arc<Exchange>, tasks: Spawner) {
        let activity = Arc::clone(&exchange.activity);
        let guard = &self.settings.guard;
        let connection = http2::Builder::new(Answering(tasks))
            .timer(TokioTimer::new())
            .initial_stream_window_size(BUFFER)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_concurrent_streams(self.max_streams())
            .max_send_buf_size(PIECE)
            .max_header_list_size(u32::try_from(guard.max_head_bytes).unwrap_or(u32::MAX))
            .auto_date_header(false)
            .serve_connection(TokioIo::new(gate), service(Arc::clone(&exchange)));
        let mut connection = Box::pin(connection);
        tokio::select! {
            _ = connection.as_mut() => return,
            () = activity.idle(guard.head_timeout) => {}
            () = exchange.refusals.too_many() => {}
        }
        connection.as_mut().graceful_shutdown();
        // What begins meanwhile is still answered; who does not say goodbye, or goes
        // on all the same, is left.
        tokio::select! {
            _ = connection => {}
            () = activity.idle(guard.head_timeout) => {}
            () = exchange.refusals.too_many() => {}
        }
    }

    /// Requests that one HTTP/2 connection may have under way. What an origin
    /// would not take at once waits where it costs nothing: with the client.
    fn max_streams(&self) -> u32 {
        let most = MAX_STREAMS.min(self.settings.circuit.max_requests.unwrap_or(MAX_STREAMS));
        match self.settings.origins.protocol {
            OriginProtocol::Http1 => most,
            OriginProtocol::Http2 => most.min(STREAMS_OF_A_CIRCUIT.into()),
        }
    }

    /// Counts a head that never became a request, and says what it is answered.
    fn refuse(&self, failure: Failure, circuit: u64) -> [Bytes; 2] {
        self.counts.begun();
        // Half a head is answered with nothing, as common servers do.
        let silent = failure == Failure::SlowClient;
        let answer = if silent { Default::default() } else { self.pages.written(failure) };
        let outcome = RequestOutcome {
            // It is not known.
            method: Method::from_bytes(b"-").unwrap_or_default(),
            status: (!silent).then(|| failure.status()),
            bytes: answer[1].len() as u64,
            origin: None,
            failure: Some(failure),
        };
        self.counts.ended(&outcome);
        if self.settings.access_log {
            counts::log(circuit, &outcome, Duration::ZERO);
        }
        answer
    }
}

/// What hyper asks for each request. In HTTP/2 one that may not begin is refused
/// before anything is made for it: even an answer of ours would wait in the
/// client's window.
fn service(
    exchange: Arc<Exchange>,
) -> impl hyper::service::Service<
    Request<Incoming>,
    Response = Response<Body>,
    Error = h2::Error,
    Future: Send + 'static,
> {
    service_fn(move |request: Request<Incoming>| -> BoxFuture<'static, _> {
        let turn = RequestTurn::take(&exchange.proxy, exchange.visitor.circuit);
        match turn {
            Err(failure) if request.version() == Version::HTTP_2 => {
                exchange.refused(failure);
                exchange.refusals.refused();
                std::future::ready(Err(Reason::REFUSED_STREAM.into())).boxed()
            }
            turn => {
                exchange.refusals.began();
                let under_way = exchange.activity.begin();
                Arc::clone(&exchange).answer(request, turn, under_way).map(Ok).boxed()
            }
        }
    })
}

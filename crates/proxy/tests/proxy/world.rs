//! A proxy, its clients and its origin, all in memory.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use onionbraid_proxy::body::Body;
use onionbraid_proxy::failure::Failure;
use onionbraid_proxy::http::{CircuitControl, Proxy};
use onionbraid_proxy::pages::Pages;
use onionbraid_proxy::settings::HttpSettings;
use onionbraid_proxy::status::HttpStatus;
use onionbraid_proxy::upstream::{FromOrigin, Upstream};
use onionbraid_proxy::visitor::Visitor;
use tokio::io::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, duplex,
};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::over_tls;

/// Bytes that each of the streams in memory holds.
pub(crate) const STREAM: usize = 4 * 1024;

pub(crate) struct World {
    pub(crate) proxy: Arc<Proxy>,
    /// The origin's ends of the connections that the proxy has opened.
    connections: mpsc::UnboundedReceiver<DuplexStream>,
    serving: JoinSet<()>,
    /// What encrypts for clients, where they come by TLS.
    tls_clients: JoinSet<()>,
    pub(crate) closed_circuits: Arc<AtomicUsize>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut HttpSettings)) -> Self {
        let mut settings = HttpSettings { http2_without_tls: true, ..HttpSettings::default() };
        change(&mut settings);
        let (opened, connections) = mpsc::unbounded_channel();
        let upstream = Arc::new(OneOrigin { opened, tasks: Mutex::default() });
        let proxy = Proxy::new(Arc::new(settings), Pages::default(), upstream);
        Self { connections, ..Self::of(proxy) }
    }

    /// With a proxy that has its own way to an origin.
    pub(crate) fn of(proxy: Arc<Proxy>) -> Self {
        let (_, connections) = mpsc::unbounded_channel();
        let closed_circuits = Arc::default();
        let (serving, tls_clients) = Default::default();
        Self { proxy, connections, serving, tls_clients, closed_circuits }
    }

    /// A client opens a stream on circuit 1.
    pub(crate) fn client(&mut self) -> DuplexStream {
        self.client_on(1)
    }

    /// A client opens a stream.
    pub(crate) fn client_on(&mut self, circuit: u64) -> DuplexStream {
        self.client_by(circuit, |stream| stream)
    }

    /// A client opens a stream, which comes to the proxy as this makes it.
    pub(crate) fn client_by<S>(
        &mut self,
        circuit: u64,
        make: impl FnOnce(DuplexStream) -> S,
    ) -> DuplexStream
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (client, stream) = duplex(STREAM);
        let stream = make(stream);
        let visitor = Visitor { circuit, port: 80, onion: "a.onion".into(), tls: false };
        let (proxy, closed) = (Arc::clone(&self.proxy), Arc::clone(&self.closed_circuits));
        if let Some(ends) = over_tls::ends() {
            let (near, far) = duplex(STREAM);
            self.tls_clients.spawn(ends.clone().client(far, client));
            self.serving.spawn(async move {
                ends.tls.serve(&proxy, stream, visitor, CountCloses(closed)).await;
            });
            return near;
        }
        self.serving.spawn(async move {
            proxy.serve(stream, visitor, CountCloses(closed)).await;
        });
        client
    }

    /// A client that has sent this.
    pub(crate) async fn asking(&mut self, request: &str) -> DuplexStream {
        let mut client = self.client();
        client.write_all(request.as_bytes()).await.unwrap();
        client
    }

    /// The next connection that the proxy opens to the origin.
    pub(crate) async fn origin(&mut self) -> DuplexStream {
        self.connections.recv().await.unwrap()
    }

    /// Nobody has asked the origin for anything.
    pub(crate) fn origin_is_untouched(&mut self) -> bool {
        self.connections.try_recv().is_err()
    }

    /// Waits until the stream of a client has been served.
    pub(crate) async fn served(&mut self) {
        self.serving.join_next().await.unwrap().unwrap();
    }

    /// Answers a client's GET with an origin's raw bytes, the connection then
    /// closed, and returns everything that the client gets until its stream ends.
    pub(crate) async fn exchange(&mut self, request: &str, response: &[u8]) -> String {
        let mut client = self.asking(request).await;
        let mut origin = self.origin().await;
        read_head(&mut origin).await;
        let answering = async {
            // The proxy may well hang up before everything is sent.
            let _ = origin.write_all(response).await;
            drop(origin);
        };
        let ((), answer) = tokio::join!(answering, read_all(&mut client));
        answer
    }

    pub(crate) fn status(&self) -> HttpStatus {
        self.proxy.status()
    }

    pub(crate) fn failures(&self, name: &str) -> u64 {
        self.status().failures.get(name).copied().unwrap_or(0)
    }
}

struct CountCloses(Arc<AtomicUsize>);

impl CircuitControl for CountCloses {
    fn close(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Opens a connection for each request, by hyper's client.
struct OneOrigin {
    opened: mpsc::UnboundedSender<DuplexStream>,
    tasks: Mutex<JoinSet<()>>,
}

impl Upstream for OneOrigin {
    fn answer<'a>(
        &'a self,
        request: Request<Body>,
        _: &'a Visitor,
    ) -> BoxFuture<'a, Result<Response<Body>, Failure>> {
        async {
            use http_body_util::BodyExt as _;
            let (near, far) = duplex(STREAM);
            self.opened.send(far).map_err(|_| Failure::OriginUnreachable)?;
            let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
                .preserve_header_case(true)
                .max_buf_size(16 * 1024)
                .handshake(TokioIo::new(near))
                .await
                .map_err(|_| Failure::OriginBroken)?;
            self.tasks.lock().unwrap().spawn(async {
                let _ = connection.with_upgrades().await;
            });
            let response = sender.send_request(request).await.map_err(|_| Failure::OriginBroken)?;
            let mut response = response.map(|body| body.map_err(Into::into).boxed_unsync());
            response.extensions_mut().insert(FromOrigin(0));
            Ok(response)
        }
        .boxed()
    }
}

/// Reads up to and with the empty line that ends a head.
pub(crate) async fn read_head(stream: &mut DuplexStream) -> String {
    read_until(stream, "\r\n\r\n").await
}

/// Reads up to and with this.
pub(crate) async fn read_until(stream: &mut DuplexStream, end: &str) -> String {
    let mut read = Vec::new();
    while !read.ends_with(end.as_bytes()) {
        let byte = stream.read_u8().await;
        read.push(byte.unwrap_or_else(|error| {
            panic!("{error} after {:?}", String::from_utf8_lossy(&read));
        }));
    }
    String::from_utf8(read).unwrap()
}

/// Reads until the stream ends.
pub(crate) async fn read_all(stream: &mut DuplexStream) -> String {
    let mut read = Vec::new();
    stream.read_to_end(&mut read).await.unwrap();
    String::from_utf8(read).unwrap()
}

/// Whether the other side has gone, once it has nothing more to say.
pub(crate) async fn ended(stream: &mut DuplexStream) -> bool {
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
    stream.write_all(&[0; 2 * STREAM]).await.is_err()
}

/// The status of a raw response.
pub(crate) fn status(response: &str) -> u16 {
    let line = response.lines().next().unwrap_or_default();
    line.split(' ').nth(1).unwrap_or_else(|| panic!("{response:?}")).parse().unwrap()
}

/// Longer than anything takes that makes progress.
pub(crate) const LONG: Duration = Duration::from_secs(3600 * 24);

pub(crate) const GET: &str = "GET /x?y HTTP/1.1\r\nHost: a.onion\r\n\r\n";
pub(crate) const LAST_GET: &str = "GET /x?y HTTP/1.1\r\nHost: a.onion\r\nConnection: close\r\n\r\n";

/// An upstream that never answers.
pub(crate) struct Silent;

impl Upstream for Silent {
    fn answer<'a>(
        &'a self,
        _: Request<Body>,
        _: &'a Visitor,
    ) -> BoxFuture<'a, Result<Response<Body>, Failure>> {
        std::future::pending().boxed()
    }
}

//! Clients that speak HTTP/2 without asking first.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt as _;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Bytes, Frame};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use onionbraid_proxy::settings::OriginProtocol;
use tokio::io::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, ReadBuf,
};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::world::{World, ended, read_head, read_until};

type Body = http_body_util::combinators::BoxBody<Bytes, std::convert::Infallible>;

/// A client of HTTP/2, and who drives its connection.
async fn client(world: &mut World) -> (SendRequest<Body>, JoinSet<hyper::Result<()>>) {
    let stream = TokioIo::new(world.client());
    let (sender, connection) = Builder::new(TokioExecutor::new()).handshake(stream).await.unwrap();
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    (sender, driver)
}

fn body(text: &'static str) -> Body {
    Full::new(Bytes::from(text)).boxed()
}

fn get(uri: &str) -> Request<Body> {
    Request::get(uri).body(body("")).unwrap()
}

#[tokio::test(start_paused = true)]
pub(crate) async fn a_request_and_its_trailers_become_http_1_and_back() {
    let mut world = World::new();
    let (mut sender, _driver) = client(&mut world).await;
    let mut trailers = hyper::HeaderMap::new();
    trailers.insert("sum", "1".parse().unwrap());
    let frames = [Frame::data(Bytes::from("hi")), Frame::trailers(trailers)].map(Ok);
    let request = Request::post("http://a.onion/x?y")
        .header("trailer", "sum")
        .header("te", "trailers")
        .body(StreamBody::new(futures::stream::iter(frames)).boxed())
        .unwrap();
    let answering = async {
        let mut origin = world.origin().await;
        let head = read_head(&mut origin).await.to_ascii_lowercase();
        assert!(head.starts_with("post /x?y http/1.1\r\n"), "{head}");
        assert!(head.contains("\r\nhost: a.onion\r\n"), "{head}");
        read_until(&mut origin, "sum: 1\r\n\r\n").await;
        let response = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: sum\r\n\
                         Keep-Alive: timeout=5\r\n\r\n2\r\nho\r\n0\r\nSum: 2\r\n\r\n";
        origin.write_all(response).await.unwrap();
    };
    let (response, ()) = tokio::join!(sender.send_request(request), answering);
    let response = response.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert!(!response.headers().contains_key("keep-alive"));
    assert!(!response.headers().contains_key("transfer-encoding"));
    let collected = response.into_body().collect().await.unwrap();
    assert_eq!(collected.trailers().unwrap()["sum"], "2");
    assert_eq!(collected.to_bytes(), "ho");
}

#[tokio::test(start_paused = true)]
pub(crate) async fn requests_of_one_connection_do_not_wait_for_each_other() {
    let mut world = World::new();
    let (mut sender, _driver) = client(&mut world).await;
    let mut answers = JoinSet::new();
    let mut origins = BTreeMap::new();
    for path in ["/a", "/b", "/c"] {
        answers.spawn(sender.send_request(get(&format!("http://a.onion{path}"))));
        let mut origin = world.origin().await;
        let head = read_head(&mut origin).await;
        origins.insert(head.split(' ').nth(1).unwrap().to_owned(), origin);
    }
    let response = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
    origins.get_mut("/c").unwrap().write_all(response).await.unwrap();
    let first = answers.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!(first.into_body().collect().await.unwrap().to_bytes(), "hi");
    assert!(answers.join_next().now_or_never().is_none());
}

#[tokio::test(start_paused = true)]
pub(crate) async fn what_http_1_could_misread_is_refused() {
    let mut world = World::new();
    let (mut sender, _driver) = client(&mut world).await;
    let plain = || Request::get("http://a.onion/");
    let refused = [
        plain().header("host", "b.onion"),
        plain().header("transfer_encoding", "chunked"),
        plain().header("content_length", "5"),
        Request::get("http://x@a.onion/"),
    ];
    for request in refused {
        let response = sender.send_request(request.body(body("")).unwrap()).await.unwrap();
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    }
    let many = (0..200).fold(plain(), |request, n| request.header("x", n));
    let response = sender.send_request(many.body(body("")).unwrap()).await.unwrap();
    assert_eq!(response.status(), StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    let connect = Request::builder().method(Method::CONNECT).uri("a.onion:80");
    let response = sender.send_request(connect.body(body("")).unwrap()).await.unwrap();
    assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert!(world.origin_is_untouched());
}

#[tokio::test(start_paused = true)]
pub(crate) async fn fields_of_one_connection_are_refused_by_the_protocol() {
    // hyper's client does not send them, so this is done by hand: the preface,
    // SETTINGS, and HEADERS with `connection: x` (HPACK literals).
    let mut world = World::new();
    let mut stream = world.client();
    let mut block = vec![0x82, 0x86, 0x84, 0x41, 7];
    block.extend(b"a.onion");
    block.extend([0, 10]);
    block.extend(b"connection");
    block.extend([1, b'x']);
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend([0, 0, 0, 4, 0, 0, 0, 0, 0]);
    bytes.extend([0, 0, u8::try_from(block.len()).unwrap(), 1, 0b101, 0, 0, 0, 1]);
    bytes.extend(block);
    stream.write_all(&bytes).await.unwrap();
    // RST_STREAM of stream 1 with PROTOCOL_ERROR (RFC 9113, section 8.2.2).
    let reset = [0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, 1];
    let mut read = Vec::new();
    while !read.ends_with(&reset) {
        read.push(stream.read_u8().await.unwrap());
    }
    assert!(world.origin_is_untouched());
}

#[tokio::test(start_paused = true)]
pub(crate) async fn a_connection_without_requests_is_closed() {
    let mut world = World::with(|settings| settings.guard.head_timeout = Duration::from_secs(10));
    let (mut sender, mut driver) = client(&mut world).await;
    let answering = async {
        let mut origin = world.origin().await;
        tokio::time::sleep(Duration::from_secs(100)).await;
        origin.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    };
    let (response, ()) = tokio::join!(sender.send_request(get("http://a.onion/")), answering);
    assert_eq!(response.unwrap().status(), StatusCode::OK);
    let start = Instant::now();
    driver.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!(start.elapsed().as_secs(), 10);
    world.served().await;
}

/// A stream as Tor's are: a flush sends the last that was written, and may wait.
struct Flushed {
    stream: DuplexStream,
    written: bool,
}

impl AsyncRead for Flushed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        space: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, space)
    }
}

impl AsyncWrite for Flushed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.written = true;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if std::mem::take(&mut self.written) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[tokio::test(start_paused = true)]
pub(crate) async fn a_connection_whose_last_flush_had_to_wait_is_closed_all_the_same() {
    let mut world = World::with(|settings| settings.guard.head_timeout = Duration::from_secs(10));
    let stream = world.client_by(1, |stream| Flushed { stream, written: false });
    let (mut sender, connection) =
        Builder::new(TokioExecutor::new()).handshake(TokioIo::new(stream)).await.unwrap();
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let answering = async {
        let mut origin = world.origin().await;
        origin.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").await.unwrap();
    };
    let (response, ()) = tokio::join!(sender.send_request(get("http://a.onion/")), answering);
    assert_eq!(response.unwrap().into_body().collect().await.unwrap().to_bytes(), "hi");
    let start = Instant::now();
    driver.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!(start.elapsed().as_secs(), 10);
    world.served().await;
}

#[tokio::test(start_paused = true)]
pub(crate) async fn a_connection_has_no_more_streams_than_its_circuit_gets_at_the_origin() {
    for (protocol, streams) in [(OriginProtocol::Http1, 100), (OriginProtocol::Http2, 64)] {
        let mut world = World::with(|settings| settings.origins.protocol = protocol);
        let mut stream = world.client();
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        stream.write_all(&frame(4, 0, 0, &[])).await.unwrap();
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.unwrap();
        assert_eq!(head[..4], [0, 0, head[2], 4]);
        let mut settings = vec![0; head[2].into()];
        stream.read_exact(&mut settings).await.unwrap();
        // SETTINGS_MAX_CONCURRENT_STREAMS (RFC 9113, section 6.5.2).
        let announced = settings.chunks(6).find(|setting| setting[..2] == [0, 3]).unwrap();
        assert_eq!(announced[2..], [0, 0, 0, streams]);
    }
}

#[tokio::test(start_paused = true)]
pub(crate) async fn a_stream_that_nobody_reads_ends_alone() {
    let mut world = World::with(|settings| settings.origins.idle_timeout = Duration::from_secs(20));
    let (mut sender, _driver) = client(&mut world).await;
    let stalled = sender.send_request(get("http://a.onion/stalled"));
    let pouring = async {
        let mut origin = world.origin().await;
        read_head(&mut origin).await;
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n";
        origin.write_all(head).await.unwrap();
        (origin, world)
    };
    let (response, (mut origin, mut world)) = tokio::join!(stalled, pouring);
    let response = response.unwrap();
    let start = Instant::now();
    let mut poured = 0;
    while origin.write_all(&[b'x'; 1024]).await.is_ok() {
        poured += 1024;
    }
    assert_eq!(start.elapsed().as_secs(), 20);
    assert!(poured < 4 * 1024 * 1024, "{poured}");
    assert!(response.into_body().collect().await.is_err());
    let answering = async {
        let mut origin = world.origin().await;
        origin.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").await.unwrap();
    };
    let (response, ()) = tokio::join!(sender.send_request(get("http://a.onion/next")), answering);
    assert_eq!(response.unwrap().into_body().collect().await.unwrap().to_bytes(), "hi");
}

/// A frame of HTTP/2, by hand.
fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags, 0, 0, 0, stream]);
    frame.extend(payload);
    frame
}

/// The head of a request to `a.onion`, by hand; `method` as in HPACK's table.
fn headers(method: u8, flags: u8, stream: u8) -> Vec<u8> {
    let block = [&[method, 0x86, 0x84, 0x41, 7][..], b"a.onion"].concat();
    frame(1, flags, stream, &block)
}

#[tokio::test(start_paused = true)]
pub(crate) async fn a_client_that_reads_nothing_is_left_though_it_keeps_a_request_alive() {
    let mut world = World::with(|settings| settings.origins.idle_timeout = Duration::from_secs(20));
    let mut stream = world.client();
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    // Streams and a connection that may send a great deal; a POST without end
    // and three GETs.
    bytes.extend(frame(4, 0, 0, &[0, 4, 0, 16, 0, 0]));
    bytes.extend(frame(8, 0, 0, &(1_u32 << 30).to_be_bytes()));
    bytes.extend(headers(0x83, 0b100, 1));
    stream.write_all(&bytes).await.unwrap();
    let mut posted = world.origin().await;
    read_head(&mut posted).await;
    let mut pouring = JoinSet::new();
    for asked in [3, 5, 7] {
        stream.write_all(&headers(0x82, 0b101, asked)).await.unwrap();
        let mut origin = world.origin().await;
        pouring.spawn(async move {
            read_head(&mut origin).await;
            let head = b"HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n";
            origin.write_all(head).await.unwrap();
            let mut poured = 0;
            while origin.write_all(&[b'x'; 1024]).await.is_ok() {
                poured += 1024;
            }
            poured
        });
    }
    let start = Instant::now();
    let dripping = async {
        while stream.write_all(&frame(0, 0, 1, b"x")).await.is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    dripping.await;
    assert!((20..=21).contains(&start.elapsed().as_secs()));
    world.served().await;
    while let Some(poured) = pouring.join_next().await {
        // With what the way to the origin holds.
        assert!(poured.unwrap() < 64 * 1024);
    }
}

/// Asks for so many answers of this length over one connection on which 3,000
/// bytes a second come to the client, and waits until it has all of them.
async fn read_slowly(mut world: World, answers: usize, length: usize) {
    let (mut far, (near, mut through)) = (world.client(), tokio::io::duplex(4096));
    let mut slowly = JoinSet::new();
    slowly.spawn(async move {
        let (mut from_proxy, mut to_proxy) = tokio::io::split(&mut far);
        let (mut from_client, mut to_client) = tokio::io::split(&mut through);
        let down = async {
            let mut space = [0; 3000];
            while let Ok(length @ 1..) = from_proxy.read(&mut space).await {
                to_client.write_all(&space[..length]).await.unwrap();
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        tokio::select! {
            _ = tokio::io::copy(&mut from_client, &mut to_proxy) => {}
            () = down => {}
        }
    });
    let (mut sender, connection) = Builder::new(TokioExecutor::new())
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(1 << 24)
        .handshake(TokioIo::new(near))
        .await
        .unwrap();
    slowly.spawn(async { connection.await.unwrap() });
    let mut pouring = JoinSet::new();
    let mut reading = JoinSet::new();
    for _ in 0..answers {
        let response = sender.send_request(get("http://a.onion/"));
        reading.spawn(async { response.await.unwrap().into_body().collect().await });
        let mut origin = world.origin().await;
        pouring.spawn(async move {
            read_head(&mut origin).await;
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
            origin.write_all(head.as_bytes()).await.unwrap();
            origin.write_all(&vec![b'x'; length]).await.unwrap();
        });
    }
    while let Some(read) = reading.join_next().await {
        assert_eq!(read.unwrap().unwrap().to_bytes().len(), length);
    }
    assert!(world.status().failures.is_empty());
}

#[tokio::test(start_paused = true)]
pub(crate) async fn slow_streams_of_one_connection_all_get_their_answers() {
    let world = World::with(|settings| settings.origins.idle_timeout = Duration::from_secs(20));
    read_slowly(world, 5, 50_000).await;
}

#[tokio::test(start_paused = true)]
pub(crate) async fn the_ends_of_many_answers_are_waited_for() {
    let world = World::with(|settings| settings.guard.head_timeout = Duration::from_secs(10));
    read_slowly(world, 20, 8_000).await;
}

#[tokio::test(start_paused = true)]
pub(crate) async fn our_own_answer_to_head_has_a_length_and_no_body() {
    let mut world = World::new();
    let (mut sender, _driver) = client(&mut world).await;
    let refused = Request::head("http://a.onion/").header("host", "b.onion").body(body(""));
    let response = sender.send_request(refused.unwrap()).await.unwrap();
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    assert_ne!(response.headers()["content-length"], "0");
    assert!(response.into_body().collect().await.unwrap().to_bytes().is_empty());
}

#[tokio::test(start_paused = true)]
pub(crate) async fn a_client_that_leaves_takes_its_requests_along() {
    let mut world = World::new();
    let (mut sender, _driver) = client(&mut world).await;
    let mut asking = JoinSet::new();
    asking.spawn(sender.send_request(get("http://a.onion/")));
    let mut origin = world.origin().await;
    read_head(&mut origin).await;
    asking.shutdown().await;
    drop(sender);
    assert!(ended(&mut origin).await);
    world.served().await;
    assert_eq!(world.failures("client_gone"), 1);
}

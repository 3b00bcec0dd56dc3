//! The whole way: a client's stream, the proxy, its pool of connections, and
//! an origin behind a socket. On a clock that runs, since sockets do not wait
//! for one that stands still.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use hyper::body::Bytes;
use hyper::{Request, Response};
use onionbraid_proxy::body::{self, Body};
use onionbraid_proxy::failure::Failure;
use onionbraid_proxy::headers::OwnNames;
use onionbraid_proxy::http::Proxy;
use onionbraid_proxy::origins::Origins;
use onionbraid_proxy::pages::Pages;
use onionbraid_proxy::rules::{HttpOrigin, Origin};
use onionbraid_proxy::settings::{BlockRule, HttpSettings, OriginProtocol};
use onionbraid_proxy::upstream::Upstream;
use onionbraid_proxy::visitor::Visitor;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;

use crate::world::{GET, LAST_GET, World, read_all, read_head, read_until, status};

/// A proxy before an origin that listens.
async fn world(settings: HttpSettings) -> (World, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    (world_at(listener.local_addr().unwrap(), settings), listener)
}

/// A proxy before whoever listens there.
fn world_at(address: SocketAddr, settings: HttpSettings) -> World {
    let address = Origin::Tcp(address);
    let origins = Origins::new(&[HttpOrigin { address, tls: false }], &settings).unwrap();
    World::of(Proxy::new(Arc::new(settings), Pages::default(), origins))
}

/// Reads up to the end of a head.
async fn head(origin: &mut TcpStream) -> String {
    let mut read = Vec::new();
    while !read.ends_with(b"\r\n\r\n") {
        read.push(origin.read_u8().await.unwrap());
    }
    String::from_utf8(read).unwrap().to_ascii_lowercase()
}

#[tokio::test]
async fn requests_share_a_connection_to_the_origin_and_are_counted() {
    let (mut world, listener) = world(HttpSettings::default()).await;
    let mut client = world.client();
    let mut origin = None;
    for _ in 0..2 {
        client.write_all(GET.as_bytes()).await.unwrap();
        if origin.is_none() {
            origin = Some(listener.accept().await.unwrap().0);
        }
        let origin = origin.as_mut().unwrap();
        assert!(head(origin).await.starts_with("get /x?y http/1.1\r\n"));
        origin.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").await.unwrap();
        assert_eq!(status(&read_until(&mut client, "hi").await), 200);
    }
    let origins = world.status().origins;
    assert_eq!((origins.len(), origins[0].requests, origins[0].failures), (1, 2, 0));
}

/// Answers with what it was told of the scheme and `Origin`.
struct Echo(bool);

impl Upstream for Echo {
    fn answer<'a>(
        &'a self,
        request: Request<Body>,
        _: &'a Visitor,
    ) -> BoxFuture<'a, Result<Response<Body>, Failure>> {
        let field = |name: &str| request.headers()[name].to_str().unwrap();
        let said = format!("{} {}", field("x-forwarded-proto"), field("origin"));
        std::future::ready(Ok(Response::new(body::full(said)))).boxed()
    }

    fn own(&self) -> OwnNames {
        let address = Origin::Name("web".to_owned(), 8443);
        OwnNames::of(&[HttpOrigin { address, tls: self.0 }], None)
    }
}

#[tokio::test]
async fn an_origin_is_told_the_scheme_that_it_sees() {
    for (tls, proto, says) in [
        (false, None, "http http://a.onion"),
        (true, None, "https https://a.onion"),
        (false, Some("https"), "https https://a.onion"),
    ] {
        let mut settings = HttpSettings::default();
        settings.headers.proto = proto;
        let proxy = Proxy::new(Arc::new(settings), Pages::default(), Arc::new(Echo(tls)));
        let ask = LAST_GET.replace("\r\n\r\n", "\r\nOrigin: http://a.onion\r\n\r\n");
        let mut world = World::of(proxy);
        let answer = read_all(&mut world.asking(&ask).await).await;
        assert!(answer.ends_with(&format!("\r\n\r\n{says}")), "{answer}");
    }
}

#[tokio::test]
async fn an_upgrade_passes_the_pool() {
    let (mut world, listener) = world(HttpSettings::default()).await;
    let ask =
        "GET / HTTP/1.1\r\nHost: a.onion\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    let mut client = world.asking(ask).await;
    let (mut origin, _) = listener.accept().await.unwrap();
    assert!(head(&mut origin).await.contains("\r\nupgrade: websocket\r\n"));
    let agree = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n\
                  Upgrade: websocket\r\n\r\nhello";
    origin.write_all(agree).await.unwrap();
    assert_eq!(status(&read_head(&mut client).await), 101);
    assert_eq!(read_until(&mut client, "hello").await, "hello");
    client.write_all(b"ping").await.unwrap();
    let mut ping = [0; 4];
    origin.read_exact(&mut ping).await.unwrap();
    assert_eq!(&ping, b"ping");
    drop(origin);
    assert_eq!(read_all(&mut client).await, "");
    world.served().await;
    assert!(world.status().failures.is_empty());
}

/// Serves one connection as uvicorn with httptools does: what follows a head that
/// asks for an upgrade is no content, whatever it says of its length, but the next
/// request. Notes the request lines.
async fn ignore_content_of_upgrades(mut origin: TcpStream, seen: Arc<Mutex<Vec<String>>>) {
    loop {
        let mut read = Vec::new();
        while !read.ends_with(b"\r\n\r\n") {
            let Ok(byte) = origin.read_u8().await else { return };
            read.push(byte);
        }
        let head = String::from_utf8(read).unwrap().to_ascii_lowercase();
        let line = head.lines().next().unwrap_or_default().to_owned();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if !head.contains("\r\nupgrade:") {
            let mut content = vec![0; length.map_or(0, |length| length.parse().unwrap())];
            origin.read_exact(&mut content).await.unwrap();
        }
        seen.lock().unwrap().push(line.clone());
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{line}", line.len());
        if origin.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn nothing_is_smuggled_in_the_content_of_an_upgrade() {
    let smuggled = "GET /admin HTTP/1.1\r\nHost: a.onion\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n";
    for (method, protocol) in
        [("POST", "foo"), ("POST", "websocket"), ("GET", "websocket"), ("GET", "h2c")]
    {
        let mut settings = HttpSettings::default();
        let admin = BlockRule { path: Some("/admin".into()), status: 403, ..BlockRule::default() };
        settings.guard.block = vec![admin];
        let (mut world, listener) = world(settings).await;
        let seen = Arc::<Mutex<Vec<String>>>::default();
        let mut serving = JoinSet::new();
        let noted = Arc::clone(&seen);
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((connection, _)) = listener.accept().await {
                connections.spawn(ignore_content_of_upgrades(connection, Arc::clone(&noted)));
            }
        });
        let head = format!(
            "{method} / HTTP/1.1\r\nHost: a.onion\r\nConnection: upgrade\r\nUpgrade: {protocol}\r\n\
             Content-Length: {}\r\n\r\n",
            smuggled.len()
        );
        let mut attacker = world.asking(&head).await;
        let begun = async {
            // An origin that ignores the content has answered; another waits for it.
            let answering = read_head(&mut attacker);
            tokio::time::timeout(Duration::from_millis(200), answering).await.is_ok()
        };
        let before = begun.await;
        // The proxy may have hung up.
        let _ = attacker.write_all(smuggled.as_bytes()).await;
        if !before {
            assert_eq!(status(&read_head(&mut attacker).await), 200);
        }
        let mut victim = world.client_on(2);
        victim.write_all(b"GET /mine HTTP/1.1\r\nHost: a.onion\r\n\r\n").await.unwrap();
        assert_eq!(status(&read_until(&mut victim, "get /mine http/1.1").await), 200);
        let seen = seen.lock().unwrap().clone();
        assert!(!seen.iter().any(|line| line.contains("/admin")), "{protocol}: {seen:?}");
        assert_eq!(seen.len(), 2, "{protocol}: {seen:?}");
    }
}

/// What an attacker sends as a body: a request of its own, past `block`.
const SMUGGLED: &[u8] = b"GET /admin/slow HTTP/1.1\r\nHost: x\r\nX-Forwarded-Host: forged\r\n\r\n";

/// The origin answers a head of which the body is to come. Nothing more reaches it on this
/// connection, which ends.
async fn answers_early(listener: &TcpListener) -> TcpStream {
    let (mut origin, _) = listener.accept().await.unwrap();
    head(&mut origin).await;
    origin.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly").await.unwrap();
    origin
}

/// Nothing of a body has come, or comes, and a victim gets a connection of its own.
async fn nothing_is_smuggled(world: &mut World, listener: &TcpListener, mut origin: TcpStream) {
    let mut late = Vec::new();
    // A reset is an end as well.
    let reading = origin.read_to_end(&mut late);
    let ended = tokio::time::timeout(Duration::from_secs(60), reading).await;
    assert!(ended.is_ok(), "it stays open");
    assert_eq!(String::from_utf8_lossy(&late), "");
    let mut victim = world.client_on(2);
    victim.write_all(b"GET /victim HTTP/1.1\r\nHost: a.onion\r\n\r\n").await.unwrap();
    let (mut origin, _) = listener.accept().await.unwrap();
    assert!(head(&mut origin).await.starts_with("get /victim http/1.1\r\n"));
    origin.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nmine").await.unwrap();
    assert_eq!(status(&read_until(&mut victim, "mine").await), 200);
}

#[tokio::test]
async fn a_body_that_comes_after_the_answer_goes_nowhere() {
    for first in [
        "POST / HTTP/1.1\r\nHost: a.onion\r\n",
        "GET / HTTP/1.1\r\nHost: a.onion\r\n",
        "POST / HTTP/1.1\r\nHost: a.onion\r\nExpect: 100-continue\r\n",
        "POST / HTTP/1.1\r\nHost: a.onion\r\nConnection: close\r\n",
        "POST / HTTP/1.0\r\nHost: a.onion\r\n",
        "GET / HTTP/1.1\r\nHost: a.onion\r\nConnection: upgrade\r\nUpgrade: foo\r\n",
    ] {
        let (mut world, listener) = world(HttpSettings::default()).await;
        let length = SMUGGLED.len();
        let mut attacker = world.asking(&format!("{first}Content-Length: {length}\r\n\r\n")).await;
        let origin = answers_early(&listener).await;
        let answer = read_until(&mut attacker, "early").await;
        assert!(answer.contains(" 200 OK\r\n"), "{answer}");
        // The proxy may have hung up.
        let _ = attacker.write_all(SMUGGLED).await;
        nothing_is_smuggled(&mut world, &listener, origin).await;
        assert!(world.failures("origin_broken") == 0, "{first}");
    }
}

#[tokio::test]
async fn a_chunked_body_that_comes_after_the_answer_goes_nowhere() {
    let (mut world, listener) = world(HttpSettings::default()).await;
    let ask = "POST / HTTP/1.1\r\nHost: a.onion\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut attacker = world.asking(ask).await;
    let origin = answers_early(&listener).await;
    read_until(&mut attacker, "early").await;
    let _ = attacker.write_all(b"3f\r\n").await;
    let _ = attacker.write_all(SMUGGLED).await;
    let _ = attacker.write_all(b"\r\n0\r\n\r\n").await;
    nothing_is_smuggled(&mut world, &listener, origin).await;
}

#[tokio::test]
async fn a_body_over_http_2_that_comes_after_the_answer_goes_nowhere() {
    for (method, length) in [("POST", true), ("GET", true), ("POST", false)] {
        let settings = HttpSettings { http2_without_tls: true, ..HttpSettings::default() };
        let (mut world, listener) = world(settings).await;
        let client = world.client();
        let (mut requests, connection) = h2::client::handshake(client).await.unwrap();
        let mut driving = JoinSet::new();
        driving.spawn(async move { drop(connection.await) });
        let mut ask = Request::builder().method(method).uri("http://a.onion/");
        if length {
            ask = ask.header("content-length", SMUGGLED.len());
        }
        let (answer, mut sending) = requests.send_request(ask.body(()).unwrap(), false).unwrap();
        let origin = answers_early(&listener).await;
        let mut answer = answer.await.unwrap().into_body();
        let mut text = Vec::new();
        while let Some(data) = answer.data().await {
            let data = data.unwrap();
            text.extend_from_slice(&data);
            answer.flow_control().release_capacity(data.len()).unwrap();
        }
        assert_eq!(text, b"early");
        let _ = sending.send_data(SMUGGLED.into(), true);
        nothing_is_smuggled(&mut world, &listener, origin).await;
        // The client is spared the rest, and its connection stays (RFC 9113, section 8.1).
        assert!(requests.ready().await.is_ok());
    }
}

#[tokio::test]
async fn a_connection_on_which_an_upgrade_was_not_granted_serves_nobody_else() {
    let mut settings = HttpSettings::default();
    settings.origins.keep_alive = Duration::from_secs(3600);
    let (mut world, listener) = world(settings).await;
    let ask =
        "GET / HTTP/1.1\r\nHost: a.onion\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    let mut client = world.asking(ask).await;
    let (mut origin, _) = listener.accept().await.unwrap();
    head(&mut origin).await;
    origin.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno").await.unwrap();
    assert_eq!(status(&read_until(&mut client, "no").await), 403);
    let mut space = [0];
    let closed = tokio::time::timeout(Duration::from_secs(60), origin.read(&mut space)).await;
    assert_eq!(closed.expect("it stays open").unwrap(), 0);
    client.write_all(GET.as_bytes()).await.unwrap();
    let (mut origin, _) = listener.accept().await.unwrap();
    head(&mut origin).await;
    origin.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").await.unwrap();
    assert_eq!(status(&read_until(&mut client, "hi").await), 200);
}

#[tokio::test]
async fn a_body_that_turns_out_too_long_is_not_the_origins_fault() {
    let mut settings = HttpSettings::default();
    settings.guard.max_body_bytes = Some(10);
    let (mut world, listener) = world(settings).await;
    let put = "PUT / HTTP/1.1\r\nHost: a.onion\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut client = world.asking(&format!("{put}b\r\n01234567890\r\n")).await;
    let (_origin, _) = listener.accept().await.unwrap();
    assert_eq!(status(&read_all(&mut client).await), 413);
    assert_eq!(world.status().origins[0].failures, 0);
    assert_eq!(world.failures("body_too_large"), 1);
}

#[tokio::test]
async fn without_any_origin_the_client_gets_a_page() {
    // Nobody listens there, and nobody else is given the port.
    let dead = TcpSocket::new_v4().unwrap();
    dead.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let mut world = world_at(dead.local_addr().unwrap(), HttpSettings::default());
    let mut client = world.asking(LAST_GET).await;
    let answer = read_all(&mut client).await;
    assert!(matches!(status(&answer), 502 | 503) && answer.contains("</html>"), "{answer}");
    assert_eq!(world.status().by_class.server_error, 1);
}

#[tokio::test]
async fn an_answer_whose_end_is_said_after_its_last_byte_is_a_success() {
    for (code, body) in [(200, "hi"), (304, "")] {
        let mut settings = HttpSettings::default();
        settings.origins.protocol = OriginProtocol::Http2;
        let (mut world, listener) = world(settings).await;
        let (ends, end) = tokio::sync::oneshot::channel::<()>();
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let (connection, _) = listener.accept().await.unwrap();
            let mut connection = h2::server::handshake(connection).await.unwrap();
            let (_request, mut respond) = connection.accept().await.unwrap().unwrap();
            let response = hyper::Response::builder().status(code).header("content-length", "2");
            let mut answer = respond.send_response(response.body(()).unwrap(), false).unwrap();
            answer.send_data(body.into(), false).unwrap();
            tokio::select! {
                _ = connection.accept() => {}
                _ = end => {}
            }
        });
        let mut client = world.asking(LAST_GET).await;
        let answer = read_all(&mut client).await;
        assert_eq!(status(&answer), code);
        assert!(answer.ends_with(&format!("\r\n\r\n{body}")), "{answer}");
        world.served().await;
        drop(ends);
        let http = world.status();
        assert!(http.failures.is_empty(), "{:?}", http.failures);
        assert_eq!(http.by_class.success + http.by_class.redirection, 1);
    }
}

/// Answers everything at once.
struct Ready;

impl Upstream for Ready {
    fn answer<'a>(
        &'a self,
        _: Request<Body>,
        _: &'a Visitor,
    ) -> BoxFuture<'a, Result<Response<Body>, Failure>> {
        std::future::ready(Ok(Response::new(body::full("answer")))).boxed()
    }
}

#[tokio::test]
async fn nothing_is_kept_of_unread_answers_once_their_clients_have_gone() {
    const CIRCUITS: u64 = 20;
    const STREAMS: u64 = 100;
    let settings = HttpSettings { http2_without_tls: true, ..HttpSettings::default() };
    let mut world = World::of(Proxy::new(Arc::new(settings), Pages::default(), Arc::new(Ready)));
    let mut clients = JoinSet::new();
    let mut answers = Vec::new();
    for circuit in 0..CIRCUITS {
        let client = world.client_on(circuit);
        let mut builder = h2::client::Builder::new();
        let handshake = builder.initial_window_size(0).handshake::<_, Bytes>(client);
        let (mut requests, connection) = handshake.await.unwrap();
        clients.spawn(async move { drop(connection.await) });
        for _ in 0..STREAMS {
            requests = requests.ready().await.unwrap();
            let ask = Request::get("http://a.onion/").body(()).unwrap();
            answers.push((requests.send_request(ask, true).unwrap(), requests.clone()));
        }
    }
    let patience = Duration::from_secs(120);
    let begun = async {
        while world.status().requests < CIRCUITS * STREAMS {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(patience, begun).await.unwrap();
    // Every exchange, and every answer, holds the proxy.
    let held = u64::try_from(Arc::strong_count(&world.proxy)).unwrap();
    assert!(held > CIRCUITS * STREAMS, "{held}");
    drop(answers);
    clients.shutdown().await;
    for _ in 0..CIRCUITS {
        world.served().await;
    }
    let gone = async {
        while Arc::strong_count(&world.proxy) > 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(patience, gone).await.unwrap();
}

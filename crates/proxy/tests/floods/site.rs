//! A proxy and its origin on sockets, and clients that speak raw bytes.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use onionbraid_proxy::http::{CircuitControl, Proxy};
use onionbraid_proxy::origins::Origins;
use onionbraid_proxy::pages::Pages;
use onionbraid_proxy::rules::{HttpOrigin, Origin};
use onionbraid_proxy::settings::{HttpSettings, OriginProtocol};
use onionbraid_proxy::visitor::Visitor;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Mutex, MutexGuard};
use tokio::task::JoinSet;

/// Tests measure the memory of the whole process, so they run one at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// Longer than anything takes that makes progress.
pub(crate) const LONG: Duration = Duration::from_secs(300);

/// What the kernel holds for a socket in either direction, in bytes.
const BUFFER: u32 = 32 * 1024;

/// The large file of the origin, in bytes.
pub(crate) const LARGE: usize = 4 * 1024 * 1024;

pub(crate) struct Site {
    pub(crate) proxy: Arc<Proxy>,
    listener: TcpListener,
    tasks: JoinSet<()>,
    _turn: MutexGuard<'static, ()>,
}

struct NoCircuit;

impl CircuitControl for NoCircuit {
    fn close(&self) {}
}

impl Site {
    pub(crate) async fn with(change: impl FnOnce(&mut HttpSettings)) -> Self {
        let turn = ONE_AT_A_TIME.lock().await;
        let mut settings = HttpSettings { http2_without_tls: true, ..HttpSettings::default() };
        change(&mut settings);
        let origin = listener();
        let address = Origin::Tcp(origin.local_addr().unwrap());
        let protocol = settings.origins.protocol;
        let settings = Arc::new(settings);
        let origins = Origins::new(&[HttpOrigin { address, tls: false }], &settings).unwrap();
        let proxy = Proxy::new(settings, Pages::default(), origins);
        let listener = listener();
        let mut tasks = JoinSet::new();
        match protocol {
            OriginProtocol::Http1 => tasks.spawn(serve_files(origin)),
            OriginProtocol::Http2 => tasks.spawn(serve_http2(origin)),
        };
        Self { proxy, listener, tasks, _turn: turn }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    /// A client opens a stream on this circuit.
    pub(crate) async fn client(&mut self, circuit: u64) -> TcpStream {
        while self.tasks.try_join_next().is_some() {}
        let (client, accepted) =
            tokio::join!(socket().connect(self.address()), self.listener.accept());
        let stream = accepted.unwrap().0;
        let visitor = Visitor { circuit, port: 80, onion: "a.onion".into(), tls: false };
        let proxy = Arc::clone(&self.proxy);
        self.tasks.spawn(async move { proxy.serve(stream, visitor, NoCircuit).await });
        client.unwrap()
    }

    /// Waits until every request has ended.
    pub(crate) async fn nothing_under_way(&self) {
        let ended = async {
            while self.proxy.status().origins[0].in_flight > 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(LONG, ended).await.unwrap();
    }

    /// A client on this circuit asks for a path, and reads everything.
    pub(crate) async fn get(&mut self, circuit: u64, path: &str) -> Vec<u8> {
        let mut client = self.client(circuit).await;
        let request = format!("GET {path} HTTP/1.1\r\nHost: a.onion\r\nConnection: close\r\n\r\n");
        client.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let _ = tokio::time::timeout(LONG, client.read_to_end(&mut answer)).await.unwrap();
        answer
    }
}

/// A socket of which the kernel holds little. What it holds unread of all sockets of the
/// machine is bounded, and beyond the bound it breaks connections of everybody.
fn socket() -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_send_buffer_size(BUFFER).unwrap();
    socket.set_recv_buffer_size(BUFFER).unwrap();
    socket
}

/// Those that it accepts are the same.
fn listener() -> TcpListener {
    let socket = socket();
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    socket.listen(1024).unwrap()
}

/// What is in the large file.
pub(crate) fn large() -> Vec<u8> {
    (0..LARGE / 4).flat_map(|word| u32::try_from(word).unwrap().to_be_bytes()).collect()
}

/// Answers `/large` with a large file, and everything else with a word.
async fn serve_files(listener: TcpListener) {
    let large: Arc<[u8]> = large().into();
    let mut tasks = JoinSet::new();
    while let Ok((mut stream, _)) = listener.accept().await {
        while tasks.try_join_next().is_some() {}
        let large = Arc::clone(&large);
        tasks.spawn(async move {
            let (mut head, mut byte) = (Vec::new(), [0; 256]);
            loop {
                match stream.read(&mut byte).await {
                    Ok(read @ 1..) => head.extend_from_slice(&byte[..read]),
                    _ => return,
                }
                if !head.ends_with(b"\r\n\r\n") {
                    continue;
                }
                if String::from_utf8_lossy(&head).contains("pgrade: websocket") {
                    let agree = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n\
                                  Upgrade: websocket\r\n\r\n";
                    let _ = stream.write_all(agree).await;
                    let (mut reader, mut writer) = stream.split();
                    let _ = tokio::io::copy(&mut reader, &mut writer).await;
                    return;
                }
                let body: &[u8] = if head.starts_with(b"GET /large ") { &large } else { b"word" };
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                if stream.write_all(answer.as_bytes()).await.is_err()
                    || stream.write_all(body).await.is_err()
                {
                    return;
                }
                head.clear();
            }
        });
    }
}

/// The same in HTTP/2, with a hundred streams.
async fn serve_http2(listener: TcpListener) {
    let large = Bytes::from(large());
    let mut tasks = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let large = large.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let is_large = request.uri().path() == "/large";
            let body = if is_large { large.clone() } else { Bytes::from_static(b"word") };
            std::future::ready(Ok::<_, Infallible>(Response::new(Full::new(body))))
        });
        let connection = http2::Builder::new(TokioExecutor::new())
            .max_concurrent_streams(100)
            .serve_connection(TokioIo::new(stream), service);
        tasks.spawn(async move { drop(connection.await) });
    }
}

/// A client of HTTP/2 that lets no body through, and requests on these streams.
pub(crate) fn zero_window(path: &str, requests: u32) -> Vec<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    // SETTINGS_INITIAL_WINDOW_SIZE 0.
    bytes.extend([0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0]);
    for request in 0..requests {
        bytes.extend(headers_frame(2 * request + 1, path));
    }
    bytes
}

/// HEADERS of a GET, in literals that HPACK does not keep.
pub(crate) fn headers_frame(stream: u32, path: &str) -> Vec<u8> {
    let mut block = vec![0x82, 0x86, 0x04, u8::try_from(path.len()).unwrap()];
    block.extend(path.as_bytes());
    block.extend([0x01, 7]);
    block.extend(b"a.onion");
    let mut frame = vec![0, 0, u8::try_from(block.len()).unwrap(), 1, 5];
    frame.extend(stream.to_be_bytes());
    frame.extend(block);
    frame
}

/// Bytes of memory that the process has, shared ones among them.
pub(crate) fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// Waits until memory no longer grows.
pub(crate) async fn settled() -> usize {
    let mut before = resident();
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = resident();
        if now <= before + 256 * 1024 {
            return now;
        }
        before = now;
    }
}

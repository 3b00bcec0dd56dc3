//! Servers that do on each connection exactly what a test says.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use onionbraid_proxy::rules::{HttpOrigin, Origin};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, UnixListener};
use tokio::task::JoinSet;

/// A connection that a server has accepted.
pub(crate) type Accepted = Box<dyn Duplex>;

pub(crate) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A server; it ends when it is dropped.
pub(crate) struct Server {
    pub(crate) origin: HttpOrigin,
    accepted: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl Server {
    /// Runs `script` with the number of each connection, from 0, and the
    /// connection.
    pub(crate) async fn start<S>(script: impl Fn(usize, Accepted) -> S + Send + 'static) -> Self
    where
        S: Future<Output = ()> + Send + 'static,
    {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), script)
    }

    /// The same with a listener that is there already.
    pub(crate) fn on<S>(
        listener: TcpListener,
        script: impl Fn(usize, Accepted) -> S + Send + 'static,
    ) -> Self
    where
        S: Future<Output = ()> + Send + 'static,
    {
        let address = Origin::Tcp(listener.local_addr().unwrap());
        let listener = Listener::Tcp(listener);
        Self::run(address, listener, script)
    }

    /// The same on a Unix socket.
    pub(crate) fn unix<S>(
        path: &Path,
        script: impl Fn(usize, Accepted) -> S + Send + 'static,
    ) -> Self
    where
        S: Future<Output = ()> + Send + 'static,
    {
        let listener = Listener::Unix(UnixListener::bind(path).unwrap());
        Self::run(Origin::Unix(path.to_owned()), listener, script)
    }

    /// A server that answers every request with the numbers of its connection
    /// and of the request on it.
    pub(crate) async fn good() -> Self {
        Self::start(serve).await
    }

    /// The same, by the name that it says first.
    pub(crate) async fn named(name: &'static str) -> Self {
        Self::start(move |_, mut connection| async move {
            while read_head(&mut connection).await.is_some() {
                respond(&mut connection, name).await;
            }
        })
        .await
    }

    /// Says that it speaks TLS.
    pub(crate) fn with_tls(mut self) -> Self {
        self.origin.tls = true;
        self
    }

    /// How many connections it has accepted.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    fn run<S>(
        address: Origin,
        listener: Listener,
        script: impl Fn(usize, Accepted) -> S + Send + 'static,
    ) -> Self
    where
        S: Future<Output = ()> + Send + 'static,
    {
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&accepted);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let connection = listener.accept().await;
                connections.spawn(script(count.fetch_add(1, Ordering::SeqCst), connection));
            }
        });
        Self { origin: HttpOrigin { address, tls: false }, accepted, _tasks: tasks }
    }
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    async fn accept(&self) -> Accepted {
        match self {
            Self::Tcp(listener) => Box::new(listener.accept().await.unwrap().0),
            Self::Unix(listener) => Box::new(listener.accept().await.unwrap().0),
        }
    }
}

/// An origin at a port where nobody listens. The port is taken all the same, so
/// that no other test gets it.
pub(crate) struct Nobody {
    pub(crate) origin: HttpOrigin,
    socket: TcpSocket,
}

impl Nobody {
    pub(crate) fn new() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
        let address = Origin::Tcp(socket.local_addr().unwrap());
        Self { origin: HttpOrigin { address, tls: false }, socket }
    }

    /// From now on somebody listens.
    pub(crate) fn listen(self) -> TcpListener {
        self.socket.listen(16).unwrap()
    }
}

/// Answers every request with `CONNECTION.REQUEST`.
pub(crate) async fn serve(number: usize, mut connection: Accepted) {
    let mut request = 0;
    while read_head(&mut connection).await.is_some() {
        respond(&mut connection, &format!("{number}.{request}")).await;
        request += 1;
    }
}

/// The head of the next request; `None`: there is none.
pub(crate) async fn read_head(connection: &mut Accepted) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(connection.read_u8().await.ok()?);
    }
    Some(String::from_utf8(head).unwrap())
}

/// Reads the body that [`crate::post`] sends.
pub(crate) async fn read_question(connection: &mut Accepted) {
    let mut question = [0; 8];
    connection.read_exact(&mut question).await.unwrap();
    assert_eq!(&question, b"question");
}

pub(crate) async fn respond(connection: &mut Accepted, body: &str) {
    say(connection, &format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
        .await;
}

pub(crate) async fn say(connection: &mut Accepted, bytes: &str) {
    // The other side may be gone, which is what some tests are about.
    let _ = connection.write_all(bytes.as_bytes()).await;
    let _ = connection.flush().await;
}

/// Waits until the other side has closed the connection.
pub(crate) async fn closed(connection: &mut Accepted) {
    while connection.read_u8().await.is_ok() {}
}

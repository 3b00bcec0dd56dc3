//! Where Prometheus scrapes, for those that let it: the metrics and nothing else,
//! on ports that other machines may reach.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use hyper::{Request, StatusCode};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::connections::{self, accept, respond};
use super::place::{AdminConnection, AdminError, AdminListener, can_listen};
use super::views::{self, TakeSnapshot};

/// The ports, open and not yet answering.
pub struct ScrapePorts {
    listeners: Vec<TcpListener>,
    snapshot: TakeSnapshot,
}

impl ScrapePorts {
    /// Opens them.
    ///
    /// # Errors
    ///
    /// If one cannot be opened, save for an address that this machine does not
    /// have beside one that it has: not every machine has IPv6.
    pub fn open(listen: &[SocketAddr], snapshot: TakeSnapshot) -> Result<Self, AdminError> {
        let open = |address: SocketAddr| {
            let opened = std::net::TcpListener::bind(address).and_then(|listener| {
                listener.set_nonblocking(true)?;
                TcpListener::from_std(listener)
            });
            opened.map_err(|source| AdminError::Io { listen: address.to_string(), source })
        };
        Ok(Self { listeners: each(listen, open)?, snapshot })
    }

    /// Whether [`open`](Self::open) would succeed; where a daemon is `running`, it
    /// has the ports.
    ///
    /// # Errors
    ///
    /// What `open` would say.
    pub fn can_open(listen: &[SocketAddr], running: bool) -> Result<(), AdminError> {
        each(listen, |address| can_listen(address, running)).map(drop)
    }

    /// Answers until dropped.
    pub async fn serve(self) -> Infallible {
        let mut serving = JoinSet::new();
        for listener in self.listeners {
            let snapshot = Arc::clone(&self.snapshot);
            let answer = move |stream, _| answer(stream, Arc::clone(&snapshot));
            serving.spawn(accept(AdminListener::Tcp(listener), answer));
        }
        loop {
            match serving.join_next().await {
                Some(Ok(never)) => match never {},
                Some(Err(error)) => tracing::error!(%error, "metrics are not answered any more"),
                None => std::future::pending().await,
            }
        }
    }
}

/// Opens each that this machine has, if it has any of them.
fn each<T>(
    listen: &[SocketAddr],
    open: impl Fn(SocketAddr) -> Result<T, AdminError>,
) -> Result<Vec<T>, AdminError> {
    let (mut opened, mut missing) = (Vec::new(), None);
    for address in listen {
        match open(*address) {
            Ok(one) => opened.push(one),
            Err(error) if is_no_address_of_ours(&error) => missing = Some(error),
            Err(error) => return Err(error),
        }
    }
    match missing {
        Some(error) if opened.is_empty() => Err(error),
        _ => Ok(opened),
    }
}

fn is_no_address_of_ours(error: &AdminError) -> bool {
    let AdminError::Io { source, .. } = error else { return false };
    source.kind() == io::ErrorKind::AddrNotAvailable
        || source.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error())
}

async fn answer(stream: Box<dyn AdminConnection>, snapshot: TakeSnapshot) {
    let answer = |request: Request<hyper::body::Incoming>| {
        let snapshot = Arc::clone(&snapshot);
        async move {
            match request.uri().path() {
                "/metrics" => views::answer(request.method(), request.uri(), &snapshot),
                _ => respond(StatusCode::NOT_FOUND, "text/plain", "there is only /metrics\n"),
            }
        }
    };
    connections::serve_one(stream, answer).await;
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;
    use crate::observe::example;

    async fn get(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: monitoring.example\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn whoever_scrapes_gets_the_metrics_and_nothing_else() {
        let snapshot: TakeSnapshot = Arc::new(|| example::snapshot(Vec::new()));
        // No machine has this address; the other one is enough.
        let listen = ["192.0.2.1:9".parse().unwrap(), ([127, 0, 0, 1], 0).into()];
        let scrape = ScrapePorts::open(&listen, Arc::clone(&snapshot)).unwrap();
        let address = scrape.listeners[0].local_addr().unwrap();
        let mut serving = JoinSet::new();
        serving.spawn(scrape.serve());
        let metrics = get(address, "/metrics").await;
        assert!(metrics.starts_with("HTTP/1.1 200") && metrics.contains("onionbraid_ready 1"));
        for path in ["/", "/status.json", "/v1/descriptor"] {
            assert!(get(address, path).await.starts_with("HTTP/1.1 404"), "{path}");
        }
        let taken = ScrapePorts::open(&[address], Arc::clone(&snapshot)).err().unwrap();
        assert!(taken.to_string().contains(&address.to_string()));
        assert!(ScrapePorts::open(&listen[..1], snapshot).is_err());
    }
}

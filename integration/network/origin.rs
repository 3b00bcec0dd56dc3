//! Which server stands behind the onion services of tests and the demo?
//!
//! A small HTTP server that tells who it is, sends bytes that the other side
//! can check and counts requests. It runs on a thread of its own, so that a
//! busy test does not slow it down, and ends when it is dropped.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use futures::StreamExt;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::CONTENT_LENGTH;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How much of a long answer is made at once.
const CHUNK: u64 = 64 * 1024;

type Body = UnsyncBoxBody<Bytes, hyper::Error>;

/// A running server; dropping it closes all its connections.
#[derive(Debug)]
pub struct Origin {
    /// Where it listens.
    pub address: SocketAddr,
    name: Arc<str>,
    requests: Arc<AtomicU64>,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Origin {
    /// Starts a server on a free port of 127.0.0.1. It answers
    ///
    /// - `/`: a line with its name,
    /// - `/bytes/N`: N bytes, those of [`pattern`],
    /// - `/echo`: the body of the request.
    pub fn start(name: &str) -> Result<Origin> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let (name, requests) = (Arc::<str>::from(name), Arc::<AtomicU64>::default());
        let stop = CancellationToken::new();
        let served = serve(listener, Arc::clone(&name), Arc::clone(&requests), stop.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::Builder::new()
            .name(format!("origin {name}"))
            .spawn(move || runtime.block_on(served))
            .context("cannot start a thread")?;
        Ok(Origin { address, name, requests, stop, thread: Some(thread) })
    }

    /// The name in its answer to `/`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many requests it has got.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            // A panic of the server has failed its requests already.
            let _ = thread.join();
        }
    }
}

/// The bytes from position `start` on that every origin sends for `/bytes/N`:
/// a function of the position, random to the eye.
pub fn pattern(start: u64, length: u64) -> Vec<u8> {
    (start..start + length).map(pattern_byte).collect()
}

fn pattern_byte(position: u64) -> u8 {
    // SplitMix64, one number for eight bytes.
    let mut z = (position / 8).wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (z ^ (z >> 31)).to_le_bytes()[(position % 8) as usize]
}

async fn serve(
    listener: TcpListener,
    name: Arc<str>,
    requests: Arc<AtomicU64>,
    stop: CancellationToken,
) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    let mut connections = JoinSet::new();
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            () = stop.cancelled() => return,
        };
        let Ok((stream, _)) = stream else { continue };
        let (name, requests) = (Arc::clone(&name), Arc::clone(&requests));
        let service = service_fn(move |request| {
            requests.fetch_add(1, Ordering::Relaxed);
            std::future::ready(Ok::<_, Infallible>(answer(&name, request)))
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service);
        // How a connection ends is for the client to notice.
        connections.spawn(async move { drop(connection.await) });
    }
}

fn answer(name: &str, request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path();
    if let Some(length) = path.strip_prefix("/bytes/").and_then(|n| n.parse().ok()) {
        return bytes(length);
    }
    match path {
        "/" => text(StatusCode::OK, format!("{name}\n")),
        "/echo" => Response::new(request.into_body().boxed_unsync()),
        _ => text(StatusCode::NOT_FOUND, "not found\n".to_owned()),
    }
}

fn text(status: StatusCode, text: String) -> Response<Body> {
    let mut response = Response::new(whole(text));
    *response.status_mut() = status;
    response
}

fn whole(text: String) -> Body {
    Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed_unsync()
}

fn bytes(length: u64) -> Response<Body> {
    let chunks = futures::stream::iter(0..length.div_ceil(CHUNK)).map(move |number| {
        let start = number * CHUNK;
        Ok(Frame::data(Bytes::from(pattern(start, CHUNK.min(length - start)))))
    });
    let mut response = Response::new(StreamBody::new(chunks).boxed_unsync());
    response.headers_mut().insert(CONTENT_LENGTH, length.into());
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::fetch;

    #[tokio::test]
    async fn an_origin_names_itself_sends_the_pattern_and_counts() {
        let origin = Origin::start("otto").unwrap();
        let get = async |path: &str| {
            let stream = tokio::net::TcpStream::connect(origin.address).await.unwrap();
            fetch::get(stream, "origin", path).await.unwrap()
        };
        assert_eq!(get("/").await.text(), "otto\n");
        assert_eq!(get("/bytes/200001").await.body, pattern(0, 200_001));
        assert_eq!(get("/nowhere").await.status, 404);
        assert_eq!(origin.requests(), 3);
        let address = origin.address;
        drop(origin);
        assert!(tokio::net::TcpStream::connect(address).await.is_err());
    }
}

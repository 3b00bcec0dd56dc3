//! What does a page say, fetched as a visitor would?
//!
//! HTTP over any stream, and over the SOCKS port of a C tor, where each name
//! for `isolation` gets circuits of its own. Used by tests and the demo, and
//! for the directory port of the authorities.

use std::future::Future;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::header::{CONNECTION, HOST};
use hyper::{HeaderMap, Request};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_socks::tcp::Socks5Stream;

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status code, such as 200.
    pub status: u16,
    /// The header fields.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// From before the connection was asked for until the body's end.
    pub elapsed: Duration,
}

impl Response {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Fetches `http://host:port/path` through the SOCKS port of a C tor. A name
/// for `isolation` that was not used before means new circuits.
pub async fn fetch(
    socks: SocketAddr,
    isolation: &str,
    host: &str,
    port: u16,
    path: &str,
    limit: Duration,
) -> Result<Response> {
    let started = Instant::now();
    let exchange = async {
        let stream =
            Socks5Stream::connect_with_password(socks, (host, port), isolation, "isolation")
                .await
                .context("no connection")?;
        get(stream, host, path).await
    };
    match tokio::time::timeout(limit, exchange).await {
        Ok(response) => response
            .map(|response| Response { elapsed: started.elapsed(), ..response })
            .with_context(|| format!("http://{host}:{port}{path} after {:?}", started.elapsed())),
        Err(_) => bail!("http://{host}:{port}{path}: no answer within {limit:?}"),
    }
}

/// Asks for `path` on a stream that is open already, and closes it.
pub async fn get<S>(stream: S, host: &str, path: &str) -> Result<Response>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let started = Instant::now();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake::<_, Empty<Bytes>>(TokioIo::new(stream)).await?;
    let request =
        Request::get(path).header(HOST, host).header(CONNECTION, "close").body(Empty::new())?;
    let exchange = async move {
        let (head, body) = sender.send_request(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        let (status, headers) = (head.status.as_u16(), head.headers);
        Ok(Response { status, headers, body, elapsed: started.elapsed() })
    };
    // The connection has to be driven, and its error shows in the exchange.
    let (_, response) = futures::join!(connection, exchange);
    response
}

/// Tries again until `attempt` succeeds; after `limit`, its last error.
pub async fn eventually<T, F>(limit: Duration, mut attempt: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let end = Instant::now() + limit;
    loop {
        match attempt().await {
            Ok(value) => return Ok(value),
            Err(error) if Instant::now() >= end => {
                return Err(error.context(format!("given up after {limit:?}")));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}

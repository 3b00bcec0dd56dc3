//! Making one connection to an origin: socket, PROXY line, TLS, HTTP.

use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;

use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::sender::Sender;
use super::tasks::{Executor, Tasks};
use super::wire::{Wire, Wired};
use crate::origin::{self, Connection};
use crate::rules::Origin;
use crate::settings::OriginProtocol;

/// How connections to one origin are made.
pub(super) struct Dialer {
    /// Where it listens.
    pub(super) address: Origin,
    /// With `https://`: how it is verified, and as whom.
    pub(super) tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    /// What is spoken.
    pub(super) protocol: OriginProtocol,
    /// How long everything may take together.
    pub(super) within: Duration,
    /// The bounds on heads of responses.
    pub(super) heads: HeadLimits,
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
}

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

impl Dialer {
    /// Connects, and verifies a TLS origin; `opening` is what is written first.
    pub(super) async fn connect(&self, opening: &[u8]) -> Result<Connection, DialError> {
        timeout(self.within, self.open(opening)).await.map_err(|_| DialError::Slow(self.within))?
    }

    /// Connects and begins HTTP. The connection lives in `tasks`.
    pub(super) async fn http(
        &self,
        opening: &[u8],
        tasks: &Weak<Tasks>,
    ) -> Result<(Sender, Arc<Wire>), DialError> {
        timeout(self.within, async {
            let connection = self.open(opening).await?;
            self.begin(connection, tasks).await.map_err(DialError::Http)
        })
        .await
        .map_err(|_| DialError::Slow(self.within))?
    }

    async fn open(&self, opening: &[u8]) -> Result<Connection, DialError> {
        let mut socket = origin::open(&self.address).await.map_err(DialError::Socket)?;
        socket.write_all(opening).await.map_err(DialError::Socket)?;
        let Some((config, name)) = &self.tls else { return Ok(socket) };
        let connector = TlsConnector::from(Arc::clone(config));
        let stream = connector.connect(name.clone(), socket).await.map_err(DialError::Tls)?;
        let agreed = stream.get_ref().1.alpn_protocol();
        if self.protocol == OriginProtocol::Http2 && agreed != Some(b"h2") {
            return Err(DialError::NoHttp2);
        }
        Ok(Box::new(stream))
    }

    async fn begin(
        &self,
        connection: Connection,
        tasks: &Weak<Tasks>,
    ) -> hyper::Result<(Sender, Arc<Wire>)> {
        let wire = Arc::new(Wire::default());
        let io = TokioIo::new(Wired::new(connection, Arc::clone(&wire)));
        // How a connection ends is told to the requests on it.
        let sender = match self.protocol {
            OriginProtocol::Http1 => {
                let (sender, connection) = http1::Builder::new()
                    .max_headers(self.heads.fields)
                    .max_header_size(self.heads.bytes)
                    .max_buf_size(self.heads.bytes.max(LEAST_BUFFER))
                    .handshake(io)
                    .await?;
                let wire = Arc::clone(&wire);
                Tasks::spawn(tasks, async move {
                    tokio::select! {
                        _ = connection.with_upgrades() => {}
                        () = wire.given_up() => {}
                    }
                });
                Sender::Http1(sender)
            }
            OriginProtocol::Http2 => {
                let bytes = u32::try_from(self.heads.bytes).unwrap_or(u32::MAX);
                let (sender, connection) = http2::Builder::new(Executor(tasks.clone()))
                    .timer(TokioTimer::new())
                    .max_header_list_size(bytes)
                    .initial_stream_window_size(BODY_WINDOW)
                    .initial_connection_window_size(LARGEST_WINDOW)
                    // Until the origin has said how many it takes: one that
                    // takes few refuses those that are sent in advance.
                    .initial_max_send_streams(1)
                    .keep_alive_interval(PING_EVERY)
                    .keep_alive_timeout(self.within)
                    .handshake(io)
                    .await?;
                Tasks::spawn(tasks, async move {
                    let _ = connection.await;
                });
                Sender::Http2(sender)
            }
        };
        Ok((sender, wire))
    }
}

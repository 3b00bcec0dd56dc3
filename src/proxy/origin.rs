//! Connecting to an origin.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::rules::Origin;

/// How long an origin may take to accept a connection. It is close by, and a
/// client waits for the answer.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// An open connection to an origin.
pub type Connection = Box<dyn Duplex>;

/// Bytes in both directions.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// Connects to an origin, within ten seconds.
pub async fn connect(origin: &Origin) -> io::Result<Connection> {
    tokio::time::timeout(CONNECT_WITHIN, open(origin))
        .await
        .unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut)))
}

/// Connects to an origin, however long the system takes for it.
pub(super) async fn open(origin: &Origin) -> io::Result<Connection> {
    Ok(match origin {
        Origin::Tcp(address) => tcp(TcpStream::connect(address).await?)?,
        Origin::Name(name, port) => tcp(TcpStream::connect((name.as_str(), *port)).await?)?,
        Origin::Unix(path) => Box::new(UnixStream::connect(path).await?),
    })
}

/// What is sent must not wait for more.
fn tcp(stream: TcpStream) -> io::Result<Connection> {
    stream.set_nodelay(true)?;
    Ok(Box::new(stream))
}

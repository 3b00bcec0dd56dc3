//! Connecting to an origin, or to the first of several that answers.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::rules::Origin;
use crate::clock::now;

/// How long an origin may take to accept a connection. It is close by, and a
/// client waits for the answer.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// For so long an origin that did not answer is asked only after the others.
const REMEMBER_FOR: Duration = Duration::from_secs(10);

/// An open connection to an origin.
pub type OriginConnection = Box<dyn Duplex>;

/// Bytes in both directions.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// Which origins of one list did not answer lately.
#[derive(Debug, Default)]
pub struct Failures(Mutex<BTreeMap<usize, Instant>>);

/// Connects to the first of several origins that answers, each within ten
/// seconds. Those that failed lately come last: a client waits for the answer.
///
/// `failures` belongs to this list of origins; what is learned goes into it.
///
/// # Errors
///
/// What the last origin said; `NotFound` if there is none.
pub async fn connect_first(
    origins: &[Origin],
    failures: &Failures,
) -> io::Result<OriginConnection> {
    let mut result = Err(io::Error::from(io::ErrorKind::NotFound));
    for index in failures.order(origins.len(), now()) {
        let Some(origin) = origins.get(index) else { continue };
        result = connect(origin).await;
        failures.learn(index, result.is_ok(), now());
        if result.is_ok() {
            break;
        }
    }
    result
}

impl Failures {
    /// In which order `count` origins are tried.
    fn order(&self, count: usize, now: Instant) -> Vec<usize> {
        let mut failed = self.0.lock();
        failed.retain(|_, at| now.saturating_duration_since(*at) < REMEMBER_FOR);
        let mut order: Vec<usize> = (0..count).collect();
        // Stable: otherwise they stay in the order of the configuration.
        order.sort_by_key(|index| failed.contains_key(index));
        order
    }

    fn learn(&self, index: usize, answered: bool, now: Instant) {
        let mut failed = self.0.lock();
        if answered {
            failed.remove(&index);
        } else {
            failed.insert(index, now);
        }
    }
}

/// Connects to an origin, within ten seconds.
pub async fn connect(origin: &Origin) -> io::Result<OriginConnection> {
    tokio::time::timeout(CONNECT_WITHIN, open(origin))
        .await
        .unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut)))
}

/// Connects to an origin, however long the system takes for it.
pub(super) async fn open(origin: &Origin) -> io::Result<OriginConnection> {
    Ok(match origin {
        Origin::Tcp(address) => tcp(TcpStream::connect(address).await?)?,
        Origin::Name(name, port) => tcp(TcpStream::connect((name.as_str(), *port)).await?)?,
        Origin::Unix(path) => Box::new(UnixStream::connect(path).await?),
    })
}

/// What is sent must not wait for more.
fn tcp(stream: TcpStream) -> io::Result<OriginConnection> {
    stream.set_nodelay(true)?;
    Ok(Box::new(stream))
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, UnixListener};

    use super::*;

    #[test]
    fn an_origin_that_failed_is_asked_last_until_that_is_forgotten() {
        let (failures, now) = (Failures::default(), now());
        assert_eq!(failures.order(3, now), [0, 1, 2]);
        failures.learn(0, false, now);
        assert_eq!(failures.order(3, now), [1, 2, 0]);
        failures.learn(1, false, now);
        assert_eq!(failures.order(3, now), [2, 0, 1]);
        failures.learn(0, true, now);
        assert_eq!(failures.order(3, now), [0, 2, 1]);
        assert_eq!(failures.order(3, now + REMEMBER_FOR), [0, 1, 2]);
    }

    #[tokio::test]
    async fn the_next_origin_answers_for_one_that_does_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("origin");
        let listener = UnixListener::bind(&path).unwrap();
        let dead = Origin::Unix(directory.path().join("nobody"));
        let origins = [dead.clone(), Origin::Unix(path)];
        let failures = Failures::default();
        for _ in 0..2 {
            connect_first(&origins, &failures).await.unwrap();
            listener.accept().await.unwrap();
        }
        assert_eq!(failures.order(2, now()), [1, 0]);
        let error = connect_first(&[dead], &Failures::default()).await.err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[tokio::test]
    async fn names_are_looked_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = Origin::Name("localhost".into(), listener.local_addr().unwrap().port());
        connect(&origin).await.unwrap();
        listener.accept().await.unwrap();
    }
}

//! The operator's door to the running daemon: HTTP on a Unix socket or on
//! loopback. It shows the Snapshot and changes nothing.
//!
//! | path | answers |
//! |---|---|
//! | `/`, `/services/NICK` | pages for a browser (`views`, as all that follow) |
//! | `/status.json` | the Snapshot |
//! | `/status` | the Snapshot as text |
//! | `/metrics` | the Snapshot for Prometheus |
//! | `/health` | 200 when ready, else 503 |
//! | `/v1/…` | a question to the network, on the Unix socket alone (`questions`) |

mod connections;
mod place;
mod questions;
mod scrape;
mod views;

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Request, Response, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener, UnixStream};

use crate::causes::is_out_of_handles;
use crate::config::AdminListen;
use crate::observe::Snapshot;
use crate::spare_handle::SpareHandle;

use connections::Connections;
use place::can_listen;
pub use place::can_open;
use questions::Questions;
pub use questions::{AnswerQuestion, Unanswered};
pub use scrape::Scrape;

/// Takes a Snapshot at the moment it is asked.
pub type TakeSnapshot = Arc<dyn Fn() -> Snapshot + Send + Sync>;

/// The door, open and not yet answering.
pub struct Admin {
    /// What to accept connections from.
    listener: Listener,
    /// What to show.
    snapshot: TakeSnapshot,
    /// What answers questions to the network, if anything does.
    questions: Option<Arc<Questions>>,
}

/// Why the door cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// Another process answers there.
    #[error("{0} is in use: another process answers on it")]
    InUse(PathBuf),
    /// Something else than a socket lies there; it is left alone.
    #[error("{0} exists and is no socket; remove it or choose another path")]
    NotASocket(PathBuf),
    /// The system refuses.
    #[error("cannot listen on {listen}")]
    Io {
        /// Where.
        listen: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Either kind of listener.
enum Listener {
    /// And the path, to remove it at the end.
    Unix(UnixListener, PathBuf),
    /// On loopback.
    Tcp(TcpListener),
}

impl Admin {
    /// Opens the door. A socket that a dead process left behind is replaced.
    pub async fn open(listen: &AdminListen, snapshot: TakeSnapshot) -> Result<Self, AdminError> {
        let failed = |source| AdminError::Io { listen: listen.to_string(), source };
        let listener = match listen {
            AdminListen::Tcp(address) => {
                Listener::Tcp(TcpListener::bind(address).await.map_err(failed)?)
            }
            AdminListen::Unix(path) => {
                remove_stale(path).await.map_err(|error| error.unwrap_or_else(failed))?;
                let listener = UnixListener::bind(path).map_err(failed)?;
                let ours_alone = std::fs::Permissions::from_mode(0o600);
                std::fs::set_permissions(path, ours_alone).map_err(failed)?;
                Listener::Unix(listener, path.clone())
            }
        };
        Ok(Self { listener, snapshot, questions: None })
    }

    /// Has questions to the network answered; on loopback they are refused, since
    /// every user of the machine could ask.
    #[must_use]
    pub fn answering(mut self, answer: AnswerQuestion) -> Self {
        if matches!(self.listener, Listener::Unix(..)) {
            self.questions = Some(Arc::new(Questions::new(answer)));
        }
        self
    }

    /// Answers until dropped.
    pub async fn serve(self) -> Infallible {
        let must_name_loopback = matches!(self.listener, Listener::Tcp(_));
        let Self { listener, snapshot, questions } = self;
        let answer = |stream| {
            let (snapshot, questions) = (Arc::clone(&snapshot), questions.clone());
            answer_connection(stream, snapshot, questions, must_name_loopback)
        };
        accept(listener, answer).await
    }
}

/// Answers every connection, each beside the others, until dropped.
async fn accept<A>(listener: Listener, answer: impl Fn(Box<dyn Connection>) -> A) -> Infallible
where
    A: Future<Output = ()> + Send + 'static,
{
    let mut connections = Connections::default();
    let spare = Arc::new(SpareHandle::take());
    loop {
        match listener.accept().await {
            Ok(stream) => {
                let answered = answer(stream);
                let spare = Arc::clone(&spare);
                connections.admit(async move {
                    answered.await;
                    spare.regain();
                });
            }
            // The next attempt takes the handle.
            Err(error) if is_out_of_handles(&error) && spare.lend() => {}
            Err(error) => {
                // Out of file handles, most likely: it passes.
                spare.regain();
                tracing::warn!(%error, "admin socket cannot accept a connection");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Self::Unix(_, path) = self {
            // A socket that stays behind is replaced at the next start.
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Listener {
    /// The next connection.
    async fn accept(&self) -> io::Result<Box<dyn Connection>> {
        Ok(match self {
            Self::Unix(listener, _) => Box::new(listener.accept().await?.0),
            Self::Tcp(listener) => Box::new(listener.accept().await?.0),
        })
    }
}

/// A connection of either kind.
trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// Removes a socket that nobody answers on. `Err(Err(_))` is an I/O error.
async fn remove_stale(path: &Path) -> Result<(), Result<AdminError, io::Error>> {
    let found = match std::fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Err(error)),
    };
    if !found.file_type().is_socket() {
        return Err(Ok(AdminError::NotASocket(path.to_owned())));
    }
    if UnixStream::connect(path).await.is_ok() {
        return Err(Ok(AdminError::InUse(path.to_owned())));
    }
    std::fs::remove_file(path).map_err(Err)
}

/// Answers the request of one connection. On loopback the client has to name
/// this machine: else a web page in a browser here could read the answers by
/// letting its own name point to this address.
async fn answer_connection(
    stream: Box<dyn Connection>,
    snapshot: TakeSnapshot,
    questions: Option<Arc<Questions>>,
    must_name_loopback: bool,
) {
    let answer = |request: Request<hyper::body::Incoming>| {
        let (snapshot, questions) = (Arc::clone(&snapshot), questions.clone());
        async move {
            if must_name_loopback && !names_loopback(request.headers().get(HOST)) {
                respond(StatusCode::FORBIDDEN, "text/plain", "ask for it as localhost\n")
            } else if request.uri().path().starts_with(questions::BELOW) {
                questions::answer(request, questions).await
            } else {
                views::answer(request.method(), request.uri(), &snapshot)
            }
        }
    };
    connections::serve_one(stream, answer).await;
}

/// Whether a `Host` header names the loopback interface, with or without a port.
fn names_loopback(host: Option<&HeaderValue>) -> bool {
    let Some(host) = host.and_then(|host| host.to_str().ok()) else { return false };
    match host.parse::<SocketAddr>() {
        Ok(address) => address.ip().is_loopback(),
        Err(_) => {
            let name = host.split_once("]").map_or_else(
                || host.split(':').next().unwrap_or_default(),
                |(address, _)| address.trim_start_matches('['),
            );
            name.eq_ignore_ascii_case("localhost")
                || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
        }
    }
}

/// A whole response.
fn respond(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::example;

    fn taker(ready: bool) -> TakeSnapshot {
        Arc::new(move || Snapshot { ready, ..example::snapshot(Vec::new()) })
    }

    #[test]
    fn only_names_of_this_machine_are_answered_on_loopback() {
        let names = |host: &str| names_loopback(Some(&HeaderValue::from_str(host).unwrap()));
        for host in
            ["localhost", "LocalHost:9000", "127.0.0.1", "127.0.0.1:80", "[::1]", "[::1]:80"]
        {
            assert!(names(host), "{host}");
        }
        for host in ["evil.example", "localhost.evil.example:80", "10.0.0.1", "[::2]:80", ""] {
            assert!(!names(host), "{host}");
        }
        assert!(!names_loopback(None));
    }

    #[tokio::test]
    async fn a_socket_left_by_a_dead_process_is_replaced_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let listen = AdminListen::Unix(dir.path().join("admin.sock"));
        let AdminListen::Unix(path) = &listen else { unreachable!() };
        drop(std::os::unix::net::UnixListener::bind(path).unwrap());
        let admin = Admin::open(&listen, taker(true)).await.unwrap();
        let mode = std::fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let second = Admin::open(&listen, taker(true)).await;
        assert!(matches!(second, Err(AdminError::InUse(_))));
        drop(admin);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_file_in_the_place_of_the_socket_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.sock");
        std::fs::write(&path, "precious").unwrap();
        let opened = Admin::open(&AdminListen::Unix(path.clone()), taker(true)).await;
        assert!(matches!(opened, Err(AdminError::NotASocket(_))));
        assert_eq!(std::fs::read_to_string(path).unwrap(), "precious");
    }
}

//! The admin endpoint of the running daemon: HTTP on a Unix socket or on
//! loopback. It shows the Snapshot; only the Unix socket takes orders.
//!
//! | path | answers |
//! |---|---|
//! | `/`, `/services/NICK` | pages for a browser (`views`, as all that follow) |
//! | `/status.json` | the Snapshot |
//! | `/status` | the Snapshot as text |
//! | `/metrics` | the Snapshot for Prometheus |
//! | `/health` | 200 when ready, else 503 |
//! | `/v1/…` | a question to the network, or an operator's order, on the Unix socket alone (`questions`) |

mod connections;
pub mod orders;
mod place;
mod questions;
mod scrape;
mod views;

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use hyper::header::{HOST, HeaderValue};
use hyper::{Request, StatusCode};

use crate::config::AdminListen;

use connections::{accept, respond};
pub use place::{AdminError, can_open};
use place::{Connection, Listener};
use questions::Questions;
pub use questions::{AnswerQuestion, Asked, Unanswered};
pub use scrape::Scrape;
pub use views::TakeSnapshot;

/// The endpoint, open and not yet answering.
pub struct Admin {
    /// What to accept connections from.
    listener: Listener,
    /// What to show.
    snapshot: TakeSnapshot,
    /// What answers questions to the network, if anything does.
    questions: Option<Arc<Questions>>,
}

impl Admin {
    /// Opens the endpoint. A socket that a dead process left behind is replaced.
    pub async fn open(listen: &AdminListen, snapshot: TakeSnapshot) -> Result<Self, AdminError> {
        let listener = Listener::open(listen).await?;
        Ok(Self { listener, snapshot, questions: None })
    }

    /// Has questions to the network answered; on loopback they are refused, since
    /// every user of the machine could ask.
    #[must_use]
    pub fn answering(mut self, answer: AnswerQuestion) -> Self {
        if self.listener.is_private() {
            self.questions = Some(Arc::new(Questions::new(answer)));
        }
        self
    }

    /// Answers until dropped.
    pub async fn serve(self) -> Infallible {
        let must_name_loopback = !self.listener.is_private();
        let Self { listener, snapshot, questions } = self;
        let answer = |stream, user| {
            let (snapshot, questions) = (Arc::clone(&snapshot), questions.clone());
            answer_connection(stream, user, snapshot, questions, must_name_loopback)
        };
        accept(listener, answer).await
    }
}

/// Answers the request of one connection. On loopback the client has to name
/// this machine: else a web page in a browser here could read the answers by
/// letting its own name point to this address.
async fn answer_connection(
    stream: Box<dyn Connection>,
    user: Option<u32>,
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
                questions::answer(request, user, questions).await
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::observe::{Snapshot, example};

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

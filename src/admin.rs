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

mod browsers;
mod connections;
pub mod orders;
mod place;
mod questions;
mod scrape;
mod views;

use std::convert::Infallible;
use std::sync::Arc;

use hyper::{Request, StatusCode};

use crate::config::AdminListen;

use connections::{accept, respond};
use place::{AdminConnection, AdminListener};
pub use place::{AdminError, can_open};
use questions::NetworkQuestions;
pub use questions::{AnswerQuestion, NetworkQuestion, NoAnswer, OBEYED_WITHIN};
pub use scrape::ScrapePorts;
pub use views::TakeSnapshot;

/// The endpoint, open and not yet answering.
pub struct Admin {
    /// What to accept connections from.
    listener: AdminListener,
    /// What to show.
    snapshot: TakeSnapshot,
    /// What answers questions to the network, if anything does.
    questions: Option<Arc<NetworkQuestions>>,
}

impl Admin {
    /// Opens the endpoint. A socket that a dead process left behind is replaced.
    pub async fn open(listen: &AdminListen, snapshot: TakeSnapshot) -> Result<Self, AdminError> {
        let listener = AdminListener::open(listen).await?;
        Ok(Self { listener, snapshot, questions: None })
    }

    /// Has questions to the network answered; on loopback they are refused, since
    /// every user of the machine could ask.
    #[must_use]
    pub fn answering(mut self, answer: AnswerQuestion) -> Self {
        if self.listener.is_private() {
            self.questions = Some(Arc::new(NetworkQuestions::new(answer)));
        }
        self
    }

    /// Answers until dropped.
    pub async fn serve(self) -> Infallible {
        let on_socket = self.listener.is_private();
        let Self { listener, snapshot, questions } = self;
        let answer = |stream, user| {
            let (snapshot, questions) = (Arc::clone(&snapshot), questions.clone());
            answer_connection(stream, user, snapshot, questions, on_socket)
        };
        accept(listener, answer).await
    }
}

/// Answers the request of one connection, if it is for this machine: see `browsers`.
async fn answer_connection(
    stream: Box<dyn AdminConnection>,
    user: Option<u32>,
    snapshot: TakeSnapshot,
    questions: Option<Arc<NetworkQuestions>>,
    on_socket: bool,
) {
    let answer = |request: Request<hyper::body::Incoming>| {
        let (snapshot, questions) = (Arc::clone(&snapshot), questions.clone());
        async move {
            if !browsers::names_this_machine(&request, on_socket) {
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::observe::{Snapshot, example};

    fn taker(ready: bool) -> TakeSnapshot {
        Arc::new(move || Snapshot { ready, ..example::snapshot(Vec::new()) })
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

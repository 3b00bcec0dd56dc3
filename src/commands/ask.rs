//! How a command asks the running daemon: one request through the admin
//! interface that the configuration names.

use std::io;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::Runtime;

use super::CommandFailure;
use crate::admin::{self, orders};
use crate::config::AdminListen;
use crate::exit::Exit;
use crate::observe::Snapshot;

/// How long the daemon may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// How long it may take for an answer that it has to look for in the network: a
/// little longer than it allows itself.
const INQUIRY_WITHIN: Duration = Duration::from_secs(16 * 60);

/// How long it may take to obey an order: a little longer than it allows itself.
const OBEYED_WITHIN: Duration = admin::OBEYED_WITHIN.saturating_add(Duration::from_secs(5));

/// The longest answer to accept, in bytes.
const ANSWER_AT_MOST: usize = 64 * 1024 * 1024;

/// What the daemon answers.
pub(crate) struct DaemonAnswer {
    /// The status of the response.
    pub(crate) status: StatusCode,
    /// Its body.
    pub(crate) body: String,
}

/// What a command that asks runs on.
pub(crate) fn runtime() -> Result<Runtime, CommandFailure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| CommandFailure::new(Exit::Failed, format!("no tokio runtime: {error}")))
}

/// One GET request to the daemon.
pub(crate) async fn ask(admin: &AdminListen, path: &str) -> Result<DaemonAnswer, CommandFailure> {
    let asking = async {
        match admin {
            AdminListen::Unix(socket) => {
                let stream = UnixStream::connect(socket).await.map_err(NotThere)?;
                exchange(stream, get(path)?).await
            }
            AdminListen::Tcp(address) => {
                let stream = TcpStream::connect(address).await.map_err(NotThere)?;
                exchange(stream, get(path)?).await
            }
        }
    };
    let answer = tokio::time::timeout(ANSWER_WITHIN, asking).await;
    answer.context("no answer within 10 s").flatten().map_err(|error| match error.downcast_ref() {
        Some(not_there) => not_connected(admin, not_there),
        None => no_answer(&error),
    })
}

fn no_answer(error: &anyhow::Error) -> CommandFailure {
    CommandFailure::new(Exit::Unreachable, format!("the daemon does not answer: {error:#}"))
}

/// No connection to the daemon.
#[derive(Debug, thiserror::Error)]
#[error("no connection")]
struct NotThere(#[source] io::Error);

/// What to do where the daemon cannot be connected to.
fn not_connected(admin: &AdminListen, NotThere(error): &NotThere) -> CommandFailure {
    use io::ErrorKind::{ConnectionRefused, NotFound, PermissionDenied};
    let exit = match error.kind() {
        PermissionDenied => Exit::Permission,
        _ => Exit::Unreachable,
    };
    let text = match error.kind() {
        NotFound | ConnectionRefused => format!(
            "no daemon is running: nothing listens at {admin}. Start it with `onionbraid run` or \
             `systemctl start onionbraid`; where it runs with other files, name them with `-c \
             FILE` here, too"
        ),
        PermissionDenied => format!(
            "this user may not ask the daemon at {admin}: run this as the daemon's user, for \
             instance with `sudo -u onionbraid`"
        ),
        _ => format!("the daemon does not answer: cannot connect to {admin}: {error}"),
    };
    CommandFailure::new(exit, text)
}

/// A question to the network, by a POST of JSON on the daemon's Unix socket.
/// `None` if no daemon answers there that takes questions.
pub(crate) async fn inquire(
    socket: &Path,
    path: &str,
    question: Vec<u8>,
) -> Result<Option<DaemonAnswer>, CommandFailure> {
    // An older daemon has no such path, and takes no POST.
    let unknown = [StatusCode::NOT_FOUND, StatusCode::METHOD_NOT_ALLOWED];
    let Ok(stream) = UnixStream::connect(socket).await else { return Ok(None) };
    let answer = tokio::time::timeout(INQUIRY_WITHIN, post(stream, path, question)).await;
    let answer = answer.context("no answer within 16 minutes").flatten();
    let answer = answer.map_err(|error| no_answer(&error))?;
    Ok(Some(answer).filter(|answer| !unknown.contains(&answer.status)))
}

/// One POST of JSON to the daemon.
async fn post(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    path: &str,
    body: Vec<u8>,
) -> anyhow::Result<DaemonAnswer> {
    let request = Request::post(path)
        .header(hyper::header::HOST, "localhost")
        .header(hyper::header::CONTENT_TYPE, "application/json")
        .body(Full::from(body))?;
    exchange(stream, request).await
}

/// An order to the daemon, on its Unix socket; its answer, as JSON.
pub(crate) fn order(
    admin: &AdminListen,
    path: &str,
    order: &impl Serialize,
) -> Result<String, CommandFailure> {
    let AdminListen::Unix(socket) = admin else {
        let text = format!(
            "the daemon takes no orders on {admin}, where every user of the machine could give them: \
             set `admin.listen` to \"unix:/path\""
        );
        return Err(CommandFailure::new(Exit::Configuration, text));
    };
    let body = serde_json::to_vec(order)
        .map_err(|error| CommandFailure::new(Exit::Failed, format!("no JSON: {error}")))?;
    let answer = runtime()?.block_on(async {
        let stream = UnixStream::connect(socket).await.map_err(|error| {
            let absent = not_connected(admin, &NotThere(error));
            match absent.exit {
                Exit::Unreachable => CommandFailure { text: absent.text + ELSEWHERE, ..absent },
                _ => absent,
            }
        })?;
        obeyed(stream, path, body).await
    })?;
    let exit = match answer.status {
        StatusCode::OK => return Ok(answer.body),
        StatusCode::UNPROCESSABLE_ENTITY => Exit::Configuration,
        StatusCode::FORBIDDEN => Exit::Permission,
        StatusCode::BAD_REQUEST => Exit::Usage,
        _ => Exit::Failed,
    };
    Err(CommandFailure::new(exit, answer.body.trim_end().to_owned()))
}

/// Where else it may be.
const ELSEWHERE: &str = ". One that was started with another `admin.listen` still listens there: \
                         `systemctl reload onionbraid`, or SIGHUP, reaches it";

/// What an order comes to, waited for a little longer than the daemon does.
async fn obeyed(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    path: &str,
    body: Vec<u8>,
) -> Result<DaemonAnswer, CommandFailure> {
    let answer = tokio::time::timeout(OBEYED_WITHIN, post(stream, path, body)).await;
    answer.context(orders::MAYBE_LATER).flatten().map_err(|error| no_answer(&error))
}

/// The daemon at this moment.
pub(crate) async fn snapshot(admin: &AdminListen) -> Result<Snapshot, CommandFailure> {
    let body = ask(admin, "/status.json").await?.body;
    serde_json::from_str::<Snapshot>(&body).map_err(|error| {
        let text = format!("the daemon's answer makes no sense to this version: {error}");
        CommandFailure::new(Exit::Failed, text)
    })
}

fn get(path: &str) -> anyhow::Result<Request<Full<Bytes>>> {
    let request = Request::get(path).header(hyper::header::HOST, "localhost");
    Ok(request.body(Full::default())?)
}

/// One request over a connection, and its answer.
async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Request<Full<Bytes>>,
) -> anyhow::Result<DaemonAnswer> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let exchange = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_AT_MOST).collect().await;
        let bytes = body.map_err(|error| anyhow::anyhow!(error))?.to_bytes();
        Ok::<_, anyhow::Error>(DaemonAnswer { status, body: String::from_utf8(bytes.to_vec())? })
    };
    // The connection is driven beside the exchange and ends with it.
    tokio::select! {
        answer = exchange => answer,
        Err(error) = connection => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_daemon_that_hangs_is_not_waited_for_much_longer_than_it_may_take() {
        let start = tokio::time::Instant::now();
        // It accepts connections, and reads what there is room for.
        let (client, _hung) = tokio::io::duplex(4096);
        let Err(failure) = obeyed(client, orders::RELOAD, Vec::new()).await else { panic!() };
        assert!(start.elapsed() > admin::OBEYED_WITHIN);
        assert!(start.elapsed() < Duration::from_secs(70));
        assert_eq!(failure.exit, Exit::Unreachable);
        assert!(failure.text.contains("may still be obeyed"), "{}", failure.text);
    }

    #[test]
    fn a_socket_of_another_user_is_told_from_one_where_nobody_listens() {
        let admin = AdminListen::Unix("/run/admin.sock".into());
        let failure = |kind| not_connected(&admin, &NotThere(io::Error::from(kind)));
        let denied = failure(io::ErrorKind::PermissionDenied);
        assert_eq!(denied.exit, Exit::Permission);
        assert!(denied.text.contains("this user may not"), "{}", denied.text);
        assert_eq!(failure(io::ErrorKind::NotFound).exit, Exit::Unreachable);
        assert_eq!(failure(io::ErrorKind::ConnectionRefused).exit, Exit::Unreachable);
    }
}

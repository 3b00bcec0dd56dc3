//! `onionbraid status`: asks the running daemon.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::{Failure, finish};
use crate::config::{AdminListen, Config, Environment};
use crate::exit::Exit;
use crate::observe::{Snapshot, text};

/// How long the daemon may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// The longest answer to accept, in bytes.
const ANSWER_AT_MOST: usize = 64 * 1024 * 1024;

/// Prints the daemon's Snapshot, as text or as JSON.
pub fn status(files: &[PathBuf], json: bool) -> ExitCode {
    finish(write_status(files, json, &mut io::stdout().lock()))
}

fn write_status(files: &[PathBuf], json: bool, out: &mut impl Write) -> Result<(), Failure> {
    let config = Config::load(files, &Environment::of_process())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let answer = runtime
        .context("no tokio runtime")
        .and_then(|runtime| runtime.block_on(ask(&config.admin, "/status.json")));
    let body = answer.map_err(|error| {
        Failure::new(Exit::Unreachable, format!("the daemon does not answer: {error:#}"))
    })?;
    if json {
        writeln!(out, "{body}")?;
        return Ok(());
    }
    let snapshot = serde_json::from_str::<Snapshot>(&body).map_err(|error| {
        let text = format!("the daemon's answer makes no sense to this version: {error}");
        Failure::new(Exit::Failed, text)
    })?;
    write!(out, "{}", text::render(&snapshot))?;
    Ok(())
}

/// One GET request to the daemon.
pub(super) async fn ask(admin: &AdminListen, path: &str) -> anyhow::Result<String> {
    let asking = async {
        match admin {
            AdminListen::Unix(socket) => {
                let stream = UnixStream::connect(socket)
                    .await
                    .with_context(|| format!("cannot connect to {}", socket.display()))?;
                get(stream, path).await
            }
            AdminListen::Tcp(address) => {
                let stream = TcpStream::connect(address)
                    .await
                    .with_context(|| format!("cannot connect to {address}"))?;
                get(stream, path).await
            }
        }
    };
    tokio::time::timeout(ANSWER_WITHIN, asking).await.context("no answer within 10 s")?
}

/// One GET request over a connection.
async fn get(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    path: &str,
) -> anyhow::Result<String> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request =
        Request::get(path).header(hyper::header::HOST, "onionbraid").body(Empty::<Bytes>::new())?;
    let exchange = async {
        let response = sender.send_request(request).await?;
        let body = Limited::new(response.into_body(), ANSWER_AT_MOST).collect().await;
        let bytes = body.map_err(|error| anyhow::anyhow!(error))?.to_bytes();
        Ok::<_, anyhow::Error>(String::from_utf8(bytes.to_vec())?)
    };
    // The connection is driven beside the exchange and ends with it.
    tokio::select! {
        body = exchange => body,
        Err(error) = connection => Err(error.into()),
    }
}

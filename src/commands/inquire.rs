//! Who answers a command's question to the network? The running daemon, over its
//! Unix socket, so that the command makes no connection and takes no guards; else
//! a Tor client in the command itself.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::ask;
use super::{CommandFailure, remark, tor_client};
use crate::config::{AdminListen, Config, Environment};
use crate::exit::Exit;
use crate::tor::network::Network;

/// Who has answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// The running daemon.
    Daemon,
    /// The command itself.
    Command,
}

/// Asks the daemon at `path`, or `answers` the question here.
pub(crate) fn inquire<Q: Serialize, A: DeserializeOwned>(
    config: &Config,
    env: &Environment,
    path: &str,
    question: &Q,
    answers: impl AsyncFnOnce(Network, &Q) -> Result<A, CommandFailure>,
) -> Result<(A, By), CommandFailure> {
    if let AdminListen::Unix(socket) = &config.admin {
        let nonsense = |error: serde_json::Error| {
            let text = format!("the daemon's answer makes no sense to this version: {error}");
            CommandFailure::new(Exit::Failed, text)
        };
        let asked = serde_json::to_vec(question).map_err(nonsense)?;
        if let Some(answer) = ask::runtime()?.block_on(ask::inquire(socket, path, asked))? {
            if !answer.status.is_success() {
                let text = format!("the running daemon: {}", answer.body.trim_end());
                return Err(CommandFailure::new(Exit::Failed, text));
            }
            remark("asked the running daemon");
            return Ok((serde_json::from_str(&answer.body).map_err(nonsense)?, By::Daemon));
        }
    }
    let answer =
        tor_client::with_network(config, env, async |network| answers(network, question).await)?;
    Ok((answer?, By::Command))
}

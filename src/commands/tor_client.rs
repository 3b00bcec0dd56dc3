//! How does a command get at the Tor network where no daemon answers for it?
//! With an embedded client on directories that last, so that its guards do.

mod directories;

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use super::{CommandFailure, remark};
use crate::config::{Config, Environment};
use crate::daemon::readers;
use crate::exit::Exit;
use crate::tor::bootstrap::{Tor, TorError};
use crate::tor::keys;
use crate::tor::network::Network;
use crate::tor::watch::watch;

use directories::ClientDirectories;

/// How long a client without any cache may take to be ready.
const READY_WITHIN: Duration = Duration::from_secs(180);

/// How long to wait for the last microdescriptors once Tor can be used.
const COMPLETE_WITHIN: Duration = Duration::from_secs(20);

/// How long Arti's tasks may take to end.
const END_WITHIN: Duration = Duration::from_secs(2);

/// Does `work` on a Tor network.
///
/// # Errors
///
/// If there are no directories for a client, if Tor does not get ready, or on
/// SIGINT and SIGTERM.
pub(crate) fn with_network<T>(
    config: &Config,
    env: &Environment,
    work: impl AsyncFnOnce(Network) -> T,
) -> Result<T, CommandFailure> {
    let directories = directories::take(config, env)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime
        .map_err(|error| CommandFailure::new(Exit::Failed, format!("no tokio runtime: {error}")))?;
    let result = runtime.block_on(async {
        let interrupted = interrupted()?;
        tokio::select! {
            result = connect_and(&directories, config, work) => result,
            failure = interrupted => Err(failure),
            () = directories.lock.wanted() => {
                let text = "a daemon starts with the same state directory; ask again, and it answers";
                Err(CommandFailure::new(Exit::Failed, text))
            }
        }
    });
    // Before the lock goes: Arti writes its guards down when it ends.
    runtime.shutdown_timeout(END_WITHIN);
    drop(directories);
    result
}

async fn connect_and<T>(
    directories: &ClientDirectories,
    config: &Config,
    work: impl AsyncFnOnce(Network) -> T,
) -> Result<T, CommandFailure> {
    let tor = Tor::new(directories.tor.clone(), None)?;
    if let Ok(keys) = keys::open_existing(&config.storage) {
        tor.keyring.replace(readers::of_all(&config.services, &keys));
    }
    remark(&format!("connecting to Tor with {} ...", directories.guards));
    let ready = async {
        tokio::select! {
            network = tor.bootstrap() => network,
            never = watch(&tor) => match never {},
        }
    };
    let network = match tokio::time::timeout(READY_WITHIN, ready).await {
        Ok(network) => network,
        Err(_) => {
            let view = tor.view();
            let text = format!(
                "Tor is not ready after {READY_WITHIN:?}: {:.0} %, {}",
                view.fraction * 100.0,
                view.in_words()
            );
            return Err(CommandFailure::new(Exit::Failed, text));
        }
    };
    network.described_within(COMPLETE_WITHIN).await;
    Ok(work(network).await)
}

/// From now on SIGINT and SIGTERM end nothing by themselves; the future waits
/// for one.
fn interrupted() -> Result<impl Future<Output = CommandFailure>, CommandFailure> {
    let listen = |kind| {
        signal(kind).map_err(|error| {
            CommandFailure::new(Exit::Failed, format!("cannot receive signals: {error}"))
        })
    };
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        CommandFailure::new(Exit::Failed, "interrupted")
    })
}

impl From<TorError> for CommandFailure {
    fn from(error: TorError) -> Self {
        Self::new(Exit::Failed, format!("{:#}", anyhow::Error::from(error)))
    }
}

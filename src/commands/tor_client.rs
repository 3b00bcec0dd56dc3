//! How does a command get at the Tor network? With an embedded client of its
//! own, on directories that are made for it and removed afterwards.
//!
//! So it disturbs no daemon: neither its lock, nor its guards, nor its cache.

use std::io::{self, Write as _};
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};

use super::Failure;
use crate::config::Config;
use crate::exit::Exit;
use crate::tor::bootstrap::{Tor, TorError};
use crate::tor::network::Network;

/// How long a client without any cache may take to be ready.
const READY_WITHIN: Duration = Duration::from_secs(180);

/// How long to wait for the last microdescriptors once Tor can be used.
const COMPLETE_WITHIN: Duration = Duration::from_secs(20);

/// How long Arti's tasks may take to end.
const END_WITHIN: Duration = Duration::from_secs(2);

/// Does `work` on a Tor network, and cleans up whatever becomes of it.
///
/// # Errors
///
/// If the directories cannot be made, if Tor does not get ready, or on SIGINT
/// and SIGTERM.
pub(crate) fn with_network<T>(
    config: &Config,
    work: impl AsyncFnOnce(Network) -> T,
) -> Result<T, Failure> {
    let directory = make_directory(config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime
        .map_err(|error| Failure::new(Exit::Failed, format!("no tokio runtime: {error}")))?;
    let result = runtime.block_on(async {
        let interrupted = interrupted()?;
        tokio::select! {
            result = connect_and(config, directory.path(), work) => result,
            failure = interrupted => Err(failure),
        }
    });
    // Before the directory goes: Arti writes to it as long as it lives.
    runtime.shutdown_timeout(END_WITHIN);
    if let Err(error) = directory.close() {
        let _ = writeln!(io::stderr(), "onionbraid: warning: {error}");
    }
    result
}

/// A directory (0700) below the cache directory, which may have to be made.
fn make_directory(config: &Config) -> Result<TempDir, Failure> {
    let cache = &config.storage.cache_dir;
    let failed = |error: &dyn std::fmt::Display| {
        let text =
            format!("no directory for a Tor client can be made below {}: {error}", cache.display());
        Failure::new(Exit::Permission, text)
    };
    config
        .storage
        .mistrust
        .verifier()
        .make_directory(cache)
        .map_err(|error| failed(&format!("{:#}", anyhow::Error::from(error))))?;
    tempfile::Builder::new().prefix("client-").tempdir_in(cache).map_err(|error| failed(&error))
}

async fn connect_and<T>(
    config: &Config,
    directory: &Path,
    work: impl AsyncFnOnce(Network) -> T,
) -> Result<T, Failure> {
    let tor = Tor::new(config.tor_below(directory)?)?;
    let _ = writeln!(io::stderr(), "connecting to Tor ...");
    let network = match tokio::time::timeout(READY_WITHIN, tor.bootstrap()).await {
        Ok(network) => network,
        Err(_) => {
            let view = tor.view();
            let text = format!(
                "Tor is not ready after {READY_WITHIN:?}: {:.0} %, {}",
                view.fraction * 100.0,
                view.message
            );
            return Err(Failure::new(Exit::Failed, text));
        }
    };
    network.described_within(COMPLETE_WITHIN).await;
    Ok(work(network).await)
}

/// From now on SIGINT and SIGTERM end nothing by themselves; the future waits
/// for one.
fn interrupted() -> Result<impl Future<Output = Failure>, Failure> {
    let listen = |kind| {
        signal(kind)
            .map_err(|error| Failure::new(Exit::Failed, format!("cannot receive signals: {error}")))
    };
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        Failure::new(Exit::Failed, "interrupted")
    })
}

impl From<TorError> for Failure {
    fn from(error: TorError) -> Self {
        Self::new(Exit::Failed, format!("{:#}", anyhow::Error::from(error)))
    }
}

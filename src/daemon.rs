//! The daemon: takes the state directory, starts Tor, starts every service,
//! opens the operator's door, and ends cleanly when told to.
//!
//! It assembles the parts and carries facts and commands between them; it
//! decides nothing about backends, points or descriptors.

mod drain;
mod fetches;
mod origins;
mod reload;
mod service;
mod settings;
mod snapshot;
mod state;
mod state_lock;
mod streams;

use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::admin::{Admin, AdminError};
use crate::config::{AddressError, Config, check_addresses};
use crate::tor::bootstrap::{Tor, TorError};
use crate::tor::keys::{self, KeyError};

use service::Service;
use snapshot::Board;
use state_lock::{StateLock, StateLockError};

/// How long everything may take to end after the first signal.
const END_WITHIN: Duration = Duration::from_secs(10);

/// Why the daemon ended other than by a signal.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// Another daemon has the state directory.
    #[error(transparent)]
    StateLock(#[from] StateLockError),
    /// An identity key cannot be read or made.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// The services cannot run together under the addresses of their keys.
    #[error(transparent)]
    Addresses(#[from] AddressError),
    /// The Tor client cannot start.
    #[error(transparent)]
    Tor(#[from] TorError),
    /// The operator's door cannot be opened.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// Signals cannot be received.
    #[error("cannot receive signals")]
    Signals(#[source] std::io::Error),
    /// Something that has to run for ever has ended; that is a bug.
    #[error("{0} has ended unexpectedly")]
    Ended(String),
}

/// Runs until SIGTERM or SIGINT; a second one ends the process at once.
pub async fn run(config: Config) -> Result<(), DaemonError> {
    let mut stop = Stop::listen()?;
    let _lock = StateLock::take(&config.storage)?;
    let keys = keys::open(&config.storage)?;
    let services = config
        .services
        .iter()
        .filter(|service| service.enabled)
        .map(|service| {
            let file = service.identity_key.as_deref();
            let identity = keys.identity_or_generate(&service.nickname, file)?;
            Ok(Service::new(service.clone(), identity))
        })
        .collect::<Result<Vec<Service>, DaemonError>>()?;
    check_addresses(services.iter().map(Service::config_and_address))?;
    let tor = Tor::new(config.tor.clone())?;
    let board = Arc::new(Board::new(tor.clone(), services.iter().map(Service::watch).collect()));
    let take_snapshot = {
        let board = Arc::clone(&board);
        Arc::new(move || board.snapshot())
    };
    let admin = Admin::open(&config.admin, take_snapshot).await?;

    let cancel = CancellationToken::new();
    let mut tasks: JoinSet<Ended> = JoinSet::new();
    tasks.spawn(async move { match admin.serve().await {} });
    tasks.spawn(report_progress(tor.clone()));
    tasks.spawn(run_services(tor, services, cancel.clone()));

    tokio::select! {
        () = stop.signal() => {}
        ended = tasks.join_next() => return Err(DaemonError::Ended(in_words(ended))),
    }
    tracing::info!("ending; a second signal ends at once");
    cancel.cancel();
    // Only the services have something to end; the other tasks just stop.
    tokio::select! {
        _ = tasks.join_next() => {}
        () = tokio::time::sleep(END_WITHIN) => tracing::warn!("not everything ended in time"),
        () = stop.signal() => tracing::warn!("ended at once"),
    }
    Ok(())
}

/// Which task has ended.
type Ended = String;

/// What to tell of a task that ended though it should run for ever.
fn in_words(ended: Option<Result<Ended, tokio::task::JoinError>>) -> String {
    match ended {
        Some(Ok(name)) => name,
        Some(Err(error)) => error.to_string(),
        None => "everything".to_owned(),
    }
}

/// Waits for a usable Tor network, then runs all services until cancelled.
async fn run_services(tor: Tor, services: Vec<Service>, cancel: CancellationToken) -> Ended {
    let Some(network) = cancel.run_until_cancelled(tor.bootstrap()).await else {
        return "bootstrapping".to_owned();
    };
    tracing::info!("Tor is ready");
    let mut running: JoinSet<Ended> = JoinSet::new();
    for service in services {
        running.spawn(service.run(network.clone(), cancel.clone()));
    }
    let first = running.join_next().await;
    if cancel.is_cancelled() {
        while running.join_next().await.is_some() {}
    }
    format!("service {}", in_words(first))
}

/// Logs each tenth of the way to a usable Tor network.
async fn report_progress(tor: Tor) -> Ended {
    use futures::StreamExt as _;
    let mut progress = tor.progress();
    let mut told = -1.0;
    while let Some(view) = progress.next().await {
        if view.fraction - told >= 0.1 || (view.fraction >= 1.0 && told < 1.0) {
            told = view.fraction;
            tracing::info!("Tor {:.0} %: {}", view.fraction * 100.0, view.message);
        }
    }
    std::future::pending().await
}

/// The signals that end the daemon.
struct Stop {
    /// From a service manager.
    terminate: tokio::signal::unix::Signal,
    /// From a terminal.
    interrupt: tokio::signal::unix::Signal,
}

impl Stop {
    /// From now on these signals end nothing by themselves.
    fn listen() -> Result<Self, DaemonError> {
        let listen = |kind| signal(kind).map_err(DaemonError::Signals);
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next one.
    async fn signal(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

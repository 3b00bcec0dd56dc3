//! The embedded Tor client: created from the configuration, bootstrapped for
//! as long as it takes, and how far it is.

use std::convert::Infallible;
use std::future::{Future as _, poll_fn};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, SystemTime};

use arti_client::status::BootstrapStatus;
use arti_client::{TorClient, TorClientConfig};
use futures::stream::{BoxStream, StreamExt as _};
use tor_netdir::Timeliness;
use tor_rtcompat::PreferredRuntime;

use super::clock_watch::{ClockWatch, LOOK_EVERY};
use super::full_disk;
pub use super::full_disk::UnwrittenCache;
use super::network::{Network, Runtime};
use crate::causes::{in_one_line, is_disk_full, is_out_of_handles};
use crate::clock::now;
use crate::throttle::Throttle;

/// Between two attempts to bootstrap, once Arti's own retries are used up.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// How often it is looked whether the directory is overdue, and how seldom at most
/// it is asked for again then.
const RENEW_AFTER: Duration = Duration::from_secs(30);
const RENEW_AT_MOST: Duration = Duration::from_secs(10 * 60);

/// How often a full disk is looked at.
const ROOM_EVERY: Duration = Duration::from_secs(5);

/// The embedded Tor client.
#[derive(Clone)]
pub struct Tor {
    /// Arti's client; its background tasks live as long as it does.
    client: Arc<TorClient<Runtime>>,
    /// Why the last attempt to bootstrap failed, until one succeeds.
    failure: Arc<Mutex<Option<String>>>,
    /// Held while the disk is full.
    unwritten: Arc<Mutex<Option<UnwrittenCache>>>,
}

/// Why there is no Tor client.
#[derive(Debug, thiserror::Error)]
pub enum TorError {
    /// Not called from within a tokio runtime.
    #[error("no tokio runtime")]
    Runtime(#[source] std::io::Error),
    /// Arti refuses its configuration or its directories.
    #[error("the Tor client cannot start")]
    Client(#[source] arti_client::Error),
    /// Something is wrong with this machine, in the operator's words.
    #[error("the Tor client cannot start: {0}")]
    Machine(String),
}

/// How far the Tor client is.
#[derive(Clone, Debug, Default)]
pub struct BootstrapView {
    /// From 0.0 to 1.0, which is ready.
    pub fraction: f32,
    /// What it does, or what blocks it.
    pub message: String,
    /// Until when the directory is valid, once there is one.
    pub valid_until: Option<SystemTime>,
    /// What is wrong with it although it can be used.
    pub problem: Option<String>,
}

impl Tor {
    /// Creates the client. It does nothing on the network before [`Tor::bootstrap`],
    /// and writes to no cache that is `unwritten` as long as that has no room.
    pub fn new(
        config: TorClientConfig,
        unwritten: Option<UnwrittenCache>,
    ) -> Result<Self, TorError> {
        // Without a provider the first TLS connection panics. Whoever installed
        // one before us chose well enough.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = PreferredRuntime::current().map_err(TorError::Runtime)?;
        let client = TorClient::with_runtime(runtime)
            .config(config)
            .create_unbootstrapped()
            .map_err(|error| match of_this_machine(&error) {
                Some(what) => TorError::Machine(what),
                None => TorError::Client(error),
            })?;
        Ok(Self { client, failure: Arc::default(), unwritten: Arc::new(Mutex::new(unwritten)) })
    }

    /// Bootstraps, trying again for as long as it takes.
    pub async fn bootstrap(&self) -> Network {
        loop {
            let failure = match self.bootstrap_once().await {
                Ok(()) => match (self.client.hs_circ_pool(), self.client.dirmgr()) {
                    (Ok(circuits), Ok(directory)) => {
                        self.failed_with(None);
                        let provider = directory.upcast_arc();
                        return Network::new(self.client.runtime().clone(), circuits, provider);
                    }
                    (Err(error), _) | (_, Err(error)) => error,
                },
                Err(error) => error,
            };
            let failure = explained(&failure);
            tracing::warn!(error = %failure, "Tor is not reachable yet; trying again in {RETRY_AFTER:?}");
            self.failed_with(Some(failure));
            tokio::time::sleep(RETRY_AFTER).await;
        }
    }

    /// Bootstraps in a way that can be done again: where Arti's task that renews
    /// the directory has ended, since it could not write to its store, another
    /// call begins anew; and does nothing where it runs.
    ///
    /// Arti refuses that once it has waited for its first download to the end. So
    /// the first wait is cut off as soon as the directory is there, and a second
    /// call, which does not wait, takes the lock on the state files again.
    async fn bootstrap_once(&self) -> Result<(), arti_client::Error> {
        let is_usable = || {
            let directory = self.client.dirmgr();
            directory.is_ok_and(|directory| directory.netdir(Timeliness::Timely).is_ok())
        };
        let was_usable = is_usable();
        let mut first = Box::pin(self.client.bootstrap());
        let ended = poll_fn(|context| match !was_usable && is_usable() {
            true => Poll::Ready(None),
            false => first.as_mut().poll(context).map(Some),
        });
        match ended.await {
            Some(outcome) => outcome,
            None => {
                drop(first);
                self.client.bootstrap().await
            }
        }
    }

    /// Has Arti renew its directory again, where it has given that up: without
    /// space on the disk, or file handles, it does so for good.
    pub async fn keep_up(&self) -> Infallible {
        let mut complained = Throttle::new(RENEW_AT_MOST);
        let mut pause = RENEW_AFTER;
        loop {
            tokio::time::sleep(pause).await;
            let directory =
                self.client.dirmgr().ok().and_then(|it| it.netdir(Timeliness::Unchecked).ok());
            let overdue = directory.is_some_and(|it| it.lifetime().valid_until() < now().wall);
            if !overdue {
                pause = RENEW_AFTER;
                continue;
            }
            pause = (pause * 2).min(RENEW_AT_MOST);
            let renewed = tokio::time::timeout(RENEW_AT_MOST, self.bootstrap_once()).await;
            if let Ok(Err(error)) = renewed
                && let Some(more) = complained.permits(now().monotonic)
            {
                let error = explained(&error);
                tracing::warn!(error, more, "the Tor directory cannot be renewed");
            }
        }
    }

    /// Has Arti fetch a directory sooner than it means to, where there is reason
    /// to: after the machine's clock was set, and while there is none.
    pub async fn hurry(&self) -> Infallible {
        let mut watch = ClockWatch::new(now());
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            // Before bootstrapping has begun there is nothing to hurry.
            let Ok(directory) = self.client.dirmgr() else { continue };
            let usable = directory.netdir(Timeliness::Timely).is_ok();
            if watch.look(now(), usable)
                && let Some(download) = directory.download_task_handle()
            {
                tracing::debug!("no directory yet: trying again now");
                download.fire();
            }
        }
    }

    /// Lets Arti write to its cache again when there is room.
    pub async fn use_room(&self) -> Infallible {
        loop {
            tokio::time::sleep(ROOM_EVERY).await;
            let mut unwritten = lock(&self.unwritten);
            // Reserving space is quick: nothing is written.
            if unwritten.take_if(|cache| cache.has_room()).is_some() {
                tracing::info!("there is space in cache_dir again: the Tor directory is renewed");
            }
        }
    }

    fn failed_with(&self, failure: Option<String>) {
        *lock(&self.failure) = failure;
    }

    /// How far the client is, at this moment.
    pub fn view(&self) -> BootstrapView {
        self.describe(&self.client.bootstrap_status())
    }

    /// Each step of bootstrapping, as it happens.
    pub fn progress(&self) -> BoxStream<'static, BootstrapView> {
        let this = self.clone();
        self.client.bootstrap_events().map(move |status| this.describe(&status)).boxed()
    }

    /// Puts Arti's status into our words.
    fn describe(&self, status: &BootstrapStatus) -> BootstrapView {
        let netdir = |timeliness| self.client.dirmgr().ok()?.netdir(timeliness).ok();
        let valid_until = netdir(Timeliness::Unchecked).map(|d| d.lifetime().valid_until());
        // While Arti looks for the next directory, the one at hand will do.
        let usable = netdir(Timeliness::Timely).is_some();
        let failure = lock(&self.failure).clone();
        let problem = lock(&self.unwritten).as_ref().map(|_| full_disk::PROBLEM.to_owned());
        let failure = failure.or_else(|| problem.clone().filter(|_| !usable));
        let blockage = failure.or_else(|| status.blocked().map(|it| it.message().to_string()));
        let message = words(blockage, &status.to_string());
        BootstrapView {
            fraction: if usable { 1.0 } else { status.as_frac() },
            message,
            valid_until,
            problem: problem.filter(|_| usable),
        }
    }
}

/// What is behind the lock is never half changed, whoever panicked.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why bootstrapping failed, for the operator: what is wrong with this machine
/// comes first.
fn explained(error: &(dyn std::error::Error + 'static)) -> String {
    of_this_machine(error).unwrap_or_else(|| in_one_line(error))
}

/// What is wrong with this machine, if that is the reason.
fn of_this_machine(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    let what = if is_disk_full(error) {
        "no space is left for the Tor directory in cache_dir or state_dir"
    } else if is_out_of_handles(error) {
        "no file handle is left: raise the limit of open files"
    } else {
        return None;
    };
    Some(format!("{what} ({})", in_one_line(error)))
}

/// What blocks the client, or else what it does; `whole` is Arti's own line, which
/// ends with what it believes of the clock, if that is wrong.
fn words(blockage: Option<String>, whole: &str) -> String {
    let clock = whole.split_once("Clock is ").map(|(_, wrong)| wrong.trim_end_matches('.'));
    match (blockage, clock) {
        (None, None) => whole.to_owned(),
        (Some(blockage), None) if blockage.contains("reset bootstrapping") => format!(
            "no directory is valid at the time that this machine's clock shows, which may be \
             wrong: {blockage}"
        ),
        (Some(blockage), None) => blockage,
        (_, Some(wrong)) => format!("this machine's clock is {wrong}: set it right"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_clock_is_told_in_words_and_by_how_much_if_that_is_known() {
        let resets = || Some("Had to reset bootstrapping too many times.".to_owned());
        let whole = "8%: handshaking; fetching. Clock is slow by around 3days (based on 4 recent \
                     observations, with high confidence)";
        for blockage in [None, resets()] {
            let told = words(blockage, whole);
            assert!(told.starts_with("this machine's clock is slow by around 3days"), "{told}");
        }
        assert!(words(resets(), "8%: fetching").contains("clock shows, which may be wrong"));
        assert_eq!(words(Some("no network".into()), "8%"), "no network");
        assert_eq!(words(None, "8%: fetching"), "8%: fetching");
    }

    #[test]
    fn a_full_disk_is_one_sentence() {
        let full = std::io::Error::from_raw_os_error(28);
        assert_eq!(
            explained(&full),
            "no space is left for the Tor directory in cache_dir or state_dir (No space left on \
             device (os error 28))"
        );
    }
}

//! The embedded Tor client: created from the configuration, bootstrapped for
//! as long as it takes, and how far it is.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arti_client::status::BootstrapStatus;
use arti_client::{TorClient, TorClientConfig};
use futures::stream::{BoxStream, StreamExt as _};
use tor_netdir::Timeliness;
use tor_rtcompat::PreferredRuntime;

use super::network::{Network, Runtime};

/// Between two attempts to bootstrap, once Arti's own retries are used up.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// The embedded Tor client.
#[derive(Clone)]
pub struct Tor {
    /// Arti's client; its background tasks live as long as it does.
    client: Arc<TorClient<Runtime>>,
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
}

impl Tor {
    /// Creates the client. It does nothing on the network before [`Tor::bootstrap`].
    pub fn new(config: TorClientConfig) -> Result<Self, TorError> {
        // Without a provider the first TLS connection panics. Whoever installed
        // one before us chose well enough.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = PreferredRuntime::current().map_err(TorError::Runtime)?;
        let client = TorClient::with_runtime(runtime)
            .config(config)
            .create_unbootstrapped()
            .map_err(TorError::Client)?;
        Ok(Self { client })
    }

    /// Bootstraps, trying again for as long as it takes.
    pub async fn bootstrap(&self) -> Network {
        loop {
            let failure: Box<dyn fmt::Display + Send> = match self.client.bootstrap().await {
                Ok(()) => match (self.client.hs_circ_pool(), self.client.dirmgr()) {
                    (Ok(circuits), Ok(directory)) => {
                        let provider = directory.upcast_arc();
                        return Network::new(self.client.runtime().clone(), circuits, provider);
                    }
                    (Err(error), _) | (_, Err(error)) => Box::new(error),
                },
                Err(error) => Box::new(error),
            };
            tracing::warn!(error = %failure, "Tor is not reachable yet; trying again in {RETRY_AFTER:?}");
            tokio::time::sleep(RETRY_AFTER).await;
        }
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
        let message = match status.blocked() {
            Some(blockage) => blockage.to_string(),
            None => status.to_string(),
        };
        BootstrapView {
            fraction: if usable { 1.0 } else { status.as_frac() },
            message,
            valid_until,
        }
    }
}

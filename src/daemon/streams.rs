//! Which origin a client's stream goes to.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::sync::{Notify, watch};

use crate::clock::now;
use crate::instance::{ClientStream, Serve};
use crate::proxy::rules::{Origin, ProxyRules, ProxyTarget};
use crate::proxy::{forward, origin, welcome};

/// Serves the streams of one service by its `proxy_ports`.
pub(super) struct ByPort {
    /// What they share: the rules, and the log's patience.
    shared: Arc<Shared>,
}

/// What all streams of a service share.
struct Shared {
    /// The rules, as they are for new streams.
    rules: watch::Receiver<Arc<ProxyRules>>,
    /// Told of every origin that does not answer.
    failed: Arc<Notify>,
    /// When the log was last told of an origin that does not answer.
    complained: Mutex<Option<Instant>>,
}

/// An origin that does not answer is told no more often: clients decide how
/// often they try.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

impl ByPort {
    /// By these rules; `failed` is told of every origin that does not answer.
    pub(super) fn new(rules: watch::Receiver<Arc<ProxyRules>>, failed: Arc<Notify>) -> Self {
        Self { shared: Arc::new(Shared { rules, failed, complained: Mutex::new(None) }) }
    }
}

impl Serve for ByPort {
    fn serve(&self, stream: ClientStream) -> BoxFuture<'static, ()> {
        let shared = Arc::clone(&self.shared);
        async move {
            let rules = Arc::clone(&shared.rules.borrow());
            // A client that goes before it has its answer is no event.
            let _ = match rules.target(stream.port()) {
                ProxyTarget::Forward(target) => {
                    return shared.forward_to(target.origins.first(), stream).await;
                }
                ProxyTarget::Http(target) => {
                    let origin = target.origins.first().map(|origin| &origin.address);
                    return shared.forward_to(origin, stream).await;
                }
                ProxyTarget::Files(_) => return shared.forward_to(None, stream).await,
                ProxyTarget::Welcome => {
                    if let Ok(accepted) = stream.accept().await {
                        let _ = welcome::serve(accepted.stream).await;
                    }
                    return;
                }
                ProxyTarget::Destroy => stream.destroy_circuit().await,
                ProxyTarget::Reject => stream.refuse().await,
                ProxyTarget::Ignore => stream.ignore().await,
            };
        }
        .boxed()
    }
}

impl Shared {
    /// Connects to the origin first: a client is accepted only by a live one.
    async fn forward_to(&self, origin: Option<&Origin>, stream: ClientStream) {
        let Some(origin) = origin else {
            let _ = stream.origin_failed().await;
            return;
        };
        match origin::connect(origin).await {
            Ok(connection) => {
                if let Ok(accepted) = stream.accept().await {
                    let _ = forward::forward(accepted.stream, connection).await;
                }
            }
            Err(error) => {
                self.failed.notify_one();
                self.complain(origin, &error);
                let _ = stream.origin_failed().await;
            }
        }
    }

    /// Tells the log of an origin that does not answer, now and then.
    fn complain(&self, origin: &Origin, error: &io::Error) {
        let now = now().monotonic;
        let mut complained = self.complained.lock().unwrap_or_else(PoisonError::into_inner);
        if complained.is_none_or(|last| now - last >= COMPLAIN_EVERY) {
            *complained = Some(now);
            tracing::warn!(?origin, %error, "the origin does not answer");
        }
    }
}

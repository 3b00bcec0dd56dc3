//! Which origin a client's stream goes to.

use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;

use crate::instance::{ClientStream, Serve};
use crate::proxy::rules::{Origin, ProxyRules, ProxyTarget};
use crate::proxy::{forward, origin, welcome};

/// Serves the streams of one service by its `proxy_ports`.
pub(super) struct ByPort {
    /// The rules.
    rules: Arc<ProxyRules>,
}

impl ByPort {
    /// By these rules.
    pub(super) fn new(rules: ProxyRules) -> Self {
        Self { rules: Arc::new(rules) }
    }
}

impl Serve for ByPort {
    fn serve(&self, stream: ClientStream) -> BoxFuture<'static, ()> {
        let rules = Arc::clone(&self.rules);
        async move {
            // A client that goes before it has its answer is no event.
            let _ = match rules.target(stream.port()) {
                ProxyTarget::Forward(origin) | ProxyTarget::Http(origin) => {
                    return forward_to(origin, stream).await;
                }
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

/// Connects to the origin first: a client is accepted only by a live one.
async fn forward_to(origin: &Origin, stream: ClientStream) {
    match origin::connect(origin).await {
        Ok(connection) => {
            if let Ok(accepted) = stream.accept().await {
                let _ = forward::forward(accepted.stream, connection).await;
            }
        }
        Err(error) => {
            tracing::warn!(?origin, %error, "the origin does not answer");
            let _ = stream.origin_failed().await;
        }
    }
}

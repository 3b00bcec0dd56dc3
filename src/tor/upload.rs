//! One upload of one descriptor to one HSDir.

use std::sync::Arc;

use tor_dirclient::request::HsDescUploadRequest;

use super::directory_request::{As, ask};
use super::network::Network;
use onionbraid_balancer::fact::UploadFailure;
use onionbraid_balancer::onion::RelayId;

/// Uploads a signed descriptor, once (rend-spec-v3, section 2.2.6).
///
/// An HSDir answers 200 when it has stored the descriptor, and 400 when it
/// refuses it, most often because it holds an equal or higher revision counter.
pub(crate) async fn upload(
    network: &Network,
    hsdir: RelayId,
    descriptor: Arc<str>,
) -> Result<(), UploadFailure> {
    let request = HsDescUploadRequest::new(descriptor);
    let response = ask(network, hsdir, As::Service, &request)
        .await
        .map_err(|error| UploadFailure::Unreachable(error.to_string()))?;
    match response.status_code() {
        200 => Ok(()),
        code => {
            let message = response.status_message().unwrap_or("without a reason");
            Err(UploadFailure::Refused(format!("{code} {message}")))
        }
    }
}

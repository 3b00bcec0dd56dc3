//! One upload of one descriptor to one HSDir.

use std::sync::Arc;

use super::directory_request::{As, DirectoryRequestError, Request, ask};
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
    let answer =
        ask(network, hsdir, As::Service, &Request::Upload(descriptor)).await.map_err(failure)?;
    match answer.status {
        200 => Ok(()),
        code => {
            // What an HSDir says, an operator reads: no more than a line of it.
            let reason: String = answer.reason.chars().take(100).collect();
            Err(UploadFailure::Refused(format!("{code} {reason}")))
        }
    }
}

/// Whether the HSDir can have got the request.
fn failure(error: DirectoryRequestError) -> UploadFailure {
    let text = error.to_string();
    match error {
        DirectoryRequestError::Exchange(_) => UploadFailure::Unanswered(text),
        DirectoryRequestError::NoDirectory
        | DirectoryRequestError::NotListed
        | DirectoryRequestError::Circuit(_)
        | DirectoryRequestError::NotConnected => UploadFailure::Unreachable(text),
    }
}

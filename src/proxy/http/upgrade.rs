//! What happens after a request has changed the protocol?

use std::time::Duration;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::exchange::Record;
use super::gate::Keeper;
use super::progress::{Progress, Watched};
use crate::proxy::forward::forward;

/// Copies bytes both ways after the protocol has changed, until either side
/// ends or nothing moves for too long.
pub(super) async fn copy(
    client: OnUpgrade,
    origin: OnUpgrade,
    keeper: Keeper,
    silence: Duration,
    mut record: Record,
) {
    // Either side may have gone with the 101 under way.
    let (Ok(client), Ok(origin)) = tokio::join!(client, origin) else { return };
    keeper.protocol_changes(true);
    let progress = Progress::new(silence, None);
    let client = Watched { client: TokioIo::new(client), flow: progress.flow() };
    tokio::select! {
        // How they end is theirs to know.
        _ = forward(client, TokioIo::new(origin)) => record.ended(),
        failure = progress.overdue() => record.failed(failure),
    }
}

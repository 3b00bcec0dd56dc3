//! What happens after a request has changed the protocol?

use std::sync::Arc;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::exchange::Record;
use super::gate::Keeper;
use super::progress::{Progress, Watched};
use crate::forward::forward;

/// Copies bytes both ways after the protocol has changed, until either side
/// ends or nothing moves for too long.
pub(super) async fn copy(
    client: OnUpgrade,
    origin: OnUpgrade,
    keeper: Keeper,
    progress: Arc<Progress>,
    mut record: Record,
) {
    let flow = progress.flow();
    let copying = async {
        // Either side may have gone with the 101 under way. And the protocol
        // changes only after the request, of which the body may still be to come.
        let (Ok(client), Ok(origin)) = tokio::join!(client, origin) else { return false };
        keeper.protocol_changes(true);
        // How they end is theirs to know.
        let _ = forward(Watched { client: TokioIo::new(client), flow }, TokioIo::new(origin)).await;
        true
    };
    tokio::select! {
        has_changed = copying => if has_changed { record.ended() },
        failure = progress.overdue() => record.failed(failure),
    }
}

//! May this request change the protocol, and what happens when it does?

use std::time::Duration;

use hyper::header::{CONNECTION, HeaderMap, HeaderName, UPGRADE};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::exchange::Record;
use super::gate::Keeper;
use super::progress::{Progress, Watched};
use crate::proxy::forward::forward;

/// Takes what it says of upgrades out of a request, unless the origin may see
/// it. A change to another kind of HTTP would lead requests past the proxy
/// (request tunnelling); one that is not offered properly is none. A server may
/// always ignore the wish (RFC 9110, section 7.8). Returns whether it is offered.
pub(super) fn offer(headers: &mut HeaderMap) -> bool {
    let named = headers.get_all(CONNECTION).iter().any(|value| {
        let names = value.to_str().unwrap_or_default().split(',');
        names.map(str::trim).any(|name| name.eq_ignore_ascii_case("upgrade"))
    });
    let mut protocols = headers.get_all(UPGRADE).iter();
    let one = match (protocols.next(), protocols.next()) {
        (Some(one), None) => one.to_str().unwrap_or_default(),
        _ => "",
    };
    let name = one.trim().split('/').next().unwrap_or_default().to_ascii_lowercase();
    let plain = !name.is_empty() && !one.contains(',');
    let offered = named && plain && !matches!(name.as_str(), "h2c" | "h2" | "http" | "tls");
    if !offered {
        headers.remove(UPGRADE);
    }
    headers.remove(HeaderName::from_static("http2-settings"));
    offered
}

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

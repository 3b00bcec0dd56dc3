//! The monotonic clock, read here and nowhere else: the pure parts are given
//! the time.

use std::time::Instant;

/// This moment.
#[expect(clippy::disallowed_methods, reason = "time enters the proxy here")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Sleeps until a moment, or for ever.
pub(crate) async fn sleep_until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}

//! The clocks, read here and nowhere else: the pure parts are given the time.

use std::time::{Instant, SystemTime};

use onionbraid_balancer::fact::Now;

/// This moment.
#[expect(clippy::disallowed_methods, reason = "time enters the program here")]
pub(crate) fn now() -> Now {
    Now { monotonic: Instant::now(), wall: SystemTime::now() }
}

/// Sleeps until a moment, or for ever.
pub(crate) async fn sleep_until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}

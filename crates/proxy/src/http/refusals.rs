//! Streams that one HTTP/2 connection had refused, beyond those that were not.
//!
//! A refused stream costs next to nothing, but a client could go on for ever: who
//! is refused again and again is told to go, and then left.

use parking_lot::Mutex;
use tokio::sync::Notify;

/// Refused streams, beyond those that began, after which a connection is closed. A
/// client that keeps to what it was told has few.
const MOST: u32 = 500;

/// What has become of the streams of one connection.
#[derive(Debug, Default)]
pub(super) struct StreamRefusals {
    /// Streams that were refused, beyond those that began.
    beyond: Mutex<u32>,
    too_many: Notify,
}

impl StreamRefusals {
    /// A stream has begun.
    pub(super) fn began(&self) {
        let mut beyond = self.beyond.lock();
        *beyond = beyond.saturating_sub(1);
    }

    /// A stream was refused.
    pub(super) fn refused(&self) {
        let mut beyond = self.beyond.lock();
        *beyond += 1;
        if *beyond >= MOST {
            *beyond = 0;
            self.too_many.notify_one();
        }
    }

    /// Waits until too many were refused, again after each time. For one waiter.
    pub(super) async fn too_many(&self) {
        self.too_many.notified().await;
    }
}

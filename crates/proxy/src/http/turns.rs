//! What a client may begin: requests and connections of HTTP/2, counted by its
//! circuit, and requests over the whole process, before anything is made for them.

use std::sync::{Arc, LazyLock};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::Proxy;
use crate::failure::Failure;

/// Requests that the process may have under way, over all of its services. Each
/// takes some 20 KiB, more if its answer waits to be read.
const MAX_UNDER_WAY: usize = 16_384;

/// Those that may still begin.
static ROOM: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(MAX_UNDER_WAY)));

/// How many requests the process has under way, and how many it may have.
pub fn requests_under_way() -> (usize, usize) {
    (MAX_UNDER_WAY.saturating_sub(ROOM.available_permits()), MAX_UNDER_WAY)
}

/// The room that all proxies of the process share.
pub(super) fn room() -> Arc<Semaphore> {
    Arc::clone(&ROOM)
}

/// A request counts as under way as long as this is there.
pub(super) struct Turn {
    proxy: Arc<Proxy>,
    circuit: u64,
    _room: OwnedSemaphorePermit,
}

impl Turn {
    /// The turn of a request that begins on this circuit.
    ///
    /// # Errors
    ///
    /// `TooMany` if the circuit has as many as it may, `Overloaded` if the
    /// process has.
    pub(super) fn take(proxy: &Arc<Proxy>, circuit: u64) -> Result<Self, Failure> {
        let now = Instant::now().into_std();
        let room = Arc::clone(&proxy.room);
        let _room = room.try_acquire_owned().map_err(|_| Failure::Overloaded)?;
        proxy.circuits().begin(circuit, now).map_err(|_| Failure::TooMany)?;
        Ok(Self { proxy: Arc::clone(proxy), circuit, _room })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.proxy.circuits().end(self.circuit);
    }
}

/// A connection of HTTP/2 counts as long as this is there.
pub(super) struct Place<'a> {
    proxy: &'a Proxy,
    circuit: u64,
}

impl<'a> Place<'a> {
    /// The place of a connection that begins on this circuit; `None`: it has as
    /// many as it may.
    pub(super) fn take(proxy: &'a Proxy, circuit: u64) -> Option<Self> {
        let now = Instant::now().into_std();
        proxy.circuits().connect(circuit, now).ok()?;
        Some(Self { proxy, circuit })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.proxy.circuits().disconnect(self.circuit);
    }
}

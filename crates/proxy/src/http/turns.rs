//! What a client may begin: requests and connections of HTTP/2, counted by its
//! circuit, and requests over the whole process, before anything is made for them.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::proxy::Proxy;
use crate::failure::Failure;

/// A request counts as under way as long as this is there.
pub(super) struct RequestTurn {
    proxy: Arc<Proxy>,
    circuit: u64,
    _room: OwnedSemaphorePermit,
}

impl RequestTurn {
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
        proxy.circuits.lock().begin(circuit, now).map_err(|_| Failure::TooMany)?;
        Ok(Self { proxy: Arc::clone(proxy), circuit, _room })
    }
}

impl Drop for RequestTurn {
    fn drop(&mut self) {
        self.proxy.circuits.lock().end(self.circuit);
    }
}

/// A connection of HTTP/2 counts as long as this is there.
pub(super) struct ConnectionTurn<'a> {
    proxy: &'a Proxy,
    circuit: u64,
}

impl<'a> ConnectionTurn<'a> {
    /// The place of a connection that begins on this circuit; `None`: it has as
    /// many as it may.
    pub(super) fn take(proxy: &'a Proxy, circuit: u64) -> Option<Self> {
        let now = Instant::now().into_std();
        proxy.circuits.lock().connect(circuit, now).ok()?;
        Some(Self { proxy, circuit })
    }
}

impl Drop for ConnectionTurn<'_> {
    fn drop(&mut self) {
        self.proxy.circuits.lock().disconnect(self.circuit);
    }
}

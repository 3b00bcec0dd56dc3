//! What is counted of one origin, and who asks it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// What is counted for each origin.
#[derive(Debug, Default)]
pub(super) struct OriginCounts {
    pub(super) requests: AtomicU64,
    pub(super) failures: AtomicU64,
    in_flight: AtomicUsize,
}

/// A request under way, until the body of its response has ended or its
/// upgraded connection is closed.
#[derive(Debug)]
pub(super) struct InFlight(Arc<OriginCounts>);

/// For whom a request is made. With PROXY protocol, who shares a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// The number of the client's circuit.
    pub circuit: u64,
    /// The virtual port that the client connected to.
    pub port: u16,
}

impl OriginCounts {
    /// A request goes to the origin.
    pub(super) fn begin(self: &Arc<Self>) -> InFlight {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(Arc::clone(self))
    }

    /// Requests under way.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

//! What is counted of one instance, for the status.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::heard::Heard;

/// What an instance has done so far, and what it is doing.
#[derive(Debug, Default)]
pub struct Counters {
    /// Introductions that arrived, replays not counted.
    pub introductions: AtomicU64,
    /// Introductions that were not looked at, by the limit that kept them out.
    pub dropped: Dropped,
    /// Introductions that had come before.
    pub replays: AtomicU64,
    /// Clients that were not met, by what failed.
    pub failed: Failed,
    /// Clients that were met.
    pub rendezvous_succeeded: AtomicU64,
    /// Clients whose rendezvous point was reached by one hop.
    pub rendezvous_direct: AtomicU64,
    /// Circuits that closed before their client opened a stream.
    pub rendezvous_abandoned: AtomicU64,
    /// Circuits without a stream that were closed to make room for a client.
    pub closed_idle: AtomicU64,
    /// The same with streams that moved nothing.
    pub closed_silent: AtomicU64,
    /// The same with streams that moved next to nothing.
    pub closed_slow: AtomicU64,
    /// Rendezvous with negotiated congestion control.
    pub congestion_controlled: AtomicU64,
    /// Streams that clients opened.
    pub streams: AtomicU64,
    /// Circuits of clients that are open now.
    pub open_circuits: AtomicU64,
    /// Streams of clients that are open now.
    pub open_streams: AtomicU64,
    /// Introductions that wait to be looked at now.
    pub introductions_waiting: AtomicU64,
    /// Rendezvous that are under way now.
    pub rendezvous_under_way: AtomicU64,
    /// When introductions arrived last.
    pub heard: Heard,
}

/// Introductions that were not looked at.
#[derive(Debug, Default)]
pub struct Dropped {
    /// The queue was full.
    pub queue: AtomicU64,
    /// More came than are looked at in a second.
    pub rate: AtomicU64,
    /// Others did more work, or it had waited too long, while work is asked for.
    pub work: AtomicU64,
    /// As many rendezvous as may be were under way.
    pub rendezvous: AtomicU64,
    /// As many circuits as may be were open, and none of them could be closed.
    pub circuits: AtomicU64,
    /// The operator has the instance in maintenance.
    pub operator: AtomicU64,
}

/// Clients that were not met.
#[derive(Debug, Default)]
pub struct Failed {
    /// The introduction could not be read.
    pub unreadable: AtomicU64,
    /// No circuit to the rendezvous point came about.
    pub circuit: AtomicU64,
    /// The circuit closed before the client was answered.
    pub closed: AtomicU64,
    /// It took longer than a client waits.
    pub time: AtomicU64,
}

/// Something that is counted while this lives.
pub(super) struct CountedInstance {
    counters: Arc<Counters>,
    which: fn(&Counters) -> &AtomicU64,
}

impl CountedInstance {
    /// One more, until this is dropped.
    pub(super) fn new(counters: &Arc<Counters>, which: fn(&Counters) -> &AtomicU64) -> Self {
        which(counters).fetch_add(1, Ordering::Relaxed);
        Self { counters: Arc::clone(counters), which }
    }
}

impl Drop for CountedInstance {
    fn drop(&mut self) {
        (self.which)(&self.counters).fetch_sub(1, Ordering::Relaxed);
    }
}

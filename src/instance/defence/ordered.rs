//! The forms that an introduction takes while it waits for its turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Notify, mpsc};

use super::super::counters::Counters;
use super::super::intro::{Introduction, PointKeys};
use super::super::plan::SlotId;
use super::super::rendezvous::OpenedIntroduction;
use super::super::replay::Digest;

/// An introduction that was not looked into so far.
pub(crate) struct Arrived {
    pub(crate) introduction: Introduction,
    pub(crate) digest: Digest,
    pub(crate) keys: Arc<PointKeys>,
    pub(crate) counters: Arc<Counters>,
    /// Where its instance takes it back.
    pub(crate) back: mpsc::Sender<AdmittedIntroduction>,
}

/// An introduction that waits for its turn.
pub(super) struct WaitingIntroduction {
    pub(super) slot: SlotId,
    pub(super) digest: Digest,
    pub(super) opened: OpenedIntroduction,
    pub(super) back: mpsc::Sender<AdmittedIntroduction>,
    /// Counts it as dropped, unless its turn comes.
    pub(super) counted: DroppedUnlessMet,
}

/// An introduction whose turn has come.
pub(crate) struct AdmittedIntroduction {
    pub(crate) slot: SlotId,
    pub(crate) digest: Digest,
    pub(crate) opened: OpenedIntroduction,
    pub(crate) under_way: RendezvousUnderWay,
}

/// A rendezvous that is under way while this lives.
pub(crate) struct RendezvousUnderWay {
    all: Arc<AtomicUsize>,
    ended: Arc<Notify>,
}

impl RendezvousUnderWay {
    /// One more of `all`; its end wakes whoever waits for `ended`.
    pub(super) fn begin(all: &Arc<AtomicUsize>, ended: &Arc<Notify>) -> Self {
        all.fetch_add(1, Ordering::Relaxed);
        Self { all: Arc::clone(all), ended: Arc::clone(ended) }
    }
}

impl Drop for RendezvousUnderWay {
    fn drop(&mut self) {
        self.all.fetch_sub(1, Ordering::Relaxed);
        self.ended.notify_one();
    }
}

/// Counts an introduction as dropped when it is dropped.
pub(super) struct DroppedUnlessMet(pub(super) Option<Arc<Counters>>);

impl Drop for DroppedUnlessMet {
    fn drop(&mut self) {
        if let Some(counters) = &self.0 {
            counters.dropped.work.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_introduction_counts_as_dropped_unless_its_client_is_met() {
        let counters = Arc::new(Counters::default());
        let mut met = DroppedUnlessMet(Some(Arc::clone(&counters)));
        met.0 = None;
        drop(met);
        assert_eq!(counters.dropped.work.load(Ordering::Relaxed), 0);
        drop(DroppedUnlessMet(Some(Arc::clone(&counters))));
        assert_eq!(counters.dropped.work.load(Ordering::Relaxed), 1);
    }
}

//! What the requests on a client's connection are doing, for those who limit how
//! long they may: the gate notes what the client takes, and each request that it
//! is under way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

/// The activity on one connection.
#[derive(Default)]
pub(super) struct ConnectionActivity {
    state: Mutex<ActivityState>,
    /// Rung when what [`ConnectionActivity::idle`] looks at has changed.
    changed: Notify,
    /// Whether all is answered and the next head is a while in coming, in HTTP/1.
    rests: AtomicBool,
}

#[derive(Default)]
struct ActivityState {
    /// Requests that have begun.
    begun: u64,
    /// Those that are not answered in full.
    under_way: usize,
    /// When the client last took something of an answer, in HTTP/1.
    taken: Option<Instant>,
    /// Whether the client does not take what there is for it, in HTTP/2.
    full: bool,
    /// Waits for the end of a request.
    waker: Option<Waker>,
}

/// A request is under way as long as this is there.
pub(super) struct RequestUnderWay(Arc<ConnectionActivity>);

impl ConnectionActivity {
    /// A request begins.
    pub(super) fn begin(self: &Arc<Self>) -> RequestUnderWay {
        let mut state = self.state.lock();
        state.begun += 1;
        state.under_way += 1;
        drop(state);
        self.changed.notify_one();
        RequestUnderWay(Arc::clone(self))
    }

    /// Requests that have begun.
    pub(super) fn begun(&self) -> u64 {
        self.state.lock().begun
    }

    /// Whether any request is under way.
    pub(super) fn is_busy(&self) -> bool {
        self.state.lock().under_way > 0
    }

    /// Whether so many requests have begun and are over; who asks is woken when
    /// the next one ends.
    pub(super) fn is_over(&self, requests: u64, context: &Context<'_>) -> bool {
        let mut state = self.state.lock();
        state.waker = Some(context.waker().clone());
        state.begun >= requests && state.under_way == 0
    }

    /// All is answered, and the next head is a while in coming; or not.
    pub(super) fn rest(&self, rests: bool) {
        self.rests.store(rests, Ordering::Relaxed);
    }

    /// Whether that is so.
    pub(super) fn rests(&self) -> bool {
        self.rests.load(Ordering::Relaxed)
    }

    /// The client has taken something of the answer to the one request under way.
    pub(super) fn took(&self) {
        self.state.lock().taken = Some(Instant::now());
    }

    /// When it last did.
    pub(super) fn taken(&self) -> Option<Instant> {
        self.state.lock().taken
    }

    /// The client has taken what there was for it, or has not.
    pub(super) fn fill(&self, full: bool) {
        if std::mem::replace(&mut self.state.lock().full, full) != full {
            self.changed.notify_one();
        }
    }

    /// Waits until no request has been under way, and no end of an answer on its
    /// way, for this long.
    pub(super) async fn idle(&self, time: Duration) {
        loop {
            let changed = self.changed.notified();
            let busy = {
                let state = self.state.lock();
                state.under_way > 0 || state.full
            };
            if busy {
                changed.await;
            } else if timeout(time, changed).await.is_err() {
                return;
            }
        }
    }
}

impl Drop for RequestUnderWay {
    fn drop(&mut self) {
        let waker = {
            let mut state = self.0.state.lock();
            state.under_way = state.under_way.saturating_sub(1);
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        self.0.changed.notify_one();
    }
}

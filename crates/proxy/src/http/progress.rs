//! Does a request make progress, and if not, whose fault is it?
//!
//! hyper does not ask a body for more while nobody takes what is there, so a
//! body cannot time itself. Both bodies of a request tell here what they do,
//! and who serves the request waits for [`Progress::overdue`]. In HTTP/1, where
//! hyper holds much of a body for a slow client, it counts besides when the
//! client last took something.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::activity::ConnectionActivity;
use crate::failure::Failure;
use crate::pace::Pace;

/// The progress of one request.
pub(super) struct Progress {
    /// What is known of it.
    state: Mutex<ProgressState>,
    /// Rung when the state changes so that waiting has to begin anew.
    changed: Notify,
    /// Knows what the client takes, if that can only be this response.
    activity: Option<Arc<ConnectionActivity>>,
    /// Knows how fast the client is, for those who wait for what it holds.
    pace: Pace,
}

/// What is known of a request under way.
struct ProgressState {
    /// Bodies, or other flows of bytes, that have not ended.
    flowing: usize,
    /// How long they may stand still.
    idle: Duration,
    /// When they last moved.
    moved: Instant,
    /// When everything has to be done.
    deadline: Option<Instant>,
    /// Whether the client is to do something next.
    client_is_next: bool,
    /// Why the request has failed, if it has.
    failure: Option<Failure>,
}

/// Something flows as long as this is there.
pub(super) struct Flow(Arc<Progress>);

impl Progress {
    /// Of a request that begins now; `activity`: of the connection on which the
    /// client takes nothing but the response to this.
    pub(super) fn new(
        idle: Duration,
        total: Option<Duration>,
        activity: Option<Arc<ConnectionActivity>>,
        pace: Pace,
    ) -> Arc<Self> {
        let now = Instant::now();
        let state = ProgressState {
            flowing: 0,
            idle,
            moved: now,
            deadline: total.and_then(|total| now.checked_add(total)),
            client_is_next: false,
            failure: None,
        };
        Arc::new(Self { state: Mutex::new(state), changed: Notify::new(), activity, pace })
    }

    /// From now on something may stand still for this long.
    pub(super) fn allow(&self, idle: Duration) {
        self.state.lock().idle = idle;
        self.changed.notify_one();
    }

    /// Something begins to flow.
    pub(super) fn flow(self: &Arc<Self>) -> Flow {
        let mut state = self.state.lock();
        state.flowing += 1;
        state.moved = Instant::now();
        drop(state);
        self.changed.notify_one();
        Flow(Arc::clone(self))
    }

    /// How fast its client is.
    pub(super) fn pace(&self) -> &Pace {
        &self.pace
    }

    /// Why the request has failed, if it has.
    pub(super) fn failure(&self) -> Option<Failure> {
        self.state.lock().failure
    }

    /// The request has failed; the first reason stays.
    pub(super) fn fail(&self, failure: Failure) {
        self.state.lock().failure.get_or_insert(failure);
        self.changed.notify_one();
    }

    /// The request is done: it cannot be late any more.
    pub(super) fn done(&self) {
        self.state.lock().deadline = None;
        self.changed.notify_one();
    }

    /// Waits until the request has failed, stands still for too long, or is not
    /// done in time. Never ends for one that is done.
    pub(super) async fn overdue(&self) -> Failure {
        loop {
            let due = {
                let mut state = self.state.lock();
                if let Some(failure) = state.failure {
                    return failure;
                }
                if self.pace.is_given_up() {
                    return *state.failure.insert(Failure::GivenUp);
                }
                let takes = self.activity.as_ref().filter(|_| state.client_is_next);
                let taken = takes.and_then(|activity| activity.taken());
                let moved = taken.max(Some(state.moved));
                let idle = moved.filter(|_| state.flowing > 0).map(|at| at.checked_add(state.idle));
                let due = [idle.flatten(), state.deadline].into_iter().flatten().min();
                if due.is_some_and(|due| due <= Instant::now()) {
                    let slow = [Failure::OriginSlow, Failure::SlowClient];
                    let failure = slow[usize::from(state.client_is_next)];
                    return *state.failure.insert(failure);
                }
                due
            };
            let due = async {
                match due {
                    Some(due) => sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = due => {}
                () = self.changed.notified() => {}
                () = self.pace.given_up() => {}
            }
        }
    }

    /// Something has moved, or not, and who is next.
    fn tell(&self, moved: bool, client_is_next: bool) {
        self.pace.turn(client_is_next);
        if moved {
            self.pace.lives();
        }
        let mut state = self.state.lock();
        if moved {
            state.moved = Instant::now();
        }
        state.client_is_next = client_is_next;
    }
}

impl Flow {
    /// The client has, or has not, sent something; then the origin is next to take it.
    pub(super) fn client_moved(&self, moved: bool) {
        self.0.tell(moved, !moved);
    }

    /// The origin has, or has not, sent something; then the client is next to take it.
    pub(super) fn origin_moved(&self, moved: bool) {
        self.0.tell(moved, moved);
    }

    /// The client has sent so many bytes.
    pub(super) fn sent(&self, bytes: u64) {
        self.0.pace.sent(bytes);
    }

    /// The client is given so many bytes.
    pub(super) fn given(&self, bytes: u64) {
        self.0.pace.given(bytes);
    }

    /// Whose flow it is.
    pub(super) fn progress(&self) -> &Progress {
        &self.0
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.0.state.lock().flowing -= 1;
        self.0.changed.notify_one();
    }
}

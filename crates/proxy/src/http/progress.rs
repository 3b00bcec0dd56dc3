//! Does a request make progress, and if not, whose fault is it?
//!
//! hyper does not ask a body for more while nobody takes what is there, so a
//! body cannot time itself. Both bodies of a request tell here what they do,
//! and who serves the request waits for [`Progress::overdue`]. In HTTP/1, where
//! hyper holds much of a body for a slow client, the gate knows besides when the
//! client last took something.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body as _, Bytes, Frame, Incoming, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::gate::Keeper;
use crate::body::BodyError;
use crate::failure::Failure;
use crate::headers;
use crate::pace::Pace;
use crate::settings::HttpSettings;

/// The progress of one request.
pub(super) struct Progress {
    /// What is known of it.
    state: Mutex<State>,
    /// Rung when the state changes so that waiting has to begin anew.
    changed: Notify,
    /// Knows what the client takes, if that can only be this response.
    keeper: Option<Keeper>,
    /// Knows how fast the client is, for those who wait for what it holds.
    pace: Pace,
}

/// What is known of a request under way.
struct State {
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
    /// Of a request that begins now; `keeper`: of the gate through which the
    /// client takes nothing but the response to this.
    pub(super) fn new(
        idle: Duration,
        total: Option<Duration>,
        keeper: Option<Keeper>,
        pace: Pace,
    ) -> Arc<Self> {
        let now = Instant::now();
        let state = State {
            flowing: 0,
            idle,
            moved: now,
            deadline: total.and_then(|total| now.checked_add(total)),
            client_is_next: false,
            failure: None,
        };
        Arc::new(Self { state: Mutex::new(state), changed: Notify::new(), keeper, pace })
    }

    /// From now on something may stand still for this long.
    pub(super) fn allow(&self, idle: Duration) {
        self.lock().idle = idle;
        self.changed.notify_one();
    }

    /// Something begins to flow.
    pub(super) fn flow(self: &Arc<Self>) -> Flow {
        let mut state = self.lock();
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
        self.lock().failure
    }

    /// The request has failed; the first reason stays.
    pub(super) fn fail(&self, failure: Failure) {
        self.lock().failure.get_or_insert(failure);
        self.changed.notify_one();
    }

    /// The request is done: it cannot be late any more.
    pub(super) fn done(&self) {
        self.lock().deadline = None;
        self.changed.notify_one();
    }

    /// Waits until the request has failed, stands still for too long, or is not
    /// done in time. Never ends for one that is done.
    pub(super) async fn overdue(&self) -> Failure {
        loop {
            let due = {
                let mut state = self.lock();
                if let Some(failure) = state.failure {
                    return failure;
                }
                if self.pace.is_given_up() {
                    return *state.failure.insert(Failure::GivenUp);
                }
                let taken = self.keeper.as_ref().filter(|_| state.client_is_next);
                let moved = taken.and_then(Keeper::taken).max(Some(state.moved));
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
        let mut state = self.lock();
        if moved {
            state.moved = Instant::now();
        }
        state.client_is_next = client_is_next;
    }

    /// Nobody panics while it holds this.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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
        self.0.lock().flowing -= 1;
        self.0.changed.notify_one();
    }
}

/// The body of a request, as the origin gets it.
pub(super) struct RequestBody {
    /// As hyper gets it from the client.
    incoming: Incoming,
    /// It flows until it has ended.
    flow: Option<Flow>,
    /// How many bytes may still come.
    left: Option<u64>,
    /// What its trailers may say.
    settings: Arc<HttpSettings>,
}

impl RequestBody {
    /// The body of a request with this progress.
    pub(super) fn new(
        incoming: Incoming,
        progress: &Arc<Progress>,
        settings: Arc<HttpSettings>,
    ) -> Self {
        let flow = (!incoming.is_end_stream()).then(|| progress.flow());
        Self { incoming, flow, left: settings.guard.max_body_bytes, settings }
    }

    /// Why the body cannot go on.
    fn failed(&mut self, failure: Failure) -> BodyError {
        if let Some(flow) = self.flow.take() {
            flow.progress().fail(failure);
        }
        failure.into()
    }
}

impl hyper::body::Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let body = self.get_mut();
        let frame = Pin::new(&mut body.incoming).poll_frame(context);
        if let Some(flow) = &body.flow {
            flow.client_moved(frame.is_ready());
        }
        frame.map(|frame| match frame {
            Some(Ok(mut frame)) => {
                if let Some(trailers) = frame.trailers_mut() {
                    headers::request_trailers(&body.settings.headers, trailers);
                }
                let length = frame.data_ref().map_or(0, |data| data.len() as u64);
                if let Some(flow) = &body.flow {
                    flow.progress().pace.sent(length);
                }
                match body.left.map(|left| left.checked_sub(length)) {
                    Some(None) => return Some(Err(body.failed(Failure::BodyTooLarge))),
                    left => body.left = left.flatten(),
                }
                if body.incoming.is_end_stream() {
                    body.flow = None;
                }
                Some(Ok(frame))
            }
            Some(Err(error)) => Some(Err(body.failed(why(&error)))),
            None => {
                body.flow = None;
                None
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// What a broken request body means.
fn why(error: &hyper::Error) -> Failure {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<std::io::Error>() {
            let refused = error.get_ref().and_then(|inner| inner.downcast_ref::<Failure>());
            return match (refused, error.kind()) {
                (Some(&failure), _) => failure,
                (None, std::io::ErrorKind::InvalidData | std::io::ErrorKind::InvalidInput) => {
                    Failure::Malformed
                }
                _ => Failure::ClientGone,
            };
        }
        cause = error.source();
    }
    Failure::ClientGone
}

/// A stream of bytes whose movement is told.
pub(super) struct Watched<T> {
    /// The stream to the client.
    pub(super) client: T,
    /// Where to tell.
    pub(super) flow: Flow,
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        space: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let watched = self.get_mut();
        let read = Pin::new(&mut watched.client).poll_read(context, space);
        if read.is_ready() {
            watched.flow.client_moved(true);
        }
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let watched = self.get_mut();
        let written = Pin::new(&mut watched.client).poll_write(context, bytes);
        if written.is_ready() {
            watched.flow.origin_moved(true);
        }
        written
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().client).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().client).poll_shutdown(context)
    }
}

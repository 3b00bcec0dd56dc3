//! The body of a request on its way to an origin: when the request has begun,
//! when the body has ended, and whether it was the client that broke it off.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use hyper::body::{Bytes, Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::body::{Body, BodyError};
use crate::failure::Failure;

/// The body, for hyper.
pub(super) struct Upload {
    body: Body,
    broken: Arc<OnceLock<Failure>>,
    /// Until the request begins.
    waiting: Option<Waiting>,
    /// Dropped with the body: hyper does so once it has all of it.
    _ended: oneshot::Sender<Infallible>,
}

/// Dropped when hyper asks for the body, or drops it, which it does as soon as
/// the head is on its way: in HTTP/2, once the stream is open.
struct Waiting {
    _entrance: Option<OwnedSemaphorePermit>,
    _begun: oneshot::Sender<Infallible>,
}

/// What becomes of it.
pub(super) struct Progress {
    broken: Arc<OnceLock<Failure>>,
    begun: oneshot::Receiver<Infallible>,
    ended: oneshot::Receiver<Infallible>,
}

impl Upload {
    /// Watches a body. `entrance` is left to the next request once this one
    /// has begun, or is given up.
    pub(super) fn new(body: Body, entrance: Option<OwnedSemaphorePermit>) -> (Self, Progress) {
        let broken = Arc::new(OnceLock::new());
        let ((begins, begun), (ends, ended)) = (oneshot::channel(), oneshot::channel());
        let waiting = Some(Waiting { _entrance: entrance, _begun: begins });
        let upload = Self { body, broken: Arc::clone(&broken), waiting, _ended: ends };
        (upload, Progress { broken, begun, ended })
    }

    /// The body, of which nothing was taken.
    pub(super) fn into_body(self) -> Body {
        self.body
    }
}

impl Progress {
    /// Waits until hyper has begun to send the request, or given it up.
    pub(super) async fn begun(&mut self) {
        // Nothing is ever sent, here and below: it ends with the sender.
        let _ = (&mut self.begun).await;
    }

    /// Waits until hyper has taken the whole body, or given it up.
    pub(super) async fn ended(&mut self) {
        let _ = (&mut self.ended).await;
    }

    /// Whether hyper has taken the whole body, or given it up.
    pub(super) fn has_ended(&mut self) -> bool {
        self.ended.try_recv() == Err(oneshot::error::TryRecvError::Closed)
    }

    /// Why the client's side of it broke off, if it did.
    pub(super) fn broken(&self) -> Option<Failure> {
        self.broken.get().copied()
    }
}

impl hyper::body::Body for Upload {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.waiting = None;
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Err(error))) = &frame {
            let failure = error.downcast_ref().copied().unwrap_or(Failure::ClientGone);
            let _ = self.broken.set(failure);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

//! The body of a request on its way to an origin: when it begins and ends, what is
//! held until then, and who broke it off.

use std::any::Any;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use futures::task::AtomicWaker;
use hyper::body::{Bytes, Frame, SizeHint};
use tokio::sync::Notify;

use crate::body::{Body, BodyError};
use crate::failure::Failure;

/// What is freed once the body has ended.
pub(super) type HeldUntilSent = Arc<dyn Any + Send + Sync>;

/// The body of a request on its way to an origin, for hyper.
pub(super) struct Upload {
    body: Body,
    fate: Arc<Fate>,
    /// The origin is busy with its stream until it has the whole body.
    _held: Option<HeldUntilSent>,
}

/// What becomes of an upload, for who waits for the answer.
#[derive(Clone)]
pub(super) struct UploadProgress(Arc<Fate>);

#[derive(Default)]
struct Fate {
    begun: AtomicBool,
    ended: AtomicBool,
    /// Rung with either.
    changed: Notify,
    broken: OnceLock<Failure>,
    /// Nobody waits for its end any more.
    abandoned: AtomicBool,
    uploading: AtomicWaker,
}

impl Upload {
    /// Watches a body; what is `held` for it is freed when it has ended.
    pub(super) fn new(body: Body, held: Option<HeldUntilSent>) -> (Self, UploadProgress) {
        let fate = Arc::new(Fate::default());
        (Self { body, fate: Arc::clone(&fate), _held: held }, UploadProgress(fate))
    }

    /// The body, of which nothing was taken.
    pub(super) fn into_body(mut self) -> Body {
        std::mem::replace(&mut self.body, crate::body::empty())
    }
}

impl Drop for Upload {
    /// hyper drops it once it has all of it, or has given it up.
    fn drop(&mut self) {
        self.fate.reach(&self.fate.ended);
    }
}

impl Fate {
    fn reach(&self, what: &AtomicBool) {
        if !what.swap(true, Ordering::AcqRel) {
            self.changed.notify_one();
        }
    }
}

impl UploadProgress {
    /// Waits until hyper has begun to send the request, or given it up: in HTTP/2 its
    /// stream is open. For one waiter, here and below.
    pub(super) async fn begun(&self) {
        while !self.0.begun.load(Ordering::Acquire) && !self.has_ended() {
            self.0.changed.notified().await;
        }
    }

    /// Waits until hyper has taken the whole body, or given it up.
    pub(super) async fn ended(&self) {
        while !self.has_ended() {
            self.0.changed.notified().await;
        }
    }

    /// Whether hyper has taken the whole body, or given it up.
    pub(super) fn has_ended(&self) -> bool {
        self.0.ended.load(Ordering::Acquire)
    }

    /// Why the client's side of it broke off, if it did.
    pub(super) fn broken(&self) -> Option<Failure> {
        self.0.broken.get().copied()
    }

    /// Breaks off what is left.
    pub(super) fn abandon(&self) {
        self.0.abandoned.store(true, Ordering::Release);
        self.0.uploading.wake();
    }
}

impl hyper::body::Body for Upload {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let upload = &mut *self;
        upload.fate.reach(&upload.fate.begun);
        upload.fate.uploading.register(context.waker());
        if upload.fate.abandoned.load(Ordering::Acquire) {
            return Poll::Ready(Some(Err("the answer has ended before".into())));
        }
        let frame = Pin::new(&mut upload.body).poll_frame(context);
        match &frame {
            Poll::Ready(Some(Err(error))) => {
                let failure = error.downcast_ref().copied().unwrap_or(Failure::ClientGone);
                let _ = upload.fate.broken.set(failure);
            }
            Poll::Ready(_) | Poll::Pending => {}
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

//! The two bodies of a request at an origin: when each begins and ends, what is held
//! until then, and who broke it off.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use futures::task::AtomicWaker;
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Bytes, Frame, Incoming, SizeHint};
use tokio::sync::Notify;

use super::InFlight;
use super::pool::Lease;
use super::shared::Stream;
use crate::body::{Body, BodyError};
use crate::failure::Failure;

/// The body of a request on its way to an origin, for hyper.
pub(super) struct Upload {
    body: Body,
    fate: Arc<Fate>,
    /// The origin is busy with its stream until it has the whole body.
    _stream: Option<Arc<Stream>>,
}

/// What becomes of an upload, for who waits for the answer.
#[derive(Clone)]
pub(super) struct Progress(Arc<Fate>);

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
    /// Watches a body that is sent on this stream, if it is one of several.
    pub(super) fn new(body: Body, stream: Option<Arc<Stream>>) -> (Self, Progress) {
        let fate = Arc::new(Fate::default());
        (Self { body, fate: Arc::clone(&fate), _stream: stream }, Progress(fate))
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

impl Progress {
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
        let frame = Pin::new(&mut upload.body).poll_frame(context);
        match &frame {
            Poll::Ready(Some(Err(error))) => {
                let failure = error.downcast_ref().copied().unwrap_or(Failure::ClientGone);
                let _ = upload.fate.broken.set(failure);
            }
            Poll::Ready(_) => {}
            Poll::Pending => {
                upload.fate.uploading.register(context.waker());
                if upload.fate.abandoned.load(Ordering::Acquire) {
                    return Poll::Ready(Some(Err("the answer has ended before".into())));
                }
            }
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

/// The body of a response on its way from an origin: it holds the connection,
/// and counts as a request under way, until it has ended.
struct Download {
    body: Incoming,
    held: Option<(Lease, InFlight)>,
    /// Whether there is more to come until the end is said.
    says_its_end: bool,
}

/// Lets go of the connection once the body has ended, or nobody wants it.
///
/// The answer may have begun before the request was sent in full. Over HTTP/2 an
/// origin may then reset the stream without an error, to be spared the rest
/// (RFC 9113, section 8.1); hyper makes a good end of that, also where the answer
/// was broken off.
pub(super) fn download(
    body: Incoming,
    mut lease: Lease,
    in_flight: InFlight,
    progress: Progress,
) -> Body {
    let early = !progress.has_ended();
    if early {
        lease.still_uploads(progress);
    }
    let says_its_end = !lease.is_http1() && !early;
    let mut download = Download { body, held: Some((lease, in_flight)), says_its_end };
    download.let_go_at_the_end();
    download.boxed_unsync()
}

impl Download {
    fn let_go_at_the_end(&mut self) {
        if self.body.is_end_stream() {
            self.held = None;
        }
    }
}

impl hyper::body::Body for Download {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context).map_err(BodyError::from);
        match &frame {
            Poll::Ready(None | Some(Err(_))) => self.held = None,
            Poll::Ready(Some(Ok(_))) => self.let_go_at_the_end(),
            Poll::Pending => {}
        }
        if matches!(frame, Poll::Ready(None)) && self.says_its_end && !self.body.is_end_stream() {
            return Poll::Ready(Some(Err("the origin broke the answer off".into())));
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

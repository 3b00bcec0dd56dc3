//! The body of an answer: what is held until it ends, and whether the origin broke it
//! off.

use std::pin::Pin;
use std::task::{Context, Poll};

use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Bytes, Frame, Incoming, SizeHint};

use super::counts::InFlight;
use super::pool::Lease;
use crate::body::{Body, BodyError};

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
/// An `early` answer has begun before the request was sent in full. Over HTTP/2 an
/// origin may then reset the stream without an error, to be spared the rest
/// (RFC 9113, section 8.1); hyper makes a good end of that, also where the answer
/// was broken off.
pub(super) fn download(body: Incoming, lease: Lease, in_flight: InFlight, early: bool) -> Body {
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

//! The body of a response as the client takes it: in which pieces, whether all
//! of it has come, and what that means for the request.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Bytes, Frame, SizeHint};
use hyper::header::CONTENT_LENGTH;
use hyper::{Method, Response, StatusCode};

use super::progress::{Flow, Progress};
use super::record::Record;
use crate::body::{self, Body, BodyError};
use crate::failure::Failure;
use crate::headers;

/// The body of a response. Dropping it ends the request.
pub(super) struct ResponseBody {
    /// As it comes from the origin, or from us.
    body: Body,
    /// What has come of it and was not taken yet.
    rest: Bytes,
    /// The longest piece that is given at a time.
    piece: usize,
    /// How many bytes are still to be given, if that was said.
    left: Option<u64>,
    /// What becomes of the request.
    record: Record,
    /// It flows until it is dropped.
    flow: Flow,
    /// Whether it has been taken in full.
    ended: bool,
    /// Whether the failure is already known: the body is a page about it.
    refused: bool,
}

impl ResponseBody {
    /// The body that ends a request, in pieces of so many bytes at most.
    pub(super) fn of(
        mut response: Response<Body>,
        piece: usize,
        record: Record,
        progress: &Arc<Progress>,
        refused: bool,
    ) -> Response<Body> {
        let method = &record.outcome.method;
        if has_no_body(method, response.status()) {
            response = without_body(response, method);
        }
        let ended = response.body().is_end_stream();
        // What has ended may still say how long it would have been.
        let left = length(&response).filter(|_| !ended);
        let (rest, flow) = (Bytes::new(), progress.flow());
        response.map(|body| {
            Self { body, rest, piece, left, record, flow, ended, refused }.boxed_unsync()
        })
    }

    /// What comes next of the body itself.
    fn next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.rest.is_empty() {
            Pin::new(&mut self.body).poll_frame(context)
        } else {
            Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.rest)))))
        }
    }

    /// A frame as the client gets it: not too much at a time, and no more than
    /// was said.
    fn given(&mut self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, BodyError> {
        let mut data = match frame.into_data() {
            Ok(data) => data,
            Err(mut frame) => {
                if let Some(trailers) = frame.trailers_mut() {
                    headers::response_trailers(self.record.settings(), trailers);
                }
                self.ended = self.body.is_end_stream();
                return Ok(frame);
            }
        };
        if data.len() > self.piece {
            self.rest = data.split_off(self.piece);
        }
        let length = data.len() as u64;
        self.left = match self.left.map(|left| left.checked_sub(length)) {
            Some(None) => return Err("a body longer than was said".into()),
            left => left.flatten(),
        };
        self.record.gave(length);
        self.flow.given(length);
        // Where all of it has come, nobody may ask for more.
        self.ended = self.is_end_stream() || self.left == Some(0);
        Ok(Frame::data(data))
    }

    /// There is no more to come.
    fn end(&mut self) -> Option<BodyError> {
        if self.left.is_some_and(|left| left > 0) {
            return Some("a body shorter than was said".into());
        }
        self.ended = true;
        None
    }
}

/// Whether an answer has no body, whatever its length is said to be (RFC 9110,
/// section 6.4.1).
fn has_no_body(method: &Method, status: StatusCode) -> bool {
    *method == Method::HEAD || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// Such an answer: in HTTP/2 hyper would send a body, too, or wait for the end of
/// one that an origin says late.
fn without_body(mut response: Response<Body>, method: &Method) -> Response<Body> {
    if response.body().is_end_stream() {
        return response;
    }
    if let Some(length) = response.body().size_hint().exact().filter(|_| *method == Method::HEAD) {
        response.headers_mut().entry(CONTENT_LENGTH).or_insert_with(|| length.into());
    }
    response.map(|_| body::empty())
}

/// How long the client is told that the body is.
fn length(response: &Response<Body>) -> Option<u64> {
    let said = response.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    said.map_or_else(|| response.body().size_hint().exact(), |length| length.parse().ok())
}

impl hyper::body::Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let next = this.next(context);
        this.flow.origin_moved(next.is_ready());
        next.map(|next| {
            let given = match next {
                Some(Ok(frame)) => Some(this.given(frame)),
                Some(Err(error)) => Some(Err(error)),
                None => this.end().map(Err),
            };
            if let Some(Err(error)) = &given {
                let failure = error.downcast_ref().copied().unwrap_or(Failure::OriginBroken);
                this.flow.progress().fail(failure);
            }
            given
        })
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (mut hint, rest) = (self.body.size_hint(), self.rest.len() as u64);
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper.saturating_add(rest));
        }
        hint.set_lower(hint.lower().saturating_add(rest));
        hint
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        let progress = self.flow.progress();
        progress.done();
        match progress.failure() {
            _ if self.refused => {}
            _ if self.ended => self.record.ended(),
            Some(failure) => self.record.failed(failure),
            None => {}
        }
    }
}

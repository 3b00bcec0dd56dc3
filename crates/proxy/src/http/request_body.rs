//! The body of a request as the origin gets it: what it may say and how long it
//! may be, when it moves and has ended, and why it breaks off.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::body::{Body as _, Bytes, Frame, Incoming, SizeHint};

use super::progress::{Flow, Progress};
use crate::body::BodyError;
use crate::failure::Failure;
use crate::settings::HttpSettings;
use crate::{guard, headers};

/// The body of a request, as the origin gets it.
pub(super) struct RequestBody {
    /// As hyper gets it from the client.
    incoming: Incoming,
    /// It flows until it has ended.
    flow: Option<Flow>,
    /// How many bytes may still come.
    left: Option<u64>,
    /// What its length and its trailers may be.
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
                    if let Err(failure) = guard::trailers(trailers) {
                        return Some(Err(body.failed(failure)));
                    }
                    headers::request_trailers(&body.settings.headers, trailers);
                }
                let length = frame.data_ref().map_or(0, |data| data.len() as u64);
                if let Some(flow) = &body.flow {
                    flow.sent(length);
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

//! One request and its response: what happens between the client's head and
//! the last byte of the answer.
//!
//! The order is fixed: what is refused, limits of the circuit, the fields of
//! the request, the origin, the fields of the response.
//! Whatever fails becomes one [`Failure`], and its answer and its counter are
//! made in one place: [`Exchange::answer`] and [`Record`].

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Bytes, Frame, Incoming, SizeHint};
use hyper::header::{
    CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, RETRY_AFTER, TRANSFER_ENCODING, UPGRADE,
};
use hyper::{Method, Request, Response, StatusCode, Version};
use tokio::time::Instant;

use super::counts::{self, Outcome};
use super::gate::{Keeper, UnderWay};
use super::progress::{Flow, Progress, RequestBody};
use super::tasks::{Spawner, live_by};
use super::{CircuitControl, FromOrigin, Proxy, upgrade};
use crate::proxy::body::{Body, BodyError};
use crate::proxy::failure::Failure;
use crate::proxy::visitor::Visitor;
use crate::proxy::{guard, headers};

/// What the requests of one client share.
pub(super) struct Exchange {
    /// The proxy of the port.
    pub(super) proxy: Arc<Proxy>,
    /// Who the client is.
    pub(super) visitor: Visitor,
    /// Its circuit.
    pub(super) control: Box<dyn CircuitControl>,
    /// What the gate wants to know.
    pub(super) keeper: Keeper,
    /// Where upgraded connections live on.
    pub(super) tasks: Spawner,
}

impl Exchange {
    /// Answers one request, whatever happens.
    pub(super) async fn answer(self: Arc<Self>, mut request: Request<Incoming>) -> Response<Body> {
        let settings = &self.proxy.settings;
        let mut record = Record::new(&self, &request);
        let progress = Progress::new(settings.origins.idle_timeout, settings.origins.total_timeout);
        // The gate waits for a decision after every request that names a protocol.
        let undecided =
            request.version() == Version::HTTP_11 && request.headers().contains_key(UPGRADE);
        let client = hyper::upgrade::on(&mut request);
        let answered = self.lead(request, &mut record, &progress).await;
        if undecided && !matches!(&answered, Ok(response) if is_switch(response)) {
            self.keeper.protocol_changes(false);
        }
        let refused = answered.is_err();
        let mut response = match answered {
            Ok(response) => response,
            Err(failure) => {
                record.failed(failure);
                self.refuse(failure)
            }
        };
        if record.outcome.failure != Some(Failure::ClientGone) || !refused {
            record.outcome.status = Some(response.status());
        }
        if is_switch(&response) {
            let origin = hyper::upgrade::on(&mut response);
            let progress = Progress::new(settings.origins.upgrade_timeout, None);
            // Until the protocol has changed, the stream is still hyper's.
            live_by(Arc::clone(&progress));
            let keeper = self.keeper.clone();
            self.tasks.run(upgrade::copy(client, origin, keeper, progress, record));
            return response;
        }
        live_by(Arc::clone(&progress));
        response.map(|body| ResponseBody::new(body, record, &progress, refused).boxed_unsync())
    }

    /// From the client's request to a response that can be sent.
    async fn lead(
        &self,
        request: Request<Incoming>,
        record: &mut Record,
        progress: &Arc<Progress>,
    ) -> Result<Response<Body>, Failure> {
        if let Some(failure) = self.keeper.refusal(&request) {
            return Err(failure);
        }
        let settings = &self.proxy.settings;
        let (mut parts, incoming) = request.into_parts();
        guard::check(&settings.guard, &self.visitor.onion, &parts)?;
        if !record.take_turn(self) {
            if settings.circuit.close_abusers {
                self.control.close();
            }
            return Err(Failure::TooMany);
        }
        headers::request(&settings.headers, &self.visitor, &mut parts);
        // Only what is left of it is offered to the origin.
        let upgrade = parts.headers.contains_key(UPGRADE);
        let body = RequestBody::new(incoming, progress, Arc::clone(settings)).boxed_unsync();
        let answering = self.proxy.upstream.answer(Request::from_parts(parts, body), &self.visitor);
        let response = tokio::select! {
            biased;
            // What breaks the client's body is not the origin's failure.
            answered = answering => answered.map_err(|failure| progress.failure().unwrap_or(failure))?,
            failure = progress.overdue() => return Err(failure),
        };
        record.outcome.origin = response.extensions().get().map(|FromOrigin(index)| *index);
        if is_ambiguous(&response) || (is_switch(&response) && !upgrade) {
            return Err(Failure::OriginBroken);
        }
        if is_event_stream(&response) {
            progress.allow(settings.origins.upgrade_timeout);
        }
        let (mut parts, body) = response.into_parts();
        headers::response(&settings.headers, &self.visitor, &mut parts);
        parts.version = Version::HTTP_11;
        Ok(Response::from_parts(parts, body))
    }

    /// The one answer to a failure.
    fn refuse(&self, failure: Failure) -> Response<Body> {
        let mut response = self.proxy.pages.answer(failure);
        if failure == Failure::TooMany {
            // A token comes back within a second: no rate is lower.
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// Whether the protocol changes.
fn is_switch<B>(response: &Response<B>) -> bool {
    response.status() == StatusCode::SWITCHING_PROTOCOLS
}

/// Whether an origin says twice how long its response is (RFC 9112, section 6.3).
fn is_ambiguous<B>(response: &Response<B>) -> bool {
    let headers = response.headers();
    headers.contains_key(TRANSFER_ENCODING) && headers.contains_key(CONTENT_LENGTH)
}

/// Whether the response tells of events as they happen.
fn is_event_stream<B>(response: &Response<B>) -> bool {
    let kind = response.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let name = kind.split(|&byte| byte == b';').next().unwrap_or_default();
    name.trim_ascii().eq_ignore_ascii_case(b"text/event-stream")
}

/// What is noted of a request while it is under way, counted and logged when
/// it ends, however that happens.
pub(super) struct Record {
    /// Where it is counted.
    proxy: Arc<Proxy>,
    /// Whose request it is.
    circuit: u64,
    /// Whether it counts among the circuit's requests under way.
    has_turn: bool,
    /// When it began.
    began: Instant,
    /// What has become of it so far.
    outcome: Outcome,
    /// Tells the gate that it is under way.
    _under_way: UnderWay,
}

impl Record {
    /// Of a request that begins.
    fn new<B>(exchange: &Exchange, request: &Request<B>) -> Self {
        let proxy = Arc::clone(&exchange.proxy);
        proxy.counts.begun();
        // Until something is known, it is the client who has gone.
        let failure = Some(Failure::ClientGone);
        let method = request.method().clone();
        let outcome = Outcome { method, status: None, bytes: 0, origin: None, failure };
        let (circuit, began) = (exchange.visitor.circuit, Instant::now());
        let _under_way = exchange.keeper.under_way(request.version());
        Self { proxy, circuit, has_turn: false, began, outcome, _under_way }
    }

    /// Counts the request among the circuit's, if that may have another.
    fn take_turn(&mut self, exchange: &Exchange) -> bool {
        let now = Instant::now().into_std();
        self.has_turn = exchange.proxy.circuits().begin(self.circuit, now).is_ok();
        self.has_turn
    }

    /// It has failed.
    pub(super) fn failed(&mut self, failure: Failure) {
        self.outcome.failure = Some(failure);
    }

    /// It has ended as it should.
    pub(super) fn ended(&mut self) {
        self.outcome.failure = None;
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if self.has_turn {
            self.proxy.circuits().end(self.circuit);
        }
        self.proxy.counts.ended(&self.outcome);
        if self.proxy.settings.access_log {
            counts::log(self.circuit, &self.outcome, self.began.elapsed());
        }
    }
}

/// The body of a response, as the client gets it.
struct ResponseBody {
    /// As it comes from the origin, or from us.
    body: Body,
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
    /// The body that ends a request.
    fn new(body: Body, record: Record, progress: &Arc<Progress>, refused: bool) -> Self {
        let ended = body.is_end_stream() || record.outcome.method == Method::HEAD;
        Self { body, record, flow: progress.flow(), ended, refused }
    }
}

impl hyper::body::Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let mut frame = Pin::new(&mut this.body).poll_frame(context);
        this.flow.origin_moved(frame.is_ready());
        match &mut frame {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(trailers) = frame.trailers_mut() {
                    headers::trailers(&this.record.proxy.settings.headers, trailers);
                }
                let length = frame.data_ref().map_or(0, |data| data.len() as u64);
                this.record.outcome.bytes += length;
                this.ended = this.body.is_end_stream();
            }
            Poll::Ready(Some(Err(error))) => {
                let failure = error.downcast_ref().copied().unwrap_or(Failure::OriginBroken);
                this.flow.progress().fail(failure);
            }
            Poll::Ready(None) => this.ended = true,
            Poll::Pending => {}
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

//! One request and its response: what happens between the client's head and
//! the last byte of the answer.
//!
//! The order is fixed: what is refused, limits of the circuit, the fields of
//! the request, the origin, the fields of the response.
//! Whatever fails becomes one [`Failure`], and its answer and its counter are
//! made in one place: [`Exchange::answer`] and [`Record`]. What never becomes a
//! request, the gate answers with the same pages.

use std::sync::Arc;

use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER, UPGRADE};
use hyper::{Method, Request, Response, StatusCode, Version};

use super::activity::{ConnectionActivity, RequestUnderWay};
use super::gate::PAGE_PATIENCE;
use super::progress::Progress;
use super::proxy::{CircuitControl, Proxy};
use super::record::Record;
use super::refusals::StreamRefusals;
use super::request_body::RequestBody;
use super::response_body::ResponseBody;
use super::tasks::live_by;
use super::turns::RequestTurn;
use super::upgrade;
use crate::answer;
use crate::body::Body;
use crate::failure::Failure;
use crate::headers::{self, Sites};
use crate::pace::Pace;
use crate::settings::ErrorStyle;
use crate::tasks::Spawner;
use crate::upstream::FromOrigin;
use crate::visitor::Visitor;

/// How much of a response an HTTP/2 stream takes at a time: hyper holds less than
/// twice that of it for a client who does not read. A client may have a hundred
/// streams on each connection, and what is held is known to be taken only when
/// hyper asks for more.
pub(super) const PIECE: usize = 8 * 1024;

/// What the requests of one client share.
pub(super) struct Exchange {
    /// The proxy of the port.
    pub(super) proxy: Arc<Proxy>,
    /// Who the client is.
    pub(super) visitor: Visitor,
    /// Its circuit.
    pub(super) control: Box<dyn CircuitControl>,
    /// What its requests are doing.
    pub(super) activity: Arc<ConnectionActivity>,
    /// Where upgraded connections live on.
    pub(super) tasks: Spawner,
    /// Its streams that were refused, in HTTP/2.
    pub(super) refusals: StreamRefusals,
}

impl Exchange {
    /// A request was refused before it began.
    pub(super) fn refused(&self, failure: Failure) {
        self.proxy.counts.refused(failure);
        self.close_abuser(failure);
    }

    /// Answers one request, whatever happens; an answer of ours where it is not
    /// its `turn`.
    pub(super) async fn answer(
        self: Arc<Self>,
        mut request: Request<Incoming>,
        turn: Result<RequestTurn, Failure>,
        under_way: RequestUnderWay,
    ) -> Response<Body> {
        let settings = &self.proxy.settings;
        let (proxy, method) = (Arc::clone(&self.proxy), request.method().clone());
        let mut record = Record::new(proxy, self.visitor.circuit, method, turn, under_way);
        let pace = Pace::new(settings.origins.min_rate);
        request.extensions_mut().insert(pace.clone());
        let is_http2 = request.version() == Version::HTTP_2;
        let goes_on = headers::goes_on(&request);
        let progress = Progress::new(
            settings.origins.idle_timeout,
            settings.origins.total_timeout,
            // What else the client takes in HTTP/2, it takes for other requests, too.
            (!is_http2).then(|| Arc::clone(&self.activity)),
            pace.clone(),
        );
        let client = hyper::upgrade::on(&mut request);
        let answered = self.lead(request, &mut record, &progress).await;
        let refused = answered.is_err();
        let mut response = match answered {
            Ok(response) => response,
            Err(failure) => {
                record.failed(failure);
                progress.allow(settings.origins.idle_timeout.min(PAGE_PATIENCE));
                self.refuse(failure, &record.outcome.method)
            }
        };
        if record.outcome.failure != Some(Failure::ClientGone) || !refused {
            record.answered(response.status());
        }
        if is_switch(&response) {
            let origin = hyper::upgrade::on(&mut response);
            pace.may_be_silent();
            let progress = Progress::new(settings.origins.upgrade_timeout, None, None, pace);
            // Until the protocol has changed, the stream is still hyper's.
            live_by(Arc::clone(&progress));
            self.tasks.run(upgrade::copy(client, origin, progress, record));
            return response;
        }
        if !goes_on && let Some(said) = response.headers_mut().get_mut(CONNECTION) {
            *said = HeaderValue::from_static("close");
        }
        live_by(Arc::clone(&progress));
        let piece = if is_http2 { PIECE } else { usize::MAX };
        ResponseBody::of(response, piece, record, &progress, refused)
    }

    /// From the client's request to a response that can be sent.
    async fn lead(
        &self,
        request: Request<Incoming>,
        record: &mut Record,
        progress: &Arc<Progress>,
    ) -> Result<Response<Body>, Failure> {
        let settings = &self.proxy.settings;
        let (mut parts, incoming) = request.into_parts();
        let host = self.proxy.guard.check(&self.visitor.onion, &parts)?;
        let sites = Sites::new(&settings.headers, &self.visitor, host);
        record.take_turn().inspect_err(|failure| self.close_abuser(*failure))?;
        headers::request(&settings.headers, &self.visitor, &sites, &mut parts);
        // Only what is left of it is offered to the origin.
        let upgrade = parts.headers.get(UPGRADE).cloned();
        let body = RequestBody::new(incoming, progress, Arc::clone(settings)).boxed_unsync();
        let answering = self.proxy.upstream.answer(Request::from_parts(parts, body), &self.visitor);
        let response = tokio::select! {
            biased;
            // What breaks the client's body is not the origin's failure.
            answered = answering => answered.map_err(|failure| progress.failure().unwrap_or(failure))?,
            failure = progress.overdue() => return Err(failure),
        };
        record.outcome.origin = response.extensions().get().map(|FromOrigin(index)| *index);
        if is_switch(&response) && !agrees(&response, upgrade.as_ref()) {
            return Err(Failure::OriginBroken);
        }
        if is_event_stream(&response) {
            progress.pace().may_be_silent();
            progress.allow(settings.origins.upgrade_timeout);
        }
        let (mut parts, body) = response.into_parts();
        answer::judge(settings.guard.max_headers, &mut parts).map_err(|_| Failure::OriginBroken)?;
        let own = &self.proxy.own;
        headers::response(&settings.headers, own, &self.visitor, &sites, &mut parts);
        parts.version = Version::HTTP_11;
        Ok(Response::from_parts(parts, body))
    }

    /// Closes the circuit if it has gone beyond a limit and the operator wants
    /// that.
    fn close_abuser(&self, failure: Failure) {
        if failure == Failure::TooMany && self.proxy.settings.circuit.close_abusers {
            self.control.close();
        }
    }

    /// The one answer to a failure.
    fn refuse(&self, failure: Failure, method: &Method) -> Response<Body> {
        let mut response = self.proxy.pages.answer(failure);
        if failure == Failure::TooMany && self.proxy.settings.error_style == ErrorStyle::Plain {
            // A token comes back within a second: no rate is lower.
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if *method == Method::CONNECT {
            // What follows may be meant for a tunnel.
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// Whether the protocol changes.
fn is_switch<B>(response: &Response<B>) -> bool {
    response.status() == StatusCode::SWITCHING_PROTOCOLS
}

/// Whether an origin goes on in the protocol that it was offered, and in no other.
fn agrees<B>(response: &Response<B>, offered: Option<&HeaderValue>) -> bool {
    let mut protocols = response.headers().get_all(UPGRADE).iter();
    let (protocol, more) = (protocols.next(), protocols.next());
    let same = |protocol: &HeaderValue, offered: &HeaderValue| {
        protocol.as_bytes().eq_ignore_ascii_case(offered.as_bytes())
    };
    more.is_none()
        && protocol.zip(offered).is_some_and(|(protocol, offered)| same(protocol, offered))
}

/// Whether the response tells of events as they happen.
fn is_event_stream<B>(response: &Response<B>) -> bool {
    let kind = response.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let name = kind.split(|&byte| byte == b';').next().unwrap_or_default();
    name.trim_ascii().eq_ignore_ascii_case(b"text/event-stream")
}

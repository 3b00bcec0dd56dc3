//! What one try at one origin comes to, and whether another may follow.
//!
//! A request of which nothing was sent may go elsewhere whatever it is. One
//! that was sent may be repeated only if it does no more when it arrives twice,
//! and only while nothing was answered. What the origin takes too long for is
//! never repeated: it may still be at it.

use std::error::Error;

use hyper::header::{CONNECTION, HeaderValue, UPGRADE};
use hyper::{Request, Response, StatusCode};
use tokio::time::{sleep, timeout};

use super::connection::{DialError, HeadLimits};
use super::counts::Client;
use super::download::download;
use super::request::{self, has_content};
use super::shared::CheckoutError;
use super::upload::{HeldUntilSent, Upload};
use super::{OriginTurn, Origins};
use crate::answer::{self, AnswerFlaw};
use crate::body::{self, Body};
use crate::buffer::buffered;
use crate::causes::in_one_line;
use crate::failure::Failure;
use crate::pace::Pace;

/// A try that came to nothing.
pub(super) struct Lost {
    /// What the client is told, if no other try follows.
    pub(super) failure: Failure,
    /// What the log is told.
    pub(super) why: String,
    /// An idle connection had died before its time: that says nothing of the
    /// origin, which is to be asked again on a fresh one.
    pub(super) stale: bool,
    rest: Rest,
}

/// What is left of the request.
enum Rest {
    /// All of it: nothing was sent.
    Unsent(Box<Request<Body>>),
    /// It was sent, and nothing was answered.
    Unanswered,
    /// Nothing may follow.
    Spent,
}

impl Lost {
    fn new(failure: Failure, why: String, rest: Rest) -> Self {
        Self { failure, why, stale: false, rest }
    }

    fn spent(failure: Failure, why: impl Into<String>) -> Self {
        Self::new(failure, why.into(), Rest::Spent)
    }

    /// Whether the origin is at fault, rather than the client or our own bounds.
    pub(super) fn blames_origin(&self) -> bool {
        matches!(
            self.failure,
            Failure::OriginUnreachable | Failure::OriginBroken | Failure::OriginSlow
        )
    }

    /// The request for another try, if there may be one; it counts, unless the
    /// last one did not even begin. `copy` is the head of a request that may be
    /// repeated.
    pub(super) fn again(self, copy: Option<&Request<()>>, left: &mut u8) -> Option<Request<Body>> {
        let request = match self.rest {
            Rest::Unsent(request) if self.stale => return Some(*request),
            Rest::Unsent(request) => *request,
            Rest::Unanswered => copy?.clone().map(|()| body::empty()),
            Rest::Spent => return None,
        };
        *left = left.checked_sub(1)?;
        Some(request)
    }
}

impl Origins {
    /// Sends a request to the origin whose turn it is.
    pub(super) async fn attempt(
        &self,
        turn: &OriginTurn<'_>,
        mut request: Request<Body>,
        client: Client,
        fresh: bool,
    ) -> Result<Response<Body>, Lost> {
        let member = turn.member;
        let in_flight = member.counts.begin();
        request::shape(&mut request, self.settings.protocol, member.tls)
            .map_err(|failure| Lost::spent(failure, "a request without a proper target"))?;
        let pace = Pace::of(request.extensions());
        let mut lease = match member.pool.checkout(client, &pace, fresh).await {
            Ok(lease) => lease,
            Err(error) => return Err(unconnected(&error, request)),
        };
        let (before, is_http1) = (lease.received(), lease.is_http1());
        // An origin that was asked for another protocol may be about to speak it.
        let asks_for_another = request.headers().contains_key(UPGRADE);
        let has_content = has_content(&request);
        if is_http1 && (asks_for_another || has_content) {
            lease.is_the_last();
            if !asks_for_another {
                request.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
        }
        let method = request.method().clone();
        let (head, body) = request.into_parts();
        let (upload, progress) = Upload::new(body, lease.stream().map(|it| it as HeldUntilSent));
        lease.sends(progress.clone());
        let Some(sender) = lease.sender() else {
            return Err(Lost::spent(Failure::OriginBroken, "the connection is gone"));
        };
        let too_slow = async {
            let (connect, respond) =
                (self.settings.connect_timeout, self.settings.response_timeout);
            // The origin may take fewer streams than it has said.
            if !is_http1 && timeout(connect, progress.begun()).await.is_err() {
                let why = format!("no stream within {}", humantime::format_duration(connect));
                return Lost::new(Failure::OriginsBusy, why, Rest::Unanswered);
            }
            progress.ended().await;
            sleep(respond).await;
            let why = format!("no answer within {}", humantime::format_duration(respond));
            Lost::spent(Failure::OriginSlow, why)
        };
        let answer = tokio::select! {
            biased;
            answer = sender.send(Request::from_parts(head, upload)) => answer,
            lost = too_slow => return Err(lost),
        };
        let early;
        let response = match answer {
            Ok(response) => {
                early = !progress.has_ended();
                if is_http1 && (early || answer::may_go_on(&method, &response)) {
                    lease.is_the_last();
                }
                self.judged(response)?
            }
            Err(mut error) => {
                if let Some(failure) = progress.broken() {
                    return Err(Lost::spent(failure, "the body of the request broke off"));
                }
                let rest = match error.take_message() {
                    Some(request) => Rest::Unsent(Box::new(request.map(Upload::into_body))),
                    None if lease.is_http1() && lease.received() != before => Rest::Spent,
                    None => Rest::Unanswered,
                };
                let error = error.into_error();
                let ending = Ending::of(&error);
                let (failure, rest) = match ending {
                    Ending::Refused => (Failure::OriginsBusy, rest),
                    Ending::NotSendable => (Failure::Malformed, Rest::Spent),
                    Ending::Connection | Ending::Request => (Failure::OriginBroken, rest),
                };
                let why = match error.is_parse_too_large() {
                    true => self.too_large(lease.received() - before),
                    false => in_one_line(&error),
                };
                let mut lost = Lost::new(failure, why, rest);
                lost.stale = lease.reused()
                    && ending == Ending::Connection
                    && !matches!(lost.rest, Rest::Spent);
                if lost.stale {
                    lease.discard();
                }
                return Err(lost);
            }
        };
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            lease.upgraded(in_flight);
            return Ok(response.map(|_| body::empty()));
        }
        let response = response.map(|body| download(body, lease, in_flight, early));
        Ok(match &self.settings.buffer_response {
            Some(settings) => response.map(|body| buffered(body, settings, client.circuit)),
            None => response,
        })
    }

    /// An answer whose head can be passed on; of others the origin is at fault.
    fn judged<B>(&self, response: Response<B>) -> Result<Response<B>, Lost> {
        let (mut parts, body) = response.into_parts();
        match answer::judge(self.heads.fields, &mut parts) {
            Ok(()) => Ok(Response::from_parts(parts, body)),
            Err(flaw) => Err(Lost::spent(Failure::OriginBroken, flaw.to_string())),
        }
    }

    /// Why hyper finds a head too large, of which so many bytes have arrived: it
    /// says the same of bytes and of fields, and reads no more of both than is
    /// allowed.
    fn too_large(&self, received: u64) -> String {
        let HeadLimits { fields, bytes } = self.heads;
        if usize::try_from(received).is_ok_and(|received| received < bytes) {
            AnswerFlaw::TooManyFields(fields).to_string()
        } else {
            format!("an answer with a head of more than {bytes} bytes")
        }
    }
}

/// No connection: nothing of the request was sent.
fn unconnected(error: &CheckoutError, request: Request<Body>) -> Lost {
    let failure = match error {
        CheckoutError::Busy => Failure::OriginsBusy,
        CheckoutError::Dial(error) => match **error {
            DialError::Slow(_) => Failure::OriginSlow,
            DialError::Http(_) | DialError::Ended => Failure::OriginBroken,
            _ => Failure::OriginUnreachable,
        },
    };
    Lost::new(failure, in_one_line(error), Rest::Unsent(Box::new(request)))
}

/// What an error of hyper's has ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// The connection.
    Connection,
    /// This one request, over HTTP/2.
    Request,
    /// This one, of which nothing was done (RFC 9113, section 8.7).
    Refused,
    /// This one, before anything was sent: it cannot be said in HTTP.
    NotSendable,
}

impl Ending {
    fn of(error: &hyper::Error) -> Self {
        let http2 = error.source().and_then(|source| source.downcast_ref::<h2::Error>());
        match http2 {
            None if error.is_user() => Self::NotSendable,
            None => Self::Connection,
            Some(error) if error.is_io() || error.is_go_away() => Self::Connection,
            Some(error) if error.reason() == Some(h2::Reason::REFUSED_STREAM) => Self::Refused,
            Some(error) if error.is_reset() => Self::Request,
            Some(_) => Self::NotSendable,
        }
    }
}

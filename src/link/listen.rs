//! The backend's end of control links: recognises the publishers of its frontends
//! and answers them.
//!
//! Whoever is not one of them is none of its business: the stream goes on to
//! whatever the service has at that port, as if there were no links.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::proof;
use super::seats::{LinkSeat, Seats};
use super::wire::{HEADS, StateReader, States, WINDOW, nothing, states};
use crate::clock::now;
use crate::instance::{ClientStream, PublishersSay, Verified};
use crate::tor::hsdirs::identity_key;
use crate::tor::network::Network;
use onionbraid_balancer::link::{self, LinkOrders, Offered, Path, Report, WorkReport};
use onionbraid_balancer::onion::OnionAddress;
use onionbraid_balancer::operator::Word;
use onionbraid_proxy::tasks::Tasks;

/// How often a publisher that is silent is asked whether it is there, and how long
/// it may take to say so: nothing hurries here, its own pings come sooner.
const PING: Duration = Duration::from_secs(30);

/// Requests that a link may have open: the two that there are, and those that come
/// in their place.
const REQUESTS: u32 = 8;

/// What publishers are told: all of them the same, and each for its address what is
/// verified of the work of its clients.
#[derive(Clone, Debug)]
pub(super) struct SaidToPublishers {
    pub(super) report: Report,
    pub(super) verified: Option<Verified>,
}

/// Answers the publishers of the addresses that a service is a backend of.
pub(crate) struct LinkListener {
    /// The service's own address.
    backend: OnionAddress,
    network: Network,
    /// What publishers are told.
    said: watch::Sender<SaidToPublishers>,
    seats: Arc<Seats>,
}

impl LinkListener {
    /// For the service of this address; it knows no frontend yet.
    pub(crate) fn new(backend: OnionAddress, network: Network) -> Self {
        let report = Report { number: 1, offer: Offered::default() };
        let (said, _) = watch::channel(SaidToPublishers { report, verified: None });
        Self { backend, network, said, seats: Arc::default() }
    }

    /// Answers the publishers of these addresses from now on, and no others.
    pub(crate) fn answer_for(&self, frontends: Vec<OnionAddress>) {
        self.seats.answer_for(frontends);
    }

    /// This is what the service offers now.
    pub(crate) fn offer(&self, offered: Offered) {
        self.said.send_if_modified(|said| {
            let is_new = said.report.offer != offered;
            if is_new {
                said.report = Report { number: said.report.number + 1, offer: offered };
            }
            is_new
        });
    }

    /// This is what is verified of the work of clients now.
    pub(crate) fn verifies(&self, verified: Option<Verified>) {
        self.said.send_if_modified(|said| {
            let is_new = said.verified != verified;
            if is_new {
                said.report.number += 1;
                said.verified = verified;
            }
            is_new
        });
    }

    /// What clients of each address work for, by their publishers.
    pub(crate) fn work(&self) -> PublishersSay {
        self.seats.work()
    }

    /// The furthest that any publisher's operator has this backend out of use.
    pub(crate) fn word(&self) -> Word {
        self.seats.word()
    }

    /// The addresses whose publishers are answered.
    pub(crate) fn frontends(&self) -> Vec<OnionAddress> {
        self.seats.frontends()
    }

    /// Whether publishers hold a link to it.
    pub(crate) fn has_links(&self) -> bool {
        !self.seats.is_empty()
    }

    /// Whether no client finds through any of them what is not offered any more, or
    /// would find nothing else.
    pub(crate) fn is_released(&self) -> bool {
        self.seats.release(&self.said.borrow().report)
    }

    /// The number of what is reported now.
    pub(crate) fn report_number(&self) -> u64 {
        self.said.borrow().report.number
    }

    /// Whether none of them has another backend that is live.
    pub(crate) fn is_alone(&self) -> bool {
        self.seats.are_alone()
    }

    /// Waits until something has changed of who holds links, or of what they say.
    pub(crate) async fn changed(&self) {
        self.seats.changed().await;
    }

    /// The frontend whose publisher asks for this stream, if it does.
    pub(crate) fn recognises(&self, stream: &ClientStream) -> Option<OnionAddress> {
        if stream.host().is_empty() {
            return None;
        }
        let asked = |frontend: &OnionAddress| link::port(&self.backend, frontend) == stream.port();
        let frontend = self.seats.frontends().into_iter().find(asked)?;
        let (key, binding) = (identity_key(&frontend)?, stream.binding()?);
        let current = self.network.directory().ok()?.hs_time_period();
        let periods: Vec<_> =
            [Some(current), current.prev(), current.next()].into_iter().flatten().collect();
        let (proof, now) = (stream.host(), now().wall);
        proof::is_proven(proof, &key, &periods, &self.backend, binding, now).then_some(frontend)
    }

    /// Serves the link of a publisher of this address until it ends, or until what it
    /// came through is `finishing`: its publisher finds another way then.
    pub(crate) async fn serve<S>(
        &self,
        frontend: OnionAddress,
        stream: S,
        finishing: CancellationToken,
    ) where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Some(seat) = self.seats.take(frontend) else { return };
        serve(stream, self.said.subscribe(), seat, finishing).await;
    }
}

/// Answers on the stream until the link breaks, the seat is to be left, or what it came
/// through is `finishing`.
pub(super) async fn serve<S>(
    stream: S,
    said: watch::Receiver<SaidToPublishers>,
    seat: LinkSeat,
    finishing: CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    tracing::debug!("a publisher holds a control link");
    let seat = Arc::new(seat);
    let service = service_fn(|request| answer(request, said.clone(), Arc::clone(&seat)));
    let tasks = Tasks::default();
    let connection = http2::Builder::new(tasks.spawner())
        .timer(TokioTimer::new())
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_header_list_size(HEADS)
        .max_concurrent_streams(REQUESTS)
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        ended = connection => if let Err(error) = ended {
            tracing::debug!(%error, "a control link broke");
        },
        () = seat.leave.cancelled() => {}
        () = finishing.cancelled() => {}
    }
}

async fn answer(
    request: Request<Incoming>,
    said: watch::Receiver<SaidToPublishers>,
    seat: Arc<LinkSeat>,
) -> Result<Response<States>, Infallible> {
    seat.requests.turn().await;
    let (status, body) = match (request.method(), request.uri().path()) {
        (&Method::GET, path) if path == Path::State.as_str() => {
            let frontend = seat.frontend;
            (StatusCode::OK, states(said, move |said, _| Some(said.to(&frontend))))
        }
        (&Method::POST, path) if path == Path::Orders.as_str() => {
            (take_orders(request.into_body(), &seat).await, nothing())
        }
        _ => (StatusCode::NOT_FOUND, nothing()),
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    Ok(response)
}

impl SaidToPublishers {
    /// The report to the publisher of this address.
    fn to(&self, frontend: &OnionAddress) -> Report {
        let mut report = self.report.clone();
        report.offer.work = self.verified.as_ref().map(|verified| WorkReport {
            slot: verified.slots.get(frontend).copied(),
            effort: verified.effort,
        });
        report
    }
}

/// Listens to orders until there are no more.
async fn take_orders(body: Incoming, seat: &LinkSeat) -> StatusCode {
    let mut orders = StateReader::new(body);
    loop {
        seat.orders.turn().await;
        match orders.next(|orders: &LinkOrders| orders.number).await {
            Ok(orders) => seat.heard(orders),
            Err(error) => {
                tracing::debug!(%error, "no more orders of a publisher");
                return StatusCode::NO_CONTENT;
            }
        }
    }
}

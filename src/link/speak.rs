//! What the publisher says on a stream that a backend has accepted, and what it
//! hears: HTTP/2 until the link breaks.

use std::error::Error as _;
use std::time::Duration;

use http::{Method, Request, StatusCode};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::wire::{Broken, HEADS, StateReader, States, WINDOW, nothing, states};
use onionbraid_balancer::fact::{DialFailure, LinkNews};
use onionbraid_balancer::link::{LinkOrders, Path, Report, Standing};
use onionbraid_proxy::tasks::{Spawner, Tasks};

/// How long a backend that was met may take to say something.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);

/// How often a backend that is silent is asked whether it is there ...
const PING_EVERY: Duration = Duration::from_secs(5);

/// ... and how long it may take to say so. A stall of a circuit can last as long,
/// and costs nothing but another dial.
const PONG_WITHIN: Duration = Duration::from_secs(5);

/// Speaks on the stream until it breaks, and tells what the backend reports, as
/// news that `look` makes of it. How it ended.
pub(super) async fn speak<S>(
    stream: S,
    standing: watch::Receiver<Option<(u64, Standing)>>,
    told: &mpsc::Sender<LinkNews>,
    look: impl Fn(Report) -> LinkNews,
) -> LinkNews
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let tasks = Tasks::default();
    let handshake = http2::Builder::<Spawner>::new(tasks.spawner())
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PONG_WITHIN)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_header_list_size(HEADS)
        .handshake::<_, States>(TokioIo::new(stream));
    let mut is_up = false;
    let Ended { why, offers_none } = match timeout(ANSWER_WITHIN, handshake).await {
        Ok(Ok((sender, connection))) => tokio::select! {
            ended = exchange(sender, standing, &mut is_up, told, look) => ended,
            ended = connection => match ended {
                Ok(()) => Ended::lost("the backend has closed it"),
                Err(error) => Ended::from(error),
            },
        },
        Ok(Err(error)) => Ended::from(error),
        Err(_) => Ended::lost("it does not answer"),
    };
    if is_up {
        return LinkNews::Lost(why);
    }
    tracing::debug!(why, "a backend accepted a control link and does not keep it");
    LinkNews::NotDialled(match offers_none {
        true => DialFailure::NotOffered,
        false => {
            DialFailure::Inconclusive(format!("its stream broke before the first report: {why}"))
        }
    })
}

/// Why nothing is said any more.
struct Ended {
    why: String,
    /// Whether that was an answer, and no link. Where the stream breaks, or nothing comes, a
    /// circuit may have broken.
    offers_none: bool,
}

impl Ended {
    fn lost(why: &str) -> Self {
        Self { why: why.to_owned(), offers_none: false }
    }

    fn answered(why: String) -> Self {
        Self { why, offers_none: true }
    }
}

impl From<hyper::Error> for Ended {
    fn from(error: hyper::Error) -> Self {
        let cause = error.source().and_then(|cause| cause.downcast_ref::<h2::Error>());
        // Ours, or its own: that it does not understand.
        let is_protocol = |cause: &h2::Error| {
            (cause.is_library() || cause.is_go_away())
                && cause.reason() != Some(h2::Reason::NO_ERROR)
        };
        let offers_none = cause.is_some_and(|cause| !cause.is_io() && is_protocol(cause));
        Self { why: error.to_string(), offers_none }
    }
}

impl From<Broken> for Ended {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Connection(error) => Self::from(error),
            answer => Self::answered(answer.to_string()),
        }
    }
}

/// Makes the two requests and passes on what comes. Why it does not go on.
async fn exchange(
    mut sender: http2::SendRequest<States>,
    standing: watch::Receiver<Option<(u64, Standing)>>,
    is_up: &mut bool,
    told: &mpsc::Sender<LinkNews>,
    look: impl Fn(Report) -> LinkNews,
) -> Ended {
    let asked = sender.send_request(request(Path::State, nothing()));
    let response = match timeout(ANSWER_WITHIN, asked).await {
        Ok(Ok(response)) if response.status() == StatusCode::OK => response,
        Ok(Ok(response)) => {
            return Ended::answered(format!("it answered {}", response.status()));
        }
        Ok(Err(error)) => return error.into(),
        Err(_) => return Ended::lost("it does not answer"),
    };
    let orders = states(standing, |known, sent| {
        let (answers, standing) = known.clone()?;
        Some(LinkOrders { number: sent + 1, answers, standing })
    });
    let ordered = sender.send_request(request(Path::Orders, orders));
    let reported = pass_on(StateReader::new(response.into_body()), is_up, told, look);
    tokio::select! {
        why = reported => why,
        answered = ordered => match answered {
            Ok(response) => {
                Ended::answered(format!("it takes no more orders ({})", response.status()))
            }
            Err(error) => error.into(),
        },
    }
}

/// Passes reports on. Why there are no more.
async fn pass_on(
    mut reports: StateReader,
    is_up: &mut bool,
    told: &mpsc::Sender<LinkNews>,
    look: impl Fn(Report) -> LinkNews,
) -> Ended {
    loop {
        let next = reports.next(|report: &Report| report.number);
        let limit = if *is_up { Duration::MAX } else { ANSWER_WITHIN };
        let report = match timeout(limit, next).await {
            Ok(Ok(report)) => report,
            Ok(Err(broken)) => return broken.into(),
            Err(_) => return Ended::lost("it says nothing"),
        };
        *is_up = true;
        if told.send(look(report)).await.is_err() {
            return Ended::lost("nobody wants to know any more");
        }
        reports.pause().await;
    }
}

fn request(path: Path, body: States) -> Request<States> {
    let uri = http::Uri::builder().scheme("http").authority("link").path_and_query(path.as_str());
    let mut request = Request::new(body);
    *request.uri_mut() = uri.build().unwrap_or_default();
    *request.method_mut() = match path {
        Path::State => Method::GET,
        Path::Orders => Method::POST,
    };
    request
}

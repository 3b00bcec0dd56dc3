//! What the publisher says on a stream that a backend has accepted, and what it
//! hears: HTTP/2 until the link breaks.

use std::time::Duration;

use http::{Method, Request, StatusCode};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::wire::{HEADS, StateReader, States, WINDOW, nothing, states};
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
    let Ok(Ok((sender, connection))) = timeout(ANSWER_WITHIN, handshake).await else {
        return LinkNews::NotDialled(DialFailure::NotOffered);
    };
    let mut is_up = false;
    let why = tokio::select! {
        why = exchange(sender, standing, &mut is_up, told, look) => why,
        ended = connection => match ended {
            Ok(()) => "the backend has closed it".to_owned(),
            Err(error) => error.to_string(),
        },
    };
    match is_up {
        true => LinkNews::Lost(why),
        false => {
            tracing::debug!(why, "a backend accepted a control link and does not keep it");
            LinkNews::NotDialled(DialFailure::NotOffered)
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
) -> String {
    let asked = sender.send_request(request(Path::State, nothing()));
    let response = match timeout(ANSWER_WITHIN, asked).await {
        Ok(Ok(response)) if response.status() == StatusCode::OK => response,
        Ok(Ok(response)) => return format!("it answered {}", response.status()),
        Ok(Err(error)) => return error.to_string(),
        Err(_) => return "it does not answer".into(),
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
            Ok(response) => format!("it takes no more orders ({})", response.status()),
            Err(error) => error.to_string(),
        },
    }
}

/// Passes reports on. Why there are no more.
async fn pass_on(
    mut reports: StateReader,
    is_up: &mut bool,
    told: &mpsc::Sender<LinkNews>,
    look: impl Fn(Report) -> LinkNews,
) -> String {
    loop {
        let next = reports.next(|report: &Report| report.number);
        let limit = if *is_up { Duration::MAX } else { ANSWER_WITHIN };
        let report = match timeout(limit, next).await {
            Ok(Ok(report)) => report,
            Ok(Err(broken)) => return broken.to_string(),
            Err(_) => return "it says nothing".into(),
        };
        *is_up = true;
        if told.send(look(report)).await.is_err() {
            return "nobody wants to know any more".into();
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

//! Which connections to the admin endpoint are kept open, and for how long?
//!
//! On loopback every process of the machine can connect, and one that never
//! sends, never reads or never closes must not shut the door on the operator.
//! So a connection serves one request, its answer has to be taken in time, and
//! when there are too many the oldest is dropped for the new one: an honest
//! client is gone within milliseconds. Called by `admin`.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::sleep;

use super::place::{AdminConnection, AdminListener};
use crate::causes::is_out_of_handles;
use crate::clock::now;
use crate::spare_handle::SpareHandle;
use crate::throttle::Throttle;

/// The log says no more often that connections cannot be accepted.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

/// Connections at a time. One operator and a few dashboards need no more.
const AT_MOST: usize = 64;

/// How long a client may take to send the head of its request.
const HEAD_WITHIN: Duration = Duration::from_secs(10);

/// How long a client may take to read the answer.
const READ_WITHIN: Duration = Duration::from_secs(20);

/// The open connections. Dropping this closes all of them.
#[derive(Default)]
pub(super) struct AdminConnections {
    tasks: JoinSet<()>,
    /// In the order in which they came; some of them have ended.
    by_age: VecDeque<AbortHandle>,
}

impl AdminConnections {
    /// Serves one more, in place of the oldest if there are too many.
    pub(super) fn admit(&mut self, connection: impl Future<Output = ()> + Send + 'static) {
        while self.tasks.try_join_next().is_some() {}
        self.by_age.retain(|task| !task.is_finished());
        if self.by_age.len() >= AT_MOST
            && let Some(oldest) = self.by_age.pop_front()
        {
            tracing::debug!("too many admin connections; dropping the oldest");
            oldest.abort();
        }
        self.by_age.push_back(self.tasks.spawn(connection));
    }
}

/// Answers every connection, each beside the others, until dropped.
pub(super) async fn accept<A>(
    listener: AdminListener,
    answer: impl Fn(Box<dyn AdminConnection>, Option<u32>) -> A,
) -> Infallible
where
    A: Future<Output = ()> + Send + 'static,
{
    let mut connections = AdminConnections::default();
    let spare = Arc::new(SpareHandle::take());
    let mut complained = Throttle::new(COMPLAIN_EVERY);
    loop {
        match listener.accept().await {
            Ok((stream, user)) => {
                let answered = answer(stream, user);
                let spare = Arc::clone(&spare);
                connections.admit(async move {
                    answered.await;
                    spare.regain();
                });
            }
            // The next attempt takes the handle.
            Err(error) if is_out_of_handles(&error) && spare.lend() => {}
            Err(error) => {
                // Out of file handles, most likely: it passes.
                spare.regain();
                if let Some(more) = complained.permits(now().monotonic) {
                    tracing::warn!(%error, more, "admin socket cannot accept a connection");
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

/// Serves one request, then closes. The time that `answer` takes is its own.
pub(super) async fn serve_one<A>(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    answer: impl Fn(Request<Incoming>) -> A,
) where
    A: Future<Output = Response<Full<Bytes>>>,
{
    let answered = Notify::new();
    let service = service_fn(|request| {
        let answering = answer(request);
        async {
            let response = answering.await;
            answered.notify_one();
            Ok::<_, Infallible>(response)
        }
    });
    let serving = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_headers(64)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    let unread = async {
        answered.notified().await;
        sleep(READ_WITHIN).await;
    };
    tokio::select! {
        served = serving => {
            if let Err(error) = served {
                tracing::debug!(%error, "admin connection ended");
            }
        }
        () = unread => tracing::debug!("admin connection closed: the answer was not read"),
    }
}

/// A whole response.
pub(super) fn respond(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    use super::*;

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";

    /// A connection whose answer is longer than what is read without reading.
    fn connection() -> (DuplexStream, impl Future<Output = ()>) {
        let (client, server) = duplex(1024);
        let body = || Response::new(Full::new(Bytes::from(vec![b'x'; 1 << 20])));
        (client, serve_one(server, move |_| std::future::ready(body())))
    }

    #[tokio::test(start_paused = true)]
    async fn clients_that_send_nothing_or_read_nothing_are_closed_in_time() {
        let start = tokio::time::Instant::now();
        let (_silent, serving) = connection();
        serving.await;
        assert!(start.elapsed() <= HEAD_WITHIN + Duration::from_secs(1));
        let start = tokio::time::Instant::now();
        let (mut deaf, serving) = connection();
        deaf.write_all(REQUEST).await.unwrap();
        serving.await;
        assert!(start.elapsed() <= READ_WITHIN + Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_whose_answer_was_read_ends_at_once() {
        let start = tokio::time::Instant::now();
        let (mut client, serving) = connection();
        client.write_all(REQUEST).await.unwrap();
        let mut read = Vec::new();
        let (_, result) = tokio::join!(serving, client.read_to_end(&mut read));
        result.unwrap();
        assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_serves_one_request_and_no_other() {
        let (mut client, serving) = connection();
        client.write_all(&REQUEST.repeat(3)).await.unwrap();
        let mut read = Vec::new();
        let (_, result) = tokio::join!(serving, client.read_to_end(&mut read));
        result.unwrap();
        let head = String::from_utf8_lossy(&read[..200]).to_ascii_lowercase();
        assert!(head.contains("connection: close"), "{head}");
        let heads = read.windows(8).filter(|window| window == b"HTTP/1.1");
        assert_eq!(heads.count(), 1);
    }

    #[tokio::test]
    async fn the_oldest_connection_makes_room_for_a_new_one() {
        let mut connections = AdminConnections::default();
        let mut ended = Vec::new();
        for _ in 0..AT_MOST + 3 {
            let (held, end) = tokio::sync::oneshot::channel::<()>();
            ended.push(end);
            connections.admit(async move {
                let _held = held;
                std::future::pending().await
            });
        }
        for end in ended.drain(..3) {
            assert!(end.await.is_err());
        }
        assert!(ended.iter_mut().all(|end| {
            end.try_recv()
                .is_err_and(|error| error == tokio::sync::oneshot::error::TryRecvError::Empty)
        }));
    }
}

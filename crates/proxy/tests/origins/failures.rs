//! What becomes of a request when an origin fails, and when it goes elsewhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http_body_util::BodyExt as _;
use hyper::body::{Bytes, Frame};
use onionbraid_proxy::body::BodyError;
use onionbraid_proxy::failure::Failure;
use onionbraid_proxy::settings::{Balance, OriginSettings};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{Notify, mpsc};

use crate::server::{Nobody, Server, closed, read_head, read_question, respond, say, serve};
use crate::{CLIENT, SHORT, any_in_use, ask, get, origins, post, settings, within};

/// The first origin first, and one repetition.
fn one_retry() -> OriginSettings {
    OriginSettings { balance: Balance::First, retries: 1, ..settings() }
}

/// A server that says this to every request and closes the connection.
async fn saying(bytes: &'static str) -> Server {
    Server::start(move |_, mut connection| async move {
        read_head(&mut connection).await;
        say(&mut connection, bytes).await;
    })
    .await
}

#[tokio::test]
async fn where_nobody_listens_any_request_goes_to_the_next_origin() {
    let dead = Nobody::new();
    let live = Server::start(|_, mut connection| async move {
        while let Some(head) = read_head(&mut connection).await {
            if head.starts_with("POST") {
                read_question(&mut connection).await;
            }
            respond(&mut connection, head.split(' ').next().unwrap()).await;
        }
    })
    .await;
    let origins = origins(&[&dead.origin, &live.origin], one_retry());
    assert_eq!(ask(&origins, get("/")).await.unwrap(), "GET");
    assert_eq!(ask(&origins, post("/")).await.unwrap(), "POST");
    let counts: Vec<_> =
        origins.snapshot().iter().map(|state| (state.requests, state.failures)).collect();
    assert_eq!(counts, [(2, 2), (2, 0)]);
}

#[tokio::test]
async fn no_more_origins_are_tried_than_there_may_be_repetitions() {
    let dead = Nobody::new();
    let dead_too = Nobody::new();
    let live = Server::good().await;
    let all = [&dead.origin, &dead_too.origin, &live.origin];
    let none = origins(&all, OriginSettings { retries: 0, ..one_retry() });
    assert_eq!(ask(&none, get("/")).await, Err(Failure::OriginUnreachable));
    let one = origins(&all, one_retry());
    assert_eq!(ask(&one, get("/")).await, Err(Failure::OriginUnreachable));
    let two = origins(&all, OriginSettings { retries: 2, ..one_retry() });
    assert_eq!(ask(&two, get("/")).await.unwrap(), "0.0");
}

/// Answers one request, and closes the connection when the next one arrives.
async fn closing_at_the_second_request(heads: Arc<AtomicUsize>) -> Server {
    Server::start(move |number, mut connection| {
        let heads = Arc::clone(&heads);
        async move {
            read_head(&mut connection).await;
            respond(&mut connection, &format!("{number}")).await;
            if read_head(&mut connection).await.is_some() {
                heads.fetch_add(1, Ordering::SeqCst);
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_connection_that_dies_when_it_is_used_again_is_replaced_by_a_fresh_one() {
    let closed_on = Arc::new(AtomicUsize::new(0));
    let server = closing_at_the_second_request(Arc::clone(&closed_on)).await;
    let origins = origins(&[&server.origin], OriginSettings { max_connections: 1, ..one_retry() });
    for expected in ["0", "1", "2"] {
        assert_eq!(ask(&origins, get("/")).await.unwrap(), expected);
    }
    assert_eq!(closed_on.load(Ordering::SeqCst), 2);
    let state = &origins.snapshot()[0];
    assert_eq!((state.requests, state.failures), (5, 0), "an origin may close idle connections");
}

#[tokio::test]
async fn a_request_that_could_do_something_twice_is_not_repeated() {
    let closed_on = Arc::new(AtomicUsize::new(0));
    let server = closing_at_the_second_request(Arc::clone(&closed_on)).await;
    let settings = OriginSettings { max_connections: 1, ..one_retry() };
    let origins = origins(&[&server.origin], settings);
    assert_eq!(ask(&origins, get("/")).await.unwrap(), "0");
    assert_eq!(ask(&origins, post("/")).await, Err(Failure::OriginBroken));
    assert_eq!((closed_on.load(Ordering::SeqCst), server.accepted()), (1, 1));
}

#[tokio::test]
async fn a_connection_that_was_closed_while_idle_costs_no_repetition() {
    let over = Arc::new(Notify::new());
    let told = Arc::clone(&over);
    let server = Server::start(move |number, mut connection| {
        let told = Arc::clone(&told);
        async move {
            let head = read_head(&mut connection).await.unwrap();
            if head.starts_with("POST") {
                read_question(&mut connection).await;
            }
            respond(&mut connection, &format!("{number}")).await;
            // Closed by us, then by the client, which so has noticed.
            connection.shutdown().await.unwrap();
            closed(&mut connection).await;
            told.notify_one();
        }
    })
    .await;
    let origins = origins(&[&server.origin], OriginSettings { max_connections: 1, ..settings() });
    for expected in ["0", "1", "2", "3"] {
        assert_eq!(ask(&origins, post("/")).await.unwrap(), expected);
        within(over.notified()).await;
    }
}

#[tokio::test]
async fn an_origin_that_closes_without_a_word_leaves_the_request_to_the_next() {
    let mute = saying("").await;
    let live = Server::good().await;
    let origins = origins(&[&mute.origin, &live.origin], one_retry());
    assert_eq!(ask(&origins, get("/")).await.unwrap(), "0.0");
    assert_eq!(ask(&origins, post("/")).await, Err(Failure::OriginBroken));
    assert_eq!(live.accepted(), 1);
}

#[tokio::test]
async fn what_was_answered_in_part_or_makes_no_sense_is_never_repeated() {
    let live = Server::good().await;
    for bytes in [
        "HTTP/1.1 20",
        "HTTP/1.1 200 OK\r\nContent-Le",
        "SSH-2.0-OpenSSH_10.0\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        "\0\0\0\0\0\0\0\0",
    ] {
        let broken = saying(bytes).await;
        let origins = origins(&[&broken.origin, &live.origin], one_retry());
        assert_eq!(ask(&origins, get("/")).await, Err(Failure::OriginBroken), "{bytes:?}");
        assert_eq!(origins.snapshot()[0].failures, 1, "{bytes:?}");
    }
    assert_eq!(live.accepted(), 0);
}

#[tokio::test]
async fn heads_beyond_the_limits_are_refused() {
    for (fields, size) in [(101, 1), (1, 70_000)] {
        let server = Server::start(move |_, mut connection| async move {
            read_head(&mut connection).await;
            let field = format!("X: {}\r\n", "y".repeat(size));
            say(&mut connection, "HTTP/1.1 204 No Content\r\n").await;
            say(&mut connection, &field.repeat(fields)).await;
            say(&mut connection, "\r\n").await;
            closed(&mut connection).await;
        })
        .await;
        let origins = origins(&[&server.origin], settings());
        assert_eq!(ask(&origins, get("/")).await, Err(Failure::OriginBroken));
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_is_an_error_and_never_looks_whole() {
    for bytes in [
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ] {
        let server = saying(bytes).await;
        let origins = origins(&[&server.origin], one_retry());
        let response = within(origins.send(get("/"), CLIENT)).await.unwrap();
        assert!(within(response.into_body().collect()).await.is_err(), "{bytes:?}");
    }
}

#[tokio::test]
async fn an_origin_that_accepts_and_hangs_is_slow_and_not_asked_elsewhere() {
    let hung = Server::start(|_, mut connection| async move {
        closed(&mut connection).await;
    })
    .await;
    let live = Server::good().await;
    let settings = OriginSettings { response_timeout: SHORT, ..one_retry() };
    let origins = origins(&[&hung.origin, &live.origin], settings);
    assert_eq!(ask(&origins, get("/")).await, Err(Failure::OriginSlow));
    assert_eq!(ask(&origins, post("/")).await, Err(Failure::OriginSlow));
    assert_eq!(origins.snapshot()[0].failures, 2);
    assert_eq!(live.accepted(), 0);
}

#[tokio::test]
async fn the_time_to_answer_begins_when_the_question_has_ended() {
    let (asked, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let told = Arc::clone(&asked);
    let server = Server::start(move |_, mut connection| {
        let told = Arc::clone(&told);
        async move {
            read_head(&mut connection).await;
            told.notify_one();
            // Two chunks of "question", and the end.
            let mut question = String::new();
            while !question.ends_with("0\r\n\r\n") {
                question.push(connection.read_u8().await.unwrap().into());
            }
            closed(&mut connection).await;
        }
    })
    .await;
    let settings = OriginSettings { response_timeout: SHORT, ..settings() };
    let origins = origins(&[&server.origin], settings);
    let (sender, mut receiver) = mpsc::channel::<Result<Frame<Bytes>, BodyError>>(1);
    let frames = futures::stream::poll_fn(move |context| receiver.poll_recv(context));
    let request = post("/").map(|_| http_body_util::StreamBody::new(frames).boxed_unsync());
    let client = async {
        within(asked.notified()).await;
        // Longer than an answer may take: it is not time yet.
        tokio::time::sleep(3 * SHORT).await;
        go.notify_one();
        sender.send(Ok(Frame::data(Bytes::from_static(b"question")))).await.unwrap();
        drop(sender);
    };
    let waited = async {
        let answer = origins.send(request, CLIENT).await;
        (answer.map(drop), futures::FutureExt::now_or_never(go.notified()).is_some())
    };
    let ((answer, after), ()) = within(async { tokio::join!(waited, client) }).await;
    assert_eq!(answer, Err(Failure::OriginSlow));
    assert!(after, "it was given up while the client was still sending");
}

#[tokio::test]
async fn a_client_whose_body_breaks_off_is_not_held_against_the_origin() {
    let server = Server::start(serve).await;
    let settings = OriginSettings { fail_after: 1, ..one_retry() };
    let origins = origins(&[&server.origin], settings);
    for (error, failure) in [
        (BodyError::from(Failure::BodyTooLarge), Failure::BodyTooLarge),
        (BodyError::from("the stream has ended"), Failure::ClientGone),
    ] {
        let frames = [Ok(Frame::data(Bytes::from_static(b"que"))), Err(error)];
        let body = http_body_util::StreamBody::new(futures::stream::iter(frames)).boxed_unsync();
        assert_eq!(ask(&origins, post("/").map(|_| body)).await, Err(failure));
    }
    assert!(any_in_use(&origins));
    assert_eq!(origins.snapshot()[0].failures, 0);
}

//! Origins that speak HTTP/2 by prior knowledge.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures::future::join_all;
use http_body_util::BodyExt as _;
use hyper::body::{Bytes, Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use onionbraid_proxy::body::{self, Body};
use onionbraid_proxy::failure::Failure;
use onionbraid_proxy::origins::Client;
use onionbraid_proxy::settings::{OriginProtocol, OriginSettings};
use tokio::sync::Notify;

use crate::server::{Accepted, Nobody, Server};
use crate::{CLIENT, SHORT, WaitingRoom, ask, get, origins, post, settings, text, until, within};

fn http2() -> OriginSettings {
    OriginSettings { protocol: OriginProtocol::Http2, ..settings() }
}

/// Speaks HTTP/2, with at most this many requests at a time.
pub(crate) async fn serve_http2<S>(
    connection: Accepted,
    at_a_time: u32,
    answer: impl Fn(Request<Incoming>) -> S,
) where
    S: Future<Output = Response<Body>> + Send + 'static,
{
    let service = service_fn(move |request| {
        let answer = answer(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .max_concurrent_streams(at_a_time)
        .serve_connection(TokioIo::new(connection), service)
        .await;
}

/// Tells what arrived.
async fn tell(request: Request<Incoming>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let size = body.collect().await.unwrap().to_bytes().len();
    let host = head.headers.contains_key("host");
    Response::new(body::full(format!("{} {} {size} {host}", head.method, head.uri)))
}

#[tokio::test]
async fn all_requests_share_one_connection_within_the_limits_of_the_origin() {
    for at_a_time in [1, 100] {
        let server =
            Server::start(move |_, connection| serve_http2(connection, at_a_time, tell)).await;
        let origins = origins(&[&server.origin], OriginSettings { max_connections: 1, ..http2() });
        let answers = join_all((0..20).map(|_| ask(&origins, post("/path?query")))).await;
        for answer in answers {
            assert_eq!(answer.unwrap(), "POST http://shop.onion/path?query 8 false");
        }
        assert_eq!(ask(&origins, get("/")).await.unwrap(), "GET http://shop.onion/ 0 false");
        assert_eq!(server.accepted(), 1);
    }
}

#[tokio::test]
async fn an_origin_learns_that_the_client_takes_trailers_and_nothing_of_its_connection() {
    let server = Server::start(|_, connection| {
        serve_http2(connection, 100, |request| async move {
            let shown = |name| format!("{:?}", request.headers().get(name));
            Response::new(body::full(["te", "connection", "upgrade"].map(shown).join(" ")))
        })
    })
    .await;
    let origins = origins(&[&server.origin], http2());
    let mut request = get("/");
    for (name, value) in
        [("te", "trailers"), ("connection", "te, upgrade"), ("upgrade", "websocket")]
    {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    assert_eq!(ask(&origins, request).await.unwrap(), "Some(\"trailers\") None None");
}

#[tokio::test]
async fn requests_beyond_the_streams_of_an_origin_wait_only_so_long() {
    let (asked, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let signals = (Arc::clone(&asked), Arc::clone(&go));
    let server = Server::start(move |_, connection| {
        let signals = signals.clone();
        serve_http2(connection, 1, move |request| {
            let (asked, go) = signals.clone();
            async move {
                if request.uri().path() == "/hang" {
                    asked.notify_one();
                    go.notified().await;
                }
                tell(request).await
            }
        })
    })
    .await;
    let settings = OriginSettings { connect_timeout: SHORT, max_connections: 1, ..http2() };
    let origins = origins(&[&server.origin], settings);
    let others = async {
        within(asked.notified()).await;
        // The first waits for a stream, the others for their turn to do so.
        let requests = [get("/"), post("/"), get("/"), post("/")];
        for answer in join_all(requests.map(|request| ask(&origins, request))).await {
            assert_eq!(answer, Err(Failure::OriginsBusy));
        }
        let state = &origins.snapshot()[0];
        assert_eq!((state.in_flight, state.failures, &state.out), (1, 0, &None));
        go.notify_one();
    };
    let (answer, ()) = tokio::join!(ask(&origins, get("/hang")), others);
    answer.unwrap();
    // One by one they get a stream again, with a body or without.
    for request in [get, post, get, post] {
        within(async { while ask(&origins, request("/")).await.is_err() {} }).await;
    }
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn one_circuit_leaves_streams_to_the_others_and_waits_for_its_own() {
    let room = WaitingRoom::new();
    let held = Arc::clone(&room);
    let server = Server::start(move |_, connection| {
        let held = Arc::clone(&held);
        serve_http2(connection, 100, move |request| {
            let room = Arc::clone(&held);
            async move {
                if request.uri().path() == "/wait" {
                    room.wait().await;
                }
                tell(request).await
            }
        })
    })
    .await;
    let origins = origins(&[&server.origin], http2());
    room.leaves_to_others(&origins, 150, 64, "GET http://shop.onion/ 0 false").await;
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn an_origin_of_few_streams_gets_more_connections_up_to_the_limit() {
    let room = WaitingRoom::new();
    let held = Arc::clone(&room);
    let server = Server::start(move |_, connection| {
        let held = Arc::clone(&held);
        serve_http2(connection, 10, move |request| {
            let room = Arc::clone(&held);
            async move {
                room.wait().await;
                tell(request).await
            }
        })
    })
    .await;
    let origins = origins(&[&server.origin], OriginSettings { max_connections: 35, ..http2() });
    let clients: Vec<_> = (0..50).map(|circuit| Client { circuit, port: 80 }).collect();
    let asked = join_all(clients.into_iter().map(async |client| {
        let response = origins.send(get("/"), client).await?;
        Ok::<_, Failure>(text(response).await)
    }));
    let all = async {
        until(|| room.waiting.load(Ordering::SeqCst) == 40).await;
        assert_eq!(server.accepted(), 4);
        room.go.add_permits(1);
    };
    let (answers, ()) = tokio::join!(asked, all);
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(server.accepted(), 4);
}

#[tokio::test]
async fn who_waits_for_a_connection_learns_why_there_is_none() {
    let nobody = Nobody::new();
    let origins = origins(&[&nobody.origin], http2());
    let clients = (0..20).map(|circuit| Client { circuit, port: 80 });
    let answers = join_all(clients.map(|client| origins.send(get("/"), client)));
    for answer in within(answers).await {
        assert_eq!(answer.err(), Some(Failure::OriginUnreachable));
    }
}

#[tokio::test]
async fn an_upload_that_outlasts_its_answer_is_ended_in_time_and_takes_its_stream_until_then() {
    let reset = Arc::new(Notify::new());
    let told = Arc::clone(&reset);
    let server = Server::start(move |_, connection| {
        let told = Arc::clone(&told);
        async move {
            let mut connection = h2::server::Builder::new()
                .max_concurrent_streams(1)
                .handshake::<_, Bytes>(connection)
                .await
                .unwrap();
            let mut uploads = tokio::task::JoinSet::new();
            while let Some(Ok((request, mut respond))) = connection.accept().await {
                drop(respond.send_response(Response::new(()), true).unwrap());
                let told = Arc::clone(&told);
                uploads.spawn(async move {
                    if request.into_body().data().await.is_some_and(|data| data.is_err()) {
                        told.notify_one();
                    }
                });
            }
        }
    })
    .await;
    let settings = OriginSettings { idle_timeout: SHORT, max_connections: 1, ..http2() };
    let origins = origins(&[&server.origin], settings);
    let never = futures::stream::pending::<Result<Frame<Bytes>, body::BodyError>>();
    let request = post("/").map(|_| http_body_util::StreamBody::new(never).boxed_unsync());
    ask(&origins, request).await.unwrap();
    // The next one gets the one stream that there is.
    ask(&origins, get("/")).await.unwrap();
    within(reset.notified()).await;
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn a_body_that_does_not_come_keeps_nobody_from_the_connection() {
    let server = Server::start(|_, connection| serve_http2(connection, 100, tell)).await;
    let origins = origins(&[&server.origin], http2());
    let mut uploads = futures::stream::FuturesUnordered::new();
    for _ in 0..10 {
        let never = futures::stream::pending::<Result<Frame<Bytes>, body::BodyError>>();
        let request = post("/").map(|_| http_body_util::StreamBody::new(never).boxed_unsync());
        uploads.push(origins.send(request, CLIENT));
    }
    let others = async {
        until(|| origins.snapshot()[0].in_flight == 10).await;
        for _ in 0..10 {
            ask(&origins, get("/")).await.unwrap();
        }
    };
    tokio::select! {
        _ = futures::StreamExt::next(&mut uploads) => panic!("no question has ended"),
        () = others => {}
    }
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn a_connection_that_has_ended_is_replaced() {
    let end = Arc::new(Notify::new());
    let ends = Arc::clone(&end);
    let server = Server::start(move |number, connection| {
        let ends = Arc::clone(&ends);
        async move {
            let answer = move |_| async move { Response::new(body::full(format!("{number}"))) };
            tokio::select! {
                () = serve_http2(connection, 100, answer) => {}
                () = ends.notified() => {}
            }
        }
    })
    .await;
    let origins = origins(&[&server.origin], OriginSettings { retries: 1, ..http2() });
    for expected in ["0", "1", "2"] {
        assert_eq!(ask(&origins, get("/")).await.unwrap(), expected);
        assert_eq!(ask(&origins, get("/")).await.unwrap(), expected);
        end.notify_one();
    }
    assert_eq!(origins.snapshot()[0].failures, 0);
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_its_time() {
    let over = Arc::new(Notify::new());
    let told = Arc::clone(&over);
    let server = Server::start(move |_, connection| {
        let told = Arc::clone(&told);
        async move {
            serve_http2(connection, 100, tell).await;
            told.notify_one();
        }
    })
    .await;
    let origins = origins(&[&server.origin], OriginSettings { keep_alive: SHORT, ..http2() });
    let unread = within(origins.send(get("/"), CLIENT)).await.unwrap();
    assert_eq!(origins.snapshot()[0].in_flight, 1);
    text(unread).await;
    within(over.notified()).await;
    assert_eq!(origins.snapshot()[0].in_flight, 0);
    ask(&origins, get("/")).await.unwrap();
    assert_eq!(server.accepted(), 2);
}

#[tokio::test]
async fn a_request_that_the_origin_gives_up_leaves_the_others_alone() {
    let server = Server::start(|_, connection| async move {
        let mut connection = h2::server::handshake(connection).await.unwrap();
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            match request.uri().path() {
                "/broken" => respond.send_reset(h2::Reason::INTERNAL_ERROR),
                "/refused" => respond.send_reset(h2::Reason::REFUSED_STREAM),
                _ => drop(respond.send_response(Response::new(()), true).unwrap()),
            }
        }
    })
    .await;
    let origins = origins(&[&server.origin], OriginSettings { retries: 1, ..http2() });
    for (path, answer, failures) in [
        ("/", Ok(String::new()), 0),
        ("/broken", Err(Failure::OriginBroken), 1),
        ("/refused", Err(Failure::OriginsBusy), 1),
        ("/", Ok(String::new()), 1),
    ] {
        assert_eq!(ask(&origins, get(path)).await, answer, "{path}");
        assert_eq!(origins.snapshot()[0].failures, failures, "{path}");
    }
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn an_answer_that_is_broken_off_without_an_error_is_not_whole() {
    let taken = Arc::new(Notify::new());
    let wait = Arc::clone(&taken);
    let server = Server::start(move |_, connection| {
        let taken = Arc::clone(&wait);
        async move {
            let mut connection = h2::server::handshake(connection).await.unwrap();
            let mut resets = tokio::task::JoinSet::new();
            while let Some(Ok((request, mut respond))) = connection.accept().await {
                let whole = request.uri().path() == "/whole";
                let mut answer = respond.send_response(Response::new(()), false).unwrap();
                answer.send_data("some".into(), whole).unwrap();
                let taken = Arc::clone(&taken);
                resets.spawn(async move {
                    taken.notified().await;
                    // The rest of the request is not asked for, if there is any.
                    answer.send_reset(h2::Reason::NO_ERROR);
                    drop(request);
                });
            }
        }
    })
    .await;
    let origins = origins(&[&server.origin], http2());
    let never = futures::stream::pending::<Result<Frame<Bytes>, body::BodyError>>();
    let unfinished = post("/whole").map(|_| http_body_util::StreamBody::new(never).boxed_unsync());
    for (request, whole) in [(unfinished, true), (get("/broken"), false)] {
        let mut body = within(origins.send(request, CLIENT)).await.unwrap().into_body();
        let some = within(body.frame()).await.unwrap().unwrap();
        assert_eq!(some.data_ref().unwrap(), "some");
        taken.notify_one();
        assert_eq!(within(body.collect()).await.is_ok(), whole);
    }
}

#[tokio::test]
async fn an_origin_that_speaks_something_else_is_broken() {
    let server = Server::good().await;
    let origins = origins(&[&server.origin], http2());
    assert_eq!(ask(&origins, get("/")).await, Err(Failure::OriginBroken));
}

#[tokio::test]
async fn heads_beyond_the_limits_are_refused() {
    for (fields, size) in [(101, 1), (1, 70_000)] {
        let server = Server::start(move |_, connection| {
            serve_http2(connection, 100, move |_| async move {
                let mut response = Response::new(body::empty());
                for _ in 0..fields {
                    let value = "y".repeat(size).parse().unwrap();
                    response.headers_mut().append("x", value);
                }
                response
            })
        })
        .await;
        let origins = origins(&[&server.origin], http2());
        assert_eq!(ask(&origins, get("/")).await, Err(Failure::OriginBroken));
    }
}

#[tokio::test]
async fn with_proxy_protocol_each_circuit_has_a_connection_of_its_own() {
    let server = Server::start(|number, mut connection| async move {
        use tokio::io::AsyncReadExt as _;
        let mut header = [0; 52];
        connection.read_exact(&mut header).await.unwrap();
        let circuit = header[31];
        let answer = move |_| async move {
            Response::new(body::full(format!("connection {number} of circuit {circuit}")))
        };
        serve_http2(connection, 100, answer).await;
    })
    .await;
    let proxy_protocol = Some(onionbraid_proxy::settings::ProxyProtocol::V2);
    let origins = origins(&[&server.origin], OriginSettings { proxy_protocol, ..http2() });
    let ask = async |circuit| {
        let client = Client { circuit, port: 80 };
        text(within(origins.send(get("/"), client)).await.unwrap()).await
    };
    let (one, two) = tokio::join!(ask(1), ask(2));
    assert_ne!(one, two);
    for answer in [one, two] {
        let circuit = if answer.ends_with('1') { 1 } else { 2 };
        assert_eq!(ask(circuit).await, answer);
    }
}

#[tokio::test]
async fn clients_that_do_not_read_do_not_stop_the_answers_to_others() {
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&sent);
    let server = Server::start(move |_, connection| {
        let sent = Arc::clone(&counted);
        serve_http2(connection, 100, move |request| {
            let sent = Arc::clone(&sent);
            async move {
                if request.uri().path() != "/endless" {
                    return tell(request).await;
                }
                let chunks = futures::stream::repeat_with(move || {
                    sent.fetch_add(1, Ordering::SeqCst);
                    Ok(Frame::data(Bytes::from_static(&[0; 16 * 1024])))
                });
                Response::new(http_body_util::StreamBody::new(chunks).boxed_unsync())
            }
        })
    })
    .await;
    let origins = origins(&[&server.origin], http2());
    let mut unread = Vec::new();
    for _ in 0..50 {
        unread.push(within(origins.send(get("/endless"), CLIENT)).await.unwrap());
    }
    // Every body has filled the window of its own.
    until(|| sent.load(Ordering::SeqCst) >= 50 * 8).await;
    for _ in 0..20 {
        ask(&origins, get("/")).await.unwrap();
    }
    assert_eq!((server.accepted(), origins.snapshot()[0].in_flight), (1, 50));
}

#[tokio::test]
async fn a_hung_origin_is_slow() {
    let hung = Arc::new(AtomicBool::new(false));
    let hangs = Arc::clone(&hung);
    let server = Server::start(move |_, connection| {
        let hangs = Arc::clone(&hangs);
        serve_http2(connection, 100, move |request| {
            let hangs = Arc::clone(&hangs);
            async move {
                if request.uri().path() == "/hang" {
                    hangs.store(true, Ordering::SeqCst);
                    std::future::pending::<()>().await;
                }
                tell(request).await
            }
        })
    })
    .await;
    let settings =
        OriginSettings { response_timeout: std::time::Duration::from_secs(3), ..http2() };
    let origins = origins(&[&server.origin], settings);
    assert_eq!(ask(&origins, get("/hang")).await, Err(Failure::OriginSlow));
    assert!(hung.load(Ordering::SeqCst));
    ask(&origins, get("/")).await.unwrap();
    assert_eq!(server.accepted(), 1);
}

//! Which connection a request gets, and what becomes of it.

use std::sync::Arc;

use futures::future::join_all;
use http_body_util::BodyExt as _;
use hyper::body::Frame;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use onionbraid_proxy::body;
use onionbraid_proxy::failure::Failure;
use onionbraid_proxy::origins::Client;
use onionbraid_proxy::settings::{Balance, OriginSettings, ProxyProtocol};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{Barrier, Notify, mpsc};

use crate::server::{Server, closed, read_head, read_question, respond, say, serve};
use crate::{CLIENT, SHORT, WaitingRoom, ask, get, origins, post, settings, text, until, within};

#[tokio::test]
async fn requests_take_turns_on_the_one_connection_there_may_be() {
    let server = Server::good().await;
    let origins = origins(&[&server.origin], OriginSettings { max_connections: 1, ..settings() });
    for request in 0..3 {
        assert_eq!(ask(&origins, get("/")).await.unwrap(), format!("0.{request}"));
    }
    let (a, b, c) =
        tokio::join!(ask(&origins, get("/")), ask(&origins, get("/")), ask(&origins, get("/")),);
    let mut answers = [a.unwrap(), b.unwrap(), c.unwrap()];
    answers.sort();
    assert_eq!(answers, ["0.3", "0.4", "0.5"]);
    assert_eq!(server.accepted(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn there_are_never_more_connections_than_there_may_be() {
    let server = Server::good().await;
    let origins = origins(&[&server.origin], OriginSettings { max_connections: 3, ..settings() });
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let origins = Arc::clone(&origins);
        clients.spawn(async move {
            for _ in 0..50 {
                ask(&origins, get("/")).await.unwrap();
            }
        });
    }
    within(clients.join_all()).await;
    assert!(server.accepted() <= 3, "{}", server.accepted());
    let state = &origins.snapshot()[0];
    assert_eq!((state.requests, state.failures, state.in_flight), (1000, 0, 0));
}

#[tokio::test]
async fn a_request_beyond_the_connections_waits_only_so_long() {
    let server = Server::start(|_, mut connection| async move {
        read_head(&mut connection).await;
        say(&mut connection, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhal").await;
        closed(&mut connection).await;
    })
    .await;
    let settings = OriginSettings { max_connections: 1, connect_timeout: SHORT, ..settings() };
    let origins = origins(&[&server.origin], settings);
    let unread = within(origins.send(get("/"), CLIENT)).await.unwrap();
    assert_eq!(ask(&origins, get("/")).await, Err(Failure::OriginsBusy));
    let state = &origins.snapshot()[0];
    assert_eq!((state.in_flight, state.failures, &state.out), (1, 0, &None));
    drop(unread);
    until(|| origins.snapshot()[0].in_flight == 0).await;
    within(origins.send(get("/"), CLIENT)).await.unwrap();
}

#[tokio::test]
async fn one_circuit_leaves_connections_to_the_others_and_waits_for_its_own() {
    let room = WaitingRoom::new();
    let held = Arc::clone(&room);
    let server = Server::start(move |_, mut connection| {
        let room = Arc::clone(&held);
        async move {
            while let Some(head) = read_head(&mut connection).await {
                if head.starts_with("GET /wait ") {
                    room.wait().await;
                }
                respond(&mut connection, "answer").await;
            }
        }
    })
    .await;
    let origins = origins(&[&server.origin], OriginSettings { max_connections: 16, ..settings() });
    room.leaves_to_others(&origins, 20, 8, "answer").await;
}

#[tokio::test]
async fn a_hundred_requests_of_one_circuit_are_answered_side_by_side() {
    let all = Arc::new(Barrier::new(100));
    let server = Server::start(move |_, mut connection| {
        let all = Arc::clone(&all);
        async move {
            read_head(&mut connection).await;
            all.wait().await;
            respond(&mut connection, "answer").await;
        }
    })
    .await;
    let origins = origins(&[&server.origin], settings());
    for answer in join_all((0..100).map(|_| ask(&origins, get("/")))).await {
        assert_eq!(answer.unwrap(), "answer");
    }
}

#[tokio::test]
async fn an_unread_response_takes_its_connection_with_it() {
    let over = Arc::new(Notify::new());
    let told = Arc::clone(&over);
    let server = Server::start(move |_, mut connection| {
        let told = Arc::clone(&told);
        async move {
            read_head(&mut connection).await;
            say(&mut connection, "HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\nhal").await;
            closed(&mut connection).await;
            told.notify_one();
        }
    })
    .await;
    let origins = origins(&[&server.origin], settings());
    drop(within(origins.send(get("/"), CLIENT)).await.unwrap());
    within(over.notified()).await;
}

#[tokio::test]
async fn an_abandoned_request_takes_its_connection_with_it() {
    let (asked, over) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let told = (Arc::clone(&asked), Arc::clone(&over));
    let server = Server::start(move |_, mut connection| {
        let told = told.clone();
        async move {
            read_head(&mut connection).await;
            told.0.notify_one();
            closed(&mut connection).await;
            told.1.notify_one();
        }
    })
    .await;
    let origins = origins(&[&server.origin], settings());
    tokio::select! {
        _ = origins.send(get("/"), CLIENT) => panic!("nothing was answered"),
        () = within(asked.notified()) => {}
    }
    within(over.notified()).await;
    assert_eq!(origins.snapshot()[0].in_flight, 0);
}

/// One connection, of which a request without an end may hold the place for a
/// short time only.
fn impatient() -> OriginSettings {
    OriginSettings { max_connections: 1, connect_timeout: SHORT, idle_timeout: SHORT, ..settings() }
}

#[tokio::test]
async fn an_origin_that_does_not_read_holds_no_connection_of_an_abandoned_request() {
    let asked = Arc::new(Notify::new());
    let told = Arc::clone(&asked);
    let server = Server::start(move |number, mut connection| {
        let told = Arc::clone(&told);
        async move {
            if number > 0 {
                return serve(number, connection).await;
            }
            read_head(&mut connection).await;
            told.notify_one();
            std::future::pending::<()>().await;
        }
    })
    .await;
    let origins = origins(&[&server.origin], impatient());
    // More than fits between two sockets.
    let request = post("/").map(|_| body::full(vec![b'x'; 64 * 1024 * 1024]));
    tokio::select! {
        _ = origins.send(request, CLIENT) => panic!("nothing was answered"),
        () = within(asked.notified()) => {}
    }
    within(async { while ask(&origins, get("/")).await.is_err() {} }).await;
}

#[tokio::test]
async fn a_question_that_goes_on_after_its_answer_may_not_stand_still_for_ever() {
    let server = Server::start(|number, mut connection| async move {
        if number > 0 {
            return serve(number, connection).await;
        }
        read_head(&mut connection).await;
        respond(&mut connection, "early").await;
        std::future::pending::<()>().await;
    })
    .await;
    let origins = origins(&[&server.origin], impatient());
    let never = futures::stream::pending::<Result<Frame<hyper::body::Bytes>, body::BodyError>>();
    let request = post("/").map(|_| http_body_util::StreamBody::new(never).boxed_unsync());
    assert_eq!(ask(&origins, request).await.unwrap(), "early");
    within(async { while ask(&origins, get("/")).await.is_err() {} }).await;
}

/// A server that tells when a connection to it is over.
async fn server_that_tells_of_ends() -> (Server, Arc<Notify>) {
    let over = Arc::new(Notify::new());
    let told = Arc::clone(&over);
    let server = Server::start(move |number, connection| {
        let told = Arc::clone(&told);
        async move {
            serve(number, connection).await;
            told.notify_one();
        }
    })
    .await;
    (server, over)
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_its_time() {
    let (server, over) = server_that_tells_of_ends().await;
    let origins = origins(&[&server.origin], OriginSettings { keep_alive: SHORT, ..settings() });
    assert_eq!(ask(&origins, get("/")).await.unwrap(), "0.0");
    within(over.notified()).await;
    assert_eq!(ask(&origins, get("/")).await.unwrap(), "1.0");
}

#[tokio::test]
async fn connections_end_with_the_origins() {
    let (server, over) = server_that_tells_of_ends().await;
    let origins = origins(&[&server.origin], settings());
    ask(&origins, get("/")).await.unwrap();
    drop(origins);
    within(over.notified()).await;
}

#[tokio::test]
async fn a_response_outlives_the_origins_it_came_from() {
    let go = Arc::new(Notify::new());
    let signal = Arc::clone(&go);
    let server = Server::start(move |_, mut connection| {
        let signal = Arc::clone(&signal);
        async move {
            read_head(&mut connection).await;
            say(&mut connection, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhal").await;
            signal.notified().await;
            say(&mut connection, "ve").await;
            closed(&mut connection).await;
        }
    })
    .await;
    let origins = origins(&[&server.origin], settings());
    let response = within(origins.send(get("/"), CLIENT)).await.unwrap();
    drop(origins);
    go.notify_one();
    assert_eq!(text(response).await, "halve");
}

#[tokio::test]
async fn an_upgraded_connection_counts_until_it_is_closed() {
    let server = Server::start(|_, mut connection| async move {
        let head = read_head(&mut connection).await.unwrap();
        assert!(head.to_lowercase().contains("upgrade: echo\r\n"), "{head}");
        say(
            &mut connection,
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n",
        )
        .await;
        let (mut reader, mut writer) = tokio::io::split(connection);
        let _ = tokio::io::copy(&mut reader, &mut writer).await;
    })
    .await;
    let settings = OriginSettings { max_connections: 1, connect_timeout: SHORT, ..settings() };
    let origins = origins(&[&server.origin], settings);
    let upgrade = || {
        Request::get("/socket")
            .header("Host", "shop.onion")
            .header("Connection", "upgrade")
            .header("Upgrade", "echo")
            .body(body::empty())
            .unwrap()
    };
    let response = within(origins.send(upgrade(), CLIENT)).await.unwrap();
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    let mut upgraded = TokioIo::new(within(hyper::upgrade::on(response)).await.unwrap());
    upgraded.write_all(b"echo").await.unwrap();
    let mut echo = [0; 4];
    within(upgraded.read_exact(&mut echo)).await.unwrap();
    assert_eq!(&echo, b"echo");
    assert_eq!(origins.snapshot()[0].in_flight, 1);
    assert_eq!(ask(&origins, get("/")).await, Err(Failure::OriginsBusy));
    drop(upgraded);
    until(|| origins.snapshot()[0].in_flight == 0).await;
    within(origins.send(upgrade(), CLIENT)).await.unwrap();
}

#[tokio::test]
async fn a_body_streams_both_ways_before_either_has_ended() {
    let server = Server::start(|number, mut connection| async move {
        if number > 0 {
            return serve(number, connection).await;
        }
        read_head(&mut connection).await;
        say(&mut connection, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        // A chunk, as it comes.
        let mut chunk = [0; 9];
        connection.read_exact(&mut chunk).await.unwrap();
        assert_eq!(&chunk, b"4\r\nping\r\n");
        say(&mut connection, "4\r\npong\r\n").await;
        connection.read_exact(&mut chunk[..5]).await.unwrap();
        assert_eq!(&chunk[..5], b"0\r\n\r\n");
        say(&mut connection, "0\r\n\r\n").await;
        closed(&mut connection).await;
    })
    .await;
    let origins = origins(&[&server.origin], OriginSettings { max_connections: 1, ..settings() });
    let (sender, mut receiver) = mpsc::channel::<&'static str>(1);
    let frames = futures::stream::poll_fn(move |context| receiver.poll_recv(context));
    let frames = futures::StreamExt::map(frames, |text| {
        Ok(Frame::data(hyper::body::Bytes::from_static(text.as_bytes())))
    });
    let request = Request::post("/")
        .header("Host", "shop.onion")
        .body(http_body_util::StreamBody::new(frames).boxed_unsync())
        .unwrap();
    let mut response = within(origins.send(request, CLIENT)).await.unwrap();
    sender.send("ping").await.unwrap();
    let frame = within(response.body_mut().frame()).await.unwrap().unwrap();
    assert_eq!(frame.into_data().unwrap(), "pong");
    drop(sender);
    assert!(within(response.body_mut().frame()).await.is_none());
    // An origin that does not look for a body would take this one for a request.
    assert_eq!(ask(&origins, get("/")).await.unwrap(), "1.0");
    assert_eq!(server.accepted(), 2);
}

#[tokio::test]
async fn origins_take_turns_and_the_least_busy_one_is_found() {
    let (a, b) = (Server::named("a").await, Server::named("b").await);
    let by_turns = origins(&[&a.origin, &b.origin], settings());
    let mut answers = String::new();
    for _ in 0..4 {
        answers += &ask(&by_turns, get("/")).await.unwrap();
    }
    assert_eq!(answers, "abab");
    let settings = OriginSettings { balance: Balance::LeastConnections, ..settings() };
    let least = origins(&[&a.origin, &b.origin], settings);
    // The body of the first response is not read: its request is under way.
    let unread = within(least.send(get("/"), CLIENT)).await.unwrap();
    assert_eq!(ask(&least, get("/")).await.unwrap(), "b");
    assert_eq!(ask(&least, get("/")).await.unwrap(), "b");
    assert_eq!(text(unread).await, "a");
}

#[tokio::test]
async fn an_origin_may_listen_on_a_unix_socket() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::unix(&directory.path().join("origin"), serve);
    let origins = origins(&[&server.origin], settings());
    assert_eq!(ask(&origins, get("/")).await.unwrap(), "0.0");
    let name = &origins.snapshot()[0].name;
    assert!(name.starts_with("http+unix:/") && name.ends_with("/origin"), "{name}");
}

#[tokio::test]
async fn a_request_reaches_an_http_1_origin_in_its_form() {
    let server = Server::start(|_, mut connection| async move {
        while let Some(head) = read_head(&mut connection).await {
            respond(&mut connection, &head).await;
        }
    })
    .await;
    let origins = origins(&[&server.origin], settings());
    let head = ask(&origins, get("http://elsewhere.example/path?query")).await.unwrap();
    assert_eq!(head, "GET /path?query HTTP/1.1\r\nhost: shop.onion\r\n\r\n");
}

#[tokio::test]
async fn the_body_of_a_get_arrives_whatever_is_known_of_its_length() {
    let server = Server::start(|_, mut connection| async move {
        while let Some(head) = read_head(&mut connection).await {
            if head.contains("\r\ntransfer-encoding: chunked\r\n") {
                let mut body = [0; b"8\r\nquestion\r\n0\r\n\r\n".len()];
                connection.read_exact(&mut body).await.unwrap();
                assert_eq!(&body, b"8\r\nquestion\r\n0\r\n\r\n");
                respond(&mut connection, "chunked").await;
            } else {
                assert!(head.contains("\r\ncontent-length: 8\r\n"), "{head}");
                read_question(&mut connection).await;
                respond(&mut connection, "as long as it says").await;
            }
        }
    })
    .await;
    let origins = origins(&[&server.origin], settings());
    let unknown = || {
        let frames = [Ok(Frame::data(hyper::body::Bytes::from_static(b"question")))];
        http_body_util::StreamBody::new(futures::stream::iter(frames)).boxed_unsync()
    };
    for (announced, answer) in [(false, "chunked"), (true, "as long as it says")] {
        let mut request = get("/").map(|_| unknown());
        if announced {
            request.headers_mut().insert("content-length", 8.into());
        }
        assert_eq!(ask(&origins, request).await.unwrap(), answer);
    }
    let known = get("/").map(|_| body::full("question"));
    assert_eq!(ask(&origins, known).await.unwrap(), "as long as it says");
}

#[tokio::test]
async fn with_proxy_protocol_a_connection_serves_one_circuit_alone() {
    let server = Server::start(|_, mut connection| async move {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            line.push(connection.read_u8().await.unwrap());
        }
        let line = String::from_utf8(line).unwrap();
        while read_head(&mut connection).await.is_some() {
            respond(&mut connection, line.trim_end()).await;
        }
    })
    .await;
    let settings = OriginSettings {
        proxy_protocol: Some(ProxyProtocol::V1),
        max_connections: 1,
        ..settings()
    };
    let origins = origins(&[&server.origin], settings);
    let ask = async |circuit| {
        text(within(origins.send(get("/"), Client { circuit, port: 80 })).await.unwrap()).await
    };
    assert_eq!(ask(1).await, "PROXY TCP6 fc00:dead:beef:4dad::0:1 ::1 1 80");
    assert_eq!(ask(1).await, "PROXY TCP6 fc00:dead:beef:4dad::0:1 ::1 1 80");
    assert_eq!(server.accepted(), 1);
    // The idle connection of another circuit makes room.
    assert_eq!(ask(2).await, "PROXY TCP6 fc00:dead:beef:4dad::0:2 ::1 2 80");
    assert_eq!(ask(1).await, "PROXY TCP6 fc00:dead:beef:4dad::0:1 ::1 1 80");
    assert_eq!(server.accepted(), 3);
}

#[tokio::test]
async fn an_early_answer_does_not_free_the_connection_before_the_question_has_ended() {
    let server = Server::start(|number, mut connection| async move {
        let head = read_head(&mut connection).await.unwrap();
        respond(&mut connection, "early").await;
        if head.starts_with("POST") {
            closed(&mut connection).await;
        } else {
            serve(number, connection).await;
        }
    })
    .await;
    let origins = origins(&[&server.origin], settings());
    let never = futures::stream::pending::<Result<Frame<hyper::body::Bytes>, body::BodyError>>();
    let request = post("/").map(|_| http_body_util::StreamBody::new(never).boxed_unsync());
    assert_eq!(ask(&origins, request).await.unwrap(), "early");
    assert_eq!(ask(&origins, get("/")).await.unwrap(), "early");
    assert_eq!(server.accepted(), 2);
}

/// A server that answers with this what asks for `/trap`, says more as soon as it is told
/// to go on, and tells when that connection is over.
async fn trap(
    answer: &'static str,
    more: &'static str,
    go: &Arc<Notify>,
    over: &Arc<Notify>,
) -> Server {
    let signals = (Arc::clone(go), Arc::clone(over));
    Server::start(move |number, mut connection| {
        let (go, over) = signals.clone();
        async move {
            while let Some(head) = read_head(&mut connection).await {
                if !head.contains(" /trap ") {
                    respond(&mut connection, &format!("{number}")).await;
                    continue;
                }
                say(&mut connection, answer).await;
                go.notified().await;
                say(&mut connection, more).await;
                closed(&mut connection).await;
                over.notify_one();
                return;
            }
        }
    })
    .await
}

const EVIL: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL";

#[tokio::test]
async fn content_of_an_answer_that_has_none_reaches_nobody_else() {
    for (method, answer) in [
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 42\r\n\r\n"),
        ("HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("HEAD", "HTTP/1.1 200 OK\r\n\r\n"),
        ("GET", "HTTP/1.1 204 No Content\r\nContent-Length: 42\r\n\r\n"),
        ("GET", "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("GET", "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 42\r\n\r\n"),
    ] {
        let (go, over) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let server = trap(answer, EVIL, &go, &over).await;
        let origins = origins(&[&server.origin], settings());
        let mut request = get("/trap");
        *request.method_mut() = method.parse().unwrap();
        assert_eq!(ask(&origins, request).await.unwrap(), "", "{answer}");
        // What is said from now on comes too late for the next request.
        let next = ask(&origins, get("/")).await.unwrap();
        assert_eq!((next.as_str(), server.accepted()), ("1", 2), "{method} {answer}");
        go.notify_one();
        within(over.notified()).await;
    }
}

#[tokio::test]
async fn answers_without_content_that_announce_none_leave_their_connection_in_use() {
    for answer in [
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n",
    ] {
        let server = Server::start(move |_, mut connection| async move {
            while read_head(&mut connection).await.is_some() {
                say(&mut connection, answer).await;
            }
        })
        .await;
        let origins = origins(&[&server.origin], settings());
        for _ in 0..3 {
            assert_eq!(ask(&origins, get("/")).await.unwrap(), "");
        }
        assert_eq!(server.accepted(), 1, "{answer}");
    }
}

#[tokio::test]
async fn an_idle_connection_on_which_something_arrives_is_closed() {
    let whole = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
    for more in [EVIL, "x", "\r\n"] {
        let (go, over) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let server = trap(whole, more, &go, &over).await;
        let origins = origins(&[&server.origin], settings());
        assert_eq!(ask(&origins, get("/trap")).await.unwrap(), "hi");
        go.notify_one();
        within(over.notified()).await;
        assert_eq!(ask(&origins, get("/")).await.unwrap(), "1", "{more:?}");
    }
}

#[tokio::test]
async fn a_connection_is_not_used_again_after_content_and_the_origin_knows_that() {
    for method in ["GET", "HEAD", "OPTIONS", "DELETE", "MOVE", "POST", "PUT", "PATCH"] {
        let server = Server::start(|_, mut connection| async move {
            while let Some(head) = read_head(&mut connection).await {
                // So it takes nothing that follows for a request.
                let has_content = head.contains("content-length");
                assert_eq!(head.contains("connection: close"), has_content, "{head}");
                if has_content {
                    read_question(&mut connection).await;
                }
                match head.starts_with("HEAD") {
                    true => say(&mut connection, "HTTP/1.1 200 OK\r\n\r\n").await,
                    false => respond(&mut connection, "").await,
                }
            }
        })
        .await;
        let origins = origins(&[&server.origin], settings());
        let mut request = post("/");
        *request.method_mut() = method.parse().unwrap();
        assert_eq!(ask(&origins, request).await.unwrap(), "", "{method}");
        assert_eq!(ask(&origins, get("/")).await.unwrap(), "", "{method}");
        assert_eq!(server.accepted(), 2, "{method}");
    }
}

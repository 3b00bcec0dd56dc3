//! What passes through unchanged, in both versions of HTTP/1 and both ways.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::world::{GET, LAST_GET, World, ended, read_all, read_head, read_until, status};

#[tokio::test(start_paused = true)]
pub(crate) async fn a_request_and_its_response_pass_and_the_stream_stays_open_for_more() {
    let mut world = World::new();
    let mut client = world.client();
    for _ in 0..2 {
        client.write_all(GET.as_bytes()).await.unwrap();
        let mut origin = world.origin().await;
        let request = read_head(&mut origin).await.to_ascii_lowercase();
        assert!(request.starts_with("get /x?y http/1.1\r\n"), "{request}");
        assert!(request.contains("\r\nhost: a.onion\r\n"), "{request}");
        origin.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: y\r\n\r\nhi").await.unwrap();
        let answer = read_until(&mut client, "hi").await;
        assert!(answer.to_ascii_lowercase().contains("\r\nx: y\r\n"), "{answer}");
        assert!(!answer.to_ascii_lowercase().contains("\r\ndate:"), "no clock is told: {answer}");
    }
    assert_eq!((world.status().requests, world.status().by_class.success), (2, 2));
    assert!(world.status().failures.is_empty());
}

#[tokio::test(start_paused = true)]
pub(crate) async fn an_absolute_target_reaches_the_origin_as_a_path() {
    let mut world = World::new();
    let _client = world.asking("GET http://a.onion/b?c HTTP/1.1\r\nHost: a.onion\r\n\r\n").await;
    let request = read_head(&mut world.origin().await).await.to_ascii_lowercase();
    assert!(request.starts_with("get /b?c http/1.1\r\n"), "{request}");
    assert!(request.contains("\r\nhost: a.onion\r\n"), "{request}");
}

#[tokio::test(start_paused = true)]
pub(crate) async fn chunks_pass_however_the_origin_writes_their_name() {
    for coding in ["chunked", "Chunked", " CHUNKED "] {
        let mut world = World::new();
        let head = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: {coding}\r\n\r\n");
        let response = format!("{head}2\r\nhi\r\n0\r\n\r\n");
        let answer = world.exchange(LAST_GET, response.as_bytes()).await;
        assert!(answer.ends_with("\r\n\r\n2\r\nhi\r\n0\r\n\r\n"), "{answer}");
        assert!(world.status().failures.is_empty());
    }
}

#[tokio::test(start_paused = true)]
pub(crate) async fn a_client_of_http_1_0_gets_no_chunks_and_the_end_of_the_stream() {
    let mut world = World::new();
    let response = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n";
    let answer = world.exchange("GET / HTTP/1.0\r\nHost: a.onion\r\n\r\n", response).await;
    assert!(answer.ends_with("\r\n\r\nhi"), "{answer}");
    assert!(!answer.to_ascii_lowercase().contains("transfer-encoding"), "{answer}");
}

#[tokio::test(start_paused = true)]
pub(crate) async fn a_client_of_http_1_0_that_names_no_host_asks_for_the_one_it_connected_to() {
    let mut world = World::new();
    let _client = world.asking("GET / HTTP/1.0\r\n\r\n").await;
    let request = read_head(&mut world.origin().await).await.to_ascii_lowercase();
    assert!(request.starts_with("get / http/1.1\r\n"), "{request}");
    assert!(request.contains("\r\nhost: a.onion\r\n"), "{request}");
}

#[tokio::test(start_paused = true)]
pub(crate) async fn connection_close_is_heeded() {
    let mut world = World::new();
    let answer = world.exchange(LAST_GET, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").await;
    assert!(answer.to_ascii_lowercase().contains("\r\nconnection: close\r\n"), "{answer}");
}

#[tokio::test(start_paused = true)]
pub(crate) async fn the_answer_to_head_keeps_its_length_and_has_no_body() {
    let mut world = World::new();
    let head = "HEAD / HTTP/1.1\r\nHost: a.onion\r\nConnection: close\r\n\r\n";
    let answer = world.exchange(head, b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n").await;
    assert!(answer.to_ascii_lowercase().contains("\r\ncontent-length: 99\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\n"), "{answer}");
    assert!(world.status().failures.is_empty());
}

#[tokio::test(start_paused = true)]
pub(crate) async fn responses_without_a_body_leave_the_stream_usable() {
    let mut world = World::new();
    let mut client = world.client();
    for head in ["204 No Content\r\n", "304 Not Modified\r\nContent-Length: 9\r\n"] {
        client.write_all(GET.as_bytes()).await.unwrap();
        let mut origin = world.origin().await;
        read_head(&mut origin).await;
        origin.write_all(format!("HTTP/1.1 {head}\r\n").as_bytes()).await.unwrap();
        assert_eq!(read_head(&mut client).await.as_bytes()[9..12], head.as_bytes()[..3]);
    }
}

#[tokio::test(start_paused = true)]
pub(crate) async fn ranges_are_between_the_client_and_the_origin() {
    let mut world = World::new();
    let mut client = world
        .asking("GET / HTTP/1.1\r\nHost: a.onion\r\nRange: bytes=1-2\r\nIf-Range: \"e\"\r\n\r\n")
        .await;
    let mut origin = world.origin().await;
    let request = read_head(&mut origin).await.to_ascii_lowercase();
    assert!(request.contains("range: bytes=1-2\r\n") && request.contains("if-range: \"e\"\r\n"));
    let partial = "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 1-2/9\r\n\
                   Content-Length: 2\r\n\r\nhi";
    origin.write_all(partial.as_bytes()).await.unwrap();
    let answer = read_until(&mut client, "hi").await.to_ascii_lowercase();
    assert!(answer.contains("content-range: bytes 1-2/9\r\n"), "{answer}");
}

#[tokio::test(start_paused = true)]
pub(crate) async fn trailers_pass_in_both_directions() {
    let mut world = World::new();
    let request = "POST / HTTP/1.1\r\nHost: a.onion\r\nTE: trailers\r\nConnection: TE\r\n\
                   Trailer: Sum\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nSum: 1\r\n\r\n";
    let mut client = world.asking(request).await;
    let mut origin = world.origin().await;
    let head = read_head(&mut origin).await.to_ascii_lowercase();
    assert!(head.contains("\r\ntrailer: sum\r\n"), "{head}");
    assert!(head.contains("\r\nte: trailers\r\n"), "{head}");
    let body = read_until(&mut origin, "\r\n\r\n").await;
    assert!(body.to_ascii_lowercase().ends_with("0\r\nsum: 1\r\n\r\n"), "{body}");
    let response = b"HTTP/1.1 200 OK\r\nTrailer: Sum\r\nTransfer-Encoding: chunked\r\n\r\n\
                     2\r\nho\r\n0\r\nSum: 2\r\n\r\n";
    origin.write_all(response).await.unwrap();
    read_head(&mut client).await;
    let body = read_until(&mut client, "\r\n\r\n").await;
    assert!(body.to_ascii_lowercase().ends_with("0\r\nsum: 2\r\n\r\n"), "{body}");
}

#[tokio::test(start_paused = true)]
pub(crate) async fn a_client_that_waits_for_100_continue_is_told_to_go_on() {
    let mut world = World::new();
    let head =
        "PUT / HTTP/1.1\r\nHost: a.onion\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n";
    let mut client = world.asking(head).await;
    let mut origin = world.origin().await;
    let asked = read_head(&mut origin).await.to_ascii_lowercase();
    assert!(!asked.contains("expect"), "answered here, and not to be answered again: {asked}");
    assert_eq!(read_head(&mut client).await, "HTTP/1.1 100 Continue\r\n\r\n");
    client.write_all(b"hi").await.unwrap();
    assert_eq!(read_until(&mut origin, "hi").await, "hi");
    // The origin's own 100 says nothing new.
    origin
        .write_all(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(status(&read_head(&mut client).await), 200);
}

#[tokio::test(start_paused = true)]
pub(crate) async fn no_expectation_reaches_the_origin() {
    for (request, expected) in [
        ("GET / HTTP/1.1\r\nExpect: 100-continue\r\n", 200),
        ("GET / HTTP/1.0\r\nExpect: 100-continue\r\n", 200),
        ("POST / HTTP/1.1\r\nContent-Length: 0\r\nExpect: 100-Continue\r\n", 200),
        ("GET / HTTP/1.1\r\nExpect: 100-continue, 100-continue\r\nExpect:\r\n", 200),
        ("GET / HTTP/1.1\r\nExpect: 200-ok\r\n", 417),
        ("GET / HTTP/1.1\r\nExpect: 100-continue, more\r\n", 417),
    ] {
        let mut world = World::new();
        let mut client = world.asking(&format!("{request}Host: a.onion\r\n\r\n")).await;
        if expected == 200 {
            let mut origin = world.origin().await;
            let asked = read_head(&mut origin).await.to_ascii_lowercase();
            assert!(!asked.contains("expect"), "{asked}");
            origin.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").await.unwrap();
        }
        assert_eq!(status(&read_head(&mut client).await), expected, "{request}");
        assert!(world.origin_is_untouched());
    }
}

#[tokio::test(start_paused = true)]
pub(crate) async fn what_only_proxies_may_say_reaches_no_origin_in_head_or_trailers() {
    let mut world = World::with(|settings| {
        settings.headers.strip_request = vec!["x-own*".to_owned()];
    });
    let request = "POST /x/admin HTTP/1.1\r\nHost: a.onion\r\nSCRIPT_NAME: /x\r\nREMOTE_USER: root\r\n\
                   X-Remote-User: root\r\nX-Own-Id: 1\r\nX-Kept: 1\r\nTE: trailers\r\nConnection: TE\r\n\
                   Trailer: Sum, X_Real_IP, Remote-User, X-HTTP-Method-Override, X-Own-Id, User-Agent\r\n\
                   Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX_Real_IP: 1\r\nRemote-User: root\r\n\
                   X-HTTP-Method-Override: DELETE\r\nX-Own-Id: 1\r\nUser-Agent: x\r\nSum: 1\r\n\r\n";
    let _client = world.asking(request).await;
    let mut origin = world.origin().await;
    let head = read_head(&mut origin).await.to_ascii_lowercase();
    assert!(head.contains("\r\nx-kept: 1\r\n"), "{head}");
    for name in ["script_name:", "remote_user:", "x-remote-user:", "x-own-id:"] {
        assert!(!head.contains(name), "{name} in {head}");
    }
    let body = read_until(&mut origin, "\r\n\r\n").await.to_ascii_lowercase();
    assert_eq!(body, "2\r\nhi\r\n0\r\nsum: 1\r\n\r\n");
}

#[tokio::test(start_paused = true)]
pub(crate) async fn what_the_operator_lets_pass_reaches_the_origin_in_head_and_trailers() {
    let mut world = World::with(|settings| {
        settings.headers.pass_request = vec!["X-Username".to_owned()];
    });
    let request = "POST / HTTP/1.1\r\nHost: a.onion\r\nX-Username: a\r\nX-Email: b\r\n\
                   X_Username: c\r\nTE: trailers\r\nConnection: TE, X-Other\r\nX-Other: d\r\n\
                   Trailer: X-Username, X-Email\r\nTransfer-Encoding: chunked\r\n\r\n\
                   2\r\nhi\r\n0\r\nX-Username: e\r\nX-Email: f\r\n\r\n";
    let _client = world.asking(request).await;
    let mut origin = world.origin().await;
    let head = read_head(&mut origin).await.to_ascii_lowercase();
    assert!(head.contains("\r\nx-username: a\r\n"), "{head}");
    for name in ["x-email:", "x_username", "x-other:"] {
        assert!(!head.contains(name), "{name} in {head}");
    }
    let body = read_until(&mut origin, "\r\n\r\n").await.to_ascii_lowercase();
    assert_eq!(body, "2\r\nhi\r\n0\r\nx-username: e\r\n\r\n");
}

#[tokio::test(start_paused = true)]
pub(crate) async fn events_are_delivered_as_they_happen() {
    let mut world = World::new();
    let mut client = world.asking(GET).await;
    let mut origin = world.origin().await;
    read_head(&mut origin).await;
    let head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
    origin.write_all(head).await.unwrap();
    read_head(&mut client).await;
    for event in ["data: 1\n\n", "data: 2\n\n"] {
        origin.write_all(event.as_bytes()).await.unwrap();
        read_until(&mut client, &format!("{event}\r\n")).await;
    }
    // The end of the origin's connection is the end of this body.
    drop(origin);
    assert_eq!(read_until(&mut client, "\r\n\r\n").await, "0\r\n\r\n");
}

#[tokio::test(start_paused = true)]
pub(crate) async fn an_early_answer_arrives_while_the_client_still_sends() {
    let mut world = World::new();
    let head = "POST / HTTP/1.1\r\nHost: a.onion\r\nContent-Length: 1000000\r\n\r\n";
    let mut client = world.asking(head).await;
    client.write_all(&[b'x'; 100]).await.unwrap();
    let mut origin = world.origin().await;
    read_head(&mut origin).await;
    origin.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno").await.unwrap();
    drop(origin);
    assert_eq!(status(&read_until(&mut client, "no").await), 403);
    // The rest of the body is nobody's: the stream ends.
    assert!(ended(&mut client).await);
    world.served().await;
}

#[tokio::test(start_paused = true)]
pub(crate) async fn answers_to_pipelined_requests_come_in_order() {
    let mut world = World::new();
    let mut client = world.asking(&GET.repeat(3)).await;
    for n in 1..=3 {
        let mut origin = world.origin().await;
        read_head(&mut origin).await;
        let response = format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n#{n}");
        origin.write_all(response.as_bytes()).await.unwrap();
    }
    for n in 1..=3 {
        read_until(&mut client, &format!("#{n}")).await;
    }
}

#[tokio::test(start_paused = true)]
pub(crate) async fn a_large_body_arrives_whole() {
    let mut world = World::new();
    let body = "0123456789".repeat(100_000);
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    let answer = world.exchange(LAST_GET, format!("{head}{body}").as_bytes()).await;
    assert!(answer.ends_with(&body));
    let mut client = world.client();
    let head = format!("PUT / HTTP/1.1\r\nHost: a.onion\r\nContent-Length: {}\r\n\r\n", body.len());
    let sending = async { client.write_all(format!("{head}{body}").as_bytes()).await.unwrap() };
    let receiving = async {
        let mut origin = world.origin().await;
        read_head(&mut origin).await;
        let mut received = vec![0; body.len()];
        origin.read_exact(&mut received).await.unwrap();
        received
    };
    let ((), received) = tokio::join!(sending, receiving);
    assert_eq!(received, body.as_bytes());
}

#[tokio::test(start_paused = true)]
pub(crate) async fn the_access_log_says_nothing_of_what_was_asked_for() {
    use std::sync::{Arc, Mutex};
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);
    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            std::io::Write::write(&mut *self.0.lock().unwrap(), bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber =
        tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    for on in [false, true] {
        let mut world = World::with(|settings| settings.access_log = on);
        let request = "SECRET /secret HTTP/1.1\r\nHost: secret.onion\r\nConnection: close\r\n\
                       X: secret\r\n\r\n";
        world.exchange(request, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").await;
        world.served().await;
        let text = String::from_utf8(std::mem::take(&mut *lines.0.lock().unwrap())).unwrap();
        assert_eq!(text.contains("onionbraid::access"), on, "{text}");
        assert!(!text.to_ascii_lowercase().contains("secret"), "{text}");
        if on {
            assert_eq!(text.lines().count(), 1);
            let expected = ["circuit=1", "method=\"other\"", "status=200", "bytes=2", "origin=0"];
            assert!(expected.iter().all(|part| text.contains(part)), "{text}");
        }
        // Nor of what never became a request.
        let mut client = world.asking("GET /secret HTTP/1.2\r\nX: secret\r\n\r\n").await;
        let answer = read_all(&mut client).await;
        let text = String::from_utf8(std::mem::take(&mut *lines.0.lock().unwrap())).unwrap();
        let length = answer.split_once("\r\n\r\n").unwrap().1.len();
        let expected = ["method=\"other\"", "status=400", "malformed", &format!("bytes={length}")];
        assert_eq!(expected.iter().all(|part| text.contains(part)), on, "{text}");
        assert!(!text.to_ascii_lowercase().contains("secret"), "{text}");
    }
}

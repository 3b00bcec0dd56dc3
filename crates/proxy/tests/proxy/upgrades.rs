//! WebSockets and whatever else begins with 101.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::time::{Instant, sleep};

use crate::world::{GET, World, ended, read_all, read_head, read_until, status};

const ASK: &str = "GET /chat HTTP/1.1\r\nHost: a.onion\r\nConnection: keep-alive, Upgrade\r\n\
                   Upgrade: websocket\r\nSec-WebSocket-Key: eA==\r\n\r\n";
const AGREE: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n\
                     Upgrade: websocket\r\n\r\n";

/// A client and an origin that have changed the protocol.
async fn upgraded(world: &mut World) -> (DuplexStream, DuplexStream) {
    let mut client = world.asking(ASK).await;
    let mut origin = world.origin().await;
    let request = read_head(&mut origin).await.to_ascii_lowercase();
    assert!(request.contains("\r\nupgrade: websocket\r\n"), "{request}");
    assert!(request.contains("\r\nconnection: upgrade\r\n"), "{request}");
    assert!(request.contains("\r\nsec-websocket-key: ea==\r\n"), "{request}");
    origin.write_all(AGREE.as_bytes()).await.unwrap();
    let answer = read_head(&mut client).await.to_ascii_lowercase();
    assert!(answer.starts_with("http/1.1 101 "), "{answer}");
    assert!(answer.contains("\r\nupgrade: websocket\r\n"), "{answer}");
    assert!(answer.contains("\r\nconnection: upgrade\r\n"), "{answer}");
    (client, origin)
}

#[tokio::test(start_paused = true)]
pub(crate) async fn after_a_change_of_protocol_bytes_flow_both_ways_until_the_origin_ends() {
    let mut world = World::new();
    let (mut client, mut origin) = upgraded(&mut world).await;
    for _ in 0..3 {
        client.write_all(b"GET / \n\0 ping").await.unwrap();
        assert_eq!(read_until(&mut origin, "ping").await, "GET / \n\0 ping");
        origin.write_all(b"HTTP/1.1 pong").await.unwrap();
        assert_eq!(read_until(&mut client, "pong").await, "HTTP/1.1 pong");
    }
    origin.write_all(b"last words").await.unwrap();
    origin.shutdown().await.unwrap();
    assert_eq!(read_all(&mut client).await, "last words");
    world.served().await;
    assert!(world.status().failures.is_empty());
    assert_eq!(world.status().by_class.informational, 1);
}

#[tokio::test(start_paused = true)]
pub(crate) async fn what_a_client_says_before_it_leaves_still_arrives() {
    let mut world = World::new();
    let (mut client, mut origin) = upgraded(&mut world).await;
    client.write_all(b"last words").await.unwrap();
    client.shutdown().await.unwrap();
    let mut heard = String::new();
    origin.read_to_string(&mut heard).await.unwrap();
    assert_eq!(heard, "last words");
    drop(origin);
    world.served().await;
}

#[tokio::test(start_paused = true)]
pub(crate) async fn what_a_client_sends_before_the_origin_agrees_waits_for_it() {
    let mut world = World::new();
    let mut client = world.asking(&format!("{ASK}GET /early HTTP/1.1\r\n\r\n")).await;
    let mut origin = world.origin().await;
    read_head(&mut origin).await;
    origin.write_all(AGREE.as_bytes()).await.unwrap();
    assert_eq!(read_until(&mut origin, "\r\n\r\n").await, "GET /early HTTP/1.1\r\n\r\n");
    assert_eq!(status(&read_head(&mut client).await), 101);
}

#[tokio::test(start_paused = true)]
pub(crate) async fn when_the_origin_does_not_agree_the_stream_goes_on_with_http() {
    let mut world = World::new();
    let mut client = world.asking(&format!("{ASK}{GET}")).await;
    let mut origin = world.origin().await;
    read_head(&mut origin).await;
    origin.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno").await.unwrap();
    assert_eq!(status(&read_until(&mut client, "no").await), 403);
    let mut origin = world.origin().await;
    origin.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").await.unwrap();
    assert_eq!(status(&read_until(&mut client, "hi").await), 200);
}

#[tokio::test(start_paused = true)]
pub(crate) async fn what_follows_a_refused_change_is_checked_like_any_request() {
    let mut world = World::new();
    let bad = "GET /smuggled HTTP/1.1\r\nHost: a.onion\r\nHost: b.onion\r\n\r\n";
    let mut client = world.asking(&format!("{ASK}{bad}")).await;
    let mut origin = world.origin().await;
    read_head(&mut origin).await;
    origin
        .write_all(b"HTTP/1.1 426 Upgrade Required\r\nContent-Length: 2\r\n\r\nno")
        .await
        .unwrap();
    assert_eq!(status(&read_until(&mut client, "no").await), 426);
    assert_eq!(status(&read_all(&mut client).await), 400);
    assert!(world.origin_is_untouched());
}

#[tokio::test(start_paused = true)]
pub(crate) async fn no_other_http_is_offered_to_the_origin() {
    let wishes = [
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
        "Connection: Upgrade\r\nUpgrade: websocket, h2c\r\n",
        "Connection: Upgrade\r\nUpgrade: HTTP/2.0\r\n",
        "Connection: Upgrade\r\nUpgrade: TLS/1.0\r\n",
        "Connection: Upgrade\r\nUpgrade: websocket\r\nUpgrade: h2c\r\n",
        "Upgrade: websocket\r\n",
    ];
    for wish in wishes {
        let mut world = World::new();
        let mut client =
            world.asking(&format!("GET / HTTP/1.1\r\nHost: a.onion\r\n{wish}\r\n{GET}")).await;
        let mut origin = world.origin().await;
        let request = read_head(&mut origin).await.to_ascii_lowercase();
        assert!(!request.contains("upgrade") && !request.contains("http2"), "{request}");
        origin.write_all(AGREE.as_bytes()).await.unwrap();
        assert_eq!(status(&read_until(&mut client, "</html>\n").await), 502, "{wish}");
        // And the next request is one.
        let mut origin = world.origin().await;
        origin.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").await.unwrap();
        assert_eq!(status(&read_until(&mut client, "hi").await), 200);
    }
}

#[tokio::test(start_paused = true)]
pub(crate) async fn a_client_that_leaves_while_the_origin_thinks_about_it_aborts_the_request() {
    let mut world = World::new();
    let client = world.asking(ASK).await;
    let mut origin = world.origin().await;
    read_head(&mut origin).await;
    drop(client);
    assert!(ended(&mut origin).await);
    world.served().await;
}

#[tokio::test(start_paused = true)]
pub(crate) async fn silence_ends_an_upgraded_stream_and_any_byte_prolongs_it() {
    let mut world = World::with(|settings| {
        settings.origins.idle_timeout = Duration::from_secs(1);
        settings.origins.upgrade_timeout = Duration::from_secs(100);
    });
    let (mut client, mut origin) = upgraded(&mut world).await;
    for _ in 0..3 {
        sleep(Duration::from_secs(99)).await;
        client.write_all(b"x").await.unwrap();
        assert_eq!(origin.read_u8().await.unwrap(), b'x');
        sleep(Duration::from_secs(99)).await;
        origin.write_all(b"y").await.unwrap();
        assert_eq!(client.read_u8().await.unwrap(), b'y');
    }
    let start = Instant::now();
    assert!(ended(&mut client).await && ended(&mut origin).await);
    assert_eq!(start.elapsed().as_secs(), 100);
    world.served().await;
}

#[tokio::test(start_paused = true)]
pub(crate) async fn a_request_with_content_asks_for_no_upgrade() {
    let wish = "Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: eA==\r\n";
    for head in [
        "POST / HTTP/1.1\r\nContent-Length: 3\r\n",
        "GET / HTTP/1.1\r\nContent-Length: 3\r\n",
        "PUT / HTTP/1.1\r\nContent-Length: 3\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 0\r\n",
    ] {
        let (content, end) = match head {
            _ if head.contains("chunked") => ("3\r\nabc\r\n0\r\n\r\n", "0\r\n\r\n"),
            _ if head.contains(" 0\r\n") => ("", ""),
            _ => ("abc", "abc"),
        };
        let mut world = World::new();
        let ask = format!("{head}{wish}Host: a.onion\r\n\r\n{content}{GET}");
        let mut client = world.asking(&ask).await;
        let mut origin = world.origin().await;
        let request = read_head(&mut origin).await.to_ascii_lowercase();
        for name in ["upgrade", "sec-websocket-key", "connection"] {
            assert!(!request.contains(name), "{name} in {request}");
        }
        read_until(&mut origin, end).await;
        origin.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").await.unwrap();
        assert_eq!(status(&read_until(&mut client, "hi").await), 200, "{head}");
        let mut origin = world.origin().await;
        assert!(read_head(&mut origin).await.starts_with("GET /x?y "), "{head}");
    }
}

#[tokio::test(start_paused = true)]
pub(crate) async fn an_origin_may_agree_only_to_what_it_was_offered() {
    for agree in ["Upgrade: foo\r\n", "Upgrade: websocket\r\nUpgrade: foo\r\n", ""] {
        let mut world = World::new();
        let mut client = world.asking(ASK).await;
        let mut origin = world.origin().await;
        read_head(&mut origin).await;
        let answer =
            format!("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n{agree}\r\n");
        origin.write_all(answer.as_bytes()).await.unwrap();
        assert_eq!(status(&read_until(&mut client, "</html>\n").await), 502, "{agree}");
        assert!(ended(&mut origin).await, "{agree}");
        assert_eq!(world.failures("origin_broken"), 1);
    }
}

#[tokio::test(start_paused = true)]
pub(crate) async fn the_operator_says_which_protocols_there_are() {
    let ask = ASK.replace("Upgrade: websocket", "Upgrade: x-own");
    for (upgrades, offered) in [(vec![], false), (vec!["X-Own".to_owned()], true)] {
        let mut world = World::with(|settings| settings.headers.upgrades = upgrades);
        let _client = world.asking(&ask).await;
        let request = read_head(&mut world.origin().await).await.to_ascii_lowercase();
        assert_eq!(request.contains("upgrade: x-own"), offered, "{request}");
    }
}

#[tokio::test(start_paused = true)]
pub(crate) async fn an_upgraded_stream_holds_no_more_than_any_other() {
    let mut world =
        World::with(|settings| settings.origins.upgrade_timeout = Duration::from_secs(9));
    let (mut client, origin) = upgraded(&mut world).await;
    let mut sent = 0;
    while client.write_all(&[b'x'; 1024]).await.is_ok() {
        sent += 1024;
    }
    assert!(sent < 128 * 1024, "{sent}");
    drop(origin);
}

//! How much is held of a body, and how long one may be.

use std::time::Duration;

use tokio::io::{AsyncWriteExt as _, DuplexStream};

use crate::world::{GET, World, ended, read_all, read_head, read_until, status};

/// What the proxy may hold of one body, with what is in the streams to it and
/// from it: hyper's buffers on both sides and one frame between them.
const MOST: usize = 256 * 1024;

/// Sends until nobody takes more for a while (of the test's clock: everybody
/// else waits), and says how much that was.
async fn pour(stream: &mut DuplexStream) -> usize {
    let mut poured = 0;
    let piece = [b'x'; 1024];
    while let Ok(written) =
        tokio::time::timeout(Duration::from_secs(1), stream.write_all(&piece)).await
    {
        written.unwrap();
        poured += piece.len();
        assert!(poured < 64 * MOST, "it takes everything");
    }
    poured
}

#[tokio::test(start_paused = true)]
pub(crate) async fn a_client_that_does_not_read_costs_little_memory() {
    for framing in ["Content-Length: 99999999", "Connection: close"] {
        let mut world = World::new();
        let _client = world.asking(GET).await;
        let mut origin = world.origin().await;
        read_head(&mut origin).await;
        origin.write_all(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n").as_bytes()).await.unwrap();
        let poured = pour(&mut origin).await;
        assert!(poured < MOST, "{framing}: {poured}");
    }
}

#[tokio::test(start_paused = true)]
pub(crate) async fn an_origin_that_does_not_read_costs_little_memory() {
    let mut world = World::new();
    let head = "PUT / HTTP/1.1\r\nHost: a.onion\r\nContent-Length: 99999999\r\n\r\n";
    let mut client = world.asking(head).await;
    let _origin = world.origin().await;
    let poured = pour(&mut client).await;
    assert!(poured < MOST, "{poured}");
}

#[tokio::test(start_paused = true)]
pub(crate) async fn a_client_that_pipelines_without_reading_costs_little_memory() {
    let mut world = World::new();
    let mut client = world.client();
    let mut sent = 0;
    let requests = GET.repeat(100);
    let sending = async {
        while client.write_all(requests.as_bytes()).await.is_ok() {
            sent += requests.len();
        }
    };
    let answering = async {
        loop {
            let mut origin = world.origin().await;
            read_head(&mut origin).await;
            origin.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n").await.unwrap();
            origin.write_all(&[b'x'; 100]).await.unwrap();
        }
    };
    tokio::select! {
        () = sending => panic!("the stream has ended"),
        () = answering => unreachable!(),
        () = tokio::time::sleep(Duration::from_secs(1)) => {}
    }
    assert!(sent < MOST, "{sent}");
}

#[tokio::test(start_paused = true)]
pub(crate) async fn a_body_that_says_it_is_too_long_is_refused_before_it_is_sent() {
    let mut world = World::with(|settings| settings.guard.max_body_bytes = Some(10));
    let put = "PUT / HTTP/1.1\r\nHost: a.onion\r\nExpect: 100-continue\r\n";
    let mut client = world.asking(&format!("{put}Content-Length: 11\r\n\r\n")).await;
    assert_eq!(status(&read_all(&mut client).await), 413);
    assert!(world.origin_is_untouched());
    assert_eq!(world.failures("body_too_large"), 1);
    let mut client = world.asking(&format!("{put}Content-Length: 10\r\n\r\n0123456789")).await;
    let mut origin = world.origin().await;
    read_until(&mut origin, "0123456789").await;
    origin.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    assert_eq!(status(&read_head(&mut client).await), 100);
    assert_eq!(status(&read_head(&mut client).await), 200);
}

#[tokio::test(start_paused = true)]
pub(crate) async fn a_body_that_turns_out_too_long_is_refused_if_there_is_no_answer_yet() {
    let mut world = World::with(|settings| settings.guard.max_body_bytes = Some(10));
    let put = "PUT / HTTP/1.1\r\nHost: a.onion\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut client = world.asking(&format!("{put}a\r\n0123456789\r\n")).await;
    let mut origin = world.origin().await;
    read_until(&mut origin, "0123456789\r\n").await;
    client.write_all(b"1\r\nx\r\n").await.unwrap();
    assert_eq!(status(&read_all(&mut client).await), 413);
    assert!(ended(&mut origin).await);
    assert_eq!(world.failures("body_too_large"), 1);
}

#[tokio::test(start_paused = true)]
pub(crate) async fn a_body_that_turns_out_too_long_after_the_answer_began_breaks_the_stream() {
    let mut world = World::with(|settings| settings.guard.max_body_bytes = Some(10));
    let put = "PUT / HTTP/1.1\r\nHost: a.onion\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut client = world.asking(&format!("{put}a\r\n0123456789\r\n")).await;
    let mut origin = world.origin().await;
    read_until(&mut origin, "0123456789\r\n").await;
    origin.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nbegin").await.unwrap();
    read_until(&mut client, "begin").await;
    client.write_all(b"1\r\nx\r\n").await.unwrap();
    assert!(ended(&mut client).await);
    assert!(ended(&mut origin).await);
    assert_eq!(world.failures("body_too_large"), 1);
}

//! What never becomes a request is answered with a page of ours and counted, once
//! the answers before it are taken, whoever finds fault with it.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use onionbraid_proxy::http::Proxy;
use onionbraid_proxy::pages::Pages;
use onionbraid_proxy::settings::{ErrorPage, HttpSettings};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, sleep};

use crate::world::{GET, Silent, World, read_all, read_head, read_until, status};

#[tokio::test(start_paused = true)]
async fn what_the_library_refuses_is_answered_with_our_page_and_counted() {
    let head = "GET / HTTP/1.1\r\nHost: a.onion\r\n";
    let long = "a".repeat(70_000);
    for (request, code, failure) in [
        (format!("{head}{}\r\n", "X: y\r\n".repeat(100)), 431, "head_too_large"),
        (format!("{head}{long}: x\r\n\r\n"), 431, "head_too_large"),
        (format!("GET /{long} HTTP/1.1\r\nHost: a.onion\r\n\r\n"), 414, "target_too_long"),
        (format!("{head}X y\r\n\r\n"), 400, "malformed"),
        ("GET / HTTP/1.2\r\nHost: a.onion\r\n\r\n".to_owned(), 400, "malformed"),
        ("GE(T / HTTP/1.1\r\nHost: a.onion\r\n\r\n".to_owned(), 400, "malformed"),
        ("GET  / HTTP/1.1\r\nHost: a.onion\r\n\r\n".to_owned(), 400, "malformed"),
    ] {
        let mut world = World::with(|settings| settings.guard.max_head_bytes = 1024 * 1024);
        let mut client = world.asking(&request).await;
        let answer = read_all(&mut client).await;
        assert_eq!(status(&answer), code, "{answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
        let (head, page) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("\r\nConnection: close") && page.contains("<h1>"), "{answer}");
        assert!(head.contains(&format!("\r\nContent-Length: {}", page.len())), "{answer}");
        assert!(world.origin_is_untouched());
        let counted = world.status();
        assert_eq!((counted.requests, counted.by_class.client_error), (1, 1), "{code}");
        assert_eq!((counted.failures.len(), world.failures(failure)), (1, 1), "{failure}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_waits_until_the_answer_before_it_is_taken() {
    let mut world = World::new();
    let bad = ["GET / HTTP/1.1\n\n", "GET / HTTP/1.2\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"];
    for bad in bad {
        let mut client = world.asking(&format!("{GET}{bad}")).await;
        let mut origin = world.origin().await;
        let body = "x".repeat(20_000);
        let response = format!("HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n{body}");
        origin.write_all(response.as_bytes()).await.unwrap();
        assert_eq!(status(&read_head(&mut client).await), 200);
        for _ in 0..20 {
            sleep(Duration::from_secs(5)).await;
            let mut part = [0; 1000];
            client.read_exact(&mut part).await.unwrap();
            assert_eq!(part, [b'x'; 1000], "{bad:?}");
        }
        assert_eq!(status(&read_all(&mut client).await), 400, "{bad:?}");
    }
    assert_eq!(world.failures("malformed"), 3);
    assert_eq!(world.status().by_class.success, 3);
}

#[tokio::test(start_paused = true)]
async fn a_page_that_nobody_takes_is_given_up() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "x".repeat(100_000)).unwrap();
    let every: RangeInclusive<u16> = 400..=499;
    let page = ErrorPage { status: every, file: file.path().to_owned() };
    for bad in ["\n", "GET / HTTP/1.2\r\n\r\n"] {
        let pages = Pages::new(std::slice::from_ref(&page)).unwrap();
        let settings = Arc::new(HttpSettings::default());
        let mut world = World::of(Proxy::new(settings, pages, Arc::new(Silent)));
        let (start, _client) = (Instant::now(), world.asking(bad).await);
        world.served().await;
        assert_eq!(start.elapsed().as_secs(), 10, "{bad:?}");
        let mut client = world.asking(bad).await;
        assert!(read_all(&mut client).await.ends_with(&"x".repeat(100_000)), "{bad:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_follows_a_request_for_a_tunnel_is_no_request() {
    let mut world = World::new();
    let mut client = world
        .asking(&format!("CONNECT a.onion:80 HTTP/1.1\r\nHost: a.onion:80\r\n\r\n{GET}"))
        .await;
    let answer = read_all(&mut client).await;
    assert_eq!((status(&answer), answer.matches("HTTP/1.1 ").count()), (405, 1), "{answer}");
    assert!(world.origin_is_untouched());
}

#[tokio::test(start_paused = true)]
async fn requests_that_wait_for_their_turn_are_answered_though_the_client_says_no_more() {
    let mut world = World::new();
    let mut client = world.asking(&GET.repeat(3)).await;
    for _ in 0..3 {
        let mut origin = world.origin().await;
        read_head(&mut origin).await;
        origin.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
        assert_eq!(status(&read_until(&mut client, "ok").await), 200);
    }
}

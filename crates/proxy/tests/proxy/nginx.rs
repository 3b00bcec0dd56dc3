//! Our own answers beside those of nginx 1.22.1 to the same requests.
//!
//! `nginx.golden` has what it answered with `server_tokens off`, without `Date`: the
//! request's name, whether the connection stayed open, and the bytes.

use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use hyper::{Request, Response};
use onionbraid_proxy::body::Body;
use onionbraid_proxy::failure::Failure;
use onionbraid_proxy::http::Proxy;
use onionbraid_proxy::pages::Pages;
use onionbraid_proxy::settings::{BlockRule, ErrorStyle, HttpSettings};
use onionbraid_proxy::upstream::Upstream;
use onionbraid_proxy::visitor::Visitor;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::time::{Instant, timeout};

use crate::world::{World, read_all, read_head, read_until, status};

const GOLDEN: &str = include_str!("nginx.golden");
const HOST: &str = "Host: a.onion\r\n";

/// An upstream that fails by the path.
struct Failing;

impl Upstream for Failing {
    fn answer<'a>(
        &'a self,
        request: Request<Body>,
        _: &'a Visitor,
    ) -> BoxFuture<'a, Result<Response<Body>, Failure>> {
        let failure = match request.uri().path() {
            "/502" => Failure::OriginUnreachable,
            "/503" => Failure::NoOrigin,
            _ => Failure::OriginSlow,
        };
        std::future::ready(Err(failure)).boxed()
    }
}

fn world(change: impl FnOnce(&mut HttpSettings)) -> World {
    let mut settings = HttpSettings { error_style: ErrorStyle::Nginx, ..HttpSettings::default() };
    settings.guard.max_body_bytes = Some(10);
    let refused = (400..500).map(|status| BlockRule {
        path: Some(format!("/{status}")),
        status,
        ..BlockRule::default()
    });
    settings.guard.block = refused.collect();
    change(&mut settings);
    World::of(Proxy::new(settings.into(), Pages::default(), std::sync::Arc::new(Failing)))
}

/// The request that was answered with this.
fn request(name: &str) -> String {
    let long = "a".repeat(80_000);
    match name {
        "HEAD 403" => format!("HEAD /403 HTTP/1.1\r\n{HOST}\r\n"),
        "GET 403 close" => format!("GET /403 HTTP/1.1\r\n{HOST}Connection: close\r\n\r\n"),
        "413" => format!("POST /x HTTP/1.1\r\n{HOST}Content-Length: 20\r\n\r\n{}", &long[..20]),
        "414" => format!("GET /{long} HTTP/1.1\r\n{HOST}\r\n"),
        "494" => format!("GET / HTTP/1.1\r\n{HOST}X: {long}\r\n\r\n"),
        "nohost" => "GET / HTTP/1.1\r\n\r\n".to_owned(),
        "twohosts" => format!("GET / HTTP/1.1\r\n{HOST}{HOST}\r\n"),
        "garbage" => "\x16\x03\x01\0\r\n\r\n".to_owned(),
        "pri" => "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
        "both" => {
            let framing = "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n";
            format!("POST / HTTP/1.1\r\n{HOST}{framing}")
        }
        get => {
            let status = get.strip_prefix("GET ").unwrap_or_else(|| panic!("{get}"));
            format!("GET /{status} HTTP/1.1\r\n{HOST}\r\n")
        }
    }
}

/// What a client gets within a second, and whether its stream stays open.
async fn answered(client: &mut DuplexStream, request: &str) -> (String, &'static str) {
    let _ = timeout(Duration::from_secs(1), client.write_all(request.as_bytes())).await;
    let mut read = Vec::new();
    let ended = timeout(Duration::from_secs(1), client.read_to_end(&mut read)).await;
    let left = if ended.is_ok() { "closed" } else { "open" };
    (String::from_utf8(read).unwrap(), left)
}

#[tokio::test(start_paused = true)]
async fn refusals_are_nginxs_byte_for_byte() {
    let mut compared = 0;
    for line in GOLDEN.lines() {
        let [name, left, answer] = line.splitn(3, '|').collect::<Vec<_>>()[..] else {
            panic!("{line}");
        };
        let mut world = world(|_| {});
        let mut client = world.client();
        let ours = answered(&mut client, &request(name)).await;
        assert_eq!(ours, (answer.replace("\\r\\n", "\r\n"), left), "{name}");
        compared += 1;
    }
    assert_eq!(compared, 27);
}

#[tokio::test(start_paused = true)]
async fn two_refusals_follow_each_other_on_one_connection() {
    let mut world = world(|_| {});
    let mut client = world.client();
    let first = answered(&mut client, &request("GET 404")).await;
    assert_eq!(answered(&mut client, &request("GET 404")).await, first);
}

#[tokio::test(start_paused = true)]
async fn who_says_nothing_half_a_head_or_nothing_more_is_left_when_nginx_leaves() {
    let asked = request("GET 404");
    for (said, seconds) in [("", 60), ("GET / HT", 60), (asked.as_str(), 75)] {
        let mut world = world(|_| {});
        let mut client = world.client();
        client.write_all(said.as_bytes()).await.unwrap();
        let start = Instant::now();
        let answer = read_all(&mut client).await;
        assert_eq!((start.elapsed().as_secs(), answer.is_empty()), (seconds, seconds == 60));
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_operator_takes_out_of_answers_is_not_in_ours() {
    let mut world = world(|settings| settings.headers.strip = vec!["server".to_owned()]);
    let (answer, _) = answered(&mut world.client(), &request("GET 403")).await;
    assert!(
        answer.starts_with("HTTP/1.1 403 Forbidden\r\nContent-Type: text/html\r\n"),
        "{answer}"
    );
}

#[tokio::test(start_paused = true)]
async fn fields_keep_their_case_and_order_both_ways() {
    let mut world = World::with(|settings| settings.headers.x_forwarded = false);
    let request = "GET / HTTP/1.1\r\nHOST: a.onion\r\nuser-agent: x\r\nProxy-Authorization: y\r\n\
                   ACCEPT: z\r\nCookie: a\r\nX-b: c\r\n\r\n";
    let mut client = world.asking(request).await;
    let mut origin = world.origin().await;
    assert_eq!(read_head(&mut origin).await, request.replace("Proxy-Authorization: y\r\n", ""));
    let answer = "HTTP/1.1 200 OK\r\nserver: s\r\nDATE: d\r\nContent-Type: t\r\n\
                  content-Length: 2\r\nKeep-Alive: timeout=5\r\nConnection: Keep-Alive\r\n\
                  ETag: \"e\"\r\nSet-Cookie: f\r\nset-cookie: g\r\n\r\nhi";
    origin.write_all(answer.as_bytes()).await.unwrap();
    let expected =
        answer.replace("Keep-Alive: timeout=5\r\n", "").replace(": Keep-Alive", ": keep-alive");
    assert_eq!(read_until(&mut client, "hi").await, expected);
}

#[tokio::test(start_paused = true)]
async fn that_a_connection_goes_on_is_said_where_the_origin_says_it_and_where_it_is_so() {
    let head =
        |connection: &str| format!("HTTP/1.1 200 OK\r\n{connection}Content-Length: 0\r\n\r\n");
    let asked =
        |version: &str, connection: &str| format!("GET / HTTP/{version}\r\n{HOST}{connection}\r\n");
    let (stay, close) = ("Connection: keep-alive\r\n", "Connection: close\r\n");
    for (request, said, expected) in [
        (asked("1.1", ""), stay, stay),
        (asked("1.1", ""), "", ""),
        (asked("1.1", ""), close, ""),
        (asked("1.1", close), stay, close),
        (asked("1.0", stay), stay, stay),
        (asked("1.0", ""), stay, close),
    ] {
        let mut world = World::new();
        let mut client = world.asking(&request).await;
        let mut origin = world.origin().await;
        read_head(&mut origin).await;
        origin.write_all(head(said).as_bytes()).await.unwrap();
        let answer = read_head(&mut client).await;
        let found: String = answer
            .split_inclusive("\r\n")
            .filter(|line| line.to_ascii_lowercase().starts_with("connection"))
            .collect();
        assert_eq!(found, expected, "{request} {said}");
    }
}

#[tokio::test(start_paused = true)]
async fn http2_without_tls_is_answered_only_where_the_operator_wants_it() {
    let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let mut world = World::with(|settings| settings.http2_without_tls = false);
    let answer = read_all(&mut world.asking(preface).await).await;
    assert_eq!(status(&answer), 400);
    assert!(!HttpSettings::default().http2_without_tls);
    let mut world = World::with(|settings| settings.http2_without_tls = true);
    let mut client = world.asking(preface).await;
    let mut frame = [0; 9];
    client.read_exact(&mut frame).await.unwrap();
    assert_eq!(frame[3], 4, "its settings");
}

#[tokio::test(start_paused = true)]
async fn nothing_of_ours_says_a_date_or_a_program() {
    for style in [ErrorStyle::Plain, ErrorStyle::Nginx] {
        for name in ["GET 403", "GET 502", "nohost", "413", "494"] {
            let mut world = world(|settings| settings.error_style = style);
            let (answer, _) = answered(&mut world.client(), &request(name)).await;
            let answer = answer.to_ascii_lowercase();
            for trace in ["date:", "onionbraid", "hyper", "rust", "1.22"] {
                assert!(!answer.contains(trace), "{trace}: {answer}");
            }
        }
    }
}

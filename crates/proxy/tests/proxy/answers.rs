//! Heads of origins that say too much or nonsense, whatever the method, the status
//! and the version: a client gets one proper answer, and failures are counted.

use std::sync::Arc;

use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http2::Builder;
use hyper::header::{HeaderName, HeaderValue};
use hyper::{HeaderMap, Method, Request};
use hyper_util::rt::{TokioExecutor, TokioIo};
use onionbraid_proxy::http::Proxy;
use onionbraid_proxy::origins::Origins;
use onionbraid_proxy::pages::Pages;
use onionbraid_proxy::rules::{HttpOrigin, Origin};
use onionbraid_proxy::settings::{HttpSettings, OriginProtocol};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::world::{World, read_all, status};

/// A proxy before this origin, which serves for as long as the set lives.
async fn world(protocol: OriginProtocol, origin: Answers) -> (World, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = Origin::Tcp(listener.local_addr().unwrap());
    let mut settings = HttpSettings { http2_without_tls: true, ..HttpSettings::default() };
    settings.origins.protocol = protocol;
    // The first flaw is said in the status.
    settings.origins.fail_after = 1;
    settings.origins.retries = 0;
    let origins = Origins::new(&[HttpOrigin { address, tls: false }], &settings).unwrap();
    let world = World::of(Proxy::new(Arc::new(settings), Pages::default(), origins));
    let mut serving = JoinSet::new();
    serving.spawn(origin.serve(listener));
    (world, serving)
}

/// What an origin answers to everything.
enum Answers {
    /// These bytes, and the end of the connection.
    Bytes(String),
    /// This head, in HTTP/2, and perhaps a body.
    Head(u16, HeaderMap, &'static str),
}

impl Answers {
    async fn serve(self, listener: TcpListener) {
        loop {
            let (mut connection, _) = listener.accept().await.unwrap();
            match &self {
                Self::Bytes(bytes) => {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        head.push(connection.read_u8().await.unwrap());
                    }
                    let _ = connection.write_all(bytes.as_bytes()).await;
                    let _ = connection.shutdown().await;
                }
                Self::Head(status, fields, body) => {
                    let mut connection = h2::server::handshake(connection).await.unwrap();
                    while let Some(Ok((_, mut respond))) = connection.accept().await {
                        let mut response =
                            hyper::Response::builder().status(*status).body(()).unwrap();
                        response.headers_mut().clone_from(fields);
                        let mut sending = respond.send_response(response, body.is_empty()).unwrap();
                        if !body.is_empty() {
                            let _ = sending.send_data(Bytes::from_static(body.as_bytes()), true);
                        }
                    }
                }
            }
        }
    }
}

/// What a client of either version gets: its status and the fields of this name.
async fn asked(world: &mut World, http2: bool, method: &Method, name: &str) -> (u16, Vec<String>) {
    if !http2 {
        let head = format!("{method} / HTTP/1.1\r\nHost: a.onion\r\nConnection: close\r\n\r\n");
        let mut client = world.asking(&head).await;
        let answer = read_all(&mut client).await;
        let head = answer.split("\r\n\r\n").next().unwrap();
        let fields = head.lines().filter_map(|line| line.split_once(": "));
        let values = fields.filter(|(field, _)| field.eq_ignore_ascii_case(name));
        return (status(&answer), values.map(|(_, value)| value.to_owned()).collect());
    }
    let stream = TokioIo::new(world.client());
    let (mut sender, connection) =
        Builder::new(TokioExecutor::new()).handshake(stream).await.unwrap();
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let request = Request::builder().method(method).uri("http://a.onion/");
    let response = sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
    let (head, body) = response.into_parts();
    body.collect().await.unwrap();
    let values = head.headers.get_all(name).iter();
    (head.status.as_u16(), values.map(|value| value.to_str().unwrap().to_owned()).collect())
}

/// Whether the failure was counted, of the request and of the origin, and why.
fn broken(world: &World) -> Option<String> {
    let http = world.status();
    let origin = &http.origins[0];
    let counted = world.failures("origin_broken") == 1
        && origin.failures == 1
        && http.by_class.server_error == 1
        && http.by_class.success + http.by_class.redirection == 0;
    counted.then(|| origin.reason.clone().unwrap_or_default())
}

/// Methods and statuses of which only the first has a body.
fn shapes() -> [(Method, u16, &'static str); 5] {
    [
        (Method::GET, 200, "abc"),
        (Method::POST, 404, "abc"),
        (Method::HEAD, 200, ""),
        (Method::GET, 204, ""),
        (Method::GET, 304, ""),
    ]
}

#[tokio::test]
async fn a_length_that_is_said_twice_in_the_same_words_is_said_once() {
    for (method, code, body) in shapes() {
        for lengths in ["3\r\nContent-Length: 3", "3, 3", "3 ,3", "03", "003\r\nContent-Length: 3"]
        {
            for http2 in [false, true] {
                let answer =
                    format!("HTTP/1.1 {code} X\r\nContent-Length: {lengths}\r\n\r\n{body}");
                let (mut world, _serving) =
                    world(OriginProtocol::Http1, Answers::Bytes(answer)).await;
                let got = asked(&mut world, http2, &method, "content-length").await;
                let what = format!("{method} {code} {lengths:?} {http2}");
                assert_eq!(got.0, code, "{what}");
                // There is none in 204, and hyper writes none in a 304 of HTTP/1.
                match code {
                    204 => assert!(got.1.is_empty(), "{what}: {got:?}"),
                    304 if !http2 => {}
                    _ => assert_eq!(got.1, ["3"], "{what}"),
                }
                world.served().await;
                assert!(world.status().failures.is_empty(), "{what}");
            }
        }
    }
}

#[tokio::test]
async fn a_length_that_is_none_is_a_bad_gateway_and_counted_as_that() {
    for (method, code, body) in shapes() {
        for lengths in [
            "abc",
            "",
            "-1",
            "+3",
            "3\r\nContent-Length: 4",
            "3, 4",
            "3,",
            "0x3",
            "3\r\nContent-Length: abc",
            "3\r\nTransfer-Encoding: chunked",
            "99999999999999999999",
        ] {
            for http2 in [false, true] {
                let answer =
                    format!("HTTP/1.1 {code} X\r\nContent-Length: {lengths}\r\n\r\n{body}");
                let (mut world, _serving) =
                    world(OriginProtocol::Http1, Answers::Bytes(answer)).await;
                let got = asked(&mut world, http2, &method, "content-length").await;
                let what = format!("{method} {code} {lengths:?} {http2}");
                assert_eq!(got.0, 502, "{what}");
                assert!(broken(&world).is_some(), "{what}: {:?}", world.status());
            }
        }
    }
}

#[tokio::test]
async fn other_fields_that_can_be_read_in_two_ways_are_a_bad_gateway() {
    for fields in [
        "Location: /a\r\nLocation: /b",
        "Location: /a\u{1}b",
        "Location: /a\r\n /b",
        "X\": y",
        "X : y",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    ] {
        for (method, code) in [(Method::GET, 302), (Method::HEAD, 302), (Method::GET, 304)] {
            let answer = format!("HTTP/1.1 {code} X\r\n{fields}\r\n\r\n");
            let (mut world, _serving) = world(OriginProtocol::Http1, Answers::Bytes(answer)).await;
            let got = asked(&mut world, false, &method, "location").await;
            assert_eq!(got, (502, Vec::new()), "{method} {fields:?}");
            assert!(broken(&world).is_some(), "{method} {fields:?}: {:?}", world.status());
        }
    }
    let twice = "HTTP/1.1 302 X\r\nLocation: /a\r\nLocation: /a\r\nContent-Length: 0\r\n\r\n";
    for http2 in [false, true] {
        let (mut world, _serving) =
            world(OriginProtocol::Http1, Answers::Bytes(twice.into())).await;
        let got = asked(&mut world, http2, &Method::GET, "location").await;
        assert_eq!(got, (302, vec!["/a".to_owned()]));
    }
}

#[tokio::test]
async fn too_many_fields_are_said_to_be_that_and_a_long_head_too() {
    let long = format!("X: {}\r\n", "y".repeat(70_000));
    for (fields, says) in [
        ("X: y\r\n".repeat(101), "more than 100 header fields"),
        ("X: y\r\n".repeat(5000), "more than 100 header fields"),
        (long, "more than 65536 bytes"),
    ] {
        for (method, code) in [(Method::GET, 200), (Method::HEAD, 200), (Method::GET, 304)] {
            let answer = format!("HTTP/1.1 {code} X\r\n{fields}\r\n");
            let (mut world, _serving) = world(OriginProtocol::Http1, Answers::Bytes(answer)).await;
            assert_eq!(asked(&mut world, false, &method, "x").await.0, 502);
            let why = broken(&world).unwrap();
            assert!(why.contains(says), "{why}");
        }
    }
    let mut fields = HeaderMap::new();
    for _ in 0..101 {
        fields.append("x", HeaderValue::from_static("y"));
    }
    let (mut world, _serving) = world(OriginProtocol::Http2, Answers::Head(200, fields, "")).await;
    assert_eq!(asked(&mut world, true, &Method::GET, "x").await.0, 502);
    let why = broken(&world).unwrap();
    assert!(why.contains("more than 100 header fields"), "{why}");
}

#[tokio::test]
async fn an_origin_of_http_2_is_judged_as_one_of_http_1() {
    let length = "content-length";
    for (method, code, body) in shapes() {
        for (fields, good) in [
            (&[(length, "3"), (length, "3")][..], true),
            (&[(length, "03")], true),
            (&[(length, "3"), (length, "4")], false),
            (&[(length, "abc")], false),
            (&[(length, "")], false),
            (&[(length, "-1")], false),
            (&[(length, "+3")], false),
            (&[("location", "/a"), ("location", "/b")], false),
            (&[("x\"", "y")], false),
            (&[("x", " y ")], true),
        ] {
            for http2 in [false, true] {
                let mut head = HeaderMap::new();
                for (name, value) in fields {
                    let name = HeaderName::from_lowercase(name.as_bytes()).unwrap();
                    head.append(name, HeaderValue::from_str(value).unwrap());
                }
                let (mut world, _serving) =
                    world(OriginProtocol::Http2, Answers::Head(code, head, body)).await;
                let (status, values) = asked(&mut world, http2, &method, length).await;
                let what = format!("{method} {code} {fields:?} {http2}: {values:?}");
                assert_eq!(status, if good { code } else { 502 }, "{what}");
                assert!(values.len() <= 1, "{what}");
                if !good {
                    assert!(broken(&world).is_some(), "{what}: {:?}", world.status());
                }
            }
        }
    }
}

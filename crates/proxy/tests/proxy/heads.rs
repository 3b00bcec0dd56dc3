//! One set of checks for heads, whichever version of HTTP they came in. HTTP/2 is
//! written by hand here: its libraries do not send what has to be refused.

use http::Version;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery, Scheme};
use hyper::{Method, Request, Uri};
use onionbraid_proxy::guard::Guard;
use onionbraid_proxy::headers::{self, Sites};
use onionbraid_proxy::http::framing::{Framing, MessageLimits, Step};
use onionbraid_proxy::settings::{GuardSettings, HeaderSettings};
use onionbraid_proxy::visitor::Visitor;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::world::{World, read_all, read_head, status};

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags, 0, 0, 0, stream]);
    frame.extend(payload);
    frame
}

/// A field as an HPACK literal without any index.
fn literal(name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, u8::try_from(name.len()).unwrap()];
    bytes.extend(name);
    bytes.push(u8::try_from(value.len()).unwrap());
    bytes.extend(value);
    bytes
}

/// What becomes of a request over HTTP/2.
#[derive(Debug, PartialEq)]
enum Fate {
    /// The origin got this head.
    Passed(String),
    /// It was answered with 400.
    Refused,
    /// The library reset its stream, or said goodbye.
    Reset,
}

async fn fate(fields: &[(&[u8], &[u8])]) -> Fate {
    let mut world = World::new();
    let mut stream = world.client();
    let block: Vec<u8> = fields.iter().flat_map(|(name, value)| literal(name, value)).collect();
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(4, 0, 0, &[]));
    bytes.extend(frame(1, 0b101, 1, &block));
    stream.write_all(&bytes).await.unwrap();
    let answered = async {
        loop {
            let mut head = [0; 9];
            stream.read_exact(&mut head).await.unwrap();
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; usize::try_from(length).unwrap()];
            stream.read_exact(&mut payload).await.unwrap();
            match head[3] {
                // `:status: 400`, the table's twelfth (RFC 7541, appendix A).
                1 => return if payload[0] == 0x8c { Fate::Refused } else { panic!("{payload:?}") },
                3 | 7 => return Fate::Reset,
                _ => {}
            }
        }
    };
    tokio::select! {
        fate = answered => {
            assert!(world.origin_is_untouched());
            fate
        }
        passed = async { read_head(&mut world.origin().await).await } => Fate::Passed(passed),
    }
}

const GET: [(&[u8], &[u8]); 4] =
    [(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"a.onion"), (b":path", b"/")];

/// The same with this in place of what is there, or besides it.
async fn with(name: &[u8], value: &[u8]) -> Fate {
    let mut fields: Vec<(&[u8], &[u8])> = GET.to_vec();
    match fields.iter_mut().find(|(other, _)| *other == name) {
        Some(field) => field.1 = value,
        None => fields.push((name, value)),
    }
    fate(&fields).await
}

#[tokio::test(start_paused = true)]
async fn http_2_lets_through_nothing_that_http_1_refuses() {
    for (name, value) in [
        (&b"x\""[..], &b"a"[..]),
        (b"x", b" a"),
        (b"x", b"a "),
        (b"x", b"\ta"),
        (b":path", b"/\xc3\xbc"),
        (b":path", b"/?\xc3\xbc"),
        (b":path", b"#x"),
        (b":path", b"?x"),
        (b":path", b"*"),
        (b":scheme", b"ftp"),
        (b":authority", b"me@a.onion"),
        (b"host", b"b.onion"),
        (b"content_length", b"5"),
        (b"transfer.encoding", b"chunked"),
    ] {
        let (fate, name) = (with(name, value).await, String::from_utf8_lossy(name));
        assert_eq!(fate, Fate::Refused, "{name} {value:?}");
    }
    // What the library refuses by itself.
    for (name, value) in [
        (&b"connection"[..], &b"close"[..]),
        (b"transfer-encoding", b"chunked"),
        (b"upgrade", b"websocket"),
        (b"te", b"gzip"),
        (b"X", b"a"),
        (b"x y", b"a"),
        (b"x:y", b"a"),
        (b"x", b"a\r\nb: c"),
        (b"x", b"a\0"),
        (b":path", b"/a b"),
        (b":path", b"/a\r\n"),
        (b":path", b"admin"),
        (b":path", b""),
    ] {
        assert_eq!(with(name, value).await, Fate::Reset, "{:?}", String::from_utf8_lossy(name));
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_unusual_and_right_passes_in_http_2() {
    for path in ["//a", "/a?b#c", "/'\"{}|^\\", "/%23"] {
        let Fate::Passed(head) = with(b":path", path.as_bytes()).await else { panic!("{path}") };
        let cut = path.split('#').next().unwrap();
        assert!(head.starts_with(&format!("GET {cut} HTTP/1.1\r\n")), "{head}");
    }
    let crumbs = [GET.as_slice(), &[(b"cookie", b"a=1"), (b"cookie", b"b=2")]].concat();
    let Fate::Passed(head) = fate(&crumbs).await else { panic!() };
    assert!(head.contains("cookie: a=1; b=2\r\n"), "{head}");
    let odd = [GET.as_slice(), &[(b"x_y", b"1"), (b"x-y", b"2"), (b"script_name", b"/x")]].concat();
    let Fate::Passed(head) = fate(&odd).await else { panic!() };
    assert!(head.contains("x-y: 2\r\n") && !head.contains('_'), "{head}");
}

#[tokio::test(start_paused = true)]
async fn http_1_refuses_the_same() {
    for (line, field) in [
        ("GET / HTTP/1.1", "x\": a"),
        ("GET /\u{fc} HTTP/1.1", "x: a"),
        ("GET #x HTTP/1.1", "x: a"),
        ("GET ?x HTTP/1.1", "x: a"),
        ("GET * HTTP/1.1", "x: a"),
        ("GET /a#b HTTP/1.1", "x: a"),
    ] {
        let mut world = World::new();
        let ask = format!("{line}\r\nHost: a.onion\r\n{field}\r\nConnection: close\r\n\r\n");
        let mut client = world.asking(&ask).await;
        assert_eq!(status(&read_all(&mut client).await), 400, "{line} {field}");
        assert!(world.origin_is_untouched());
    }
}

/// A head as HTTP/1 writes it to an origin.
fn written(parts: &Parts) -> Vec<u8> {
    let mut bytes = format!("{} {} HTTP/1.1\r\n", parts.method, parts.uri).into_bytes();
    for (name, value) in &parts.headers {
        bytes.extend(name.as_str().as_bytes());
        bytes.extend(b": ");
        bytes.extend(value.as_bytes());
        bytes.extend(b"\r\n");
    }
    bytes.extend(b"\r\n");
    bytes
}

fn any_header() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let name = prop_oneof![
        "[a-z\"_.~!-]{1,6}",
        proptest::sample::select(vec![
            "content-length",
            "te",
            "expect",
            "cookie",
            "host",
            "upgrade"
        ])
        .prop_map(str::to_owned),
    ];
    let value = prop_oneof!["[ -~\t\u{fc}]{0,6}", Just("1".to_owned()), Just("a.onion".to_owned())];
    (name, value).prop_map(|(name, value)| (name.into_bytes(), value.into_bytes()))
}

proptest! {
    #[test]
    fn what_passes_the_guard_is_one_head_of_http_1(
        path in "[/?#*]?[ -~\u{fc}]{0,12}",
        authority in prop_oneof![Just("a.onion".to_owned()), "[a-z@:.\\[\\]0-9]{1,8}"],
        method in "[A-Za-z!*]{1,5}",
        fields in proptest::collection::vec(any_header(), 0..5),
    ) {
        let (Ok(path), Ok(authority)) =
            (path.parse::<PathAndQuery>(), authority.parse::<Authority>()) else { return Ok(()) };
        let mut uri = Uri::default().into_parts();
        uri.scheme = Some(Scheme::HTTP);
        uri.authority = Some(authority);
        uri.path_and_query = Some(path);
        let Ok(uri) = Uri::from_parts(uri) else { return Ok(()) };
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let (Ok(name), Ok(value)) =
                (HeaderName::from_lowercase(&name), HeaderValue::from_bytes(&value))
            else { return Ok(()) };
            headers.append(name, value);
        }
        let mut parts = Request::new(()).into_parts().0;
        parts.method = Method::from_bytes(method.as_bytes()).unwrap();
        (parts.uri, parts.headers, parts.version) = (uri, headers, Version::HTTP_2);
        let (guard, settings) =
            (Guard::new(&GuardSettings::default()), HeaderSettings::default());
        let visitor = Visitor { circuit: 1, port: 80, onion: "a.onion".into(), tls: false };
        let sites = match guard.check("a.onion", &parts) {
            Ok(host) => Sites::new(&settings, &visitor, host),
            Err(_) => return Ok(()),
        };
        headers::request(&settings, &visitor, &sites, &mut parts);
        let bytes = written(&parts);
        let mut framing = Framing::new(MessageLimits { head_bytes: 64 * 1024, fields: 100 });
        let text = String::from_utf8_lossy(&bytes).into_owned();
        prop_assert_eq!(framing.step(&bytes), Ok(Step::Head(bytes.len())), "{}", text);
        let mut fields = [httparse::EMPTY_HEADER; 100];
        let parsed = httparse::Request::new(&mut fields).parse(&bytes);
        prop_assert_eq!(parsed, Ok(httparse::Status::Complete(bytes.len())), "{}", text);
    }
}

//! Which requests a web page may have made a browser send. An operator who looks at
//! the status page has a port of their own machine lead here, and every other page
//! in that browser can send requests to it: it must neither read answers nor give
//! orders. Pure; called by `admin` and `questions`.

use std::net::IpAddr;

use hyper::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN};
use hyper::http::request::Parts;
use hyper::http::uri::Authority;
use hyper::{Method, Request, StatusCode};

/// What browsers say of where a request comes from. No program sends these.
const OF_BROWSERS: [HeaderName; 5] = [
    ORIGIN,
    HeaderName::from_static("sec-fetch-site"),
    HeaderName::from_static("sec-fetch-mode"),
    HeaderName::from_static("sec-fetch-dest"),
    HeaderName::from_static("sec-fetch-user"),
];

/// Whether a request asks for this machine by one of its own names: else a web page
/// could read the answers by letting its own name point here (DNS rebinding). On a
/// Unix socket no name is needed, and one without a dot will do: programs make
/// something up there, and no web page has such a name.
pub(super) fn names_this_machine<B>(request: &Request<B>, on_socket: bool) -> bool {
    let mut hosts = request.headers().get_all(HOST).iter();
    let named = match (hosts.next(), hosts.next()) {
        (None, _) => on_socket,
        (Some(host), None) if host.is_empty() => on_socket,
        (Some(host), None) => is_own_host(host, on_socket),
        (Some(_), Some(_)) => false,
    };
    let target = request.uri().authority();
    named && target.is_none_or(|target| is_own_name(target, on_socket))
}

fn is_own_host(host: &HeaderValue, on_socket: bool) -> bool {
    let authority = host.to_str().ok().and_then(|host| host.parse::<Authority>().ok());
    authority.is_some_and(|authority| is_own_name(&authority, on_socket))
}

fn is_own_name(authority: &Authority, on_socket: bool) -> bool {
    let host = authority.host();
    // Nothing before the host, and nothing but a port after it.
    let rest = authority.as_str().strip_prefix(host);
    let port = |rest: &str| {
        rest.strip_prefix(':').is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()))
    };
    if !rest.is_some_and(|rest| rest.is_empty() || port(rest)) {
        return false;
    }
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let is_made_up = |host: &str| {
        host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
            && host.bytes().any(|byte| byte.is_ascii_alphabetic())
            && !host.starts_with("0x")
    };
    host.eq_ignore_ascii_case("localhost")
        || on_socket && is_made_up(host)
        || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Why a question or an order is not taken, if a browser may have sent it.
pub(super) fn refusal(head: &Parts) -> Option<(StatusCode, &'static str)> {
    if head.method != Method::POST {
        return Some((StatusCode::METHOD_NOT_ALLOWED, "only POST"));
    }
    if OF_BROWSERS.iter().any(|name| head.headers.contains_key(name)) {
        let text = "orders are taken from programs, not from browsers: a request with Origin or \
                    Sec-Fetch-Site is refused";
        return Some((StatusCode::FORBIDDEN, text));
    }
    // Browsers say where a request comes from; an old one that does not sends no JSON.
    if !is_of_a_program(&head.headers) {
        let text = "send JSON, with the header `Content-Type: application/json`";
        return Some((StatusCode::UNSUPPORTED_MEDIA_TYPE, text));
    }
    if head.uri.query().is_some() {
        return Some((StatusCode::BAD_REQUEST, "there is nothing to ask after a `?`"));
    }
    None
}

/// JSON, or what `curl --data` says unless told otherwise, or nothing.
fn is_of_a_program(headers: &HeaderMap) -> bool {
    const TYPES: [&str; 2] = ["application/json", "application/x-www-form-urlencoded"];
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let only = match (types.next(), types.next()) {
        (None, _) => return true,
        (Some(only), None) => only,
        (Some(_), Some(_)) => return false,
    };
    let essence = only.to_str().ok().and_then(|text| text.split(';').next()).map(str::trim);
    essence.is_some_and(|text| TYPES.iter().any(|known| text.eq_ignore_ascii_case(known)))
}

#[cfg(test)]
mod tests {
    use hyper::Uri;

    use super::*;

    fn get(uri: &str, hosts: &[&str]) -> Request<()> {
        let mut request = Request::get(uri);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        request.body(()).unwrap()
    }

    #[test]
    fn only_names_of_this_machine_are_answered() {
        let good =
            ["localhost", "LocalHost:9000", "127.0.0.1", "127.0.0.1:80", "[::1]", "[::1]:80"];
        let bad = [
            "evil.example",
            "localhost.evil.example:80",
            "10.0.0.1",
            "[::2]:80",
            "localhost@evil.example",
            "evil@localhost",
            "[::1]evil.example",
            "[::1",
            "0.0.0.0",
        ];
        for on_socket in [true, false] {
            for host in good {
                assert!(names_this_machine(&get("/", &[host]), on_socket), "{host}");
            }
            for host in bad {
                assert!(!names_this_machine(&get("/", &[host]), on_socket), "{host}");
                // What cannot stand in a target is no request at all.
                let target = format!("http://{host}/");
                if target.parse::<Uri>().is_ok() {
                    let target = get(&target, &["localhost"]);
                    assert!(!names_this_machine(&target, on_socket), "{host}");
                }
            }
            assert!(!names_this_machine(&get("/", &["localhost", "evil.example"]), on_socket));
            assert_eq!(names_this_machine(&get("/", &[]), on_socket), on_socket);
            assert_eq!(names_this_machine(&get("/", &[""]), on_socket), on_socket);
            // Made up by a program: no page can have such a name.
            for host in ["unix", "onionbraid:80", "d"] {
                assert_eq!(names_this_machine(&get("/", &[host]), on_socket), on_socket, "{host}");
            }
            assert!(!names_this_machine(&get("/", &["0x7f000001"]), on_socket));
            assert!(!names_this_machine(&get("/", &["2130706433"]), on_socket));
        }
    }

    fn post(headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::post("/v1/reload");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn what_a_page_can_have_a_browser_send_is_no_order() {
        const JSON: (&str, &str) = ("content-type", "application/json");
        let status = |headers: &[_]| refusal(&post(headers)).map(|(status, _)| status);
        assert_eq!(status(&[JSON]), None);
        assert_eq!(status(&[("content-type", "Application/JSON; charset=utf-8")]), None);
        for origin in ["http://evil.example", "null", "http://localhost:8080", ""] {
            assert_eq!(status(&[JSON, ("origin", origin)]), Some(StatusCode::FORBIDDEN));
        }
        for site in ["cross-site", "same-origin", "none"] {
            assert_eq!(status(&[JSON, ("sec-fetch-site", site)]), Some(StatusCode::FORBIDDEN));
        }
        let unsupported = Some(StatusCode::UNSUPPORTED_MEDIA_TYPE);
        // As programs send it that were told nothing.
        assert_eq!(status(&[]), None);
        assert_eq!(status(&[("content-type", "application/x-www-form-urlencoded")]), None);
        // Other types that a page may send to any site, and what looks like ours.
        for other in [
            "text/plain",
            "multipart/form-data",
            "text/plain; application/json",
            "application/json, text/plain",
            "application/jsonx",
            "",
        ] {
            assert_eq!(status(&[("content-type", other)]), unsupported, "{other}");
        }
        assert_eq!(status(&[JSON, ("content-type", "text/plain")]), unsupported);
    }
}

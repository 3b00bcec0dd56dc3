//! What the parts of a head may be made of, whichever version of HTTP it came
//! in. Pure.
//!
//! HTTP/2 carries names, values and targets by their lengths, and its library
//! lets pass what means something else, or nothing, once it is written as
//! HTTP/1 (RFC 9113, section 10.3).

use http::header::{CONNECTION, TE, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};

use crate::token::{is_target, is_token, is_value};

/// Fields of one connection that HTTP/2 does not have (RFC 9113, section 8.2.2).
const NOT_OF_HTTP2: [HeaderName; 5] = [
    CONNECTION,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// Whether a head means the same in every version of HTTP.
pub(super) fn is_proper(request: &Parts) -> bool {
    let method = request.method.as_str();
    !method.is_empty()
        && method.bytes().all(is_token)
        && has_proper_target(request)
        && request.headers.iter().all(|(name, value)| is_proper_field(name, value))
        && (request.version != Version::HTTP_2 || is_of_http2(&request.headers))
}

/// A path, an `http` URI, or `*` for `OPTIONS` (RFC 9112, section 3.2).
fn has_proper_target(request: &Parts) -> bool {
    let uri = &request.uri;
    let scheme = uri.scheme_str().is_none_or(|scheme| matches!(scheme, "http" | "https"));
    let Some(path) = uri.path_and_query() else { return false };
    // A `:path` of which nothing is left before its `#` calls itself `/`, and is
    // written as nothing at all.
    let hollow = request.version == Version::HTTP_2
        && path.as_str() == "/"
        && *path != PathAndQuery::from_static("/");
    let form = match path.as_str() {
        "*" => request.method == Method::OPTIONS,
        path => path.starts_with('/') && path.bytes().all(is_target),
    };
    scheme && form && !hollow
}

/// A name that is a token, and a value without control characters, and without
/// white space around it (RFC 9113, section 8.2.1).
fn is_proper_field(name: &HeaderName, value: &HeaderValue) -> bool {
    let value = value.as_bytes();
    let white = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    name.as_str().bytes().all(is_token)
        && value.iter().all(|&byte| is_value(byte))
        && !white(value.first())
        && !white(value.last())
}

/// Whether nothing is said of a connection that HTTP/2 does not say.
fn is_of_http2(headers: &HeaderMap) -> bool {
    let te = headers.get_all(TE).iter().all(|te| te == "trailers");
    te && !NOT_OF_HTTP2.iter().any(|name| headers.contains_key(name))
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn request(version: Version, target: &str) -> Parts {
        let mut parts = Request::new(()).into_parts().0;
        parts.version = version;
        let (authority, path) = ("http://a.onion", target.parse::<PathAndQuery>().unwrap());
        let mut uri = http::Uri::from_static(authority).into_parts();
        uri.path_and_query = Some(path);
        parts.uri = http::Uri::from_parts(uri).unwrap();
        parts
    }

    const BOTH: [Version; 2] = [Version::HTTP_11, Version::HTTP_2];

    #[test]
    fn a_target_is_a_path_of_visible_ascii() {
        for version in BOTH {
            for good in ["/", "/a?b", "//a", "/%23", "/a'\"{}|^\\", "/?a=/../?"] {
                assert!(is_proper(&request(version, good)), "{good}");
            }
            for bad in ["/\u{fc}", "/a?\u{fc}", "/a\u{7f}", "*", "?a"] {
                let Ok(_) = bad.parse::<PathAndQuery>() else { continue };
                assert!(!is_proper(&request(version, bad)), "{bad}");
            }
        }
        // What the library leaves of it is an empty path.
        if "#x".parse::<PathAndQuery>().is_ok() {
            assert!(!is_proper(&request(Version::HTTP_2, "#x")));
        }
    }

    #[test]
    fn names_are_tokens_and_values_have_no_white_space_around_them() {
        let with = |name: &str, value: &[u8]| {
            let mut request = request(Version::HTTP_2, "/");
            let name = HeaderName::from_lowercase(name.as_bytes()).unwrap();
            request.headers.insert(name, HeaderValue::from_bytes(value).unwrap());
            is_proper(&request)
        };
        assert!(with("x", b"") && with("x_y.z", b"a\tb c \xfc"));
        assert!(!with("x\"", b"a"), "the library for HTTP/2 takes it for a name");
        for value in [&b" a"[..], b"a ", b"\ta", b"a\t", b" "] {
            assert!(!with("x", value), "{value:?}");
        }
    }

    #[test]
    fn what_speaks_of_a_connection_is_not_of_http_2() {
        for (name, value) in [
            ("connection", "close"),
            ("keep-alive", "5"),
            ("proxy-connection", "close"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
            ("te", "gzip"),
        ] {
            for version in BOTH {
                let mut request = request(version, "/");
                request.headers.insert(name, HeaderValue::from_static(value));
                assert_eq!(is_proper(&request), version == Version::HTTP_11, "{name}");
            }
        }
        let mut trailers = request(Version::HTTP_2, "/");
        trailers.headers.insert(TE, HeaderValue::from_static("trailers"));
        assert!(is_proper(&trailers));
    }
}

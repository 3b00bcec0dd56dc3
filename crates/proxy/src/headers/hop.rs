//! Which fields are of one connection alone and go no further (RFC 9110,
//! section 7.6.1). Pure.
//!
//! `Via` is not added, though section 7.6.3 wants it of a gateway in requests:
//! to origins it means a shared cache, for which common servers stop
//! compressing; to clients it would tell what stands before the site.

use http::header::{CONNECTION, CONTENT_LENGTH, TE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, request, response};

/// Those of one connection whether or not `Connection` names them. The last
/// three are for the proxy itself (section 11.7), which asks nobody for anything.
const PER_CONNECTION: &[&str] = &[
    "connection",
    "keep-alive",
    "proxy-connection",
    "http2-settings",
    "te",
    "transfer-encoding",
    "upgrade",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-authentication-info",
];

/// Those that nobody can take out by naming them in `Connection`: without them
/// the message would be another one.
pub(super) const ESSENTIAL: &[&str] = &["host", "content-length", "content-type"];

/// How the fields of a WebSocket handshake begin (RFC 6455, section 11.3): without
/// the upgrade they are about nothing.
const OF_WEBSOCKETS: &str = "sec-websocket-";

/// Takes out of a request what was for the connection to us, and says again
/// what the origin has to know: that the client takes trailers, or that it wants
/// to go on in one of these protocols.
pub(super) fn clean_request(upgrades: &[String], request: &mut request::Parts) {
    let trailers = lists(&request.headers, &TE, "trailers");
    let upgrade = upgrade(upgrades, request);
    clean(&mut request.headers);
    if !upgrade.as_ref().is_some_and(|to| to.as_bytes().eq_ignore_ascii_case(b"websocket")) {
        let of_websockets = |name: &&HeaderName| name.as_str().starts_with(OF_WEBSOCKETS);
        let names: Vec<_> = request.headers.keys().filter(of_websockets).cloned().collect();
        for name in names {
            request.headers.remove(name);
        }
    }
    let mut options = Vec::new();
    if trailers {
        request.headers.insert(TE, HeaderValue::from_static("trailers"));
        options.push("te");
    }
    if let Some(protocol) = upgrade {
        request.headers.insert(UPGRADE, protocol);
        // At most a 0, which some would have follow by what is upgraded.
        request.headers.remove(CONTENT_LENGTH);
        options.push("upgrade");
    }
    if let Ok(options) = HeaderValue::try_from(options.join(", "))
        && !options.is_empty()
    {
        request.headers.insert(CONNECTION, options);
    }
}

/// Takes out of a response what was for the connection to the origin, save
/// what speaks of going on in another protocol, which passes through.
pub(super) fn clean_response(response: &mut response::Parts) {
    let upgrade = match response.status {
        StatusCode::SWITCHING_PROTOCOLS | StatusCode::UPGRADE_REQUIRED => {
            response.headers.get(UPGRADE).cloned()
        }
        _ => None,
    };
    let goes_on = lists(&response.headers, &CONNECTION, "keep-alive");
    clean(&mut response.headers);
    // The connection to the client goes on as well, and servers that say so say it
    // to everybody.
    if goes_on {
        response.headers.insert(CONNECTION, HeaderValue::from_static("keep-alive"));
    }
    if let Some(protocols) = upgrade {
        response.headers.insert(UPGRADE, protocols);
        response.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    }
}

/// Takes out what is of one connection.
pub(super) fn clean(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = tokens(headers, &CONNECTION)
        .filter_map(|name| name.parse().ok())
        .filter(|name: &HeaderName| !ESSENTIAL.contains(&name.as_str()))
        .collect();
    for name in named.iter().map(HeaderName::as_str).chain(PER_CONNECTION.iter().copied()) {
        headers.remove(name);
    }
}

/// The one protocol that a request wants to go on in, if it is one of these and
/// the request is a `GET` without content: some origins take the content of any
/// other for what comes after the upgrade, that is for requests that nobody here
/// has looked at. Without it the request is one like any other.
fn upgrade(upgrades: &[String], request: &request::Parts) -> Option<HeaderValue> {
    let headers = &request.headers;
    let content = headers.contains_key(TRANSFER_ENCODING)
        || headers.get_all(CONTENT_LENGTH).iter().any(|length| length != "0");
    if request.version != Version::HTTP_11
        || request.method != Method::GET
        || content
        || !lists(headers, &CONNECTION, "upgrade")
    {
        return None;
    }
    // Of several, the origin would choose.
    let mut wanted = tokens(headers, &UPGRADE);
    let (protocol, None) = (wanted.next()?, wanted.next()) else { return None };
    let known = upgrades.iter().any(|known| known.eq_ignore_ascii_case(protocol));
    if known { HeaderValue::try_from(protocol).ok() } else { None }
}

/// Whether a client wants its connection to go on after the answer (RFC 9112,
/// section 9.3).
pub fn goes_on<B>(request: &http::Request<B>) -> bool {
    match request.version() {
        Version::HTTP_09 => false,
        Version::HTTP_10 => lists(request.headers(), &CONNECTION, "keep-alive"),
        _ => !lists(request.headers(), &CONNECTION, "close"),
    }
}

/// Whether a list has a member, in any case.
fn lists(headers: &HeaderMap, name: &HeaderName, member: &str) -> bool {
    tokens(headers, name).any(|token| token.eq_ignore_ascii_case(member))
}

/// The members of a list, over all fields of the name. A field that is not
/// text has none.
fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers
        .get_all(name)
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    /// What is left of a request that asks for this.
    fn cleaned(
        method: &str,
        version: Version,
        upgrades: &[&str],
        fields: &[(&str, &str)],
    ) -> HeaderMap {
        let mut parts = Request::builder().method(method).body(()).unwrap().into_parts().0;
        parts.version = version;
        for (name, value) in fields {
            let name = HeaderName::try_from(*name).unwrap();
            parts.headers.append(name, value.parse().unwrap());
        }
        let upgrades: Vec<String> = upgrades.iter().map(|name| (*name).to_owned()).collect();
        clean_request(&upgrades, &mut parts);
        parts.headers
    }

    const KEY: (&str, &str) = ("sec-websocket-key", "eA==");
    const ASK: [(&str, &str); 3] = [("connection", "upgrade"), ("upgrade", "websocket"), KEY];

    #[test]
    fn an_upgrade_is_a_get_without_content_to_one_known_protocol() {
        let known = ["websocket", "x-own/2"];
        for fields in [
            &ASK[..],
            &[("connection", "keep-alive, Upgrade"), ("upgrade", "WebSocket"), KEY],
            &[ASK[0], ASK[1], KEY, ("content-length", "0")],
        ] {
            let left = cleaned("GET", Version::HTTP_11, &known, fields);
            assert_eq!(left["connection"], "upgrade", "{fields:?}");
            assert!(left["upgrade"].as_bytes().eq_ignore_ascii_case(b"websocket"), "{fields:?}");
            assert!(left.contains_key("sec-websocket-key"));
            assert!(!left.contains_key("content-length"), "{fields:?}");
        }
        let own = [("connection", "upgrade"), ("upgrade", "x-own/2"), KEY];
        let left = cleaned("GET", Version::HTTP_11, &known, &own);
        assert_eq!(left["upgrade"], "x-own/2");
        assert!(!left.contains_key("sec-websocket-key"), "of another protocol");
    }

    #[test]
    fn any_other_wish_for_an_upgrade_leaves_nothing_of_itself() {
        let nothing_left = |method, version, upgrades: &[&str], fields: &[(&str, &str)]| {
            let left = cleaned(method, version, upgrades, fields);
            for name in ["connection", "upgrade", "sec-websocket-key", "http2-settings"] {
                assert!(!left.contains_key(name), "{method} {version:?} {fields:?}: {left:?}");
            }
        };
        let known = ["websocket"];
        for method in ["POST", "PUT", "HEAD", "OPTIONS", "DELETE", "get", "PROPFIND"] {
            nothing_left(method, Version::HTTP_11, &known, &ASK);
        }
        nothing_left("GET", Version::HTTP_10, &known, &ASK);
        nothing_left("GET", Version::HTTP_2, &known, &ASK);
        nothing_left("GET", Version::HTTP_11, &[], &ASK);
        nothing_left("GET", Version::HTTP_11, &known, &ASK[1..]);
        for field in [("content-length", "1"), ("content-length", "00"), ("content-length", "")] {
            nothing_left("GET", Version::HTTP_11, &known, &[ASK[0], ASK[1], KEY, field]);
        }
        let chunked = [ASK[0], ASK[1], KEY, ("transfer-encoding", "chunked")];
        nothing_left("GET", Version::HTTP_11, &known, &chunked);
        let settings = ("http2-settings", "AAMAAABk");
        for protocol in
            ["foo", "h2c", "websocket/13", "websocket, foo", "foo, websocket", "TLS/1.0"]
        {
            let fields = [ASK[0], ("upgrade", protocol), KEY, settings];
            nothing_left("GET", Version::HTTP_11, &known, &fields);
        }
        let twice = [ASK[0], ASK[1], ("upgrade", "h2c"), KEY, settings];
        nothing_left("GET", Version::HTTP_11, &known, &twice);
    }
}

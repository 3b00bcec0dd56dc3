//! Which fields are of one connection alone and go no further (RFC 9110,
//! section 7.6.1). Pure.
//!
//! `Via` is not added, though section 7.6.3 wants it of a gateway in requests:
//! to origins it means a shared cache, for which common servers stop
//! compressing; to clients it would tell what stands before the site.

use http::header::{CONNECTION, TE, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version, request, response};

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
const ESSENTIAL: &[&str] = &["host", "content-length", "content-type"];

/// Takes out of a request what was for the connection to us, and says again
/// what the origin has to know: that the client takes trailers, or that it wants
/// to go on in another protocol.
pub(super) fn clean_request(request: &mut request::Parts) {
    let trailers = lists(&request.headers, &TE, "trailers");
    let upgrade = upgrade(request);
    clean(&mut request.headers);
    let mut options = Vec::new();
    if trailers {
        request.headers.insert(TE, HeaderValue::from_static("trailers"));
        options.push("te");
    }
    if let Some(protocols) = upgrade {
        request.headers.insert(UPGRADE, protocols);
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
    clean(&mut response.headers);
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

/// The protocols that a request wants to go on in, if it does so in earnest.
/// HTTP in another version, and TLS, are not passed on: what came after would
/// be requests that nobody here has looked at.
fn upgrade(request: &request::Parts) -> Option<HeaderValue> {
    let headers = &request.headers;
    if request.version != Version::HTTP_11 || !lists(headers, &CONNECTION, "upgrade") {
        return None;
    }
    let hidden = |protocol: &str| {
        let name = protocol.split('/').next().unwrap_or_default().to_ascii_lowercase();
        matches!(name.as_str(), "h2c" | "h2" | "h3" | "http" | "tls")
    };
    let wanted: Vec<&str> = tokens(headers, &UPGRADE).collect();
    if wanted.is_empty() || wanted.iter().any(|protocol| hidden(protocol)) {
        return None;
    }
    HeaderValue::try_from(wanted.join(", ")).ok()
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

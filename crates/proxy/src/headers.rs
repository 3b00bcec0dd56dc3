//! What is changed in the heads of requests and responses on their way. Pure.
//!
//! - [`hop`]: what is of one connection alone goes no further;
//! - [`client`]: what the origin is told of the client, and that nothing of it
//!   comes from the client itself, nor anything else that only servers and proxies
//!   may say ([`reserved`]);
//! - [`fields`] and [`names`]: the public names of a site become its onion
//!   names in responses, and the other way round in requests.

mod client;
mod fields;
mod hop;
mod names;
mod reserved;

use http::header::{ALT_SVC, COOKIE, EXPECT, HOST, HeaderMap, HeaderValue, MAX_FORWARDS};
use http::uri::{PathAndQuery, Uri};
use http::{Method, Version, request, response};

use self::names::Names;
use super::host::{self, Host};
use super::settings::{HeaderSettings, HostHeader};
use super::visitor::Visitor;

/// Makes of a client's request the one that the origin gets.
///
/// Afterwards it has exactly one `Host`, and its target is a path (or `*`), as
/// in HTTP/1.1, whatever the client speaks: where the origin speaks HTTP/2, the
/// host is what its `:authority` has to be. `Connection` is there only to
/// announce `TE: trailers` or an upgrade, `Expect` never: what a client waits for,
/// it is told here.
///
/// What is refused by [`Guard::check`](super::guard::Guard::check) must not come here.
pub fn request(settings: &HeaderSettings, visitor: &Visitor, request: &mut request::Parts) {
    let host = asked_for(visitor, request);
    client::forget(settings, &mut request.headers);
    hop::clean_request(&settings.upgrades, request);
    request.headers.remove(EXPECT);
    let names = Names::for_origin(settings, visitor);
    fields::rewrite(fields::OF_REQUESTS, &names, &mut request.headers);
    request.version = Version::HTTP_11;
    // An empty path calls itself `/`, and is written as nothing.
    let path = request.uri.path_and_query().filter(|path| path.as_str() != "/").cloned();
    request.uri = path.map_or_else(root, Uri::from);
    request.headers.insert(HOST, host_for_origin(settings, &names, &host));
    client::tell(settings, visitor, &host, &mut request.headers);
    join_cookies(&mut request.headers);
    count_forwarding(request);
}

/// Makes of an origin's response the one that the client gets.
pub fn response(settings: &HeaderSettings, visitor: &Visitor, response: &mut response::Parts) {
    hop::clean_response(response);
    for name in &settings.strip {
        response.headers.remove(name);
    }
    if !settings.names.is_empty() {
        // Other ways to the public site are none to the onion service.
        response.headers.remove(ALT_SVC);
    }
    let names = Names::for_visitor(settings, visitor);
    fields::rewrite(fields::OF_RESPONSES, &names, &mut response.headers);
}

/// Takes out of the trailers of a request what would mean something else in its
/// head (RFC 9110, section 6.5.1), where some servers put them, and what its head
/// must not say either.
pub fn request_trailers(settings: &HeaderSettings, trailers: &mut HeaderMap) {
    client::forget(settings, trailers);
    clean_trailers(&[], trailers);
}

/// Takes out of the trailers of a response what would mean something else in its
/// head.
pub fn response_trailers(settings: &HeaderSettings, trailers: &mut HeaderMap) {
    clean_trailers(&settings.strip, trailers);
}

fn clean_trailers(strip: &[String], trailers: &mut HeaderMap) {
    hop::clean(trailers);
    for name in NEVER_TRAILERS.iter().copied().chain(strip.iter().map(String::as_str)) {
        trailers.remove(name);
    }
}

/// What frames or leads a message, says who may have it, or how to read it; and
/// what rules are held against in a head.
const NEVER_TRAILERS: &[&str] = &[
    "authorization",
    "cache-control",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "cookie",
    "expect",
    "host",
    "location",
    "max-forwards",
    "range",
    "set-cookie",
    "trailer",
    "user-agent",
    "www-authenticate",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
];

/// The host that a client has asked for; if it names none, the one that it has
/// connected to.
fn asked_for(visitor: &Visitor, request: &request::Parts) -> HeaderValue {
    let valid = |host: &&str| Host::parse(host).is_some();
    let named = host::named(request).filter(valid).and_then(|host| host.parse().ok());
    named.unwrap_or_else(|| {
        let host = match visitor.port {
            80 => visitor.onion.clone(),
            port => format!("{}:{port}", visitor.onion),
        };
        HeaderValue::try_from(host).unwrap_or_else(|_| HeaderValue::from_static(""))
    })
}

/// What becomes of `Host`.
fn host_for_origin(
    settings: &HeaderSettings,
    names: &Names<'_>,
    host: &HeaderValue,
) -> HeaderValue {
    let other = match &settings.host {
        HostHeader::Pass => None,
        HostHeader::Fixed(name) => Some(name.clone()),
        HostHeader::Mapped => {
            host.to_str().ok().and_then(Host::parse).and_then(|host| names.partner(host.name))
        }
    };
    other.and_then(|host| HeaderValue::try_from(host).ok()).unwrap_or_else(|| host.clone())
}

fn root() -> Uri {
    Uri::from(PathAndQuery::from_static("/"))
}

/// Makes one field of several, into which HTTP/2 may part it (RFC 9113, section
/// 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let cookies: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if cookies.len() > 1
        && let Ok(joined) = HeaderValue::from_bytes(&cookies.join(&b"; "[..]))
    {
        headers.insert(COOKIE, joined);
    }
}

/// Counts down how often `OPTIONS` may be led on (RFC 9110, section 7.6.2).
/// At 0 it does not come here; `TRACE` never does.
fn count_forwarding(request: &mut request::Parts) {
    if request.method != Method::OPTIONS {
        return;
    }
    let left = request.headers.get(MAX_FORWARDS).and_then(|left| left.to_str().ok());
    if let Some(left) = left.and_then(|left| left.parse::<u32>().ok()) {
        request.headers.insert(MAX_FORWARDS, left.saturating_sub(1).into());
    }
}

#[cfg(test)]
mod tests;

//! What is changed in the heads of requests and responses on their way. Pure.
//!
//! - [`hop`]: what is of one connection alone goes no further;
//! - [`client`]: what the origin is told of the client, and that nothing of it
//!   comes from the client itself, nor anything else that only servers and proxies
//!   may say ([`reserved`]);
//! - [`site`]: which one site a request is for, as the origin sees it;
//! - [`names`], with [`pairs`] and [`own`]: the public names of a site, and what
//!   origins call themselves, become its onion names in responses;
//! - [`fields`] and [`cookies`]: where names stand, and how each field writes them;
//! - [`order`]: what is left stays in the order in which it came.

mod client;
mod cookies;
mod fields;
mod hop;
mod names;
mod order;
mod own;
mod pairs;
mod reserved;
mod site;

use http::header::{
    ALT_SVC, CONTENT_LENGTH, COOKIE, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, MAX_FORWARDS,
};
use http::uri::{PathAndQuery, Uri};
use http::{Method, Version, request, response};

pub use self::client::is_told;
pub use self::fields::is_translated;
pub use self::hop::goes_on;
use self::names::Names;
use self::order::FieldOrder;
pub use self::own::OwnNames;
pub use self::reserved::{is_reserved, matches};
pub use self::site::Sites;
use super::settings::HeaderSettings;
use super::visitor::Visitor;

/// Makes of a client's request for these sites the one that the origin gets.
///
/// Afterwards it has exactly one `Host`, and its target is a path (or `*`), as
/// in HTTP/1.1, whatever the client speaks: where the origin speaks HTTP/2, the
/// host is what its `:authority` has to be. `Connection` is there only to
/// announce `TE: trailers` or an upgrade, `Expect` never: what a client waits for,
/// it is told here.
///
/// What is refused by [`Guard::check`](super::guard::Guard::check) must not come here.
pub fn request(
    settings: &HeaderSettings,
    visitor: &Visitor,
    sites: &Sites,
    request: &mut request::Parts,
) {
    let order = FieldOrder::of(&request.headers);
    client::forget(settings, &mut request.headers);
    write_length(&mut request.headers);
    hop::clean_request(&settings.upgrades, request);
    request.headers.remove(EXPECT);
    fields::translate(settings, visitor, sites, &mut request.headers);
    request.version = Version::HTTP_11;
    // An empty path calls itself `/`, and is written as nothing.
    let path = request.uri.path_and_query().filter(|path| path.as_str() != "/").cloned();
    request.uri = path.map_or_else(root, Uri::from);
    request.headers.insert(HOST, client::text(&sites.told.host()));
    client::tell(settings, visitor, &sites.told, &mut request.headers);
    join_cookies(&mut request.headers);
    count_forwarding(request);
    order.restore(&mut request.headers);
}

/// Makes of an origin's response the one that the client gets who has asked for
/// these sites; `own` is what the origins call themselves.
pub fn response(
    settings: &HeaderSettings,
    own: &OwnNames,
    visitor: &Visitor,
    sites: &Sites,
    response: &mut response::Parts,
) {
    let order = FieldOrder::of(&response.headers);
    hop::clean_response(response);
    hide_internal(&mut response.headers);
    for name in &settings.strip {
        response.headers.remove(name);
    }
    let names = Names::new(settings, visitor, own, sites);
    // Other ways to the public site, or to the origin's own address, are none to
    // the onion service.
    let alternatives = response.headers.get_all(ALT_SVC).iter();
    if !settings.names.is_empty()
        || alternatives.filter_map(|list| list.to_str().ok()).any(|list| names.leads_to_own(list))
    {
        response.headers.remove(ALT_SVC);
    }
    fields::rewrite(settings, &names, &mut response.headers);
    cookies::rewrite(settings, &names, &mut response.headers);
    order.restore(&mut response.headers);
}

/// Takes out of the trailers of a request what would mean something else in its
/// head (RFC 9110, section 6.5.1), where some servers put them, and what its head
/// must not say either.
pub fn request_trailers(settings: &HeaderSettings, trailers: &mut HeaderMap) {
    client::forget(settings, trailers);
    clean_trailers(&[], trailers);
}

/// Takes out of the trailers of a response what would mean something else in its
/// head; what is translated there, since no client needs it so late; and what no client
/// gets at all.
pub fn response_trailers(settings: &HeaderSettings, trailers: &mut HeaderMap) {
    clean_trailers(&settings.strip, trailers);
    let translated: Vec<HeaderName> = trailers
        .keys()
        .filter(|name| fields::is_translated_in_answers(settings, name.as_str()))
        .cloned()
        .collect();
    for name in translated {
        trailers.remove(name);
    }
    trailers.remove(ALT_SVC);
    hide_internal(trailers);
}

/// Takes out of an answer what is for a server in front of the origin: which file to
/// send, or where to ask next. Nobody does so here, and clients would learn of paths of the
/// machine.
fn hide_internal(headers: &mut HeaderMap) {
    let internal = |name: &&HeaderName| {
        INTERNAL.iter().any(|pattern| reserved::matches(pattern, name.as_str()))
    };
    let names: Vec<HeaderName> = headers.keys().filter(internal).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

/// The fields of answers that are for a server in front of the origin, as nginx,
/// lighttpd, Apache and Workhorse have them.
const INTERNAL: &[&str] = &[
    "gitlab-workhorse-*",
    "x-accel-*",
    "x-lighttpd-send-file",
    "x-lighttpd-send-tempfile",
    "x-reproxy-*",
    "x-sendfile",
    "x-sendfile2",
    "x-sendfile-*",
];

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
    "destination",
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

fn root() -> Uri {
    Uri::from(PathAndQuery::from_static("/"))
}

/// Writes the length as a plain number: some programs read `010` as eight, and would
/// take the end of the body for another request.
fn write_length(headers: &mut HeaderMap) {
    let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    if let Some(length) = length.and_then(|length| length.parse::<u64>().ok()) {
        headers.insert(CONTENT_LENGTH, length.into());
    }
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

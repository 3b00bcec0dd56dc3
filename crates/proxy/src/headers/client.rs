//! What an origin is told of the client. Pure.
//!
//! A client has no address that anybody knows, and none is invented: there is
//! no `X-Forwarded-For`. What it says of itself in the fields by which proxies
//! speak of clients is taken out first, whatever the settings are, or it could
//! pass for somebody else.

use http::header::{FORWARDED, HeaderMap, HeaderName, HeaderValue};

use super::site::Site;
use crate::settings::HeaderSettings;
use crate::token;
use crate::visitor::Visitor;

/// What proxies say of clients, besides everything that begins with
/// `X-Forwarded`; other targets and hosts, by which a client could get past a
/// rule; and `Proxy`, which programs started by a web server take for the proxy
/// that they should use. Each also with `HTTP-` in front: some applications look
/// for a field of the name that only its variable has (`HTTP_CLIENT_IP`).
const ONLY_OF_PROXIES: &[&str] = &[
    "cdn-src-ip",
    "cf-connecting-ip",
    "cf-connecting-ipv6",
    "cf-pseudo-ipv4",
    "client-ip",
    "fastly-client-ip",
    "fly-client-ip",
    "forwarded",
    "forwarded-for",
    "proxy",
    "proxy-client-ip",
    "remote-addr",
    "true-client-ip",
    "wl-proxy-client-ip",
    "x-appengine-user-ip",
    "x-azure-clientip",
    "x-azure-socketip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-envoy-external-address",
    "x-host",
    "x-http-host-override",
    "x-original-forwarded-for",
    "x-original-host",
    "x-original-uri",
    "x-original-url",
    "x-originating-ip",
    "x-proxyuser-ip",
    "x-real-ip",
    "x-remote-addr",
    "x-remote-ip",
    "x-rewrite-url",
    "x-true-client-ip",
];

/// Takes out what a client must not say of itself, also under names that origins
/// can take for the same ([`token::plain`]).
pub(super) fn forget(settings: &HeaderSettings, headers: &mut HeaderMap) {
    let circuit_id = settings.circuit_id.as_deref().map(compared);
    let forged = |name: &&HeaderName| {
        let name = compared(name.as_str());
        name.starts_with(b"x-forwarded")
            || ONLY_OF_PROXIES.iter().any(|forged| forged.as_bytes() == name)
            || circuit_id.as_ref() == Some(&name)
    };
    let forged: Vec<HeaderName> = headers.keys().filter(forged).cloned().collect();
    for name in forged {
        headers.remove(name);
    }
}

/// A name as it is compared, without `http-` in front.
fn compared(name: &str) -> Vec<u8> {
    let name = name.as_bytes();
    let start = if token::plain(name).take(5).eq(*b"http-") { 5 } else { 0 };
    token::plain(&name[start..]).collect()
}

/// Says what the settings want to be said: how, for what site and on which
/// circuit the client has come.
pub(super) fn tell(
    settings: &HeaderSettings,
    visitor: &Visitor,
    site: &Site,
    headers: &mut HeaderMap,
) {
    if settings.x_forwarded {
        headers.insert("x-forwarded-proto", HeaderValue::from_static(site.scheme));
        headers.insert("x-forwarded-host", text(&site.host()));
        headers.insert("x-forwarded-port", site.port().into());
    }
    if settings.forwarded {
        // The client is an obfuscated identifier (RFC 7239, section 6.3): the
        // number of its circuit. The host is quoted, since it may hold a colon.
        let (circuit, host, scheme) = (visitor.circuit, site.host(), site.scheme);
        let value = format!("for=_c{circuit};host=\"{host}\";proto={scheme}");
        headers.insert(FORWARDED, text(&value));
    }
    if let Some(Ok(name)) = settings.circuit_id.as_ref().map(HeaderName::try_from) {
        headers.insert(name, visitor.circuit.into());
    }
}

/// The value of a field that is made of hosts: these are letters, digits and
/// punctuation.
pub(super) fn text(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

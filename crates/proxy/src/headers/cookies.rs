//! Rewrites the cookies that an origin sets (RFC 6265bis). Pure.

use http::header::{Entry, HeaderMap, SET_COOKIE};

use super::fields;
use super::names::Names;
use crate::settings::{HeaderSettings, SecureCookies};

/// Names that make a browser refuse a cookie without `Secure`, in any case
/// (section 4.1.3).
const SECURE_PREFIXES: [&str; 2] = ["__secure-", "__host-"];

/// Changes every cookie of a response.
pub(super) fn rewrite(settings: &HeaderSettings, names: &Names<'_>, headers: &mut HeaderMap) {
    let Entry::Occupied(mut cookies) = headers.entry(SET_COOKIE) else { return };
    for cookie in cookies.iter_mut() {
        fields::change(cookie, |text| {
            let mut parts = text.split(';');
            let name = parts.next().unwrap_or_default();
            let drop = settings.secure_cookies == SecureCookies::Drop && !names.by_https();
            let insecure = drop && !needs_secure(name);
            let mut changed = name.to_owned();
            for part in parts.filter(|part| !(insecure && is_of_secure(part))) {
                changed.push(';');
                changed.push_str(domain(names, part).as_deref().unwrap_or(part));
            }
            (changed != text).then_some(changed)
        });
    }
}

/// Whether a cookie has a name that demands `Secure`.
fn needs_secure(pair: &str) -> bool {
    let name = pair.trim_start().to_ascii_lowercase();
    SECURE_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// `Secure`, and what browsers accept only beside it.
fn is_of_secure(attribute: &str) -> bool {
    let (name, value) = attribute.split_once('=').unwrap_or((attribute, ""));
    match name.trim().to_ascii_lowercase().as_str() {
        "secure" | "partitioned" => true,
        "samesite" => value.trim().eq_ignore_ascii_case("none"),
        _ => false,
    }
}

/// ` Domain=example.com`, perhaps with a dot before the name. A browser refuses
/// a cookie for a public name from an onion service.
fn domain(names: &Names<'_>, attribute: &str) -> Option<String> {
    let (name, domain) = attribute.split_once('=')?;
    if !name.trim().eq_ignore_ascii_case("domain") {
        return None;
    }
    let domain = domain.trim();
    let (dot, domain) = match domain.strip_prefix('.') {
        Some(domain) => (".", domain),
        None => ("", domain),
    };
    Some(format!("{name}={dot}{}", names.domain(domain)?))
}

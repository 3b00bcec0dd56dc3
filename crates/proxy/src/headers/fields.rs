//! In which fields names stand, and how each writes them. Pure.
//!
//! The value of a field is taken as bytes, each a character of Latin-1, so that
//! what is no ASCII stays as it is.

use http::header::{Entry, HeaderMap, HeaderValue};

use super::names::Names;

/// How a field writes names.
#[derive(Clone, Copy)]
pub(super) enum Syntax {
    /// The value is a URI.
    Uri,
    /// URIs in angle brackets (RFC 8288, section 3; RFC 4918, section 10.4).
    Brackets,
    /// URIs in quotes, in structured fields (RFC 8941) or JSON.
    Quotes,
    /// Sources among other words (CSP Level 3, section 2.3.1).
    Sources,
    /// A number of seconds and `url=`, as browsers read it (HTML, section
    /// 4.2.5.3).
    Refresh,
    /// The attribute `Domain` of a cookie (RFC 6265, section 4.1.2.3).
    Cookie,
}

/// The fields of requests in which clients write onion names. The last two
/// are of WebDAV.
pub(super) const OF_REQUESTS: &[(&str, Syntax)] = &[
    ("origin", Syntax::Uri),
    ("referer", Syntax::Uri),
    ("destination", Syntax::Uri),
    ("if", Syntax::Brackets),
];

/// The fields of responses in which origins write their public names.
pub(super) const OF_RESPONSES: &[(&str, Syntax)] = &[
    ("location", Syntax::Uri),
    ("content-location", Syntax::Uri),
    ("sourcemap", Syntax::Uri),
    ("access-control-allow-origin", Syntax::Uri),
    ("timing-allow-origin", Syntax::Sources),
    ("content-security-policy", Syntax::Sources),
    ("content-security-policy-report-only", Syntax::Sources),
    ("permissions-policy", Syntax::Quotes),
    ("reporting-endpoints", Syntax::Quotes),
    ("report-to", Syntax::Quotes),
    ("link", Syntax::Brackets),
    ("refresh", Syntax::Refresh),
    ("set-cookie", Syntax::Cookie),
];

/// Changes the names in these fields. A value that would not be valid any more
/// stays as it is.
pub(super) fn rewrite(
    fields: &[(&'static str, Syntax)],
    names: &Names<'_>,
    headers: &mut HeaderMap,
) {
    for (name, syntax) in fields {
        let Entry::Occupied(mut field) = headers.entry(*name) else { continue };
        for value in field.iter_mut() {
            let text: String = value.as_bytes().iter().map(|byte| char::from(*byte)).collect();
            let Some(text) = syntax.rewrite(names, &text) else { continue };
            let bytes: Result<Vec<u8>, _> = text.chars().map(u8::try_from).collect();
            if let Some(changed) = bytes.ok().and_then(|bytes| HeaderValue::try_from(bytes).ok()) {
                *value = changed;
            }
        }
    }
}

impl Syntax {
    /// The value of a field with its names changed; `None` if there are none.
    fn rewrite(self, names: &Names<'_>, value: &str) -> Option<String> {
        match self {
            Self::Uri => names.uri(value),
            Self::Brackets => brackets(names, value),
            Self::Quotes => quotes(names, value),
            Self::Sources => sources(names, value),
            Self::Refresh => refresh(names, value),
            Self::Cookie => cookie(names, value),
        }
    }
}

/// Every `<URI>` that does not stand in quotes.
fn brackets(names: &Names<'_>, value: &str) -> Option<String> {
    let mut changed = String::new();
    let mut rest = value;
    while let Some(at) = rest.find(['<', '"']) {
        let (before, after) = rest.split_at(at + 1);
        changed.push_str(before);
        rest = after;
        if before.ends_with('"') {
            let (quoted, after) = rest.split_at(quotation(rest));
            changed.push_str(quoted);
            rest = after;
        } else {
            // Looked for once only: a value may hold nothing but brackets.
            let Some(end) = rest.find('>') else { break };
            let (uri, after) = rest.split_at(end);
            changed.push_str(names.uri(uri).as_deref().unwrap_or(uri));
            rest = after;
        }
    }
    changed.push_str(rest);
    (changed != value).then_some(changed)
}

/// Every quotation that is a URI.
fn quotes(names: &Names<'_>, value: &str) -> Option<String> {
    let mut changed = String::new();
    let mut rest = value;
    while let Some(at) = rest.find('"') {
        let (before, after) = rest.split_at(at + 1);
        let (quoted, after) = after.split_at(quotation(after));
        changed.push_str(before);
        match quoted.strip_suffix('"') {
            Some(uri) => {
                changed.push_str(names.uri(uri).as_deref().unwrap_or(uri));
                changed.push('"');
            }
            None => changed.push_str(quoted),
        }
        rest = after;
    }
    changed.push_str(rest);
    (changed != value).then_some(changed)
}

/// How long a quotation is, behind its first quote and with its last.
fn quotation(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Every word that is a source. Of a site that believes to be reached by HTTPS,
/// the words go out that have browsers ask for everything by it, and where it
/// allows any source by a secure scheme, the visitor's scheme is allowed beside.
fn sources(names: &Names<'_>, value: &str) -> Option<String> {
    let mut changed = String::new();
    for list in value.split_inclusive([';', ',']) {
        let lists = |source| words(list).any(|(word, _)| word.eq_ignore_ascii_case(source));
        let mut missing: Vec<_> =
            ANY_SECURE.into_iter().filter(|(_, plain)| !lists(plain)).collect();
        for (word, end) in words(list) {
            let is = |other: &str| names.hide_https() && word.eq_ignore_ascii_case(other);
            if !ONLY_BY_HTTPS.into_iter().any(is) {
                changed.push_str(names.source(word).as_deref().unwrap_or(word));
            }
            if let Some(at) = missing.iter().position(|(secure, _)| is(secure)) {
                changed.push(' ');
                changed.push_str(missing.remove(at).1);
            }
            changed.push_str(end);
        }
    }
    (changed != value).then_some(changed)
}

/// Directives that have browsers use HTTPS for everything, or nothing else.
const ONLY_BY_HTTPS: [&str; 2] = ["upgrade-insecure-requests", "block-all-mixed-content"];

/// Sources that allow every host by a secure scheme, and the same by plain HTTP,
/// by which visitors come, to any port of ours.
const ANY_SECURE: [(&str, &str); 4] =
    [("https:", "http:"), ("wss:", "ws:"), ("https://*", "http://*:*"), ("wss://*", "ws://*:*")];

/// The words of a list, each with what ends it.
fn words(list: &str) -> impl Iterator<Item = (&str, &str)> {
    let ends = |c: char| c.is_ascii_whitespace() || c == ';' || c == ',';
    list.split_inclusive(ends).map(move |word| word.split_at(word.find(ends).unwrap_or(word.len())))
}

/// The URI behind the seconds, with or without `url=` and quotes.
fn refresh(names: &Names<'_>, value: &str) -> Option<String> {
    let blank = |c: char| c.is_ascii_whitespace();
    let seconds = value.find([';', ',']).map(|end| end + 1)?;
    let target = value[seconds..].trim_start_matches(blank);
    let target = match target.get(..3).filter(|word| word.eq_ignore_ascii_case("url")) {
        Some(_) => match target[3..].trim_start_matches(blank).strip_prefix('=') {
            Some(target) => target.trim_start_matches(blank),
            None => target,
        },
        None => target,
    };
    let quote = target.chars().next().filter(|c| matches!(c, '"' | '\''));
    let target = quote.map_or(target, |quote| &target[quote.len_utf8()..]);
    let end = quote.and_then(|quote| target.find(quote)).unwrap_or(target.len());
    let start = value.len() - target.len();
    let uri = names.uri(&target[..end])?;
    Some(format!("{}{uri}{}", &value[..start], &target[end..]))
}

/// The domain that a cookie is for. A browser refuses a cookie for a public
/// name from an onion service.
fn cookie(names: &Names<'_>, value: &str) -> Option<String> {
    let mut parts = value.split(';');
    let mut changed = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        changed.push(';');
        changed.push_str(domain(names, part).as_deref().unwrap_or(part));
    }
    (changed != value).then_some(changed)
}

/// ` Domain=example.com`, perhaps with a dot before the name.
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
    Some(format!("{name}={dot}{}", names.partner(domain)?))
}

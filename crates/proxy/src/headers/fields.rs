//! In which fields names stand, and how each writes them. Pure.
//!
//! The value of a field is taken as bytes, each a character of Latin-1, so that
//! what is no ASCII stays as it is.

use http::header::{Entry, HeaderMap, HeaderName, HeaderValue, ORIGIN};

use super::names::Names;
use super::site::{FOREIGN, Sites, Translated};
use crate::settings::HeaderSettings;
use crate::visitor::Visitor;

/// How a field writes names.
#[derive(Clone, Copy)]
pub(super) enum Syntax {
    /// The value is a URI.
    Uri,
    /// URIs with blanks or commas between them, and other words.
    Words,
    /// URIs in angle brackets (RFC 8288, section 3; RFC 4918, section 10.4).
    Brackets,
    /// URIs in quotes, in structured fields (RFC 8941) or JSON.
    Quotes,
    /// A URI, or one in JSON.
    UriOrQuotes,
    /// Sources among other words (CSP Level 3, section 2.3.1).
    Sources,
    /// A number of seconds and `url=`, as browsers read it (HTML, section
    /// 4.2.5.3).
    Refresh,
    /// URIs among the parameters of a challenge (RFC 9110, section 11.6.1).
    Challenge,
    /// In any of these ways: a field of the operator's.
    Any,
}

/// The conditions of WebDAV (RFC 4918, section 10.4).
const IF: HeaderName = HeaderName::from_static("if");

/// The fields of requests in which clients write the URIs of sites, and whether
/// one that only passes for the site of the request is taken out. `destination`
/// and `if` are of WebDAV, the last ones of libraries for pages.
const OF_REQUESTS: &[(&str, bool)] = &[
    ("referer", true),
    ("destination", false),
    ("hx-current-url", true),
    ("ping-from", true),
    ("ping-to", false),
    ("turbo-referrer", true),
    ("turbolinks-referrer", true),
    ("x-xhr-referer", true),
];

/// The fields of responses in which origins write their names, in the order of
/// their names. Cookies are in [`cookies`](super::cookies).
const OF_RESPONSES: &[(&str, Syntax)] = &[
    ("access-control-allow-origin", Syntax::Words),
    ("activate-storage-access", Syntax::Quotes),
    ("alternates", Syntax::Quotes),
    ("attribution-reporting-register-source", Syntax::Quotes),
    ("attribution-reporting-register-trigger", Syntax::Quotes),
    ("azure-asyncoperation", Syntax::Uri),
    ("content-base", Syntax::Uri),
    ("content-location", Syntax::Uri),
    ("content-security-policy", Syntax::Sources),
    ("content-security-policy-report-only", Syntax::Sources),
    ("cross-origin-embedder-policy", Syntax::Quotes),
    ("cross-origin-embedder-policy-report-only", Syntax::Quotes),
    ("cross-origin-opener-policy", Syntax::Quotes),
    ("cross-origin-opener-policy-report-only", Syntax::Quotes),
    ("dav", Syntax::Brackets),
    ("destination", Syntax::Uri),
    ("document-policy", Syntax::Quotes),
    ("document-policy-report-only", Syntax::Quotes),
    ("expect-ct", Syntax::Quotes),
    ("feature-policy", Syntax::Sources),
    ("hx-location", Syntax::UriOrQuotes),
    ("hx-push", Syntax::Uri),
    ("hx-push-url", Syntax::Uri),
    ("hx-redirect", Syntax::Uri),
    ("hx-replace-url", Syntax::Uri),
    ("hx-trigger", Syntax::Quotes),
    ("hx-trigger-after-settle", Syntax::Quotes),
    ("hx-trigger-after-swap", Syntax::Quotes),
    ("link", Syntax::Brackets),
    ("link-template", Syntax::Quotes),
    ("location", Syntax::Uri),
    ("nel", Syntax::Quotes),
    ("odata-entityid", Syntax::Uri),
    ("onion-location", Syntax::Uri),
    ("operation-location", Syntax::Uri),
    ("p3p", Syntax::Quotes),
    ("permissions-policy", Syntax::Quotes),
    ("permissions-policy-report-only", Syntax::Quotes),
    ("public-key-pins", Syntax::Quotes),
    ("refresh", Syntax::Refresh),
    ("report-to", Syntax::Quotes),
    ("reporting-endpoints", Syntax::Quotes),
    ("sec-session-registration", Syntax::Quotes),
    ("sec-websocket-location", Syntax::Uri),
    ("sec-websocket-origin", Syntax::Uri),
    ("service-worker-allowed", Syntax::Uri),
    ("sourcemap", Syntax::Uri),
    ("speculation-rules", Syntax::Quotes),
    ("timing-allow-origin", Syntax::Words),
    ("turbo-location", Syntax::Uri),
    ("turbolinks-location", Syntax::Uri),
    ("uri", Syntax::Brackets),
    ("use-as-dictionary", Syntax::Quotes),
    ("www-authenticate", Syntax::Challenge),
    ("x-action-redirect", Syntax::Uri),
    ("x-amz-website-redirect-location", Syntax::Uri),
    ("x-content-security-policy", Syntax::Sources),
    ("x-frame-options", Syntax::Words),
    ("x-goog-upload-control-url", Syntax::Uri),
    ("x-goog-upload-url", Syntax::Uri),
    ("x-inertia-location", Syntax::Uri),
    ("x-location", Syntax::Uri),
    ("x-middleware-rewrite", Syntax::Uri),
    ("x-nextjs-redirect", Syntax::Uri),
    ("x-nextjs-rewrite", Syntax::Uri),
    ("x-pingback", Syntax::Uri),
    ("x-pjax-url", Syntax::Uri),
    ("x-redirect", Syntax::Uri),
    ("x-redirect-to", Syntax::Uri),
    ("x-redirect-url", Syntax::Uri),
    ("x-remix-redirect", Syntax::Uri),
    ("x-sourcemap", Syntax::Uri),
    ("x-turbolinks-location", Syntax::Uri),
    ("x-up-location", Syntax::Uri),
    ("x-webkit-csp", Syntax::Sources),
    ("x-xhr-redirected-to", Syntax::Uri),
];

/// Whether a field of answers is translated.
pub(super) fn is_translated_in_answers(settings: &HeaderSettings, name: &str) -> bool {
    name == "set-cookie" || syntax(settings, name).is_some()
}

/// How a field of answers, in small letters, writes names, if it does.
fn syntax(settings: &HeaderSettings, name: &str) -> Option<Syntax> {
    match OF_RESPONSES.binary_search_by_key(&name, |(known, _)| known) {
        Ok(at) => OF_RESPONSES.get(at).map(|(_, syntax)| *syntax),
        Err(_) => {
            let theirs = settings.url_fields.iter().any(|own| own.eq_ignore_ascii_case(name));
            theirs.then_some(Syntax::Any)
        }
    }
}

/// Whether a field is among those that are translated in any case.
pub fn is_translated(name: &str) -> bool {
    let is = |other: &str| name.eq_ignore_ascii_case(other);
    ["origin", "if", "set-cookie"].into_iter().any(is)
        || OF_REQUESTS.iter().any(|(other, _)| is(other))
        || OF_RESPONSES.iter().any(|(other, _)| is(other))
}

/// All of them.
#[cfg(test)]
pub(super) fn known() -> impl Iterator<Item = &'static str> {
    let requests = OF_REQUESTS.iter().map(|(name, _)| *name);
    ["origin", "if", "set-cookie"]
        .into_iter()
        .chain(requests)
        .chain(OF_RESPONSES.iter().map(|(name, _)| *name))
}

/// Changes the names in the fields of a response.
pub(super) fn rewrite(settings: &HeaderSettings, names: &Names<'_>, headers: &mut HeaderMap) {
    for (name, value) in headers.iter_mut() {
        if let Some(syntax) = syntax(settings, name.as_str()) {
            change(value, |text| syntax.rewrite(names, text));
        }
    }
}

/// Changes the sites in the fields of a request to those that the origin knows.
/// What passes for the site of the request, and is not, is foreign.
pub(super) fn translate(
    settings: &HeaderSettings,
    visitor: &Visitor,
    sites: &Sites,
    headers: &mut HeaderMap,
) {
    let translate = |uri: &str| sites.translate(settings, visitor, uri);
    let to = |uri: &str| match translate(uri) {
        Translated::To(uri) => Some(uri),
        Translated::Same | Translated::Foreign => None,
    };
    for value in values(headers, &ORIGIN) {
        change(value, |text| match translate(text) {
            Translated::Same => None,
            Translated::To(origin) => Some(origin),
            Translated::Foreign => Some(FOREIGN.to_owned()),
        });
    }
    for value in values(headers, &IF) {
        change(value, |text| brackets(to, text));
    }
    let present: Vec<(HeaderName, bool)> = headers
        .keys()
        .filter_map(|name| Some((name.clone(), is_forgeable(settings, name.as_str())?)))
        .collect();
    for (name, forgeable) in present {
        let foreign = values(headers, &name)
            .any(|value| matches!(translate(&latin1(value)), Translated::Foreign));
        if forgeable && foreign {
            // As if the client had been told to send none, which anybody can do.
            headers.remove(name);
            continue;
        }
        for value in values(headers, &name) {
            change(value, to);
        }
    }
}

/// Whether a field of a request in which sites are translated is taken out if it
/// is forged; `None` of all others.
fn is_forgeable(settings: &HeaderSettings, name: &str) -> Option<bool> {
    let known =
        OF_REQUESTS.iter().find(|(known, _)| *known == name).map(|(_, forgeable)| *forgeable);
    let theirs = || settings.url_fields.iter().any(|own| own.eq_ignore_ascii_case(name));
    known.or_else(|| theirs().then_some(false))
}

/// The values of a field.
fn values<'a>(
    headers: &'a mut HeaderMap,
    name: &HeaderName,
) -> impl Iterator<Item = &'a mut HeaderValue> {
    // Most are not there, which costs less than an entry.
    let field = match headers.contains_key(name).then(|| headers.entry(name)) {
        Some(Entry::Occupied(field)) => Some(field.into_iter()),
        _ => None,
    };
    field.into_iter().flatten()
}

/// Changes a value; one that would not be valid any more stays as it is.
pub(super) fn change(value: &mut HeaderValue, change: impl FnOnce(&str) -> Option<String>) {
    let Some(text) = change(&latin1(value)) else { return };
    let bytes: Result<Vec<u8>, _> = text.chars().map(u8::try_from).collect();
    if let Some(changed) = bytes.ok().and_then(|bytes| HeaderValue::try_from(bytes).ok()) {
        *value = changed;
    }
}

fn latin1(value: &HeaderValue) -> String {
    value.as_bytes().iter().map(|byte| char::from(*byte)).collect()
}

impl Syntax {
    /// The value of a field with its names changed; `None` if there are none.
    fn rewrite(self, names: &Names<'_>, value: &str) -> Option<String> {
        let uri = |uri: &str| names.uri(uri);
        match self {
            Self::Uri => uri(value),
            Self::Words => in_words(uri, value),
            Self::Brackets => brackets(uri, value),
            Self::Quotes => quotes(|_, text| uri(text), value),
            Self::UriOrQuotes if value.trim_start().starts_with('{') => {
                Self::Quotes.rewrite(names, value)
            }
            Self::UriOrQuotes => uri(value),
            Self::Sources => sources(names, value),
            Self::Refresh => refresh(names, value),
            Self::Challenge => challenge(uri, value),
            Self::Any => {
                let syntax = match value.trim_start().chars().next() {
                    Some('<') => Self::Brackets,
                    _ if value.contains('"') => Self::Quotes,
                    _ => Self::Words,
                };
                syntax.rewrite(names, value)
            }
        }
    }
}

/// Every word that is a URI.
fn in_words(uri: impl Fn(&str) -> Option<String>, value: &str) -> Option<String> {
    let mut changed = String::new();
    for (word, end) in words(value) {
        changed.push_str(uri(word).as_deref().unwrap_or(word));
        changed.push_str(end);
    }
    (changed != value).then_some(changed)
}

/// Every word that is a URI, or has one for the value of a parameter without quotes.
fn in_parameters(change: impl Fn(&str, &str) -> Option<String>, value: &str, changed: &mut String) {
    for (word, end) in words(value) {
        // A URI may have a query with such a sign.
        let (name, uri) = match word.split_once('=').filter(|(name, _)| !name.contains(':')) {
            Some((name, uri)) => (name, uri),
            None => ("", word),
        };
        let uri_changed = change(name, uri);
        changed.push_str(&word[..word.len() - uri.len()]);
        changed.push_str(uri_changed.as_deref().unwrap_or(uri));
        changed.push_str(end);
    }
}

/// The name of the parameter of which the value follows.
fn parameter(before: &str) -> &str {
    let before = before.trim_end_matches(['"', '=', ' ', '\t']);
    before.rsplit([' ', '\t', ',', ';']).next().unwrap_or_default()
}

/// Every URI in the parameters of challenges; of those of `Digest` save its realm, over
/// which the client computes its answer.
fn challenge(uri: impl Fn(&str) -> Option<String>, value: &str) -> Option<String> {
    let digest = value.split([' ', ',']).any(|word| word.eq_ignore_ascii_case("digest"));
    let hashed = |name: &str| digest && name.eq_ignore_ascii_case("realm");
    quotes(|name, text| if hashed(name) { None } else { in_words(&uri, text) }, value)
}

/// Every `<URI>`, what stands in the place of one without brackets, and of the parameters
/// that have names of our own the page that a link is said to begin from (RFC 8288, section
/// 3.2) and its images (HTML, section 4.2.4.2).
fn brackets(change: impl Fn(&str) -> Option<String>, value: &str) -> Option<String> {
    let mut changed = String::new();
    let mut rest = value;
    let in_parameter = |name: &str, value: &str| {
        if name.is_empty() || name.eq_ignore_ascii_case("anchor") {
            change(value)
        } else if name.eq_ignore_ascii_case("imagesrcset") {
            in_words(&change, value)
        } else {
            None
        }
    };
    while let Some(at) = rest.find(['<', '"']) {
        let (before, after) = rest.split_at(at);
        in_parameters(in_parameter, before, &mut changed);
        let (sign, after) = after.split_at(1);
        changed.push_str(sign);
        rest = after;
        if sign == "\"" {
            let (quoted, after) = rest.split_at(quotation(rest));
            let name = parameter(before);
            let text = quoted.strip_suffix('"').filter(|_| !name.is_empty());
            match text.and_then(|text| in_parameter(name, text)) {
                Some(text) => changed.extend([text.as_str(), "\""]),
                None => changed.push_str(quoted),
            }
            rest = after;
        } else {
            // Looked for once only: a value may hold nothing but brackets.
            let Some(end) = rest.find('>') else { break };
            let (uri, after) = rest.split_at(end);
            changed.push_str(change(uri).as_deref().unwrap_or(uri));
            rest = after;
        }
    }
    in_parameters(in_parameter, rest, &mut changed);
    (changed != value).then_some(changed)
}

/// Every quotation, and every word outside, by the parameter that it is the value of, if it
/// is, and by itself.
fn quotes(change: impl Fn(&str, &str) -> Option<String>, value: &str) -> Option<String> {
    let mut changed = String::new();
    let mut rest = value;
    while let Some(at) = rest.find('"') {
        let (before, after) = rest.split_at(at);
        in_parameters(&change, before, &mut changed);
        let (quoted, after) = after[1..].split_at(quotation(&after[1..]));
        changed.push('"');
        match quoted.strip_suffix('"') {
            Some(uri) => {
                // JSON may write a slash as `\/`.
                let plain = uri.replace("\\/", "/");
                let name = parameter(before);
                changed.push_str(change(name, &plain).as_deref().unwrap_or(uri));
                changed.push('"');
            }
            None => changed.push_str(quoted),
        }
        rest = after;
    }
    in_parameters(&change, rest, &mut changed);
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

/// The URI behind the seconds, with or without `url=` and quotes: the steps of HTML
/// (section 4.2.5.3, "shared declarative refresh").
fn refresh(names: &Names<'_>, value: &str) -> Option<String> {
    let blank = |c: char| c.is_ascii_whitespace();
    let digits = |c: char| c.is_ascii_digit();
    let seconds = value.trim_start_matches(blank);
    let behind = seconds.trim_start_matches(digits);
    if behind.len() == seconds.len() && !behind.starts_with('.') {
        return None;
    }
    let behind = behind.trim_start_matches(|c| digits(c) || c == '.');
    if !behind.starts_with(|c| blank(c) || matches!(c, ';' | ',')) {
        return None;
    }
    let target = behind.trim_start_matches(blank);
    let target = target.strip_prefix([';', ',']).unwrap_or(target).trim_start_matches(blank);
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

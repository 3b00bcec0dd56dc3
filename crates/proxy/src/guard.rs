//! Which requests are refused before anything else is done with them. Pure.
//!
//! It sees a request as the client has sent it, in any version of HTTP, before
//! anything in it is changed, and holds the same against all of them ([`form`]).
//! What of HTTP/1 does not show in a parsed head, such as its line ends, is refused
//! before; what shows only while a body arrives, such as its length when none was
//! announced, is for who reads the body.

mod form;
mod path;
mod rules;

use http::header::{CONTENT_LENGTH, EXPECT, HOST, MAX_FORWARDS, TRANSFER_ENCODING};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};

use super::failure::Failure;
use super::host::{self, Host};
use super::settings::{AllowedHost, GuardSettings};
use super::token;
use rules::Rules;

/// The longest target of a request, in bytes, in any version of HTTP. hyper has a
/// limit of its own above this one, for HTTP/1.
pub const LONGEST_TARGET: usize = 16 * 1024;

/// What a field adds to the length of a head besides its name and value.
const FIELD_SYNTAX: usize = ": \r\n".len();

/// The status for methods that are never led on.
const METHOD_NOT_ALLOWED: u16 = 405;

/// Methods that are never led on, in capitals: the first would make an open relay
/// of an origin, the next two show what the proxy has added, and the last begins
/// HTTP/2 (RFC 9113, section 11.6).
const NEVER: [&str; 4] = ["CONNECT", "TRACE", "TRACK", "PRI"];

/// The status for what is expected other than `100-continue` (RFC 9110, section
/// 10.1.1).
const EXPECTATION_FAILED: u16 = 417;

/// The status for hosts that are not served here (RFC 9110, section 15.5.20).
const MISDIRECTED: u16 = 421;

/// What stands before the origins of one virtual port.
pub struct Guard {
    /// What the operator wants.
    settings: GuardSettings,
    /// The operator's rules, made ready.
    rules: Rules,
}

impl Guard {
    /// One that refuses what these settings say.
    pub fn new(settings: &GuardSettings) -> Self {
        Self { settings: settings.clone(), rules: Rules::new(&settings.block) }
    }

    /// Whether a request to the service with the address `own` may go on to an
    /// origin; and the host that it is for, unless it names none.
    ///
    /// Besides what the settings refuse, these are always refused: what is
    /// longer than the limits; what would be another head in another version of
    /// HTTP; what has no host, two, or none that is one; what says twice, or in
    /// disguise, how long its body is; other forms of a target than a path, an
    /// `http` URI, or `*` for `OPTIONS`; `CONNECT`, `TRACE` and their like (405);
    /// and what expects anything but `100-continue` (417).
    ///
    /// # Errors
    ///
    /// Why the request is refused.
    pub fn check<'a>(&self, own: &str, request: &'a Parts) -> Result<Option<Host<'a>>, Failure> {
        let host = acceptable(&self.settings, own, request)?;
        self.rules.status(request, host).map_or(Ok(host), |status| Err(Failure::Blocked(status)))
    }
}

/// Whether a request may go on with these trailers: they must not say what only a
/// head may, how long the message is and whom it is for.
///
/// # Errors
///
/// `Malformed`, if they do.
pub fn trailers(trailers: &HeaderMap) -> Result<(), Failure> {
    let proper = |name: &HeaderName| *name != HOST && !is_of_framing(name);
    if trailers.keys().all(proper) { Ok(()) } else { Err(Failure::Malformed) }
}

/// The host that a request is for, unless it is refused whatever the rules are.
fn acceptable<'a>(
    settings: &GuardSettings,
    own: &str,
    request: &'a Parts,
) -> Result<Option<Host<'a>>, Failure> {
    within_limits(settings, request)?;
    // Some servers do not tell methods apart by case.
    let is = |method: &&str| request.method.as_str().eq_ignore_ascii_case(method);
    if NEVER.iter().any(is) || is_for_us(request) {
        return Err(Failure::Blocked(METHOD_NOT_ALLOWED));
    }
    if !form::is_proper(request) {
        return Err(Failure::Malformed);
    }
    let host = only_host(request)?;
    body_fits(settings, &request.headers)?;
    if expects_more(&request.headers) {
        return Err(Failure::Blocked(EXPECTATION_FAILED));
    }
    if settings.block_tor2web && is_of_a_gateway(&request.headers, host) {
        return Err(Failure::Tor2web);
    }
    // Who names no host gets the own one.
    let name = host.map_or(own, |host| host.name);
    if !settings.allowed_hosts.as_ref().is_none_or(|allowed| is_among(allowed, own, name)) {
        return Err(Failure::Blocked(MISDIRECTED));
    }
    Ok(host)
}

fn within_limits(settings: &GuardSettings, request: &Parts) -> Result<(), Failure> {
    let uri = &request.uri;
    let scheme = uri.scheme_str().map_or(0, |scheme| scheme.len() + "://".len());
    let authority = uri.authority().map_or(0, |authority| authority.as_str().len());
    let path = uri.path_and_query().map_or(0, |path| path.as_str().len());
    let target = scheme + authority + path;
    if target > LONGEST_TARGET {
        return Err(Failure::TargetTooLong);
    }
    let field = |(name, value): (&HeaderName, &HeaderValue)| {
        name.as_str().len() + value.len() + FIELD_SYNTAX
    };
    let fields: usize = request.headers.iter().map(field).sum();
    let head = request.method.as_str().len() + target + fields;
    if request.headers.len() > settings.max_headers || head > settings.max_head_bytes {
        return Err(Failure::HeadTooLarge);
    }
    Ok(())
}

/// Whether a request must not be led on, but be answered by who has it now
/// (RFC 9110, section 7.6.2).
fn is_for_us(request: &Parts) -> bool {
    request.method == Method::OPTIONS
        && request.headers.get(MAX_FORWARDS).is_some_and(|left| left.as_bytes() == b"0")
}

/// The host that a request is for; nothing for one of HTTP/1.0 that names none.
fn only_host(request: &Parts) -> Result<Option<Host<'_>>, Failure> {
    let mut fields = request.headers.get_all(HOST).iter();
    let field = fields.next();
    if fields.next().is_some() {
        return Err(Failure::Malformed);
    }
    let text = field.map(|field| field.to_str().map_err(|_| Failure::Malformed)).transpose()?;
    let authority = request.uri.authority().map(Authority::as_str);
    let named = match (authority, text) {
        // The target counts more than the field, but some would look at the field.
        (Some(named), Some(field)) if !named.eq_ignore_ascii_case(field) => {
            return Err(Failure::Malformed);
        }
        // In HTTP/2 the target is enough.
        (Some(named), None) if request.version != Version::HTTP_11 => named,
        (_, Some(named)) => named,
        (_, None) if request.version == Version::HTTP_10 => return Ok(None),
        (_, None) => return Err(Failure::Malformed),
    };
    Host::parse(named).map(Some).ok_or(Failure::Malformed)
}

/// The announced length of the body: one number, and not beyond the limit. An
/// origin that takes one name for another must not find another one.
fn body_fits(settings: &GuardSettings, headers: &HeaderMap) -> Result<(), Failure> {
    let disguised = |name: &HeaderName| {
        !matches!(*name, CONTENT_LENGTH | TRANSFER_ENCODING) && is_of_framing(name)
    };
    if headers.keys().any(disguised) {
        return Err(Failure::Malformed);
    }
    let mut announced = headers.get_all(CONTENT_LENGTH).iter();
    let Some(length) = announced.next() else { return Ok(()) };
    let length = token::length(length.as_bytes()).ok_or(Failure::Malformed)?;
    if announced.next().is_some() || headers.contains_key(TRANSFER_ENCODING) {
        return Err(Failure::Malformed);
    }
    match settings.max_body_bytes {
        Some(most) if length > most => Err(Failure::BodyTooLarge),
        _ => Ok(()),
    }
}

/// Whether a field of this name says how long a message is, or would say so to
/// an origin that takes one name for another ([`token::plain`]).
fn is_of_framing(name: &HeaderName) -> bool {
    let plain = token::plain(name.as_str().as_bytes());
    plain.clone().eq(*b"content-length") || plain.eq(*b"transfer-encoding")
}

/// Whether a client waits for something that nobody here can promise. That the
/// body may come, it is told here.
fn expects_more(headers: &HeaderMap) -> bool {
    headers.get_all(EXPECT).iter().any(|value| {
        let mut members = value.as_bytes().split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
        !members.all(|member| member.is_empty() || member.eq_ignore_ascii_case(b"100-continue"))
    })
}

/// Whether a request came through a Tor2web gateway. Gateways say so with
/// `X-Tor2web`, or give away the name by which they were asked: a host other
/// than an onion address, in `Host` or in `X-Forwarded-Host`.
fn is_of_a_gateway(headers: &HeaderMap, host: Option<Host<'_>>) -> bool {
    let is_onion = |name: &str| host::below(name, "onion").is_some_and(|labels| !labels.is_empty());
    let is_its_own = |name: &HeaderName| token::plain(name.as_str().as_bytes()).eq(*b"x-tor2web");
    let says_so = headers.keys().any(is_its_own);
    let asked_for = headers.get_all("x-forwarded-host").iter().any(|value| {
        let mut hosts = value.to_str().unwrap_or_default().split(',').map(str::trim);
        !hosts.all(|host| Host::parse(host).is_some_and(|host| is_onion(host.name)))
    });
    says_so || asked_for || host.is_some_and(|host| !is_onion(host.name))
}

/// Whether a host is one of these or below one.
fn is_among(allowed: &[AllowedHost], own: &str, name: &str) -> bool {
    let domain = |allowed| match allowed {
        &AllowedHost::Own => own,
        AllowedHost::Named(domain) => domain,
    };
    allowed.iter().map(domain).any(|domain| host::below(name, domain).is_some())
}

#[cfg(test)]
mod tests {
    use http::Request;
    use http::header::USER_AGENT;

    use super::*;
    use crate::settings::BlockRule;

    const ONION: &str = "abcdefghijklmnopqrstuvwxyz234567abcdefghijklmnopqrstuvwx.onion";

    fn get(target: &str) -> Parts {
        let (mut parts, ()) = Request::get(target).body(()).unwrap().into_parts();
        let host = parts.uri.authority().map_or(ONION, Authority::as_str).parse().unwrap();
        parts.headers.insert(HOST, host);
        parts
    }

    fn with(fields: &[(&str, &str)]) -> Parts {
        let mut parts = get("/");
        for (name, value) in fields {
            parts.headers.append(
                HeaderName::try_from(*name).unwrap(),
                HeaderValue::from_str(value).unwrap(),
            );
        }
        parts
    }

    fn asked_as(host: &str) -> Parts {
        let mut parts = get("/");
        parts.headers.insert(HOST, HeaderValue::from_bytes(host.as_bytes()).unwrap());
        parts
    }

    fn checked(settings: &GuardSettings, request: &Parts) -> Option<Failure> {
        Guard::new(settings).check(ONION, request).err()
    }

    fn default(request: &Parts) -> Option<Failure> {
        checked(&GuardSettings::default(), request)
    }

    fn blocks(rule: &BlockRule, request: &Parts) -> bool {
        let block = vec![BlockRule { status: 403, ..rule.clone() }];
        let settings = GuardSettings { block, ..GuardSettings::default() };
        match checked(&settings, request) {
            None => false,
            Some(Failure::Blocked(403)) => true,
            Some(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_ordinary_request_passes() {
        assert_eq!(default(&get("/")), None);
        assert_eq!(default(&get("/a?b=c")), None);
        assert_eq!(default(&with(&[("content-length", "12")])), None);
        assert_eq!(default(&get(&format!("http://{ONION}/a"))), None, "also as a whole URI");
    }

    #[test]
    fn a_request_without_one_valid_host_is_malformed() {
        for host in ["", "a b", "user@a", "a/b", "a,b", "a:b", "..", "a\u{e4}"] {
            assert_eq!(default(&asked_as(host)), Some(Failure::Malformed), "{host}");
        }
        assert_eq!(default(&with(&[("host", ONION)])), Some(Failure::Malformed), "twice the same");
        let mut without = get("/");
        without.headers.remove(HOST);
        assert_eq!(default(&without), Some(Failure::Malformed));
        without.version = Version::HTTP_2;
        assert_eq!(default(&without), Some(Failure::Malformed));
        without.version = Version::HTTP_10;
        assert_eq!(default(&without), None, "HTTP/1.0 knows no host");
    }

    #[test]
    fn a_target_and_a_host_that_disagree_are_malformed() {
        let mut request = get(&format!("http://{ONION}/"));
        request.headers.insert(HOST, "other.onion".parse().unwrap());
        assert_eq!(default(&request), Some(Failure::Malformed));
        for other in [format!("{ONION}:81"), format!("{ONION}."), format!("{ONION}:")] {
            request.headers.insert(HOST, other.parse().unwrap());
            assert_eq!(default(&request), Some(Failure::Malformed), "{other}");
        }
        request.headers.insert(HOST, ONION.to_uppercase().parse().unwrap());
        assert_eq!(default(&request), None);
    }

    #[test]
    fn only_paths_uris_of_http_and_the_asterisk_of_options_are_targets() {
        let mut asterisk = get("*");
        assert_eq!(default(&asterisk), Some(Failure::Malformed));
        asterisk.method = Method::OPTIONS;
        assert_eq!(default(&asterisk), None);
        assert_eq!(default(&get("abc.onion:80")), Some(Failure::Malformed), "an authority");
        assert_eq!(default(&get("ftp://abc.onion/")), Some(Failure::Malformed));
    }

    #[test]
    fn connect_and_trace_are_never_led_on() {
        for method in ["CONNECT", "TRACE", "connect", "Trace", "TRACK", "PRI"] {
            let mut request = get("/");
            request.method = Method::from_bytes(method.as_bytes()).unwrap();
            assert_eq!(default(&request), Some(Failure::Blocked(405)));
        }
    }

    #[test]
    fn options_that_may_go_no_further_do_not() {
        let mut request = with(&[("max-forwards", "0")]);
        assert_eq!(default(&request), None, "it means nothing for other methods");
        request.method = Method::OPTIONS;
        assert_eq!(default(&request), Some(Failure::Blocked(405)));
        request.headers.insert(MAX_FORWARDS, HeaderValue::from_static("1"));
        assert_eq!(default(&request), None);
    }

    #[test]
    fn what_expects_anything_but_to_be_told_to_go_on_is_refused() {
        for value in ["100-continue", "100-Continue", "100-continue, 100-continue", "", ","] {
            assert_eq!(default(&with(&[("expect", value)])), None, "{value}");
        }
        for value in ["200-ok", "100-continue, x", "100-continue;q=1", "100"] {
            let refused = default(&with(&[("expect", value)]));
            assert_eq!(refused, Some(Failure::Blocked(417)), "{value}");
        }
    }

    #[test]
    fn trailers_that_say_what_only_a_head_may_are_malformed() {
        for name in ["host", "content-length", "transfer-encoding", "content_length", "Host"] {
            let mut headers = with(&[(name, "1")]).headers;
            if !name.eq_ignore_ascii_case("host") {
                headers.remove(HOST);
            }
            let refused = trailers(&headers);
            assert_eq!(refused, Err(Failure::Malformed), "{name}");
        }
        let mut others = with(&[("x-sum", "1"), ("content-md5", "x")]).headers;
        others.remove(HOST);
        assert_eq!(trailers(&others), Ok(()));
    }

    #[test]
    fn in_http_1_1_the_host_is_a_field_whatever_the_target_says() {
        let mut request = get(&format!("http://{ONION}/"));
        assert_eq!(default(&request), None);
        request.headers.remove(HOST);
        assert_eq!(default(&request), Some(Failure::Malformed));
        for version in [Version::HTTP_10, Version::HTTP_2] {
            request.version = version;
            assert_eq!(default(&request), None, "{version:?}");
        }
    }

    #[test]
    fn a_body_with_two_lengths_is_malformed() {
        for fields in [
            [("content-length", "1"), ("content-length", "2")],
            [("content-length", "1"), ("content-length", "1")],
            [("content-length", "1"), ("transfer-encoding", "chunked")],
            [("content-length", "+1"), ("x", "y")],
            [("content-length", "1, 1"), ("x", "y")],
            [("content-length", ""), ("x", "y")],
            [("content_length", "1"), ("x", "y")],
            [("content.length", "1"), ("x", "y")],
            [("transfer_encoding", "chunked"), ("x", "y")],
            [("content-length", "99999999999999999999"), ("x", "y")],
            [("content-length", "1000000000000000000"), ("x", "y")],
        ] {
            assert_eq!(default(&with(&fields)), Some(Failure::Malformed), "{fields:?}");
        }
    }

    #[test]
    fn what_is_too_long_or_too_much_is_refused_by_what_it_is() {
        let long = "a".repeat(LONGEST_TARGET);
        assert_eq!(default(&get(&format!("/{}", &long[1..]))), None);
        assert_eq!(default(&get(&format!("/{long}"))), Some(Failure::TargetTooLong));
        assert_eq!(default(&with(&[("x", "y"); 99])), None, "with the host that is a hundred");
        assert_eq!(default(&with(&[("x", "y"); 100])), Some(Failure::HeadTooLarge));
        let value = "v".repeat(64 * 1024);
        assert_eq!(default(&with(&[("x", value.as_str())])), Some(Failure::HeadTooLarge));
        let settings = GuardSettings { max_body_bytes: Some(10), ..GuardSettings::default() };
        let length = |length| checked(&settings, &with(&[("content-length", length)]));
        assert_eq!(length("10"), None);
        assert_eq!(length("11"), Some(Failure::BodyTooLarge));
        assert_eq!(default(&with(&[("content-length", "99999999999")])), None);
    }

    #[test]
    fn what_comes_through_a_gateway_is_refused_where_that_is_wanted() {
        let settings = GuardSettings { block_tor2web: true, ..GuardSettings::default() };
        let through = |request: &Parts| checked(&settings, request) == Some(Failure::Tor2web);
        for request in [
            with(&[("x-tor2web", "1")]),
            with(&[("X-TOR2WEB", "encrypted")]),
            with(&[("x_tor2web", "")]),
            with(&[("x.tor2web", "")]),
            with(&[("x-forwarded-host", "abc.onion.ws")]),
            with(&[("x-forwarded-host", "abc.onion, abc.onion.to")]),
            asked_as("abc.onion.to"),
            asked_as("abc.tor2web.io:443"),
            asked_as("127.0.0.1"),
            asked_as("notonion"),
            asked_as("onion"),
        ] {
            assert!(through(&request), "{:?}", request.headers);
            assert_eq!(default(&request), None, "it is led on where it is not refused");
        }
        for request in [
            asked_as(ONION),
            asked_as(&format!("www.{ONION}:8080")),
            asked_as("ABC.ONION."),
            with(&[("x-forwarded-host", "abc.onion")]),
        ] {
            assert!(!through(&request), "{:?}", request.headers);
        }
    }

    #[test]
    fn where_hosts_are_listed_no_other_one_is_asked_for() {
        let allowed = vec![AllowedHost::Own, AllowedHost::Named("cdn.example".into())];
        let settings = GuardSettings { allowed_hosts: Some(allowed), ..GuardSettings::default() };
        let mut nameless = get("/");
        nameless.headers.remove(HOST);
        nameless.version = Version::HTTP_10;
        for request in [
            get("/"),
            asked_as(&format!("www.{ONION}:80")),
            asked_as("CDN.example."),
            nameless.clone(),
        ] {
            assert_eq!(checked(&settings, &request), None, "{:?}", request.headers);
        }
        for host in ["intern.example", "localhost", "127.0.0.1", "notcdn.example", "[::1]"] {
            let refused = checked(&settings, &asked_as(host));
            assert_eq!(refused, Some(Failure::Blocked(421)), "{host}");
            assert_eq!(default(&asked_as(host)), None, "{host}");
        }
        let allowed_hosts = Some(vec![AllowedHost::Named("cdn.example".into())]);
        let settings = GuardSettings { allowed_hosts, ..GuardSettings::default() };
        assert_eq!(checked(&settings, &nameless), Some(Failure::Blocked(421)));
    }

    #[test]
    fn a_rule_refuses_what_everything_in_it_applies_to() {
        let rule = BlockRule {
            host: Some("abc.onion".into()),
            path: Some("/admin".into()),
            methods: vec!["POST".into(), "PUT".into()],
            user_agent: Some("BadBot".into()),
            status: 0,
        };
        let mut request = get("/x/../%61dmin/y?z");
        request.method = Method::PUT;
        request.headers.insert(HOST, "Www.Abc.onion:80".parse().unwrap());
        request.headers.insert(USER_AGENT, "Mozilla (badBOT/1.0)".parse().unwrap());
        assert!(blocks(&rule, &request));

        let mut other = request.clone();
        other.headers.insert(HOST, "notabc.onion".parse().unwrap());
        assert!(!blocks(&rule, &other), "another host");
        let mut other = request.clone();
        other.uri = "/administrator?/admin".parse().unwrap();
        assert!(!blocks(&rule, &other), "another path");
        let mut other = request.clone();
        other.method = Method::GET;
        assert!(!blocks(&rule, &other), "another method");
        let mut other = request.clone();
        other.headers.remove(USER_AGENT);
        assert!(!blocks(&rule, &other), "another program");
    }

    #[test]
    fn capitals_and_small_letters_do_not_slip_through_a_rule() {
        let methods = BlockRule { methods: vec!["DELETE".into()], ..BlockRule::default() };
        let path = BlockRule { path: Some("/Admin".into()), ..BlockRule::default() };
        for method in ["DELETE", "delete", "Delete"] {
            let mut request = get("/aDMIN/x");
            request.method = Method::from_bytes(method.as_bytes()).unwrap();
            assert!(blocks(&methods, &request), "{method}");
            assert!(blocks(&path, &request), "{method}");
        }
        assert!(!blocks(&methods, &get("/delete")));
    }

    #[test]
    fn a_method_in_place_of_that_of_the_request_does_not_slip_through_a_rule() {
        let rule = BlockRule { methods: vec!["PUT".into(), "DELETE".into()], ..Default::default() };
        for (name, value) in [
            ("X-HTTP-Method-Override", "DELETE"),
            ("x-http-method", "delete"),
            ("X-Method-Override", "Put"),
            ("X_HTTP_Method_Override", "PUT"),
            ("X.HTTP.Method", "PUT"),
            ("x-http-method-override", "GET , DELETE"),
        ] {
            let mut request = with(&[("x-http-method", "GET"), (name, value)]);
            request.method = Method::POST;
            assert!(blocks(&rule, &request), "{name}: {value}");
        }
        for (name, value) in [
            ("x-http-method-override", "PATCH"),
            ("x-http-method-override", "DELETED"),
            ("x-method", "DELETE"),
        ] {
            assert!(!blocks(&rule, &with(&[(name, value)])), "{name}: {value}");
        }
    }

    #[test]
    fn what_copy_and_move_write_to_does_not_slip_through_a_rule() {
        let rule = BlockRule { path: Some("/admin".into()), ..BlockRule::default() };
        let to = |rule: &BlockRule, method: &str, destination: &str| {
            let mut request = with(&[("destination", destination)]);
            request.method = Method::from_bytes(method.as_bytes()).unwrap();
            request.uri = "/pub/x".parse().unwrap();
            blocks(rule, &request)
        };
        for destination in [
            &format!("http://{ONION}/admin/x"),
            &format!("HTTP://u@{ONION}:80/pub/../%61dmin"),
            "/admin",
            "//x/admin/y",
            "http:/admin/x",
            "http:///admin/x",
            "http:\\\\x\\admin",
            "/pub?/../admin/x",
            "/admin?x",
            "/admin#x",
            "http://x/admin?y",
            "http://x/?/../admin",
            "DAV-1:/admin",
        ] {
            for method in ["MOVE", "copy", "FOO"] {
                assert!(to(&rule, method, destination), "{destination}");
            }
        }
        for destination in ["/administrator", "http://x/pub/admin", "", "http://"] {
            assert!(!to(&rule, "MOVE", destination), "{destination}");
        }
        let only = BlockRule { methods: vec!["PUT".into()], ..rule.clone() };
        assert!(!to(&only, "MOVE", "/admin"), "another method");
        let of_host = BlockRule { host: Some("b.onion".into()), ..rule };
        assert!(to(&of_host, "MOVE", "http://b.onion/admin"), "on another host");
        assert!(!to(&of_host, "MOVE", "/admin"), "on the host of the request");
        assert!(!to(&of_host, "MOVE", "http://b.onion/pub"));
        let mut twice = with(&[("destination", "/pub"), ("destination", "/admin")]);
        twice.method = Method::from_bytes(b"COPY").unwrap();
        assert!(blocks(&BlockRule { path: Some("/admin".into()), ..BlockRule::default() }, &twice));
    }

    #[test]
    fn a_request_for_no_host_does_not_slip_through_a_rule_for_one() {
        let rule = BlockRule { host: Some("abc.onion".into()), ..BlockRule::default() };
        let mut request = get("/");
        request.headers.remove(HOST);
        request.version = Version::HTTP_10;
        assert!(blocks(&rule, &request));
    }

    #[test]
    fn a_whole_uri_does_not_slip_through_a_rule() {
        let rule = BlockRule {
            host: Some("abc.onion".into()),
            path: Some("/admin".into()),
            ..BlockRule::default()
        };
        assert!(blocks(&rule, &get("http://abc.onion/admin")));
        assert!(!blocks(&rule, &get("http://abd.onion/admin")));
    }

    #[test]
    fn the_first_rule_that_applies_decides_the_answer() {
        let rule = |path: &str, status| BlockRule {
            path: Some(path.into()),
            status,
            ..BlockRule::default()
        };
        let block = vec![rule("/a/b", 410), rule("/a", 404)];
        let settings = GuardSettings { block, ..GuardSettings::default() };
        assert_eq!(checked(&settings, &get("/a/b")), Some(Failure::Blocked(410)));
        assert_eq!(checked(&settings, &get("/a/c")), Some(Failure::Blocked(404)));
        assert_eq!(checked(&settings, &get("/b")), None);
    }
}

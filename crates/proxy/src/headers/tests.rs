//! What becomes of heads, hostile ones first.

#![cfg(test)]

use http::{HeaderMap, HeaderName, Request, Response, StatusCode, Version};
use proptest::prelude::*;

use super::site::{FOREIGN, Translated};
use super::*;
use crate::host::Host;
use crate::settings::{HostHeader, NamePair};

mod urls;

const ONION: &str = "abcdefghijklmnopqrstuvwxyz234567abcdefghijklmnopqrstuvwx.onion";

fn visitor() -> Visitor {
    Visitor { circuit: 7, port: 80, onion: ONION.into(), tls: false }
}

fn pair(public: &str, onion: &str) -> NamePair {
    NamePair { public: public.into(), onion: Some(onion.into()) }
}

/// `example.com` is this onion service.
fn mapped() -> HeaderSettings {
    let names = vec![pair("example.com", ONION)];
    HeaderSettings { names, host: HostHeader::Mapped, ..HeaderSettings::default() }
}

fn fields(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
    }
    headers
}

/// A request with these fields, as the origin gets it.
fn sent(settings: &HeaderSettings, pairs: &[(&str, &str)]) -> HeaderMap {
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.headers = fields(pairs);
    ask(settings, &visitor(), &mut parts);
    parts.headers
}

/// Makes of a request the one that the origin gets, by the host that it names.
fn ask(settings: &HeaderSettings, visitor: &Visitor, parts: &mut request::Parts) {
    let field = parts.headers.get(HOST).and_then(|host| host.to_str().ok());
    let named = parts.uri.authority().map(|authority| authority.as_str()).or(field);
    let sites = Sites::new(settings, visitor, named.and_then(Host::parse));
    request(settings, visitor, &sites, parts);
}

/// A response with these fields, as the client gets it.
fn got(settings: &HeaderSettings, pairs: &[(&str, &str)]) -> HeaderMap {
    let (mut parts, ()) = Response::new(()).into_parts();
    parts.headers = fields(pairs);
    answered(settings, &visitor(), &mut parts);
    parts.headers
}

/// Makes of a response what a visitor gets that asked for no host.
fn answered(settings: &HeaderSettings, visitor: &Visitor, parts: &mut response::Parts) {
    response(settings, &OwnNames::default(), visitor, &Sites::new(settings, visitor, None), parts);
}

/// What one field of a response becomes.
fn becomes(settings: &HeaderSettings, name: &str, value: &str) -> String {
    got(settings, &[(name, value)])[name].to_str().unwrap().to_owned()
}

/// What one field of a request becomes.
fn became(settings: &HeaderSettings, name: &str, value: &str) -> String {
    sent(settings, &[(name, value)])[name].to_str().unwrap().to_owned()
}

#[test]
fn what_is_of_one_connection_goes_no_further() {
    let pairs = [
        ("connection", "close, X-Mine, te"),
        ("connection", "x-other"),
        ("x-mine", "1"),
        ("x-other", "1"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("proxy-authorization", "Basic eA=="),
        ("proxy-authenticate", "Basic"),
        ("proxy-authentication-info", "x"),
        ("te", "gzip"),
        ("transfer-encoding", "chunked"),
        ("http2-settings", "AAMAAABk"),
        ("upgrade", "websocket"),
        ("trailer", "x-checksum"),
        ("accept", "*/*"),
    ];
    let after = sent(&HeaderSettings { x_forwarded: false, ..HeaderSettings::default() }, &pairs);
    assert_eq!(after, fields(&[("trailer", "x-checksum"), ("accept", "*/*"), ("host", ONION)]));
    let after = got(&HeaderSettings::default(), &pairs);
    assert_eq!(after, fields(&[("trailer", "x-checksum"), ("accept", "*/*")]));
}

#[test]
fn a_client_cannot_have_taken_out_what_is_ours() {
    let settings = HeaderSettings { circuit_id: Some("X-Circuit".into()), ..mapped() };
    let after = sent(
        &settings,
        &[
            ("connection", "host, x-forwarded-proto, x-forwarded-host, x-circuit, content-length"),
            ("host", ONION),
            ("content-length", "3"),
        ],
    );
    assert_eq!(after["host"], "example.com");
    assert_eq!(after["x-forwarded-proto"], "http");
    assert_eq!(after["x-forwarded-host"], "example.com");
    assert_eq!(after["x-circuit"], "7");
    assert_eq!(after["content-length"], "3");
    assert!(!after.contains_key("connection"));
}

#[test]
fn a_client_cannot_pass_for_another() {
    let forged: &[(&str, &str)] = &[
        ("x-forwarded-for", "1.2.3.4"),
        ("X_Forwarded_For", "1.2.3.4"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "evil"),
        ("x-forwarded-server", "evil"),
        ("x-forwarded", "for=1.2.3.4"),
        ("forwarded", "for=1.2.3.4"),
        ("x-real-ip", "1.2.3.4"),
        ("x_real-ip", "1.2.3.4"),
        ("client-ip", "1.2.3.4"),
        ("true-client-ip", "1.2.3.4"),
        ("cf-connecting-ip", "1.2.3.4"),
        ("Proxy-Client-IP", "1.2.3.4"),
        ("WL-Proxy-Client-IP", "1.2.3.4"),
        ("HTTP_CLIENT_IP", "1.2.3.4"),
        ("http-x-forwarded-for", "1.2.3.4"),
        ("HTTP_FORWARDED", "for=1.2.3.4"),
        ("X.Forwarded.For", "1.2.3.4"),
        ("x~real!ip", "1.2.3.4"),
        ("x-circuit", "1"),
        ("X_CIRCUIT", "1"),
        ("X.Circuit", "1"),
        ("HTTP_X_CIRCUIT", "1"),
        ("x-original-url", "/admin"),
        ("x-rewrite-url", "/admin"),
        ("proxy", "http://evil"),
        ("host", ONION),
    ];
    let settings = HeaderSettings {
        x_forwarded: false,
        circuit_id: Some("X-Circuit".into()),
        ..HeaderSettings::default()
    };
    assert_eq!(sent(&settings, forged), fields(&[("host", ONION), ("x-circuit", "7")]));
}

#[test]
fn an_upgrade_is_led_on_only_where_it_is_one() {
    let ask = |version, pairs: &[(&str, &str)]| {
        let (mut parts, ()) = Request::new(()).into_parts();
        parts.version = version;
        parts.headers = fields(pairs);
        ask(&HeaderSettings::default(), &visitor(), &mut parts);
        let shown =
            |name| parts.headers.get(name).map(|v: &HeaderValue| v.to_str().unwrap().to_owned());
        (shown("connection"), shown("upgrade"))
    };
    let upgrade = (Some("upgrade".into()), Some("websocket".into()));
    let both = [("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")];
    assert_eq!(ask(Version::HTTP_11, &both), upgrade);
    assert_eq!(ask(Version::HTTP_10, &both), (None, None));
    assert_eq!(ask(Version::HTTP_2, &both), (None, None));
    assert_eq!(ask(Version::HTTP_11, &both[..1]), (None, None));
    assert_eq!(ask(Version::HTTP_11, &both[1..]), (None, None));
    for hidden in ["h2c", "H2C", "websocket, h2c", "HTTP/2.0", "TLS/1.0", "h2"] {
        let pairs = [("connection", "upgrade, http2-settings"), ("upgrade", hidden)];
        assert_eq!(ask(Version::HTTP_11, &pairs), (None, None), "{hidden}");
    }
    let trailers = [("connection", "upgrade"), ("upgrade", "websocket"), ("te", "trailers")];
    assert_eq!(ask(Version::HTTP_11, &trailers).0.as_deref(), Some("te, upgrade"));
}

#[test]
fn a_switch_of_protocols_is_led_back() {
    let answer = |status| {
        let (mut parts, ()) = Response::new(()).into_parts();
        parts.status = status;
        parts.headers = fields(&[("connection", "Upgrade"), ("upgrade", "websocket")]);
        answered(&HeaderSettings::default(), &visitor(), &mut parts);
        parts.headers
    };
    let kept = fields(&[("connection", "upgrade"), ("upgrade", "websocket")]);
    assert_eq!(answer(StatusCode::SWITCHING_PROTOCOLS), kept);
    assert_eq!(answer(StatusCode::UPGRADE_REQUIRED), kept);
    assert_eq!(answer(StatusCode::OK), HeaderMap::new());
}

#[test]
fn trailers_are_announced_anew() {
    let after = sent(&HeaderSettings::default(), &[("te", "deflate;q=0.5, Trailers")]);
    assert_eq!(
        (&after["te"], &after["connection"]),
        (&"trailers".parse().unwrap(), &"te".parse().unwrap())
    );
}

#[test]
fn the_target_becomes_a_path_and_its_host_the_host() {
    for (target, path, host) in [
        ("http://www.Example.onion:8080/a?b", "/a?b", "www.Example.onion:8080"),
        ("http://example.onion", "/", "example.onion"),
        ("/a?b", "/a?b", ONION),
        ("*", "*", ONION),
    ] {
        let (mut parts, ()) = Request::get(target).body(()).unwrap().into_parts();
        ask(&HeaderSettings::default(), &visitor(), &mut parts);
        assert_eq!(parts.uri, path, "{target}");
        assert_eq!(parts.headers.get_all("host").iter().count(), 1);
        assert_eq!(parts.headers["host"], host, "{target}");
    }
}

#[test]
fn a_request_for_no_host_is_for_the_one_that_it_came_to() {
    let (mut parts, ()) = Request::new(()).into_parts();
    let visitor = Visitor { port: 8080, ..visitor() };
    ask(&HeaderSettings::default(), &visitor, &mut parts);
    assert_eq!(parts.headers["host"], format!("{ONION}:8080"));
}

#[test]
fn the_origin_sees_the_host_that_the_settings_say() {
    let host = |settings: HostHeader, host: &str| {
        became(&HeaderSettings { host: settings, ..mapped() }, "host", host)
    };
    assert_eq!(host(HostHeader::Pass, "www.x.onion:81"), "www.x.onion:81");
    assert_eq!(host(HostHeader::Fixed("app:3000".into()), ONION), "app:3000");
    assert_eq!(host(HostHeader::Mapped, ONION), "example.com");
    assert_eq!(
        host(HostHeader::Mapped, &format!("a.b.{}:8080", ONION.to_uppercase())),
        "a.b.example.com"
    );
    assert_eq!(host(HostHeader::Mapped, "other.onion:81"), "other.onion:81");
    assert_eq!(host(HostHeader::Mapped, &format!("not{ONION}")), format!("not{ONION}"));
}

#[test]
fn the_origin_is_told_of_the_visitor_what_the_settings_say() {
    let settings = HeaderSettings { forwarded: true, ..HeaderSettings::default() };
    let host = format!("{ONION}:8080");
    let after = sent(&settings, &[("host", &host)]);
    assert_eq!(after["x-forwarded-proto"], "http");
    assert_eq!(after["x-forwarded-host"], host);
    assert_eq!(after["x-forwarded-port"], "8080");
    assert_eq!(after["forwarded"], format!("for=_c7;host=\"{host}\";proto=http"));
    assert!(!after.contains_key("x-forwarded-for"), "no address is invented");

    let after =
        sent(&HeaderSettings { proto: Some("https"), ..settings.clone() }, &[("host", ONION)]);
    assert_eq!(after["x-forwarded-proto"], "https");
    assert_eq!(after["x-forwarded-port"], "443", "a port that goes with the scheme");

    let settings = HeaderSettings { x_forwarded: false, ..HeaderSettings::default() };
    assert_eq!(sent(&settings, &[("host", ONION)]), fields(&[("host", ONION)]));
}

#[test]
fn cookies_in_several_fields_are_joined() {
    let after = sent(&HeaderSettings::default(), &[("cookie", "a=1"), ("cookie", "b=2; c=3")]);
    let cookies: Vec<_> = after.get_all("cookie").iter().collect();
    assert_eq!(cookies, ["a=1; b=2; c=3"]);
}

#[test]
fn trailers_hold_nothing_that_belongs_into_a_head() {
    let strip = vec!["server".into()];
    let settings =
        HeaderSettings { strip, circuit_id: Some("x-circuit".into()), ..HeaderSettings::default() };
    let mut after = fields(&[
        ("x-checksum", "1"),
        ("connection", "x-a"),
        ("x-a", "1"),
        ("x-forwarded-for", "1.2.3.4"),
        ("x_circuit", "1"),
        ("host", "evil"),
        ("content-length", "1"),
        ("transfer-encoding", "chunked"),
        ("authorization", "Basic eA=="),
        ("cookie", "a=1"),
        ("server", "x"),
        ("grpc-status", "0"),
    ]);
    let mut of_response = after.clone();
    request_trailers(&settings, &mut after);
    let kept = [("x-checksum", "1"), ("server", "x"), ("grpc-status", "0")];
    assert_eq!(after, fields(&kept), "`strip` is about responses");
    response_trailers(&settings, &mut of_response);
    for name in ["connection", "x-a", "host", "content-length", "cookie", "server"] {
        assert!(!of_response.contains_key(name), "{name}");
    }
    assert_eq!(of_response["grpc-status"], "0");
}

#[test]
fn a_site_that_believes_to_be_reached_otherwise_does_not_send_visitors_to_https() {
    let https = HeaderSettings { proto: Some("https"), ..HeaderSettings::default() };
    for policy in ["upgrade-insecure-requests", "block-all-mixed-content"] {
        for settings in [&https, &mapped()] {
            assert_eq!(becomes(settings, "content-security-policy", policy), "");
        }
        assert_eq!(becomes(&HeaderSettings::default(), "content-security-policy", policy), policy);
    }
}

#[test]
fn a_policy_that_allows_everything_by_https_allows_what_the_onion_page_loads() {
    let https = HeaderSettings { proto: Some("https"), ..HeaderSettings::default() };
    for (before, after) in [
        ("default-src https: 'unsafe-inline'", "default-src https: http: 'unsafe-inline'"),
        ("img-src data: HTTPS:", "img-src data: HTTPS: http:"),
        ("connect-src wss: https:;img-src *", "connect-src wss: ws: https: http:;img-src *"),
        (
            "img-src https://*; connect-src wss://*",
            "img-src https://* http://*:*; connect-src wss://* ws://*:*",
        ),
        ("img-src https: https:", "img-src https: http: https:"),
        // Each list by itself, and each policy.
        ("img-src https:; font-src http: https:", "img-src https: http:; font-src http: https:"),
        ("img-src https:, img-src https: HTTP:", "img-src https: http:, img-src https: HTTP:"),
        ("connect-src https: ws: wss:", "connect-src https: http: ws: wss:"),
        // What names others is theirs, and what names nobody is no secure scheme.
        ("img-src https://x.com data: 'none'", "img-src https://x.com data: 'none'"),
    ] {
        for name in ["content-security-policy", "content-security-policy-report-only"] {
            for settings in [&https, &mapped()] {
                assert_eq!(becomes(settings, name, before), after);
                assert_eq!(becomes(settings, name, after), after, "once and for all");
            }
            assert_eq!(
                becomes(&HeaderSettings::default(), name, before),
                before,
                "else it means it"
            );
        }
    }
}

#[test]
fn options_are_counted_down_on_their_way() {
    let left = |method: Method| {
        let (mut parts, ()) = Request::new(()).into_parts();
        parts.method = method;
        parts.headers = fields(&[("max-forwards", "5")]);
        ask(&HeaderSettings::default(), &visitor(), &mut parts);
        parts.headers["max-forwards"].to_str().unwrap().to_owned()
    };
    assert_eq!(left(Method::OPTIONS), "4");
    assert_eq!(left(Method::GET), "5");
}

#[test]
fn names_of_others_stay_as_they_are() {
    for value in [
        "https://notexample.com/",
        "https://example.com.evil/",
        "https://example.com@evil.com/",
        "https://evil.com\\@example.com/",
        "https://evil.com/https://example.com/",
        "https://evil.com?u=https://example.com/",
        "https://evil.com#//example.com/",
        "//evil.com/example.com",
        "/example.com",
        "example.com",
        "?next=//example.com",
        "mailto:me@example.com",
        "ftp://example.com/",
        "javascript://example.com/%0aalert(1)",
        "https://[::1]/",
        "https://exa mple.com/",
        "https://:80/",
        "https://example.com:port/",
        "https//example.com",
        "",
    ] {
        for name in ["location", "content-location", "link", "refresh", "set-cookie"] {
            assert_eq!(becomes(&mapped(), name, value), value, "{name}");
        }
    }
}

#[test]
fn public_names_become_onion_names_in_responses() {
    let onion = |text: &str| text.replace("ONION", ONION);
    for (name, before, after) in [
        ("location", "https://example.com/a?b#c", "http://ONION/a?b#c"),
        ("location", "HTTPS://WWW.Example.COM:443", "http://WWW.ONION"),
        ("location", "https://example.com.:8443/x", "http://ONION/x"),
        ("location", "//example.com/a", "//ONION/a"),
        ("location", "http://me:pw@a.example.com/?q", "http://me:pw@a.ONION/?q"),
        ("location", "https://example.com\\a", "http://ONION\\a"),
        ("location", "https:example.com", "http://ONION"),
        ("content-location", "https://example.com/", "http://ONION/"),
        ("sourcemap", "https://example.com/a.map", "http://ONION/a.map"),
        ("refresh", "5; url=https://example.com/a", "5; url=http://ONION/a"),
        ("refresh", "0;URL='https://example.com/'", "0;URL='http://ONION/'"),
        ("refresh", "0, url = \"https://example.com/\" x", "0, url = \"http://ONION/\" x"),
        ("refresh", "1;https://example.com", "1;http://ONION"),
        (
            "link",
            "<https://example.com/a,b>; rel=next; title=\"<https://example.com/>\", </c>, <//example.com>",
            "<http://ONION/a,b>; rel=next; title=\"<https://example.com/>\", </c>, <//ONION>",
        ),
        ("link", "<https://example.com/", "<http://ONION/"),
        (
            "link",
            "</a>; anchor=\"https://example.com/b\"; rel=\"https://example.com/kind\"",
            "</a>; anchor=\"http://ONION/b\"; rel=\"https://example.com/kind\"",
        ),
        (
            "set-cookie",
            "a=domain=example.com; Domain=.example.com; Secure; Path=/",
            "a=domain=example.com; Domain=.ONION; Secure; Path=/",
        ),
        ("set-cookie", "a=b;DOMAIN=www.example.com", "a=b;DOMAIN=www.ONION"),
        ("set-cookie", "a=b; domain=notexample.com", "a=b; domain=notexample.com"),
        (
            "content-security-policy",
            "default-src 'self' example.com https://*.example.com:443/x wss://ws.example.com *.cdn.com; \
             img-src example.com:* data:;report-uri https://example.com/r",
            "default-src 'self' ONION http://*.ONION/x ws://ws.ONION *.cdn.com; \
             img-src ONION:* data:;report-uri http://ONION/r",
        ),
        (
            "content-security-policy",
            "Upgrade-Insecure-Requests; img-src x.com; upgrade-insecure-requests",
            "; img-src x.com; ",
        ),
        ("content-security-policy-report-only", "img-src example.com", "img-src ONION"),
        ("access-control-allow-origin", "https://example.com", "http://ONION"),
        ("access-control-allow-origin", "*", "*"),
        (
            "timing-allow-origin",
            "https://example.com, https://x.com",
            "http://ONION, https://x.com",
        ),
        (
            "reporting-endpoints",
            "a=\"https://example.com/r\", b=\"/r\"",
            "a=\"http://ONION/r\", b=\"/r\"",
        ),
        (
            "report-to",
            "{\"group\":\"a\\\"\",\"endpoints\":[{\"url\":\"https://example.com/r\"}]}",
            "{\"group\":\"a\\\"\",\"endpoints\":[{\"url\":\"http://ONION/r\"}]}",
        ),
        (
            "permissions-policy",
            "geolocation=(self \"https://example.com\")",
            "geolocation=(self \"http://ONION\")",
        ),
        ("x-other", "https://example.com", "https://example.com"),
    ] {
        assert_eq!(becomes(&mapped(), name, before), onion(after), "{name}");
    }
}

#[test]
fn a_length_reaches_the_origin_as_a_plain_number() {
    for (before, after) in [("010", "10"), ("00", "0"), ("3", "3")] {
        let sent = sent(&HeaderSettings::default(), &[("content-length", before)]);
        assert_eq!(sent["content-length"], after);
    }
}

#[test]
fn every_cookie_of_a_response_is_changed() {
    let after = got(
        &mapped(),
        &[("set-cookie", "a=1; domain=example.com"), ("set-cookie", "b=2; domain=example.com")],
    );
    let cookies: Vec<_> = after.get_all("set-cookie").iter().collect();
    assert_eq!(cookies, [&format!("a=1; domain={ONION}"), &format!("b=2; domain={ONION}")]);
}

#[test]
fn what_is_no_ascii_stays_as_it_is() {
    let (mut parts, ()) = Response::new(()).into_parts();
    let value = HeaderValue::from_bytes(b"https://example.com/\xfc\xc3\xbc").unwrap();
    parts.headers.insert("location", value);
    answered(&mapped(), &visitor(), &mut parts);
    let expected = [b"http://", ONION.as_bytes(), b"/\xfc\xc3\xbc"].concat();
    assert_eq!(parts.headers["location"].as_bytes(), expected);
}

#[test]
fn a_visitor_of_another_port_stays_at_it() {
    let visitor = Visitor { port: 8080, ..visitor() };
    let go = |names, location: &str| {
        let (mut parts, ()) = Response::new(()).into_parts();
        parts.headers = fields(&[("location", location)]);
        let settings = HeaderSettings { names, ..HeaderSettings::default() };
        answered(&settings, &visitor, &mut parts);
        parts.headers["location"].to_str().unwrap().to_owned()
    };
    let names = vec![pair("example.com", ONION), pair("shop.example.com", "other.onion")];
    assert_eq!(go(names.clone(), "https://example.com/"), format!("http://{ONION}:8080/"));
    assert_eq!(
        go(names, "https://a.shop.example.com:1/"),
        "http://a.other.onion/",
        "another service"
    );
}

#[test]
fn onion_names_become_public_names_in_requests() {
    let settings = HeaderSettings { proto: Some("https"), ..mapped() };
    for (name, before, after) in [
        ("origin", "http://ONION", "https://example.com"),
        ("origin", "http://www.ONION:80", "https://www.example.com"),
        ("origin", "null", "null"),
        ("origin", "http://notONION", "http://notONION"),
        ("referer", "http://ONION/a?u=http://ONION/", "https://example.com/a?u=http://ONION/"),
        ("destination", "http://ONION/dav/b", "https://example.com/dav/b"),
        (
            "if",
            "<http://ONION/a> (<urn:uuid:1> [\"e\"])",
            "<https://example.com/a> (<urn:uuid:1> [\"e\"])",
        ),
    ] {
        let (before, after) = (before.replace("ONION", ONION), after.replace("ONION", ONION));
        assert_eq!(became(&settings, name, &before), after, "{name}");
    }
    assert_eq!(became(&mapped(), "origin", &format!("http://{ONION}")), "http://example.com");
}

#[test]
fn another_port_of_the_address_is_another_site() {
    let names = vec![pair("example.com", ONION), pair("cdn.example", "cdn.onion")];
    let settings = HeaderSettings { names, ..mapped() };
    let onion = |text: &str| text.replace("ONION", ONION);
    for (port, before, after) in [
        (80, "http://ONION:8080", "http://ONION:8080"),
        (80, "http://www.ONION:8080", "http://www.ONION:8080"),
        (80, "https://ONION", "https://ONION"),
        (80, "https://ONION:80", "https://ONION:80"),
        (8080, "http://ONION", "http://ONION"),
        (8080, "http://www.ONION:8080", "http://www.example.com"),
        (443, "http://ONION:443", "http://example.com"),
        (443, "https://ONION", "https://ONION"),
        (80, "http://cdn.onion", "http://cdn.example"),
        (80, "http://cdn.onion:8080", "http://cdn.onion:8080"),
        (8080, "http://cdn.onion:8080", "http://cdn.example"),
    ] {
        let (mut parts, ()) = Request::new(()).into_parts();
        let referer = format!("{before}/a");
        parts.headers = fields(&[("origin", &onion(before)), ("referer", &onion(&referer))]);
        ask(&settings, &Visitor { port, ..visitor() }, &mut parts);
        assert_eq!(parts.headers["origin"], onion(after), "{before} at {port}");
        assert_eq!(parts.headers["referer"], onion(&format!("{after}/a")), "{before} at {port}");
    }
}

#[test]
fn an_origin_that_is_told_another_scheme_gets_and_gives_it_with_the_onion_name() {
    let settings = HeaderSettings { proto: Some("https"), ..HeaderSettings::default() };
    let own = format!("https://www.{ONION}/a");
    assert_eq!(becomes(&settings, "location", &own), format!("http://www.{ONION}/a"));
    assert_eq!(
        became(&settings, "origin", &format!("http://{ONION}:81")),
        format!("https://{ONION}:81")
    );
    assert_eq!(becomes(&HeaderSettings::default(), "location", &own), own, "else it means it");
}

#[test]
fn a_name_without_a_partner_stands_for_the_address_that_the_visitor_came_to() {
    let names = vec![NamePair { public: "example.com".into(), onion: None }];
    let settings = HeaderSettings { names, ..mapped() };
    let there = becomes(&settings, "location", "https://www.example.com/");
    assert_eq!(there, format!("http://www.{ONION}/"));
    assert_eq!(became(&settings, "host", &format!("www.{ONION}")), "www.example.com");
}

#[test]
fn the_longest_name_decides() {
    let names = vec![
        pair("example.com", ONION),
        pair("static.example.com", "static.onion"),
        pair("static.example.com", &format!("s.{ONION}")),
    ];
    let settings = HeaderSettings { names, ..mapped() };
    let go = |value| becomes(&settings, "location", value);
    assert_eq!(
        go("https://a.static.example.com/"),
        format!("http://a.s.{ONION}/"),
        "with ours first"
    );
    assert_eq!(go("https://xstatic.example.com/"), format!("http://xstatic.{ONION}/"));
    assert_eq!(became(&settings, "host", &format!("s.{ONION}")), "static.example.com");
}

#[test]
fn response_headers_are_taken_out_as_wanted() {
    let strip = vec!["Server".into(), "onion-location".into(), "no header at all".into()];
    let settings = HeaderSettings { strip, ..HeaderSettings::default() };
    let pairs = [
        ("server", "x"),
        ("server", "y"),
        ("onion-location", "z"),
        ("alt-svc", "h3=\":443\""),
        ("etag", "e"),
    ];
    assert_eq!(got(&settings, &pairs), fields(&[("alt-svc", "h3=\":443\""), ("etag", "e")]));
    let settings = HeaderSettings { strip: settings.strip, ..mapped() };
    assert_eq!(got(&settings, &pairs), fields(&[("etag", "e")]), "other ways to the public site");
}

#[test]
fn fields_are_found_by_their_names() {
    for name in fields::known() {
        assert!(fields::is_translated(&name.to_uppercase()), "{name}");
    }
    let responses: Vec<_> =
        fields::known().skip_while(|name| *name != "access-control-allow-origin").collect();
    assert!(responses.len() > 40 && responses.is_sorted(), "{responses:?}");
}

/// Fields that clients and origins send, and hostile ones.
fn any_fields() -> impl Strategy<Value = HeaderMap> {
    let names: Vec<&str> = fields::known()
        .chain(["host", "connection", "te", "upgrade", "keep-alive", "transfer-encoding", "x-a"])
        .chain(["x-forwarded-for", "forwarded", "proxy-connection", "http2-settings", "alt-svc"])
        .collect();
    let piece = prop_oneof![
        Just("https://example.com".to_owned()),
        Just("https://other.com".to_owned()),
        Just(format!("http://{ONION}")),
        Just(format!("https://www.{ONION}:8080/x")),
        Just("www.example.com".to_owned()),
        Just("*.example.com:*".to_owned()),
        Just("Domain=.example.com".to_owned()),
        Just("upgrade, te, host, x-a, keep-alive".to_owned()),
        Just("trailers".to_owned()),
        "[ -~]{0,6}",
        "[<>;,\"'\\\\ =:/@]{0,3}",
    ];
    let value = proptest::collection::vec(piece, 0..5).prop_map(|pieces| pieces.concat());
    proptest::collection::vec((proptest::sample::select(names), value), 0..12).prop_map(|pairs| {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name, HeaderValue::from_str(&value).unwrap());
        }
        headers
    })
}

fn any_settings() -> impl Strategy<Value = HeaderSettings> {
    let host = prop_oneof![
        Just(HostHeader::Pass),
        Just(HostHeader::Mapped),
        Just(HostHeader::Fixed("fixed".into()))
    ];
    (host, any::<bool>(), any::<bool>(), prop_oneof![Just("http"), Just("https")], any::<bool>())
        .prop_map(|(host, x_forwarded, forwarded, proto, circuit)| HeaderSettings {
            host,
            x_forwarded,
            forwarded,
            proto: Some(proto),
            circuit_id: circuit.then(|| "X-Circuit".to_owned()),
            ..mapped()
        })
}

proptest! {
    #[test]
    fn no_request_takes_anything_of_a_connection_along(
        settings in any_settings(),
        headers in any_fields(),
    ) {
        let (mut parts, ()) = Request::new(()).into_parts();
        parts.headers = headers;
        ask(&settings, &visitor(), &mut parts);
        let headers = &parts.headers;
        prop_assert_eq!(headers.get_all("host").iter().count(), 1);
        for name in ["keep-alive", "transfer-encoding", "proxy-connection", "http2-settings", "x-forwarded-for"] {
            prop_assert!(!headers.contains_key(name), "{}", name);
        }
        let options = headers.get("connection").map(|options| options.to_str().unwrap());
        let announced: Vec<&str> = options.map(|options| options.split(", ").collect()).unwrap_or_default();
        prop_assert_eq!(announced.contains(&"te"), headers.contains_key("te"));
        prop_assert_eq!(announced.contains(&"upgrade"), headers.contains_key("upgrade"));
        prop_assert!(headers.get("te").is_none_or(|te| te == "trailers"));
        prop_assert_eq!(headers.get_all("forwarded").iter().count(), usize::from(settings.forwarded));
    }

    #[test]
    fn names_are_changed_once_and_for_all(settings in any_settings(), headers in any_fields(), port: u16) {
        let visitor = Visitor { port, ..visitor() };
        let (own, sites) = (OwnNames::default(), Sites::new(&settings, &visitor, None));
        let names = Names::new(&settings, &visitor, &own, &sites);
        let mut once = headers;
        fields::rewrite(&settings, &names, &mut once);
        let mut twice = once.clone();
        fields::rewrite(&settings, &names, &mut twice);
        prop_assert_eq!(once, twice);
    }

    #[test]
    fn heads_without_our_names_keep_their_values(headers in any_fields()) {
        let names = vec![pair("example.net", "other.onion")];
        let settings = HeaderSettings { names, host: HostHeader::Pass, ..HeaderSettings::default() };
        let visitor = visitor();
        let (own, sites) = (OwnNames::default(), Sites::new(&settings, &visitor, Host::parse("a.example")));
        let mut after = headers.clone();
        let names = Names::new(&settings, &visitor, &own, &sites);
        // A policy may mean any host.
        after.remove("content-security-policy");
        after.remove("content-security-policy-report-only");
        let headers = after.clone();
        fields::rewrite(&settings, &names, &mut after);
        fields::translate(&settings, &visitor, &sites, &mut after);
        prop_assert_eq!(headers, after);
    }

    #[test]
    fn a_uri_that_a_visitor_was_given_comes_back_as_it_was(
        labels in "([a-z0-9-]{1,5}\\.){0,2}",
        path in "(/[a-z0-9.%:@-]{0,5}){0,3}",
        port in prop_oneof![Just(80_u16), any::<u16>()],
        proto in prop_oneof![Just("http"), Just("https")],
    ) {
        let settings = HeaderSettings { proto: Some(proto), ..mapped() };
        let visitor = Visitor { port, ..visitor() };
        let (own, sites) =
            (OwnNames::default(), Sites::new(&settings, &visitor, Host::parse(&format!("{labels}{ONION}:{port}"))));
        let uri = format!("{proto}://{labels}example.com{path}");
        let there = Names::new(&settings, &visitor, &own, &sites).uri(&uri).unwrap();
        let back = sites.translate(&settings, &visitor, &there);
        prop_assert_eq!(back, Translated::To(uri), "{}", there);
    }

    #[test]
    fn only_the_site_that_was_asked_for_is_the_one_that_the_origin_is_told(
        settings in any_settings(),
        asked in any_site(),
        claimed in any_site(),
        scheme in prop_oneof![Just("http"), Just("https")],
    ) {
        let sites = Sites::new(&settings, &visitor(), Host::parse(&asked));
        let told = format!("{}://{}", sites.told.scheme, sites.told.host());
        let claim = format!("{scheme}://{claimed}");
        let origin = match sites.translate(&settings, &visitor(), &claim) {
            Translated::Same => claim,
            Translated::To(origin) => origin,
            Translated::Foreign => FOREIGN.to_owned(),
        };
        let plain = |site: &str| site.strip_suffix(":80").unwrap_or(site).to_ascii_lowercase();
        let same = scheme == "http" && plain(&asked) == plain(&claimed);
        prop_assert_eq!(origin == told, same, "{} is {} towards {}", claimed, origin, told);
    }
}

/// Hosts of ours and of others, as one asks for them and as one claims to be them.
fn any_site() -> impl Strategy<Value = String> {
    let name = prop_oneof![
        Just(ONION.to_owned()),
        Just(ONION.to_ascii_uppercase()),
        Just(format!("www.{ONION}")),
        Just("example.com".to_owned()),
        Just("EXAMPLE.com".to_owned()),
        Just("www.example.com".to_owned()),
        Just("fixed".to_owned()),
        Just("evil.example".to_owned()),
        Just("other.onion".to_owned()),
    ];
    let port = prop_oneof![Just(""), Just(":80"), Just(":443"), Just(":8080")];
    (name, port).prop_map(|(name, port)| format!("{name}{port}"))
}

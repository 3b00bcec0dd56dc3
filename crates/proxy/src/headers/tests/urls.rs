//! Where origins write their own address, in whatever form browsers read.

use super::*;
use crate::rules::{HttpOrigin, Origin};

/// What the fields of an answer become of which the origin listens on port 21901.
fn seen(pairs: &[(&str, &str)]) -> HeaderMap {
    let address = Origin::Tcp("127.0.0.1:21901".parse().unwrap());
    let own = OwnNames::of(&[HttpOrigin { address, tls: false }], None);
    let (settings, visitor) = (HeaderSettings::default(), visitor());
    let (mut parts, ()) = Response::new(()).into_parts();
    parts.headers = fields(pairs);
    let sites = Sites::new(&settings, &visitor, None);
    response(&settings, &own, &visitor, &sites, &mut parts);
    parts.headers
}

/// What one field becomes; the onion address is written as `ONION`.
fn shown(name: &str, value: &str) -> String {
    seen(&[(name, value)])[name].to_str().unwrap().replace(ONION, "ONION")
}

#[test]
fn a_host_is_found_wherever_browsers_find_one() {
    for location in [
        "http://127.0.0.1:21901/x",
        "http:/127.0.0.1:21901/x",
        "http:127.0.0.1:21901/x",
        "http:///127.0.0.1:21901/x",
        "HTTP:\\\\127.0.0.1:21901/x",
        "http:\\/127.0.0.1:21901/x",
        "https:/\\localhost:21901/x",
        "ht\ttp:/\t/127.0.0.1:21901/x",
        "ws:/127.0.0.1:21901/x",
    ] {
        let scheme = if location.starts_with("ws") { "ws" } else { "http" };
        assert_eq!(shown("location", location), format!("{scheme}://ONION/x"), "{location}");
    }
    for location in [
        "//127.0.0.1:21901/x",
        "///127.0.0.1:21901/x",
        "/\\127.0.0.1:21901/x",
        "\\\\127.0.0.1:21901/x",
        "\\/\\127.0.0.1:21901/x",
    ] {
        assert_eq!(shown("location", location), "//ONION/x", "{location}");
    }
    assert_eq!(shown("location", "http:\\\\127.0.0.1:21901\\x"), "http://ONION\\x");
    for same in [
        "/127.0.0.1:21901/x",
        "127.0.0.1/x",
        "\\127.0.0.1:21901",
        "/x?u=http://127.0.0.1:21901/",
        "http://other.example/?u=http://127.0.0.1:21901/",
        "http:/other.example/x",
        "ftp:/127.0.0.1:21901/x",
        "mailto:127.0.0.1",
    ] {
        assert_eq!(shown("location", same), same);
    }
}

#[test]
fn a_refresh_is_read_as_html_says() {
    let own = "http://127.0.0.1:21901/x";
    for before in [
        "0;url=",
        "0; URL = '",
        "0; ",
        "0 url=",
        "0 ",
        "0,",
        "0 , url=\"",
        "5.5;url=",
        ".;url=",
        " 3\turl=",
        "0 ;",
        "0;'",
    ] {
        let changed = shown("refresh", &format!("{before}{own}"));
        assert_eq!(changed, format!("{before}http://ONION/x"));
    }
    let changed = shown("refresh", &format!("0 url={own};a,b"));
    assert_eq!(changed, "0 url=http://ONION/x;a,b");
    let quoted = shown("refresh", &format!("0; url='{own}'; more"));
    assert_eq!(quoted, "0; url='http://ONION/x'; more");
    // Browsers do nothing with these.
    for same in ["", "0", "x;url=http://other/", "5x;url=http://other/", ";url=http://other/"] {
        assert_eq!(shown("refresh", same), same);
    }
}

#[test]
fn links_are_found_in_brackets_and_parameters_or_without_either() {
    for (value, becomes) in [
        ("<http://127.0.0.1:21901/x>; rel=next", "<http://ONION/x>; rel=next"),
        (
            "</>; rel=\"preload\"; imagesrcset=\"http://127.0.0.1:21901/a.png 1x, /b 2x, //localhost:21901/c 3x\"",
            "</>; rel=\"preload\"; imagesrcset=\"http://ONION/a.png 1x, /b 2x, //ONION/c 3x\"",
        ),
        ("</>; anchor=http://127.0.0.1:21901/", "</>; anchor=http://ONION/"),
        (
            "</>; anchor=\"http://127.0.0.1:21901/\", <//localhost:21901/y>",
            "</>; anchor=\"http://ONION/\", <//ONION/y>",
        ),
        ("</>; AnchoR = \"http://127.0.0.1:21901/\"", "</>; AnchoR = \"http://ONION/\""),
        ("http://127.0.0.1:21901/z", "http://ONION/z"),
        ("<http://127.0.0.1:21901", "<http://ONION"),
        ("http://127.0.0.1:21901/z?a=b; rel=next", "http://ONION/z?a=b; rel=next"),
    ] {
        assert_eq!(shown("link", value), becomes);
        assert_eq!(shown("uri", value), becomes);
    }
    for same in [
        "</>; title=\"http://127.0.0.1:21901/\"",
        "</>; title=\"\\\"; anchor=http://127.0.0.1:21901/\"",
        "<",
        "\"",
        "=",
        "anchor=\"",
    ] {
        assert_eq!(shown("link", same), same);
    }
}

#[test]
fn parameters_of_challenges_need_no_quotes() {
    for (value, becomes) in [
        (
            "Bearer authorization_uri=http://127.0.0.1:21901/x, error=y",
            "Bearer authorization_uri=http://ONION/x, error=y",
        ),
        (
            "Bearer a=\"b\", authorization_uri=http://127.0.0.1:21901/x",
            "Bearer a=\"b\", authorization_uri=http://ONION/x",
        ),
        ("Basic realm=http://127.0.0.1:21901/", "Basic realm=http://ONION/"),
        (
            "Digest realm=\"http://127.0.0.1:21901/\", domain=\"http://127.0.0.1:21901/a /b\"",
            "Digest realm=\"http://127.0.0.1:21901/\", domain=\"http://ONION/a /b\"",
        ),
        ("Digest realm=http://127.0.0.1:21901/", "Digest realm=http://127.0.0.1:21901/"),
    ] {
        assert_eq!(shown("www-authenticate", value), becomes);
    }
}

#[test]
fn fields_of_applications_carry_urls_too() {
    let own = "http://127.0.0.1:21901/x";
    for name in [
        "odata-entityid",
        "azure-asyncoperation",
        "destination",
        "operation-location",
        "x-goog-upload-url",
    ] {
        assert_eq!(shown(name, own), "http://ONION/x", "{name}");
    }
    assert_eq!(
        shown("hx-trigger", &format!("{{\"go\":\"{own}\"}}")),
        "{\"go\":\"http://ONION/x\"}"
    );
    for name in ["cross-origin-embedder-policy", "cross-origin-opener-policy-report-only"] {
        let value = format!("require-corp; report-to=\"{own}\"");
        assert_eq!(shown(name, &value), "require-corp; report-to=\"http://ONION/x\"");
    }
    assert!(!seen(&[("alt-svc", "h2=127.0.0.1:21901")]).contains_key("alt-svc"));
}

#[test]
fn trailers_tell_nothing_of_the_origin() {
    let settings = HeaderSettings { url_fields: vec!["X-Own".into()], ..HeaderSettings::default() };
    let own = "http://127.0.0.1:21901/x";
    let mut trailers = fields(&[
        ("link", "<http://127.0.0.1:21901/x>"),
        ("content-location", own),
        ("refresh", "0;url=http://127.0.0.1:21901/x"),
        ("location", own),
        ("set-cookie", "a=b; Domain=127.0.0.1"),
        ("alt-svc", "h2=\"127.0.0.1:21901\""),
        ("x-accel-redirect", "/internal"),
        ("x-own", own),
        ("grpc-status", "0"),
        ("server-timing", "a"),
    ]);
    response_trailers(&settings, &mut trailers);
    assert_eq!(trailers, fields(&[("grpc-status", "0"), ("server-timing", "a")]));
}

#[test]
fn what_is_for_a_server_in_front_reaches_no_client() {
    for name in [
        "x-accel-redirect",
        "x-accel-buffering",
        "x-sendfile",
        "x-sendfile2",
        "x-lighttpd-send-file",
        "x-reproxy-url",
        "gitlab-workhorse-send-data",
    ] {
        assert!(seen(&[(name, "/srv/internal")]).is_empty(), "{name}");
    }
}

//! What becomes of the URLs and cookies that origins write: with their own
//! addresses and ports, with public names, in fields of many kinds.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use http::{HeaderName, HeaderValue, Request, Response};
use onionbraid_proxy::headers::{self, OwnNames, Sites};
use onionbraid_proxy::host::Host;
use onionbraid_proxy::rules::{HttpOrigin, Origin};
use onionbraid_proxy::settings::{HeaderSettings, HostHeader, NamePair, SecureCookies};
use onionbraid_proxy::visitor::Visitor;

const ONION: &str = "abcdefghijklmnopqrstuvwxyz234567abcdefghijklmnopqrstuvwx.onion";

/// A port with its origins.
struct Port {
    settings: HeaderSettings,
    own: OwnNames,
    port: u16,
}

impl Port {
    fn to(address: &str, settings: HeaderSettings) -> Self {
        let (address, tls) = match address.strip_prefix("https://") {
            Some(address) => (address, true),
            None => (address, false),
        };
        let address = match address.strip_prefix("unix:") {
            Some(path) => Origin::Unix(path.into()),
            None => address.parse().map_or_else(
                |_| {
                    let (name, port) = address.rsplit_once(':').unwrap();
                    Origin::Name(name.to_owned(), port.parse().unwrap())
                },
                Origin::Tcp,
            ),
        };
        Self { settings, own: OwnNames::of(&[HttpOrigin { address, tls }], None), port: 80 }
    }

    /// What a field of an answer becomes for who has asked for this host.
    fn gives(&self, asked: &str, name: &str, value: &str) -> String {
        let visitor = Visitor { circuit: 7, port: self.port, onion: ONION.into(), tls: false };
        let mut request = Request::get("/").header("host", asked).body(()).unwrap().into_parts().0;
        let sites = Sites::new(&self.settings, &visitor, Host::parse(asked));
        headers::request(&self.settings, &visitor, &sites, &mut request);
        let mut answer = Response::new(()).into_parts().0;
        let value = HeaderValue::from_str(value).unwrap();
        answer.headers.append(HeaderName::try_from(name).unwrap(), value);
        headers::response(&self.settings, &self.own, &visitor, &sites, &mut answer);
        answer.headers[name].to_str().unwrap().to_owned()
    }
}

const CSP: &str = "content-security-policy";

fn onion(text: &str) -> String {
    text.replace("ONION", ONION)
}

fn shop() -> HeaderSettings {
    let names = vec![NamePair { public: "shop.example".into(), onion: None }];
    HeaderSettings { names, host: HostHeader::Mapped, ..HeaderSettings::default() }
}

#[test]
fn an_origins_own_address_becomes_what_the_visitor_has_asked_for() {
    let fixed = |host: &str| HeaderSettings {
        host: HostHeader::Fixed(host.into()),
        ..HeaderSettings::default()
    };
    let plain = HeaderSettings::default;
    for (origin, settings, before, after) in [
        // nginx writes the host that it was asked for with its own port.
        ("127.0.0.1:33912", plain(), "http://ONION:33912/dir/", "http://ONION/dir/"),
        ("127.0.0.1:33912", plain(), "http://www.ONION:33912/dir/", "http://www.ONION/dir/"),
        ("127.0.0.1:33912", plain(), "http://127.0.0.1:33912/x", "http://ONION/x"),
        ("127.0.0.1:33912", plain(), "http://127.0.0.1/x", "http://ONION/x"),
        ("127.0.0.1:33912", plain(), "http://LOCALHOST:33912", "http://ONION"),
        ("127.0.0.1:33912", plain(), "https://[::1]:33912/x", "http://ONION/x"),
        ("127.0.0.1:33912", plain(), "//127.0.0.1:33912/x", "//ONION/x"),
        ("127.0.0.1:33912", plain(), "http://0.0.0.0:33912/?a#b", "http://ONION/?a#b"),
        ("127.0.0.1:33912", plain(), "ws://localhost:33912/x", "ws://ONION/x"),
        ("10.0.0.7:8080", plain(), "http://10.0.0.7:8080/x", "http://ONION/x"),
        ("[2001:db8::1]:8080", plain(), "http://[2001:DB8:0::1]:8080/x", "http://ONION/x"),
        ("web:3000", plain(), "http://WEB:3000/x", "http://ONION/x"),
        ("unix:/run/x", plain(), "http://localhost/x", "http://ONION/x"),
        ("https://10.0.0.7:8443", plain(), "https://ONION/x", "http://ONION/x"),
        ("https://10.0.0.7:8443", plain(), "https://ONION:8443/x", "http://ONION/x"),
        ("web:3000", fixed("app:4000"), "http://app:4000/x", "http://ONION/x"),
        ("web:3000", fixed("app"), "http://app:3000/x", "http://ONION/x"),
        ("web:3000", fixed("app"), "http://app/x", "http://ONION/x"),
        ("127.0.0.1:33912", shop(), "http://shop.example:33912/x", "http://ONION/x"),
        // What is of others stays: other ports, other names, and what only looks so.
        ("127.0.0.1:33912", plain(), "http://127.0.0.1:33913/x", "http://127.0.0.1:33913/x"),
        ("127.0.0.1:33912", plain(), "http://ONION:8080/x", "http://ONION:8080/x"),
        ("127.0.0.1:33912", plain(), "https://ONION/x", "https://ONION/x"),
        ("127.0.0.1:33912", plain(), "http://evil/127.0.0.1:33912", "http://evil/127.0.0.1:33912"),
        (
            "127.0.0.1:33912",
            plain(),
            "http://localhost.evil:33912/",
            "http://localhost.evil:33912/",
        ),
        (
            "127.0.0.1:33912",
            plain(),
            "http://localhost@evil:33912/",
            "http://localhost@evil:33912/",
        ),
        ("10.0.0.7:8080", plain(), "http://localhost:8080/", "http://localhost:8080/"),
        ("web:3000", plain(), "http://a.web:3000/x", "http://a.web:3000/x"),
        ("127.0.0.1:33912", plain(), "/x", "/x"),
    ] {
        for asked in ["ONION", "www.ONION"] {
            let port = Port::to(origin, settings.clone());
            let after = match (before.contains(asked), after == before) {
                (_, true) => after.to_owned(),
                _ if before.contains("ONION") || settings == shop() => after.to_owned(),
                _ => after.replace("ONION", asked),
            };
            if settings == shop() && asked != "ONION" {
                continue;
            }
            let got = port.gives(&onion(asked), "location", &onion(before));
            assert_eq!(got, onion(&after), "{before} of {origin} for {asked}");
        }
        let keep = HeaderSettings { map_own_address: false, ..settings };
        if keep.names.is_empty() {
            let got = Port::to(origin, keep).gives(ONION, "location", &onion(before));
            assert_eq!(got, onion(before), "switched off");
        }
    }
}

#[test]
fn a_visitor_of_another_port_is_led_back_to_it() {
    let port = Port { port: 8080, ..Port::to("127.0.0.1:33912", HeaderSettings::default()) };
    for before in ["http://127.0.0.1:33912/x", "http://ONION:33912/x", "http://localhost/x"] {
        for asked in ["ONION:8080", "ONION", "ONION:80"] {
            let got = port.gives(&onion(asked), "location", &onion(before));
            assert_eq!(got, onion("http://ONION:8080/x"), "{before} for {asked}");
        }
    }
}

#[test]
fn no_field_with_urls_tells_where_the_origin_listens() {
    let port = Port::to("10.0.0.7:8080", HeaderSettings::default());
    for (name, before) in [
        ("location", "http://10.0.0.7:8080/x"),
        ("content-location", "http://10.0.0.7:8080/x"),
        ("refresh", "0; url=http://10.0.0.7:8080/x"),
        ("link", "<http://10.0.0.7:8080/x>; rel=next, </y>"),
        (
            "www-authenticate",
            "Digest realm=\"a\", domain=\"/a http://10.0.0.7:8080/x\", nonce=\"n\"",
        ),
        ("content-security-policy", "img-src http://10.0.0.7:8080 10.0.0.7:8080"),
        ("access-control-allow-origin", "http://10.0.0.7:8080"),
        ("set-cookie", "a=b; Domain=10.0.0.7; Path=/"),
        ("hx-redirect", "http://10.0.0.7:8080/x"),
    ] {
        let got = port.gives(ONION, name, before);
        assert!(got.contains(ONION) && !got.contains("10.0.0.7"), "{name}: {got}");
    }
}

#[test]
fn sources_at_any_port_do_not_tell_where_the_origin_listens() {
    for (origin, field, before, after) in [
        ("127.0.0.1:8080", CSP, "img-src http://127.0.0.1:*", "img-src http://ONION:*"),
        ("127.0.0.1:8080", CSP, "img-src localhost:* 'self'", "img-src ONION:* 'self'"),
        ("127.0.0.1:8080", CSP, "img-src wss://[::1]:*/x", "img-src ws://ONION:*/x"),
        ("127.0.0.1:8080", CSP, "img-src http://[::ffff:127.0.0.1]:*", "img-src http://ONION:*"),
        ("10.0.0.7:8080", CSP, "img-src http://10.0.0.7:*", "img-src http://ONION:*"),
        ("10.0.0.7:8080", CSP, "img-src https://[::ffff:10.0.0.7]:*;", "img-src http://ONION:*;"),
        ("web:3000", CSP, "connect-src ws://WEB:*", "connect-src ws://ONION:*"),
        ("web:3000", "permissions-policy", "usb=(\"http://web:*\")", "usb=(\"http://ONION:*\")"),
        // What is of others stays.
        ("web:3000", CSP, "img-src http://10.0.0.7:* *:*", "img-src http://10.0.0.7:* *:*"),
        ("web:3000", CSP, "img-src http://ONION:*", "img-src http://ONION:*"),
        ("10.0.0.7:80", CSP, "img-src http://[::10.0.0.7]:*", "img-src http://[::10.0.0.7]:*"),
    ] {
        let port = Port::to(origin, HeaderSettings::default());
        assert_eq!(port.gives(ONION, field, &onion(before)), onion(after), "{before} of {origin}");
        let settings = HeaderSettings { map_own_address: false, ..HeaderSettings::default() };
        let got = Port::to(origin, settings).gives(ONION, field, &onion(before));
        assert_eq!(got, onion(before), "switched off");
    }
    let got = Port::to("web:3000", shop()).gives(ONION, CSP, "img-src http://shop.example:*");
    assert_eq!(got, onion("img-src http://ONION:*"));
}

#[test]
fn an_address_is_the_same_however_it_is_written() {
    for origin in ["10.0.0.7:8080", "[::ffff:10.0.0.7]:8080"] {
        let port = Port::to(origin, HeaderSettings::default());
        for host in ["10.0.0.7:8080", "[::ffff:10.0.0.7]:8080", "[::FFFF:a00:7]", "10.0.0.7."] {
            let got = port.gives(ONION, "location", &format!("http://{host}/x"));
            assert_eq!(got, onion("http://ONION/x"), "{host} of {origin}");
        }
        let got = port.gives(ONION, "set-cookie", "a=b; Domain=10.0.0.7");
        assert!(!got.contains("10.0.0.7"), "{got}");
    }
}

#[test]
fn other_ways_to_the_origin_are_none_for_visitors() {
    let port = Port::to("10.0.0.7:8080", HeaderSettings::default());
    let given = |value: &str| {
        let visitor = Visitor { circuit: 7, port: 80, onion: ONION.into(), tls: false };
        let sites = Sites::new(&port.settings, &visitor, Host::parse(ONION));
        let mut answer = Response::new(()).into_parts().0;
        answer.headers.append("alt-svc", value.parse().unwrap());
        headers::response(&port.settings, &port.own, &visitor, &sites, &mut answer);
        answer.headers.contains_key("alt-svc")
    };
    assert!(!given("h2=\"10.0.0.7:8443\"; ma=60"));
    assert!(!given("h3=\":443\", h2=\"10.0.0.7:443\""));
    assert!(given("h2=\"other.onion:443\"") && given("clear"));
}

#[test]
fn public_names_are_found_in_fields_of_many_kinds() {
    let port =
        Port::to("127.0.0.1:1", HeaderSettings { url_fields: vec!["X-Next".into()], ..shop() });
    for (name, before, after) in [
        ("hx-redirect", "https://shop.example/a", "http://ONION/a"),
        ("hx-push-url", "https://shop.example/a", "http://ONION/a"),
        ("hx-push-url", "false", "false"),
        ("hx-replace-url", "https://www.shop.example/a", "http://www.ONION/a"),
        ("hx-location", "https://shop.example/a", "http://ONION/a"),
        (
            "hx-location",
            "{\"path\":\"https://shop.example/a\", \"target\":\"#b\"}",
            "{\"path\":\"http://ONION/a\", \"target\":\"#b\"}",
        ),
        (
            "hx-location",
            "{\"path\":\"https:\\/\\/shop.example\\/a\"}",
            "{\"path\":\"http://ONION/a\"}",
        ),
        ("report-to", "{\"a\":\"x\\/y\"}", "{\"a\":\"x\\/y\"}"),
        ("turbo-location", "https://shop.example/a", "http://ONION/a"),
        ("x-inertia-location", "https://shop.example/a", "http://ONION/a"),
        ("x-redirect", "https://shop.example/a", "http://ONION/a"),
        ("x-action-redirect", "https://shop.example/a;push", "http://ONION/a;push"),
        ("x-pingback", "https://shop.example/xmlrpc.php", "http://ONION/xmlrpc.php"),
        ("sourcemap", "https://shop.example/a.map", "http://ONION/a.map"),
        ("feature-policy", "camera 'self' https://shop.example", "camera 'self' http://ONION"),
        (
            "access-control-allow-origin",
            "https://shop.example, https://evil.example https://cdn.shop.example",
            "http://ONION, https://evil.example http://cdn.ONION",
        ),
        ("x-frame-options", "ALLOW-FROM https://shop.example/", "ALLOW-FROM http://ONION/"),
        (
            "www-authenticate",
            "Bearer realm=\"https://shop.example/token\",service=\"a\"",
            "Bearer realm=\"http://ONION/token\",service=\"a\"",
        ),
        (
            "www-authenticate",
            "Basic realm=\"https://shop.example/\"",
            "Basic realm=\"http://ONION/\"",
        ),
        (
            // The client's answer is computed over the realm.
            "www-authenticate",
            "Digest realm=\"https://shop.example/\", domain=\"https://shop.example/a\"",
            "Digest realm=\"https://shop.example/\", domain=\"http://ONION/a\"",
        ),
        ("x-next", "https://shop.example/a", "http://ONION/a"),
        ("x-next", "<https://shop.example/a>; rel=x", "<http://ONION/a>; rel=x"),
        ("x-next", "{\"u\":\"https://shop.example/a\"}", "{\"u\":\"http://ONION/a\"}"),
        ("x-next", "a, https://shop.example/a b", "a, http://ONION/a b"),
        ("x-other", "https://shop.example/a", "https://shop.example/a"),
    ] {
        assert_eq!(port.gives(ONION, name, before), onion(after), "{name}");
        let evil = before.replace("shop.example", "shop.example.evil");
        if !before.contains("\\/") {
            assert_eq!(port.gives(ONION, name, &evil), evil, "{name}");
        }
    }
}

#[test]
fn what_clients_write_of_the_site_is_translated_back_and_what_they_make_up_is_not() {
    let settings = HeaderSettings { url_fields: vec!["X-Back".into()], ..shop() };
    let visitor = Visitor { circuit: 7, port: 80, onion: ONION.into(), tls: false };
    for (name, before, after) in [
        ("hx-current-url", "http://ONION/a?b", Some("http://shop.example/a?b")),
        ("hx-current-url", "https://shop.example/a", None),
        ("referer", "https://shop.example/a", None),
        ("referer", "http://evil.example/a", Some("http://evil.example/a")),
        ("turbo-referrer", "http://www.ONION/", Some("http://www.shop.example/")),
        ("destination", "http://ONION/dav", Some("http://shop.example/dav")),
        ("destination", "http://shop.example/dav", Some("http://shop.example/dav")),
        ("x-back", "http://ONION/a", Some("http://shop.example/a")),
        ("x-other", "http://ONION/a", Some("http://ONION/a")),
    ] {
        let request = Request::get("/").header("host", ONION).header(name, onion(before));
        let mut parts = request.body(()).unwrap().into_parts().0;
        let sites = Sites::new(&settings, &visitor, Host::parse(ONION));
        headers::request(&settings, &visitor, &sites, &mut parts);
        let got = parts.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(got, after.map(onion), "{name}: {before}");
    }
}

#[test]
fn cookies_lose_secure_and_what_needs_it_only_where_that_is_wanted() {
    for (before, after) in [
        ("a=b; Secure; Path=/", "a=b; Path=/"),
        ("a=b; path=/;secure;HttpOnly", "a=b; path=/;HttpOnly"),
        ("a=b; SECURE", "a=b"),
        ("a=b; Secure=x", "a=b"),
        ("a=secure; SameSite=None; Secure", "a=secure"),
        ("a=b; SameSite=Lax; Secure", "a=b; SameSite=Lax"),
        ("a=b; samesite = NONE ; Partitioned; Secure; Max-Age=1", "a=b; Max-Age=1"),
        ("__Secure-a=b; Secure", "__Secure-a=b; Secure"),
        ("__Host-a=b; Secure; Path=/; SameSite=None", "__Host-a=b; Secure; Path=/; SameSite=None"),
        ("__host-a=b; Secure", "__host-a=b; Secure"),
        ("a=b; Domain=shop.example; Secure", "a=b; Domain=ONION"),
        ("secure", "secure"),
    ] {
        let drop = HeaderSettings { secure_cookies: SecureCookies::Drop, ..shop() };
        let got = Port::to("127.0.0.1:1", drop).gives(ONION, "set-cookie", before);
        assert_eq!(got, onion(after), "{before}");
        let kept = Port::to("127.0.0.1:1", shop()).gives(ONION, "set-cookie", before);
        assert_eq!(kept, before.replace("shop.example", ONION), "{before}");
    }
}

//! Whether the checks of common frameworks against forged requests (CSRF) hold
//! behind the proxy, in every setting: their own pages' requests pass, those that
//! another site has a browser make do not. The rules are those of the frameworks'
//! sources, as far as they look at the head of a request.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use http::{HeaderMap, Request, Version};
use onionbraid_proxy::headers::{self, Sites};
use onionbraid_proxy::host::Host;
use onionbraid_proxy::settings::{HeaderSettings, HostHeader, NamePair};
use onionbraid_proxy::visitor::Visitor;

const ONION: &str = "abcdefghijklmnopqrstuvwxyz234567abcdefghijklmnopqrstuvwx.onion";

/// A request as an application sees it.
#[derive(Debug)]
struct Seen {
    fields: HeaderMap,
    /// Whether the proxy speaks TLS with it.
    tls: bool,
}

impl Seen {
    fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(|value| value.to_str().unwrap())
    }

    fn host(&self) -> &str {
        self.field("host").unwrap()
    }

    /// Of the connection, where nobody says anything else.
    fn own_scheme(&self) -> &str {
        if self.tls { "https" } else { "http" }
    }
}

/// The rules.
mod rule {
    use super::Seen;

    /// The host and port of a URL, as urlsplit and url.Parse leave them.
    fn parts(url: &str) -> Option<(&str, &str)> {
        let (scheme, rest) = url.split_once("://")?;
        Some((scheme, rest.split(['/', '?', '#']).next().unwrap()))
    }

    /// What the last proxy says in a list.
    fn last(list: &str) -> &str {
        list.rsplit(',').next().unwrap().trim()
    }

    /// Rack 2.2 and 3, `Request#scheme`, `#host`, `#port`.
    fn rack_base_url(seen: &Seen) -> String {
        let said = seen.field("x-forwarded-proto").map(|list| list.split(',').next().unwrap());
        let scheme = said.unwrap_or_else(|| seen.own_scheme());
        let host = seen.field("x-forwarded-host").map_or_else(|| seen.host(), last);
        let usual = if scheme == "https" { "443" } else { "80" };
        let (name, port) = match host.rsplit_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (host, None),
        };
        let port = match port {
            None => seen.field("x-forwarded-port").map_or(usual, last),
            Some(port) => port,
        };
        match port == usual {
            true => format!("{scheme}://{name}"),
            false => format!("{scheme}://{name}:{port}"),
        }
    }

    /// Rails, `valid_request_origin?`; its `base_url` knows no X-Forwarded-Port.
    pub(super) fn rails(seen: &Seen) -> bool {
        let said = seen.field("x-forwarded-proto").map(|list| list.split(',').next().unwrap());
        let scheme = said.unwrap_or_else(|| seen.own_scheme());
        let host = seen.field("x-forwarded-host").map_or_else(|| seen.host(), last);
        let usual = if scheme == "https" { ":443" } else { ":80" };
        let base_url = format!("{scheme}://{}", host.strip_suffix(usual).unwrap_or(host));
        seen.field("origin").is_none_or(|origin| origin != "null" && origin == base_url)
    }

    /// Rack::Protection::HttpOrigin.
    pub(super) fn rack_protection(seen: &Seen) -> bool {
        seen.field("origin").is_none_or(|origin| origin == rack_base_url(seen))
    }

    /// Django 5.2, `CsrfViewMiddleware`, with and without `USE_X_FORWARDED_HOST`
    /// and `SECURE_PROXY_SSL_HEADER`; the token in the form is right.
    pub(super) fn django(seen: &Seen, forwarded_host: bool, proxy_ssl: bool) -> bool {
        let said = seen.field("x-forwarded-proto").filter(|_| proxy_ssl);
        let scheme = said.unwrap_or_else(|| seen.own_scheme());
        let host = seen.field("x-forwarded-host").filter(|_| forwarded_host);
        let host = host.unwrap_or_else(|| seen.host());
        match (seen.field("origin"), seen.field("referer")) {
            (Some(origin), _) => origin == format!("{scheme}://{host}"),
            (None, referer) if scheme == "https" => {
                referer.and_then(parts) == Some(("https", host))
            }
            (None, _) => true,
        }
    }

    /// Next.js 15.5, server actions: the host of X-Forwarded-Host counts, if there
    /// is one.
    pub(super) fn next(seen: &Seen) -> bool {
        let Some(origin) = seen.field("origin") else { return true };
        // `new URL("null")` throws.
        let Some((scheme, host)) = parts(origin) else { return false };
        let usual = if scheme == "https" { ":443" } else { ":80" };
        let domain = host.strip_suffix(usual).unwrap_or(host).to_ascii_lowercase();
        let forwarded = seen.field("x-forwarded-host").map(|list| list.split(',').next().unwrap());
        forwarded.unwrap_or_else(|| seen.host()) == domain
    }

    /// Go 1.25, `http.CrossOriginProtection`.
    pub(super) fn go(seen: &Seen) -> bool {
        match seen.field("sec-fetch-site") {
            Some("same-origin" | "none") => return true,
            Some(_) => return false,
            None => {}
        }
        seen.field("origin")
            .is_none_or(|origin| parts(origin).is_some_and(|(_, host)| host == seen.host()))
    }

    /// gorilla/csrf 1.7.3, where it was told the scheme.
    pub(super) fn gorilla(seen: &Seen, scheme: &str) -> bool {
        match (seen.field("origin"), seen.field("referer")) {
            (Some(origin), _) => parts(origin) == Some((scheme, seen.host())),
            (None, referer) if scheme == "https" => {
                referer.and_then(parts) == Some((scheme, seen.host()))
            }
            (None, _) => true,
        }
    }

    /// By `Forwarded` alone (RFC 7239), as Rack 3 and others read it.
    pub(super) fn forwarded(seen: &Seen) -> Option<bool> {
        let text = seen.field("forwarded")?;
        let host = text.split("host=\"").nth(1)?.split('"').next()?;
        let scheme = text.split("proto=").nth(1)?;
        let origin = seen.field("origin")?;
        Some(parts(origin) == Some((scheme, host)))
    }
}

/// One combination of settings, and where the client has come to.
#[derive(Debug)]
struct Case {
    settings: HeaderSettings,
    visitor: Visitor,
    tls: bool,
    version: Version,
    /// The host that the client asks for.
    asked: String,
}

/// All that `check` accepts.
fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let fixed = |host: &str| HostHeader::Fixed(host.to_owned());
    let hosts = [
        HostHeader::Pass,
        HostHeader::Mapped,
        fixed("shop.example"),
        fixed("app:3000"),
        fixed("shop.example:443"),
        fixed("shop.example:80"),
    ];
    let names = [
        Vec::new(),
        vec![NamePair { public: "shop.example".into(), onion: None }],
        vec![
            NamePair { public: "shop.example".into(), onion: Some(ONION.into()) },
            NamePair { public: "cdn.example".into(), onion: Some("cdn.onion".into()) },
        ],
    ];
    for host in &hosts {
        for names in &names {
            if *host == HostHeader::Mapped && names.is_empty() {
                continue;
            }
            for (bits, port) in (0..32).zip([80, 8080].into_iter().cycle()) {
                for port in [port, 443] {
                    let bit = |at: u32| bits & (1 << at) != 0;
                    let settings = HeaderSettings {
                        host: host.clone(),
                        names: names.clone(),
                        x_forwarded: bit(0),
                        forwarded: bit(1),
                        proto: Some(if bit(2) { "https" } else { "http" }),
                        ..HeaderSettings::default()
                    };
                    let tls = bit(3);
                    let told = settings.x_forwarded || settings.forwarded;
                    let https = settings.scheme() == "https";
                    let refused = if tls { !https } else { https && !told };
                    if refused {
                        continue;
                    }
                    let labels = if bit(4) { "www." } else { "" };
                    let asked = match port {
                        80 => format!("{labels}{ONION}"),
                        port => format!("{labels}{ONION}:{port}"),
                    };
                    // Each combination by one of them, each setting by both.
                    let version = match cases.len() % 2 {
                        0 => Version::HTTP_11,
                        _ => Version::HTTP_2,
                    };
                    let visitor = Visitor { circuit: 7, port, onion: ONION.into(), tls: false };
                    cases.push(Case { settings, visitor, tls, version, asked });
                }
            }
        }
    }
    cases
}

impl Case {
    /// A request with these fields as the application sees it.
    fn seen(&self, asked: &str, fields: &[(&'static str, &str)]) -> Seen {
        let target = match self.version {
            Version::HTTP_2 => format!("http://{asked}/form"),
            _ => "/form".to_owned(),
        };
        let mut parts =
            Request::post(target).version(self.version).body(()).unwrap().into_parts().0;
        if self.version != Version::HTTP_2 {
            parts.headers.insert("host", asked.parse().unwrap());
        }
        for (name, value) in fields {
            parts.headers.append(*name, value.parse().unwrap());
        }
        let sites = Sites::new(&self.settings, &self.visitor, Host::parse(asked));
        headers::request(&self.settings, &self.visitor, &sites, &mut parts);
        Seen { fields: parts.headers, tls: self.tls }
    }

    /// What every framework says that can know the scheme.
    fn verdicts(&self, seen: &Seen) -> Vec<(&'static str, bool)> {
        let mut said = vec![("next", rule::next(seen)), ("go", rule::go(seen))];
        said.extend(self.strict_verdicts(seen));
        said
    }

    /// Of those that compare the scheme, too.
    fn strict_verdicts(&self, seen: &Seen) -> Vec<(&'static str, bool)> {
        let mut said = vec![("gorilla", rule::gorilla(seen, self.settings.scheme()))];
        let known = self.settings.x_forwarded || (self.settings.scheme() == "https") == self.tls;
        if known {
            let ssl = self.settings.x_forwarded;
            said.extend([
                ("rails", rule::rails(seen)),
                ("rack-protection", rule::rack_protection(seen)),
                ("django", rule::django(seen, false, ssl)),
                ("django with USE_X_FORWARDED_HOST", rule::django(seen, true, ssl)),
            ]);
        }
        said.extend(rule::forwarded(seen).map(|said| ("by Forwarded", said)));
        said
    }
}

#[test]
fn pages_of_the_site_itself_may_send_forms() {
    for case in cases() {
        for asked in [&case.asked, &case.asked.to_ascii_uppercase()] {
            let page = format!("http://{}", case.asked);
            let referer = format!("{page}/form?from=http://evil.example/");
            for fields in [
                &[("origin", &*page), ("referer", &*referer)][..],
                &[("origin", &*page)],
                &[("origin", &*page), ("sec-fetch-site", "same-origin")],
                &[("referer", &*referer)],
            ] {
                if asked != &case.asked && fields.len() == 1 && fields[0].0 == "referer" {
                    continue;
                }
                let seen = case.seen(asked, fields);
                for (framework, passes) in case.verdicts(&seen) {
                    // Who lowers the name of one side only lowers the browser's.
                    if asked == &case.asked || framework != "next" {
                        assert!(passes, "{framework}: {case:?} {seen:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn pages_of_other_sites_may_not_whatever_they_claim_to_be() {
    let foreign = |case: &Case| {
        let port = case.visitor.port;
        let mut sites = vec![
            "http://evil.example".to_owned(),
            "https://evil.example".to_owned(),
            "http://shop.example.evil.example".to_owned(),
            format!("http://not{}", case.asked),
            format!("http://evil.{}", case.asked),
            format!("http://{ONION}:{}", port + 1),
            "http://cdn.onion".to_owned(),
            format!("http://cdn.onion:{port}"),
            "null".to_owned(),
        ];
        for claimed in
            ["shop.example", "www.shop.example", "SHOP.example.", "app:3000", "app", "cdn.example"]
        {
            for suffix in ["", ":80", ":443", ":3000"] {
                if suffix.is_empty() || !claimed.contains(':') {
                    sites.push(format!("http://{claimed}{suffix}"));
                    sites.push(format!("https://{claimed}{suffix}"));
                }
            }
        }
        sites
    };
    for case in cases() {
        for site in foreign(&case) {
            let referer = format!("{site}/page");
            for fields in [
                &[("origin", &*site), ("referer", &*referer)][..],
                &[("origin", &*site)],
                &[("origin", &*site), ("sec-fetch-site", "cross-site")],
            ] {
                let seen = case.seen(&case.asked, fields);
                for (framework, passes) in case.verdicts(&seen) {
                    assert!(!passes, "{framework}: {site} {case:?} {seen:?}");
                }
            }
            // Where there is only a Referer, some look at it by HTTPS.
            if case.settings.scheme() == "https" && site != "null" {
                let seen = case.seen(&case.asked, &[("referer", &*referer)]);
                for (framework, passes) in case.strict_verdicts(&seen) {
                    if framework.starts_with("django") || framework == "gorilla" {
                        assert!(!passes, "{framework}: {site} {case:?} {seen:?}");
                    }
                }
            }
        }
        // Another scheme is another site for all who compare it.
        let other = format!("https://{}", case.asked);
        let seen = case.seen(&case.asked, &[("origin", &other)]);
        for (framework, passes) in case.strict_verdicts(&seen) {
            assert!(!passes, "{framework}: {other} {case:?} {seen:?}");
        }
    }
}

#[test]
fn all_fields_speak_of_one_site() {
    for case in cases() {
        let page = format!("http://{}", case.asked);
        let seen = case.seen(&case.asked, &[("origin", &page), ("referer", &format!("{page}/a"))]);
        let origin = seen.field("origin").unwrap().to_owned();
        assert_eq!(seen.field("referer").unwrap(), format!("{origin}/a"));
        let (scheme, host) = origin.split_once("://").unwrap();
        assert_eq!((scheme, host), (case.settings.scheme(), seen.host()), "{case:?}");
        let port = host
            .rsplit_once(':')
            .map_or(if scheme == "https" { "443" } else { "80" }, |(_, port)| port);
        let told = case.settings.x_forwarded;
        for (name, value) in
            [("x-forwarded-host", host), ("x-forwarded-proto", scheme), ("x-forwarded-port", port)]
        {
            assert_eq!(seen.field(name), told.then_some(value), "{case:?}");
        }
        let forwarded = format!("for=_c7;host=\"{host}\";proto={scheme}");
        let told = case.settings.forwarded;
        assert_eq!(seen.field("forwarded"), told.then_some(&*forwarded), "{case:?}");
    }
}

//! No head makes the rules of what is refused, or what is changed in requests
//! and responses, panic; what passes cannot be taken for a refused path, names
//! one host, and says nothing in the name of the proxy.

#![no_main]

use http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderName, HeaderValue, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, Method, Request, Response, Version};
use libfuzzer_sys::fuzz_target;
use onionbraid_proxy::guard::Guard;
use onionbraid_proxy::headers::{self, OwnNames};
use onionbraid_proxy::host::Host;
use onionbraid_proxy::settings::{BlockRule, GuardSettings, HeaderSettings, HostHeader, NamePair};
use onionbraid_proxy::visitor::Visitor;

fuzz_target!(|input: (u8, &str, &str)| {
    let (choice, target, fields) = input;
    let Some(headers) = header_map(fields) else { return };
    let settings = settings(choice);
    let visitor = Visitor { circuit: 7, port: 80, onion: "abc.onion".into(), tls: false };

    let mut response = Response::new(()).into_parts().0;
    response.headers = headers.clone();
    let sites = headers::Sites::new(&settings, &visitor, Host::parse(target));
    headers::response(&settings, &OwnNames::default(), &visitor, &sites, &mut response);
    assert!(
        !response.headers.contains_key("x-strip") && !response.headers.contains_key(CONNECTION)
    );
    let (mut trailers, mut of_response) = (headers.clone(), headers.clone());
    headers::request_trailers(&settings, &mut trailers);
    headers::response_trailers(&settings, &mut of_response);
    for trailers in [&trailers, &of_response] {
        assert!(!trailers.contains_key(HOST) && !trailers.contains_key(CONTENT_LENGTH));
    }

    let method = [Method::GET, Method::OPTIONS, Method::POST][usize::from(choice >> 6) % 3].clone();
    let Ok(request) = Request::builder().method(method).uri(target).body(()) else { return };
    let mut request = request.into_parts().0;
    request.headers = headers;
    request.version = [Version::HTTP_11, Version::HTTP_10, Version::HTTP_2, Version::HTTP_11]
        [usize::from(choice >> 4) % 4];
    let rule = BlockRule { path: Some("/admin".into()), status: 403, ..BlockRule::default() };
    let guarded = GuardSettings {
        block_tor2web: choice & 8 != 0,
        block: vec![rule],
        ..GuardSettings::default()
    };
    let guard = Guard::new(&guarded);
    let Ok(host) = guard.check(&visitor.onion, &request) else { return };
    let sites = headers::Sites::new(&settings, &visitor, host);
    let path = request.uri.path().to_owned();
    assert!(!leads_to_admin(&path), "{path:?} leads to /admin for some");
    headers::request(&settings, &visitor, &sites, &mut request);
    let headers = &request.headers;
    assert_eq!(headers.get_all(HOST).iter().count(), 1);
    assert!(request.uri.authority().is_none() && request.version == Version::HTTP_11);
    assert!(!headers.contains_key(TRANSFER_ENCODING) || !headers.contains_key(CONTENT_LENGTH));
    assert!(headers.get_all(CONTENT_LENGTH).iter().count() <= 1);
    for name in headers.keys().chain(trailers.keys()).map(HeaderName::as_str) {
        assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'), "{name}");
        assert!(!name.starts_with("remote-") && !name.starts_with("x-own-"), "{name}");
        assert!(!["x-forwarded-for", "x-real-ip", "script-name", "expect"].contains(&name));
    }
    if headers.contains_key(UPGRADE) {
        assert!(request.method == Method::GET && !headers.contains_key(CONTENT_LENGTH));
    }
    if settings.circuit_id.is_some() {
        assert!(headers.get_all("x-circuit").iter().eq(["7"]));
    }
});

/// Some settings for each number.
fn settings(choice: u8) -> HeaderSettings {
    let host = match choice % 3 {
        0 => HostHeader::Pass,
        1 => HostHeader::Fixed("example.com".into()),
        _ => HostHeader::Mapped,
    };
    let pair = |public: &str, onion: Option<&str>| NamePair {
        public: public.into(),
        onion: onion.map(Into::into),
    };
    HeaderSettings {
        host,
        forwarded: choice & 1 != 0,
        proto: (choice & 2 != 0).then_some("https"),
        circuit_id: (choice & 4 != 0).then(|| "X-Circuit".to_owned()),
        names: vec![pair("example.com", None), pair("cdn.example", Some("cdn.abc.onion"))],
        strip: vec!["X-Strip".into()],
        strip_request: vec!["X-Own-*".into()],
        ..HeaderSettings::default()
    }
}

/// `name: value` lines, if all of them can be fields.
fn header_map(fields: &str) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    for line in fields.lines().take(64) {
        let (name, value) = line.split_once(": ")?;
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        headers.append(name, HeaderValue::from_bytes(value.as_bytes()).ok()?);
    }
    Some(headers)
}

/// Whether any of many servers, decoding, cutting and merging what they like,
/// ends up below `/admin`.
fn leads_to_admin(path: &str) -> bool {
    let mut decoded = path.as_bytes().to_vec();
    (0..=3).any(|_| {
        let found = (0..8).any(|server| {
            let mut segments = Vec::<Vec<u8>>::new();
            let slash = |byte: &u8| *byte == b'/' || server & 1 != 0 && *byte == b'\\';
            for segment in decoded.split(slash).skip(1) {
                let end = segment.iter().position(|byte| server & 2 != 0 && *byte == b';');
                match &segment[..end.unwrap_or(segment.len())] {
                    b"." => {}
                    b".." => drop(segments.pop()),
                    b"" if server & 4 != 0 => {}
                    name => segments.push(name.to_vec()),
                }
            }
            segments.first().is_some_and(|first| first == b"admin")
        });
        decoded = percent_encoding::percent_decode(&decoded).collect();
        found
    })
}

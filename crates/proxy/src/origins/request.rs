//! A request as an origin is to get it: its target, `Host` and version by the
//! protocol that is spoken.

use hyper::body::Body as _;
use hyper::header::{CONNECTION, CONTENT_LENGTH, HOST, HeaderValue, TRANSFER_ENCODING, UPGRADE};
use hyper::http::uri::{Authority, PathAndQuery, Scheme};
use hyper::{Method, Request, Uri, Version};

use crate::body::Body;
use crate::failure::Failure;
use crate::rules::{HttpOrigin, Origin};
use crate::settings::{HostHeader, HttpSettings, OriginProtocol};

/// What an origin is called in checks: as in requests, where the settings say
/// that, and not the client.
pub(super) fn name_of(origin: &HttpOrigin, settings: &HttpSettings) -> String {
    let headers = &settings.headers;
    match &headers.host {
        HostHeader::Fixed(host) => return host.clone(),
        HostHeader::Mapped => {
            // The name of the service's own address.
            if let Some(own) = headers.names.iter().find(|pair| pair.onion.is_none()) {
                return own.public.clone();
            }
        }
        HostHeader::Pass => {}
    }
    match (&origin.address, settings.origins.tls.server_name.as_deref()) {
        (_, Some(name)) => name.to_owned(),
        (Origin::Unix(_), None) => "localhost".to_owned(),
        (address, None) => address.to_string(),
    }
}

/// Whether a request may be repeated: its method is idempotent (RFC 9110,
/// section 9.2.2), and it has no body that would be gone.
pub(super) fn is_repeatable(request: &Request<Body>) -> bool {
    let method = request.method();
    let idempotent = [&Method::GET, &Method::HEAD, &Method::PUT, &Method::DELETE, &Method::OPTIONS];
    idempotent.contains(&method) && !has_content(request)
}

/// Whether a request has content: an origin that does not look for it takes it for the
/// next request (RFC 9110, section 9.3.1).
pub(super) fn has_content(request: &Request<Body>) -> bool {
    let body = request.body();
    !(body.is_end_stream() || body.size_hint().exact() == Some(0))
}

/// The head of a request, to repeat it.
pub(super) fn copy_of_head(request: &Request<Body>) -> Request<()> {
    let mut copy = Request::new(());
    copy.method_mut().clone_from(request.method());
    copy.uri_mut().clone_from(request.uri());
    copy.headers_mut().clone_from(request.headers());
    copy.extensions_mut().clone_from(request.extensions());
    copy
}

/// Gives a request with a `Host` the form of the protocol.
///
/// # Errors
///
/// `Malformed` if its target, or `Host` towards HTTP/2, has no such form.
pub(super) fn shape<B: hyper::body::Body>(
    request: &mut Request<B>,
    protocol: OriginProtocol,
    tls: bool,
) -> Result<(), Failure> {
    let path = request.uri().path_and_query().cloned();
    let path = path.unwrap_or(PathAndQuery::from_static("/"));
    match protocol {
        OriginProtocol::Http1 => {
            *request.uri_mut() = Uri::from(path);
            *request.version_mut() = Version::HTTP_11;
            // hyper would take a GET or HEAD without a length for one without a
            // body, and drop what comes.
            let body = request.body();
            let unknown = !body.is_end_stream() && body.size_hint().exact().is_none();
            if unknown && !request.headers().contains_key(CONTENT_LENGTH) {
                let chunked = HeaderValue::from_static("chunked");
                request.headers_mut().insert(TRANSFER_ENCODING, chunked);
            }
        }
        OriginProtocol::Http2 => {
            // What `Connection` announces has no place here (RFC 9113, section
            // 8.2.2), save `TE: trailers`: hyper takes out what it names.
            request.headers_mut().remove(CONNECTION);
            request.headers_mut().remove(UPGRADE);
            // `:authority` takes the place of `Host` (section 8.3.1); in a
            // request that is sent again it has done so.
            let authority = match request.headers_mut().remove(HOST) {
                Some(host) => Authority::try_from(host.as_bytes()).ok(),
                None => request.uri().authority().cloned(),
            };
            let mut uri = Uri::default().into_parts();
            uri.scheme = Some(if tls { Scheme::HTTPS } else { Scheme::HTTP });
            uri.authority = Some(authority.ok_or(Failure::Malformed)?);
            uri.path_and_query = Some(path);
            *request.uri_mut() = Uri::from_parts(uri).map_err(|_| Failure::Malformed)?;
            *request.version_mut() = Version::HTTP_2;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body;
    use crate::settings::NamePair;

    fn shaped(method: &Method, target: &str, host: &str, protocol: OriginProtocol) -> String {
        let request = Request::builder().method(method).uri(target).header(HOST, host);
        let mut request = request.body(body::empty()).unwrap();
        match shape(&mut request, protocol, true) {
            Ok(()) => request.uri().to_string(),
            Err(failure) => failure.name().to_owned(),
        }
    }

    #[test]
    fn checks_ask_for_the_host_that_requests_ask_for() {
        let origin = HttpOrigin { address: Origin::Name("web".into(), 8080), tls: false };
        let pair = |public: &str, onion: Option<&str>| NamePair {
            public: public.to_owned(),
            onion: onion.map(str::to_owned),
        };
        let name = |host, names| {
            let mut settings = HttpSettings::default();
            settings.headers.host = host;
            settings.headers.names = names;
            name_of(&origin, &settings)
        };
        let names = || vec![pair("cdn.example", Some("cdn.onion")), pair("shop.example", None)];
        assert_eq!(name(HostHeader::Pass, names()), "web:8080");
        assert_eq!(name(HostHeader::Fixed("app:3000".into()), names()), "app:3000");
        assert_eq!(name(HostHeader::Mapped, names()), "shop.example");
        assert_eq!(name(HostHeader::Mapped, names()[..1].to_vec()), "web:8080");
    }

    #[test]
    fn a_target_takes_the_form_of_the_protocol() {
        let (one, two) = (OriginProtocol::Http1, OriginProtocol::Http2);
        let get = &Method::GET;
        assert_eq!(shaped(get, "http://a.example/b?c", "d.onion", one), "/b?c");
        assert_eq!(shaped(get, "/b?c", "d.onion:81", two), "https://d.onion:81/b?c");
        assert_eq!(shaped(get, "http://a.example", "d.onion", one), "/");
        assert_eq!(shaped(&Method::OPTIONS, "*", "d.onion", one), "*");
        assert_eq!(shaped(&Method::OPTIONS, "*", "d.onion", two), "https://d.onion*");
        assert_eq!(shaped(get, "/", "no host", two), "malformed");
    }

    #[test]
    fn a_request_can_be_shaped_again_for_the_next_origin() {
        for protocol in [OriginProtocol::Http1, OriginProtocol::Http2] {
            let mut request =
                Request::get("/a").header(HOST, "d.onion").body(body::empty()).unwrap();
            shape(&mut request, protocol, false).unwrap();
            let once = (request.uri().clone(), request.headers().clone());
            shape(&mut request, protocol, false).unwrap();
            assert_eq!((request.uri().clone(), request.headers().clone()), once);
        }
    }

    #[test]
    fn only_what_does_no_more_when_it_arrives_twice_is_repeatable() {
        for (method, repeatable) in
            [("GET", true), ("DELETE", true), ("PUT", true), ("POST", false), ("PATCH", false)]
        {
            let request = |body| Request::builder().method(method).uri("/").body(body).unwrap();
            assert_eq!(is_repeatable(&request(body::empty())), repeatable, "{method}");
            assert!(!is_repeatable(&request(body::full("body"))), "{method}");
        }
    }
}

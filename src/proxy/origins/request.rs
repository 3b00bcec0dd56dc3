//! A request as an origin is to get it: its target, `Host` and version by the
//! protocol that is spoken.

use hyper::header::{HOST, HeaderValue};
use hyper::http::uri::{Authority, PathAndQuery, Scheme};
use hyper::{Method, Request, Uri, Version};

use crate::proxy::body::Body;
use crate::proxy::failure::Failure;
use crate::proxy::rules::{HttpOrigin, Origin};
use crate::proxy::settings::OriginProtocol;

/// What an origin is called where a request does not say: `Host` of HTTP/1.0
/// requests and of checks.
pub(super) fn name_of(origin: &HttpOrigin, server_name: Option<&str>) -> String {
    match (&origin.address, server_name) {
        (_, Some(name)) => name.to_owned(),
        (Origin::Unix(_), None) => "localhost".to_owned(),
        (address, None) => address.to_string(),
    }
}

/// Whether a request may be repeated: its method is idempotent (RFC 9110,
/// section 9.2.2), and it has no body that would be gone.
pub(super) fn is_repeatable(request: &Request<Body>) -> bool {
    use hyper::body::Body as _;
    let method = request.method();
    let idempotent = [
        &Method::GET,
        &Method::HEAD,
        &Method::PUT,
        &Method::DELETE,
        &Method::OPTIONS,
        &Method::TRACE,
    ];
    let body = request.body();
    let empty = body.is_end_stream() || body.size_hint().exact() == Some(0);
    idempotent.contains(&method) && empty
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

/// Gives a request the form of the protocol. `name` is used without `Host`.
///
/// # Errors
///
/// `Malformed` if its target, or `Host` towards HTTP/2, has no such form.
pub(super) fn shape<B>(
    request: &mut Request<B>,
    protocol: OriginProtocol,
    tls: bool,
    name: &str,
) -> Result<(), Failure> {
    let malformed = |_| Failure::Malformed;
    let path = request.uri().path_and_query().cloned();
    let path = path.unwrap_or(PathAndQuery::from_static("/"));
    if !request.headers().contains_key(HOST) {
        let authority = request.uri().authority().map_or(name, Authority::as_str);
        let host = HeaderValue::from_str(authority).map_err(|_| Failure::Malformed)?;
        request.headers_mut().insert(HOST, host);
    }
    match protocol {
        OriginProtocol::Http1 => {
            *request.uri_mut() = Uri::from(path);
            *request.version_mut() = Version::HTTP_11;
        }
        OriginProtocol::Http2 => {
            // `:authority` takes the place of `Host` (RFC 9113, section 8.3.1).
            let host = request.headers_mut().remove(HOST);
            let host = host.ok_or(Failure::Malformed)?;
            let mut uri = Uri::default().into_parts();
            uri.scheme = Some(if tls { Scheme::HTTPS } else { Scheme::HTTP });
            uri.authority =
                Some(Authority::try_from(host.as_bytes()).map_err(|_| Failure::Malformed)?);
            uri.path_and_query = Some(path);
            *request.uri_mut() = Uri::from_parts(uri).map_err(malformed)?;
            *request.version_mut() = Version::HTTP_2;
        }
    }
    Ok(())
}

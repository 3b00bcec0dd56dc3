//! Sends every request to the same path by HTTPS.

use futures::FutureExt as _;
use futures::future::BoxFuture;
use hyper::body::Bytes;
use hyper::header::{HOST, HeaderValue, LOCATION};
use hyper::{Request, Response, StatusCode};

use crate::body::{Body, full};
use crate::failure::Failure;
use crate::host::{self, Host};
use crate::rules::HTTPS;
use crate::upstream::Upstream;
use crate::visitor::Visitor;

/// To this port of the host that the client asks for.
pub(crate) struct Redirect {
    pub(crate) port: u16,
}

impl Upstream for Redirect {
    fn answer<'a>(
        &'a self,
        request: Request<Body>,
        visitor: &'a Visitor,
    ) -> BoxFuture<'a, Result<Response<Body>, Failure>> {
        let location = self.location(&request, visitor);
        let mut response = Response::new(full(Bytes::new()));
        // The method stays, and what is sent to plain HTTP by mistake is sent again.
        *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
        match HeaderValue::try_from(location) {
            Ok(location) => drop(response.headers_mut().insert(LOCATION, location)),
            Err(_) => return std::future::ready(Err(Failure::Malformed)).boxed(),
        }
        std::future::ready(Ok(response)).boxed()
    }
}

impl Redirect {
    fn location(&self, request: &Request<Body>, visitor: &Visitor) -> String {
        let asked = request.headers().get(HOST).and_then(|asked| asked.to_str().ok());
        let asked = asked.and_then(Host::parse).map(|asked| asked.name);
        // A host that is not of this service has no certificate here.
        let ours = asked.filter(|name| host::below(name, &visitor.onion).is_some());
        let name = ours.unwrap_or(&visitor.onion);
        let port = match self.port {
            HTTPS => String::new(),
            port => format!(":{port}"),
        };
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        let path = if path.starts_with('/') { path } else { "/" };
        format!("https://{name}{port}{path}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_and_the_host_of_the_service_stay_and_another_host_does_not() {
        let visitor = Visitor { circuit: 1, port: 80, onion: "abc.onion".into(), tls: false };
        let to = |port, uri: &str, host: &str| {
            let request = Request::get(uri).header(HOST, host).body(full(Bytes::new())).unwrap();
            Redirect { port }.location(&request, &visitor)
        };
        assert_eq!(to(443, "/a?b=c", "abc.onion"), "https://abc.onion/a?b=c");
        assert_eq!(to(443, "/", "www.abc.onion:80"), "https://www.abc.onion/");
        assert_eq!(to(8443, "/", "abc.onion:8080"), "https://abc.onion:8443/");
        assert_eq!(to(443, "/", "evil.example"), "https://abc.onion/");
        assert_eq!(to(443, "*", "abc.onion"), "https://abc.onion/");
    }
}

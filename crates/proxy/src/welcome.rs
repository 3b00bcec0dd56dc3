//! The built-in page that a daemon without any configuration serves.

use std::convert::Infallible;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

/// How long a client may take to send the head of its request.
const HEAD_WITHIN: Duration = Duration::from_secs(60);

/// The page. It loads nothing and runs nothing.
const PAGE: &str = "<!doctype html>
<html lang=en><meta charset=utf-8><title>onionbraid</title>
<meta name=viewport content=\"width=device-width\">
<style>body{font:1rem/1.5 system-ui;max-width:34rem;margin:15vh auto;padding:0 1rem}</style>
<h1>It works.</h1>
<p>This onion service is published by onionbraid and answered by two backends inside it.
<p>To put your own site here, point <code>proxy_ports</code> at your web server.
</html>
";

/// Serves the page over one stream (HTTP/1) until the client ends it.
pub async fn serve(client: impl AsyncRead + AsyncWrite + Unpin) -> hyper::Result<()> {
    let service = |request| std::future::ready(Ok::<_, Infallible>(answer(&request)));
    hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_headers(64)
        .serve_connection(TokioIo::new(client), service_fn(service))
        .await
}

/// Every path has the page.
fn answer<B>(request: &Request<B>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(PAGE));
    let headers = response.headers_mut();
    headers
        .insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(CACHE_CONTROL, hyper::header::HeaderValue::from_static("no-store"));
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        *response.body_mut() = Full::default();
        *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    }
    response
}

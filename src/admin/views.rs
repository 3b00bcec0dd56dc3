//! What can be seen through the door: the Snapshot in each of its renderings.
//! Nothing here changes anything.

use std::sync::Arc;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderName, HeaderValue};
use hyper::header::{REFERRER_POLICY, REFRESH, X_CONTENT_TYPE_OPTIONS};
use hyper::{Method, Response, StatusCode, Uri};

use super::connections::respond;
use crate::clock::now;
use crate::observe::page::{self, Refresh};
use crate::observe::snapshot::Timestamp;
use crate::observe::{Snapshot, metrics, text};

/// Takes a Snapshot at the moment it is asked.
pub type TakeSnapshot = Arc<dyn Fn() -> Snapshot + Send + Sync>;

const HTML: &str = "text/html; charset=utf-8";
const PLAIN: &str = "text/plain; charset=utf-8";

/// What browsers have to keep to.
const FOR_BROWSERS: [(HeaderName, &str); 4] = [
    (CONTENT_SECURITY_POLICY, page::CONTENT_SECURITY_POLICY),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (REFERRER_POLICY, "no-referrer"),
    // The next moment looks different, and a shared machine need not keep this one.
    (CACHE_CONTROL, "no-store"),
];

/// Answers a request for something to see.
pub(super) fn answer(method: &Method, uri: &Uri, snapshot: &TakeSnapshot) -> Response<Full<Bytes>> {
    let mut response = view(method, uri, snapshot);
    for (name, value) in FOR_BROWSERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

fn view(method: &Method, uri: &Uri, snapshot: &TakeSnapshot) -> Response<Full<Bytes>> {
    if method != Method::GET && method != Method::HEAD {
        return respond(StatusCode::METHOD_NOT_ALLOWED, PLAIN, "only GET\n");
    }
    let refresh = if uri.query() == Some("paused") { Refresh::Paused } else { Refresh::Itself };
    let now = Timestamp(now().wall);
    match uri.path() {
        "/" => html(page::overview(&snapshot(), now, refresh), refresh),
        page::STYLE_PATH => respond(StatusCode::OK, "text/css; charset=utf-8", page::STYLE),
        "/status.json" => match serde_json::to_vec_pretty(&snapshot()) {
            Ok(json) => respond(StatusCode::OK, "application/json", json),
            Err(_) => respond(StatusCode::INTERNAL_SERVER_ERROR, PLAIN, "no JSON\n"),
        },
        "/status" => respond(StatusCode::OK, PLAIN, text::render(&snapshot())),
        "/metrics" => match metrics::render(snapshot(), now) {
            Ok(text) => respond(StatusCode::OK, metrics::CONTENT_TYPE, text),
            Err(_) => respond(StatusCode::INTERNAL_SERVER_ERROR, PLAIN, "no metrics\n"),
        },
        "/health" if snapshot().ready => respond(StatusCode::OK, PLAIN, "ready\n"),
        "/health" => respond(StatusCode::SERVICE_UNAVAILABLE, PLAIN, "not ready\n"),
        path => path
            .strip_prefix(page::SERVICES)
            .and_then(|nickname| page::service(&snapshot(), nickname, now, refresh))
            .map_or_else(unknown, |page| html(page, refresh)),
    }
}

/// A page, which comes anew by itself or not.
fn html(page: String, refresh: Refresh) -> Response<Full<Bytes>> {
    let mut response = respond(StatusCode::OK, HTML, page);
    if refresh == Refresh::Itself {
        response.headers_mut().insert(REFRESH, HeaderValue::from_static(page::EVERY));
    }
    response
}

fn unknown() -> Response<Full<Bytes>> {
    let endpoints =
        "there are /, /services/NICKNAME, /status.json, /status, /metrics and /health\n";
    respond(StatusCode::NOT_FOUND, PLAIN, endpoints)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::observe::Snapshot;
    use crate::observe::example;

    fn get(path: &'static str, ready: bool) -> Response<Full<Bytes>> {
        let services = || vec![example::service("shop", Vec::new(), Vec::new())];
        let snapshot: TakeSnapshot =
            Arc::new(move || Snapshot { ready, ..example::snapshot(services()) });
        answer(&Method::GET, &Uri::from_static(path), &snapshot)
    }

    #[test]
    fn health_is_the_readiness_of_the_snapshot() {
        assert_eq!(get("/health", true).status(), StatusCode::OK);
        assert_eq!(get("/health", false).status(), StatusCode::SERVICE_UNAVAILABLE);
    }

    #[test]
    fn every_view_is_found_and_says_what_it_is() {
        for (path, content_type) in [
            ("/", HTML),
            ("/?paused", HTML),
            ("/services/shop", HTML),
            ("/style.css", "text/css; charset=utf-8"),
            ("/status.json", "application/json"),
            ("/status", PLAIN),
            ("/metrics", metrics::CONTENT_TYPE),
        ] {
            let response = get(path, true);
            assert_eq!(response.status(), StatusCode::OK, "{path}");
            assert_eq!(response.headers()["content-type"], content_type, "{path}");
            let policy = &response.headers()["content-security-policy"];
            assert!(policy.to_str().unwrap().starts_with("default-src 'none'"), "{path}");
        }
        let comes_anew = |path| get(path, true).headers().contains_key("refresh");
        assert!(comes_anew("/") && comes_anew("/services/shop"));
        assert!(!comes_anew("/?paused") && !comes_anew("/services/shop?paused"));
        for path in ["/services/other", "/services/", "/other"] {
            assert_eq!(get(path, true).status(), StatusCode::NOT_FOUND, "{path}");
        }
    }

    #[test]
    fn nothing_can_be_changed_by_looking() {
        let snapshot: TakeSnapshot = Arc::new(|| example::snapshot(Vec::new()));
        let uri = Uri::from_static("/status.json");
        let refused = answer(&Method::POST, &uri, &snapshot).status();
        assert_eq!(refused, StatusCode::METHOD_NOT_ALLOWED);
    }
}

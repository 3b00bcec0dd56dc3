//! Our own answers in the words of nginx 1.22 with `server_tokens off`
//! (`ngx_http_special_response.c`, `ngx_http_header_filter_module.c`): the same bytes
//! but for `Date`, which would tell how this machine's clock is set.

use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, SERVER};
use http::{HeaderValue, Response, StatusCode};
use hyper::body::Bytes;
use hyper::ext::ReasonPhrase;

use crate::failure::Failure;

/// Its number for a head that is too large, which clients see as 400.
const HEAD_TOO_LARGE: u16 = 494;

/// With which status it refuses the like.
pub(super) fn status(failure: Failure) -> StatusCode {
    match failure {
        Failure::HeadTooLarge => StatusCode::from_u16(HEAD_TOO_LARGE).unwrap_or(failure.status()),
        _ => failure.status(),
    }
}

/// The status that clients see.
pub(super) fn shown(status: StatusCode) -> StatusCode {
    if status.as_u16() == HEAD_TOO_LARGE { StatusCode::BAD_REQUEST } else { status }
}

/// Its answer with this status, with a page of the operator's `own` in place of its.
pub(super) fn answer(status: StatusCode, own: Option<&Bytes>, nameless: bool) -> Response<Bytes> {
    let shown = shown(status);
    let (reason, title) = words(shown.as_u16());
    let (kind, page) = match (own, title) {
        (Some(page), _) => (Some("text/html; charset=utf-8"), page.clone()),
        (None, Some(title)) => (Some("text/html"), page(status, title)),
        (None, None) => (None, Bytes::new()),
    };
    let mut response = Response::new(page);
    *response.status_mut() = shown;
    if shown.canonical_reason() != Some(reason) {
        response.extensions_mut().insert(ReasonPhrase::from_static(reason.as_bytes()));
    }
    let length = response.body().len();
    let headers = response.headers_mut();
    if !nameless {
        headers.insert(SERVER, HeaderValue::from_static("nginx"));
    }
    if let Some(kind) = kind {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    }
    headers.insert(CONTENT_LENGTH, length.into());
    let goes_on = if ends(shown) { "close" } else { "keep-alive" };
    headers.insert(CONNECTION, HeaderValue::from_static(goes_on));
    response
}

/// Whether it ends the connection with such an answer.
fn ends(status: StatusCode) -> bool {
    matches!(status.as_u16(), 400 | 408 | 413 | 414 | 500 | 501)
}

/// The reason in its status line, and the title of its page, where it has one.
fn words(status: u16) -> (&'static str, Option<&'static str>) {
    let same = |words| (words, Some(words));
    match status {
        400 => same("Bad Request"),
        401 => ("Unauthorized", Some("401 Authorization Required")),
        402 => same("Payment Required"),
        403 => same("Forbidden"),
        404 => same("Not Found"),
        405 => same("Not Allowed"),
        406 => same("Not Acceptable"),
        408 => same("Request Time-out"),
        409 => same("Conflict"),
        410 => same("Gone"),
        411 => same("Length Required"),
        412 => same("Precondition Failed"),
        413 => same("Request Entity Too Large"),
        414 => same("Request-URI Too Large"),
        415 => same("Unsupported Media Type"),
        416 => same("Requested Range Not Satisfiable"),
        421 => same("Misdirected Request"),
        429 => same("Too Many Requests"),
        500 => same("Internal Server Error"),
        501 => same("Not Implemented"),
        502 => same("Bad Gateway"),
        503 => same("Service Temporarily Unavailable"),
        504 => same("Gateway Time-out"),
        505 => same("HTTP Version Not Supported"),
        507 => same("Insufficient Storage"),
        _ => ("", None),
    }
}

/// Its page.
fn page(status: StatusCode, words: &str) -> Bytes {
    let number = status.as_u16();
    let (title, heading, more) = match number {
        HEAD_TOO_LARGE => {
            let words = "Request Header Or Cookie Too Large";
            (format!("400 {words}"), "400 Bad Request".to_owned(), words)
        }
        401 => (words.to_owned(), words.to_owned(), ""),
        _ => (format!("{number} {words}"), format!("{number} {words}"), ""),
    };
    let more = if more.is_empty() { String::new() } else { format!("<center>{more}</center>\r\n") };
    Bytes::from(format!(
        "<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n\
         <center><h1>{heading}</h1></center>\r\n{more}\
         <hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
    ))
}

//! What a client sees in place of an origin's answer: a small page for each
//! failure, or the operator's own.
//!
//! The built-in page loads nothing, and names no program: it is a heading and a
//! sentence, or the page of [`nginx`].

mod nginx;

use std::fs::File;
use std::io::{self, Read as _};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use http::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, SERVER};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use hyper::body::Bytes;
use hyper::ext::ReasonPhrase;

use super::body::{Body, full};
use super::failure::Failure;
use super::settings::{ErrorPage, ErrorStyle, HttpSettings};

/// The longest page of an operator's, in bytes.
pub const LONGEST_PAGE: u64 = 256 * 1024;

/// The pages for the answers of ours, ready to be sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pages {
    /// The operator's; the first range that holds a status decides.
    own: Vec<(RangeInclusive<u16>, Bytes)>,
    style: ErrorStyle,
    /// Whether the operator has every answer say nothing of a server.
    nameless: bool,
}

/// Why a page of the operator's cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum PagesError {
    /// It cannot be read.
    #[error("cannot read the error page {}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It is something else than a file.
    #[error("the error page {} is not a file", file.display())]
    NotAFile {
        /// What is named in place of a file.
        file: PathBuf,
    },
    /// It is too long.
    #[error("the error page {} is longer than 256 KiB", file.display())]
    TooLong {
        /// The file.
        file: PathBuf,
    },
    /// It is not text in UTF-8, as which it would be sent.
    #[error("the error page {} is not written in UTF-8", file.display())]
    NotUtf8 {
        /// The file.
        file: PathBuf,
    },
}

impl Pages {
    /// Reads the operator's pages, each once.
    pub fn new(pages: &[ErrorPage]) -> Result<Self, PagesError> {
        let read = |page: &ErrorPage| Ok((page.status.clone(), read(&page.file)?));
        Ok(Self { own: pages.iter().map(read).collect::<Result<_, _>>()?, ..Self::default() })
    }

    /// The same, with built-in pages as the settings want them.
    pub fn in_style_of(self, settings: &HttpSettings) -> Self {
        let strip = &settings.headers.strip;
        let nameless = strip.iter().any(|name| name.eq_ignore_ascii_case(SERVER.as_str()));
        Self { style: settings.error_style, nameless, ..self }
    }

    /// The answer to a request that failed.
    pub fn answer(&self, failure: Failure) -> Response<Body> {
        self.of(failure).map(full)
    }

    /// The last answer on a connection of HTTP/1, as it is written there: a head and
    /// the page.
    pub(crate) fn written(&self, failure: Failure) -> [Bytes; 2] {
        let (mut parts, page) = self.of(failure).into_parts();
        parts.headers.insert(CONNECTION, HeaderValue::from_static("close"));
        parts.headers.insert(CONTENT_LENGTH, page.len().into());
        let reason = parts.extensions.get().map(ReasonPhrase::as_bytes);
        let reason = reason.or(parts.status.canonical_reason().map(str::as_bytes));
        let status = parts.status.as_str().as_bytes();
        let mut written =
            [b"HTTP/1.1 ", status, b" ", reason.unwrap_or_default(), b"\r\n"].concat();
        for (name, value) in &parts.headers {
            written.extend([&in_title_case(name)[..], b": ", value.as_bytes(), b"\r\n"].concat());
        }
        written.extend(b"\r\n");
        [written.into(), page]
    }

    fn of(&self, failure: Failure) -> Response<Bytes> {
        if self.style == ErrorStyle::Nginx {
            return self.page(nginx::status(failure), &failure.to_string());
        }
        let mut response = self.page(failure.status(), &failure.to_string());
        let headers = response.headers_mut();
        match failure.status() {
            // What follows on the connection cannot be told from the rest of
            // the request.
            StatusCode::BAD_REQUEST
            | StatusCode::REQUEST_TIMEOUT
            | StatusCode::PAYLOAD_TOO_LARGE => {
                headers.insert(CONNECTION, HeaderValue::from_static("close"));
            }
            // The field has to be there, and may be empty (RFC 9110, section
            // 10.2.1): what an origin allows is not ours to say.
            StatusCode::METHOD_NOT_ALLOWED => {
                let allowed = if failure == Failure::ReadOnly { "GET, HEAD" } else { "" };
                headers.insert(ALLOW, HeaderValue::from_static(allowed));
            }
            _ => {}
        }
        response
    }

    /// Gives an answer of ours that is no failure, but has nothing to show, the
    /// page for its status: there is no such file, or no such part of it, or not
    /// the version that the client wants. Any other response stays as it is.
    pub fn complete(&self, response: Response<Body>) -> Response<Body> {
        let status = response.status();
        if !status.is_client_error() {
            return response;
        }
        let sentence = match status {
            StatusCode::NOT_FOUND => "There is nothing at this address.",
            _ => "The request cannot be fulfilled.",
        };
        let (mut parts, _) = response.into_parts();
        parts.headers.remove(CONTENT_LENGTH);
        let (mut page, body) = self.page(status, sentence).into_parts();
        page.headers.extend(parts.headers);
        Response::from_parts(page, full(body))
    }

    /// The page for a status.
    fn page(&self, status: StatusCode, sentence: &str) -> Response<Bytes> {
        let own = |status: StatusCode| {
            let own = self.own.iter().find(|(range, _)| range.contains(&status.as_u16()));
            own.map(|(_, page)| page)
        };
        if self.style == ErrorStyle::Nginx {
            return nginx::answer(status, own(nginx::shown(status)), self.nameless);
        }
        let page = own(status).cloned().unwrap_or_else(|| built_in(status, sentence));
        let mut response = Response::new(page);
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

/// How a field is named where nobody else has named it: `content-type` is
/// `Content-Type`.
fn in_title_case(name: &HeaderName) -> Vec<u8> {
    let mut begins = true;
    let titled = |byte: u8| {
        let begun = std::mem::replace(&mut begins, byte == b'-');
        if begun { byte.to_ascii_uppercase() } else { byte }
    };
    name.as_str().bytes().map(titled).collect()
}

/// A heading and a sentence.
fn built_in(status: StatusCode, sentence: &str) -> Bytes {
    let title = status.canonical_reason().unwrap_or("Error");
    Bytes::from(format!(
        "<!doctype html>\n<html lang=en><meta charset=utf-8><title>{title}</title>\n\
         <meta name=viewport content=\"width=device-width\">\n\
         <h1>{title}</h1>\n<p>{sentence}\n</html>\n"
    ))
}

/// Reads a page of the operator's; never waits for a pipe, never reads on
/// beyond the longest page.
fn read(file: &Path) -> Result<Bytes, PagesError> {
    let cannot = |source| PagesError::Read { file: file.to_owned(), source };
    if !file.metadata().map_err(cannot)?.is_file() {
        return Err(PagesError::NotAFile { file: file.to_owned() });
    }
    let mut page = String::new();
    let opened = File::open(file).map_err(cannot)?;
    match opened.take(LONGEST_PAGE + 1).read_to_string(&mut page) {
        Ok(read) if read as u64 > LONGEST_PAGE => {
            Err(PagesError::TooLong { file: file.to_owned() })
        }
        Ok(_) => Ok(Bytes::from(page)),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Err(PagesError::NotUtf8 { file: file.to_owned() })
        }
        Err(error) => Err(cannot(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use http::header::CONTENT_RANGE;
    use http_body_util::BodyExt as _;

    use super::*;
    use crate::body::empty;

    fn own(status: RangeInclusive<u16>, file: &Path) -> ErrorPage {
        ErrorPage { status, file: file.to_owned() }
    }

    async fn text(response: Response<Body>) -> String {
        let body = response.into_body().collect().await.unwrap().to_bytes();
        String::from_utf8(body.to_vec()).unwrap()
    }

    const EVERY: &[Failure] = &[
        Failure::Malformed,
        Failure::TlsHandshake,
        Failure::SlowClient,
        Failure::ClientGone,
        Failure::BodyTooLarge,
        Failure::TargetTooLong,
        Failure::HeadTooLarge,
        Failure::Tor2web,
        Failure::Blocked(451),
        Failure::TooMany,
        Failure::NoOrigin,
        Failure::OriginsBusy,
        Failure::FilesBusy,
        Failure::ReadOnly,
        Failure::FileBroken,
        Failure::OriginUnreachable,
        Failure::OriginBroken,
        Failure::OriginSlow,
    ];

    #[tokio::test]
    async fn every_failure_has_a_page_that_loads_nothing_and_names_no_program() {
        for failure in EVERY {
            let response = Pages::default().answer(*failure);
            assert_eq!(response.status(), failure.status());
            assert_eq!(response.headers()[CONTENT_TYPE], "text/html; charset=utf-8");
            assert_eq!(response.headers()[CACHE_CONTROL], "no-store");
            let page = text(response).await;
            assert!(page.contains(&failure.to_string()), "{page}");
            for trace in ["src", "href", "http:", "script", "onionbraid", "hyper"] {
                assert!(!page.contains(trace), "{trace}: {page}");
            }
        }
    }

    #[test]
    fn a_connection_ends_where_the_rest_of_the_request_is_unknown() {
        for failure in EVERY {
            let closed = matches!(
                failure,
                Failure::Malformed
                    | Failure::TlsHandshake
                    | Failure::SlowClient
                    | Failure::ClientGone
                    | Failure::BodyTooLarge
            );
            let response = Pages::default().answer(*failure);
            let expected = closed.then(|| HeaderValue::from_static("close"));
            assert_eq!(response.headers().get(CONNECTION), expected.as_ref(), "{failure:?}");
        }
    }

    #[test]
    fn a_method_that_is_not_allowed_is_answered_with_a_list_of_those_that_are() {
        for (failure, allowed) in [(Failure::Blocked(405), ""), (Failure::ReadOnly, "GET, HEAD")] {
            assert_eq!(Pages::default().answer(failure).headers()[ALLOW], allowed);
        }
    }

    #[tokio::test]
    async fn the_first_page_of_the_operators_for_a_status_is_shown() {
        let directory = tempfile::tempdir().unwrap();
        let (busy, any) = (directory.path().join("busy.html"), directory.path().join("any.html"));
        fs::write(&busy, "<p>büsy").unwrap();
        fs::write(&any, "<p>any").unwrap();
        let pages = Pages::new(&[own(503..=504, &busy), own(500..=599, &any)]).unwrap();
        fs::remove_file(&busy).unwrap();
        assert_eq!(text(pages.answer(Failure::NoOrigin)).await, "<p>büsy", "read once");
        assert_eq!(text(pages.answer(Failure::OriginSlow)).await, "<p>büsy");
        assert_eq!(text(pages.answer(Failure::OriginBroken)).await, "<p>any");
        assert!(text(pages.answer(Failure::Tor2web)).await.contains("Tor Browser"));
        assert_eq!(pages.answer(Failure::NoOrigin).status(), StatusCode::SERVICE_UNAVAILABLE);
    }

    #[tokio::test]
    async fn an_answer_without_a_body_gets_the_page_for_its_status() {
        let refused = |status: StatusCode| {
            let response = Response::builder().status(status).header(CONTENT_RANGE, "bytes */9");
            response.header(CONTENT_LENGTH, "0").body(empty()).unwrap()
        };
        let pages = Pages::default();
        let response = pages.complete(refused(StatusCode::NOT_FOUND));
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
        assert_eq!(response.headers()[CONTENT_RANGE], "bytes */9");
        assert!(!response.headers().contains_key(CONTENT_LENGTH));
        assert!(text(response).await.contains("There is nothing at this address."));
        let response = pages.complete(refused(StatusCode::NOT_MODIFIED));
        assert_eq!(response.headers()[CONTENT_LENGTH], "0");
        assert_eq!(text(response).await, "", "what is no refusal stays as it is");
    }

    #[test]
    fn a_page_that_cannot_be_shown_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::write(path("long"), vec![b'a'; 256 * 1024 + 1]).unwrap();
        fs::write(path("longest"), vec![b'a'; 256 * 1024]).unwrap();
        fs::write(path("latin"), b"b\xfcsy").unwrap();
        let error = |name: &str| {
            let error = Pages::new(&[own(400..=599, &path(name))]).unwrap_err().to_string();
            error.replace(directory.path().to_str().unwrap(), "")
        };
        assert_eq!(error("missing"), "cannot read the error page /missing");
        assert_eq!(error("long"), "the error page /long is longer than 256 KiB");
        assert_eq!(error("latin"), "the error page /latin is not written in UTF-8");
        assert_eq!(error(""), "the error page / is not a file");
        Pages::new(&[own(400..=599, &path("longest"))]).unwrap();
    }
}

//! Which file below a directory answers a request (`file:/path`).
//!
//! What HTTP says of files (types, ranges, conditions) is the library's,
//! `tower_http::services::ServeDir`. What may be asked for at all is decided
//! here, before it; how a file is found below the root, in [`beneath`]. Nothing
//! that a client sends, and no link below the root, leads out of it.
//!
//! Refusals have no body: [`Pages::complete`](super::pages::Pages::complete)
//! gives them one.

pub mod beneath;

use std::io;
use std::path::{Path, PathBuf};

use http::header::{ALLOW, ETAG, IF_RANGE, LAST_MODIFIED, LOCATION, RANGE};
use http::uri::Uri;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use tower_http::services::ServeDir;

use self::beneath::{Beneath, blocking};
use super::body::Body;

/// What is read from the disk at a time, in bytes: what one response holds.
const CHUNK: usize = 64 * 1024;

/// What is written as it is in a path: the unreserved characters (RFC 3986,
/// section 2.3).
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A directory whose files are served.
#[derive(Clone, Debug)]
pub struct Files {
    root: PathBuf,
}

/// Why a directory cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// It is not there, is no directory, or may not be read.
    #[error("cannot open the directory {}", root.display())]
    Open {
        /// The directory.
        root: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl Files {
    /// Serves what lies below `root`. The directory is opened anew for each
    /// request, so that it can be a link that is switched to the next version
    /// of a site.
    pub fn new(root: &Path) -> Result<Self, FilesError> {
        Beneath::new(root).map_err(|source| FilesError::Open { root: root.to_owned(), source })?;
        Ok(Self { root: root.to_owned() })
    }

    /// The file that the path of the request names, `index.html` for a directory.
    pub async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let (parts, _) = request.into_parts();
        if !matches!(parts.method, Method::GET | Method::HEAD) {
            let mut response = refusal(StatusCode::METHOD_NOT_ALLOWED);
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        let Some(path) = Asked::new(parts.uri.path()) else {
            return refusal(StatusCode::NOT_FOUND);
        };
        let mut headers = parts.headers;
        if parts.method != Method::GET || !is_one_range_of_bytes(&headers) {
            headers.remove(RANGE);
        }
        let ranged = headers.contains_key(RANGE);
        let condition = headers.remove(IF_RANGE);
        let mut response = self.ask(&parts.method, &path, &headers).await;
        // The part of a file that has changed since is of no use; the library
        // does not know this condition (RFC 9110, section 13.1.5).
        if let Some(condition) = condition.filter(|_| ranged)
            && ![ETAG, LAST_MODIFIED]
                .iter()
                .any(|name| response.headers().get(name) == Some(&condition))
        {
            headers.remove(RANGE);
            response = self.ask(&parts.method, &path, &headers).await;
        }
        if response.headers().contains_key(LOCATION) {
            return redirect(response, &path, parts.uri.query());
        }
        response
    }

    /// Asks the library.
    async fn ask(&self, method: &Method, path: &Asked, headers: &HeaderMap) -> Response<Body> {
        let root = self.root.clone();
        let asking = async {
            let beneath = blocking(move || Beneath::new(&root)).await?;
            let mut request = Request::new(Empty::<Bytes>::new());
            *request.method_mut() = method.clone();
            *request.uri_mut() = Uri::try_from(path.path.as_str()).map_err(io::Error::other)?;
            *request.headers_mut() = headers.clone();
            ServeDir::with_backend("", beneath)
                .with_buf_chunk_size(CHUNK)
                .ignore_multi_range_requests(true)
                .try_call(request)
                .await
        };
        match asking.await {
            Ok(response) => response.map(|body| body.map_err(Into::into).boxed_unsync()),
            Err(error) => refusal(match error.kind() {
                io::ErrorKind::NotFound
                | io::ErrorKind::PermissionDenied
                | io::ErrorKind::NotADirectory
                | io::ErrorKind::InvalidFilename
                | io::ErrorKind::InvalidInput => StatusCode::NOT_FOUND,
                _ => StatusCode::INTERNAL_SERVER_ERROR,
            }),
        }
    }
}

/// A path as a client may ask for it.
struct Asked {
    /// Escaped in one way only, without empty segments.
    path: String,
    /// Its last segment.
    name: String,
}

impl Asked {
    /// `None` for a path that cannot be that of a file: with a segment that
    /// begins with a dot (so neither `..` nor hidden files, save what
    /// `/.well-known/` is there for, RFC 8615), that holds a slash, backslash or
    /// control character in any disguise, or that is not UTF-8.
    fn new(raw: &str) -> Option<Self> {
        let mut path = String::new();
        let mut name = String::new();
        for segment in raw.split('/').filter(|segment| !segment.is_empty()) {
            let plain = percent_decode_str(segment).decode_utf8().ok()?;
            let well_known = path.is_empty() && plain == ".well-known";
            let foreign = |c: char| c == '/' || c == '\\' || c.is_control();
            if plain.starts_with('.') && !well_known || plain.contains(foreign) {
                return None;
            }
            name = utf8_percent_encode(&plain, ESCAPED).to_string();
            path.push('/');
            path.push_str(&name);
        }
        if raw.ends_with('/') {
            path.push('/');
        }
        raw.starts_with('/').then_some(Self { path, name })
    }
}

/// Whether `Range` is one that this server knows; others are to be ignored
/// (RFC 9110, section 14.2).
fn is_one_range_of_bytes(headers: &HeaderMap) -> bool {
    let mut ranges = headers.get_all(RANGE).iter();
    match (ranges.next(), ranges.next()) {
        (Some(range), None) => {
            range.as_bytes().get(..6).is_some_and(|unit| unit.eq_ignore_ascii_case(b"bytes="))
        }
        _ => false,
    }
}

/// To a directory by its name with a slash, relative to where the client is:
/// no host and no scheme that could be wrong.
fn redirect(mut response: Response<Body>, path: &Asked, query: Option<&str>) -> Response<Body> {
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    match HeaderValue::from_bytes(format!("{}/{query}", path.name).as_bytes()) {
        Ok(location) => {
            response.headers_mut().insert(LOCATION, location);
            response
        }
        Err(_) => refusal(StatusCode::NOT_FOUND),
    }
}

/// An answer without a body.
fn refusal(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = status;
    response
}

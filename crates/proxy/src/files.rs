//! Which file below a directory answers a request (`file:/path`).
//!
//! What HTTP says of files (types, conditions) is the library's,
//! `tower_http::services::ServeDir`. What may be asked for at all is decided
//! here, before it; how a file is found below the root, in [`beneath`]; which
//! part of it, in [`range`]; by what it is known again, in [`validators`]. Nothing
//! that a client sends, and no link below the root, leads out of it.
//!
//! That there is no such file, or no such part of it, is an answer like any
//! other, without a body: [`Pages::complete`](super::pages::Pages::complete)
//! gives it one.

pub mod beneath;
mod range;
pub mod site;
mod validators;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};

use http::header::{CONTENT_LENGTH, ETAG, IF_MATCH, IF_NONE_MATCH, IF_RANGE, LOCATION, RANGE};
use http::uri::Uri;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::{Bytes, Frame, SizeHint};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use tower_http::services::ServeDir;

use self::beneath::{Beneath, blocking};
use self::range::Range;
use self::validators::FileSeen;
use super::body::{Body, BodyError, empty};
use super::failure::Failure;
use super::pace::Pace;
use super::shares::{Share, Shares};

/// What is read from the disk at a time, in bytes. A response holds two such
/// buffers however short its file is, tokio's and its own.
const CHUNK: usize = 16 * 1024;

/// What is written as it is in a path: the unreserved characters (RFC 3986,
/// section 2.3).
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A directory whose files are served.
#[derive(Clone, Debug)]
pub struct Files {
    root: PathBuf,
    /// For each file that is open.
    handles: Shares,
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
    /// of a site. A file stays open while it is sent, for as long as the client
    /// likes: each takes one of `handles`.
    pub fn new(root: &Path, handles: Shares) -> Result<Self, FilesError> {
        Beneath::new(root).map_err(|source| FilesError::Open { root: root.to_owned(), source })?;
        Ok(Self { root: root.to_owned(), handles })
    }

    /// The file that the path of the request names, `index.html` for a directory.
    /// `salt` makes its tag differ from those of other sites.
    ///
    /// # Errors
    ///
    /// `ReadOnly` for other methods than GET and HEAD, `FilesBusy` if there is no
    /// handle for this circuit in time, or none for anybody, `FileBroken` if the
    /// disk does not give what is there; the body too ends with that if the file
    /// does, before its time.
    pub async fn answer(
        &self,
        request: Request<Body>,
        circuit: u64,
        salt: &str,
    ) -> Result<Response<Body>, Failure> {
        let (parts, _) = request.into_parts();
        if !matches!(parts.method, Method::GET | Method::HEAD) {
            return Err(Failure::ReadOnly);
        }
        let Some(path) = AskedPath::new(parts.uri.path()) else {
            return Ok(not_found());
        };
        let pace = Pace::of(&parts.extensions);
        let handle = self.handles.take_for(circuit, &pace).await.ok_or(Failure::FilesBusy)?;
        let mut headers = parts.headers;
        let range = headers.get_all(RANGE).iter();
        let range = (parts.method == Method::GET).then(|| Range::of(range)).flatten();
        headers.remove(RANGE);
        let if_range = headers.remove(IF_RANGE);
        // What is known of the file by its tag is asked of the library by its own.
        let mut known = None;
        let conditional = [IF_MATCH, IF_NONE_MATCH].iter().any(|name| headers.contains_key(name));
        if range.is_some() || conditional {
            let head = self.ask(&Method::HEAD, &path, &HeaderMap::new()).await?;
            let seen = FileSeen::of(salt, head.headers());
            for name in [IF_MATCH, IF_NONE_MATCH] {
                seen.translate(&mut headers, &name);
            }
            // The part of a file that has changed since is of no use (RFC 9110,
            // section 13.1.5).
            if let (Some(range), Some(length)) = (range, seen.length)
                && if_range.is_none_or(|condition| seen.is_meant_by(&condition))
                && let Some(range) = range.within(length)
            {
                headers.insert(RANGE, range);
            }
            known = Some(seen);
        }
        let mut response = self.ask(&parts.method, &path, &headers).await?;
        let tag = |response: &Response<Body>| response.headers().get(ETAG).cloned();
        if headers.contains_key(RANGE) && known.is_some_and(|seen| seen.tag != tag(&response)) {
            // It was replaced meanwhile.
            headers.remove(RANGE);
            drop(response);
            response = self.ask(&parts.method, &path, &headers).await?;
        }
        if let Some(tag) = tag(&response) {
            response.headers_mut().insert(ETAG, validators::opaque(salt, &tag));
        }
        if response.headers().contains_key(LOCATION) {
            return Ok(redirect(response, &path, parts.uri.query()));
        }
        let length = response.headers().get(CONTENT_LENGTH).filter(|_| parts.method == Method::GET);
        let left = length.and_then(|length| length.to_str().ok()?.parse().ok());
        Ok(response.map(|body| FileBody { body, left, _handle: handle }.boxed_unsync()))
    }

    /// Asks the library.
    async fn ask(
        &self,
        method: &Method,
        path: &AskedPath,
        headers: &HeaderMap,
    ) -> Result<Response<Body>, Failure> {
        let root = self.root.clone();
        let asking = async {
            let beneath = blocking(move || Beneath::new(&root)).await?;
            let mut request = Request::new(());
            *request.method_mut() = method.clone();
            *request.uri_mut() = path.uri.clone();
            *request.headers_mut() = headers.clone();
            ServeDir::with_backend("", beneath)
                .with_buf_chunk_size(CHUNK)
                .ignore_multi_range_requests(true)
                .try_call(request)
                .await
        };
        match asking.await {
            Ok(response) if response.status().is_server_error() => Err(Failure::FileBroken),
            Ok(response) => Ok(response.map(|body| body.map_err(Into::into).boxed_unsync())),
            Err(error) => unread(&error),
        }
    }
}

/// The answer where a file could not be opened.
fn unread(error: &io::Error) -> Result<Response<Body>, Failure> {
    if is_of_the_path(error) {
        return Ok(not_found());
    }
    tracing::debug!("cannot open a file: {error}");
    match error.raw_os_error() {
        Some(libc::EMFILE | libc::ENFILE) => Err(Failure::FilesBusy),
        _ => Err(Failure::FileBroken),
    }
}

/// The body of a response, with the file that may be open for it.
struct FileBody {
    body: Body,
    /// Bytes that have to come, where the head says how many.
    left: Option<u64>,
    _handle: Share,
}

impl hyper::body::Body for FileBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        let broken = |why: &dyn fmt::Display| {
            tracing::debug!("cannot read a file to its end: {why}");
            Poll::Ready(Some(Err(Failure::FileBroken.into())))
        };
        match &frame {
            Poll::Ready(Some(Ok(piece))) => {
                let length = piece.data_ref().map_or(0, |data| data.len() as u64);
                self.left = self.left.map(|left| left.saturating_sub(length));
            }
            Poll::Ready(Some(Err(error))) => return broken(error),
            // It has become shorter since it was opened.
            Poll::Ready(None) if self.left.is_some_and(|left| left > 0) => {
                return broken(&"it is shorter than it was");
            }
            Poll::Ready(None) | Poll::Pending => {}
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.left == Some(0) || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A path as a client may ask for it.
struct AskedPath {
    /// Escaped in one way only, without empty segments.
    uri: Uri,
    /// Its last segment.
    name: String,
}

impl AskedPath {
    /// `None` for a path that cannot be that of a file: with a segment that
    /// begins with a dot (so neither `..` nor hidden files, save what
    /// `/.well-known/` is there for, RFC 8615), that holds a slash, backslash or
    /// control character in any disguise, or that is not UTF-8; and for one that
    /// is too long to be written in the one way.
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
        let uri = Uri::try_from(path).ok().filter(|_| raw.starts_with('/'))?;
        Some(Self { uri, name })
    }
}

/// Whether there is no such file, or none that may be seen: it is not there, it
/// may not be read, a link leads out of the root or round in circles, what is
/// taken for a directory is none, or no file could have such a name.
fn is_of_the_path(error: &io::Error) -> bool {
    let of_the_path = matches!(
        error.kind(),
        io::ErrorKind::NotFound
            | io::ErrorKind::PermissionDenied
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::InvalidFilename
            | io::ErrorKind::InvalidInput
    );
    of_the_path || error.raw_os_error() == Some(libc::ELOOP)
}

/// To a directory by its name with a slash, relative to where the client is:
/// no host and no scheme that could be wrong.
fn redirect(mut response: Response<Body>, path: &AskedPath, query: Option<&str>) -> Response<Body> {
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    match HeaderValue::from_bytes(format!("{}/{query}", path.name).as_bytes()) {
        Ok(location) => {
            response.headers_mut().insert(LOCATION, location);
            response
        }
        Err(_) => not_found(),
    }
}

/// There is no such file.
fn not_found() -> Response<Body> {
    let mut response = Response::new(empty());
    *response.status_mut() = StatusCode::NOT_FOUND;
    response
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;
    use std::process::Command;
    use std::time::Duration;

    use http::header::{
        ACCEPT_RANGES, CONTENT_RANGE, CONTENT_TYPE, IF_MODIFIED_SINCE, LAST_MODIFIED,
    };
    use tempfile::TempDir;

    use super::*;

    /// A site beside a secret.
    struct Site {
        directory: TempDir,
        files: Files,
    }

    /// Enough for whatever a test opens.
    fn handles() -> Shares {
        Shares::new(100, 100, Duration::from_secs(5))
    }

    impl Site {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let root = directory.path().join("root");
            fs::create_dir_all(root.join("a/b")).unwrap();
            fs::create_dir_all(root.join(".well-known")).unwrap();
            fs::create_dir_all(root.join(".git")).unwrap();
            fs::create_dir_all(root.join("empty")).unwrap();
            for (name, text) in [
                ("index.html", "<p>start"),
                ("a/index.html", "<p>a"),
                ("a/b/index.html", "<p>b"),
                ("0123.txt", "0123456789"),
                ("ä ö.txt", "umlauts"),
                ("50%.txt", "half"),
                ("noextension", "x"),
                ("code.js", "x"),
                (".well-known/security.txt", "Contact: x"),
                (".well-known/.hidden", "secret"),
                (".env", "secret"),
                (".git/config", "secret"),
                ("../secret", "secret"),
            ] {
                fs::write(root.join(name), text).unwrap();
            }
            let files = Files::new(&root, handles()).unwrap();
            Self { directory, files }
        }

        fn root(&self) -> PathBuf {
            self.directory.path().join("root")
        }

        async fn ask(&self, request: http::request::Builder) -> Response<Body> {
            self.files.answer(request.body(empty()).unwrap(), 7, "a.onion").await.unwrap()
        }

        async fn get(&self, target: &str) -> Response<Body> {
            self.ask(Request::get(target)).await
        }

        /// The body, if the file is there.
        async fn read(&self, target: &str) -> Option<String> {
            let response = self.get(target).await;
            let status = response.status();
            let body = text(response).await;
            match status {
                StatusCode::OK => Some(body),
                StatusCode::NOT_FOUND => {
                    assert_eq!(body, "", "{target}");
                    None
                }
                other => panic!("{target}: {other}"),
            }
        }
    }

    async fn text(response: Response<Body>) -> String {
        let body = response.into_body().collect().await.unwrap().to_bytes();
        String::from_utf8(body.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn no_path_leads_out_of_the_root() {
        let site = Site::new();
        let absolute = site.directory.path().join("secret");
        let absolute = absolute.to_str().unwrap();
        for target in [
            "/../secret",
            "/a/../../secret",
            "/%2e%2e/secret",
            "/%2E./secret",
            "/..%2fsecret",
            "/..%2Fsecret",
            "/%2e%2e%2fsecret",
            "/a/..%2f..%2fsecret",
            "/..%5csecret",
            "/..\\secret",
            "/a/%2e%2e/0123.txt",
            "/./0123.txt",
            "/a%2findex.html",
            "/0123.txt%00",
            "/0123.txt%00.html",
            "/0123.txt%0a",
            "/%c0%ae%c0%ae/secret",
            "/%252e%252e/secret",
            "/....//secret",
            "/0123.txt/",
            "/0123.txt/x",
            "/%ff",
            absolute,
            &format!("/{absolute}"),
            &format!("/{}", absolute.replace('/', "%2f")),
            &format!("/{}", "a".repeat(5000)),
            &"/a".repeat(5000),
            &format!("/{}", "!".repeat(30_000)),
            "*",
        ] {
            assert_eq!(site.read(target).await, None, "{target}");
        }
    }

    #[tokio::test]
    async fn hidden_files_are_not_there_save_well_known_ones() {
        let site = Site::new();
        for target in [
            "/.env",
            "/%2eenv",
            "/.git/config",
            "/.git",
            "/.git/",
            "//.git//config",
            "/.well-known/.hidden",
            "/a/.well-known/x",
        ] {
            assert_eq!(site.read(target).await, None, "{target}");
        }
        let known = site.read("/.well-known/security.txt").await;
        assert_eq!(known.as_deref(), Some("Contact: x"));
    }

    #[tokio::test]
    async fn no_link_leads_out_of_the_root() {
        let site = Site::new();
        let (root, outside) = (site.root(), site.directory.path());
        symlink("../secret", root.join("relative")).unwrap();
        symlink(outside.join("secret"), root.join("absolute")).unwrap();
        symlink(outside, root.join("directory")).unwrap();
        symlink("..", root.join("a/up")).unwrap();
        symlink("a/../../secret", root.join("winding")).unwrap();
        symlink("relative", root.join("chained")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        symlink("/proc/self/environ", root.join("magic")).unwrap();
        symlink("nowhere", root.join("dangling")).unwrap();
        for target in [
            "/relative",
            "/absolute",
            "/directory",
            "/directory/",
            "/directory/secret",
            "/a/up/../secret",
            "/winding",
            "/chained",
            "/loop",
            "/magic",
            "/dangling",
        ] {
            assert_eq!(site.read(target).await, None, "{target}");
        }
        symlink("../0123.txt", root.join("a/inside")).unwrap();
        assert_eq!(site.read("/a/inside").await.as_deref(), Some("0123456789"));
        assert_eq!(site.read("/a/up/0123.txt").await.as_deref(), Some("0123456789"));
    }

    #[tokio::test]
    async fn what_is_no_file_is_not_there_and_never_waited_for() {
        let site = Site::new();
        let made = Command::new("mkfifo").arg(site.root().join("pipe")).status().unwrap();
        assert!(made.success());
        let _listener = UnixListener::bind(site.root().join("socket")).unwrap();
        symlink("/dev/zero", site.root().join("zero")).unwrap();
        for target in ["/pipe", "/socket", "/zero", "/pipe/", "/empty/"] {
            assert_eq!(site.read(target).await, None, "{target}");
            let head = site.ask(Request::head(target)).await;
            assert_eq!(head.status(), StatusCode::NOT_FOUND, "{target}");
        }
    }

    /// What a pipe that takes a file's place after the check meets.
    #[tokio::test]
    async fn a_pipe_is_opened_without_waiting() {
        let site = Site::new();
        assert!(Command::new("mkfifo").arg(site.root().join("pipe")).status().unwrap().success());
        let beneath = Beneath::new(&site.root()).unwrap();
        let opened = beneath.open_unchecked(Path::new("pipe"));
        assert_eq!(opened.unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[tokio::test]
    async fn only_get_and_head_are_answered() {
        let site = Site::new();
        for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS, Method::PATCH] {
            for target in ["/0123.txt", "/missing", "/../x"] {
                let request = Request::builder().method(&method).uri(target);
                let answer = site.files.answer(request.body(empty()).unwrap(), 7, "a.onion").await;
                assert_eq!(answer.unwrap_err(), Failure::ReadOnly);
            }
        }
        let response = site.ask(Request::head("/0123.txt").header(RANGE, "bytes=1-2")).await;
        assert_eq!(response.status(), StatusCode::OK, "there are no parts of a head");
        assert_eq!(response.headers()[CONTENT_LENGTH], "10");
        assert_eq!(text(response).await, "");
    }

    #[tokio::test]
    async fn a_file_is_sent_with_its_type_length_and_age() {
        let site = Site::new();
        for (target, kind, body) in [
            ("/", "text/html", "<p>start"),
            ("/?a=b", "text/html", "<p>start"),
            ("/a/", "text/html", "<p>a"),
            ("//a//b//", "text/html", "<p>b"),
            ("/0123.txt", "text/plain", "0123456789"),
            ("/0%3123.txt?x=../y", "text/plain", "0123456789"),
            ("/%C3%A4%20%c3%b6.txt", "text/plain", "umlauts"),
            ("/50%25.txt", "text/plain", "half"),
            ("/code.js", "text/javascript", "x"),
            ("/noextension", "application/octet-stream", "x"),
        ] {
            let response = site.get(target).await;
            assert_eq!(response.status(), StatusCode::OK, "{target}");
            let headers = response.headers();
            assert_eq!(headers[CONTENT_TYPE], kind, "{target}");
            assert_eq!(headers[CONTENT_LENGTH], body.len().to_string());
            assert_eq!(headers[ACCEPT_RANGES], "bytes");
            assert!(headers.contains_key(ETAG) && headers.contains_key(LAST_MODIFIED));
            assert_eq!(text(response).await, body, "{target}");
        }
    }

    #[tokio::test]
    async fn a_directory_without_its_slash_leads_to_itself_and_nowhere_else() {
        let site = Site::new();
        fs::create_dir_all(site.root().join("evil.com")).unwrap();
        fs::create_dir_all(site.root().join("x:y")).unwrap();
        for (target, location) in [
            ("/a", "a/"),
            ("/a/b?c=d&e", "b/?c=d&e"),
            ("//evil.com", "evil.com/"),
            ("///a//b", "b/"),
            ("/x:y", "x%3Ay/"),
            ("/%61", "a/"),
            ("/empty", "empty/"),
        ] {
            let response = site.get(target).await;
            assert_eq!(response.status(), StatusCode::TEMPORARY_REDIRECT, "{target}");
            assert_eq!(response.headers()[LOCATION], location, "{target}");
        }
    }

    #[tokio::test]
    async fn a_part_of_a_file_is_sent_if_one_is_asked_for() {
        let site = Site::new();
        let part = async |range: &str| {
            let response = site.ask(Request::get("/0123.txt").header(RANGE, range)).await;
            let status = response.status().as_u16();
            let shown =
                response.headers().get(CONTENT_RANGE).map(|v| v.to_str().unwrap().to_owned());
            (status, shown.unwrap_or_default(), text(response).await)
        };
        for (range, shown, body) in [
            ("bytes=2-4", "2-4", "234"),
            ("bytes=7-", "7-9", "789"),
            ("bytes=7-99", "7-9", "789"),
            ("bytes=7-99999999999999999999999", "7-9", "789"),
            ("bytes=-3", "7-9", "789"),
            // Longer than the file: all of it (RFC 9110, section 14.1.2).
            ("bytes=-11", "0-9", "0123456789"),
            ("bytes=-100", "0-9", "0123456789"),
            ("bytes=-99999999999999999999999", "0-9", "0123456789"),
            ("bytes=0-", "0-9", "0123456789"),
            ("bytes=9-9", "9-9", "9"),
            ("BYTES=2-4", "2-4", "234"),
            ("bytes=02-04", "2-4", "234"),
            ("bytes= 2-4", "2-4", "234"),
            ("bytes=,2-4 ,", "2-4", "234"),
        ] {
            let expected = (206, format!("bytes {shown}/10"), body.to_owned());
            assert_eq!(part(range).await, expected, "{range}");
        }
        for range in ["bytes=10-", "bytes=10-20", "bytes=-0", "bytes=99999999999999999999999-"] {
            assert_eq!(part(range).await, (416, "bytes */10".into(), String::new()), "{range}");
        }
        let whole = (200, String::new(), "0123456789".to_owned());
        for range in [
            "bytes=0-1,3-4",
            "lines=1-2",
            "bytes=5-3",
            "bytes=",
            "bytes=-",
            "bytes=a-b",
            "bytes=+1-2",
            "bytes=1--2",
            "bytes=1 - 2",
            "bytes 1-2",
            "bytes",
            "",
        ] {
            assert_eq!(part(range).await, whole, "{range} is ignored");
        }
    }

    #[tokio::test]
    async fn there_are_no_parts_of_an_empty_file() {
        let site = Site::new();
        fs::write(site.root().join("nothing"), "").unwrap();
        for range in ["bytes=0-", "bytes=-5", "bytes=0-0", "bytes=1-", "bytes=-0"] {
            let response = site.ask(Request::get("/nothing").header(RANGE, range)).await;
            assert_eq!((response.status(), text(response).await), (StatusCode::OK, String::new()));
        }
    }

    #[tokio::test]
    async fn a_tag_tells_files_apart_and_nothing_of_their_age() {
        let site = Site::new();
        let path = site.root().join("0123.txt");
        let at = std::time::UNIX_EPOCH + Duration::new(1_700_000_000, 123_456_789);
        let tag = async |seconds: u64, nanoseconds: u64, body: &str| {
            fs::write(&path, body).unwrap();
            let at = at + Duration::from_secs(seconds) + Duration::from_nanos(nanoseconds);
            fs::File::options().append(true).open(&path).unwrap().set_modified(at).unwrap();
            site.get("/0123.txt").await.headers()[ETAG].to_str().unwrap().to_owned()
        };
        let first = tag(0, 0, "0123456789").await;
        assert_eq!(tag(0, 0, "9876543210").await, first);
        let mut others = vec![first.clone()];
        for (seconds, nanoseconds, body) in
            [(1, 0, "0123456789"), (0, 1, "0123456789"), (0, 0, "x")]
        {
            let other = tag(seconds, nanoseconds, body).await;
            assert!(!others.contains(&other));
            others.push(other);
        }
        for tag in others {
            let digits = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')).unwrap();
            assert!(digits.len() == 32 && digits.bytes().all(|c| c.is_ascii_hexdigit()), "{tag}");
            for shown in ["123456789", "75bcd15", "6553f100", "1700000000"] {
                assert!(!tag.contains(shown), "{tag}");
            }
        }
        let elsewhere = site.files.answer(Request::new(empty()), 7, "b.onion").await.unwrap();
        assert_ne!(elsewhere.headers()[ETAG], site.get("/").await.headers()[ETAG]);
    }

    #[tokio::test]
    async fn conditions_are_about_the_tags_that_clients_know() {
        let site = Site::new();
        let tag = site.get("/0123.txt").await.headers()[ETAG].to_str().unwrap().to_owned();
        let status = async |name: http::HeaderName, value: &str| {
            site.ask(Request::get("/0123.txt").header(name, value)).await.status().as_u16()
        };
        for (value, status_of_match, status_of_none) in [
            (&*tag, 200, 304),
            (&*format!("\"x\", {tag}"), 200, 304),
            (&*format!("W/{tag}"), 412, 304),
            ("*", 200, 304),
            ("\"x\"", 412, 200),
            ("", 200, 200),
        ] {
            assert_eq!(status(IF_MATCH, value).await, status_of_match, "{value}");
            assert_eq!(status(IF_NONE_MATCH, value).await, status_of_none, "{value}");
        }
        let head = site.ask(Request::head("/0123.txt").header(IF_NONE_MATCH, &tag)).await;
        assert_eq!(head.status(), 304);
        assert_eq!(head.headers()[ETAG], tag);
    }

    #[tokio::test]
    async fn a_part_is_sent_only_of_the_file_that_the_client_knows() {
        let site = Site::new();
        let first = site.get("/0123.txt").await;
        let (etag, modified) = (&first.headers()[ETAG], &first.headers()[LAST_MODIFIED]);
        let other = HeaderValue::from_static("\"other\"");
        let weak = HeaderValue::from_str(&format!("W/{}", etag.to_str().unwrap())).unwrap();
        for (condition, status) in [(etag, 206), (modified, 206), (&other, 200), (&weak, 200)] {
            let request = Request::get("/0123.txt").header(RANGE, "bytes=1-2");
            let response = site.ask(request.header(IF_RANGE, condition)).await;
            assert_eq!(response.status(), status, "{condition:?}");
            let expected = if status == 206 { "12" } else { "0123456789" };
            assert_eq!(text(response).await, expected);
        }
    }

    #[tokio::test]
    async fn a_file_that_the_client_has_is_not_sent_again() {
        let site = Site::new();
        let first = site.get("/0123.txt").await;
        for (name, known) in [(IF_NONE_MATCH, ETAG), (IF_MODIFIED_SINCE, LAST_MODIFIED)] {
            let condition = &first.headers()[known];
            let response = site.ask(Request::get("/0123.txt").header(&name, condition)).await;
            assert_eq!(response.status(), StatusCode::NOT_MODIFIED, "{name}");
            assert_eq!(text(response).await, "");
        }
    }

    #[tokio::test]
    async fn a_large_file_passes_in_small_pieces() {
        let site = Site::new();
        fs::File::create(site.root().join("large")).unwrap().set_len(3 << 30).unwrap();
        let response = site.get("/large").await;
        assert_eq!(response.headers()[CONTENT_LENGTH], (3_u64 << 30).to_string());
        let mut body = response.into_body();
        for _ in 0..10 {
            let piece = body.frame().await.unwrap().unwrap().into_data().unwrap();
            assert!(piece.len() <= CHUNK, "{}", piece.len());
        }
    }

    #[tokio::test]
    async fn a_file_that_becomes_shorter_or_cannot_be_read_on_breaks_off() {
        let site = Site::new();
        let file = fs::File::create(site.root().join("large")).unwrap();
        file.set_len(CHUNK as u64 * 10).unwrap();
        for range in [None, Some("bytes=9-")] {
            let request = range
                .into_iter()
                .fold(Request::get("/large"), |request, range| request.header(RANGE, range));
            file.set_len(CHUNK as u64 * 10).unwrap();
            let mut body = site.ask(request).await.into_body();
            body.frame().await.unwrap().unwrap();
            file.set_len(CHUNK as u64 * 2).unwrap();
            assert_eq!(broken(body).await, Failure::FileBroken);
        }
        let error = Err(BodyError::from(io::Error::from_raw_os_error(libc::EIO)));
        let body = http_body_util::StreamBody::new(futures::stream::iter([error])).boxed_unsync();
        let _handle = handles().take(7).await.unwrap();
        assert_eq!(broken(FileBody { body, left: None, _handle }).await, Failure::FileBroken);
    }

    /// How a body breaks off.
    async fn broken(body: impl hyper::body::Body<Data = Bytes, Error = BodyError>) -> Failure {
        *body.collect().await.err().unwrap().downcast::<Failure>().unwrap()
    }

    #[test]
    fn what_keeps_a_file_from_being_opened_decides_on_the_answer() {
        let answer = |code| {
            let answer = unread(&io::Error::from_raw_os_error(code));
            answer.map(|response| response.status().as_u16())
        };
        for code in [libc::ENOENT, libc::EACCES, libc::ELOOP, libc::ENOTDIR, libc::ENAMETOOLONG] {
            assert_eq!(answer(code), Ok(404), "{code}");
        }
        for code in [libc::EMFILE, libc::ENFILE] {
            assert_eq!(answer(code), Err(Failure::FilesBusy), "{code}");
        }
        for code in [libc::EIO, libc::ENOMEM, libc::ESTALE] {
            assert_eq!(answer(code), Err(Failure::FileBroken), "{code}");
        }
    }

    #[tokio::test]
    async fn a_root_that_is_switched_is_followed_and_one_that_is_gone_has_no_files() {
        let site = Site::new();
        let (old, new) = (site.directory.path().join("old"), site.directory.path().join("new"));
        for (version, text) in [(&old, "old"), (&new, "new")] {
            fs::create_dir(version).unwrap();
            fs::write(version.join("index.html"), text).unwrap();
        }
        let current = site.directory.path().join("current");
        symlink(&old, &current).unwrap();
        let site = Site { files: Files::new(&current, handles()).unwrap(), ..site };
        assert_eq!(site.read("/").await.as_deref(), Some("old"));
        fs::remove_file(&current).unwrap();
        assert_eq!(site.read("/").await, None);
        symlink(&new, &current).unwrap();
        assert_eq!(site.read("/").await.as_deref(), Some("new"));
    }

    #[test]
    fn a_root_that_is_no_directory_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        for root in [file, directory.path().join("missing")] {
            let error = Files::new(&root, handles()).unwrap_err().to_string();
            assert_eq!(error, format!("cannot open the directory {}", root.display()));
        }
    }
}

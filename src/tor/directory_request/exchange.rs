//! The bytes that go to and from an HSDir, as C tor 0.4.9 writes them
//! (dir-spec, section "General-use HTTP URLs"; dirclient.c,
//! `directory_send_command`).
//!
//! Arti's own requests have other header fields, so HSDirs could tell ours from
//! those of nearly all services and clients.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use base64ct::{Base64Unpadded, Encoding as _};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tor_hscrypto::pk::HsBlindId;

/// The longest head of an answer, in bytes.
const MAX_HEAD: usize = 16 * 1024;

/// How many header fields an answer may have; C tor sends about five.
const MAX_FIELDS: usize = 32;

/// What an HSDir is asked.
#[derive(Clone, Debug)]
pub(in crate::tor) enum Request {
    /// For a descriptor of at most so many bytes.
    Fetch {
        /// Under which name HSDirs store it.
        blinded: HsBlindId,
        /// The longest answer to accept, in bytes.
        max_length: usize,
    },
    /// To store a descriptor.
    Upload(Arc<str>),
}

/// What it answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::tor) struct Answer {
    /// The HTTP status.
    pub(in crate::tor) status: u16,
    /// What stands beside the status.
    pub(in crate::tor) reason: String,
    /// What follows, if the status is 200.
    pub(in crate::tor) body: Vec<u8>,
}

/// Why there is no answer. The text is what status shows.
#[derive(Debug, thiserror::Error)]
pub(in crate::tor) enum ExchangeError {
    #[error("no answer in time")]
    TimedOut,
    #[error("the stream broke: {0}")]
    Broken(#[from] io::Error),
    #[error("the answer is not HTTP")]
    NotHttp(#[from] httparse::Error),
    #[error("the answer ends early")]
    Truncated,
    #[error("the answer is too long")]
    TooLong,
    #[error("the answer has an encoding that was not asked for")]
    Encoded,
}

impl Request {
    /// The longest body of an answer, in bytes.
    fn max_length(&self) -> usize {
        match self {
            Self::Fetch { max_length, .. } => *max_length,
            // HSDirs say nothing more.
            Self::Upload(_) => MAX_HEAD,
        }
    }

    /// The request to an HSDir with this address.
    fn text(&self, hsdir: SocketAddr) -> String {
        // An IPv6 address has its brackets either way.
        let host = match (hsdir.port(), hsdir) {
            (80, SocketAddr::V4(v4)) => v4.ip().to_string(),
            (80, SocketAddr::V6(v6)) => format!("[{}]", v6.ip()),
            _ => hsdir.to_string(),
        };
        match self {
            Self::Fetch { blinded, .. } => {
                let name = Base64Unpadded::encode_string(blinded.as_ref());
                format!("GET /tor/hs/3/{name} HTTP/1.0\r\nHost: {host}\r\n\r\n")
            }
            Self::Upload(descriptor) => format!(
                "POST /tor/hs/3/publish HTTP/1.0\r\nHost: {host}\r\nContent-Length: {}\r\n\r\n\
                 {descriptor}",
                descriptor.len()
            ),
        }
    }
}

/// Asks once on an open stream. The caller limits the time.
pub(super) async fn exchange<S>(
    mut stream: S,
    hsdir: SocketAddr,
    request: &Request,
) -> Result<Answer, ExchangeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    stream.write_all(request.text(hsdir).as_bytes()).await?;
    // A Tor stream keeps what does not fill a cell.
    stream.flush().await?;

    let mut read = Vec::with_capacity(2048);
    let head = loop {
        if let Some(head) = head(&read)? {
            break head;
        }
        if read.len() >= MAX_HEAD {
            return Err(ExchangeError::TooLong);
        }
        let most = (MAX_HEAD - read.len()) as u64;
        if (&mut stream).take(most).read_buf(&mut read).await? == 0 {
            return Err(ExchangeError::Truncated);
        }
    };
    let Head { length, status, reason, body_length, encoded } = head;
    if status != 200 {
        return Ok(Answer { status, reason, body: Vec::new() });
    }
    if encoded {
        return Err(ExchangeError::Encoded);
    }
    let mut body = read.split_off(length);
    let max_length = request.max_length();
    // Without a length the answer goes to the end of the stream.
    let wanted = body_length.unwrap_or(max_length + 1);
    if body_length.is_some_and(|length| length > max_length) {
        return Err(ExchangeError::TooLong);
    }
    while body.len() < wanted {
        let most = (wanted - body.len()) as u64;
        if (&mut stream).take(most).read_buf(&mut body).await? == 0 {
            if body_length.is_some() {
                return Err(ExchangeError::Truncated);
            }
            break;
        }
    }
    if body.len() > max_length {
        return Err(ExchangeError::TooLong);
    }
    body.truncate(wanted);
    Ok(Answer { status, reason, body })
}

/// What the head of an answer says.
struct Head {
    /// Its own length, in bytes.
    length: usize,
    status: u16,
    reason: String,
    body_length: Option<usize>,
    encoded: bool,
}

/// The head, once it is complete.
fn head(read: &[u8]) -> Result<Option<Head>, ExchangeError> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut response = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(length) = response.parse(read)? else { return Ok(None) };
    let field = |name: &str| {
        let found = response.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name))?;
        Some(String::from_utf8_lossy(found.value).trim().to_owned())
    };
    Ok(Some(Head {
        length,
        status: response.code.unwrap_or_default(),
        reason: response.reason.unwrap_or_default().to_owned(),
        body_length: field("Content-Length").and_then(|value| value.parse().ok()),
        encoded: field("Content-Encoding").is_some_and(|value| value != "identity"),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fetch(max_length: usize) -> Request {
        Request::Fetch { blinded: HsBlindId::from([7; 32]), max_length }
    }

    /// What comes of an answer, and what was asked.
    async fn answered(request: Request, answer: &[u8]) -> (Result<Answer, ExchangeError>, String) {
        let (ours, mut theirs) = tokio::io::duplex(64 * 1024);
        let hsdir = "192.0.2.1:9001".parse().unwrap();
        let answering = async {
            theirs.write_all(answer).await.unwrap();
            theirs.shutdown().await.unwrap();
        };
        let (outcome, ()) = tokio::join!(exchange(ours, hsdir, &request), answering);
        let mut said = String::new();
        theirs.read_to_string(&mut said).await.unwrap();
        (outcome, said)
    }

    #[tokio::test]
    async fn requests_have_the_very_bytes_of_c_tor() {
        let ok = b"HTTP/1.0 200 OK\r\n\r\n";
        let (_, said) = answered(fetch(10), ok).await;
        let name = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc";
        let expected = format!("GET /tor/hs/3/{name} HTTP/1.0\r\nHost: 192.0.2.1:9001\r\n\r\n");
        assert_eq!(said, expected);
        let (outcome, said) = answered(Request::Upload("document\n".into()), ok).await;
        assert_eq!(
            said,
            "POST /tor/hs/3/publish HTTP/1.0\r\nHost: 192.0.2.1:9001\r\nContent-Length: 9\r\n\r\n\
             document\n"
        );
        assert_eq!(outcome.unwrap().status, 200);
    }

    #[test]
    fn the_host_is_written_as_c_tor_writes_it() {
        let host = |hsdir: &str| {
            let text = fetch(1).text(hsdir.parse().unwrap());
            text.lines().nth(1).unwrap().to_owned()
        };
        assert_eq!(host("192.0.2.1:80"), "Host: 192.0.2.1");
        assert_eq!(host("192.0.2.1:443"), "Host: 192.0.2.1:443");
        assert_eq!(host("[2001:db8::1]:443"), "Host: [2001:db8::1]:443");
        assert_eq!(host("[2001:db8::1]:80"), "Host: [2001:db8::1]");
    }

    #[tokio::test]
    async fn an_answer_is_read_to_its_length_or_to_the_end() {
        for head in ["Content-Length: 4\r\n", "", "Content-Encoding: identity\r\n"] {
            let answer = format!("HTTP/1.0 200 OK\r\nDate: now\r\n{head}\r\nbody");
            let (outcome, _) = answered(fetch(4), answer.as_bytes()).await;
            assert_eq!(outcome.unwrap().body, b"body", "{head}");
        }
        let (outcome, _) = answered(fetch(4), b"HTTP/1.0 404 Not found\r\n\r\nno").await;
        let answer = outcome.unwrap();
        assert_eq!((answer.status, answer.reason.as_str()), (404, "Not found"));
        assert!(answer.body.is_empty());
    }

    #[tokio::test]
    async fn an_answer_that_is_too_long_cut_short_or_encoded_is_an_error() {
        let outcome = async |answer: &str| answered(fetch(4), answer.as_bytes()).await.0;
        let long = outcome("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nbodyx").await;
        assert!(matches!(long, Err(ExchangeError::TooLong)), "{long:?}");
        let long = outcome("HTTP/1.0 200 OK\r\n\r\nbodyx").await;
        assert!(matches!(long, Err(ExchangeError::TooLong)), "{long:?}");
        let huge = outcome("HTTP/1.0 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nbodyx");
        assert!(matches!(huge.await, Err(ExchangeError::TooLong)));
        let short = outcome("HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\nbod").await;
        assert!(matches!(short, Err(ExchangeError::Truncated)), "{short:?}");
        let short = outcome("HTTP/1.0 200 OK\r\nDate").await;
        assert!(matches!(short, Err(ExchangeError::Truncated)), "{short:?}");
        let encoded = outcome("HTTP/1.0 200 OK\r\nContent-Encoding: deflate\r\n\r\nbody").await;
        assert!(matches!(encoded, Err(ExchangeError::Encoded)), "{encoded:?}");
        let other = outcome("SSH-2.0-OpenSSH\r\n\r\n").await;
        assert!(matches!(other, Err(ExchangeError::NotHttp(_))), "{other:?}");
        let head = format!("HTTP/1.0 200 OK\r\nX: {}", "x".repeat(MAX_HEAD));
        let endless = outcome(&head).await;
        assert!(matches!(endless, Err(ExchangeError::TooLong)), "{endless:?}");
    }
}

//! What does the server behind a stream answer to one HTTP request?
//!
//! As little as possible is sent and read: the request says nothing of who
//! asks, and of the answer only the status lines matter (RFC 9112, sections 3
//! and 4).

use std::time::Duration;

use tokio::io::{
    AsyncBufRead, AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite,
    AsyncWriteExt as _, BufReader,
};
use tokio::time::timeout;

use super::verdict::Verdict;
use onionbraid_balancer::onion::OnionAddress;

/// How long the server may take until its status is known.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// How much is read at most; servers keep a whole head below this.
const MOST: u64 = 16 * 1024;

/// An HTTP request that a client could make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What to ask for: begins with `/`, in ASCII without blanks.
    pub path: String,
    /// The value of `Host`: what a browser shows, which is the address that
    /// clients know, and the port if it is not 80.
    pub host: String,
    /// The status that the answer must have; `None`: any.
    pub status: Option<u16>,
}

impl Request {
    /// A request as a browser makes it that was given an address and a port.
    pub fn new(address: &OnionAddress, port: u16, path: String, status: Option<u16>) -> Self {
        let host = match port {
            80 => address.to_string(),
            port => format!("{address}:{port}"),
        };
        Self { path, host, status }
    }
}

/// Sends a request on an open stream and judges the answer.
///
/// # Errors
///
/// [`Verdict::WrongStatus`] or [`Verdict::NoHttp`].
pub(super) async fn ask<S>(stream: S, request: &Request) -> Result<(), Verdict>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match timeout(ANSWER_WITHIN, exchange(stream, request)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Verdict::NoHttp(format!("no answer within {} s", ANSWER_WITHIN.as_secs()))),
    }
}

async fn exchange<S>(mut stream: S, request: &Request) -> Result<(), Verdict>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Request { path, host, status: wanted } = request;
    let message = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    let sent = async {
        stream.write_all(message.as_bytes()).await?;
        // A Tor stream keeps what does not fill a cell.
        stream.flush().await
    };
    sent.await.map_err(|error: std::io::Error| Verdict::NoHttp(error.to_string()))?;

    let mut answer = BufReader::new(stream.take(MOST));
    loop {
        let status = status(&line(&mut answer).await?)
            .ok_or_else(|| Verdict::NoHttp("the answer has no status line".into()))?;
        if wanted.is_none_or(|wanted| wanted == status) {
            return Ok(());
        }
        // Interim answers announce another one, save "Switching Protocols".
        if !(100..200).contains(&status) || status == 101 {
            return Err(Verdict::WrongStatus(status));
        }
        while !line(&mut answer).await?.is_empty() {}
    }
}

/// The next line, without its end.
async fn line(answer: &mut (impl AsyncBufRead + Unpin)) -> Result<Vec<u8>, Verdict> {
    let mut line = Vec::new();
    let read = answer.read_until(b'\n', &mut line).await;
    read.map_err(|error| Verdict::NoHttp(error.to_string()))?;
    match line.strip_suffix(b"\n") {
        Some(text) => Ok(text.strip_suffix(b"\r").unwrap_or(text).to_vec()),
        None => Err(Verdict::NoHttp("the answer is over, or too long, before its status".into())),
    }
}

/// `HTTP/1.1 200 OK` -> 200.
fn status(line: &[u8]) -> Option<u16> {
    let rest = line.strip_prefix(b"HTTP/1.1 ").or_else(|| line.strip_prefix(b"HTTP/1.0 "))?;
    let (code, reason) = rest.split_at_checked(3)?;
    let is_status = code.iter().all(u8::is_ascii_digit) && code[0] != b'0';
    let is_whole = reason.is_empty() || reason.starts_with(b" ");
    if !is_status || !is_whole {
        return None;
    }
    std::str::from_utf8(code).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    /// What is made of an answer, and what was asked.
    async fn answered(answer: &[u8], status: Option<u16>) -> (Result<(), Verdict>, String) {
        let (stream, mut server) = duplex(64 * 1024);
        server.write_all(answer).await.unwrap();
        let request = Request { path: "/health?deep".into(), host: "shop.onion".into(), status };
        let asked = async {
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                server.read_buf(&mut asked).await.unwrap();
            }
            server.shutdown().await.unwrap();
            String::from_utf8(asked).unwrap()
        };
        tokio::join!(ask(stream, &request), asked)
    }

    #[tokio::test]
    async fn the_request_names_the_address_and_says_nothing_of_who_asks() {
        let (outcome, asked) = answered(b"HTTP/1.1 200 OK\r\n\r\n", Some(200)).await;
        assert_eq!(outcome, Ok(()));
        let expected = "GET /health?deep HTTP/1.1\r\nHost: shop.onion\r\nConnection: close\r\n\r\n";
        assert_eq!(asked, expected);
    }

    #[test]
    fn a_port_that_is_not_the_usual_one_is_named_beside_the_address() {
        let address = OnionAddress::from_public_key([1; 32]);
        let host = |port| Request::new(&address, port, "/".into(), None).host;
        assert_eq!(host(80), address.to_string());
        assert_eq!(host(8080), format!("{address}:8080"));
    }

    #[tokio::test]
    async fn another_status_than_the_wanted_one_is_wrong_and_without_one_any_is_right() {
        for answer in ["HTTP/1.1 503 Service Unavailable\r\n", "HTTP/1.0 503\r\n"] {
            let (outcome, _) = answered(answer.as_bytes(), Some(200)).await;
            assert_eq!(outcome, Err(Verdict::WrongStatus(503)), "{answer:?}");
            let (outcome, _) = answered(answer.as_bytes(), None).await;
            assert_eq!(outcome, Ok(()), "{answer:?}");
        }
    }

    #[tokio::test]
    async fn interim_answers_are_passed_over() {
        let hints = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n\
                      HTTP/1.1 204 No Content\r\n\r\n";
        assert_eq!(answered(hints, Some(204)).await.0, Ok(()));
        assert_eq!(answered(hints, Some(200)).await.0, Err(Verdict::WrongStatus(204)));
    }

    #[tokio::test]
    async fn what_is_not_http_is_told_so_and_read_no_further_than_needed() {
        let endless = vec![b'x'; 32 * 1024];
        let wrong: [&[u8]; 8] = [
            b"",
            b"SSH-2.0-OpenSSH_9.6\r\n",
            b"HTTP/1.1 200",
            b"HTTP/1.1 20 OK\r\n",
            b"HTTP/1.1 2000\r\n",
            b"HTTP/1.1 099 No\r\n",
            b"\xff\xfe\n",
            &endless,
        ];
        for answer in wrong {
            let (outcome, _) = answered(answer, None).await;
            assert!(matches!(outcome, Err(Verdict::NoHttp(_))), "{answer:?}: {outcome:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_says_nothing_is_not_waited_for_for_ever() {
        let (stream, _server) = duplex(1024);
        let request = Request { path: "/".into(), host: "shop.onion".into(), status: None };
        let outcome = ask(stream, &request).await;
        assert_eq!(outcome, Err(Verdict::NoHttp("no answer within 30 s".into())));
    }
}

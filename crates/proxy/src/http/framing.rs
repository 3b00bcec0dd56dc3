//! Where each HTTP/1 message of a client begins and ends. Pure.
//!
//! hyper parses the heads, and the guard judges them. Here is only what a parsed
//! head does not show any more, since hyper repairs or ignores it: line ends
//! without CR, a second field that says how long the message is, a fragment in
//! the target, and blanks and the like around the sizes of chunks. RFC 9112 allows
//! to be lenient with most of that (sections 2.2, 6.3, 7.1.1). It is refused all
//! the same: what passes can be read in one way only. The gate calls this with the
//! bytes as they come.

use std::str;

use crate::failure::Failure;
use crate::token::{self, is_token, is_value};

/// The longest line that says how long a chunk is, extensions and all, in bytes.
const MAX_CHUNK_LINE: usize = 1024;

/// The longest name of a field, in bytes: as long as `http::HeaderName` can be.
/// hyper takes a longer one for a fault of its own.
const MAX_NAME: usize = 65_535;

/// What a client of HTTP/2 sends first (RFC 9113, section 3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The head in it, at which hyper hangs up without an answer.
const HTTP2_HEAD: &[u8] = HTTP2_PREFACE.split_at(18).0;

/// What a client may send before its request is understood.
#[derive(Clone, Copy, Debug)]
pub struct MessageLimits {
    /// The longest head, and the longest trailers, in bytes.
    pub head_bytes: usize,
    /// The most fields in trailers. Those of heads hyper counts.
    pub fields: usize,
}

/// Follows the messages of one client.
#[derive(Clone, Debug)]
pub struct Framing {
    limits: MessageLimits,
    next: Next,
    /// How many of the bytes at hand have been searched for the end of the head.
    searched: usize,
    /// Where the line begins that the search is in.
    line: usize,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// A request line and header fields.
    Head,
    /// So many bytes of a body.
    Body(u64),
    /// The size of a chunk.
    ChunkSize,
    /// So many bytes of a chunk.
    Chunk(u64),
    /// The line end after a chunk.
    ChunkEnd,
    /// Trailer fields: so many bytes and fields of them have passed.
    Trailers { bytes: usize, fields: usize },
    /// Another message, if its request does not change the protocol.
    Over,
}

/// What to do with the bytes at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The first bytes are a whole head: pass them on.
    Head(usize),
    /// The first bytes are a part of a body: pass them on.
    Body(usize),
    /// The first bytes mean nothing: drop them.
    Skip(usize),
    /// Nothing can be said without more bytes.
    More,
    /// The message has ended: what follows waits for [`Framing::go_on`].
    Over,
}

/// Whether a connection that begins so speaks HTTP/2; `None`: too early to say.
pub fn is_http2(start: &[u8]) -> Option<bool> {
    let common = start.len().min(HTTP2_PREFACE.len());
    if start[..common] != HTTP2_PREFACE[..common] {
        return Some(false);
    }
    (common == HTTP2_PREFACE.len()).then_some(true)
}

impl Framing {
    /// At the beginning of a connection.
    pub fn new(limits: MessageLimits) -> Self {
        Self { limits, next: Next::Head, searched: 0, line: 0 }
    }

    /// Whether the next bytes belong to a head.
    pub fn in_head(&self) -> bool {
        self.next == Next::Head
    }

    /// After [`Step::Over`]: another message follows.
    pub fn go_on(&mut self) {
        self.next = Next::Head;
    }

    /// Looks at the bytes that have not been passed on or dropped. The same
    /// bytes may be shown again, with more behind them.
    ///
    /// # Errors
    ///
    /// The request is refused. Nothing that follows on the connection means anything.
    pub fn step(&mut self, bytes: &[u8]) -> Result<Step, Failure> {
        match self.next {
            Next::Head => self.head(bytes),
            Next::Body(left) => Ok(self.data(bytes, left, Next::Body, Next::Over)),
            Next::Chunk(left) => Ok(self.data(bytes, left, Next::Chunk, Next::ChunkEnd)),
            Next::ChunkSize => self.chunk_size(bytes),
            Next::ChunkEnd => match bytes {
                [b'\r', b'\n', ..] => {
                    self.next = Next::ChunkSize;
                    Ok(Step::Body(2))
                }
                [] | [b'\r'] => Ok(Step::More),
                _ => Err(Failure::Malformed),
            },
            Next::Trailers { bytes: before, fields } => self.trailer(bytes, before, fields),
            Next::Over => Ok(Step::Over),
        }
    }

    /// Bytes of a body, as many as are there.
    fn data(&mut self, bytes: &[u8], left: u64, rest: fn(u64) -> Next, end: Next) -> Step {
        let here = u64::try_from(bytes.len()).map_or(left, |here| here.min(left));
        if here == 0 {
            return Step::More;
        }
        self.next = if here == left { end } else { rest(left - here) };
        // No more than `bytes.len()`.
        Step::Body(usize::try_from(here).unwrap_or(bytes.len()))
    }

    /// The head of a request, as soon as it is whole.
    fn head(&mut self, bytes: &[u8]) -> Result<Step, Failure> {
        match bytes {
            [] | [b'\r'] => return Ok(Step::More),
            // Empty lines may precede a request (RFC 9112, section 2.2).
            [b'\r', b'\n', ..] => {
                let lines = bytes.chunks_exact(2).take_while(|line| line == b"\r\n").count();
                return Ok(Step::Skip(2 * lines));
            }
            // Garbage is known by its first byte.
            [first, ..] if !is_token(*first) => return Err(Failure::Malformed),
            _ => {}
        }
        let Some(length) = self.end_of_head(bytes)? else {
            if bytes.len() <= self.limits.head_bytes {
                return Ok(Step::More);
            }
            return Err(if self.line == 0 {
                Failure::TargetTooLong
            } else {
                Failure::HeadTooLarge
            });
        };
        (self.searched, self.line) = (0, 0);
        self.next = body(&bytes[..length])?;
        Ok(Step::Head(length))
    }

    /// Searches on for the empty line, as far as a head may go: what is refused,
    /// and as what, must not depend on how much has arrived.
    fn end_of_head(&mut self, bytes: &[u8]) -> Result<Option<usize>, Failure> {
        let end = bytes.len().min(self.limits.head_bytes);
        for at in self.searched..end {
            let after_cr = at > 0 && bytes[at - 1] == b'\r';
            if after_cr != (bytes[at] == b'\n') {
                return Err(Failure::Malformed);
            }
            if after_cr {
                if at - 1 == self.line {
                    return Ok(Some(at + 1));
                }
                self.line = at + 1;
            }
        }
        self.searched = end;
        Ok(None)
    }

    /// A line that says how long the next chunk is (RFC 9112, section 7.1).
    fn chunk_size(&mut self, bytes: &[u8]) -> Result<Step, Failure> {
        let Some(line) = whole_line(bytes, MAX_CHUNK_LINE)? else { return Ok(Step::More) };
        let (size, extensions) = match line.iter().position(|&byte| byte == b';') {
            Some(at) => line.split_at(at),
            None => (line, &b""[..]),
        };
        // Fifteen digits cannot overflow anything, here or at the origin.
        let plain = (1..=15).contains(&size.len()) && size.iter().all(u8::is_ascii_hexdigit);
        if !plain || !extensions.iter().all(|&byte| is_value(byte)) {
            return Err(Failure::Malformed);
        }
        let digits = str::from_utf8(size).map_err(|_| Failure::Malformed)?;
        self.next = match u64::from_str_radix(digits, 16).map_err(|_| Failure::Malformed)? {
            0 => Next::Trailers { bytes: 0, fields: 0 },
            size => Next::Chunk(size),
        };
        Ok(Step::Body(line.len() + 2))
    }

    /// One trailer field, or the empty line after the last.
    fn trailer(&mut self, bytes: &[u8], before: usize, fields: usize) -> Result<Step, Failure> {
        let most = self.limits.head_bytes.saturating_sub(before);
        let Some(line) = whole_line(bytes, most)? else { return Ok(Step::More) };
        if line.is_empty() {
            self.next = Next::Over;
            return Ok(Step::Body(2));
        }
        if line.contains(&b'\r') {
            return Err(Failure::Malformed);
        }
        if fields == self.limits.fields {
            return Err(Failure::HeadTooLarge);
        }
        let length = line.len() + 2;
        self.next = Next::Trailers { bytes: before + length, fields: fields + 1 };
        Ok(Step::Body(length))
    }
}

/// The first line without its end, `None` if it is not whole yet.
fn whole_line(bytes: &[u8], most: usize) -> Result<Option<&[u8]>, Failure> {
    let end = bytes.iter().take(most + 2).position(|&byte| byte == b'\n');
    match end {
        Some(at) if at > 0 && bytes[at - 1] == b'\r' => Ok(Some(&bytes[..at - 1])),
        None if bytes.len() < most + 2 => Ok(None),
        _ => Err(Failure::Malformed),
    }
}

/// What follows a head, by the one field that says it.
fn body(head: &[u8]) -> Result<Next, Failure> {
    let mut lines = head.split(|&byte| byte == b'\n');
    let target = lines.next().and_then(|line| line.split(|&byte| byte == b' ').nth(1));
    // Of a target hyper shows nothing behind `#`.
    if head.starts_with(HTTP2_HEAD) || target.is_some_and(|target| target.contains(&b'#')) {
        return Err(Failure::Malformed);
    }
    let mut body = None;
    for line in lines {
        let name = line.split(|&byte| byte == b':').next().unwrap_or_default();
        if name.len() > MAX_NAME {
            return Err(Failure::HeadTooLarge);
        }
        // The colon is there, or hyper refuses the line.
        let value = || line.get(name.len() + 1..).unwrap_or_default().trim_ascii();
        let next = if name.eq_ignore_ascii_case(b"content-length") {
            match token::length(value()).ok_or(Failure::Malformed)? {
                0 => Next::Over,
                length => Next::Body(length),
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if !value().eq_ignore_ascii_case(b"chunked") {
                return Err(Failure::Malformed);
            }
            Next::ChunkSize
        } else {
            continue;
        };
        if body.replace(next).is_some() {
            return Err(Failure::Malformed);
        }
    }
    Ok(body.unwrap_or(Next::Over))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: MessageLimits = MessageLimits { head_bytes: 512, fields: 8 };

    /// What a connection's bytes are, given in pieces of this size: all that
    /// passed, where heads began, and what refused it.
    fn follow(bytes: &[u8], piece: usize) -> (Vec<u8>, Vec<usize>, Option<Failure>) {
        let mut framing = Framing::new(LIMITS);
        let (mut passed, mut heads, mut at_hand) = (Vec::new(), Vec::new(), Vec::new());
        for piece in bytes.chunks(piece) {
            at_hand.extend_from_slice(piece);
            loop {
                match framing.step(&at_hand) {
                    Ok(Step::Head(length)) => {
                        heads.push(passed.len());
                        passed.extend(at_hand.drain(..length));
                    }
                    Ok(Step::Body(length)) => passed.extend(at_hand.drain(..length)),
                    Ok(Step::Skip(length)) => drop(at_hand.drain(..length)),
                    Ok(Step::Over) => framing.go_on(),
                    Ok(Step::More) => break,
                    Err(failure) => return (passed, heads, Some(failure)),
                }
            }
        }
        (passed, heads, None)
    }

    #[test]
    fn messages_are_told_apart_however_their_bytes_arrive() {
        let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
        let chunked = "PUT http://a/ HTTP/1.1\r\nhost:\ta \r\ntransfer-encoding: Chunked\r\n\r\n\
                       3;x=\"y\"\r\nabc\r\n0\r\nSum: 1\r\n\r\n";
        let upgrade = "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n";
        let old = "HEAD / HTTP/1.0\r\n\r\n";
        let all = [get, post, chunked, upgrade, old, get].concat();
        let starts: Vec<usize> = [get, post, chunked, upgrade, old, get]
            .iter()
            .scan(0, |at, message| Some(std::mem::replace(at, *at + message.len())))
            .collect();
        for piece in [1, 2, 3, 7, 64, all.len()] {
            assert_eq!(
                follow(all.as_bytes(), piece),
                (all.clone().into_bytes(), starts.clone(), None)
            );
        }
    }

    #[test]
    fn empty_lines_before_a_request_are_dropped() {
        let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let (passed, _, failure) = follow(format!("\r\n\r\n{get}").as_bytes(), 1);
        assert_eq!((passed, failure), (get.as_bytes().to_vec(), None));
    }

    #[test]
    fn what_is_too_long_is_refused_as_soon_as_it_is() {
        let long = "a".repeat(600);
        let refused = |text: String| follow(text.as_bytes(), 1).2;
        assert_eq!(refused(format!("GET /{long}")), Some(Failure::TargetTooLong));
        let head = "GET / HTTP/1.1\r\nHost: a\r\n";
        assert_eq!(refused(format!("{head}X: {long}")), Some(Failure::HeadTooLarge));
        let fields = "X: y\r\n".repeat(8);
        let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n");
        let extension = "x".repeat(MAX_CHUNK_LINE);
        assert_eq!(refused(format!("{chunked}1;{extension}")), Some(Failure::Malformed));
        assert_eq!(refused(format!("{chunked}0\r\nX: {long}")), Some(Failure::Malformed));
        assert_eq!(refused(format!("{chunked}0\r\n{fields}X: y\r\n")), Some(Failure::HeadTooLarge));
    }

    #[test]
    fn what_a_head_that_is_too_long_is_refused_as_does_not_depend_on_how_it_is_cut() {
        let target = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(600));
        let field = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "a".repeat(600));
        for (head, failure) in [(target, Failure::TargetTooLong), (field, Failure::HeadTooLarge)] {
            for piece in [1, 100, 512, 513, head.len()] {
                assert_eq!(follow(head.as_bytes(), piece).2, Some(failure), "{piece}");
            }
        }
    }

    #[test]
    fn what_the_library_does_not_take_for_a_name_is_refused_here() {
        for (length, refused) in [(MAX_NAME, None), (MAX_NAME + 1, Some(Failure::HeadTooLarge))] {
            let name = "a".repeat(length);
            let known = hyper::header::HeaderName::from_bytes(name.as_bytes());
            assert_eq!(known.is_err(), refused.is_some());
            let head = format!("GET / HTTP/1.1\r\n{name}: x\r\n\r\n");
            assert_eq!(body(head.as_bytes()).err(), refused);
        }
    }

    #[test]
    fn http2_is_known_by_its_preface() {
        assert_eq!(is_http2(b""), None);
        assert_eq!(is_http2(b"PRI * HTTP/2.0\r\n"), None);
        assert_eq!(is_http2(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nmore"), Some(true));
        assert_eq!(is_http2(b"PRI * HTTP/1.1"), Some(false));
        assert_eq!(is_http2(b"P0"), Some(false));
    }

    proptest! {
        #[test]
        fn how_bytes_are_cut_changes_nothing(
            bytes in proptest::collection::vec(
                prop_oneof![
                    Just(b'\r'), Just(b'\n'), Just(b':'), Just(b' '), Just(b'0'), any::<u8>()
                ],
                0..300,
            ),
            chunked in any::<bool>(),
            piece in 1_usize..50,
        ) {
            let coding = if chunked { "Transfer-Encoding: chunked\r\n\r\n" } else { "" };
            let mut all = format!("PUT / HTTP/1.1\r\nHost: a\r\n{coding}").into_bytes();
            all.extend(bytes);
            prop_assert_eq!(follow(&all, piece), follow(&all, all.len()));
        }

        #[test]
        fn what_passes_as_a_head_here_and_in_hyper_holds_no_ambiguous_byte(
            lines in proptest::collection::vec("[ -~\t\r\n\u{0}\u{b}]{0,20}", 0..6),
        ) {
            let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n\r\n", lines.join("\r\n"));
            let (passed, heads, _) = follow(text.as_bytes(), text.len());
            let mut fields = [httparse::EMPTY_HEADER; 16];
            let parsed = httparse::Request::new(&mut fields).parse(&passed);
            if let (false, Ok(httparse::Status::Complete(length))) = (heads.is_empty(), parsed) {
                let head = std::str::from_utf8(&passed[..length]).unwrap();
                prop_assert_eq!(head.find("\r\n\r\n"), Some(length - 4), "one end for both");
                for line in head.split("\r\n") {
                    prop_assert!(!line.contains(|c: char| c.is_ascii_control() && c != '\t'));
                    prop_assert!(!line.starts_with([' ', '\t']));
                }
            }
        }
    }
}

//! Where does each HTTP/1 message of a client begin and end? Pure.
//!
//! Two servers that disagree about that can be made to see different requests
//! in the same bytes (request smuggling). So everything that RFC 9112 lets a
//! server repair, ignore or guess is refused here, before hyper sees it:
//! what passes can be read in one way only. The gate calls this with the bytes
//! as they come.
//!
//! Refused though RFC 9112 would allow it: line ends without CR (section 2.2),
//! a repeated `Content-Length` even of the same value (RFC 9110, section 8.6),
//! transfer codings other than a single `chunked` (section 6.1), white space
//! around chunk sizes (section 7.1.1), and `CONNECT`, after which there would be
//! no messages.

use crate::failure::Failure;
use crate::host::Host;
use crate::token::{self, is_target, is_token, is_value};

/// The longest line that says how long a chunk is, extensions and all, in bytes.
const MAX_CHUNK_LINE: usize = 1024;

/// The longest request target, in bytes: as long as `http::Uri` can be, or hyper
/// would refuse it without us. Whether one that can be read is too long, the guard
/// says, for HTTP/2 as well (`guard::LONGEST_TARGET`).
const MAX_TARGET: usize = 65_534;

/// The longest name of a field, in bytes: as long as `http::HeaderName` can be.
const MAX_NAME: usize = 65_535;

/// What a client of HTTP/2 sends first (RFC 9113, section 3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a client may send before its request is understood.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The longest head, and the longest trailers, in bytes.
    pub head_bytes: usize,
    /// The most fields in a head or in trailers.
    pub fields: usize,
}

/// Follows the messages of one client.
#[derive(Clone, Debug)]
pub struct Framing {
    /// What is allowed.
    limits: Limits,
    /// What comes next.
    next: Next,
    /// How many of the bytes at hand have been searched for the end of the head.
    searched: usize,
    /// Where the line begins that the search is in.
    line: usize,
    /// Whether the message at hand asks for another protocol.
    upgrade: bool,
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
    /// Nobody knows: the protocol may change here.
    Protocol,
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
    /// Wait until it is known whether the protocol changes.
    Hold,
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
    pub fn new(limits: Limits) -> Self {
        Self { limits, next: Next::Head, searched: 0, line: 0, upgrade: false }
    }

    /// Whether the next bytes belong to a head.
    pub fn in_head(&self) -> bool {
        self.next == Next::Head
    }

    /// After [`Step::Hold`]: the protocol stays HTTP/1.
    pub fn stays(&mut self) {
        self.upgrade = false;
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
            Next::Body(left) => Ok(self.data(bytes, left, Next::Body)),
            Next::Chunk(left) => Ok(self.data(bytes, left, Next::Chunk)),
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
            Next::Protocol => Ok(Step::Hold),
        }
    }

    /// A message has ended.
    fn ended(&mut self) -> Next {
        if self.upgrade { Next::Protocol } else { Next::Head }
    }

    /// Bytes of a body, as many as are there.
    fn data(&mut self, bytes: &[u8], left: u64, rest: fn(u64) -> Next) -> Step {
        let here = u64::try_from(bytes.len()).map_or(left, |here| here.min(left));
        if here == 0 {
            return Step::More;
        }
        self.next = match (left - here, rest(0)) {
            (0, Next::Chunk(_)) => Next::ChunkEnd,
            (0, _) => self.ended(),
            (left, _) => rest(left),
        };
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
        let head = Head::parse(&bytes[..length - 2], self.limits.fields)?;
        (self.searched, self.line) = (0, 0);
        self.upgrade = head.upgrade;
        self.next = match head.body {
            Body::Length(0) => self.ended(),
            Body::Length(length) => Next::Body(length),
            Body::Chunked => Next::ChunkSize,
        };
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
        let digits = std::str::from_utf8(size).map_err(|_| Failure::Malformed)?;
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
            self.next = self.ended();
            return Ok(Step::Body(2));
        }
        let field = Field::parse(line)?;
        let fields = fields + 1;
        if is_of_framing(field.name) || field.is(b"host") {
            return Err(Failure::Malformed);
        }
        if fields > self.limits.fields {
            return Err(Failure::HeadTooLarge);
        }
        let length = line.len() + 2;
        self.next = Next::Trailers { bytes: before + length, fields };
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

/// How long a request's body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    /// So many bytes.
    Length(u64),
    /// It says so itself.
    Chunked,
}

/// What matters of a head.
struct Head {
    /// How long the body is.
    body: Body,
    /// Whether it asks for another protocol.
    upgrade: bool,
}

impl Head {
    /// A head without the empty line that ends it, lines ending in CR LF.
    fn parse(head: &[u8], most_fields: usize) -> Result<Self, Failure> {
        let mut lines =
            head.split(|&byte| byte == b'\n').map(|line| &line[..line.len().max(1) - 1]);
        let line = RequestLine::parse(lines.next().unwrap_or_default())?;
        let (mut host, mut length, mut codings) = (None, None, None);
        let (mut fields, mut upgrade) = (0, false);
        // What follows the last line end is no line.
        for text in lines.take_while(|line| !line.is_empty()) {
            let field = Field::parse(text)?;
            fields += 1;
            let single = if field.is(b"host") {
                host.replace(field.value)
            } else if field.is(b"content-length") {
                length.replace(field.value)
            } else if field.is(b"transfer-encoding") {
                codings.replace(field.value)
            } else if is_of_framing(field.name) {
                return Err(Failure::Malformed);
            } else {
                upgrade |= field.is(b"upgrade");
                None
            };
            if single.is_some() {
                return Err(Failure::Malformed);
            }
        }
        if fields > most_fields {
            return Err(Failure::HeadTooLarge);
        }
        line.agrees_with(host)?;
        let body = match (length, codings) {
            (None, None) => Body::Length(0),
            (Some(digits), None) => Body::Length(content_length(digits)?),
            (None, Some(coding)) if !line.http10 && coding.eq_ignore_ascii_case(b"chunked") => {
                Body::Chunked
            }
            _ => return Err(Failure::Malformed),
        };
        Ok(Self { body, upgrade: upgrade && !line.http10 })
    }
}

/// Digits alone, and few enough that no origin's integer overflows.
fn content_length(digits: &[u8]) -> Result<u64, Failure> {
    let plain = (1..=18).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    let digits = std::str::from_utf8(digits).ok().filter(|_| plain);
    digits.and_then(|digits| digits.parse().ok()).ok_or(Failure::Malformed)
}

/// The first line of a request.
struct RequestLine<'a> {
    /// The host that an absolute target names.
    authority: Option<&'a [u8]>,
    /// Whether the client speaks HTTP/1.0.
    http10: bool,
}

impl<'a> RequestLine<'a> {
    /// RFC 9112, section 3: single spaces, and nothing else that is white.
    fn parse(line: &'a [u8]) -> Result<Self, Failure> {
        let mut parts = line.split(|&byte| byte == b' ');
        let (Some(method), Some(target), Some(version), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Failure::Malformed);
        };
        let http10 = match version {
            b"HTTP/1.1" => false,
            b"HTTP/1.0" => true,
            _ => return Err(Failure::Malformed),
        };
        if target.len() > MAX_TARGET {
            return Err(Failure::TargetTooLong);
        }
        // What hyper cannot read it would refuse without us.
        let plain =
            target.iter().all(|&byte| is_target(byte)) && http::Uri::try_from(target).is_ok();
        if method.is_empty() || !method.iter().all(|&byte| is_token(byte)) || !plain {
            return Err(Failure::Malformed);
        }
        if method == b"CONNECT" {
            return Err(Failure::Blocked(405));
        }
        let authority = match target {
            [b'/', ..] => None,
            b"*" if method == b"OPTIONS" => None,
            _ => Some(authority(target).ok_or(Failure::Malformed)?),
        };
        Ok(Self { authority, http10 })
    }

    /// One `Host`, or none in HTTP/1.0, and the same one as in an absolute
    /// target (RFC 9112, section 3.2).
    fn agrees_with(&self, host: Option<&[u8]>) -> Result<(), Failure> {
        let named = match host {
            Some(host) => is_host(host),
            None => self.http10,
        };
        let same = match (self.authority, host) {
            (Some(authority), Some(host)) => authority.eq_ignore_ascii_case(host),
            _ => true,
        };
        if named && same { Ok(()) } else { Err(Failure::Malformed) }
    }
}

/// The host and port of an absolute target.
fn authority(target: &[u8]) -> Option<&[u8]> {
    let starts = |scheme: &[u8]| {
        target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
    };
    let start = [&b"http://"[..], b"https://"].into_iter().find(|scheme| starts(scheme))?.len();
    let rest = &target[start..];
    let end = rest.iter().position(|byte| b"/?".contains(byte)).unwrap_or(rest.len());
    Some(&rest[..end]).filter(|authority| is_host(authority))
}

/// A name or address, perhaps with a port; no user, no path.
fn is_host(host: &[u8]) -> bool {
    std::str::from_utf8(host).is_ok_and(|host| Host::parse(host).is_some())
}

/// A header or trailer field.
struct Field<'a> {
    /// Its name, as written.
    name: &'a [u8],
    /// Its value, without the white space around it.
    value: &'a [u8],
}

impl<'a> Field<'a> {
    /// RFC 9112, section 5: no white space before the colon, no continued lines.
    fn parse(line: &'a [u8]) -> Result<Self, Failure> {
        let colon = line.iter().position(|&byte| byte == b':').ok_or(Failure::Malformed)?;
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        let named = !name.is_empty() && name.iter().all(|&byte| is_token(byte));
        if name.len() > MAX_NAME {
            return Err(Failure::HeadTooLarge);
        }
        if !named || !value.iter().all(|&byte| is_value(byte)) {
            return Err(Failure::Malformed);
        }
        let white = |byte: &u8| matches!(byte, b' ' | b'\t');
        let start = value.iter().position(|byte| !white(byte)).unwrap_or(value.len());
        let end = value.iter().rposition(|byte| !white(byte)).map_or(start, |last| last + 1);
        Ok(Self { name, value: &value[start..end] })
    }

    /// Whether it has this name, given in small letters.
    fn is(&self, name: &[u8]) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }
}

/// Whether a field of this name says how long a message is, or would say so to
/// an origin that takes one name for another ([`token::plain`]).
pub fn is_of_framing(name: &[u8]) -> bool {
    [&b"content-length"[..], b"transfer-encoding"]
        .into_iter()
        .any(|framing| token::plain(name).eq(framing.iter().copied()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: Limits = Limits { head_bytes: 512, fields: 8 };

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
                    Ok(Step::Hold) => framing.stays(),
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
        assert_eq!(refused(format!("{head}{fields}\r\n")), Some(Failure::HeadTooLarge));
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
            let field = format!("{name}: x");
            assert_eq!(Field::parse(field.as_bytes()).err(), refused);
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
        fn what_passes_as_a_head_holds_no_ambiguous_byte(
            lines in proptest::collection::vec("[ -~\t\r\n\u{0}\u{b}]{0,20}", 0..6),
        ) {
            let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n\r\n", lines.join("\r\n"));
            let (passed, heads, _) = follow(text.as_bytes(), text.len());
            if !heads.is_empty() {
                let text = String::from_utf8(passed).unwrap();
                let head = text.split("\r\n\r\n").next().unwrap();
                for line in head.split("\r\n") {
                    prop_assert!(!line.contains(|c: char| c.is_ascii_control() && c != '\t'));
                    prop_assert!(!line.starts_with([' ', '\t']));
                }
            }
        }
    }
}

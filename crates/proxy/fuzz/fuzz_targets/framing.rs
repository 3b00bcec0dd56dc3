//! No bytes make the framing of HTTP/1 panic, how they are cut changes nothing,
//! and a server that forgives everything finds the messages that pass it, hyper's
//! parser and the guard in the same places.

#![no_main]

use libfuzzer_sys::fuzz_target;
use onionbraid_proxy::failure::Failure;
use onionbraid_proxy::http::framing::{Framing, MessageLimits, Step};
use onionbraid_proxy::token;

const LIMITS: MessageLimits = MessageLimits { head_bytes: 1024, fields: 16 };

fuzz_target!(|input: (&[u8], u8)| {
    let (bytes, cut) = input;
    let (passed, starts, refused) = follow(bytes, bytes.len());
    assert_eq!(follow(bytes, usize::from(cut) + 1), (passed.clone(), starts.clone(), refused));
    let mut at = 0;
    for start in starts {
        assert_eq!(at, start, "messages begin elsewhere for others: {passed:?}");
        let Some(end) = forgiving(&passed[start..]) else { return };
        at = start + end;
    }
});

/// What passes of bytes that come so many at a time, where messages begin in
/// it, and why the rest is refused.
fn follow(bytes: &[u8], at_a_time: usize) -> (Vec<u8>, Vec<usize>, Option<Failure>) {
    let mut framing = Framing::new(LIMITS);
    let (mut passed, mut starts) = (Vec::new(), Vec::new());
    let (mut from, mut to) = (0, 0);
    loop {
        let begins = framing.in_head();
        let length = match framing.step(&bytes[from..to]) {
            Err(failure) => return (passed, starts, Some(failure)),
            Ok(Step::More) if to == bytes.len() => return (passed, starts, None),
            Ok(Step::More) => {
                to = bytes.len().min(to + at_a_time.max(1));
                continue;
            }
            Ok(Step::Over) => {
                framing.go_on();
                continue;
            }
            Ok(Step::Skip(length)) => {
                from += length;
                continue;
            }
            Ok(Step::Head(length)) => {
                assert!(begins);
                if !is_taken(&bytes[from..from + length]) {
                    return (passed, starts, Some(Failure::Malformed));
                }
                starts.push(passed.len());
                length
            }
            Ok(Step::Body(length)) => length,
        };
        assert!(length > 0 && length <= to - from);
        passed.extend_from_slice(&bytes[from..from + length]);
        from += length;
    }
}

/// Whether a head passes what comes after the framing: hyper's parser, which has to
/// end it in the same place and knows no codings in HTTP/1.0, and of the guard what
/// it says of names that pass for others.
fn is_taken(head: &[u8]) -> bool {
    let mut fields = [httparse::EMPTY_HEADER; 512];
    let mut request = httparse::Request::new(&mut fields);
    match request.parse(head) {
        Ok(httparse::Status::Complete(length)) => assert_eq!(length, head.len()),
        Ok(httparse::Status::Partial) => panic!("hyper waits for more than {head:?}"),
        Err(_) => return false,
    }
    let frames = |name: &str| {
        let name = token::plain(name.as_bytes());
        name.clone().eq(*b"content-length") || name.eq(*b"transfer-encoding")
    };
    request.headers.iter().all(|field| {
        let plain = ["content-length", "transfer-encoding"]
            .iter()
            .any(|name| field.name.eq_ignore_ascii_case(name));
        let coding = field.name.eq_ignore_ascii_case("transfer-encoding");
        (plain || !frames(field.name)) && !(coding && request.version == Some(0))
    })
}

/// Where a message ends for a server that takes any line end, folds lines,
/// trims names, takes `_` for `-`, and believes the first length that it can
/// make out; nothing if it goes on after these bytes.
fn forgiving(message: &[u8]) -> Option<usize> {
    let mut at = 0;
    let mut fields = Vec::<(String, String)>::new();
    line(message, &mut at)?;
    loop {
        let text = line(message, &mut at)?;
        if text.is_empty() {
            break;
        }
        match (text.starts_with([' ', '\t']), fields.last_mut()) {
            (true, Some((_, value))) => value.push_str(&text),
            _ => {
                let (name, value) = text.split_once(':').unwrap_or((&text, ""));
                fields.push((name.trim().to_lowercase().replace('_', "-"), value.trim().into()));
            }
        }
    }
    let of = |name: &str| fields.iter().find(|(other, _)| other == name).map(|(_, value)| value);
    if of("transfer-encoding").is_some_and(|coding| coding.to_lowercase().contains("chunked")) {
        loop {
            let text = line(message, &mut at)?;
            let digits: String = text.trim().chars().take_while(char::is_ascii_hexdigit).collect();
            let length = usize::from_str_radix(&digits, 16).ok()?;
            if length == 0 {
                break;
            }
            at = at.checked_add(length).filter(|at| *at <= message.len())?;
            line(message, &mut at)?;
        }
        while !line(message, &mut at)?.is_empty() {}
        return Some(at);
    }
    let length = of("content-length").map_or(Some(0), |length| length.parse::<usize>().ok())?;
    at.checked_add(length).filter(|at| *at <= message.len())
}

/// The next line, without its end.
fn line(bytes: &[u8], at: &mut usize) -> Option<String> {
    let length = bytes.get(*at..)?.iter().position(|byte| *byte == b'\n')?;
    let text = String::from_utf8_lossy(&bytes[*at..*at + length]).into_owned();
    *at += length + 1;
    Some(text.trim_end_matches('\r').to_owned())
}

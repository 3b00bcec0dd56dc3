//! What no line at info and above says: onion addresses, and the fingerprints of relays.
//!
//! Most texts name neither. Those that the status shows to the operator do, and some of
//! them are logged, too; whoever gets hold of a log later must not learn from it which
//! service this machine ran, or what its relays were.

use std::borrow::Cow;

/// Characters of an onion address without `.onion` (rend-spec-v3, section 6).
const ADDRESS: usize = 56;
/// Characters of a relay's fingerprint in hexadecimal.
const FINGERPRINT: usize = 40;

/// The line without them.
pub(super) fn masked(line: &str) -> Cow<'_, str> {
    let mut masked = String::new();
    let mut copied = 0;
    let mut begins = 0;
    let ends =
        line.match_indices(|c: char| !c.is_ascii_alphanumeric()).map(|(at, c)| (at, c.len()));
    for (end, separator) in ends.chain([(line.len(), 0)]) {
        begins += escape(&line[..begins], &line[begins..end]);
        if let Some(mask) = mask(&line[begins..end]) {
            masked.push_str(&line[copied..begins]);
            masked.push_str(mask);
            copied = end;
        }
        begins = end + separator;
    }
    if copied == 0 {
        return Cow::Borrowed(line);
    }
    masked.push_str(&line[copied..]);
    Cow::Owned(masked)
}

/// How much of a word belongs to what is written before it: the end of a colour (`ESC [`,
/// digits, `m`) or the letter of an escape in JSON or quotes (`\\n`).
fn escape(before: &str, word: &str) -> usize {
    let digits = word.bytes().take_while(u8::is_ascii_digit).count();
    let colour = before.ends_with("\u{1b}[") || before.ends_with(';');
    if colour && word[digits..].starts_with('m') {
        digits + 1
    } else {
        usize::from(before.ends_with('\\') && !word.is_empty())
    }
}

/// What a word is called if it is not to be seen.
fn mask(word: &str) -> Option<&'static str> {
    let is_base32 = |byte: u8| matches!(byte.to_ascii_lowercase(), b'a'..=b'z' | b'2'..=b'7');
    match word.len() {
        ADDRESS if word.bytes().all(is_base32) => Some("[address]"),
        FINGERPRINT if word.bytes().all(|byte| byte.is_ascii_hexdigit()) => Some("[relay]"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_fingerprints_are_masked_wherever_they_stand() {
        let address = "2gzyxa5ihm7nsggfxnu52rck2vv4rvmdlkiu3zzui5du4xyclen53wid";
        let upper = address.to_uppercase();
        let relay = "0C69A10087DD890C1D8732D5FA557C23A5EFFFEF";
        for (line, expected) in [
            (format!("of {address}.onion, and"), "of [address].onion, and"),
            (format!("http://{upper}.onion:80/a"), "http://[address].onion:80/a"),
            (format!("sub.{address}.onion"), "sub.[address].onion"),
            (address.to_owned(), "[address]"),
            (format!("/keys/{address}/x \"{address}\""), "/keys/[address]/x \"[address]\""),
            (format!("HSDir ${relay}~é{relay}"), "HSDir $[relay]~é[relay]"),
            (format!("HSDir {}", relay.to_lowercase()), "HSDir [relay]"),
            (format!("a\u{1b}[2m=\u{1b}[0m{address}"), "a\u{1b}[2m=\u{1b}[0m[address]"),
            (format!("a\u{1b}[1;31m{relay}\u{1b}[0m"), "a\u{1b}[1;31m[relay]\u{1b}[0m"),
            (format!(r#""a:\n{address}\t{relay}""#), r#""a:\n[address]\t[relay]""#),
        ] {
            assert_eq!(masked(&line), expected);
        }
    }

    #[test]
    fn everything_else_stays() {
        for line in
            ["", "é", "backend up service=\"shop\"", "a1b2c3 …", &"a".repeat(57), &"g".repeat(40)]
        {
            assert!(matches!(masked(line), Cow::Borrowed(same) if same == line));
        }
    }
}

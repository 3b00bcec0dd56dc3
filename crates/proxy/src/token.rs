//! The characters that names, values and targets are made of, in every version of
//! HTTP, and which names an origin can take for one another. Pure.

/// Whether a byte may stand in a token (RFC 9110, section 5.6.2): the name of a
/// field or a method.
pub fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~')
}

/// Whether a byte may stand in the value of a field (RFC 9110, section 5.5).
pub fn is_value(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~' | 0x80..)
}

/// Whether a byte may stand in a target. What follows `#` would be lost; the rest
/// that RFC 3986 does not allow, browsers send all the same.
pub fn is_target(byte: u8) -> bool {
    byte.is_ascii_graphic() && byte != b'#'
}

/// Whether a byte may stand in the name of a field that is led on: what only
/// [`plain`] can tell from another name does not pass.
pub fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-'
}

/// The length that digits alone say, and few enough of them that no origin's
/// integer overflows.
pub fn length(digits: &[u8]) -> Option<u64> {
    let plain = (1..=18).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(digits).ok().filter(|_| plain)?.parse().ok()
}

/// The name of a field as it is compared: in small letters, and with a `-` for
/// everything that is neither letter nor digit. Origins that make variables of
/// fields, as CGI does (RFC 3875, section 4.1.18), write one character for all
/// of these: to them `X.Real_IP` is `X-Real-IP`.
pub fn plain(name: &[u8]) -> impl Iterator<Item = u8> + Clone {
    name.iter().map(|byte| match byte {
        byte if byte.is_ascii_alphanumeric() => byte.to_ascii_lowercase(),
        _ => b'-',
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_made_of_letters_digits_and_fifteen_marks() {
        let of_tokens: Vec<u8> =
            (0..=255).filter(|&b| is_token(b) && !b.is_ascii_alphanumeric()).collect();
        assert_eq!(of_tokens, b"!#$%&'*+-.^_`|~");
    }

    #[test]
    fn names_that_make_one_variable_are_the_same() {
        for name in ["x-real-ip", "X_Real_IP", "x.real.ip", "X~REAL!ip"] {
            assert!(plain(name.as_bytes()).eq(*b"x-real-ip"), "{name}");
        }
        for name in ["xrealip", "x--real-ip", "x-real-ip-", "x-real-1p"] {
            assert!(!plain(name.as_bytes()).eq(*b"x-real-ip"), "{name}");
        }
    }
}

//! Recognises the format of a key file by its first bytes.

use base64ct::{Base64, Encoding as _};
use zeroize::Zeroizing;

use super::identity::{ParseError, Parsed};
use super::{ctor, openssh, pem};
use onionbraid_balancer::onion::OnionAddress;

/// Reads a key in whatever format the bytes are.
///
/// # Errors
///
/// If it is no key, or no key that an onion service can use.
pub fn parse(bytes: &[u8]) -> Result<Parsed, ParseError> {
    if bytes.is_empty() {
        return Err(ParseError::Empty);
    }
    if bytes.starts_with(b"== ") {
        return ctor::parse(bytes);
    }
    let text = std::str::from_utf8(bytes).map_err(|_| ParseError::Unknown)?.trim();
    if let Ok(address) = text.parse::<OnionAddress>() {
        return Ok(Parsed::Public(address));
    }
    if text.starts_with("ssh-") {
        return openssh::parse_public(text);
    }
    if text.starts_with("-----BEGIN OPENSSH PRIVATE KEY-----") {
        return openssh::parse_secret(text).map(Parsed::Secret);
    }
    if text.contains("-----BEGIN ") {
        return pem::parse(text);
    }
    if is_base64_of_a_key(text) {
        return Err(ParseError::Base64);
    }
    Err(ParseError::Unknown)
}

/// Whether a text is the 64 bytes of a secret key, or the 96 of C tor's file, in
/// base64.
fn is_base64_of_a_key(text: &str) -> bool {
    let text = text.strip_prefix("ED25519-V3:").unwrap_or(text);
    let letters: Zeroizing<String> =
        Zeroizing::new(text.chars().filter(|c| !c.is_ascii_whitespace()).collect());
    let decoded = Base64::decode_vec(&letters).map(Zeroizing::new);
    decoded.is_ok_and(|bytes| [64, 96].contains(&bytes.len()))
}

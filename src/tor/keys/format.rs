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
    Err(in_base64(text).unwrap_or(ParseError::Unknown))
}

/// What a text is in base64: the 64 bytes of a secret key, or a file that has one.
fn in_base64(text: &str) -> Option<ParseError> {
    let text = text.strip_prefix("ED25519-V3:").unwrap_or(text);
    let letters: Zeroizing<String> =
        Zeroizing::new(text.chars().filter(|c| !c.is_ascii_whitespace()).collect());
    let decoded = Base64::decode_vec(&letters).map(Zeroizing::new).ok()?;
    if decoded.starts_with(b"== ") || decoded.starts_with(b"-----BEGIN ") {
        return Some(ParseError::FileInBase64);
    }
    (decoded.len() == 64).then_some(ParseError::Base64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(bytes: &[u8]) -> Option<ParseError> {
        parse(bytes).err()
    }

    #[test]
    fn a_key_in_base64_is_told_from_a_whole_file_in_base64() {
        let bare = Base64::encode_string(&[8; 64]);
        let file = Base64::encode_string(
            &[&b"== ed25519v1-secret: type0 ==\0\0\0"[..], &[8; 64]].concat(),
        );
        let pem = Base64::encode_string(b"-----BEGIN PRIVATE KEY-----\n");
        assert_eq!(said(bare.as_bytes()), Some(ParseError::Base64));
        assert_eq!(said(format!("ED25519-V3:{bare}\n").as_bytes()), Some(ParseError::Base64));
        assert_eq!(said(file.as_bytes()), Some(ParseError::FileInBase64));
        let (first, second) = file.split_at(76);
        assert_eq!(said(format!("{first}\n{second}\n").as_bytes()), Some(ParseError::FileInBase64));
        assert_eq!(said(pem.as_bytes()), Some(ParseError::FileInBase64));
        assert_eq!(said(Base64::encode_string(&[8; 96]).as_bytes()), Some(ParseError::Unknown));
    }
}

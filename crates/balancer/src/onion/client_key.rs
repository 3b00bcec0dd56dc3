//! The public key of a client of restricted discovery, and how C tor and Arti write
//! it.

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE32_NOPAD;
use serde::{Deserialize, Serialize};

use super::flaw::is_x25519_key;

/// What stands before the key (rend-spec-v3, appendix G.1).
const KIND: &str = "descriptor:x25519:";

/// The X25519 key of a client that may read a descriptor (`KP_hsc_desc_enc`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ClientKey(#[serde(with = "super::hex")] [u8; 32]);

/// Why a text is no client's public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientKeyError {
    /// Another form.
    #[error("this must be the public key of a client, \"descriptor:x25519:\" and 52 characters")]
    Form,
    /// Whoever knows the address could read what is encrypted to it.
    #[error("everybody could read what is encrypted to this key: have the client make another one")]
    Weak,
}

/// The longest name of a client, in characters.
const MAX_NAME: usize = 64;

/// Whether a client may be called so: what else would be wrong.
///
/// # Errors
///
/// What a name should be.
pub fn check_client_name(name: &str) -> Result<(), String> {
    let letters = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '@');
    let is_name = (1..=MAX_NAME).contains(&name.len())
        && name.chars().all(letters)
        && !name.starts_with(['-', '.']);
    is_name.then_some(()).ok_or_else(|| {
        format!(
            "the name of a client has 1 to {MAX_NAME} letters, digits, `-`, `_`, `.` or `@`, and \
             does not begin with `-` or `.`"
        )
    })
}

impl ClientKey {
    /// A key with these bytes.
    ///
    /// # Errors
    ///
    /// If what is encrypted to it would be no secret.
    pub fn new(bytes: [u8; 32]) -> Result<Self, ClientKeyError> {
        if is_x25519_key(bytes) { Ok(Self(bytes)) } else { Err(ClientKeyError::Weak) }
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl FromStr for ClientKey {
    type Err = ClientKeyError;

    /// Reads what C tor has in `NAME.auth`, and Arti in `static_keys`.
    fn from_str(text: &str) -> Result<Self, ClientKeyError> {
        let key = text.trim().strip_prefix(KIND).ok_or(ClientKeyError::Form)?;
        let bytes = BASE32_NOPAD.decode(key.to_ascii_uppercase().as_bytes());
        let bytes = bytes.map_err(|_| ClientKeyError::Form)?;
        Self::new(bytes.try_into().map_err(|_| ClientKeyError::Form)?)
    }
}

/// The form of C tor's `NAME.auth`.
impl fmt::Display for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{KIND}{}", BASE32_NOPAD.encode(&self.0))
    }
}

/// Whose it is, is nobody's business in a log.
impl fmt::Debug for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_written_as_it_is_read_in_either_case() {
        let key = ClientKey::new([9; 32]).unwrap();
        let text = key.to_string();
        assert_eq!(text.len(), KIND.len() + 52);
        assert_eq!(text.parse(), Ok(key));
        let lower = text.replace(&text[KIND.len()..], &text[KIND.len()..].to_lowercase());
        assert_eq!(format!(" {lower}\r\n").parse(), Ok(key));
        assert!(!format!("{key:?}").contains(&text[KIND.len()..][..8]));
    }

    #[test]
    fn what_is_no_key_or_a_weak_one_is_refused() {
        let good = ClientKey::new([9; 32]).unwrap().to_string();
        let base32 = good.strip_prefix(KIND).unwrap();
        for wrong in [
            "",
            "descriptor:x25519:",
            base32,
            &good[..good.len() - 1],
            &format!("{good}A"),
            &format!("{good}===="),
            &good.replace("x25519", "ed25519"),
            &good.replace("descriptor", "intro"),
            &format!("{good}\n{good}"),
        ] {
            assert_eq!(wrong.parse::<ClientKey>(), Err(ClientKeyError::Form), "{wrong}");
        }
        for weak in [[0; 32], [0xff; 32], {
            let mut one = [0; 32];
            one[0] = 1;
            one
        }] {
            let text = format!("{KIND}{}", BASE32_NOPAD.encode(&weak));
            assert_eq!(text.parse::<ClientKey>(), Err(ClientKeyError::Weak));
        }
    }
}

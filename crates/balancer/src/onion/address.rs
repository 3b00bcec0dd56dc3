//! An onion service's address: 56 characters and `.onion`.

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE32_NOPAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha3::{Digest as _, Sha3_256};

/// The only version of onion services that exists (rend-spec-v3, section 6).
const VERSION: u8 = 3;

/// The address of a version 3 onion service: its Ed25519 identity key.
///
/// `Display` gives the whole address and is meant for the operator's own eyes
/// (`status`, `check`). Log lines name services by nickname and backends by
/// name instead; `Debug` is redacted so that no log line says it by accident.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OnionAddress([u8; 32]);

/// Why a text is not the address of an onion service.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// The text is not 56 base32 characters (rend-spec-v3, section 6).
    #[error("an onion address has 56 characters a-z and 2-7, then \".onion\"")]
    Form,
    /// The checksum within the address does not fit: most often a typing error.
    #[error("the checksum within the address is wrong: was it copied whole?")]
    Checksum,
    /// A version other than 3.
    #[error("only version 3 onion addresses exist today, this one says version {0}")]
    Version(u8),
    /// Something stands before the address, as in `www.….onion`.
    #[error("give the onion address alone, without a subdomain")]
    Subdomain,
}

impl OnionAddress {
    /// The address of the service with this Ed25519 public identity key.
    pub const fn from_public_key(key: [u8; 32]) -> Self {
        Self(key)
    }

    /// The Ed25519 public identity key (`KP_hs_id`) that the address encodes.
    pub const fn public_key(&self) -> &[u8; 32] {
        &self.0
    }
}

impl FromStr for OnionAddress {
    type Err = AddressError;

    /// Accepts the address with or without `.onion`, in upper or lower case.
    fn from_str(text: &str) -> Result<Self, AddressError> {
        let text = text.trim().to_ascii_uppercase();
        let label = text.strip_suffix(".ONION").unwrap_or(&text);
        if let Some((_, last)) = label.rsplit_once('.') {
            return Err(last.parse::<Self>().err().unwrap_or(AddressError::Subdomain));
        }
        let bytes = BASE32_NOPAD.decode(label.as_bytes()).map_err(|_| AddressError::Form)?;
        // 16 characters: half of a hash of an RSA key (rend-spec-v2, section 1.5).
        if bytes.len() == 10 {
            return Err(AddressError::Version(2));
        }
        let Ok([key @ .., first, second, version]) = <[u8; 35]>::try_from(bytes) else {
            return Err(AddressError::Form);
        };
        if version != VERSION {
            return Err(AddressError::Version(version));
        }
        if checksum(&key) != [first, second] {
            return Err(AddressError::Checksum);
        }
        Ok(Self(key))
    }
}

/// The two bytes that tell a typing error (rend-spec-v3, section 6).
fn checksum(key: &[u8; 32]) -> [u8; 2] {
    let digest =
        Sha3_256::new().chain_update(b".onion checksum").chain_update(key).chain_update([VERSION]);
    let [first, second, ..] = <[u8; 32]>::from(digest.finalize());
    [first, second]
}

impl fmt::Display for OnionAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = [VERSION; 35];
        bytes[..32].copy_from_slice(&self.0);
        bytes[32..34].copy_from_slice(&checksum(&self.0));
        write!(f, "{}.onion", BASE32_NOPAD.encode(&bytes).to_ascii_lowercase())
    }
}

impl fmt::Debug for OnionAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnionAddress([scrubbed])")
    }
}

/// The whole address: for what the operator keeps, not for logs.
impl Serialize for OnionAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for OnionAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: &str = "2gzyxa5ihm7nsggfxnu52rck2vv4rvmdlkiu3zzui5du4xyclen53wid.onion";

    #[test]
    fn an_address_is_read_with_and_without_its_suffix_and_in_any_case() {
        let address: OnionAddress = ADDRESS.parse().unwrap();
        assert_eq!(address.to_string(), ADDRESS);
        assert_eq!(ADDRESS.trim_end_matches(".onion").parse(), Ok(address));
        assert_eq!(ADDRESS.to_uppercase().parse(), Ok(address));
    }

    #[test]
    fn a_wrong_address_says_what_is_wrong() {
        assert_eq!("x.onion".parse::<OnionAddress>(), Err(AddressError::Form));
        let typo = ADDRESS.replacen("2gz", "2gy", 1);
        assert_eq!(typo.parse::<OnionAddress>(), Err(AddressError::Checksum));
        assert_eq!(format!("www.{ADDRESS}").parse::<OnionAddress>(), Err(AddressError::Subdomain));
        for no_subdomain in [format!("{ADDRESS}."), "127.0.0.1".into(), "a.b.example".into()] {
            assert_eq!(
                no_subdomain.parse::<OnionAddress>(),
                Err(AddressError::Form),
                "{no_subdomain}"
            );
        }
        for old in ["expyuzz4wqqyqhjn.onion", "www.expyuzz4wqqyqhjn.onion"] {
            assert_eq!(old.parse::<OnionAddress>(), Err(AddressError::Version(2)));
        }
    }

    #[test]
    fn the_debug_form_hides_the_address() {
        let address: OnionAddress = ADDRESS.parse().unwrap();
        assert!(!format!("{address:?}").contains(&ADDRESS[..8]));
    }
}

//! An onion service's address: 56 characters and `.onion`.

use std::fmt;
use std::str::FromStr;

use safelog::DisplayRedacted as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tor_hscrypto::pk::HsId;

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
        use tor_hscrypto::pk::HsIdParseError as E;
        let text = text.trim().to_ascii_lowercase();
        let with_suffix = if text.ends_with(".onion") { text } else { format!("{text}.onion") };
        let id: HsId = with_suffix.parse().map_err(|error| match error {
            E::WrongChecksum => AddressError::Checksum,
            E::UnsupportedVersion(version) => AddressError::Version(version),
            E::HsIdContainsSubdomain => AddressError::Subdomain,
            _ => AddressError::Form,
        })?;
        Ok(Self(id.into()))
    }
}

impl fmt::Display for OnionAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", HsId::from(self.0).display_unredacted())
    }
}

impl fmt::Debug for OnionAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OnionAddress({})", HsId::from(self.0).display_redacted())
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
    }

    #[test]
    fn the_debug_form_hides_the_address() {
        let address: OnionAddress = ADDRESS.parse().unwrap();
        assert!(!format!("{address:?}").contains(&ADDRESS[..8]));
    }
}

//! How Arti writes identity keys in its keystore: OpenSSH's format with an
//! algorithm of Tor's own (ssh-protocols of the Tor specifications). No files.
//!
//! The keystore itself reads and writes its entries; this is for a file of one
//! that lies elsewhere, such as a backup.

use ssh_key::private::KeypairData;
use ssh_key::public::KeyData;
use ssh_key::{PrivateKey, PublicKey};
use zeroize::Zeroizing;

use super::identity::{IdentityKey, ParseError, Parsed, address_of};

/// The algorithm of an expanded secret key.
const EXPANDED: &str = "ed25519-expanded@spec.torproject.org";

/// Reads `ks_hs_id.ed25519_expanded_private`.
pub(super) fn parse_secret(text: &str) -> Result<IdentityKey, ParseError> {
    let key = PrivateKey::from_openssh(text).map_err(damaged)?;
    if key.is_encrypted() {
        return Err(ParseError::Password);
    }
    let other = |kind: &str| ParseError::Ssh(kind.to_owned());
    match (key.algorithm().as_str(), key.key_data()) {
        (EXPANDED, KeypairData::Other(pair)) => {
            let bytes: Zeroizing<[u8; 64]> =
                Zeroizing::new(pair.private.as_ref().try_into().map_err(|_| {
                    ParseError::Damaged("the secret key has not 64 bytes".to_owned())
                })?);
            let key = IdentityKey::from_expanded(&bytes)?;
            if pair.public.as_ref() != key.address().public_key() {
                return Err(ParseError::Damaged(
                    "its public key belongs to another secret key".to_owned(),
                ));
            }
            Ok(key)
        }
        (kind, _) => Err(other(kind)),
    }
}

/// Reads `ks_hs_id.ed25519_public`.
pub(super) fn parse_public(text: &str) -> Result<Parsed, ParseError> {
    let key = PublicKey::from_openssh(text).map_err(damaged)?;
    match key.key_data() {
        KeyData::Ed25519(key) => address_of(key.0).map(Parsed::Public),
        _ => {
            let kind = format!("an OpenSSH key of the kind {}", key.algorithm().as_str());
            Err(ParseError::OtherKind(kind))
        }
    }
}

fn damaged(error: ssh_key::Error) -> ParseError {
    ParseError::Damaged(error.to_string())
}

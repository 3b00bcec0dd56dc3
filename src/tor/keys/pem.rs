//! How Onionbalance writes identity keys: PKCS8 in PEM (RFC 8410, section 7).
//! No files.
//!
//! Such a file holds the seed. A key that came from C tor or Arti's keystore has
//! none that anybody could compute, and so can never be written like this.

use ed25519_dalek::pkcs8::spki::Error as SpkiError;
use ed25519_dalek::pkcs8::{
    DecodePublicKey as _, EncodePrivateKey as _, Error, KeypairBytes, ObjectIdentifier,
    PrivateKeyInfo, SecretDocument,
};
use ed25519_dalek::{SigningKey, VerifyingKey};
use zeroize::{Zeroize as _, Zeroizing};

use super::identity::{IdentityKey, ParseError, Parsed, address_of};

/// RSA in PKCS8 (RFC 8017, appendix A.1).
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");

/// Reads a PEM file.
pub(super) fn parse(text: &str) -> Result<Parsed, ParseError> {
    // The kind of key stands in the first line, for those kinds that are refused.
    let label = text.split_once("-----BEGIN ").and_then(|(_, rest)| rest.split_once("-----"));
    match label.map_or("", |(label, _)| label) {
        "PRIVATE KEY" => secret(text).map(Parsed::Secret),
        "PUBLIC KEY" => public(text),
        "RSA PRIVATE KEY" | "RSA PUBLIC KEY" => Err(ParseError::Version2),
        "ENCRYPTED PRIVATE KEY" => Err(ParseError::Password),
        other => Err(ParseError::OtherKind(format!("a PEM file with \"{other}\""))),
    }
}

fn secret(text: &str) -> Result<IdentityKey, ParseError> {
    let damaged = |error: Error| ParseError::Damaged(error.to_string());
    let (_, document) =
        SecretDocument::from_pem(text).map_err(|error| ParseError::Damaged(error.to_string()))?;
    let info: PrivateKeyInfo<'_> =
        document.decode_msg().map_err(|error| ParseError::Damaged(error.to_string()))?;
    let kind = info.algorithm.oid;
    let mut pair = KeypairBytes::try_from(info).map_err(|error| match error {
        Error::PublicKey(SpkiError::OidUnknown { .. }) => other_kind(kind),
        error => damaged(error),
    })?;
    let seed = Zeroizing::new(pair.secret_key);
    // Where the file holds the public key too, the two have to agree.
    let agree = SigningKey::try_from(&pair).map(drop);
    // It does not wipe itself.
    pair.secret_key.zeroize();
    agree.map_err(damaged)?;
    Ok(IdentityKey::from_seed(seed))
}

fn public(text: &str) -> Result<Parsed, ParseError> {
    let key = VerifyingKey::from_public_key_pem(text).map_err(|error| match error {
        SpkiError::OidUnknown { oid } => other_kind(oid),
        error => ParseError::Damaged(error.to_string()),
    })?;
    address_of(key.to_bytes()).map(Parsed::Public)
}

fn other_kind(kind: ObjectIdentifier) -> ParseError {
    match kind {
        RSA => ParseError::Version2,
        other => ParseError::OtherKind(format!("a key of the kind {other}")),
    }
}

/// The contents of a PEM file, if the key's seed is known: as Onionbalance
/// writes it, which is version 1, without the public key.
pub(super) fn file(key: &IdentityKey) -> Option<Zeroizing<Vec<u8>>> {
    let mut pair = KeypairBytes { secret_key: *key.seed()?, public_key: None };
    let text = pair.to_pkcs8_pem(Default::default());
    pair.secret_key.zeroize();
    let text = text.ok()?;
    Some(Zeroizing::new(text.as_bytes().to_vec()))
}

//! A request for a certificate that proves who has an onion address: signed with its
//! identity key, with nonces of both sides (CA/Browser Forum, Baseline Requirements,
//! appendix B; RFC 9799, section 3.2).

use rcgen::{
    Attribute, CertificateParams, DistinguishedName, PKCS_ED25519, PublicKeyData,
    SignatureAlgorithm, SigningKey,
};
use tor_llcrypto::pk::ed25519::PublicKey;

use super::identity::IdentityKey;

/// `cabf-caSigningNonce`.
const CA_NONCE: &[u64] = &[2, 23, 140, 41];
/// `cabf-applicantSigningNonce`.
const APPLICANT_NONCE: &[u64] = &[2, 23, 140, 42];

/// The longest nonce, in bytes, so that lengths in DER have one byte.
pub const LONGEST_NONCE: usize = 120;

/// Why there is no request.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The nonce of the authority is too long.
    #[error("the nonce has more than {LONGEST_NONCE} bytes")]
    LongNonce,
    /// It cannot be written.
    #[error("the request cannot be made: {0}")]
    Made(#[from] rcgen::Error),
}

/// The identity key as the certificate's own.
struct Subject<'a> {
    key: &'a IdentityKey,
    public: PublicKey,
}

impl PublicKeyData for Subject<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.public.as_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ED25519
    }
}

impl SigningKey for Subject<'_> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(self.key.sign(message).to_vec())
    }
}

/// The request in PEM, for these names, with the authority's nonce and ours.
///
/// # Errors
///
/// If the names are none, or a nonce is too long.
pub fn certificate_request(
    key: &IdentityKey,
    names: Vec<String>,
    authority: &[u8],
    own: &[u8; 16],
) -> Result<String, RequestError> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = DistinguishedName::new();
    let attribute = |oid, nonce| Some(Attribute { oid, values: set_of_octets(nonce)? });
    let attributes = [attribute(CA_NONCE, authority), attribute(APPLICANT_NONCE, own)];
    let attributes: Option<Vec<_>> = attributes.into_iter().collect();
    let attributes = attributes.ok_or(RequestError::LongNonce)?;
    let subject = Subject { key, public: key.public() };
    Ok(params.serialize_request_with_attributes(&subject, attributes)?.pem()?)
}

/// A SET of one OCTET STRING, in DER.
fn set_of_octets(bytes: &[u8]) -> Option<Vec<u8>> {
    if bytes.len() > LONGEST_NONCE {
        return None;
    }
    let length = u8::try_from(bytes.len()).ok()?;
    let mut der = vec![0x31, length + 2, 0x04, length];
    der.extend_from_slice(bytes);
    Some(der)
}

//! How C tor writes identity keys: a header of 32 bytes, then the key
//! (`crypto_write_tagged_contents_to_file` of C tor). No files.
//!
//! The secret key is the *expanded* one, scalar and hash prefix, 64 bytes.
//! Taken for a seed, half of it would give another address and, once anything
//! is signed with it, the key away.

use zeroize::Zeroizing;

use super::identity::{IdentityKey, ParseError, Parsed, address_of};
use onionbraid_balancer::onion::OnionAddress;

/// How many bytes the header has; it is filled up with zeros.
const HEADER: usize = 32;
/// What a file with a secret key begins with.
const SECRET: &str = "== ed25519v1-secret: type0 ==";
/// What a file with a public key begins with.
const PUBLIC: &str = "== ed25519v1-public: type0 ==";

/// The order of the group, little-endian (RFC 8032, section 5.1).
const ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

/// Reads `hs_ed25519_secret_key` or `hs_ed25519_public_key`.
pub(super) fn parse(bytes: &[u8]) -> Result<Parsed, ParseError> {
    let (header, key) = bytes.split_at_checked(HEADER).unwrap_or((bytes, &[]));
    let length = |right: usize| ParseError::Length { found: bytes.len(), right: HEADER + right };
    if is_header(header, PUBLIC) {
        let public: [u8; 32] = key.try_into().map_err(|_| length(32))?;
        return address_of(public).map(Parsed::Public);
    }
    if !is_header(header, SECRET) {
        let header = String::from_utf8_lossy(header).trim_end_matches('\0').to_owned();
        let printable = header.chars().filter(|c| !c.is_control()).collect();
        return Err(ParseError::Header(printable, SECRET));
    }
    let key: Zeroizing<[u8; 64]> = Zeroizing::new(key.try_into().map_err(|_| length(64))?);
    IdentityKey::from_expanded(&key).map(Parsed::Secret)
}

/// Whether a header, or as much of it as there is, says `wanted`.
fn is_header(header: &[u8], wanted: &str) -> bool {
    let whole = wanted.bytes().chain(std::iter::repeat(0)).take(HEADER);
    header.len() >= wanted.len() && whole.zip(header).all(|(a, b)| a == *b)
}

/// The contents of `hs_ed25519_secret_key`.
pub fn secret_file(key: &IdentityKey) -> Zeroizing<Vec<u8>> {
    let mut bytes = key.expanded_bytes();
    let (scalar, _) = bytes.split_at_mut(32);
    clamp(scalar);
    file(SECRET, bytes.as_slice())
}

/// The contents of `hs_ed25519_public_key`.
pub(super) fn public_file(address: &OnionAddress) -> Zeroizing<Vec<u8>> {
    file(PUBLIC, address.public_key())
}

fn file(header: &str, key: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(HEADER + key.len()));
    bytes.extend_from_slice(header.as_bytes());
    bytes.resize(HEADER, 0);
    bytes.extend_from_slice(key);
    bytes
}

/// Turns a scalar below the group's order into the equal one that is clamped
/// (RFC 8032, section 5.1.5), if there is one: it is what C tor wrote, so that a
/// file comes back byte for byte, and programs that clamp what they read get
/// the same key.
///
/// The order is 5 modulo 8, so at most one of the eight candidates is a multiple
/// of 8.
fn clamp(scalar: &mut [u8]) {
    let mut candidate = Zeroizing::new([0; 32]);
    candidate.copy_from_slice(scalar);
    for _ in 0..8 {
        if candidate[0] & 7 == 0 && candidate[31] >> 6 == 1 {
            scalar.copy_from_slice(candidate.as_slice());
            return;
        }
        let mut carry = 0;
        for (byte, add) in candidate.iter_mut().zip(ORDER) {
            let sum = u16::from(*byte) + u16::from(add) + carry;
            [*byte, _] = sum.to_le_bytes();
            carry = sum >> 8;
        }
    }
}

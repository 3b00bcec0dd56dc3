//! What makes an introduction point unfit for a descriptor of ours.
//!
//! A descriptor hands its points to every client, so a hostile backend would
//! reach all of them with a point of its making: an all-zero key crashed
//! clients of C tor before 0.4.9.11, a key of low order makes the handshake
//! independent of the client's secret, and link specifiers without end fill the
//! descriptor until no HSDir takes it. Pure; called with every point that is
//! offered to the balancer, wherever it comes from.

use std::fmt;

use curve25519_dalek::edwards::CompressedEdwardsY;
use curve25519_dalek::montgomery::MontgomeryPoint;

use super::intro_point::{IntroPoint, LinkSpecifier, RelayId, SessionId};

/// The bytes that the link specifiers of a point may have, encoded.
pub const LINK_SPECIFIER_BYTES: usize = 128;

/// The bytes that those of a relay have, for IPv4, IPv6 and two identities.
pub const LINK_SPECIFIER_BYTES_OF_A_RELAY: usize = 84;

/// The types of link specifiers (tor-spec, section 5.1.2) ...
const IPV4: u8 = 0;
/// ... `LSTYPE` 1: an IPv6 address and a port ...
const IPV6: u8 = 1;
/// ... `LSTYPE` 2: the RSA identity ...
const RSA_ID: u8 = 2;
/// ... `LSTYPE` 3: the Ed25519 identity.
const ED25519_ID: u8 = 3;

/// The u-coordinates of low order on Curve25519 and its twist, fully reduced,
/// little endian: 0, 1, the two of order 8, and p - 1.
const LOW_ORDER: [[u8; 32]; 5] = [
    [0; 32],
    [
        1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0,
    ],
    [
        0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4,
        0x6a, 0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49,
        0xb8, 0x00,
    ],
    [
        0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef,
        0x5b, 0x04, 0x44, 0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f,
        0x11, 0x57,
    ],
    [
        0xec, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0x7f,
    ],
];

/// Why a point may not be listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PointFlaw {
    /// One of its keys is all zero, of low order, no point of its curve, or not
    /// encoded in the one canonical way.
    Key,
    /// Its link specifiers are those of no relay: an identity or every address
    /// is missing, something is there twice, malformed or too long.
    LinkSpecifiers,
    /// It names an address that clients cannot reach, inside somebody's own
    /// network. What is private depends on the network directory, so whoever
    /// reads the descriptor finds this.
    PrivateAddress,
    /// It has the session id of another point of the same backend.
    Duplicate,
}

/// Completes "an introduction point with ...".
impl fmt::Display for PointFlaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Key => "an unusable key",
            Self::LinkSpecifiers => "unusable link specifiers",
            Self::PrivateAddress => "a private address",
            Self::Duplicate => "the session id of another one",
        })
    }
}

impl IntroPoint {
    /// What is wrong with the point by itself; `None` if it may be listed.
    pub fn flaw(&self) -> Option<PointFlaw> {
        let keys = is_x25519_key(self.relay_ntor_key)
            && is_x25519_key(self.service_ntor_key)
            && can_be_certified(self.service_ntor_key)
            && is_ed25519_key(self.session_id);
        if !keys {
            return Some(PointFlaw::Key);
        }
        (!are_of_a_relay(&self.link_specifiers, self.relay)).then_some(PointFlaw::LinkSpecifiers)
    }
}

impl IntroPoint {
    /// Whether it takes no more room in a descriptor than a relay has use for.
    pub fn is_of_ordinary_size(&self) -> bool {
        length(&self.link_specifiers) <= LINK_SPECIFIER_BYTES_OF_A_RELAY
    }
}

/// Whether a handshake with this key depends on the other side's secret.
/// Encodings beyond the field's prime are refused altogether: no key generator
/// makes them, and each stands for a small u-coordinate.
pub(super) fn is_x25519_key(key: [u8; 32]) -> bool {
    let mut reduced = key;
    // X25519 ignores the highest bit (RFC 7748, section 5).
    reduced[31] &= 0x7f;
    let [low, middle @ .., high] = reduced;
    let is_canonical = !(low >= 0xed && middle == [0xff; 30] && high == 0x7f);
    is_canonical && !LOW_ORDER.contains(&reduced)
}

/// Whether an X25519 key has a form that a certificate can hold, as descriptors have one
/// for the key of each point (rend-spec-v3, section 2.5.2.2, `enc-key-cert`): half of
/// all numbers are no point of the curve, and one of them would keep a descriptor with
/// everybody's points from being made.
fn can_be_certified(key: [u8; 32]) -> bool {
    MontgomeryPoint(key).to_edwards(0).is_some()
}

/// Whether the bytes are the canonical encoding of a point that is not of small
/// order: under the others, one signature can fit every message.
fn is_ed25519_key(SessionId(bytes): SessionId) -> bool {
    let encoded = CompressedEdwardsY(bytes);
    let point = encoded.decompress();
    point.is_some_and(|point| !point.is_small_order() && point.compress() == encoded)
}

/// The bytes of link specifiers, encoded.
fn length(specifiers: &[LinkSpecifier]) -> usize {
    specifiers.iter().map(|it| 2 + it.body.len()).sum()
}

/// Whether the link specifiers are what a relay has: both identities, an address
/// with a port, nothing twice, and no more than fits.
fn are_of_a_relay(specifiers: &[LinkSpecifier], relay: RelayId) -> bool {
    let length = length(specifiers);
    let count = |kind| specifiers.iter().filter(|it| it.kind == kind).count();
    let is_well_formed = |it: &LinkSpecifier| match (it.kind, it.body.as_slice()) {
        (IPV4, [a, _, _, _, port @ ..]) => is_port(port) && (1..224).contains(a),
        (IPV6, body) => body.split_at_checked(16).is_some_and(|(address, port)| {
            is_port(port) && address != [0; 16] && address.first() != Some(&0xff)
        }),
        (RSA_ID, id) => id == relay.0,
        (ED25519_ID, id) => id.len() == 32 && id != [0; 32],
        (kind, _) => kind > ED25519_ID,
    };
    length <= LINK_SPECIFIER_BYTES
        && specifiers.iter().all(|it| is_well_formed(it) && count(it.kind) == 1)
        && count(RSA_ID) == 1
        && count(ED25519_ID) == 1
        && count(IPV4) + count(IPV6) > 0
}

/// Whether these are the two bytes of a port that can be connected to.
fn is_port(bytes: &[u8]) -> bool {
    bytes.len() == 2 && bytes != [0, 0]
}

#[cfg(test)]
mod tests {
    use super::super::super::samples::point;
    use super::*;

    /// A point of which one thing is another.
    fn with(change: impl FnOnce(&mut IntroPoint)) -> Option<PointFlaw> {
        let mut point = point(1, 1);
        change(&mut point);
        point.flaw()
    }

    /// 32 bytes of which the last and the first differ from those between.
    fn bytes(first: u8, between: u8, last: u8) -> [u8; 32] {
        let mut bytes = [between; 32];
        (bytes[0], bytes[31]) = (first, last);
        bytes
    }

    #[test]
    fn every_low_order_key_is_refused_in_every_encoding_that_x25519_takes_for_it() {
        // p and p + 1 stand for 0 and 1; 2^255 - 1 for 18.
        let beyond = [0xed, 0xee, 0xef, 0xff].map(|low| bytes(low, 0xff, 0x7f));
        let refused: Vec<[u8; 32]> = LOW_ORDER.into_iter().chain(beyond).collect();
        for key in refused {
            for bit in [0, 0x80] {
                let mut key = key;
                key[31] |= bit;
                assert_eq!(with(|it| it.relay_ntor_key = key), Some(PointFlaw::Key), "{key:02x?}");
                assert_eq!(
                    with(|it| it.service_ntor_key = key),
                    Some(PointFlaw::Key),
                    "{key:02x?}"
                );
            }
        }
        // Next to them lie good ones, and the highest bit alone makes none bad.
        for key in [bytes(4, 0, 0), bytes(9, 0, 0x80), bytes(0xeb, 0xff, 0x7f)] {
            assert_eq!(with(|it| it.relay_ntor_key = key), None, "{key:02x?}");
            assert_eq!(with(|it| it.service_ntor_key = key), None, "{key:02x?}");
        }
    }

    #[test]
    fn a_service_key_that_is_no_point_of_the_curve_is_refused_for_no_descriptor_can_hold_it() {
        for key in [bytes(2, 0, 0), bytes(3, 0, 0x80), [9; 32]] {
            assert_eq!(with(|it| it.service_ntor_key = key), Some(PointFlaw::Key), "{key:02x?}");
            // Nothing certifies the relay's.
            assert_eq!(with(|it| it.relay_ntor_key = key), None, "{key:02x?}");
        }
    }

    #[test]
    fn the_table_holds_just_the_keys_whose_shared_secret_is_zero() {
        for key in LOW_ORDER {
            let shared = MontgomeryPoint(key).mul_clamped([0x55; 32]);
            assert_eq!(shared.to_bytes(), [0; 32], "{key:02x?}");
        }
        let shared = MontgomeryPoint(bytes(2, 0, 0)).mul_clamped([0x55; 32]);
        assert_ne!(shared.to_bytes(), [0; 32]);
    }

    #[test]
    fn a_session_id_of_small_order_or_not_canonical_or_no_point_at_all_is_refused() {
        let eighth = curve25519_dalek::constants::EIGHT_TORSION.map(|point| point.compress().0);
        let others = [
            // y = 1 and y = -1 with the sign of an x that is 0.
            bytes(1, 0, 0x80),
            bytes(0xec, 0xff, 0xff),
            // y = p, p + 1: 0 and 1 once more; y = p + 3 is the canonical 3.
            bytes(0xed, 0xff, 0x7f),
            bytes(0xed, 0xff, 0xff),
            bytes(0xee, 0xff, 0x7f),
            bytes(0xee, 0xff, 0xff),
            bytes(0xf0, 0xff, 0x7f),
            // y = 2 has no x.
            bytes(2, 0, 0),
            [0xff; 32],
        ];
        for id in eighth.into_iter().chain(others) {
            assert_eq!(with(|it| it.session_id = SessionId(id)), Some(PointFlaw::Key), "{id:02x?}");
        }
        // y = 3 is good: what was refused above is its other encoding.
        assert_eq!(with(|it| it.session_id = SessionId(bytes(3, 0, 0))), None);
    }

    #[test]
    fn link_specifiers_are_those_of_a_relay_or_the_point_is_refused() {
        let specifier = |kind, body: &[u8]| LinkSpecifier { kind, body: body.to_vec() };
        let refused = |change: &dyn Fn(&mut Vec<LinkSpecifier>)| {
            with(|it| change(&mut it.link_specifiers)) == Some(PointFlaw::LinkSpecifiers)
        };
        assert!(refused(&Vec::clear));
        for missing in 0..3 {
            assert!(refused(&|all| drop(all.remove(missing))), "{missing}");
            assert!(refused(&|all| all.push(all[missing].clone())), "{missing} twice");
            assert!(refused(&|all| all[missing].body.truncate(1)), "{missing} too short");
            assert!(refused(&|all| all[missing].body.push(1)), "{missing} too long");
        }
        assert!(refused(&|all| all[1].body[0] ^= 1), "the identity of another relay");
        assert!(refused(&|all| all[2].body = vec![0; 32]), "no identity");
        for address in [[192, 0, 2, 1, 0, 0], [0, 0, 0, 0, 0, 80], [224, 0, 0, 1, 0, 80], [255; 6]]
        {
            assert!(refused(&|all| all[0].body = address.to_vec()), "{address:?}");
        }
        let v6 = |first: u8, port: u8| {
            let mut body = [0; 18];
            (body[0], body[17]) = (first, port);
            body
        };
        for body in [v6(0, 80), v6(0x20, 0), v6(0xff, 80)] {
            assert!(refused(&|all| all.push(specifier(IPV6, &body))), "{body:?}");
        }
        assert!(!refused(&|all| all.push(specifier(IPV6, &v6(0x20, 80)))));
        // What nobody knows is left as it is, as long as it fits.
        assert!(!refused(&|all| all.push(specifier(99, &[0; 62]))));
        assert!(refused(&|all| all.push(specifier(99, &[0; 63]))));
        assert!(refused(&|all| all.extend((10..50).map(|kind| specifier(kind, &[])))));
    }
}

//! An introduction point as it stands in a descriptor.

use std::fmt;

use data_encoding::HEXUPPER;
use serde::{Deserialize, Serialize};

/// One introduction point: everything that a descriptor says of it, copied
/// verbatim from where it came (rend-spec-v3, section 2.5.2.2).
///
/// It holds public keys only; none of the backend's secrets is needed to put
/// the point into another descriptor.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct IntroPoint {
    /// The point's identity (`KP_hs_ipt_sid`, the "auth key").
    pub session_id: SessionId,
    /// The relay at which the point is: the RSA identity among the link
    /// specifiers, which is what C tor clients look a point up by.
    pub relay: RelayId,
    /// How to reach the relay, in the order given.
    pub link_specifiers: Vec<LinkSpecifier>,
    /// The relay's ntor onion key (`KP_ntor`).
    #[serde(with = "super::hex")]
    pub relay_ntor_key: [u8; 32],
    /// The key with which clients encrypt to the service (`KP_hss_ntor`).
    #[serde(with = "super::hex")]
    pub service_ntor_key: [u8; 32],
}

/// The identity of an introduction point: its session id key. The same relay
/// can hold a new session; the relay is therefore no identity.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SessionId(#[serde(with = "super::hex")] pub [u8; 32]);

/// The identity of a relay: the SHA-1 fingerprint of its RSA key, which every
/// relay has and every Tor tool prints.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RelayId(#[serde(with = "super::hex")] pub [u8; 20]);

/// One encoded link specifier (tor-spec, section 5.1.2).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LinkSpecifier {
    /// `LSTYPE`.
    pub kind: u8,
    /// `LSPEC`, at most 255 bytes.
    #[serde(with = "super::hex")]
    pub body: Vec<u8>,
}

impl SessionId {
    /// Its first eight hexadecimal digits: enough to tell the points of one
    /// address apart.
    pub fn prefix(&self) -> String {
        self.0.iter().take(4).map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionId({}…)", self.prefix())
    }
}

/// The form of Tor's own tools: 40 upper-case hexadecimal digits.
impl fmt::Display for RelayId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        HEXUPPER.encode_display(&self.0).fmt(f)
    }
}

impl fmt::Debug for RelayId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RelayId({self})")
    }
}

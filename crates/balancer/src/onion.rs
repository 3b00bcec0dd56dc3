//! What an onion service is made of, as plain values: addresses, introduction
//! points, relays, time periods, capabilities.
//!
//! These are the words that the balancer, the instances, the Tor side and the
//! configuration say to each other, and how they are written down. Nothing here
//! performs I/O or reads a clock.

mod access;
mod address;
mod anonymity;
mod capabilities;
mod client_key;
mod flaw;
pub(crate) mod hex;
mod intro_point;
mod period;
mod protocols;

pub use access::Access;
pub use address::{AddressError, OnionAddress};
pub use anonymity::Anonymity;
pub use capabilities::Capabilities;
pub use client_key::{ClientKey, ClientKeyError, check_client_name};
pub use flaw::{LINK_SPECIFIER_BYTES, LINK_SPECIFIER_BYTES_OF_A_RELAY, PointFlaw};
pub use intro_point::{IntroPoint, LinkSpecifier, RelayId, SessionId};
pub use period::Period;
pub use protocols::{Protocols, ProtocolsError};

/// The most introduction points that a descriptor may hold.
///
/// C tor clients refuse a descriptor with more, Arti clients ignore the rest
/// (`HS_CONFIG_V3_MAX_INTRO_POINTS`; rend-spec-v3, section 2.5.2.2).
pub const MAX_INTRO_POINTS: usize = 20;

//! Subprotocol versions, from Arti's type.

use onionbraid_balancer::onion::Protocols;

/// From Arti. What cannot be read promises nothing.
pub(super) fn from_arti(protocols: &tor_protover::Protocols) -> Protocols {
    protocols.to_string().parse().unwrap_or_default()
}

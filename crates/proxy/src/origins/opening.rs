//! What is written first on a connection to an origin: the PROXY line.

use super::Client;
use crate::proxy_line;
use crate::settings::ProxyProtocol;

/// Whom a connection is for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Opening {
    /// A client.
    Client(Client),
    /// A check of ours.
    Check,
}

/// Version 1 for a connection without a client (proxy-protocol, section 2.1).
const UNKNOWN: &[u8] = b"PROXY UNKNOWN\r\n";

/// Version 2 for it: the signature, the command LOCAL, no family and no
/// addresses (section 2.2).
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

/// The bytes; none without PROXY protocol.
pub(super) fn opening(protocol: Option<ProxyProtocol>, opening: Opening) -> Vec<u8> {
    match (protocol, opening) {
        (None, _) => Vec::new(),
        (Some(ProxyProtocol::V1), Opening::Check) => UNKNOWN.to_vec(),
        (Some(ProxyProtocol::V2), Opening::Check) => LOCAL.to_vec(),
        (Some(ProxyProtocol::V1), Opening::Client(it)) => proxy_line::v1(it.circuit, it.port),
        (Some(ProxyProtocol::V2), Opening::Client(it)) => proxy_line::v2(it.circuit, it.port),
    }
}

//! How many clients a descriptor has room for, where it is not for everybody.

use crate::onion::LINK_SPECIFIER_BYTES_OF_A_RELAY;
use crate::quota;

/// The bytes of plaintext that the middle layer may have at most: with more, C tor's
/// padding makes the descriptor longer than the 50,000 bytes that HSDirs accept.
const MIDDLE: usize = 30_000;
/// Those of what is there without points and clients, amply.
const FRAME: usize = 700;
/// Those of an `auth-client` line.
const CLIENT: usize = 70;
/// C tor fills the list to multiples of so many.
const CLIENTS_STEP: usize = 16;

/// How many clients fit into a descriptor with so many points: a multiple of 16,
/// since decoys fill the list.
pub fn clients_that_fit(points: usize) -> usize {
    let specifiers = base64(1 + LINK_SPECIFIER_BYTES_OF_A_RELAY);
    // Beside them: three keys, two certificates, what names and encloses them.
    let inner = points * (specifiers + 655);
    // In lines of 64 characters, behind its salt and before its MAC.
    let sealed = base64(inner + 48);
    let sealed = sealed + sealed.div_ceil(64);
    let room = MIDDLE.saturating_sub(FRAME + sealed);
    room / CLIENT / CLIENTS_STEP * CLIENTS_STEP
}

fn base64(bytes: usize) -> usize {
    bytes.div_ceil(3) * 4
}

/// The most points that one descriptor of a service may come to hold, with this
/// limit of the operator's and so many backends.
pub fn most_points(max_points: Option<u8>, backends: usize) -> usize {
    quota::limit(max_points, backends)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_clients_fit() {
        let fit = [1, 3, 8, 9, 20].map(clients_that_fit);
        assert_eq!(fit, [400, 368, 288, 272, 112]);
    }
}

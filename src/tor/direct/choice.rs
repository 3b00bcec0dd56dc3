//! Which relay may be connected to directly? Pure.
//!
//! A client names its rendezvous point by link specifiers, so it could name any
//! machine: one in the network of the service, or somebody to be annoyed with
//! connections. What it says has to be what the directory says.

use std::net::SocketAddr;

use tor_linkspec::CircTarget;

/// A relay, as a client names it or as the directory lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    rsa: Option<[u8; 20]>,
    ed25519: Option<[u8; 32]>,
    ntor: [u8; 32],
    addresses: Vec<SocketAddr>,
}

/// Why a relay is not connected to directly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// No relay that can be used has these identities.
    #[error("no such relay is in the directory")]
    Unlisted,
    /// It has both identities, and they have to be named.
    #[error("it is named by other identities than the directory's")]
    Identity,
    /// It has moved, or somebody wants a connection to elsewhere.
    #[error("it is named with another address than the directory's, or none")]
    Address,
    /// It was given another key since, or never had this one.
    #[error("it is named with another onion key than the directory's")]
    OnionKey,
    /// As many relays are connected to as may be.
    #[error("as many relays are connected to directly as may be")]
    Full,
    /// It did not answer lately.
    #[error("it could not be reached directly a while ago")]
    Unreachable,
}

impl Named {
    /// What a target says of itself.
    pub(super) fn of(target: &impl CircTarget) -> Self {
        Self {
            rsa: target.rsa_identity().map(|rsa| rsa.to_bytes()),
            ed25519: target.ed_identity().map(|ed25519| (*ed25519).into()),
            ntor: target.ntor_onion_key().to_bytes(),
            addresses: target.addrs().collect(),
        }
    }
}

/// Whether everything that is said of a relay is what the directory says of it.
pub(super) fn check(named: &Named, listed: &Named) -> Result<(), Refusal> {
    let is_whole = listed.rsa.is_some() && listed.ed25519.is_some();
    if !is_whole || (named.rsa, named.ed25519) != (listed.rsa, listed.ed25519) {
        return Err(Refusal::Identity);
    }
    let is_listed = |address| listed.addresses.contains(address);
    if named.addresses.is_empty() || !named.addresses.iter().all(is_listed) {
        return Err(Refusal::Address);
    }
    if named.ntor != listed.ntor {
        return Err(Refusal::OnionKey);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relay(addresses: &[&str]) -> Named {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        Named { rsa: Some([1; 20]), ed25519: Some([2; 32]), ntor: [3; 32], addresses }
    }

    const LISTED: [&str; 2] = ["192.0.2.7:9001", "[2001:db8::7]:9001"];

    #[test]
    fn a_relay_is_connected_to_that_is_named_as_the_directory_lists_it() {
        for addresses in [&LISTED[..], &LISTED[..1], &LISTED[1..]] {
            assert_eq!(check(&relay(addresses), &relay(&LISTED)), Ok(()));
        }
        // On a network of its own, relays are where that network says.
        let private = relay(&["127.0.0.1:5001"]);
        assert_eq!(check(&private, &private), Ok(()));
    }

    #[test]
    fn no_client_chooses_an_address_to_connect_to() {
        let elsewhere = [
            "127.0.0.1:9001",
            "127.0.0.1:22",
            "0.0.0.0:9001",
            "10.0.0.1:9001",
            "172.16.0.1:9001",
            "192.168.1.1:80",
            "169.254.169.254:80",
            "192.0.2.7:9002",
            "192.0.2.8:9001",
            "192.0.2.7:0",
            "[::1]:9001",
            "[::]:9001",
            "[fc00::7]:9001",
            "[fe80::7]:9001",
            "[::ffff:192.0.2.7]:9001",
            "[::ffff:127.0.0.1]:9001",
            "[2001:db8::7]:9002",
        ];
        for address in elsewhere {
            for named in [&[address][..], &[LISTED[0], address], &[address, LISTED[0], LISTED[1]]] {
                assert_eq!(
                    check(&relay(named), &relay(&LISTED)),
                    Err(Refusal::Address),
                    "{named:?}"
                );
            }
        }
        assert_eq!(check(&relay(&[]), &relay(&LISTED)), Err(Refusal::Address));
        assert_eq!(check(&relay(&LISTED), &relay(&[])), Err(Refusal::Address));
    }

    #[test]
    fn a_relay_with_another_identity_or_key_is_another_one() {
        let listed = relay(&LISTED);
        for (rsa, ed25519) in [
            (Some([9; 20]), listed.ed25519),
            (listed.rsa, Some([9; 32])),
            (None, listed.ed25519),
            (listed.rsa, None),
            (None, None),
        ] {
            let named = Named { rsa, ed25519, ..listed.clone() };
            assert_eq!(check(&named, &listed), Err(Refusal::Identity));
            assert_eq!(check(&listed, &named), Err(Refusal::Identity));
        }
        let nobody = Named { rsa: None, ed25519: None, ..listed.clone() };
        assert_eq!(check(&nobody, &nobody), Err(Refusal::Identity));
        let named = Named { ntor: [9; 32], ..listed.clone() };
        assert_eq!(check(&named, &listed), Err(Refusal::OnionKey));
    }
}

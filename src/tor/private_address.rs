//! Whether an introduction point names an address that clients cannot reach.
//!
//! Relays of the public network refuse to extend to private addresses, and so
//! do C tor clients (`extend_info_addr_is_allowed`). A relay that the directory
//! lists at such an address is another matter: then the whole network is a
//! private one. Pure, save for the look into the directory that it is given.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tor_linkspec::HasAddrs as _;
use tor_netdir::NetDir;

use super::network::{Network, relay};
use onionbraid_balancer::onion::{IntroPoint, LinkSpecifier, PointFlaw, RelayId};

/// The point, unless it names a private address at which the directory does not
/// list its relay.
pub(super) fn checked(point: IntroPoint, directory: &NetDir) -> Result<IntroPoint, PointFlaw> {
    let is_listed = |id: RelayId, address: SocketAddr| {
        relay(directory, id).is_some_and(|relay| relay.addrs().any(|listed| listed == address))
    };
    match is_reachable(&point, is_listed) {
        true => Ok(point),
        false => Err(PointFlaw::PrivateAddress),
    }
}

/// Those of the points that name no such address, and what is wrong with the
/// others. Without a directory no relay is listed at one.
pub(crate) fn without_private(
    points: Vec<IntroPoint>,
    network: &Network,
) -> (Vec<IntroPoint>, Option<PointFlaw>) {
    let directory = network.directory().ok();
    let check = |point| match &directory {
        Some(directory) => checked(point, directory),
        None if is_reachable(&point, |_, _| false) => Ok(point),
        None => Err(PointFlaw::PrivateAddress),
    };
    let mut flaw = None;
    let reachable = points.into_iter().filter_map(|point| match check(point) {
        Ok(point) => Some(point),
        Err(found) => {
            flaw = Some(found);
            None
        }
    });
    (reachable.collect(), flaw)
}

fn is_reachable(point: &IntroPoint, is_listed: impl Fn(RelayId, SocketAddr) -> bool) -> bool {
    let mut addresses = point.link_specifiers.iter().filter_map(address);
    addresses.all(|it| !is_private(it.ip()) || is_listed(point.relay, it))
}

/// The address of a link specifier, if it is one (tor-spec, section 5.1.2).
fn address(specifier: &LinkSpecifier) -> Option<SocketAddr> {
    let (ip, port) = specifier.body.split_last_chunk::<2>()?;
    let ip: IpAddr = match specifier.kind {
        0 => Ipv4Addr::from(<[u8; 4]>::try_from(ip).ok()?).into(),
        1 => Ipv6Addr::from(<[u8; 16]>::try_from(ip).ok()?).into(),
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_be_bytes(*port)))
}

/// What C tor calls internal (`tor_addr_is_internal`).
fn is_private(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            let is_shared = a == 100 && (64..128).contains(&b);
            a == 0 || is_shared || ip.is_private() || ip.is_loopback() || ip.is_link_local()
        }
        IpAddr::V6(ip) => {
            let is_site_local = ip.segments()[0] & 0xffc0 == 0xfec0;
            ip.is_unspecified()
                || ip.is_loopback()
                || ip.is_unique_local()
                || ip.is_unicast_link_local()
                || is_site_local
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use onionbraid_balancer::onion::SessionId;

    fn point(addresses: &[&str]) -> IntroPoint {
        let specifier = |address: &&str| {
            let address: SocketAddr = address.parse().unwrap();
            let (kind, mut body) = match address.ip() {
                IpAddr::V4(ip) => (0, ip.octets().to_vec()),
                IpAddr::V6(ip) => (1, ip.octets().to_vec()),
            };
            body.extend(address.port().to_be_bytes());
            LinkSpecifier { kind, body }
        };
        IntroPoint {
            session_id: SessionId([1; 32]),
            relay: RelayId([1; 20]),
            link_specifiers: addresses.iter().map(specifier).collect(),
            relay_ntor_key: [9; 32],
            service_ntor_key: [7; 32],
        }
    }

    #[test]
    fn a_private_address_is_reachable_only_where_the_directory_lists_the_relay_there() {
        let private = [
            "127.0.0.1:80",
            "10.1.2.3:80",
            "172.16.0.1:80",
            "192.168.1.1:80",
            "169.254.1.1:80",
            "100.64.0.1:80",
            "0.1.2.3:80",
            "[::1]:80",
            "[::]:80",
            "[fc00::1]:80",
            "[fe80::1]:80",
            "[fec0::1]:80",
            "[::ffff:10.0.0.1]:80",
            "[::ffff:127.0.0.1]:80",
        ];
        for address in private {
            let point = point(&["192.0.2.1:9001", address]);
            assert!(!is_reachable(&point, |_, _| false), "{address}");
            let listed: SocketAddr = address.parse().unwrap();
            assert!(is_reachable(&point, |id, it| id == point.relay && it == listed));
            let other_port = SocketAddr::new(listed.ip(), 81);
            assert!(!is_reachable(&point, |_, it| it == other_port), "{address}");
        }
        for address in ["192.0.2.1:1", "100.63.0.1:80", "172.32.0.1:80", "[2001:db8::1]:80"] {
            assert!(is_reachable(&point(&[address]), |_, _| false), "{address}");
        }
    }
}

//! The addresses and names by which the origins behind a port know themselves. Pure.
//!
//! A server that writes its own address or port into a URI sends visitors to a
//! dead end and discloses the machine. These addresses stand for the site that the
//! visitor asked for, as with nginx's `proxy_redirect default`.

use std::net::IpAddr;

use crate::host::Host;
use crate::rules::{HttpOrigin, Origin};

/// What the origins behind one port call themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnNames(Vec<Address>);

/// One such address.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Address {
    name: Name,
    /// Where the origin listens, if that is a port.
    port: Option<u16>,
    tls: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Name {
    /// A name, in any case.
    Named(String),
    /// An address, however it is written.
    Ip(IpAddr),
    /// Any name or address of this machine for itself.
    Loopback,
}

impl OwnNames {
    /// Of these origins, which may be reached by another name in TLS.
    pub fn of(origins: &[HttpOrigin], server_name: Option<&str>) -> Self {
        let mut own = Vec::new();
        for origin in origins {
            let (name, port) = match &origin.address {
                Origin::Tcp(address) if is_local(address.ip()) => {
                    (Name::Loopback, Some(address.port()))
                }
                Origin::Tcp(address) => {
                    (Name::Ip(address.ip().to_canonical()), Some(address.port()))
                }
                Origin::Name(name, port) if name.eq_ignore_ascii_case("localhost") => {
                    (Name::Loopback, Some(*port))
                }
                Origin::Name(name, port) => (Name::Named(name.clone()), Some(*port)),
                Origin::Unix(_) => (Name::Loopback, None),
            };
            own.push(Address { name, port, tls: origin.tls });
            if let Some(name) = server_name.filter(|_| origin.tls) {
                own.push(Address { name: Name::Named(name.to_owned()), port, tls: true });
            }
        }
        Self(own)
    }

    /// The scheme by which the origins see themselves reached.
    pub(crate) fn scheme(&self) -> &'static str {
        if self.0.iter().any(|own| own.tls) { "https" } else { "http" }
    }

    /// Whether a host is one of these addresses: with the port of the origin, or
    /// without any, as servers write it that do not know theirs.
    pub(super) fn is(&self, host: &Host<'_>) -> bool {
        let usual = |port| matches!(port, None | Some(80 | 443));
        self.0
            .iter()
            .any(|own| own.name.is(host.name) && (usual(host.port) || host.port == own.port))
    }

    /// Whether a name or address, at whatever port, is one of these.
    pub(super) fn has_name(&self, name: &str) -> bool {
        self.0.iter().any(|own| own.name.is(name))
    }

    /// Whether an origin that is reached by its visitors' name would write this
    /// port behind it: where it listens itself.
    pub(super) fn listens_at(&self, secure: bool, port: Option<u16>) -> bool {
        self.0.iter().any(|own| match port {
            Some(port) => own.port == Some(port) || (own.tls && port == 443),
            None => own.tls && secure,
        })
    }
}

impl Name {
    fn is(&self, name: &str) -> bool {
        let address = || {
            let plain = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
            plain.unwrap_or(name).parse::<IpAddr>().ok().map(|address| address.to_canonical())
        };
        match self {
            Self::Named(own) => own.eq_ignore_ascii_case(name),
            Self::Ip(own) => address() == Some(*own),
            Self::Loopback => {
                name.eq_ignore_ascii_case("localhost")
                    || name.eq_ignore_ascii_case("localhost.localdomain")
                    || address().is_some_and(is_local)
            }
        }
    }
}

/// Whether an address means this machine: who connects to `0.0.0.0` or `::`
/// does so over loopback.
fn is_local(address: IpAddr) -> bool {
    let address = address.to_canonical();
    address.is_loopback() || address.is_unspecified()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(origins: &[(&str, bool)], server_name: Option<&str>) -> OwnNames {
        let origins: Vec<_> = origins
            .iter()
            .map(|(address, tls)| {
                let address = match address.strip_prefix("unix:") {
                    Some(path) => Origin::Unix(path.into()),
                    None => address.parse().map_or_else(
                        |_| {
                            let (name, port) = address.rsplit_once(':').unwrap();
                            Origin::Name(name.to_owned(), port.parse().unwrap())
                        },
                        Origin::Tcp,
                    ),
                };
                HttpOrigin { address, tls: *tls }
            })
            .collect();
        OwnNames::of(&origins, server_name)
    }

    #[test]
    fn an_origin_is_known_by_its_address_and_port_or_no_port_at_all() {
        for (origin, hosts, others) in [
            (
                "127.0.0.1:8080",
                "127.0.0.1:8080 127.0.0.1 localhost:8080 LOCALHOST [::1]:8080 127.0.0.2:8080 0.0.0.0:8080 [::]:8080 [::ffff:127.0.0.1]:8080",
                "127.0.0.1:8081 localhost:9 10.0.0.7 10.0.0.7:8080 notlocalhost a.localhost",
            ),
            (
                "10.0.0.7:8080",
                "10.0.0.7:8080 10.0.0.7 10.0.0.7:443 [::ffff:10.0.0.7] [::FFFF:a00:7]:8080 [0:0:0:0:0:ffff:10.0.0.7]:80",
                "10.0.0.7:81 10.0.0.8 localhost",
            ),
            ("[::ffff:10.0.0.7]:8080", "10.0.0.7:8080 [::ffff:10.0.0.7]", "10.0.0.8 [::10.0.0.7]"),
            ("[2001:db8::1]:80", "[2001:db8::1] [2001:DB8:0::1]:80", "[2001:db8::2] [::1]"),
            ("web:3000", "web:3000 WEB web:80", "web:3001 a.web web.example localhost"),
            ("unix:/run/x", "localhost localhost:80 127.0.0.1", "localhost:8080 10.0.0.1"),
        ] {
            let own = own(&[(origin, false)], None);
            for host in hosts.split(' ') {
                assert!(own.is(&Host::parse(host).unwrap()), "{host} of {origin}");
            }
            for host in others.split(' ') {
                assert!(!own.is(&Host::parse(host).unwrap()), "{host} of {origin}");
            }
        }
        let named = own(&[("10.0.0.7:8443", true)], Some("shop.example"));
        for host in ["shop.example", "shop.example:8443", "10.0.0.7:8443"] {
            assert!(named.is(&Host::parse(host).unwrap()), "{host}");
        }
    }

    #[test]
    fn the_port_behind_a_visitors_name_is_that_of_the_origin() {
        let plain = own(&[("127.0.0.1:8080", false), ("127.0.0.1:8081", false)], None);
        assert!(plain.listens_at(false, Some(8080)) && plain.listens_at(true, Some(8081)));
        assert!(!plain.listens_at(false, None) && !plain.listens_at(true, None));
        assert!(!plain.listens_at(true, Some(443)) && !plain.listens_at(false, Some(82)));
        let tls = own(&[("127.0.0.1:8443", true)], None);
        assert!(tls.listens_at(true, None) && tls.listens_at(true, Some(443)));
        assert!(!tls.listens_at(false, None));
    }
}

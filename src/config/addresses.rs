//! Do the addresses that the services' keys give them fit the configuration?
//!
//! Only who has the keys can tell: `check` and the daemon ask, once they have
//! read them. Pure.

use super::service::ServiceConfig;
use onionbraid_balancer::onion::OnionAddress;

/// Why the services cannot run together under their addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressConflict {
    /// A service lists its own address in `backends`.
    #[error(
        "service \"{nickname}\" lists itself as its backend \"{backend}\": a backend has an address \
         of its own"
    )]
    OwnBackend {
        /// The service.
        nickname: String,
        /// What it calls itself there.
        backend: String,
    },
    /// A service lists its own address in `frontends`.
    #[error(
        "service \"{nickname}\" lists its own address in `frontends`: they are the addresses of \
         services elsewhere that list this one as a backend"
    )]
    OwnFrontend {
        /// The service.
        nickname: String,
    },
    /// Two services have one key.
    #[error(
        "services \"{first}\" and \"{second}\" have the same key, and so the same address: each \
         would replace the other's descriptor"
    )]
    Twice {
        /// One of them.
        first: String,
        /// The other.
        second: String,
    },
}

/// Checks the services that run, each with the address of its key, if it has
/// one yet.
///
/// # Errors
///
/// The first thing that does not fit.
pub fn check_addresses<'a>(
    services: impl IntoIterator<Item = (&'a ServiceConfig, Option<OnionAddress>)>,
) -> Result<(), AddressConflict> {
    let mut seen: Vec<(&ServiceConfig, OnionAddress)> = Vec::new();
    for (service, address) in services {
        let Some(address) = address.filter(|_| service.enabled) else { continue };
        let nickname = service.nickname.to_string();
        if let Some(backend) = service.backends.iter().find(|b| b.address == address) {
            let backend = backend.name.clone();
            return Err(AddressConflict::OwnBackend { nickname, backend });
        }
        if service.frontends.contains(&address) {
            return Err(AddressConflict::OwnFrontend { nickname });
        }
        if let Some((first, _)) = seen.iter().find(|(_, other)| *other == address) {
            let first = first.nickname.to_string();
            return Err(AddressConflict::Twice { first, second: nickname });
        }
        seen.push((service, address));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RemoteBackend;

    fn service(nickname: &str) -> ServiceConfig {
        ServiceConfig::with_defaults(nickname.parse().unwrap())
    }

    fn address(n: u8) -> OnionAddress {
        OnionAddress::from_public_key([n; 32])
    }

    #[test]
    fn two_services_that_run_cannot_have_one_address() {
        let (a, mut b) = (service("a"), service("b"));
        fn check(a: &ServiceConfig, b: &ServiceConfig) -> Result<(), AddressConflict> {
            check_addresses([(a, Some(address(1))), (b, Some(address(1)))])
        }
        let expected = AddressConflict::Twice { first: "a".into(), second: "b".into() };
        assert_eq!(check(&a, &b), Err(expected));
        b.enabled = false;
        assert_eq!(check(&a, &b), Ok(()));
    }

    #[test]
    fn a_service_is_neither_its_own_backend_nor_its_own_frontend() {
        let mut a = service("a");
        a.frontends = vec![address(1), address(2)];
        assert_eq!(check_addresses([(&a, Some(address(3)))]), Ok(()));
        let expected = AddressConflict::OwnFrontend { nickname: "a".into() };
        assert_eq!(check_addresses([(&a, Some(address(2)))]), Err(expected));
        let backend =
            RemoteBackend { address: address(4), name: "b".into(), weight: 1, client_key: None };
        a.backends = vec![backend];
        let expected = AddressConflict::OwnBackend { nickname: "a".into(), backend: "b".into() };
        assert_eq!(check_addresses([(&a, Some(address(4)))]), Err(expected));
    }

    #[test]
    fn services_without_keys_have_no_address_in_common() {
        let (a, b) = (service("a"), service("b"));
        assert_eq!(check_addresses([(&a, None), (&b, None)]), Ok(()));
    }
}

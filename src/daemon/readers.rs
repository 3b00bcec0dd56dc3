//! What reads the descriptors of a service's backends, and its own, where they are not
//! for everybody: the keys for [`Keyring`](crate::tor::keyring::Keyring).

use std::sync::Arc;

use crate::config::ServiceConfig;
use crate::tor::credentials::Credentials;
use crate::tor::keyring::DescriptorReader;
use crate::tor::keys::{KeyError, Keys};
use crate::tor::wiped;
use onionbraid_balancer::onion::{Access, OnionAddress};

/// Those of one service.
pub(crate) type Readers = Vec<(OnionAddress, DescriptorReader)>;

/// Reads the keys that a service names.
///
/// # Errors
///
/// The first that cannot be used.
pub(super) fn of_backends(config: &ServiceConfig, keys: &Keys) -> Result<Readers, KeyError> {
    let mut readers = Vec::new();
    for backend in &config.backends {
        let Some(file) = &backend.client_key else { continue };
        let of = (backend.name.as_str(), &backend.address);
        let pair = wiped(|| keys.client_key(&config.nickname, of, file).map(Arc::new))?;
        readers.push((backend.address, DescriptorReader::Client(pair)));
    }
    Ok(readers)
}

/// What reads its own descriptors.
pub(super) fn of_itself(
    config: &ServiceConfig,
    credentials: &Arc<Credentials>,
) -> Option<(OnionAddress, DescriptorReader)> {
    match config.access() {
        Access::Everybody => None,
        access => Some((
            credentials.address(),
            DescriptorReader::Publisher(Arc::clone(credentials), access),
        )),
    }
}

/// All that a command needs that asks the network itself: of services whose keys can be
/// read.
pub(crate) fn of_all(services: &[ServiceConfig], keys: &Keys) -> Readers {
    let mut readers = Vec::new();
    for config in services.iter().filter(|service| service.enabled) {
        readers.extend(of_backends(config, keys).unwrap_or_default());
        let found = Credentials::of_service(keys, &config.nickname, config.key_place());
        if let Ok(Some(credentials)) = found {
            readers.extend(of_itself(config, &Arc::new(credentials)));
        }
    }
    readers
}

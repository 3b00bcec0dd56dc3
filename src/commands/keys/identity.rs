//! Which identity key has a service, and what if it has none here?

use crate::commands::CommandFailure;
use crate::config::{Config, ServiceConfig};
use crate::exit::Exit;
use crate::tor::keys::{self, IdentityKey};

/// The identity key of a service.
pub(crate) fn identity_key(
    config: &Config,
    service: &ServiceConfig,
) -> Result<IdentityKey, CommandFailure> {
    let nickname = &service.nickname;
    if service.identity_bundle.is_some() {
        let text = format!(
            "this takes the identity key of service \"{nickname}\", which is not here: its \
             `identity_bundle` has the keys of some time periods alone. Run this where the key is"
        );
        return Err(CommandFailure::new(Exit::Permission, text));
    }
    let keys = keys::open_existing(&config.storage)?;
    let found = keys.identity_key(nickname, service.identity_key.as_deref())?;
    found.ok_or_else(|| no_key(nickname.as_ref()))
}

/// Says how a service gets a key.
pub(crate) fn no_key(name: &str) -> CommandFailure {
    let text = format!(
        "service \"{name}\" has no key yet, and so no address: make one with `onionbraid keys \
         generate {name}`, or bring one with `onionbraid keys import {name} PATH`"
    );
    CommandFailure::new(Exit::Permission, text)
}

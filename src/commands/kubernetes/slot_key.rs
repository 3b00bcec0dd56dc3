//! The key of the address, or of a slot: the directory's, the operator's or a new one.

use std::path::PathBuf;

use crate::commands::CommandFailure;
use crate::commands::keys::owner;
use crate::exit::Exit;
use crate::tor::keys::{self, IdentityKey};
use onionbraid_balancer::onion::OnionAddress;

/// A key of the directory, and whether it has to be written.
pub(super) struct SlotKey {
    pub(super) directory: PathBuf,
    pub(super) address: OnionAddress,
    pub(super) new: Option<New>,
}

/// A key that has to be written.
pub(super) enum New {
    /// It came with `--key`.
    Given(IdentityKey),
    /// It is one of an address that did not exist.
    Made(IdentityKey),
}

/// The key that a directory has, else the one that is given, else a new one.
pub(super) fn held(
    directory: PathBuf,
    given: Option<IdentityKey>,
) -> Result<SlotKey, CommandFailure> {
    if directory.symlink_metadata().is_err() {
        let (address, new) = match given {
            Some(key) => (key.address(), New::Given(key)),
            None => {
                let key = IdentityKey::generate();
                (key.address(), New::Made(key))
            }
        };
        return Ok(SlotKey { directory, address, new: Some(new) });
    }
    let address = keys::read_secret(&directory, &owner::mistrust(&directory)?)?.address();
    if given.is_some_and(|given| given.address() != address) {
        let text = format!("{} has another key, which is left as it is", directory.display());
        return Err(CommandFailure::new(Exit::Permission, text));
    }
    Ok(SlotKey { directory, address, new: None })
}

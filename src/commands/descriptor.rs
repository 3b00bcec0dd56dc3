//! `onionbraid descriptor`: what do clients find under an onion address, and
//! do all HSDirs tell them the same?
//!
//! For an address of our own it also says which backend each introduction point
//! belongs to: as the running daemon knows it, or as the backends' own
//! descriptors show.

mod report;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use super::inquire::inquire;
use super::{CommandFailure, finish, load};
use crate::clock::now;
use crate::config::{Config, Environment, ServiceConfig};
use crate::exit::Exit;
use crate::inquiry::PUBLISHED;
use crate::inquiry::owners::RemoteOwner;
use crate::inquiry::published::{self, AddressQuestion, Here, Published};
use crate::tor::credentials::Credentials;
use crate::tor::keys;
use onionbraid_balancer::onion::OnionAddress;

/// Explains what is published under `address`.
pub fn descriptor(address: &OnionAddress, files: &[PathBuf], json: bool) -> ExitCode {
    finish(write_descriptor(address, files, json, &mut io::stdout().lock()))
}

fn write_descriptor(
    address: &OnionAddress,
    files: &[PathBuf],
    json: bool,
    out: &mut impl Write,
) -> Result<(), CommandFailure> {
    let env = Environment::of_process();
    let config = load(files)?;
    let backends = listed_here(&config, address).map(backends).unwrap_or_default();
    let question = AddressQuestion { address: *address, backends };
    let (published, _) =
        inquire(&config, &env, PUBLISHED, &question, async |network, question| {
            let published = published::ask(&network, question, Here::default()).await;
            published.map_err(|failure| CommandFailure::new(Exit::Failed, failure.to_string()))
        })?;
    let published: Published = published;
    if json {
        let text = serde_json::to_string_pretty(&published)
            .map_err(|error| CommandFailure::new(Exit::Failed, error.to_string()))?;
        writeln!(out, "{text}")?;
    } else {
        report::write(&published, now().wall, out)?;
    }
    if published.can_be_found() {
        Ok(())
    } else {
        Err(CommandFailure::new(
            Exit::Failed,
            "no HSDir that clients ask has a descriptor that they can use",
        ))
    }
}

/// The service with this address, if there is one whose key can be read: most
/// addresses are somebody else's.
fn listed_here<'a>(config: &'a Config, address: &OnionAddress) -> Option<&'a ServiceConfig> {
    let keys = keys::open_existing(&config.storage).ok()?;
    config.services.iter().find(|service| {
        let found = Credentials::of_service(&keys, &service.nickname, service.key_place());
        found.is_ok_and(|found| found.is_some_and(|found| found.address() == *address))
    })
}

/// Its backends elsewhere.
pub(super) fn backends(service: &ServiceConfig) -> Vec<RemoteOwner> {
    let backends = service.backends.iter();
    backends.map(|it| RemoteOwner { name: it.name.clone(), address: it.address }).collect()
}

//! `onionbraid keys`: makes, reads and moves identity keys.
//!
//! Standard output has the address alone, for scripts; remarks go to standard
//! error. No key is ever overwritten.

mod identity;
pub(super) mod owner;
mod periods;

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::hand_over::{NewFile, write_for};
use super::new_file::directory_of;
use super::{CommandFailure, exists, finish, load, protect_memory, remark, service};
use crate::cli::{KeyFormat, KeysCommand};
use crate::config::{Config, ServiceConfig};
use crate::exit::Exit;
use crate::tor::credentials::Credentials;
use crate::tor::keys::{self, Format, IdentityKey, Imported, Keystores};
pub(crate) use identity::{identity_key, no_key};
use onionbraid_balancer::onion::OnionAddress;

/// In the place of a path: the key comes on standard input.
const STANDARD_INPUT: &str = "-";

/// Does what the command says and prints the address of the key.
pub fn keys(command: &KeysCommand) -> ExitCode {
    let address = match command {
        KeysCommand::Generate { out: Some(path), format, .. } => generate_file(path, *format),
        KeysCommand::Generate { service, config, .. } => {
            generate(service.as_deref().unwrap_or_default(), &config.files)
        }
        KeysCommand::Import { service, path, config } => import(service, path, &config.files),
        KeysCommand::Export { service, out, format, config } => {
            export(service, out, *format, &config.files)
        }
        KeysCommand::ExportPeriods { service, count, out, from, period, config } => {
            let wanted = periods::WantedPeriods {
                count: *count,
                from: *from,
                length_minutes: period.minutes,
                offset_seconds: period.offset_seconds,
            };
            periods::export(service, out, &wanted, &config.files)
        }
        KeysCommand::Address { of, config } => address(of, &config.files),
    };
    finish(address.and_then(|address| Ok(writeln!(io::stdout().lock(), "{address}")?)))
}

fn generate_file(path: &Path, format: KeyFormat) -> Result<OnionAddress, CommandFailure> {
    protect_memory();
    let key = IdentityKey::generate();
    write_new(path, &key, format.into())?;
    remark(&format!("The new key lies in {}.", path.display()));
    Ok(key.address())
}

fn generate(name: &str, files: &[PathBuf]) -> Result<OnionAddress, CommandFailure> {
    let config = load(files)?;
    let service = in_keystore(service(&config, name)?)?;
    if let Some(owner) = owner::of_state(&config) {
        return owner::run_as(owner, &["generate", name], &config, &[]);
    }
    let keystores = Keystores::from(&config.storage);
    let there = format!("The new key lies in {}.", keystores.directory.display());
    let make = || keys::open(keystores)?.generate(&service.nickname);
    let key = owner::warning_of_roots(&config.storage.state_dir, make)?;
    remark(&there);
    Ok(keys::address(&key))
}

fn import(name: &str, path: &Path, files: &[PathBuf]) -> Result<OnionAddress, CommandFailure> {
    let config = load(files)?;
    let service = in_keystore(service(&config, name)?)?;
    let key = match path {
        path if path == Path::new(STANDARD_INPUT) => keys::read_secret_from(io::stdin().lock())?,
        path if owner::is_root() => keys::read_secret(path, &owner::mistrust(path)?)?,
        path => keys::read_secret(path, &config.storage.mistrust)?,
    };
    let address = key.address();
    if let Some(owner) = owner::of_state(&config) {
        let arguments = ["import", name, STANDARD_INPUT];
        owner::run_as(owner, &arguments, &config, &keys::ctor_file(&key))?;
    } else {
        let keystores = Keystores::from(&config.storage);
        let there = format!("The key lies in {} too now.", keystores.directory.display());
        let make = || keys::open(keystores)?.import(&service.nickname, key);
        match owner::warning_of_roots(&config.storage.state_dir, make)? {
            Imported::New => remark(&there),
            Imported::Already => remark("The service has this key already."),
        }
    }
    if restricts_clients(path) && service.restricted_discovery.is_none() {
        remark(
            "Warning: its authorized_clients let some clients in and no others. Here \
             `restricted_discovery` says who may find the service; without it everybody could \
             reach it.",
        );
    }
    Ok(address)
}

/// Whether the C tor that has this key lets chosen clients in alone
/// (`authorized_clients` in its directory).
fn restricts_clients(path: &Path) -> bool {
    let directory = if path.is_dir() { path } else { path.parent().unwrap_or(path) };
    let Ok(entries) = directory.join("authorized_clients").read_dir() else { return false };
    let is_client = |name: &Path| name.extension().is_some_and(|extension| extension == "auth");
    entries.flatten().any(|entry| is_client(Path::new(&entry.file_name())))
}

fn export(
    name: &str,
    out: &Path,
    format: KeyFormat,
    files: &[PathBuf],
) -> Result<OnionAddress, CommandFailure> {
    let config = owner::load(files)?;
    let key = identity_key(&config, service(&config, name)?)?;
    write_new(out, &key, format.into())?;
    remark(&format!("The key lies in {} too now.", out.display()));
    Ok(key.address())
}

/// Writes a key to a new file or, for C tor, a new directory. What root writes belongs to
/// the owner of the directory that it is in.
fn write_new(path: &Path, key: &IdentityKey, format: Format) -> Result<(), CommandFailure> {
    let (Some(owner), Some(name)) = (owner::of_new(path), path.file_name()) else {
        return Ok(keys::write_new(path, key, format)?);
    };
    if path.symlink_metadata().is_ok() {
        return Err(exists(path));
    }
    let name = PathBuf::from(name);
    let files = match format {
        Format::Pem => vec![NewFile::secret(name, &keys::pem_file(key)?)],
        Format::Ctor => NewFile::of_ctor(&name, key),
    };
    write_for(Some(owner), directory_of(path), files)
}

fn address(of: &Path, files: &[PathBuf]) -> Result<OnionAddress, CommandFailure> {
    if let Some(name) = of.to_str().filter(|name| !name.contains(['/', '.'])) {
        let config = owner::load(files)?;
        let service = service(&config, name).map_err(|failure| match of.exists() {
            true => {
                CommandFailure::new(Exit::Usage, format!("{}; a file is ./{name}", failure.text))
            }
            false => failure,
        })?;
        let found = service_address(&config, service)?;
        return found.ok_or_else(|| no_key(name));
    }
    let mistrust = match files {
        [] => {
            protect_memory();
            owner::mistrust(of)?
        }
        files => load(files)?.storage.mistrust,
    };
    Ok(keys::read_address(of, &mistrust)?)
}

/// The address of a service, if it has a key.
pub(crate) fn service_address(
    config: &Config,
    service: &ServiceConfig,
) -> Result<Option<OnionAddress>, CommandFailure> {
    let keys = keys::open_existing(&config.storage)?;
    let found = Credentials::of_service(&keys, &service.nickname, service.key_place())?;
    Ok(found.as_ref().map(Credentials::address))
}

/// The service, if its key lies in the keystore.
fn in_keystore(service: &ServiceConfig) -> Result<&ServiceConfig, CommandFailure> {
    let file = service.identity_key.as_ref().map(|file| ("identity_key", file));
    let bundle = service.identity_bundle.as_ref().map(|directory| ("identity_bundle", directory));
    match file.or(bundle) {
        None => Ok(service),
        Some((key, path)) => {
            let text = format!(
                "service \"{}\" does not use the keystore: its `{key}` is {}",
                service.nickname,
                path.display()
            );
            Err(CommandFailure::new(Exit::Configuration, text))
        }
    }
}

impl From<KeyFormat> for Format {
    fn from(format: KeyFormat) -> Self {
        match format {
            KeyFormat::Ctor => Self::Ctor,
            KeyFormat::Pem => Self::Pem,
        }
    }
}

//! `onionbraid clients`: who may find a service with restricted discovery.
//!
//! Makes key pairs and puts the public halves into the directory that the service's
//! `key_dirs` names; a running daemon sees that by itself. No key is ever overwritten.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::hand_over::{self, may_change, write_one_for};
use super::keys::{no_key, owner, service_address};
use super::new_file::directory_of;
use super::{CommandFailure, finish, remark, service, turn};
use crate::cli::ClientsCommand;
use crate::config::{KeyDir, RestrictedDiscovery, ServiceConfig};
use crate::exit::{Exit, exit_of};
use crate::observe::table::table;
use crate::tor::keys::{self, ClientSecret};
use onionbraid_balancer::onion::{ClientKey, check_client_name};

/// Does what the command says.
pub fn clients(command: &ClientsCommand) -> ExitCode {
    finish(match command {
        ClientsCommand::Add { service, name, key, out, config } => {
            add(service, name, *key, out.as_deref(), &config.files)
        }
        ClientsCommand::List { service, config } => list(service, &config.files),
        ClientsCommand::Remove { service, name, config } => remove(service, name, &config.files),
    })
}

/// Lets a client in, and prints its public key.
fn add(
    nickname: &str,
    name: &str,
    key: Option<ClientKey>,
    out: Option<&Path>,
    files: &[PathBuf],
) -> Result<(), CommandFailure> {
    check_client_name(name).map_err(|problem| CommandFailure::new(Exit::Usage, problem))?;
    let config = owner::load(files)?;
    let service = service(&config, nickname)?;
    let restricted = restricted(service)?;
    let directory = directory(service, restricted)?;
    let _turn = turn::take(&directory.path)?;
    // What another command has done meanwhile counts.
    let (restricted, _) = restricted.read_again();
    let taken = restricted.key_dirs.iter().map(|it| it.file_of(name)).find(|it| is_there(it));
    if restricted.clients.contains_key(name) || taken.is_some() {
        let text = format!(
            "service \"{nickname}\" has a client \"{name}\" already, which is left as it is: remove \
             it first, or choose another name"
        );
        return Err(CommandFailure::new(Exit::Failed, text));
    }
    // Before anything is made for a client that has no room.
    let fits = |key: ClientKey| {
        let mut more = restricted.clone();
        more.clients.insert(name.to_owned(), key);
        let more = ServiceConfig { restricted_discovery: Some(more), ..service.clone() };
        more.too_many_clients()
            .map_or(Ok(()), |problem| Err(CommandFailure::new(Exit::Configuration, problem)))
    };
    let owner = owner::of_state(&config);
    let file = directory.file_of(name);
    let Some(key) = key else {
        let address = service_address(&config, service)?.ok_or_else(|| no_key(nickname))?;
        let secret = ClientSecret::generate(address);
        let public = secret.public().ok_or_else(|| {
            CommandFailure::new(
                Exit::Failed,
                "no key could be made: the system gives no good chance",
            )
        })?;
        fits(public)?;
        let out = out.map_or_else(|| format!("{name}.auth_private").into(), Path::to_owned);
        secret.write_new(&out)?;
        if let Err(failure) = write(&file, public, owner) {
            // Made here, a moment ago, and of no use.
            let left = fs::remove_file(&out).is_err().then_some(out);
            return Err(failure.leaving(left.as_slice()));
        }
        remark(&format!(
            "{} is for the client and nobody else: C tor reads it in its ClientOnionAuthDir, and \
             Tor Browser asks for what follows `x25519:`. Delete it here once the client has it.",
            out.display()
        ));
        return Ok(writeln!(io::stdout().lock(), "{public}")?);
    };
    fits(key)?;
    write(&file, key, owner)?;
    Ok(writeln!(io::stdout().lock(), "{key}")?)
}

/// Writes the public half to where the daemon finds it.
fn write(file: &Path, key: ClientKey, owner: Option<owner::Owner>) -> Result<(), CommandFailure> {
    let bytes = format!("{key}\n").into_bytes();
    write_one_for(owner, file, bytes, keys::SECRET_MODE)?;
    remark(&format!(
        "{} lets the client in; a running daemon has seen it in a few seconds.",
        file.display()
    ));
    Ok(())
}

/// Prints every client, where it stands, and its public key.
fn list(nickname: &str, files: &[PathBuf]) -> Result<(), CommandFailure> {
    let config = owner::load(files)?;
    let service = service(&config, nickname)?;
    let restricted = restricted(service)?;
    let (read, problems) = restricted.read_again();
    for problem in &problems {
        remark(&format!("Warning: {problem}"));
    }
    let place = |name: &str| match restricted.static_keys.contains_key(name) {
        true => "the configuration".to_owned(),
        false => {
            let files = restricted.key_dirs.iter().map(|it| it.file_of(name));
            let file = files.into_iter().find(|file| file.exists());
            file.map_or_else(String::new, |file| file.display().to_string())
        }
    };
    let rows = read.clients.iter();
    let rows: Vec<_> =
        rows.map(|(name, key)| vec![name.clone(), key.to_string(), place(name)]).collect();
    if rows.is_empty() {
        remark("Nobody: the service is not published.");
        return Ok(());
    }
    Ok(writeln!(io::stdout().lock(), "{}", table("", &rows).trim_end())?)
}

/// Lets a client in no longer.
fn remove(nickname: &str, name: &str, files: &[PathBuf]) -> Result<(), CommandFailure> {
    check_client_name(name).map_err(|problem| CommandFailure::new(Exit::Usage, problem))?;
    let config = owner::load(files)?;
    let service = service(&config, nickname)?;
    let restricted = restricted(service)?;
    if restricted.static_keys.contains_key(name) {
        let text = format!(
            "client \"{name}\" stands in the configuration: take it out of `static_keys` there, and \
             have the daemon reload"
        );
        return Err(CommandFailure::new(Exit::Configuration, text));
    }
    let exposed = |owner: &owner::Owner| {
        let mut files = restricted.key_dirs.iter().map(|it| it.file_of(name));
        files.any(|file| is_there(&file) && may_change(*owner, directory_of(&file)))
    };
    if let Some(owner) = owner::of_state(&config).filter(exposed) {
        // That user could lead root to another file of this name.
        return owner::run_with(owner, &["clients", "remove", nickname, name], &config, &[])
            .map(drop);
    }
    let _turn = restricted.key_dirs.first().map(|it| turn::take(&it.path)).transpose()?;
    // What another command has done meanwhile counts.
    let (restricted, _) = restricted.read_again();
    let mut removed = false;
    for file in restricted.key_dirs.iter().map(|it| it.file_of(name)).filter(|it| is_there(it)) {
        match hand_over::remove(&file) {
            Ok(true) => {
                removed = true;
                remark(&format!("{} is removed.", file.display()));
            }
            Ok(false) => {}
            Err(error) => {
                let text = format!("{} cannot be removed: {error}", file.display());
                return Err(CommandFailure::new(exit_of(&error), text));
            }
        }
    }
    if !removed {
        let text = format!("service \"{nickname}\" has no client \"{name}\"");
        return Err(CommandFailure::new(Exit::Usage, text));
    }
    let key = restricted.clients.get(name);
    let (read, _) = restricted.read_again();
    if let Some((other, _)) = read.clients.iter().find(|(_, it)| Some(*it) == key) {
        remark(&format!("Warning: client \"{other}\" has the same key, which lets both in still."));
    }
    if read.clients.is_empty() {
        remark("Warning: nobody is left, so the service is published no longer.");
    }
    if !service.backends.is_empty() {
        remark(
            "The client still knows introduction points of backends elsewhere: restart those, or \
             restrict them too (`client_key`).",
        );
    }
    Ok(())
}

/// Whether something has this name, be it a link that leads nowhere.
fn is_there(file: &Path) -> bool {
    file.symlink_metadata().is_ok()
}

fn restricted(service: &ServiceConfig) -> Result<&RestrictedDiscovery, CommandFailure> {
    service.restricted_discovery.as_ref().ok_or_else(|| {
        let nickname = &service.nickname;
        let text = format!(
            "everybody who knows the address may find service \"{nickname}\": to let clients in \
             alone, write\n\n    [onion_services.\"{nickname}\".restricted_discovery]\n    enabled = \
             true\n    key_dirs = [{{ path = \"clients/{nickname}\" }}]\n\nand make that directory"
        );
        CommandFailure::new(Exit::Configuration, text)
    })
}

/// The directory for new clients.
fn directory<'a>(
    service: &ServiceConfig,
    restricted: &'a RestrictedDiscovery,
) -> Result<&'a KeyDir, CommandFailure> {
    restricted.key_dirs.first().ok_or_else(|| {
        let text = format!(
            "restricted_discovery of service \"{}\" names no directory: add key_dirs = [{{ path = \
             \"...\" }}], or write the client into `static_keys`",
            service.nickname
        );
        CommandFailure::new(Exit::Configuration, text)
    })
}

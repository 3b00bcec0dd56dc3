//! `onionbraid check`: is the configuration right, and what would run?
//!
//! Reads files and keys, makes nothing, does not use the network; unless it is
//! told to, and then it asks every backend through Tor.

mod advice;
mod online;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use super::{Failure, finish};
use crate::config::{Config, Environment, ServiceConfig};
use crate::exit::Exit;
use crate::onion::OnionAddress;
use crate::tor::keys::{self, Keys};

use online::Asked;

/// Checks the configuration that lies in `files`, or in the usual places; with
/// `online` also whether every backend answers.
pub fn check(files: &[PathBuf], online: bool) -> ExitCode {
    finish(write_check(files, online, &Environment::of_process(), &mut io::stdout().lock()))
}

fn write_check(
    files: &[PathBuf],
    online: bool,
    env: &Environment,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let config = Config::load(files, env)?;
    write_whole(&config, out)?;
    let keys = keys::open_existing(&config.storage)?;
    let mut asked = Vec::new();
    let mut without_key = Vec::new();
    for service in &config.services {
        let address = address(service, keys.as_ref())?;
        write_service(service, address, out)?;
        match address {
            _ if !service.enabled => {}
            Some(address) => asked.push(Asked { service, address }),
            None => without_key.push(service.nickname.to_string()),
        }
    }
    if !config.storage.explicit && !config.files.is_empty() {
        writeln!(
            out,
            "The files name no [storage] state_dir, so the keys are onionbraid's own: a service \
             that arti ran before\nhas another address here, unless state_dir names arti's \
             directory.\n"
        )?;
    }
    for warning in &config.warnings {
        writeln!(out, "warning: {warning}")?;
    }
    writeln!(out, "The configuration is good.")?;
    if !online {
        return Ok(());
    }
    out.flush()?;
    if !asked.is_empty() {
        online::check(&config, &asked, out)?;
    }
    match without_key.first() {
        None => Ok(()),
        Some(nickname) => {
            let text = format!(
                "service \"{nickname}\" has no key and so no address yet: run it once, then its \
                 backends can be asked"
            );
            Err(Failure::new(Exit::Failed, text))
        }
    }
}

fn address(service: &ServiceConfig, keys: Option<&Keys>) -> Result<Option<OnionAddress>, Failure> {
    let Some(keys) = keys else { return Ok(None) };
    let address = keys.identity(&service.nickname)?.as_ref().map(keys::address);
    let itself = service.backends.iter().find(|backend| Some(backend.address) == address);
    match itself {
        Some(backend) => Err(Failure::new(
            Exit::Configuration,
            format!(
                "service \"{}\" lists itself as its backend \"{}\": a backend has an address of \
                 its own",
                service.nickname, backend.name
            ),
        )),
        None => Ok(address),
    }
}

fn write_whole(config: &Config, out: &mut impl Write) -> io::Result<()> {
    match config.files.as_slice() {
        [] => writeln!(out, "configuration: none, so the built-in welcome page is served")?,
        files => {
            for file in files {
                writeln!(out, "configuration: {}", file.display())?;
            }
        }
    }
    writeln!(out, "state:         {}", config.storage.state_dir.display())?;
    writeln!(out, "cache:         {}", config.storage.cache_dir.display())?;
    writeln!(out, "admin:         {}\n", config.admin)
}

fn write_service(
    service: &ServiceConfig,
    address: Option<OnionAddress>,
    out: &mut impl Write,
) -> io::Result<()> {
    let disabled = if service.enabled { "" } else { " (disabled)" };
    writeln!(out, "service \"{}\"{disabled}", service.nickname)?;
    match address {
        Some(address) => writeln!(out, "    address {address}")?,
        None if service.enabled => {
            writeln!(out, "    address: a new key and address will be made at the first run")?;
        }
        None => writeln!(out, "    address: none yet")?,
    }
    if service.local_instances > 0 {
        writeln!(
            out,
            "    local instances: {}, with {} introduction points each",
            service.local_instances, service.num_intro_points
        )?;
        for rule in &service.proxy_ports.0 {
            writeln!(out, "    {rule}")?;
        }
    }
    for backend in &service.backends {
        let weight = backend.weight;
        writeln!(out, "    backend {}: {} (weight {weight})", backend.name, backend.address)?;
    }
    writeln!(out)
}

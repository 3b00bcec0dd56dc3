//! `onionbraid kubernetes`: a Kustomize directory of two publishers and some backends
//! of one address, with their keys.
//!
//! Everything is looked at before anything is written. Keys are never written over;
//! other files only where that is asked for.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::hand_over::{NewFile, write_before};
use super::keys::owner;
use super::new_file::{self, unwritable};
use super::{CommandFailure, exists, finish, protect_memory, remark};
use crate::cli::KubernetesArgs;
use crate::config::{Config, Environment};
use crate::exit::Exit;
use crate::kubernetes::reach::Reach;
use crate::kubernetes::{self, CONFIGURATIONS, Deployment, KEYS};
use crate::tor::keys;
use onionbraid_balancer::onion::OnionAddress;
use onionbraid_proxy::rules::{Origin, ProxyTarget};

mod before;
mod slot_key;

use slot_key::{New, SlotKey, held};

/// Writes the directory and prints the address.
pub fn kubernetes(args: &KubernetesArgs) -> ExitCode {
    finish(write(args).and_then(|address| Ok(writeln!(io::stdout().lock(), "{address}")?)))
}

fn write(args: &KubernetesArgs) -> Result<OnionAddress, CommandFailure> {
    let KubernetesArgs { service, out, .. } = args;
    kubernetes::check(service, &args.image)
        .map_err(|text| CommandFailure::new(Exit::Usage, text))?;
    protect_memory();
    let below = |name: &str| out.join(KEYS).join(name);
    let given = match &args.key {
        None => None,
        Some(path) => Some(keys::read_secret(path, &owner::mistrust(path)?)?),
    };
    let front = held(below(service), given)?;
    let slots = (0..usize::from(args.slots))
        .map(|slot| held(below(&kubernetes::pod(service, slot)), None))
        .collect::<Result<Vec<_>, CommandFailure>>()?;
    before::same(out, &front, &slots)?;
    let addresses: Vec<OnionAddress> = slots.iter().map(|slot| slot.address).collect();
    let mut deployment = Deployment {
        service,
        address: front.address,
        slots: &addresses,
        target: &args.to,
        reach: &Reach::Open,
        image: &args.image,
        service_monitor: args.service_monitor,
    };
    let reach = check(&deployment.files())?;
    deployment.reach = &reach;
    let files = deployment.files();
    match args.force {
        true => replaceable(out, &files)?,
        false => unchanged(out, &files)?,
    }

    let private = out.join(KEYS);
    let address = front.address;
    let mut keys = Vec::new();
    let mut made = 0;
    for SlotKey { directory, new, .. } in std::iter::once(front).chain(slots) {
        let Some(New::Given(key) | New::Made(key)) = new else { continue };
        let name = PathBuf::from(directory.file_name().unwrap_or_default());
        keys.extend(NewFile::of_ctor(&name, &key));
        made += 1;
    }
    write_before(None, &private, keys, || put(out, &files))?;
    let target = &args.to;
    if let Some(rest) = target.strip_prefix("file:").or_else(|| unix_path(target)) {
        remark(&format!(
            "Warning: --to {target} is a place in the container, and these manifests mount nothing \
             there: add a volume for {rest} to backends.yaml{}.",
            if rest.starts_with('/') { "" } else { ", and name it with a path from / on" }
        ));
    }
    if let Some(text) = reach.remark(service) {
        remark(&text);
    }
    remark(&format!(
        "{} is ready for `kubectl apply -k`. New keys: {made} of {}. Whoever has {} has the address.",
        out.display(),
        addresses.len() + 1,
        private.display()
    ));
    Ok(address)
}

/// Writes the other files, all or none: each beside its place first.
fn put(out: &Path, files: &[(&'static str, String)]) -> Result<(), CommandFailure> {
    let mut written = Vec::new();
    for (name, text) in files {
        let path = out.join(name);
        let mut file = new_file::begin(&path, 0o666)?;
        let outcome = file.as_file_mut().write_all(text.as_bytes());
        outcome.and_then(|()| file.as_file().sync_all()).map_err(|e| unwritable(&path, e))?;
        let is_new = path.symlink_metadata().is_err();
        written.push((file, path, is_new));
    }
    let mut named: Vec<PathBuf> = Vec::new();
    for (file, path, is_new) in written {
        if let Err(error) = file.persist(&path) {
            let left = named.into_iter().filter(|path| fs::remove_file(path).is_err());
            let left: Vec<PathBuf> = left.collect();
            return Err(unwritable(&path, error.error.kind().into()).leaving(&left));
        }
        named.extend(is_new.then_some(path));
    }
    Ok(())
}

/// The path of a Unix socket among targets.
fn unix_path(target: &str) -> Option<&str> {
    target.strip_prefix("unix:").or_else(|| target.strip_prefix("http+unix:"))
}

/// Whether the daemons will take their configurations, and how the backends then come to
/// their web server.
fn check(files: &[(&'static str, String)]) -> Result<Reach, CommandFailure> {
    let environment = Environment::new([("HOME", "/nonexistent")]);
    let mut reach = Reach::Open;
    for (_, text) in files.iter().filter(|(name, _)| CONFIGURATIONS.contains(name)) {
        for service in Config::from_text(text, &environment)?.services {
            if let Some(origin) = origin(service.proxy_ports.target(80)) {
                reach = Reach::of(origin);
            }
        }
    }
    Ok(reach)
}

/// The one server that `--to` can name.
fn origin(target: &ProxyTarget) -> Option<&Origin> {
    match target {
        ProxyTarget::Forward(target) => target.origins.first(),
        ProxyTarget::Http(target) => target.origins.first().map(|origin| &origin.address),
        _ => None,
    }
}

/// Refuses to write over what somebody has changed.
fn unchanged(out: &Path, files: &[(&'static str, String)]) -> Result<(), CommandFailure> {
    let differs = |(name, text): &&(&'static str, String)| {
        let path = out.join(name);
        path.symlink_metadata().is_ok() && !new_file::holds(&path, text)
    };
    let names: Vec<&str> = files.iter().filter(differs).map(|(name, _)| *name).collect();
    if names.is_empty() {
        return Ok(());
    }
    let text = format!(
        "{} has other files already: {}. Nothing has been written; --force writes them anew and \
         keeps the keys",
        out.display(),
        names.join(", ")
    );
    Err(CommandFailure::new(Exit::Failed, text))
}

/// Refuses where a directory has the name of a file.
fn replaceable(out: &Path, files: &[(&'static str, String)]) -> Result<(), CommandFailure> {
    let mut paths = files.iter().map(|(name, _)| out.join(name));
    let directory = paths.find(|path| path.symlink_metadata().is_ok_and(|found| found.is_dir()));
    directory.map_or(Ok(()), |path| Err(exists(&path)))
}

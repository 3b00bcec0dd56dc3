//! `onionbraid import`: an arti.toml from another system's files.
//!
//! What there is in them, `import` decides; here files are read, keys copied and
//! the result written. Standard output has the new file alone; what was decided
//! and what has no equivalent goes to standard error and into the file. Nothing
//! that exists is ever overwritten.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::keys::owner;
use super::{Failure, exists, finish, protect_memory, remark};
use crate::cli::{ImportCommand, ImportOutput};
use crate::config::{Config, Environment};
use crate::exit::{Exit, exit_of};
use crate::import::draft::{Draft, DraftService};
use crate::import::{Faults, ImportFiles, Kind, Unreadable, onionbalance, onionspray, torrc};
use crate::tor::keys::{self, Format, IdentityKey, KeyFileError};
use onionbraid_balancer::onion::OnionAddress;

/// The longest configuration file that is read, in bytes.
const LONGEST: u64 = 4 * 1024 * 1024;

/// Reads the files, and writes the new one.
pub fn import(command: &ImportCommand) -> ExitCode {
    finish(write(command))
}

fn write(command: &ImportCommand) -> Result<(), Failure> {
    let (path, output) = match command {
        ImportCommand::Onionbalance { path, output }
        | ImportCommand::Torrc { path, output }
        | ImportCommand::Onionspray { path, output } => (path, output),
    };
    if let Some(out) = output.out.as_ref().filter(|out| out.symlink_metadata().is_ok()) {
        return Err(exists(out));
    }
    // The keys are read to prove their addresses.
    protect_memory();
    let disk = Disk { copying: output.copy_keys.is_some() };
    let draft = match command {
        ImportCommand::Onionbalance { .. } => {
            let file = in_directory(path, "config.yaml");
            let text = match disk.text(&file) {
                Ok(Some(text)) => text,
                Ok(None) => {
                    let text = format!("{}: there is no such file", file.display());
                    return Err(Failure::new(Exit::Configuration, text));
                }
                Err(error) => {
                    let exit = if error.denied { Exit::Permission } else { Exit::Configuration };
                    return Err(Failure::new(exit, error.to_string()));
                }
            };
            onionbalance::import(&text, &file, &disk)
        }
        ImportCommand::Torrc { .. } => torrc::import(&in_directory(path, "torrc"), &disk),
        ImportCommand::Onionspray { .. } => onionspray::import(path, &disk),
    };
    let draft = draft.map_err(Failure::from)?;
    let copies = copies(&draft, output, &disk)?;
    let text = draft.to_text(|service| {
        let path = copies.get(&service.nickname).unwrap_or(&service.key);
        std::path::absolute(path).unwrap_or_else(|_| path.clone())
    });
    // Whatever the old files hold, the new one is right.
    Config::from_text(&text, &Environment::of_process()).map_err(|errors| {
        let text = format!(
            "what is in these files makes no good configuration: change it there\n\n{errors}\n\nThe \
             file would be\n\n{text}"
        );
        Failure::new(Exit::Configuration, text)
    })?;
    copy(&draft, &copies, output, &disk)?;
    match &output.out {
        None => io::stdout().lock().write_all(text.as_bytes())?,
        Some(out) => write_new(out, &text)?,
    }
    summary(&draft, &copies, output);
    Ok(())
}

/// A directory may be named in the place of the file in it.
fn in_directory(path: &Path, name: &str) -> PathBuf {
    if path.is_dir() { path.join(name) } else { path.to_owned() }
}

fn write_new(out: &Path, text: &str) -> Result<(), Failure> {
    let open = OpenOptions::new().write(true).create_new(true).open(out);
    let written = open.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => exists(out),
        _ => Failure::new(exit_of(&error), format!("{} cannot be written: {error}", out.display())),
    })
}

/// Where the keys go, by nickname, if they are copied.
fn copies(
    draft: &Draft,
    output: &ImportOutput,
    disk: &Disk,
) -> Result<BTreeMap<String, PathBuf>, Failure> {
    let Some(directory) = &output.copy_keys else { return Ok(BTreeMap::new()) };
    let path =
        |service: &DraftService| (service.nickname.clone(), directory.join(&service.nickname));
    let copies: BTreeMap<_, _> = draft.services.iter().map(path).collect();
    for (service, path) in draft.services.iter().filter_map(|s| Some((s, copies.get(&s.nickname)?)))
    {
        if path.symlink_metadata().is_ok() {
            // A second try finds what the first has copied.
            let there = disk.key(path)?.address();
            if there != service.address {
                return Err(KeyFileError::Exists(path.clone()).into());
            }
        }
    }
    Ok(copies)
}

/// Copies the keys; after an error, none of them is left.
fn copy(
    draft: &Draft,
    copies: &BTreeMap<String, PathBuf>,
    output: &ImportOutput,
    disk: &Disk,
) -> Result<(), Failure> {
    let Some(directory) = &output.copy_keys else { return Ok(()) };
    let failed = |error: io::Error| {
        let text = format!("{} cannot be made: {error}", directory.display());
        Failure::new(exit_of(&error), text)
    };
    let mut new = Vec::new();
    let owner = owner_for(directory);
    if !directory.is_dir() {
        std::fs::DirBuilder::new().mode(0o700).create(directory).map_err(failed)?;
        hand_over(directory, owner);
    }
    for (service, path) in draft.services.iter().filter_map(|s| Some((s, copies.get(&s.nickname)?)))
    {
        if path.is_dir() {
            continue;
        }
        let key = disk.key(&service.key);
        let copied = key.and_then(|key| keys::write_new(path, &key, Format::Ctor));
        if let Err(error) = copied {
            for made in new {
                // Made here, a moment ago. The first error is the one to tell.
                let _ = std::fs::remove_dir_all(made);
            }
            return Err(error.into());
        }
        for entry in path.read_dir().into_iter().flatten().flatten() {
            hand_over(&entry.path(), owner);
        }
        hand_over(path, owner);
        new.push(path);
    }
    Ok(())
}

/// Whose the copies are to be, where root makes them: the owner of the directory
/// that they go into.
fn owner_for(directory: &Path) -> Option<(u32, u32)> {
    let directory = std::path::absolute(directory).ok()?;
    let there = directory.ancestors().find_map(|path| path.metadata().ok())?;
    (owner::is_root() && there.uid() != 0).then_some((there.uid(), there.gid()))
}

fn hand_over(path: &Path, owner: Option<(u32, u32)>) {
    if let Some((uid, gid)) = owner
        && let Err(error) = std::os::unix::fs::chown(path, Some(uid), Some(gid))
    {
        remark(&format!("{} stays with root: {error}", path.display()));
    }
}

/// What the operator has to know.
fn summary(draft: &Draft, copies: &BTreeMap<String, PathBuf>, output: &ImportOutput) {
    for service in &draft.services {
        let DraftService { nickname, address, key, .. } = service;
        remark(&format!("service \"{nickname}\": {address}, by the key in {}", key.display()));
        if let Some(copy) = copies.get(nickname) {
            remark(&format!("    copied to {}", copy.display()));
        }
    }
    for note in draft.notes() {
        remark(&note.to_string());
    }
    let count = draft.notes().filter(|note| note.kind == Kind::Warning).count();
    if count > 0 {
        remark(&format!(
            "WARNING marks what protects the service less than before: {count} in all."
        ));
    }
    let file = output.out.as_ref().map_or("FILE".to_owned(), |out| out.display().to_string());
    remark(&format!(
        "Now look at `onionbraid check -c {file}`. What published these addresses before must not \
         run together with onionbraid: the two would replace each other's descriptors."
    ));
}

/// The files of this machine.
struct Disk {
    /// Whether keys are copied: then those of other users will do.
    copying: bool,
}

impl Disk {
    fn key(&self, path: &Path) -> Result<IdentityKey, KeyFileError> {
        let of = if self.copying { path } else { Path::new("/") };
        let mistrust = owner::mistrust(of).map_err(|_| KeyFileError::Missing(path.to_owned()))?;
        keys::read_secret(path, &mistrust)
    }
}

impl ImportFiles for Disk {
    fn text(&self, path: &Path) -> Result<Option<String>, Unreadable> {
        let told = |reason: &str| Unreadable {
            path: path.to_owned(),
            reason: reason.to_owned(),
            denied: false,
        };
        let metadata = match path.metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            metadata => metadata.map_err(|error| unreadable(path, &error))?,
        };
        // What is no file, such as a pipe, could keep us waiting.
        if !metadata.is_file() {
            return Err(told("it is no ordinary file"));
        }
        if metadata.len() > LONGEST {
            return Err(told("it is longer than 4 MiB"));
        }
        let bytes = std::fs::read(path).map_err(|error| unreadable(path, &error))?;
        // Comments in another encoding are no reason to refuse a file.
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }

    fn list(&self, path: &Path) -> Result<Option<Vec<String>>, Unreadable> {
        let here = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let entries = match here.read_dir() {
            Err(error) => {
                use io::ErrorKind::{NotADirectory, NotFound};
                return match error.kind() {
                    NotFound | NotADirectory => Ok(None),
                    _ => Err(unreadable(path, &error)),
                };
            }
            Ok(entries) => entries,
        };
        let mut names: Vec<String> =
            entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        Ok(Some(names))
    }

    fn address(&self, path: &Path) -> Result<OnionAddress, String> {
        match self.key(path) {
            Ok(key) => Ok(key.address()),
            Err(error) => {
                let other_user = matches!(error, KeyFileError::Owner { .. }) && owner::is_root();
                let mut text = format!("{:#}", anyhow::Error::from(error));
                if other_user {
                    text.push_str("; or give --copy-keys DIR, which copies it");
                }
                Err(text)
            }
        }
    }

    fn home(&self) -> Option<PathBuf> {
        std::env::home_dir().filter(|home| home.is_absolute())
    }
}

fn unreadable(path: &Path, error: &io::Error) -> Unreadable {
    let denied = exit_of(error) == Exit::Permission;
    let reason = match denied {
        true => "the system does not let this user read it".to_owned(),
        false => error.to_string(),
    };
    Unreadable { path: path.to_owned(), reason, denied }
}

impl From<Faults> for Failure {
    fn from(faults: Faults) -> Self {
        let exit = match faults.0.iter().all(|fault| fault.key) {
            true => Exit::Permission,
            false => Exit::Configuration,
        };
        let count = match faults.0.len() {
            1 => "nothing was imported".to_owned(),
            count => format!("nothing was imported, for {count} reasons"),
        };
        Self::new(exit, format!("{count}\n\n{faults}"))
    }
}

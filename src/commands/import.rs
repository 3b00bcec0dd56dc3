//! `onionbraid import`: an arti.toml from another system's files.
//!
//! What there is in them, `import` decides; here files are read, keys copied and
//! the result written. Standard output has the new file alone; what was decided
//! and what has no equivalent goes to standard error and into the file. Nothing
//! that exists is ever overwritten.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use tempfile::NamedTempFile;

use super::hand_over::{NewFile, write_as, write_before};
use super::keys::owner;
use super::new_file::{self, unwritable};
use super::{CommandFailure, exists, finish, protect_memory, remark};
use crate::cli::{ImportCommand, ImportOutput};
use crate::config::{Config, ConfigError, Environment};
use crate::exit::{Exit, exit_of};
use crate::import::draft::{Draft, DraftService};
use crate::import::{Faults, ImportFiles, LineFate, Unreadable, onionbalance, onionspray, torrc};
use crate::tor::keys::{self, IdentityKey, KeyFileError};
use onionbraid_balancer::onion::OnionAddress;

/// The longest configuration file that is read, in bytes.
const LONGEST: u64 = 4 * 1024 * 1024;

/// Reads the files, and writes the new one.
pub fn import(command: &ImportCommand) -> ExitCode {
    finish(write(command))
}

fn write(command: &ImportCommand) -> Result<(), CommandFailure> {
    let (path, output) = match command {
        ImportCommand::Onionbalance { path, output }
        | ImportCommand::Torrc { path, output }
        | ImportCommand::Onionspray { path, output } => (path, output),
    };
    let place = output.out.as_deref().map(OutputPlace::of).transpose()?;
    // The keys are read to prove their addresses.
    protect_memory();
    let disk = Disk { copying: output.copy_keys.is_some() };
    let draft = match command {
        ImportCommand::Onionbalance { .. } => {
            let file = in_directory(path, "config.yaml");
            let missing = || CommandFailure::new(Exit::Configuration, there_is_no(&file));
            let text = disk.text(&file).map_err(CommandFailure::from)?.ok_or_else(missing)?;
            onionbalance::import(&text, &file, &disk)
        }
        ImportCommand::Torrc { .. } => torrc::import(&in_directory(path, "torrc"), &disk),
        ImportCommand::Onionspray { .. } => onionspray::import(path, &disk),
    };
    let draft = draft.map_err(CommandFailure::from)?;
    let copies = copies(&draft, output, &disk)?;
    let paths = key_paths(&draft, &copies, &disk)?;
    let path = |service: &DraftService| paths.get(&service.nickname).cloned();
    let mut text = draft.to_text(|service| path(service).unwrap_or_default());
    if place.as_ref().is_some_and(OutputPlace::is_packages) {
        text.push_str(packages_directories());
    }
    good(&draft, &text)?;
    match (&output.out, place) {
        (Some(out), Some(place)) => {
            // Before any key is copied it is clear that the file can be written, unless
            // its directory is the one that is made for the keys.
            let written = match is_made_for_keys(out, output) {
                true => None,
                false => Some(place.write(out, &text)?),
            };
            copy(&draft, &copies, output, &disk, || {
                let file = written.map_or_else(|| place.write(out, &text), Ok)?;
                match place.untouched {
                    true => new_file::replace(file, out, PACKAGES_FILE),
                    false => new_file::put(file, out),
                }
            })?;
        }
        _ => copy(&draft, &copies, output, &disk, || {
            let mut stdout = io::stdout().lock();
            Ok(stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush())?)
        })?,
    }
    summary(&draft, &copies, output);
    Ok(())
}

/// Whether the new file is a good one, whatever the old files hold.
fn good(draft: &Draft, text: &str) -> Result<(), CommandFailure> {
    // Where its state will be does not matter to that.
    let mut environment = Environment::of_process();
    environment.variables.entry("HOME".into()).or_insert_with(|| "/nonexistent".into());
    let Err(errors) = Config::from_text(text, &environment) else { return Ok(()) };
    let told = |error: &ConfigError| {
        let place = error.line().and_then(|line| draft.place_of(text, line));
        let place = place.map_or_else(String::new, |place| format!("{place}: "));
        format!("{place}{}", error.without_place())
    };
    let errors: Vec<String> = errors.0.iter().map(told).collect();
    let text = format!(
        "what is in these files makes no good configuration: change it there\n\n{}\nThe file would \
         be\n\n{text}",
        errors.join("\n")
    );
    Err(CommandFailure::new(Exit::Configuration, text))
}

/// The permissions of a new configuration file, which the umask lessens.
const FILE_MODE: u32 = 0o666;

/// The file that the packages install.
const PACKAGES_FILE: &str = include_str!("../../packaging/etc/arti.toml");

/// Its tables with the directories that the unit makes.
fn packages_directories() -> &'static str {
    let at = PACKAGES_FILE.find("\n# The directories that the unit makes.").unwrap_or(0);
    &PACKAGES_FILE[at..]
}

/// The place of the new file.
struct OutputPlace {
    /// It is that of the unit's file.
    is_units: bool,
    /// The packages' own file is there, as they installed it.
    untouched: bool,
}

impl OutputPlace {
    /// What may be done there.
    fn of(out: &Path) -> Result<Self, CommandFailure> {
        let untouched = new_file::holds(out, PACKAGES_FILE);
        if !untouched && out.symlink_metadata().is_ok() {
            return Err(exists(out));
        }
        let units = Environment::of_process().system_file;
        let is_units = std::path::absolute(out).is_ok_and(|whole| whole == units);
        Ok(Self { is_units, untouched })
    }

    /// Whether the daemon that reads it runs as the packages' unit has it.
    fn is_packages(&self) -> bool {
        self.untouched || self.is_units
    }

    /// The file with this text, not in its place yet. What takes another one's has the
    /// permissions of that in the end.
    fn write(&self, out: &Path, text: &str) -> Result<NamedTempFile, CommandFailure> {
        let mode = if self.untouched { 0o600 } else { FILE_MODE };
        let mut file = new_file::begin(out, mode)?;
        let written = file.as_file_mut().write_all(text.as_bytes());
        written.map_err(|error| unwritable(out, error))?;
        Ok(file)
    }
}

/// Whether the file goes into a directory that comes with the first key.
fn is_made_for_keys(out: &Path, output: &ImportOutput) -> bool {
    let directory = new_file::directory_of(out);
    let same =
        |keys: &PathBuf| std::path::absolute(keys).ok() == std::path::absolute(directory).ok();
    output.copy_keys.as_ref().is_some_and(same) && !directory.exists()
}

/// A directory may be named in the place of the file in it.
fn in_directory(path: &Path, name: &str) -> PathBuf {
    if path.is_dir() { path.join(name) } else { path.to_owned() }
}

fn there_is_no(file: &Path) -> String {
    format!("{}: there is no such file", file.display())
}

impl From<Unreadable> for CommandFailure {
    fn from(unreadable: Unreadable) -> Self {
        let exit = if unreadable.denied { Exit::Permission } else { Exit::Configuration };
        Self::new(exit, unreadable.to_string())
    }
}

/// Where the keys go, by nickname, if they are copied.
fn copies(
    draft: &Draft,
    output: &ImportOutput,
    disk: &Disk,
) -> Result<BTreeMap<String, PathBuf>, CommandFailure> {
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

/// The paths of the keys as the new file has them, by nickname.
fn key_paths(
    draft: &Draft,
    copies: &BTreeMap<String, PathBuf>,
    disk: &Disk,
) -> Result<BTreeMap<String, String>, CommandFailure> {
    let path = |service: &DraftService| {
        let path = disk.absolute(copies.get(&service.nickname).unwrap_or(&service.key))?;
        let text = path.to_str().map(|path| (service.nickname.clone(), path.to_owned()));
        text.ok_or_else(|| {
            let text = format!(
                "{}: {} is not UTF-8, as every path in the new file has to be: rename what is called \
                 so, or give --copy-keys DIR, which copies the keys to another place",
                service.place,
                path.display()
            );
            CommandFailure::new(Exit::Configuration, text)
        })
    };
    draft.services.iter().map(path).collect()
}

/// Copies the keys, and then does something else; after an error in either, none of them
/// is left. They are the owner's of the directory that they go into, where root copies
/// them.
fn copy(
    draft: &Draft,
    copies: &BTreeMap<String, PathBuf>,
    output: &ImportOutput,
    disk: &Disk,
    then: impl FnOnce() -> Result<(), CommandFailure>,
) -> Result<(), CommandFailure> {
    let Some(directory) = &output.copy_keys else { return then() };
    // The directory may be made, not those above it.
    let (base, below) = match directory.is_dir() {
        true => (directory.as_path(), PathBuf::new()),
        false => {
            let name = directory.file_name().map(PathBuf::from).unwrap_or_default();
            (new_file::directory_of(directory), name)
        }
    };
    base.metadata().map_err(|error| {
        let text = format!("{} cannot be made: {error}", directory.display());
        CommandFailure::new(exit_of(&error), text)
    })?;
    let mut files = Vec::new();
    for (service, path) in draft.services.iter().filter_map(|s| Some((s, copies.get(&s.nickname)?)))
    {
        if path.is_dir() {
            continue;
        }
        let directory = below.join(&service.nickname);
        files.extend(NewFile::of_ctor(&directory, &disk.key(&service.key)?));
    }
    match owner::of_existing(base) {
        _ if files.is_empty() => then(),
        Some(owner) => write_as(owner, base, files, then),
        None => write_before(None, base, files, then),
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
    let count = draft.notes().filter(|note| note.kind == LineFate::Warning).count();
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

fn unreadable(path: &Path, error: &io::Error) -> Unreadable {
    let denied = exit_of(error) == Exit::Permission;
    let reason = match denied {
        true => "the system does not let this user read it".to_owned(),
        false => error.to_string(),
    };
    Unreadable { path: path.to_owned(), reason, denied }
}

/// The files of this machine.
struct Disk {
    /// Whether keys are copied: then those of other users will do.
    copying: bool,
}

impl Disk {
    fn key(&self, path: &Path) -> Result<IdentityKey, KeyFileError> {
        let of = if self.copying { path } else { Path::new("/") };
        let mistrust = owner::mistrust(of).map_err(|failure| KeyFileError::Read {
            path: path.to_owned(),
            cause: Arc::new(io::Error::other(failure.text)),
        })?;
        keys::read_secret(path, &mistrust)
    }
}

impl ImportFiles for Disk {
    fn text(&self, path: &Path) -> Result<Option<String>, Unreadable> {
        let told = |error: &dyn std::fmt::Display| Unreadable {
            path: path.to_owned(),
            reason: error.to_string(),
            denied: false,
        };
        let failed = |error: io::Error| unreadable(path, &error);
        let metadata = match path.metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            metadata => metadata.map_err(failed)?,
        };
        // What is no file, such as a pipe, could keep us waiting.
        if !metadata.is_file() {
            return Err(told(&"it is no ordinary file"));
        }
        if metadata.len() > LONGEST {
            return Err(told(&"it is longer than 4 MiB"));
        }
        let bytes = std::fs::read(path).map_err(failed)?;
        // Comments in another encoding are no reason to refuse a file; who reads values
        // refuses what is put in the place of other bytes.
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }

    fn list(&self, path: &Path) -> Result<Option<Vec<OsString>>, Unreadable> {
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
        let names = entries.map(|entry| entry.map(|entry| entry.file_name()));
        let names: Result<Vec<OsString>, io::Error> = names.collect();
        let mut names = names.map_err(|error| unreadable(path, &error))?;
        names.sort();
        Ok(Some(names))
    }

    fn is_there(&self, path: &Path) -> Result<bool, Unreadable> {
        use io::ErrorKind::{NotADirectory, NotFound};
        match path.symlink_metadata() {
            Ok(_) => Ok(true),
            Err(error) if matches!(error.kind(), NotFound | NotADirectory) => Ok(false),
            Err(error) => Err(unreadable(path, &error)),
        }
    }

    fn absolute(&self, path: &Path) -> Result<PathBuf, Unreadable> {
        // Only the working directory can be at fault.
        std::path::absolute(path).map_err(|error| unreadable(Path::new("."), &error))
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

impl From<Faults> for CommandFailure {
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

//! `onionbraid restore`: brings a backup back, or shows what is in it.
//!
//! Standard output has a line for each file: what it is, its path, and the address of
//! a key. Everything is read and checked before anything is written.

use std::fmt::Write as _;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use age::Identity;
use zeroize::Zeroizing;

use super::keys::owner;
use super::{CommandFailure, finish, passphrase, protect_memory, remark};
use crate::backup::collect::plain;
use crate::backup::contents::{Backup, FileEntry, FileKind};
use crate::backup::destination::{self, Destinations, Elsewhere};
use crate::backup::place::{PlaceError, place};
use crate::backup::seal::{self, OpenError, Sealed};
use crate::causes::in_one_line;
use crate::cli::RestoreArgs;
use crate::config::Environment;
use crate::exit::{Exit, exit_of};

/// In the place of a path: standard input.
const STANDARD_INPUT: &str = "-";

/// The longest file of identities, in bytes.
const LONGEST_IDENTITIES: u64 = 1024 * 1024;

/// Brings the files back, or lists them.
pub fn restore(args: &RestoreArgs) -> ExitCode {
    finish(bring_back(args))
}

fn bring_back(args: &RestoreArgs) -> Result<(), CommandFailure> {
    protect_memory();
    let backup = open(args)?;
    if args.list {
        let lines = format!("made {}\n{}", backup.manifest.made, listed(&backup, Path::new("/")));
        return Ok(io::stdout().lock().write_all(lines.as_bytes())?);
    }
    if let Some(directory) = &args.into {
        let directory = plain(directory);
        if directory.symlink_metadata().is_ok() {
            return Err(PlaceError::InTheWay(vec![directory]).into());
        }
        place(&destination::below(&directory, &backup))?;
        return Ok(io::stdout().lock().write_all(listed(&backup, &directory).as_bytes())?);
    }
    let state_dir = Path::new(&backup.manifest.state_dir);
    let owner = owner::of_directory(state_dir);
    let owned = owner.map(|owner| (owner.user, owner.group));
    let placements = destinations(args).of(&backup, owned)?;
    owner::warning_of_roots(state_dir, || place(&placements))?;
    io::stdout().lock().write_all(listed(&backup, Path::new("/")).as_bytes())?;
    let files: String = backup.manifest.configuration().map(|file| format!(" -c {file}")).collect();
    remark(&format!("Now look at `onionbraid check{files}`."));
    remark(
        "The machine that had these keys must not publish the addresses any more once this one \
         runs: the two would replace each other's descriptors.",
    );
    Ok(())
}

/// Reads the backup and opens it.
fn open(args: &RestoreArgs) -> Result<Backup, CommandFailure> {
    let path = args.backup.display();
    let bytes = read(&args.backup, seal::LONGEST)?;
    let failed = |error: OpenError| {
        let exit = match error {
            OpenError::Passphrase | OpenError::Identity => Exit::Permission,
            _ => Exit::Failed,
        };
        CommandFailure::new(exit, format!("{path}: {}", in_one_line(&error)))
    };
    let sealed = Sealed::new(bytes.as_slice()).map_err(failed)?;
    let opened = match (sealed.has_passphrase(), args.identity.as_slice()) {
        (true, []) => {
            let passphrase = passphrase::known(args.passphrase_file.as_deref())?;
            sealed.open_with_passphrase(passphrase)
        }
        (true, _) => {
            let text = format!("{path}: a passphrase opens it, no --identity");
            return Err(CommandFailure::new(Exit::Usage, text));
        }
        (false, []) => {
            let text =
                format!("{path}: no passphrase opens it, but --identity FILE of a recipient");
            return Err(CommandFailure::new(Exit::Usage, text));
        }
        (false, files) => sealed.open_with(&identities(files)?),
    };
    opened.map_err(failed)
}

fn identities(files: &[PathBuf]) -> Result<Vec<Box<dyn Identity>>, CommandFailure> {
    let mut identities = Vec::new();
    for file in files {
        let text = read(file, LONGEST_IDENTITIES)?;
        let problem = |problem| {
            CommandFailure::new(Exit::Permission, format!("{}: {problem}", file.display()))
        };
        identities.extend(seal::identities(&text).map_err(problem)?);
    }
    Ok(identities)
}

/// Reads a file, or standard input, of at most so many bytes.
fn read(path: &Path, most: u64) -> Result<Zeroizing<Vec<u8>>, CommandFailure> {
    let failed = |error: io::Error| {
        CommandFailure::new(exit_of(&error), format!("{} cannot be read: {error}", path.display()))
    };
    let input: Box<dyn io::Read> = match path == Path::new(STANDARD_INPUT) {
        true => Box::new(io::stdin().lock()),
        false => Box::new(std::fs::File::open(path).map_err(failed)?),
    };
    let mut bytes = Zeroizing::new(Vec::new());
    input.take(most + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > most {
        let text = format!("{} is longer than any that onionbraid writes", path.display());
        return Err(CommandFailure::new(Exit::Failed, text));
    }
    Ok(bytes)
}

/// Where files may come back to.
fn destinations(args: &RestoreArgs) -> Destinations {
    let environment = Environment::of_process();
    let configuration = match args.config.as_slice() {
        [] => environment.config_places(),
        named => named.to_vec(),
    };
    let plain = |paths: &[PathBuf]| paths.iter().map(|path| plain(path)).collect();
    Destinations {
        configuration: plain(&configuration),
        directories: plain(&environment.state_places()),
        named: plain(&args.below),
    }
}

/// A line for each file.
fn listed(backup: &Backup, directory: &Path) -> String {
    let mut lines = String::new();
    for FileEntry { path, kind } in &backup.manifest.files {
        let path = directory.join(path.trim_start_matches('/'));
        let path = path.display();
        // Writing to a string never fails.
        let _ = match kind {
            FileKind::Configuration => writeln!(lines, "configuration {path}"),
            FileKind::Named => writeln!(lines, "file {path}"),
            FileKind::Key { address } => writeln!(lines, "key {path} {address}"),
            FileKind::BesideKey => writeln!(lines, "beside-key {path}"),
            FileKind::TlsKey => writeln!(lines, "certificate-key {path}"),
            FileKind::ClientKey => writeln!(lines, "client-key {path}"),
            FileKind::Client => writeln!(lines, "client {path}"),
        };
    }
    lines
}

impl From<PlaceError> for CommandFailure {
    fn from(error: PlaceError) -> Self {
        Self::new(exit_of(&error), in_one_line(&error))
    }
}

impl From<Elsewhere> for CommandFailure {
    fn from(elsewhere: Elsewhere) -> Self {
        let mut text =
            "nothing was restored: the backup has files for places that you have not named. \
                        If they are meant, say so with"
                .to_owned();
        for file in elsewhere.configuration {
            // Writing to a string never fails.
            let _ = write!(text, "\n    -c {}", file.display());
        }
        for directory in elsewhere.directories {
            let _ = write!(text, "\n    --below {}", directory.display());
        }
        text.push_str("\nor look at it elsewhere with --into DIR");
        Self::new(Exit::Failed, text)
    }
}

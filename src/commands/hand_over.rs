//! How does root write files that are to be another user's?
//!
//! That user may change the directory on the way: root would follow a link of its making,
//! and hand over what lies there. So it writes them itself, by a process of this
//! program that acts as it and gets the contents on standard input. Only where that
//! user can change nothing on the way does root write, and hands over what it opened.

use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use fs_mistrust::Mistrust;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize as _, Zeroizing};

use super::keys::owner::{self, Owner};
use super::new_file::directory_of;
use super::{CommandFailure, exists, finish, protect_memory};
use crate::backup::place::{PlaceError, Placement, Rights, place};
use crate::causes::in_one_line;
use crate::exit::{Exit, exit_of};

/// The most that such a process reads, in bytes.
const LONGEST: u64 = 16 * 1024 * 1024;

/// A new file.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct NewFile {
    /// Its path below the directory.
    pub(crate) below: PathBuf,
    /// What it holds.
    pub(crate) bytes: Vec<u8>,
    /// Its permissions.
    pub(crate) mode: u32,
}

impl Drop for NewFile {
    fn drop(&mut self) {
        // It may be a key.
        self.bytes.zeroize();
    }
}

/// The files of one directory, on the way to the process that writes them.
#[derive(Serialize, Deserialize)]
struct Order {
    /// What the directory is called for the operator.
    shown: PathBuf,
    files: Vec<NewFile>,
}

/// Writes new files below a directory, all or none, and makes the directories that they
/// need (mode 0700). All are the owner's, if there is one.
///
/// # Errors
///
/// If one exists already or cannot be written.
pub(crate) fn write_for(
    owner: Option<Owner>,
    directory: &Path,
    mut files: Vec<NewFile>,
) -> Result<(), CommandFailure> {
    let is_there = |path: &&Path| path.as_os_str().is_empty() || path.symlink_metadata().is_ok();
    let existing = directory.ancestors().find(is_there).unwrap_or(Path::new("/"));
    if let Ok(missing) = directory.strip_prefix(existing) {
        files.iter_mut().for_each(|file| file.below = missing.join(&file.below));
    }
    let directory = match existing.as_os_str().is_empty() {
        true => Path::new("."),
        false => existing,
    };
    match owner {
        Some(owner) if may_change(owner, directory) => write_as(owner, directory, files),
        owner => write_here(owner, directory, directory, &files),
    }
}

/// Writes one new file, which is the owner's, if there is one.
///
/// # Errors
///
/// As [`write_for`].
pub(crate) fn write_one_for(
    owner: Option<Owner>,
    path: &Path,
    bytes: Vec<u8>,
    mode: u32,
) -> Result<(), CommandFailure> {
    let below = path.file_name().map(PathBuf::from).unwrap_or_default();
    write_for(owner, directory_of(path), vec![NewFile { below, bytes, mode }])
}

/// Writes them as that user, whoever could change the directory.
pub(crate) fn write_as(
    owner: Owner,
    directory: &Path,
    files: Vec<NewFile>,
) -> Result<(), CommandFailure> {
    let order = Order { shown: directory.to_owned(), files };
    let failed = |error: &dyn std::fmt::Display| {
        CommandFailure::new(Exit::Failed, format!("{}: {error}", directory.display()))
    };
    let order = Zeroizing::new(serde_json::to_vec(&order).map_err(|error| failed(&error))?);
    // The directory is entered by root: it may lie below one that is only root's.
    owner::run_in(owner, directory, &["place"], &order).map(drop)
}

/// Whether a user could lead root elsewhere on the way to a directory. Whoever else has
/// it could do so only for what is that user's already.
pub(super) fn may_change(owner: Owner, directory: &Path) -> bool {
    let mut trusted = Mistrust::builder();
    if let Some(found) = directory.metadata().ok().filter(|found| found.uid() != owner.user) {
        trusted.trust_user(found.uid());
    }
    let Ok(trusted) = trusted.build() else { return true };
    trusted.verifier().require_directory().permit_readable().check(directory).is_err()
}

/// Does what `write_as` asks for, in the directory that this process was started in.
pub fn place_files() -> ExitCode {
    finish(place_here())
}

fn place_here() -> Result<(), CommandFailure> {
    protect_memory();
    let mut order = Zeroizing::new(Vec::new());
    io::stdin().lock().take(LONGEST).read_to_end(&mut order)?;
    let order: Order = serde_json::from_slice(&order)
        .map_err(|error| CommandFailure::new(Exit::Usage, format!("this is no order: {error}")))?;
    write_here(None, Path::new("."), &order.shown, &order.files)
}

fn write_here(
    owner: Option<Owner>,
    directory: &Path,
    shown: &Path,
    files: &[NewFile],
) -> Result<(), CommandFailure> {
    let owner = owner.map(|Owner { user, group }| (user, group));
    let placements: Vec<_> = files
        .iter()
        .map(|file| Placement {
            base: directory.to_owned(),
            below: file.below.clone(),
            bytes: &file.bytes,
            file: Rights { mode: file.mode, owner },
            directory: Rights { mode: 0o700, owner },
        })
        .collect();
    let of = |path: &Path| match path.strip_prefix(directory) {
        Ok(below) => shown.join(below),
        Err(_) => path.to_owned(),
    };
    place(&placements).map_err(|error| match error {
        PlaceError::InTheWay(paths) => {
            exists(&paths.first().map_or_else(|| shown.to_owned(), |path| of(path)))
        }
        PlaceError::Write { path, cause } => {
            let exit = exit_of(&cause);
            let error = PlaceError::Write { path: of(&path), cause };
            CommandFailure::new(exit, in_one_line(&error))
        }
    })
}

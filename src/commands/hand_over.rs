//! How does root write files that are to be another user's?
//!
//! That user may change the directory on the way: root would follow a link of its making,
//! and hand over what lies there. So it writes them itself, by a process of this
//! program that acts as it and gets the contents on standard input. Where the way leads
//! through no directory of that user's, root writes: it goes there from one open
//! directory to the next, follows no link that another user could have made, and hands
//! over what it opened.

use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use rustix::fs::{AtFlags, unlinkat};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize as _, Zeroizing};

use super::keys::owner::{self, Owner, SIGN};
use super::new_file::directory_of;
use super::{CommandFailure, exists, finish, protect_memory};
use crate::backup::place::{PlaceError, Placement, Rights, place};
use crate::causes::in_one_line;
use crate::exit::{Exit, exit_of};
use crate::tor::keys::{self, IdentityKey};
use crate::trust::Process;
use crate::trust::way::Way;

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

impl NewFile {
    /// A key, or a part of one.
    pub(crate) fn secret(below: PathBuf, bytes: &[u8]) -> Self {
        Self { below, bytes: bytes.to_vec(), mode: keys::SECRET_MODE }
    }

    /// A key in C tor's files, in a directory.
    pub(crate) fn of_ctor(directory: &Path, key: &IdentityKey) -> Vec<Self> {
        let files = keys::ctor_files(key);
        files.iter().map(|(name, bytes)| Self::secret(directory.join(name), bytes)).collect()
    }
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
    /// The directory, from where that process is started.
    directory: PathBuf,
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
    files: Vec<NewFile>,
) -> Result<(), CommandFailure> {
    write_before(owner, directory, files, || Ok(()))
}

/// The same, and then does something else; if that fails, the files are taken back.
///
/// # Errors
///
/// As [`write_for`], or what that says.
pub(crate) fn write_before(
    owner: Option<Owner>,
    directory: &Path,
    files: Vec<NewFile>,
    then: impl FnOnce() -> Result<(), CommandFailure>,
) -> Result<(), CommandFailure> {
    match owner {
        Some(owner) if may_change(owner, directory) => write_as(owner, directory, files, then),
        owner => write_here(owner, directory, directory, &files, then),
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
    then: impl FnOnce() -> Result<(), CommandFailure>,
) -> Result<(), CommandFailure> {
    let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", directory.display());
    let denied = |error: io::Error| CommandFailure::new(exit_of(&error), failed(&error));
    // Root goes as far as nobody can lead it elsewhere: the directory may lie below one
    // that is only root's. The rest of the way that user goes itself.
    let way = Process::current().way_to(directory).map_err(denied)?;
    if !is_for(&way, owner) {
        way.refuse_link().map_err(denied)?;
    }
    let base = way.last().map_err(denied)?;
    let shown = directory;
    let directory = match way.rest.as_os_str().is_empty() {
        true => PathBuf::from("."),
        false => way.rest,
    };
    let order = Order { shown: shown.to_owned(), directory, files };
    let order = Zeroizing::new(
        serde_json::to_vec(&order)
            .map_err(|error| CommandFailure::new(Exit::Failed, failed(&error)))?,
    );
    owner::run_in(owner, base, &["place"], &order, then)
}

/// Whether a user could lead root elsewhere on the way to a directory, or is to go there
/// itself as far as a link leads.
pub(super) fn may_change(owner: Owner, directory: &Path) -> bool {
    let way = Process::current().way_to(directory);
    way.is_ok_and(|way| way.owners.contains(&owner.user) || is_for(&way, owner))
}

/// Whether a way ends at a link that a user may follow: its own, or root's.
fn is_for(way: &Way, owner: Owner) -> bool {
    way.link.is_some_and(|user| [0, owner.user].contains(&user))
}

/// Removes a file, whatever its directory is called by now; whether there was one.
///
/// # Errors
///
/// Those of the system, and if another user could have led root to the directory.
pub(super) fn remove(file: &Path) -> io::Result<bool> {
    let name = file.file_name().unwrap_or_default();
    let removed = Process::current()
        .way_to(directory_of(file))
        .and_then(|way| way.end())
        .and_then(|directory| Ok(unlinkat(directory, name, AtFlags::empty())?));
    match removed {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Does what `write_as` asks for, in the directory that this process was started in.
pub fn place_files() -> ExitCode {
    finish(place_here())
}

fn place_here() -> Result<(), CommandFailure> {
    protect_memory();
    let mut input = io::stdin().lock();
    let mut length = [0; 8];
    input.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    let mut order = Zeroizing::new(Vec::new());
    (&mut input).take(length.min(LONGEST)).read_to_end(&mut order)?;
    let order: Order = serde_json::from_slice(&order)
        .map_err(|error| CommandFailure::new(Exit::Usage, format!("this is no order: {error}")))?;
    write_here(None, &order.directory, &order.shown, &order.files, || {
        let mut output = io::stdout().lock();
        output.write_all(&[SIGN])?;
        output.flush()?;
        // What else there was to do has failed, or nobody is left who does it.
        let mut answer = [0];
        input.read_exact(&mut answer).map_err(|_| CommandFailure::new(Exit::Failed, ""))
    })
}

fn write_here(
    owner: Option<Owner>,
    directory: &Path,
    shown: &Path,
    files: &[NewFile],
    then: impl FnOnce() -> Result<(), CommandFailure>,
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
        Err(_) if path.is_absolute() => path.to_owned(),
        Err(_) => shown.to_owned(),
    };
    let placed = place(&placements).map_err(|error| failed(error, shown, &of))?;
    then().map_err(|failure| {
        let left: Vec<PathBuf> = placed.take_back().iter().map(|path| of(path)).collect();
        failure.leaving(&left)
    })
}

/// What the operator is told, with paths as it knows them.
fn failed(error: PlaceError, shown: &Path, of: &impl Fn(&Path) -> PathBuf) -> CommandFailure {
    match error {
        PlaceError::InTheWay(paths) => {
            exists(&paths.first().map_or_else(|| shown.to_owned(), |path| of(path)))
        }
        PlaceError::Write { path, cause } => {
            let exit = exit_of(&cause);
            let error = PlaceError::Write { path: of(&path), cause };
            CommandFailure::new(exit, in_one_line(&error))
        }
        PlaceError::Left { cause, left } => {
            let left: Vec<PathBuf> = left.iter().map(|path| of(path)).collect();
            failed(*cause, shown, of).leaving(&left)
        }
    }
}

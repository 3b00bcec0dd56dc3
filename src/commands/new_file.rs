//! How does a command write the file that `--out` names?
//!
//! Under another name beside its place, so that it is there whole or not at all, and
//! never over a file that is there.

use std::fs::{self, File, Metadata, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use tempfile::NamedTempFile;

use super::{CommandFailure, exists, remark};
use crate::exit::exit_of;
use crate::ordinary;

/// Begins it, with at most these permissions.
pub(super) fn begin(out: &Path, mode: u32) -> Result<NamedTempFile, CommandFailure> {
    let directory = directory_of(out);
    // What is wrong with the directory is not told of a name that nobody gave.
    directory.metadata().map_err(|error| unwritable(out, error))?;
    let mut builder = tempfile::Builder::new();
    builder.prefix(".onionbraid-").permissions(Permissions::from_mode(mode));
    builder.tempfile_in(directory).map_err(|error| unwritable(out, error.kind().into()))
}

/// Gives it its name, if that is free.
pub(super) fn put(file: NamedTempFile, out: &Path) -> Result<(), CommandFailure> {
    sync(&file, out)?;
    let file = file.persist_noclobber(out).map_err(|error| match error.error.kind() {
        io::ErrorKind::AlreadyExists => exists(out),
        kind => unwritable(out, kind.into()),
    })?;
    let Err(error) = sync_directory(out) else { return Ok(()) };
    let is_this = |found: Metadata| {
        file.metadata().is_ok_and(|it| (it.dev(), it.ino()) == (found.dev(), found.ino()))
    };
    let removed = match out.symlink_metadata().is_ok_and(is_this) {
        true => fs::remove_file(out),
        false => Ok(()),
    };
    let left: Vec<_> = removed.is_err().then(|| out.to_owned()).into_iter().collect();
    Err(unwritable(out, error).leaving(&left))
}

/// Gives it its name, and the owner and permissions of the file that has it now, if that
/// says this still.
pub(super) fn replace(file: NamedTempFile, out: &Path, now: &str) -> Result<(), CommandFailure> {
    let failed = |error| unwritable(out, error);
    let found = out.symlink_metadata().map_err(failed)?;
    if !holds(out, now) {
        return Err(exists(out));
    }
    let (owner, group) = (found.uid(), found.gid());
    std::os::unix::fs::fchown(file.as_file(), Some(owner), Some(group)).map_err(failed)?;
    file.as_file().set_permissions(found.permissions()).map_err(failed)?;
    sync(&file, out)?;
    file.persist(out).map_err(|error| unwritable(out, error.error.kind().into()))?;
    // There is no way back, and the new file is whole.
    if let Err(error) = sync_directory(out) {
        remark(&format!("Warning: {} may not be on the disk yet: {error}", out.display()));
    }
    Ok(())
}

/// Whether there is an ordinary file with this text and no other.
pub(super) fn holds(path: &Path, text: &str) -> bool {
    let bytes = || ordinary::at_most(path, text.len() as u64).ok().flatten();
    path.symlink_metadata().is_ok_and(|found| found.is_file())
        && bytes().is_some_and(|bytes| bytes == text.as_bytes())
}

/// Puts a new file in the place of one that may be there; of a link, not of what it leads
/// to.
pub(super) fn overwrite(path: &Path, bytes: &[u8]) -> Result<(), CommandFailure> {
    let mut file = begin(path, 0o666)?;
    file.as_file_mut().write_all(bytes).map_err(|error| unwritable(path, error))?;
    file.persist(path).map_err(|error| unwritable(path, error.error.kind().into()))?;
    Ok(())
}

/// What cannot be written, and why.
pub(super) fn unwritable(out: &Path, error: io::Error) -> CommandFailure {
    CommandFailure::new(exit_of(&error), format!("{} cannot be written: {error}", out.display()))
}

fn sync(file: &NamedTempFile, out: &Path) -> Result<(), CommandFailure> {
    file.as_file().sync_all().map_err(|error| unwritable(out, error))
}

/// The new name is on the disk only with the directory.
fn sync_directory(out: &Path) -> io::Result<()> {
    File::open(directory_of(out))?.sync_all()
}

/// Where it will be.
pub(super) fn directory_of(out: &Path) -> &Path {
    let directory = out.parent().filter(|parent| !parent.as_os_str().is_empty());
    directory.unwrap_or(Path::new("."))
}

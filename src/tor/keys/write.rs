//! How is a key written to a new file?
//!
//! Beside what is there, never over it, and for its owner alone. What could not be
//! written whole is removed again, by the directory that was opened: whatever that is
//! called by then, nothing else is touched.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{AtFlags, Mode, OFlags, mkdirat, open, openat, statat, unlinkat};
use rustix::io::Errno;
use zeroize::Zeroizing;

use super::file::{Format, HOSTNAME, KeyFileError, PUBLIC, SECRET, SECRET_MODE};
use super::identity::IdentityKey;
use super::{ctor, pem};

/// How directories are opened.
const ENTER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Writes a key to a new file (mode 0600), or for C tor to a new directory (mode
/// 0700) with the secret key, the public key and the address.
///
/// # Errors
///
/// If something lies there already, or if it cannot be written; then nothing is
/// left of it, or the error says what.
pub fn write_new(path: &Path, key: &IdentityKey, format: Format) -> Result<(), KeyFileError> {
    match format {
        Format::Pem => write_file(path, &pem_file(key)?, SECRET_MODE),
        Format::Ctor => write_directory(path, &ctor_files(key)),
    }
}

/// The PEM file of a key (mode 0600).
///
/// # Errors
///
/// If its seed is not known.
pub fn pem_file(key: &IdentityKey) -> Result<Zeroizing<Vec<u8>>, KeyFileError> {
    pem::file(key).ok_or(KeyFileError::NoSeed)
}

/// The files that a directory of C tor has of a key, with their names (mode 0600).
pub fn ctor_files(key: &IdentityKey) -> [(&'static str, Zeroizing<Vec<u8>>); 3] {
    let address = key.address();
    [
        (SECRET, ctor::secret_file(key)),
        (PUBLIC, ctor::public_file(&address).to_vec().into()),
        (HOSTNAME, format!("{address}\n").into_bytes().into()),
    ]
}

/// Writes a new file with this mode.
///
/// # Errors
///
/// If something lies there already, or if it cannot be written; then nothing is left of
/// it, or the error says what.
pub fn write_file(path: &Path, bytes: &[u8], mode: u32) -> Result<(), KeyFileError> {
    let (above, name) = above(path).map_err(|error| failed(path, error))?;
    write_in(&above, name, bytes, mode).map_err(|unwritten| unwritten.of(path))
}

fn write_directory(
    path: &Path,
    files: &[(&'static str, Zeroizing<Vec<u8>>)],
) -> Result<(), KeyFileError> {
    let (above, name) = above(path).map_err(|error| failed(path, error))?;
    mkdirat(&above, name, Mode::from(0o700)).map_err(|error| failed(path, error.into()))?;
    let opened = openat(&above, name, ENTER | OFlags::NOFOLLOW, Mode::empty());
    let directory = opened.map_err(|error| failed(path, error.into()))?;
    for (index, (file, bytes)) in files.iter().enumerate() {
        let Err(unwritten) = write_in(&directory, file.as_ref(), bytes, SECRET_MODE) else {
            continue;
        };
        // All that is in it was made here, a moment ago.
        let before = files.iter().take(index);
        let removed = before.map(|(file, _)| unlinkat(&directory, *file, AtFlags::empty()));
        let removed = removed.fold(Ok(()), Result::and);
        let removed = removed.and_then(|()| unlinkat(&above, name, AtFlags::REMOVEDIR));
        let left = unwritten.left || removed.is_err_and(|error| error != Errno::NOENT);
        let unwritten = Unwritten { cause: unwritten.cause, left: false }.of(&path.join(file));
        return Err(match left {
            true => KeyFileError::Left { cause: Box::new(unwritten), left: path.to_owned() },
            false => unwritten,
        });
    }
    Ok(())
}

/// The directory that something is in, opened, and the name there.
fn above(path: &Path) -> io::Result<(OwnedFd, &OsStr)> {
    let name = path.file_name().ok_or(Errno::INVAL)?;
    let above = path.parent().filter(|above| !above.as_os_str().is_empty());
    Ok((open(above.unwrap_or(Path::new(".")), ENTER, Mode::empty())?, name))
}

/// Why a file was not written.
struct Unwritten {
    cause: io::Error,
    /// Whether a part of it is there.
    left: bool,
}

impl Unwritten {
    fn of(self, path: &Path) -> KeyFileError {
        let cause = failed(path, self.cause);
        match self.left {
            true => KeyFileError::Left { cause: Box::new(cause), left: path.to_owned() },
            false => cause,
        }
    }
}

fn write_in(above: &OwnedFd, name: &OsStr, bytes: &[u8], mode: u32) -> Result<(), Unwritten> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = openat(above, name, flags, Mode::from(mode));
    let mut file =
        File::from(opened.map_err(|error| Unwritten { cause: error.into(), left: false })?);
    let Err(cause) = file.write_all(bytes).and_then(|()| file.sync_all()) else { return Ok(()) };
    let is_this = statat(above, name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|found| {
        file.metadata().is_ok_and(|it| (it.dev(), it.ino()) == (found.st_dev, found.st_ino))
    });
    let left = is_this && unlinkat(above, name, AtFlags::empty()).is_err();
    Err(Unwritten { cause, left })
}

fn failed(path: &Path, error: io::Error) -> KeyFileError {
    match error.kind() {
        io::ErrorKind::AlreadyExists => KeyFileError::Exists(path.to_owned()),
        _ => KeyFileError::Write { path: path.to_owned(), cause: Arc::new(error) },
    }
}

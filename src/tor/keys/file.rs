//! Where does a key file lie, and may it be used?
//!
//! Reads files that the operator names; `identity` says what their bytes mean. A file
//! that others may read is refused.

use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fs_mistrust::Mistrust;
use zeroize::Zeroizing;

use super::format::parse;
use super::identity::{IdentityKey, ParseError, Parsed};
use crate::ordinary;
use crate::trust::Process;
use onionbraid_balancer::onion::OnionAddress;

/// The secret key in a directory of C tor.
pub(super) const SECRET: &str = "hs_ed25519_secret_key";
/// The public key in a directory of C tor.
pub(super) const PUBLIC: &str = "hs_ed25519_public_key";
/// The address in a directory of C tor.
pub(super) const HOSTNAME: &str = "hostname";
/// The secret key in a directory of a keystore of Arti's.
const ARTI: &str = "ks_hs_id.ed25519_expanded_private";
/// The secret key of a version 2 onion service in a directory of C tor.
const VERSION_2: &str = "private_key";
/// Its owner alone may read a secret key.
pub(crate) const SECRET_MODE: u32 = 0o600;
/// The longest file to read, in bytes: no key has as many.
const LONGEST: u64 = 64 * 1024;

/// Why a key file cannot be used or written: the operator has to look at it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum KeyFileError {
    /// There is none.
    #[error("there is no {}", .0.display())]
    Missing(PathBuf),
    /// A directory without any key.
    #[error(
        "{} has no identity key in it: neither {SECRET} of C tor nor {ARTI} of Arti",
        .0.display()
    )]
    NoKey(PathBuf),
    /// Others could read or change the key.
    #[error("others can read or change {} (mode {mode:04o}): {advice}", path.display())]
    Permissions {
        /// The file, or a directory above it.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
        /// What helps there.
        advice: String,
    },
    /// Another user could change the key.
    #[error("{} belongs to another user (UID {owner}): {advice}", path.display())]
    Owner {
        /// The file, or a directory above it.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// What helps there.
        advice: String,
    },
    /// Permissions cannot be checked, or the path is something else.
    #[error("{} cannot be used", path.display())]
    Inspect {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: fs_mistrust::Error,
    },
    /// The system does not let it be read.
    #[error("{} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: Arc<io::Error>,
    },
    /// The system does not let this user read it.
    #[error("{}: {}", path.display(), Process::current().advice_on_denial())]
    Denied {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        cause: Arc<io::Error>,
    },
    /// It holds something else.
    #[error("{} is no identity key", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: ParseError,
    },
    /// It holds something else than a client's secret key.
    #[error("{} is no key of a client that can be used", path.display())]
    Client {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: ParseError,
    },
    /// There is no such key of a client.
    #[error("there is no {}: `onionbraid backend-config SERVICE --backend NAME` makes it", .0.display())]
    NoClient(PathBuf),
    /// It holds something else than the keys of a period.
    #[error("{} holds no keys of a period that can be used: {problem}", path.display())]
    Period {
        /// The file.
        path: PathBuf,
        /// Why.
        problem: String,
    },
    /// A directory without the keys of any period.
    #[error(
        "{} has no keys of a period in it: copy there what `onionbraid keys export-periods` wrote",
        .0.display()
    )]
    NoPeriods(PathBuf),
    /// Keys of several addresses, where those of one are wanted.
    #[error(
        "{} and {} hold keys of different addresses: a bundle is for one service",
        first.display(), other.display()
    )]
    Mixed {
        /// One of them.
        first: PathBuf,
        /// Another one.
        other: PathBuf,
    },
    /// A public key, where the secret one is needed.
    #[error("{} holds a public key alone: the secret key is needed", .0.display())]
    PublicOnly(PathBuf),
    /// A file beside the secret key belongs to another key.
    #[error(
        "{} and {} belong to different keys: which of them is the service's?",
        secret.display(), other.display()
    )]
    Disagree {
        /// The secret key.
        secret: PathBuf,
        /// Its public key or its address, supposedly.
        other: PathBuf,
    },
    /// Something lies where the key was to be written.
    #[error("{} exists already, and is left as it is", .0.display())]
    Exists(PathBuf),
    /// It cannot be written.
    #[error("{} cannot be written", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: Arc<io::Error>,
    },
    /// The same, and not all that was written before could be removed again.
    #[error(
        "nothing was to be left, but what was written before could not be removed again ({})",
        left.display()
    )]
    Left {
        /// Why nothing was written.
        #[source]
        cause: Box<KeyFileError>,
        /// What is left.
        left: PathBuf,
    },
    /// Somebody has asked for the end meanwhile.
    #[error("interrupted: nothing was written to {}", .0.display())]
    Interrupted(PathBuf),
    /// What an export left that was killed.
    #[error(
        "{} is what an export left that was killed: look at it and delete it, it holds keys",
        .0.display()
    )]
    Partial(PathBuf),
    /// The key's seed is not known.
    #[error(
        "this key cannot be written as PEM: a PEM file holds the seed that a key was made from, and \
         C tor and Arti keep what follows from it alone. Use the format `ctor`, which Onionbalance \
         reads too"
    )]
    NoSeed,
}

impl KeyFileError {
    /// A file that does not hold the keys of a period.
    pub(in crate::tor) fn period(path: &Path, problem: impl Into<String>) -> Self {
        Self::Period { path: path.to_owned(), problem: problem.into() }
    }
}

/// The formats in which a key can be written to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A directory as C tor has it, a `HiddenServiceDir`.
    Ctor,
    /// A PEM file as Onionbalance has it.
    Pem,
}

/// Reads the secret key at `path`: a file in any format, or a directory of C
/// tor's or of Arti's keystore. What else lies in a directory of C tor has to
/// belong to the same key.
///
/// # Errors
///
/// If there is no such key, if others may read or change the file, or if it is
/// damaged.
pub fn read_secret(path: &Path, mistrust: &Mistrust) -> Result<IdentityKey, KeyFileError> {
    let file = locate(path)?;
    match read(&file, mistrust)? {
        Parsed::Secret(key) => {
            agrees_with_neighbours(&file, &key.address())?;
            Ok(key)
        }
        Parsed::Public(_) => Err(KeyFileError::PublicOnly(file)),
    }
}

/// Reads a secret key, in any format, from where it is handed over.
///
/// # Errors
///
/// If it is none.
pub fn read_secret_from(input: impl io::Read) -> Result<IdentityKey, KeyFileError> {
    let path = PathBuf::from("standard input");
    let read = bytes(input)
        .map_err(|cause| KeyFileError::Read { path: path.clone(), cause: Arc::new(cause) })?;
    match parse(&read) {
        Ok(Parsed::Secret(key)) => Ok(key),
        Ok(Parsed::Public(_)) => Err(KeyFileError::PublicOnly(path)),
        Err(cause) => Err(KeyFileError::Parse { path, cause }),
    }
}

/// Reads the address of the key at `path`, secret or public.
///
/// # Errors
///
/// As [`read_secret`].
pub fn read_address(path: &Path, mistrust: &Mistrust) -> Result<OnionAddress, KeyFileError> {
    let file = locate(path)?;
    let address = match read(&file, mistrust)? {
        Parsed::Secret(key) => key.address(),
        Parsed::Public(address) => address,
    };
    agrees_with_neighbours(&file, &address)?;
    Ok(address)
}

/// The file that holds the key: `path`, or a file in it.
fn locate(path: &Path) -> Result<PathBuf, KeyFileError> {
    let read = |cause: io::Error| unreadable(path, cause);
    match path.metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(KeyFileError::Missing(path.to_owned()));
        }
        Err(error) => return Err(read(error)),
        Ok(found) if found.is_file() => return Ok(path.to_owned()),
        Ok(found) if found.is_dir() => {}
        Ok(_) => return Err(read(io::Error::other("it is neither a file nor a directory"))),
    }
    for name in [SECRET, ARTI] {
        let file = path.join(name);
        if file.try_exists().map_err(read)? {
            return Ok(file);
        }
    }
    let old = path.join(VERSION_2);
    match old.is_file() {
        true => Err(KeyFileError::Parse { path: old, cause: ParseError::Version2 }),
        false => Err(KeyFileError::NoKey(path.to_owned())),
    }
}

/// The files of the key at `path`: the one that holds it, then those beside it that say
/// the same of it (C tor's).
///
/// # Errors
///
/// If there is no key.
pub fn files_of(path: &Path) -> Result<Vec<PathBuf>, KeyFileError> {
    let secret = locate(path)?;
    let in_ctor = secret.file_name().is_some_and(|name| name == SECRET);
    let beside = [PUBLIC, HOSTNAME].map(|name| secret.with_file_name(name));
    let beside = beside.into_iter().filter(|file| in_ctor && file.is_file());
    Ok([secret.clone()].into_iter().chain(beside).collect())
}

/// The file of a service's key in Arti's keystore at `directory`.
pub fn stored_at(directory: &Path, nickname: &str) -> PathBuf {
    directory.join("hss").join(nickname).join(ARTI)
}

/// Whether somebody else than root and this process's user can read a file; of what
/// is no file, such as a pipe, nobody can be told.
pub(crate) fn others_can_read(file: &Path) -> bool {
    file.is_file() && Process::current().others_can_read(file)
}

/// Reads one file; a secret key only if it is private.
fn read(file: &Path, mistrust: &Mistrust) -> Result<Parsed, KeyFileError> {
    let (opened, bytes) = open(file)?;
    let parsed =
        parse(&bytes).map_err(|cause| KeyFileError::Parse { path: file.to_owned(), cause })?;
    if let Parsed::Secret(_) = parsed {
        check_opened(&opened, file, mistrust)?;
    }
    Ok(parsed)
}

/// Whether a file that was opened at this path is private, as [`check_private`] has it:
/// what is judged by the path must be what was read. All secrets that files hold are
/// judged by this.
pub(crate) fn check_opened(
    opened: &File,
    path: &Path,
    mistrust: &Mistrust,
) -> Result<(), KeyFileError> {
    check_private(path, mistrust)?;
    is_still(opened, path)
}

/// Whether a path leads to the file that was opened there.
fn is_still(opened: &File, path: &Path) -> Result<(), KeyFileError> {
    let failed = |cause: io::Error| unreadable(path, cause);
    let identity = |found: Metadata| (found.dev(), found.ino());
    let read = opened.metadata().map(identity).map_err(failed)?;
    let now = path.metadata().map(identity).map_err(failed)?;
    match read == now {
        true => Ok(()),
        false => Err(failed(io::Error::other("it was exchanged while it was read: try again"))),
    }
}

/// Opens a file, and reads all of it.
pub(in crate::tor) fn open(file: &Path) -> Result<(File, Zeroizing<Vec<u8>>), KeyFileError> {
    let failed = |cause: io::Error| unreadable(file, cause);
    let opened = ordinary::open(file).map_err(failed)?;
    let bytes = bytes(&opened).map_err(failed)?;
    Ok((opened, bytes))
}

fn read_bytes(file: &Path) -> Result<Zeroizing<Vec<u8>>, KeyFileError> {
    open(file).map(|(_, bytes)| bytes)
}

/// Why something cannot be read, with what helps there.
pub(in crate::tor) fn unreadable(path: &Path, cause: io::Error) -> KeyFileError {
    let path = path.to_owned();
    match cause.kind() {
        io::ErrorKind::PermissionDenied => KeyFileError::Denied { path, cause: Arc::new(cause) },
        _ => KeyFileError::Read { path, cause: Arc::new(cause) },
    }
}

fn bytes(input: impl io::Read) -> io::Result<Zeroizing<Vec<u8>>> {
    // Room for all, so that growing leaves no copy behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(LONGEST as usize + 1));
    input.take(LONGEST).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Whether nobody but this process's user can read or change a file, nor exchange
/// it, as `[storage.permissions]` has it. A mode that looks open will do where nobody
/// else could make use of it: see [`trust`](crate::trust).
///
/// # Errors
///
/// Who else could, and what helps there.
fn check_private(file: &Path, mistrust: &Mistrust) -> Result<(), KeyFileError> {
    use fs_mistrust::Error as E;
    let Err(strict) = mistrust.verifier().require_file().check(file) else { return Ok(()) };
    let process = Process::current();
    let unchangeable = mistrust.verifier().require_file().permit_readable().check(file);
    let cause = match unchangeable {
        Ok(()) if !process.others_can_read(file) => return Ok(()),
        Ok(()) => strict,
        Err(cause) => cause,
    };
    // fs-mistrust names the path with its links resolved.
    Err(match cause {
        E::BadPermission(path, mode, bits) => {
            let advice = process.advice_on_mode(&path, bits);
            KeyFileError::Permissions { path, mode, advice }
        }
        E::BadOwner(path, owner) => {
            let advice = process.advice_on_owner(&path, owner);
            KeyFileError::Owner { path, owner, advice }
        }
        cause => KeyFileError::Inspect { path: file.to_owned(), cause },
    })
}

/// Whether the files beside a key in a directory of C tor belong to the same.
fn agrees_with_neighbours(file: &Path, address: &OnionAddress) -> Result<(), KeyFileError> {
    if file.file_name().is_none_or(|name| name != SECRET) {
        return Ok(());
    }
    for name in [PUBLIC, HOSTNAME] {
        let other = file.with_file_name(name);
        let bytes = match read_bytes(&other) {
            Err(KeyFileError::Read { cause, .. }) if cause.kind() == io::ErrorKind::NotFound => {
                continue;
            }
            bytes => bytes?,
        };
        match parse(&bytes) {
            Ok(Parsed::Public(found)) if found == *address => {}
            Ok(_) => return Err(KeyFileError::Disagree { secret: file.to_owned(), other }),
            Err(cause) => return Err(KeyFileError::Parse { path: other, cause }),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_exchanged_after_it_was_opened_is_not_the_one_that_is_judged() {
        let dir = tempfile::tempdir().unwrap();
        let [path, other] = ["key", "other"].map(|name| dir.path().join(name));
        std::fs::write(&path, "one").unwrap();
        std::fs::write(&other, "two").unwrap();
        let opened = File::open(&path).unwrap();
        is_still(&opened, &path).unwrap();
        std::fs::rename(&other, &path).unwrap();
        let refused = is_still(&opened, &path).unwrap_err();
        assert!(matches!(refused, KeyFileError::Read { .. }), "{refused}");
    }
}

//! What would keep the daemon from running? Looks at everything that it needs
//! and makes nothing: no file, no directory, no connection.
//!
//! `run` begins with it and `check` ends with it, so that both say the same and
//! exit with the same code. What it finds right can still go wrong a moment later;
//! the steps of the start report that themselves, by the same codes ([`exit_of`]).

use std::collections::BTreeSet;
use std::error::Error;
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use fs_mistrust::{Mistrust, Verifier};
use rustix::fs::{Access, AtFlags, CWD, accessat};

use super::services::{self, CheckError};
use super::state;
use super::state_lock::{self, StateLock};
use crate::admin::{self, AdminError};
use crate::causes::in_one_line;
use crate::config::{AdminListen, Config};
use crate::exit::{Exit, exit_of};
use crate::tor::keys;
use crate::trust;

/// What else is worth knowing where nothing is in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clear {
    /// A daemon is running on the state directory.
    pub running: bool,
}

/// Everything that is in the way, in the order in which the daemon would meet it.
#[derive(Debug)]
pub struct Obstacles(Vec<Obstacle>);

/// One thing that keeps the daemon from running.
#[derive(Debug, thiserror::Error)]
pub(super) enum Obstacle {
    /// A directory, or a file in it, cannot be used as the daemon has to.
    #[error("the {what} {} cannot be used", path.display())]
    Path {
        /// What it is for.
        what: &'static str,
        /// Where it is.
        path: PathBuf,
        /// Why.
        #[source]
        source: PathProblem,
    },
    /// The services cannot run.
    #[error(transparent)]
    Services(#[from] CheckError),
    /// The admin endpoint cannot be opened.
    #[error(transparent)]
    Admin(#[from] AdminError),
}

/// Why a path cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum PathProblem {
    /// Others could read or change it, or it is something else.
    #[error("{}", trust::advice::in_words(.0))]
    Mistrust(#[from] fs_mistrust::Error),
    /// This user may not write there.
    #[error("this user cannot write to {}", place.display())]
    Denied {
        /// The path, or the directory in which it would be made.
        place: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// It cannot be executed.
    #[error("this user cannot execute it")]
    NotExecutable(#[source] io::Error),
    /// Arti's store of the network directory holds something else.
    #[error("it is no database; delete it, it only caches the network directory")]
    NoDatabase,
}

impl Obstacles {
    /// The code to exit with: permissions and keys before the configuration,
    /// and that before everything else.
    pub fn exit(&self) -> Exit {
        let exits = || self.0.iter().map(Obstacle::exit);
        let has = |wanted: Exit| exits().any(|exit| exit == wanted);
        let first = [Exit::Permission, Exit::Configuration].into_iter().find(|exit| has(*exit));
        first.unwrap_or(Exit::Failed)
    }
}

impl fmt::Display for Obstacles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, obstacle) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            f.write_str(&in_one_line(obstacle))?;
        }
        Ok(())
    }
}

impl Error for Obstacles {}

impl Obstacle {
    fn exit(&self) -> Exit {
        match self {
            Self::Services(error) => error.exit(),
            error => exit_of(error),
        }
    }
}

/// Looks at everything that the daemon of this configuration needs.
///
/// # Errors
///
/// All that is in the way.
pub fn preflight(config: &Config) -> Result<Clear, Obstacles> {
    let directories = directories(config);
    let mut found = look_at(&directories);
    if found.is_empty() {
        found.extend(files(config));
    }
    let running = StateLock::is_taken(&config.storage);
    if found.is_empty() {
        found.extend(services(config).err());
    }
    // The socket may lie in a directory that was looked at, or is to be made.
    let is_made = |socket: &Path| {
        socket.parent().is_some_and(|parent| {
            let below = |it: &NeededDirectory<'_>| it.path.starts_with(parent) && !parent.exists();
            directories.iter().any(|it| it.path == parent || below(it))
        })
    };
    let in_one_of_these = match &config.admin {
        AdminListen::Unix(path) => is_made(path),
        AdminListen::Tcp(_) => false,
    };
    if let Err(error) = admin::can_open(&config.admin, in_one_of_these, running) {
        found.push(error.into());
    }
    if let Err(error) = admin::ScrapePorts::can_open(&config.metrics, running) {
        found.push(error.into());
    }
    found.extend(transports(config));
    if found.is_empty() { Ok(Clear { running }) } else { Err(Obstacles(found)) }
}

/// A directory that is made where it is missing.
struct NeededDirectory<'a> {
    what: &'static str,
    path: PathBuf,
    /// What it has to be like.
    verifier: Verifier<'a>,
}

/// The directories that the daemon writes to, its own and Arti's.
fn directories(config: &Config) -> Vec<NeededDirectory<'_>> {
    let storage = &config.storage;
    let (state, cache) = (&storage.state_dir, &storage.cache_dir);
    let private = || storage.mistrust.verifier().require_directory();
    let directory = |path, verifier| NeededDirectory { what: "directory", path, verifier };
    let mut directories = vec![
        NeededDirectory { what: "state directory", path: state.clone(), verifier: private() },
        directory(state.join("state"), private().check_content()),
        directory(state.join("pt_state"), private()),
        directory(cache.join("dir_blobs"), private().permit_readable().check_content()),
    ];
    directories.extend(
        config.services.iter().filter(|service| service.enabled).map(|service| {
            directory(state::directory(storage, service.nickname.as_ref()), private())
        }),
    );
    directories
}

/// What is wrong with them.
fn look_at(directories: &[NeededDirectory<'_>]) -> Vec<Obstacle> {
    let mut found: Vec<Obstacle> = Vec::new();
    let mut blamed = BTreeSet::new();
    for NeededDirectory { what, path, verifier } in directories {
        match usable(path, verifier) {
            Ok(()) => {}
            // One place is told once, by the first who needs it.
            Err(PathProblem::Denied { place, .. }) if blamed.contains(&place) => {}
            Err(source) => {
                // What lies below is no better.
                let above = |it: &Obstacle| match it {
                    Obstacle::Path { path: above, .. } => path.starts_with(above),
                    _ => false,
                };
                if found.iter().any(above) {
                    continue;
                }
                if let PathProblem::Denied { place, .. } = &source {
                    blamed.insert(place.clone());
                }
                found.push(Obstacle::Path { what, path: path.clone(), source });
            }
        }
    }
    found
}

/// What is wrong with files that are written to, where they are there already:
/// root made them once, for instance.
fn files(config: &Config) -> Vec<Obstacle> {
    let (state, cache) = (&config.storage.state_dir, &config.storage.cache_dir);
    let files = [
        state.join(state_lock::FILE),
        state.join(state_lock::COMMAND_FILE),
        state.join(state_lock::WANTED_FILE),
        state.join("state/state.lock"),
        cache.join("dir.lock"),
        cache.join(DATABASE),
    ];
    let wrong = |path: PathBuf| {
        let source = exists_unwritable(&path).and_then(|()| is_database(&path)).err()?;
        Some(Obstacle::Path { what: "file", path, source })
    };
    files.into_iter().filter_map(wrong).collect()
}

/// What is wrong with the programs that reach bridges.
fn transports(config: &Config) -> Vec<Obstacle> {
    let programs = config.transport_programs().into_iter();
    let wrong = |path: PathBuf| {
        let error = match accessat(CWD, &path, Access::EXEC_OK, AtFlags::EACCESS) {
            Ok(()) if path.is_file() => return None,
            Ok(()) => io::ErrorKind::IsADirectory.into(),
            Err(error) => error.into(),
        };
        let source = PathProblem::NotExecutable(error);
        Some(Obstacle::Path { what: "program of a bridge's transport", path, source })
    };
    programs.filter_map(wrong).collect()
}

/// Arti's store in the cache directory.
const DATABASE: &str = "dir.sqlite3";

/// How every database of SQLite begins.
const DATABASE_HEADER: &[u8] = b"SQLite format 3\0";

/// Whether Arti's store, if this is it, begins as a database does; an empty file
/// becomes one.
fn is_database(path: &Path) -> Result<(), PathProblem> {
    // Opening a pipe would wait for somebody to write.
    if !path.ends_with(DATABASE) || !path.metadata().is_ok_and(|found| found.is_file()) {
        return Ok(());
    }
    let mut header = Vec::new();
    let read = File::open(path)
        .and_then(|file| file.take(DATABASE_HEADER.len() as u64).read_to_end(&mut header));
    match read {
        Ok(1..) if header != DATABASE_HEADER => Err(PathProblem::NoDatabase),
        // What cannot be read has been told of.
        _ => Ok(()),
    }
}

/// Whether a directory can be used, or made where it is missing.
fn usable(path: &Path, verifier: &Verifier<'_>) -> Result<(), PathProblem> {
    match verifier.check(path) {
        Ok(()) => may_write(path),
        // Everything above it that exists has been found good.
        Err(error @ fs_mistrust::Error::NotFound(_)) => {
            match path.ancestors().find(|above| above.symlink_metadata().is_ok()) {
                // A link that leads nowhere.
                Some(link) if link == path => Err(error.into()),
                Some(above) => may_write(above),
                None => may_write(Path::new(".")),
            }
        }
        Err(error) => Err(error.into()),
    }
}

fn may_write(directory: &Path) -> Result<(), PathProblem> {
    let wanted = Access::WRITE_OK | Access::EXEC_OK;
    accessat(CWD, directory, wanted, AtFlags::EACCESS)
        .map_err(|error| PathProblem::Denied { place: directory.to_owned(), source: error.into() })
}

/// Whether a file can be read and written if it is there, and made if it is a
/// link that leads to a missing one.
fn exists_unwritable(file: &Path) -> Result<(), PathProblem> {
    let denied = |source| PathProblem::Denied { place: file.to_owned(), source };
    match accessat(CWD, file, Access::READ_OK | Access::WRITE_OK, AtFlags::EACCESS) {
        Ok(()) if file.is_dir() => Err(denied(io::ErrorKind::IsADirectory.into())),
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::NOENT) => match file.read_link() {
            Ok(target) => {
                let target = file.parent().unwrap_or(Path::new("/")).join(target);
                may_write(target.parent().unwrap_or(Path::new("/")))
            }
            Err(_) => Ok(()),
        },
        Err(error) => Err(denied(error.into())),
    }
}

/// The keys, addresses and ports of the services; where a key has to be made,
/// also whether the keystore takes it.
fn services(config: &Config) -> Result<(), Obstacle> {
    let keys = keys::open_existing(&config.storage).map_err(CheckError::from)?;
    let found = services::look(config, &keys, &BTreeSet::new())?;
    let keystore = keys::Keystores::from(&config.storage);
    let missing = found.iter().filter(|(_, key)| key.is_none());
    let written: Vec<PathBuf> = missing
        .map(|(service, _)| keystore.directory.join("hss").join(service.nickname.as_ref()))
        .chain((!keystore.directory.exists()).then(|| keystore.directory.clone()))
        .collect();
    for path in written {
        let mistrust: &Mistrust = &config.storage.mistrust;
        usable(&path, &mistrust.verifier().require_directory())
            .map_err(|source| Obstacle::Path { what: "keystore", path, source })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_directory_or_a_link_into_a_missing_one_is_no_file_to_write_to() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        std::fs::create_dir(path("directory")).unwrap();
        symlink("missing/file", path("astray")).unwrap();
        symlink("new", path("link")).unwrap();
        for bad in ["directory", "astray"] {
            assert!(exists_unwritable(&path(bad)).is_err(), "{bad}");
        }
        for good in ["link", "absent"] {
            assert!(exists_unwritable(&path(good)).is_ok(), "{good}");
        }
    }

    #[test]
    fn what_is_no_database_cannot_be_the_store() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(DATABASE);
        assert!(is_database(&path).is_ok(), "none is there yet");
        for (content, good) in [
            (&b""[..], true),
            (b"SQLite format 3\0\x10\0", true),
            (b"x", false),
            (&[0; 4096], false),
        ] {
            std::fs::write(&path, content).unwrap();
            assert_eq!(is_database(&path).is_ok(), good, "{content:?}");
        }
    }
}

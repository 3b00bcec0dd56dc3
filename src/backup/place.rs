//! How do files get to their places without replacing one, and all or none?
//!
//! All are written under other names beside their places first, then each takes its
//! name if that is free. Below the directories that the operator named no link is
//! followed, and on the way there root follows its own alone (`trust::way`): the user of
//! the daemon, whose directories these may be, could have made one that leads elsewhere.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, fchown};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{
    AtFlags, Mode, OFlags, fchmod, fstat, fsync, linkat, mkdirat, openat, statat, unlinkat,
};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::trust::Process;

/// A file and its place.
#[derive(Debug)]
pub(crate) struct Placement<'a> {
    /// The directory that the operator named. Links on the way there are followed, by
    /// root only where another user could not have made them.
    pub(crate) base: PathBuf,
    /// The path below it.
    pub(crate) below: PathBuf,
    /// What the file holds.
    pub(crate) bytes: &'a [u8],
    /// Who may have the file.
    pub(crate) file: Rights,
    /// Who may have the directories that are made for it.
    pub(crate) directory: Rights,
}

/// Who may do what with something.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rights {
    /// Permissions.
    pub(crate) mode: u32,
    /// The user and the group; `None` for those of this process.
    pub(crate) owner: Option<(u32, u32)>,
}

/// Why nothing was placed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlaceError {
    /// Something is there already.
    #[error("{}", in_words(.0))]
    InTheWay(Vec<PathBuf>),
    /// The system does not let it be written.
    #[error("{} cannot be written", path.display())]
    Write {
        /// The file, or a directory above it.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// The same, and not all that was written before could be removed again.
    #[error("nothing was to be left, but {}", left_behind(left))]
    Left {
        /// Why nothing was placed.
        #[source]
        cause: Box<PlaceError>,
        /// What is left.
        left: Vec<PathBuf>,
    },
}

/// Tells what could not be removed again.
pub(crate) fn left_behind(left: &[PathBuf]) -> String {
    let left: Vec<String> = left.iter().map(|path| path.display().to_string()).collect();
    format!("what was written before could not be removed again ({})", left.join(", "))
}

fn in_words(paths: &[PathBuf]) -> String {
    let lines: Vec<String> = paths.iter().map(|path| format!("    {}", path.display())).collect();
    format!(
        "nothing was restored, since nothing is ever replaced. What is in the way:\n{}\nMove it \
         away and try again",
        lines.join("\n")
    )
}

impl Placement<'_> {
    /// The whole path.
    pub(crate) fn path(&self) -> PathBuf {
        self.base.join(&self.below)
    }

    /// What is in the way of this file: something in its place, or something on the way
    /// that is no directory.
    fn in_the_way(&self) -> Option<PathBuf> {
        let mut path = self.base.clone();
        let mut parts = self.below.components().peekable();
        while let Some(part) = parts.next() {
            path.push(part);
            let found = path.symlink_metadata().ok()?;
            if parts.peek().is_none() || !found.is_dir() {
                return Some(path);
            }
        }
        None
    }
}

/// Brings all files to their places.
///
/// # Errors
///
/// If one of them cannot be; then none is there, unless the error names it.
pub(crate) fn place<'a>(files: &'a [Placement<'a>]) -> Result<Placed<'a>, PlaceError> {
    let mut in_the_way: Vec<PathBuf> = files.iter().filter_map(Placement::in_the_way).collect();
    if !in_the_way.is_empty() {
        in_the_way.dedup();
        return Err(PlaceError::InTheWay(in_the_way));
    }
    let mut placed = Placed::nothing();
    match placed.place(files) {
        Ok(()) => Ok(placed),
        Err(error) => match placed.take_back() {
            left if left.is_empty() => Err(error),
            left => Err(PlaceError::Left { cause: Box::new(error), left }),
        },
    }
}

/// What was made so far. It stays, unless it is taken back.
#[derive(Debug)]
pub(crate) struct Placed<'a> {
    process: Process,
    /// Directories that were made: the one above, the name, and the path. Those that the
    /// operator named come before those below them.
    directories: Vec<(Rc<OwnedFd>, OsString, PathBuf)>,
    /// Files beside their places.
    written: Vec<Written<'a>>,
    /// How many of them have their names by now.
    named: usize,
}

/// A file beside its place.
#[derive(Debug)]
struct Written<'a> {
    file: &'a Placement<'a>,
    /// Which it is.
    identity: Identity,
    /// The directory of both, whatever that is called by now.
    directory: Rc<OwnedFd>,
    /// What it is to be called there.
    name: &'a OsStr,
}

/// Which file it is, whatever it is called: the device and the inode.
type Identity = (u64, u64);

impl<'a> Placed<'a> {
    fn nothing() -> Self {
        Self { process: Process::current(), directories: Vec::new(), written: Vec::new(), named: 0 }
    }

    fn place(&mut self, files: &'a [Placement<'a>]) -> Result<(), PlaceError> {
        allow_handles();
        for file in files {
            self.write(file)?;
        }
        for Written { file, identity, directory, name } in &self.written {
            let here = &**directory;
            linkat(here, beside(name), here, *name, AtFlags::empty()).map_err(
                |error| match error {
                    Errno::EXIST => PlaceError::InTheWay(vec![file.path()]),
                    error => failed(&file.path(), error.into()),
                },
            )?;
            self.named += 1;
            if !is(here, name, *identity) {
                return Err(failed(&file.path(), exchanged()));
            }
        }
        for Written { file, directory, name, .. } in &self.written {
            self.tidy(file, directory, name).map_err(|error| failed(&file.path(), error))?;
        }
        Ok(())
    }

    fn tidy(&self, file: &Placement<'_>, directory: &OwnedFd, name: &OsStr) -> io::Result<()> {
        unlinkat(directory, beside(name), AtFlags::empty())?;
        // The new name is on the disk only with the directory.
        fsync(directory)?;
        let identity = |it: &OwnedFd| fstat(it).map(|it| (it.st_dev, it.st_ino));
        let (now, _) = self.directory_of(&file.base, &file.below)?;
        if identity(&now)? == identity(directory)? { Ok(()) } else { Err(exchanged()) }
    }

    /// Writes one file beside its place, and makes the directories that it needs.
    fn write(&mut self, file: &'a Placement<'a>) -> Result<(), PlaceError> {
        self.make_bases(file)?;
        self.make_directories(file)?;
        let write = |cause| failed(&file.path(), cause);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let (directory, name) = self.directory_of(&file.base, &file.below).map_err(write)?;
        let opened = openat(&directory, beside(name), flags | OFlags::CLOEXEC, Mode::from(0o600));
        let mut opened = File::from(opened.map_err(|error| write(error.into()))?);
        let found = opened.metadata().map_err(write)?;
        let identity = (found.dev(), found.ino());
        self.written.push(Written { file, identity, directory: Rc::new(directory), name });
        let written = opened.write_all(file.bytes);
        let written = written.and_then(|()| give(&opened, file.file));
        written.and_then(|()| opened.sync_all()).map_err(write)
    }

    /// Makes what is missing of the directory that the operator named.
    fn make_bases(&mut self, file: &Placement<'_>) -> Result<(), PlaceError> {
        let here = |cause| failed(&file.base, cause);
        let way = self.process.way_to(&file.base).map_err(here)?;
        way.refuse_link().map_err(here)?;
        let missing = way.rest.iter().count();
        if missing == 0 {
            return Ok(());
        }
        let mut above = Rc::new(way.last().map_err(here)?);
        let paths: Vec<&Path> = file.base.ancestors().take(missing).collect();
        for (name, path) in way.rest.iter().zip(paths.into_iter().rev()) {
            let write = |cause| failed(path, cause);
            let below = match mkdirat(&*above, name, Mode::from(0o700)) {
                // Somebody else has made it meanwhile.
                Err(Errno::EXIST) => {
                    let flags = ENTER | OFlags::NOFOLLOW;
                    openat(&*above, name, flags, Mode::empty())
                        .map_err(|error| write(error.into()))?
                }
                made => {
                    made.map_err(|error| write(error.into()))?;
                    self.directories.push((Rc::clone(&above), name.to_owned(), path.to_owned()));
                    give_directory(&*above, name, file.directory).map_err(write)?.into()
                }
            };
            above = Rc::new(below);
        }
        Ok(())
    }

    /// Makes the directories below it.
    fn make_directories(&mut self, file: &'a Placement<'a>) -> Result<(), PlaceError> {
        let mut above: Vec<&Path> = file.below.ancestors().skip(1).collect();
        // The last is the base itself.
        above.pop();
        for below in above.into_iter().rev() {
            let write = |cause| failed(&file.base.join(below), cause);
            let made = self.directory_of(&file.base, below).and_then(|(directory, name)| {
                match mkdirat(&directory, name, Mode::from(0o700)) {
                    Err(Errno::EXIST) => Ok(None),
                    made => Ok(made.map(|()| Some((directory, name)))?),
                }
            });
            if let Some((directory, name)) = made.map_err(write)? {
                let (directory, path) = (Rc::new(directory), file.base.join(below));
                self.directories.push((Rc::clone(&directory), name.to_owned(), path));
                give_directory(&*directory, name, file.directory).map_err(write)?;
            }
        }
        Ok(())
    }

    /// Takes everything back that has not been exchanged by somebody else meanwhile; what
    /// is left of it.
    pub(crate) fn take_back(self) -> Vec<PathBuf> {
        let mut left = Vec::new();
        for (index, Written { file, identity, directory, name }) in self.written.iter().enumerate()
        {
            let removed = remove(directory, &beside(name), *identity);
            let removed = removed.and_then(|()| match index < self.named {
                true => remove(directory, name, *identity),
                false => Ok(()),
            });
            left.extend(removed.is_err_and(|error| is_left(&error)).then(|| file.path()));
        }
        for (above, name, path) in self.directories.into_iter().rev() {
            let removed = unlinkat(&*above, name, AtFlags::REMOVEDIR).map_err(io::Error::from);
            left.extend(removed.is_err_and(|error| is_left(&error)).then_some(path));
        }
        left
    }

    /// The directory of a path below `base`, and the name in it.
    fn directory_of<'b>(&self, base: &Path, below: &'b Path) -> io::Result<(OwnedFd, &'b OsStr)> {
        let name = below.file_name().ok_or(Errno::INVAL)?;
        let mut directory = self.process.way_to(base)?.end()?;
        for part in below.parent().into_iter().flat_map(Path::components) {
            let flags = ENTER | OFlags::NOFOLLOW;
            directory = openat(&directory, part.as_os_str(), flags, Mode::empty())?;
        }
        Ok((directory, name))
    }
}

/// Lets this process have as many open directories as the system allows: one for each
/// file. Where that is not granted, a file more is what fails.
fn allow_handles() {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

/// Whether a name is that of a file.
fn is(directory: &OwnedFd, name: &OsStr, identity: Identity) -> bool {
    let found = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW);
    found.is_ok_and(|found| (found.st_dev, found.st_ino) == identity)
}

/// Takes a name from a file, if it has that.
fn remove(directory: &OwnedFd, name: &OsStr, identity: Identity) -> io::Result<()> {
    match is(directory, name, identity) {
        true => Ok(unlinkat(directory, name, AtFlags::empty())?),
        false => Ok(()),
    }
}

/// Whether what cannot be removed is left: it may be gone, and a directory in which
/// somebody else has put something is wanted.
fn is_left(error: &io::Error) -> bool {
    !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty)
}

/// How directories are opened.
const ENTER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Hands a file or a directory over to its owner.
fn give(file: &File, Rights { mode, owner }: Rights) -> io::Result<()> {
    if let Some((user, group)) = owner {
        fchown(file, Some(user), Some(group))?;
    }
    Ok(fchmod(file, Mode::from(mode))?)
}

/// The same for a directory that was made a moment ago: not for a link that has its
/// place by now, nor for a directory with something in it.
fn give_directory(above: impl AsFd, name: &OsStr, rights: Rights) -> io::Result<File> {
    let made = File::from(openat(above, name, ENTER | OFlags::NOFOLLOW, Mode::empty())?);
    if rights.owner.is_some() {
        let mut entries = rustix::fs::Dir::read_from(&made)?;
        let is_entry = |name: &[u8]| name != b"." && name != b"..";
        if entries.any(|it| it.is_ok_and(|it| is_entry(it.file_name().to_bytes()))) {
            return Err(exchanged());
        }
    }
    give(&made, rights)?;
    Ok(made)
}

fn exchanged() -> io::Error {
    io::Error::other("it was exchanged while it was made")
}

/// What a file is called until it gets its name.
fn beside(name: &OsStr) -> OsString {
    let mut beside = OsString::from(".");
    beside.push(name);
    beside.push(format!(".{}.new", std::process::id()));
    beside
}

fn failed(path: &Path, cause: io::Error) -> PlaceError {
    PlaceError::Write { path: path.to_owned(), cause }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn placement<'a>(base: &Path, below: &str, bytes: &'a [u8]) -> Placement<'a> {
        Placement {
            base: base.to_owned(),
            below: below.into(),
            bytes,
            file: Rights { mode: 0o600, owner: None },
            directory: Rights { mode: 0o700, owner: None },
        }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    fn count(directory: &Path) -> usize {
        fs::read_dir(directory).unwrap().count()
    }

    #[test]
    fn files_get_there_with_private_directories_and_nothing_beside_them() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().join("not/yet");
        place(&[placement(&base, "a/b/c", b"1"), placement(&base, "a/d", b"2")]).unwrap();
        assert_eq!(fs::read(base.join("a/b/c")).unwrap(), b"1");
        assert_eq!(fs::read(base.join("a/d")).unwrap(), b"2");
        assert_eq!((mode(&base.join("a/d")), mode(&base.join("a"))), (0o600, 0o700));
        assert_eq!((count(&base.join("a")), count(&base.join("a/b"))), (2, 1));
    }

    #[test]
    fn all_that_is_in_the_way_is_named_and_nothing_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path();
        fs::write(base.join("one"), "old").unwrap();
        fs::write(base.join("file"), "old").unwrap();
        symlink("/nonexistent", base.join("dangling")).unwrap();
        let files = ["new/x", "one", "file/below", "dangling"];
        let files: Vec<_> = files.iter().map(|below| placement(base, below, b"new")).collect();
        let Err(PlaceError::InTheWay(found)) = place(&files) else { panic!("placed") };
        assert_eq!(found, ["one", "file", "dangling"].map(|name| base.join(name)));
        assert_eq!(count(base), 3);
        assert_eq!(fs::read(base.join("one")).unwrap(), b"old");
    }

    #[test]
    fn no_link_below_the_directory_is_followed() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        symlink(other.path(), dir.path().join("keystore")).unwrap();
        let error = place(&[placement(dir.path(), "keystore/k", b"new")]).unwrap_err();
        assert!(matches!(error, PlaceError::InTheWay(_)));
        // The same where the link came after the look.
        let files = [placement(dir.path(), "keystore/k", b"new")];
        let mut made = Placed::nothing();
        assert!(made.place(&files).is_err());
        assert!(made.take_back().is_empty());
        assert_eq!(count(other.path()), 0);
    }

    #[test]
    fn a_failure_in_the_middle_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path();
        // Who came in between has the second name.
        fs::create_dir(base.join("b")).unwrap();
        fs::write(base.join("b/second"), "theirs").unwrap();
        let files = [placement(base, "a/first", b"1"), placement(base, "b/second", b"2")];
        let mut made = Placed::nothing();
        assert!(matches!(made.place(&files), Err(PlaceError::InTheWay(_))));
        assert!(made.take_back().is_empty());
        assert!(!base.join("a").exists());
        assert_eq!(fs::read(base.join("b/second")).unwrap(), b"theirs");
        assert_eq!(count(&base.join("b")), 1);
    }

    #[test]
    fn what_is_taken_back_is_what_was_placed_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path();
        fs::create_dir(base.join("a")).unwrap();
        fs::write(base.join("a/before"), "theirs").unwrap();
        let missing = base.join("b/c");
        let files = [
            placement(base, "a/one", b"1"),
            placement(base, "a/two", b"2"),
            placement(base, "a/d/three", b"3"),
            placement(&missing, "four", b"4"),
        ];
        let placed = place(&files).unwrap();
        // Somebody has put another file in the place of one, and one beside another.
        fs::write(base.join("other"), "theirs").unwrap();
        fs::rename(base.join("other"), base.join("a/two")).unwrap();
        fs::write(base.join("a/d/more"), "theirs").unwrap();
        assert!(placed.take_back().is_empty());
        assert!(!base.join("b").exists());
        for kept in ["a/before", "a/two", "a/d/more"] {
            assert_eq!(fs::read(base.join(kept)).unwrap(), b"theirs", "{kept}");
        }
        assert_eq!((count(&base.join("a")), count(&base.join("a/d"))), (3, 1));
    }

    #[test]
    fn what_cannot_be_taken_back_is_named() {
        let cause = PlaceError::InTheWay(vec!["a".into()]);
        let error = PlaceError::Left { cause: Box::new(cause), left: vec!["b".into(), "c".into()] };
        let said = crate::causes::in_one_line(&error);
        assert!(said.contains("could not be removed again (b, c): nothing was restored"), "{said}");
    }

    #[test]
    fn only_a_directory_that_was_just_made_is_handed_over() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path();
        fs::create_dir_all(base.join("full/of")).unwrap();
        symlink(base.join("full"), base.join("link")).unwrap();
        let above = || File::open(base).unwrap();
        let rights = Rights { mode: 0o777, owner: Some((1, 1)) };
        for name in ["full", "link"] {
            assert!(give_directory(above(), OsStr::new(name), rights).is_err(), "{name}");
        }
        assert_ne!(mode(&base.join("full")), 0o777);
    }
}

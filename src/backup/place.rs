//! How do files get to their places without replacing one, and all or none?
//!
//! All are written under other names beside their places first, then each takes its
//! name if that is free. Below the directories that the operator named no link is
//! followed: the user of the daemon, whose directories these may be, could have made
//! one that leads root elsewhere.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::fchown;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, fchmod, fsync, linkat, mkdirat, open, openat, unlinkat};
use rustix::io::Errno;

/// A file and its place.
#[derive(Debug)]
pub(crate) struct Placement<'a> {
    /// The directory that the operator named. Links on the way there are followed.
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
/// If one of them cannot be; then none is there.
pub(crate) fn place(files: &[Placement<'_>]) -> Result<(), PlaceError> {
    let mut in_the_way: Vec<PathBuf> = files.iter().filter_map(Placement::in_the_way).collect();
    if !in_the_way.is_empty() {
        in_the_way.dedup();
        return Err(PlaceError::InTheWay(in_the_way));
    }
    let mut made = Made::default();
    match made.place(files) {
        Ok(()) => Ok(()),
        Err(error) => {
            made.take_back();
            Err(error)
        }
    }
}

/// What was made so far.
#[derive(Default)]
struct Made<'a> {
    /// Directories that the operator named and that were not there.
    bases: Vec<PathBuf>,
    /// Directories below one that the operator named: that, and the path below it.
    directories: Vec<(&'a Path, PathBuf)>,
    /// Files beside their places.
    written: Vec<&'a Placement<'a>>,
    /// How many of them have their names by now.
    named: usize,
}

impl<'a> Made<'a> {
    fn place(&mut self, files: &'a [Placement<'a>]) -> Result<(), PlaceError> {
        for file in files {
            self.write(file)?;
        }
        for file in &self.written {
            let linked = directory_of(&file.base, &file.below).and_then(|(directory, name)| {
                linkat(&directory, beside(name), &directory, name, AtFlags::empty())
            });
            linked.map_err(|error| match error {
                Errno::EXIST => PlaceError::InTheWay(vec![file.path()]),
                error => failed(&file.path(), error),
            })?;
            self.named += 1;
        }
        for file in &self.written {
            let tidied = directory_of(&file.base, &file.below).and_then(|(directory, name)| {
                unlinkat(&directory, beside(name), AtFlags::empty())?;
                // The new name is on the disk only with the directory.
                fsync(directory)
            });
            tidied.map_err(|error| failed(&file.path(), error))?;
        }
        Ok(())
    }

    /// Writes one file beside its place, and makes the directories that it needs.
    fn write(&mut self, file: &'a Placement<'a>) -> Result<(), PlaceError> {
        self.make_directories(file)?;
        let write = |cause| PlaceError::Write { path: file.path(), cause };
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let opened = directory_of(&file.base, &file.below).and_then(|(directory, name)| {
            openat(directory, beside(name), flags | OFlags::CLOEXEC, Mode::from(0o600))
        });
        let mut opened = File::from(opened.map_err(|error| write(error.into()))?);
        self.written.push(file);
        let written = opened.write_all(file.bytes);
        let written = written.and_then(|()| give(&opened, file.file));
        written.and_then(|()| opened.sync_all()).map_err(write)
    }

    fn make_directories(&mut self, file: &'a Placement<'a>) -> Result<(), PlaceError> {
        let missing = file.base.ancestors().take_while(|path| !path.exists());
        for path in missing.collect::<Vec<_>>().into_iter().rev() {
            let write =
                |cause: Errno| PlaceError::Write { path: path.to_owned(), cause: cause.into() };
            let name = path.file_name().ok_or(write(Errno::INVAL))?;
            let above = path.parent().filter(|above| !above.as_os_str().is_empty());
            let above =
                open(above.unwrap_or(Path::new(".")), ENTER, Mode::empty()).map_err(write)?;
            mkdirat(&above, name, Mode::from(0o700)).map_err(write)?;
            self.bases.push(path.to_owned());
            give_directory(above, name, file.directory)
                .map_err(|cause| PlaceError::Write { path: path.to_owned(), cause })?;
        }
        let mut above: Vec<&Path> = file.below.ancestors().skip(1).collect();
        // The last is the base itself.
        above.pop();
        for below in above.into_iter().rev() {
            let write = |cause| PlaceError::Write { path: file.base.join(below), cause };
            let made =
                directory_of(&file.base, below).and_then(|(directory, name)| {
                    match mkdirat(&directory, name, Mode::from(0o700)) {
                        Err(Errno::EXIST) => Ok(None),
                        made => made.map(|()| Some((directory, name))),
                    }
                });
            if let Some((directory, name)) = made.map_err(|error| write(error.into()))? {
                self.directories.push((&file.base, below.to_owned()));
                give_directory(directory, name, file.directory).map_err(write)?;
            }
        }
        Ok(())
    }

    /// Takes everything back; what cannot be, was changed by somebody else meanwhile.
    fn take_back(&self) {
        for (index, file) in self.written.iter().enumerate() {
            let Ok((directory, name)) = directory_of(&file.base, &file.below) else { continue };
            let _ = unlinkat(&directory, beside(name), AtFlags::empty());
            if index < self.named {
                let _ = unlinkat(&directory, name, AtFlags::empty());
            }
        }
        for (base, below) in self.directories.iter().rev() {
            let Ok((directory, name)) = directory_of(base, below) else { continue };
            let _ = unlinkat(directory, name, AtFlags::REMOVEDIR);
        }
        for base in self.bases.iter().rev() {
            let _ = std::fs::remove_dir(base);
        }
    }
}

/// How directories are opened.
const ENTER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// The directory of a path below `base`, and the name in it.
fn directory_of<'a>(base: &Path, below: &'a Path) -> Result<(OwnedFd, &'a OsStr), Errno> {
    let name = below.file_name().ok_or(Errno::INVAL)?;
    let mut directory = open(base, ENTER, Mode::empty())?;
    for part in below.parent().into_iter().flat_map(Path::components) {
        let flags = ENTER | OFlags::NOFOLLOW;
        directory = openat(&directory, part.as_os_str(), flags, Mode::empty())?;
    }
    Ok((directory, name))
}

/// Hands a file or a directory over to its owner.
fn give(file: &File, Rights { mode, owner }: Rights) -> io::Result<()> {
    if let Some((user, group)) = owner {
        fchown(file, Some(user), Some(group))?;
    }
    Ok(fchmod(file, Mode::from(mode))?)
}

/// The same for a directory that was made a moment ago: not for a link that has its
/// place by now, nor for a directory with something in it.
fn give_directory(above: OwnedFd, name: &OsStr, rights: Rights) -> io::Result<()> {
    let made = File::from(openat(above, name, ENTER | OFlags::NOFOLLOW, Mode::empty())?);
    if rights.owner.is_some() {
        let mut entries = rustix::fs::Dir::read_from(&made)?;
        let is_entry = |name: &[u8]| name != b"." && name != b"..";
        if entries.any(|it| it.is_ok_and(|it| is_entry(it.file_name().to_bytes()))) {
            return Err(io::Error::other("it was exchanged while it was made"));
        }
    }
    give(&made, rights)
}

/// What a file is called until it gets its name.
fn beside(name: &OsStr) -> OsString {
    let mut beside = OsString::from(".");
    beside.push(name);
    beside.push(format!(".{}.new", std::process::id()));
    beside
}

fn failed(path: &Path, error: Errno) -> PlaceError {
    PlaceError::Write { path: path.to_owned(), cause: error.into() }
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
        let mut made = Made::default();
        assert!(made.place(&files).is_err());
        made.take_back();
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
        let mut made = Made::default();
        assert!(matches!(made.place(&files), Err(PlaceError::InTheWay(_))));
        made.take_back();
        assert!(!base.join("a").exists());
        assert_eq!(fs::read(base.join("b/second")).unwrap(), b"theirs");
        assert_eq!(count(&base.join("b")), 1);
    }

    #[test]
    fn only_a_directory_that_was_just_made_is_handed_over() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path();
        fs::create_dir_all(base.join("full/of")).unwrap();
        symlink(base.join("full"), base.join("link")).unwrap();
        let above = || open(base, ENTER, Mode::empty()).unwrap();
        let rights = Rights { mode: 0o777, owner: Some((1, 1)) };
        for name in ["full", "link"] {
            assert!(give_directory(above(), OsStr::new(name), rights).is_err(), "{name}");
        }
        assert_ne!(mode(&base.join("full")), 0o777);
    }
}

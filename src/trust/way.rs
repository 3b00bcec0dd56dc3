//! How does root get to a directory without being led elsewhere? Step by step, from one
//! open directory to the next.
//!
//! A link is followed only where nobody but root could have made it or have put another
//! one in its place. Other users follow every link: they get no further than they may.
//! Opens directories; changes nothing.

use std::collections::{BTreeSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, fstat, open, openat, readlinkat, statat};
use rustix::io::Errno;

use super::Process;

/// Write permission, as in the digits of a mode.
const WRITE: u32 = 2;

/// The most links on one way, as for the kernel.
const MOST_LINKS: usize = 40;

/// How directories are opened on the way: that they can be read is not needed there.
const PASS: OFlags =
    OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// How a directory is opened to work in it.
const ENTER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// How far a way leads.
#[derive(Debug)]
pub(crate) struct Way {
    /// The last directory that could be entered.
    directory: OwnedFd,
    /// What is left of the path: it begins with what is missing, or with a link that is
    /// not followed.
    pub(crate) rest: PathBuf,
    /// Whose that link is.
    pub(crate) link: Option<u32>,
    /// Whose the directories are that were entered.
    pub(crate) owners: BTreeSet<u32>,
}

impl Process {
    /// The way to a directory, as far as there is one.
    ///
    /// # Errors
    ///
    /// If something on the way is no directory, or cannot be entered.
    pub(crate) fn way_to(&self, path: &Path) -> io::Result<Way> {
        let mut left = VecDeque::new();
        let mut directory = open(".", PASS, Mode::empty())?;
        push(&mut left, path);
        let mut owners = BTreeSet::new();
        let mut links = 0;
        let mut link = None;
        while let Some(name) = left.pop_front() {
            if name == "/" {
                directory = open("/", PASS, Mode::empty())?;
                continue;
            }
            let found = match statat(&directory, &name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(found) => found,
                Err(Errno::NOENT) => {
                    left.push_front(name);
                    break;
                }
                Err(error) => return Err(error.into()),
            };
            if FileType::from_raw_mode(found.st_mode) != FileType::Symlink {
                directory = openat(&directory, &name, PASS, Mode::empty())?;
                owners.insert(fstat(&directory)?.st_uid);
                continue;
            }
            if !self.may_follow(&directory, &found)? {
                link = Some(found.st_uid);
                left.push_front(name);
                break;
            }
            links += 1;
            if links > MOST_LINKS {
                return Err(Errno::LOOP.into());
            }
            let target = readlinkat(&directory, &name, Vec::new())?;
            push(&mut left, Path::new(as_text(target.as_bytes())));
        }
        owners.insert(fstat(&directory)?.st_uid);
        Ok(Way { directory, rest: left.iter().collect(), link, owners })
    }

    /// Whether a link leads where this user or root wanted.
    fn may_follow(&self, directory: &OwnedFd, link: &Stat) -> io::Result<bool> {
        if self.user != 0 {
            return Ok(true);
        }
        let above = fstat(directory)?;
        let sticky = above.st_mode & 0o1000 != 0 && above.st_uid == 0;
        Ok(link.st_uid == 0 && (sticky || !self.others_have(&handle(directory), WRITE)))
    }
}

impl Way {
    /// The directory, if the way leads there.
    ///
    /// # Errors
    ///
    /// If it does not exist, or if somebody could have led root elsewhere.
    pub(crate) fn end(&self) -> io::Result<OwnedFd> {
        self.refuse_link()?;
        match self.rest.as_os_str().is_empty() {
            true => self.last(),
            false => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// The last directory on it, to work in.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub(crate) fn last(&self) -> io::Result<OwnedFd> {
        Ok(openat(&self.directory, ".", ENTER, Mode::empty())?)
    }

    /// Refuses one that ends at a link.
    ///
    /// # Errors
    ///
    /// What the link is called, and whose it is.
    pub(crate) fn refuse_link(&self) -> io::Result<()> {
        let Some(user) = self.link else { return Ok(()) };
        let name = self.rest.iter().next().unwrap_or_default().display();
        let text = format!(
            "\"{name}\" on the way there is a link, with which UID {user} or whoever may change its \
             directory could lead root elsewhere: name the place that it leads to"
        );
        Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
    }
}

/// The path of an open directory, for this process alone.
pub(crate) fn handle(directory: impl AsFd) -> PathBuf {
    format!("/proc/self/fd/{}", directory.as_fd().as_raw_fd()).into()
}

fn as_text(bytes: &[u8]) -> &OsStr {
    std::os::unix::ffi::OsStrExt::from_bytes(bytes)
}

/// Puts the steps of a path before those that are left.
fn push(left: &mut VecDeque<OsString>, path: &Path) {
    for part in path.components().rev() {
        match part {
            Component::CurDir => {}
            part => left.push_front(part.as_os_str().to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, lchown, symlink};

    use super::*;

    fn same(found: &OwnedFd, path: &Path) -> bool {
        let (found, wanted) = (fstat(found).unwrap(), path.metadata().unwrap());
        (found.st_dev, found.st_ino) == (wanted.dev(), wanted.ino())
    }

    #[test]
    fn a_way_leads_to_a_directory_or_to_what_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path();
        fs::create_dir_all(base.join("a/b")).unwrap();
        fs::write(base.join("file"), "").unwrap();
        symlink("a/../a", base.join("link")).unwrap();
        symlink(base.join("loop"), base.join("loop")).unwrap();
        let this = Process::current();
        for (path, rest) in
            [("a/b", ""), ("link/b", ""), ("link/./b/../c/d", "c/d"), ("", ""), ("no", "no")]
        {
            let way = this.way_to(&base.join(path)).unwrap();
            assert_eq!((way.rest.as_path(), way.link), (Path::new(rest), None), "{path}");
            assert_eq!(way.end().is_ok(), rest.is_empty(), "{path}");
        }
        assert!(same(
            &this.way_to(&base.join("link/b")).unwrap().end().unwrap(),
            &base.join("a/b")
        ));
        assert!(same(&this.way_to(Path::new("")).unwrap().end().unwrap(), Path::new(".")));
        for wrong in ["file", "file/x", "loop"] {
            assert!(this.way_to(&base.join(wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn root_follows_no_link_that_another_user_could_have_made() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path();
        let this = Process::current();
        if this.user != 0 {
            return;
        }
        let (open, their) = (base.join("open"), base.join("their"));
        for (directory, user, mode) in [(&open, 0, 0o755), (&their, 12_345, 0o755)] {
            fs::create_dir(directory).unwrap();
            symlink("/etc", directory.join("link")).unwrap();
            lchown(directory, Some(user), Some(0)).unwrap();
            fs::set_permissions(directory, Permissions::from_mode(mode)).unwrap();
        }
        let follows = |directory: &Path| {
            let way = this.way_to(&directory.join("link/below")).unwrap();
            assert_eq!(way.rest == Path::new("below"), way.link.is_none(), "{way:?}");
            way.link.is_none()
        };
        assert!(follows(&open));
        assert!(!follows(&their), "its owner can exchange it");
        lchown(open.join("link"), Some(12_345), Some(12_345)).unwrap();
        assert!(!follows(&open), "who has the link made it");
        lchown(open.join("link"), Some(0), Some(0)).unwrap();
        for (group, mode, followed) in
            [(0, 0o775, true), (33, 0o775, false), (0, 0o777, false), (0, 0o1777, true)]
        {
            lchown(&open, Some(0), Some(group)).unwrap();
            fs::set_permissions(&open, Permissions::from_mode(mode)).unwrap();
            assert_eq!(follows(&open), followed, "{group} {mode:o}");
        }
        let way = this.way_to(&their.join("link/below")).unwrap();
        assert!(way.owners.contains(&12_345));
        let refused = way.end().unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
        assert!(refused.to_string().contains("\"link\""), "{refused}");
    }
}

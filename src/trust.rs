//! Who else on this system can read a file? Platforms deliver keys with modes that
//! look careless and are not: root's, readable by a group that only this process is
//! in, or readable by everybody in a directory that nobody else can enter.
//!
//! Reads modes, access control lists and the user database; changes nothing. Key
//! files are judged here, and the configuration asks whose a state directory's group
//! is.

mod accounts;
pub(crate) mod advice;
pub(crate) mod way;

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{StatVfsMountFlags, statvfs};
use rustix::process::{getegid, geteuid, getgroups};

use accounts::Accounts;

/// Read permission, as in the digits of a mode.
const READ: u32 = 4;
/// Permission to enter a directory.
const ENTER: u32 = 1;

/// Where Docker and Podman put secrets.
const SECRETS: &str = "/run/secrets";

/// The user and the groups of this process, and who else there is.
#[derive(Debug)]
pub(crate) struct Process {
    user: u32,
    groups: Vec<u32>,
    accounts: Accounts,
}

impl Process {
    /// This process on this system.
    pub(crate) fn current() -> Self {
        let mut groups: Vec<u32> =
            getgroups().unwrap_or_default().into_iter().map(|group| group.as_raw()).collect();
        groups.push(getegid().as_raw());
        Self { user: geteuid().as_raw(), groups, accounts: Accounts::of_system() }
    }

    /// The user ID.
    pub(crate) fn user(&self) -> u32 {
        self.user
    }

    /// Whether nobody but root and this process's user is in a group. A group that
    /// the system has no name for counts where this process is in it: that is how
    /// Kubernetes gives one to a pod (`fsGroup`).
    pub(crate) fn is_own_group(&self, group: u32) -> bool {
        (group == 0 || self.groups.contains(&group)) && self.accounts.only(self.user, group)
    }

    /// Whether a user other than root and this process's can read a file: its own
    /// permissions and those of every directory above it count. Whoever cannot be
    /// ruled out can.
    pub(crate) fn others_can_read(&self, file: &Path) -> bool {
        let Ok(file) = file.canonicalize() else { return true };
        if is_delivered_by_a_container(&file) {
            return false;
        }
        let mut directories = file.ancestors().skip(1);
        // By another name it may lie in another directory.
        let has_other_names = file.metadata().is_ok_and(|found| found.nlink() > 1);
        self.others_have(&file, READ)
            && (has_other_names || directories.all(|directory| self.others_have(directory, ENTER)))
    }

    /// Whether others have a permission on one file or directory.
    fn others_have(&self, path: &Path, permission: u32) -> bool {
        let Ok(found) = path.metadata() else { return true };
        let mode = found.mode();
        if mode & permission != 0 || ![0, self.user].contains(&found.uid()) {
            return true;
        }
        match access_list(path) {
            Ok(None) => (mode >> 3) & permission != 0 && !self.is_own_group(found.gid()),
            Ok(Some(list)) => self.others_are_in(&list, found.gid(), permission),
            Err(_) => true,
        }
    }

    /// The same, of a list of `acl(5)` as the kernel keeps it: a version, then a tag,
    /// permissions and an ID for each entry.
    fn others_are_in(&self, list: &[u8], group: u32, permission: u32) -> bool {
        let entries = || {
            list.get(4..).unwrap_or_default().chunks_exact(8).filter_map(|entry| {
                let (tag, rest) = entry.split_first_chunk::<2>()?;
                let (permissions, id) = rest.split_first_chunk::<2>()?;
                let id = u32::from_le_bytes(id.try_into().ok()?);
                Some((u16::from_le_bytes(*tag), u32::from(u16::from_le_bytes(*permissions)), id))
            })
        };
        let mask = entries().find(|(tag, ..)| *tag == 0x10).map_or(7, |(_, mask, _)| mask);
        entries().any(|(tag, permissions, id)| {
            let other = match tag {
                0x02 => ![0, self.user].contains(&id),
                0x04 => !self.is_own_group(group),
                0x08 => !self.is_own_group(id),
                _ => false,
            };
            other && permissions & mask & permission != 0
        })
    }

    /// Whether this process can change the mode of a file.
    pub(crate) fn may_change(&self, path: &Path) -> bool {
        let own = path.metadata().is_ok_and(|found| [found.uid(), 0].contains(&self.user));
        let mount = statvfs(path).map(|found| found.f_flag);
        own && !mount.is_ok_and(|flags| flags.contains(StatVfsMountFlags::RDONLY))
    }
}

/// The access control list of a file, if it has more than a mode.
fn access_list(path: &Path) -> io::Result<Option<Vec<u8>>> {
    // Room for some hundred entries.
    let mut list = vec![0_u8; 4096];
    match rustix::fs::getxattr(path, "system.posix_acl_access", &mut list[..]) {
        Ok(length) => {
            list.truncate(length);
            Ok(Some(list))
        }
        // There is none, or the file system knows none.
        Err(rustix::io::Errno::NODATA | rustix::io::Errno::OPNOTSUPP) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// What Docker and Podman leave in a container, if they can write to its root.
const CONTAINER: [&str; 2] = ["/.dockerenv", "/run/.containerenv"];

/// Whether a file is a container's secret: below `/run/secrets`, root's, and mounted
/// there for this container alone, with its directory or by itself. A machine of
/// several users has no such place.
fn is_delivered_by_a_container(file: &Path) -> bool {
    let secrets = Path::new(SECRETS);
    let device = |path: &Path| path.metadata().map(|found| found.dev()).ok();
    let mounted = |path: &Path| device(path) != path.parent().and_then(device);
    let mut mounts = file.ancestors().take_while(|path| path.starts_with(secrets));
    file.metadata().is_ok_and(|found| found.uid() == 0)
        && (mounts.next().is_some_and(mounted)
            || mounts.any(mounted) && CONTAINER.iter().any(|mark| Path::new(mark).exists()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn process(user: u32, groups: &[u32], passwd: &str, group: &str) -> Process {
        Process {
            user,
            groups: groups.to_vec(),
            accounts: Accounts::new(Some(passwd), Some(group), None),
        }
    }

    #[test]
    fn a_group_without_a_name_is_the_processs_own_if_it_is_in_it() {
        let container = process(65_532, &[65_532, 2000], "", "");
        assert!(container.is_own_group(2000));
        assert!(container.is_own_group(0));
        assert!(!container.is_own_group(2001));
    }

    #[test]
    fn a_file_open_to_all_is_private_behind_a_closed_directory() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key");
        std::fs::write(&file, "").unwrap();
        let mode = |path: &Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        let this = Process::current();
        mode(&file, 0o444);
        mode(dir.path(), 0o700);
        assert!(!this.others_can_read(&file));
        mode(dir.path(), 0o755);
        assert!(this.others_can_read(&file), "everything above is open as well");
        mode(&file, 0o400);
        assert!(!this.others_can_read(&file));
        assert!(this.others_can_read(&dir.path().join("absent")));
    }

    #[test]
    fn an_access_list_counts_users_groups_and_the_mask() {
        let this = process(7, &[], "", "");
        let list = |entries: &[(u16, u16, u32)]| {
            let mut list = vec![2, 0, 0, 0];
            for (tag, permissions, id) in entries {
                list.extend(tag.to_le_bytes());
                list.extend(permissions.to_le_bytes());
                list.extend(id.to_le_bytes());
            }
            list
        };
        let readable = |entries: &[(u16, u16, u32)]| this.others_are_in(&list(entries), 0, READ);
        // What systemd gives a credential: the user of the unit, and nobody else.
        let unit = [(0x01, 4, u32::MAX), (0x02, 4, 7), (0x04, 0, 0), (0x10, 4, 0), (0x20, 0, 0)];
        assert!(!readable(&unit));
        assert!(readable(&[(0x02, 4, 8), (0x10, 4, 0)]));
        assert!(!readable(&[(0x02, 4, 8), (0x10, 1, 0)]), "the mask takes it away");
        assert!(readable(&[(0x08, 4, 9)]));
        assert!(!readable(&[]));
    }
}

//! What helps where others could read or change a file, in the place where it lies:
//! nobody can chmod a read-only volume.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use fs_mistrust::Error;

use super::Process;
use crate::causes::{chain, in_one_line};

impl Process {
    /// What to do about permissions that others should not have: `bits` of a mode.
    pub(crate) fn advice_on_mode(&self, path: &Path, bits: u32) -> String {
        let shown = path.display();
        if let Some(group) = sharing_group(self, path) {
            if bits & 0o070 == 0 {
                return format!("chmod o-rwx {shown}");
            }
            return format!(
                "group {group} is to share this directory, as that of a volume (Kubernetes: \
                 `fsGroup`), so leave it its access. Run this as the user and the group of the \
                 service (`setpriv --reuid=UID --regid={group} --clear-groups onionbraid ...`; \
                 `kubectl exec` in the pod); or, where that group may have the keys, set \
                 `storage.permissions.trust_group = {group}`"
            );
        }
        if self.may_change(path) {
            return match path.is_dir() {
                true if bits & 0o055 == 0 => format!("chmod go-w {shown}"),
                true => format!("chmod 700 {shown}"),
                false => format!("chmod 600 {shown}"),
            };
        }
        let group = bits & 0o070 != 0 && bits & 0o007 == 0;
        match path.is_dir() {
            true if group => "where it is a volume, give it a group that nobody else is in \
                              (Kubernetes: `fsGroup`); where that group may have the keys, set \
                              `storage.permissions.trust_group` to its name or number"
                .to_owned(),
            true => format!(
                "this process may not change that. Use a directory below it that belongs to UID \
                 {} alone; where nobody else is on this system, as in a container, \
                 `storage.permissions.ignore_prefix = \"{shown}\"` accepts it as it is",
                self.user()
            ),
            false if group => format!(
                "this process may not change that. Deliver it for its owner alone (mode 0400 for \
                 UID {}) or with a group that nobody else is in (Kubernetes: `defaultMode: 0440` \
                 and `fsGroup`); where that group may have the key, set \
                 `storage.permissions.trust_group` to its name or number",
                self.user()
            ),
            false => format!(
                "this process may not change that. Kubernetes: `defaultMode: 0440` in the volume \
                 and `fsGroup` in the pod; Docker: `mode: 0400` and `uid: \"{0}\"` in the secret; \
                 systemd: LoadCredential=; else a directory above it that only UID {0} can enter. \
                 Where nobody else is on this system, as in a container, \
                 `storage.permissions.dangerously_trust_everyone = true` accepts it as it is",
                self.user()
            ),
        }
    }

    /// What to do about a file of another user.
    pub(crate) fn advice_on_owner(&self, path: &Path, owner: u32) -> String {
        let shown = path.display();
        let user = self.user();
        match path.is_dir() {
            true if user == 0 => {
                format!("run this as its owner: `sudo -u '#{owner}' onionbraid ...`")
            }
            true => format!(
                "give it to UID {user}, or run this as its owner; where that user may have the \
                 keys, set `storage.permissions.trust_user = {owner}`"
            ),
            false => format!(
                "copy it with `install -m 600 {shown} NEW`, or chown it to the user that runs \
                 onionbraid; where its owner may have the key, set \
                 `storage.permissions.trust_user = {owner}`"
            ),
        }
    }

    /// What to do about a key that this process may not read.
    pub(crate) fn advice_on_denial(&self) -> String {
        format!(
            "UID {} may not read it. Deliver it for that user alone, or with a group that this \
             process is in and nobody else (Kubernetes: `fsGroup`); systemd's LoadCredential= \
             takes a key that is root's alone",
            self.user()
        )
    }
}

/// The group that a directory is shared with on purpose: new files get it, or root has
/// given it a group that is not root's.
fn sharing_group(process: &Process, path: &Path) -> Option<u32> {
    let found = path.metadata().ok().filter(Metadata::is_dir)?;
    let is_shared = found.mode() & 0o2000 != 0 || (process.user() == 0 && found.gid() != 0);
    is_shared.then(|| found.gid())
}

/// What fs-mistrust found, and what helps there.
pub(crate) fn in_words(error: &Error) -> String {
    let advice = match error {
        Error::BadPermission(path, _, bits) => Process::current().advice_on_mode(path, *bits),
        Error::BadOwner(path, owner) => Process::current().advice_on_owner(path, *owner),
        Error::Content(inner) => return in_words(inner),
        _ => return error.to_string(),
    };
    format!("{error}; {advice}")
}

/// What an error of a library says, and what helps where fs-mistrust is its cause.
pub(crate) fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let found = chain(error).find_map(|cause| {
        let shared = || cause.downcast_ref::<Arc<Error>>().map(Arc::as_ref);
        cause.downcast_ref::<Error>().or_else(shared)
    });
    found.map_or_else(|| in_one_line(error), in_words)
}

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::{PermissionsExt as _, chown};

    use super::*;

    #[test]
    fn no_chmod_takes_a_volume_from_the_group_that_it_is_for() {
        let dir = tempfile::tempdir().unwrap();
        let process = Process::current();
        let with_mode = |mode| set_permissions(dir.path(), Permissions::from_mode(mode)).unwrap();
        with_mode(0o2775);
        let group = dir.path().metadata().unwrap().gid();
        let advice = process.advice_on_mode(dir.path(), 0o020);
        assert!(!advice.contains("chmod"), "{advice}");
        assert!(advice.contains(&format!("trust_group = {group}`")), "{advice}");
        let advice = process.advice_on_mode(dir.path(), 0o005);
        assert!(advice.starts_with("chmod o-rwx "), "{advice}");
        if process.user() != 0 {
            return;
        }
        chown(dir.path(), Some(0), Some(0)).unwrap();
        with_mode(0o775);
        assert!(process.advice_on_mode(dir.path(), 0o020).starts_with("chmod go-w "));
        chown(dir.path(), Some(0), Some(2000)).unwrap();
        let advice = process.advice_on_mode(dir.path(), 0o020);
        assert!(!advice.contains("chmod") && advice.contains("trust_group = 2000`"), "{advice}");
    }
}

//! May a file of a backup come back to its place, and whose is it there?
//!
//! A backup for a recipient can come from anybody who knows that, so its files go
//! where the operator said and to the directories of onionbraid, nowhere else. Reads
//! the owners of directories; changes nothing.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use super::contents::{Backup, FileEntry, FileKind};
use super::place::{Placement, Rights};

/// Where files may come back to.
#[derive(Debug)]
pub(crate) struct Destinations {
    /// The configuration files.
    pub(crate) configuration: Vec<PathBuf>,
    /// Directories that other files may lie below, beside those of the
    /// configuration.
    pub(crate) directories: Vec<PathBuf>,
    /// What the operator named besides: such directories, or single files.
    pub(crate) named: Vec<PathBuf>,
}

/// Files that may not come back to their places.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Elsewhere {
    /// Configuration files that nobody named.
    pub(crate) configuration: Vec<PathBuf>,
    /// The directories of other files, and those files themselves that are hidden.
    pub(crate) directories: BTreeSet<PathBuf>,
}

impl Elsewhere {
    /// As few directories as make all of it good.
    fn least(mut self) -> Self {
        let named: Vec<&Path> = self.configuration.iter().filter_map(|it| it.parent()).collect();
        let all = self.directories.clone();
        self.directories.retain(|directory| {
            let below = |other: &Path| is_below(directory, other);
            let mut others = all.iter().filter(|other| *other != directory);
            !named.iter().any(|other| below(other)) && !others.any(|other| below(other))
        });
        self
    }
}

/// Whose what comes back is to be, where root brings it back for another user: the
/// user and the group.
pub(crate) type RestoredOwner = Option<(u32, u32)>;

impl Destinations {
    /// Where each file goes.
    ///
    /// # Errors
    ///
    /// All that are elsewhere, if any are.
    pub(crate) fn of<'a>(
        &self,
        backup: &'a Backup,
        owner: RestoredOwner,
    ) -> Result<Vec<Placement<'a>>, Elsewhere> {
        let mut elsewhere = Elsewhere::default();
        let mut placements = Vec::new();
        for (file, bytes) in backup.manifest.files.iter().zip(&backup.contents) {
            let path = Path::new(&file.path);
            match self.base(file) {
                Some((base, below)) => {
                    let (file, directory) = rights(file, owner);
                    placements.push(Placement { base, below, bytes, file, directory });
                }
                None if file.kind == FileKind::Configuration => {
                    elsewhere.configuration.push(path.to_owned());
                }
                // Its directory would not do.
                None if path.file_name().is_some_and(|name| is_hidden(Path::new(name))) => {
                    elsewhere.directories.insert(path.to_owned());
                }
                None => elsewhere.directories.extend(path.parent().map(Path::to_owned)),
            }
        }
        let state_dir = Path::new(&backup.manifest.state_dir);
        if !self.bases().any(|base| is_below(state_dir, base)) {
            elsewhere.directories.insert(state_dir.to_owned());
        }
        if elsewhere == Elsewhere::default() { Ok(placements) } else { Err(elsewhere.least()) }
    }

    /// The directory that a file may lie below, and its path there.
    fn base(&self, file: &FileEntry) -> Option<(PathBuf, PathBuf)> {
        let path = Path::new(&file.path);
        let names = |files: &[PathBuf]| files.iter().any(|it| it == path);
        let is_named = match file.kind {
            FileKind::Configuration if !names(&self.configuration) => return None,
            FileKind::Configuration => true,
            _ => names(&self.named),
        };
        // Named as it is, hidden or not.
        if let (true, Some(parent), Some(name)) = (is_named, path.parent(), path.file_name()) {
            return Some((parent.to_owned(), name.into()));
        }
        self.bases().find_map(|base| {
            let below = path.strip_prefix(base).ok()?;
            let is_file = below.components().next().is_some();
            (is_file && !is_hidden(below)).then(|| (base.to_owned(), below.to_owned()))
        })
    }

    fn bases(&self) -> impl Iterator<Item = &Path> {
        let named = self.configuration.iter().filter_map(|file| file.parent());
        named.chain(self.directories.iter().chain(&self.named).map(PathBuf::as_path))
    }
}

/// Where each file goes if all go below a new directory, whose the user is.
pub(crate) fn below<'a>(directory: &Path, backup: &'a Backup) -> Vec<Placement<'a>> {
    let mut placements = Vec::new();
    for (file, bytes) in backup.manifest.files.iter().zip(&backup.contents) {
        let below = Path::new(file.path.trim_start_matches('/')).to_owned();
        let (file, directory_rights) = rights(file, None);
        let base = directory.to_owned();
        placements.push(Placement { base, below, bytes, file, directory: directory_rights });
    }
    placements
}

/// Whether a directory is another or lies below it, with nothing hidden on the way.
fn is_below(directory: &Path, other: &Path) -> bool {
    directory.strip_prefix(other).is_ok_and(|below| !is_hidden(below))
}

/// Whether a file or a directory on the way is hidden: a home directory has programs
/// that read such files, and no configuration needs them.
fn is_hidden(below: &Path) -> bool {
    let hidden = |part: Component<'_>| part.as_os_str().as_encoded_bytes().starts_with(b".");
    below.components().any(hidden)
}

/// Who may do what with a file, and with directories that are made for it. What root
/// brings back for another user: keys are that user's, and what else there is only
/// readable for it, so that the daemon cannot change what root reads.
fn rights(file: &FileEntry, owner: RestoredOwner) -> (Rights, Rights) {
    match owner {
        Some((_, group)) if !file.kind.is_key() => {
            let owner = Some((0, group));
            (Rights { mode: 0o640, owner }, Rights { mode: 0o750, owner })
        }
        owner => (Rights { mode: 0o600, owner }, Rights { mode: 0o700, owner }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::contents::Manifest;
    use super::*;

    fn destinations() -> Destinations {
        Destinations {
            configuration: vec!["/etc/onionbraid/arti.toml".into()],
            directories: vec!["/var/lib/onionbraid".into()],
            named: Vec::new(),
        }
    }

    fn backup(state_dir: &str, files: &[(&str, FileKind)]) -> Backup {
        let entry = |(path, kind): &(&str, FileKind)| FileEntry {
            path: (*path).to_owned(),
            kind: kind.clone(),
        };
        let files: Vec<FileEntry> = files.iter().map(entry).collect();
        let contents = files.iter().map(|_| vec![1].into()).collect();
        Backup { manifest: Manifest::new(String::new(), state_dir.into(), files), contents }
    }

    fn key() -> FileKind {
        FileKind::Key { address: String::new() }
    }

    #[test]
    fn what_belongs_to_onionbraid_comes_back() {
        let files = [
            ("/etc/onionbraid/arti.toml", FileKind::Configuration),
            ("/etc/onionbraid/pages/down.html", FileKind::Named),
            ("/var/lib/onionbraid/keystore/hss/a/k", key()),
        ];
        let backup = backup("/var/lib/onionbraid", &files);
        let placed = destinations().of(&backup, Some((7, 8))).unwrap();
        let told = |it: &Placement<'_>| (it.path(), it.file.mode, it.file.owner);
        let expected = [
            ("/etc/onionbraid/arti.toml".into(), 0o640, Some((0, 8))),
            ("/etc/onionbraid/pages/down.html".into(), 0o640, Some((0, 8))),
            ("/var/lib/onionbraid/keystore/hss/a/k".into(), 0o600, Some((7, 8))),
        ];
        assert_eq!(placed.iter().map(told).collect::<Vec<_>>(), expected);
        assert_eq!(destinations().of(&backup, None).unwrap()[0].file.mode, 0o600);
    }

    #[test]
    fn what_lies_elsewhere_needs_a_word_of_the_operator() {
        for (path, kind) in [
            ("/etc/cron.d/job", FileKind::Named),
            ("/etc/cron.d/job", FileKind::Configuration),
            ("/etc/onionbraid/other.toml", FileKind::Configuration),
            ("/etc/onionbraid", FileKind::Named),
            ("/etc/onionbraid-not/file", FileKind::Named),
            ("/etc/onionbraid/.hidden/file", FileKind::Named),
            ("/var/lib/onionbraid/.profile", key()),
        ] {
            let backup = backup("/var/lib/onionbraid", &[(path, kind.clone())]);
            assert!(destinations().of(&backup, None).is_err(), "{path} {kind:?}");
        }
        let elsewhere = destinations().of(&backup("/srv/state", &[]), None).unwrap_err();
        assert_eq!(elsewhere.directories, ["/srv/state".into()].into());
        let files = [
            ("/srv/o/arti.toml", FileKind::Configuration),
            ("/srv/o/keys/k", key()),
            ("/srv/state/keystore/hss/a/k", key()),
        ];
        let elsewhere = destinations().of(&backup("/srv/state", &files), None).unwrap_err();
        assert_eq!(elsewhere.configuration, [PathBuf::from("/srv/o/arti.toml")]);
        assert_eq!(elsewhere.directories, ["/srv/state".into()].into());
        let mut destinations = destinations();
        destinations.named.push("/srv".into());
        assert!(destinations.of(&backup("/srv/state", &[("/srv/k", key())]), None).is_ok());
    }

    #[test]
    fn a_hidden_file_comes_back_only_by_its_own_name() {
        let hidden = "/etc/onionbraid/.shop.pem";
        let backup_of = |path| backup("/var/lib/onionbraid", &[(path, key())]);
        let named = |named: &[&str], path| {
            let named = named.iter().map(PathBuf::from).collect();
            let destinations = Destinations { named, ..destinations() };
            destinations.of(&backup_of(path), None).map(|placed| placed[0].path())
        };
        let asked = named(&["/etc/onionbraid"], hidden).unwrap_err();
        assert_eq!(asked.directories, [PathBuf::from(hidden)].into());
        assert_eq!(named(&[hidden], hidden), Ok(hidden.into()), "what the error names works");
        for (given, path) in [
            (hidden, "/etc/onionbraid/.bashrc"),
            (hidden, "/etc/onionbraid/.ssh/authorized_keys"),
            ("/etc/onionbraid/.shop", hidden),
            ("/etc", hidden),
        ] {
            assert!(named(&[given], path).is_err(), "{given} {path}");
        }
        let below = "/etc/onionbraid/.keys/shop";
        let asked = named(&[], below).unwrap_err();
        assert_eq!(asked.directories, [PathBuf::from("/etc/onionbraid/.keys")].into());
        assert_eq!(named(&["/etc/onionbraid/.keys"], below), Ok(below.into()));

        let configuration = "/home/o/.onionbraid.toml";
        let backup = backup("/var/lib/onionbraid", &[(configuration, FileKind::Configuration)]);
        let mut destinations = destinations();
        let asked = destinations.of(&backup, None).unwrap_err();
        assert_eq!(asked.configuration, [PathBuf::from(configuration)]);
        destinations.configuration.push(configuration.into());
        assert_eq!(destinations.of(&backup, None).unwrap()[0].path(), Path::new(configuration));
    }
}

//! Which files of this machine belong into a backup? The configuration, what it names
//! (`config/files` knows all of that), and the identity keys, each as it is on the disk.
//!
//! Reads files and changes none. A key that the daemon would refuse, since others can
//! read it, is refused here, too.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use tor_hsservice::HsNickname;
use zeroize::Zeroizing;

use super::contents::{
    Backup, ContentsError, FileEntry, FileKind, LONGEST_FILE, MOST_BYTES, Manifest, is_client,
};
use crate::config::{Config, Expected, KeyDir, delivered};
use crate::tor::credentials::Credentials;
use crate::tor::keys::{self, KeyError, KeyFileError, Keys, Parsed};
use onionbraid_balancer::onion::OnionAddress;

/// What was collected.
pub(crate) struct Collected {
    /// The backup.
    pub(crate) backup: Backup,
    /// The enabled services and the addresses of those that have a key.
    pub(crate) services: Vec<(HsNickname, Option<OnionAddress>)>,
    /// What is not in it although one might think so.
    pub(crate) left_out: Vec<String>,
}

/// Why nothing was collected.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CollectError {
    /// A service's key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A key file cannot be used.
    #[error(transparent)]
    KeyFile(#[from] KeyFileError),
    /// A file cannot be read.
    #[error("{} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// A path that cannot be written into a backup.
    #[error("{}: its path is no UTF-8 text", .0.display())]
    NotText(PathBuf),
    /// What is there may not be in a backup.
    #[error("this does not fit into a backup: {0}")]
    Contents(#[from] ContentsError),
}

/// Reads everything that belongs into a backup.
///
/// # Errors
///
/// If a file cannot be read, or a service's key cannot be used.
pub(crate) fn collect(config: &Config, made: String) -> Result<Collected, CollectError> {
    let mut found = FoundFiles::default();
    for file in &config.files {
        found.add(file, FileKind::Configuration)?;
    }
    for (path, wanted) in &config.named {
        let is_kept = !matches!(wanted, Expected::Directory | Expected::Socket | Expected::Bundle);
        if is_kept && found.leaves_out(path, *wanted) {
            continue;
        }
        match wanted {
            Expected::Page
            | Expected::Certificates
            | Expected::Certificate
            | Expected::Backends => {
                found.add(path, FileKind::Named)?;
            }
            Expected::TlsKey => found.add(path, FileKind::TlsKey)?,
            Expected::ClientKey => found.add(path, FileKind::ClientKey)?,
            Expected::Clients => found.add_clients(path)?,
            Expected::Directory => found.left_out.push(format!("the files in {}", path.display())),
            // With the services, since it has to be one that the daemon would take.
            Expected::Key => {}
            Expected::Socket => {}
            Expected::Bundle => found.left_out.push(format!(
                "the keys of periods in {}, which can be exported again",
                path.display()
            )),
        }
    }
    let keys = keys::open_existing(&config.storage)?;
    let mut services = Vec::new();
    for service in &config.services {
        // As the daemon reads it, so that a backup has no key that would be refused.
        let found_keys = Credentials::of_service(&keys, &service.nickname, service.key_place());
        let found_keys = match &service.identity_key {
            Some(path) if delivered(path).is_some() => match found_keys {
                Ok(found_keys) => found_keys,
                // It may be there for the daemon alone.
                Err(_) => continue,
            },
            Some(path) => {
                let found_keys = found_keys?;
                found.add_key(path)?;
                found_keys
            }
            None => found_keys?,
        };
        if service.enabled {
            services
                .push((service.nickname.clone(), found_keys.as_ref().map(Credentials::address)));
        }
    }
    for store in config.storage.keystore.ctor_svc_stores() {
        if !found.leaves_out(store.path(), Expected::Key) {
            found.add_key(store.path())?;
        }
    }
    for store in config.storage.keystore.ctor_client_stores() {
        if !found.leaves_out(store.path(), Expected::ClientKey) {
            found.add_client_store(store.path())?;
        }
    }
    found.add_keystore(&config.storage.state_dir.join("keystore"), &keys)?;

    let state_dir = text(&plain(&config.storage.state_dir))?;
    let FoundFiles { files, left_out } = found;
    let (files, contents) = files.into_iter().unzip();
    let manifest = Manifest::new(made, state_dir, files);
    manifest.check()?;
    let backup = Backup { manifest, contents };
    backup.check()?;
    Ok(Collected { backup, services, left_out })
}

/// The files that were found so far.
#[derive(Default)]
struct FoundFiles {
    files: Vec<(FileEntry, Zeroizing<Vec<u8>>)>,
    left_out: Vec<String>,
}

impl FoundFiles {
    fn add(&mut self, path: &Path, kind: FileKind) -> Result<(), CollectError> {
        let bytes = read(path, 0)?;
        self.push(path, kind, bytes)
    }

    /// Whether a file is one that the platform delivers, which has a source elsewhere and
    /// no place where it could come back to.
    fn leaves_out(&mut self, path: &Path, wanted: Expected) -> bool {
        let Some(shown) = delivered(path) else { return false };
        let what = match wanted {
            Expected::Key | Expected::TlsKey | Expected::ClientKey => "key",
            _ => "file",
        };
        let text = format!("the {what} {shown} comes from a credential: keep its source");
        if !self.left_out.contains(&text) {
            self.left_out.push(text);
        }
        true
    }

    /// Adds a key that the configuration names: a file, or a directory of C tor.
    fn add_key(&mut self, path: &Path) -> Result<(), CollectError> {
        for (index, file) in keys::files_of(path)?.into_iter().enumerate() {
            let bytes = read(&file, 0)?;
            let kind = match index {
                0 => key(&file, &bytes)?,
                _ => FileKind::BesideKey,
            };
            self.push(&file, kind, bytes)?;
        }
        Ok(())
    }

    /// Adds the files of a directory of clients that let somebody in.
    fn add_clients(&mut self, directory: &Path) -> Result<(), CollectError> {
        let key_dir = KeyDir { path: directory.to_owned(), trust_everyone: false };
        let failed = |cause| CollectError::Read { path: directory.to_owned(), cause };
        let files = match key_dir.files() {
            // `check` warns of it: nobody is let in, and nothing can be lost.
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            files => files.map_err(failed)?,
        };
        if files.is_empty() {
            let directory = directory.display();
            self.left_out.push(format!("{directory}, which has no file of a client in it"));
        }
        for file in files.values() {
            if file.to_str().is_none() {
                let file = file.display();
                self.left_out.push(format!("{file}: its name is not UTF-8, so no client has it"));
                continue;
            }
            let bytes = read(file, 0)?;
            match is_client(&bytes) {
                Ok(()) => self.push(file, FileKind::Client, bytes)?,
                Err(problem) => self.left_out.push(format!("{}: {problem}", file.display())),
            }
        }
        Ok(())
    }

    /// Adds the keys in a directory as C tor's clients have it.
    fn add_client_store(&mut self, directory: &Path) -> Result<(), CollectError> {
        let failed = |cause| CollectError::Read { path: directory.to_owned(), cause };
        let mut files = Vec::new();
        for entry in directory.read_dir().map_err(failed)? {
            let file = entry.map_err(failed)?.path();
            if file.extension().is_some_and(|extension| extension == "auth_private") {
                files.push(file);
            }
        }
        files.sort();
        files.iter().try_for_each(|file| self.add(file, FileKind::ClientKey))
    }

    /// Adds the identity keys of the keystore, also those of services that the
    /// configuration does not name any more.
    fn add_keystore(&mut self, directory: &Path, keys: &Keys) -> Result<(), CollectError> {
        let services = directory.join("hss");
        let failed = |cause| CollectError::Read { path: services.clone(), cause };
        let entries = match services.read_dir() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries.map_err(failed)?,
        };
        let mut names = Vec::new();
        for entry in entries {
            names.extend(entry.map_err(failed)?.file_name().into_string().ok());
        }
        names.sort();
        for name in names {
            // What is no nickname is nothing of a keystore.
            let Ok(nickname) = name.parse::<HsNickname>() else { continue };
            let file = keys::stored_at(directory, &name);
            if file.symlink_metadata().is_err() {
                continue;
            }
            keys.stored(&nickname)?;
            // The user of the daemon could have it lead to a file of another user.
            let bytes = read(&file, libc::O_NOFOLLOW)?;
            let kind = key(&file, &bytes)?;
            self.push(&file, kind, bytes)?;
        }
        Ok(())
    }

    fn push(
        &mut self,
        path: &Path,
        kind: FileKind,
        bytes: Zeroizing<Vec<u8>>,
    ) -> Result<(), CollectError> {
        let path = text(&plain(path))?;
        if self.files.iter().any(|(there, _)| there.path == path) {
            return Ok(());
        }
        let others: usize = self.files.iter().map(|(_, bytes)| bytes.len()).sum();
        if (others + bytes.len()) as u64 > MOST_BYTES {
            return Err(ContentsError::TooMuch("64 MiB").into());
        }
        self.files.push((FileEntry { path, kind }, bytes));
        Ok(())
    }
}

/// What a file with a secret key is called in a backup.
fn key(file: &Path, bytes: &[u8]) -> Result<FileKind, KeyFileError> {
    match keys::parse(bytes) {
        Ok(Parsed::Secret(key)) => Ok(FileKind::Key { address: key.address().to_string() }),
        Ok(Parsed::Public(_)) => Err(KeyFileError::PublicOnly(file.to_owned())),
        Err(cause) => Err(KeyFileError::Parse { path: file.to_owned(), cause }),
    }
}

/// Reads an ordinary file; `flags` as for open(2).
fn read(path: &Path, flags: i32) -> Result<Zeroizing<Vec<u8>>, CollectError> {
    let failed = |cause| CollectError::Read { path: path.to_owned(), cause };
    // What is no file, such as a pipe, could keep us waiting.
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_NONBLOCK | flags);
    let file = options.open(path).map_err(|cause| match cause.kind() {
        io::ErrorKind::PermissionDenied => {
            KeyFileError::Denied { path: path.to_owned(), cause: Arc::new(cause) }.into()
        }
        _ => failed(cause),
    })?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(failed(io::Error::other("this is no ordinary file")));
    }
    if metadata.len() > LONGEST_FILE {
        let path = path.to_string_lossy();
        return Err(ContentsError::file(&path, "this is longer than 4 MiB").into());
    }
    // Room for all, so that growing leaves no copy of a key behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(metadata.len() as usize + 1));
    file.take(metadata.len()).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

/// An absolute path without steps back: those that are in it are resolved.
pub(crate) fn plain(path: &Path) -> PathBuf {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    if !whole.components().any(|part| part == Component::ParentDir) {
        return whole;
    }
    let resolved = whole.parent().and_then(|parent| parent.canonicalize().ok());
    match (resolved, whole.file_name()) {
        (Some(parent), Some(name)) => parent.join(name),
        _ => whole.canonicalize().unwrap_or(whole),
    }
}

fn text(path: &Path) -> Result<String, CollectError> {
    path.to_str().map(str::to_owned).ok_or_else(|| CollectError::NotText(path.to_owned()))
}

//! What is in a backup, and may it be there? Values: no file is touched here.
//!
//! Whoever knows a recipient can encrypt for it, so what is read is believed no
//! further than it proves itself: a key has the address that is said of it, a
//! configuration is TOML, and a path is plain.

use std::collections::BTreeSet;
use std::path::Path;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::tor::keys::{self, Parsed};
use onionbraid_balancer::onion::{ClientKey, OnionAddress};

/// The most files of a backup.
pub(crate) const MOST_FILES: usize = 4096;
/// The longest file of a backup, in bytes.
pub(crate) const LONGEST_FILE: u64 = 4 * 1024 * 1024;
/// The most bytes of all its files together.
pub(crate) const MOST_BYTES: u64 = 64 * 1024 * 1024;
/// The longest path, in bytes; as the system has it.
const LONGEST_PATH: usize = 4095;
/// What this version writes and reads.
const VERSION: u32 = 1;

/// A backup in memory.
#[derive(Debug)]
pub(crate) struct Backup {
    /// What is said of it.
    pub(crate) manifest: Manifest,
    /// What the files hold, in the order of the manifest.
    pub(crate) contents: Vec<Zeroizing<Vec<u8>>>,
}

/// What a backup says of itself; its first member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    /// The format's version.
    version: u32,
    /// Which onionbraid wrote it.
    program: String,
    /// When, as RFC 3339.
    pub(crate) made: String,
    /// The state directory, whose owner is the daemon's user.
    pub(crate) state_dir: String,
    /// The files, in the order in which they follow; configuration files in the order
    /// in which they are laid over each other.
    pub(crate) files: Vec<FileEntry>,
}

/// What is said of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileEntry {
    /// Its absolute path.
    pub(crate) path: String,
    /// What it is.
    #[serde(flatten)]
    pub(crate) kind: FileKind,
}

/// What a file is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum FileKind {
    /// A configuration file.
    Configuration,
    /// A file that the configuration names: a page, certificates, more backends.
    Named,
    /// A secret identity key.
    Key {
        /// Its address.
        address: String,
    },
    /// The public key or the address beside a key of C tor.
    BesideKey,
    /// The key of a certificate.
    TlsKey,
    /// The secret key with which the descriptor of a backend is read.
    ClientKey,
    /// The public key of a client that may find a service.
    Client,
}

impl FileKind {
    /// Whether only the daemon's user may have it.
    pub(crate) fn is_key(&self) -> bool {
        matches!(self, Self::Key { .. } | Self::BesideKey | Self::TlsKey | Self::ClientKey)
    }
}

/// Why something is no backup, or one that is not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ContentsError {
    /// Of a version that this program does not know.
    #[error(
        "it is of version {0} of the format, which this onionbraid does not know: use a newer one"
    )]
    Version(u32),
    /// A file that may not be there.
    #[error("{path:?}: {problem}")]
    File {
        /// Its path, as it is written there.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Something of the manifest that is not as it is written there.
    #[error("`{0}` in its manifest is not {1}")]
    Manifest(&'static str, &'static str),
    /// A backup that nobody could start a daemon with.
    #[error("no configuration file is in it")]
    NoConfiguration,
    /// More of something than any backup has.
    #[error("it holds more than {0}")]
    TooMuch(&'static str),
}

impl ContentsError {
    pub(crate) fn file(path: &str, problem: impl Into<String>) -> Self {
        Self::File { path: path.to_owned(), problem: problem.into() }
    }
}

impl Manifest {
    /// The manifest of these files.
    pub(crate) fn new(made: String, state_dir: String, files: Vec<FileEntry>) -> Self {
        let program = env!("CARGO_PKG_VERSION").to_owned();
        Self { version: VERSION, program, made, state_dir, files }
    }

    /// Whether every path is one that a backup may have, and each is there once; and
    /// whether all texts are what they look like wherever they are shown.
    ///
    /// # Errors
    ///
    /// The first that is not.
    pub(crate) fn check(&self) -> Result<(), ContentsError> {
        if self.version != VERSION {
            return Err(ContentsError::Version(self.version));
        }
        if self.files.len() > MOST_FILES {
            return Err(ContentsError::TooMuch("4,096 files"));
        }
        if humantime::parse_rfc3339(&self.made).is_err() {
            let wanted = "a time as RFC 3339 has it, such as 2026-01-31T12:00:00Z";
            return Err(ContentsError::Manifest("made", wanted));
        }
        if self.program.chars().any(is_unseen) {
            return Err(ContentsError::Manifest("program", "a version"));
        }
        plain(&self.state_dir).map_err(|problem| ContentsError::file(&self.state_dir, problem))?;
        let mut paths = BTreeSet::new();
        for FileEntry { path, kind } in &self.files {
            plain(path).map_err(|problem| ContentsError::file(path, problem))?;
            if let FileKind::Key { address } = kind
                && address.chars().any(is_unseen)
            {
                return Err(ContentsError::Manifest("address", "an onion address"));
            }
            if !paths.insert(Path::new(path)) {
                return Err(ContentsError::file(path, "it is there twice"));
            }
        }
        for path in &paths {
            if let Some(above) = path.ancestors().skip(1).find(|above| paths.contains(above)) {
                let problem = format!("{} cannot be a file and a directory", above.display());
                return Err(ContentsError::file(&path.to_string_lossy(), problem));
            }
        }
        Ok(())
    }

    /// The configuration files, in their order.
    pub(crate) fn configuration(&self) -> impl Iterator<Item = &str> {
        let files = self.files.iter().filter(|file| file.kind == FileKind::Configuration);
        files.map(|file| file.path.as_str())
    }
}

impl Backup {
    /// Whether the files are what the manifest says.
    ///
    /// # Errors
    ///
    /// The first that is not.
    pub(crate) fn check(&self) -> Result<(), ContentsError> {
        let addresses = self.manifest.files.iter().filter_map(|file| match &file.kind {
            FileKind::Key { address } => Some(address.as_str()),
            _ => None,
        });
        let addresses: BTreeSet<&str> = addresses.collect();
        for (file, bytes) in self.manifest.files.iter().zip(&self.contents) {
            let is_it = match &file.kind {
                FileKind::Configuration => is_toml(bytes),
                FileKind::Named | FileKind::TlsKey => Ok(()),
                FileKind::Key { address } => is_key_of(bytes, address),
                FileKind::BesideKey => is_public_key_of(bytes, &addresses),
                FileKind::ClientKey => is_client_key(bytes),
                FileKind::Client => is_client(bytes),
            };
            is_it.map_err(|problem| ContentsError::file(&file.path, problem))?;
        }
        match self.manifest.configuration().next() {
            Some(_) => Ok(()),
            None => Err(ContentsError::NoConfiguration),
        }
    }
}

/// Whether a character changes how others are shown, or cannot be seen: control
/// characters, and what Unicode calls format characters (Cf) and separators of lines and
/// paragraphs.
fn is_unseen(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{ad}'
                | '\u{600}'..='\u{605}'
                | '\u{61c}'
                | '\u{6dd}'
                | '\u{70f}'
                | '\u{890}'..='\u{891}'
                | '\u{8e2}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{110bd}'
                | '\u{110cd}'
                | '\u{13430}'..='\u{1343f}'
                | '\u{1bca0}'..='\u{1bca3}'
                | '\u{1d173}'..='\u{1d17a}'
                | '\u{e0001}'..='\u{e007f}'
        )
}

/// Whether a path is absolute, has no steps back and no signs that hide something.
fn plain(path: &str) -> Result<(), &'static str> {
    let Some(below) = path.strip_prefix('/') else { return Err("this is no absolute path") };
    if path.len() > LONGEST_PATH {
        return Err("this path is too long");
    }
    if path.chars().any(char::is_control) {
        return Err("control characters are in this path");
    }
    if path.chars().any(is_unseen) {
        return Err("characters that cannot be seen, or turn others around, are in this path");
    }
    match below.split('/').all(|part| !matches!(part, "" | "." | "..")) {
        true => Ok(()),
        false => Err("this path has `..`, `.` or nothing between two slashes"),
    }
}

fn is_toml(bytes: &[u8]) -> Result<(), String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "this configuration is no text")?;
    text.parse::<toml::Table>().map(drop).map_err(|_| "this configuration is no TOML".to_owned())
}

fn is_key_of(bytes: &[u8], address: &str) -> Result<(), String> {
    match keys::parse(bytes) {
        Ok(Parsed::Secret(key)) if key.address().to_string() == *address => Ok(()),
        Ok(Parsed::Secret(_)) => Err(format!("this is the key of another address than {address}")),
        Ok(Parsed::Public(_)) => Err("this is a public key, no secret one".to_owned()),
        Err(error) => Err(format!("this is no identity key: {error}")),
    }
}

fn is_client_key(bytes: &[u8]) -> Result<(), String> {
    keys::check_client_secret(bytes).map_err(|error| format!("this is no key of a client: {error}"))
}

/// Whether a file holds what lets a client in.
pub(super) fn is_client(bytes: &[u8]) -> Result<(), String> {
    let key = std::str::from_utf8(bytes).ok().map(str::parse::<ClientKey>);
    match key {
        Some(Ok(_)) => Ok(()),
        _ => Err("this is no public key of a client".to_owned()),
    }
}

fn is_public_key_of(bytes: &[u8], addresses: &BTreeSet<&str>) -> Result<(), String> {
    let known = |address: OnionAddress| addresses.contains(address.to_string().as_str());
    match keys::parse(bytes) {
        Ok(Parsed::Public(address)) if known(address) => Ok(()),
        _ => Err("this is not what C tor writes beside a key that is in the backup".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_manifest_says_is_what_it_looks_like() {
        let file = |path: &str, kind| FileEntry { path: path.to_owned(), kind };
        let manifest = |made: &str, state_dir: &str, files| {
            Manifest::new(made.to_owned(), state_dir.to_owned(), files).check()
        };
        let made = "2026-01-31T12:00:00Z";
        let plain = file("/etc/böse/Größe 1.toml", FileKind::Configuration);
        assert!(manifest(made, "/var/lib/a", vec![plain]).is_ok());
        for forged in ["", "x", "2026-01-31", "2026-01-31T12:00:00Z\nkey /x", "\u{1b}[8m"] {
            assert!(manifest(forged, "/var/lib/a", vec![]).is_err(), "{forged:?}");
        }
        let mut program = Manifest::new(made.to_owned(), "/a".to_owned(), vec![]);
        program.program.push('\u{1b}');
        assert!(program.check().is_err());
        for sign in "\n\r\t\u{1b}\u{7f}\u{9b}\u{ad}\u{200b}\u{200d}\u{200f}\u{2028}\u{202a}\u{202e}\
                     \u{2060}\u{2066}\u{2069}\u{feff}\u{e0041}"
            .chars()
        {
            let hidden = format!("/etc/a{sign}b");
            assert!(manifest(made, &hidden, vec![]).is_err(), "{sign:?}");
            let named = vec![file(&hidden, FileKind::Named)];
            assert!(manifest(made, "/a", named).is_err(), "{sign:?}");
            let address = FileKind::Key { address: format!("a{sign}.onion") };
            assert!(manifest(made, "/a", vec![file("/k", address)]).is_err(), "{sign:?}");
        }
    }
}

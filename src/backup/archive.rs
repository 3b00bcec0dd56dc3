//! How is a backup written as a tar, and read from one that may be hostile?
//!
//! The first member is the manifest, the others are its files in its order, below
//! `files/`: without onionbraid, age and tar show what is in a backup. Nothing but
//! ordinary files is read, and no more than a backup may have.

use std::io::{self, Read, Write};

use tar::{Archive, Builder, Entry, EntryType, Header};
use zeroize::Zeroizing;

use super::contents::{
    Backup, ContentsError, FileEntry, LONGEST_FILE, MOST_BYTES, MOST_FILES, Manifest,
};

/// The member that says what the others are.
const MANIFEST: &str = "onionbraid-backup.json";
/// Where the files are.
const FILES: &str = "files";
/// What tar adds to a file at most: two headers, a long name with its header, and
/// what fills up a block.
const ADDED: u64 = 16 * 1024;
/// The longest archive, in bytes.
pub(super) const LONGEST: u64 = MOST_BYTES + LONGEST_FILE + ADDED * (MOST_FILES as u64 + 2);

/// Why an archive is not read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArchiveError {
    /// It ends too early, was changed, or is no tar.
    #[error("it is damaged: {0}")]
    Damaged(io::Error),
    /// Something else.
    #[error("it is no backup of onionbraid: {0}")]
    Other(&'static str),
    /// What is in it may not be there.
    #[error(transparent)]
    Contents(#[from] ContentsError),
}

/// Writes a backup; what it was written to.
///
/// # Errors
///
/// Those of `output`.
pub(crate) fn write<W: Write>(backup: &Backup, output: W) -> io::Result<W> {
    let mut tar = Builder::new(output);
    let manifest = serde_json::to_vec_pretty(&backup.manifest)?;
    if manifest.len() as u64 > LONGEST_FILE {
        return Err(io::Error::other("the paths of the files are too long"));
    }
    append(&mut tar, MANIFEST, &manifest)?;
    for (file, bytes) in backup.manifest.files.iter().zip(&backup.contents) {
        append(&mut tar, &format!("{FILES}{}", file.path), bytes)?;
    }
    tar.into_inner()
}

fn append<W: Write>(tar: &mut Builder<W>, name: &str, bytes: &[u8]) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o600);
    tar.append_data(&mut header, name, bytes)
}

/// Reads a backup, and checks that everything is what it is said to be.
///
/// # Errors
///
/// If it is damaged, or not as [`write()`] writes it.
pub(crate) fn read(input: impl Read) -> Result<Backup, ArchiveError> {
    let mut archive = Archive::new(input.take(LONGEST));
    let mut members = archive.entries().map_err(ArchiveError::Damaged)?;
    let mut member = || members.next().transpose().map_err(ArchiveError::Damaged);
    let first = member()?.ok_or(ArchiveError::Other("it is empty"))?;
    if first.path_bytes() != MANIFEST.as_bytes() {
        return Err(ArchiveError::Other("it does not begin with onionbraid-backup.json"));
    }
    let manifest = contents(first, MANIFEST)?;
    let manifest: Manifest = serde_json::from_slice(&manifest)
        .map_err(|_| ArchiveError::Other("onionbraid-backup.json is not what it should be"))?;
    manifest.check()?;

    let mut files = Vec::new();
    let mut bytes = 0;
    for FileEntry { path, .. } in &manifest.files {
        let missing = || ContentsError::file(path, "this file is missing");
        let member = member()?.ok_or_else(missing)?;
        let name = String::from_utf8_lossy(&member.path_bytes()).into_owned();
        if name.strip_prefix(FILES) != Some(path) {
            return Err(ContentsError::file(&name, format!("{path:?} should be here")).into());
        }
        let file = contents(member, &name)?;
        bytes += file.len() as u64;
        if bytes > MOST_BYTES {
            return Err(ContentsError::TooMuch("64 MiB").into());
        }
        files.push(file);
    }
    if let Some(more) = member()? {
        let name = String::from_utf8_lossy(&more.path_bytes()).into_owned();
        return Err(ContentsError::file(&name, "the backup does not say that it has this").into());
    }
    nothing_more(archive.into_inner())?;
    let backup = Backup { manifest, contents: files };
    backup.check()?;
    Ok(backup)
}

/// What a member holds, if it is an ordinary file that is not too long.
fn contents(member: Entry<'_, impl Read>, name: &str) -> Result<Zeroizing<Vec<u8>>, ArchiveError> {
    let problem = match member.header().entry_type() {
        EntryType::Regular => None,
        EntryType::Symlink | EntryType::Link => Some("this is a link, no file"),
        EntryType::Directory => Some("this is a directory, no file"),
        _ => Some("this is no ordinary file"),
    };
    if let Some(problem) = problem {
        return Err(ContentsError::file(name, problem).into());
    }
    let size = member.size();
    if size > LONGEST_FILE {
        return Err(ContentsError::file(name, "this is longer than 4 MiB").into());
    }
    // Room for all, so that growing leaves no copy of a key behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(LONGEST_FILE.min(size) as usize + 1));
    member.take(size).read_to_end(&mut bytes).map_err(ArchiveError::Damaged)?;
    match bytes.len() as u64 == size {
        true => Ok(bytes),
        false => Err(ArchiveError::Damaged(io::ErrorKind::UnexpectedEof.into())),
    }
}

/// Reads to the end, which proves that nothing was cut off. tar fills up with zeros.
fn nothing_more(mut input: impl Read) -> Result<(), ArchiveError> {
    let mut block = [0; 4096];
    loop {
        match input.read(&mut block).map_err(ArchiveError::Damaged)? {
            0 => return Ok(()),
            read if block.iter().take(read).all(|byte| *byte == 0) => {}
            _ => return Err(ArchiveError::Other("something follows behind its end")),
        }
    }
}

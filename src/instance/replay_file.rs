//! How does a replay log outlive the process? A file to which each digest is
//! appended before its introduction is acted on.
//!
//! Nothing is forced onto the disk for one introduction: what was written
//! survives the end of the process, however it ends. Only if the system itself
//! crashes, the introductions of the last seconds can be replayed once more,
//! and a replay gains a hostile relay one more look at a circuit being built.
//!
//! The file is open only while a digest is written: many services have hundreds of
//! points, and file handles are few.

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::replay::{CAPACITY, Digest, ReplayLog};
use crate::durable::with_file;

/// The bytes of one entry.
const ENTRY: usize = size_of::<Digest>();

/// The file of one replay log. Dropping it leaves the file where it is.
#[derive(Debug)]
pub(super) struct ReplayFile {
    path: PathBuf,
    state: FileState,
}

/// What the file is good for.
#[derive(Debug)]
enum FileState {
    /// It holds every digest.
    Complete,
    /// It lacks one: with it, a replay would work. So it has to go.
    Incomplete,
    /// It is gone, and its point with it when the process ends.
    Gone,
}

impl ReplayFile {
    /// A new file for a new point.
    ///
    /// # Errors
    ///
    /// Those of the system, also if there is such a file already.
    pub(super) fn create(path: PathBuf) -> io::Result<Self> {
        with_file(options().create_new(true), &path, |_| Ok(()))?;
        Ok(Self { path, state: FileState::Complete })
    }

    /// The file of an earlier process, and what it holds. An entry that was
    /// torn when that process ended is cut off: nobody has acted on it.
    ///
    /// # Errors
    ///
    /// Those of the system. A log that cannot be read is worth nothing.
    pub(super) fn open(path: PathBuf) -> io::Result<(Self, ReplayLog)> {
        let log = with_file(options().read(true), &path, |file| {
            let mut bytes = Vec::new();
            let most = CAPACITY * ENTRY;
            file.take(most.try_into().unwrap_or(u64::MAX)).read_to_end(&mut bytes)?;
            let (entries, torn) = bytes.as_chunks::<ENTRY>();
            if !torn.is_empty() {
                let whole = bytes.len() - torn.len();
                file.set_len(whole.try_into().map_err(io::Error::other)?)?;
            }
            let mut log = ReplayLog::default();
            for digest in entries {
                log.add(*digest);
            }
            Ok(log)
        })?;
        Ok((Self { path, state: FileState::Complete }, log))
    }

    /// Adds a digest.
    ///
    /// # Errors
    ///
    /// Those of the system, once. The file is then removed as soon as that is
    /// possible, and later digests are not recorded: without its log the point
    /// is not restored, so no replay can come of it.
    pub(super) fn record(&mut self, digest: Digest) -> io::Result<()> {
        let failed = match self.state {
            FileState::Complete => {
                match with_file(&options(), &self.path, |file| file.write_all(&digest)) {
                    Ok(()) => return Ok(()),
                    Err(error) => Err(error),
                }
            }
            FileState::Incomplete => Ok(()),
            FileState::Gone => return Ok(()),
        };
        self.state = match remove(&self.path) {
            Ok(()) => FileState::Gone,
            Err(_) => FileState::Incomplete,
        };
        failed
    }

    /// Whether a next process can go on with the point.
    pub(super) fn is_complete(&self) -> bool {
        matches!(self.state, FileState::Complete)
    }

    /// Removes the file: its point is over.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub(super) fn remove(self) -> io::Result<()> {
        remove(&self.path)
    }
}

/// Appends, and nobody else can read it.
fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.append(true).mode(0o600);
    options
}

/// That it is gone is what matters, not who removed it.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_new_directory() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        (directory, path)
    }

    #[test]
    fn what_was_recorded_is_a_replay_for_the_next_process() {
        let (_directory, path) = in_new_directory();
        let mut file = ReplayFile::create(path.clone()).unwrap();
        file.record([1; 16]).unwrap();
        drop(file);
        let (mut file, log) = ReplayFile::open(path.clone()).unwrap();
        assert!(log.has([1; 16]));
        file.record([2; 16]).unwrap();
        let (_, log) = ReplayFile::open(path).unwrap();
        assert_eq!(log.len(), 2);
        assert!(log.has([1; 16]) && log.has([2; 16]) && !log.has([3; 16]));
    }

    #[test]
    fn a_torn_entry_is_cut_off_and_the_next_ones_are_whole() {
        let (_directory, path) = in_new_directory();
        fs::write(&path, [[1; 16].as_slice(), [9; 5].as_slice()].concat()).unwrap();
        let (mut file, log) = ReplayFile::open(path.clone()).unwrap();
        assert_eq!(log.len(), 1);
        file.record([2; 16]).unwrap();
        assert_eq!(fs::read(&path).unwrap(), [[1; 16], [2; 16]].concat());
    }

    #[test]
    fn a_missing_log_is_an_error_and_no_empty_log() {
        let (_directory, path) = in_new_directory();
        assert!(ReplayFile::open(path.clone()).is_err());
        assert!(!path.exists());
    }

    #[test]
    fn a_log_longer_than_any_can_get_is_read_up_to_there_and_is_full() {
        let (_directory, path) = in_new_directory();
        let digests: Vec<Digest> = (0..CAPACITY as u128 + 10).map(u128::to_be_bytes).collect();
        fs::write(&path, digests.concat()).unwrap();
        let (_, log) = ReplayFile::open(path).unwrap();
        assert_eq!(log.len(), CAPACITY);
        assert!(log.has([0xff; 16]));
    }

    #[test]
    fn a_log_that_a_digest_cannot_be_added_to_is_removed_and_told_of_once() {
        let (_directory, path) = in_new_directory();
        // Every write fails there, as on a full disk.
        std::os::unix::fs::symlink("/dev/full", &path).unwrap();
        let mut file = ReplayFile { path: path.clone(), state: FileState::Complete };
        assert!(file.record([2; 16]).is_err());
        assert!(!file.is_complete());
        assert!(!path.exists());
        file.record([3; 16]).unwrap();
        assert!(!path.exists());
    }
}

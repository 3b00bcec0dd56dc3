//! Has a file changed, and is it at rest?
//!
//! Looking beats being told: it finds a file that was replaced, a symlink that leads
//! elsewhere (Kubernetes swaps a whole directory so) and one on a network's disk
//! alike.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

/// How often files are looked at. One that was seen to change is read when it looks
/// the same at the next time: nobody may be writing it still.
pub(super) const EVERY: Duration = Duration::from_secs(1);

/// What is seen of a file without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// The stamp of a file, or why there is none.
type FileLook = Result<Stamp, io::ErrorKind>;

fn look(path: &Path) -> FileLook {
    let found = std::fs::metadata(path).map_err(|error| error.kind())?;
    Ok(Stamp {
        device: found.dev(),
        inode: found.ino(),
        length: found.len(),
        modified: (found.mtime(), found.mtime_nsec()),
        changed: (found.ctime(), found.ctime_nsec()),
    })
}

/// What was seen of files that are read together, so far.
#[derive(Debug, Default)]
pub(super) struct FilesSeen {
    last: Option<Vec<FileLook>>,
    read: Option<Vec<FileLook>>,
}

impl FilesSeen {
    /// Reads the files if one has changed and all are at rest.
    pub(super) fn read_again<T>(&mut self, files: &[&Path], read: impl FnOnce() -> T) -> Option<T> {
        let looks = || -> Vec<FileLook> { files.iter().map(|file| look(file)).collect() };
        let before = looks();
        if !self.settled(&before) {
            return None;
        }
        let found = read();
        // Else one was replaced meanwhile, and the next look finds that.
        (looks() == before).then(|| {
            self.read = Some(before);
            found
        })
    }

    /// What was read has come to nothing: it is read once more, changed or not.
    pub(super) fn forget(&mut self) {
        self.read = None;
    }

    /// Takes in what the files look like now. Whether they are to be read: they look
    /// as they did before, and otherwise than when they were read.
    fn settled(&mut self, looks: &[FileLook]) -> bool {
        let stays = self.last.as_deref() == Some(looks);
        self.last = Some(looks.to_vec());
        stays && self.read.as_deref() != Some(looks)
    }
}

//! How does Tor start where the disk of the cache directory is full?
//!
//! Arti writes to its store before it uses the network directory that lies there,
//! and gives up where it cannot. A store that another process has locked it only
//! reads, and looks every two minutes whether it may write. So as long as there
//! is no room, the lock is held here: Tor starts with the directory at hand,
//! which can be used for some days, and renews it once there is room.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};

/// Arti's store, and the file whose lock keeps others from writing to it.
const DATABASE: &str = "dir.sqlite3";
const JOURNAL: &str = "dir.sqlite3-journal";
const LOCK: &str = "dir.lock";

/// Where Arti keeps consensuses.
const BLOBS: &str = "dir_blobs";

/// What a change of the store takes, besides consensuses.
const CHANGES: u64 = 256 * 1024;

/// What the operator is told while this lasts.
pub(super) const PROBLEM: &str = "no space is left in cache_dir: the Tor directory that lies \
                                  there is in use, and is not renewed until you make room; no \
                                  restart is needed";

/// A cache directory that nothing is written to.
#[derive(Debug)]
pub struct UnwrittenCache {
    directory: PathBuf,
    /// Arti finds this file locked.
    _lock: File,
}

impl UnwrittenCache {
    /// Has Arti leave the cache as it is, if there is no room in it. `None` where
    /// there is, and where no network directory lies there that could be used.
    pub fn where_full(directory: &Path) -> Option<Self> {
        let size = |name| directory.join(name).metadata().map_or(0, |found| found.len());
        // A journal that was left behind has to be worked off first.
        if size(DATABASE) == 0 || size(JOURNAL) > 0 || has_room(directory) {
            return None;
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let lock = options.open(directory.join(LOCK)).ok()?;
        lock.try_lock().ok()?;
        tracing::warn!("{PROBLEM}");
        Some(Self { directory: directory.to_owned(), _lock: lock })
    }

    /// Whether there is room by now.
    pub(super) fn has_room(&self) -> bool {
        has_room(&self.directory)
    }
}

/// Whether the next network directory would find room beside the one that is there.
/// A disk that cannot tell has room.
pub(super) fn has_room(directory: &Path) -> bool {
    let reserved = tempfile::tempfile_in(directory)
        .and_then(|file| Ok(fallocate(&file, FallocateFlags::empty(), 0, wanted(directory))?));
    !reserved.is_err_and(|error: io::Error| {
        matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
    })
}

/// As much as the next consensus may take while the present one is kept.
fn wanted(directory: &Path) -> u64 {
    let blobs = directory.join(BLOBS).read_dir().into_iter().flatten().flatten();
    let sizes = blobs.filter_map(|blob| Some(blob.metadata().ok()?.len()));
    CHANGES + 2 * sizes.max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn where_there_is_room_or_nothing_to_go_on_with_arti_writes() {
        let cache = tempfile::tempdir().unwrap();
        assert!(UnwrittenCache::where_full(cache.path()).is_none());
        fs::write(cache.path().join(DATABASE), b"SQLite format 3\0").unwrap();
        assert!(UnwrittenCache::where_full(cache.path()).is_none());
        assert_eq!(cache.path().read_dir().unwrap().count(), 1, "nothing is left behind");
    }

    #[test]
    fn room_is_wanted_for_the_largest_consensus_twice() {
        let cache = tempfile::tempdir().unwrap();
        assert_eq!(wanted(cache.path()), CHANGES);
        fs::create_dir(cache.path().join(BLOBS)).unwrap();
        for (name, size) in [("old", 10), ("new", 3_000)] {
            fs::write(cache.path().join(BLOBS).join(name), vec![0; size]).unwrap();
        }
        assert_eq!(wanted(cache.path()), CHANGES + 6_000);
    }
}

//! Files that a crash must not tear, and a lack of file handles not keep from
//! being written: replaced whole, or not at all.

use std::fs::{File, OpenOptions, rename};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::LazyLock;

use parking_lot::Mutex;

use crate::causes::is_out_of_handles;
use crate::spare_handle::SpareHandle;

/// For who writes while circuits and clients have every other handle.
static RESERVED: LazyLock<Mutex<SpareHandle>> = LazyLock::new(|| Mutex::new(SpareHandle::take()));

/// Reserves a handle for files that have to be written; before others take all.
pub(crate) fn reserve() {
    LazyLock::force(&RESERVED);
}

/// Opens a file for a moment; where the process has no handle left, with the one
/// that is reserved for that.
///
/// # Errors
///
/// Those of the system, and of `work`.
pub(crate) fn with_file<T>(
    options: &OpenOptions,
    path: &Path,
    work: impl FnOnce(&mut File) -> io::Result<T>,
) -> io::Result<T> {
    match options.open(path) {
        Err(error) if is_out_of_handles(&error) => {
            // One after the other, until the file is closed.
            let reserved = RESERVED.lock();
            reserved.lend();
            let done = options.open(path).and_then(|mut file| work(&mut file));
            reserved.regain();
            done
        }
        opened => work(&mut opened?),
    }
}

/// Reads a whole file.
///
/// # Errors
///
/// Those of the system.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    with_file(OpenOptions::new().read(true), path, |file| {
        // Large enough from the beginning: growing leaves copies of keys behind.
        let length = usize::try_from(file.metadata()?.len()).unwrap_or_default();
        let mut bytes = Vec::with_capacity(length + 1);
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    })
}

/// Replaces what `path` holds, readable by its owner alone (mode 0600).
///
/// The bytes go to a file beside it first and are on the disk before that file
/// takes the name, so whoever reads later, even after a crash, finds the old
/// bytes or the new ones. The directory has to exist. One writer at a time.
///
/// # Errors
///
/// Those of the system; `path` then holds what it held.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    with_file(&options, beside.as_ref(), |file| {
        file.write_all(bytes)?;
        file.sync_all()
    })?;
    rename(&beside, path)?;
    // The new name is on the disk only with the directory.
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = directory.unwrap_or(Path::new("."));
    with_file(OpenOptions::new().read(true), directory, |directory| directory.sync_all())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_only_its_owner_can_read_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        replace(&path, b"the first, longer text").unwrap();
        replace(&path, b"second").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_a_crash_left_half_written_is_overwritten_and_never_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        replace(&path, b"whole").unwrap();
        fs::write(directory.path().join("state.new"), b"torn in the middle of").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        replace(&path, b"next").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"next");
    }
}

//! How do two commands change one directory one after the other?
//!
//! By a lock on the directory itself: nothing is written for that, and it ends with the
//! process. Where the file system knows no such locks, each goes on at once.

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;
use std::time::Duration;

use super::CommandFailure;
use crate::clock::now;
use crate::exit::{Exit, exit_of};
use crate::trust::Process;

/// How long another command is waited for.
const LONGEST_WAIT: Duration = Duration::from_secs(20);

/// How often the lock is tried meanwhile.
const TRY_EVERY: Duration = Duration::from_millis(20);

/// Waits until no other command changes a directory; what this gives holds it.
///
/// # Errors
///
/// If the other command takes too long, or the directory cannot be read.
pub(super) fn take(directory: &Path) -> Result<File, CommandFailure> {
    take_until(directory, now().monotonic + LONGEST_WAIT)
}

fn take_until(directory: &Path, end: std::time::Instant) -> Result<File, CommandFailure> {
    let failed = |error: io::Error| {
        CommandFailure::new(exit_of(&error), format!("{}: {error}", directory.display()))
    };
    loop {
        let way = Process::current().way_to(directory).map_err(failed)?;
        // Where it is missing, the one that it will be made in.
        let held = File::from(way.last().map_err(failed)?);
        match held.try_lock() {
            Ok(()) => {
                // The other command may have made it.
                let again = Process::current().way_to(directory).map_err(failed)?;
                if again.rest == way.rest {
                    return Ok(held);
                }
            }
            Err(TryLockError::Error(_)) => return Ok(held),
            Err(TryLockError::WouldBlock) if now().monotonic >= end => {
                let text = format!("another command is at work in {}", directory.display());
                return Err(CommandFailure::new(Exit::Failed, text));
            }
            Err(TryLockError::WouldBlock) => std::thread::sleep(TRY_EVERY),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_command_waits_and_not_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("clients");
        let first = take(&missing).unwrap();
        let refused = take_until(&missing, now().monotonic).unwrap_err();
        assert!(refused.text.contains("another command"), "{}", refused.text);
        let waiting = std::thread::spawn({
            let missing = missing.clone();
            move || take(&missing).map(|held| held.metadata().unwrap())
        });
        // The first makes it: then that is what the second has.
        std::fs::create_dir(&missing).unwrap();
        drop(first);
        use std::os::unix::fs::MetadataExt as _;
        assert_eq!(waiting.join().unwrap().unwrap().ino(), missing.metadata().unwrap().ino());
    }
}

//! Runs the program as a user without privileges: root passes every check of
//! permissions, and is let into every process.

use std::io::Read as _;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

/// `nobody` of most systems. Nothing belongs to it.
const NOBODY: u32 = 65534;

/// How often anything is looked at before a test gives up, after a minute.
const TRIES: u32 = 3000;
const BETWEEN: Duration = Duration::from_millis(20);

/// Whether the tests run as root, so that other users can be played.
pub(super) fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}

/// A command of a user without privileges: the one who runs the tests, unless
/// that is root.
pub(super) fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

/// Gives everything below a directory to that user.
pub(super) fn give(path: &Path) {
    if is_root() {
        own(path, NOBODY);
    }
}

/// Gives everything below a directory to a user; only root can.
pub(super) fn own(path: &Path, user: u32) {
    if path.is_symlink() {
        return;
    }
    chown(path, Some(user), Some(user)).unwrap();
    if path.is_dir() {
        for entry in path.read_dir().unwrap() {
            own(&entry.unwrap().path(), user);
        }
    }
}

/// Ends when it is dropped, whatever the test came to.
pub(super) struct Process(pub(super) Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Process {
    pub(super) fn start(command: &mut Command) -> Self {
        Self(command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap())
    }

    /// Waits until it has ended by itself; what it said.
    pub(super) fn ended(mut self) -> Option<(ExitStatus, String)> {
        for _ in 0..TRIES {
            if let Some(status) = self.0.try_wait().unwrap() {
                let mut said = String::new();
                self.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
                return Some((status, said));
            }
            std::thread::sleep(BETWEEN);
        }
        None
    }
}

/// Waits for something to come true.
pub(super) fn until(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..TRIES {
        if holds() {
            return;
        }
        std::thread::sleep(BETWEEN);
    }
    panic!("{what} has not happened");
}

//! A file handle kept for the moment when the process has no other left.
//!
//! Without one, nobody could ask a process that is out of handles what is wrong
//! with it.

use std::fs::File;
use std::io;

use parking_lot::Mutex;

/// One handle, kept open for nothing.
#[derive(Debug)]
pub(crate) struct SpareHandle(Mutex<Option<File>>);

impl SpareHandle {
    /// Takes one.
    pub(crate) fn take() -> Self {
        Self(Mutex::new(open().ok()))
    }

    /// Gives it up for another use; whether there was one.
    pub(crate) fn lend(&self) -> bool {
        self.0.lock().take().is_some()
    }

    /// Takes one again, as soon as the other use is over.
    pub(crate) fn regain(&self) {
        let mut spare = self.0.lock();
        if spare.is_none() {
            *spare = open().ok();
        }
    }
}

/// Whether the process, or the machine, has no handle left at this moment.
pub(crate) fn none_left() -> bool {
    are_left(1).is_err_and(|error| crate::causes::is_out_of_handles(&error))
}

/// Takes so many handles at the same time, and gives them back.
///
/// # Errors
///
/// Those of the system.
pub(crate) fn are_left(count: usize) -> io::Result<()> {
    let handles = (0..count).map(|_| open());
    handles.collect::<io::Result<Vec<_>>>().map(drop)
}

fn open() -> io::Result<File> {
    File::open("/dev/null")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_lent_once_and_can_be_lent_again_after_it_came_back() {
        let spare = SpareHandle::take();
        assert!(spare.lend() && !spare.lend());
        spare.regain();
        assert!(spare.lend());
    }
}

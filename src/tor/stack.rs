//! How do secret keys not stay behind on the stack?
//!
//! A key is wiped where it is dropped, but each move leaves a copy in the frame
//! that it came from, and frames are not cleared when functions return: such
//! copies live until something happens to overwrite them.

use std::hint::black_box;

/// How far below its caller a function that handles keys gets, in bytes. A debug
/// build, with its wide frames, needs half of it.
const DEPTH: usize = 256 * 1024;

/// Runs `what`, which handles secret keys, and overwrites what it has left on the
/// stack. Its result is moved to the caller's frame: a key in it has to be boxed
/// or shared.
pub(crate) fn wiped<T>(what: impl FnOnce() -> T) -> T {
    let result = below(what);
    overwrite();
    result
}

/// Makes frames of its own, so that nothing of `what` is in the caller's.
#[inline(never)]
fn below<T>(what: impl FnOnce() -> T) -> T {
    what()
}

#[inline(never)]
fn overwrite() {
    let mut zeros = [0_u8; DEPTH];
    black_box(&mut zeros);
}

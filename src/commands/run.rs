//! `onionbraid run`: the daemon, in the foreground.

use std::path::PathBuf;
use std::process::ExitCode;

use super::{Failure, finish};
use crate::exit::Exit;

/// Runs the daemon with the configuration in `files`, or in the usual places.
pub fn run(_files: &[PathBuf]) -> ExitCode {
    finish(Err(Failure::new(Exit::Failed, "not available")))
}

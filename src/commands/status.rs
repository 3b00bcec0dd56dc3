//! `onionbraid status`: how the running daemon is doing.

use std::path::PathBuf;
use std::process::ExitCode;

use super::{Failure, finish};
use crate::exit::Exit;

/// Asks the daemon that runs with the configuration in `files`.
pub fn status(_files: &[PathBuf], _json: bool) -> ExitCode {
    finish(Err(Failure::new(Exit::Failed, "not available")))
}

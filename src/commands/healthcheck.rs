//! `onionbraid healthcheck`: is the running daemon ready? For containers and
//! service managers, which look at the exit code alone.

use std::path::PathBuf;
use std::process::ExitCode;

use super::ask::{ask, runtime};
use super::{CommandFailure, finish, print};
use crate::config::{Config, Environment};
use crate::exit::Exit;

/// Exits with 0 when the daemon is ready, 1 when it is not, 69 when it does not
/// answer, 77 when this user may not ask it.
pub fn healthcheck(files: &[PathBuf]) -> ExitCode {
    finish(check(files))
}

fn check(files: &[PathBuf]) -> Result<(), CommandFailure> {
    let admin = Config::admin_of(files, &Environment::of_process())?;
    let answer = runtime()?.block_on(ask(&admin, "/health"))?;
    if answer.status.is_success() {
        return print(&format!("{}\n", answer.body.trim_end()));
    }
    Err(CommandFailure::new(Exit::Failed, format!("the daemon is {}", answer.body)))
}

//! `onionbraid backend`: an operator's word on one backend of the running daemon.

use std::path::PathBuf;
use std::process::ExitCode;

use tor_hsservice::HsNickname;

use super::ask::order;
use super::{CommandFailure, finish};
use crate::admin::orders::{self, BackendOrder};
use crate::config::{Config, Environment, is_backend_name};
use crate::exit::Exit;

/// Has the daemon obey.
pub fn backend(files: &[PathBuf], service: &str, name: &str, said: BackendOrder) -> ExitCode {
    finish(try_backend(files, service, name, said))
}

fn try_backend(
    files: &[PathBuf],
    service: &str,
    name: &str,
    said: BackendOrder,
) -> Result<(), CommandFailure> {
    // What is no name has no place in a path; nothing is sent then.
    if service.parse::<HsNickname>().is_err() {
        let text = format!("{service:?} cannot be the nickname of a service");
        return Err(CommandFailure::new(Exit::Usage, text));
    }
    if !is_backend_name(name) {
        let text = format!("{name:?} cannot be the name of a backend: `status` shows the names");
        return Err(CommandFailure::new(Exit::Usage, text));
    }
    let admin = Config::admin_of(files, &Environment::of_process())?;
    order(&admin, &orders::backend_path(service, name), &said).map(drop)
}

//! `onionbraid backend`: an operator's word on one backend of the running daemon.

use std::path::PathBuf;
use std::process::ExitCode;

use super::ask::order;
use super::{Failure, finish};
use crate::admin::orders::{self, BackendOrder};
use crate::config::{Config, Environment};

/// Has the daemon obey.
pub fn backend(files: &[PathBuf], service: &str, name: &str, said: BackendOrder) -> ExitCode {
    finish(try_backend(files, service, name, said))
}

fn try_backend(
    files: &[PathBuf],
    service: &str,
    name: &str,
    said: BackendOrder,
) -> Result<(), Failure> {
    let admin = Config::admin_of(files, &Environment::of_process())?;
    order(&admin, &orders::backend_path(service, name), &said).map(drop)
}

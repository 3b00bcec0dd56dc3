//! `onionbraid run`: the daemon, in the foreground.

use std::path::PathBuf;

use anyhow::Context as _;

use crate::config::{Config, Environment};
use crate::daemon::{self, DaemonError};
use crate::exit::Exit;
use crate::logging;

/// Reads the configuration and runs the daemon until it is told to end.
pub fn run(files: &[PathBuf]) -> Exit {
    let config = match Config::load(files, &Environment::of_process()) {
        Ok(config) => config,
        Err(errors) => {
            eprint!("{errors}");
            return Exit::Configuration;
        }
    };
    match start(config) {
        Ok(()) => Exit::Ok,
        Err(error) => {
            eprintln!("onionbraid: {error:#}");
            match error.downcast_ref() {
                Some(DaemonError::Keys(_)) => Exit::Permission,
                _ => Exit::Failed,
            }
        }
    }
}

/// From a configuration to a running daemon.
fn start(config: Config) -> anyhow::Result<()> {
    let _logging = logging::start(&config.logging)?;
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the tokio runtime")?;
    let ended = runtime.block_on(daemon::run(config));
    // Arti's tasks end with the runtime; none has anything left to save that
    // is worth more than a second.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    Ok(ended?)
}

//! `onionbraid run`: the daemon, in the foreground.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use super::{Failure, finish, load};
use crate::causes;
use crate::config::{Config, Environment};
use crate::daemon::{self, DaemonError, Obstacles, Outside};
use crate::exit::{Exit, exit_of};
use crate::logging::{self, LoggingError};

/// Reads the configuration and runs the daemon until it is told to end.
pub fn run(files: &[PathBuf]) -> ExitCode {
    finish(start(files))
}

fn start(files: &[PathBuf]) -> Result<(), Failure> {
    let config = load(files)?;
    let files = files.to_vec();
    let load = move || Config::load(&files, &Environment::of_process());
    let logging = logging::start(&config.logging)?;
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime
        .map_err(|error| Failure::new(Exit::Failed, format!("no tokio runtime: {error}")))?;
    let ended = runtime.block_on(daemon::run(config, Outside { load: Box::new(load), logging }));
    // Arti's own tasks end with the runtime; none of them has anything left to
    // save that is worth more than a second.
    runtime.shutdown_timeout(Duration::from_secs(1));
    Ok(ended?)
}

impl From<DaemonError> for Failure {
    fn from(error: DaemonError) -> Self {
        let exit = match &error {
            DaemonError::Obstacles(obstacles) => return obstacles.into(),
            DaemonError::Services(error) => error.exit(),
            error => exit_of(error),
        };
        Self::new(exit, causes::in_one_line(&error))
    }
}

impl From<&Obstacles> for Failure {
    fn from(obstacles: &Obstacles) -> Self {
        Self::new(obstacles.exit(), obstacles.to_string())
    }
}

impl From<LoggingError> for Failure {
    fn from(error: LoggingError) -> Self {
        Self::new(Exit::Failed, format!("{:#}", anyhow::Error::from(error)))
    }
}

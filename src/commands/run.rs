//! `onionbraid run`: the daemon, in the foreground.

mod terminal;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use toml::{Table, Value};

use super::{CommandFailure, finish, for_keys, remark};
use crate::causes;
use crate::cli::OneService;
use crate::config::{Config, Environment};
use crate::daemon::{self, DaemonError, Obstacles, Outside};
use crate::exit::{Exit, exit_of};
use crate::logging::{self, LoggingError};

/// Reads the configuration and runs the daemon until it is told to end.
pub fn run(files: &[PathBuf], service: &OneService) -> ExitCode {
    match start(files, service) {
        // One entry of the journal, as an error.
        Err(failure) if logging::goes_to_the_journal() => {
            remark(&format!("<3>onionbraid: {}", causes::on_one_line(&failure.text)));
            failure.exit.into()
        }
        result => finish(result),
    }
}

fn start(files: &[PathBuf], service: &OneService) -> Result<(), CommandFailure> {
    let tell = terminal::tell(files);
    let files = files.to_vec();
    let given = document(service)?;
    let load = move || match &given {
        None => Config::load(&files, &Environment::of_process()),
        Some(text) => Config::load_with(&files, text, &Environment::of_process()),
    };
    let config = for_keys(load()?);
    let logging = logging::start(&config.logging)?;
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if std::env::var_os("TOKIO_WORKER_THREADS").is_none() {
        runtime.worker_threads(worker_threads());
    }
    let runtime = runtime
        .enable_all()
        .build()
        .map_err(|error| CommandFailure::new(Exit::Failed, format!("no tokio runtime: {error}")))?;
    let outside = Outside { load: Box::new(load), logging, tell };
    let ended = runtime.block_on(daemon::run(config, outside));
    // Arti's own tasks end with the runtime; none of them has anything left to
    // save that is worth more than a second.
    runtime.shutdown_timeout(Duration::from_secs(1));
    Ok(ended?)
}

/// Half of the cores. To wake a task on another thread is a fifth of what a download
/// costs, and the origin wants cores, too.
fn worker_threads() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2))
}

/// What a file would say in the place of the command line.
fn document(service: &OneService) -> Result<Option<String>, CommandFailure> {
    let target = match (&service.to, &service.files) {
        (Some(target), _) => target.clone(),
        (None, Some(directory)) => {
            // What is no path, the reader of the document refuses.
            let path = std::path::absolute(directory).unwrap_or_else(|_| directory.clone());
            let path = path.to_str().ok_or_else(|| {
                CommandFailure::new(Exit::Usage, "the path of the directory is not UTF-8 text")
            })?;
            format!("file:{path}")
        }
        (None, None) => return Ok(None),
    };
    let rule: Vec<Value> = vec![i64::from(service.port).into(), target.into()];
    let rules = Value::from(vec![Value::from(rule)]);
    let within = |key: &str, value: Value| Table::from_iter([(key.to_owned(), value)]);
    let table = within("proxy_ports", rules);
    let services = within(&service.nickname, table.into());
    Ok(Some(within("onion_services", services.into()).to_string()))
}

impl From<DaemonError> for CommandFailure {
    fn from(error: DaemonError) -> Self {
        let exit = match &error {
            DaemonError::Obstacles(obstacles) => return obstacles.into(),
            DaemonError::Services(error) => error.exit(),
            error => exit_of(error),
        };
        Self::new(exit, causes::in_one_line(&error))
    }
}

impl From<&Obstacles> for CommandFailure {
    fn from(obstacles: &Obstacles) -> Self {
        Self::new(obstacles.exit(), obstacles.to_string())
    }
}

impl From<LoggingError> for CommandFailure {
    fn from(error: LoggingError) -> Self {
        Self::new(Exit::Failed, format!("{:#}", anyhow::Error::from(error)))
    }
}

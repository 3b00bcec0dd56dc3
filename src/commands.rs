//! What each subcommand does, one file each. Only here is anything printed,
//! and only here does an error become a text and an exit code.

pub mod as_user;
mod ask;
pub mod backend;
pub mod backend_config;
pub mod backup;
pub mod certificate;
pub mod check;
pub mod clients;
pub mod config;
pub mod descriptor;
pub mod generate;
pub mod hand_over;
pub mod healthcheck;
pub mod import;
pub mod keys;
pub mod kubernetes;
pub mod reload;
pub mod restore;
pub mod run;
pub mod status;

mod inquire;
mod new_file;
mod passphrase;
mod tor_client;
mod turn;

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::backup::place::left_behind;
use crate::causes::in_one_line;
use crate::config::{Config, ConfigErrors, Environment, ServiceConfig};
use crate::exit::{Exit, exit_of};
use crate::observe::printable_text;
use crate::tor::keys::{KeyError, KeyFileError};

/// Why a command did not succeed: what to tell the operator, and the code.
#[derive(Debug)]
pub(crate) struct CommandFailure {
    exit: Exit,
    text: String,
}

impl CommandFailure {
    /// A failure with its whole text.
    pub(crate) fn new(exit: Exit, text: impl Into<String>) -> Self {
        Self { exit, text: text.into() }
    }

    /// The same, and what the command had written before and could not remove again.
    fn leaving(mut self, left: &[PathBuf]) -> Self {
        if !left.is_empty() {
            let before = if self.text.is_empty() { "" } else { "; " };
            self.text = format!("{}{before}{}", self.text, left_behind(left));
        }
        self
    }
}

impl From<ConfigErrors> for CommandFailure {
    fn from(errors: ConfigErrors) -> Self {
        Self::new(errors.exit(), errors.report())
    }
}

impl From<KeyError> for CommandFailure {
    fn from(error: KeyError) -> Self {
        Self::new(Exit::Permission, in_one_line(&error))
    }
}

/// Nothing is overwritten.
fn exists(path: &Path) -> CommandFailure {
    CommandFailure::new(
        Exit::Failed,
        format!("{} exists already, and is left as it is", path.display()),
    )
}

impl From<KeyFileError> for CommandFailure {
    fn from(error: KeyFileError) -> Self {
        let cause = match &error {
            KeyFileError::Left { cause, .. } => cause,
            error => error,
        };
        let exit = match cause {
            KeyFileError::Exists(_) => Exit::Failed,
            KeyFileError::Write { cause, .. } => exit_of(cause.as_ref()),
            _ => Exit::Permission,
        };
        Self::new(exit, in_one_line(&error))
    }
}

impl From<io::Error> for CommandFailure {
    fn from(error: io::Error) -> Self {
        // Whoever read has read enough: there is nobody to tell.
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::new(Exit::Failed, "");
        }
        Self::new(exit_of(&error), format!("the output cannot be written: {error}"))
    }
}

/// Reads the configuration for a command that goes on to read keys. Other
/// processes are shut out of this one's memory first, unless the operator wants
/// to debug it (`application.permit_debugging`).
pub(crate) fn load(files: &[PathBuf]) -> Result<Config, CommandFailure> {
    Ok(for_keys(Config::load(files, &Environment::of_process())?))
}

/// The same where what the platform delivers to the daemon alone may be missing.
pub(crate) fn load_without_delivered(files: &[PathBuf]) -> Result<Config, CommandFailure> {
    Ok(for_keys(Config::load_without_delivered(files, &Environment::of_process())?))
}

/// The configuration, once this process is as closed as it says.
pub(crate) fn for_keys(config: Config) -> Config {
    if !config.permit_debugging {
        protect_memory();
    }
    config
}

/// Keeps other processes of the same user from reading keys in the memory of this
/// one: no debugger may attach, and no core is written. Where the system does not
/// take that, in a container for instance, or under a debugger, the command goes
/// on and says so.
pub(crate) fn protect_memory() {
    if let Err(error) = secmem_proc::harden_process() {
        remark(&format!("Warning: this process may be read by others of its user: {error}"));
    }
}

/// The service that a command line names.
pub(crate) fn service<'a>(
    config: &'a Config,
    name: &str,
) -> Result<&'a ServiceConfig, CommandFailure> {
    let found = config.services.iter().find(|service| service.nickname.as_ref() == name);
    found.ok_or_else(|| {
        if config.files.is_empty() {
            let text = format!(
                "no configuration file was read, so there is no service {name:?}: write \
                 [onion_services.{name:?}] into /etc/onionbraid/arti.toml, or name your file with \
                 `-c FILE`"
            );
            return CommandFailure::new(Exit::Usage, text);
        }
        let all: Vec<String> = config.services.iter().map(|s| s.nickname.to_string()).collect();
        let text =
            format!("there is no service {name:?} in the configuration, only {}", all.join(", "));
        CommandFailure::new(Exit::Usage, text)
    })
}

/// Prints what a command has come to. That nobody reads it to its end changes nothing
/// about that.
pub(crate) fn print(text: &str) -> Result<(), CommandFailure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

/// A remark beside a command's output, for people and not for scripts.
pub(crate) fn remark(text: &str) {
    // What cannot be told is not worth failing for.
    let _ = writeln!(io::stderr(), "{}", printable_text(text));
}

/// Ends a command: tells what went wrong, if anything did, and gives its code.
pub(crate) fn finish(result: Result<(), CommandFailure>) -> ExitCode {
    match result {
        Ok(()) => Exit::Ok.into(),
        Err(failure) if failure.text.is_empty() => failure.exit.into(),
        Err(failure) => {
            // Where standard error is closed too, the code still tells.
            let _ =
                writeln!(io::stderr(), "onionbraid: {}", printable_text(failure.text.trim_end()));
            failure.exit.into()
        }
    }
}

//! `onionbraid config`: the documented example, and the configuration in force.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use super::{CommandFailure, finish};
use crate::config::{Config, EXAMPLE, Environment, ServiceConfig};
use crate::exit::Exit;

/// Prints the configuration file that explains every key.
pub fn example() -> ExitCode {
    finish(io::stdout().lock().write_all(EXAMPLE.as_bytes()).map_err(CommandFailure::from))
}

/// What packages have for editors.
const SCHEMA: &str = include_str!("../../packaging/arti.schema.json");

/// Prints the JSON schema of the file.
pub fn schema() -> ExitCode {
    finish(io::stdout().lock().write_all(SCHEMA.as_bytes()).map_err(CommandFailure::from))
}

/// Prints what is in force: our tables with all defaults, Arti's with those that are ours.
pub fn show(files: &[PathBuf]) -> ExitCode {
    finish(write_show(files, &Environment::of_process(), &mut io::stdout().lock()))
}

fn write_show(
    files: &[PathBuf],
    env: &Environment,
    out: &mut impl Write,
) -> Result<(), CommandFailure> {
    let config = Config::load(files, env)?;
    let text = toml::to_string(&config.to_toml())
        .map_err(|error| CommandFailure::new(Exit::Failed, error.to_string()))?;
    for file in &config.files {
        writeln!(out, "# {}", file.display())?;
    }
    if config.services.iter().any(ServiceConfig::is_built_in) {
        writeln!(out, "# No onion service: the built-in welcome page is served.")?;
    }
    writeln!(out)?;
    for warning in &config.warnings {
        writeln!(out, "# warning: {warning}")?;
    }
    out.write_all(text.as_bytes())?;
    Ok(())
}

//! `onionbraid generate`: shell completions and manual pages, for packagers.
//! What is committed below `packaging/` comes from here; a test compares it.

mod manual;

use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::{CommandFailure, finish};
use crate::cli::{Cli, GenerateCommand};
use crate::exit::exit_of;

/// Writes what the command line asks for.
pub fn generate(command: &GenerateCommand) -> ExitCode {
    finish(match command {
        GenerateCommand::Completions { shell, out } => completions(*shell, out.as_deref()),
        GenerateCommand::Man { out } => man(out.as_deref()),
    })
}

fn completions(shell: Shell, out: Option<&Path>) -> Result<(), CommandFailure> {
    let mut command = Cli::command();
    match out {
        Some(directory) => {
            clap_complete::generate_to(shell, &mut command, "onionbraid", directory)
                .map_err(|error| unwritable(directory, &error))?;
        }
        None => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut command, "onionbraid", &mut text);
            io::stdout().lock().write_all(&text)?;
        }
    }
    Ok(())
}

fn man(out: Option<&Path>) -> Result<(), CommandFailure> {
    let command = Cli::command().disable_help_subcommand(true);
    match out {
        Some(directory) => clap_mangen::generate_to(command, directory)
            .and_then(|()| std::fs::write(directory.join(manual::NAME), manual::page()))
            .map_err(|error| unwritable(directory, &error)),
        None => {
            let mut text = Vec::new();
            clap_mangen::Man::new(command).render(&mut text)?;
            Ok(io::stdout().lock().write_all(&text)?)
        }
    }
}

fn unwritable(directory: &Path, error: &io::Error) -> CommandFailure {
    let text = format!("nothing can be written to {}: {error}", directory.display());
    CommandFailure::new(exit_of(error), text)
}

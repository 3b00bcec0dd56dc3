//! `onionbraid generate`: shell completions and manual pages, for packagers.
//! What is committed below `packaging/` comes from here; a test compares it.

mod manual;

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::{CommandFailure, finish, new_file};
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
        Some(directory) => into(directory, |directory| {
            clap_complete::generate_to(shell, &mut command, "onionbraid", directory).map(drop)
        }),
        None => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut command, "onionbraid", &mut text);
            Ok(io::stdout().lock().write_all(&text)?)
        }
    }
}

fn man(out: Option<&Path>) -> Result<(), CommandFailure> {
    let command = Cli::command().disable_help_subcommand(true);
    match out {
        Some(directory) => into(directory, |directory| {
            clap_mangen::generate_to(command, directory)?;
            fs::write(directory.join(manual::NAME), manual::page())
        }),
        None => {
            let mut text = Vec::new();
            clap_mangen::Man::new(command).render(&mut text)?;
            Ok(io::stdout().lock().write_all(&text)?)
        }
    }
}

/// Has files written to a new directory, and puts them in the places of those that may
/// be in this one: of links, not of what they lead to.
fn into(
    directory: &Path,
    write: impl FnOnce(&Path) -> io::Result<()>,
) -> Result<(), CommandFailure> {
    let failed = |error| unwritable(directory, &error);
    let made = tempfile::Builder::new().prefix(".onionbraid-").tempdir_in(directory);
    let made = made.map_err(|error| failed(error.kind().into()))?;
    write(made.path()).map_err(failed)?;
    for entry in made.path().read_dir().map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let bytes = fs::read(entry.path()).map_err(failed)?;
        new_file::overwrite(&directory.join(entry.file_name()), &bytes)?;
    }
    Ok(())
}

fn unwritable(directory: &Path, error: &io::Error) -> CommandFailure {
    let text = format!("nothing can be written to {}: {error}", directory.display());
    CommandFailure::new(exit_of(error), text)
}

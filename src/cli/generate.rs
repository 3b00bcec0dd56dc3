//! What `onionbraid generate` looks like.

use std::path::PathBuf;

use clap::Subcommand;
use clap_complete::Shell;

/// What `onionbraid generate` makes.
#[derive(Debug, Subcommand)]
pub enum GenerateCommand {
    /// Completions for a shell
    Completions {
        /// The shell
        shell: Shell,
        /// Write a file there instead of printing
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
    /// Manual pages
    Man {
        /// Write the page of every command there instead of printing the first
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
}

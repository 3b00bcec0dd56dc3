//! How a command line names the configuration.

use std::path::PathBuf;

use clap::Args;

/// Which configuration files to read.
#[derive(Debug, Args)]
pub struct ConfigFiles {
    /// Configuration file; may repeat, a later file overrides an earlier one
    /// [default: $ONIONBRAID_CONFIG (several with colons between them), else $XDG_CONFIG_HOME/onionbraid/arti.toml, else
    /// /etc/onionbraid/arti.toml]
    #[arg(id = "config", short = 'c', long = "config", value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

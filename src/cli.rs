//! What the command line looks like: types for clap, no behaviour.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::onion::OnionAddress;

const EXIT_CODES: &str = "\
Exit codes:
   0  everything went well
   1  it failed while it ran
   2  the command line is wrong
  69  the daemon cannot be reached
  77  the system denies access, or a key cannot be used
  78  the configuration is wrong";

/// Onion service load balancer: one .onion address, many backends, no tor daemon
#[derive(Debug, Parser)]
#[command(name = "onionbraid", version, after_help = EXIT_CODES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the daemon, in the foreground
    ///
    /// Without any configuration file, a welcome page is served under a new
    /// address.
    Run(ConfigFiles),
    /// Check the configuration and show what would run
    ///
    /// Shows every error at once, or each service's address, backends and ports.
    /// Makes nothing and does not use the network, unless told to.
    Check {
        /// Which configuration.
        #[command(flatten)]
        config: ConfigFiles,
        /// Ask every backend through Tor whether it answers for its service
        ///
        /// Uses a Tor client of its own, so that no running daemon is disturbed.
        #[arg(long)]
        online: bool,
    },
    /// Show how the running daemon is doing
    Status {
        /// Which daemon.
        #[command(flatten)]
        config: ConfigFiles,
        /// Print the whole status as JSON
        #[arg(long)]
        json: bool,
    },
    /// Fetch and explain the published descriptor of an onion address
    ///
    /// Asks every responsible HSDir through a Tor client of its own: who holds
    /// which revision, with which introduction points and capabilities.
    Descriptor {
        /// The onion address, of a service configured here or of any other
        #[arg(value_name = "ADDRESS")]
        address: OnionAddress,
        /// Which configuration.
        #[command(flatten)]
        config: ConfigFiles,
        /// Print it as JSON
        #[arg(long)]
        json: bool,
    },
    /// Show configuration
    #[command(subcommand)]
    Config(ConfigCommand),
}

/// What `onionbraid config` shows.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print a configuration file that explains every key
    Example,
    /// Print the configuration in force, with all defaults filled in
    Show(ConfigFiles),
}

/// Which configuration files to read.
#[derive(Debug, Args)]
pub struct ConfigFiles {
    /// Configuration file; may repeat, a later file overrides an earlier one
    /// [default: $XDG_CONFIG_HOME/onionbraid/arti.toml, else
    /// /etc/onionbraid/arti.toml]
    #[arg(short = 'c', long = "config", value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn configuration_files_may_repeat_and_keep_their_order() {
        let cli = Cli::parse_from(["onionbraid", "check", "-c", "b", "--config", "a"]);
        let Command::Check { config, .. } = cli.command else { panic!("not check") };
        assert_eq!(config.files, [PathBuf::from("b"), PathBuf::from("a")]);
    }
}

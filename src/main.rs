//! The `onionbraid` program.

use std::process::ExitCode;

use clap::Parser as _;
use onionbraid::cli::{Cli, Command, ConfigCommand};
use onionbraid::commands::{check, config, keys, run, status};

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run(config) => run::run(&config.files),
        Command::Check(config) => check::check(&config.files),
        Command::Status { config, json } => status::status(&config.files, json),
        Command::Keys(command) => keys::keys(&command),
        Command::Config(ConfigCommand::Example) => config::example(),
        Command::Config(ConfigCommand::Show(config)) => config::show(&config.files),
    }
}

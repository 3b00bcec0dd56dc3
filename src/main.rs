//! The `onionbraid` program.

use std::process::ExitCode;

use clap::Parser as _;
use onionbraid::cli::{Cli, Command, ConfigCommand};
use onionbraid::commands::{check, config, descriptor, run, status};

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run(config) => run::run(&config.files),
        Command::Check { config, online } => check::check(&config.files, online),
        Command::Status { config, json } => status::status(&config.files, json),
        Command::Descriptor { address, config, json } => {
            descriptor::descriptor(&address, &config.files, json)
        }
        Command::Config(ConfigCommand::Example) => config::example(),
        Command::Config(ConfigCommand::Show(config)) => config::show(&config.files),
    }
}

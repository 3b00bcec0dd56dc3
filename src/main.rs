//! The `onionbraid` program.

use std::process::ExitCode;

use clap::Parser as _;
use onionbraid::cli::{Cli, Command, ConfigCommand};
use onionbraid::commands::{
    backend_config, check, config, descriptor, generate, healthcheck, import, keys, run, status,
};

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run { config, service } => run::run(&config.files, &service),
        Command::Check { config, online } => check::check(&config.files, online),
        Command::Status { config, json, brief, watch, verbose } => {
            let form = status::Form::of(json, brief);
            status::status(&config.files, form, watch.then_some(status::Watch { verbose }))
        }
        Command::Healthcheck(config) => healthcheck::healthcheck(&config.files),
        Command::BackendConfig { service, program, out, config } => {
            backend_config::backend_config(&service, program, out.as_deref(), &config.files)
        }
        Command::Generate(command) => generate::generate(&command),
        Command::Keys(command) => keys::keys(&command),
        Command::Import(command) => import::import(&command),
        Command::Descriptor { address, config, json } => {
            descriptor::descriptor(&address, &config.files, json)
        }
        Command::Config(ConfigCommand::Example) => config::example(),
        Command::Config(ConfigCommand::Schema) => config::schema(),
        Command::Config(ConfigCommand::Show(config)) => config::show(&config.files),
    }
}

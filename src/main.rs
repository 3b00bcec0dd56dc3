//! The `onionbraid` program.

use std::process::ExitCode;

use clap::Parser as _;
use onionbraid::admin::orders::BackendOrder;
use onionbraid::cli::{BackendVerb, BackendWord, Cli, Command, ConfigCommand};
use onionbraid::commands::{
    as_user, backend, backend_config, backup, certificate, check, clients, config, descriptor,
    generate, hand_over, healthcheck, import, keys, kubernetes, reload, restore, run, status,
};
use onionbraid_balancer::operator::Verb;

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run { config, service } => run::run(&config.files, &service),
        Command::Check { config, online } => check::check(&config.files, online),
        Command::Status { config, json, brief, watch, verbose } => {
            let form = status::Form::of(json, brief);
            status::status(&config.files, form, watch.then_some(status::Watch { verbose }))
        }
        Command::Reload(config) => reload::reload(&config.files),
        Command::Backend { service, name, verb } => {
            let (verb, word) = said(verb);
            let order = BackendOrder { verb, force: word.force };
            backend::backend(&word.config.files, &service, &name, order)
        }
        Command::Healthcheck(config) => healthcheck::healthcheck(&config.files),
        Command::BackendConfig { service, program, backend, out, config } => {
            let backend = backend.as_deref();
            backend_config::backend_config(
                &service,
                program,
                backend,
                out.as_deref(),
                &config.files,
            )
        }
        Command::Kubernetes(args) => kubernetes::kubernetes(&args),
        Command::AsUser { user, group, here, arguments } => {
            as_user::as_user(user, group, here, &arguments)
        }
        Command::Place => hand_over::place_files(),
        Command::Generate(command) => generate::generate(&command),
        Command::Certificate(command) => certificate::certificate(&command),
        Command::Keys(command) => keys::keys(&command),
        Command::Clients(command) => clients::clients(&command),
        Command::Import(command) => import::import(&command),
        Command::Backup(args) => backup::backup(&args),
        Command::Restore(args) => restore::restore(&args),
        Command::Descriptor { address, config, json } => {
            descriptor::descriptor(&address, &config.files, json)
        }
        Command::Config(ConfigCommand::Example) => config::example(),
        Command::Config(ConfigCommand::Schema) => config::schema(),
        Command::Config(ConfigCommand::Show(config)) => config::show(&config.files),
    }
}

/// What the command line says of a backend.
fn said(verb: BackendVerb) -> (Verb, BackendWord) {
    match verb {
        BackendVerb::Drain(word) => (Verb::Drain, word),
        BackendVerb::Maintenance(word) => (Verb::Maintenance, word),
        BackendVerb::Ready(word) => (Verb::Ready, word),
        BackendVerb::Weight { weight, word } => (Verb::Weight { weight }, word),
    }
}

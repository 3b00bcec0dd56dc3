//! The `onionbraid` program.

use std::process::ExitCode;

use clap::Parser as _;
use onionbraid::admin::orders::BackendOrder;
use onionbraid::cli::{BackendVerb, BackendWord, Cli, CliCommand, ConfigCommand};
use onionbraid::commands::{
    as_user, backend, backend_config, backup, certificate, check, clients, config, descriptor,
    generate, hand_over, healthcheck, import, keys, kubernetes, reload, restore, run, status,
};
use onionbraid_balancer::operator::Verb;

fn main() -> ExitCode {
    match Cli::parse().command {
        CliCommand::Run { config, service } => run::run(&config.files, &service),
        CliCommand::Check { config, online } => check::check(&config.files, online),
        CliCommand::Status { config, json, brief, watch, verbose } => {
            let form = status::StatusForm::of(json, brief);
            status::status(&config.files, form, watch.then_some(status::WatchOptions { verbose }))
        }
        CliCommand::Reload(config) => reload::reload(&config.files),
        CliCommand::Backend { service, name, verb } => {
            let (verb, word) = said(verb);
            let order = BackendOrder { verb, force: word.force };
            backend::backend(&word.config.files, &service, &name, order)
        }
        CliCommand::Healthcheck(config) => healthcheck::healthcheck(&config.files),
        CliCommand::BackendConfig { service, program, backend, out, config } => {
            let backend = backend.as_deref();
            backend_config::backend_config(
                &service,
                program,
                backend,
                out.as_deref(),
                &config.files,
            )
        }
        CliCommand::Kubernetes(args) => kubernetes::kubernetes(&args),
        CliCommand::AsUser { user, group, here, arguments } => {
            as_user::as_user(user, group, here, &arguments)
        }
        CliCommand::Place => hand_over::place_files(),
        CliCommand::Generate(command) => generate::generate(&command),
        CliCommand::Certificate(command) => certificate::certificate(&command),
        CliCommand::Keys(command) => keys::keys(&command),
        CliCommand::Clients(command) => clients::clients(&command),
        CliCommand::Import(command) => import::import(&command),
        CliCommand::Backup(args) => backup::backup(&args),
        CliCommand::Restore(args) => restore::restore(&args),
        CliCommand::Descriptor { address, config, json } => {
            descriptor::descriptor(&address, &config.files, json)
        }
        CliCommand::Config(ConfigCommand::Example) => config::example(),
        CliCommand::Config(ConfigCommand::Schema) => config::schema(),
        CliCommand::Config(ConfigCommand::Show(config)) => config::show(&config.files),
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

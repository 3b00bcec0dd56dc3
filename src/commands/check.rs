//! `onionbraid check`: is the configuration right, and what would run?
//!
//! Reads files and keys, and looks at everything that `run` begins with
//! (`daemon::preflight`); makes nothing, does not use the network; unless it is
//! told to, and then every backend is asked through Tor.

mod advice;
mod anonymity;
mod bundles;
mod certificates;
mod closed;
mod exposed;
mod guards;
mod hints;
mod online;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use super::{CommandFailure, finish, load};
use crate::causes;
use crate::clock::now;
use crate::config::{Config, Environment, Probe, ProofOfWork, ServiceConfig};
use crate::daemon;
use crate::exit::Exit;
use crate::observe::counted;
use crate::tor::credentials::Credentials;
use crate::tor::keys;
use onionbraid_balancer::onion::OnionAddress;
use onionbraid_balancer::pow::CLIENT_MAX_EFFORT;
use onionbraid_balancer::{Distinct, LinkPolicy, Publishers};

use online::AskedService;

/// Checks the configuration that lies in `files`, or in the usual places; with
/// `online` also whether every backend answers.
pub fn check(files: &[PathBuf], online: bool) -> ExitCode {
    finish(write_check(files, online, &mut io::stdout().lock()))
}

fn write_check(
    files: &[PathBuf],
    online: bool,
    out: &mut impl Write,
) -> Result<(), CommandFailure> {
    let config = load(files)?;
    write_whole(&config, out)?;
    let mut warnings = config.warnings.clone();
    warnings.extend(exposed::warnings(&config));
    warnings.extend(closed::warnings(&config));
    warnings.extend(anonymity::warnings(&config));
    let mut hints = Vec::new();
    let clear = daemon::preflight(&config).map_err(|obstacles| CommandFailure::from(&obstacles))?;
    let keys = keys::open_existing(&config.storage)?;
    let mut found = Vec::new();
    let mut asked = Vec::new();
    let mut without_key = Vec::new();
    for service in &config.services {
        match Credentials::of_service(&keys, &service.nickname, service.key_place()) {
            Ok(credentials) => found.push((service, credentials)),
            // It does not run, so its key keeps nothing from running.
            Err(error) if !service.enabled => {
                warnings.push(causes::in_one_line(&error));
                found.push((service, None));
            }
            Err(error) => return Err(error.into()),
        }
    }
    for (service, credentials) in found {
        let address = credentials.as_ref().map(Credentials::address);
        let of = |it| bundles::CheckedBundle::of(service, it, now().wall);
        let bundle = credentials.as_ref().and_then(of);
        write_service(service, address, bundle.as_ref(), out)?;
        if let Some(bundle) = &bundle {
            warnings.extend(bundle.warning().filter(|_| service.enabled));
        }
        hints.extend(hints::on(service, address, &config.services));
        let certificates = certificates::on(service, address, now().wall);
        warnings.extend(certificates.warnings);
        hints.extend(certificates.hints);
        match address {
            _ if !service.enabled => {}
            Some(address) => {
                warnings.extend(daemon::out_of_use(&config.storage, service, &address));
                asked.push(AskedService { service, address });
            }
            None => without_key.push(service.nickname.to_string()),
        }
        if bundle.is_some() && keys.stored(&service.nickname).is_ok_and(|it| it.is_some()) {
            warnings.push(bundles::key_beside(service));
        }
        if let (Some(_), Ok(Some(unused))) = (&service.identity_key, keys.stored(&service.nickname))
            && Some(keys::address(&unused)) != address
        {
            warnings.push(format!(
                "service \"{}\" has another key in the keystore, which `identity_key` sets aside",
                service.nickname
            ));
        }
    }
    hints.extend(hints::on_all(&config.services));
    if !config.storage.explicit && !config.files.is_empty() {
        writeln!(
            out,
            "The files name no [storage] state_dir, so the keys are onionbraid's own: a service \
             that arti ran before\nhas another address here, unless state_dir names arti's \
             directory.\n"
        )?;
    }
    for warning in &warnings {
        writeln!(out, "warning: {warning}")?;
    }
    for hint in &hints {
        writeln!(out, "hint: {hint}")?;
    }
    if clear.running {
        writeln!(out, "A daemon is running on this state directory.")?;
    }
    writeln!(out, "The configuration is good.")?;
    if !online {
        return Ok(());
    }
    out.flush()?;
    if !asked.is_empty() {
        online::check(&config, &Environment::of_process(), &asked, out)?;
    }
    match without_key.first() {
        None => Ok(()),
        Some(nickname) => {
            let text = format!(
                "service \"{nickname}\" has no key and so no address yet: run it once, then its \
                 backends can be asked"
            );
            Err(CommandFailure::new(Exit::Failed, text))
        }
    }
}

fn write_whole(config: &Config, out: &mut impl Write) -> io::Result<()> {
    match config.files.as_slice() {
        [] => writeln!(out, "configuration: none, so the built-in welcome page is served")?,
        files => {
            for file in files {
                writeln!(out, "configuration: {}", file.display())?;
            }
        }
    }
    writeln!(out, "state:         {}", config.storage.state_dir.display())?;
    writeln!(out, "cache:         {}", config.storage.cache_dir.display())?;
    writeln!(out, "admin:         {}\n", config.admin)
}

/// What proof of work costs, and whom.
fn write_proof_of_work(pow: &ProofOfWork, out: &mut impl Write) -> io::Result<()> {
    let ProofOfWork { enabled, queue_depth, rate, burst, max_effort } = *pow;
    if !enabled {
        return writeln!(
            out,
            "    proof of work: off; a public address should have it (enable_pow)"
        );
    }
    // About 2.8 ms a unit, and clients do no more than this, whatever is asked.
    let seconds = f64::from(max_effort.min(CLIENT_MAX_EFFORT)) * 0.0028;
    writeln!(
        out,
        "    proof of work: nothing in peace; under attack {} a second ({burst} at \
         once), up to {queue_depth} waiting (about {} MB), and up to {seconds:.0} s of a client's \
         time",
        counted(rate, "introduction"),
        queue_depth.div_ceil(1_000)
    )
}

fn write_service(
    service: &ServiceConfig,
    address: Option<OnionAddress>,
    bundle: Option<&bundles::CheckedBundle<'_>>,
    out: &mut impl Write,
) -> io::Result<()> {
    let disabled = if service.enabled { "" } else { " (disabled)" };
    writeln!(out, "service \"{}\"{disabled}", service.nickname)?;
    match address {
        Some(address) => {
            writeln!(out, "    address {address}")?;
            match (bundle, &service.identity_key) {
                (Some(bundle), _) => bundle.write(out)?,
                (None, Some(file)) => writeln!(out, "    key from {}", file.display())?,
                (None, None) => writeln!(out, "    key from the keystore")?,
            }
        }
        None if service.enabled => {
            writeln!(out, "    address: a new key and address will be made at the first run")?;
        }
        None => writeln!(out, "    address: none yet")?,
    }
    anonymity::write(service, out)?;
    closed::write(service, out)?;
    if service.local_instances > 0 {
        writeln!(
            out,
            "    local instances: {}, with {} each (weight {})",
            service.local_instances,
            counted(service.points_per_instance(), "introduction point"),
            service.local_weight
        )?;
        guards::write(service, out)?;
        for frontend in &service.frontends {
            writeln!(out, "    they answer for {frontend} too")?;
        }
        for rule in &service.proxy_ports.0 {
            writeln!(out, "    {rule}")?;
        }
        write_proof_of_work(&service.pow, out)?;
    }
    for backend in &service.backends {
        let weight = backend.weight;
        let key = if backend.client_key.is_some() { ", read with its client_key" } else { "" };
        writeln!(out, "    backend {}: {} (weight {weight}{key})", backend.name, backend.address)?;
    }
    if let Some(probe) = &service.probe {
        let interval = humantime::format_duration(probe.interval.unwrap_or(Probe::IN_DOUBT));
        let seldom = match probe.interval {
            Some(_) => String::new(),
            None => format!(" in doubt, else every {}", humantime::format_duration(Probe::CALM)),
        };
        writeln!(out, "    backends are probed on port {} every {interval}{seldom}", probe.port)?;
    }
    match service.link {
        LinkPolicy::Auto => {}
        LinkPolicy::Always => writeln!(out, "    all backends are expected to have control links")?,
        LinkPolicy::Never => writeln!(out, "    there are no control links")?,
    }
    match service.distinct_descriptors {
        Distinct::Auto => {}
        Distinct::Always => writeln!(out, "    HSDirs get different introduction points")?,
        Distinct::Never => writeln!(out, "    all HSDirs get the same introduction points")?,
    }
    if service.publishers == Publishers::Several {
        writeln!(out, "    other processes publish this address, too")?;
    }
    writeln!(out)
}

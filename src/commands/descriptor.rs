//! `onionbraid descriptor`: what do clients find under an onion address, and
//! do all HSDirs tell them the same?
//!
//! Fetches from every responsible HSDir of the current period. For an address
//! of our own it also asks the running daemon, if there is one, which backend
//! each introduction point belongs to.

mod report;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use super::ask::ask;
use super::{Failure, finish, tor_client};
use crate::clock::now;
use crate::config::{Config, Environment};
use crate::exit::Exit;
use crate::observe::Snapshot;
use crate::observe::snapshot::Service;
use crate::tor::held::{self, Held};
use crate::tor::network::Network;
use onionbraid_balancer::fact::{FetchFailure, ResponsibleHsdir};
use onionbraid_balancer::onion::{OnionAddress, Period};

use report::Report;

/// Explains what is published under `address`.
pub fn descriptor(address: &OnionAddress, files: &[PathBuf], json: bool) -> ExitCode {
    finish(write_descriptor(address, files, json, &mut io::stdout().lock()))
}

/// What the network says of one address.
struct Found {
    /// The current one.
    period: Period,
    /// Every responsible HSDir's answer, replica by replica.
    answers: Vec<(ResponsibleHsdir, Result<Held, FetchFailure>)>,
    /// What the daemon here says, if it runs and publishes the address.
    service: Option<Service>,
}

fn write_descriptor(
    address: &OnionAddress,
    files: &[PathBuf],
    json: bool,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let config = Config::load(files, &Environment::of_process())?;
    let report = tor_client::with_network(&config, async |network| {
        let found = find(&network, &config, address).await?;
        Ok(Report::new(address, &found, |relay| network.relay_nickname(relay)))
    })?;
    let report =
        report.map_err(|error: FetchFailure| Failure::new(Exit::Failed, error.to_string()))?;
    if json {
        let text = serde_json::to_string_pretty(&report)
            .map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
        writeln!(out, "{text}")?;
    } else {
        report.write(now().wall, out)?;
    }
    if report.can_be_found() {
        Ok(())
    } else {
        Err(Failure::new(
            Exit::Failed,
            "no HSDir that clients ask has a descriptor that they can use",
        ))
    }
}

async fn find(
    network: &Network,
    config: &Config,
    address: &OnionAddress,
) -> Result<Found, FetchFailure> {
    let (answers, service) = futures::join!(
        held::everywhere(network, address, now().wall),
        published_here(config, address)
    );
    let (period, answers) = answers?;
    Ok(Found { period, answers, service })
}

/// The daemon's word on the service with this address. That there is no daemon
/// is no failure: most addresses are somebody else's.
async fn published_here(config: &Config, address: &OnionAddress) -> Option<Service> {
    let answer = ask(&config.admin, "/status.json").await.ok()?;
    let snapshot: Snapshot = serde_json::from_str(&answer.body).ok()?;
    let address = address.to_string();
    snapshot.services.into_iter().find(|service| service.address == address)
}

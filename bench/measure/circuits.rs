//! How many circuits does a frontend build that nobody visits, and what do vanguards
//! cost?

use std::time::Duration;

use anyhow::{Result, ensure};

use super::files;
use super::visits::{self, in_turn};
use crate::network::client::Client;
use crate::network::daemon::Daemon;
use crate::network::origin::Origin;
use crate::network::{Network, Options};
use crate::{LIMIT, balancing, start_services, summary};

/// For how long an idle daemon is watched; `MINUTES` says otherwise.
const WATCHED: u64 = 20;

/// How many pages are fetched in each of two ways.
const PAGES: usize = 30;

/// What a daemon logs of every circuit.
const TRACE: &str = "[logging]\nconsole = 'info,tor_proto::channel=trace'\n";

/// Circuits of a frontend with two probed C tor backends when all is well, by the modes
/// of vanguards. Periods are of two hours, so that nothing is hurried.
pub(crate) async fn idle(origin: &Origin) -> Result<()> {
    let minutes = std::env::var("MINUTES").ok().map(|minutes| minutes.parse()).transpose()?;
    let minutes = minutes.unwrap_or(WATCHED);
    let scratch = tempfile::tempdir()?;
    let options = Options {
        voting_interval: Duration::from_secs(300),
        limit: Duration::from_secs(480),
        ..Options::below(scratch.path(), 12)
    };
    let network = Network::start(options).await?;
    let mut daemons = Vec::new();
    for mode in ["lite", "full"] {
        let backends =
            network.future_backends(&format!("idle-{mode}"), &[origin.address; 2]).await?;
        let list: Vec<String> =
            backends.onion_addresses().iter().map(|address| format!("'{address}'")).collect();
        let service = format!("backends = [{}]\nprobe = {{ port = 80 }}", list.join(", "));
        let daemon = with_vanguards(&network, &format!("circuits-{mode}"), mode, &service)?;
        let status = daemon.until("answering", LIMIT, |_| true).await?;
        backends.answer_for(&status.services[0].address).await?;
        daemon.until("complete", LIMIT, balancing::complete).await?;
        daemons.push((mode, daemon, backends));
    }
    // What the beginning brings.
    tokio::time::sleep(Duration::from_secs(180)).await;
    let before = counts(&daemons)?;
    tokio::time::sleep(Duration::from_secs(60 * minutes)).await;
    for ((mode, daemon, _), (before, after)) in
        daemons.iter().zip(before.into_iter().zip(counts(&daemons)?))
    {
        let state = daemon.status().await?.services[0].state;
        println!(
            "idle circuits with two probed C tor backends, vanguards {mode}: {} in {minutes} min, \
             {:.0} an hour ({state:?})",
            after - before,
            (after - before) as f64 * 60.0 / minutes as f64,
        );
    }
    Ok(())
}

/// A page on a fresh circuit, from a daemon with full vanguards and one with lite in turn.
pub(crate) async fn vanguards(network: &Network, client: &Client, origin: &Origin) -> Result<()> {
    let service = format!("local_instances = 1\nproxy_ports = [['80', '{}']]", origin.address);
    let mut daemons = Vec::new();
    for mode in ["lite", "full"] {
        let daemon = with_vanguards(network, &format!("vanguards-{mode}"), mode, &service)?;
        let status = daemon.until("ready", LIMIT, |snapshot| snapshot.ready).await?;
        let onion = status.services[0].address.clone();
        visits::page(client, "first", &onion).await?;
        daemons.push((mode, onion, daemon));
    }
    let mut times = [Vec::new(), Vec::new()];
    let mut differences = Vec::new();
    for page in 0..PAGES {
        let mut pair = [0.0; 2];
        for which in in_turn(page) {
            let (mode, onion, _) = &daemons[which];
            pair[which] = visits::page(client, &format!("{mode}-{page}"), onion).await?;
            times[which].push(pair[which]);
        }
        differences.push(pair[1] - pair[0]);
    }
    for ((mode, ..), times) in daemons.iter().zip(&mut times) {
        println!("page on a fresh circuit, vanguards {mode}: {} s", summary(times));
    }
    println!("full less lite, in pairs: {} s", summary(&mut differences));
    Ok(())
}

fn with_vanguards(network: &Network, name: &str, mode: &str, service: &str) -> Result<Daemon> {
    let service = files::service(service);
    start_services(network, name, &format!("{service}\n{TRACE}[vanguards]\nmode = '{mode}'\n"))
}

/// How many circuits each daemon has begun.
fn counts<B>(daemons: &[(&str, Daemon, B)]) -> Result<Vec<usize>> {
    let count = |(mode, daemon, _): &(&str, Daemon, B)| {
        let circuits = daemon.process.log().matches("Allocated CircId").count();
        ensure!(circuits > 0, "no circuit is logged with vanguards {mode}");
        Ok(circuits)
    };
    daemons.iter().map(count).collect()
}

//! What do proof of work and control links cost where nothing happens? Two services that
//! differ in one key, visited in turn in one run: pages on fresh circuits, and downloads.

use anyhow::{Result, ensure};
use onionbraid::observe::Snapshot;
use onionbraid::observe::snapshot::LinkState;

use super::files::{Files, service};
use super::visits::{self, in_turn};
use crate::network::Network;
use crate::network::client::Client;
use crate::network::origin::Origin;
use crate::{LIMIT, RUNS, balancing, start, summary};

/// How many pages are fetched of each of two services.
const PAGES: usize = 30;

/// A service with proof of work in peace, and one without.
pub(crate) async fn proof_of_work(
    network: &Network,
    client: &Client,
    origin: &Origin,
) -> Result<()> {
    let mut daemons = Vec::new();
    for on in [false, true] {
        let service = format!(
            "local_instances = 1\nproxy_ports = [['80', '{}']]\nenable_pow = {on}",
            origin.address
        );
        let daemon = start(network, &format!("pair-pow-{on}"), &service)?;
        let status = daemon.until("complete", LIMIT, balancing::complete).await?;
        daemons.push((status.services[0].address.clone(), daemon));
    }
    let names = ["enable_pow = false", "enable_pow = true"];
    compare(client, names, [&daemons[0].0, &daemons[1].0]).await?;
    let status = daemons[1].1.status().await?;
    let effort = status.services[0].load.pow.as_ref().map(|pow| pow.effort);
    ensure!(effort == Some(0), "that was no peace: {effort:?}");
    Ok(())
}

/// A service of a backend elsewhere of our own kind, with a control link and without.
pub(crate) async fn link(network: &Network, client: &Client, origin: &Origin) -> Result<()> {
    let mut pairs = Vec::new();
    for link in ["'auto'", "false"] {
        let name = link.trim_matches('\'');
        let publisher = Files::new(network, &format!("pair-publisher-{name}"))?;
        let backend = Files::new(network, &format!("pair-backend-{name}"))?;
        let (onion, own) = (publisher.address()?, backend.address()?);
        let there = backend.start(&service(&format!(
            "frontends = ['{onion}']\nproxy_ports = [['80', '{}']]\nlink = {link}",
            origin.address
        )))?;
        there.until("complete", LIMIT, balancing::complete).await?;
        let here = publisher.start(&service(&format!("backends = ['{own}']\nlink = {link}")))?;
        let linked = (link != "false").then_some(LinkState::Up);
        let is_so = |snapshot: &Snapshot| {
            balancing::complete(snapshot) && snapshot.services[0].backends[0].link == linked
        };
        here.until("complete, with its link or without", LIMIT, is_so).await?;
        pairs.push((onion, here, there));
    }
    compare(client, ["link = \"auto\", up", "link = false"], [&pairs[0].0, &pairs[1].0]).await
}

/// Pages and downloads of both in turn; each begins as often as the other.
async fn compare(client: &Client, names: [&str; 2], onions: [&str; 2]) -> Result<()> {
    for onion in onions {
        visits::page(client, "first", onion).await?;
    }
    let mut pages = [Vec::new(), Vec::new()];
    for page in 0..PAGES {
        for which in in_turn(page) {
            let isolation = format!("{}-{page}", names[which]);
            pages[which].push(visits::page(client, &isolation, onions[which]).await?);
        }
    }
    report("page on a fresh circuit, s", names, pages);
    let mut rates = [Vec::new(), Vec::new()];
    for run in 0..2 * RUNS {
        for which in in_turn(run) {
            let isolation = format!("{}-all-{run}", names[which]);
            rates[which].push(visits::download(client, &isolation, onions[which]).await?);
        }
    }
    report("20 MiB, MB/s", names, rates);
    Ok(())
}

fn report(what: &str, names: [&str; 2], figures: [Vec<f64>; 2]) {
    let [first, second] = &figures;
    let mut ratios: Vec<f64> = first.iter().zip(second).map(|(one, other)| other / one).collect();
    for (name, figures) in names.iter().zip(&figures) {
        println!("{what}: {name}: {}", summary(&mut figures.clone()));
    }
    println!("{what}: the second to the first, in pairs: {}", summary(&mut ratios));
}

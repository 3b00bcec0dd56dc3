//! What do proof of work and control links cost where nothing happens? Two services that
//! differ in one key, visited in turn in one run: pages on fresh circuits, and downloads.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use onionbraid::config::{Config, Environment};
use onionbraid::observe::Snapshot;
use onionbraid::observe::snapshot::LinkState;
use onionbraid::tor::keys;

use crate::network::Network;
use crate::network::client::Client;
use crate::network::daemon::{Daemon, above_this_example};
use crate::network::fetch::eventually;
use crate::network::origin::Origin;
use crate::{DOWNLOAD, LIMIT, RUNS, balancing, start, summary};

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
        let there = backend.start(&format!(
            "frontends = ['{onion}']\nproxy_ports = [['80', '{}']]\nlink = {link}",
            origin.address
        ))?;
        there.until("complete", LIMIT, balancing::complete).await?;
        let here = publisher.start(&format!("backends = ['{own}']\nlink = {link}"))?;
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
        eventually(LIMIT, || client.get("first", onion, "/", LIMIT)).await?;
    }
    let mut pages = [Vec::new(), Vec::new()];
    for page in 0..PAGES {
        for which in in_turn(page) {
            let (onion, isolation) = (onions[which], format!("{}-{page}", names[which]));
            let fetched = eventually(LIMIT, || client.get(&isolation, onion, "/", LIMIT)).await?;
            pages[which].push(fetched.elapsed.as_secs_f64());
        }
    }
    report("page on a fresh circuit, s", names, pages);
    let mut rates = [Vec::new(), Vec::new()];
    let path = format!("/bytes/{DOWNLOAD}");
    for run in 0..2 * RUNS {
        for which in in_turn(run) {
            let (onion, isolation) = (onions[which], format!("{}-all-{run}", names[which]));
            // The circuit stands before the clock runs.
            eventually(LIMIT, || client.get(&isolation, onion, "/", LIMIT)).await?;
            let file = client.get(&isolation, onion, &path, LIMIT).await?;
            ensure!(file.body.len() as u64 == DOWNLOAD, "a short file");
            rates[which].push(DOWNLOAD as f64 / 1e6 / file.elapsed.as_secs_f64());
        }
    }
    report("20 MiB, MB/s", names, rates);
    Ok(())
}

fn in_turn(time: usize) -> [usize; 2] {
    if time.is_multiple_of(2) { [0, 1] } else { [1, 0] }
}

fn report(what: &str, names: [&str; 2], figures: [Vec<f64>; 2]) {
    let [first, second] = &figures;
    let mut ratios: Vec<f64> = first.iter().zip(second).map(|(one, other)| other / one).collect();
    for (name, figures) in names.iter().zip(&figures) {
        println!("{what}: {name}: {}", summary(&mut figures.clone()));
    }
    println!("{what}: the second to the first, in pairs: {}", summary(&mut ratios));
}

/// The files of a daemon that does not run yet: others must know its address first.
struct Files {
    dir: PathBuf,
    files: [PathBuf; 2],
    admin: String,
}

impl Files {
    fn new(network: &Network, name: &str) -> Result<Self> {
        let dir = network.scratch(name)?;
        let files = ["onionbraid.toml", "network.toml"].map(|name| dir.join(name));
        fs::write(&files[1], network.arti_toml())?;
        Ok(Self { files, dir, admin: network.free_address()?.to_string() })
    }

    /// The address that the service will have: its key is made now.
    fn address(&self) -> Result<String> {
        self.write("proxy_ports = [['80', 'reject']]")?;
        let config = Config::load(&self.files, &Environment::of_process())?;
        let service = config.services.first().context("no service")?;
        let key = keys::open(&config.storage)?.generate(&service.nickname)?;
        Ok(keys::address(&key).to_string())
    }

    fn start(&self, service: &str) -> Result<Daemon> {
        self.write(service)?;
        let files: Vec<&Path> = self.files.iter().map(PathBuf::as_path).collect();
        Daemon::start(&above_this_example()?, &files, &self.dir.join("log"))
    }

    fn write(&self, service: &str) -> Result<()> {
        let (dir, admin) = (self.dir.display(), &self.admin);
        let text = format!(
            "[onion_services.\"measured\"]\n{service}\n[admin]\nlisten = '{admin}'\n\
             [storage]\nstate_dir = '{dir}/state'\ncache_dir = '{dir}/cache'\n"
        );
        Ok(fs::write(&self.files[0], text)?)
    }
}

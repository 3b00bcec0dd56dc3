//! The cost of carrying clients' data: processor time for each gigabyte and
//! each rendezvous, and memory for each open circuit, beside C tor in the same
//! run.
//!
//! Times are the processes' own, so a busy machine changes them little.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures::future::try_join_all;

use super::visits::{DOWNLOAD, download_path};
use crate::network::Network;
use crate::network::client::Client;
use crate::network::fetch::eventually;
use crate::network::origin::Origin;
use crate::{LIMIT, memory_kib, processor_seconds, start, summary};

/// Downloads at a time, each on a circuit of its own.
const PARALLEL: usize = 4;

/// How often either service is measured, in turn.
const ROUNDS: usize = 5;

/// Fresh circuits of a round: one rendezvous each.
const CIRCUITS: usize = 60;

/// What one service cost in each round.
#[derive(Default)]
struct Costs {
    seconds_per_gigabyte: Vec<f64>,
    megabytes_per_second: Vec<f64>,
    milliseconds_per_rendezvous: Vec<f64>,
    kibibytes_per_circuit: Vec<f64>,
}

/// A service under measurement.
struct Subject<'a> {
    name: &'static str,
    onion: &'a str,
    pid: u32,
    costs: Costs,
}

/// Downloads from both, and meets clients at both, in turn.
pub(crate) async fn compare(network: &Network, client: &Client, origin: &Origin) -> Result<()> {
    let plain = network.service("plain-data", origin.address).await?;
    let plain_pid = plain.node.pid().context("C tor does not run")?;
    let service = format!("local_instances = 1\nproxy_ports = [['80', '{}']]", origin.address);
    let daemon = start(network, "data", &service)?;
    let status = daemon.until("ready", LIMIT, |snapshot| snapshot.ready).await?;
    let ours = &status.services[0].address;
    let mut subjects = [
        Subject::new("onionbraid", ours, daemon.process.pid()),
        Subject::new("C tor", plain.onion_address(), plain_pid),
    ];
    for round in 0..ROUNDS {
        for subject in &mut subjects {
            subject.download(client, round).await?;
        }
    }
    for round in 0..ROUNDS {
        for subject in &mut subjects {
            subject.meet(client, round).await?;
        }
    }
    for subject in &mut subjects {
        subject.print();
    }
    let [us, tor] = &subjects;
    let ratio = |figure: fn(&Costs) -> &Vec<f64>| {
        let pairs = figure(&us.costs).iter().zip(figure(&tor.costs));
        summary(&mut pairs.map(|(us, tor)| us / tor).collect::<Vec<_>>())
    };
    println!(
        "ratio, processor time for a gigabyte:  {}",
        ratio(|costs| &costs.seconds_per_gigabyte)
    );
    println!(
        "ratio, speed:                          {}",
        ratio(|costs| &costs.megabytes_per_second)
    );
    println!(
        "ratio, processor time for a rendezvous: {}",
        ratio(|costs| &costs.milliseconds_per_rendezvous)
    );
    Ok(())
}

impl<'a> Subject<'a> {
    fn new(name: &'static str, onion: &'a str, pid: u32) -> Self {
        Self { name, onion, pid, costs: Costs::default() }
    }

    /// A few downloads at the same time, on circuits that are open already.
    async fn download(&mut self, client: &Client, round: usize) -> Result<()> {
        let isolations: Vec<String> =
            (0..PARALLEL).map(|n| format!("data-{}-{round}-{n}", self.name)).collect();
        for isolation in &isolations {
            eventually(LIMIT, || client.get(isolation, self.onion, "/", LIMIT)).await?;
        }
        let path = download_path();
        let (busy, began) = (processor_seconds(self.pid)?, Instant::now());
        let files =
            isolations.iter().map(|isolation| client.get(isolation, self.onion, &path, LIMIT));
        for file in try_join_all(files).await? {
            ensure!(file.body.len() as u64 == DOWNLOAD, "a short file");
        }
        let bytes = (DOWNLOAD * PARALLEL as u64) as f64;
        let seconds = processor_seconds(self.pid)? - busy;
        self.costs.seconds_per_gigabyte.push(seconds / (bytes / 1e9));
        self.costs.megabytes_per_second.push(bytes / 1e6 / began.elapsed().as_secs_f64());
        Ok(())
    }

    /// Many clients that ask for a small page each, one after the other.
    async fn meet(&mut self, client: &Client, round: usize) -> Result<()> {
        let memory = memory_kib(self.pid, "Rss:")?;
        let busy = processor_seconds(self.pid)?;
        for circuit in 0..CIRCUITS {
            let isolation = format!("meet-{}-{round}-{circuit}", self.name);
            eventually(LIMIT, || client.get(&isolation, self.onion, "/", LIMIT)).await?;
        }
        // What the last page leaves behind is still being cleared away.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (busy, memory) =
            (processor_seconds(self.pid)? - busy, memory_kib(self.pid, "Rss:")? - memory);
        self.costs.milliseconds_per_rendezvous.push(busy * 1e3 / CIRCUITS as f64);
        self.costs.kibibytes_per_circuit.push(memory / CIRCUITS as f64);
        Ok(())
    }

    fn print(&self) {
        let line = |what: &str, figures: &Vec<f64>, unit: &str| {
            println!("{}: {what} {} {unit}", self.name, summary(&mut figures.clone()));
        };
        line("processor time for a gigabyte", &self.costs.seconds_per_gigabyte, "s");
        line("speed", &self.costs.megabytes_per_second, "MB/s");
        line("processor time for a rendezvous", &self.costs.milliseconds_per_rendezvous, "ms");
        line("memory for an open circuit", &self.costs.kibibytes_per_circuit, "KiB");
    }
}

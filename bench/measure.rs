//! How fast and how large is the daemon, beside plain C tor on the same network
//! in the same run?
//!
//! `make measure` builds the release and runs this; it takes about half an hour.
//! `ONLY=failover make measure` runs one part: `start`, `throughput`,
//! `data_path`, `idle`, `failover`, `relay`, `eight`, `services`, `descriptor`, `circuits`,
//! `vanguards`, `pow`, `link`, `single_onion`, `guards` or `cockpit`. It prints figures and judges nothing.

#![allow(clippy::disallowed_methods, reason = "measuring is about clocks")]
#![allow(clippy::print_stdout, reason = "a person reads it")]

/// What end-to-end tests stand on.
#[allow(unused_imports, reason = "benchmarks leave the tests in it out")]
#[path = "../integration"]
pub mod integration {
    pub mod network;
}

use integration::network;

mod measure {
    pub(crate) mod balancing;
    pub(crate) mod circuits;
    pub(crate) mod cockpit;
    pub(crate) mod data_path;
    pub(crate) mod descriptor;
    pub(crate) mod files;
    pub(crate) mod guards;
    pub(crate) mod pairs;
    pub(crate) mod single_onion;
    pub(crate) mod visits;
}

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use measure::files::{Files, service};
use measure::{
    balancing, circuits, cockpit, data_path, descriptor, guards, pairs, single_onion, visits,
};
use network::client::Client;
use network::daemon::Daemon;
use network::fetch::eventually;
use network::origin::Origin;
use network::{Network, Options};

/// How often each figure is taken.
const RUNS: usize = 5;

/// Generous: what is measured is measured apart from it.
const LIMIT: Duration = Duration::from_secs(180);

/// For how long the idle daemon is watched.
const IDLE: Duration = Duration::from_secs(120);

#[tokio::main]
async fn main() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let network = Network::start(Options::below(scratch.path(), 12)).await?;
    let origin = Origin::start("the origin")?;
    let client = network.client("visitor").await?;
    let only = std::env::var("ONLY").ok();
    let wanted = |part: &str| only.as_ref().is_none_or(|only| only == part);
    if wanted("descriptor") {
        descriptor::build()?;
    }
    if wanted("cockpit") {
        cockpit::renderings()?;
        cockpit::idle(&network).await?;
    }
    if wanted("start") {
        first_page(&network, &client, &origin).await?;
    }
    if wanted("throughput") {
        throughput(&network, &client, &origin).await?;
    }
    if wanted("data_path") {
        data_path::compare(&network, &client, &origin).await?;
    }
    if wanted("pow") {
        pairs::proof_of_work(&network, &client, &origin).await?;
    }
    if wanted("link") {
        pairs::link(&network, &client, &origin).await?;
    }
    if wanted("idle") {
        idle(&network, &origin).await?;
    }
    if wanted("vanguards") {
        circuits::vanguards(&network, &client, &origin).await?;
    }
    if wanted("single_onion") {
        single_onion::compare(&network, &client, &origin).await?;
    }
    if wanted("guards") {
        guards::compare(&origin).await?;
    }
    if wanted("circuits") {
        circuits::idle(&origin).await?;
    }
    if wanted("failover") {
        balancing::failover(&network, &origin).await?;
    }
    if wanted("relay") {
        balancing::lost_relay(&origin).await?;
    }
    if wanted("eight") {
        balancing::eight_backends(&network, &origin).await?;
    }
    if wanted("services") {
        balancing::services(&network, &origin).await?;
    }
    Ok(())
}

/// From the start with an empty state to the first page.
async fn first_page(network: &Network, client: &Client, origin: &Origin) -> Result<()> {
    let mut times = Vec::new();
    for run in 0..RUNS {
        let service = format!("local_instances = 2\nproxy_ports = [['80', '{}']]", origin.address);
        let started = Instant::now();
        let daemon = start(network, &format!("first-{run}"), &service)?;
        let status = daemon.until("ready", LIMIT, |snapshot| snapshot.ready).await?;
        let ready = started.elapsed();
        let onion = &status.services[0].address;
        let visits = std::sync::atomic::AtomicU32::new(0);
        eventually(LIMIT, || {
            let visit = visits.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let isolation = format!("first-{run}-{visit}");
            async move { client.get(&isolation, onion, "/", LIMIT).await }
        })
        .await?;
        println!(
            "start {run}: ready after {ready:.2?}, first page after {:.2?}",
            started.elapsed()
        );
        times.push(started.elapsed().as_secs_f64());
    }
    println!("start with an empty state to the first page: {} s", summary(&mut times));
    Ok(())
}

/// One 20 MB download through us, and one through plain C tor, in turn.
async fn throughput(network: &Network, client: &Client, origin: &Origin) -> Result<()> {
    let plain = network.service("plain", origin.address).await?;
    let service = format!("local_instances = 1\nproxy_ports = [['80', '{}']]", origin.address);
    let daemon = start(network, "throughput", &service)?;
    let status = daemon.until("ready", LIMIT, |snapshot| snapshot.ready).await?;
    let ours = status.services[0].address.clone();
    let (mut us, mut tor, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for run in 0..RUNS {
        let mut rates = Vec::new();
        for (name, onion) in [("onionbraid", ours.as_str()), ("C tor", plain.onion_address())] {
            let isolation = format!("download-{name}-{run}");
            rates.push(visits::download(client, &isolation, onion).await?);
        }
        println!("download {run}: onionbraid {:.2} MB/s, C tor {:.2} MB/s", rates[0], rates[1]);
        us.push(rates[0]);
        tor.push(rates[1]);
        ratios.push(rates[0] / rates[1]);
    }
    println!("20 MiB through onionbraid: {} MB/s", summary(&mut us));
    println!("20 MiB through C tor:      {} MB/s", summary(&mut tor));
    println!("ratio in the same run:     {}", summary(&mut ratios));
    Ok(())
}

/// Memory and processor of a frontend of three C tor backends that has nothing
/// to do.
async fn idle(network: &Network, origin: &Origin) -> Result<()> {
    let backends = network.future_backends("backends", &[origin.address; 3]).await?;
    let list: Vec<String> =
        backends.onion_addresses().iter().map(|address| format!("'{address}'")).collect();
    let daemon = start(network, "idle", &format!("backends = [{}]", list.join(", ")))?;
    let status = daemon.until("answering", LIMIT, |_| true).await?;
    backends.answer_for(&status.services[0].address).await?;
    daemon.until("complete", LIMIT, balancing::complete).await?;
    let pid = daemon.process.pid();
    let (busy, begin) = (processor_seconds(pid)?, Instant::now());
    tokio::time::sleep(IDLE).await;
    let share = (processor_seconds(pid)? - busy) / begin.elapsed().as_secs_f64();
    println!(
        "idle with 3 C tor backends: {:.1} MB resident ({:.1} MB proportional), {:.2} % of a core",
        memory_kib(pid, "Rss:")? / 1024.0,
        memory_kib(pid, "Pss:")? / 1024.0,
        100.0 * share
    );
    Ok(())
}

/// A daemon with one service in a new directory.
fn start(network: &Network, name: &str, keys: &str) -> Result<Daemon> {
    start_services(network, name, &service(keys))
}

/// A daemon with these tables of services in a new directory.
fn start_services(network: &Network, name: &str, services: &str) -> Result<Daemon> {
    Files::new(network, name)?.start(services)
}

/// User and system time of a process so far (proc(5), in hundredths).
fn processor_seconds(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields = stat.rsplit_once(')').context("no stat")?.1;
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<f64>);
    Ok(ticks.sum::<Result<f64, _>>()? / 100.0)
}

/// A line of a process's memory map, in KiB.
fn memory_kib(pid: u32, field: &str) -> Result<f64> {
    let map = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = map.lines().find(|line| line.starts_with(field)).context("no such line")?;
    Ok(line.split_whitespace().nth(1).context("no number")?.parse()?)
}

/// Median, and the range.
fn summary(values: &mut [f64]) -> String {
    values.sort_by(f64::total_cmp);
    let median = values.get(values.len() / 2).copied().unwrap_or_default();
    let (low, high) = (values.first(), values.last());
    let (low, high) = (low.copied().unwrap_or_default(), high.copied().unwrap_or_default());
    format!("median {median:.2} ({low:.2} to {high:.2})")
}

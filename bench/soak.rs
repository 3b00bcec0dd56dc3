//! Does the daemon grow over the days?
//!
//! `make soak` builds the release and runs this for an hour (`SOAK_MINUTES`
//! says otherwise). Time periods last six minutes on its network, so the hour
//! holds ten of the daemon's days: ten times all introduction points and HSDirs
//! change as at midnight. Meanwhile clients come and go, backends die and come
//! back, the file is reloaded. Every half minute it notes the daemon's memory,
//! tasks and open files; it fails if the last quarter needs more than the
//! second one.

#![allow(clippy::disallowed_methods, reason = "soaking is about clocks")]
#![allow(clippy::print_stdout, reason = "a person reads it")]

/// What end-to-end tests stand on.
#[allow(unused_imports, reason = "benchmarks leave the tests in it out")]
#[path = "../integration"]
pub mod integration {
    pub mod network;
}

use integration::network;

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use futures::future::join_all;

use network::client::Client;
use network::daemon::{Daemon, built_program};
use network::origin::Origin;
use network::process::Signal;
use network::service::Service;
use network::{Network, Options};

/// A client keeps its circuits for ten minutes, so tasks come and go in waves of
/// about that length: a quarter has to hold one.
const MINUTES_AT_LEAST: u64 = 40;

/// Generous: nothing here is about how long a page takes.
const LIMIT: Duration = Duration::from_secs(180);

/// From one sample to the next.
const SAMPLE: Duration = Duration::from_secs(30);

/// Between visits: what grows does so with the days, not with the load.
const PAUSE: Duration = Duration::from_secs(2);

/// A backend is killed or started, and the file reloaded, every so many samples.
const TROUBLE: usize = 4;

/// What the daemon needs at one moment.
#[derive(Clone, Copy, Debug)]
struct Sample {
    memory_mb: f64,
    tasks: f64,
    files: f64,
}

#[tokio::main]
async fn main() -> Result<()> {
    let minutes = match std::env::var("SOAK_MINUTES") {
        Ok(text) => text.parse().context("SOAK_MINUTES is no number")?,
        Err(_) => 60,
    };
    ensure!(
        minutes >= MINUTES_AT_LEAST,
        "SOAK_MINUTES is {minutes}: below {MINUTES_AT_LEAST} the quarters cannot be compared"
    );
    let end = Instant::now() + Duration::from_secs(60 * minutes);
    let scratch = tempfile::tempdir()?;
    let options =
        Options { voting_interval: Duration::from_secs(15), ..Options::below(scratch.path(), 12) };
    let network = Network::start(options).await?;
    let origin = Origin::start("the origin")?;
    let backends = [
        network.future_backend("berlin", origin.address).await?,
        network.future_backend("lisbon", origin.address).await?,
    ];
    let daemon = start(&network, &origin, &backends)?;
    let status = daemon.until("answering", LIMIT, |_| true).await?;
    let onion = status.services[0].address.clone();
    for backend in &backends {
        backend.answer_for(&onion).await?;
    }
    daemon.until("ready", LIMIT, |snapshot| snapshot.ready).await?;
    let client = network.client("visitor").await?;

    let mut samples = Vec::new();
    let (mut visits, mut failed) = (0, 0);
    while Instant::now() < end {
        let next = Instant::now() + SAMPLE;
        while Instant::now() < next {
            let pages = visit(&client, &onion, visits).await;
            visits += pages.len();
            failed += pages.iter().filter(|served| !**served).count();
            tokio::time::sleep(PAUSE).await;
        }
        if samples.len() % TROUBLE == TROUBLE - 1 {
            trouble(&daemon, &backends[1]).await?;
        }
        let sample = sample(&daemon).await?;
        println!(
            "{:>5} s: {:.1} MB, {} tasks, {} files; {visits} visits, {failed} failed",
            (samples.len() + 1) as u64 * SAMPLE.as_secs(),
            sample.memory_mb,
            sample.tasks,
            sample.files
        );
        samples.push(sample);
    }
    judge(&samples)
}

/// Some clients at the same time, each on circuits of its own: who was served.
async fn visit(client: &Client, onion: &str, number: usize) -> Vec<bool> {
    // Descriptors change with the periods: forget them now and then.
    if number.is_multiple_of(40) {
        let _ = client.new_identity().await;
    }
    let visits = (0..4).map(|n| {
        let isolation = format!("visit-{}", number + n);
        async move { client.get(&isolation, onion, "/bytes/200000", LIMIT).await.is_ok() }
    });
    join_all(visits).await
}

/// A backend dies or comes back, and the file is read again.
async fn trouble(daemon: &Daemon, backend: &Service) -> Result<()> {
    if backend.node.is_running() {
        backend.node.kill()?;
    } else {
        backend.node.restart().await?;
    }
    daemon.process.signal(Signal::Hangup)
}

async fn sample(daemon: &Daemon) -> Result<Sample> {
    ensure!(daemon.process.is_running(), "the daemon has ended:\n{}", daemon.tail());
    let pid = daemon.process.pid();
    let map = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let resident = map.lines().find(|line| line.starts_with("Rss:")).context("no memory map")?;
    let kib: f64 = resident.split_whitespace().nth(1).context("no number")?.parse()?;
    Ok(Sample {
        memory_mb: kib / 1024.0,
        tasks: daemon.status().await?.tasks as f64,
        files: fs::read_dir(format!("/proc/{pid}/fd"))?.count() as f64,
    })
}

/// The medians of the second and the last quarter must be alike: in the first
/// one, caches fill.
fn judge(samples: &[Sample]) -> Result<()> {
    let quarter = samples.len() / 4;
    let (early, late) = (&samples[quarter..2 * quarter], &samples[samples.len() - quarter..]);
    let mut grown = Vec::new();
    let of = |what, of: fn(&Sample) -> f64, slack: f64| (what, of, slack);
    for (what, of, slack) in [
        of("MB of memory", |sample| sample.memory_mb, 8.0),
        of("tasks", |sample| sample.tasks, 30.0),
        of("open files", |sample| sample.files, 15.0),
    ] {
        let (before, after) = (median(early, of), median(late, of));
        println!("{what}: {before:.1} in the second quarter, {after:.1} in the last");
        if after > before * 1.1 + slack {
            grown.push(what);
        }
    }
    if grown.is_empty() {
        return Ok(());
    }
    bail!("the daemon grows: {}", grown.join(", "))
}

fn median(samples: &[Sample], of: fn(&Sample) -> f64) -> f64 {
    let mut values: Vec<f64> = samples.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// A daemon with two local instances and two remote backends, which it probes.
fn start(network: &Network, origin: &Origin, backends: &[Service]) -> Result<Daemon> {
    let dir = network.scratch("soaked")?;
    let (ours, artis) = (dir.join("onionbraid.toml"), dir.join("network.toml"));
    fs::write(&artis, network.arti_toml())?;
    let admin = network.free_address()?;
    let list: Vec<String> =
        backends.iter().map(|backend| format!("'{}'", backend.onion_address())).collect();
    // Its memory and open files are looked at from outside, perhaps not as root.
    fs::write(
        &ours,
        format!(
            "[onion_services.\"soaked\"]\nlocal_instances = 2\n\
             proxy_ports = [['80', 'http://{}']]\nbackends = [{}]\n\
             probe = {{ port = 80, interval = '20s' }}\n\
             [admin]\nlisten = '{admin}'\n\
             [storage]\nstate_dir = '{2}/state'\ncache_dir = '{2}/cache'\n\
             [application]\npermit_debugging = true\n",
            origin.address,
            list.join(", "),
            dir.display()
        ),
    )?;
    Daemon::start(&built_program()?, &[ours.as_path(), artis.as_path()], &dir.join("log"))
}

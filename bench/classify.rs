//! Can a program learn which descriptors are ours, and which are C tor's?
//!
//! `make classify` builds the release and runs this; it takes about five minutes. Processes
//! of both kinds are started in pairs at the same moment, with as many services each, so
//! that only the kind is different. What is learnt from some pairs is judged by the others.
//! Ends with an error if descriptors are told apart more often than in 55 of 100 cases, and
//! more often than chance does with as many services.
//!
//! `PAIRS=8` and `SERVICES=4` (of each process) say how many there are, `DRAWS=200` how often
//! chance is asked, and `KEEP_IN=dir` where descriptors and their features are kept.

#![allow(clippy::disallowed_methods, reason = "learning is about clocks and chance")]
#![allow(clippy::print_stdout, reason = "a person reads it")]

/// What end-to-end tests stand on.
#[allow(unused_imports, reason = "benchmarks leave the tests in it out")]
#[path = "../integration"]
pub mod integration {
    pub mod network;
}

use integration::network;

mod classify {
    pub(crate) mod features;
}

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use futures::future::{join_all, try_join_all};
use onionbraid::observe::Snapshot;
use onionbraid::observe::snapshot::HsdirState;

use classify::features::{Held, names_and_features};
use network::client::Client;
use network::daemon::{Daemon, built_program};
use network::fetch::eventually;
use network::learner::{Sample, learn, telling};
use network::origin::Origin;
use network::service::Service;
use network::{Network, Options, published};

/// Generous, on a busy machine.
const LIMIT: Duration = Duration::from_secs(300);

/// A third of a time period: all descriptors are of the same one.
const CALM: Duration = Duration::from_secs(480);

/// How often groups are divided into what is learnt from and what is judged.
const DIVISIONS: u64 = 10;

/// The share that may be told rightly.
const ALLOWED: f64 = 0.55;

/// One process of ours and one of C tor's.
struct Pair {
    ours: Daemon,
    theirs: Service,
}

#[tokio::main]
async fn main() -> Result<()> {
    let number = |name: &str, default| -> Result<usize> {
        Ok(std::env::var(name).ok().map(|it| it.parse()).transpose()?.unwrap_or(default))
    };
    let (pairs, services) = (number("PAIRS", 8)?, number("SERVICES", 4)?);
    let scratch = tempfile::tempdir()?;
    // Revisions of all count from the same moment only if consensuses are aligned.
    let options = Options {
        voting_interval: Duration::from_secs(60),
        aligned: true,
        limit: LIMIT,
        ..Options::below(scratch.path(), 12)
    };
    let network = Network::start(options).await?;
    let origin = Origin::start("the origin")?;
    let clients = ["one", "two", "three"].map(|name| network.client(name));
    let clients: Vec<Client> = try_join_all(clients).await?;
    let origins = vec![origin.address; services];
    let mut future = Vec::new();
    for pair in 0..pairs {
        let theirs = network.future_backends(&format!("theirs-{pair}"), &origins).await?;
        future.push((theirs, files(&network, &format!("ours-{pair}"), &origin, services)?));
    }
    network.calm_for(CALM).await?;
    let mut running = Vec::new();
    for (pair, (theirs, files)) in future.into_iter().enumerate() {
        // Neither kind is always the first.
        if pair % 2 == 0 {
            theirs.node.restart().await?;
        }
        let paths: Vec<_> = files.iter().map(PathBuf::as_path).collect();
        let log = files[0].with_file_name("log");
        let ours = Daemon::start(&built_program()?, &paths, &log)?;
        if pair % 2 == 1 {
            theirs.node.restart().await?;
        }
        running.push(Pair { ours, theirs });
    }
    let held = collect(&network, &clients, &running).await?;
    drop(running);

    let (names, features) = names_and_features(&network, &held);
    let samples: Vec<Sample> = held
        .iter()
        .zip(features)
        .map(|(it, features)| Sample { features, group: it.pair, ours: it.ours })
        .collect();
    for ours in [true, false] {
        let of = samples.iter().filter(|sample| sample.ours == ours).count();
        println!("{of} descriptors of {}", if ours { "onionbraid" } else { "C tor" });
        ensure!(of >= 100 || pairs * services < 13, "too few descriptors of either kind");
    }
    if let Ok(dir) = std::env::var("KEEP_IN") {
        keep(&PathBuf::from(dir), &held, &names, &samples)?;
    }
    let draws = u64::try_from(number("DRAWS", 200)?)?;
    judge(&samples, &names, pairs * services, draws)
}

/// Lets programs learn, and says how well they do.
fn judge(samples: &[Sample], names: &[String], services: usize, draws: u64) -> Result<()> {
    println!(
        "{services} services of each kind, {} features, {DIVISIONS} divisions, {draws} draws",
        names.len()
    );
    for (name, share) in telling(samples, names).into_iter().take(8) {
        println!("  `{name}` alone tells {:.1} %", 100.0 * share);
    }
    let mut apart = Vec::new();
    for result in learn(samples, DIVISIONS, draws) {
        let (least, most) = result
            .shares
            .iter()
            .fold((1.0_f64, 0.0_f64), |(least, most), it| (least.min(*it), most.max(*it)));
        println!(
            "{}: {:.1} % told rightly ({:.1} to {:.1}); chance stays below {:.1} % in 19 of 20 \
             draws, and does as well in {:.1} % of them",
            result.learner,
            100.0 * result.mean(),
            100.0 * least,
            100.0 * most,
            100.0 * result.limit(),
            100.0 * result.chance(),
        );
        if result.tells_more_than(ALLOWED) {
            apart.push(result.learner);
        }
    }
    ensure!(apart.is_empty(), "descriptors can be told apart: {}", apart.join(", "));
    Ok(())
}

/// What HSDirs hold of all services, once all are published.
async fn collect(network: &Network, clients: &[Client], pairs: &[Pair]) -> Result<Vec<Held>> {
    let mut addresses = Vec::new();
    for (pair, running) in pairs.iter().enumerate() {
        let everywhere = |service: &onionbraid::observe::snapshot::Service| {
            let mut hsdirs = service.descriptors.iter().flat_map(|it| &it.hsdirs).peekable();
            hsdirs.peek().is_some() && hsdirs.all(|hsdir| hsdir.state == HsdirState::Uploaded)
        };
        let all = |snapshot: &Snapshot| snapshot.ready && snapshot.services.iter().all(everywhere);
        let snapshot = running.ours.until("published everywhere", LIMIT, all).await?;
        let own = snapshot.services.iter().map(|it| it.address.as_str());
        // Those of either kind come in turn.
        for (own, theirs) in own.zip(running.theirs.onion_addresses()) {
            addresses.extend([(pair, true, own.to_owned()), (pair, false, theirs.clone())]);
        }
    }
    let share = addresses.len().div_ceil(clients.len());
    let shares = addresses.chunks(share).zip(clients).map(|(addresses, client)| async move {
        let mut held = Vec::new();
        for (pair, ours, onion) in addresses {
            let found = eventually(LIMIT, || published::with_texts(network, client, onion)).await?;
            held.extend(found.into_iter().map(|(text, anatomy)| Held {
                pair: *pair,
                ours: *ours,
                onion: onion.clone(),
                text,
                anatomy,
            }));
        }
        anyhow::Ok(held)
    });
    let mut held = Vec::new();
    for found in join_all(shares).await {
        held.extend(found?);
    }
    Ok(held)
}

/// The configuration of a daemon with so many services.
fn files(network: &Network, name: &str, origin: &Origin, services: usize) -> Result<[PathBuf; 2]> {
    let dir = network.scratch(name)?;
    let files = ["onionbraid.toml", "network.toml"].map(|name| dir.join(name));
    let mut text = String::new();
    for service in 0..services {
        writeln!(
            text,
            "[onion_services.\"shop{service}\"]\nlocal_instances = 1\n\
             proxy_ports = [['80', '{}']]",
            origin.address
        )?;
    }
    let (dir, admin) = (dir.display(), network.free_address()?);
    writeln!(
        text,
        "[admin]\nlisten = '{admin}'\n\
         [storage]\nstate_dir = '{dir}/state'\ncache_dir = '{dir}/cache'"
    )?;
    fs::write(&files[0], text)?;
    fs::write(&files[1], network.arti_toml())?;
    Ok(files)
}

/// Writes down what was learnt from, for somebody who wants to learn more of it.
fn keep(dir: &std::path::Path, held: &[Held], names: &[String], samples: &[Sample]) -> Result<()> {
    fs::create_dir_all(dir)?;
    let mut table = format!("ours\tpair\tonion\t{}\n", names.join("\t"));
    for (number, (it, sample)) in held.iter().zip(samples).enumerate() {
        let features: Vec<String> = sample.features.iter().map(f64::to_string).collect();
        writeln!(table, "{}\t{}\t{}\t{}", it.ours, it.pair, it.onion, features.join("\t"))?;
        let kind = if it.ours { "ours" } else { "theirs" };
        fs::write(dir.join(format!("{number:04}-{kind}.txt")), &it.text)?;
    }
    Ok(fs::write(dir.join("features.tsv"), table)?)
}

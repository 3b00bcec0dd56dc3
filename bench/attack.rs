//! Who still gets a page while somebody floods a service with introductions: clients of the
//! daemon, or of plain C tor with the same rate, on the same network in the same run?
//!
//! `make attack` builds the release and runs this; it takes twenty minutes
//! (`ATTACK_MINUTES=7` for each of the two attacks) and ends by itself. Both services are
//! attacked at the same time, equally. It prints figures and judges nothing.

#![allow(clippy::disallowed_methods, reason = "measuring is about clocks")]
#![allow(clippy::print_stdout, reason = "a person reads it")]

/// What end-to-end tests stand on.
#[allow(unused_imports, reason = "benchmarks leave the tests in it out")]
#[path = "../integration"]
pub mod integration {
    pub mod network;
}

use integration::network;

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use futures::future::{join_all, try_join_all};
use tokio::sync::{RwLock, Semaphore};
use tokio::task::JoinSet;

use network::attacker::{Attacker, Target};
use network::client::Client;
use network::daemon::{Daemon, built_program};
use network::fetch::eventually;
use network::origin::Origin;
use network::{Network, Options};

/// What either service acts upon: introductions in a second, and at once.
const RATE: (u32, u32) = (5, 10);

/// Introductions that each service gets from all attackers together, in a second.
const FLOOD: u32 = 20;

/// Hostile clients, each with guards of its own.
const ATTACKERS: usize = 3;

/// Introductions that may be under way at a time.
const UNDER_WAY: usize = 400;

/// Honest clients of each service, each a process of its own.
const VISITORS: usize = 3;

/// From one visit of a client to its next. C tor forgets its descriptors, as a new client
/// has none, at most every ten seconds.
const VISIT_EVERY: Duration = Duration::from_secs(11);

/// A visit that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long services and clients may take to be there, on a busy machine.
const LIMIT: Duration = Duration::from_secs(180);

/// How often attackers look at the descriptors, and processes are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(30);
const SAMPLE_EVERY: Duration = Duration::from_secs(5);

/// What attackers send.
#[derive(Clone, Copy, Debug)]
enum Attack {
    /// Nothing.
    None,
    /// Introductions without work.
    Idle,
    /// Introductions with work of this effort.
    Working(u32),
}

/// A service under attack.
struct Subject {
    name: &'static str,
    onion: String,
    pid: u32,
    visitors: Vec<Client>,
    target: RwLock<Target>,
    sent: AtomicU64,
}

#[tokio::main]
async fn main() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    // Time periods of 24 minutes: hardly one changes meanwhile.
    let options =
        Options { voting_interval: Duration::from_secs(60), ..Options::below(scratch.path(), 12) };
    let network = Network::start(options).await?;
    let origin = Origin::start("the origin")?;
    let (rate, burst) = RATE;
    let lines = [
        "HiddenServicePoWDefensesEnabled 1".to_owned(),
        format!("HiddenServicePoWQueueRate {rate}"),
        format!("HiddenServicePoWQueueBurst {burst}"),
    ];
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let plain = network.service_with("plain", origin.address, &lines, &[]).await?;
    let daemon = daemon(&network, &origin)?;
    let status = daemon.until("ready", LIMIT, |snapshot| snapshot.ready).await?;
    let ours = (status.services[0].address.clone(), daemon.process.pid());
    let theirs =
        (plain.onion_address().to_owned(), plain.node.pid().context("C tor does not run")?);
    let spy = network.client("spy").await?;
    let mut subjects = Vec::new();
    for (name, (onion, pid)) in [("onionbraid", ours), ("C tor", theirs)] {
        subjects.push(Arc::new(Subject::new(&network, &spy, name, onion, pid).await?));
    }
    let attackers = (0..ATTACKERS).map(|n| Attacker::start(&network, ["one", "two", "three"][n]));
    let attackers: Vec<_> = try_join_all(attackers).await?.into_iter().map(Arc::new).collect();

    let minutes = std::env::var("ATTACK_MINUTES").ok().map(|it| it.parse()).transpose()?;
    let attack = Duration::from_secs(60 * minutes.unwrap_or(7));
    println!(
        "each acts upon {rate} introductions a second, and gets {FLOOD} from {ATTACKERS} \
         attackers beside those of {VISITORS} honest clients"
    );
    for (what, attack, time) in [
        ("in peace", Attack::None, Duration::from_secs(60)),
        ("flooded without work", Attack::Idle, attack),
        ("flooded with work of effort 1", Attack::Working(1), attack),
    ] {
        phase(&network, &spy, &subjects, &attackers, (what, attack, time)).await?;
    }
    Ok(())
}

fn daemon(network: &Network, origin: &Origin) -> Result<Daemon> {
    let dir = network.scratch("daemon")?;
    let (ours, artis) = (dir.join("onionbraid.toml"), dir.join("network.toml"));
    fs::write(&artis, network.arti_toml())?;
    let (rate, burst) = RATE;
    let (admin, dir_text) = (network.free_address()?, dir.display());
    fs::write(
        &ours,
        format!(
            "[onion_services.\"attacked\"]\nenable_pow = true\nlocal_instances = 1\n\
             pow_rate = {{ rate = {rate}, burst = {burst} }}\n\
             proxy_ports = [['80', '{}']]\n[admin]\nlisten = '{admin}'\n\
             [storage]\nstate_dir = '{dir_text}/state'\ncache_dir = '{dir_text}/cache'\n\
             [application]\npermit_debugging = true\n",
            origin.address
        ),
    )?;
    Daemon::start(&built_program()?, &[ours.as_path(), artis.as_path()], &dir.join("log"))
}

/// One attack for so long, and what came of it.
async fn phase(
    network: &Network,
    spy: &Client,
    subjects: &[Arc<Subject>],
    attackers: &[Arc<Attacker>],
    (what, attack, time): (&str, Attack, Duration),
) -> Result<()> {
    let end = Instant::now() + time;
    let mut floods = JoinSet::new();
    for subject in subjects {
        subject.sent.store(0, Ordering::Relaxed);
        floods.spawn(flood(Arc::clone(subject), attackers.to_vec(), attack));
    }
    let looks = async {
        while Instant::now() < end {
            for subject in subjects {
                if let Ok(target) = Target::of(network, spy, &subject.onion).await {
                    *subject.target.write().await = target;
                }
            }
            tokio::time::sleep(LOOK_EVERY.min(end - Instant::now())).await;
        }
    };
    let measured = join_all(subjects.iter().map(|subject| subject.measure(end)));
    let (measured, ()) = tokio::join!(measured, looks);
    floods.shutdown().await;
    println!("\n{what}, {} s:", time.as_secs());
    for (subject, costs) in subjects.iter().zip(measured) {
        let sent = subject.sent.load(Ordering::Relaxed) as f64 / time.as_secs_f64();
        let asked = subject.target.read().await.puzzle.as_ref().map_or(0, |(_, effort)| *effort);
        println!("  {}: {}, effort {asked}, {sent:.1} hostile/s", subject.name, costs?);
    }
    Ok(())
}

/// Introductions at an even rate, until it is dropped.
async fn flood(subject: Arc<Subject>, attackers: Vec<Arc<Attacker>>, attack: Attack) {
    let effort = match attack {
        Attack::None => return,
        Attack::Idle => None,
        Attack::Working(effort) => Some(effort),
    };
    let room = Arc::new(Semaphore::new(UNDER_WAY));
    let mut under_way = JoinSet::new();
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / FLOOD);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for attacker in attackers.iter().cycle() {
        ticks.tick().await;
        while under_way.try_join_next().is_some() {}
        let Ok(place) = Arc::clone(&room).try_acquire_owned() else { continue };
        let (subject, attacker) = (Arc::clone(&subject), Arc::clone(attacker));
        under_way.spawn(async move {
            let _place = place;
            let target = subject.target.read().await;
            let work = effort.and_then(|effort| target.solve(effort, None).ok());
            if attacker.introduce(&target, work).await.is_ok() {
                subject.sent.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
}

impl Subject {
    async fn new(
        network: &Network,
        spy: &Client,
        name: &'static str,
        onion: String,
        pid: u32,
    ) -> Result<Subject> {
        let mut visitors = Vec::new();
        for n in 0..VISITORS {
            let visitor = network.client(&format!("{}-{n}", name.replace(' ', "-"))).await?;
            eventually(LIMIT, || visitor.get("first", &onion, "/", LIMIT)).await?;
            visitors.push(visitor);
        }
        let target = eventually(LIMIT, || Target::of(network, spy, &onion)).await?;
        let target = RwLock::new(target);
        Ok(Subject { name, onion, pid, visitors, target, sent: AtomicU64::new(0) })
    }

    /// Visits by all its clients, until then, and what they cost.
    async fn measure(&self, end: Instant) -> Result<String> {
        let (busy, began) = (processor_seconds(self.pid)?, Instant::now());
        let samples = async {
            let mut most: f64 = 0.0;
            while Instant::now() < end {
                most = most.max(resident_mib(self.pid)?);
                tokio::time::sleep(SAMPLE_EVERY).await;
            }
            anyhow::Ok(most)
        };
        let visits = join_all(self.visitors.iter().map(|client| self.visit(client, end)));
        let (visits, most) = tokio::join!(visits, samples);
        let mut times: Vec<f64> = visits.into_iter().flatten().collect();
        times.sort_by(f64::total_cmp);
        let met = times.iter().filter(|time| time.is_finite()).count();
        let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
        let share = (processor_seconds(self.pid)? - busy) / began.elapsed().as_secs_f64();
        Ok(format!(
            "{met} of {} visits succeed ({:.1} %), median {:.2} s, 9 of 10 within {:.2} s; \
             {:.1} % of a core, at most {:.1} MiB",
            times.len(),
            100.0 * met as f64 / times.len() as f64,
            at(0.5),
            at(0.9),
            100.0 * share,
            most?
        ))
    }

    /// How long each visit of this client took, in seconds; infinitely long if it failed.
    async fn visit(&self, client: &Client, end: Instant) -> Vec<f64> {
        let mut times = Vec::new();
        while Instant::now() < end {
            let began = Instant::now();
            let _ = client.new_identity().await;
            let isolation = format!("visit-{}", times.len());
            let page = client.get(&isolation, &self.onion, "/", PATIENCE).await;
            times.push(page.map_or(f64::INFINITY, |page| page.elapsed.as_secs_f64()));
            tokio::time::sleep(VISIT_EVERY.saturating_sub(began.elapsed())).await;
        }
        times
    }
}

/// User and system time of a process so far (proc(5), in hundredths).
fn processor_seconds(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields = stat.rsplit_once(')').context("no stat")?.1;
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<f64>);
    Ok(ticks.sum::<Result<f64, _>>()? / 100.0)
}

/// What a process has of memory.
fn resident_mib(pid: u32) -> Result<f64> {
    let statm = fs::read_to_string(format!("/proc/{pid}/statm"))?;
    let pages: f64 = statm.split(' ').nth(1).context("no second number")?.parse()?;
    Ok(pages * 4096.0 / 1024.0 / 1024.0)
}

//! How much more do local instances serve together that have guards of their own? Many
//! downloads at a time from services of one, two and four instances, in turn, where
//! guards are what is slow.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use onionbraid::observe::Snapshot;
use tokio::task::JoinSet;

use super::{files, visits};
use crate::network::client::Client;
use crate::network::daemon::Daemon;
use crate::network::origin::Origin;
use crate::network::{Network, Options, SlowRelays};
use crate::{LIMIT, start_services, summary};

/// Relays that are no service's guard: fast, and many enough for full vanguards, and for
/// every point of four instances.
const FAST: usize = 14;

/// The guards of the services.
const SLOW: SlowRelays = SlowRelays { number: 8, rate: 250_000 };

/// How many instances a service has.
const INSTANCES: [usize; 3] = [1, 2, 4];

/// How often each service is measured, in turn.
const ROUNDS: usize = 3;

/// For how long, once downloads are under way.
const WINDOW: Duration = Duration::from_secs(20);

/// Before that: what was queued when nobody waited for it.
const SETTLED_AFTER: Duration = Duration::from_secs(5);

/// Downloads at a time for each instance. A client's circuit chooses one by chance ...
const DOWNLOADS: usize = 6;

/// ... so there are more until each instance has so many, ...
const AT_LEAST: u64 = 2;

/// ... and in all so many at the most.
const MOST: usize = 100;

/// What one of them fetches again and again, in bytes.
const FILE: u64 = 64 * 1024;

/// How often services are started in the hope that no two instances have one guard.
const DRAWS: usize = 12;

/// A service under measurement.
struct Subject {
    mode: &'static str,
    instances: usize,
    onion: String,
    daemon: Daemon,
    megabytes_per_second: Vec<f64>,
}

/// Compares shared guards with own ones, on one network in one run.
pub(crate) async fn compare(origin: &Origin) -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let options = Options {
        slow: Some(SLOW),
        // So that no time period changes while this is measured.
        voting_interval: Duration::from_secs(60),
        limit: Duration::from_secs(480),
        ..Options::below(scratch.path(), FAST + SLOW.number)
    };
    let network = Network::start(options).await?;
    let slow = &network.relays()[FAST..];
    let fingerprints: Vec<_> = slow.iter().map(|relay| relay.fingerprint()).collect();
    let others = format!("ExcludeNodes {}\nStrictNodes 1\n", fingerprints.join(","));
    let client = Arc::new(network.client_with("visitor-by-other-guards", &others).await?);
    let mut subjects = Vec::new();
    for instances in INSTANCES {
        for mode in ["shared", "own"] {
            subjects.push(Subject::start(&network, mode, instances, origin).await?);
        }
    }
    for round in 0..ROUNDS {
        for subject in &mut subjects {
            subject.measure(&client, round).await?;
        }
    }
    let mut medians = BTreeMap::new();
    for Subject { mode, instances, megabytes_per_second, .. } in &mut subjects {
        println!("{instances} instances, guards {mode}: {} MB/s", summary(megabytes_per_second));
        medians.insert((*mode, *instances), megabytes_per_second[ROUNDS / 2]);
    }
    for instances in INSTANCES {
        println!(
            "{instances} instances: own guards {:.2} times shared ones, {:.2} times one instance's",
            medians[&("own", instances)] / medians[&("shared", instances)],
            medians[&("own", instances)] / medians[&("own", 1)],
        );
    }
    Ok(())
}

impl Subject {
    /// A service whose guards are slow relays; no two of its own ones the same.
    async fn start(
        network: &Network,
        mode: &'static str,
        instances: usize,
        origin: &Origin,
    ) -> Result<Self> {
        let reachable: Vec<String> = network.relays()[FAST..]
            .iter()
            .map(|relay| format!("'{}'", relay.or_address()))
            .collect();
        let service = files::service(&format!(
            "guards = '{mode}'\nlocal_instances = {instances}\nlocal_intro_points = 2\nproxy_ports = [['80', '{}']]\n\
             [path_rules]\nreachable_addrs = [{}]\n",
            origin.address,
            reachable.join(", "),
        ));
        for draw in 0..DRAWS {
            let name = format!("guards-{mode}-{instances}-{draw}");
            let daemon = start_services(network, &name, &service)?;
            let everybody = |snapshot: &Snapshot| {
                let backends = &snapshot.services[0].backends;
                snapshot.ready && backends.iter().all(|it| it.published_intro_points > 0)
            };
            let status = daemon.until("published", LIMIT, everybody).await?;
            let first_guards = status.services[0].guards.as_ref().map_or(1, |it| it.first_guards);
            println!("{name}: {first_guards} first guards");
            if mode == "shared" || first_guards == instances {
                let onion = status.services[0].address.clone();
                let megabytes_per_second = Vec::new();
                return Ok(Self { mode, instances, onion, daemon, megabytes_per_second });
            }
        }
        anyhow::bail!("two instances had one guard each time")
    }

    /// Has many clients download, and counts what they get within a while.
    async fn measure(&mut self, client: &Arc<Client>, round: usize) -> Result<()> {
        let isolations = self.circuits(client, round).await?;
        let received = Arc::new(AtomicU64::new(0));
        let ended = Arc::new(AtomicBool::new(false));
        let mut downloads = JoinSet::new();
        let number = isolations.len();
        for isolation in isolations {
            let (client, onion) = (Arc::clone(client), self.onion.clone());
            let (received, ended) = (Arc::clone(&received), Arc::clone(&ended));
            downloads.spawn(async move {
                let path = format!("/bytes/{FILE}");
                while !ended.load(Ordering::Relaxed) {
                    if let Ok(file) = client.get(&isolation, &onion, &path, LIMIT).await {
                        received.fetch_add(file.body.len() as u64, Ordering::Relaxed);
                    }
                }
            });
        }
        tokio::time::sleep(SETTLED_AFTER).await;
        let (before, begun) = (received.load(Ordering::Relaxed), Instant::now());
        tokio::time::sleep(WINDOW).await;
        let bytes = received.load(Ordering::Relaxed) - before;
        let rate = bytes as f64 / 1e6 / begun.elapsed().as_secs_f64();
        println!(
            "round {round}, {} instances, guards {}: {rate:.3} MB/s in {number} downloads",
            self.instances, self.mode
        );
        self.megabytes_per_second.push(rate);
        ended.store(true, Ordering::Relaxed);
        while downloads.join_next().await.is_some() {}
        client.new_identity().await
    }

    /// Circuits of clients, some at every instance, by the names of their isolations. They
    /// stand before the guards are busy: until then, one takes no time.
    async fn circuits(&self, client: &Client, round: usize) -> Result<Vec<String>> {
        let before = self.met().await?;
        let mut isolations = Vec::new();
        loop {
            let isolation =
                format!("{}-{}-{round}-{}", self.mode, self.instances, isolations.len());
            visits::page(client, &isolation, &self.onion).await?;
            isolations.push(isolation);
            let met = self.met().await?;
            let has_some = |(now, before): (&u64, &u64)| now - before >= AT_LEAST;
            if isolations.len() >= DOWNLOADS * self.instances
                && met.iter().zip(&before).all(has_some)
            {
                return Ok(isolations);
            }
            if isolations.len() == MOST {
                let backends = &self.daemon.status().await?.services[0].backends;
                anyhow::bail!("an instance has no clients: {met:?} of {before:?}: {backends:#?}");
            }
        }
    }

    /// How many clients each instance has met.
    async fn met(&self) -> Result<Vec<u64>> {
        let status = self.daemon.status().await?;
        let service = status.services.first().context("no service")?;
        Ok(service.backends.iter().map(|it| it.activity.rendezvous_succeeded).collect())
    }
}

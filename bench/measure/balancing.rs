//! How quickly does a dead backend or relay leave, and what do many backends
//! and many services cost?

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use onionbraid::observe::Snapshot;
use onionbraid::observe::snapshot::{BackendState, HsdirState, Service};

use crate::network::node::Node;
use crate::network::origin::Origin;
use crate::network::{Network, Options};
use crate::{LIMIT, memory_kib, processor_seconds, start, start_services, summary};

/// How many backends, and relays, die one after the other.
const DEATHS: usize = 3;

/// For how long an idle daemon is watched.
const WATCHED: Duration = Duration::from_secs(180);

/// From the end of one of three C tor backends, killed or frozen, until no HSDir
/// holds its points, with probes every 30 s.
pub(crate) async fn failover(network: &Network, origin: &Origin) -> Result<()> {
    ends(network, origin, "killed", Node::kill).await?;
    ends(network, origin, "frozen", Node::freeze).await
}

/// The same for one way to end. Each has a daemon of its own: one that has had
/// many changes lately publishes the next only after up to two minutes.
async fn ends(
    network: &Network,
    origin: &Origin,
    way: &str,
    end: impl Fn(&Node) -> Result<()>,
) -> Result<()> {
    let mut backends = Vec::new();
    for n in 0..DEATHS {
        backends.push(network.future_backend(&format!("{way}-{n}"), origin.address).await?);
    }
    let list: Vec<String> =
        backends.iter().map(|backend| format!("'{}'", backend.onion_address())).collect();
    let config =
        format!("backends = [{}]\nprobe = {{ port = 80, interval = '30s' }}", list.join(", "));
    let daemon = start(network, &format!("failover-{way}"), &config)?;
    let status = daemon.until("answering", LIMIT, |_| true).await?;
    for backend in &backends {
        backend.answer_for(&status.services[0].address).await?;
    }
    let mut times = Vec::new();
    for (death, backend) in backends.iter().enumerate() {
        daemon.until("complete", LIMIT * 2, complete).await?;
        end(&backend.node)?;
        let died = Instant::now();
        let gone = |snapshot: &Snapshot| {
            let service = &snapshot.services[0];
            service.backends[death].published_intro_points == 0 && everywhere(service)
        };
        daemon.until("without the dead backend", LIMIT * 2, gone).await?;
        println!("{way} {death}: its points were gone after {:.1?}", died.elapsed());
        times.push(died.elapsed().as_secs_f64());
        backend.node.restart().await?;
    }
    println!("{way} C tor backend to no HSDir with its points: {} s", summary(&mut times));
    Ok(())
}

/// From the SIGKILL of a relay with one of our introduction points until every
/// HSDir has the descriptor with another relay.
pub(crate) async fn lost_relay(origin: &Origin) -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let network = Network::start(Options::below(scratch.path(), 12)).await?;
    let config = format!("proxy_ports = [['80', '{}']]", origin.address);
    let daemon = start(&network, "lost-relay", &config)?;
    let mut times = Vec::new();
    for _ in 0..DEATHS {
        let status = daemon.until("complete", LIMIT, complete).await?;
        let of = |snapshot: &Snapshot| snapshot.services[0].backends[0].relays.clone();
        let relay = of(&status)
            .iter()
            .map(|fingerprint| network.relay(fingerprint))
            .filter_map(Result::ok)
            .find(|relay| relay.dir_address().is_none() && relay.node.is_running())
            .context("all introduction points are at authorities")?;
        relay.node.kill()?;
        let died = Instant::now();
        let points = status.services[0].backends[0].published_intro_points;
        let replaced = |snapshot: &Snapshot| {
            let service = &snapshot.services[0];
            let relays = of(snapshot);
            // The relay may be one of the HSDirs, too.
            let mut others = service.descriptors.iter().flat_map(|descriptor| &descriptor.hsdirs);
            !relays.iter().any(|other| other == relay.fingerprint())
                && service.backends[0].published_intro_points == points
                && relays.len() == points
                && others.all(|hsdir| {
                    hsdir.state == HsdirState::Uploaded || hsdir.relay == relay.fingerprint()
                })
        };
        daemon.until("at another relay", LIMIT, replaced).await?;
        times.push(died.elapsed().as_secs_f64());
        relay.node.start()?;
    }
    println!("killed introduction relay to the replacement published: {} s", summary(&mut times));
    Ok(())
}

/// Processor time of a frontend of eight C tor backends, calm, with and without
/// probes.
pub(crate) async fn eight_backends(network: &Network, origin: &Origin) -> Result<()> {
    for (name, probe) in [("calm", ""), ("probing", "\nprobe = { port = 80, interval = '60s' }")] {
        let backends =
            network.future_backends(&format!("eight-{name}"), &[origin.address; 8]).await?;
        let list: Vec<String> =
            backends.onion_addresses().iter().map(|address| format!("'{address}'")).collect();
        let config = format!("backends = [{}]{probe}", list.join(", "));
        let daemon = start(network, &format!("eight-{name}"), &config)?;
        let status = daemon.until("answering", LIMIT, |_| true).await?;
        backends.answer_for(&status.services[0].address).await?;
        daemon.until("complete", LIMIT, complete).await?;
        let pid = daemon.process.pid();
        let (before, began) = (processor_seconds(pid)?, Instant::now());
        tokio::time::sleep(WATCHED).await;
        let share = (processor_seconds(pid)? - before) / began.elapsed().as_secs_f64();
        println!(
            "frontend of 8 C tor backends, {name}: {:.1} s of processor time an hour, {:.1} MB",
            3600.0 * share,
            memory_kib(pid, "Rss:")? / 1024.0
        );
    }
    Ok(())
}

/// Memory with one, ten and fifty services of one local instance each.
pub(crate) async fn services(network: &Network, origin: &Origin) -> Result<()> {
    for count in [1, 10, 50] {
        let mut tables = String::new();
        for n in 0..count {
            writeln!(
                tables,
                "[onion_services.\"s{n}\"]\nproxy_ports = [['80', 'http://{}']]",
                origin.address
            )?;
        }
        let daemon = start_services(network, &format!("services-{count}"), &tables)?;
        let ready = |snapshot: &Snapshot| snapshot.services.iter().all(everywhere);
        daemon.until("published with all services", LIMIT * 2, ready).await?;
        let pid = daemon.process.pid();
        println!(
            "{count} services: {:.1} MB resident ({:.1} MB proportional)",
            memory_kib(pid, "Rss:")? / 1024.0,
            memory_kib(pid, "Pss:")? / 1024.0
        );
    }
    Ok(())
}

/// Whether every backend of the first service is up and published everywhere.
pub(crate) fn complete(snapshot: &Snapshot) -> bool {
    let service = &snapshot.services[0];
    let found = |backend: &onionbraid::observe::snapshot::Backend| {
        backend.state == BackendState::Up && backend.published_intro_points > 0
    };
    service.backends.iter().all(found) && everywhere(service)
}

fn everywhere(service: &Service) -> bool {
    let hsdirs = || service.descriptors.iter().flat_map(|descriptor| &descriptor.hsdirs);
    hsdirs().count() > 0 && hsdirs().all(|hsdir| hsdir.state == HsdirState::Uploaded)
}

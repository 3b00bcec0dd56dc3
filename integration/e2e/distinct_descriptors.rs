//! Are more backends than one descriptor holds all reached?

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use futures::future::join_all;
use onionbraid::observe::Snapshot;
use onionbraid::observe::snapshot::BackendState;

use super::frontend::{Frontend, PAGE, SOON, everywhere, service};
use crate::network::origin::Origin;
use crate::network::{Network, Options};

/// Twice what one descriptor holds.
const BACKENDS: usize = 40;

/// C tor processes that run them.
const PROCESSES: usize = 4;

/// Visitors, each with a descriptor of its own.
const CLIENTS: usize = 6;

#[tokio::test(flavor = "multi_thread")]
async fn forty_backends_are_all_reached_through_distinct_descriptors() {
    // Time periods of 24 minutes: forty services move slowly into another one.
    let options = Options { voting_interval: Duration::from_secs(60), ..Options::new(26) };
    let network = Network::start(options).await.unwrap();
    let names: Vec<String> = (0..BACKENDS).map(|n| format!("backend {n}")).collect();
    let origins: Vec<Origin> = names.iter().map(|name| Origin::start(name).unwrap()).collect();
    let addresses: Vec<_> = origins.iter().map(|origin| origin.address).collect();
    let mut config = String::from("backends = [");
    // One C tor builds its circuits and uploads one after the other.
    let mut processes = Vec::new();
    for (n, addresses) in addresses.chunks(BACKENDS / PROCESSES).enumerate() {
        let name = format!("ten-of-forty-{n}");
        let backends = network.future_backends(&name, addresses).await.unwrap();
        for address in backends.onion_addresses() {
            write!(config, "'{address}',").unwrap();
        }
        processes.push(backends);
    }
    let frontend = Frontend::start(&network, "distinct", &(config + "]")).unwrap();
    let onion = frontend.address().await.unwrap();
    for backends in &processes {
        backends.answer_for(&onion).await.unwrap();
    }
    let all_found = |snapshot: &Snapshot| {
        let service = service(snapshot);
        let all = |up: &dyn Fn(&onionbraid::observe::snapshot::Backend) -> bool| {
            service.backends.iter().all(up)
        };
        all(&|backend| backend.state == BackendState::Up)
            && all(&|backend| backend.published_intro_points > 0)
            && everywhere(service)
    };
    frontend.daemon.until("published with all forty", SOON * 4, all_found).await.unwrap();

    // A C tor client keeps its descriptor, and with it some of the backends: it
    // takes several clients, each with new identities, to see them all. tor
    // grants a new identity every ten seconds, whenever it is asked for one.
    let mut clients = Vec::new();
    for n in 0..CLIENTS {
        clients.push(network.client(&format!("one-of-many-{n}")).await.unwrap());
    }
    let mut seen = BTreeSet::new();
    let visited = async {
        let mut visits = 0;
        while seen.len() < BACKENDS {
            for client in &clients {
                client.new_identity().await.unwrap();
            }
            let round = clients.iter().flat_map(|client| [client; 2]).map(|client| {
                visits += 1;
                let (isolation, onion) = (format!("visit-{visits}"), &onion);
                async move { client.get(&isolation, onion, "/", PAGE).await }
            });
            // A visit may meet a point that has just moved; the next one does not.
            let pages = join_all(round).await.into_iter().flatten();
            seen.extend(pages.map(|page| page.text().trim().to_owned()));
        }
        visits
    };
    match tokio::time::timeout(SOON * 8, visited).await {
        Ok(visits) => println!("all {BACKENDS} backends seen after {visits} visits"),
        Err(_) => {
            let missing: Vec<_> = names.iter().filter(|name| !seen.contains(*name)).collect();
            panic!("never reached: {missing:?}");
        }
    }
}

//! How long do clients still find the points of a backend that has died?

use std::time::{Duration, Instant};

use onionbraid::observe::Snapshot;
use onionbraid::observe::snapshot::BackendState;

use super::frontend::{Frontend, SOON, everywhere, points_on_hsdirs, service, until_all_answered};
use crate::network;
use crate::network::fetch::eventually;
use crate::network::origin::Origin;

/// Far beyond what the probes should need: how long it took is printed, and
/// measured where nothing else runs.
const LIMIT: Duration = Duration::from_secs(300);

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_c_tor_backend_leaves_every_hsdir_and_comes_back() {
    let network = network::shared().await.unwrap();
    // In a new period, the dead backend has points that nobody has asked yet.
    network.calm_for(SOON).await.unwrap();
    let names = ["one", "two", "three"];
    let origins = names.map(|name| Origin::start(name).unwrap());
    let mut backends = Vec::new();
    for (name, origin) in names.iter().zip(&origins) {
        let name = format!("failover-{name}");
        backends.push(network.future_backend(&name, origin.address).await.unwrap());
    }
    let list: Vec<String> =
        backends.iter().map(|backend| format!("'{}'", backend.onion_address())).collect();
    let config =
        format!("backends = [{}]\nprobe = {{ port = 80, interval = '30s' }}", list.join(", "));
    let frontend = Frontend::start(network, "failover", &config).unwrap();
    let onion = frontend.address().await.unwrap();
    for backend in &backends {
        backend.answer_for(&onion).await.unwrap();
    }
    frontend.ready().await.unwrap();
    let client = network.client("visitor-of-failover").await.unwrap();
    until_all_answered(&client, &onion, &names).await.unwrap();

    let died = Instant::now();
    backends[2].node.kill().unwrap();
    let gone = |snapshot: &Snapshot| {
        let dead = &service(snapshot).backends[2];
        dead.state == BackendState::Down
            && dead.published_intro_points == 0
            && everywhere(service(snapshot))
    };
    let snapshot = frontend.daemon.until("without the dead backend", LIMIT, gone).await.unwrap();
    println!("no HSDir serves the dead backend's points after {:.1?}", died.elapsed());
    for backend in &service(&snapshot).backends[..2] {
        assert!(backend.published_intro_points > 0, "{snapshot:?}");
    }
    // What the HSDirs say, asked as a client would; circuits to them may fail.
    // The dead backend's own descriptor outlives it.
    let asked =
        async |onion: &str| eventually(SOON, || points_on_hsdirs(&frontend, onion)).await.unwrap();
    let (found, victims) = (asked(&onion).await, asked(backends[2].onion_address()).await);
    assert!(!found.is_empty() && !victims.is_empty());
    assert!(found.is_disjoint(&victims), "{found:?} has points of {victims:?}");

    // It hosts the same points or others: all that counts is that it is back.
    backends[2].node.restart().await.unwrap();
    let back = |snapshot: &Snapshot| service(snapshot).backends[2].published_intro_points > 0;
    frontend.daemon.until("with the backend that is back", LIMIT, back).await.unwrap();
    client.new_identity().await.unwrap();
    until_all_answered(&client, &onion, &names).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_with_a_dead_application_leaves_while_others_live() {
    let network = network::shared().await.unwrap();
    let (living, dying) = (Origin::start("living").unwrap(), Origin::start("dying").unwrap());
    let remote = network.future_backend("dead-application", dying.address).await.unwrap();
    let config = format!(
        "local_instances = 1\nproxy_ports = [['80', '{}']]\nbackends = ['{}']\n\
         probe = {{ port = 80, interval = '10s', path = '/', status = 200 }}",
        living.address,
        remote.onion_address()
    );
    let frontend = Frontend::start(network, "applications", &config).unwrap();
    let onion = frontend.address().await.unwrap();
    remote.answer_for(&onion).await.unwrap();
    frontend.ready().await.unwrap();
    let client = network.client("visitor-of-applications").await.unwrap();
    until_all_answered(&client, &onion, &["living", "dying"]).await.unwrap();

    drop(dying);
    let gone = |snapshot: &Snapshot| {
        let dead = &service(snapshot).backends[1];
        dead.state == BackendState::Down
            && dead.published_intro_points == 0
            && everywhere(service(snapshot))
    };
    let snapshot = frontend.daemon.until("without it", LIMIT, gone).await.unwrap();
    let reason = service(&snapshot).backends[1].reason.clone().unwrap_or_default();
    assert!(reason.contains("origin"), "{reason}");
    client.new_identity().await.unwrap();
    for visit in 0..10 {
        let page = client.get(&format!("living-{visit}"), &onion, "/", SOON).await.unwrap();
        assert_eq!(page.text().trim(), "living");
    }
}

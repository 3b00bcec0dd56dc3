//! Are clients asked for work while more come than can be met, do C tor's clients
//! do it, and are those backends out of the way meanwhile that cannot verify it?

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use onionbraid::observe::Snapshot;
use onionbraid::observe::snapshot::{Backend, LinkState, Pow};

use super::frontend::{Frontend, PAGE, Prepared, SOON, everywhere, service, until_all_answered};
use crate::network::client::Client;
use crate::network::fetch::eventually;
use crate::network::origin::Origin;
use crate::network::{self, Network};

/// A loop that decides once a minute, on a machine that is several times slower.
const LIMIT: Duration = Duration::from_secs(300);

/// What a publisher says of a backend that has answered who worked.
const PROVEN: &str = "backend verifies proof of work";

/// Visitors at a time, far more than are met in a second.
const VISITORS: usize = 24;

fn pow(snapshot: &Snapshot) -> Pow {
    service(snapshot).load.pow.clone().unwrap_or_default()
}

/// Visits from many at a time while this holds.
async fn crowd(client: &Client, onion: &str, while_true: &AtomicBool) {
    let visitor = |number: usize| async move {
        let mut visit = 0;
        while while_true.load(Ordering::Relaxed) {
            let isolation = format!("crowd-{number}-{visit}");
            let _ = client.get(&isolation, onion, "/", Duration::from_secs(10)).await;
            visit += 1;
        }
    };
    futures::future::join_all((0..VISITORS).map(visitor)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c_tor_clients_work_for_a_page_of_a_backend_elsewhere_whatever_becomes_of_the_publisher() {
    let network = network::shared().await.unwrap();
    let origin = Origin::start("there").unwrap();
    let publisher = Prepared::new(network, "worked-for-elsewhere").unwrap();
    let onion = publisher.address().unwrap();
    let backend = Prepared::new(network, "worker-elsewhere").unwrap();
    let own = backend.address().unwrap();
    let keys = format!(
        "frontends = ['{onion}']\npow_rate = {{ rate = 1, burst = 1 }}\n\
         proxy_ports = [['80', '{}']]",
        origin.address
    );
    let backend = backend.start(&keys).unwrap();
    backend.ready().await.unwrap();
    let keys = format!("enable_pow = true\nlocal_instances = 0\nbackends = ['{own}']");
    let mut publisher = publisher.start(&keys).unwrap();
    publisher.ready().await.unwrap();
    let proven = async {
        while !publisher.daemon.process.log().contains(PROVEN) {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(SOON, proven).await.unwrap();
    let visitors = network.client("crowd-of-worked-for-elsewhere").await.unwrap();
    let get = || visitors.get("in-peace", &onion, "/", PAGE);
    assert_eq!(eventually(SOON, get).await.unwrap().text().trim(), "there");

    let attacked = AtomicBool::new(true);
    let observed = async {
        // Its queue is there, and all that the publisher has of it is over the link.
        let asking = |snapshot: &Snapshot| {
            let backend = there(snapshot);
            pow(snapshot).effort > 0
                && backend.published_intro_points > 0
                && backend.reason.is_none()
                && everywhere(service(snapshot))
        };
        let snapshot = publisher.daemon.until("asking for work", LIMIT, asking).await;
        println!("{:?}", snapshot.as_ref().map(pow));
        let visitor = worker(network, "worker-of-elsewhere").await.unwrap();
        let page = eventually(SOON, || visitor.get("worker", &onion, "/", PAGE)).await;
        let after = outlived(network, &mut publisher, &onion).await;
        attacked.store(false, Ordering::Relaxed);
        (snapshot.unwrap(), page.unwrap(), visitor.node.log(), after.unwrap())
    };
    let ((), (_, page, log, ())) = tokio::join!(crowd(&visitors, &onion, &attacked), observed);
    assert_eq!(page.text().trim(), "there");
    let said = |what: &str| log.lines().any(|line| line.contains(what));
    assert!(said("Solving proof of work (effort "), "{log}");
    assert!(said("Proof of work solution (effort "), "{log}");
    let counted = pow(&backend.daemon.status().await.unwrap());
    println!("{counted:?}");
    assert!(counted.verified > 1 && counted.effort > 0, "{counted:?}");
    assert_eq!((counted.refused["wrong"], counted.refused["unknown_seed"]), (0, 0));
}

/// A client that logs what it does for its introductions.
async fn worker(network: &Network, name: &str) -> Result<Client> {
    let client = network.client(name).await?;
    client.node.control("SETCONF Log=\"[rend]info [~rend]notice stdout\"").await?;
    Ok(client)
}

/// The publisher is killed while clients are asked for work: its descriptors go on asking,
/// its backend goes on verifying, and when it is back it asks from the first descriptor on
/// and has nothing proven anew.
async fn outlived(network: &Network, publisher: &mut Frontend, onion: &str) -> Result<()> {
    let memory = publisher.state_dir().join("onionbraid/shop/balancer.json");
    eventually(SOON, async || {
        let known: serde_json::Value = serde_json::from_slice(&fs::read(&memory)?)?;
        let effort = known["backends"][0]["work"]["effort"].as_u64();
        ensure!(effort.is_some_and(|effort| effort > 0), "not written down: {known}");
        Ok(())
    })
    .await?;
    publisher.daemon.process.kill()?;
    let visitor = worker(network, "worker-of-an-orphan").await?;
    let page = eventually(SOON, || visitor.get("worker", onion, "/", PAGE)).await?;
    assert_eq!(page.text().trim(), "there");
    let log = visitor.node.log();
    assert!(log.contains("Proof of work solution (effort "), "{log}");

    publisher.restart_stopped()?;
    let back = |snapshot: &Snapshot| {
        let decided = service(snapshot).descriptors.iter().any(|it| it.intro_points > 0);
        assert!(!decided || pow(snapshot).effort > 0, "{snapshot:?}");
        decided && everywhere(service(snapshot)) && there(snapshot).link == Some(LinkState::Up)
    };
    publisher.daemon.until("published again", SOON, back).await?;
    let log = publisher.daemon.process.log();
    ensure!(!log.contains(PROVEN), "{log}");
    Ok(())
}

fn there(snapshot: &Snapshot) -> &Backend {
    &service(snapshot).backends[0]
}

fn held_back(snapshot: &Snapshot) -> bool {
    let backend = service(snapshot).backends.iter().find(|backend| backend.name == "remote-0");
    backend.is_some_and(|backend| {
        backend.reason.as_deref() == Some("held back: cannot verify proof of work")
            && backend.published_intro_points == 0
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn c_tor_clients_work_for_a_page_while_many_come_and_a_c_tor_backend_waits_outside() {
    let network = network::shared().await.unwrap();
    let [local, remote] = ["local", "remote"].map(|name| Origin::start(name).unwrap());
    let backend = network.future_backend("peaceful", remote.address).await.unwrap();
    let keys = |rate: u32| {
        format!(
            "enable_pow = true\npow_rate = {{ rate = {rate}, burst = {rate} }}\n\
             local_instances = 1\nproxy_ports = [['80', '{}']]\nbackends = ['{}']",
            local.address,
            backend.onion_address(),
        )
    };
    let frontend = Frontend::start(network, "worked-for", &keys(1)).unwrap();
    let onion = frontend.address().await.unwrap();
    backend.answer_for(&onion).await.unwrap();
    frontend.ready().await.unwrap();
    let visitors = network.client("crowd-of-worked-for").await.unwrap();
    // In peace both answer, and nobody works.
    until_all_answered(&visitors, &onion, &["local", "remote"]).await.unwrap();
    assert_eq!(pow(&frontend.daemon.status().await.unwrap()).effort, 0);

    let attacked = AtomicBool::new(true);
    let visits = crowd(&visitors, &onion, &attacked);
    let observed = async {
        let asking = |snapshot: &Snapshot| pow(snapshot).effort > 0 && held_back(snapshot);
        let snapshot = frontend.daemon.until("asking for work", LIMIT, asking).await;
        println!("{:?}", snapshot.as_ref().map(pow));
        let visitor = worker(network, "worker").await.unwrap();
        let get = || visitor.get("worker", &onion, "/", PAGE);
        let page = eventually(SOON, get).await;
        attacked.store(false, Ordering::Relaxed);
        (snapshot.unwrap(), page.unwrap(), visitor.node.log())
    };
    let ((), (_, page, log)) = tokio::join!(visits, observed);
    assert_eq!(page.text().trim(), "local");
    let said = |what: &str| log.lines().any(|line| line.contains(what));
    assert!(said("Solving proof of work (effort "), "{log}");
    assert!(said("Proof of work solution (effort "), "{log}");
    let counted = pow(&frontend.daemon.status().await.unwrap());
    println!("{counted:?}");
    assert!(counted.verified > 0, "{counted:?}");
    assert_eq!((counted.refused["wrong"], counted.refused["unknown_seed"]), (0, 0));

    // The operator ends it sooner than calm would: everybody is back.
    frontend.reload(&keys(1).replace("enable_pow = true", "enable_pow = false")).unwrap();
    let over = |snapshot: &Snapshot| {
        let found = |backend: &Backend| backend.published_intro_points > 0;
        service(snapshot).load.pow.is_none() && service(snapshot).backends.iter().all(found)
    };
    frontend.daemon.until("asking for nothing", LIMIT, over).await.unwrap();
    let later = network.client("later-visitor-of-worked-for").await.unwrap();
    until_all_answered(&later, &onion, &["local", "remote"]).await.unwrap();
}

//! Does a merely slow network cost a local instance its introduction points?

use std::collections::BTreeSet;
use std::time::Duration;

use onionbraid::observe::Snapshot;

use super::frontend::{CALM, PAGE, Prepared, SOON, service};
use crate::network;
use crate::network::fetch::eventually;
use crate::network::origin::Origin;
use crate::network::slow_link::SlowLink;

/// How long a byte takes to the first relay while the line is bad, how long it is
/// bad, and how long it is good in between, so that some probes succeed.
const SLOW: Duration = Duration::from_secs(12);
const BAD: Duration = Duration::from_secs(30);
const GOOD: Duration = Duration::from_secs(12);
const ROUNDS: u32 = 3;

fn relays(snapshot: &Snapshot) -> BTreeSet<String> {
    service(snapshot).backends.iter().flat_map(|b| b.relays.iter().cloned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_network_under_two_probes_costs_no_local_point() {
    let network = network::shared().await.unwrap();
    network.calm_for(CALM).await.unwrap();
    let origin = Origin::start("the origin").unwrap();
    let link = SlowLink::start().await.unwrap();
    let prepared = Prepared::new(network, "slow-network").unwrap().through(&link).unwrap();
    // Probed every ten seconds; two instances, so that each is compared with one.
    let config = format!(
        "proxy_ports = [['80', '{}']]\nlocal_instances = 2\nprobe = {{ port = 80, interval = '10s' }}",
        origin.address
    );
    let frontend = prepared.start(&config).unwrap();
    let before = relays(&frontend.complete(3).await.unwrap());
    let onion = frontend.address().await.unwrap();
    let client = network.client("visitor-of-slow-network").await.unwrap();
    client.get("before", &onion, "/", PAGE).await.unwrap();

    for _ in 0..ROUNDS {
        link.delay(SLOW);
        tokio::time::sleep(BAD).await;
        link.delay(Duration::ZERO);
        tokio::time::sleep(GOOD).await;
    }
    let log = frontend.daemon.process.log();
    let failed: Vec<&str> = log.lines().filter(|line| line.contains("probed: not good")).collect();
    println!("{} probes failed:\n{}", failed.len(), failed.join("\n"));
    assert!(!log.contains("point unresponsive"), "{}", frontend.daemon.tail());
    let after = relays(&frontend.complete(3).await.unwrap());
    assert_eq!(after, before);
    eventually(SOON, || client.get("after", &onion, "/", PAGE)).await.unwrap();
}

//! Do clients notice that the daemon has crashed and is back?

use std::collections::BTreeSet;
use std::fs;

use onionbraid::observe::Snapshot;

use super::frontend::{Frontend, PAGE, SOON, service};
use crate::network;
use crate::network::client::Client;
use crate::network::fetch::eventually;
use crate::network::origin::Origin;

/// The relays at which the service has introduction points.
fn relays(snapshot: &Snapshot) -> BTreeSet<String> {
    service(snapshot).backends.iter().flat_map(|backend| backend.relays.iter().cloned()).collect()
}

/// The descriptor that a client holds, whole.
async fn held(client: &Client, onion: &str) -> String {
    let address = onion.trim_end_matches(".onion");
    client.node.control(&format!("GETINFO hs/client/desc/id/{address}")).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_crash_clients_get_through_with_the_descriptor_that_they_hold() {
    let network = network::shared().await.unwrap();
    let origin = Origin::start("the origin").unwrap();
    let config = format!("local_instances = 2\nproxy_ports = [['80', '{}']]", origin.address);
    let mut frontend = Frontend::start(network, "crashed", &config).unwrap();
    let before = relays(&frontend.ready().await.unwrap());
    let onion = frontend.address().await.unwrap();
    let client = network.client("visitor-of-crashed").await.unwrap();
    client.get("before", &onion, "/", PAGE).await.unwrap();
    let descriptor = held(&client, &onion).await;

    for crash in 1..=2 {
        frontend.daemon.process.kill().unwrap();
        frontend.restart_stopped().unwrap();
        let after = relays(&frontend.ready().await.unwrap());
        assert_eq!(after, before, "after crash {crash}");
        client.get(&format!("after-{crash}"), &onion, "/", PAGE).await.unwrap();
        // With the keys of the points that it names, the client got through.
        assert_eq!(held(&client, &onion).await, descriptor, "after crash {crash}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_corrupt_points_file_costs_the_points_and_not_the_start() {
    let network = network::shared().await.unwrap();
    let origin = Origin::start("the origin").unwrap();
    let config = format!("proxy_ports = [['80', '{}']]", origin.address);
    let mut frontend = Frontend::start(network, "corrupted", &config).unwrap();
    frontend.ready().await.unwrap();
    let onion = frontend.address().await.unwrap();
    let client = network.client("visitor-of-corrupted").await.unwrap();
    client.get("before", &onion, "/", PAGE).await.unwrap();

    frontend.daemon.process.kill().unwrap();
    let kept = frontend.state_dir().join("onionbraid/shop/local-0");
    let points = fs::read(kept.join("points.json")).unwrap();
    fs::write(kept.join("points.json"), vec![0; points.len()]).unwrap();
    frontend.restart_stopped().unwrap();
    frontend.ready().await.unwrap();
    eventually(SOON, || client.get("after", &onion, "/", PAGE)).await.unwrap();
    let put_aside = fs::read(kept.join("points.json.corrupt")).unwrap();
    assert_eq!(put_aside, vec![0; points.len()]);
    let said = frontend.daemon.process.log();
    assert!(said.contains("the introduction points cannot be read: beginning with new ones"));
}

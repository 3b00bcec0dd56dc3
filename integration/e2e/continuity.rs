//! Do clients notice that the daemon has crashed and is back?

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use anyhow::ensure;
use onionbraid::observe::Snapshot;

use super::frontend::{CALM, Frontend, PAGE, SOON, is_complete, service};
use crate::network;
use crate::network::client::Client;
use crate::network::fetch::eventually;
use crate::network::origin::Origin;

/// How many introduction points an instance has.
const POINTS: usize = 3;

/// Where an instance keeps them.
fn state_of(frontend: &Frontend, instance: &str) -> PathBuf {
    frontend.state_dir().join("onionbraid/shop").join(instance)
}

/// Waits until all of them are kept: they are published before they are written.
async fn kept(frontend: &Frontend, instance: &str) {
    let file = state_of(frontend, instance).join("points.json");
    let all_written = async || {
        let written: serde_json::Value = serde_json::from_slice(&fs::read(&file)?)?;
        let count = written["points"].as_array().map_or(0, Vec::len);
        ensure!(count == POINTS, "{count} points are kept");
        Ok(())
    };
    eventually(SOON, all_written).await.unwrap();
}

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
    // In a new period, clients drop what they hold.
    network.calm_for(CALM).await.unwrap();
    let origin = Origin::start("the origin").unwrap();
    let config = format!("local_instances = 2\nproxy_ports = [['80', '{}']]", origin.address);
    let mut frontend = Frontend::start(network, "crashed", &config).unwrap();
    let before = relays(&frontend.complete(POINTS).await.unwrap());
    kept(&frontend, "local-0").await;
    kept(&frontend, "local-1").await;
    let onion = frontend.address().await.unwrap();
    let client = network.client("visitor-of-crashed").await.unwrap();
    client.get("before", &onion, "/", PAGE).await.unwrap();
    let descriptor = held(&client, &onion).await;

    for crash in 1..=2 {
        frontend.daemon.process.kill().unwrap();
        frontend.restart_stopped().unwrap();
        let as_before =
            |snapshot: &Snapshot| is_complete(snapshot, POINTS) && relays(snapshot) == before;
        frontend.daemon.until("published as before", SOON, as_before).await.unwrap();
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
    frontend.complete(POINTS).await.unwrap();
    let onion = frontend.address().await.unwrap();
    let client = network.client("visitor-of-corrupted").await.unwrap();
    client.get("before", &onion, "/", PAGE).await.unwrap();
    kept(&frontend, "local-0").await;

    frontend.daemon.process.kill().unwrap();
    let kept = state_of(&frontend, "local-0");
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

//! Do local instances answer for an address, for C tor's and for Arti's clients?

use std::collections::BTreeSet;

use onionbraid::observe::Snapshot;

use super::frontend::{ArtiClient, Frontend, PAGE, service};
use crate::network;
use crate::network::origin::{Origin, pattern};

/// A mebibyte: many cells, several congestion windows.
const LENGTH: u64 = 1024 * 1024;

/// The introductions of every backend.
fn introductions(snapshot: &Snapshot) -> Vec<u64> {
    service(snapshot).backends.iter().map(|backend| backend.activity.introductions).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_both_kinds_fetch_a_file_unharmed_through_two_local_instances() {
    let network = network::shared().await.unwrap();
    let origin = Origin::start("the origin").unwrap();
    let frontend = Frontend::start(
        network,
        "two-instances",
        &format!("local_instances = 2\nproxy_ports = [['80', '{}']]", origin.address),
    )
    .unwrap();
    frontend.ready().await.unwrap();
    let onion = frontend.address().await.unwrap();
    let expected = pattern(0, LENGTH);
    let path = format!("/bytes/{LENGTH}");

    let c_tor = network.client("visitor-of-two-instances").await.unwrap();
    let file = c_tor.get("file", &onion, &path, PAGE).await.unwrap();
    assert_eq!((file.status, file.body == expected), (200, true));
    let arti = ArtiClient::start(network, "arti-visitor-of-two-instances").await.unwrap();
    let file = arti.get(&onion, &path).await.unwrap();
    assert_eq!((file.status, file.body == expected), (200, true));

    // Clients choose a point by chance: visit until both instances had one.
    for visit in 0..100 {
        let snapshot = frontend.daemon.status().await.unwrap();
        if introductions(&snapshot).iter().all(|&count| count > 0) {
            break;
        }
        c_tor.get(&format!("visit-{visit}"), &onion, "/", PAGE).await.unwrap();
    }
    let snapshot = frontend.daemon.status().await.unwrap();
    assert!(introductions(&snapshot).iter().all(|&count| count > 0), "{snapshot:?}");
    assert_eq!(service(&snapshot).backends.len(), 2);
    let congestion_controlled: u64 = service(&snapshot)
        .backends
        .iter()
        .map(|backend| backend.activity.congestion_controlled)
        .sum();
    assert!(congestion_controlled > 0, "C tor clients ask for it when it is offered: {snapshot:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn local_instances_of_one_service_choose_different_relays() {
    let network = network::shared().await.unwrap();
    let origin = Origin::start("the origin").unwrap();
    let frontend = Frontend::start(
        network,
        "different-relays",
        &format!(
            "local_instances = 3\nmax_intro_points = 9\nproxy_ports = [['80', '{}']]",
            origin.address
        ),
    )
    .unwrap();
    // One point at each relay: only nine different relays let all nine be listed.
    let snapshot = frontend.complete(3).await.unwrap();
    assert_eq!(service(&snapshot).backends.len(), 3);
    let relays: BTreeSet<_> =
        service(&snapshot).backends.iter().flat_map(|backend| &backend.relays).collect();
    assert_eq!(relays.len(), 9, "{snapshot:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_port_is_refused_and_a_dead_origin_too() {
    let network = network::shared().await.unwrap();
    let origin = Origin::start("the origin").unwrap();
    let dead = network.free_address().unwrap();
    let frontend = Frontend::start(
        network,
        "ports",
        &format!("proxy_ports = [['80', '{}'], ['81', '{dead}']]", origin.address),
    )
    .unwrap();
    frontend.ready().await.unwrap();
    let onion = frontend.address().await.unwrap();
    let client = network.client("visitor-of-ports").await.unwrap();
    client.get("alive", &onion, "/", PAGE).await.unwrap();
    for port in [81, 82] {
        let isolation = format!("port-{port}");
        let answer = network::fetch::fetch(client.socks, &isolation, &onion, port, "/", PAGE).await;
        assert!(answer.is_err(), "port {port}: {answer:?}");
    }
    client.get("alive-again", &onion, "/", PAGE).await.unwrap();
}

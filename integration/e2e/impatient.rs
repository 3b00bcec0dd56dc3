//! What is counted of clients that go before they are met?

use std::time::Duration;

use futures::StreamExt as _;
use onionbraid::observe::Snapshot;
use tokio_socks::tcp::Socks5Stream;

use super::frontend::{CALM, Frontend, PAGE, SOON, service};
use crate::network;
use crate::network::origin::Origin;

/// Visits, and how many at a time.
const VISITS: u32 = 1_000;
const AT_ONCE: usize = 30;

/// For how long at most.
const LASTS: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_go_before_they_are_met_are_not_counted_as_failures() {
    let network = network::shared().await.unwrap();
    network.calm_for(CALM).await.unwrap();
    let origin = Origin::start("the origin").unwrap();
    let config = format!("proxy_ports = [['80', '{}']]", origin.address);
    let frontend = Frontend::start(network, "impatient", &config).unwrap();
    frontend.complete(3).await.unwrap();
    let onion = frontend.address().await.unwrap();
    let mut clients = Vec::new();
    for n in 0..3 {
        let client = network.client(&format!("impatient-visitor-{n}")).await.unwrap();
        client.get("first", &onion, "/", PAGE).await.unwrap();
        clients.push(client);
    }

    let (socks, onion): (Vec<_>, _) = (clients.iter().map(|it| it.socks).collect(), onion.as_str());
    let socks = &socks;
    let visits =
        futures::stream::iter(0..VISITS).for_each_concurrent(AT_ONCE, |visit| async move {
            let patience = Duration::from_millis(u64::from(50 + 37 * visit % 1500));
            let name = format!("visit-{visit}");
            let socks = socks[visit as usize % socks.len()];
            let visit = Socks5Stream::connect_with_password(socks, (onion, 80), &name, "x");
            let _ = tokio::time::timeout(patience, visit).await;
        });
    let _ = tokio::time::timeout(LASTS, visits).await;
    for client in &clients {
        client.node.kill().unwrap();
    }
    // Every rendezvous under way has an end within a minute.
    let settled = |snapshot: &Snapshot| {
        let log = frontend.daemon.process.log();
        let met = log.lines().filter(|line| line.contains("client met")).count();
        let backend = &service(snapshot).backends[0];
        u64::try_from(met).unwrap() + backend.activity.rendezvous_failed
            == backend.activity.introductions
    };
    let snapshot = frontend.daemon.until("done with everybody", SOON, settled).await.unwrap();
    let backend = &service(&snapshot).backends[0];
    println!(
        "{} introductions, {} failed, {:?}, {} abandoned",
        backend.activity.introductions,
        backend.activity.rendezvous_failed,
        backend.activity.rendezvous_failed_by,
        backend.activity.rendezvous_abandoned
    );
    assert!(backend.activity.introductions > 100);
    assert_eq!(backend.activity.rendezvous_failed_by["unreadable"], 0);
    // A loaded machine may be late for a few of them.
    assert!(backend.activity.rendezvous_failed <= backend.activity.introductions / 50);
}

//! Can an operator behind a censor run a service through a bridge, and does
//! nothing go past it?

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::process::Stdio;

use onionbraid::observe::Snapshot;

use super::frontend::{Prepared, SOON, program, service, until_all_answered};
use crate::network::bridge::Transport;
use crate::network::connections::Connections;
use crate::network::origin::Origin;
use crate::network::{self, Network, Relay};

#[tokio::test(flavor = "multi_thread")]
async fn everything_goes_through_a_plain_bridge() {
    everything_goes_through_it(Transport::Plain, "bridged").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_goes_through_obfs4() {
    everything_goes_through_it(Transport::Obfs4, "obfuscated").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_that_is_gone_is_told_of() {
    let network = network::shared().await.unwrap();
    for (transport, name, said) in [
        (Transport::Plain, "plainly-gone", ["refused", "guards_down"]),
        (Transport::Obfs4, "obscurely-gone", ["bridges_down", "bridges_down"]),
    ] {
        let bridge = network.bridge(&format!("{name}-bridge"), transport).await.unwrap();
        let origin = Origin::start("the origin").unwrap();
        let config = format!("proxy_ports = [['80', '{}']]", origin.address);
        let start = |name: &str| {
            let prepared = Prepared::new(network, name).unwrap();
            let tables = prepared.dir().join("bridges.toml");
            fs::write(&tables, bridge.arti_toml().unwrap()).unwrap();
            prepared.with_file(tables).start(&config).unwrap()
        };
        let troubled = |kind: &'static str| {
            move |snapshot: &Snapshot| {
                let words = snapshot.tor.advice.as_ref().is_some_and(|it| it.contains("bridges"));
                snapshot.tor.trouble.as_deref() == Some(kind) && words
            }
        };
        let running = start(&format!("{name}-later"));
        running.ready().await.unwrap();
        bridge.node.kill().unwrap();
        let begun = start(&format!("{name}-before"));
        begun.daemon.until("troubled at the start", SOON, troubled(said[0])).await.unwrap();
        running.daemon.until("troubled later", SOON, troubled(said[1])).await.unwrap();
    }
}

async fn everything_goes_through_it(transport: Transport, name: &str) {
    let network = network::shared().await.unwrap();
    let bridge = network.bridge(&format!("{name}-bridge"), transport).await.unwrap();
    let origins = ["here", "there"].map(|name| Origin::start(name).unwrap());
    let there = network.future_backend(&format!("{name}-there"), origins[1].address).await.unwrap();
    let prepared = Prepared::new(network, name).unwrap();
    let tables = prepared.dir().join("bridges.toml");
    fs::write(&tables, bridge.arti_toml().unwrap()).unwrap();
    let config = format!(
        "local_instances = 1\nproxy_ports = [['80', '{}']]\nprobe = true\nbackends = ['{}']",
        origins[0].address,
        there.onion_address(),
    );
    let mut frontend = prepared.with_file(tables).start(&config).unwrap();
    let connections = Connections::of(frontend.daemon.process.pid());
    let onion = frontend.address().await.unwrap();
    there.answer_for(&onion).await.unwrap();
    frontend.ready().await.unwrap();
    let client = network.client(&format!("visitor-of-{name}")).await.unwrap();
    until_all_answered(&client, &onion, &["here", "there"]).await.unwrap();
    let probed = |snapshot: &_| service(snapshot).probe_seconds.count() >= 2;
    frontend.daemon.until("probed twice", SOON, probed).await.unwrap();
    let online = frontend.command(&["check", "--online"]).await.unwrap();
    let said = String::from_utf8_lossy(&online.stdout);
    assert!(said.contains("Everything answers."), "{said}");
    nothing_else(network, &connections, bridge.address);

    // Without the daemon, a command goes the same way.
    frontend.stop().await.unwrap();
    let mut command = tokio::process::Command::new(program());
    command.args(["descriptor", &onion]).env("XDG_STATE_HOME", frontend.home());
    for file in frontend.paths() {
        command.arg("-c").arg(file);
    }
    let command = command.kill_on_drop(true).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    let connections = Connections::of(child.id().unwrap());
    let output = tokio::time::timeout(2 * SOON, child.wait_with_output()).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    nothing_else(network, &connections, bridge.address);
}

/// The bridge was connected to, and no relay.
fn nothing_else(network: &Network, connections: &Connections, bridge: SocketAddr) {
    let seen = connections.seen();
    assert!(seen.contains(&bridge), "{seen:?}");
    let relays: BTreeSet<SocketAddr> = network
        .relays()
        .iter()
        .flat_map(|relay: &Relay| [Some(relay.or_address()), relay.dir_address()])
        .flatten()
        .collect();
    assert_eq!(seen.intersection(&relays).count(), 0, "{seen:?}");
}

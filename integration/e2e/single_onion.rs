//! Does a service that does not hide reach relays by one hop, those of the directory,
//! and nobody whom a client names?

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tor_linkspec::{EncodedLinkSpec, LinkSpecType};

use super::frontend::{PAGE, Prepared, SOON, service, until_all_answered};
use crate::network::attacker::{Attacker, Rendezvous, Target};
use crate::network::connections::Connections;
use crate::network::fetch::eventually;
use crate::network::origin::{self, Origin};
use crate::network::{self, Network};

const NOT_ANONYMOUS: &str = "anonymity = 'not_anonymous'\nconfirm_not_anonymous = true\n";

/// The size of a download.
const DOWNLOAD: u64 = 20 * 1024 * 1024;

/// Where relays take connections, and authorities serve the directory.
fn of_relays(network: &Network) -> BTreeSet<SocketAddr> {
    let relays = network.relays().iter();
    relays.flat_map(|relay| [Some(relay.or_address()), relay.dir_address()]).flatten().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_and_a_download_come_by_one_hop_from_relays_of_the_directory_alone() {
    let network = network::shared().await.unwrap();
    let origins = ["here", "there"].map(|name| Origin::start(name).unwrap());
    let there = network.future_single_onion("single-there", origins[1].address).await.unwrap();
    let config = format!(
        "{NOT_ANONYMOUS}local_instances = 1\nproxy_ports = [['80', '{}']]\nbackends = ['{}']",
        origins[0].address,
        there.onion_address(),
    );
    let prepared = Prepared::new(network, "single").unwrap().on_a_socket();
    let frontend = prepared.start(&config).unwrap();
    let connections = Connections::of(frontend.daemon.process.pid());
    let onion = frontend.address().await.unwrap();
    there.answer_for(&onion).await.unwrap();
    frontend.ready().await.unwrap();
    let client = network.client("visitor-of-single").await.unwrap();
    until_all_answered(&client, &onion, &["here", "there"]).await.unwrap();

    // Only the local instance is at this address alone.
    frontend.reload(&config.replace(there.onion_address(), "").replace("['']", "[]")).unwrap();
    let alone = |snapshot: &_| service(snapshot).backends.len() == 1;
    frontend.daemon.until("alone", SOON, alone).await.unwrap();
    frontend.ready().await.unwrap();
    let path = format!("/bytes/{DOWNLOAD}");
    let download = async || {
        let file = client.get("download", &onion, &path, 2 * SOON).await?;
        anyhow::ensure!(file.body.len() as u64 == DOWNLOAD, "short");
        Ok(file)
    };
    let file = eventually(SOON, download).await.unwrap();
    assert!(file.body == origin::pattern(0, DOWNLOAD), "other bytes");

    let snapshot = frontend.daemon.status().await.unwrap();
    let local = &service(&snapshot).backends[0];
    let met = local.activity.rendezvous_succeeded;
    assert!(met > 0, "{snapshot:?}");
    assert!(local.activity.rendezvous_direct >= met, "{snapshot:?}");
    let (open, limit) = (snapshot.handles.direct_open, snapshot.handles.direct_limit);
    assert!(open > 0 && limit >= 256, "{open} of {limit}");
    // Its introduction points are among those that it is connected to.
    let seen = connections.seen();
    for fingerprint in &local.relays {
        let relay = network.relay(fingerprint).unwrap();
        assert!(seen.contains(&relay.or_address()), "{fingerprint}: {seen:?}");
    }
    let known: BTreeSet<_> = of_relays(network).into_iter().chain([origins[0].address]).collect();
    let others: Vec<_> = seen.difference(&known).collect();
    assert!(others.is_empty(), "{others:?}");

    let output = frontend.command(&["descriptor", &onion, "--json"]).await.unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["descriptors"][0]["single_onion"], true, "{report:#}");
    let text = frontend.command(&["status"]).await.unwrap();
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.contains("not anonymous: relays see where this process is"), "{text}");
}

/// A link specifier of an address (tor-spec, section 5.1.2).
fn at(address: SocketAddr) -> EncodedLinkSpec {
    let (kind, mut body) = match address.ip() {
        IpAddr::V4(ip) => (LinkSpecType::ORPORT_V4, ip.octets().to_vec()),
        IpAddr::V6(ip) => (LinkSpecType::ORPORT_V6, ip.octets().to_vec()),
    };
    body.extend(address.port().to_be_bytes());
    EncodedLinkSpec::new(kind, body)
}

fn is_address(specifier: &EncodedLinkSpec) -> bool {
    [LinkSpecType::ORPORT_V4, LinkSpecType::ORPORT_V6].contains(&specifier.lstype())
}

/// What hostile clients name, with a trap for connections in the place of an address.
/// `other` is another relay than `relay`.
fn hostile(
    relay: &Rendezvous,
    other: &Rendezvous,
    trap: SocketAddr,
) -> Vec<(&'static str, Rendezvous)> {
    let addresses = |of: &Rendezvous| of.specifiers.clone().into_iter().filter(is_address);
    let identities =
        |of: &Rendezvous| of.specifiers.clone().into_iter().filter(|it| !is_address(it));
    let of_kind = |of: &Rendezvous, kind| {
        of.specifiers.clone().into_iter().filter(move |it| it.lstype() == kind)
    };
    let named = |specifiers: &mut dyn Iterator<Item = EncodedLinkSpec>| Rendezvous {
        specifiers: specifiers.collect(),
        ..relay.clone()
    };
    let nobody = EncodedLinkSpec::new(LinkSpecType::RSAID, vec![7; 20]);
    let at_trap = || std::iter::once(at(trap));
    vec![
        ("a relay at the trap", named(&mut at_trap().chain(identities(relay)))),
        (
            "a relay, and the trap",
            named(&mut relay.specifiers.clone().into_iter().chain(at_trap())),
        ),
        ("the trap, and a relay", named(&mut at_trap().chain(relay.specifiers.clone()))),
        (
            "half a relay at the trap",
            named(&mut at_trap().chain([nobody]).chain(of_kind(relay, LinkSpecType::ED25519ID))),
        ),
        (
            "halves of two relays at the trap",
            named(
                &mut at_trap()
                    .chain(of_kind(relay, LinkSpecType::RSAID))
                    .chain(of_kind(other, LinkSpecType::ED25519ID)),
            ),
        ),
        ("one relay at another's address", named(&mut addresses(other).chain(identities(relay)))),
        ("a relay without an address", named(&mut identities(relay))),
        ("a relay with another key", Rendezvous { key: [9; 32].into(), ..relay.clone() }),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn no_client_has_it_connect_to_an_address_that_it_names() {
    let network = network::shared().await.unwrap();
    let origin = Origin::start("here").unwrap();
    let config = format!("{NOT_ANONYMOUS}proxy_ports = [['80', '{}']]", origin.address);
    let prepared = Prepared::new(network, "trapped").unwrap().on_a_socket();
    let frontend = prepared.start(&config).unwrap();
    let connections = Connections::of(frontend.daemon.process.pid());
    frontend.ready().await.unwrap();
    let onion = frontend.address().await.unwrap();
    let client = network.client("visitor-of-trapped").await.unwrap();
    let attacker = Attacker::start(network, "attacker-of-trapped").await.unwrap();
    let target = Target::of(network, &client, &onion).await.unwrap();

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let trap = listener.local_addr().unwrap();
    let caught = Arc::new(AtomicU64::new(0));
    let mut trapping = JoinSet::new();
    trapping.spawn({
        let caught = Arc::clone(&caught);
        async move {
            // Kept open, so that whoever connects is seen.
            let mut open = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                caught.fetch_add(1, Ordering::Relaxed);
                open.push(stream);
            }
        }
    });
    let count = async || {
        let snapshot = frontend.daemon.status().await.unwrap();
        let activity = service(&snapshot).backends[0].activity.clone();
        (activity.introductions, activity.rendezvous_direct)
    };
    let relays = attacker.relays().unwrap();
    for (what, named) in hostile(&relays[0], &relays[1], trap) {
        let (introductions, direct) = count().await;
        eventually(SOON, || attacker.introduce_at(&target, named.clone(), None)).await.unwrap();
        let over = |snapshot: &_| {
            let activity = &service(snapshot).backends[0].activity;
            activity.introductions > introductions && activity.rendezvous_under_way == 0
        };
        frontend.daemon.until(what, SOON, over).await.unwrap();
        assert_eq!(count().await.1, direct, "{what}");
        let seen = connections.seen();
        assert!(!seen.contains(&trap), "{what}: {seen:?}");
    }
    // Others may connect there: relays, at the end of an ordinary circuit.
    println!("{} connections to the trap, none of ours", caught.load(Ordering::Relaxed));

    // The same introduction with what is true is met by one hop.
    let (_, direct) = count().await;
    eventually(SOON, || attacker.introduce_at(&target, relays[0].clone(), None)).await.unwrap();
    let met = |snapshot: &_| service(snapshot).backends[0].activity.rendezvous_direct > direct;
    frontend.daemon.until("met by one hop", SOON, met).await.unwrap();
    let known: BTreeSet<_> = of_relays(network).into_iter().chain([origin.address]).collect();
    let seen = connections.seen();
    assert!(seen.is_subset(&known), "{seen:?}");
    let page = eventually(SOON, || client.get("after", &onion, "/", PAGE)).await.unwrap();
    assert_eq!(page.text().trim(), "here");
}

//! Do local instances with `guards = "own"` have guards of their own, the same after each
//! start, and does one go on when the guard of another dies?

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use onionbraid::observe::Snapshot;
use onionbraid::observe::snapshot::BackendState;
use serde_json::Value;

use super::frontend::{Frontend, PAGE, SOON, service};
use crate::network::client::Client;
use crate::network::connections::Connections;
use crate::network::fetch::eventually;
use crate::network::origin::Origin;
use crate::network::{self, Network, Options};

/// Pages that are fetched at most until each instance has served one.
const VISITS: usize = 200;

/// How often services are started in the hope that their instances have different guards.
const DRAWS: usize = 10;

/// The service's keys.
fn keys(origin: &Origin) -> String {
    format!("local_instances = 2\nguards = 'own'\nproxy_ports = [['80', '{}']]", origin.address)
}

/// Where the guards of the two instances lie.
fn directories(frontend: &Frontend) -> [PathBuf; 2] {
    let below = frontend.state_dir().join("onionbraid/shop/guards");
    ["local-0", "local-1"].map(|name| below.join(name))
}

/// Guards as Arti has written them down.
#[derive(Debug, PartialEq)]
struct Written {
    /// Those that it has sampled, in the order in which it tries them.
    sampled: Vec<Value>,
    /// Those that it has used, the first one first.
    confirmed: Vec<Value>,
}

impl Written {
    fn read(directory: &Path) -> Result<Self> {
        let file = directory.join("state/guards.json");
        let text = fs::read(&file).with_context(|| format!("no {}", file.display()))?;
        let state: Value = serde_json::from_slice(&text)?;
        let list = |name: &str| state["default"][name].as_array().context("not a list");
        let sampled = list("guards")?.iter().map(|guard| guard["id"].clone()).collect();
        Ok(Self { sampled, confirmed: list("confirmed")?.clone() })
    }

    /// The guard at which circuits begin as long as it works.
    fn first(&self) -> &Value {
        self.confirmed.first().or(self.sampled.first()).unwrap()
    }

    fn first_relay<'a>(&self, network: &'a Network) -> &'a network::Relay {
        network.relay(self.first()["rsa"].as_str().unwrap()).unwrap()
    }
}

/// The guards of both instances.
fn written(frontend: &Frontend) -> [Written; 2] {
    directories(frontend).map(|directory| Written::read(&directory).unwrap())
}

/// How many introductions each instance has looked at.
fn introductions(snapshot: &Snapshot) -> Vec<u64> {
    service(snapshot).backends.iter().map(|it| it.activity.introductions).collect()
}

/// Visits until each instance of these has had one more client.
async fn until_served(client: &Client, frontend: &Frontend, instances: &[usize], name: &str) {
    let onion = frontend.address().await.unwrap();
    let before = introductions(&frontend.daemon.status().await.unwrap());
    for visit in 0..VISITS {
        let isolation = format!("{name}-{visit}");
        eventually(SOON, || client.get(&isolation, &onion, "/", PAGE)).await.unwrap();
        let now = introductions(&frontend.daemon.status().await.unwrap());
        if instances.iter().all(|n| now[*n] > before[*n]) {
            return;
        }
    }
    panic!("{instances:?} serve nobody:\n{}", frontend.daemon.tail());
}

#[tokio::test(flavor = "multi_thread")]
async fn each_instance_has_guards_of_its_own_and_keeps_them_over_restarts() {
    let network = network::shared().await.unwrap();
    let origin = Origin::start("the origin").unwrap();
    let mut frontend = Frontend::start(network, "own-guards", &keys(&origin)).unwrap();
    let connections = Connections::of(frontend.daemon.process.pid());
    frontend.ready().await.unwrap();
    let client = network.client("visitor-of-own-guards").await.unwrap();
    until_served(&client, &frontend, &[0, 1], "first").await;

    // They were written down before anything began there.
    let chosen = written(&frontend);
    for directory in directories(&frontend) {
        let mode = fs::metadata(directory.join("state")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        // Only full vanguards are kept.
        assert!(directory.join("state/vanguards.json").exists());
    }
    let relays = chosen.each_ref().map(|guards| guards.first_relay(network));
    let seen = connections.seen();
    for relay in relays {
        assert!(seen.contains(&relay.or_address()), "{}: {seen:?}", relay.nickname());
    }
    let snapshot = frontend.daemon.status().await.unwrap();
    let sets = service(&snapshot).guards.clone().unwrap();
    let different: BTreeSet<_> = relays.iter().map(|relay| relay.fingerprint()).collect();
    assert_eq!((sets.sets, sets.first_guards), (2, different.len()), "{chosen:?}");
    assert_eq!(sets.overlapping.is_empty(), different.len() == 2, "{sets:?}");
    assert!(service(&snapshot).problems.is_empty(), "{snapshot:?}");
    let text = frontend.daemon.status_text().await.unwrap();
    assert!(text.contains("2 local instances with guards of their own"), "{text}");
    for relay in relays {
        assert!(!text.contains(relay.fingerprint()), "nobody is told which: {text}");
    }

    // What was used is known at an end in order ...
    frontend.stop().await.unwrap();
    let used = written(&frontend);
    for (used, chosen) in used.iter().zip(&chosen) {
        assert_eq!(used.sampled, chosen.sampled);
        assert_eq!(used.confirmed.first(), Some(chosen.first()));
    }
    // ... and a crash, whenever it comes, changes nothing about it.
    frontend.restart_stopped().unwrap();
    frontend.ready().await.unwrap();
    until_served(&client, &frontend, &[0, 1], "second").await;
    frontend.daemon.process.kill().unwrap();
    assert_eq!(written(&frontend), used);
    frontend.restart_stopped().unwrap();
    frontend.ready().await.unwrap();
    frontend.stop().await.unwrap();
    let firsts = |all: &[Written; 2]| all.each_ref().map(|guards| guards.first().clone());
    assert_eq!(firsts(&written(&frontend)), firsts(&used));
}

#[tokio::test(flavor = "multi_thread")]
async fn guards_stay_when_an_instance_is_taken_out_and_are_its_own_again_when_it_comes_back() {
    let network = network::shared().await.unwrap();
    let origin = Origin::start("the origin").unwrap();
    let two = keys(&origin);
    let mut frontend = Frontend::start(network, "own-guards-back", &two).unwrap();
    frontend.ready().await.unwrap();
    let chosen = written(&frontend);
    frontend.reload(&two.replace("local_instances = 2", "local_instances = 1")).unwrap();
    let left = |number| move |it: &Snapshot| service(it).guards.as_ref().unwrap().sets == number;
    frontend.daemon.until("one set", SOON, left(1)).await.unwrap();
    frontend.reload(&two).unwrap();
    frontend.daemon.until("two sets", SOON, left(2)).await.unwrap();
    let snapshot = frontend.ready().await.unwrap();
    assert!(service(&snapshot).problems.is_empty(), "{snapshot:?}");
    frontend.stop().await.unwrap();
    let sampled = |all: [Written; 2]| all.map(|guards| guards.sampled);
    assert_eq!(sampled(written(&frontend)), sampled(chosen));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_guards_cannot_be_kept_an_instance_uses_those_of_the_process_and_says_so() {
    let network = network::shared().await.unwrap();
    let origin = Origin::start("the origin").unwrap();
    let mut frontend = Frontend::start(network, "own-guards-damaged", &keys(&origin)).unwrap();
    frontend.ready().await.unwrap();
    frontend.stop().await.unwrap();
    let [damaged, good] = directories(&frontend);
    let file = damaged.join("state/guards.json");
    fs::write(&file, "no JSON").unwrap();
    let before = Written::read(&good).unwrap();
    frontend.restart_stopped().unwrap();
    let snapshot = frontend.ready().await.unwrap();
    assert_eq!(service(&snapshot).guards.as_ref().unwrap().sets, 1);
    let problems = service(&snapshot).problems.join("\n");
    assert!(problems.contains("local-0 has no guards of its own"), "{problems}");
    assert!(problems.contains("guards.json"), "{problems}");
    let client = network.client("visitor-of-own-guards-damaged").await.unwrap();
    until_served(&client, &frontend, &[0, 1], "page").await;
    assert_eq!(fs::read_to_string(&file).unwrap(), "no JSON");
    frontend.stop().await.unwrap();
    assert_eq!(Written::read(&good).unwrap().sampled, before.sampled);
}

/// A service whose two instances have different guards, and neither an authority's: the
/// network goes on voting without one.
async fn apart(network: &Network, origin: &Origin) -> Frontend {
    for draw in 0..DRAWS {
        let name = format!("own-guards-{draw}");
        let mut frontend = Frontend::start(network, &name, &keys(origin)).unwrap();
        frontend.ready().await.unwrap();
        let relays = written(&frontend).map(|guards| guards.first_relay(network));
        let [one, other] = relays.map(network::Relay::nickname);
        if one != other && relays.iter().all(|relay| relay.dir_address().is_none()) {
            return frontend;
        }
        frontend.stop().await.unwrap();
    }
    panic!("the same guard each time")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_goes_on_when_the_guard_of_another_dies_and_that_one_finds_a_new_guard() {
    let network = Network::start(Options::new(14)).await.unwrap();
    let origin = Origin::start("the origin").unwrap();
    let mut frontend = apart(&network, &origin).await;
    let client = network.client("visitor").await.unwrap();
    until_served(&client, &frontend, &[0, 1], "before").await;
    let before = written(&frontend);
    let dead = before[0].first_relay(&network);
    dead.node.kill().unwrap();

    until_served(&client, &frontend, &[1], "meanwhile").await;
    let back = |snapshot: &Snapshot| {
        let local = &service(snapshot).backends[0];
        local.state == BackendState::Up && local.published_intro_points > 0
    };
    frontend.daemon.until("both up", SOON, back).await.unwrap();
    until_served(&client, &frontend, &[0, 1], "after").await;
    frontend.stop().await.unwrap();
    let [cut, other] = written(&frontend);
    // The dead one stays the first of its instance, and comes back to it when it can.
    assert_eq!(cut.first(), before[0].first());
    assert!(cut.confirmed.len() > 1, "{cut:?}");
    assert_eq!(other.first(), before[1].first());
}

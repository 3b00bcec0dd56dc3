//! How many guards do commands cost that ask the network? None while a daemon
//! runs, and never new ones.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::frontend::{Frontend, Prepared, SOON};
use crate::network;
use crate::network::fetch::eventually;
use crate::network::origin::Origin;

/// How often a command is run.
const RUNS: usize = 8;

/// An address of nobody: what is asked for does not matter here.
const NOBODY: &str = "2gzyxa5ihm7nsggfxnu52rck2vv4rvmdlkiu3zzui5du4xyclen53wid.onion";

#[tokio::test(flavor = "multi_thread")]
async fn while_a_daemon_runs_it_answers_and_the_command_makes_no_connection() {
    let network = network::shared().await.unwrap();
    let origin = Origin::start("the origin").unwrap();
    let prepared = Prepared::new(network, "asked-for-others").unwrap().on_a_socket();
    let keys = format!("proxy_ports = [['80', '{}']]", origin.address);
    let frontend = prepared.start(&keys).unwrap();
    let onion = frontend.address().await.unwrap();
    frontend.ready().await.unwrap();

    // What the command would connect to, at every relay's address.
    let trap = TcpListener::bind(network.free_address().unwrap()).await.unwrap();
    let address = trap.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    let counted = Arc::clone(&connections);
    tasks.spawn(async move {
        while trap.accept().await.is_ok() {
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    let overlay = frontend.home().with_file_name("trap.toml");
    fs::write(&overlay, with_relays_at(&network.arti_toml(), &address.to_string())).unwrap();

    for _ in 0..RUNS {
        let output = frontend.command_with(&["descriptor", &onion], &[&overlay]).await.unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{said}{error}");
        assert!(said.contains("published here as service \"shop\""), "{said}");
        assert!(said.contains("local-0"), "{said}");
        assert!(error.contains("asked the running daemon"), "{error}");
    }
    let output = frontend.command_with(&["check", "--online"], &[&overlay]).await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("Everything answers."), "{said}");
    assert_eq!(connections.load(Ordering::SeqCst), 0);
    assert!(!frontend.home().exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_daemon_its_guards_are_used_and_kept() {
    let network = network::shared().await.unwrap();
    let mut frontend = stopped(network, "guards-of-the-daemon").await.unwrap();
    // So that nobody but the command can have written them.
    let arti = frontend.state_dir().join("state");
    fs::remove_file(arti.join("guards.json")).unwrap();
    let same = same_after_each_run(&frontend, &[], &arti).await;
    assert!(!frontend.home().exists());

    frontend.restart_stopped().unwrap();
    frontend.ready().await.unwrap();
    frontend.stop().await.unwrap();
    assert_eq!(sampled(&arti).unwrap(), same);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_daemons_directories_cannot_be_used_commands_have_lasting_guards() {
    let network = network::shared().await.unwrap();
    let frontend = stopped(network, "guards-of-commands").await.unwrap();
    let overlay = frontend.home().with_file_name("absent.toml");
    let absent = frontend.home().with_file_name("absent");
    let text = format!("[storage]\nstate_dir = '{}'\n", absent.display());
    fs::write(&overlay, text).unwrap();

    let output = frontend.command_with(&["descriptor", NOBODY], &[&overlay]).await.unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let below = frontend.home().join("onionbraid");
    let entries = fs::read_dir(&below).unwrap().map(|entry| entry.unwrap().path());
    let [own] = entries.collect::<Vec<_>>().try_into().unwrap();
    same_after_each_run(&frontend, &[&overlay], &own.join("state/state")).await;
    assert!(!absent.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_commands_at_once_take_turns() {
    let network = network::shared().await.unwrap();
    let frontend = stopped(network, "commands-at-once").await.unwrap();
    let ask = || frontend.command(&["descriptor", NOBODY]);
    let both = futures::future::try_join(ask(), ask()).await.unwrap();
    let errors = [both.0, both.1].map(|output| {
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    });
    let waited = errors.iter().filter(|error| error.contains("waiting for another command"));
    assert_eq!(waited.count(), 1, "{errors:?}");
    let asked = errors.iter().all(|error| error.contains("no HSDir that clients ask"));
    assert!(asked, "{errors:?}");
}

/// A frontend that has been published and is not running any more.
async fn stopped(network: &network::Network, name: &str) -> Result<Frontend> {
    let origin = Origin::start("the origin")?;
    let keys = format!("proxy_ports = [['80', '{}']]", origin.address);
    let mut frontend = Prepared::new(network, name)?.on_a_socket().start(&keys)?;
    frontend.ready().await?;
    frontend.stop().await?;
    Ok(frontend)
}

/// The guards in an Arti's state after a run of a command, the same after each.
async fn same_after_each_run(frontend: &Frontend, more: &[&Path], arti: &Path) -> Vec<Value> {
    let mut first = None;
    for run in 0..RUNS {
        let output = frontend.command_with(&["descriptor", NOBODY], more).await.unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(error.contains("no HSDir that clients ask"), "{error}");
        let now = eventually(SOON, async || sampled(arti)).await.unwrap();
        assert_eq!(*first.get_or_insert_with(|| now.clone()), now, "in run {run}");
    }
    first.unwrap()
}

/// The guards that Arti has chosen, in its random order.
fn sampled(arti: &Path) -> Result<Vec<Value>> {
    let file = arti.join("guards.json");
    let state = fs::read(&file).with_context(|| format!("no {}", file.display()))?;
    let state: Value = serde_json::from_slice(&state)?;
    let sets = state.as_object().context("no guard sets")?.values();
    let guards = sets.filter_map(|set| set["guards"].as_array()).flatten();
    let guards: Vec<Value> = guards.map(|guard| guard["id"].clone()).collect();
    ensure!(!guards.is_empty(), "no guards in {state:#}");
    Ok(guards)
}

/// A network whose relays are all said to be at one address.
fn with_relays_at(network: &str, address: &str) -> String {
    let mut parts = network.split("127.0.0.1:");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        text + address + part.trim_start_matches(|c: char| c.is_ascii_digit())
    })
}

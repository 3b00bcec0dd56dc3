//! Can an address move from a running Onionbalance to onionbraid and back, with the
//! commands of docs/migrating.md, while somebody visits all the time?

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use onionbraid::tor::keys::{Format, IdentityKey, write_new};

use super::frontend::{Prepared, SOON, Visitor, everywhere, program, service, until_all_answered};
use crate::network::client::Client;
use crate::network::fetch::eventually;
use crate::network::origin::Origin;
use crate::network::process::Process;
use crate::network::{Network, Options};

/// The real Onionbalance, with the timers of its own tests.
fn onionbalance(tor: &Client, config: &Path, log: &Path) -> Result<Process> {
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/onionbalance");
    let script = installed.join("bin/onionbalance");
    ensure!(script.is_file(), "Onionbalance is not installed (`make deps`)");
    let control = tor.node.control_address();
    let mut command = Command::new(script);
    command.env("PYTHONPATH", &installed).current_dir(config.parent().context("a directory")?);
    command.arg("-c").arg(config).args(["--is-testnet", "-v", "debug"]);
    command.args(["-i", &control.ip().to_string(), "-p", &control.port().to_string()]);
    Process::spawn("onionbalance", &command, log)
}

/// Runs a command of the page with these paths in the place of its own; what it prints.
async fn shown(command: &str, paths: &[(&str, &Path)]) -> String {
    const PAGE_TEXT: &str = include_str!("../../docs/migrating.md");
    assert!(PAGE_TEXT.lines().any(|line| line == command), "the page does not show {command}");
    let words = command.split_whitespace().skip_while(|word| *word != "onionbraid");
    // After the program, or after the user who runs it.
    let words: Vec<&str> = words.collect();
    let begin = words.iter().rposition(|word| *word == "onionbraid").unwrap();
    let word = |word: &&str| {
        let path = paths.iter().find(|(shown, _)| shown == word);
        path.map_or_else(|| PathBuf::from(word), |(_, path)| path.to_path_buf())
    };
    let mut command = tokio::process::Command::new(program());
    command.args(words[begin + 1..].iter().map(word)).kill_on_drop(true);
    let output = command.output().await.unwrap();
    assert!(output.status.success(), "{words:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// How often each HSDir has refused a descriptor, by the lines of a log that say so and
/// what is around the HSDir in them.
fn refusals(log: &str, refused: &str, (before, behind): (&str, &str)) -> BTreeMap<String, usize> {
    let mut refusals = BTreeMap::new();
    for line in log.lines().filter(|line| line.contains(refused)) {
        let (_, hsdir) = line.split_once(before).unwrap_or_else(|| panic!("{line}"));
        let hsdir = hsdir.split(behind).next().unwrap_or_default();
        *refusals.entry(hsdir.to_owned()).or_default() += 1;
    }
    refusals
}

/// Until the backends of all these names answer: a first descriptor of Onionbalance may be
/// without one that it found later, and its client keeps that.
async fn until_it_has_all(client: &Client, onion: &str, names: &[&str], balance: &Process) {
    eventually(SOON * 2, async || {
        client.new_identity().await?;
        until_all_answered(client, onion, names).await
    })
    .await
    .unwrap_or_else(|error| panic!("{error:#}\n{}", balance.log()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_is_taken_over_from_onionbalance_and_given_back_and_no_visitor_notices() {
    // Both count from the same moment where consensuses come as on the public network.
    let network = Network::start(Options { aligned: true, ..Options::new(10) }).await.unwrap();
    let network = &network;
    let names = ["berlin", "lisbon", "tallinn"];
    let origins = names.map(|name| Origin::start(name).unwrap());
    let place = network.scratch("onionbalance").unwrap();
    let key = IdentityKey::generate();
    write_new(&place.join("shop.key"), &key, Format::Pem).unwrap();
    let onion = key.address().to_string();
    let mut config = "services:\n- key: shop.key\n  instances:\n".to_owned();
    let mut backends = Vec::new();
    for (name, origin) in names.iter().zip(&origins) {
        let backend = network.future_backend(name, origin.address).await.unwrap();
        backend.answer_for(&onion).await.unwrap();
        config += &format!("  - address: {}\n    name: {name}\n", backend.onion_address());
        backends.push(backend);
    }
    let config_file = place.join("config.yaml");
    fs::write(&config_file, config).unwrap();
    let tor = network.client("tor-of-onionbalance").await.unwrap();
    let balance = onionbalance(&tor, &config_file, &place.join("first.log")).unwrap();

    let client = Arc::new(network.client("visitor-of-onionbalance").await.unwrap());
    until_it_has_all(&client, &onion, &names, &balance).await;
    let visitor = Visitor::start(&client, &onion);

    // There, as the page says.
    let imported = place.join("arti.toml");
    let keys = place.join("keys");
    let paths = [
        ("/etc/onionbalance/config.yaml", config_file.as_path()),
        ("/etc/onionbraid/keys", keys.as_path()),
        ("/etc/onionbraid/arti.toml", imported.as_path()),
    ];
    shown(
        "sudo onionbraid import onionbalance /etc/onionbalance/config.yaml --copy-keys \
         /etc/onionbraid/keys --out /etc/onionbraid/arti.toml",
        &paths,
    )
    .await;
    // The same with directories that belong to this test.
    let prepared = Prepared::new(network, "after-onionbalance").unwrap().on_a_socket();
    let together = prepared.dir().join("together.toml");
    let storage = format!("\n[storage]\nstate_dir = '{}/state'\n", prepared.dir().display());
    fs::write(&together, fs::read_to_string(&imported).unwrap() + &storage).unwrap();
    let said = shown(
        "sudo -u onionbraid onionbraid check -c /etc/onionbraid/arti.toml",
        &[("/etc/onionbraid/arti.toml", &together)],
    )
    .await;
    assert!(said.contains(&onion), "{said}");
    // SIGTERM alone does not end it: its threads go on.
    balance.kill().unwrap();
    let mut frontend = prepared.with_file(imported).start_without_service().unwrap();
    let snapshot = frontend
        .ready()
        .await
        .unwrap_or_else(|error| panic!("{error:#}\n{}", frontend.daemon.tail()));
    assert_eq!(service(&snapshot).address, onion);
    let mut listed: Vec<&str> =
        service(&snapshot).backends.iter().map(|backend| backend.name.as_str()).collect();
    listed.sort_unstable();
    assert_eq!(listed, names);
    // Until each HSDir of each period has the new descriptor.
    eventually(SOON, async || {
        let shown = frontend.daemon.status().await?;
        ensure!(everywhere(service(&shown)), "not yet: {:?}", service(&shown).descriptors);
        Ok(())
    })
    .await
    .unwrap();
    // Onionbalance counts with another key, so HSDirs may refuse the first revision, each
    // in each of the periods in which it is responsible. The next one is higher.
    let log = frontend.daemon.process.log();
    let refused = refusals(&log, "refused: 4", ("period=", " error="));
    println!("refused by HSDirs on the way there: {refused:?}");
    assert!(refused.values().all(|times| *times == 1), "{refused:?}");
    let asked = log.lines().filter(|line| line.contains("descriptor inspected")).count();
    assert!(asked <= service(&snapshot).descriptors.len(), "{asked} questions");
    let late = network.client("late-visitor-of-onionbalance").await.unwrap();
    until_all_answered(&late, &onion, &names).await.unwrap();

    // And back.
    frontend.stop().await.unwrap();
    let balance = onionbalance(&tor, &config_file, &place.join("second.log")).unwrap();
    eventually(SOON * 2, async || {
        let log = balance.log();
        ensure!(log.contains("Successfully uploaded descriptor"), "not yet");
        Ok(())
    })
    .await
    .unwrap_or_else(|error| panic!("{error:#}\n{}", balance.log()));
    // It asks nobody, and tries again when it publishes again: here after seconds.
    let refused = refusals(&balance.log(), "Descriptor upload failed for frontend", (" to ", " "));
    println!("refused by HSDirs on the way back: {refused:?}");
    let last = network.client("last-visitor-of-onionbalance").await.unwrap();
    until_it_has_all(&last, &onion, &names, &balance).await;
    let visits = visitor.end().await;
    println!("{visits} visits meanwhile");
    assert!(visits >= 10, "only {visits} visits");
}

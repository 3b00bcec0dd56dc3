//! Do the commands of docs/changing-machines.md do what it says, while somebody visits
//! all the time?

use std::sync::Arc;

use onionbraid::observe::Snapshot;
use onionbraid::observe::snapshot::{Backend, BackendState, Word};

use super::frontend::{CALM, Frontend, Prepared, SOON, Visitor, service, until_all_answered};
use crate::network;
use crate::network::fetch::eventually;
use crate::network::origin::Origin;

/// The words behind `onionbraid` of a command that the page shows.
fn shown(command: &str) -> Vec<&str> {
    const PAGE_TEXT: &str = include_str!("../../docs/changing-machines.md");
    let line = |line: &str| line.trim() == command;
    assert!(PAGE_TEXT.lines().any(line), "the page does not show {command}");
    command.split_whitespace().skip(1).collect()
}

/// Runs a command of the page on the machine of a daemon; what it prints.
async fn run(frontend: &Frontend, command: &str) -> String {
    let output = frontend.command(&shown(command)).await.unwrap();
    assert!(output.status.success(), "{command}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn backend<'a>(snapshot: &'a Snapshot, name: &str) -> &'a Backend {
    service(snapshot).backends.iter().find(|backend| backend.name == name).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_publishing_machine_and_the_backends_change_and_no_visitor_notices() {
    let network = network::shared().await.unwrap();
    network.calm_for(CALM).await.unwrap();
    let origins = ["berlin", "lisbon"].map(|name| Origin::start(name).unwrap());
    let berlin = network.future_backend("changing-berlin", origins[0].address).await.unwrap();
    let lisbon = network.future_backend("changing-lisbon", origins[1].address).await.unwrap();
    let entry = |name: &str, address: &str| format!("{{ address = '{address}', name = '{name}' }}");
    let (at_berlin, at_lisbon) =
        (entry("berlin", berlin.onion_address()), entry("lisbon", lisbon.onion_address()));
    let table = |backends: &[&str]| {
        let probe = "probe = { port = 80, interval = '10s' }\n";
        format!("{probe}backends = [{}]\n", backends.join(", "))
    };
    let prepared = Prepared::new(network, "old-machine").unwrap().on_a_socket();
    let onion = prepared.address().unwrap();
    let mut old = prepared.start(&table(&[&at_berlin])).unwrap();
    berlin.answer_for(&onion).await.unwrap();
    lisbon.answer_for(&onion).await.unwrap();
    old.ready().await.unwrap();
    assert!(!run(&old, "onionbraid status").await.contains("other publishers"));

    let client = Arc::new(network.client("visitor-of-changing").await.unwrap());
    let visitor = Visitor::start(&client, &onion);

    // The publishing machine.
    let several = format!("publishers = 'several'\n{}", table(&[&at_berlin]));
    old.configure(&several).unwrap();
    run(&old, "onionbraid reload").await;
    let prepared = Prepared::new(network, "new-machine").unwrap().on_a_socket();
    let key = prepared.dir().join("shop");
    let export = shown("onionbraid keys export shop --out ./shop");
    assert_eq!(export.last(), Some(&"./shop"));
    let key_path = key.to_str().unwrap();
    let export = [&export[..export.len() - 1], &[key_path]].concat();
    assert!(old.command(&export).await.unwrap().status.success());
    let with_key = |table: &str| format!("identity_key = '{key_path}'\n{table}");
    let new = prepared.start(&with_key(&several)).unwrap();
    assert!(run(&new, "onionbraid check").await.contains(&onion));
    let may_be_switched_off = async || {
        // It may not have opened its socket yet.
        let output = new.command(&shown("onionbraid status")).await?;
        let text = String::from_utf8_lossy(&output.stdout);
        anyhow::ensure!(text.contains("shop: the other publishers may be switched off"), "{text}");
        Ok(())
    };
    eventually(SOON, may_be_switched_off).await.unwrap();
    run(&new, "onionbraid check --online").await;
    old.stop().await.unwrap();
    let late = network.client("late-visitor-of-changing").await.unwrap();
    until_all_answered(&late, &onion, &["berlin"]).await.unwrap();

    // A backend comes.
    let both = format!("publishers = 'several'\n{}", table(&[&at_berlin, &at_lisbon]));
    new.configure(&with_key(&both)).unwrap();
    assert!(run(&new, "onionbraid reload").await.contains("backends"));
    let listed = |snapshot: &Snapshot| {
        let lisbon = backend(snapshot, "lisbon");
        lisbon.state == BackendState::Up && lisbon.published_intro_points > 0
    };
    new.daemon.until("published with lisbon", SOON, listed).await.unwrap();
    run(&new, "onionbraid check --online").await;
    eventually(SOON * 2, async || {
        late.new_identity().await?;
        until_all_answered(&late, &onion, &["berlin", "lisbon"]).await
    })
    .await
    .unwrap();

    // And goes.
    run(&new, "onionbraid backend shop lisbon drain").await;
    let drained = |snapshot: &Snapshot| {
        let lisbon = backend(snapshot, "lisbon");
        lisbon.operator == Word::Drain && lisbon.published_intro_points == 0
    };
    new.daemon.until("without lisbon", SOON, drained).await.unwrap();
    assert!(run(&new, "onionbraid status").await.contains("DRAINED"));
    new.configure(&with_key(&several)).unwrap();
    run(&new, "onionbraid reload").await;
    let alone = |snapshot: &Snapshot| snapshot.ready && service(snapshot).backends.len() == 1;
    new.daemon.until("berlin alone", SOON, alone).await.unwrap();

    let visits = visitor.end().await;
    assert!(visits >= 10, "only {visits} visits");
}

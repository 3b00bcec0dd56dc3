//! Does a balanced service look like one of C tor's to whoever knows its address?

use std::collections::{BTreeMap, BTreeSet};

use anyhow::ensure;
use onionbraid::observe::Snapshot;

use super::frontend::{CALM, Prepared, SOON, everywhere, service};
use crate::network::anatomy::Anatomy;
use crate::network::client::Client;
use crate::network::fetch::eventually;
use crate::network::origin::Origin;
use crate::network::{self, Network, published};

/// What all HSDirs hold, once all of them have the same revision.
async fn round(network: &Network, client: &Client, onion: &str) -> BTreeMap<String, Anatomy> {
    let complete = eventually(SOON * 2, async || {
        let held = published::anatomies(network, client, onion).await?;
        let revisions: BTreeSet<u64> = held.values().map(|it| it.revision).collect();
        ensure!(held.len() == 8 && revisions.len() == 1, "{} HSDirs, {revisions:?}", held.len());
        Ok(held)
    });
    complete.await.unwrap()
}

/// What has to be the same for C tor and for us, of one round on all HSDirs.
fn seen_in_one_round(held: &BTreeMap<String, Anatomy>) -> impl std::fmt::Debug + PartialEq {
    let different = |of: fn(&Anatomy) -> String| held.values().map(of).collect::<BTreeSet<_>>();
    let forms: Vec<String> = different(|it| it.form.clone()).into_iter().collect();
    let lengths = different(|it| it.length.to_string());
    let counts = [
        different(|it| it.signing_key.clone()),
        different(|it| it.ephemeral_key.clone()),
        different(|it| it.clients.join("\n")),
        different(|it| it.sessions.join("\n")),
        different(|it| it.salts[0].clone()),
        different(|it| it.salts[1].clone()),
    ]
    .map(|values| values.len());
    (forms.join("\n"), lengths, counts)
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_fetches_descriptors_from_all_hsdirs_cannot_tell_ours_from_those_of_c_tor() {
    let network = network::shared().await.unwrap();
    network.calm_for(CALM).await.unwrap();
    let origin = Origin::start("the origin").unwrap();
    let client = network.client("crawler").await.unwrap();
    let theirs = network.service("plain-in-the-crowd", origin.address).await.unwrap();
    let remote = network.future_backend("backend-in-the-crowd", origin.address).await.unwrap();
    let prepared = Prepared::new(network, "crowd").unwrap().on_a_socket();
    let onion = prepared.address().unwrap();
    remote.answer_for(&onion).await.unwrap();
    let config = format!(
        "proxy_ports = [['80', '{}']]\nlocal_instances = 1\n\
         backends = [{{ address = '{}', name = 'berlin' }}]\n",
        origin.address,
        remote.onion_address()
    );
    let ours = prepared.start(&config).unwrap();
    // A relay that has points of both lists one alone.
    ours.ready().await.unwrap();

    let first = round(network, &client, &onion).await;
    let expected = round(network, &client, theirs.onion_address()).await;
    assert_eq!(seen_in_one_round(&first), seen_in_one_round(&expected));
    assert!(first.values().all(|it| it.points >= 4));
    // Another round: as in C tor, what was made for the period stays, and nothing else.
    let drained = ours.command(&["backend", "shop", "berlin", "maintenance"]).await.unwrap();
    assert!(drained.status.success(), "{drained:?}");
    let fewer = |snapshot: &Snapshot| {
        let it = service(snapshot);
        let current = it.descriptors.iter().find(|descriptor| descriptor.current);
        everywhere(it) && current.is_some_and(|descriptor| descriptor.intro_points == 3)
    };
    ours.daemon.until("without berlin", SOON, fewer).await.unwrap();
    let second = round(network, &client, &onion).await;
    let [before, after] = [&first, &second].map(|held| held.values().next().unwrap().clone());
    assert_ne!(before.revision, after.revision);
    assert_eq!(before.form, after.form);
    assert_eq!(before.signing_key, after.signing_key);
    assert_eq!(before.ephemeral_key, after.ephemeral_key);
    assert_eq!(before.clients, after.clients);
    assert!(before.salts.iter().zip(&after.salts).all(|(before, after)| before != after));
}

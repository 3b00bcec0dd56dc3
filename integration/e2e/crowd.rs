//! Does a balanced service look like one of C tor's to whoever knows its address?

mod stem;

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
    round_after(network, client, onion, 0).await
}

/// The same, of a later round than the one with this revision.
async fn round_after(
    network: &Network,
    client: &Client,
    onion: &str,
    before: u64,
) -> BTreeMap<String, Anatomy> {
    let complete = eventually(SOON * 2, async || {
        let held = published::anatomies(network, client, onion).await?;
        let revisions: BTreeSet<u64> = held.values().map(|it| it.revision).collect();
        ensure!(held.len() == 8 && revisions.len() == 1, "{} HSDirs, {revisions:?}", held.len());
        ensure!(revisions.iter().all(|revision| *revision > before), "none after {before}");
        Ok(held)
    });
    complete.await.unwrap()
}

/// What was made for the period stays from one round to the next, and nothing else.
fn differ_as_two_rounds_do(
    first: &BTreeMap<String, Anatomy>,
    second: &BTreeMap<String, Anatomy>,
) -> bool {
    let [before, after] = [first, second].map(|held| held.values().next().unwrap());
    before.revision != after.revision
        && before.form == after.form
        && before.signing_key == after.signing_key
        && before.ephemeral_key == after.ephemeral_key
        && before.clients == after.clients
        && before.salts.iter().zip(&after.salts).all(|(before, after)| before != after)
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
    assert!(differ_as_two_rounds_do(&first, &second), "{first:?}\n{second:?}");
    for (address, points) in [(onion.as_str(), 3..=6), (theirs.onion_address(), 3..=3)] {
        let held = published::raw(network, &client, address).await.unwrap();
        for read in stem::read(network, address, held.into_values()).await.unwrap() {
            assert_eq!(read.form, stem::of_c_tor(), "{address}");
            assert!(points.contains(&read.points), "{address}: {read:?}");
        }
    }
    // C tor publishes anew once it has picked one more point.
    let revision = expected.values().next().unwrap().revision;
    let more = format!(
        "SETCONF HiddenServiceDir=\"{}\" HiddenServicePort=\"80 {}\" \
         HiddenServiceNumIntroductionPoints=4",
        theirs.directory().display(),
        origin.address
    );
    theirs.node.control(&more).await.unwrap();
    let again = round_after(network, &client, theirs.onion_address(), revision).await;
    assert!(differ_as_two_rounds_do(&expected, &again), "{expected:?}\n{again:?}");
}

/// The lines of the inner layer by their first words.
fn inner_lines(held: &BTreeMap<String, Anatomy>) -> Vec<String> {
    let form = &held.values().next().unwrap().form;
    let inner = form.lines().skip_while(|line| !line.starts_with("inner: "));
    inner.map(|line| line.split(' ').next().unwrap_or_default().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_line_about_puzzles_stands_where_c_tor_has_it() {
    let network = network::shared().await.unwrap();
    network.calm_for(CALM).await.unwrap();
    let origin = Origin::start("the origin").unwrap();
    let client = network.client("reader-of-lines").await.unwrap();
    let torrc = ["HiddenServicePoWDefensesEnabled 1"];
    let theirs = network.service_with("puzzled", origin.address, &torrc, &[]).await.unwrap();
    let expected = inner_lines(&round(network, &client, theirs.onion_address()).await);
    assert!(expected.contains(&"pow-params".to_owned()), "{expected:?}");
    let prepared = Prepared::new(network, "puzzled-of-ours").unwrap();
    let onion = prepared.address().unwrap();
    let config = format!(
        "proxy_ports = [['80', '{}']]\nlocal_instances = 1\nenable_pow = true\n",
        origin.address
    );
    let _ours = prepared.start(&config).unwrap();
    assert_eq!(inner_lines(&round(network, &client, &onion).await), expected);
}

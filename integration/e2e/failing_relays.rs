//! What happens when relays that a service depends on fail?

use std::collections::BTreeSet;
use std::time::Duration;

use onionbraid::observe::Snapshot;
use onionbraid::observe::snapshot::{HsdirState, ServiceState};

use super::frontend::{Frontend, PAGE, SOON, everywhere, service};
use super::refusal;
use crate::network::fetch::eventually;
use crate::network::origin::Origin;
use crate::network::{Network, Options};

/// How many points it has: with three, all may be at the authorities, which the
/// network cannot do without.
const POINTS: usize = 4;

/// A frontend with one local instance.
fn small(network: &Network, origin: &Origin) -> Frontend {
    let config =
        format!("num_intro_points = {POINTS}\nproxy_ports = [['80', '{}']]", origin.address);
    Frontend::start(network, "small", &config).unwrap()
}

/// The relays at which the daemon's log says that points were established and
/// not lost since.
fn points(snapshot: &Snapshot) -> BTreeSet<String> {
    service(snapshot).backends.iter().flat_map(|b| b.relays.iter().cloned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_introduction_relay_is_replaced_by_another() {
    let network = Network::start(Options::new(10)).await.unwrap();
    let origin = Origin::start("the origin").unwrap();
    let frontend = small(&network, &origin);
    let before = points(&frontend.complete(POINTS).await.unwrap());
    assert_eq!(before.len(), POINTS);
    let client = network.client("visitor").await.unwrap();
    let onion = frontend.address().await.unwrap();
    client.get("before", &onion, "/", PAGE).await.unwrap();

    // Not an authority: the network goes on voting.
    let dead = before
        .iter()
        .map(|fingerprint| network.relay(fingerprint).unwrap())
        .find(|relay| relay.dir_address().is_none())
        .unwrap();
    dead.node.kill().unwrap();
    let replaced = |snapshot: &Snapshot| {
        let points = points(snapshot);
        points.len() == POINTS && !points.contains(dead.fingerprint())
    };
    frontend.daemon.until("with another relay", SOON, replaced).await.unwrap();
    eventually(SOON, || client.get("after", &onion, "/", PAGE)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_hsdir_that_is_gone_is_retried_alone_until_it_is_back() {
    let network = with_lasting_hsdirs().await;
    let origin = Origin::start("the origin").unwrap();
    let mut frontend = small(&network, &origin);
    let snapshot = frontend.ready().await.unwrap();
    let fingerprint = an_hsdir(&network, &snapshot);
    frontend.stop().await.unwrap();

    let gone = network.relay(&fingerprint).unwrap();
    gone.node.kill().unwrap();
    frontend.restart_stopped().unwrap();
    let retried = retried_alone(&fingerprint);
    frontend.daemon.until("retrying one HSDir", SOON, retried).await.unwrap();

    gone.node.start().unwrap();
    let back = |snapshot: &Snapshot| everywhere(service(snapshot));
    frontend.daemon.until("published everywhere again", SOON, back).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_hsdir_refuses_it_gets_again_only_with_the_next_round_for_all() {
    let network = with_lasting_hsdirs().await;
    let origin = Origin::start("the origin").unwrap();
    let mut frontend = small(&network, &origin);
    let snapshot = frontend.ready().await.unwrap();
    let fingerprint = an_hsdir(&network, &snapshot);
    frontend.stop().await.unwrap();

    refusal::provoke(&network, &frontend.paths(), &fingerprint).await.unwrap();
    frontend.restart_stopped().unwrap();
    let refused = |snapshot: &Snapshot| refused(snapshot, &fingerprint).is_some();
    let seen = frontend.daemon.until("refused by one HSDir", SOON, refused).await.unwrap();
    let first = self::refused(&seen, &fingerprint).unwrap();
    // Nothing can be seen of what does not happen: a while without another try.
    tokio::time::sleep(Duration::from_secs(20)).await;
    let later = frontend.daemon.status().await.unwrap();
    let later = self::refused(&later, &fingerprint).unwrap();
    assert!(later == first || later.revision > first.revision, "{first:?} {later:?}");
    // The next round comes after a thirty-second part of the period at the latest.
    let again = |snapshot: &Snapshot| {
        let now = self::refused(snapshot, &fingerprint);
        now.is_some_and(|now| now.attempts > later.attempts && now.revision > later.revision)
    };
    frontend.daemon.until("a round for all HSDirs", SOON * 6, again).await.unwrap();
}

/// A network on which the HSDirs of a service stay the same: it has time periods
/// of two hours.
async fn with_lasting_hsdirs() -> Network {
    let voting_interval = Duration::from_secs(300);
    // Authorities that miss the first vote on a busy machine vote again an interval later.
    let limit = voting_interval + Duration::from_secs(180);
    let options = Options { voting_interval, limit, ..Options::new(10) };
    let network = Network::start(options).await.unwrap();
    network.calm_for(SOON * 2).await.unwrap();
    network
}

/// Some HSDir of the current period that is no authority.
fn an_hsdir(network: &Network, snapshot: &Snapshot) -> String {
    let current = service(snapshot).descriptors.iter().find(|descriptor| descriptor.current);
    let hsdirs = current.unwrap().hsdirs.iter();
    hsdirs
        .map(|hsdir| hsdir.relay.clone())
        .find(|hsdir| network.relay(hsdir).unwrap().dir_address().is_none())
        .unwrap()
}

/// Whether this HSDir alone has failed more than once, and the service is
/// published all the same.
fn retried_alone(fingerprint: &str) -> impl Fn(&Snapshot) -> bool {
    move |snapshot| failed_alone(snapshot, fingerprint).is_some_and(|failed| failed.attempts > 1)
}

/// The uploads to an HSDir that failed, and what the others hold meanwhile.
#[derive(Debug, PartialEq)]
struct FailedAlone {
    attempts: u32,
    revision: u64,
    error: String,
}

/// What has failed at this HSDir, if it is the only one of the current period and the
/// service is published all the same.
fn failed_alone(snapshot: &Snapshot, fingerprint: &str) -> Option<FailedAlone> {
    let service = service(snapshot);
    let current = service.descriptors.iter().find(|descriptor| descriptor.current)?;
    let (it, others): (Vec<_>, Vec<_>) =
        current.hsdirs.iter().partition(|hsdir| hsdir.relay == fingerprint);
    let others = others.iter().all(|hsdir| hsdir.state == HsdirState::Uploaded);
    let it = it.first().filter(|_| others && service.state == ServiceState::Published)?;
    let (attempts, error) = (it.attempts, it.last_error.clone()?);
    Some(FailedAlone { attempts, revision: current.revision?, error })
}

/// The same, if the HSDir has refused what it was brought.
fn refused(snapshot: &Snapshot, fingerprint: &str) -> Option<FailedAlone> {
    failed_alone(snapshot, fingerprint).filter(|failed| failed.error.contains("refused: 400"))
}

//! Can two processes publish one address, and does one notice the other?

use std::fs;
use std::time::Duration;

use onionbraid::observe::Snapshot;

use super::frontend::{Frontend, PAGE, SOON, program, service, until_all_answered};
use crate::network::fetch::eventually;
use crate::network::origin::Origin;
use crate::network::{self, Network};

/// The canary looks every few minutes, sooner where periods are short.
const CANARY: Duration = Duration::from_secs(300);

/// The line that names a new key in a file of its own.
fn shared_key(network: &Network, name: &str) -> String {
    let dir = network.scratch(name).unwrap().join("service");
    let made = std::process::Command::new(program())
        .args(["keys", "generate", "--format", "ctor", "--out"])
        .arg(&dir)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    assert!(fs::exists(dir.join("hs_ed25519_secret_key")).unwrap());
    format!("identity_key = '{}'\n", dir.display())
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_publishers_either_can_be_killed() {
    let network = network::shared().await.unwrap();
    let origins = ["berlin", "lisbon"].map(|name| Origin::start(name).unwrap());
    let berlin = network.future_backend("both-berlin", origins[0].address).await.unwrap();
    let lisbon = network.future_backend("both-lisbon", origins[1].address).await.unwrap();
    let config = format!(
        "{}backends = ['{}', '{}']\npublishers = 'several'\n\
         probe = {{ port = 80, interval = '10s' }}",
        shared_key(network, "both-key"),
        berlin.onion_address(),
        lisbon.onion_address()
    );
    let first = Frontend::start(network, "publisher-1", &config).unwrap();
    let second = Frontend::start(network, "publisher-2", &config).unwrap();
    let onion = first.address().await.unwrap();
    assert_eq!(second.address().await.unwrap(), onion);
    berlin.answer_for(&onion).await.unwrap();
    lisbon.answer_for(&onion).await.unwrap();
    let complete = |snapshot: &Snapshot| {
        snapshot.ready && service(snapshot).backends.iter().all(|b| b.published_intro_points > 0)
    };
    first.daemon.until("published", SOON, complete).await.unwrap();
    second.daemon.until("published", SOON, complete).await.unwrap();
    let client = network.client("visitor-of-both").await.unwrap();
    until_all_answered(&client, &onion, &["berlin", "lisbon"]).await.unwrap();
    let content = |snapshot: &Snapshot| service(snapshot).problems.is_empty();
    for publisher in [&first, &second] {
        publisher.daemon.until("without a problem", SOON, content).await.unwrap();
    }

    first.daemon.process.kill().unwrap();
    // What changes now, the other publishes alone: lisbon comes back with other
    // points, and clients who look anew find it.
    lisbon.node.restart().await.unwrap();
    let served = async || {
        client.new_identity().await?;
        until_all_answered(&client, &onion, &["berlin", "lisbon"]).await
    };
    eventually(SOON * 5, served).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_who_should_be_alone_reports_another_one() {
    let network = network::shared().await.unwrap();
    let origins = ["mine", "theirs"].map(|name| Origin::start(name).unwrap());
    let key = shared_key(network, "stolen-key");
    let start = |name: &str, origin: &Origin| {
        let config = format!("{key}proxy_ports = [['80', '{}']]", origin.address);
        Frontend::start(network, name, &config).unwrap()
    };
    let mine = start("robbed", &origins[0]);
    mine.ready().await.unwrap();
    let thief = start("thief", &origins[1]);
    thief.daemon.until("published", SOON, |snapshot| snapshot.ready).await.unwrap();

    let told = |snapshot: &Snapshot| {
        let problems = &service(snapshot).problems;
        problems.iter().any(|problem| problem.contains("in other hands"))
    };
    let snapshot = mine.daemon.until("aware of the other", CANARY * 2, told).await.unwrap();
    assert!(snapshot.ready, "{snapshot:?}");
    // Whichever descriptor a client has, somebody answers: nobody fights.
    let client = network.client("visitor-of-the-robbed").await.unwrap();
    let onion = mine.address().await.unwrap();
    let page = client.get("page", &onion, "/", PAGE).await.unwrap();
    assert!(["mine", "theirs"].contains(&page.text().trim()));
}

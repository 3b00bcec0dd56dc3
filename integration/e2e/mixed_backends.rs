//! Do C tor backends and local instances answer for one address together?

use super::frontend::{ArtiClient, Frontend, SOON, service, until_all_answered};
use crate::network;
use crate::network::origin::Origin;

#[tokio::test(flavor = "multi_thread")]
async fn two_c_tor_backends_and_a_local_instance_answer_for_one_address() {
    let network = network::shared().await.unwrap();
    let origins = ["local", "berlin", "lisbon"].map(|name| Origin::start(name).unwrap());
    let [local, berlin, lisbon] = &origins;
    let berlin = network.future_backend("berlin", berlin.address).await.unwrap();
    let lisbon = network.future_backend("lisbon", lisbon.address).await.unwrap();
    let frontend = Frontend::start(
        network,
        "mixed",
        &format!(
            "local_instances = 1\nproxy_ports = [['80', '{}']]\n\
             backends = ['{}', {{ address = '{}', name = 'lisbon' }}]",
            local.address,
            berlin.onion_address(),
            lisbon.onion_address(),
        ),
    )
    .unwrap();
    let onion = frontend.address().await.unwrap();
    berlin.answer_for(&onion).await.unwrap();
    lisbon.answer_for(&onion).await.unwrap();
    let snapshot = frontend.ready().await.unwrap();
    let names: Vec<_> = service(&snapshot).backends.iter().map(|b| b.name.as_str()).collect();
    assert_eq!(names, ["local-0", "remote-0", "lisbon"]);

    let client = network.client("visitor-of-mixed").await.unwrap();
    until_all_answered(&client, &onion, &["local", "berlin", "lisbon"]).await.unwrap();
    // Arti's parser takes the merged descriptor, too.
    let arti = ArtiClient::start(network, "arti-visitor-of-mixed").await.unwrap();
    let page = arti.get(&onion, "/").await.unwrap();
    assert!(["local", "berlin", "lisbon"].contains(&page.text().trim()));

    // Every backend offers congestion control, so the merged descriptor does,
    // and clients who came to the local instance have asked for it.
    let snapshot = frontend.daemon.status().await.unwrap();
    let local = &service(&snapshot).backends[0];
    assert!(local.activity.congestion_controlled > 0, "{snapshot:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_one_of_its_backends_killed_a_service_stays_reachable() {
    let network = network::shared().await.unwrap();
    let origins = ["survivor", "victim"].map(|name| Origin::start(name).unwrap());
    let victim = network.future_backend("victim", origins[1].address).await.unwrap();
    let frontend = Frontend::start(
        network,
        "one-killed",
        &format!(
            "local_instances = 1\nproxy_ports = [['80', '{}']]\nbackends = ['{}']",
            origins[0].address,
            victim.onion_address(),
        ),
    )
    .unwrap();
    let onion = frontend.address().await.unwrap();
    victim.answer_for(&onion).await.unwrap();
    frontend.ready().await.unwrap();
    let client = network.client("visitor-of-one-killed").await.unwrap();
    until_all_answered(&client, &onion, &["survivor", "victim"]).await.unwrap();

    victim.node.kill().unwrap();
    for visit in 0..10 {
        let isolation = format!("after-the-death-{visit}");
        let page = client.get(&isolation, &onion, "/", SOON).await.unwrap();
        assert_eq!(page.text().trim(), "survivor");
    }
}

//! What stays the same over restarts, and who may run where?

use super::frontend::{Frontend, PAGE, SOON};
use crate::network;
use crate::network::fetch::eventually;
use crate::network::origin::Origin;

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_keeps_the_address_and_a_second_daemon_disturbs_nothing() {
    let network = network::shared().await.unwrap();
    let origin = Origin::start("the origin").unwrap();
    let config = format!("proxy_ports = [['80', '{}']]", origin.address);
    let mut frontend = Frontend::start(network, "restarted", &config).unwrap();
    frontend.ready().await.unwrap();
    let onion = frontend.address().await.unwrap();
    let client = network.client("visitor-of-restarted").await.unwrap();
    client.get("before", &onion, "/", PAGE).await.unwrap();

    let second = frontend.run_once_more().unwrap();
    let ended = second.process.wait(SOON).await.unwrap();
    assert_eq!(ended.code(), Some(1), "{}", second.tail());
    let said = second.process.log();
    assert!(said.contains("another onionbraid is running on the state directory"), "{said}");
    client.get("during", &onion, "/", PAGE).await.unwrap();

    frontend.restart().await.unwrap();
    frontend.ready().await.unwrap();
    assert_eq!(frontend.address().await.unwrap(), onion);
    eventually(SOON, || client.get("after", &onion, "/", PAGE)).await.unwrap();
}

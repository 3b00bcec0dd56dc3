//! Does a service with a key in C tor's format answer under that key's address?
//!
//! C tor clients and HSDirs check every signature that is made with it.

use std::fs;

use super::frontend::{Frontend, PAGE, SOON, program};
use crate::network;
use crate::network::fetch::eventually;
use crate::network::origin::Origin;

#[tokio::test(flavor = "multi_thread")]
async fn a_service_with_a_key_of_c_tors_is_reached_at_the_address_of_that_key() {
    let network = network::shared().await.unwrap();
    let origin = Origin::start("the origin").unwrap();
    let hidden_service_dir = network.scratch("c-tor-key").unwrap().join("service");
    let made = std::process::Command::new(program())
        .args(["keys", "generate", "--format", "ctor", "--out"])
        .arg(&hidden_service_dir)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let onion = fs::read_to_string(hidden_service_dir.join("hostname")).unwrap();
    let onion = onion.trim();

    let config = format!(
        "proxy_ports = [['80', '{}']]\nidentity_key = '{}'",
        origin.address,
        hidden_service_dir.display()
    );
    let frontend = Frontend::start(network, "with-c-tor-key", &config).unwrap();
    frontend.ready().await.unwrap();
    assert_eq!(frontend.address().await.unwrap(), onion);
    let client = network.client("visitor-of-c-tor-key").await.unwrap();
    let page = eventually(SOON, || client.get("page", onion, "/", PAGE)).await.unwrap();
    assert_eq!(page.text(), "the origin\n");
}

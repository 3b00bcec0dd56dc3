//! Is the private network itself in order, with nothing but C tor on it?

use super::frontend::{PAGE, SOON};
use crate::network::fetch::eventually;
use crate::network::origin::{Origin, pattern};
use crate::network::{self};

/// Without two shared random values a change of the time period is a moment at
/// which no service is found: see `torrc::shared_random_state`.
#[tokio::test(flavor = "multi_thread")]
async fn the_network_is_born_with_both_shared_random_values() {
    let network = network::shared().await.unwrap();
    assert_eq!(network.consensus().await.unwrap().shared_random_values, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_c_tor_service_is_reachable_over_the_private_network() {
    let network = network::shared().await.unwrap();
    let origin = Origin::start("behind plain tor").unwrap();
    let service = network.service("plain", origin.address).await.unwrap();
    let client = network.client("visitor").await.unwrap();
    let onion = service.onion_address();

    let page = eventually(SOON, || client.get("first", onion, "/", PAGE)).await.unwrap();
    assert_eq!((page.status, page.text().as_str()), (200, "behind plain tor\n"));

    let bytes = client.get("second", onion, "/bytes/100000", PAGE).await.unwrap();
    assert_eq!(bytes.body, pattern(0, 100_000));
    // The first may have been asked for more than once.
    assert!(origin.requests() >= 2);
}

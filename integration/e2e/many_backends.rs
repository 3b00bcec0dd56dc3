//! What becomes of more backends than a descriptor has room for, if all HSDirs
//! are to have the same?

use std::fmt::Write as _;

use super::frontend::{ArtiClient, Frontend, PAGE, SOON, service};
use crate::network::origin::Origin;
use crate::network::{Network, Options};
use onionbraid::observe::snapshot::BackendState;

/// More than the 20 points that a descriptor can hold.
const BACKENDS: usize = 25;

#[tokio::test(flavor = "multi_thread")]
async fn twenty_five_backends_never_get_a_descriptor_of_more_than_twenty_points_or_none() {
    // Fewer relays would leave fewer than 20 points to choose from.
    let network = Network::start(Options::new(26)).await.unwrap();
    let origin = Origin::start("one of many").unwrap();
    let backends = network.future_backends("crowd", &[origin.address; BACKENDS]).await.unwrap();
    let mut config = String::from("backends = [");
    for address in backends.onion_addresses() {
        write!(config, "'{address}',").unwrap();
    }
    config += "]\ndistinct_descriptors = false";
    let frontend = Frontend::start(&network, "many", &config).unwrap();
    let onion = frontend.address().await.unwrap();
    backends.answer_for(&onion).await.unwrap();

    let mut published = 0;
    let most_are_up = |snapshot: &onionbraid::observe::Snapshot| {
        let service = service(snapshot);
        for descriptor in &service.descriptors {
            let sent = descriptor.hsdirs.iter().any(|hsdir| hsdir.attempts > 0)
                || descriptor.published_at.is_some();
            assert!(descriptor.intro_points <= 20, "{snapshot:?}");
            assert!(descriptor.intro_points > 0 || !sent, "{snapshot:?}");
            published = published.max(descriptor.intro_points);
        }
        let up = service.backends.iter().filter(|backend| backend.state == BackendState::Up);
        up.count() == BACKENDS && published == 20 && snapshot.ready
    };
    frontend.daemon.until("full", SOON * 4, most_are_up).await.unwrap();

    // Both kinds of clients take the descriptor.
    let client = network.client("visitor-of-many").await.unwrap();
    let page = client.get("visit", &onion, "/", PAGE).await.unwrap();
    assert_eq!(page.text().trim(), "one of many");
    let arti = ArtiClient::start(&network, "arti-visitor-of-many").await.unwrap();
    assert_eq!(arti.get(&onion, "/").await.unwrap().text().trim(), "one of many");
}

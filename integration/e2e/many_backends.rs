//! What becomes of more backends than a descriptor has room for, if all HSDirs
//! are to have the same?

use std::fmt::Write as _;

use super::frontend::{ArtiClient, Frontend, PAGE, SOON, service};
use crate::network::fetch::eventually;
use crate::network::origin::Origin;
use crate::network::{Network, Options};
use onionbraid::observe::snapshot::BackendState;

/// More than the 20 points that a descriptor can hold, ...
const BACKENDS: usize = NODES * OF_EACH;
/// ... in so many processes: one C tor has no more than 32 circuits under way, and gives
/// the points of a service up for minutes where too many fail.
const NODES: usize = 5;
const OF_EACH: usize = 5;

#[tokio::test(flavor = "multi_thread")]
async fn twenty_five_backends_never_get_a_descriptor_of_more_than_twenty_points_or_none() {
    // Fewer relays would leave fewer than 20 points to choose from.
    let network = Network::start(Options::new(26)).await.unwrap();
    let origin = Origin::start("one of many").unwrap();
    let mut nodes = Vec::new();
    let mut config = String::from("backends = [");
    for node in 0..NODES {
        let name = format!("crowd-{node}");
        let backends = network.future_backends(&name, &[origin.address; OF_EACH]).await.unwrap();
        for address in backends.onion_addresses() {
            write!(config, "'{address}',").unwrap();
        }
        nodes.push(backends);
    }
    config += "]\ndistinct_descriptors = false";
    let frontend = Frontend::start(&network, "many", &config).unwrap();
    let onion = frontend.address().await.unwrap();
    for backends in &nodes {
        backends.answer_for(&onion).await.unwrap();
    }

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

    // Both kinds of clients take the descriptor: one who drops it never comes in, however
    // often he tries, and circuits fail now and then beside so many processes.
    let client = network.client("visitor-of-many").await.unwrap();
    let page = eventually(SOON, || client.get("visit", &onion, "/", PAGE)).await.unwrap();
    assert_eq!(page.text().trim(), "one of many");
    let arti = ArtiClient::start(&network, "arti-visitor-of-many").await.unwrap();
    let page = eventually(SOON, || arti.get(&onion, "/")).await.unwrap();
    assert_eq!(page.text().trim(), "one of many");
}

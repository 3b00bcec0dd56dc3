//! Can an address move from C tor to onionbraid and back, without a moment in
//! which HSDirs refuse it?
//!
//! HSDirs refuse a descriptor whose revision counter is not higher than the one
//! they hold, so both programs have to count alike.

use super::frontend::{PAGE, Prepared, SOON, program, service};
use crate::network::fetch::eventually;
use crate::network::origin::Origin;
use crate::network::{Network, Options};

#[tokio::test(flavor = "multi_thread")]
async fn an_address_moves_from_c_tor_and_back_without_one_refused_upload() {
    // Both count from the same moment where consensuses come as on the public
    // network.
    let network = Network::start(Options { aligned: true, ..Options::new(10) }).await.unwrap();
    let network = &network;
    let origins = ["behind C tor", "behind onionbraid"].map(|name| Origin::start(name).unwrap());
    let tor = network.service("moving", origins[0].address).await.unwrap();
    let onion = tor.onion_address().to_owned();
    // A client keeps a descriptor, so each state of things is seen by a new one.
    let before = network.client("visitor-before-the-move").await.unwrap();
    let page = eventually(SOON, || before.get("page", &onion, "/", PAGE)).await.unwrap();
    assert_eq!(page.text().trim(), "behind C tor");

    let prepared = Prepared::new(network, "moved").unwrap();
    tor.node.kill().unwrap();
    let config = format!("proxy_ports = [['80', '{}']]", origins[1].address);
    let mut frontend = prepared.start_with_key(&config, &tor.directory()).await.unwrap();
    assert_eq!(frontend.address().await.unwrap(), onion);
    let snapshot = frontend.ready().await.unwrap();
    let hsdirs = service(&snapshot).descriptors.iter().flat_map(|descriptor| &descriptor.hsdirs);
    assert!(hsdirs.count() > 0);
    // Circuits may fail. No HSDir may say no.
    let log = frontend.daemon.process.log();
    assert!(!log.contains("refused: 4"), "{log}");
    let during = network.client("visitor-during-the-move").await.unwrap();
    let page = eventually(SOON, || during.get("page", &onion, "/", PAGE)).await.unwrap();
    assert_eq!(page.text().trim(), "behind onionbraid");

    // Back, with the key as onionbraid exports it.
    frontend.stop().await.unwrap();
    let exported = network.scratch("exported").unwrap().join("service");
    let out = exported.to_string_lossy().into_owned();
    let export = frontend.command(&["keys", "export", "shop", "--out", &out]).await.unwrap();
    assert!(export.status.success(), "{export:?} from {}", program().display());
    let secret = "hs_ed25519_secret_key";
    let exported = std::fs::read(exported.join(secret)).unwrap();
    assert_eq!(exported, std::fs::read(tor.directory().join(secret)).unwrap());
    tor.node.start().unwrap();
    let after = network.client("visitor-after-the-move").await.unwrap();
    // Had an HSDir refused it, this client would find the descriptor of a
    // service that is gone.
    let page = eventually(SOON, || after.get("page", &onion, "/", PAGE)).await.unwrap();
    assert_eq!(page.text().trim(), "behind C tor");
    let log = tor.node.log();
    assert!(!log.contains("http status 400"), "{log}");
}

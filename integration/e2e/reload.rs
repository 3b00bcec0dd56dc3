//! Does SIGHUP change what the files change, and nothing else?

use std::sync::Arc;

use onionbraid::observe::Snapshot;
use onionbraid::observe::snapshot::Backend;

use super::frontend::{CALM, Frontend, PAGE, SOON, Visitor, service, until_all_answered};
use crate::network;
use crate::network::origin::Origin;

/// The backend with this name, if there is one.
fn backend<'a>(snapshot: &'a Snapshot, name: &str) -> Option<&'a Backend> {
    service(snapshot).backends.iter().find(|backend| backend.name == name)
}

fn is_published(snapshot: &Snapshot, name: &str) -> bool {
    snapshot.ready && backend(snapshot, name).is_some_and(|b| b.published_intro_points > 0)
}

#[tokio::test(flavor = "multi_thread")]
async fn backends_and_ports_change_under_way_and_no_visitor_of_the_others_notices() {
    let network = network::shared().await.unwrap();
    // In a new period, clients look anew and keep what is published then.
    network.calm_for(CALM).await.unwrap();
    let origins = ["here", "new port", "lisbon"].map(|name| Origin::start(name).unwrap());
    let [here, new_port, lisbon] = &origins;
    let lisbon = network.future_backend("lisbon-reloaded", lisbon.address).await.unwrap();
    let ports = |second: &Origin| {
        format!("proxy_ports = [['80', '{}'], ['81', '{}']]\n", here.address, second.address)
    };
    let before = format!("local_instances = 2\n{}", ports(here));
    let frontend = Frontend::start(network, "reloaded", &before).unwrap();
    let shortly = "[shutdown]\ngrace = '1s'\nlimit = '30s'\n";
    let onion = frontend.address().await.unwrap();
    lisbon.answer_for(&onion).await.unwrap();
    let before_all = frontend.complete(3).await.unwrap();
    let client = Arc::new(network.client("visitor-of-reloaded").await.unwrap());

    // Somebody visits all the time, over new circuits.
    let visitor = Visitor::start(&client, &onion);

    // A backend comes, and a port leads elsewhere.
    let with_lisbon = format!(
        "local_instances = 2\nbackends = [{{ address = '{}', name = 'lisbon' }}]\n{}{shortly}",
        lisbon.onion_address(),
        ports(new_port),
    );
    frontend.reload(&with_lisbon).unwrap();
    let listed = |snapshot: &Snapshot| is_published(snapshot, "lisbon");
    let snapshot = frontend.daemon.until("published with lisbon", SOON, listed).await.unwrap();
    assert!(snapshot.reload.as_ref().is_some_and(|reload| reload.ok), "{snapshot:?}");
    // What was there has the points that it had.
    for name in ["local-0", "local-1"] {
        let relays = |snapshot| backend(snapshot, name).map(|b: &Backend| b.relays.clone());
        assert_eq!(relays(&snapshot), relays(&before_all), "{name}");
    }
    // Who has the old descriptor keeps it: somebody new has to look.
    let late = network.client("late-visitor-of-reloaded").await.unwrap();
    until_all_answered(&late, &onion, &["here", "lisbon"]).await.unwrap();

    // An instance goes, and takes what it kept along; the backend goes.
    frontend.reload(&format!("local_instances = 1\n{}{shortly}", ports(new_port))).unwrap();
    let alone = |snapshot: &Snapshot| {
        service(snapshot).backends.len() == 1
            && service(snapshot).descriptors.iter().all(|d| d.intro_points == 3)
    };
    let snapshot = frontend.daemon.until("alone", SOON, alone).await.unwrap();
    assert_eq!(service(&snapshot).backends[0].name, "local-0");
    let kept = frontend.state_dir().join("onionbraid/shop/local-1");
    network::fetch::eventually(SOON, async || {
        anyhow::ensure!(!kept.exists(), "{} is there still", kept.display());
        Ok(())
    })
    .await
    .unwrap();
    // A client that has looked anew meanwhile may come to lisbon, which has no
    // such port.
    let mut visits = 0;
    let at_81 = network::fetch::eventually(SOON, || {
        visits += 1;
        let (client, onion, isolation) = (&client, &onion, format!("port-81-{visits}"));
        async move { network::fetch::fetch(client.socks, &isolation, onion, 81, "/", PAGE).await }
    });
    assert_eq!(at_81.await.unwrap().text().trim(), "new port");

    // A file that is wrong changes nothing, and status says so.
    frontend.reload("local_instances = 1\nproxy_ports = [['80', 'nowhere']]\n").unwrap();
    let refused = |snapshot: &Snapshot| snapshot.reload.as_ref().is_some_and(|r| !r.ok);
    let snapshot = frontend.daemon.until("refused", SOON, refused).await.unwrap();
    let error = snapshot.reload.as_ref().and_then(|reload| reload.error.clone()).unwrap();
    assert!(error.contains("nothing has changed") && error.contains("proxy_ports"), "{error}");
    assert!(snapshot.ready && alone(&snapshot), "{snapshot:?}");
    assert!(frontend.daemon.status_text().await.unwrap().contains("! configuration read again"));

    let visits = visitor.end().await;
    assert!(visits >= 5, "only {visits} visits");
}

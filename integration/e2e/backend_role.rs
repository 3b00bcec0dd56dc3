//! Does onionbraid answer for an address that another onionbraid publishes?

use super::frontend::{ArtiClient, PAGE, Prepared, until_all_answered};
use crate::network;
use crate::network::origin::Origin;

#[tokio::test(flavor = "multi_thread")]
async fn onionbraid_elsewhere_c_tor_and_a_local_instance_answer_for_one_address() {
    let network = network::shared().await.unwrap();
    let names = ["local", "elsewhere", "berlin", "lisbon"];
    let origins = names.map(|name| Origin::start(name).unwrap());
    let [local, elsewhere, berlin, lisbon] = &origins;
    let frontend = Prepared::new(network, "role-frontend").unwrap();
    let onion = frontend.address().unwrap();
    let backend = Prepared::new(network, "role-backend").unwrap();
    let own = backend.address().unwrap();
    let backend = backend
        .start(&format!("frontends = ['{onion}']\nproxy_ports = [['80', '{}']]", elsewhere.address))
        .unwrap();
    let berlin = network.future_backend("role-berlin", berlin.address).await.unwrap();
    let lisbon = network.future_backend("role-lisbon", lisbon.address).await.unwrap();
    berlin.answer_for(&onion).await.unwrap();
    lisbon.answer_for(&onion).await.unwrap();
    backend.ready().await.unwrap();
    let frontend = frontend
        .start(&format!(
            "local_instances = 1\nproxy_ports = [['80', '{}']]\nbackends = ['{own}', '{}', '{}']",
            local.address,
            berlin.onion_address(),
            lisbon.onion_address(),
        ))
        .unwrap();
    frontend.ready().await.unwrap();

    let client = network.client("visitor-of-role").await.unwrap();
    until_all_answered(&client, &onion, &names).await.unwrap();
    // Under its own address the backend answers as ever, to both kinds of clients.
    let page = client.get("own", &own, "/", PAGE).await.unwrap();
    assert_eq!(page.text().trim(), "elsewhere");
    let arti = ArtiClient::start(network, "arti-visitor-of-role").await.unwrap();
    assert_eq!(arti.get(&own, "/").await.unwrap().text().trim(), "elsewhere");

    let output = frontend.command(&["check", "--online"]).await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("remote-0 answers") && said.contains("Everything answers."), "{said}");
}

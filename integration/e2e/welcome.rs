//! What does a daemon without any service in its configuration serve?

use super::frontend::{PAGE, Prepared, SOON, service};
use crate::network;
use crate::network::fetch::eventually;

#[tokio::test(flavor = "multi_thread")]
async fn without_a_service_the_welcome_page_is_served_by_two_instances_under_a_fresh_address() {
    let network = network::shared().await.unwrap();
    let mut addresses = Vec::new();
    for name in ["welcome-one", "welcome-two"] {
        let frontend = Prepared::new(network, name).unwrap().start_without_service().unwrap();
        let snapshot = frontend.ready().await.unwrap();
        let names: Vec<_> = service(&snapshot).backends.iter().map(|b| b.name.as_str()).collect();
        assert_eq!(names, ["local-0", "local-1"]);
        let onion = frontend.address().await.unwrap();
        let client = network.client(&format!("visitor-of-{name}")).await.unwrap();
        let page = eventually(SOON, || client.get("page", &onion, "/", PAGE)).await.unwrap();
        assert_eq!(page.status, 200);
        assert!(page.text().contains("It works."), "{}", page.text());
        addresses.push(onion);
    }
    assert_ne!(addresses[0], addresses[1]);
}

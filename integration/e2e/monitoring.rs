//! Does a real Prometheus find what the dashboard shows, and do its alerts fire?

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::Value;

use super::frontend::{Frontend, PAGE, SOON};
use crate::network;
use crate::network::fetch::eventually;
use crate::network::origin::Origin;
use crate::network::prometheus::Prometheus;

/// Far beyond what probes need to find that a backend is dead.
const LIMIT: Duration = Duration::from_secs(300);

const RULES: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/prometheus/onionbraid.rules.yml");
const DASHBOARD: &str = include_str!("../../packaging/grafana/onionbraid.json");

/// Every query of the dashboard, as Grafana sends it for all services.
fn queries() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().unwrap());
    let queries = targets.map(|target| target["expr"].as_str().unwrap());
    queries.map(|it| it.replace("$service", ".*").replace("$__rate_interval", "1m")).collect()
}

async fn fires(prometheus: &Prometheus, alert: &str) -> Result<()> {
    eventually(LIMIT, || async {
        let firing = prometheus.firing().await?;
        ensure!(firing.iter().any(|it| it == alert), "{alert} does not fire, only {firing:?}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_query_of_the_dashboard_has_data_and_alerts_fire_when_something_dies() {
    let network = network::shared().await.unwrap();
    let origin = Origin::start("the origin").unwrap();
    let remote_origin = Origin::start("elsewhere").unwrap();
    let remote = network.future_backend("monitored", remote_origin.address).await.unwrap();
    let metrics = network.free_address().unwrap();
    let config = format!(
        "proxy_ports = [['80', 'http://{}']]\nlocal_instances = 1\n\
         backends = [{{ address = '{}', name = 'berlin' }}]\nprobe = {{ port = 80, interval = '10s' }}\n\
         [metrics]\nprometheus.listen = '{metrics}'\n",
        origin.address,
        remote.onion_address()
    );
    let frontend = Frontend::start(network, "monitoring", &config).unwrap();
    let onion = frontend.address().await.unwrap();
    remote.answer_for(&onion).await.unwrap();
    let prometheus =
        Prometheus::start(network, "prometheus", metrics, Path::new(RULES)).await.unwrap();
    frontend.ready().await.unwrap();
    let up = |snapshot: &onionbraid::observe::Snapshot| {
        snapshot.services[0].backends.iter().all(|backend| backend.published_intro_points > 0)
    };
    frontend.daemon.until("with both backends", LIMIT, up).await.unwrap();

    // Rates need requests between two scrapes, and one that fails.
    let client = network.client("visitor-of-monitoring").await.unwrap();
    let found = eventually(LIMIT, || async {
        for path in ["/", "/no/such/page"] {
            // Whichever backend answers.
            drop(client.get("visit", &onion, path, PAGE).await);
        }
        let too_long = format!("/{}", "x".repeat(20_000));
        drop(client.get("too-long", &onion, &too_long, PAGE).await);
        client.new_identity().await?;
        for query in queries() {
            let found = prometheus.query(&query).await?;
            let numbers = found.iter().filter(|it| it["value"][1] != "NaN").count();
            ensure!(numbers > 0, "{query} finds {found:?}");
        }
        Ok(())
    });
    found.await.unwrap();
    let labels = prometheus.query("{__name__=~\"onionbraid_.*\"}").await.unwrap();
    assert!(labels.len() > 60, "{labels:?}");
    let text = serde_json::to_string(&labels).unwrap();
    assert!(!text.contains(".onion") && !text.contains(&onion[..56]), "{text}");

    remote.node.kill().unwrap();
    fires(&prometheus, "OnionBackendDown").await.unwrap();
    drop(origin);
    fires(&prometheus, "OnionOriginDown").await.unwrap();
    fires(&prometheus, "OnionServiceUnreachable").await.unwrap();
    let snapshot = frontend.daemon.until("down", SOON, |it| !it.ready).await.unwrap();
    assert!(snapshot.services[0].load.circuits_limit > 0, "{snapshot:?}");
    frontend.daemon.process.kill().unwrap();
    fires(&prometheus, "OnionbraidGone").await.unwrap();
}

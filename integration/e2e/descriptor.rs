//! Does `descriptor` explain what is published?

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::frontend::{CALM, Frontend, Prepared, SOON, service};
use crate::network;
use crate::network::fetch::eventually;
use crate::network::origin::Origin;

#[tokio::test(flavor = "multi_thread")]
async fn a_running_frontends_descriptor_is_explained_point_by_point() {
    let network = network::shared().await.unwrap();
    // The command sees a new time period before the daemon does.
    network.calm_for(CALM).await.unwrap();
    let origin = Origin::start("the origin").unwrap();
    let berlin = network.future_backend("explained-berlin", origin.address).await.unwrap();
    let prepared = Prepared::new(network, "explained").unwrap().on_a_socket();
    let frontend = prepared
        .start(&format!(
            "local_instances = 1\nproxy_ports = [['80', '{}']]\n\
             backends = [{{ address = '{}', name = 'berlin' }}]",
            origin.address,
            berlin.onion_address()
        ))
        .unwrap();
    let onion = frontend.address().await.unwrap();
    berlin.answer_for(&onion).await.unwrap();
    frontend.ready().await.unwrap();

    // Each HSDir is asked over one circuit, and that may fail.
    let report = eventually(SOON, async || {
        let output = frontend.command(&["descriptor", &onion, "--json"]).await?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(0), "{error}");
        let report: Value = serde_json::from_slice(&output.stdout)?;
        let hsdirs = report["hsdirs"].as_array().context("no HSDirs")?;
        ensure!(hsdirs.iter().all(|hsdir| hsdir["state"] == "held"), "{report:#}");
        Ok(report)
    });
    let report = report.await.unwrap();
    let snapshot = frontend.daemon.status().await.unwrap();

    assert_eq!(report["address"], onion.as_str());
    assert_eq!(report["service"], "shop");
    let hsdirs = report["hsdirs"].as_array().unwrap();
    assert_eq!(hsdirs.len(), 8, "{report:#}");
    assert_eq!(hsdirs.iter().filter(|hsdir| hsdir["asked_by_clients"] == true).count(), 6);
    assert!(hsdirs.iter().all(|hsdir| hsdir["nickname"].is_string()), "{report:#}");
    let newest = &report["descriptors"][0];
    assert_eq!(newest["lifetime_minutes"], 180);
    // The size of an ordinary C tor service; the counter's digits vary.
    let bytes = newest["bytes"].as_u64().unwrap();
    assert!((14_080..14_120).contains(&bytes), "{bytes}");
    assert_eq!(newest["flow_control"], "FlowCtrl=1-2 31");
    let points = newest["intro_points"].as_array().unwrap();
    let owners = |point: &Value| point["backends"].as_array().unwrap().len();
    assert!(points.iter().all(|point| owners(point) == 1), "{report:#}");
    let of = |name: &str| {
        let named = |point: &&Value| {
            let names = point["backends"].as_array().unwrap();
            names.iter().any(|backend| backend == name)
        };
        points.iter().filter(named).count()
    };
    for backend in &service(&snapshot).backends {
        assert!(of(&backend.name) > 0, "no point of {}: {report:#}", backend.name);
    }

    let output = frontend.command(&["descriptor", &onion]).await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{said}");
    println!("{said}");
    for expected in ["published here as service \"shop\"", "berlin", "local-0"] {
        assert!(said.contains(expected), "{expected:?} is missing: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_nobody_publishes_gives_no_descriptor_and_1() {
    let network = network::shared().await.unwrap();
    let origin = Origin::start("the origin").unwrap();
    let keys = format!("proxy_ports = [['80', '{}']]", origin.address);
    let frontend = Frontend::start(network, "asks-for-nobody", &keys).unwrap();
    let nobody = "2gzyxa5ihm7nsggfxnu52rck2vv4rvmdlkiu3zzui5du4xyclen53wid.onion";

    let output = frontend.command(&["descriptor", nobody]).await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("No HSDir holds a descriptor"), "{said}");
    assert!(!said.contains("published here"), "{said}");

    let typo = frontend.command(&["descriptor", "example.onion"]).await.unwrap();
    assert_eq!(typo.status.code(), Some(2));
}

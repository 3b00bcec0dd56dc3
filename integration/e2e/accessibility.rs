//! Can everybody read the status pages? A real Chromium shows them, and axe-core
//! looks for what would keep people from using them: contrast, names, order,
//! structure.
//!
//! The pages come from the real admin endpoint with Snapshots made for this: one
//! of a calm day, and one in which all is wrong that can be. No Tor is needed.
//! Pictures of all of them are left in `target/accessibility/`.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use onionbraid::admin::Admin;
use onionbraid::config::AdminListen;
use onionbraid::observe::Snapshot;
use serde_json::Value;
use tokio::task::JoinSet;

use crate::network::Options;
use crate::network::browser::{Browser, Look};
use crate::network::place::Place;

/// Where `make deps` puts it.
const AXE: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/target/tools/axe_playwright_python/axe.min.js");

const PICTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/accessibility");

const SNAPSHOTS: [(&str, &str); 2] = [
    ("calm", include_str!("accessibility/calm.json")),
    ("attacked", include_str!("accessibility/attacked.json")),
];

const PAGES: [(&str, &str); 2] = [("overview", "/?paused"), ("service", "/services/shop?paused")];

/// What axe finds, and how many rules it has looked at.
const RUN: &str = "axe.run(document).then(found => ({
    looked: found.passes.length,
    violations: found.violations.map(it => it.id + ': ' + it.nodes.map(it => it.html).join(' ')),
    undecided: found.incomplete.map(it => it.id),
}))";

/// A telephone's window, and a desk's; with both schemes of colours.
const WIDTHS: [u32; 2] = [360, 1440];

#[tokio::test(flavor = "multi_thread")]
async fn the_status_pages_work_without_scripts_and_axe_finds_nothing() {
    // The value of the last expression is sent back.
    let axe = fs::read_to_string(AXE).context("axe-core is missing: make deps").unwrap() + "; 0";
    let place = Place::claim(&Options::new(0).root).unwrap();
    fs::create_dir_all(PICTURES).unwrap();
    let mut browser = Browser::start(place.dir()).await.unwrap();
    let mut serving = JoinSet::new();
    for (state, snapshot) in SNAPSHOTS {
        let snapshot: Snapshot = serde_json::from_str(snapshot).unwrap();
        let address = serve(&place, snapshot, &mut serving).await.unwrap();
        for (page, path) in PAGES {
            for (width, dark) in WIDTHS.iter().flat_map(|it| [(*it, false), (*it, true)]) {
                let scheme = if dark { "dark" } else { "light" };
                let name = format!("{page}-{state}-{scheme}-{width}");
                let url = format!("http://{address}{path}");
                let mut page = browser.open(&url, Look { width, dark }).await.unwrap();
                let picture = page.picture().await.unwrap();
                fs::write(Path::new(PICTURES).join(format!("{name}.png")), picture).unwrap();
                let (fetched, complaints) = page.fetched_and_complaints();
                let style = format!("http://{address}/style.css");
                assert_eq!(fetched, [url, style], "{name}");
                assert_eq!(complaints, [""; 0], "{name}");

                // Tables scroll by themselves; the page does not.
                let wide = "document.documentElement.scrollWidth - innerWidth";
                let wide = page.evaluate(wide).await.unwrap();
                assert!(wide.as_i64().unwrap() <= 0, "{name}: {wide} pixels too wide");
                assert!(page.evaluate(&axe).await.is_ok());
                let found = page.evaluate(RUN).await.unwrap();
                println!("{name}: {} rules, undecided: {}", found["looked"], found["undecided"]);
                assert_eq!(found["violations"], Value::Array(Vec::new()), "{name}");
                assert!(found["looked"].as_u64().unwrap() > 15, "{name}: {found}");
            }
        }
    }
    browser.close().await.unwrap();
}

/// The admin endpoint with this Snapshot, on loopback.
async fn serve(place: &Place, snapshot: Snapshot, serving: &mut JoinSet<()>) -> Result<SocketAddr> {
    let address = place.address()?;
    let snapshot = Arc::new(move || snapshot.clone());
    let admin = Admin::open(&AdminListen::Tcp(address), snapshot).await?;
    serving.spawn(async move { match admin.serve().await {} });
    Ok(address)
}

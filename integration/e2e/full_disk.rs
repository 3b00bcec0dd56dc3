//! Does a daemon start again on a disk without a free byte?

use std::collections::BTreeSet;
use std::time::Duration;

use onionbraid::observe::Snapshot;

use super::frontend::{PAGE, Prepared, SOON, is_complete, program, service};
use crate::network::fetch::eventually;
use crate::network::origin::Origin;
use crate::network::small_disk::SmallDisk;
use crate::network::{self};

/// How long the log is watched for a flood, and how many lines are none.
const WATCHED: Duration = Duration::from_secs(30);
const LINES: usize = 40;

fn relays(snapshot: &Snapshot) -> BTreeSet<String> {
    service(snapshot).backends.iter().flat_map(|b| b.relays.iter().cloned()).collect()
}

/// Lines at info and above: what the operator sees.
fn lines(log: &str) -> Vec<&str> {
    log.lines().filter(|line| !line.contains("DEBUG")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_on_a_full_disk_serves_with_what_is_there_and_goes_on_when_there_is_room() {
    let network = network::shared().await.unwrap();
    let origin = Origin::start("the origin").unwrap();
    let config = format!("proxy_ports = [['80', '{}']]", origin.address);
    let prepared = Prepared::new(network, "full-disk").unwrap();
    let disk = SmallDisk::mount(prepared.dir(), 8).await.unwrap();
    let program = disk.program(program()).unwrap();
    let client = network.client("visitor-of-full-disk").await.unwrap();

    let daemon = prepared.start_as(&program, &config).unwrap();
    let before = daemon.until("published", SOON, |it| is_complete(it, 3)).await.unwrap();
    assert_eq!(before.tor.problem, None);
    let onion = service(&before).address.clone();
    client.get("before", &onion, "/", PAGE).await.unwrap();
    daemon.process.terminate().unwrap();
    assert!(daemon.process.wait(SOON).await.unwrap().success(), "{}", daemon.tail());
    drop(daemon);

    disk.fill().unwrap();
    let daemon = prepared.start_as(&program, &config).unwrap();
    let after = daemon.until("published again", SOON, |it| is_complete(it, 3)).await.unwrap();
    assert_eq!(service(&after).address, onion);
    assert_eq!(relays(&after), relays(&before), "the points are the same");
    eventually(SOON, || client.get("on-a-full-disk", &onion, "/", PAGE)).await.unwrap();
    let problem = after.tor.problem.unwrap();
    assert!(problem.starts_with("no space is left in cache_dir"), "{problem}");
    let text = daemon.status_text().await.unwrap();
    assert!(text.contains(&format!("! {problem}")), "{text}");
    tokio::time::sleep(WATCHED).await;
    let log = daemon.process.log();
    let said = lines(&log);
    println!("{} lines on a full disk:\n{}", said.len(), said.join("\n"));
    assert!(said.len() < LINES, "{} lines:\n{}", said.len(), said.join("\n"));

    disk.make_room().unwrap();
    let recovered = |snapshot: &Snapshot| snapshot.tor.problem.is_none() && snapshot.ready;
    let recovered = daemon.until("with room again", SOON, recovered).await.unwrap();
    assert_eq!(relays(&recovered), relays(&before), "no point was given up");
}

//! What does a daemon do that may open fewer files than its services need?

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use onionbraid::observe::Snapshot;

use super::frontend::{CALM, Prepared, SOON, program};
use crate::network;
use crate::network::fetch::eventually;

/// As many services, and as many files.
const SERVICES: usize = 40;
const FEW: u32 = 100;
const ENOUGH: u32 = 4096;

/// How long the log is watched for a flood, and how many lines are none.
const WATCHED: Duration = Duration::from_secs(30);
const LINES: usize = 6 * SERVICES;
const WARNINGS: usize = 20;

/// A program that runs onionbraid with a limit that it cannot raise.
fn with_handles(dir: &Path, handles: u32) -> Result<PathBuf> {
    let script = dir.join(format!("onionbraid-with-{handles}-handles"));
    let program = program().display();
    fs::write(
        &script,
        format!("#!/bin/sh\nexec prlimit --nofile={handles}:{handles} '{program}' \"$@\"\n"),
    )?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    Ok(script)
}

/// Sets the limit of a process from outside. What it was started with is the most.
fn limit(pid: u32, limit: u32) -> Result<()> {
    let mut prlimit = Command::new("prlimit");
    prlimit.args(["--pid", &pid.to_string(), &format!("--nofile={limit}:")]);
    let status = prlimit.status().context("prlimit (package util-linux)")?;
    ensure!(status.success(), "prlimit: {status}");
    Ok(())
}

/// Lines at warn and above.
fn warnings(log: &str) -> Vec<&str> {
    log.lines().filter(|line| !line.contains("DEBUG") && !line.contains(" INFO ")).collect()
}

fn relays(snapshot: &Snapshot) -> Vec<&[String]> {
    let backends = snapshot.services.iter().flat_map(|service| &service.backends);
    backends.map(|backend| backend.relays.as_slice()).collect()
}

/// Whether every service is published with every point.
fn complete(snapshot: &Snapshot) -> bool {
    snapshot.ready && relays(snapshot).iter().map(|relays| relays.len()).eq([3; SERVICES])
}

fn open_files(pid: u32) -> u32 {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten();
    u32::try_from(open.count()).unwrap()
}

/// The limit with which those that are kept for the last moment are still within it,
/// for limits are on numbers, and how many are left below it.
fn left_over(pid: u32) -> (u32, usize) {
    let file = |number: u32| fs::read_link(format!("/proc/{pid}/fd/{number}")).ok();
    let is_kept = |number: &u32| file(*number).is_some_and(|it| it == Path::new("/dev/null"));
    let limit = (0..ENOUGH).filter(is_kept).max().unwrap_or_default() + 1;
    (limit, (0..limit).filter(|number| file(*number).is_none()).count())
}

#[tokio::test(flavor = "multi_thread")]
async fn forty_services_get_along_with_a_hundred_handles_and_get_over_having_none_left() {
    let network = network::shared().await.unwrap();
    network.calm_for(CALM).await.unwrap();
    let prepared = Prepared::new(network, "few-handles").unwrap().on_a_socket();
    let socket = prepared.dir().join("admin.sock");
    let mut config = "proxy_ports = [['80', 'reject']]\n".to_owned();
    for n in 1..SERVICES {
        writeln!(config, "[onion_services.\"shop-{n}\"]\nproxy_ports = [['80', 'reject']]")
            .unwrap();
    }
    let program = with_handles(prepared.dir(), FEW).unwrap();
    let daemon = prepared.start_as(&program, &config).unwrap();
    let before = daemon.until("published with every point", SOON, complete).await.unwrap();
    let open = open_files(daemon.process.pid());
    let log = daemon.process.log();
    let lines = log.lines().filter(|line| !line.contains("DEBUG")).count();
    println!("{open} of {FEW} handles are open, {lines} lines, {:#?}", warnings(&log));
    assert_eq!(before.tor.problem, None);
    assert!(lines < LINES && warnings(&log).len() <= WARNINGS, "{}", daemon.tail());
    daemon.process.terminate().unwrap();
    assert!(daemon.process.wait(SOON).await.unwrap().success(), "{}", daemon.tail());
    drop(daemon);

    let program = with_handles(prepared.dir(), ENOUGH).unwrap();
    let daemon = prepared.start_as(&program, &config).unwrap();
    let after = daemon.until("published again", SOON, complete).await.unwrap();
    assert_eq!(relays(&after), relays(&before), "every point was kept");
    let pid = daemon.process.pid();

    // Nothing can be opened any more, not even by whoever has just closed a file.
    limit(pid, 10).unwrap();
    let lacks = |snapshot: &Snapshot| snapshot.tor.problem.is_some();
    tokio::time::sleep(WATCHED).await;
    let log = daemon.process.log();
    let said = warnings(&log);
    println!("{} warnings: {said:#?}", said.len());
    assert!(said.len() <= WARNINGS, "{said:#?}");

    // Connections that ask for nothing take all that are left, so that whoever asks
    // gets the one that is kept for this. What is open changes meanwhile.
    let without = eventually(SOON, || async {
        let (numbers, left) = left_over(pid);
        limit(pid, numbers)?;
        let idle = (0..left).map(|_| UnixStream::connect(&socket));
        let _idle = idle.collect::<std::io::Result<Vec<_>>>()?;
        let snapshot = daemon.status().await?;
        ensure!(lacks(&snapshot), "{} handles are open, and none is lacking", open_files(pid));
        Ok(snapshot)
    });
    let without = without.await.unwrap();
    assert!(without.tor.problem.as_ref().unwrap().starts_with("no file handle is left"));

    limit(pid, ENOUGH).unwrap();
    let stale = without.tor.consensus_valid_until.unwrap();
    let recovered = |it: &Snapshot| {
        let renewed = it.tor.consensus_valid_until.is_some_and(|until| until.0 > stale.0);
        complete(it) && it.tor.problem.is_none() && renewed
    };
    let after = daemon.until("with enough handles", 3 * SOON, recovered).await.unwrap();
    assert_eq!(relays(&after), relays(&before), "no point was given up");
}

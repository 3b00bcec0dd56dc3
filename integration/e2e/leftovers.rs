//! Does nothing outlive the tests, whatever ends them?

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, anyhow, bail, ensure};

use crate::network::fetch::eventually;
use crate::network::process::Process;
use crate::network::{Network, Options};

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_network_leaves_no_process_and_no_directory() {
    let network = Network::start(Options::new(5)).await.unwrap();
    let client = network.client("visitor").await.unwrap();
    let dir = network.dir().to_owned();
    assert_eq!(processes_that_name(&dir).len(), 6);

    network.relay("relay0").unwrap().node.freeze().unwrap();
    drop(network);
    drop(client);
    assert_eq!(processes_that_name(&dir), BTreeSet::new());
    assert!(!dir.exists());
}

/// The environment variable that makes the next test the one to be killed, and
/// says where to write the ids of its children.
const VICTIM: &str = "ONIONBRAID_E2E_VICTIM";

#[tokio::test(flavor = "multi_thread")]
async fn a_test_process_that_is_killed_leaves_no_process() {
    if let Some(dir) = std::env::var_os(VICTIM) {
        return be_killed(Path::new(&dir)).unwrap();
    }
    let dir = tempfile::tempdir().unwrap();
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "e2e::leftovers::a_test_process_that_is_killed_leaves_no_process"])
        .env(VICTIM, dir.path())
        .spawn()
        .unwrap();
    let alive = eventually(Duration::from_secs(20), async || {
        let alive = processes_that_name(dir.path());
        ensure!(alive.len() == 2 && dir.path().join("started").exists(), "not started: {alive:?}");
        Ok(alive)
    })
    .await;
    victim.kill().unwrap();
    victim.wait().unwrap();
    alive.unwrap();
    eventually(Duration::from_secs(5), async || {
        let left = processes_that_name(dir.path());
        ensure!(left.is_empty(), "left over: {left:?}");
        Ok(())
    })
    .await
    .unwrap();
}

/// Starts two processes, one from a thread that ends at once: they must live on
/// after that thread and not after this process.
fn be_killed(dir: &Path) -> Result<()> {
    fs::write(dir.join("followed"), "")?;
    let start = |name: &str| {
        let mut command = Command::new("tail");
        command.arg("-f").arg(dir.join("followed"));
        Process::spawn(name, &command, &dir.join("log"))
    };
    let first = std::thread::scope(|scope| scope.spawn(|| start("first")).join());
    let first = first.map_err(|_| anyhow!("the thread panicked"))??;
    let second = start("second")?;
    std::thread::sleep(Duration::from_millis(200));
    ensure!(first.is_running() && second.is_running());
    fs::write(dir.join("started"), "")?;
    std::thread::sleep(Duration::from_secs(60));
    bail!("nobody killed this process")
}

/// The ids of the processes on whose command line a file in the directory stands.
fn processes_that_name(dir: &Path) -> BTreeSet<u32> {
    let dir = dir.as_os_str().as_encoded_bytes();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid: &u32| {
            let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let arguments = command.split(|byte| *byte == 0);
            arguments
                .into_iter()
                .any(|it| it.strip_prefix(dir).is_some_and(|rest| rest.starts_with(b"/")))
        })
        .collect()
}

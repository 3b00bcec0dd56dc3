//! Does the daemon recover when the machine's wrong clock is set right?
//!
//! The clock is libfaketime's (Debian package faketime): it adds what a file
//! says to the wall clock and leaves the monotonic one alone.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;
use std::{fs, io};

use anyhow::{Context as _, Result};

use super::frontend::{Prepared, SOON, everywhere, program, service};
use crate::network;

/// Where Debian puts the library, below the directory of the architecture.
fn library() -> Result<PathBuf> {
    let architectures = fs::read_dir("/usr/lib")?.collect::<io::Result<Vec<_>>>()?;
    let libraries = architectures.iter().map(|it| it.path().join("faketime/libfaketimeMT.so.1"));
    let mut found = libraries.filter(|library| library.is_file());
    found.next().context("no libfaketimeMT.so.1: on Debian, apt-get install faketime")
}

/// A program that runs onionbraid with a clock that is wrong by what `offset`
/// holds at the moment.
pub(super) fn with_clock(dir: &Path, offset: &Path) -> Result<PathBuf> {
    let script = dir.join("onionbraid-with-clock");
    let text = format!(
        "#!/bin/sh\n\
         export LD_PRELOAD='{}' FAKETIME_TIMESTAMP_FILE='{}'\n\
         export FAKETIME_CACHE_DURATION=1 FAKETIME_DONT_FAKE_MONOTONIC=1\n\
         exec '{}' \"$@\"\n",
        library()?.display(),
        offset.display(),
        program().display(),
    );
    fs::write(&script, text)?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    Ok(script)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_three_days_slow_is_told_and_when_it_is_set_right_the_service_is_published() {
    let network = network::shared().await.unwrap();
    let dir = network.scratch("clock").unwrap();
    let offset = dir.join("offset");
    fs::write(&offset, "-3d\n").unwrap();
    let program = with_clock(&dir, &offset).unwrap();
    let prepared = Prepared::new(network, "slow-clock").unwrap();
    let daemon = prepared.start_as(&program, "proxy_ports = [['80', 'reject']]").unwrap();
    let told = daemon
        .until("telling of the clock", SOON, |status| status.tor.message.contains("clock"))
        .await
        .unwrap();
    assert!(!told.ready);

    fs::write(&offset, "+0\n").unwrap();
    let set = Instant::now();
    let published =
        |status: &onionbraid::observe::Snapshot| status.ready && everywhere(service(status));
    daemon.until("published with the clock set right", SOON, published).await.unwrap();
    println!("told {:?}; published after {:?}", told.tor.message, set.elapsed());
}

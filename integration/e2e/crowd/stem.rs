//! What does stem, the Python library for Tor, read in a descriptor?

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::network::Network;

/// A descriptor that stem has found to be in order.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) points: u64,
    /// Everything else that it says of it.
    pub(super) form: Value,
}

/// What it says of one of C tor's, of a service that everybody may use.
pub(super) fn of_c_tor() -> Value {
    json!({
        "version": 3,
        "lifetime": 180,
        "formats": [2],
        "authentication": [],
        "single": false,
        "specifiers": ["LinkByIPv4 LinkByFingerprint LinkByEd25519"],
        "certificates": ["HS_V3_DESC_SIGNING", "HS_V3_INTRO_AUTH", "HS_V3_NTOR_ENC"],
        "extensions": [1],
        "clients": 16,
    })
}

/// Has stem decrypt and check descriptors of an address.
pub(super) async fn read(
    network: &Network,
    address: &str,
    texts: impl Iterator<Item = String>,
) -> Result<Vec<Read>> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR"));
    // Onionbalance needs it, and brings it.
    let installed = source.join("target/tools/onionbalance");
    ensure!(installed.join("stem").is_dir(), "stem is not installed (`make deps`)");
    let dir = network.scratch(&format!("stem-{address}"))?;
    let mut command = Command::new("python3");
    command.env("PYTHONPATH", installed).env("PYTHONDONTWRITEBYTECODE", "1");
    command.arg(source.join("integration/network/read_with_stem.py")).arg(address);
    for (n, text) in texts.enumerate() {
        let file = dir.join(n.to_string());
        fs::write(&file, text)?;
        command.arg(file);
    }
    let output = command.kill_on_drop(true).output().await?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = std::str::from_utf8(&output.stdout)?.lines();
    let read = lines.map(|line| {
        let mut form: Value = serde_json::from_str(line)?;
        let points = form.as_object_mut().and_then(|it| it.remove("points"));
        let points = points.and_then(|it| it.as_u64()).context("no points")?;
        Ok(Read { points, form })
    });
    read.collect()
}

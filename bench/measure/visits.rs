//! How long does a visit take? What the comparisons time, each in the same way.

use anyhow::{Result, ensure};

use crate::LIMIT;
use crate::network::client::Client;
use crate::network::fetch::eventually;

/// The size of a download.
pub(crate) const DOWNLOAD: u64 = 20 * 1024 * 1024;

/// Where an origin has that many bytes.
pub(crate) fn download_path() -> String {
    format!("/bytes/{DOWNLOAD}")
}

/// Seconds until a page is there, on the circuit of this isolation.
pub(crate) async fn page(client: &Client, isolation: &str, onion: &str) -> Result<f64> {
    let fetched = eventually(LIMIT, || client.get(isolation, onion, "/", LIMIT)).await?;
    Ok(fetched.elapsed.as_secs_f64())
}

/// Megabytes a second of one download; its circuit stands before the clock runs.
pub(crate) async fn download(client: &Client, isolation: &str, onion: &str) -> Result<f64> {
    page(client, isolation, onion).await?;
    let file = client.get(isolation, onion, &download_path(), LIMIT).await?;
    ensure!(file.body.len() as u64 == DOWNLOAD, "a short file");
    Ok(DOWNLOAD as f64 / 1e6 / file.elapsed.as_secs_f64())
}

/// Two in the order of this time: each is first as often as the other.
pub(crate) fn in_turn(time: usize) -> [usize; 2] {
    if time.is_multiple_of(2) { [0, 1] } else { [1, 0] }
}

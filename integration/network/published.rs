//! What does each HSDir hold of an address, as a C tor client gets it?

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, ensure};
use tor_hscrypto::time::TimePeriod;

use super::Network;
use super::anatomy::Anatomy;
use super::client::Client;
use super::period;

/// How long all HSDirs may take, on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

/// The descriptors of an address in the current period, by the fingerprint of the
/// HSDir: every relay is asked (`HSFETCH` with `SERVER=`).
pub async fn raw(
    network: &Network,
    client: &Client,
    onion: &str,
) -> Result<BTreeMap<String, String>> {
    said_by(network, client, onion, network.relays().len()).await
}

/// The same, as soon as this many relays have answered: others may be busy.
async fn said_by(
    network: &Network,
    client: &Client,
    onion: &str,
    enough: usize,
) -> Result<BTreeMap<String, String>> {
    let address = onion.trim_end_matches(".onion");
    let relays = network.relays();
    let servers: Vec<_> = relays.iter().map(|it| format!("SERVER={}", it.fingerprint())).collect();
    let commands = format!("SETEVENTS HS_DESC_CONTENT\r\nHSFETCH {address} {}", servers.join(" "));
    let answered = |said: &str| {
        said.matches("+HS_DESC_CONTENT").count() >= enough
            && said.matches("650 OK").count() >= enough
    };
    let said = client.node.listen(&commands, LIMIT, answered).await?;
    let mut held = BTreeMap::new();
    for event in said.split("650+HS_DESC_CONTENT ").skip(1) {
        let (head, rest) = event.split_once('\n').context("an event without an end")?;
        let Some((text, _)) = rest.split_once("\n.\n") else { continue };
        let hsdir = head.split('$').nth(1).unwrap_or_default().chars().take(40).collect();
        if text.starts_with("hs-descriptor") {
            held.insert(hsdir, format!("{text}\n"));
        }
    }
    ensure!(!held.is_empty(), "no HSDir holds anything of the address");
    Ok(held)
}

/// The same of most relays, as texts and taken apart.
pub async fn with_texts(
    network: &Network,
    client: &Client,
    onion: &str,
) -> Result<Vec<(String, Anatomy)>> {
    let identity = onion.parse::<tor_hscrypto::pk::HsId>()?;
    let periods = periods(network)?;
    let held = said_by(network, client, onion, network.relays().len() - 2).await?;
    let apart = held.into_values().map(|text| {
        let anatomy = Anatomy::of(&text, *identity.as_ref(), &periods)?;
        Ok((text, anatomy))
    });
    apart.collect()
}

/// The same, taken apart.
pub async fn anatomies(
    network: &Network,
    client: &Client,
    onion: &str,
) -> Result<BTreeMap<String, Anatomy>> {
    let identity = onion.parse::<tor_hscrypto::pk::HsId>()?;
    let periods = periods(network)?;
    let held = raw(network, client, onion).await?;
    let apart = held
        .iter()
        .map(|(hsdir, text)| Ok((hsdir.clone(), Anatomy::of(text, *identity.as_ref(), &periods)?)));
    apart.collect()
}

/// The time periods around now.
pub fn periods(network: &Network) -> Result<Vec<TimePeriod>> {
    let length = period::length(network.voting_interval);
    let offset = period::offset(network.voting_interval);
    [SystemTime::now() - length, SystemTime::now(), SystemTime::now() + length]
        .into_iter()
        .map(|moment| Ok(TimePeriod::new(length, moment, offset)?))
        .collect()
}

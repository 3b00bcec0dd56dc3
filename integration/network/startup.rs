//! How do the relays come to a consensus that holds all of them, quickly?
//!
//! Called once by the network. A relay uploads its descriptor one or two
//! seconds after its start and then not again for a long time, and authorities
//! vote at moments of the wall clock. So authorities start first, and the clock
//! of the votes is shifted such that the first vote falls right after the
//! uploads. On a busy machine a relay misses it all the same: then everything
//! starts again with more time, which is faster than waiting for its next try.

use std::fs;
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Result, bail};

use super::Relay;
use super::consensus::Consensus;
use super::process::Signal;
use super::torrc::{INITIAL_DELAY, Voting};

/// How many times all relays are started together at most.
const ATTEMPTS: u32 = 4;
/// How often an authority is asked for the consensus.
const POLL: Duration = Duration::from_millis(100);

/// Starts all relays and waits until the consensus names each as an HSDir and
/// each knows all of them; after `limit`, an error that says what is missing.
/// `aligned` waits for such a moment that consensuses come at multiples of the
/// interval. `configure` gives a relay its files for these moments.
pub async fn start(
    relays: &[Relay],
    interval: Duration,
    aligned: bool,
    limit: Duration,
    configure: impl Fn(&Relay, &Voting) -> Result<()>,
) -> Result<()> {
    let end = Instant::now() + limit;
    let Some(authority) = relays.iter().find_map(Relay::dir_address) else {
        bail!("a network needs an authority");
    };
    let mut lead = Duration::from_millis(2500 + 60 * relays.len() as u64);
    for attempt in 1..=ATTEMPTS {
        let mut voting = voting(interval, lead, SystemTime::now());
        if aligned && !voting.offset.is_zero() {
            tokio::time::sleep(interval - voting.offset).await;
            voting.offset = Duration::ZERO;
        }
        relays.iter().try_for_each(|relay| configure(relay, &voting))?;
        launch(relays).await?;
        let consensus = first_consensus(relays, authority, end).await?;
        if attempt == ATTEMPTS || missing(relays, &consensus).is_empty() {
            break;
        }
        for relay in relays {
            relay.node.kill()?;
        }
        for relay in relays {
            forget_consensus(relay)?;
        }
        lead = 2 * lead + Duration::from_secs(1);
    }
    // Relays wait longer and longer between attempts to fetch the first
    // consensus; this makes them try now.
    for relay in relays {
        relay.node.signal(Signal::Hangup)?;
    }
    complete(relays, authority, end).await?;
    informed(relays, end).await
}

/// Shifts the votes such that the first falls `lead` from now. Authorities vote
/// two delays before the end of an interval.
///
/// The first interval is as long as all others. It could be shorter, but until
/// the second consensus C tor and Arti would then disagree about the length of
/// a time period, and no visitor would find a service.
fn voting(interval: Duration, lead: Duration, now: SystemTime) -> Voting {
    let vote = now.duration_since(UNIX_EPOCH).unwrap_or_default() + lead;
    let vote = vote.as_secs() + u64::from(vote.subsec_nanos() > 0);
    let consensus = vote + 2 * INITIAL_DELAY.as_secs();
    Voting { interval, offset: Duration::from_secs(consensus % interval.as_secs()) }
}

/// Starts the authorities, and the others as soon as these take descriptors.
async fn launch(relays: &[Relay]) -> Result<()> {
    let (authorities, others): (Vec<&Relay>, Vec<&Relay>) =
        relays.iter().partition(|relay| relay.dir_address().is_some());
    for relay in &authorities {
        relay.node.start()?;
    }
    for relay in &authorities {
        if let Some(address) = relay.dir_address() {
            relay.node.accepts(address).await?;
        }
    }
    others.iter().try_for_each(|relay| relay.node.start())
}

async fn first_consensus(
    relays: &[Relay],
    authority: SocketAddr,
    end: Instant,
) -> Result<Consensus> {
    loop {
        if let Some(consensus) = Consensus::download(authority).await {
            return Ok(consensus);
        }
        if let Some(dead) = relays.iter().find(|relay| !relay.node.is_running()) {
            bail!("{} has ended:\n{}", dead.nickname(), dead.node.tail());
        }
        if Instant::now() >= end {
            bail!("no consensus: {}", last_words(&relays[0]));
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Waits until every relay is in the consensus as an HSDir. One that two
/// consensuses in a row leave out has failed to upload: it starts again.
async fn complete(relays: &[Relay], authority: SocketAddr, end: Instant) -> Result<()> {
    let mut seen: Option<String> = None;
    loop {
        let consensus = Consensus::download(authority).await.unwrap_or_default();
        let missing = missing(relays, &consensus);
        let Some(first) = missing.first() else { return Ok(()) };
        if Instant::now() >= end {
            let names: Vec<&str> = missing.iter().map(|relay| relay.nickname()).collect();
            bail!("not in the consensus as HSDir: {names:?}; {}", last_words(first));
        }
        let new =
            !consensus.valid_after.is_empty() && seen.as_ref() != Some(&consensus.valid_after);
        if new && seen.replace(consensus.valid_after.clone()).is_some() {
            for relay in missing.iter().filter(|r| !consensus.relays.contains_key(r.nickname())) {
                relay.node.restart().await?;
            }
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Waits until every relay knows all of them. (That it has built a circuit of
/// its own, which is what tor means by bootstrapped, may take it minutes.)
async fn informed(relays: &[Relay], end: Instant) -> Result<()> {
    for relay in relays {
        while !relay.node.knows(relays.len()).await.unwrap_or(false) {
            if Instant::now() >= end {
                bail!("does not know all relays: {}", last_words(relay));
            }
            tokio::time::sleep(POLL).await;
        }
    }
    Ok(())
}

fn missing<'a>(relays: &'a [Relay], consensus: &Consensus) -> Vec<&'a Relay> {
    relays.iter().filter(|relay| !consensus.has(relay.nickname(), "HSDir")).collect()
}

fn last_words(relay: &Relay) -> String {
    format!("the last words of {}:\n{}", relay.nickname(), relay.node.tail())
}

/// Removes the consensus that a relay knows, so that it serves none until there
/// is a new one. `diff-cache` holds it, too.
fn forget_consensus(relay: &Relay) -> Result<()> {
    for entry in fs::read_dir(relay.node.dir().join("data"))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name == "diff-cache" {
            fs::remove_dir_all(entry.path())?;
        } else if name.contains("consensus") {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_vote_falls_the_lead_after_now() {
        let now = UNIX_EPOCH + Duration::from_millis(1_000_000_300);
        let voting = voting(Duration::from_secs(20), Duration::from_millis(2200), now);
        // 1000000.3 s + 2.2 s, up to a whole second, + 4 s until the consensus
        let consensus = 1_000_003 + 4;
        assert_eq!((consensus - voting.offset.as_secs()) % 20, 0);
    }
}

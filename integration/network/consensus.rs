//! What does the network's current consensus say?
//!
//! Read from the directory port of an authority, for the start of the network
//! and for tests that wait for a relay to appear or to vanish.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::net::TcpStream;

use super::fetch;

/// The part of a consensus that matters here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Consensus {
    /// From when on it is valid, as it stands there: tells one from the next.
    pub valid_after: String,
    /// How many shared random values it names: two, save after trouble.
    pub shared_random_values: usize,
    /// The flags of each relay, by nickname.
    pub relays: BTreeMap<String, BTreeSet<String>>,
}

impl Consensus {
    /// The consensus that this authority serves; `None` if it has none yet or
    /// does not answer.
    pub async fn download(authority: SocketAddr) -> Option<Consensus> {
        tokio::time::timeout(Duration::from_secs(5), download(authority)).await.ok()?.ok()
    }

    /// Whether the relay is in it with this flag.
    pub fn has(&self, nickname: &str, flag: &str) -> bool {
        self.relays.get(nickname).is_some_and(|flags| flags.contains(flag))
    }

    /// Reads the microdescriptor flavour (dir-spec, section 3.4).
    pub(super) fn parse(text: &str) -> Option<Consensus> {
        let mut consensus = Consensus::default();
        let mut nickname = String::new();
        for line in text.lines() {
            let mut words = line.split(' ');
            match words.next() {
                Some("valid-after") => consensus.valid_after = words.collect::<Vec<_>>().join(" "),
                Some("shared-rand-current-value" | "shared-rand-previous-value") => {
                    consensus.shared_random_values += 1;
                }
                Some("r") => nickname = words.next()?.to_owned(),
                Some("s") => {
                    let flags = words.map(str::to_owned).collect();
                    consensus.relays.insert(nickname.clone(), flags);
                }
                _ => {}
            }
        }
        (!consensus.valid_after.is_empty()).then_some(consensus)
    }
}

async fn download(authority: SocketAddr) -> Result<Consensus> {
    let stream = TcpStream::connect(authority).await?;
    let path = "/tor/status-vote/current/consensus-microdesc";
    let response = fetch::get(stream, &authority.to_string(), path).await?;
    anyhow::ensure!(response.status == 200, "no consensus yet");
    Consensus::parse(&response.text()).context("not a consensus")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_belong_to_the_relay_named_before_them() {
        let text = "network-status-version 3 microdesc\n\
                    valid-after 2026-01-01 00:00:20\n\
                    shared-rand-current-value 3 EEEE\n\
                    r auth0 AAAA 2026-01-01 00:00:00 127.0.0.1 12001 12002\n\
                    m BBBB\n\
                    s Authority Fast HSDir\n\
                    r relay0 CCCC 2026-01-01 00:00:00 127.0.0.1 12004 0\n\
                    s Fast\n";
        let consensus = Consensus::parse(text).unwrap();
        assert_eq!(consensus.valid_after, "2026-01-01 00:00:20");
        assert_eq!(consensus.shared_random_values, 1);
        assert!(consensus.has("auth0", "HSDir"));
        assert!(!consensus.has("relay0", "HSDir"));
        assert!(consensus.has("relay0", "Fast"));
        assert_eq!(Consensus::parse("404 not found"), None);
    }
}

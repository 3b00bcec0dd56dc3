//! When does a time period of onion services change, and who has noticed?
//!
//! Periods are counted on the wall clock (rend-spec-v3, section 2.2.1): when
//! one ends depends on no start of anything. Asked by the network for tests
//! that a change would disturb.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::consensus::Consensus;
use super::node::Node;

/// How many voting intervals C tor takes for a time period on a testing network.
const INTERVALS: u32 = 24;
/// How many intervals after midnight the first period of a day begins: the
/// rounds of a shared random value's first phase, for C tor and Arti alike.
const OFFSET: u32 = 12;

/// How long a period is.
pub fn length(voting_interval: Duration) -> Duration {
    INTERVALS * voting_interval
}

/// How long after multiples of that periods begin.
pub fn offset(voting_interval: Duration) -> Duration {
    OFFSET * voting_interval
}

/// One time period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    /// Its first moment.
    pub begins: SystemTime,
    /// The first moment of the next.
    pub ends: SystemTime,
}

impl Period {
    /// The period of a moment.
    pub fn at(moment: SystemTime, voting_interval: Duration) -> Period {
        let (length, offset) = (length(voting_interval), OFFSET * voting_interval);
        let since = moment.duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(offset);
        let whole = Duration::from_secs(since.as_secs() / length.as_secs() * length.as_secs());
        let into = since - whole;
        Period { begins: moment - into, ends: moment - into + length }
    }

    /// Whether a relay serves a consensus of this period or a later one.
    /// Clients and services, C tor's and Arti's, take a period for over when
    /// they have such a consensus, whatever their clock says.
    pub async fn is_known_to(&self, relay: &Node) -> bool {
        let reply = relay.control("GETINFO dir/status-vote/current/consensus-microdesc").await;
        let consensus = reply.ok().and_then(|reply| Consensus::parse(&reply));
        let valid_after = consensus
            .and_then(|consensus| humantime::parse_rfc3339_weak(&consensus.valid_after).ok());
        valid_after.is_some_and(|valid_after| valid_after >= self.begins)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_of_eight_minutes_change_in_the_fifth_minute_of_eight() {
        let interval = Duration::from_secs(20);
        let at = |seconds| Period::at(UNIX_EPOCH + Duration::from_secs(seconds), interval);
        let change = 60 * (8 * 1000 + 4);
        let began = UNIX_EPOCH + Duration::from_secs(change);
        assert_eq!(at(change).begins, began);
        assert_eq!(at(change + 479), at(change));
        assert_eq!(at(change - 1).ends, began);
        assert_eq!(at(change + 480).begins, at(change).ends);
    }

    #[test]
    fn periods_of_the_public_network_begin_at_noon() {
        let period = Period::at(UNIX_EPOCH + Duration::from_hours(24), Duration::from_hours(1));
        assert_eq!(period.begins, UNIX_EPOCH + Duration::from_hours(12));
        assert_eq!(period.ends, UNIX_EPOCH + Duration::from_hours(36));
    }
}

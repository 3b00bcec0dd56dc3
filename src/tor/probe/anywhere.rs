//! Is anybody there who answers for an address, at any of several points?
//!
//! All are tried at the same time, each once: who wants to know whether a backend
//! has gone has no time to try one after the other.

use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::time::timeout;

use super::meeting::{Meeting, SLOW, meet, rendezvous_point_within};
use super::verdict::{Steps, Verdict};
use crate::tor::network::Network;
use onionbraid_balancer::fact::DialFailure;
use onionbraid_balancer::onion::{IntroPoint, OnionAddress};

/// The meeting at the point that is the first to answer.
///
/// # Errors
///
/// [`DialFailure::Unmet`] only if there is something against every one of them,
/// and our own side is not slow.
pub(crate) async fn meet_at_any(
    network: &Network,
    points: &[IntroPoint],
    address: &OnionAddress,
    within: Duration,
) -> Result<Meeting, DialFailure> {
    let tried = points.iter().map(|point| meet_within(network, point, address, within));
    let mut tried: FuturesUnordered<_> = tried.collect();
    let mut verdicts = Vec::new();
    while let Some(met) = tried.next().await {
        match met {
            Ok(meeting) => return Ok(meeting),
            Err(verdict) => verdicts.push(verdict),
        }
    }
    let is_slow = verdicts.iter().any(Verdict::may_be_slowness)
        && !rendezvous_point_within(network, SLOW).await;
    Err(failure(verdicts, is_slow))
}

async fn meet_within(
    network: &Network,
    point: &IntroPoint,
    address: &OnionAddress,
    within: Duration,
) -> Result<Meeting, Verdict> {
    let mut steps = Steps::default();
    let met = timeout(within, meet(network, point, address, &mut steps)).await;
    met.unwrap_or_else(|_| {
        Err(match steps.acknowledged {
            Some(_) => Verdict::Silent,
            None => Verdict::Inconclusive("circuits are slow to come about".into()),
        })
    })
}

/// What failures at all points say together.
fn failure(verdicts: Vec<Verdict>, is_slow: bool) -> DialFailure {
    let mut said = "no point is known".to_owned();
    for verdict in verdicts {
        match verdict.on_a_network(is_slow) {
            Verdict::Inconclusive(why) => return DialFailure::Inconclusive(why),
            verdict => said = verdict.to_string(),
        }
    }
    DialFailure::Unmet(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_gone_while_one_point_is_in_doubt_or_our_side_is_slow() {
        let lost = || Verdict::UnknownPoint("no such point".into());
        let ours = || Verdict::Inconclusive("no rendezvous point".into());
        let is_unmet =
            |verdicts, is_slow| matches!(failure(verdicts, is_slow), DialFailure::Unmet(_));
        assert!(is_unmet(vec![lost(), Verdict::Silent, lost()], false));
        assert!(is_unmet(vec![lost(), lost()], true));
        assert!(!is_unmet(vec![lost(), Verdict::Silent], true));
        assert!(!is_unmet(vec![lost(), ours(), lost()], false));
    }
}

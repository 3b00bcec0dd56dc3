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
use crate::tor::puzzles::Toil;
use onionbraid_balancer::fact::DialFailure;
use onionbraid_balancer::onion::{IntroPoint, OnionAddress};

/// So long an introduction that was acknowledged must have been waited for to say
/// anything of the backend.
const WAITED: Duration = Duration::from_secs(4);

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
    toil: Option<&Toil>,
    within: Duration,
) -> Result<Meeting, DialFailure> {
    let tried = points.iter().map(|point| meet_within(network, point, address, toil, within));
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
    toil: Option<&Toil>,
    within: Duration,
) -> Result<Meeting, Verdict> {
    let mut steps = Steps::default();
    let met = timeout(within, meet(network, point, address, toil, &mut steps)).await;
    met.unwrap_or_else(|_| Err(silence(&steps, within)))
}

/// What it means that nobody has come in this time: nothing, where most of it went
/// into what we did ourselves.
fn silence(steps: &Steps, within: Duration) -> Verdict {
    let slow = || Verdict::Inconclusive("circuits are slow to come about".into());
    let (Some(rendezvous), Some(circuit), Some(acknowledged)) =
        (steps.rendezvous_point, steps.circuit, steps.acknowledged)
    else {
        return slow();
    };
    // One after the other.
    let ours = rendezvous + circuit + steps.puzzle.unwrap_or_default() + acknowledged;
    if within.saturating_sub(ours) < WAITED { slow() } else { Verdict::Silent }
}

/// What failures at all points say together. A relay refuses for a point that is
/// lost, and for one that somebody floods. Where there is no circuit to a relay, that is
/// the relay's doing or ours: the backend may be well.
fn failure(verdicts: Vec<Verdict>, is_slow: bool) -> DialFailure {
    let all_refused = verdicts.iter().all(|it| matches!(it, Verdict::UnknownPoint(_)));
    let mut said = "no point is known".to_owned();
    for verdict in verdicts {
        match verdict.on_a_network(is_slow) {
            Verdict::Inconclusive(why) => return DialFailure::Inconclusive(why),
            verdict @ Verdict::NoCircuit(_) => {
                return DialFailure::Inconclusive(verdict.to_string());
            }
            verdict => said = verdict.to_string(),
        }
    }
    if all_refused { DialFailure::Refused(said) } else { DialFailure::Unmet(said) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_counts_only_if_the_time_did_not_go_into_our_own_circuits() {
        let seconds = Duration::from_secs;
        let after = |rendezvous, circuit, acknowledged| {
            let steps = Steps {
                rendezvous_point: Some(seconds(rendezvous)),
                circuit: Some(seconds(circuit)),
                acknowledged: Some(seconds(acknowledged)),
                ..Steps::default()
            };
            silence(&steps, seconds(8))
        };
        assert_eq!(after(1, 1, 1), Verdict::Silent);
        assert!(matches!(after(2, 2, 1), Verdict::Inconclusive(_)));
        let solved = Steps {
            rendezvous_point: Some(seconds(1)),
            circuit: Some(seconds(1)),
            puzzle: Some(seconds(2)),
            acknowledged: Some(seconds(1)),
            ..Steps::default()
        };
        assert!(matches!(silence(&solved, seconds(8)), Verdict::Inconclusive(_)));
        assert!(matches!(after(5, 1, 0), Verdict::Inconclusive(_)));
        assert!(matches!(after(1, 3, 2), Verdict::Inconclusive(_)));
        assert!(matches!(silence(&Steps::default(), seconds(8)), Verdict::Inconclusive(_)));
    }

    #[test]
    fn nobody_is_gone_while_one_point_is_in_doubt_or_our_side_is_slow() {
        let lost = || Verdict::UnknownPoint("no such point".into());
        let ours = || Verdict::Inconclusive("no rendezvous point".into());
        let is_unmet =
            |verdicts, is_slow| matches!(failure(verdicts, is_slow), DialFailure::Unmet(_));
        assert!(is_unmet(vec![lost(), Verdict::Silent, lost()], false));
        assert!(is_unmet(vec![Verdict::Silent, lost()], false));
        let refused = failure(vec![lost(), lost()], true);
        assert!(matches!(refused, DialFailure::Refused(_)), "{refused}");
        assert!(!is_unmet(vec![lost(), Verdict::Silent], true));
        assert!(!is_unmet(vec![lost(), ours(), lost()], false));
        let no_circuit = || Verdict::NoCircuit("no circuit within a minute".into());
        assert!(!is_unmet(vec![lost(), no_circuit(), Verdict::Silent], false));
        let failed = failure(vec![no_circuit(), no_circuit()], false);
        assert!(matches!(failed, DialFailure::Inconclusive(_)), "{failed}");
    }
}

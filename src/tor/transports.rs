//! What keeps bridges from being reached that stand behind pluggable transports?
//!
//! Connections to them are opened by a program of the operator's, so that what
//! becomes of TCP is not seen here: Arti is asked for its channel to each bridge
//! while there is trouble, as it asks itself.

use std::collections::BTreeSet;
use std::error::Error;
use std::time::{Duration, Instant};

use tor_chanmgr::{ChanMgr, ChannelUsage};
use tor_linkspec::{ChannelMethod, HasAddrs as _, HasChanMethod as _, OwnedChanTarget};

use super::attempts::Runtime;
use super::diagnosis::Unreached;
use crate::causes::{chain, in_one_line};
use crate::clock::now;

/// How often bridges are asked.
const ASK_EVERY: Duration = Duration::from_secs(15);

/// So many at a time, ...
const ASKED_AT_ONCE: usize = 4;

/// ... and for no longer.
const ANSWER_WITHIN: Duration = Duration::from_secs(8);

/// What was learned of bridges behind transports.
#[derive(Debug, Default)]
pub(super) struct Transports {
    asked: Option<Instant>,
    unreached: Option<Unreached>,
}

impl Transports {
    /// Asks some of these bridges where it `is_due`: while Tor works, nobody is asked.
    pub(super) async fn look(
        &mut self,
        bridges: &[OwnedChanTarget],
        channels: Option<&ChanMgr<Runtime>>,
        is_due: bool,
    ) {
        let (Some(channels), true) = (channels.filter(|_| !bridges.is_empty()), is_due) else {
            *self = Self::default();
            return;
        };
        let at = now().monotonic;
        if self.asked.is_some_and(|asked| at.saturating_duration_since(asked) < ASK_EVERY) {
            return;
        }
        let asked = bridges.iter().take(ASKED_AT_ONCE);
        let answers = futures::future::join_all(asked.map(|bridge| ask(channels, bridge))).await;
        self.asked = Some(now().monotonic);
        self.unreached = summary(answers);
    }

    /// What is wrong, as of the last time that they were asked.
    pub(super) fn unreached(&self) -> Option<Unreached> {
        self.unreached.clone()
    }
}

/// What came of one bridge; `None`: it answers.
async fn ask(channels: &ChanMgr<Runtime>, bridge: &OwnedChanTarget) -> Option<Unreached> {
    let channel = channels.get_or_launch(bridge, ChannelUsage::UselessCircuit);
    let ports = bridge.addrs().map(|address| address.port()).collect();
    let unreached = Unreached::Bridges { tried: 1, ports };
    match tokio::time::timeout(ANSWER_WITHIN, channel).await {
        Ok(Ok(_)) => None,
        Ok(Err(tor_chanmgr::Error::Pt(error))) => {
            let error = error.as_ref();
            tracing::debug!(error = %in_one_line(error), "no transport");
            let ChannelMethod::Pluggable(target) = bridge.chan_method() else {
                return Some(unreached);
            };
            let transport = target.transport().to_string();
            Some(Unreached::Program { transport, error: program_error(error) })
        }
        Ok(Err(error)) => {
            tracing::debug!(error = %in_one_line(&error), "no channel to a bridge");
            Some(unreached)
        }
        Err(_) => Some(unreached),
    }
}

/// What is wrong with a program, in the system's words where it has some.
fn program_error(error: &(dyn Error + 'static)) -> String {
    let of_system = chain(error).find_map(|cause| {
        let shared = cause.downcast_ref::<std::sync::Arc<std::io::Error>>().map(AsRef::as_ref);
        cause.downcast_ref::<std::io::Error>().or(shared)
    });
    of_system.map_or_else(|| in_one_line(error), ToString::to_string)
}

/// What is wrong with all of them together; nothing where one answers.
fn summary(answers: Vec<Option<Unreached>>) -> Option<Unreached> {
    let answers: Vec<Unreached> = answers.into_iter().collect::<Option<_>>()?;
    let (mut tried, mut ports) = (0, BTreeSet::new());
    let mut program = None;
    for answer in answers {
        match answer {
            Unreached::Program { .. } => program = Some(answer),
            Unreached::Bridges { tried: more, ports: at } => {
                tried += more;
                ports.extend(at);
            }
        }
    }
    program.or((tried > 0).then_some(Unreached::Bridges { tried, ports }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unreached(port: u16) -> Option<Unreached> {
        Some(Unreached::Bridges { tried: 1, ports: [port].into() })
    }

    #[test]
    fn one_bridge_that_answers_is_enough_and_a_program_that_fails_is_told_first() {
        assert_eq!(summary(vec![unreached(443), None]), None);
        let both = Unreached::Bridges { tried: 2, ports: [80, 443].into() };
        assert_eq!(summary(vec![unreached(443), unreached(80)]), Some(both));
        let program = Unreached::Program { transport: "obfs4".into(), error: "it is gone".into() };
        assert_eq!(summary(vec![unreached(443), Some(program.clone())]), Some(program));
    }
}

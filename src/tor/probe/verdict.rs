//! What a probe has found, and what that says of the point.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use onionbraid_balancer::fact::ProbeFailure;

/// How long each step of a probe took; `None` if it was not reached or failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Steps {
    /// A circuit to a rendezvous point that has agreed to be one.
    pub rendezvous_point: Option<Duration>,
    /// A circuit to the introduction point's relay.
    pub circuit: Option<Duration>,
    /// The solution of a puzzle, where we do work.
    #[serde(skip)]
    pub puzzle: Option<Duration>,
    /// From INTRODUCE1 to INTRODUCE_ACK.
    pub acknowledged: Option<Duration>,
    /// From INTRODUCE_ACK to RENDEZVOUS2: the backend at work.
    pub met: Option<Duration>,
    /// From BEGIN to CONNECTED: the backend and its origin.
    pub stream: Option<Duration>,
    /// From the request to the status of its answer.
    pub answer: Option<Duration>,
}

/// What a probe means for the point and its backend.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum Verdict {
    /// Everything that was asked for has worked.
    #[error("answers")]
    Answers,
    /// It failed on our side of the network: nothing is known of the point.
    #[error("not known: {0}")]
    Inconclusive(String),
    /// The point's relay cannot be reached, or does not take introductions.
    #[error("relay not reached: {0}")]
    NoCircuit(String),
    /// The relay has no circuit from the backend with this point, since the
    /// backend is gone or has moved on to other points; or it has one, and lets
    /// no more introductions through for now (proposal 305).
    #[error("the relay does not know the point ({0})")]
    UnknownPoint(String),
    /// The relay has passed the introduction on, and nobody came: the backend
    /// hangs, cannot build circuits or, if its own address was not tried, does
    /// not answer for this one.
    #[error("no answer to the introduction")]
    Silent,
    /// Nobody came for this address, but for the backend's own one.
    #[error("does not answer for this address, only for its own")]
    NotForThisAddress,
    /// Somebody came and could not prove to be the backend.
    #[error("wrong answer to the introduction: {0}")]
    WrongAnswer(String),
    /// The backend has met us and refuses the stream.
    #[error("port closed: {0}")]
    Refused(StreamRefusal),
    /// The backend has met us and lets the stream wait.
    #[error("port silent: no answer to the stream")]
    StreamSilent,
    /// The server behind the port answers the request with another status than
    /// the wanted one.
    #[error("wrong answer to the request: status {0}")]
    WrongStatus(u16),
    /// The server behind the port gives no answer to the request that is HTTP.
    #[error("no answer to the request: {0}")]
    NoHttp(String),
}

/// Why a backend refuses a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StreamRefusal {
    /// It offers no such port (END with the reason DONE, as C tor answers).
    NoSuchPort,
    /// Its origin does not answer, in the words of the END's reason.
    Origin(String),
    /// The circuit broke instead of an answer.
    Broken(String),
}

impl fmt::Display for StreamRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchPort => f.write_str("the backend offers no such port"),
            Self::Origin(reason) => write!(f, "its origin does not answer ({reason})"),
            Self::Broken(error) => write!(f, "the circuit broke ({error})"),
        }
    }
}

impl Verdict {
    /// What it means to who decides on the point and its backend.
    ///
    /// A stream that was refused or an answer that was wrong is the fault of
    /// the application, which every point of the backend leads to. A circuit
    /// that broke when a stream was to open is held against the point: a client
    /// would not have been served there, and would not know why either.
    ///
    /// # Errors
    ///
    /// Every verdict but [`Verdict::Answers`].
    pub fn outcome(&self) -> Result<(), ProbeFailure> {
        let said = || self.to_string();
        Err(match self {
            Self::Answers => return Ok(()),
            Self::Inconclusive(why) => ProbeFailure::Inconclusive(why.clone()),
            Self::UnknownPoint(_) => ProbeFailure::Refused(said()),
            Self::NoCircuit(_)
            | Self::Silent
            | Self::NotForThisAddress
            | Self::WrongAnswer(_)
            | Self::Refused(StreamRefusal::Broken(_)) => ProbeFailure::Point(said()),
            Self::Refused(StreamRefusal::NoSuchPort | StreamRefusal::Origin(_))
            | Self::StreamSilent
            | Self::WrongStatus(_)
            | Self::NoHttp(_) => ProbeFailure::Application(said()),
        })
    }

    /// Whether nothing has come, or not in time: from a dead backend as over a slow
    /// network.
    pub(super) fn may_be_slowness(&self) -> bool {
        matches!(
            self,
            Self::NoCircuit(_)
                | Self::Silent
                | Self::StreamSilent
                | Self::Refused(StreamRefusal::Broken(_))
        )
    }

    /// What it says where our own side `is_slow`: how long we had to wait for a
    /// relay that has nothing to do with the point. How slow the point's own relay
    /// is does not excuse it, for its backend has chosen that.
    pub(super) fn on_a_network(self, is_slow: bool) -> Self {
        match is_slow && self.may_be_slowness() {
            true => Self::Inconclusive(format!("{self}, while our own side is slow")),
            false => self,
        }
    }

    /// Whether one bad circuit is enough to come to it. The relays between us
    /// and the point fail by chance, and say nothing of it.
    pub(super) fn may_be_chance(&self) -> bool {
        matches!(
            self,
            Self::Inconclusive(_) | Self::NoCircuit(_) | Self::Refused(StreamRefusal::Broken(_))
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_condemns_nobody_while_our_own_side_is_slow_and_an_answer_always_counts() {
        let silences = [
            Verdict::NoCircuit("no circuit within a minute".into()),
            Verdict::Silent,
            Verdict::StreamSilent,
            Verdict::Refused(StreamRefusal::Broken("it broke".into())),
        ];
        for verdict in silences {
            assert_eq!(verdict.clone().on_a_network(false), verdict);
            let slow = verdict.on_a_network(true).outcome();
            assert!(matches!(slow, Err(ProbeFailure::Inconclusive(_))), "{slow:?}");
        }
        let answers = [
            Verdict::Answers,
            Verdict::UnknownPoint("no such point".into()),
            Verdict::NotForThisAddress,
            Verdict::WrongAnswer("keys".into()),
            Verdict::Refused(StreamRefusal::NoSuchPort),
            Verdict::WrongStatus(503),
        ];
        for verdict in answers {
            assert_eq!(verdict.clone().on_a_network(true), verdict);
        }
    }

    #[test]
    fn what_fails_before_the_backend_comes_is_the_points_fault_and_after_it_the_applications() {
        let text = String::new;
        let points = [
            Verdict::NoCircuit(text()),
            Verdict::Silent,
            Verdict::NotForThisAddress,
            Verdict::WrongAnswer(text()),
            Verdict::Refused(StreamRefusal::Broken(text())),
        ];
        for verdict in points {
            assert!(matches!(verdict.outcome(), Err(ProbeFailure::Point(_))), "{verdict:?}");
        }
        let applications = [
            Verdict::Refused(StreamRefusal::NoSuchPort),
            Verdict::Refused(StreamRefusal::Origin(text())),
            Verdict::StreamSilent,
            Verdict::WrongStatus(503),
            Verdict::NoHttp(text()),
        ];
        for verdict in applications {
            assert!(matches!(verdict.outcome(), Err(ProbeFailure::Application(_))), "{verdict:?}");
        }
        let refused = Verdict::UnknownPoint(text());
        assert!(matches!(refused.outcome(), Err(ProbeFailure::Refused(_))));
        let unknown = Verdict::Inconclusive("no directory".into());
        assert_eq!(unknown.outcome(), Err(ProbeFailure::Inconclusive("no directory".into())));
        assert_eq!(Verdict::Answers.outcome(), Ok(()));
    }
}

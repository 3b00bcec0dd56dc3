//! Does an introduction point answer for an address, end to end through Tor?
//!
//! One probe does what a client of the address would do at one point: it
//! introduces itself, waits to be met, and if wanted opens a stream and asks
//! for a page. It runs on circuits of its own, never on one that served another
//! probe or anything else, and repeats only what chance can spoil; when and how
//! often to probe, others decide.

mod meeting;
mod replies;
mod request;

use std::fmt;
use std::pin::pin;
use std::time::Duration;

use futures::future::{Either, select};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, timeout};

use onionbraid_balancer::fact::ProbeFailure;
use onionbraid_balancer::onion::{IntroPoint, OnionAddress};

use super::network::Network;
use meeting::rendezvous_point_within;
pub(crate) use meeting::{Meeting, meet};
pub use request::Request;

/// How long a probe may take: enough to find out twice that there is no circuit
/// to a relay, each time within a minute.
const WITHIN: Duration = Duration::from_secs(150);

/// When a probe that nobody has answered yet asks itself whether anybody will.
/// Most are over after a second, few of those that succeed after so many.
const DOUBT: Duration = Duration::from_secs(5);

/// How long that may take beyond the silence itself.
const MEANING_WITHIN: Duration = Duration::from_secs(15);

/// A rendezvous point, at a relay of our own choice, is there within a second or
/// two. Where that takes longer, our own side of the network is slow, and whoever
/// is silent may only be late.
const SLOW: Duration = Duration::from_secs(5);

/// What a probe shall find out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The address that a client would connect to.
    pub address: OnionAddress,
    /// The address of the backend that has the point, if it has one of its
    /// own: tells a backend that is dead from one that is not told to answer
    /// for `address`.
    pub backend: Option<OnionAddress>,
    /// The port to open a stream to; `None` ends with the meeting.
    pub port: Option<u16>,
    /// What to ask for on that stream; `None`: it is enough that it opens.
    pub request: Option<Request>,
}

/// What a probe has found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// What it means.
    pub verdict: Verdict,
    /// How long the steps took that succeeded.
    pub steps: Steps,
}

/// How long each step of a probe took; `None` if it was not reached or failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Steps {
    /// A circuit to a rendezvous point that has agreed to be one.
    pub rendezvous_point: Option<Duration>,
    /// A circuit to the introduction point's relay.
    pub circuit: Option<Duration>,
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
    Refused(Refusal),
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
pub enum Refusal {
    /// It offers no such port (END with the reason DONE, as C tor answers).
    NoSuchPort,
    /// Its origin does not answer, in the words of the END's reason.
    Origin(String),
    /// The circuit broke instead of an answer.
    Broken(String),
}

impl fmt::Display for Refusal {
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
            | Self::Refused(Refusal::Broken(_)) => ProbeFailure::Point(said()),
            Self::Refused(Refusal::NoSuchPort | Refusal::Origin(_))
            | Self::StreamSilent
            | Self::WrongStatus(_)
            | Self::NoHttp(_) => ProbeFailure::Application(said()),
        })
    }

    /// Whether nothing has come, or not in time: from a dead backend as over a slow
    /// network.
    fn may_be_slowness(&self) -> bool {
        matches!(
            self,
            Self::NoCircuit(_)
                | Self::Silent
                | Self::StreamSilent
                | Self::Refused(Refusal::Broken(_))
        )
    }

    /// What it says where our own side `is_slow`: how long we had to wait for a
    /// relay that has nothing to do with the point. How slow the point's own relay
    /// is does not excuse it, for its backend has chosen that.
    fn on_a_network(self, is_slow: bool) -> Self {
        match is_slow && self.may_be_slowness() {
            true => Self::Inconclusive(format!("{self}, while our own side is slow")),
            false => self,
        }
    }

    /// Whether one bad circuit is enough to come to it. The relays between us
    /// and the point fail by chance, and say nothing of it.
    fn may_be_chance(&self) -> bool {
        matches!(
            self,
            Self::Inconclusive(_) | Self::NoCircuit(_) | Self::Refused(Refusal::Broken(_))
        )
    }
}

/// Introduces itself at one point and says what came of it; once more, on other
/// circuits, where that may be chance.
///
/// Each step has a limit: where all is well a probe takes about a second, where
/// nobody answers little more than half a minute, and never more than two and a
/// half.
pub async fn probe(network: &Network, point: &IntroPoint, question: &Question) -> Probe {
    let mut steps = Steps::default();
    let verdict = timeout(WITHIN, verdict(network, point, question, &mut steps)).await;
    let late = || Verdict::Inconclusive("no verdict within two and a half minutes".into());
    let verdict = verdict.unwrap_or_else(|_| late());
    if !verdict.may_be_slowness() {
        return Probe { verdict, steps };
    }
    let was_slow = steps.rendezvous_point.is_some_and(|took| took >= SLOW);
    let is_slow = was_slow || !rendezvous_point_within(network, SLOW).await;
    Probe { verdict: verdict.on_a_network(is_slow), steps }
}

async fn verdict(
    network: &Network,
    point: &IntroPoint,
    question: &Question,
    steps: &mut Steps,
) -> Verdict {
    let mut outcome = knock(network, point, question, steps).await;
    if outcome.as_ref().is_err_and(Verdict::may_be_chance) {
        *steps = Steps::default();
        outcome = knock(network, point, question, steps).await;
    }
    outcome.err().unwrap_or(Verdict::Answers)
}

/// One introduction, and what is wanted after it.
async fn knock(
    network: &Network,
    point: &IntroPoint,
    question: &Question,
    steps: &mut Steps,
) -> Result<(), Verdict> {
    let meeting = met(network, point, question, steps).await?;
    let Some(port) = question.port else { return Ok(()) };
    let mut open = meeting.open(port, steps).await?;
    if let Some(request) = &question.request {
        let started = Instant::now();
        request::ask(&mut open.stream, request).await?;
        steps.answer = Some(started.elapsed());
    }
    Ok(())
}

/// The meeting; where nobody comes, what that means. While it is waited for,
/// the same introduction is tried for the backend's own address.
async fn met(
    network: &Network,
    point: &IntroPoint,
    question: &Question,
    steps: &mut Steps,
) -> Result<Meeting, Verdict> {
    let asked = pin!(meet(network, point, &question.address, steps));
    let Some(own) = question.backend else { return asked.await };
    let itself = pin!(async {
        sleep(DOUBT).await;
        answers_for_itself(network, point, own).await
    });
    match select(asked, itself).await {
        Either::Left((Err(Verdict::Silent), itself)) => {
            Err(timeout(MEANING_WITHIN, itself).await.unwrap_or(Verdict::Silent))
        }
        Either::Left((outcome, _)) => outcome,
        Either::Right((meaning, asked)) => match asked.await {
            Err(Verdict::Silent) => Err(meaning),
            outcome => outcome,
        },
    }
}

/// What silence means: the same introduction for the backend's own address.
async fn answers_for_itself(network: &Network, point: &IntroPoint, own: OnionAddress) -> Verdict {
    match meet(network, point, &own, &mut Steps::default()).await {
        Ok(_) => Verdict::NotForThisAddress,
        // The relay has noticed in the meantime.
        Err(Verdict::UnknownPoint(status)) => Verdict::UnknownPoint(status),
        Err(_) => Verdict::Silent,
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
            Verdict::Refused(Refusal::Broken("it broke".into())),
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
            Verdict::Refused(Refusal::NoSuchPort),
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
            Verdict::Refused(Refusal::Broken(text())),
        ];
        for verdict in points {
            assert!(matches!(verdict.outcome(), Err(ProbeFailure::Point(_))), "{verdict:?}");
        }
        let applications = [
            Verdict::Refused(Refusal::NoSuchPort),
            Verdict::Refused(Refusal::Origin(text())),
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

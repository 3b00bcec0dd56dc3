//! Does an introduction point answer for an address, end to end through Tor?
//!
//! One probe does what a client of the address would do at one point: it
//! introduces itself, waits to be met, and if wanted opens a stream. It runs
//! on circuits of its own, tries once and reports; when and how often, others
//! decide. What is done with an open stream is the caller's business.

mod meeting;
mod replies;

use std::fmt;
use std::time::Duration;

use crate::onion::{IntroPoint, OnionAddress};

use super::network::Network;
pub(crate) use meeting::meet;

/// What a probe shall find out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// The address that a client would connect to.
    pub address: OnionAddress,
    /// The address of the backend that has the point, if it has one of its
    /// own: tells a backend that is dead from one that is not told to answer
    /// for `address`.
    pub backend: Option<OnionAddress>,
    /// The port to open a stream to; `None` ends with the meeting.
    pub port: Option<u16>,
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
}

/// What a probe means for the point and its backend.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
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
    /// The relay has no circuit from the backend with this point: the backend
    /// is gone, or has moved on to other points.
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
}

/// Why a backend refuses a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
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

/// Introduces itself at one point, once, and says what came of it.
///
/// Each step has a limit: where all is well a probe takes about a second, where
/// nobody answers one minute, and never more than six.
pub async fn probe(network: &Network, point: &IntroPoint, question: &Question) -> Probe {
    let mut steps = Steps::default();
    let verdict = match knock(network, point, &question.address, question.port, &mut steps).await {
        Ok(()) => Verdict::Answers,
        Err(Verdict::Silent) => match &question.backend {
            Some(own) => answers_for_itself(network, point, own).await,
            None => Verdict::Silent,
        },
        Err(verdict) => verdict,
    };
    Probe { verdict, steps }
}

/// One introduction, for one address.
async fn knock(
    network: &Network,
    point: &IntroPoint,
    address: &OnionAddress,
    port: Option<u16>,
    steps: &mut Steps,
) -> Result<(), Verdict> {
    let meeting = meet(network, point, address, steps).await?;
    if let Some(port) = port {
        drop(meeting.open(port, steps).await?);
    }
    Ok(())
}

/// What silence means: the same introduction for the backend's own address.
async fn answers_for_itself(network: &Network, point: &IntroPoint, own: &OnionAddress) -> Verdict {
    match knock(network, point, own, None, &mut Steps::default()).await {
        Ok(()) => Verdict::NotForThisAddress,
        // The relay has noticed in the meantime.
        Err(Verdict::UnknownPoint(status)) => Verdict::UnknownPoint(status),
        Err(_) => Verdict::Silent,
    }
}

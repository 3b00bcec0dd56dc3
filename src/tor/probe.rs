//! Does an introduction point answer for an address, end to end through Tor?
//!
//! One probe does what a client of the address would do at one point: it
//! introduces itself, waits to be met, and if wanted opens a stream and asks
//! for a page. It runs on circuits of its own, never on one that served another
//! probe or anything else, and repeats only what chance can spoil; when and how
//! often to probe, others decide.

mod anywhere;
mod handshake;
mod meeting;
mod replies;
mod request;
mod verdict;

use std::pin::pin;
use std::time::Duration;

use futures::future::{Either, select};
use tokio::time::{Instant, sleep, timeout};

use onionbraid_balancer::onion::{IntroPoint, OnionAddress};

use super::network::Network;
use super::puzzles::Toil;
pub(crate) use anywhere::meet_at_any;
pub(crate) use meeting::{Meeting, OpenStream, meet};
use meeting::{SLOW, rendezvous_point_within};
pub use request::Request;
pub use verdict::{Steps, StreamRefusal, Verdict};

/// How long a probe may take: enough to find out twice that there is no circuit
/// to a relay, each time within a minute.
const WITHIN: Duration = Duration::from_secs(150);

/// When a probe that nobody has answered yet asks itself whether anybody will.
/// Most are over after a second, few of those that succeed after so many.
const DOUBT: Duration = Duration::from_secs(5);

/// How long that may take beyond the silence itself.
const MEANING_WITHIN: Duration = Duration::from_secs(15);

/// What a probe shall find out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeQuestion {
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
pub struct ProbeFinding {
    /// What it means.
    pub verdict: Verdict,
    /// How long the steps took that succeeded.
    pub steps: Steps,
}

/// Introduces itself at one point and says what came of it; once more, on other
/// circuits, where that may be chance.
///
/// Each step has a limit: where all is well a probe takes about a second, where
/// nobody answers little more than half a minute, and never more than two and a
/// half.
pub async fn probe(
    network: &Network,
    point: &IntroPoint,
    question: &ProbeQuestion,
) -> ProbeFinding {
    probe_with_work(network, point, question, None).await
}

/// The same as a client that has done work for each introduction.
pub(crate) async fn probe_with_work(
    network: &Network,
    point: &IntroPoint,
    question: &ProbeQuestion,
    toil: Option<&Toil>,
) -> ProbeFinding {
    let mut steps = Steps::default();
    let verdict = timeout(WITHIN, verdict(network, point, question, toil, &mut steps)).await;
    let late = || Verdict::Inconclusive("no verdict within two and a half minutes".into());
    let verdict = verdict.unwrap_or_else(|_| late());
    if !verdict.may_be_slowness() {
        return ProbeFinding { verdict, steps };
    }
    let was_slow = steps.rendezvous_point.is_some_and(|took| took >= SLOW);
    let is_slow = was_slow || !rendezvous_point_within(network, SLOW).await;
    ProbeFinding { verdict: verdict.on_a_network(is_slow), steps }
}

async fn verdict(
    network: &Network,
    point: &IntroPoint,
    question: &ProbeQuestion,
    toil: Option<&Toil>,
    steps: &mut Steps,
) -> Verdict {
    let mut outcome = knock(network, point, question, toil, steps).await;
    if outcome.as_ref().is_err_and(Verdict::may_be_chance) {
        *steps = Steps::default();
        outcome = knock(network, point, question, toil, steps).await;
    }
    outcome.err().unwrap_or(Verdict::Answers)
}

/// One introduction, and what is wanted after it.
async fn knock(
    network: &Network,
    point: &IntroPoint,
    question: &ProbeQuestion,
    toil: Option<&Toil>,
    steps: &mut Steps,
) -> Result<(), Verdict> {
    let meeting = met(network, point, question, toil, steps).await?;
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
    question: &ProbeQuestion,
    toil: Option<&Toil>,
    steps: &mut Steps,
) -> Result<Meeting, Verdict> {
    let asked = pin!(meet(network, point, &question.address, toil, steps));
    let Some(own) = question.backend else { return asked.await };
    let itself = pin!(async {
        sleep(DOUBT).await;
        answers_for_itself(network, point, own, toil).await
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
async fn answers_for_itself(
    network: &Network,
    point: &IntroPoint,
    own: OnionAddress,
    toil: Option<&Toil>,
) -> Verdict {
    match meet(network, point, &own, toil, &mut Steps::default()).await {
        Ok(_) => Verdict::NotForThisAddress,
        // The relay has noticed in the meantime.
        Err(Verdict::UnknownPoint(status)) => Verdict::UnknownPoint(status),
        Err(_) => Verdict::Silent,
    }
}

//! What do several tries at one introduction point prove?
//!
//! One silence proves nothing: a relay on the way, or the backend's circuit to
//! the rendezvous point, may have been slow, and a relay that limits
//! introductions says the same as one that has lost the point. So a point is
//! tried again on fresh circuits while that could change the verdict, and it
//! fails only if something else answered meanwhile: otherwise the trouble may be
//! on this side of the network. Sends nothing itself: how to try is an argument.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};

use crate::tor::probe::{ProbeFinding, StreamRefusal, Verdict};

/// How often a point is tried before it counts as failing, and how long to wait
/// before each try after the first: a relay that limits introductions lets some
/// through again after a second or so.
const PAUSES: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(6)];

/// Whether a point is known to work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PointStanding {
    /// A client would have been served.
    Answers,
    /// It did not answer, and nothing proves that this is its fault.
    InDoubt,
    /// It did not answer in several tries, while something else did; or its
    /// backend answered and refused what was asked.
    Fails,
}

/// What was found out about one point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FoundPoint {
    /// The last try.
    pub(super) probe: ProbeFinding,
    /// How many there were, from 1.
    pub(super) tries: usize,
    /// What they prove.
    pub(super) standing: PointStanding,
}

/// Tries one point once, on fresh circuits.
pub(super) type Try<'a> = Box<dyn Fn() -> BoxFuture<'a, ProbeFinding> + Send + Sync + 'a>;

/// The tries of one inquiry: how many at a time, and who has answered.
pub(super) struct Tries<'a> {
    at_once: Semaphore,
    /// When a backend last met us, and how to ask there again.
    witness: Mutex<Witness<'a>>,
}

/// The moment of an answer, and how to try that point again.
type Witness<'a> = Option<(Instant, Arc<Try<'a>>)>;

impl<'a> Tries<'a> {
    /// At most so many at a time, of all points together.
    pub(super) fn new(at_once: usize) -> Self {
        Self { at_once: Semaphore::new(at_once), witness: Mutex::default() }
    }

    /// Tries a point until one more try would change nothing.
    pub(super) async fn at(&self, one: Try<'a>) -> FoundPoint {
        let one = Arc::new(one);
        let begun = Instant::now();
        let mut tries = 0;
        let mut pauses = PAUSES.into_iter();
        loop {
            let probe = self.turn(&one).await;
            tries += 1;
            let standing = match &probe.verdict {
                Verdict::Answers => PointStanding::Answers,
                verdict if !may_change(verdict) => PointStanding::Fails,
                verdict => match pauses.next() {
                    Some(pause) => {
                        sleep(pause).await;
                        continue;
                    }
                    None if matches!(verdict, Verdict::Inconclusive(_)) => PointStanding::InDoubt,
                    None if self.somebody_answered_since(begun).await => PointStanding::Fails,
                    None => PointStanding::InDoubt,
                },
            };
            return FoundPoint { probe, tries, standing };
        }
    }

    /// One try, in its turn.
    async fn turn(&self, one: &Arc<Try<'a>>) -> ProbeFinding {
        let probe = in_turn(&self.at_once, one()).await;
        if has_met(&probe.verdict) {
            *self.witness.lock() = Some((Instant::now(), Arc::clone(one)));
        }
        probe
    }

    /// Whether another point has answered since, or answers now.
    async fn somebody_answered_since(&self, begun: Instant) -> bool {
        let witness = self.witness.lock().clone();
        match witness {
            None => false,
            Some((at, _)) if at >= begun => true,
            Some((_, one)) => has_met(&self.turn(&one).await.verdict),
        }
    }
}

/// Does something once it is its turn.
pub(super) async fn in_turn<T>(at_once: &Semaphore, work: impl Future<Output = T>) -> T {
    // Nobody closes the semaphore.
    let _turn = at_once.acquire().await;
    work.await
}

/// Whether one more try could come to another verdict.
fn may_change(verdict: &Verdict) -> bool {
    match verdict {
        Verdict::Inconclusive(_)
        | Verdict::NoCircuit(_)
        | Verdict::UnknownPoint(_)
        | Verdict::Silent
        | Verdict::NotForThisAddress
        | Verdict::WrongAnswer(_)
        | Verdict::Refused(StreamRefusal::Broken(_))
        | Verdict::StreamSilent
        | Verdict::NoHttp(_) => true,
        // The backend and its server have spoken.
        Verdict::Answers
        | Verdict::Refused(StreamRefusal::NoSuchPort | StreamRefusal::Origin(_))
        | Verdict::WrongStatus(_) => false,
    }
}

/// Whether a backend came to the rendezvous point and proved its identity.
fn has_met(verdict: &Verdict) -> bool {
    match verdict {
        Verdict::Answers
        | Verdict::Refused(StreamRefusal::NoSuchPort | StreamRefusal::Origin(_))
        | Verdict::StreamSilent
        | Verdict::WrongStatus(_)
        | Verdict::NoHttp(_) => true,
        Verdict::Inconclusive(_)
        | Verdict::NoCircuit(_)
        | Verdict::UnknownPoint(_)
        | Verdict::Silent
        | Verdict::NotForThisAddress
        | Verdict::WrongAnswer(_)
        | Verdict::Refused(StreamRefusal::Broken(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::FutureExt as _;

    use super::*;
    use crate::tor::probe::Steps;

    /// A point that gives these verdicts, each after so many seconds; the last
    /// one again and again.
    fn point(seconds: u64, verdicts: Vec<Verdict>) -> Try<'static> {
        let next = AtomicUsize::new(0);
        Box::new(move || {
            let at = next.fetch_add(1, Ordering::SeqCst).min(verdicts.len() - 1);
            let verdict = verdicts[at].clone();
            async move {
                sleep(Duration::from_secs(seconds)).await;
                ProbeFinding { verdict, steps: Steps::default() }
            }
            .boxed()
        })
    }

    fn nack() -> Verdict {
        Verdict::UnknownPoint("NOT_RECOGNIZED".into())
    }

    async fn beside_a_good_one(verdicts: Vec<Verdict>) -> (PointStanding, usize) {
        let tries = Tries::new(4);
        let good = tries.at(point(1, vec![Verdict::Answers]));
        let (good, found) = futures::join!(good, tries.at(point(30, verdicts)));
        assert_eq!((good.standing, good.tries), (PointStanding::Answers, 1));
        (found.standing, found.tries)
    }

    #[tokio::test(start_paused = true)]
    async fn one_silence_or_refusal_of_the_relay_condemns_no_live_point() {
        let chance = [
            Verdict::Silent,
            nack(),
            Verdict::NoCircuit(String::new()),
            Verdict::Inconclusive(String::new()),
            Verdict::NotForThisAddress,
            Verdict::WrongAnswer(String::new()),
            Verdict::Refused(StreamRefusal::Broken(String::new())),
            Verdict::StreamSilent,
            Verdict::NoHttp(String::new()),
        ];
        for verdict in chance {
            let once = vec![verdict.clone(), Verdict::Answers];
            assert_eq!(beside_a_good_one(once).await, (PointStanding::Answers, 2), "{verdict:?}");
            let twice = vec![verdict.clone(), verdict.clone(), Verdict::Answers];
            assert_eq!(beside_a_good_one(twice).await, (PointStanding::Answers, 3), "{verdict:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn three_failures_while_another_point_answers_are_proof() {
        for verdict in [Verdict::Silent, nack(), Verdict::NotForThisAddress] {
            assert_eq!(beside_a_good_one(vec![verdict]).await, (PointStanding::Fails, 3));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_point_that_answered_long_before_is_asked_again_for_proof() {
        for (then, standing) in
            [(Verdict::Answers, PointStanding::Fails), (Verdict::Silent, PointStanding::InDoubt)]
        {
            let tries = Tries::new(4);
            tries.at(point(1, vec![Verdict::Answers, then])).await;
            sleep(Duration::from_secs(60)).await;
            let silent = tries.at(point(30, vec![Verdict::Silent])).await;
            assert_eq!(silent.standing, standing);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn while_nothing_answers_everything_is_in_doubt() {
        let tries = Tries::new(4);
        let (one, other) = futures::join!(
            tries.at(point(30, vec![Verdict::Silent])),
            tries.at(point(1, vec![nack()])),
        );
        assert_eq!(
            (one.standing, other.standing),
            (PointStanding::InDoubt, PointStanding::InDoubt)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn trouble_on_this_side_proves_nothing_whoever_else_answers() {
        let trouble = vec![Verdict::Inconclusive("no rendezvous point".into())];
        assert_eq!(beside_a_good_one(trouble).await, (PointStanding::InDoubt, 3));
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_backend_itself_says_is_believed_at_once() {
        let said = [
            Verdict::Refused(StreamRefusal::NoSuchPort),
            Verdict::Refused(StreamRefusal::Origin("END MISC".into())),
            Verdict::WrongStatus(503),
        ];
        for verdict in said {
            assert_eq!(beside_a_good_one(vec![verdict]).await, (PointStanding::Fails, 1));
        }
    }
}

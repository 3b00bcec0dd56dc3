//! Whether the event loops turn: each is asked now and then, and answers when
//! it comes round.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::watch;

/// Asks the loops.
#[derive(Clone, Debug)]
pub(super) struct Pulse(Arc<PulseQuestion>);

#[derive(Debug)]
struct PulseQuestion {
    /// The number of the last question.
    question: watch::Sender<u64>,
    /// What each loop has answered; those that have ended are gone.
    answers: Mutex<Vec<Weak<AtomicU64>>>,
}

/// A loop that is asked; when it is dropped, it is asked no more.
#[derive(Debug)]
pub(super) struct Beat {
    question: watch::Receiver<u64>,
    answer: Arc<AtomicU64>,
}

impl Pulse {
    /// Asks nobody yet.
    pub(super) fn new() -> Self {
        Self(Arc::new(PulseQuestion { question: watch::Sender::new(0), answers: Mutex::default() }))
    }

    /// A loop to be asked from now on.
    pub(super) fn join(&self) -> Beat {
        let question = self.0.question.subscribe();
        let answer = Arc::new(AtomicU64::new(*question.borrow()));
        self.0.answers.lock().push(Arc::downgrade(&answer));
        Beat { question, answer }
    }

    /// Whether all loops have answered the last question; then asks the next.
    pub(super) fn all_turn(&self) -> bool {
        let mut answers = self.0.answers.lock();
        answers.retain(|answer| answer.strong_count() > 0);
        let asked = *self.0.question.borrow();
        let mut answers = answers.iter().filter_map(Weak::upgrade);
        let all = answers.all(|answer| answer.load(Relaxed) == asked);
        if all {
            self.0.question.send_modify(|question| *question += 1);
        }
        all
    }
}

impl Beat {
    /// Waits for a question and answers it. An arm of the loop's `select!`, so
    /// that it answers only when it comes round.
    pub(super) async fn next(&mut self) {
        if self.question.changed().await.is_err() {
            // Nobody asks any more.
            std::future::pending::<()>().await;
        }
        self.answer.store(*self.question.borrow_and_update(), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn all_loops_must_have_come_round_since_they_were_asked() {
        let pulse = Pulse::new();
        let (mut one, mut other) = (pulse.join(), pulse.join());
        assert!(pulse.all_turn(), "nobody was asked yet");
        assert!(!pulse.all_turn());
        one.next().now_or_never().unwrap();
        assert!(!pulse.all_turn() && !pulse.all_turn());
        other.next().now_or_never().unwrap();
        assert!(pulse.all_turn());
        assert!(!pulse.all_turn());
        one.next().now_or_never().unwrap();
        other.next().now_or_never().unwrap();
        // No question is open.
        assert!(one.next().now_or_never().is_none());
    }

    #[test]
    fn a_loop_that_has_ended_is_not_waited_for_and_one_that_comes_later_is() {
        let pulse = Pulse::new();
        let ended = pulse.join();
        assert!(pulse.all_turn());
        drop(ended);
        assert!(pulse.all_turn());
        let mut late = pulse.join();
        assert!(pulse.all_turn());
        assert!(!pulse.all_turn());
        late.next().now_or_never().unwrap();
        assert!(pulse.all_turn());
    }
}

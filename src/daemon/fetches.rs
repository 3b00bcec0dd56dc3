//! Which descriptors of backends are being fetched, for all services together?
//!
//! A backend that several services list is fetched once: a fetch that is under
//! way is not begun again, and what it brings is told to every service, asked
//! for or not. Touches nothing itself: how a fetch is made, the caller says.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::{broadcast, mpsc};
use tokio::task::{Id, JoinSet};

use onionbraid_balancer::fact::{FetchFailure, FetchedDescriptor};
use onionbraid_balancer::onion::OnionAddress;

/// Answers that a service may leave unread before the oldest are lost to it. A
/// lost answer is given up by its balancer after a while, and asked for again.
const UNREAD: usize = 4096;

/// What became of a fetch.
#[derive(Clone, Debug)]
pub(super) struct FetchEnd {
    /// Whose descriptor.
    pub(super) address: OnionAddress,
    /// The newest one, or why there is none.
    pub(super) outcome: Arc<Result<FetchedDescriptor, FetchFailure>>,
}

/// Asks for fetches; one for all services.
#[derive(Clone, Debug)]
pub(super) struct Fetches {
    /// To [`Fetching`].
    wishes: mpsc::UnboundedSender<OnionAddress>,
    /// From there.
    answers: broadcast::Sender<FetchEnd>,
}

/// Fetches under way.
pub(super) struct Fetching {
    /// From [`Fetches`].
    wishes: mpsc::UnboundedReceiver<OnionAddress>,
    /// To everybody.
    answers: broadcast::Sender<FetchEnd>,
    /// The fetches.
    tasks: JoinSet<FetchEnd>,
    /// Whose descriptor each of them fetches.
    under_way: BTreeMap<Id, OnionAddress>,
}

/// Both ends: one asks, the other works.
pub(super) fn fetches() -> (Fetches, Fetching) {
    // Unbounded is bounded here: a balancer has one fetch of a backend at a time.
    let (asking, wishes) = mpsc::unbounded_channel();
    let (answers, _) = broadcast::channel(UNREAD);
    let fetching = Fetching {
        wishes,
        answers: answers.clone(),
        tasks: JoinSet::new(),
        under_way: BTreeMap::new(),
    };
    (Fetches { wishes: asking, answers }, fetching)
}

impl Fetches {
    /// Asks for the descriptor of a backend.
    pub(super) fn fetch(&self, address: OnionAddress) {
        // Nobody fetches any more only when everything ends.
        let _ = self.wishes.send(address);
    }

    /// Where every answer is told from now on.
    pub(super) fn listen(&self) -> broadcast::Receiver<FetchEnd> {
        self.answers.subscribe()
    }
}

impl Fetching {
    /// Fetches for as long as anybody may ask.
    pub(super) async fn run<F>(mut self, fetch: impl Fn(OnionAddress) -> F)
    where
        F: Future<Output = Result<FetchedDescriptor, FetchFailure>> + Send + 'static,
    {
        loop {
            tokio::select! {
                wish = self.wishes.recv() => match wish {
                    Some(address) => self.begin(address, &fetch),
                    None => return,
                },
                Some(ended) = self.tasks.join_next_with_id() => self.ended(ended),
            }
        }
    }

    /// Begins a fetch, unless the same one is under way.
    fn begin<F>(&mut self, address: OnionAddress, fetch: impl Fn(OnionAddress) -> F)
    where
        F: Future<Output = Result<FetchedDescriptor, FetchFailure>> + Send + 'static,
    {
        if self.under_way.values().any(|other| *other == address) {
            return;
        }
        let outcome = fetch(address);
        let task =
            self.tasks.spawn(async move { FetchEnd { address, outcome: Arc::new(outcome.await) } });
        self.under_way.insert(task.id(), address);
    }

    /// Tells everybody.
    fn ended(&mut self, ended: Result<(Id, FetchEnd), tokio::task::JoinError>) {
        match ended {
            Ok((id, answer)) => {
                self.under_way.remove(&id);
                // Without any service there is nobody to tell.
                let _ = self.answers.send(answer);
            }
            Err(error) => {
                self.under_way.remove(&error.id());
                tracing::error!(%error, "a fetch has panicked");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Semaphore;

    use super::*;

    #[tokio::test]
    async fn services_that_ask_at_the_same_time_share_one_fetch_and_all_hear_of_it() {
        let (fetches, fetching) = fetches();
        let mut listeners = [fetches.listen(), fetches.listen()];
        let (begun, allowed) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
        let mut tasks = JoinSet::new();
        tasks.spawn(fetching.run({
            let (begun, allowed) = (Arc::clone(&begun), Arc::clone(&allowed));
            move |_| {
                begun.fetch_add(1, Ordering::SeqCst);
                let allowed = Arc::clone(&allowed);
                async move {
                    allowed.acquire().await.unwrap().forget();
                    Err(FetchFailure::NotFound)
                }
            }
        }));
        let [shared, other] = [1, 2].map(|n| OnionAddress::from_public_key([n; 32]));
        fetches.fetch(shared);
        fetches.clone().fetch(shared);
        fetches.fetch(other);
        allowed.add_permits(2);
        for listener in &mut listeners {
            let mut heard = [listener.recv().await.unwrap(), listener.recv().await.unwrap()];
            heard.sort_by_key(|answer| answer.address != shared);
            assert_eq!(heard.map(|answer| answer.address), [shared, other]);
        }
        assert_eq!(begun.load(Ordering::SeqCst), 2);

        // Once it has ended, the next wish begins another.
        fetches.fetch(shared);
        allowed.add_permits(1);
        assert_eq!(listeners[0].recv().await.unwrap().address, shared);
        assert_eq!(begun.load(Ordering::SeqCst), 3);
    }

    #[tokio::test]
    async fn a_fetch_that_panics_is_not_taken_for_one_under_way() {
        let (fetches, fetching) = fetches();
        let mut listener = fetches.listen();
        let mut tasks = JoinSet::new();
        let first = AtomicUsize::new(0);
        tasks.spawn(fetching.run(move |_| {
            let first = first.fetch_add(1, Ordering::SeqCst) == 0;
            async move {
                assert!(!first, "as a bug would");
                Err(FetchFailure::NotFound)
            }
        }));
        let address = OnionAddress::from_public_key([1; 32]);
        // Wishes that arrive before the panic is noticed begin nothing.
        while listener.is_empty() {
            fetches.fetch(address);
            tokio::task::yield_now().await;
        }
        assert_eq!(listener.recv().await.unwrap().address, address);
    }
}

//! The control links that a service holds to its backends, as its publisher: one task
//! each, started when the balancer wants to dial, and ended with the backend.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tor_hscrypto::pk::HsIdKeypair;

use crate::link::dial::Dial;
use crate::tor::network::Network;
use onionbraid_balancer::Balancer;
use onionbraid_balancer::fact::{BackendId, DialFailure, Fact, LinkNews};
use onionbraid_balancer::link::Standing;
use onionbraid_balancer::onion::{IntroPoint, OnionAddress};

/// News of one link that may wait.
const NEWS: usize = 4;
/// Facts of all links that may wait.
const FACTS: usize = 64;

/// The links of one service.
pub(super) struct Links {
    network: Network,
    identity: Arc<HsIdKeypair>,
    frontend: OnionAddress,
    held: BTreeMap<BackendId, Held>,
    /// Each dials once, and tells what comes of it.
    tasks: JoinSet<()>,
    told: mpsc::Sender<Fact>,
    facts: mpsc::Receiver<Fact>,
}

/// A link, or the attempt to have one.
struct Held {
    standing: watch::Sender<(u64, Standing)>,
    task: AbortHandle,
}

impl Links {
    /// None so far.
    pub(super) fn new(
        network: Network,
        identity: Arc<HsIdKeypair>,
        frontend: OnionAddress,
    ) -> Self {
        let (told, facts) = mpsc::channel(FACTS);
        let (held, tasks) = (BTreeMap::new(), JoinSet::new());
        Self { network, identity, frontend, held, tasks, told, facts }
    }

    /// Dials a backend in place of any link that there was to it.
    pub(super) fn dial(&mut self, id: BackendId, backend: OnionAddress, points: Vec<IntroPoint>) {
        let (standing, watched) = watch::channel((0, Standing::default()));
        let dial = Dial {
            network: self.network.clone(),
            identity: Arc::clone(&self.identity),
            frontend: self.frontend,
            backend,
            points,
            standing: watched,
        };
        let task = self.tasks.spawn(tell(id, dial, self.told.clone()));
        if let Some(before) = self.held.insert(id, Held { standing, task }) {
            before.task.abort();
        }
    }

    /// Ends those to other backends than these.
    pub(super) fn keep(&mut self, wanted: impl Fn(BackendId) -> bool) {
        self.held.retain(|id, held| {
            let stays = wanted(*id);
            if !stays {
                held.task.abort();
            }
            stays
        });
    }

    /// Tells each backend what has become of its points.
    pub(super) fn tell_standing(&self, balancer: &Balancer) {
        for (id, held) in &self.held {
            let Some(standing) = balancer.standing(*id) else { continue };
            held.standing.send_if_modified(|told| {
                let is_new = *told != standing;
                *told = standing;
                is_new
            });
        }
    }

    /// The next thing that happens to one of them. Nothing is lost if it is dropped
    /// before.
    pub(super) async fn next(&mut self) -> Fact {
        loop {
            tokio::select! {
                Some(fact) = self.facts.recv() => return fact,
                Some(ended) = self.tasks.join_next() => if let Err(error) = ended
                    && error.is_panic()
                {
                    tracing::error!(%error, "a control link panicked");
                },
            }
        }
    }
}

/// Dials, and tells everything that comes of it as facts, in its order; also that
/// the link is gone if it panics.
async fn tell(backend: BackendId, dial: Dial, told: mpsc::Sender<Fact>) {
    let (news, mut heard) = mpsc::channel(NEWS);
    let mut link = JoinSet::new();
    link.spawn(dial.run(news));
    while let Some(news) = heard.recv().await {
        if told.send(Fact::Link { backend, news }).await.is_err() {
            return;
        }
    }
    let lost = || LinkNews::NotDialled(DialFailure::Inconclusive("the link panicked".into()));
    let news = match link.join_next().await {
        Some(Ok(news)) => news,
        _ => lost(),
    };
    // Nobody wants to know only when everything ends.
    let _ = told.send(Fact::Link { backend, news }).await;
}
